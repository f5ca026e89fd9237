//! Enums whose variants have a text, in one place: for the API, the stores, logs and metrics.

/// A text that is none of an enum's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {what}: use one of {allowed}")]
pub struct UnknownText {
    pub(crate) text: String,
    pub(crate) what: &'static str,
    pub(crate) allowed: String,
}

/// Defines an enum with `ALL`, `as_str`, `Display`, `FromStr` and serde by these texts.
macro_rules! text_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text in the API, the stores, the logs and the metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownText;

            fn from_str(text: &str) -> Result<Self, $crate::UnknownText> {
                let unknown = || $crate::UnknownText {
                    text: text.to_owned(),
                    what: $what,
                    allowed: [$($text,)+].join(", "),
                };
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(unknown)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use text_enum;

#[cfg(test)]
mod tests {
    use crate::{FailureCode, Method, Receiver, Status, TorrentFormat, TorrentState};

    #[test]
    fn texts_read_back_and_are_distinct() {
        fn check<T>(all: &[T], text: impl Fn(T) -> &'static str)
        where
            T: Copy + PartialEq + std::fmt::Debug + std::str::FromStr<Err = crate::UnknownText>,
        {
            for value in all {
                assert_eq!(text(*value).parse(), Ok(*value));
            }
        }
        check(Status::ALL, Status::as_str);
        check(FailureCode::ALL, FailureCode::as_str);
        check(Method::ALL, Method::as_str);
        check(Receiver::ALL, Receiver::as_str);
        check(TorrentFormat::ALL, TorrentFormat::as_str);
        check(TorrentState::ALL, TorrentState::as_str);
    }

    #[test]
    fn an_unknown_text_is_named_with_what_is_allowed() {
        let error = "v2".parse::<TorrentFormat>().unwrap_err();
        assert_eq!(error.to_string(), "'v2' is not a torrent format: use one of v1, hybrid");
        assert!(serde_json::from_str::<Status>("\"error\"").is_err());
        assert_eq!(serde_json::to_string(&Status::Ready).unwrap(), "\"ready\"");
    }
}
