//! The container image of the server, and the Debian package. The image of the seeder is in `seeder/container`.

use std::os::unix::fs::PermissionsExt;

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::documents::code_blocks;
use proxytorrent_tests::{Image, Origin, TestServer, content, root, run, sha256};
use tempfile::TempDir;
use tokio::process::Command;

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

#[tokio::test]
#[ignore = "needs the package that `make test` builds"]
async fn the_debian_package_has_the_program_and_a_hardened_service() {
    let folder = TempDir::new().unwrap();
    let (package, installed) = (root().join("target/proxytorrent.deb"), folder.path().join("installed"));
    let (package, path) = (package.to_str().unwrap(), installed.to_str().unwrap());
    run("dpkg-deb", &["--extract", package, path], folder.path()).await;
    let depends = run("dpkg-deb", &["--field", package, "Depends"], folder.path()).await;
    // Without CA certificates the program cannot make a TLS connection.
    assert!(["libtorrent-rasterbar2.0", "ca-certificates"].iter().all(|name| depends.contains(name)), "{depends}");
    let version = run(&format!("{path}/usr/bin/proxytorrent"), &["--version"], folder.path()).await;
    assert_eq!(version.trim(), format!("proxytorrent {}", env!("CARGO_PKG_VERSION")));

    for file in ["man/man1/proxytorrent-get.1.gz", "bash-completion/completions/proxytorrent"] {
        assert!(installed.join("usr/share").join(file).exists(), "{file}");
    }

    // The settings have secrets, and an upgrade keeps them.
    let settings = "etc/proxytorrent/proxytorrent.env";
    assert_eq!(installed.join(settings).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let kept = run("dpkg-deb", &["--info", package, "conffiles"], folder.path()).await;
    assert_eq!(kept.trim(), format!("/{settings}"));

    // It must be configured first: the settings that the package brings name no user.
    let scripts = run("dpkg-deb", &["--info", package, "postinst"], folder.path()).await;
    assert!(!scripts.contains("deb-systemd-invoke start") && !scripts.contains("_dh_action=start"), "{scripts}");
    let serve = format!("set -a; . {path}/{settings}; exec {path}/usr/bin/proxytorrent serve");
    let refused = Command::new("sh").args(["-c", &serve]).current_dir(folder.path()).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SECURITY__BEARER_TOKENS"), "{refused:?}");

    let unit = std::fs::read_to_string(installed.join("usr/lib/systemd/system/proxytorrent.service")).unwrap();
    let file = folder.path().join("proxytorrent.service");
    let changes = folder.path().join("proxytorrent.service.d");
    std::fs::create_dir(&changes).unwrap();
    std::fs::write(changes.join("override.conf"), code_blocks("docs/notifications.md", "ini").remove(1)).unwrap();
    std::fs::write(&file, unit.replace("=/usr/bin/", &format!("={path}/usr/bin/"))).unwrap();
    let file = file.to_str().unwrap();
    run("systemd-analyze", &["verify", "--recursive-errors=no", file], folder.path()).await;
    // The most exposure that is accepted, in tenths.
    run("systemd-analyze", &["security", "--offline=true", "--threshold=15", file], folder.path()).await;
}
