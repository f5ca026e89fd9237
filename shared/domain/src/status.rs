//! The statuses of a request and the steps that work on them.

use crate::text_enum::text_enum;

text_enum! {
    /// The status of a request. [`Transition`](crate::Transition) declares the moves between statuses.
    pub enum Status ("status") {
        /// Waits for a worker, for its next try, or for an identical request that is being fetched.
        Queued = "queued",
        /// The content is being downloaded.
        Fetching = "fetching",
        /// The content is stored; the torrent is being made.
        Packaging = "packaging",
        /// The torrent is stored; the seeder is about to add it.
        Seeding = "seeding",
        /// The torrent can be downloaded.
        Ready = "ready",
        /// Failed for good; the failure says why.
        Failed = "failed",
        /// Cancelled by its owner.
        Cancelled = "cancelled",
        /// Was ready, and its retention is over.
        Expired = "expired",
    }
}

/// The next work on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Download the content.
    Fetch,
    /// Make the torrent.
    Package,
    /// Add the torrent to the seeder.
    Seed,
    /// Expire a ready request whose retention is over.
    Expire,
    /// Remove the content and the torrent of an ended request.
    Release,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 5] = [Self::Fetch, Self::Package, Self::Seed, Self::Expire, Self::Release];

    /// The statuses that wait for the step.
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
    /// The step that a request in this status waits for, once it is due.
    pub const fn step(self) -> Step {
        match self {
            Self::Queued | Self::Fetching => Step::Fetch,
            Self::Packaging => Step::Package,
            Self::Seeding => Step::Seed,
            Self::Ready => Step::Expire,
            Self::Failed | Self::Cancelled | Self::Expired => Step::Release,
        }
    }

    /// Whether the request has ended. No other status follows.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelled | Self::Expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_belongs_to_its_step() {
        for &status in Status::ALL {
            let steps: Vec<_> = Step::ALL.into_iter().filter(|step| step.statuses().contains(&status)).collect();
            assert_eq!(steps, [status.step()], "{status}");
        }
    }
}
