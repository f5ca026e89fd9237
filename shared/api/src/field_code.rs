//! The codes of validation errors.

use serde::Serialize;
use utoipa::ToSchema;

/// The code of the error of a field or parameter, for programs; stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FieldCode {
    CredentialsNotAllowed,
    DuplicateHeader,
    HeaderNotAllowed,
    Invalid,
    InvalidFormat,
    InvalidHash,
    InvalidHeader,
    InvalidMethod,
    InvalidUrl,
    NotAllowed,
    NotAvailable,
    NotUtf8,
    OutOfRange,
    Repeated,
    Required,
    TooLong,
    TooMany,
    UnknownField,
    UnsupportedScheme,
    WrongType,
}
