//! Reports as one page that needs nothing else.

use super::Report;

/// A page of one run, or of several beside each other.
pub fn render(reports: &[Report]) -> String {
    reports.iter().map(|report| report.title.as_str()).collect()
}
