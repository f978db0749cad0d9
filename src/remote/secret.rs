//! What proves who one is: never an argument, which others on the machine could read.

use std::path::Path;

use super::Error;

/// The secret that is in a file, if that option names one, or else in that variable of the environment, if it is set. `part` picks it
/// out of what is found there.
///
/// # Errors
/// [`Error::Usage`]: the file cannot be read, or what is there is no word of ASCII. It is said without it.
pub fn find(
    (option, file): (&str, Option<&Path>),
    variable: &str,
    part: impl Fn(String) -> String,
) -> Result<Option<String>, Error> {
    let Some(path) = file else {
        let value = std::env::var_os(variable).filter(|value| !value.is_empty());
        return value.map(|value| word(variable, part(value.into_string().unwrap_or_default()))).transpose();
    };
    let source = format!("{option} {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| Error::Usage(format!("{source}: {error}")))?;
    word(&source, part(text)).map(Some)
}

fn word(source: &str, text: String) -> Result<String, Error> {
    let text = text.trim();
    let is_one = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one { Ok(text.to_owned()) } else { Err(Error::Usage(format!("{source}: what is there is no key or token"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_word() {
        assert_eq!(word("x", " abc\n".into()).as_deref(), Ok("abc"));
        for text in ["", " ", "a b", "ä", "a\nb"] {
            let wrong = Error::Usage("x: what is there is no key or token".into());
            assert_eq!(word("x", text.into()), Err(wrong), "{text:?}");
        }
    }

    #[test]
    fn a_file_wins_and_is_named_where_it_is_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        let found = || find(("--token-file", Some(&file)), "UPROAR_NO_SUCH_VARIABLE", |text| text);
        assert!(matches!(found(), Err(Error::Usage(why)) if why.contains("--token-file") && why.contains("token:")));
        std::fs::write(&file, "a.b.c\n").expect("a file");
        assert_eq!(found(), Ok(Some("a.b.c".into())));
        assert_eq!(find(("--token-file", None), "UPROAR_NO_SUCH_VARIABLE", |text| text), Ok(None));
    }
}
