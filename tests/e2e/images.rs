//! The container image of the server. That of the seeder is in `seeder/container`.

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::{Image, Origin, TestServer, content, run, sha256};
use tempfile::TempDir;

#[tokio::test]
#[ignore = "needs the images of scripts/build-images"]
async fn the_image_of_the_server_does_the_main_job_with_a_read_only_root() {
    let (image, folder, origin) = (Image::open("proxytorrent-server"), TempDir::new().unwrap(), Origin::start().await);
    assert_eq!(image.config["Cmd"], serde_json::json!(["serve"]));
    assert_eq!(image.config["Healthcheck"]["Test"], serde_json::json!(["CMD", "proxytorrent", "health"]));
    let script = image.script(&folder.path().join("run"), &folder.path().join("volume"));
    let script = script.to_str().unwrap();
    // The image listens on every address. A test must not.
    let settings = [("HOST", "127.0.0.1"), ("STORAGE__BASE_PATH", "/data")];
    let mut server = TestServer::inside(&[script.to_owned()], &settings).await;
    let row = server.fetch(&origin.file(1_000_000, 1, "a.bin")).await;
    let torrent = server.save_torrent(row["id"].as_str().unwrap()).await;
    let downloaded = libtorrent(torrent.to_str().unwrap(), &server.scratch("down")).await;
    assert_eq!(downloaded, sha256(&content(1_000_000, 1)));
    let health = run(script, &["proxytorrent", "health", "--server", &server.url], folder.path()).await;
    assert!(health.contains("\"status\": \"healthy\""), "{health}");
    assert!(folder.path().join("volume/proxytorrent.db").exists());
    assert!(server.terminate().await.success());
}
