//! One table for each comparison.

use serde::Serialize;

/// Samples of variants side by side.
#[derive(Serialize)]
pub struct Table {
    experiment: &'static str,
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    variant: String,
    since: &'static str,
    base: bool,
    /// For each column, one value for each repetition.
    values: Vec<Vec<f64>>,
}

impl Table {
    pub fn new(experiment: &'static str, title: &str, columns: &[&'static str]) -> Table {
        Table { experiment, title: title.to_owned(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a variant.
    pub fn row(&mut self, variant: &str, since: &'static str, base: bool) {
        let values = vec![Vec::new(); self.columns.len()];
        self.rows.push(Row { variant: variant.to_owned(), since, base, values });
    }

    /// Adds a repetition's values to a variant, by its place.
    pub fn add(&mut self, row: usize, values: &[f64]) {
        assert_eq!(values.len(), self.columns.len(), "a value for each column");
        for (column, value) in self.rows[row].values.iter_mut().zip(values) {
            column.push(*value);
        }
    }

    /// As text: of the first column median, spread and ratio to the base; of the others the median.
    pub fn text(&self, kernel: &str) -> String {
        let base = self.rows.iter().find(|row| row.base);
        let (first, others) = self.columns.split_first().expect("a column");
        let heading = format!("{}: {} (Linux {kernel})", self.experiment, self.title);
        let mut text = format!("{heading}\n  {:<48}{:>6}{first:>14}{:>20}{:>7}", "", "since", "min … max", "× *");
        others.iter().for_each(|column| text += &format!("{column:>15}"));
        for row in &self.rows {
            let star = if row.base { '*' } else { ' ' };
            text += &format!("\n{star} {:<48}{:>6}{}", row.variant, row.since, row.cells(base));
        }
        text
    }
}

impl Row {
    fn cells(&self, base: Option<&Row>) -> String {
        let (first, others) = self.values.split_first().expect("a column");
        if first.is_empty() {
            return format!("{:>14}", "not here");
        }
        let (least, most) = first.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
        let range = format!("{} … {}", number(least), number(most));
        let ratio = base.map(|base| paired_ratio(first, &base.values[0])).filter(|ratio| ratio.is_finite());
        let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let mut text = format!("{:>14}{range:>20}{ratio:>7}", number(median(first.clone())));
        others.iter().for_each(|values| text += &format!("{:>15}", number(median(values.clone()))));
        text
    }
}

fn number(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The median of the ratios taken within each repetition.
fn paired_ratio(values: &[f64], base: &[f64]) -> f64 {
    median(values.iter().zip(base).map(|(value, base)| value / base).collect())
}

/// The middle value, or the mean of the two in the middle; NaN if there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
