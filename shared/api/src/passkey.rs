//! Passkeys: how the tracker knows which request a peer acts for, and `DELETE /v1/passkeys`, which revokes them.
//!
//! A passkey is a request's id and a MAC over the request, its owner, its torrent and the owner's *generation*. So it
//! announces that one torrent, for as long as the request is ready. Revoking raises the generation.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{FetchRequest, InfoHash, RequestId, Timestamp, UserId};
use hmac::{Hmac, KeyInit, Mac};
use ports::{Reservations, StoreError};
use sha2::Sha256;

/// How long a generation is remembered: how long after a revocation another process may accept old passkeys.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How long a generation is kept after it was last raised: longer than any request.
const KEPT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The generation of a user who has never revoked passkeys.
const FIRST: &str = "0";

/// The passkeys of all users, derived from one secret: nothing to store, the same on every machine.
pub struct Passkeys {
    secret: Vec<u8>,
    users: HashSet<UserId>,
    generations: Mutex<HashMap<UserId, (String, Instant)>>,
}

/// A passkey as it was shown to the tracker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passkey {
    /// The request that it says it is for.
    pub request: RequestId,
    mac: [u8; 16],
}

impl Passkey {
    /// Reads 64 hexadecimal digits; `None` if the text is something else.
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
    /// The passkeys of these users.
    pub fn new(secret: &[u8], users: impl IntoIterator<Item = UserId>) -> Self {
        Self { secret: secret.to_vec(), users: users.into_iter().collect(), generations: Mutex::default() }
    }

    /// The passkey of a request with this torrent: 64 hexadecimal digits.
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

    /// Whether a passkey is the one of this request with this torrent, and its owner is still known.
    pub(crate) async fn verify(
        &self,
        guards: &dyn Reservations,
        now: Timestamp,
        passkey: &Passkey,
        row: &FetchRequest,
        infohash: InfoHash,
    ) -> Result<bool, StoreError> {
        if passkey.request != row.id || !self.users.contains(&row.owner) {
            return Ok(false);
        }
        let generation = self.generation(guards, &row.owner, now).await?;
        Ok(self.mac(row.id, &row.owner, infohash, &generation).verify_truncated_left(&passkey.mac).is_ok())
    }

    /// Makes all passkeys of this user invalid: at once in this process, within five seconds in others.
    pub(crate) async fn revoke(
        &self,
        guards: &dyn Reservations,
        user: &UserId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (key, until) = (generation_key(user), now + KEPT);
        // Of revocations at the same time one raises the generation, which serves all of them.
        if let Some(old) = guards.reserve(&key, "1", now, until).await? {
            let next = old.parse::<u64>().unwrap_or(0) + 1;
            guards.replace(&key, &old, &next.to_string(), until).await?;
        }
        let read_at = Instant::now();
        let generation = guards.value(&key, now).await?.unwrap_or_else(|| FIRST.to_owned());
        self.remember(user, generation, read_at);
        Ok(())
    }

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

    /// Keeps what was read at this time, unless something newer was: a revocation may have come in between.
    fn remember(&self, user: &UserId, generation: String, read_at: Instant) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = generations.get(user).is_some_and(|(_, known)| *known > read_at);
        if !newer {
            generations.insert(user.clone(), (generation, read_at));
        }
    }

    fn mac(&self, request: RequestId, owner: &UserId, infohash: InfoHash, generation: &str) -> Hmac<Sha256> {
        let mut mac = self.keyed();
        // The owner last: it alone may hold any character.
        mac.update(format!("tracker passkey 2\n{request}\n{infohash}\n{generation}\n{owner}").as_bytes());
        mac
    }

    /// The key to the content of this request, for its webseed.
    pub fn of_content(&self, id: RequestId) -> String {
        hex::encode(&self.content_key(id).finalize().into_bytes()[..16])
    }

    /// Whether this is that key, in constant time.
    pub fn opens_content(&self, id: RequestId, key: &str) -> bool {
        hex::decode(key).is_ok_and(|key| key.len() == 16 && self.content_key(id).verify_truncated_left(&key).is_ok())
    }

    fn content_key(&self, id: RequestId) -> Hmac<Sha256> {
        let mut mac = self.keyed();
        mac.update(format!("content\n{id}").as_bytes());
        mac
    }

    fn keyed(&self) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length")
    }
}

impl fmt::Debug for Passkeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passkeys").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_content_has_a_key_of_its_own() {
        let (passkeys, one, other) = (Passkeys::new(b"secret", []), RequestId::new(), RequestId::new());
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
            let passkeys = Passkeys::new(secret, []);
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
