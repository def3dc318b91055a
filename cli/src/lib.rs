//! The `rx86` library: the machine, its console, and everything that touches the host's files, terminal and clock.

pub mod args;
pub mod console;
pub mod demo;
pub mod diff;
pub mod escape;
pub mod exit_status;
pub mod heap;
pub mod image;
pub mod initrd;
pub mod machine;
pub mod recording;
pub mod session;
pub mod stats;
pub mod terminal;
pub mod trace;
