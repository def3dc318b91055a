//! Page tables that map the guest's memory onto itself, with a page table of its own for the test pages (SDM vol. 3, 4.3
//! to 4.5).

use super::guest::SystemGuest;
use super::layout::*;

/// Present and writable; and for CPL 3.
const SUPERVISOR: u64 = 3;
const USER: u64 = 7;

/// The rights of the page at `gpa`: what code at CPL 3 needs is for users.
fn rights(gpa: u32) -> u64 {
    let stack = gpa == STACK3 & !0xfff;
    if stack || (OTHER_CODE..TABLES).contains(&gpa) { USER } else { SUPERVISOR }
}

/// 32-bit paging: the directory is `TABLES`.
pub fn bits32(guest: &mut SystemGuest) {
    let table = TABLES + 0x1000;
    guest.put(TABLES, &(table | USER as u32).to_le_bytes());
    guest.put(TABLES + (TEST_LINEAR >> 22) * 4, &(TEST_TABLE | USER as u32).to_le_bytes());
    for page in 0..1024 {
        let gpa = page << 12;
        guest.put(table + page * 4, &(gpa | rights(gpa) as u32).to_le_bytes());
    }
}

/// PAE paging: the four page-directory pointers are at `TABLES`.
pub fn pae(guest: &mut SystemGuest) {
    let directory = TABLES + 0x1000;
    guest.put(TABLES, &(directory | 1).to_le_bytes());
    directories(guest, directory);
}

/// Four-level paging: the PML4 is `TABLES`.
pub fn four_level(guest: &mut SystemGuest) {
    let (pointers, directory) = (TABLES + 0x4000, TABLES + 0x1000);
    guest.put(TABLES, &(pointers | USER as u32).to_le_bytes());
    guest.put(pointers, &(directory | USER as u32).to_le_bytes());
    directories(guest, directory);
}

/// A directory of eight-byte entries.
fn directories(guest: &mut SystemGuest, directory: u32) {
    let user = USER as u32;
    for i in 0..2 {
        let table = TABLES + 0x2000 + i * 0x1000;
        guest.put(directory + i * 8, &(table | user).to_le_bytes());
        let test_entry = (TEST_LINEAR >> 21) + i;
        guest.put(directory + test_entry * 8, &((TEST_TABLE + i * 0x1000) | user).to_le_bytes());
        for page in 0..512 {
            let gpa = (i << 9 | page) << 12;
            guest.put(table + page * 8, &(u64::from(gpa) | rights(gpa)).to_le_bytes());
        }
    }
}
