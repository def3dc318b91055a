//! Real-address mode: how a guest gets there, and its handlers.

use super::guest::{SystemGuest, VECTORS};
use super::layout::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Dwords that a handler dumps from its stack: segments, PUSHAD's, the vector, and what the delivery pushed.
const DUMPED: u32 = 2 + 8 + 5;
const DUMPED_NAMES: [&str; 15] = [
    "fs gs",
    "ds es",
    "edi",
    "esi",
    "ebp",
    "esp",
    "ebx",
    "edx",
    "ecx",
    "eax",
    "ip vector",
    "flags cs",
    "stack",
    "stack + 4",
    "stack + 8",
];
const OTHER_NAMES: [&str; 5] = ["cr0", "dr6", "ss", "eflags", "scratch"];
const RECORD_FIELDS: usize = 20;
/// A vector whose handler takes another stack, and ends the case with the old one's pointer in EBX.
pub const LEAVES_STACK: i32 = 0x25;
/// The segment of the log.
const LOG_SEGMENT: i32 = (REAL_LOG >> 4) as i32;

/// A guest in real-address mode whose cases have 16-bit code.
pub fn guest(name: &'static str) -> SystemGuest {
    let mut guest = SystemGuest::new(name, 16, CASES, REAL_LOG);
    guest.fields = DUMPED_NAMES.map(String::from).to_vec();
    guest.fields.extend(OTHER_NAMES.map(String::from));
    let flat = 0xf_ffff;
    for (selector, image) in [
        (CODE32, descriptor(0, flat, CODE_ACCESS, FLAGS32)),
        (CODE16, descriptor(0, 0xffff, CODE_ACCESS, 0)),
        (DATA16, descriptor(0, 0xffff, DATA_ACCESS, 0)),
        (DATA0, descriptor(0, flat, DATA_ACCESS, FLAGS32)),
        // A base that no selector gives, and a small limit.
        (SPARE, descriptor(0x9_0008, 0xff, DATA_ACCESS, 0)),
        (SPARE + 8, descriptor(0, 0xff, DATA_ACCESS, 4)),
    ] {
        guest.put_descriptor(selector, image);
    }
    guest.put(GDT_OPERAND, &GDT_LIMIT.to_le_bytes());
    guest.put(GDT_OPERAND + 2, &GDT.to_le_bytes());
    guest.put(IDT_OPERAND, &[0xff, 3, 0, 0, 0, 0]);
    for vector in 0..VECTORS {
        guest.put(vector * 4, &(HANDLERS + vector * STUB_BYTES).to_le_bytes());
    }
    guest.put(TARGET, &[0xcd, 0x30]);
    guest.put(LEAVES_STACK as u32 * 4, &(TARGET + 0x20).to_le_bytes());
    guest.put_code(16, TARGET + 0x20, &|a| {
        a.mov(ebx, esp)?;
        a.xor(ax, ax)?;
        a.mov(ss, ax)?;
        a.mov(esp, STACK)?;
        a.int(0x30)
    });
    guest.put_code(16, START, &|a| {
        a.lgdt(fword_ptr(GDT_OPERAND))?;
        a.lidt(fword_ptr(IDT_OPERAND))?;
        a.mov(word_ptr(LOG_POINTER), 0)?;
        a.xor(eax, eax)?;
        fresh(a)?;
        a.db(&[0xea, 0, 0])?;
        a.dw(&[(CASES >> 4) as u16])
    });
    put_handlers(&mut guest);
    guest
}

/// What every case begins with: limits of 64 KiB, segments at zero, a stack, flags.
fn fresh(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(eax, cr0)?;
    a.and(eax, !0xe)?;
    a.or(eax, 1)?;
    a.mov(cr0, eax)?;
    a.mov(ecx, i32::from(DATA16))?;
    let segments = [ds, es, fs, gs, ss];
    for segment in segments {
        a.mov(segment, ecx)?;
    }
    a.and(eax, !1)?;
    a.mov(cr0, eax)?;
    a.xor(eax, eax)?;
    for segment in segments {
        a.mov(segment, eax)?;
    }
    a.mov(esp, STACK)?;
    a.mov(dr7, eax)?;
    a.mov(dr6, eax)?;
    a.lidt(fword_ptr(IDT_OPERAND))?;
    for register in [ebx, ecx, edx, esi, edi, ebp] {
        a.mov(register, eax)?;
    }
    a.mov(dword_ptr(SCRATCH), eax)?;
    a.push(2)?;
    a.db(&[0x66, 0x6a, 2])?;
    a.popfd()?;
    a.mov(esp, STACK)
}

fn put_handlers(guest: &mut SystemGuest) {
    let common = HANDLERS + VECTORS * STUB_BYTES;
    for vector in 0..VECTORS {
        guest.put_code(16, HANDLERS + vector * STUB_BYTES, &|a| {
            a.push(vector as i32)?;
            a.jmp(u64::from(common))
        });
    }
    guest.put_code(16, common, &|a| {
        a.pushad()?;
        for segment in [ds, es, fs, gs] {
            a.push(segment)?;
        }
        a.mov(ax, LOG_SEGMENT)?;
        a.mov(es, ax)?;
        a.xor(ax, ax)?;
        a.mov(ds, ax)?;
        a.mov(di, word_ptr(LOG_POINTER))?;
        a.mov(bp, sp)?;
        a.cld()?;
        for i in 0..DUMPED as i32 {
            a.mov(eax, dword_ptr(bp + 4 * i))?;
            a.stosd()?;
        }
        a.mov(eax, cr0)?;
        a.stosd()?;
        a.mov(eax, dr6)?;
        a.stosd()?;
        a.mov(eax, ss)?;
        a.stosd()?;
        a.pushfd()?;
        a.pop(eax)?;
        a.stosd()?;
        a.mov(eax, dword_ptr(SCRATCH))?;
        a.stosd()?;
        a.add(word_ptr(LOG_POINTER), 4 * RECORD_FIELDS as i32)?;
        fresh(a)?;
        a.jmp(dword_ptr(RESUME))
    });
}
