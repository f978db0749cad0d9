//! `uproar man`: the manual. A page for the command and each of its subcommands, and one for the file of the configuration; all
//! from what `--help` says, so that they say the same.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::config::{Config, KNOBS, Knob};

/// What it does.
pub const LONG_ABOUT: &str = "Print a page of the manual, for man(1)

As in: uproar man | man -l -. The page uproar.toml is about the file of the configuration.";

/// Its arguments.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The page to print: uproar, uproar.toml, uproar-bench and so on
    #[arg(value_name = "PAGE", default_value = "uproar")]
    page: String,
    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    out: Option<PathBuf>,
}

/// A page.
struct Page {
    /// As `uproar-bench`.
    name: String,
    section: &'static str,
    text: Vec<u8>,
}

/// Prints a page, or writes all; `command` is what they are about. Exit codes: 0; 2 if there is no such page; 1 if it cannot be
/// written.
pub fn run(options: &Options, command: Command) -> ExitCode {
    let written = pages(command).and_then(|pages| match &options.out {
        Some(dir) => pages
            .iter()
            .try_for_each(|page| std::fs::write(dir.join(format!("{}.{}", page.name, page.section)), &page.text)),
        None => match pages.iter().find(|page| page.name == options.page) {
            Some(page) => io::stdout().lock().write_all(&page.text),
            None => {
                let names: Vec<_> = pages.iter().map(|page| &*page.name).collect();
                let problem = format!("no page {:?}; there are {}", options.page, names.join(", "));
                Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
            }
        },
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uproar man: {error}");
            ExitCode::from(if error.kind() == io::ErrorKind::InvalidInput { 2 } else { 1 })
        }
    }
}

/// The default of a knob as a page says it that is read on any machine.
pub fn default_anywhere(knob: &Knob) -> String {
    match knob.name {
        "shards" => "as many as cores".into(),
        _ => (knob.show)(&Config::default()),
    }
}

fn pages(command: Command) -> io::Result<Vec<Page>> {
    // Of a whole page's options, nobody reads a line.
    let mut command = command.disable_help_subcommand(true).override_usage("uproar [OPTIONS]\nuproar COMMAND");
    command.build();
    let mut pages = Vec::new();
    add_pages(command, &mut pages)?;
    let text = first_line("uproar.toml", "5") + &configuration().render();
    pages.push(Page { name: "uproar.toml".into(), section: "5", text: text.into_bytes() });
    Ok(pages)
}

fn add_pages(command: Command, pages: &mut Vec<Page>) -> io::Result<()> {
    let below: Vec<Command> = command.get_subcommands().cloned().collect();
    pages.push(Page { name: name(&command), section: "1", text: page(command)? });
    below.into_iter().try_for_each(|command| add_pages(command, pages))
}

fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// The page of a command.
fn page(command: Command) -> io::Result<Vec<u8>> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let (short, more) = about.split_once("\n\n").unwrap_or((&about, ""));
    let long = command.get_long_about().map_or_else(|| more.to_owned(), ToString::to_string);
    let has_options = command.get_arguments().next().is_some();
    let has_commands = command.has_subcommands();
    let title = name(&command);
    let command = command.about(short.trim_end_matches('.').to_owned());
    let command = if long.is_empty() { command } else { command.long_about(long) };
    let man = Man::new(command);
    let mut text = first_line(&title, "1").into_bytes();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if has_options {
        man.render_options_section(&mut text)?;
    }
    if has_commands {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    add_tables(&mut rest, &help);
    rest.control("SH", ["SEE ALSO"]).text([bold("uproar"), roman("(1), "), bold("uproar.toml"), roman("(5)")]);
    text.extend(rest.render().into_bytes());
    Ok(text)
}

/// Name and section, no date, so that a page is the same whenever it is made; and what it is from.
fn first_line(name: &str, section: &str) -> String {
    format!(".TH {name} {section} \"\" \"uproar {}\" Uproar\n", env!("CARGO_PKG_VERSION"))
}

/// What help says last: tables, each below a line that ends with a colon, whose lines stay as they are.
fn add_tables(roff: &mut Roff, help: &str) {
    for table in help.split("\n\n").filter(|table| !table.trim().is_empty()) {
        let (heading, lines) = table.split_once(":\n").unwrap_or(("NOTES", table));
        roff.control("SH", [&*heading.trim().to_uppercase()]).control("nf", []);
        for line in lines.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
}

/// The page of the configuration's file.
fn configuration() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]).text([roman("uproar.toml - configuration of uproar")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        roman("A file in TOML, which "),
        bold("--config"),
        roman(" or the variable "),
        bold("UPROAR_CONFIG"),
        roman(" names. Every line sets one of the knobs below, which can also be set in the environment, as "),
        bold("UPROAR_BACKLOG=64KiB"),
        roman(", and by an option, as "),
        bold("--backlog=64KiB"),
        roman(". An option wins over the environment, which wins over the file. What is unknown or out of bounds is refused."),
    ]);
    roff.control("PP", []).text([
        bold("uproar --print-config"),
        roman(" prints a whole file, and where each value is from; "),
        bold("uproar --config FILE --check"),
        roman(" says whether one is valid."),
    ]);
    let mut group = "";
    for knob in KNOBS {
        if knob.group != group {
            group = knob.group;
            roff.control("SH", [&*group.to_uppercase()]);
        }
        add_knob(&mut roff, knob);
    }
    roff.control("SH", ["FILES"]).control("TP", []).text([italic("/etc/uproar/uproar.toml")]);
    roff.text([roman(
        "What the unit of systemd reads. It may hold secrets: it is for root and the user uproar alone.",
    )]);
    roff.control("SH", ["SEE ALSO"]).text([bold("uproar"), roman("(1)")]);
    roff
}

fn add_knob(roff: &mut Roff, knob: &Knob) {
    let (_, form) = (knob.form)();
    let form = if form.is_empty() { String::new() } else { format!(", {form}") };
    roff.control("TP", []).text([bold(knob.name)]);
    roff.text([roman(knob.help)]);
    roff.control("br", []);
    roff.text([roman(format!("{}{form}; default {}. ", (knob.range)(), default_anywhere(knob)))]);
    roff.control("br", []);
    let variable = bold(knob.variable());
    if (knob.is_secret)() {
        roff.text([variable]);
    } else {
        roff.text([variable, roman(", "), bold(format!("--{}", knob.flag()))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command_that_says;

    fn all() -> Vec<Page> {
        pages(command_that_says(default_anywhere)).expect("they are written to memory")
    }

    fn text(name: &str) -> String {
        let page = all().into_iter().find(|page| page.name == name).unwrap_or_else(|| panic!("no page {name}"));
        // As it is read: dashes are escaped.
        String::from_utf8(page.text).expect("UTF-8").replace("\\-", "-")
    }

    #[test]
    fn there_is_a_page_for_every_command_and_each_says_what_it_is_in_a_line() {
        let pages = all();
        let names: Vec<_> = pages.iter().map(|page| &*page.name).collect();
        for name in ["uproar", "uproar-bench", "uproar-bench-fanout", "uproar-drain", "uproar-man", "uproar.toml"] {
            assert_eq!(names.iter().filter(|known| **known == name).count(), 1, "{name} in {names:?}");
        }
        for page in &pages {
            let text = text(&page.name);
            let line = text.lines().skip_while(|line| *line != ".SH NAME").nth(1).expect("a line");
            let about = line.strip_prefix(&format!("{} - ", page.name));
            assert!(about.is_some_and(|about| !about.is_empty() && !about.ends_with('.')), "{line}");
        }
    }

    #[test]
    fn the_page_of_the_file_has_every_knob_and_nothing_of_this_machine() {
        let text = text("uproar.toml");
        for knob in KNOBS {
            assert_eq!(text.matches(&format!(".TP\n\\fB{}\\fR\n", knob.name)).count(), 1, "{}", knob.name);
            assert!(text.contains(&knob.variable()), "{}", knob.name);
            assert_eq!(text.contains(&format!("\\fB--{}\\fR", knob.flag())), !(knob.is_secret)(), "{}", knob.name);
        }
        assert!(text.contains("default as many as cores"));
        assert!(self::text("uproar").contains("[as many as cores; "));
    }

    #[test]
    fn tables_stay_as_they_are() {
        let mut roff = Roff::new();
        add_tables(&mut roff, "Examples:\n  a    b\n\nExit codes:\n  0  good");
        let text = roff.to_roff();
        assert!(text.contains(".SH EXAMPLES\n.nf\n  a    b\n.fi\n.SH \"EXIT CODES\"\n.nf\n  0  good\n.fi\n"), "{text}");
        assert!(self::text("uproar-drain").contains(".SH \"EXIT CODES\"\n.nf\n"));
    }
}
