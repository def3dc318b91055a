//! rx86 cpu.
