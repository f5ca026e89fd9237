//! The functions on an emulated AWS, call by call.

mod calls;
#[path = "../../../shared/aws/tests/emulator/mod.rs"]
mod emulator;
mod env;
mod faults;
mod runtime;
mod template;
mod transport;
