//! Comparing emulators: one guest on two sides, instruction by instruction.

pub mod gdb;
pub mod qemu;
mod qemu_state;
pub mod registers;
