//! Seeding benchmark: 512 MiB to one libtorrent client over TCP with RC4, from ProxyTorrent's seeder and from
//! libtorrent's.

use std::path::Path;

use tokio::process::Command;

use crate::report;
use crate::server::server;

/// The client, which measures the rate. The third argument is the port of the seeder on this machine, or the folder of the
/// file: then libtorrent seeds the file itself as the comparison. Without it, the client takes peers from the tracker.
const CLIENT: &str = "
import sys, time, libtorrent as lt
settings = {'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False, 'enable_upnp': False,
            'enable_natpmp': False, 'in_enc_policy': 0, 'out_enc_policy': 0, 'allowed_enc_level': 2,
            'enable_outgoing_utp': False, 'enable_incoming_utp': False}
def done(handle):
    while not handle.status().is_seeding:
        time.sleep(0.005)  # polling interval
torrent, folder = sys.argv[1:3]
info = lt.torrent_info(torrent)
port = 0
source = sys.argv[3] if len(sys.argv) > 3 else '0'
if source.isdigit():
    port = int(source)
else:  # the comparison
    seeder = lt.session(dict(settings, unchoke_slots_limit=-1))
    params = lt.add_torrent_params()
    params.ti, params.save_path, params.flags = info, source, lt.torrent_flags.seed_mode
    done(seeder.add_torrent(params))
    port = seeder.listen_port()
client = lt.session(settings)
params = lt.add_torrent_params()
params.ti, params.save_path, params.flags = lt.torrent_info(torrent), folder, lt.torrent_flags.default_flags & ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
handle = client.add_torrent(params)
if port:
    handle.connect_peer(('127.0.0.1', port))
while handle.status().total_payload_download == 0:
    time.sleep(0.001)  # polling interval
started, early = time.monotonic(), handle.status().total_payload_download
done(handle)
print((info.total_size() - early) / (time.monotonic() - started) / 1e6)
";

/// The size of the content in bytes.
pub const SIZE: usize = 512 << 20;

/// Runs the client. Returns the rate in MB/s.
pub async fn rate(arguments: &[&Path]) -> f64 {
    let output = Command::new(tests::python()).args(["-c", CLIENT]).args(arguments).kill_on_drop(true).output().await;
    let output = output.expect("python runs");
    let printed = String::from_utf8_lossy(&output.stdout).trim().parse();
    printed.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Returns the content.
pub fn file() -> Vec<u8> {
    (0..SIZE as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

pub async fn run() {
    println!();
    let files = tempfile::tempdir().expect("a folder");
    let name = files.path().join("file.bin");
    let content = file();
    std::fs::write(&name, &content).expect("written");
    let content = bytes::Bytes::from(content);
    let router = axum::Router::new().route("/file.bin", axum::routing::get(async move || content));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/file.bin", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let server = server(&[("FETCHER__MAX_SIZE", "1000000000")]).await;
    let row = server.fetch(&url).await;
    let torrent = server.save_torrent(row["id"].as_str().expect("an id")).await;

    let cpu = server.cpu_ms();
    let down = tempfile::tempdir().expect("a folder");
    let ours = rate(&[&torrent, down.path()]).await;
    let per_gib = (server.cpu_ms() - cpu) / 1000.0 * (f64::from(1 << 30) / SIZE as f64);
    report("seed 512 MiB to one client, RC4: ours", &format!("{ours:.0} MB/s ({per_gib:.1} s CPU/GiB)"));
    let down = tempfile::tempdir().expect("a folder");
    let theirs = rate(&[&torrent, down.path(), files.path()]).await;
    report("seed 512 MiB to one client, RC4: libtorrent itself", &format!("{theirs:.0} MB/s"));
}
