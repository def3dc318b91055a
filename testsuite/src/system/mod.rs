//! The processor's system level: guests of our own for segmentation, paging, interrupts, task switches and mode changes,
//! run on rx86 and on QEMU; what they leave in memory and registers is compared.

pub mod apic_board;
pub mod compare;
pub mod debug64;
pub mod external_interrupts;
pub mod frame16;
pub mod frame32;
pub mod frame64;
pub mod guest;
pub mod interrupts;
pub mod known;
pub mod layout;
pub mod long;
pub mod modes;
pub mod opcodes;
pub mod paging;
pub mod real;
pub mod run;
pub mod segments;
pub mod tables;
pub mod task_contents;
pub mod tasks;
pub mod transfers;
pub mod virtual_8086;
pub mod virtual_8086_flags;

use guest::SystemGuest;

/// Every guest.
pub fn guests() -> Vec<SystemGuest> {
    let mut guests = vec![
        segments::data_segments(),
        segments::descriptor_looks(),
        segments::limits(),
        transfers::guest(),
        interrupts::guest(),
        external_interrupts::guest(),
        paging::bits32(),
        paging::pae(),
        paging::four_level(),
        long::guest(),
        modes::guest(),
        debug64::guest(),
        real::guest(),
    ];
    guests.extend(tasks::guests());
    guests.extend(virtual_8086::guests());
    guests
}
