//! `GET /openapi.json` and `/docs`: the API's description, made from the code, and Swagger UI to read it
//! with, served from this binary.

use std::sync::{Arc, LazyLock};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use domain::Method;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::{HeaderName, StatusCode};
use utoipa::PartialSchema;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    InfoBuilder, Object, ObjectBuilder, OneOfBuilder, OpenApi, OpenApiBuilder, RefOr, Schema, SecurityRequirement, Type,
};
use utoipa_swagger_ui::Config;

use crate::Api;
use crate::problem::{FieldError, Problem, ProblemBody};
use crate::requests::MAX_HEADERS;

/// What the pages of Swagger UI may do: it styles itself inline.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:";

/// What stands in the description beside the endpoints.
pub(crate) fn description(title: &str, version: &str) -> OpenApi {
    let info = InfoBuilder::new().title(title).version(version).description(Some(
        "Give it a URL; it fetches the content through a proxy, packages it as a torrent, seeds it, and hands \
         you the `.torrent` and the magnet link. Errors are `application/problem+json` (RFC 9457).",
    ));
    let mut document = OpenApiBuilder::new().info(info.build()).build();
    let components = document.components.get_or_insert_with(Default::default);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token (RFC 6750)."));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    for (name, header, what) in [
        (
            "signature",
            "X-Signature",
            "The hexadecimal HMAC-SHA256 over `METHOD\\npath?query\\ntimestamp\\nnonce\\nhex(sha256(body))`.",
        ),
        ("timestamp", "X-Timestamp", "Now, in Unix seconds: part of what is signed."),
        ("nonce", "X-Nonce", "8 to 128 characters that are used once: part of what is signed."),
        ("key_id", "X-Key-Id", "The id of the key that signs, if it has one."),
    ] {
        let header = ApiKeyValue::with_description(header, what);
        components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
    let all = |names: &[&str]| {
        let none = || SecurityRequirement::default();
        names.iter().fold(none(), |all, name| all.add::<_, [&str; 0], &str>(*name, []))
    };
    let signed = ["signature", "timestamp", "nonce"];
    document.security = Some(vec![all(&["bearer"]), all(&[&signed[..], &["key_id"]].concat()), all(&signed)]);
    document
}

/// Adds what the endpoints refer to without naming it, and what the settings decide.
pub(crate) fn complete(document: &mut OpenApi, max_ttl: u64, webhooks: bool) {
    let schemas = &mut document.components.get_or_insert_with(Default::default).schemas;
    schemas.insert("Problem".into(), ProblemBody::schema());
    schemas.insert("FieldError".into(), FieldError::schema());
    if let Some(RefOr::T(Schema::Object(mut create))) = schemas.remove("CreateRequest") {
        if let Some(RefOr::T(Schema::Object(ttl))) = create.properties.get_mut("ttl") {
            ttl.maximum = Some(utoipa::Number::UInt(max_ttl as usize));
        }
        if let Some(RefOr::T(Schema::Object(headers))) = create.properties.get_mut("headers") {
            headers.max_properties = Some(MAX_HEADERS);
        }
        if !webhooks {
            create.properties.remove("callback_url");
        }
        let [with, without] = by_method(create);
        schemas.insert("CreateRequest".into(), RefOr::T(OneOfBuilder::new().item(without).item(with).build().into()));
    }
}

/// Says that the token has a header of its own.
pub(crate) fn name_token_header(document: &mut OpenApi, header: &HeaderName) {
    let header = ApiKeyValue::with_description(header.as_str(), "A token.");
    let components = document.components.get_or_insert_with(Default::default);
    components.add_security_scheme("bearer", SecurityScheme::ApiKey(ApiKey::Header(header)));
}

/// A request with a body and one without are two things, told apart by their method.
fn by_method(create: Object) -> [Object; 2] {
    // Null stands for what is not there.
    let null = || ObjectBuilder::new().schema_type(Type::Null).build();
    [true, false].map(|with_body| {
        let methods = Method::ALL.iter().copied().filter(|method| method.takes_body() == with_body).map(Method::as_str);
        let method = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(methods)).build();
        let mut object = create.clone();
        if with_body {
            object.properties.insert("method".into(), method.into());
            object.required.push("method".into());
        } else {
            let method = OneOfBuilder::new().item(method).item(null()).build();
            object.properties.insert("method".into(), RefOr::T(method.into()));
            object.properties.insert("body".into(), null().into());
        }
        object
    })
}

/// `GET /openapi.json`.
pub(crate) async fn openapi(State(api): State<Arc<Api>>) -> Response {
    let json = crate::router::describe(&api).to_json().unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

/// `GET /docs`: relative links in the page need the slash, and a route of API Gateway's what is behind it. The redirect
/// is relative (RFC 9110, 10.2.2), so that it works below any path.
pub(crate) async fn docs() -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "docs/index.html")]).into_response()
}

/// `GET /docs/`.
pub(crate) async fn index() -> Response {
    file(Ok(Path("index.html".into()))).await
}

/// `GET /docs/{file}`.
pub(crate) async fn file(path: Result<Path<String>, PathRejection>) -> Response {
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("../openapi.json").persist_authorization(false).validator_url("none")));
    let Path(file) = path.unwrap_or_else(|_| Path(String::new()));
    match utoipa_swagger_ui::serve(&file, CONFIG.clone()) {
        Ok(Some(file)) => {
            ([(CONTENT_TYPE, file.content_type), (CONTENT_SECURITY_POLICY, POLICY.into())], file.bytes.into_owned())
                .into_response()
        }
        _ => Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path").into_response(),
    }
}
