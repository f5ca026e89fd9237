//! The built-in private tracker: announce and scrape (BEP 3, 7, 23, 48), for the torrents of this service only.
//!
//! The seeder does not announce: the tracker knows its addresses and returns them to every peer.
//!
//! The passkey, which gives access to the torrent of one request, is a query parameter of the announce URL, so that
//! the path is exactly `/announce`: clients derive `/scrape` from it (BEP 48), and libtorrent uses a tracker on
//! loopback at no other path.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use domain::{FetchRequest, InfoHash, Status};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use metainfo::Value;
use percent_encoding::percent_decode_str;
use ports::{Announce, Peer, Task, Transferred};
use tracing::warn;

use crate::abuse::TooMany;
use crate::client_address::ClientAddress;
use crate::passkey::Passkey;
use crate::state::Api;

/// The most peers in one response.
const MAX_WANTED: usize = 200;

/// The number of peers in a response if the client sends no `numwant`.
const DEFAULT_WANTED: usize = 50;

/// The warning for clients that do not announce support for encryption.
const ENCRYPTION_WARNING: &str =
    "the seeder accepts encrypted connections only: enable protocol encryption in your client";

/// The most torrents in one scrape.
const MAX_SCRAPED: usize = 64;

/// A refused announce or scrape.
enum Refusal {
    /// A reason, which the client shows to its user. Sent with status 200: clients ignore the body of an error
    /// status.
    Because(&'static str),
    /// A rate limit is reached: 429 with `Retry-After`.
    TooMany(TooMany),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let refuse = |reason: &str| answer(&Value::dict([("failure reason", Value::bytes(reason))]));
        match self {
            Self::Because(reason) => refuse(reason),
            Self::TooMany(TooMany { retry_after }) => {
                let response = refuse("too many requests from your address; try again later");
                (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, retry_after.to_string())], response).into_response()
            }
        }
    }
}

fn answer(value: &Value) -> Response {
    // Not text/plain: gateways treat text as UTF-8, and bencoded values are binary.
    ([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "no-store")], value.encode()).into_response()
}

/// `GET /announce?passkey=…`.
pub(crate) async fn announce(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    ClientAddress(client): ClientAddress,
) -> Response {
    announced(&api, query.as_deref().unwrap_or_default(), client).await.unwrap_or_else(IntoResponse::into_response)
}

async fn announced(api: &Api, query: &str, client: Option<IpAddr>) -> Result<Response, Refusal> {
    let (row, infohash) = authorize(api, query, client).await?;
    let query = AnnounceQuery::parse(query).map_err(Refusal::Because)?;
    let client = client.ok_or(Refusal::Because("your address is unknown"))?;
    if !is_torrent_of(&row, query.info_hash) {
        return Err(Refusal::Because("the passkey is for another torrent"));
    }
    let peer = Peer { id: query.peer_id, address: (client, query.port).into(), seed: query.left == 0 };
    let stopped = query.event == Event::Stopped;
    let said = if stopped { Announce::Stopped(peer) } else { Announce::Present(peer) };
    let interval = Duration::from_secs(api.tracker.interval.get());
    let wanted = if stopped { 0 } else { query.wanted };
    let (peers, counts) = api
        .swarm
        .announce(infohash, said, wanted, api.clock.now(), interval * 2)
        .await
        .map_err(|_| Refusal::Because("the tracker's store is unavailable; try again later"))?;

    if query.event == Event::Completed {
        let completed = Transferred { completed: 1, uploaded_bytes: 0 };
        if let Err(error) = api.statistics.add(infohash, completed).await {
            warn!(%infohash, %error, "completed download not counted");
        }
    }
    // Only on `started`, and even with `left=0`: aria2 announces a magnet link so, since it does not know the size
    // yet.
    if api.connect_to_peers && query.event == Event::Started {
        // A client that connects in plaintext first is refused, and retries encrypted after a minute. It accepts an
        // encrypted incoming connection at once.
        let connect = api.tasks.enqueue(Task::Connect(infohash, peer.address), Duration::ZERO).await;
        if let Err(error) = connect {
            warn!(%infohash, %error, "connect task not enqueued");
        }
    }
    let fleet = api.fleet.get(api.clock.now()).await;
    let seeders = fleet.addresses(infohash, Some(peer.address));
    // The seeders come last: of several peers at one address (behind one NAT, or on this machine), libtorrent keeps
    // the last one in the list.
    let others = peers.iter().map(|peer| (peer.address, Some(peer.id))).take(wanted.saturating_sub(seeders.len()));
    let addresses: Vec<_> = others.chain(seeders.iter().map(|address| (*address, None))).take(wanted).collect();
    let counts = fleet.added_to(counts);
    let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
    let mut entries = vec![
        ("interval", Value::Integer(seconds)),
        ("min interval", Value::Integer(seconds.min(60))),
        ("complete", Value::Integer(counts.seeds.into())),
        ("incomplete", Value::Integer(counts.leechers.into())),
    ];
    if !query.encrypts && api.torrent.encryption() == settings::Encryption::Forced {
        entries.push(("warning message", Value::bytes(ENCRYPTION_WARNING)));
    }
    if query.compact {
        let (v4, v6) = compact(addresses.iter().map(|(address, _)| *address));
        entries.push(("peers", Value::Bytes(v4)));
        if !v6.is_empty() {
            entries.push(("peers6", Value::Bytes(v6)));
        }
    } else {
        entries.push(("peers", Value::List(addresses.into_iter().map(|(address, id)| plain(address, id)).collect())));
    }
    Ok(answer(&Value::dict(entries)))
}

/// `GET /scrape?passkey=…`.
pub(crate) async fn scrape(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    ClientAddress(client): ClientAddress,
) -> Response {
    scraped(&api, query.as_deref().unwrap_or_default(), client).await.unwrap_or_else(IntoResponse::into_response)
}

async fn scraped(api: &Api, query: &str, client: Option<IpAddr>) -> Result<Response, Refusal> {
    let (row, infohash) = authorize(api, query, client).await?;
    let fleet = api.fleet.get(api.clock.now()).await;
    let mut files = vec![];
    for (_, value) in parameters(query).filter(|(name, _)| *name == "info_hash").take(MAX_SCRAPED) {
        let hash: [u8; 20] = value.try_into().map_err(|_| Refusal::Because("info_hash must have 20 bytes"))?;
        // The torrents of other requests are omitted (BEP 48).
        if !is_torrent_of(&row, hash) {
            continue;
        }
        let counts = api.swarm.counts(infohash, api.clock.now());
        let read = tokio::try_join!(counts, api.statistics.transferred(infohash));
        let (counts, transferred) =
            read.map_err(|_| Refusal::Because("the tracker's store is unavailable; try again later"))?;
        let counts = fleet.added_to(counts);
        let file = Value::dict([
            ("complete", Value::Integer(counts.seeds.into())),
            ("incomplete", Value::Integer(counts.leechers.into())),
            ("downloaded", Value::Integer(i64::try_from(transferred.completed).unwrap_or(i64::MAX))),
        ]);
        files.push((hash, file));
    }
    Ok(answer(&Value::dict([("files", Value::dict(files))])))
}

/// Checks the rate limits and the passkey. Returns the ready request of the passkey, and the infohash of its torrent.
async fn authorize(api: &Api, query: &str, client: Option<IpAddr>) -> Result<(FetchRequest, InfoHash), Refusal> {
    api.abuse.count_announce(client).map_err(Refusal::TooMany)?;
    api.abuse.check_passkeys(client).map_err(Refusal::TooMany)?;
    let shown = parameters(query).find(|(name, _)| *name == "passkey").map(|(_, passkey)| passkey);
    let passkey = shown.as_deref().and_then(|passkey| Passkey::parse(std::str::from_utf8(passkey).ok()?));
    let unavailable = |_| Refusal::Because("the tracker's store is unavailable; try again later");
    if let Some(passkey) = passkey
        && let Some(row) = api.requests.get(passkey.request).await.map_err(unavailable)?
        && let Some(infohash) = row.infohash
        && api.passkeys.verify(&*api.guards, api.clock.now(), &passkey, &row, infohash).await.map_err(unavailable)?
    {
        let row = row.as_of(api.clock.now());
        let ended = Refusal::Because("the request of this torrent has ended");
        return if row.status == Status::Ready { Ok((row, infohash)) } else { Err(ended) };
    }
    api.abuse.count_passkey(client);
    Err(Refusal::Because("the passkey is not valid: download the torrent or magnet link again"))
}

/// Whether `hash` is the infohash of this request's torrent: the v1 infohash, or the first 20 bytes of the v2
/// infohash (BEP 52, "tracker announce").
fn is_torrent_of(row: &FetchRequest, hash: [u8; 20]) -> bool {
    row.infohash == Some(InfoHash::new(hash)) || row.infohash_v2.is_some_and(|v2| v2.as_bytes()[..20] == hash)
}

/// Returns the compact peer lists of IPv4 (BEP 23, 6 bytes per peer) and IPv6 (BEP 7, 18 bytes per peer).
fn compact(addresses: impl Iterator<Item = SocketAddr>) -> (Vec<u8>, Vec<u8>) {
    let (mut v4, mut v6) = (vec![], vec![]);
    for address in addresses {
        let list = match address.ip() {
            IpAddr::V4(ip) => {
                v4.extend_from_slice(&ip.octets());
                &mut v4
            }
            IpAddr::V6(ip) => {
                v6.extend_from_slice(&ip.octets());
                &mut v6
            }
        };
        list.extend_from_slice(&address.port().to_be_bytes());
    }
    (v4, v6)
}

/// Returns a peer as a dictionary (BEP 3).
fn plain(address: SocketAddr, id: Option<[u8; 20]>) -> Value {
    let mut entries =
        vec![("ip", Value::bytes(address.ip().to_string())), ("port", Value::Integer(address.port().into()))];
    if let Some(id) = id {
        entries.push(("peer id", Value::bytes(id)));
    }
    Value::dict(entries)
}

/// The `event` of an announce (BEP 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Started,
    Stopped,
    /// The download is complete. Sent once, and not by a client that started with the whole torrent.
    Completed,
    /// A regular announce at the interval.
    Other,
}

#[derive(Debug, PartialEq, Eq)]
struct AnnounceQuery {
    /// Whether the client announces support for encryption (`supportcrypto`, `requirecrypto`).
    encrypts: bool,
    info_hash: [u8; 20],
    peer_id: [u8; 20],
    port: u16,
    left: u64,
    event: Event,
    compact: bool,
    wanted: usize,
}

impl AnnounceQuery {
    /// Parses an announce. Returns a failure reason if a required parameter is missing or invalid. `ip` is ignored: a
    /// client could direct the peers at another machine (denial of service).
    fn parse(query: &str) -> Result<Self, &'static str> {
        let (mut info_hash, mut peer_id, mut port) = (None, None, None);
        // Without `left` a client counts as a leecher: the first announce of a magnet link does not know the size.
        let (mut left, mut event, mut compact, mut wanted) = (u64::MAX, Event::Other, true, DEFAULT_WANTED);
        let mut encrypts = false;
        for (name, value) in parameters(query) {
            let number = || std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i128>().ok());
            match name {
                "info_hash" => info_hash = <[u8; 20]>::try_from(value.as_slice()).ok(),
                "peer_id" => peer_id = <[u8; 20]>::try_from(value.as_slice()).ok(),
                "port" => port = number().and_then(|n| u16::try_from(n).ok()).filter(|port| *port != 0),
                "left" => left = number().map_or(u64::MAX, |n| u64::try_from(n).unwrap_or(u64::MAX)),
                "event" => {
                    event = match value.as_slice() {
                        b"started" => Event::Started,
                        b"stopped" => Event::Stopped,
                        b"completed" => Event::Completed,
                        _ => Event::Other,
                    };
                }
                "supportcrypto" | "requirecrypto" => encrypts |= value == b"1",
                "compact" => compact = value != b"0",
                "numwant" => {
                    wanted = number().and_then(|n| usize::try_from(n).ok()).unwrap_or(DEFAULT_WANTED).min(MAX_WANTED);
                }
                _ => {}
            }
        }
        Ok(Self {
            info_hash: info_hash.ok_or("info_hash must have 20 bytes")?,
            peer_id: peer_id.ok_or("peer_id must have 20 bytes")?,
            port: port.ok_or("port must be a number from 1 to 65535")?,
            encrypts,
            left,
            event,
            compact,
            wanted,
        })
    }
}

/// Returns the parameters of a query. Values are decoded to raw bytes, since infohashes are not text.
fn parameters(query: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name, percent_decode_str(value).collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<AnnounceQuery, &'static str> {
        AnnounceQuery::parse(query)
    }

    fn base() -> String {
        format!("info_hash={}&peer_id=-XX0001-abcdefghijkl&port=6881", "%ff%00a".repeat(6) + "%26%3D")
    }

    #[test]
    fn an_announce_is_parsed_as_clients_send_it() {
        let query =
            parse(&(base() + "&uploaded=0&downloaded=0&left=0&event=stopped&compact=0&numwant=5&ip=1.2.3.4")).unwrap();
        assert_eq!(&query.info_hash[..3], b"\xff\0a");
        assert_eq!(&query.info_hash[18..], b"&=");
        assert_eq!(
            (query.port, query.left, query.event, query.compact, query.wanted),
            (6881, 0, Event::Stopped, false, 5)
        );
    }

    #[test]
    fn missing_and_excessive_parameters_get_safe_values() {
        assert_eq!(parse(&base()).unwrap().left, u64::MAX);
        assert_eq!(parse(&(base() + "&left=9223372036854775807")).unwrap().left, i64::MAX as u64);
        assert_eq!(parse(&(base() + "&left=-1")).unwrap().left, u64::MAX);
        assert_eq!(parse(&(base() + "&numwant=-1")).unwrap().wanted, DEFAULT_WANTED);
        assert_eq!(parse(&(base() + "&numwant=100000")).unwrap().wanted, MAX_WANTED);
    }

    #[test]
    fn bad_announces_are_refused_with_a_reason() {
        for (query, reason) in [
            (String::new(), "info_hash must have 20 bytes"),
            (base().replace("info_hash=", "info_hash=x"), "info_hash must have 20 bytes"),
            (base().replace("ijkl", ""), "peer_id must have 20 bytes"),
            (base().replace("6881", "0"), "port must be a number from 1 to 65535"),
            (base().replace("6881", "65536"), "port must be a number from 1 to 65535"),
        ] {
            assert_eq!(parse(&query), Err(reason), "{query}");
        }
    }

    #[test]
    fn compact_peers_have_six_or_eighteen_bytes() {
        let (v4, v6) = compact(["1.2.3.4:258".parse().unwrap(), "[::1]:1".parse().unwrap()].into_iter());
        assert_eq!(v4, [1, 2, 3, 4, 1, 2]);
        assert_eq!((v6.len(), &v6[15..]), (18, &[1, 0, 1][..]));
    }
}
