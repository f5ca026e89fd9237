//! Receivers of notifications: who learns that a request is ready or has failed.

use std::fmt;
use std::str::FromStr;

use crate::UnknownText;
use crate::text_enum::text_enum;

text_enum! {
    /// A receiver of the notification that a request is ready or has failed.
    pub enum Receiver ("receiver") {
        /// The [callback URL](crate::FetchSpec::callback_url) of the request: a webhook.
        Webhook = "webhook",
        /// The notification service of the operator, such as ntfy.
        Service = "service",
        /// The BitTorrent client of the operator, which gets the torrent of a ready request.
        Client = "client",
        /// The folder of the operator, which gets the `.torrent` file of a ready request.
        Folder = "folder",
    }
}

/// A set of receivers. Its text is their names, separated by commas.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Receivers(u8);

impl Receivers {
    /// Whether there is no receiver.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this receiver is in the set.
    pub const fn contains(self, receiver: Receiver) -> bool {
        self.0 & Self::bit(receiver) != 0
    }

    /// Adds a receiver.
    pub const fn insert(&mut self, receiver: Receiver) {
        self.0 |= Self::bit(receiver);
    }

    /// Returns the receivers, in the order of [`Receiver::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Receiver> {
        Receiver::ALL.iter().copied().filter(move |receiver| self.contains(*receiver))
    }

    const fn bit(receiver: Receiver) -> u8 {
        1 << receiver as u8
    }
}

impl FromIterator<Receiver> for Receivers {
    fn from_iter<I: IntoIterator<Item = Receiver>>(receivers: I) -> Self {
        let mut set = Self::default();
        receivers.into_iter().for_each(|receiver| set.insert(receiver));
        set
    }
}

impl fmt::Display for Receivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(Receiver::as_str).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Receivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromStr for Receivers {
    type Err = UnknownText;

    fn from_str(text: &str) -> Result<Self, UnknownText> {
        text.split(',').filter(|name| !name.is_empty()).map(str::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_receivers_reads_back_from_its_text() {
        let (none, all) = (Receivers::default(), Receiver::ALL.iter().copied().collect::<Receivers>());
        let two: Receivers = [Receiver::Folder, Receiver::Webhook].into_iter().collect();
        for set in [none, two, all] {
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        assert_eq!(two.to_string(), "webhook,folder");
        assert!(
            none.is_empty() && !two.is_empty() && two.contains(Receiver::Folder) && !two.contains(Receiver::Client)
        );
        assert!("webhook,pigeon".parse::<Receivers>().is_err());
    }
}
