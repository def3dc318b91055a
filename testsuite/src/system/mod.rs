//! The processor's system level: guests of our own for segmentation, paging, interrupts, task switches and mode changes,
//! run on rx86 and on QEMU; what they leave in memory and registers is compared.

pub mod compare;
pub mod frame32;
pub mod guest;
pub mod known;
pub mod layout;
pub mod run;
pub mod segments;

use guest::SystemGuest;

/// Every guest.
pub fn guests() -> Vec<SystemGuest> {
    vec![segments::data_segments()]
}
