//! A report for a terminal.

use super::Report;

/// The report as lines of text.
pub fn render(report: &Report) -> String {
    report.title.clone()
}
