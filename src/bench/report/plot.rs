//! Pictures: lines over an axis, and bars side by side, as SVG.

/// How an axis divides its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// Each power of ten alike. Points that are not positive are not drawn.
    Log,
    /// Shares from 0 to below 1, by how few are beyond: 90 % to 99 % is as long as 99 % to 99.9 %.
    Percentile,
}

/// An axis.
#[derive(Clone, Copy, Debug, Default)]
pub struct Axis<'a> {
    /// What it measures: "time since the start".
    pub label: &'a str,
    /// Unit of the numbers, as in a [`Figure`](super::Figure); ticks are in what suits their size.
    pub unit: &'a str,
    /// How it divides its length.
    pub scale: Scale,
}

/// A line of a plot.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Ascending in the first.
    pub points: Vec<(f64, f64)>,
}

/// Bars of one colour, one for each group.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// What the legend calls them.
    pub name: String,
    /// One for each group; `None` where there is nothing to show.
    pub values: Vec<Option<f64>>,
}

/// Lines, as a picture.
pub fn lines(_title: &str, _x: Axis<'_>, _y: Axis<'_>, _lines: &[Line]) -> String {
    String::new()
}

/// Groups of bars, as a picture.
pub fn bars(_title: &str, _axis: Axis<'_>, _groups: &[&str], _bars: &[Bars]) -> String {
    String::new()
}
