//! Guests of our own: small static programs, kernels of a few bytes, initrds around them, and how to run a guest on rx86
//! and on QEMU.

pub mod bare;
pub mod crowd;
pub mod debian;
pub mod program;
pub mod residency;
pub mod rounds;
pub mod runner;
pub mod tool;
