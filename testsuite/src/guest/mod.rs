//! Guests of our own: small static programs, initrds around them, and how to run a guest on rx86 and on QEMU.

pub mod bare;
pub mod program;
pub mod residency;
pub mod runner;
