//! `GET /`: the web page for browsers, and a summary of the service as JSON for other clients. `GET /page/{file}`: the
//! files of the page, which are part of this binary.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, VARY};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::download;
use crate::problem::Problem;
use crate::problem_code::ProblemCode;
use crate::state::{Api, prefix, public_path};

/// What the page may load and do: its own files and this API only; no inline script or style, no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The file that `GET /` returns to a browser.
const INDEX: &str = include_str!("../../page/index.html");

/// Where [`INDEX`] has the settings of the page.
const SETTINGS: &str = "{{settings}}";

/// Lists files of the page with their media types.
macro_rules! files {
    ($($name:literal: $type:literal,)+) => {
        [$(($name, $type, include_bytes!(concat!("../../page/", $name)).as_slice()),)+]
    };
}

static FILES: [(&str, &str, &[u8]); 19] = files! {
    "app.js": "text/javascript; charset=utf-8",
    "client.js": "text/javascript; charset=utf-8",
    "dialogs.js": "text/javascript; charset=utf-8",
    "en.js": "text/javascript; charset=utf-8",
    "follower.js": "text/javascript; charset=utf-8",
    "form.js": "text/javascript; charset=utf-8",
    "icon-192.png": "image/png",
    "icon-512.png": "image/png",
    "icon.svg": "image/svg+xml",
    "libraries.js": "text/javascript; charset=utf-8",
    "licenses.txt": "text/plain; charset=utf-8",
    "manifest.webmanifest": "application/manifest+json",
    "problem.js": "text/javascript; charset=utf-8",
    "request.js": "text/javascript; charset=utf-8",
    "requests.js": "text/javascript; charset=utf-8",
    "ru.js": "text/javascript; charset=utf-8",
    "store.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "text.js": "text/javascript; charset=utf-8",
};

/// `GET /`.
pub(crate) async fn page(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let mut response = if accepts_html(&headers) {
        let index = INDEX.replace(SETTINGS, &escape_attribute(&settings(&api).to_string()));
        respond(&headers, "text/html; charset=utf-8", etag(index.as_bytes()), index.into())
    } else {
        Json(summary(&api)).into_response()
    };
    response.headers_mut().insert(VARY, ACCEPT.into());
    response
}

/// `GET /page/{file}`.
pub(crate) async fn file(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    let file = path.ok().and_then(|Path(wanted)| FILES.iter().find(|(name, ..)| *name == wanted));
    match file {
        Some(&(name, media_type, bytes)) => {
            static ETAGS: LazyLock<HashMap<&str, String>> =
                LazyLock::new(|| FILES.iter().map(|(name, _, bytes)| (*name, etag(bytes))).collect());
            respond(&headers, media_type, ETAGS[name].clone(), Bytes::from_static(bytes))
        }
        None => Problem::new(ProblemCode::NotFound, "there is nothing at this path").into_response(),
    }
}

/// Whether a client names HTML among what it accepts. Browsers do; `curl` and libraries accept anything (`*/*`).
fn accepts_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

/// What the page must know before its first call. Paths are relative to that of the page, since a reverse proxy may
/// serve it below any path.
fn settings(api: &Api) -> Value {
    json!({
        "api": prefix(api).trim_start_matches('/'),
        // With a reverse proxy that authenticates, the page asks for a token only after a 401.
        "authentication": api.authenticator.is_on() && !api.authenticator.has_user_header(),
        "token_header": api.authenticator.token_header().map(HeaderName::as_str),
        "events": api.events,
        "keep": api.keep,
        "format": api.torrent.format.as_str(),
        "webseed": api.links.names_webseed(),
        "version": api.server.app_version,
    })
}

/// The name and version of the service, and links to its documentation.
fn summary(api: &Api) -> Value {
    let base = public_path(api);
    json!({
        "service": api.server.app_name,
        "version": api.server.app_version,
        "docs": format!("{base}/docs"),
        "openapi": format!("{base}/openapi.json"),
        "health": format!("{base}{}/health", prefix(api)),
    })
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..16]))
}

/// Returns a file of the page, or 304 if the client has it.
fn respond(asked: &HeaderMap, media_type: &str, etag: String, bytes: Bytes) -> Response {
    let known = download::is_known(asked, &etag);
    let headers = [
        (ETAG, etag),
        // A new version of the service has other files with the same names.
        (CACHE_CONTROL, "no-cache".to_owned()),
        (CONTENT_SECURITY_POLICY, POLICY.to_owned()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(CONTENT_TYPE, media_type.to_owned())], bytes).into_response()
}

/// Escapes a text for an attribute in double quotes (WHATWG HTML, 13.1.2.3).
fn escape_attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use domain::FailureCode;

    use super::*;

    fn folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/page"))
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let served: BTreeSet<_> = FILES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
        let files = files.filter(|entry| entry.file_type().unwrap().is_file());
        let files = files.map(|entry| entry.file_name().into_string().unwrap());
        assert_eq!(files.filter(|name| name != "index.html").collect::<BTreeSet<_>>(), served);
    }

    /// Returns the keys of the texts in a language; of a section, if it is not empty.
    fn keys(language: &str, section: &str) -> BTreeSet<String> {
        let text = std::fs::read_to_string(folder().join(language)).unwrap();
        let (indent, lines) = if section.is_empty() {
            ("  ", text.as_str())
        } else {
            let (_, rest) = text.split_once(&format!("\n  {section}: {{\n")).unwrap();
            ("    ", rest.split_once("\n  },").unwrap().0)
        };
        let indented = lines.lines().filter_map(|line| line.strip_prefix(indent));
        let keys = indented.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_once(": "));
        keys.map(|(key, _)| key.to_owned()).collect()
    }

    #[test]
    fn every_language_has_the_same_texts() {
        assert_eq!(keys("en.js", ""), keys("ru.js", ""));
        assert!(keys("en.js", "").contains("title"));
    }

    #[test]
    fn every_failure_code_has_a_text_in_every_language() {
        let codes: BTreeSet<_> = FailureCode::ALL.iter().map(ToString::to_string).collect();
        for language in ["en.js", "ru.js"] {
            assert_eq!(keys(language, "failures"), codes, "{language}");
        }
    }

    #[test]
    fn the_page_is_for_clients_that_name_html() {
        let accept = |value: &str| HeaderMap::from_iter([(ACCEPT, value.parse().unwrap())]);
        assert!(accepts_html(&accept("text/html,application/xhtml+xml,*/*;q=0.8")));
        for other in ["*/*", "application/json"] {
            assert!(!accepts_html(&accept(other)), "{other}");
        }
        assert!(!accepts_html(&HeaderMap::new()));
    }
}
