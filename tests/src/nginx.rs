//! nginx as a reverse proxy.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::documents::code_blocks;
use crate::process::{eventually, free_port};
use crate::server::TestServer;

/// A running nginx. It is stopped when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    _process: Child,
    _folder: TempDir,
}

impl Nginx {
    /// Starts nginx as `docs/operations.md` shows it: `http://127.0.0.1:PORT/pt/` is the `/` of `server`.
    pub fn start(port: u16, server: &str) -> Self {
        let location = code_blocks("docs/operations.md", "nginx").remove(0).replace("http://127.0.0.1:8000", server);
        Self::with(|_| format!("server {{\n listen 127.0.0.1:{port};\n {location}\n }}\n"))
    }

    /// As [`Nginx::start`], and it authenticates users with these names and passwords.
    pub fn with_users(port: u16, server: &str, users: &[(&str, &str)]) -> Self {
        let location = code_blocks("docs/operations.md", "nginx").remove(1).replace("http://127.0.0.1:8000", server);
        Self::with(|folder| {
            let file = folder.join("users");
            let lines = users.iter().map(|(name, password)| format!("{name}:{{PLAIN}}{password}\n"));
            fs::write(&file, lines.collect::<String>()).expect("written");
            let location = location.replace("/etc/nginx/proxytorrent.users", &file.to_string_lossy());
            format!("server {{\n listen 127.0.0.1:{port};\n {location}\n }}\n")
        })
    }

    /// Starts nginx with the server block that `server` returns for its folder.
    pub fn with(server: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (server, path) = (server(folder.path()), folder.path().display());
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
             events {{}}\n\
             http {{\n\
               access_log off;\n\
               client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;\n\
               uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
               {server}\
             }}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("written");
        let process = Command::new("nginx")
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx");
        Self { _process: process, _folder: folder }
    }
}

/// Starts a server with these settings, and nginx in front of it. Returns them with the public URL.
pub async fn behind_nginx(extra: &[(&str, &str)]) -> (TestServer, Nginx, String) {
    behind(extra, Nginx::start).await
}

/// As [`behind_nginx`], with the nginx that `start` starts on this port for this server.
pub async fn behind(extra: &[(&str, &str)], start: impl FnOnce(u16, &str) -> Nginx) -> (TestServer, Nginx, String) {
    let port = free_port();
    let public = format!("http://127.0.0.1:{port}/pt");
    let internal = free_port().to_string();
    let server =
        TestServer::with(&[&[("PUBLIC_URL", public.as_str()), ("PORT", internal.as_str())], extra].concat()).await;
    let nginx = start(port, &format!("http://127.0.0.1:{internal}"));
    eventually("nginx responds", async || server.http.get(&public).send().await.ok()).await;
    (server, nginx, public)
}
