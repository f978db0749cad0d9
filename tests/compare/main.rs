//! The parts of `benches/compare` that measure nothing: their own tests, and that the README's table is the newest
//! record's.
#![allow(dead_code)] // what only a measurement needs

#[path = "../../benches/compare/contender.rs"]
mod contender;
#[path = "../../benches/compare/load.rs"]
mod load;
#[path = "../../benches/compare/machine.rs"]
mod machine;
#[path = "../../benches/compare/plan.rs"]
mod plan;
#[path = "../../benches/compare/plots.rs"]
mod plots;
#[path = "../../benches/compare/record.rs"]
mod record;
#[path = "../../benches/compare/table.rs"]
mod table;

mod test_load;
mod test_machine;
mod test_plan;
mod test_plots;
mod test_record;
mod test_table;

use std::fs;
use std::path::Path;

use record::Record;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whatever a change does to plan, table or README, the three stay in step, and with what was measured last.
#[test]
fn the_readmes_table_and_the_records_page_are_of_the_newest_record() {
    let readme = fs::read_to_string(package().join("README.md")).expect("a README");
    let Some(dir) = record::newest(&package().join("benches/record")) else {
        assert!(table::in_readme(&readme, "").is_some(), "the README has no place for the table");
        return;
    };
    let record = Record::read(&dir).expect("a record");
    let name = dir.strip_prefix(package()).expect("below the package").display().to_string();
    let made = table::in_readme(&readme, &table::readme(&record, &name)).expect("a place for the table");
    assert!(made == readme, "make it anew: cargo bench --bench compare -- --readme {name}");
    let page = fs::read_to_string(dir.join("table.md")).expect("its page");
    assert!(page == table::page(&record), "make it anew: cargo bench --bench compare -- --render {name}");
}
