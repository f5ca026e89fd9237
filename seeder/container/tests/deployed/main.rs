//! End-to-end tests on AWS: template.yaml deployed to an emulator, with its functions and the seeder. The functions
//! are either started as by `make run-aws`, or built by `sam build` and deployed by `sam deploy`.

mod backups;
mod stack;
mod updates;

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::clients::{aria2, libtorrent, without_trackers};
use tests::{Image, Origin, content, root, sha256};
use tokio::process::Command;

use crate::stack::{PATIENCE, Stack};

#[tokio::test]
async fn a_request_is_fetched_packaged_and_seeded_on_aws() {
    let stack = Stack::deploy(&[]).await;
    main_job(&stack).await;
    page(&stack).await;
    stack.stop().await;
}

/// The web page, which polls here, and follows a link to S3 for a content.
async fn page(stack: &Stack) {
    let (origin, browser) = (Origin::start().await, Browser::start().await);
    browser.goto(&stack.url).await.unwrap();
    browser.enter("#token", "emulated").await;
    browser.press("Continue").await;
    browser.enter("#urls", &origin.file(5000, 9, "report.bin")).await;
    browser.press("Fetch").await;
    browser.sees("report.bin is ready").await;
    browser.enter("input[type=search]", "report.bin").await;
    browser.press("Content").await;
    assert_eq!(browser.downloaded("report.bin").await.1, content(5000, 9));
    assert_eq!(browser.console().await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs the output of `sam build`: run `make test-deploy`"]
async fn a_request_is_fetched_packaged_and_seeded_after_sam_deploy() {
    // The nested stacks, too. The emulator starts no container: the seeder is the process that the test always has.
    let image = ["--parameter=SeederImage=registry.example/seeder:1", "--parameter=AlarmEmail=you@example.org"];
    let built = root().join(".aws-sam/build");
    let arguments = [&["--built", built.to_str().unwrap()], &image[..]].concat();
    let stack = Stack::deploy(&arguments).await;
    main_job(&stack).await;
    // Both are written every minute.
    stack.wait_for_metric("proxytorrent_torrents_not_seeded", &json!(0.0)).await;
    stack.wait_for_metric("proxytorrent_torrents_seeding", &json!(3.0)).await;
    stack.stop().await;
}

#[tokio::test]
#[ignore = "needs the images of scripts/build-images"]
async fn the_image_of_the_seeder_seeds_with_a_read_only_root() {
    let (image, folder) = (Image::open("proxytorrent-seeder"), tempfile::tempdir().unwrap());
    assert_eq!(image.config["Healthcheck"]["Test"], json!(["CMD", "seeder-container", "health"]));
    let script = image.script(&folder.path().join("run"), &folder.path().join("volume"));
    let script = script.to_str().unwrap();
    let stack = Stack::deploy(&["--seeder-wrapper", script]).await;
    let http = stack.seeders()[0]["http"].as_str().unwrap().to_owned();
    let check = async || {
        let mut health = Command::new(script);
        health.args(["seeder-container", "health"]).env("SEEDER__LISTEN", "127.0.0.1:0").env("SEEDER__HTTP", &http);
        health.output().await.unwrap()
    };
    let health = check().await;
    assert!(health.status.success() && health.stdout.starts_with(b"{"), "{health:?}");
    main_job(&stack).await;
    stack.stop().await;
    assert!(folder.path().join("volume").read_dir().unwrap().next().is_some(), "the disk cache is in the volume");
    let health = check().await;
    assert!(!health.status.success(), "the seeder has stopped");
    assert!(String::from_utf8_lossy(&health.stderr).contains("error sending request"), "{health:?}");
}

async fn main_job(stack: &Stack) {
    let origin = Origin::start().await;
    assert_eq!(stack.http.get(format!("{}/v1/requests", stack.url)).send().await.unwrap().status(), 401);
    assert_eq!(stack.json(Method::GET, "/v1/health", None).await["status"], "healthy");

    // A small content is uploaded from memory, a large one in parts through staging/.
    for size in [100_000, 40_000_000] {
        let expected = sha256(&content(size, 1));
        let row = stack.fetch(&origin.file(size, 1, "a file.bin")).await;
        assert_eq!((&row["content_hash"], &row["content_size"]), (&json!(expected), &json!(size)));

        let id = row["id"].as_str().unwrap();
        let file = stack.folder.path().join(format!("{size}.torrent"));
        std::fs::write(&file, stack.torrent(id).await).unwrap();
        let link = stack.magnet(id).await;
        for (source, from) in [(file.to_str().unwrap(), "torrent"), (&link, "magnet")] {
            assert_eq!(libtorrent(source, &stack.scratch(&format!("{size}-{from}"))).await, expected);
            assert_eq!(aria2(source, &stack.scratch(&format!("{size}-{from}-aria2")), "a file.bin").await, expected);
        }

        let redirect = stack.call(Method::GET, &format!("/v1/requests/{id}/content"), None).await;
        assert_eq!(redirect.status(), StatusCode::TEMPORARY_REDIRECT);
        let link = redirect.headers()["location"].to_str().unwrap();
        let bytes = stack.http.get(link).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(sha256(&bytes), expected);
    }

    // Bytes that differ from the torrent are not sent: the content is deleted and fetched again.
    let row = stack.fetch(&origin.file(100_000, 2, "damaged.bin")).await;
    let hash = row["content_hash"].as_str().unwrap();
    let mut damaged = content(100_000, 2);
    damaged[50_000] ^= 1;
    let (endpoint, bucket) = (stack.names["Endpoint"].as_str().unwrap(), stack.names["Bucket"].as_str().unwrap());
    let object = format!("{endpoint}/{bucket}/content/{}/{}/{hash}", &hash[..2], &hash[2..4]);
    assert_eq!(stack.http.put(&object).body(damaged).send().await.unwrap().status(), 200);
    let file = stack.folder.path().join("damaged.torrent");
    std::fs::write(&file, stack.torrent(row["id"].as_str().unwrap()).await).unwrap();
    assert_eq!(libtorrent(file.to_str().unwrap(), &stack.scratch("damaged")).await, sha256(&content(100_000, 2)));

    // Identical requests share a torrent. Deleting one request does not affect the other.
    let url = origin.file(100_000, 1, "a file.bin");
    let (one, two) = (stack.fetch(&url).await, stack.fetch(&url).await);
    assert_eq!(one["infohash"], two["infohash"]);
    let path = |row: &Value| format!("/v1/requests/{}", row["id"].as_str().unwrap());
    let (one, two) = (path(&one), path(&two));
    assert_eq!(stack.call(Method::DELETE, &one, None).await.status(), 204);
    assert_eq!(stack.call(Method::GET, &format!("{one}/torrent"), None).await.status(), 410);
    assert_eq!(stack.call(Method::GET, &format!("{two}/torrent"), None).await.status(), 200);

    let blocked = stack.create(json!({ "url": "http://127.0.0.1:1/blocked" })).await;
    assert_eq!(stack.failed(&blocked).await["error_code"], "blocked_port");
    let listed = stack.json(Method::GET, "/v1/requests?limit=3", None).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    assert!(listed["next_cursor"].is_string() && stack.names["Bucket"].is_string());

    // `make redrive`.
    let message = json!({ "QueueUrl": stack.names["SeedQueueDead"], "MessageBody": "{}" }).to_string();
    let request = stack.http.post(endpoint).header("x-amz-target", "AmazonSQS.SendMessage").body(message);
    assert_eq!(request.header("content-type", "application/x-amz-json-1.0").send().await.unwrap().status(), 200);
    for moved in ["1 messages moved to proxytorrent-SeedQueue-", "0 messages moved to proxytorrent-SeedQueue-"] {
        let printed = stack.run("infra/redrive.py", ["proxytorrent"]).await;
        assert!(printed.starts_with(moved), "{printed}");
    }
}

/// The others add its torrents by themselves.
#[tokio::test]
async fn a_fleet_shares_its_torrents_and_replaces_a_killed_seeder() {
    const TORRENTS: usize = 8;
    let (stack, origin) =
        (Stack::deploy(&["--seeders=3", "--setting=TORRENT__WEBSEED=true"]).await, Origin::start().await);
    let url = |number| origin.file(50_000, number, "a file.bin");
    let first = stack.fetch(&url(1)).await;
    // The magnet link names two of them (SEEDER__REPLICAS), as soon as those count as started.
    let id = first["id"].as_str().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while stack.magnet(id).await.matches("&x.pe=").count() != 2 {
        assert!(Instant::now() < deadline);
        // The interval of the polls.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(stack.json(Method::GET, &format!("/v1/requests/{id}"), None).await["swarm"]["seeders"], 2);
    let mut rows = vec![first];
    for number in 2..=TORRENTS as u64 {
        rows.push(stack.fetch(&url(number)).await);
    }
    assert_eq!(stack.health(&stack.seeders()[0]).await["fleet"]["seeders"], 3);
    stack.wait_for_copies(0, 2 * TORRENTS).await;

    // Any seeder serves any torrent as a webseed, without a redirect.
    let torrent = stack.torrent(rows[0]["id"].as_str().unwrap()).await;
    let file = stack.folder.path().join("webseed.torrent");
    std::fs::write(&file, without_trackers(&torrent)).unwrap();
    let (file, expected) = (file.to_str().unwrap(), sha256(&content(50_000, 1)));
    assert_eq!(libtorrent(file, &stack.scratch("webseed")).await, expected);
    assert_eq!(aria2(file, &stack.scratch("webseed-aria2"), "a file.bin").await, expected);
    for (row, seed) in rows.iter().zip(1..) {
        let url = stack.webseed(row["id"].as_str().unwrap()).await.unwrap();
        let response = stack.http.get(&url).header("range", "bytes=1-").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(response.bytes().await.unwrap(), content(50_000, seed)[1..]);
    }

    let killed = Pid::from_raw(i32::try_from(stack.seeders()[0]["pid"].as_i64().unwrap()).unwrap()).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    let killed_at = Instant::now();
    assert_eq!(stack.wait_for_copies(1, 2 * TORRENTS).await, [TORRENTS, TORRENTS]);
    assert!(killed_at.elapsed() < Duration::from_secs(60), "{:?}", killed_at.elapsed());
    for (number, row) in rows.iter().enumerate().take(3) {
        let file = stack.folder.path().join(format!("{number}.torrent"));
        std::fs::write(&file, stack.torrent(row["id"].as_str().unwrap()).await).unwrap();
        let seed = number as u64 + 1;
        let received = libtorrent(file.to_str().unwrap(), &stack.scratch(&number.to_string())).await;
        assert_eq!(received, sha256(&content(50_000, seed)));
    }
    stack.stop().await;
}
