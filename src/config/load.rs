//! A configuration out of its sources, each of which wins over those before it: defaults, file, environment, flags.

use std::collections::HashMap;
use std::fmt::Write as _;

use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::{NOT_A_SIZE, NOT_A_TIME};
use super::{Config, KNOBS, Knob};

/// Variables that are no knobs: what names the file, which was read before, and what is for the commands that ask a server.
const NOT_KNOBS: [&str; 3] = ["UPROAR_CONFIG", "UPROAR_ADMIN", "UPROAR_TOKEN"];

/// What is wrong with a configuration: a line for each problem, with its place, its value and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// One problem.
    pub fn new(problem: String) -> ConfigError {
        ConfigError(vec![problem])
    }

    /// The problems of several.
    pub(crate) fn all(errors: impl IntoIterator<Item = ConfigError>) -> ConfigError {
        ConfigError(errors.into_iter().flat_map(|error| error.0).collect())
    }

    /// The same problems, in other words.
    pub(crate) fn map(self, words: impl Fn(String) -> String) -> ConfigError {
        ConfigError(self.0.into_iter().map(words).collect())
    }

    /// Every problem, at least one.
    pub fn problems(&self) -> &[String] {
        &self.0
    }

    pub(super) fn unless_empty(problems: Vec<String>) -> Result<(), ConfigError> {
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }
}

/// Where values come from besides the defaults.
#[derive(Clone, Default, Debug)]
pub struct Inputs {
    /// Name and text of the TOML file.
    pub file: Option<(String, String)>,
    /// The environment, of which all but `PORT` and `UPROAR_*` is ignored.
    pub env: Vec<(String, String)>,
    /// Names of knobs, as they are in the file, and the values of their flags.
    pub flags: Vec<(&'static str, String)>,
}

/// A valid configuration, and where its values came from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// Where the values of knobs came from that are not left at their default, by the knob's name.
    sources: HashMap<&'static str, String>,
}

/// Puts a configuration together; on failure, every problem of every source is told.
pub fn load(inputs: &Inputs) -> Result<Resolved, ConfigError> {
    let mut loader = Loader { config: Config::default(), sources: HashMap::new(), problems: Vec::new() };
    if let Some((name, text)) = &inputs.file {
        loader.file(name, text);
    }
    loader.port(inputs);
    for (name, value) in &inputs.env {
        loader.variable(name, value);
    }
    for (name, value) in &inputs.flags {
        if let Some(knob) = Knob::named(name) {
            let flag = format!("--{}", knob.flag());
            if (knob.is_secret)() {
                loader.problems.push(format!(
                    "{flag}: no flag, since others could read it in the list of processes; set {}, or {} in the file",
                    knob.variable(),
                    knob.name
                ));
            } else {
                loader.set(knob, value, &flag, &flag);
            }
        }
    }
    if loader.problems.is_empty() {
        loader.problems.extend(loader.config.clashes());
    }
    ConfigError::unless_empty(loader.problems)?;
    Ok(Resolved { config: loader.config, sources: loader.sources })
}

/// A line about a value that is refused.
pub(super) fn complaint(place: &str, value: &str, why: &str, knob: &Knob) -> String {
    let (range, (_, form)) = ((knob.range)(), (knob.form)());
    let comma = if form.is_empty() { "" } else { ", " };
    let hint = meant(value, why).map_or(String::new(), |meant| format!("; did you mean {meant:?}?"));
    let problem = match value {
        // As a line of a file for the environment is that waits for its value.
        "" => "it is empty: leave it out".into(),
        _ => format!("{} {why}", (knob.quote)(value)),
    };
    format!("{place}: {problem}; allowed: {range}{comma}{form}{hint}")
}

/// What a value was meant to be that lacks its unit, or has another family's.
fn meant(value: &str, why: &str) -> Option<String> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    match why {
        _ if number.is_empty() => None,
        NOT_A_TIME if unit.is_empty() => Some(format!("{number}s")),
        NOT_A_SIZE => {
            let prefix = unit.bytes().next()?.to_ascii_uppercase();
            let known = matches!(&*unit.to_ascii_lowercase(), "k" | "m" | "g" | "t" | "kb" | "mb" | "gb" | "tb");
            known.then(|| format!("{number}{}iB", char::from(prefix)))
        }
        _ => None,
    }
}

/// What is said to a line of TOML whose value is a text without quotes.
fn quotes_hint(line: &str) -> Option<String> {
    let (name, value) = line.split_once('=')?;
    let knob = Knob::named(name.trim())?;
    let is_bare =
        value.trim_start().starts_with(|first: char| first.is_alphanumeric() || matches!(first, '/' | '*' | '-'));
    is_bare.then(|| format!("; texts are in quotes: {} = \"…\"", knob.name))
}

struct Loader {
    config: Config,
    sources: HashMap<&'static str, String>,
    problems: Vec<String>,
}

impl Loader {
    /// Stores a value that comes from `source`; `place` names source and knob for whoever has to correct it.
    fn set(&mut self, knob: &'static Knob, value: &str, source: &str, place: &str) {
        match (knob.set)(&mut self.config, value) {
            Ok(()) => drop(self.sources.insert(knob.name, source.into())),
            Err(why) => self.problems.push(complaint(place, value, why, knob)),
        }
    }

    fn file(&mut self, file: &str, text: &str) {
        let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let line = error.span().map_or(1, |span| line_at(span.start));
                let hint = text.lines().nth(line - 1).and_then(quotes_hint).unwrap_or_default();
                self.problems.push(format!("{file}:{line}: not valid TOML: {}{hint}", error.message().trim_end()));
                return;
            }
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let place = format!("{file}:{}", line_at(key.span().start));
            self.entry(&place, key.get_ref(), value);
        }
    }

    fn entry(&mut self, line: &str, key: &str, value: &Spanned<DeValue<'_>>) {
        match (Knob::named(key), scalar(value.get_ref())) {
            (Some(knob), Some(text)) => self.set(knob, &text, line, &format!("{line}: {key}")),
            (Some(_), None) => {
                self.problems.push(format!("{line}: {key}: a text, a whole number, true or false is wanted"))
            }
            (None, None) if matches!(value.get_ref(), DeValue::Table(_)) => {
                self.problems.push(format!("{line}: {key}: there are no tables; every knob is at the top"));
            }
            (None, _) => {
                self.problems.push(format!("{line}: {key}: unknown{}", suggestion(key, |knob| knob.name.into())))
            }
        }
    }

    /// `PORT`, as platforms set it: it gives way to an address that is set as deliberately.
    fn port(&mut self, inputs: &Inputs) {
        let outranked = inputs.env.iter().any(|(name, _)| name == "UPROAR_LISTEN")
            || inputs.flags.iter().any(|(name, _)| *name == "listen");
        let port = inputs.env.iter().find(|(name, value)| name == "PORT" && !value.is_empty());
        let Some((_, port)) = port.filter(|_| !outranked) else { return };
        match port.parse() {
            Ok(port) => {
                self.config.listen.set_port(port);
                self.sources.insert("listen", "PORT".into());
            }
            Err(_) => self.problems.push(format!("PORT: {port:?} is not a port; allowed: 0..65535")),
        }
    }

    fn variable(&mut self, name: &str, value: &str) {
        if !name.starts_with("UPROAR_") || NOT_KNOBS.contains(&name) {
            return;
        }
        match KNOBS.iter().find(|knob| knob.variable() == name) {
            Some(knob) => self.set(knob, value, name, name),
            None if is_service_link(name, value) => {}
            None => self.problems.push(format!("{name}: unknown{}", suggestion(name, Knob::variable))),
        }
    }
}

impl Resolved {
    /// Whether a knob's value comes from anywhere but the defaults.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }

    /// Whether a knob's text says all of its value.
    fn is_whole(&self, knob: &Knob) -> bool {
        let mut copy = Config::default();
        (knob.set)(&mut copy, &(knob.show)(&self.config)).is_ok() && (knob.is_same)(&copy, &self.config)
    }

    /// The configuration as a TOML file that gives the same configuration, with a comment for every knob.
    pub fn to_toml(&self) -> String {
        let defaults = Config::default();
        let mut text = String::from("# The configuration of uproar, every knob.\n");
        let mut group = "";
        for knob in KNOBS {
            if knob.group != group {
                group = knob.group;
                text += &format!("\n# --- {group} ---\n");
            }
            let (_, form) = (knob.form)();
            let comma = if form.is_empty() { "" } else { ", " };
            let source = self.sources.get(knob.name).map_or(String::new(), |source| format!("; from {source}"));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n# {}", knob.help);
            let (range, default, takes) = ((knob.range)(), (knob.show)(&defaults), knob.takes.hint());
            let _ = writeln!(text, "# {range}{comma}{form}; default {default}{takes}{source}");
            let (value, default) = ((knob.show)(&self.config), (knob.show)(&defaults));
            let _ = match (knob.is_secret)() && value != default {
                true => writeln!(text, "# {} is set, and not shown", knob.name),
                false if self.is_whole(knob) => writeln!(text, "{} = {}", knob.name, literal(value)),
                false => writeln!(text, "# {} = {} is not shown whole", knob.name, literal(value)),
            };
        }
        text
    }
}

/// A TOML value as the text that a flag would have.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(bool) => Some(bool.to_string()),
        // One that is too large for any integer is out of every bound, in whatever digits.
        DeValue::Integer(integer) => Some(
            i128::from_str_radix(integer.as_str(), integer.radix()).map_or(integer.to_string(), |int| int.to_string()),
        ),
        _ => None,
    }
}

/// A knob's text as a TOML value: numbers and booleans are bare.
fn literal(text: String) -> String {
    let bare = text == "true" || text == "false" || text.bytes().all(|byte| byte.is_ascii_digit());
    if bare { text } else { toml::Value::String(text).to_string() }
}

/// What an unknown name may have been meant to be.
fn suggestion(name: &str, spelling: impl Fn(&Knob) -> String) -> String {
    let close = |knob: &Knob| (strsim::jaro_winkler(name, &spelling(knob)), spelling(knob));
    let best = KNOBS.iter().map(close).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > 0.8)
        .map_or("; --print-config shows all".into(), |(_, name)| format!("; did you mean {name}?"))
}

/// Variables that Kubernetes and Docker set for a service that happens to be called `uproar` or `uproar-…`: they are
/// about the service, as `UPROAR_SERVICE_HOST` or `UPROAR_PORT=tcp://10.0.0.1:80`, and nobody's mistake.
fn is_service_link(name: &str, value: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"].into_iter().any(|part| name.contains(part))
        || (name.ends_with("_PORT") && value.contains("://"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{AdminListen, BacklogPolicy};
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    fn inputs(file: &str, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Inputs {
        Inputs {
            file: Some(("uproar.toml".into(), file.into())),
            env: owned(env),
            flags: flags.iter().map(|&(name, value)| (name, value.into())).collect(),
        }
    }

    fn problems(file: &str, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Vec<String> {
        load(&inputs(file, env, flags)).unwrap_err().problems().to_vec()
    }

    #[test]
    fn the_later_source_wins_and_is_noted() {
        let file = "# a comment\nbacklog = 2048\nmax_topics = 1\npin = false\n";
        let env = [("UPROAR_BACKLOG", "4KiB"), ("UPROAR_MAX_TOPICS", "2"), ("HOME", "/")];
        let resolved = load(&inputs(file, &env, &[("backlog", "8192")])).unwrap();
        let config = &resolved.config;
        assert_eq!((config.backlog, config.max_topics, config.pin), (8192, 2, false));
        assert_eq!(config.max_head, Config::default().max_head);
        let text = resolved.to_toml();
        for line in [
            "; from --backlog\nbacklog = \"8KiB\"",
            "; from UPROAR_MAX_TOPICS\nmax_topics = 2",
            "; takes a restart; from uproar.toml:4\npin = false",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.contains("default 8KiB\nmax_head = \"8KiB\""), "{text}");
    }

    #[test]
    fn the_port_variable_is_between_file_and_listen() {
        let listen = |file, env: &[_], flags: &[_]| load(&inputs(file, env, flags)).unwrap().config.listen.to_string();
        let file = "listen = '0.0.0.0:1'";
        assert_eq!(listen("", &[("PORT", "9000")], &[]), "127.0.0.1:9000");
        assert_eq!(listen(file, &[("PORT", "9000")], &[]), "0.0.0.0:9000");
        assert_eq!(listen(file, &[("PORT", "")], &[]), "0.0.0.0:1");
        assert_eq!(listen(file, &[("UPROAR_LISTEN", "1.1.1.1:2"), ("PORT", "9000")], &[]), "1.1.1.1:2");
        assert_eq!(listen(file, &[("PORT", "none of ours")], &[("listen", "1.1.1.1:3")]), "1.1.1.1:3");
        assert_eq!(problems("", &[("PORT", "70000")], &[]), ["PORT: \"70000\" is not a port; allowed: 0..65535"]);
    }

    #[test]
    fn what_is_refused_is_named_with_its_place() {
        let allowed = "allowed: 1KiB..1GiB, in bytes, or with KiB, MiB, GiB or TiB after the number";
        assert_eq!(
            problems("\nbacklog = 1\n", &[("UPROAR_BACKLOG", "64KB")], &[("backlog", "2GiB")]),
            [
                format!("uproar.toml:2: backlog: \"1\" is out of bounds; {allowed}"),
                format!("UPROAR_BACKLOG: \"64KB\" is not a size; {allowed}; did you mean \"64KiB\"?"),
                format!("--backlog: \"2GiB\" is out of bounds; {allowed}"),
            ]
        );
    }

    #[test]
    fn what_is_empty_is_to_be_left_out() {
        let env = [("UPROAR_JWT_SECRET", ""), ("UPROAR_JWKS_URL", ""), ("UPROAR_ADMIN_KEY", "")];
        let problems = problems("backlog = ''", &env, &[]);
        for (problem, place) in problems.iter().zip(["uproar.toml:1: backlog", env[0].0, env[1].0, env[2].0]) {
            assert!(problem.starts_with(&format!("{place}: it is empty: leave it out; allowed: ")), "{problem}");
        }
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn what_was_meant_is_said() {
        for (file, hint) in [
            ("ping_interval = 30", Some("; did you mean \"30s\"?")),
            ("ping_interval = '30 s'", None),
            ("ping_interval = 'soon'", None),
            ("backlog = '64k'", Some("; did you mean \"64KiB\"?")),
            ("max_message = '1MB'", Some("; did you mean \"1MiB\"?")),
            ("byte_rate = '1Gb'", Some("; did you mean \"1GiB\"?")),
            ("backlog = '64 KiB'", None),
            ("backlog = '64é'", None),
            ("listen = 127.0.0.1:8080", Some("; texts are in quotes: listen = \"…\"")),
            ("log = info", Some("; texts are in quotes: log = \"…\"")),
            ("history = prices.* count=1", Some("; texts are in quotes: history = \"…\"")),
            ("listen = \"127.0.0.1", None),
            ("pin = = true", None),
        ] {
            let problems = problems(&format!("pin = true\n{file}").replace("pin = true\npin", "pin"), &[], &[]);
            assert_eq!(problems.len(), 1, "{problems:?}");
            match hint {
                Some(hint) => assert!(problems[0].ends_with(hint), "{problems:?}"),
                None => assert!(!problems[0].contains("did you") && !problems[0].contains("quotes"), "{problems:?}"),
            }
        }
    }

    #[test]
    fn unknown_names_are_refused_with_what_was_meant() {
        for (file, env, problem) in [
            ("backlgo = 1", &[][..], "uproar.toml:1: backlgo: unknown; did you mean backlog?"),
            (
                "pin = true\nadmin-listen = 'off'",
                &[],
                "uproar.toml:2: admin-listen: unknown; did you mean admin_listen?",
            ),
            ("xyzzy = 1", &[], "uproar.toml:1: xyzzy: unknown; --print-config shows all"),
            ("", &[("UPROAR_SHARD", "2")], "UPROAR_SHARD: unknown; did you mean UPROAR_SHARDS?"),
            ("[limits]\nbacklog = 1", &[], "uproar.toml:1: limits: there are no tables; every knob is at the top"),
        ] {
            assert_eq!(problems(file, env, &[]), [problem]);
        }
    }

    #[test]
    fn files_that_are_no_configuration() {
        for (file, start) in [
            ("pin = true\nbacklog = = 1", "uproar.toml:2: not valid TOML: "),
            ("pin = true\npin = true", "uproar.toml:2: not valid TOML: duplicate key"),
            ("backlog = 1.5", "uproar.toml:1: backlog: a text, a whole number, true or false is wanted"),
            ("shards = [1]", "uproar.toml:1: shards: a text, a whole number, true or false is wanted"),
            ("shards = 99999999999999999999999999999999999999999", "uproar.toml:1: shards: "),
        ] {
            let problems = problems(file, &[], &[]);
            assert!(problems.len() == 1 && problems[0].starts_with(start), "{problems:?}");
        }
    }

    #[test]
    fn variables_of_a_service_of_that_name_are_no_mistake() {
        let env = [
            ("UPROAR_SERVICE_HOST", "10.0.0.1"),
            ("UPROAR_SERVICE_PORT_HTTP", "80"),
            ("UPROAR_PORT", "tcp://10.0.0.1:80"),
            ("UPROAR_ADMIN_PORT_8081_TCP_ADDR", "10.0.0.1"),
            ("UPROAR_CONFIG", "uproar.toml"),
        ];
        assert_eq!(load(&inputs("", &env, &[])).unwrap().config, Config::default());
        assert_eq!(problems("", &[("UPROAR_PORT", "80")], &[]).len(), 1);
    }

    #[test]
    fn where_the_commands_ask_is_not_the_servers_concern() {
        for value in ["unix:/run/uproar/admin.sock", "http://127.0.0.1:8081", ""] {
            let resolved = load(&inputs("", &[("UPROAR_ADMIN", value), ("UPROAR_TOKEN", value)], &[])).unwrap();
            assert_eq!((resolved.config, resolved.sources.len()), (Config::default(), 0));
        }
        assert_eq!(problems("", &[("UPROAR_ADMINS", "x")], &[]).len(), 1);
    }

    #[test]
    fn what_is_printed_gives_the_same_configuration() {
        let everything = "
            listen = '[::1]:1'\nadmin_listen = 'unix:/run/\"quoted\" \\path'\nshards = 0x10\npin = false
            max_connections = 1_000\nmax_memory = '1GiB'\nbacklog = '1025'\nbacklog_policy = 'latest'
            ping_interval = 'off'\nmax_lifetime = '36h'\nshutdown_timeout = 0\nlog = 'debug'\ndeflate_min = 0";
        let first = load(&inputs(everything, &[], &[])).unwrap();
        assert_eq!((first.config.shards, first.config.backlog_policy), (16, BacklogPolicy::Latest));
        assert_eq!(first.config.admin_listen, AdminListen::Unix("/run/\"quoted\" \\path".into()));
        assert_eq!(first.config.max_lifetime, Some(Duration::from_secs(36 * 3600)));
        for resolved in [first, load(&Inputs::default()).unwrap()] {
            let again = load(&inputs(&resolved.to_toml(), &[], &[])).unwrap();
            assert_eq!(again.config, resolved.config);
            assert_eq!(again.sources.len(), KNOBS.len(), "every knob is printed");
        }
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        const KEY: &str = "correct-horse-battery";
        let resolved = load(&inputs("", &[("UPROAR_BACKEND_KEY", KEY)], &[])).unwrap();
        assert!(resolved.config.backend_key[0].is(KEY.as_bytes()));
        let text = resolved.to_toml();
        assert!(text.contains("; from UPROAR_BACKEND_KEY\n# backend_key is set, and not shown\n"), "{text}");
        assert!(!text.contains(KEY) && !format!("{resolved:?}").contains(KEY));
        assert!(load(&inputs(&text, &[], &[])).unwrap().config.backend_key.is_empty());
        for (env, flags) in [(&[("UPROAR_BACKEND_KEY", "too-short")][..], &[][..]), (&[], &[("backend_key", KEY)])] {
            let problems = problems("", env, flags).join("\n");
            assert!(!problems.contains("too-short") && !problems.contains(KEY), "{problems}");
            assert!(problems.contains("UPROAR_BACKEND_KEY"), "{problems}");
        }
    }

    #[test]
    fn listeners_that_clash_are_refused() {
        let problems = problems("", &[("PORT", "8081")], &[]);
        assert!(problems[0].contains("127.0.0.1:8081") && problems[0].contains("admin_listen"), "{problems:?}");
    }
}
