//! Fetch policy: addresses, hosts, ports, media types and file names.

pub(crate) mod addresses;
pub(crate) mod file_name;
pub(crate) mod guard;
pub(crate) mod media_type;
