//! From 64-bit mode down to real-address mode and back up, through PAE and 32-bit paging (SDM vol. 3, 9.8.5 and 9.9).

use super::frame64;
use super::guest::SystemGuest;
use super::layout::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

const EFER: u32 = 0xc000_0080;
const PG: u32 = 1 << 31;
/// Where a tour leaves what it has seen.
const SEEN: u32 = SCRATCH;
/// The pointers of PAE paging, and the directory of 32-bit paging with a page of 4 MiB.
const PAE_POINTERS: u32 = PAGES;
const DIRECTORY32: u32 = PAGES + 0x1000;
/// 16-bit code lies below 64 KiB.
const LOW_CODE: u32 = 0x7200;

/// Where a tour goes.
#[derive(Clone, Copy)]
struct Tour {
    pae: bool,
    bits32: bool,
    real: bool,
}

/// The guest.
pub fn guest() -> SystemGuest {
    let mut long = frame64::guest("mode changes");
    long.put(PAE_POINTERS, &((TABLES + 0x1000) | 1).to_le_bytes());
    long.put(DIRECTORY32, &0x83u32.to_le_bytes());
    for number in 0..8 {
        tour(&mut long, Tour { pae: number & 1 != 0, bits32: number & 2 != 0, real: number & 4 != 0 });
    }
    long
}

fn set_lme(a: &mut CodeAssembler, on: bool) -> Result<(), IcedError> {
    a.mov(ecx, EFER)?;
    a.rdmsr()?;
    if on {
        a.or(eax, 0x100)?;
    } else {
        a.and(eax, !0x100)?;
    }
    a.wrmsr()
}

/// Turns paging on with a CR3, or off.
fn paging(a: &mut CodeAssembler, tables: u32, on: bool) -> Result<(), IcedError> {
    if on {
        a.mov(eax, tables)?;
        a.mov(cr3, eax)?;
    }
    a.mov(eax, cr0)?;
    if on {
        a.or(eax, PG as i32)?;
    } else {
        a.and(eax, !PG as i32)?;
    }
    a.mov(cr0, eax)
}

/// Keeps CR0, CR4 and EFER in the two dwords of `place`.
fn note(a: &mut CodeAssembler, place: u32) -> Result<(), IcedError> {
    a.mov(ecx, EFER)?;
    a.rdmsr()?;
    a.mov(ebx, cr4)?;
    a.shl(ebx, 12)?;
    a.or(eax, ebx)?;
    a.mov(dword_ptr(SEEN + 8 * place), eax)?;
    a.mov(eax, cr0)?;
    a.mov(dword_ptr(SEEN + 8 * place + 4), eax)
}

fn far_jump(a: &mut CodeAssembler, selector: u16, offset: u32) -> Result<(), IcedError> {
    a.db(&[0xea])?;
    a.dd(&[offset])?;
    a.dw(&[selector])
}

/// The code at `low` that goes through 16-bit protected mode to real-address mode, and on to `up` in 32-bit protected mode.
fn put_real(guest: &mut SystemGuest, low: u32, up: u32) {
    guest.put_code(16, low, &|a| {
        a.mov(eax, cr0)?;
        a.and(al, !1)?;
        a.mov(cr0, eax)?;
        a.db(&[0xea])?;
        a.dw(&[low as u16 + 0x20, 0])
    });
    guest.put_code(16, low + 0x20, &|a| {
        a.xor(cx, cx)?;
        a.mov(ds, cx)?;
        a.smsw(ebx)?;
        a.mov(dword_ptr(SEEN + 32), ebx)?;
        a.mov(word_ptr(SEEN + 36), cs)?;
        a.or(al, 1)?;
        a.mov(cr0, eax)?;
        a.db(&[0x66, 0xea])?;
        a.dd(&[up])?;
        a.dw(&[CODE32])
    });
}

fn tour(guest: &mut SystemGuest, tour: Tour) {
    let number = guest.cases.len() as u32;
    let down = OTHER_CODE + 0x1_0000 + number * 0x400;
    let (up, top) = (down + 0x200, down + 0x300);
    let low = LOW_CODE + number * 0x80;
    guest.put_code(32, down, &|a| {
        paging(a, 0, false)?;
        note(a, 0)?;
        set_lme(a, false)?;
        note(a, 1)?;
        if tour.pae {
            paging(a, PAE_POINTERS, true)?;
            note(a, 2)?;
            paging(a, 0, false)?;
        }
        if tour.bits32 {
            a.mov(eax, 0x610)?;
            a.mov(cr4, eax)?;
            paging(a, DIRECTORY32, true)?;
            note(a, 3)?;
            paging(a, 0, false)?;
        }
        if tour.real { far_jump(a, CODE16, low) } else { far_jump(a, CODE32, up) }
    });
    put_real(guest, low, up);
    guest.put_code(32, up, &|a| {
        a.mov(eax, i32::from(DATA0))?;
        a.mov(ds, eax)?;
        a.mov(eax, 0x620)?;
        a.mov(cr4, eax)?;
        set_lme(a, true)?;
        note(a, 5)?;
        paging(a, TABLES, true)?;
        note(a, 6)?;
        far_jump(a, CODE0, top)
    });
    guest.put_code(64, top, &|a| {
        for (place, register) in [r8, r9, r10, r11, r12, r13, r14].into_iter().enumerate() {
            a.mov(register, qword_ptr(u64::from(SEEN) + 8 * place as u64))?;
        }
        a.int(0x30)
    });
    let Tour { pae, bits32, real } = tour;
    guest.case(format!("down and up: PAE {pae}, 32-bit paging {bits32}, real-address mode {real}"), &|a| {
        for place in 0..8u32 {
            a.mov(qword_ptr(u64::from(SEEN + 8 * place)), 0)?;
        }
        a.push(i32::from(CODE32))?;
        a.push(down as i32)?;
        a.db(&[0x48, 0xcb])
    });
    guest.expect("vector", 0x30);
}
