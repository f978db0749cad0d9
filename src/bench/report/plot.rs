//! Pictures: lines over an axis, and bars side by side, as SVG that looks well on a light and on a dark ground.
//!
//! What is drawn has the colours of the light theme; a style sheet in the picture gives each its counterpart when the
//! reader prefers dark. Colours differ for all kinds of colour vision, at least by their lightness.

mod axis;
mod draw;
mod theme;

pub use draw::{bars, lines, lines_after};

/// How an axis divides its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// Each power of ten alike. What is not positive is not drawn.
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
    /// Ascending in the first. What the axes do not hold is left out.
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
