//! The statuses of a request and the steps that work on them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a request stands. [`Transition`](crate::Transition) declares the moves between statuses.
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

impl Step {
    /// Every step.
    pub const ALL: [Self; 5] = [Self::Fetch, Self::Package, Self::Seed, Self::Expire, Self::Release];

    /// The statuses whose step it is.
    pub const fn statuses(self) -> &'static [Status] {
        match self {
            Self::Fetch => &[Status::Queued, Status::Fetching],
            Self::Package => &[Status::Packaging],
            Self::Seed => &[Status::Seeding],
            Self::Expire => &[Status::Ready],
            Self::Release => &[Status::Failed, Status::Cancelled, Status::Expired],
        }
    }
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
    fn every_status_belongs_to_its_step() {
        for status in Status::ALL {
            let steps: Vec<_> = Step::ALL.into_iter().filter(|step| step.statuses().contains(&status)).collect();
            assert_eq!(steps, [status.step()], "{status}");
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
