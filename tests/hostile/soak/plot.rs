//! The samples as a drawing: panels one below the other, time to the right.

use std::fmt::Write;

use super::samples::{Row, column};

const WIDTH: f64 = 900.0;
const PANEL: f64 = 130.0;
const LEFT: f64 = 90.0;

/// What is drawn, by how much it is divided, and its unit.
const PANELS: [(&str, f64, &str); 6] = [
    ("resident_bytes", 1e6, "MB resident"),
    ("connections", 1.0, "connections"),
    ("topics", 1.0, "topics"),
    ("history_bytes", 1e6, "MB of histories"),
    ("memory_bytes part=\"frames\"", 1e6, "MB of frames in outboxes"),
    ("descriptors", 1.0, "descriptors"),
];

/// An SVG of its own.
pub fn svg(rows: &[Row]) -> String {
    let times = column(rows, "seconds");
    let span = times.last().copied().unwrap_or(1.0).max(1.0);
    let height = PANEL * PANELS.len() as f64 + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (place, (name, unit, title)) in PANELS.into_iter().enumerate() {
        let numbers: Vec<f64> = column(rows, name).into_iter().map(|number| number / unit).collect();
        let most = numbers.iter().copied().fold(1e-9, f64::max);
        let (top, bottom) = (PANEL * place as f64 + 25.0, PANEL * (place + 1) as f64);
        let point = |(time, number): (&f64, &f64)| {
            let x = LEFT + time / span * (WIDTH - LEFT - 20.0);
            format!("{x:.1},{:.1}", bottom - number / most * (bottom - top))
        };
        let points: Vec<String> = times.iter().zip(&numbers).map(point).collect();
        let _ = writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"{}\">{title}</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most:.1}</text>\
             <text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\
             <path d=\"M{LEFT},{top} V{bottom} H{}\" fill=\"none\" stroke=\"#999\"/>\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"1.5\"/>",
            top - 6.0,
            LEFT - 6.0,
            top + 8.0,
            LEFT - 6.0,
            WIDTH - 20.0,
            points.join(" ")
        );
    }
    let _ = write!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{span:.0} s</text>\n</svg>\n",
        WIDTH - 20.0,
        height - 8.0
    );
    text
}
