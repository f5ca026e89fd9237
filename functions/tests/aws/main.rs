//! Tests of the functions on an emulated AWS: calls and permissions, injected faults, the template, the binaries.

mod calls;
mod env;
mod faults;
mod runtime;
mod template;
mod transport;
