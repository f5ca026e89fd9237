//! Settings: `serve`, `config`, `keygen`, `doctor`, the configuration file.

use std::process::Stdio;

use tests::{TestServer, free_port, program};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::{proxytorrent, text};

#[tokio::test]
async fn generated_keys_and_the_configuration_file_work() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxytorrent/config.toml");
    std::fs::create_dir(config.parent().unwrap()).unwrap();
    let home = [("XDG_CONFIG_HOME", folder.path().to_str().unwrap())];
    for options in [&["keygen", "alice"][..], &["keygen", "--signing", "alice"]] {
        let printed = text(&proxytorrent(folder.path(), options, &[]).await.stdout);
        let settings: Vec<_> = printed.lines().filter_map(|line| line.split_once('=')).collect();
        let (server_settings, client_settings) = settings.split_at(1);
        let auth = [("SECURITY__AUTH_ENABLED", "true"), server_settings[0]];
        let server = TestServer::with(&auth).await;
        let keys = client_settings
            .iter()
            .map(|(name, value)| format!("{} = '{value}'\n", name.strip_prefix("CLIENT__").unwrap().to_lowercase()));
        std::fs::write(&config, format!("[client]\nserver = '{}'\n{}", server.url, keys.collect::<String>())).unwrap();
        let list = proxytorrent(folder.path(), &["list"], &home).await;
        assert_eq!(list.status.code(), Some(0), "{}", text(&list.stderr));
        let refused = proxytorrent(folder.path(), &["list", "--server", &server.url], &[]).await;
        assert_eq!(refused.status.code(), Some(4), "without the file");
    }
    for (line, named) in [("[client]\nservr = 'x'\n", "CLIENT__SERVR"), ("[cleint]\nserver = 'x'\n", "CLEINT__SERVER")]
    {
        std::fs::write(&config, line).unwrap();
        let wrong = proxytorrent(folder.path(), &["list"], &home).await;
        assert_eq!(wrong.status.code(), Some(2));
        assert!(text(&wrong.stderr).contains(named), "{}", text(&wrong.stderr));
    }
    // The file of a folder from elsewhere must not get the token of the user.
    std::fs::write(&config, "[client]\nserver = 'https://files.example.org'\ntoken = 'mine'\n").unwrap();
    let other =
        ["CLIENT__API_PREFIX=/../other", "client__server=http://127.0.0.1:9", "CLIENT__SERVER=http://127.0.0.1:9"];
    for line in other {
        std::fs::write(folder.path().join(".env"), line).unwrap();
        let refused = proxytorrent(folder.path(), &["list"], &home).await;
        assert_eq!(refused.status.code(), Some(2), "{line}");
        assert!(text(&refused.stderr).contains("is set in .env"), "{}", text(&refused.stderr));
    }
    let environment = [home[0], ("CLIENT__SERVER", "http://127.0.0.1:9")];
    let used = proxytorrent(folder.path(), &["list"], &environment).await;
    assert_eq!(used.status.code(), Some(3), "the server in the environment is meant: {}", text(&used.stderr));
    std::fs::remove_file(folder.path().join(".env")).unwrap();
    let named = proxytorrent(folder.path(), &["keygen", "a b"], &[]).await;
    assert_eq!(named.status.code(), Some(2));
}

#[tokio::test]
async fn serve_listens_where_its_options_say() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new(program());
    command.args(["serve", "--dev", "--host", "127.0.0.2", "--port", &port.to_string()]).env_clear();
    command.env("port", "1").env("SEEDER__LISTEN", "127.0.0.1:0").current_dir(folder.path()).kill_on_drop(true);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains(&format!(" serves http://127.0.0.2:{port} ")), "{first}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn doctor_says_what_is_wrong_and_what_to_do() {
    let (folder, port, peers) = (tempfile::tempdir().unwrap(), free_port().to_string(), free_port());
    let listen = format!("127.0.0.1:{peers}");
    let doctor = async |extra: &[(&str, &str)]| {
        let base = [("PORT", port.as_str()), ("SEEDER__LISTEN", &listen), ("STORAGE__BASE_PATH", "data")];
        let output = proxytorrent(folder.path(), &["doctor", "--dev"], &[&base, extra].concat()).await;
        (output.status.code().unwrap(), text(&output.stdout))
    };
    let (code, printed) = doctor(&[]).await;
    assert_eq!(code, 0, "{printed}");
    let free = format!("ok       server    it does not run; 127.0.0.1:{port} is free");
    for line in [free.as_str(), "ok       storage   data takes files", "warning  proxy     there is none"] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    assert!(!folder.path().join("data").exists(), "it changes nothing");

    let taken = std::net::TcpListener::bind(&listen).unwrap();
    let proxy = free_port().to_string();
    let proxy = [("PROXY__PROXY_ENABLED", "true"), ("PROXY__PROXY_HOST", "127.0.0.1"), ("PROXY__PROXY_PORT", &proxy)];
    let (code, printed) = doctor(&[&proxy[..], &[("STORAGE__MIN_FREE", "9000000000000000000")]].concat()).await;
    assert_eq!(code, 1, "{printed}");
    for line in ["failed   seeder    it cannot listen on", "failed   proxy     ", "free some space"] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    drop(taken);
    let (code, printed) = doctor(&[("PORT", "many")]).await;
    assert!(code == 1 && printed.contains("failed   settings  PORT"), "{printed}");

    let server = TestServer::with(&[("PORT", &port), ("SEEDER__LISTEN", &listen)]).await;
    let (code, printed) = doctor(&[("CLIENT__SERVER", &server.url)]).await;
    assert_eq!(code, 0, "{printed}");
    for line in ["it runs on 127.0.0.1", "it listens, and has 0 torrents", "ok       clock     it differs"] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

#[tokio::test]
async fn serve_without_settings_fails_and_names_the_missing_settings() {
    let folder = tempfile::tempdir().unwrap();
    let output = proxytorrent(folder.path(), &["serve"], &[]).await;
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("set SECURITY__BEARER_TOKENS") && stderr.contains("set PROXY__PROXY_HOST"), "{stderr}");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no files are created before the settings are valid"
    );
}

#[tokio::test]
async fn config_prints_every_setting_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("SECURITY__HMAC_SECRET", "geheim"), ("FETCHER__MAX_SIZE", "5")];
    let output = proxytorrent(folder.path(), &["config", "--dev"], &environment).await;
    let stdout = text(&output.stdout);
    for part in
        ["SECURITY__HMAC_SECRET=********", "FETCHER__MAX_SIZE=5", "#FETCHER__READ_TIMEOUT=30", "# Timeout in seconds"]
    {
        assert!(stdout.contains(part), "{part} not in {stdout}");
    }
    assert!(!stdout.contains("geheim"));
    // The output is a valid `.env` file.
    std::fs::write(folder.path().join(".env"), stdout.replace("********", "x")).unwrap();
    let again = proxytorrent(folder.path(), &["config", "--dev"], &[]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert!(text(&again.stdout).contains("FETCHER__MAX_SIZE=5"));
}
