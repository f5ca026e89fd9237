//! What may be fetched and from where: addresses, hosts, ports, media types, file names.

pub(crate) mod addresses;
pub(crate) mod file_name;
pub(crate) mod guard;
pub(crate) mod media_type;
