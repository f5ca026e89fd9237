//! Query parameters. All errors are reported at once.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::field_code::FieldCode;
use crate::problem::{FieldError, Problem};

/// The query parameters that are not read yet, and the errors found so far.
pub(crate) struct Query {
    values: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Decodes a query. A parameter that is given twice is an error.
    pub fn parse(query: Option<&str>) -> Self {
        let (mut values, mut errors) = (BTreeMap::new(), vec![]);
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
            if values.insert(decoded(name), decoded(value)).is_some() {
                errors.push(FieldError::new(decoded(name), FieldCode::Repeated, "is given twice"));
            }
        }
        Self { values, errors }
    }

    /// Removes and parses a parameter. Returns `None` if it is absent or invalid; `wrong` is the text of the error.
    pub fn value<T: FromStr>(&mut self, name: &str, wrong: &str) -> Option<T> {
        let value = self.values.remove(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.errors.push(FieldError::new(name, FieldCode::Invalid, wrong));
        }
        parsed
    }

    /// As [`Query::value`]; an absent parameter is an error as well.
    pub fn required<T: FromStr>(&mut self, name: &str, wrong: &str) -> Option<T> {
        if !self.values.contains_key(name) {
            self.errors.push(FieldError::new(name, FieldCode::Required, wrong));
        }
        self.value(name, wrong)
    }

    /// Removes and parses a whole number in this range. Returns `None` if it is absent or invalid.
    pub fn number(&mut self, name: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let detail = format!("must be a whole number from {} to {}", range.start(), range.end());
        let number = self.value::<u32>(name, &detail)?;
        if !range.contains(&number) {
            self.errors.push(FieldError::new(name, FieldCode::OutOfRange, detail));
            return None;
        }
        Some(number)
    }

    /// Returns 422 if a parameter was invalid, or is left over and thus unknown.
    pub fn finish(mut self) -> Result<(), Problem> {
        for name in self.values.into_keys() {
            self.errors.push(FieldError::new(name, FieldCode::UnknownField, "is not a parameter"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_are_reported_at_once() {
        let mut query = Query::parse(Some("a=5&b=x&c=7&c=8&d%20e=1&f"));
        assert_eq!(query.number("a", 1..=9), Some(5));
        assert_eq!(query.number("b", 1..=9), None);
        assert_eq!(query.number("c", 1..=7), None);
        assert_eq!(query.value::<u32>("absent", "?"), None);
        let problem = query.finish().unwrap_err();
        let errors: Vec<_> = problem.errors().iter().map(|error| (error.field.as_str(), error.code)).collect();
        let expected = [
            ("c", FieldCode::Repeated),
            ("b", FieldCode::Invalid),
            ("c", FieldCode::OutOfRange),
            ("d e", FieldCode::UnknownField),
            ("f", FieldCode::UnknownField),
        ];
        assert_eq!(errors, expected);
        assert!(Query::parse(None).finish().is_ok());
    }
}
