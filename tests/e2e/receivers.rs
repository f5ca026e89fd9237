//! Notifications: webhooks, messages to people, and BitTorrent clients that are handed torrents.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use proxytorrent_tests::download_client::DownloadClient;
use proxytorrent_tests::{Origin, PATIENCE, TestServer, content, eventually, program, read_json};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::timeout;

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
    let text = "@everyone_1.bin (1.5 kB)";
    let ntfy = json!({ "topic": "topic", "title": "Torrent ready", "message": text, "tags": ["white_check_mark"] });
    let gotify = json!({ "title": "Torrent ready", "message": text, "priority": 5 });
    // Neither mentions nor Markdown in the name have an effect.
    let content = r"**Torrent ready**\n@everyone\_1.bin (1.5 kB)".replace(r"\n", "\n");
    let discord = json!({ "content": content, "allowed_mentions": { "parse": [] } });
    let apprise = json!({ "title": "Torrent ready", "body": text, "type": "success", "format": "text" });
    let expected = [
        ("ntfy", "/base/topic", "/base", ntfy),
        ("gotify", "/?token=secret", "/message?token=secret", gotify),
        ("discord", "/api/webhooks/1/secret", "/api/webhooks/1/secret", discord),
        ("apprise", "/notify/key", "/notify/key", apprise),
    ];
    for (service, path, called, expected) in expected {
        let receiver = receiver(|_| 200).await;
        let url = receiver.url(path).replace("http://", "http://:tk_secret@");
        let settings = [("NOTIFY__SERVICE", service), ("NOTIFY__URL", &url), ("NOTIFY__DIRECT", "true")];
        let server = TestServer::with(&settings).await;
        server.fetch(&origin.file(1500, 1, "@everyone_1.bin")).await;
        let (head, body) = calls(&receiver, 1).await.remove(0);
        assert!(head.starts_with(&format!("POST {called} HTTP/1.1\r\n")), "{service}: {head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{service}: {head}");
        // The user name is empty, as ntfy wants it for access tokens.
        let credentials = format!("\r\nauthorization: Basic {}\r\n", STANDARD.encode(":tk_secret"));
        assert!(head.contains(&credentials), "{service}: {head}");
        assert_eq!(body, expected, "{service}");
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

/// Waits until the tries to notify a receiver with this result are so many.
async fn tries(server: &TestServer, receiver: &str, result: &str, number: usize) {
    let expected = format!("proxytorrent_notifications_total{{receiver=\"{receiver}\",result=\"{result}\"}} {number}");
    let found = eventually("the notifications are counted", async || {
        let metrics = server.call(Method::GET, "/metrics", None).await.text().await.unwrap();
        metrics.lines().any(|line| line == expected).then_some(())
    });
    found.await;
}

#[tokio::test]
async fn a_message_goes_through_the_proxy_unless_it_is_sent_directly() {
    // It answers in place of the origin and of the service.
    let proxy = Raw::start(async |mut peer: Peer| {
        peer.request().await;
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2";
        peer.send(format!("{head}\r\n\r\nok")).await;
    })
    .await;
    let port = proxy.url("").rsplit(':').next().unwrap().to_owned();
    let settings = [
        ("PROXY__PROXY_ENABLED", "true"),
        ("PROXY__PROXY_TYPE", "http"),
        ("PROXY__PROXY_HOST", "127.0.0.1"),
        ("PROXY__PROXY_PORT", &port),
        ("NOTIFY__SERVICE", "ntfy"),
        ("NOTIFY__URL", "http://ntfy.example/topic"),
    ];
    let mut server = TestServer::with(&settings).await;
    server.fetch("http://origin.example/a").await;
    tries(&server, "service", "delivered", 1).await;
    assert!(proxy.seen().iter().any(|head| head.starts_with("POST http://ntfy.example/ ")), "{:?}", proxy.seen());

    let service = receiver(|_| 200).await;
    server.terminate().await;
    let server = server.restart_with(&[("NOTIFY__DIRECT", "true"), ("NOTIFY__URL", &service.url("/topic"))]).await;
    server.fetch("http://origin.example/b").await;
    tries(&server, "service", "delivered", 1).await;
    assert_eq!(service.connections(), 1);
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
    tries(&server, "webhook", "failed", 1).await;
    tries(&server, "webhook", "delivered", 1).await;
    assert_eq!((failing.connections(), service.connections()), (2, 1));
}

#[tokio::test]
async fn an_apprise_that_does_not_know_the_key_is_not_reached() {
    let (apprise, origin) = (receiver(|_| 204).await, Origin::start().await);
    let settings =
        [("NOTIFY__SERVICE", "apprise"), ("NOTIFY__URL", &apprise.url("/notify/k")), ("NOTIFY__DIRECT", "true")];
    let server = TestServer::with(&settings).await;
    server.fetch(&origin.file(10, 1, "a")).await;
    tries(&server, "service", "failed", 1).await;
}

#[tokio::test]
async fn qbittorrent_receives_ready_torrents_and_downloads_them() {
    let (client, origin) = (DownloadClient::qbittorrent().await, Origin::start().await);
    let url = client.url();
    let server = TestServer::with(&[("DOWNLOAD_CLIENT__PROGRAM", "qbittorrent"), ("DOWNLOAD_CLIENT__URL", &url)]).await;
    for (delivered, format) in [(1, "v1"), (3, "hybrid")] {
        // It has the torrent of the second request already.
        for tries_so_far in 0..2 {
            let url = origin.file(100_000, delivered, format);
            server.ready(&server.create(json!({ "url": url, "format": format })).await).await;
            let delivered = usize::try_from(delivered).unwrap() + tries_so_far;
            tries(&server, "client", "delivered", delivered).await;
        }
        client.has_downloaded(format, &content(100_000, delivered)).await;
    }
}

#[tokio::test]
async fn a_wrong_password_of_qbittorrent_is_logged_without_it() {
    let (client, origin) = (DownloadClient::qbittorrent().await, Origin::start().await);
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
async fn rqbit_receives_ready_torrents_and_downloads_them() {
    let (client, origin) = (DownloadClient::rqbit(), Origin::start().await);
    let url = client.url();
    let settings = [
        ("DOWNLOAD_CLIENT__PROGRAM", "rqbit"),
        ("DOWNLOAD_CLIENT__URL", url.as_str()),
        ("TORRENT__ENCRYPTION", "preferred"),
    ];
    let server = TestServer::with(&settings).await;
    // Two contents of one name, and the first once more.
    for (number, seed) in [(1, 1), (2, 2), (3, 1)] {
        let row = server.fetch(&origin.file(100_000, seed, "a.bin")).await;
        tries(&server, "client", "delivered", number).await;
        let path = format!("{}/a.bin", row["infohash"].as_str().unwrap());
        client.has_downloaded(&path, &content(100_000, seed)).await;
    }
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
    let infohash = row["infohash"].as_str().unwrap();
    let renamed = eventually("Transmission renames what it has added", async || {
        let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        (names.collect::<Vec<_>>() == [format!("{infohash}.torrent.added")]).then_some(())
    });
    renamed.await;
}

#[tokio::test]
async fn mistakes_in_the_settings_of_receivers_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let ntfy = [("NOTIFY__SERVICE", "ntfy"), ("NOTIFY__URL", "https://user:secret@ntfy.example/topic")];
    let for_ready = ("NOTIFY__TEMPLATE", "{% if not error_code %}{{ name }}{% endif %}");
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("NOTIFY__SERVICE", "ntfy")], "NOTIFY__URL: must be set with NOTIFY__SERVICE"),
        (&ntfy[1..], "NOTIFY__SERVICE: must be set with NOTIFY__URL"),
        (&[ntfy[0], ("NOTIFY__URL", "https://ntfy.example")], "NOTIFY__URL: has no topic"),
        (&[ntfy[0], ntfy[1], ("NOTIFY__TEMPLATE", "{{ name }}")], "NOTIFY__TEMPLATE: undefined value"),
        (&[ntfy[0], ntfy[1], for_ready], "NOTIFY__TEMPLATE: undefined value"),
        (
            &[ntfy[0], ("NOTIFY__URL", "http://192.168.1.5/topic")],
            "a service on your own network must be connected to directly (NOTIFY__DIRECT)",
        ),
        (&[ntfy[0], ntfy[1], ("NOTIFY__TEMPLATE", "{% if %}")], "NOTIFY__TEMPLATE: syntax error"),
        (&[("NOTIFY__SERVICE", "slack"), ntfy[1]], "ntfy or gotify or discord or apprise"),
        (&[("DOWNLOAD_CLIENT__PROGRAM", "rqbit")], "DOWNLOAD_CLIENT__URL: must be set with DOWNLOAD_CLIENT__PROGRAM"),
        (&[("DOWNLOAD_CLIENT__FOLDER", file.to_str().unwrap())], "DOWNLOAD_CLIENT__FOLDER: files cannot be written"),
    ];
    for (settings, expected) in cases {
        let mut command = tokio::process::Command::new(program());
        command.arg("serve").env_clear().env("PROFILE", "development").env("PORT", "0").current_dir(folder.path());
        command.env("SEEDER__LISTEN", "127.0.0.1:0").envs(settings.iter().copied());
        let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await.expect("it ends").unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(expected), "{settings:?}: {stderr}");
        assert!(!stderr.contains("secret"), "{stderr}");
    }
}
