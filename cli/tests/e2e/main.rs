//! The program as its users meet it: a real server process, real clients, real proxies, on loopback.

mod answers;
mod api;
mod clients;
mod command;
mod crash;
mod deduplication;
mod disk;
mod fairness;
mod fetching;
mod following;
mod hostile;
mod integrity;
mod limits;
mod lookups;
mod origin;
mod peers;
mod privacy;
mod proxies;
mod raw;
mod resuming;
mod reverse_proxy;
mod schema;
mod server;
mod signatures;
mod tracker;
