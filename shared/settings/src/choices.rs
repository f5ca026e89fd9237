//! Enumerations: settings whose value is one of a few words.

use crate::value::Value;

/// Defines an enum and its words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Returns the word for the settings.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl Value for $name {
            fn allowed() -> String {
                [$($text,)+].join(" or ")
            }

            fn parse(text: &str) -> Result<Self, String> {
                match text.to_ascii_lowercase().as_str() {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("'{text}' is not one of the allowed words")),
                }
            }
        }
    };
}

words! {
    /// The set of defaults.
    Profile {
        /// Secure by default; a missing setting is an error.
        Production = "production",
        /// No authentication and no proxy, on loopback addresses only.
        Development = "development",
    }
}

words! {
    /// The protocol of a proxy.
    ProxyType {
        /// SOCKS5 (RFC 1928), with user name and password (RFC 1929).
        Socks5 = "socks5",
        /// HTTP, with CONNECT for https URLs.
        Http = "http",
        /// Like `http`, over TLS.
        Https = "https",
    }
}

words! {
    /// Where host names are resolved.
    ProxyResolve {
        /// At the proxy: no DNS query leaves this machine.
        Remote = "remote",
        /// On this machine: the addresses are checked, and the DNS resolver sees the queries.
        Local = "local",
    }
}

words! {
    /// Encryption of peer connections (message stream encryption, RC4).
    Encryption {
        /// Every connection must be encrypted.
        Forced = "forced",
        /// Connections are encrypted if the peer supports it.
        Preferred = "preferred",
        /// No connection is encrypted.
        Off = "off",
    }
}

words! {
    /// Which torrents share a salt.
    SaltScope {
        /// The torrents of all users.
        Deployment = "deployment",
        /// The torrents of one user.
        Owner = "owner",
    }
}

words! {
    /// The kind of content store.
    StorageType {
        /// A folder.
        Filesystem = "filesystem",
    }
}

words! {
    /// A service that sends messages to people.
    NotificationService {
        /// ntfy (docs.ntfy.sh).
        Ntfy = "ntfy",
        /// Gotify (gotify.net).
        Gotify = "gotify",
        /// A webhook of a Discord channel.
        Discord = "discord",
        /// The Apprise API (github.com/caronc/apprise-api).
        Apprise = "apprise",
    }
}

words! {
    /// A BitTorrent client that takes torrents over HTTP.
    ClientProgram {
        /// qBittorrent, by its Web API.
        Qbittorrent = "qbittorrent",
        /// Transmission, by its RPC.
        Transmission = "transmission",
        /// rqbit, by its HTTP API.
        Rqbit = "rqbit",
    }
}
