//! Media types.

/// A media type (RFC 9110, section 8.3.1) in lower case and without parameters, such as `text/html`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaType(String);

/// A text that is not a media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a media type must have the form type/subtype")]
pub struct ParseMediaTypeError;

impl MediaType {
    /// Returns the media type of arbitrary bytes: `application/octet-stream`.
    pub fn unknown() -> Self {
        Self("application/octet-stream".into())
    }

    /// Returns `type/subtype`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads a `Content-Type` header.
impl std::str::FromStr for MediaType {
    type Err = ParseMediaTypeError;

    fn from_str(header: &str) -> Result<Self, ParseMediaTypeError> {
        let essence = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/').ok_or(ParseMediaTypeError)?;
        let is_token =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
        if is_token(kind) && is_token(subtype) { Ok(Self(essence)) } else { Err(ParseMediaTypeError) }
    }
}

impl TryFrom<String> for MediaType {
    type Error = ParseMediaTypeError;

    fn try_from(text: String) -> Result<Self, ParseMediaTypeError> {
        text.parse()
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.0
    }
}

impl std::fmt::Display for MediaType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_read_without_its_parameters() {
        assert_eq!("Text/HTML; charset=utf-8".parse::<MediaType>().unwrap().as_str(), "text/html");
        for bad in ["", "text", "text/", "/html", "te xt/html", "a/b/c"] {
            assert_eq!(bad.parse::<MediaType>(), Err(ParseMediaTypeError), "{bad}");
        }
    }
}
