//! Paging in all modes: rights, reserved bits, accessed and dirty bits, error codes, CR0.WP, SMEP, SMAP and NX (SDM vol.
//! 3, 4.3 to 4.8).

use super::frame32::{self, Paging};
use super::frame64;
use super::guest::{SystemGuest, set_qword};
use super::layout::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What an entry says beside the address: present, writable, user; and bits that must not be set.
const ENTRIES: [(&str, u64); 10] = [
    ("absent", 0),
    ("absent but for the rights", 6),
    ("P", 1),
    ("PW", 3),
    ("PU", 5),
    ("PWU", 7),
    ("PWU accessed dirty", 0x67),
    ("PWU global", 0x107),
    ("PWU not executable", 7 | 1 << 63),
    ("PWU reserved", 7 | 1 << 51),
];

/// Bits of control registers during a case.
#[derive(Clone, Copy)]
struct Control {
    name: &'static str,
    cr0: u32,
    cr4: u32,
}

const CONTROLS: [Control; 4] = [
    Control { name: "plain", cr0: 0, cr4: 0 },
    Control { name: "WP", cr0: 1 << 16, cr4: 0 },
    Control { name: "SMEP", cr0: 0, cr4: 1 << 20 },
    Control { name: "WP SMAP", cr0: 1 << 16, cr4: 1 << 21 },
];

/// 32-bit paging.
pub fn bits32() -> SystemGuest {
    let mut guest = frame32::guest("32-bit paging", Paging::Bits32);
    rights(&mut guest, 32, 4, 0x8000_0011, 0x10);
    directory32(&mut guest);
    guest
}

/// PAE paging, with NX.
pub fn pae() -> SystemGuest {
    let mut guest = frame32::guest("PAE paging", Paging::Pae);
    enable_nx(&mut guest);
    rights(&mut guest, 32, 8, 0x8000_0011, 0x20);
    guest
}

/// Four-level paging.
pub fn four_level() -> SystemGuest {
    let mut guest = frame64::guest("four-level paging");
    enable_nx(&mut guest);
    rights(&mut guest, 64, 8, 0x8000_0011, 0x620);
    canonical(&mut guest);
    guest
}

fn enable_nx(guest: &mut SystemGuest) {
    guest.case("EFER.NXE", &|a| {
        a.mov(ecx, 0xc000_0080u32)?;
        a.rdmsr()?;
        a.or(eax, 1 << 11)?;
        a.wrmsr()
    });
}

fn set_control(a: &mut CodeAssembler, bits: u32, cr0_value: u32, cr4_value: u32) -> Result<(), IcedError> {
    a.mov(eax, cr0_value)?;
    if bits == 64 {
        a.mov(cr0, rax)?
    } else {
        a.mov(cr0, eax)?
    }
    a.mov(eax, cr4_value)?;
    if bits == 64 { a.mov(cr4, rax) } else { a.mov(cr4, eax) }
}

/// An access to `linear` that reads, writes or executes there.
fn touch(a: &mut CodeAssembler, linear: u32, access: &str) -> Result<(), IcedError> {
    match access {
        "read" => a.mov(ebx, dword_ptr(u64::from(linear) + 8)),
        "write" => a.mov(dword_ptr(u64::from(linear) + 8), ebx),
        "read and write" => a.add(dword_ptr(u64::from(linear) + 8), ebx),
        // INT 0x30 stands at the page's start.
        _ => a.jmp(u64::from(linear)),
    }
}

/// Every entry with every access under every control. `base_cr0` and `base_cr4` are what the mode needs.
fn rights(guest: &mut SystemGuest, bits: u32, entry_bytes: u32, base_cr0: u32, base_cr4: u32) {
    guest.put(PAGES, &[0xcd, 0x30]);
    let entry_at = |guest: &SystemGuest| {
        // Each case has an entry, and so a page, of its own.
        let number = guest.cases.len() as u32;
        (TEST_TABLE + number * entry_bytes, TEST_LINEAR + number * 0x1000)
    };
    for (what, rights) in ENTRIES {
        if entry_bytes == 4 && rights >> 32 != 0 {
            continue;
        }
        for control in CONTROLS {
            for access in ["read", "write", "read and write", "execute"] {
                let (at, linear) = entry_at(guest);
                // A user's page must not be the guest's own with SMAP and SMEP: only what the case touches is.
                guest.case(format!("{what}, {}, {access}, CPL 0", control.name), &|a| {
                    set_qword_or_dword(a, entry_bytes, at, u64::from(PAGES) | rights)?;
                    set_control(a, bits, base_cr0 | control.cr0, base_cr4 | control.cr4)?;
                    touch(a, linear, access)
                });
                if control.cr4 != 0 || access == "read and write" {
                    continue;
                }
                let (at, linear) = entry_at(guest);
                guest.user_case(
                    format!("{what}, {}, {access}, CPL 3", control.name),
                    0,
                    &|a| {
                        set_qword_or_dword(a, entry_bytes, at, u64::from(PAGES) | rights)?;
                        set_control(a, bits, base_cr0 | control.cr0, base_cr4 | control.cr4)
                    },
                    &|a| {
                        a.mov(ecx, i32::from(DATA3 | 3))?;
                        a.mov(ds, ecx)?;
                        touch(a, linear, access)
                    },
                );
            }
        }
    }
    for (what, flags) in [("without AC", 2), ("with AC", 0x4_0002)] {
        let (at, linear) = entry_at(guest);
        guest.case(format!("SMAP {what}"), &|a| {
            set_qword_or_dword(a, entry_bytes, at, u64::from(PAGES) | 7)?;
            set_control(a, bits, base_cr0, base_cr4 | 1 << 21)?;
            a.push(flags)?;
            if bits == 64 {
                a.popfq()?
            } else {
                a.popfd()?
            }
            touch(a, linear, "write")
        });
    }
    guest.case("plain control registers again", &|a| set_control(a, bits, base_cr0, base_cr4));
    let (at, linear) = entry_at(guest);
    guest.case("a write across a border faults at the second page, without a trace", &|a| {
        set_qword_or_dword(a, entry_bytes, at, u64::from(PAGES) | 3)?;
        a.mov(dword_ptr(u64::from(linear) + 0xffe), -1)
    });
}

fn set_qword_or_dword(a: &mut CodeAssembler, bytes: u32, at: u32, entry: u64) -> Result<(), IcedError> {
    if bytes == 8 { set_qword(a, at, entry) } else { a.mov(dword_ptr(u64::from(at)), entry as u32 as i32) }
}

/// Directory entries of 32-bit paging: 4 MiB pages with and without PSE, PSE-36 addresses, rights of both levels.
fn directory32(guest: &mut SystemGuest) {
    let cases = [
        ("4 MiB page", 0x87u32),
        ("4 MiB page, read-only", 0x85),
        ("4 MiB page, supervisor", 0x83),
        ("4 MiB page, reserved bit 21", 0x20_0087),
        ("absent", 0x6),
        ("supervisor over a user's page", TEST_TABLE | 3),
        ("read-only over a writable page", TEST_TABLE | 5),
    ];
    for (i, (what, entry)) in cases.into_iter().enumerate() {
        for (j, access) in ["read", "write"].into_iter().enumerate() {
            let slot = 0x80 + 2 * i as u32 + j as u32;
            // The first page of a 4 MiB page is the interrupt table, which nobody uses here.
            let linear = slot << 22;
            guest.user_case(
                format!("directory: {what}, {access}"),
                0,
                &|a| a.mov(dword_ptr(TABLES + slot * 4), entry),
                &|a| {
                    a.mov(ecx, i32::from(DATA3 | 3))?;
                    a.mov(ds, ecx)?;
                    touch(a, linear, access)
                },
            );
        }
    }
}

/// Addresses that are not canonical.
fn canonical(guest: &mut SystemGuest) {
    const OUTSIDE: u64 = 0x8000_0000_0000;
    guest.case("a read of an address that is not canonical", &|a| {
        a.mov(rax, OUTSIDE)?;
        a.mov(rbx, qword_ptr(rax))
    });
    guest.case("a read across the canonical border", &|a| {
        a.mov(rax, OUTSIDE - 4)?;
        a.mov(rbx, qword_ptr(rax))
    });
    guest.case("a push on a stack that is not canonical", &|a| {
        a.mov(rsp, OUTSIDE + 8)?;
        a.mov(rbp, OUTSIDE)?;
        a.mov(rsp, i64::from(STACK))?;
        a.mov(rax, qword_ptr(rbp))
    });
    guest.case("a jump to an address that is not canonical", &|a| {
        a.mov(rax, OUTSIDE)?;
        a.jmp(rax)
    });
    guest.case("RET to an address that is not canonical", &|a| {
        a.mov(rax, OUTSIDE)?;
        a.push(rax)?;
        a.ret()
    });
    guest.case("INVLPG and INVPCID", &|a| {
        a.mov(rax, OUTSIDE)?;
        a.invlpg(byte_ptr(rax))
    });
}
