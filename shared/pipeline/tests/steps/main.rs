//! The steps on the embedded backend (SQLite, a folder), with a manual clock.

mod common;
mod fleet;
mod lifecycle;
mod notify;
