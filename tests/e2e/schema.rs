//! Conformance of the API to its OpenAPI document, checked by schemathesis.

use std::path::{Path, PathBuf};

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::{Origin, TestServer, content, python, root, run, sha256, tool};
use reqwest::Method;

use crate::proxies::Proxy;

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

#[tokio::test]
async fn a_client_generated_by_openapi_python_client_does_the_main_job_and_accepts_new_codes() {
    let (server, origin, document, folder) = described().await;
    let generated = folder.join("generated");
    let generated = generated.to_str().unwrap();
    let generator = python().with_file_name("openapi-python-client");
    let arguments = ["generate", "--meta", "none", "--path", &document, "--output-path"];
    let package = format!("{generated}/proxy_torrent_client");
    std::fs::create_dir(generated).unwrap();
    run(generator.to_str().unwrap(), &[&arguments[..], &[&package]].concat(), &folder).await;
    let tool = tool("generated_client.py");
    does_the_main_job(&server, &origin, &folder, python().to_str().unwrap(), &[tool.to_str().unwrap(), generated])
        .await;
}

#[tokio::test]
async fn a_client_generated_by_openapi_typescript_does_the_main_job_and_accepts_new_codes() {
    let (server, origin, document, folder) = described().await;
    let node = root().join(".tools/node/node_modules");
    std::os::unix::fs::symlink(&node, folder.join("node_modules")).unwrap();
    std::fs::write(folder.join("package.json"), r#"{ "type": "module" }"#).unwrap();
    std::fs::copy(tool("generated_client.ts"), folder.join("client.ts")).unwrap();
    let bin = |name: &str| node.join(".bin").join(name).to_string_lossy().into_owned();
    run(&bin("openapi-typescript"), &[&document, "-o", "api.d.ts"], &folder).await;
    let arguments = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "--types", "node"];
    run(&bin("tsc"), &[&arguments[..], &["client.ts"]].concat(), &folder).await;
    does_the_main_job(&server, &origin, &folder, "node", &["client.js"]).await;
}

/// The codes that the clients receive, and that the document of an earlier version does not have.
const NEW_CODES: [(&str, &[&str]); 2] =
    [("FailureCode", &["blocked_address", "origin_status"]), ("ProblemCode", &["validation_failed"])];

/// Returns a server, an origin, the path of the OpenAPI document of an earlier version of the server, and the folder
/// that has it.
async fn described() -> (TestServer, Origin, String, PathBuf) {
    let settings = [("SECURITY__AUTH_ENABLED", "true"), ("SECURITY__BEARER_TOKENS", "tester:a-token")];
    let (server, origin) = (TestServer::with(&settings).await, Origin::start().await);
    let folder = server.scratch("client");
    let document = folder.join("openapi.json");
    let mut description = server.json(Method::GET, "/openapi.json", None).await;
    for (name, new) in NEW_CODES {
        let known = description["components"]["schemas"][name]["anyOf"][0]["enum"].as_array_mut().unwrap();
        let all = known.len();
        known.retain(|code| !new.contains(&code.as_str().unwrap()));
        assert_eq!(known.len(), all - new.len());
    }
    std::fs::write(&document, description.to_string()).unwrap();
    (server, origin, document.to_string_lossy().into_owned(), folder)
}

/// Runs a program with a generated client, and downloads what it hands out.
async fn does_the_main_job(server: &TestServer, origin: &Origin, folder: &Path, program: &str, words: &[&str]) {
    let (url, torrent) = (origin.file(50_000, 1, "a file.bin"), folder.join("one.torrent"));
    let torrent = torrent.to_str().unwrap();
    let arguments = [words, &[&server.url, "a-token", &url, torrent]].concat();
    let printed = run(program, &arguments, folder).await;
    let lines: Vec<_> = printed.lines().collect();
    let [magnet, "blocked_address" | "origin_status", "validation_failed"] = lines[..] else { panic!("{printed}") };
    for source in [torrent, magnet] {
        let folder = server.scratch(if source == magnet { "magnet" } else { "torrent" });
        assert_eq!(libtorrent(source, &folder).await, sha256(&content(50_000, 1)));
    }
}
