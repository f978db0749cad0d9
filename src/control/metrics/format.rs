//! The two forms in which metrics are told, and who gets which.

use std::collections::HashMap;
use std::fmt::Write;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// How metrics are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older format of Prometheus, 0.0.4, which everything reads.
    Text,
}

impl Format {
    /// What a request prefers (RFC 9110 section 12.5.1); [`Format::Text`], if it does not name OpenMetrics.
    pub fn wanted(headers: &HeaderMap) -> Format {
        let fields = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut weights = [0, 0];
        for range in fields.flat_map(|field| field.split(',')) {
            let (kind, weight) = weighed(range);
            match kind {
                "application/openmetrics-text" => weights[0] = weight.max(weights[0]),
                "text/plain" => weights[1] = weight.max(weights[1]),
                _ => {}
            }
        }
        if weights[0] > 0 && weights[0] >= weights[1] { Format::OpenMetrics } else { Format::Text }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A media type without its parameters, and its weight in thousandths. One that is no number is none.
fn weighed(range: &str) -> (&str, u32) {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
    (kind, weight.map_or(0, |weight| (weight.clamp(0.0, 1.0) * 1000.0) as u32))
}

/// Text of OpenMetrics in the older format: what belongs to a family is named by the name of its series, which of a counter ends
/// in `_total`, and of an info in `_info`, and there is no end.
pub fn older(text: &str) -> String {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: HashMap<&str, &str> = types.collect();
    let mut older = String::with_capacity(text.len() + text.len() / 16);
    for line in text.lines() {
        // Writing to a string does not fail.
        let _ = match meta(line) {
            Some(("EOF" | "UNIT", ..)) => Ok(()),
            Some((word, name, rest)) => {
                let (suffix, kind) = match types.get(name) {
                    Some(&"counter") => ("_total", "counter"),
                    Some(&"info") => ("_info", "gauge"),
                    kind => ("", kind.copied().unwrap_or("untyped")),
                };
                let rest = if word == "TYPE" { kind } else { rest };
                writeln!(older, "# {word} {name}{suffix} {rest}")
            }
            None => writeln!(older, "{line}"),
        };
    }
    older
}

/// The word, the name and the rest of a line that is no sample.
fn meta(line: &str) -> Option<(&str, &str, &str)> {
    let mut parts = line.strip_prefix("# ")?.splitn(3, ' ');
    Some((parts.next()?, parts.next().unwrap_or_default(), parts.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &[&str]) -> Format {
        let fields = accept.iter().map(|value| (ACCEPT, value.parse().expect("a field's value")));
        Format::wanted(&fields.collect())
    }

    #[test]
    fn open_metrics_are_for_who_asks_for_them() {
        for (accept, format) in [
            (&[][..], Format::Text),
            (&["*/*"], Format::Text),
            (&["text/html, */*;q=0.8"], Format::Text),
            (&["application/openmetrics-text"], Format::OpenMetrics),
            (&["text/plain", "application/openmetrics-text;version=1.0.0"], Format::OpenMetrics),
            // As Prometheus asks by default, and when it is told to prefer the older format.
            (
                &["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"],
                Format::OpenMetrics,
            ),
            (&["text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5"], Format::Text),
            (&["application/openmetrics-text; q=0"], Format::Text),
            (&["application/openmetrics-text; q=much"], Format::Text),
        ] {
            assert_eq!(wanted(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_names_families_as_their_series() {
        let open = "# HELP a Help of a.\n# TYPE a counter\na_total{x=\"# TYPE b\"} 1\n# HELP b Help.\n# TYPE b gauge\nb 2\n\
                    # HELP c Help.\n# TYPE c info\nc_info{d=\"e\"} 1\n# EOF\n";
        let text = "# HELP a_total Help of a.\n# TYPE a_total counter\na_total{x=\"# TYPE b\"} 1\n# HELP b Help.\n\
                    # TYPE b gauge\nb 2\n# HELP c_info Help.\n# TYPE c_info gauge\nc_info{d=\"e\"} 1\n";
        assert_eq!(older(open), text);
    }
}
