//! Draws lines and bars, over a title and a legend that both have.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordi32;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, DrawingArea, IntoDrawingArea, PathElement, Rectangle, SVGBackend,
    Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, RGBColor, ShapeStyle, TextStyle};

use super::axis::{Reach, Ruler};
use super::theme::{self, FINE, GRID, GROUND, MUTED, TEXT, TEXT_SIZE, TITLE_SIZE, UNIT};
use super::{Axis, Bars, Line};
use crate::bench::report::quantity;
use crate::bench::report::words::{escape, plain};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error + Send + Sync>>;

/// Pixels.
const WIDTH: i32 = 800;
const MARGIN: i32 = 16;
const TITLE_HEIGHT: i32 = 30;
const ROW_HEIGHT: i32 = 22;
const PLOT_HEIGHT: i32 = 250;
/// Above a plot, where nothing is written.
const AIR: i32 = 10;
/// Beneath a plot: the numbers of its axis.
const TICKS_HEIGHT: i32 = 24;
/// Beside a plot: the numbers of its axis.
const NUMBERS_WIDTH: i32 = 66;
const BAR_HEIGHT: i32 = 15;
const BAR_GAP: i32 = 2;
const GROUP_GAP: i32 = 14;
/// Right of the longest bar, for its number.
const VALUE_WIDTH: i32 = 84;
/// Of a legend's sample, with the space before the name.
const SAMPLE_WIDTH: i32 = 30;
/// Lines of so few points show each.
const FEW: usize = 40;

/// Lines, as a picture: an SVG element that is a document too. A legend is there if there are several.
pub fn lines(title: &str, x: Axis<'_>, y: Axis<'_>, lines: &[Line]) -> String {
    lines_after(title, x, y, lines, None)
}

/// As [`lines`], on a grey ground up to a place on the first axis.
pub fn lines_after(title: &str, x: Axis<'_>, y: Axis<'_>, lines: &[Line], shaded: Option<f64>) -> String {
    let holds = |point: &(f64, f64)| x.scale.holds(point.0) && y.scale.holds(point.1);
    let drawn: Vec<Vec<(f64, f64)>> =
        lines.iter().map(|line| line.points.iter().copied().filter(holds).collect()).collect();
    let all = || drawn.iter().flatten();
    let across = Ruler::of(x, all().map(|point| point.0), Reach::Tight);
    let up = Ruler::of(y, all().map(|point| point.1), Reach::Round);
    let head = Head::new(title, lines.iter().map(|line| line.name.as_str()));
    let captions = (across.caption(x.label), up.caption(y.label));
    let (top, foot) = (AIR + if captions.1.is_empty() { 0 } else { ROW_HEIGHT }, foot_height(&captions.0));
    picture(title, head.height() + top + PLOT_HEIGHT + foot, |root| {
        let body = head.draw(root)?;
        write(&body, &captions.1, (0, ROW_HEIGHT / 2), HPos::Left, MUTED.0)?;
        let mut chart = ChartBuilder::on(&body)
            .margin_top(top * UNIT)
            .margin_right(MARGIN * 3 / 2 * UNIT)
            .x_label_area_size(foot * UNIT)
            .y_label_area_size(NUMBERS_WIDTH * UNIT)
            .build_cartesian_2d(across.clone(), up.clone())?;
        if let Some(end) = shaded.filter(|end| *end > across.low()) {
            let corners = [(across.low(), up.low()), (end.min(across.high()), up.high())];
            chart.draw_series([Rectangle::new(corners, FINE.0.filled())])?;
        }
        chart
            .configure_mesh()
            .bold_line_style(stroke(GRID.0, 3))
            .light_line_style(stroke(FINE.0, 3))
            .axis_style(stroke(GRID.0, 4))
            .set_all_tick_mark_size(4 * UNIT)
            .label_style(font(TEXT_SIZE, MUTED.0, FontStyle::Normal))
            .axis_desc_style(font(TEXT_SIZE, MUTED.0, FontStyle::Normal))
            .x_desc(captions.0)
            .draw()?;
        drawn.into_iter().enumerate().try_for_each(|(n, points)| line(&mut chart, theme::ink(n), points))
    })
}

type LineChart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ruler, Ruler>>;

fn line(chart: &mut LineChart<'_, '_>, color: RGBColor, points: Vec<(f64, f64)>) -> Drawn {
    if points.len() <= FEW {
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 2 * UNIT + 2, color.filled())))?;
    }
    chart.draw_series([PathElement::new(points, stroke(color, 2 * UNIT as u32))])?;
    Ok(())
}

/// Groups of bars, as a picture: an SVG element that is a document too. Bars go to the right, with their numbers beside
/// them; a group is as many as `bars` has elements.
pub fn bars(title: &str, axis: Axis<'_>, groups: &[&str], bars: &[Bars]) -> String {
    let values = bars.iter().flat_map(|bars| bars.values.iter().flatten().copied());
    let ruler = Ruler::of(axis, values, Reach::Round);
    let head = Head::new(title, bars.iter().map(|bars| bars.name.as_str()));
    let group_height = bars.len() as i32 * (BAR_HEIGHT + BAR_GAP) + GROUP_GAP;
    let height = groups.len().max(1) as i32 * group_height;
    let names_width = groups.iter().map(|name| text_width(name)).max().unwrap_or(0).clamp(40, WIDTH / 3) + MARGIN;
    let caption = ruler.caption(axis.label);
    let foot = foot_height(&caption);
    picture(title, head.height() + height + foot, |root| {
        let body = head.draw(root)?;
        let mut chart = ChartBuilder::on(&body)
            .margin_right(VALUE_WIDTH * UNIT)
            .x_label_area_size(foot * UNIT)
            .margin_left(names_width * UNIT)
            .build_cartesian_2d(ruler.clone(), height..0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(stroke(GRID.0, 3))
            .light_line_style(stroke(FINE.0, 3))
            .axis_style(stroke(GRID.0, 4))
            .label_style(font(TEXT_SIZE, MUTED.0, FontStyle::Normal))
            .axis_desc_style(font(TEXT_SIZE, MUTED.0, FontStyle::Normal))
            .x_desc(caption)
            .draw()?;
        for (g, name) in groups.iter().enumerate() {
            let top = g as i32 * group_height + GROUP_GAP / 2;
            let middle = top + (group_height - GROUP_GAP) / 2;
            let name = clipped(name, names_width - MARGIN);
            write(&body, &name, (names_width - MARGIN, middle), HPos::Right, TEXT.0)?;
            for (n, bars) in bars.iter().enumerate() {
                let place = top + n as i32 * (BAR_HEIGHT + BAR_GAP);
                let value = bars.values.get(g).copied().flatten().filter(|value| axis.scale.holds(*value));
                bar(&mut chart, (ruler.low(), axis.unit), place, value, theme::ink(n))?;
            }
        }
        Ok(())
    })
}

type BarChart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ruler, RangedCoordi32>>;

/// A bar from where the axis begins, and its number.
fn bar(chart: &mut BarChart<'_, '_>, (low, unit): (f64, &str), top: i32, value: Option<f64>, color: RGBColor) -> Drawn {
    let from = if low < 0.0 { 0.0 } else { low };
    if let Some(value) = value {
        let corners = [(from.min(value), top), (from.max(value), top + BAR_HEIGHT)];
        chart.draw_series([Rectangle::new(corners, color.filled())])?;
    }
    let number = value.map_or(quantity::NONE.into(), |value| quantity::show(value, unit));
    // Spaces that break would be swallowed.
    let number = format!("\u{a0}{number}");
    let end = (value.unwrap_or(from).max(from), top + BAR_HEIGHT / 2);
    let style = font(TEXT_SIZE - 1, MUTED.0, FontStyle::Normal).pos(Pos::new(HPos::Left, VPos::Center));
    chart.plotting_area().draw(&Text::new(number, end, style))?;
    Ok(())
}

/// What stands above a plot.
struct Head<'a> {
    title: &'a str,
    /// Rows of the legend: how far from the left, which line, its name. None if there is but one line.
    legend: Vec<Vec<(i32, usize, String)>>,
}

impl<'a> Head<'a> {
    fn new(title: &'a str, names: impl Iterator<Item = &'a str>) -> Head<'a> {
        let room = WIDTH - 2 * MARGIN;
        let mut rows: Vec<Vec<(i32, usize, String)>> = Vec::new();
        let mut end = room;
        for (n, name) in names.enumerate() {
            let name = clipped(name, room - SAMPLE_WIDTH);
            let width = SAMPLE_WIDTH + text_width(&name) + 2 * MARGIN;
            if end + width > room + 2 * MARGIN || rows.is_empty() {
                rows.push(Vec::new());
                end = 0;
            }
            if let Some(row) = rows.last_mut() {
                row.push((end, n, name));
            }
            end += width;
        }
        let several = rows.iter().map(Vec::len).sum::<usize>() > 1;
        Head { title, legend: if several { rows } else { Vec::new() } }
    }

    fn height(&self) -> i32 {
        TITLE_HEIGHT + self.legend.len() as i32 * ROW_HEIGHT
    }

    /// Draws it, and gives what is beneath.
    fn draw<'b>(&self, root: &Area<'b>) -> Result<Area<'b>, Box<dyn Error + Send + Sync>> {
        let inner = root.margin(MARGIN * UNIT, MARGIN * UNIT, MARGIN * UNIT, MARGIN * UNIT);
        let (head, body) = inner.split_vertically(self.height() * UNIT);
        let style = font(TITLE_SIZE, TEXT.0, FontStyle::Bold).pos(Pos::new(HPos::Left, VPos::Center));
        head.draw_text(self.title, &style, (0, TITLE_HEIGHT / 2 * UNIT))?;
        for (r, row) in self.legend.iter().enumerate() {
            let y = TITLE_HEIGHT + r as i32 * ROW_HEIGHT + ROW_HEIGHT / 2;
            for (x, n, name) in row {
                let sample = [(*x, y), (x + SAMPLE_WIDTH - 8, y)].map(|(x, y)| (x * UNIT, y * UNIT));
                head.draw(&PathElement::new(sample, stroke(theme::ink(*n), 3 * UNIT as u32)))?;
                write(&head, name, (x + SAMPLE_WIDTH, y), HPos::Left, TEXT.0)?;
            }
        }
        Ok(body)
    }
}

/// A picture with room for some pixels between its margins.
fn picture(title: &str, inner_height: i32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    let height = inner_height + 2 * MARGIN;
    let size = ((WIDTH * UNIT) as u32, (height * UNIT) as u32);
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let drawn = root.fill(&GROUND.0).map_err(Into::into).and_then(|()| draw(&root)).and_then(|()| Ok(root.present()?));
    drop(root);
    drawn.expect("a string takes what is drawn");
    // The backend's own first tag counts pixels in units, and has no name.
    let inner = svg.split_once('>').map_or("", |(_, inner)| inner);
    // It escapes what XML would read as markup, but not what XML does not have.
    let inner = plain(inner);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {} {}\" \
         role=\"img\" aria-label=\"{}\"><style>{}</style>{inner}",
        size.0,
        size.1,
        escape(title),
        theme::style_sheet(),
    )
}

/// Beneath a plot: numbers, and what they are if that is to be said.
fn foot_height(caption: &str) -> i32 {
    TICKS_HEIGHT + if caption.is_empty() { 0 } else { ROW_HEIGHT }
}

fn write(area: &Area<'_>, text: &str, (x, y): (i32, i32), side: HPos, color: RGBColor) -> Drawn {
    if text.is_empty() {
        return Ok(());
    }
    let style = font(TEXT_SIZE, color, FontStyle::Normal).pos(Pos::new(side, VPos::Center));
    Ok(area.draw_text(text, &style, (x * UNIT, y * UNIT))?)
}

fn font(pixels: i32, color: RGBColor, style: FontStyle) -> TextStyle<'static> {
    // The backend draws text smaller by this factor.
    let size = f64::from(pixels * UNIT) * 1.24;
    FontDesc::new(FontFamily::Name("system-ui, sans-serif"), size, style).color(&color)
}

fn stroke(color: RGBColor, width: u32) -> ShapeStyle {
    color.stroke_width(width)
}

/// Pixels that a text takes, about.
fn text_width(text: &str) -> i32 {
    text.chars().count() as i32 * TEXT_SIZE * 11 / 20
}

/// As much of a text as there is room for.
fn clipped(text: &str, pixels: i32) -> String {
    if text_width(text) <= pixels {
        return text.into();
    }
    let room = (pixels * 20 / (TEXT_SIZE * 11) - 1).max(0) as usize;
    text.chars().take(room).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Scale;
    use super::*;
    use crate::bench::report::sample::assert_well_formed;
    use proptest::prelude::*;

    const TIME: Axis<'_> = Axis { label: "time since the start", unit: "s", scale: Scale::Linear };
    const LATENCY: Axis<'_> = Axis { label: "", unit: "ns", scale: Scale::Log };

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line { name: name.into(), points: points.to_vec() }
    }

    #[test]
    fn one_line_needs_no_legend_and_several_do() {
        let points: Vec<(f64, f64)> = (0..100).map(|n| (f64::from(n), 1000.0 * f64::from(n + 1))).collect();
        let alone = lines("a title", TIME, LATENCY, &[line("ours", &points)]);
        let both = lines("a title", TIME, LATENCY, &[line("ours", &points), line("theirs", &points)]);
        for (picture, names, shapes) in [(&alone, 0, 1), (&both, 1, 4)] {
            assert_well_formed(picture);
            assert_eq!((picture.matches("ours").count(), picture.matches("theirs").count()), (names, names));
            let colours = [theme::ink(0), theme::ink(1)]
                .map(|ink| format!("fill=\"none\" opacity=\"1\" stroke=\"{}\"", theme::hex(ink)));
            let drawn: usize = colours.iter().map(|colour| picture.matches(colour).count()).sum();
            assert_eq!(drawn, shapes, "a curve each, and a sample each in the legend");
        }
        assert!(
            both.contains("aria-label=\"a title\"")
                && both.contains("time since the start, s")
                && both.contains("100 µs")
        );
    }

    #[test]
    fn the_ground_is_grey_as_far_as_the_axis_goes() {
        let points: Vec<(f64, f64)> = (10..20).map(|n| (f64::from(n), 1000.0 * f64::from(n))).collect();
        let shaded = |end: Option<f64>| -> Vec<u32> {
            let picture = lines_after("", TIME, LATENCY, &[line("", &points)], end);
            assert_well_formed(&picture);
            let rects = picture
                .split("<rect ")
                .skip(1)
                .filter_map(|rect| rect.split('>').next())
                .filter(|rect| rect.contains(&theme::hex(FINE.0)));
            let width = |rect: &str| rect.split_once("width=\"")?.1.split('"').next()?.parse().ok();
            rects.filter_map(width).collect()
        };
        let ([half], [all], [more]) = (&shaded(Some(15.0))[..], &shaded(Some(19.0))[..], &shaded(Some(99.0))[..])
        else {
            panic!("one each")
        };
        assert!(half * 18 / 10 <= all + 10 && all == more, "{half} {all} {more}");
        for none in [None, Some(10.0), Some(-1.0), Some(f64::NAN)] {
            assert_eq!(shaded(none), [0; 0]);
        }
    }

    #[test]
    fn a_line_of_one_point_is_seen() {
        assert!(lines("", TIME, LATENCY, &[line("", &[(1.0, 1000.0)])]).contains("<circle"));
        let nothing = lines("", TIME, LATENCY, &[line("", &[(1.0, 0.0), (f64::NAN, 1.0)])]);
        assert!(!nothing.contains("<circle"), "zero has no place on a logarithmic axis");
    }

    #[test]
    fn bars_have_their_numbers() {
        let bars_of = |name: &str, values: &[Option<f64>]| Bars { name: name.into(), values: values.to_vec() };
        let all = [bars_of("ours", &[Some(3900.0), None]), bars_of("theirs", &[Some(6900.0)])];
        let picture = bars("CPU a delivery", Axis { unit: "ns", ..Axis::default() }, &["64 B", "1 KiB"], &all);
        assert_well_formed(&picture);
        let of = |n: usize| picture.matches(&format!("fill=\"{}\"", theme::hex(theme::ink(n)))).count();
        assert_eq!((of(0), of(1)), (2, 2), "a bar, and its counterpart in the style sheet");
        for text in ["3.90 µs", "6.90 µs", "64 B", "1 KiB", "ours", "theirs"] {
            assert_eq!(picture.matches(text).count(), 1, "{text}");
        }
        assert_eq!(picture.matches(quantity::NONE).count(), 2, "where there is no number");
    }

    #[test]
    fn long_names_are_cut_and_wrapped() {
        let names: Vec<String> = (0..30).map(|n| format!("{}{n}", "name ".repeat(n))).collect();
        let head = Head::new("", names.iter().map(String::as_str));
        assert_eq!(head.legend.iter().map(Vec::len).sum::<usize>(), 30);
        for (x, _, name) in head.legend.iter().flatten() {
            assert!(x + SAMPLE_WIDTH + text_width(name) <= WIDTH - 2 * MARGIN, "{x} {name}");
        }
        assert!(head.legend.len() > 5 && head.legend.last().is_some_and(|row| row[0].2.ends_with('…')));
        assert_eq!(clipped("short", 100), "short");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_numbers_make_a_picture(
            points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..6),
            scales in prop::array::uniform2(prop_oneof![Just(Scale::Linear), Just(Scale::Log), Just(Scale::Percentile)]),
            unit in "(ns|B|/s|%|)",
        ) {
            let [x, y] = scales.map(|scale| Axis { label: "", unit: &unit, scale });
            assert_well_formed(&lines("", x, y, &[line("", &points)]));
            let values = points.iter().map(|point| Some(point.0)).collect();
            assert_well_formed(&bars("", x, &["a", "b"], &[Bars { name: "c".into(), values }]));
        }
    }
}
