//! The OpenAPI document, generated from the handlers.

use std::sync::Arc;

use domain::Method;
use http::HeaderName;
use utoipa::PartialSchema;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    HeaderBuilder, InfoBuilder, LicenseBuilder, Object, ObjectBuilder, OneOfBuilder, OpenApi, OpenApiBuilder, Ref,
    RefOr, Response, Schema, SecurityRequirement, Server, Type,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::field_code::FieldCode;
use crate::problem::{FieldError, ProblemBody};
use crate::problem_code::ProblemCode;
use crate::requests::{self, MAX_HEADERS};
use crate::service;
use crate::state::{Api, prefix, public_path};
use crate::webhook::{self, Webhook, WebhookData};

/// The enums of responses to which a later version of the same API may add values.
const OPEN_ENUMS: &[&str] = &["FailureCode", "FieldCode", "ProblemCode", "WaitingReason"];

/// Returns the endpoints that are described, without the prefix of the API.
pub(crate) fn endpoints() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(requests::list::list, requests::create::create))
        .routes(routes!(requests::batch::batch))
        .routes(routes!(requests::get::get, requests::cancel::cancel, requests::update::update))
        .routes(routes!(requests::torrent::torrent))
        .routes(routes!(requests::magnet::magnet))
        .routes(routes!(requests::content::content))
        .routes(routes!(requests::content_link::content_link))
        .routes(routes!(requests::events::events))
        .routes(routes!(requests::events::events_of_several))
        .routes(routes!(service::passkeys::revoke))
        .routes(routes!(service::health::health))
}

/// Returns the OpenAPI document of the API.
pub(crate) fn describe(api: &Api) -> OpenApi {
    let mut document = description(&api.server.app_name, &api.server.app_version);
    let endpoints = endpoints().into_openapi();
    if prefix(api).is_empty() {
        document.merge(endpoints);
    } else {
        document = document.nest(prefix(api), endpoints);
    }
    if !public_path(api).is_empty() {
        document.servers = Some(vec![Server::new(public_path(api))]);
    }
    complete(&mut document, api.cache.max_ttl.get(), api.webhooks);
    if let Some(header) = api.authenticator.token_header() {
        name_token_header(&mut document, header);
    }
    document
}

/// Returns the document without endpoints: title, version and security schemes.
fn description(title: &str, version: &str) -> OpenApi {
    let info = InfoBuilder::new().title(title).version(version).description(Some(
        "Fetches a URL through a proxy, packages the content as a torrent, seeds it, and returns the `.torrent` file \
         and the magnet link. Errors are `application/problem+json` (RFC 9457). A method that a path does not have gets \
         405 with `Allow`.",
    ));
    let info = info
        .license(Some(LicenseBuilder::new().name("MIT or Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build()));
    let mut document = OpenApiBuilder::new().info(info.build()).build();
    let components = document.components.get_or_insert_with(Default::default);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A bearer token (RFC 6750)."));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    for (name, header, what) in [
        (
            "signature",
            "X-Signature",
            "The hexadecimal HMAC-SHA256 over `METHOD\\npath?query\\ntimestamp\\nnonce\\nhex(sha256(body))`.",
        ),
        ("timestamp", "X-Timestamp", "The current time in Unix seconds; part of the signed message."),
        ("nonce", "X-Nonce", "8 to 128 characters that are used once; part of the signed message."),
        ("key_id", "X-Key-Id", "The id of the signing key, if it has one."),
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

/// Adds the schemas that no endpoint names, and the limits that come from the settings.
fn complete(document: &mut OpenApi, max_ttl: u64, webhooks: bool) {
    let schemas = &mut document.components.get_or_insert_with(Default::default).schemas;
    schemas.insert("Problem".into(), ProblemBody::schema());
    schemas.insert("FieldError".into(), FieldError::schema());
    schemas.insert("ProblemCode".into(), ProblemCode::schema());
    schemas.insert("FieldCode".into(), FieldCode::schema());
    for name in OPEN_ENUMS {
        let closed = schemas.remove(*name).unwrap_or_else(|| panic!("there is no schema {name}"));
        schemas.insert((*name).into(), open(name, closed));
    }
    if let Some(RefOr::T(Schema::Object(mut create))) = schemas.remove("CreateRequest") {
        if let Some(RefOr::T(Schema::Object(ttl))) = create.properties.get_mut("ttl") {
            ttl.maximum = usize::try_from(max_ttl).ok().map(utoipa::Number::UInt);
        }
        if let Some(RefOr::T(Schema::Object(headers))) = create.properties.get_mut("headers") {
            headers.max_properties = Some(MAX_HEADERS);
        }
        if !webhooks {
            create.properties.remove("callback_url");
        }
        // Named, because generators of clients do not handle variants without a name.
        let names = ["CreateRequestWithBody", "CreateRequestWithoutBody"];
        let mut either = OneOfBuilder::new();
        for (name, variant) in names.into_iter().zip(by_method(create)) {
            schemas.insert(name.into(), RefOr::T(variant.into()));
            either = either.item(Ref::from_schema_name(name));
        }
        schemas.insert("CreateRequest".into(), RefOr::T(either.build().into()));
    }
    if webhooks {
        for (name, schema) in [("Webhook", Webhook::schema()), ("WebhookData", WebhookData::schema())] {
            schemas.insert(name.into(), schema);
        }
        document.webhooks = Some(webhook::describe());
    }
    for (name, path) in &mut document.paths.paths {
        if name.ends_with("/torrent") || name.ends_with("/content") {
            path.head = path.get.as_ref().map(head);
        }
        let operations = [&mut path.get, &mut path.head, &mut path.post, &mut path.patch, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response {
                    add_headers(status, response);
                }
            }
        }
    }
}

/// Returns the schema of an enum that accepts other strings, too: a client that is generated from it must not fail on a
/// value that it does not know. The title is the name that generators give to the known values.
fn open(name: &str, closed: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut known)) = closed else { panic!("{name} must be an enum") };
    let description = known.description.take().unwrap_or_default();
    known.title = Some(name.to_owned());
    let any = ObjectBuilder::new().schema_type(Type::String).build();
    let either = AnyOfBuilder::new().item(known).item(any);
    RefOr::T(either.description(Some(format!("{description} Later versions may have more values."))).build().into())
}

/// Returns the description of HEAD on the path of this GET: the same headers, without a body.
fn head(get: &Operation) -> Operation {
    let mut head = get.clone();
    head.operation_id = get.operation_id.as_ref().map(|id| format!("head_{id}"));
    head.summary = get.summary.as_ref().map(|summary| format!("{summary}: the headers only"));
    for response in head.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    // Presigned links and ranges are for GET only.
    for status in ["206", "307", "416"] {
        head.responses.responses.remove(status);
    }
    head
}

/// Adds the headers that responses with this status may have on every endpoint.
fn add_headers(status: &str, response: &mut Response) {
    let mut add = |name: &str, kind: Type, what: &str| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(what)).build();
        response.headers.insert(name.into(), RefOr::T(header));
    };
    add("X-Request-Id", Type::String, "The id of this call, which the log has too");
    match status {
        "401" => add("WWW-Authenticate", Type::String, "How to authenticate (RFC 6750)"),
        "409" | "429" | "503" | "507" => {
            add("Retry-After", Type::Integer, "After how many seconds to try again, if that helps");
        }
        _ => {}
    }
}

/// Documents the custom token header in place of `Authorization`.
fn name_token_header(document: &mut OpenApi, header: &HeaderName) {
    let header = ApiKeyValue::with_description(header.as_str(), "The token, with or without `Bearer`.");
    let components = document.components.get_or_insert_with(Default::default);
    components.add_security_scheme("bearer", SecurityScheme::ApiKey(ApiKey::Header(header)));
}

/// Splits the schema of a new request by method into two: with a body, and without.
fn by_method(create: Object) -> [Object; 2] {
    // A field that is null counts as absent.
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
