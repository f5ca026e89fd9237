//! `proxytorrent doctor`: checks settings, storage, ports, proxy, addresses and clock of this machine.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime};

use fetcher::ProxyHealth;
use reqwest::Response;
use rustix::fs::statvfs;
use serde_json::Value;
use settings::Settings;
use url::{Host, Url};

use crate::error::CommandError;
use crate::output::print;
use crate::serve::{fetcher, profile};

const MB: u64 = 1_000_000;

/// How long the server may take to respond.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest difference of the clocks at which the server accepts signed calls.
const SKEW: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Check the settings of the development profile
    #[arg(long)]
    dev: bool,
}

/// What a check has found.
enum Finding {
    Good(String),
    /// Something that works, and probably not as intended.
    Doubtful(String),
    /// Something that does not work, and what to do.
    Bad(String),
}
use Finding::{Bad, Doubtful, Good};

/// Prints a line for each check. The error says how many have failed.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let mut failed = 0;
    let mut show = |name: &str, finding: Finding| {
        let (mark, text) = match finding {
            Good(text) => ("ok     ", text),
            Doubtful(text) => ("warning", text),
            Bad(text) => {
                failed += 1;
                ("failed ", text)
            }
        };
        // A full or closed output must not hide the exit code.
        let _ = print(format_args!("{mark}  {name:9} {text}"));
    };
    let settings = match Settings::load(&profile(arguments.dev)) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in &problems.0 {
                show("settings", Bad(problem.clone()));
            }
            return Err(failures(failed));
        }
    };
    show("settings", Good("they are valid".to_owned()));
    for warning in &settings.warnings {
        show("settings", Doubtful(warning.clone()));
    }
    show("storage", storage(&settings));
    let running = Running::find(&settings).await;
    show("server", server(&settings, running.as_ref()));
    show("seeder", seeder(&settings, running.as_ref()));
    show("proxy", proxy(&settings).await);
    show("addresses", addresses(&settings));
    if let Some(finding) = clock().await {
        show("clock", finding);
    }
    if failed == 0 { Ok(()) } else { Err(failures(failed)) }
}

fn failures(count: usize) -> CommandError {
    CommandError::Failed(format!("{count} checks failed"))
}

/// Checks each folder of the settings.
fn storage(settings: &Settings) -> Finding {
    let storage = &settings.storage;
    let mut free = vec![];
    for folder in [storage.base_path.clone(), storage.contents(), storage.torrents()] {
        // The server creates it: then its parent must take it.
        let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        let shown = folder.display();
        if let Err(error) = tempfile::tempfile_in(existing) {
            let advice = "give the user of the server write access, or set STORAGE__BASE_PATH";
            return Bad(format!("no file can be written to {shown}: {error}; {advice}"));
        }
        let disk = match statvfs(existing) {
            Ok(disk) => disk,
            Err(error) => return Bad(format!("the free space of {shown} is not known: {error}")),
        };
        let reserved = storage.min_free.map_or_else(
            || embedded::default_min_free(disk.f_blocks.saturating_mul(disk.f_frsize)),
            settings::Bounded::get,
        );
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if bytes < reserved {
            let (bytes, reserved) = (bytes / MB, reserved / MB);
            return Bad(format!("{bytes} MB are free in {shown}, of which {reserved} MB must stay: free some space"));
        }
        free.push(bytes);
    }
    let free = free.into_iter().min().unwrap_or_default() / MB;
    Good(format!("{} takes files, {free} MB are free", storage.base_path.display()))
}

/// A server that runs on the configured address.
struct Running {
    health: Value,
}

impl Running {
    async fn find(settings: &Settings) -> Option<Self> {
        let address = loopback(SocketAddr::new(settings.server.host, settings.server.port));
        let prefix = settings.server.api_prefix.trim_end_matches('/');
        let response = get(&format!("http://{address}{prefix}/health")).await?;
        let health: Value = serde_json::from_slice(&response.bytes().await.ok()?).ok()?;
        health["checks"].is_object().then_some(Self { health })
    }
}

/// Returns the response of a server, if there is one.
async fn get(url: &str) -> Option<Response> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().ok()?;
    client.get(url).send().await.ok()
}

/// Returns the address at which this machine reaches one that it listens on.
fn loopback(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, address.port())
}

fn server(settings: &Settings, running: Option<&Running>) -> Finding {
    let address = SocketAddr::new(settings.server.host, settings.server.port);
    if let Some(Running { health }) = running {
        if health["status"] == "healthy" {
            return Good(format!("it runs on {address} and is healthy"));
        }
        let checks = health["checks"].as_object().into_iter().flatten();
        let bad: Vec<_> =
            checks.filter_map(|(name, check)| Some(format!("{name}: {}", check["detail"].as_str()?))).collect();
        return Bad(format!("it runs on {address} and is not healthy: {}", bad.join("; ")));
    }
    match TcpListener::bind(address) {
        Ok(_) => Good(format!("it does not run; {address} is free")),
        Err(error) => Bad(format!("it cannot listen on {address}: {error}; set HOST or PORT, or stop what uses it")),
    }
}

fn seeder(settings: &Settings, running: Option<&Running>) -> Finding {
    if let Some(Running { health }) = running {
        let seeder = &health["checks"]["seeder"];
        return match seeder["detail"].as_str() {
            Some(detail) => Bad(detail.to_owned()),
            None => Good(format!("it listens, and has {} torrents", seeder["torrents"])),
        };
    }
    if settings.seeder.port_file.is_some() {
        return Good("its port is in SEEDER__PORT_FILE".to_owned());
    }
    let listen = of_all_sessions(settings, &settings.seeder.listen);
    for address in &listen {
        let bound = TcpListener::bind(address).map(drop).and_then(|()| UdpSocket::bind(address).map(drop));
        if let Err(error) = bound {
            return Bad(format!("it cannot listen on {address}: {error}; set SEEDER__LISTEN"));
        }
    }
    Good(format!("it does not run; {} is free", listed(&listen)))
}

/// Returns the addresses of all sessions of the seeder.
fn of_all_sessions(settings: &Settings, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let sessions = 0..settings.seeder.sessions.get_usize();
    sessions.flat_map(|number| settings.seeder.of_session(addresses, number)).collect()
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

async fn proxy(settings: &Settings) -> Finding {
    let fetcher = match fetcher(settings) {
        Ok(fetcher) => fetcher,
        Err(error) => return Bad(error.to_string()),
    };
    let interface = settings.seeder.interface.as_ref();
    match (fetcher.check_proxy().await, interface) {
        (Ok(ProxyHealth::Disabled), Some(interface)) => {
            Good(format!("there is none: fetches use the interface {}", interface.as_str()))
        }
        (Ok(ProxyHealth::Disabled), None) => {
            Doubtful("there is none: origins see the address of this machine".to_owned())
        }
        (Ok(ProxyHealth::Working { working, of }), _) if working == of => Good(format!("{working} of {of} work")),
        (Ok(ProxyHealth::Working { working, of }), _) => Doubtful(format!("{working} of {of} work")),
        (Err(failure), _) => {
            Bad(format!("{}: check PROXY__PROXY_HOST, PROXY__PROXY_PORT or PROXY__URLS", failure.message))
        }
    }
}

/// Whether clients on other machines can use the addresses that torrents name.
fn addresses(settings: &Settings) -> Finding {
    let public = settings.server.public_url.as_ref();
    let named = if settings.seeder.public_address.is_empty() {
        &settings.seeder.listen
    } else {
        &settings.seeder.public_address
    };
    let seeder = match &settings.seeder.public_ip_file {
        Some(file) => format!("the address in {}", file.display()),
        None => listed(&of_all_sessions(settings, named)),
    };
    if settings.seeder.proxy.is_some() {
        return Good("peers cannot connect to the seeder: it connects to them, through SEEDER__PROXY".to_owned());
    }
    if settings.seeder.public_ip_file.is_none() && named.iter().all(|address| address.ip().is_loopback()) {
        return Doubtful(format!("the seeder is at {seeder}: clients on other machines need another SEEDER__LISTEN"));
    }
    match public {
        None => Doubtful("PUBLIC_URL is not set: clients on other machines do not find the tracker".to_owned()),
        Some(url) if is_local(url) => Doubtful(format!("only this machine reaches PUBLIC_URL, {url}")),
        Some(url) => Good(format!(
            "torrents name {url} and the seeder on {seeder}; this machine cannot tell whether a firewall is in between: \
             connect to both from another network"
        )),
    }
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        None => false,
    }
}

/// Compares the clock with that of the server of the client commands. Returns `None` if that is on this machine.
async fn clock() -> Option<Finding> {
    let client = match settings::Client::load() {
        Ok(client) => client,
        Err(problems) => return Some(Bad(problems.to_string())),
    };
    let server = client.server;
    let response = get(server.as_str()).await;
    let date =
        response.and_then(|response| httpdate::parse_http_date(response.headers().get("date")?.to_str().ok()?).ok());
    let Some(date) = date else {
        let text = format!("not compared: {server} (CLIENT__SERVER) does not respond");
        return (!is_local(&server)).then_some(Doubtful(text));
    };
    let now = SystemTime::now();
    let difference = now.duration_since(date).unwrap_or_else(|error| error.duration());
    let text = format!("it differs from that of {server} by {} s", difference.as_secs());
    Some(if difference < SKEW { Good(text) } else { Bad(format!("{text}: signed calls are refused; set the time")) })
}
