//! The user's configuration file: `$XDG_CONFIG_HOME/proxytorrent/config.toml`, by default
//! `~/.config/proxytorrent/config.toml` (XDG Base Directory Specification).
//!
//! A table is a section, and a key a setting: `server` in `[client]` is `CLIENT__SERVER`. Keys above the tables are settings
//! without a section, such as `port`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Reads the file, if there is one, which may have settings with these names. The error names the file.
pub(crate) fn read(known: &BTreeSet<String>) -> Result<BTreeMap<String, String>, String> {
    let Some(path) = path() else { return Ok(BTreeMap::new()) };
    let settings = match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text),
        Err(error) if is_absent(&error, &path) => Ok(BTreeMap::new()),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    let settings = settings.and_then(|settings| match settings.keys().find(|name| !known.contains(*name)) {
        Some(name) => Err(format!("{name} is not a setting: `proxytorrent config` lists them")),
        None => Ok(settings),
    });
    settings.map_err(|problem| format!("{}: {problem}", path.display()))
}

/// Returns the path of the file; `None` if the user has no home folder, as a service.
fn path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join(Path::new("proxytorrent/config.toml")))
}

/// Whether the error means that there is no file. A hardened service cannot see home folders.
fn is_absent(error: &std::io::Error, path: &Path) -> bool {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => true,
        ErrorKind::PermissionDenied => std::fs::metadata(path).is_err(),
        _ => false,
    }
}

/// Returns the settings in a file by their full names. The error does not have the values, which may be secret.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("line {line} is not TOML: {}", error.message())
    })?;
    let mut settings = BTreeMap::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                for (field, value) in section {
                    settings.insert(format!("{name}__{field}").to_ascii_uppercase(), plain(&field, value)?);
                }
            }
            value => {
                settings.insert(name.to_ascii_uppercase(), plain(&name, value)?);
            }
        }
    }
    Ok(settings)
}

/// Returns a value as the environment would have it.
fn plain(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(is) => Ok(is.to_string()),
        Value::Array(values) => {
            let values = values.into_iter().map(|value| plain(name, value)).collect::<Result<Vec<_>, _>>()?;
            Ok(values.join(","))
        }
        Value::Datetime(_) | Value::Table(_) => Err(format!("{name} must be a text, a number, true, false or a list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sections_and_lists_are_joined() {
        let text = "port = 9000\n[client]\nserver = 'https://h'\n[torrent]\nwebseed = false\n\
                    [fetcher]\nallow_networks = ['10.0.0.0/8', '192.0.2.0/24']";
        let expected = [
            ("CLIENT__SERVER", "https://h"),
            ("FETCHER__ALLOW_NETWORKS", "10.0.0.0/8,192.0.2.0/24"),
            ("PORT", "9000"),
            ("TORRENT__WEBSEED", "false"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse(text), Ok(BTreeMap::from(expected)));
    }

    #[test]
    fn an_error_names_the_line_or_the_key_and_no_value() {
        for (text, expected) in [
            ("[client]\ntoken = hidden", "line 2"),
            ("[client]\ntoken = 'hidden'\ntoken = 'hidden'", "line 3"),
            ("[client]\ntoken = { a = 'hidden' }", "token must be"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hidden"), "{error}");
        }
    }
}
