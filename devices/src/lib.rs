//! The chips of the PC board and its wiring. A chip drives wires and never calls another chip; the board routes.

pub mod device;
pub mod ioapic;
pub mod lapic;
pub mod pic;
pub mod pit;
pub mod rtc;
pub mod wire;

pub use device::{Clock, Device};
pub use wire::{Wire, WireChanges, WireHarness};
