//! Tracker passkeys: issue, verification, and revocation (`DELETE /v1/passkeys`). Keys of webseeds and download links.
//!
//! The passkey tells the tracker for which request a peer announces. It is a request's id and a MAC over the request,
//! its owner, its torrent and the owner's *generation*. So it is valid for that one torrent, while the request is
//! ready. A revocation increments the generation.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{FetchRequest, InfoHash, RequestId, Timestamp, UserId};
use hmac::{Hmac, KeyInit, Mac};
use ports::{Reservations, StoreError};
use sha2::Sha256;

/// How long a process caches a generation, and thus how long after a revocation another process may accept old
/// passkeys.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How long a generation is stored after its last increment: longer than the longest retention.
const KEPT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The generation of a user who has never revoked passkeys.
const FIRST: &str = "0";

/// Issues and verifies the passkeys of all users. They derive from one secret: none is stored, and every machine
/// derives the same ones.
pub struct Passkeys {
    secret: Vec<u8>,
    /// `None`: every user is known.
    users: Option<HashSet<UserId>>,
    generations: Mutex<HashMap<UserId, (String, Instant)>>,
}

/// A passkey that the tracker received, not verified yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passkey {
    /// The request that the passkey claims to belong to.
    pub request: RequestId,
    mac: [u8; 16],
}

impl Passkey {
    /// Parses 64 hexadecimal digits. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut mac = [0; 16];
        hex::decode_to_slice(&text[32..], &mut mac).ok()?;
        Some(Self { request: text[..32].parse().ok()?, mac })
    }
}

fn generation_key(user: &UserId) -> String {
    format!("passkey-generation:{user}")
}

impl Passkeys {
    /// Creates an issuer for these users; for every user if they are `None`. `secret` is the key of the MACs.
    pub fn new(secret: &[u8], users: Option<HashSet<UserId>>) -> Self {
        Self { secret: secret.to_vec(), users, generations: Mutex::default() }
    }

    fn knows(&self, user: &UserId) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(user))
    }

    /// Returns the passkey of a request with this torrent: 64 hexadecimal digits.
    pub(crate) async fn of(
        &self,
        guards: &dyn Reservations,
        now: Timestamp,
        row: &FetchRequest,
        infohash: InfoHash,
    ) -> Result<String, StoreError> {
        let generation = self.generation(guards, &row.owner, now).await?;
        let mac = self.mac(row.id, &row.owner, infohash, &generation).finalize().into_bytes();
        Ok(format!("{}{}", row.id.to_string().replace('-', ""), hex::encode(&mac[..16])))
    }

    /// Whether the passkey is valid for this request and torrent, and the owner is still a configured user.
    pub(crate) async fn verify(
        &self,
        guards: &dyn Reservations,
        now: Timestamp,
        passkey: &Passkey,
        row: &FetchRequest,
        infohash: InfoHash,
    ) -> Result<bool, StoreError> {
        if passkey.request != row.id || !self.knows(&row.owner) {
            return Ok(false);
        }
        let generation = self.generation(guards, &row.owner, now).await?;
        Ok(self.mac(row.id, &row.owner, infohash, &generation).verify_truncated_left(&passkey.mac).is_ok())
    }

    /// Revokes all passkeys of this user: at once in this process, within five seconds in others.
    pub(crate) async fn revoke(
        &self,
        guards: &dyn Reservations,
        user: &UserId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (key, until) = (generation_key(user), now + KEPT);
        // Of concurrent revocations one increments the generation, which is enough for all of them.
        if let Some(old) = guards.reserve(&key, "1", now, until).await? {
            let next = old.parse::<u64>().unwrap_or(0) + 1;
            guards.replace(&key, &old, &next.to_string(), until).await?;
        }
        let read_at = Instant::now();
        let generation = guards.value(&key, now).await?.unwrap_or_else(|| FIRST.to_owned());
        self.remember(user, generation, read_at);
        Ok(())
    }

    /// Returns the generation of a user, from the cache or the store.
    async fn generation(&self, guards: &dyn Reservations, user: &UserId, now: Timestamp) -> Result<String, StoreError> {
        let remembered = self.generations.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned();
        if let Some((generation, _)) = remembered.filter(|(_, read_at)| read_at.elapsed() < REMEMBERED) {
            return Ok(generation);
        }
        let read_at = Instant::now();
        let generation = guards.value(&generation_key(user), now).await?.unwrap_or_else(|| FIRST.to_owned());
        self.remember(user, generation.clone(), read_at);
        Ok(generation)
    }

    /// Caches a generation read at `read_at`, unless a newer read is cached: a revocation may have happened in
    /// between.
    fn remember(&self, user: &UserId, generation: String, read_at: Instant) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = generations.get(user).is_some_and(|(_, known)| *known > read_at);
        if !newer {
            generations.insert(user.clone(), (generation, read_at));
        }
    }

    fn mac(&self, request: RequestId, owner: &UserId, infohash: InfoHash, generation: &str) -> Hmac<Sha256> {
        let mut mac = self.keyed();
        // The owner comes last: only this field may contain any character.
        mac.update(format!("tracker passkey 2\n{request}\n{infohash}\n{generation}\n{owner}").as_bytes());
        mac
    }

    /// Returns the webseed key of this request: 32 hexadecimal digits.
    pub fn of_content(&self, id: RequestId) -> String {
        hex::encode(&self.content_key(id).finalize().into_bytes()[..16])
    }

    /// Whether `key` is the webseed key of this request, compared in constant time.
    pub fn opens_content(&self, id: RequestId, key: &str) -> bool {
        hex::decode(key).is_ok_and(|key| key.len() == 16 && self.content_key(id).verify_truncated_left(&key).is_ok())
    }

    fn content_key(&self, id: RequestId) -> Hmac<Sha256> {
        let mut mac = self.keyed();
        mac.update(format!("content\n{id}").as_bytes());
        mac
    }

    /// Returns the key of a link to the content of this request that is valid until `expires_at`: 32 hexadecimal
    /// digits. A revocation invalidates it.
    pub(crate) async fn of_download(
        &self,
        guards: &dyn Reservations,
        now: Timestamp,
        row: &FetchRequest,
        expires_at: Timestamp,
    ) -> Result<String, StoreError> {
        let generation = self.generation(guards, &row.owner, now).await?;
        Ok(hex::encode(&self.download_mac(row, expires_at, &generation).finalize().into_bytes()[..16]))
    }

    /// Whether `key` is the key of the link to the content of this request that is valid until `expires_at`, and the
    /// owner is still a configured user.
    pub(crate) async fn opens_download(
        &self,
        guards: &dyn Reservations,
        now: Timestamp,
        row: &FetchRequest,
        expires_at: Timestamp,
        key: &str,
    ) -> Result<bool, StoreError> {
        let Some(key) = hex::decode(key).ok().filter(|key| key.len() == 16) else { return Ok(false) };
        if !self.knows(&row.owner) {
            return Ok(false);
        }
        let generation = self.generation(guards, &row.owner, now).await?;
        Ok(self.download_mac(row, expires_at, &generation).verify_truncated_left(&key).is_ok())
    }

    fn download_mac(&self, row: &FetchRequest, expires_at: Timestamp, generation: &str) -> Hmac<Sha256> {
        let mut mac = self.keyed();
        let (id, owner, expires_at) = (row.id, &row.owner, expires_at.as_millis());
        // The owner comes last: only this field may contain any character.
        mac.update(format!("download\n{id}\n{expires_at}\n{generation}\n{owner}").as_bytes());
        mac
    }

    fn keyed(&self) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length")
    }
}

impl fmt::Debug for Passkeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passkeys").field("users", &self.users.as_ref().map(HashSet::len)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_a_separate_webseed_key() {
        let (passkeys, one, other) = (Passkeys::new(b"secret", None), RequestId::new(), RequestId::new());
        let key = passkeys.of_content(one);
        assert!(passkeys.opens_content(one, &key));
        assert!(!passkeys.opens_content(other, &key));
        for bad in ["", "00", &key[2..], &format!("{key}00"), "not hex"] {
            assert!(!passkeys.opens_content(one, bad), "{bad}");
        }
    }

    #[test]
    fn a_passkey_depends_on_request_owner_torrent_generation_and_secret() {
        let (id, other) = (RequestId::new(), RequestId::new());
        let mac = |secret: &[u8], id, owner: &str, byte, generation: &str| {
            let passkeys = Passkeys::new(secret, None);
            passkeys.mac(id, &UserId::new(owner), InfoHash::new([byte; 20]), generation).finalize().into_bytes()
        };
        let macs: HashSet<_> = [
            mac(b"secret", id, "alice", 1, "0"),
            mac(b"other", id, "alice", 1, "0"),
            mac(b"secret", other, "alice", 1, "0"),
            mac(b"secret", id, "bob", 1, "0"),
            mac(b"secret", id, "alice", 2, "0"),
            mac(b"secret", id, "alice", 1, "1"),
        ]
        .into();
        assert_eq!(macs.len(), 6);
    }

    #[test]
    fn a_passkey_is_64_hexadecimal_digits() {
        let text = format!("{}{}", "01a205b6340d72db85d4e6fb979392a0", "ab".repeat(16));
        let passkey = Passkey::parse(&text).unwrap();
        assert_eq!(
            (passkey.request.to_string().as_str(), passkey.mac),
            ("01a205b6-340d-72db-85d4-e6fb979392a0", [0xab; 16])
        );
        for bad in ["", &text[1..], &text.replace('a', "x"), &"ab".repeat(16), &"é".repeat(32)] {
            assert_eq!(Passkey::parse(bad), None, "{bad}");
        }
    }
}
