//! The source of the values (environment and `.env`), and the problems found in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::Override;
use crate::choices::Profile;
use crate::value::Value;

/// The description of one setting, for people.
#[derive(Debug, Clone)]
pub struct Description {
    /// The name of the variable.
    pub name: String,
    /// What the setting does.
    pub documentation: String,
    /// The allowed values.
    pub allowed: String,
    /// The default; empty if there is none.
    pub default: String,
    /// The value that is set, with secrets masked; `None` if it is not set.
    pub value: Option<String>,
}

/// All problems of the settings, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings are not valid:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Values by the full names of their settings, in upper case.
type Values = BTreeMap<String, String>;

/// Returns the values with names in upper case: names may have any case.
fn upper_case<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Values {
    pairs.into_iter().map(|(name, value)| (name.into().to_ascii_uppercase(), value.into())).collect()
}

/// Refuses a server or its prefix in `.env`, the file of a folder, beside credentials in the configuration file of the
/// user: a folder from elsewhere must not get them. The environment is used in place of both.
fn refuse_other_server(user: &Values, folder: &Values, environment: &Values) -> Result<(), Problems> {
    let has_credentials =
        |values: &Values| ["CLIENT__TOKEN", "CLIENT__KEY_SECRET"].iter().any(|name| values.contains_key(*name));
    let is_used = |name: &&str| {
        let value = folder.get(*name);
        value.is_some() && !environment.contains_key(*name) && value != user.get(*name)
    };
    let Some(name) = ["CLIENT__SERVER", "CLIENT__API_PREFIX"].into_iter().find(is_used) else { return Ok(()) };
    if has_credentials(folder) || !has_credentials(user) {
        return Ok(());
    }
    let problem = format!(
        "{name}: is set in .env, and the credentials in your configuration file are not for it: set CLIENT__TOKEN in \
         .env, too, or {name} in the environment"
    );
    Err(Problems(vec![problem]))
}

pub(crate) struct Source {
    values: Values,
    profile: Profile,
    sections: BTreeSet<&'static str>,
    descriptions: Vec<Description>,
    problems: Vec<String>,
}

impl Source {
    /// Reads `.env` and the environment, which has precedence over these values; `overrides` replace values of all of
    /// them.
    pub(crate) fn from_environment(mut values: Values, overrides: &[Override]) -> Result<Self, Problems> {
        let folder = match dotenvy::from_filename_iter(".env") {
            Ok(lines) => {
                let lines: Result<Vec<_>, _> = lines.collect();
                upper_case(lines.map_err(|error| Problems(vec![env_file_problem(&error)]))?)
            }
            Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Values::new(),
            Err(_) => return Err(Problems(vec![".env: cannot be read".into()])),
        };
        let variables = std::env::vars_os();
        let environment = upper_case(
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        refuse_other_server(&values, &folder, &environment)?;
        values.extend(folder);
        values.extend(environment);
        values.extend(upper_case(overrides.iter().cloned()));
        Self::from_pairs(values)
    }

    pub(crate) fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Problems> {
        let mut values = upper_case(pairs);
        // An empty value counts as unset.
        values.retain(|_, value| !value.trim().is_empty());
        let profile = match values.get("PROFILE") {
            Some(text) => Profile::parse(text).map_err(|p| Problems(vec![format!("PROFILE: {p}")]))?,
            None => Profile::Production,
        };
        Ok(Self { values, profile, sections: BTreeSet::new(), descriptions: vec![], problems: vec![] })
    }

    /// Returns the value of one setting, or `None` if it is invalid, which is added to the problems.
    pub(crate) fn value<T: Value>(
        &mut self,
        prefix: &'static str,
        field: &str,
        documentation: &str,
        default: &str,
        development: Option<&str>,
    ) -> Option<T> {
        self.sections.insert(prefix);
        let name = format!("{prefix}{}", field.to_ascii_uppercase());
        let default = match (self.profile, development) {
            (Profile::Development, Some(other)) => other,
            _ => default,
        };
        let given = self.values.get(&name).map(String::as_str);
        self.descriptions.push(Description {
            documentation: documentation.trim().to_owned(),
            allowed: T::allowed(),
            default: default.to_owned(),
            value: given.map(T::shown),
            name: name.clone(),
        });
        match T::parse_or_absent(given.unwrap_or(default).trim()) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.refuse(&name, &format!("{problem}; allowed: {}", T::allowed()));
                None
            }
        }
    }

    /// Adds a problem of this setting.
    pub(crate) fn refuse(&mut self, name: &str, problem: &str) {
        self.problems.push(format!("{name}: {problem}"));
    }

    /// Adds a problem for each unknown name with the prefix of a known section: it is a misspelled setting. Names
    /// without such a prefix are ignored, since the environment contains the variables of other programs.
    pub(crate) fn refuse_unknown_names(&mut self) {
        let known: BTreeSet<_> = self.descriptions.iter().map(|d| d.name.as_str()).collect();
        let mut unknown = vec![];
        for name in self.values.keys().filter(|name| !known.contains(name.as_str())) {
            let Some(section) = self.sections.iter().find(|s| !s.is_empty() && name.starts_with(**s)) else { continue };
            let names: Vec<_> = known.iter().filter(|k| k.starts_with(section)).copied().collect();
            unknown.push((name.clone(), format!("is not a setting; allowed: {}", names.join(", "))));
        }
        for (name, problem) in unknown {
            self.refuse(&name, &problem);
        }
    }

    /// Returns a warning for each setting that is accepted for existing configurations and has no effect.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let without_effect = [
            ("CACHE__REDIS_URL", "no Redis is needed: the setting has no effect"),
            ("MONITORING__MASK_SENSITIVE", "secrets are always masked: the setting has no effect"),
        ];
        without_effect
            .iter()
            .filter(|(name, _)| self.values.contains_key(*name))
            .map(|(name, why)| format!("{name}: {why}"))
            .collect()
    }

    pub(crate) fn finish(self) -> (Option<Problems>, Vec<Description>) {
        ((!self.problems.is_empty()).then_some(Problems(self.problems)), self.descriptions)
    }
}

/// Returns the problem of a line in `.env`, with its number. The line is not shown, since it may contain a secret.
fn env_file_problem(error: &dotenvy::Error) -> String {
    let text = std::fs::read_to_string(".env").unwrap_or_default();
    let number = match error {
        dotenvy::Error::LineParse(bad, _) => {
            let first = bad.lines().next().unwrap_or_default().trim();
            text.lines().position(|line| line.trim() == first).map(|at| at + 1)
        }
        _ => None,
    };
    let line = number.map_or_else(|| "a line".to_owned(), |number| format!("line {number}"));
    format!(
        ".env: {line} is not of the form NAME=value (quote values that have spaces or #; shell expressions such as \
         $(...) are not evaluated)"
    )
}
