//! `GET /openapi.json`: the OpenAPI document, generated from the code. `GET /docs`: Swagger UI, served from this
//! binary.

use std::sync::{Arc, LazyLock};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use utoipa_swagger_ui::Config;

use crate::openapi;
use crate::problem::Problem;
use crate::problem_code::ProblemCode;
use crate::state::Api;

/// The content security policy of Swagger UI, which needs inline styles.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:";

/// `GET /openapi.json`.
pub(crate) async fn openapi(State(api): State<Arc<Api>>) -> Response {
    let json = openapi::describe(&api).to_json().unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

/// `GET /docs`: redirects to `docs/index.html`. Relative links in the page need the slash, and the route
/// `/docs/{file+}` of API Gateway needs a file name. The redirect is relative (RFC 9110, 10.2.2), so that it works
/// below any path.
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
        _ => Problem::new(ProblemCode::NotFound, "there is nothing at this path").into_response(),
    }
}
