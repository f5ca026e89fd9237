//! Durable stores on SQLite.

pub(crate) mod database;
pub(crate) mod guards;
mod lookups;
pub(crate) mod requests;
mod rows;
pub(crate) mod statistics;
pub(crate) mod torrents;
mod transitions;
