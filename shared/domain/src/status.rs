//! The states of a request and the moves between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a request stands.
///
/// ```text
/// queued → fetching → packaging → seeding → ready → expired
///    └─────────┴──────────┴──────────┴────────┴──→ failed | cancelled
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waits for a worker, for its next try, or for an identical request that is being fetched.
    Queued,
    /// The content is being downloaded.
    Fetching,
    /// The content is stored; the torrent is being made.
    Packaging,
    /// The torrent is stored; the seeder is about to have it.
    Seeding,
    /// The torrent can be had and downloaded.
    Ready,
    /// Given up; the failure says why.
    Failed,
    /// Given up because its owner said so.
    Cancelled,
    /// Was ready, and has outlived its time.
    Expired,
}

/// What is to be done next for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Download the content.
    Fetch,
    /// Make the torrent.
    Package,
    /// Hand the torrent to the seeder.
    Seed,
    /// End a ready request whose time is over.
    Expire,
    /// Let go of the content and torrent of an ended request.
    Release,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Fetching,
        Self::Packaging,
        Self::Seeding,
        Self::Ready,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The step that a request in this state waits for, once it is due.
    pub const fn step(self) -> Step {
        match self {
            Self::Queued | Self::Fetching => Step::Fetch,
            Self::Packaging => Step::Package,
            Self::Seeding => Step::Seed,
            Self::Ready => Step::Expire,
            Self::Failed | Self::Cancelled | Self::Expired => Step::Release,
        }
    }

    /// Whether the request has ended, whichever way. No other status follows.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// Whether a request may go from here to `next`. `Queued` and `Packaging` may be returned to,
    /// to try again; `Queued` also from `Ready`, when the content is lost.
    pub const fn may_become(self, next: Self) -> bool {
        use Status::{Cancelled, Expired, Failed, Fetching, Packaging, Queued, Ready, Seeding};
        matches!(
            (self, next),
            (Queued | Fetching, Fetching)
                | (Fetching | Packaging | Ready, Queued)
                | (Fetching | Packaging | Seeding, Packaging)
                | (Packaging | Seeding, Seeding | Ready)
                | (Ready, Expired)
                | (Queued | Fetching | Packaging | Seeding | Ready, Failed | Cancelled)
        )
    }

    /// As it is written in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Fetching => "fetching",
            Self::Packaging => "packaging",
            Self::Seeding => "seeding",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|status| status.as_str() == s).ok_or_else(|| format!("'{s}' is no status"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_an_end() {
        for end in Status::ALL.into_iter().filter(|s| s.is_final()) {
            assert!(Status::ALL.into_iter().all(|next| !end.may_become(next)), "{end}");
        }
    }

    #[test]
    fn everything_before_an_end_can_be_cancelled() {
        for status in Status::ALL {
            assert_eq!(status.may_become(Status::Cancelled), !status.is_final(), "{status}");
        }
    }

    #[test]
    fn names_read_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("error".parse::<Status>().is_err());
    }
}
