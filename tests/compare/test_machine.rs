//! What is known of the machine.

use crate::machine::{Machine, crate_version, npm_version};

#[test]
fn versions_are_read_from_lock_files() {
    let npm = r#"{"packages":{"":{"name":"peers"},"node_modules/ws":{"version":"8.23.0"}}}"#;
    assert_eq!(npm_version(npm, "ws").as_deref(), Some("8.23.0"));
    assert_eq!(npm_version(npm, "bun"), None);
    let cargo = "[[package]]\nname = \"tokio\"\nversion = \"1.54.1\"\nsource = \"x\"\n";
    assert_eq!(crate_version(cargo, "tokio").as_deref(), Some("1.54.1"));
    assert_eq!(crate_version(cargo, "mio"), None);
}

#[test]
fn this_machine_is_known() {
    let machine = Machine::this();
    assert!(machine.memory > 0 && machine.date.len() == "2026-11-21".len(), "{machine:?}");
    assert!(machine.version("tokio-tungstenite").starts_with(" 0."), "{machine:?}");
    assert_eq!(machine.version("nothing"), "");
}
