//! Connections to origins, direct or through proxies.

pub(crate) mod classify;
pub(crate) mod client;
pub(crate) mod interface;
pub(crate) mod proxy;
pub(crate) mod response;
pub(crate) mod sender;
