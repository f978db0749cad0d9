//! The table of tracked connections.

use super::*;

const MAX: &str = "net.netfilter.nf_conntrack_max";

#[test]
fn the_table_takes_the_connections() {
    table(
        "conntrack",
        &[
            (ten_thousand(), |_| {}, Fine, &["not tracked"]),
            (ten_thousand(), |m| set(m, MAX, "12500"), Fine, &["0 of 12,500"]),
            (ten_thousand(), |m| set(m, MAX, "12499"), Should, &["sysctl -w net.netfilter.nf_conntrack_max=12500"]),
            (ten_thousand(), |m| set(m, MAX, "9999"), Should, &["nothing is tracked at present"]),
            (
                ten_thousand(),
                |m| {
                    set(m, MAX, "9999");
                    set(m, "net.netfilter.nf_conntrack_count", "7");
                },
                Must,
                &["7 of 9,999", "dropped", "modules-load.d"],
            ),
            (ten_thousand(), |m| set(m, MAX, "0"), Fine, &["0 of 0"]),
        ],
    );
}

#[test]
fn the_table_has_a_bucket_for_each_of_them() {
    fn table_of(machine: &mut Machine, most: &str, buckets: &str) {
        set(machine, MAX, most);
        set(machine, "net.netfilter.nf_conntrack_buckets", buckets);
    }
    table(
        "conntrack-buckets",
        &[
            (ten_thousand(), |_| {}, Fine, &["not tracked"]),
            (ten_thousand(), |m| table_of(m, "50000", "12500"), Fine, &["12,500 for at most 50,000 entries"]),
            (
                ten_thousand(),
                |m| table_of(m, "50000", "12499"),
                Should,
                &[
                    "12,500: one for each",
                    "8 entries",
                    "sysctl -w net.netfilter.nf_conntrack_buckets=12500",
                    "97.7 KiB",
                ],
            ),
            // Larger than the connections need: what a flood may fill is to be looked through, too.
            (ten_thousand(), |m| table_of(m, "1000000", "65536"), Should, &["250,000: one", "walks along 30 entries"]),
            // The maximum is to be raised as well.
            (hundred_thousand(), |m| table_of(m, "65536", "65536"), Should, &["buckets=125000", "along 3 entries"]),
            (ten_thousand(), |m| table_of(m, "0", "16384"), Fine, &["16,384"]),
            (ten_thousand(), |m| table_of(m, "18446744073709551615", "0"), Should, &["walks along"]),
        ],
    );
}
