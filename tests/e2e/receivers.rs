//! Notifications: webhooks, messages to people, and BitTorrent clients that are handed torrents.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use proxytorrent_tests::download_client::DownloadClient;
use proxytorrent_tests::{Origin, TestServer, content, eventually, free_port, program, read_json};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::raw::{Peer, Raw};

/// A receiver of HTTP calls. `status` returns the status of the response from the number of earlier calls. It notes the
/// head and the body of each call.
async fn receiver(status: fn(usize) -> u16) -> Raw {
    Raw::start(move |mut peer: Peer| async move {
        let head = peer.request().await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let body = peer.read(length.parse().expect("a number")).await;
        peer.note(String::from_utf8(body).expect("text"));
        let status = status(peer.earlier);
        peer.send(format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")).await;
    })
    .await
}

/// Waits until a receiver has had this number of calls. Returns the head and the body of each.
async fn calls(receiver: &Raw, number: usize) -> Vec<(String, Value)> {
    let seen =
        eventually("the receiver is called", async || Some(receiver.seen()).filter(|seen| seen.len() == number * 2));
    let seen = seen.await;
    seen.chunks(2).map(|call| (call[0].clone(), serde_json::from_str(&call[1]).expect("JSON"))).collect()
}

#[tokio::test]
async fn a_webhook_is_signed_and_retried() {
    let receiver = receiver(|earlier| if earlier == 0 { 500 } else { 204 }).await;
    let origin = Origin::start().await;
    let secret = [7; 32];
    let setting = format!("whsec_{}", STANDARD.encode(secret));
    let server = TestServer::with(&[("SECURITY__WEBHOOK_SECRET", &setting)]).await;
    let body = json!({ "url": origin.file(10, 1, "a"), "callback_url": receiver.url("/hook") });
    let id = server.create(body).await;
    let row = server.ready(&id).await;
    let seen =
        eventually("the webhook is sent twice", async || (receiver.seen().len() == 4).then(|| receiver.seen())).await;
    let header = |head: &str, name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).expect("the header").1.to_owned()
    };
    let described = server.json(Method::GET, "/openapi.json", None).await;
    let parameters = described["webhooks"]["request_ended"]["post"]["parameters"].as_array().unwrap();
    let schemas = &described["components"]["schemas"];
    for (head, body) in [(&seen[0], &seen[1]), (&seen[2], &seen[3])] {
        assert!(head.starts_with("POST /hook "), "{head}");
        let (message, time) = (header(head, "webhook-id"), header(head, "webhook-timestamp"));
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(format!("{message}.{time}.{body}").as_bytes());
        assert_eq!(header(head, "webhook-signature"), format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
        let told: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&told["type"], &told["data"]["id"]), (&json!("request.ready"), &json!(id)));
        assert_eq!(told["data"]["infohash"], row["infohash"]);
        // As the OpenAPI document describes it.
        for parameter in parameters {
            header(head, parameter["name"].as_str().unwrap());
        }
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&told), names(&schemas["Webhook"]["properties"]));
        assert_eq!(names(&told["data"]), names(&schemas["WebhookData"]["properties"]));
    }
    assert_eq!(header(&seen[0], "webhook-id"), header(&seen[2], "webhook-id"), "a retry has the same webhook-id");

    let failing = json!({ "url": origin.url("/status/404"), "callback_url": receiver.url("/hook") });
    let id = server.create(failing).await;
    server.failed(&id).await;
    let seen = eventually("the webhook of the failure is sent", async || {
        (receiver.seen().len() == 6).then(|| receiver.seen())
    })
    .await;
    let told: Value = serde_json::from_str(&seen[5]).expect("JSON");
    assert_eq!((&told["type"], &told["data"]["error_code"]), (&json!("request.failed"), &json!("origin_status")));
}

#[tokio::test]
async fn webhooks_need_a_secret_and_obey_the_address_rules() {
    let origin = Origin::start().await;
    let body = |url: &str| Some(json!({ "url": origin.file(10, 1, "a"), "callback_url": url }));
    let server = TestServer::start().await;
    let off = server.call(Method::POST, "/v1/requests", body("http://127.0.0.1:9999/")).await;
    assert_eq!((off.status().as_u16(), &read_json(off).await["errors"][0]["code"]), (422, &json!("not_available")));

    let server = TestServer::with(&[("SECURITY__WEBHOOK_SECRET", "a secret")]).await;
    for (url, code) in [("ftp://h/", "unsupported_scheme"), ("http://u:p@h/", "credentials_not_allowed")] {
        let wrong = read_json(server.call(Method::POST, "/v1/requests", body(url)).await).await;
        assert_eq!(wrong["errors"][0]["code"], code, "{url}");
    }
    // Blocked callback URLs: the server itself, and an address that is not allowed. The request still becomes ready.
    for url in [format!("{}/v1/requests", server.url), "http://127.0.0.2:9999/".to_owned()] {
        let created = server.call(Method::POST, "/v1/requests", body(&url)).await;
        let id = read_json(created).await["id"].as_str().unwrap().to_owned();
        server.ready(&id).await;
    }
    let listed = read_json(server.call(Method::GET, "/v1/requests", None).await).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "the server did not call itself");
}

/// Each service gets the body that its documentation describes. None of them can run here.
#[tokio::test]
async fn each_notification_service_gets_its_kind_of_message() {
    let origin = Origin::start().await;
    let text = "@everyone.bin (1.5 kB)";
    let expected: [(&str, &str, &str, Value); 4] = [
        (
            "ntfy",
            "/base/topic",
            "/base",
            json!({ "topic": "topic", "title": "Torrent ready", "message": text, "tags": ["white_check_mark"],
                    "click": "PUBLIC_URL" }),
        ),
        (
            "gotify",
            "/?token=secret",
            "/message?token=secret",
            json!({ "title": "Torrent ready", "message": text,
                    "extras": { "client::notification": { "click": { "url": "PUBLIC_URL" } } } }),
        ),
        (
            "discord",
            "/api/webhooks/1/secret",
            "/api/webhooks/1/secret",
            json!({ "content": format!("**Torrent ready**\n{text}"), "allowed_mentions": { "parse": [] } }),
        ),
        (
            "apprise",
            "/notify/key",
            "/notify/key",
            json!({ "title": "Torrent ready", "body": text, "type": "success", "format": "text" }),
        ),
    ];
    for (service, path, called, expected) in expected {
        let receiver = receiver(|_| 200).await;
        let url = receiver.url(path).replace("http://", "http://:tk_secret@");
        let settings = [("NOTIFY__SERVICE", service), ("NOTIFY__URL", &url), ("NOTIFY__DIRECT", "true")];
        let server = TestServer::with(&settings).await;
        server.fetch(&origin.file(1500, 1, "@everyone.bin")).await;
        let (head, body) = calls(&receiver, 1).await.remove(0);
        assert!(head.starts_with(&format!("POST {called} HTTP/1.1\r\n")), "{service}: {head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{service}: {head}");
        // The user name is empty, as ntfy wants it for access tokens.
        let credentials = format!("\r\nauthorization: Basic {}\r\n", STANDARD.encode(":tk_secret"));
        assert!(head.contains(&credentials), "{service}: {head}");
        let body = body.to_string().replace(&format!("{}/", server.url), "PUBLIC_URL");
        assert_eq!(body, expected.to_string(), "{service}");
    }
}

#[tokio::test]
async fn a_template_decides_what_a_message_says() {
    let (receiver, origin) = (receiver(|_| 200).await, Origin::start().await);
    let template = "{{ status }} {{ file_name }}{{ error_code }} {{ url }}";
    let settings = [
        ("NOTIFY__SERVICE", "apprise"),
        ("NOTIFY__URL", &receiver.url("/notify/key")),
        ("NOTIFY__DIRECT", "true"),
        ("NOTIFY__TEMPLATE", template),
    ];
    let server = TestServer::with(&settings).await;
    let url = origin.file(10, 1, "a.bin");
    server.fetch(&url).await;
    assert_eq!(calls(&receiver, 1).await[0].1["body"], format!("ready a.bin {url}"));
    let url = origin.url("/status/404");
    server.failed(&server.create(json!({ "url": url })).await).await;
    let body = &calls(&receiver, 2).await[1].1;
    assert_eq!((&body["body"], &body["type"]), (&json!(format!("failed origin_status {url}")), &json!("failure")));
}

/// The receiver is at an address that is not public.
#[tokio::test]
async fn a_message_obeys_the_address_rules_unless_it_is_sent_directly() {
    let (service, hook, origin) = (receiver(|_| 200).await, receiver(|_| 200).await, Origin::start().await);
    let settings = [
        ("NOTIFY__SERVICE", "ntfy"),
        ("NOTIFY__URL", &service.url("/topic").replace("127.0.0.1", "localhost")),
        ("FETCHER__BLOCKED_HOSTS", "localhost"),
        ("SECURITY__WEBHOOK_SECRET", "a secret"),
    ];
    let server = TestServer::with(&settings).await;
    let body = json!({ "url": origin.file(10, 1, "a"), "callback_url": hook.url("/") });
    server.ready(&server.create(body).await).await;
    calls(&hook, 1).await;
    // The first try of all receivers has ended when the second one is under way, 5 s later.
    assert_eq!(service.connections(), 0);
}

/// A receiver that fails is tried again; those that were reached are not.
#[tokio::test]
async fn each_receiver_is_notified_once() {
    let (failing, service, origin) = (
        receiver(|earlier| if earlier == 0 { 503 } else { 200 }).await,
        receiver(|_| 200).await,
        Origin::start().await,
    );
    let settings = [
        ("NOTIFY__SERVICE", "discord"),
        ("NOTIFY__URL", &service.url("/")),
        ("NOTIFY__DIRECT", "true"),
        ("SECURITY__WEBHOOK_SECRET", "a secret"),
    ];
    let server = TestServer::with(&settings).await;
    let body = json!({ "url": origin.file(10, 1, "a"), "callback_url": failing.url("/") });
    server.ready(&server.create(body).await).await;
    calls(&failing, 2).await;
    calls(&service, 1).await;
}

#[tokio::test]
async fn qbittorrent_receives_a_ready_torrent_and_downloads_it() {
    let origin = Origin::start().await;
    let port = free_port();
    let url = format!("http://admin:adminadmin@127.0.0.1:{port}");
    let settings = [("DOWNLOAD_CLIENT__PROGRAM", "qbittorrent"), ("DOWNLOAD_CLIENT__URL", &url)];
    let server = TestServer::with(&settings).await;
    // It is not running yet: the server tries again.
    server.fetch(&origin.file(100_000, 1, "first.bin")).await;
    let client = DownloadClient::qbittorrent(port);
    let downloaded = async |name: &str| {
        let complete = eventually("qBittorrent downloads it", async || client.downloaded(name, 100_000));
        complete.await
    };
    assert_eq!(downloaded("first.bin").await, content(100_000, 1));
    // In the same session. The torrent of a second request for the same content is there already.
    for name in ["second.bin", "second.bin"] {
        server.fetch(&format!("{}?{}", origin.file(100_000, 2, name), rand::random::<u32>())).await;
        assert_eq!(downloaded(name).await, content(100_000, 2));
    }
    let delivered = eventually("all are delivered", async || {
        let metrics = server.call(Method::GET, "/metrics", None).await.text().await.unwrap();
        let line = "proxytorrent_notifications_total{receiver=\"client\",result=\"delivered\"} 3";
        metrics.lines().any(|found| found == line).then_some(())
    });
    delivered.await;
}

#[tokio::test]
async fn a_wrong_password_of_qbittorrent_is_logged_without_it() {
    let origin = Origin::start().await;
    let port = free_port();
    let client = DownloadClient::qbittorrent(port);
    let url = client.url().replace("adminadmin", "wrong-password");
    let settings = [("DOWNLOAD_CLIENT__PROGRAM", "qbittorrent"), ("DOWNLOAD_CLIENT__URL", &url)];
    let wrapper = ["sh", "-c", "exec \"$0\" \"$@\" 2> log.txt"].map(str::to_owned);
    let server = TestServer::inside(&wrapper, &settings).await;
    server.fetch(&origin.file(10, 1, "a")).await;
    let log = || fs::read_to_string(server.folder().join("log.txt")).unwrap();
    let refused = eventually("the refusal is logged", async || {
        log().lines().find(|line| line.contains("refused the user name or password")).map(str::to_owned)
    });
    assert!(refused.await.contains("notification failed"));
    assert!(!log().contains("wrong-password"));
}

/// Transmission 3.00 takes no peers at loopback addresses, so it does not download here.
#[tokio::test]
async fn transmission_receives_a_ready_torrent() {
    let (client, origin) = (DownloadClient::transmission(), Origin::start().await);
    let url = client.url();
    let settings = [("DOWNLOAD_CLIENT__PROGRAM", "transmission"), ("DOWNLOAD_CLIENT__URL", &url)];
    let server = TestServer::with(&settings).await;
    let row = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let torrents = eventually("Transmission has it", async || {
        client.transmission_torrents().await.filter(|torrents| !torrents.is_empty())
    });
    let torrents = torrents.await;
    assert_eq!(torrents[0].0, row["infohash"]);
    assert!(torrents[0].1.starts_with(&format!("{}/announce?passkey=", server.url)), "{torrents:?}");
}

/// rqbit has no encryption.
#[tokio::test]
async fn rqbit_receives_a_ready_torrent_and_downloads_it() {
    let (client, origin) = (DownloadClient::rqbit(), Origin::start().await);
    let url = client.url();
    let settings = [
        ("DOWNLOAD_CLIENT__PROGRAM", "rqbit"),
        ("DOWNLOAD_CLIENT__URL", url.as_str()),
        ("TORRENT__ENCRYPTION", "preferred"),
    ];
    let server = TestServer::with(&settings).await;
    server.fetch(&origin.file(100_000, 1, "a.bin")).await;
    let complete = eventually("rqbit downloads it", async || {
        client.downloaded("a.bin", 100_000).filter(|bytes| *bytes == content(100_000, 1))
    });
    complete.await;
}

#[tokio::test]
async fn a_watched_folder_receives_ready_torrents_only() {
    let (client, origin) = (DownloadClient::transmission(), Origin::start().await);
    let folder = client.watched();
    let server = TestServer::with(&[("DOWNLOAD_CLIENT__FOLDER", folder.to_str().unwrap())]).await;
    server.failed(&server.create(json!({ "url": origin.url("/status/404") })).await).await;
    let row = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let torrents = eventually("Transmission has it", async || {
        client.transmission_torrents().await.filter(|torrents| !torrents.is_empty())
    });
    let torrents = torrents.await;
    assert_eq!(torrents.len(), 1, "{torrents:?}");
    assert_eq!(torrents[0].0, row["infohash"]);
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let infohash = row["infohash"].as_str().unwrap();
    // Transmission renames what it has added.
    assert_eq!(names.collect::<Vec<_>>(), [format!("{infohash}.torrent.added")]);
}

#[tokio::test]
async fn mistakes_in_the_settings_of_receivers_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let ntfy = [("NOTIFY__SERVICE", "ntfy"), ("NOTIFY__URL", "https://user:secret@ntfy.example/topic")];
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("NOTIFY__SERVICE", "ntfy")], "NOTIFY__URL: must be set with NOTIFY__SERVICE"),
        (&ntfy[1..], "NOTIFY__SERVICE: must be set with NOTIFY__URL"),
        (&[ntfy[0], ("NOTIFY__URL", "https://ntfy.example")], "NOTIFY__URL: has no topic"),
        (&[ntfy[0], ntfy[1], ("NOTIFY__TEMPLATE", "{{ name }}")], "NOTIFY__TEMPLATE: undefined value"),
        (&[ntfy[0], ntfy[1], ("NOTIFY__TEMPLATE", "{% if %}")], "NOTIFY__TEMPLATE: syntax error"),
        (&[("NOTIFY__SERVICE", "slack"), ntfy[1]], "ntfy or gotify or discord or apprise"),
        (&[("DOWNLOAD_CLIENT__PROGRAM", "rqbit")], "DOWNLOAD_CLIENT__URL: must be set with DOWNLOAD_CLIENT__PROGRAM"),
        (&[("DOWNLOAD_CLIENT__FOLDER", file.to_str().unwrap())], "DOWNLOAD_CLIENT__FOLDER: files cannot be written"),
    ];
    for (settings, expected) in cases {
        let mut command = std::process::Command::new(program());
        command.arg("serve").env_clear().env("PROFILE", "development").env("PORT", "0").current_dir(folder.path());
        command.env("SEEDER__LISTEN", "127.0.0.1:0").envs(settings.iter().copied());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(expected), "{settings:?}: {stderr}");
        assert!(!stderr.contains("secret"), "{stderr}");
    }
}
