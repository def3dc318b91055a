//! The chips of the PC board and its wiring. A chip drives wires and never calls another chip; the board routes.

pub mod board;
pub mod debug_exit;
pub mod device;
pub mod i8042;
pub mod ioapic;
pub mod lapic;
pub mod layout;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod power;
pub mod rtc;
pub mod serial;
pub mod wire;

pub use board::{Board, BoardConfig, BoardRequest, IoCount};
pub use device::{Clock, Device};
pub use wire::{Wire, WireChanges, WireHarness};
