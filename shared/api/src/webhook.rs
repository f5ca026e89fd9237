//! The webhooks, as the OpenAPI document describes them. `pipeline::Notify` sends them.

use utoipa::ToSchema;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn, PathItemBuilder, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    ContentBuilder, HttpMethod, ObjectBuilder, Paths, Ref, Required, ResponseBuilder, SecurityRequirement, Type,
};

use crate::requests::FailureName;

/// A webhook (standardwebhooks.com).
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `pipeline::Notify` sends")]
pub(crate) struct Webhook {
    #[schema(inline)]
    r#type: WebhookType,
    /// When the request became ready or failed, or if that was undone, when this was sent.
    #[schema(value_type = String, format = DateTime)]
    timestamp: String,
    data: WebhookData,
}

/// What happened.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `pipeline::Notify` sends")]
pub(crate) enum WebhookType {
    #[schema(rename = "request.ready")]
    Ready,
    #[schema(rename = "request.failed")]
    Failed,
}

/// The status of the request then.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "documents what `pipeline::Notify` sends")]
pub(crate) enum WebhookStatus {
    Ready,
    Failed,
}

/// The request that a webhook is for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `pipeline::Notify` sends")]
pub(crate) struct WebhookData {
    #[schema(value_type = String, format = Uuid)]
    id: String,
    #[schema(inline)]
    status: WebhookStatus,
    url: String,
    infohash: Option<String>,
    infohash_v2: Option<String>,
    content_hash: Option<String>,
    content_size: Option<u64>,
    content_type: Option<String>,
    file_name: Option<String>,
    #[schema(value_type = Option<FailureName>)]
    error_code: Option<String>,
    error_message: Option<String>,
}

/// Returns the description of the calls that a `callback_url` receives.
pub(crate) fn describe() -> Paths {
    let header = |name: &str, what: &str| {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let header = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::True);
        header.description(Some(what)).schema(Some(text)).build()
    };
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("Webhook"))).build();
    let operation = OperationBuilder::new()
        .operation_id(Some("request_ended"))
        .summary(Some("A request is ready or has failed"))
        .description(Some(
            "Sent to the `callback_url` of the request. It is sent again until the response is 2xx or 410, for about a \
             day.",
        ))
        .tag("webhooks")
        .parameter(header("webhook-id", "The id of the message: the same for every try"))
        .parameter(header("webhook-timestamp", "The time of this try in Unix seconds"))
        .parameter(header("webhook-signature", "`v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`"))
        .request_body(Some(RequestBodyBuilder::new().content("application/json", body).build()))
        .response("2XX", ResponseBuilder::new().description("The webhook was received").build())
        .response("410", ResponseBuilder::new().description("The webhook is not wanted, and is not sent again").build())
        // The signature authenticates it.
        .security(SecurityRequirement::default());
    let post = PathItemBuilder::new().operation(HttpMethod::Post, operation.build()).build();
    PathsBuilder::new().path("request_ended", post).build()
}
