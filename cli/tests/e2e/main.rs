//! The program as its users meet it: a real server process, real clients, real proxies, on loopback.

mod api;
mod clients;
mod command;
mod crash;
mod deduplication;
mod fetching;
mod origin;
mod server;
mod tracker;
