//! Passkeys: how the tracker knows a user.

use std::collections::HashMap;
use std::fmt;

use domain::{RequestId, UserId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The passkeys of all users, derived from one secret: nothing to store, the same on every machine.
pub struct Passkeys {
    secret: Vec<u8>,
    users: HashMap<String, UserId>,
}

impl Passkeys {
    /// The passkeys of these users.
    pub fn new(secret: &[u8], users: impl IntoIterator<Item = UserId>) -> Self {
        let mut passkeys = Self { secret: secret.to_vec(), users: HashMap::new() };
        for user in users {
            passkeys.users.insert(passkeys.of(&user), user);
        }
        passkeys
    }

    /// The passkey of this user: 128 bits as 32 hexadecimal digits.
    pub fn of(&self, user: &UserId) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(b"tracker passkey\n");
        mac.update(user.as_str().as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..16])
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
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(format!("content\n{id}").as_bytes());
        mac
    }

    /// Whose passkey this is.
    pub fn user(&self, passkey: &str) -> Option<&UserId> {
        self.users.get(passkey)
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
    fn each_user_has_a_passkey_of_their_own_that_the_secret_decides() {
        let users = [UserId::new("alice"), UserId::new("bob")];
        let passkeys = Passkeys::new(b"secret", users.clone());
        let [alice, bob] = users.map(|user| passkeys.of(&user));
        assert_ne!(alice, bob);
        assert_eq!(passkeys.user(&alice), Some(&UserId::new("alice")));
        assert_eq!(passkeys.user(&"0".repeat(32)), None);
        assert_ne!(Passkeys::new(b"other", []).of(&UserId::new("alice")), alice);
        assert!(!format!("{passkeys:?}").contains(&alice));
    }
}
