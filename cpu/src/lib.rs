//! rx86 cpu.

pub mod float;
