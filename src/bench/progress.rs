//! What a run is about, while it runs: a bar, and a small table beneath it.

use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressState, ProgressStyle};

use super::report::quantity;

/// Time between two drawings, at least.
const INTERVAL: Duration = Duration::from_millis(100);

/// Shows progress on standard error: as a bar on a terminal, else as a line for each phase.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
    bar: Pace,
    table: Pace,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Shows nothing until there is a phase, and nothing at all if `quiet`.
    pub fn new(quiet: bool) -> Progress {
        let target = ProgressDrawTarget::stderr();
        let shown = match quiet {
            true => Shown::Nothing,
            false if target.is_hidden() => Shown::Lines,
            false => Shown::on(target),
        };
        Progress::showing(shown)
    }

    fn showing(shown: Shown) -> Progress {
        Progress { shown, bar: Pace::default(), table: Pace::default() }
    }

    /// Begins a phase of `total` steps of a unit: "connect", 10,000, "connections"; "measure", 5,000, "ms". 0: nobody
    /// knows how many.
    pub fn phase(&mut self, name: &str, total: u64, unit: &str) {
        (self.bar, self.table) = (Pace::default(), Pace::default());
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines => eprintln!("{}", announcement(name, total, unit)),
            Shown::Bar(bar) => {
                bar.set_style(style(total, unit));
                bar.set_length(total);
                bar.set_message("");
                bar.set_prefix(name.to_owned());
                bar.reset();
            }
        }
    }

    /// Says how many steps of the phase are done. Cheap: it draws every 100 ms at most.
    pub fn at(&mut self, done: u64) {
        if let Shown::Bar(bar) = &self.shown
            && self.bar.is_due()
        {
            bar.set_position(done);
        }
    }

    /// Says what the table beneath the bar shows: names and values. It is drawn every 100 ms at most.
    pub fn show(&mut self, rows: &[(&str, String)]) {
        if let Shown::Bar(bar) = &self.shown
            && self.table.is_due()
        {
            bar.set_message(table(rows));
        }
    }

    /// Clears what is shown. So does being dropped, with an error on its way to the terminal.
    pub fn end(self) {}
}

impl Shown {
    fn on(target: ProgressDrawTarget) -> Shown {
        Shown::Bar(ProgressBar::with_draw_target(Some(0), target).with_finish(ProgressFinish::AndClear))
    }
}

/// Lets something happen now and then.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
}

impl Pace {
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// "10,000 connections", "5.00 s".
fn amount(count: u64, unit: &str) -> String {
    match is_time(unit) {
        true => quantity::show(count as f64, unit),
        false => format!("{} {unit}", quantity::show(count as f64, "")),
    }
}

fn is_time(unit: &str) -> bool {
    matches!(unit, "ns" | "µs" | "ms" | "s")
}

/// What a phase is, where there is no bar.
fn announcement(name: &str, total: u64, unit: &str) -> String {
    if total == 0 { name.into() } else { format!("{name}: {}", amount(total, unit)) }
}

/// Names, and values that end below each other.
fn table(rows: &[(&str, String)]) -> String {
    let width = |cell: &str| cell.chars().count();
    let names = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let values = rows.iter().map(|(_, value)| width(value)).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut table, (name, value)| {
        let _ = write!(table, "\n  {name:<names$}  {value:>values$}");
        table
    })
}

/// A bar, how much is done and of what. Time goes on by itself; of anything else there is a rate, and a time left.
fn style(total: u64, unit: &str) -> ProgressStyle {
    let template = match is_time(unit) {
        _ if total == 0 => "{prefix}{msg}",
        true => "{prefix} {bar:32} {done} of {total}{msg}",
        false => "{prefix} {bar:32} {done} of {total}, {rate}, {left} left{msg}",
    };
    let unit = unit.to_owned();
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style
        .progress_chars("━╸─")
        .with_key(
            "done",
            Key(|state, unit| quantity::show(state.pos() as f64, if is_time(unit) { unit } else { "" }), unit.clone()),
        )
        .with_key("total", Key(|state, unit| amount(state.len().unwrap_or(0), unit), unit.clone()))
        .with_key("rate", Key(|state, _| quantity::show(state.per_sec(), "/s"), unit.clone()))
        .with_key("left", Key(|state, _| quantity::show(state.eta().as_secs_f64().ceil(), "s"), unit))
}

/// A part of the template, from the state and the unit.
#[derive(Clone)]
struct Key(fn(&ProgressState, &str) -> String, String);

impl ProgressTracker for Key {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(self.clone())
    }

    fn tick(&mut self, _: &ProgressState, _: Instant) {}

    fn reset(&mut self, _: &ProgressState, _: Instant) {}

    fn write(&self, state: &ProgressState, out: &mut dyn fmt::Write) {
        let _ = out.write_str(&(self.0)(state, &self.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::thread;

    /// What is written to a terminal, with `^` for every line that is cleared.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl Terminal {
        fn progress(&self) -> Progress {
            Progress::showing(Shown::on(ProgressDrawTarget::term_like(Box::new(self.clone()))))
        }

        fn take(&self) -> String {
            std::mem::take(&mut self.0.lock().unwrap())
        }

        fn push(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.push(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.push(text)
        }
        fn clear_line(&self) -> io::Result<()> {
            self.push("^")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_phase_has_a_bar_with_a_rate_and_a_table_beneath() {
        let terminal = Terminal::default();
        let mut progress = terminal.progress();
        progress.phase("connect", 10_000, "connections");
        progress.at(2500);
        progress.show(&[("deliveries", "256 k/s".into()), ("p99", "1.2 ms".into())]);
        let drawn = terminal.take();
        assert!(drawn.contains("connect ━━━━━━━━╸───"), "{drawn}");
        assert!(drawn.contains("2,500 of 10,000 connections, ") && drawn.contains("/s, "), "{drawn}");
        assert!(drawn.contains("  deliveries  256 k/s") && drawn.contains("  p99          1.2 ms"), "{drawn}");
        progress.phase("measure", 5000, "ms");
        terminal.take();
        progress.at(3210);
        let drawn = terminal.take();
        assert!(drawn.contains("3.21 s of 5.00 s") && !drawn.contains("left") && !drawn.contains("p99"), "{drawn}");
        progress.phase("closing", 0, "");
        terminal.take();
        progress.at(7);
        assert_eq!(terminal.take().trim_matches(['^', ' ']), "closing");
        progress.end();
        let drawn = terminal.take();
        assert!(drawn.starts_with('^') && !drawn.contains("closing"), "{drawn}");
    }

    #[test]
    fn it_draws_now_and_then_only() {
        let terminal = Terminal::default();
        let mut progress = terminal.progress();
        progress.phase("connect", 1_000_000, "connections");
        terminal.take();
        let start = Instant::now();
        (0..1_000_000).for_each(|done| progress.at(done));
        let time = start.elapsed();
        let drawings = terminal.take().matches("connect ").count() as u128;
        assert!((1..=1 + time.as_millis() / 100).contains(&drawings), "{drawings} in {time:?}");
        thread::sleep(INTERVAL);
        progress.at(1_000_000);
        assert!(terminal.take().contains("1,000,000 of 1,000,000"));
    }

    #[test]
    fn a_table_and_a_bar_do_not_keep_each_other_waiting() {
        let terminal = Terminal::default();
        let mut progress = terminal.progress();
        progress.phase("hold", 10, "s");
        for n in 0..2 {
            progress.at(n);
            progress.show(&[("n", n.to_string())]);
            let drawn = terminal.take();
            assert!(drawn.contains(&format!("{n} s of 10 s")) && drawn.contains(&format!("  n  {n}")), "{drawn}");
            thread::sleep(INTERVAL);
        }
    }

    #[test]
    fn without_a_terminal_there_are_lines_and_if_quiet_nothing() {
        assert_eq!(announcement("connect", 10_000, "connections"), "connect: 10,000 connections");
        assert_eq!(announcement("measure", 5000, "ms"), "measure: 5.00 s");
        assert_eq!(announcement("getting ready", 0, ""), "getting ready");
        let mut progress = Progress::new(true);
        assert!(matches!(progress.shown, Shown::Nothing));
        progress.phase("connect", 1, "connections");
        progress.at(1);
        progress.show(&[("a", "b".into())]);
        progress.end();
    }
}
