//! Conformance of the API to its OpenAPI document, checked by schemathesis.

use crate::proxies::Proxy;
use proxytorrent_tests::{TestServer, python, run};

#[tokio::test]
async fn the_api_conforms_to_its_openapi_document() {
    // Schemathesis generates arbitrary URLs. The proxy refuses all of them, so that no traffic leaves this machine.
    let proxy = Proxy::dante("socks block { from: 0.0.0.0/0 to: 0.0.0.0/0 }").await;
    let urls = proxy.url("socks5", "");
    let server = TestServer::with(&[
        ("SECURITY__AUTH_ENABLED", "true"),
        ("SECURITY__BEARER_TOKENS", "tester:a-token"),
        ("SECURITY__WEBHOOK_SECRET", "a secret"),
        ("PROXY__PROXY_ENABLED", "true"),
        ("PROXY__URLS", &urls),
        ("FETCHER__MAX_RETRIES", "0"),
    ])
    .await;
    let description = format!("{}/openapi.json", server.url);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/api/schemathesis.toml");
    let arguments = [
        "--config-file",
        config,
        "run",
        &description,
        "--header=Authorization: Bearer a-token",
        "--checks=all",
        // A cancelled request can still be read; its status is `cancelled`.
        "--exclude-checks=use_after_free",
        "--max-examples=25",
        "--generation-deterministic",
        "--suppress-health-check=all",
        "--request-timeout=30",
        "--no-color",
    ];
    let program = python().with_file_name("schemathesis");
    run(program.to_str().expect("a path"), &arguments, &server.scratch("schemathesis")).await;
}
