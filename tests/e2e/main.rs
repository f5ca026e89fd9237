//! End-to-end tests: a real server process, real clients and real proxies, on loopback.

mod answers;
mod api;
mod clients;
mod crash;
mod deduplication;
mod disk;
mod documents;
mod fairness;
mod fetching;
mod following;
mod hostile;
mod integrity;
mod limits;
mod listen_port;
mod lookups;
mod packages;
mod peers;
mod privacy;
mod proxies;
mod raw;
mod receivers;
mod resuming;
mod reverse_proxy;
mod schema;
mod signatures;
mod tracker;
