//! The steps on the embedded backend (SQLite, a folder), with a manual clock.

mod common;
mod env;
mod fleet;
mod lifecycle;
mod notify;
mod repair;
