//! Durable stores on SQLite.

pub(crate) mod database;
mod driver;
pub(crate) mod torrents;
