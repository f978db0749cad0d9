//! The screen: what is shown → cells. Works at 80 × 24, and says so where there is too little room for anything.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table};

use super::grid::{self, Grid};
use super::state::State;

/// The least that anything can be told in.
const LEAST: (u16, u16) = (40, 12);
/// Lines above the tables: title, summary, trail.
const ABOVE: u16 = 7;
/// Lines of the trail.
const TRAIL: u16 = 2;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    if (area.width, area.height) < LEAST || area.height < LEAST.1 {
        let text = format!("{} × {} or more, please; q ends", LEAST.0, LEAST.1);
        return frame.render_widget(Paragraph::new(text), area);
    }
    let [head, summary, trail, tables, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(ABOVE - TRAIL - 1),
        Constraint::Length(TRAIL),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(title(state)), head);
    frame.render_widget(Paragraph::new(grid::summary(state).map(Line::from).to_vec()), summary);
    draw_trail(frame, state, trail);
    let grids = [grid::shards(state), grid::topics(state), grid::connections(state)];
    let heights = share(tables.height, [&grids[0], &grids[1], &grids[2]].map(|grid| grid.rows.len()));
    for (grid, area) in grids.iter().zip(Layout::vertical(heights.map(Constraint::Length)).areas::<3>(tables)) {
        draw_grid(frame, grid, area);
    }
    frame.render_widget(Paragraph::new(keys(state)), foot);
}

/// How many lines each table gets: the shards what they need, up to a third; topics what they need, up to half of the rest; and
/// the connections what is left. Each has a head, and an empty line below it.
fn share(height: u16, rows: [usize; 3]) -> [u16; 3] {
    let needs = rows.map(|rows| u16::try_from(rows.saturating_add(2)).unwrap_or(u16::MAX));
    let shards = needs[0].min((height / 3).max(3));
    let topics = needs[1].min((height.saturating_sub(shards) / 2).max(2));
    [shards, topics, height.saturating_sub(shards).saturating_sub(topics)]
}

fn title(state: &State) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut line = Line::from(vec![Span::styled(grid::title(state), bold)]);
    if let Some(trouble) = &state.trouble {
        let text = format!("  {trouble}");
        line = Line::from(vec![Span::styled("trying again", bold.fg(Color::Red)), Span::raw(text).red()]);
    } else if state.look.as_ref().is_some_and(|look| look.overview.standing.as_str() != "serving") {
        line = line.fg(Color::Yellow);
    }
    line
}

fn draw_trail(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let [label, bars] = Layout::horizontal([Constraint::Length(14), Constraint::Min(0)]).areas(area);
    let peak = state.trail.iter().copied().max().unwrap_or(0);
    let lines = vec![Line::from("out/s"), Line::from(format!("peak {}", super::words::count(peak)))];
    frame.render_widget(Paragraph::new(lines).dim(), label);
    let skipped = state.trail.len().saturating_sub(usize::from(bars.width));
    frame.render_widget(Sparkline::default().data(state.trail.iter().copied().skip(skipped)), bars);
}

fn draw_grid(frame: &mut Frame<'_>, grid: &Grid, area: Rect) {
    let alignments: Vec<_> =
        grid.columns.iter().map(|column| if column.is_number { Alignment::Right } else { Alignment::Left }).collect();
    let aligned = |text: &str, at: usize| {
        let alignment = alignments.get(at).copied().unwrap_or(Alignment::Left);
        Cell::from(Line::from(text.to_owned()).alignment(alignment))
    };
    let head = Row::new(grid.columns.iter().enumerate().map(|(at, column)| aligned(column.name, at)))
        .style(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED));
    // Below it is an empty line.
    let room = usize::from(area.height.saturating_sub(2));
    let hidden = grid.rows.len().saturating_sub(room);
    let shown = if hidden > 0 { room.saturating_sub(1) } else { room };
    let rows = grid.rows.iter().take(shown).map(|row| {
        let style = if row.is_alarming { Style::new().fg(Color::Yellow) } else { Style::new() };
        Row::new(row.cells.iter().enumerate().map(|(at, cell)| aligned(cell, at))).style(style)
    });
    let more = (hidden > 0).then(|| Row::new([format!("+{}", grid.rows.len() - shown)]).style(Style::new().dim()));
    // A number that is cut is another number.
    let widths = grid.columns.iter().enumerate().map(|(at, column)| match column.width {
        Some(width) => Constraint::Length(width.max(u16::try_from(grid.longest(at)).unwrap_or(u16::MAX))),
        None => Constraint::Fill(1),
    });
    frame.render_widget(Table::new(rows.chain(more), widths).header(head).column_spacing(1), area);
}

/// What the keys do, and what is chosen by them.
fn keys(state: &State) -> Line<'static> {
    let chosen = Style::new().add_modifier(Modifier::REVERSED);
    let connections = state.orders.connections.name();
    let topics = if state.orders.topics.name() == "rate" { "messages" } else { "subscribers" };
    let key = |name: &'static str| {
        let style = if name == connections || name == topics { chosen } else { Style::new() };
        [Span::styled(name, style.add_modifier(Modifier::BOLD)), Span::raw(" ")]
    };
    let pause = if state.is_paused { Span::styled("paused", chosen) } else { Span::raw("pause") };
    let mut spans = vec![Span::raw("q quit  p "), pause, Span::raw("  connections: ")];
    spans.extend(["backlog", "age", "rate"].into_iter().flat_map(key));
    spans.push(Span::raw(" topics: "));
    spans.extend(["messages", "subscribers"].into_iter().flat_map(key));
    spans.push(Span::raw(format!(" every {}", state.interval)).dim());
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::super::samples::look;
    use super::*;

    fn drawn(state: &State, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, state)).expect("room");
        terminal.backend().buffer().clone()
    }

    fn lines(buffer: &Buffer) -> Vec<String> {
        let width = usize::from(buffer.area.width).max(1);
        let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
        buffer.content.chunks(width).map(|cells| line(cells).trim_end().to_owned()).collect()
    }

    fn state(shards: usize) -> State {
        let mut state = State::new("http://127.0.0.1:8081", "1s".to_owned());
        for second in 0..5_u32 {
            let mut seen = look(shards, 3600.0 + f64::from(second));
            seen.overview.shards[0].delivered += 100_000 * u64::from(second * second);
            state.hear(Ok(Box::new(seen)));
        }
        state
    }

    #[test]
    fn all_that_matters_is_there_at_80_by_24() {
        let buffer = drawn(&state(2), 80, 24);
        let lines = lines(&buffer);
        for part in [
            "uproar 0.1.0  http://127.0.0.1:8081  serving  up 1h 00m",
            "peak 700,000",
            "memory 345 MiB of 1.0 GiB",
            "SHARD ",
            "TOPIC ",
            "CONNECTION ",
            "prices.EURUSD",
            "evil\\u{1b}[2J",
            "0x7000100003",
            "192.0.2.7",
            "1.0 MiB",
            "4.2 s",
            "ann\\u",
            "q quit",
        ] {
            assert!(lines.iter().any(|line| line.contains(part)), "{part} is not in\n{}", lines.join("\n"));
        }
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
        assert!(lines[5].contains('█') || lines[6].contains('█'), "{}", lines.join("\n"));
        let slow = (0..24).find(|&y| lines[usize::from(y)].starts_with("0x7000100003")).expect("a row");
        assert_eq!(buffer[(0, slow)].fg, Color::Yellow);
        assert_eq!(buffer[(0, slow + 1)].fg, Color::Reset);
    }

    #[test]
    fn a_server_that_is_gone_is_said_to_be_so() {
        let mut state = state(1);
        state.hear(Err("no answer from http://127.0.0.1:8081".to_owned()));
        let buffer = drawn(&state, 80, 24);
        let lines = lines(&buffer);
        assert!(lines[0].starts_with("trying again  no answer from"), "{}", lines[0]);
        assert_eq!(buffer[(0, 0)].fg, Color::Red);
        assert!(lines.iter().any(|line| line.contains("prices.EURUSD")), "what was seen last is still there");
    }

    #[test]
    fn it_draws_at_any_size_and_hides_what_does_not_fit() {
        let (few, many, none) = (state(1), state(64), State::new("x", "1s".to_owned()));
        for (width, height) in [(0, 0), (1, 1), (39, 24), (40, 11), (40, 12), (80, 24), (200, 60), (500, 200)] {
            for state in [&few, &many, &none] {
                drawn(state, width, height);
            }
        }
        assert!(lines(&drawn(&few, 39, 24))[0].contains("please"));
        let lines = lines(&drawn(&many, 80, 24));
        assert!(lines.iter().any(|line| line == "+62"), "{}", lines.join("\n"));
        assert!(lines.iter().any(|line| line.starts_with("0x7000100003")), "{}", lines.join("\n"));
    }

    #[test]
    fn tables_share_what_there_is() {
        assert_eq!(share(16, [2, 50, 50]), [4, 6, 6]);
        assert_eq!(share(16, [64, 50, 50]), [5, 5, 6]);
        assert_eq!(share(40, [2, 1, 50]), [4, 3, 33]);
        for height in 0..60 {
            assert!(share(height, [64, 50, 50]).iter().sum::<u16>() <= height.max(5), "{height}");
        }
    }
}
