//! Comparing emulators: one guest on two sides, instruction by instruction.

pub mod against_qemu;
pub mod command;
pub mod gdb;
pub mod known;
pub mod lockstep;
pub mod qemu;
mod qemu_state;
pub mod registers;
pub mod report;
pub mod side;
mod state_compare;
