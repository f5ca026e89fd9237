//! Settings whose value is one of a few words.

use crate::value::Value;

/// Defines an enum whose values are words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word in the settings.
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
    /// Which defaults apply.
    Profile {
        /// Secure by default; what is missing is an error.
        Production = "production",
        /// No authentication and no proxy, on loopback addresses only.
        Development = "development",
    }
}

words! {
    /// How the proxy is spoken to.
    ProxyType {
        /// RFC 1928, user name and password by RFC 1929.
        Socks5 = "socks5",
        /// HTTP, with CONNECT for https URLs.
        Http = "http",
        /// As `http`, over TLS.
        Https = "https",
    }
}

words! {
    /// Who looks host names up.
    ProxyResolve {
        /// The proxy: no look-up leaves this machine.
        Remote = "remote",
        /// This machine: the addresses are checked, and the look-up is visible to its resolver.
        Local = "local",
    }
}

words! {
    /// Whether peers encrypt (message stream encryption, RC4).
    Encryption {
        /// Every connection must be encrypted.
        Forced = "forced",
        /// Connections are encrypted where the peer can.
        Preferred = "preferred",
        /// No connection is encrypted.
        Off = "off",
    }
}

words! {
    /// Whose torrents share a salt.
    SaltScope {
        /// All.
        Deployment = "deployment",
        /// Those of one owner.
        Owner = "owner",
    }
}

words! {
    /// Where content is kept.
    StorageType {
        /// A folder.
        Filesystem = "filesystem",
    }
}
