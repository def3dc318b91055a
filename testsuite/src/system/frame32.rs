//! 32-bit protected mode: how a guest gets there, and its handlers.

use super::guest::{Code, SystemGuest, VECTORS};
use super::layout::*;
use super::tables;
use iced_x86::code_asm::*;

/// Dwords that a handler dumps from its stack: segments, PUSHAD's, the vector, and what the delivery pushed.
const DUMPED: u32 = 4 + 8 + 1 + 11;
const DUMPED_NAMES: [&str; 13] =
    ["gs", "fs", "es", "ds", "edi", "esi", "ebp", "esp", "ebx", "edx", "ecx", "eax", "vector"];
const OTHER_NAMES: [&str; 8] = ["cr2", "cr0", "cr3", "dr6", "tr", "ldtr", "ss", "eflags"];

/// The paging mode of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// None.
    Off,
    /// 32-bit paging.
    Bits32,
    /// PAE paging.
    Pae,
}

/// What handlers do beside the common.
pub struct Extras<'a> {
    /// Dwords of memory that a record holds too, at most 32, by their names.
    pub logged: &'a [(&'a str, u32)],
    /// Executed behind the record, on the stack that every case begins with, to put back what cases have changed.
    pub restore: Code<'a>,
}

/// A guest in 32-bit protected mode.
pub fn guest(name: &'static str, paging: Paging) -> SystemGuest {
    guest_with(name, paging, &Extras { logged: &[], restore: &|_| Ok(()) })
}

/// A guest in 32-bit protected mode whose handlers do more.
pub fn guest_with(name: &'static str, paging: Paging, extras: &Extras<'_>) -> SystemGuest {
    let mut guest = SystemGuest::new(name, 32, CASES, LOG);
    guest.fields = DUMPED_NAMES.map(String::from).to_vec();
    guest.fields.extend((0..DUMPED - 13).map(|i| format!("pushed[{i}]")));
    guest.fields.extend(OTHER_NAMES.map(String::from));
    guest.fields.extend(extras.logged.iter().map(|(name, _)| name.to_string()));
    guest.fields.resize(64, "unused".into());
    fill_tables(&mut guest);
    match paging {
        Paging::Off => {}
        Paging::Bits32 => tables::bits32(&mut guest),
        Paging::Pae => tables::pae(&mut guest),
    }
    put_start(&mut guest, paging);
    put_handlers(&mut guest, extras);
    guest
}

fn fill_tables(guest: &mut SystemGuest) {
    let flat = 0xf_ffff;
    for (selector, image) in [
        (CODE0, descriptor(0, flat, CODE_ACCESS, FLAGS32)),
        (DATA0, descriptor(0, flat, DATA_ACCESS, FLAGS32)),
        (CODE3, descriptor(0, flat, CODE_ACCESS | DPL3, FLAGS32)),
        (DATA3, descriptor(0, flat, DATA_ACCESS | DPL3, FLAGS32)),
        (TASK, descriptor(TSS, 0x67, 0x89, 0)),
        (OTHER_TASK, descriptor(OTHER_TSS, 0x67, 0x89, 0)),
        (TASK16, descriptor(TSS16, 0x2b, 0x81, 0)),
        (LOCAL, descriptor(LDT, 0x1f, 0x82, 0)),
        (CODE32, descriptor(0, flat, CODE_ACCESS, FLAGS32)),
        (CODE16, descriptor(0, 0xffff, CODE_ACCESS, 0)),
        (DATA16, descriptor(0, 0xffff, DATA_ACCESS, 0)),
        (CODE32_3, descriptor(0, flat, CODE_ACCESS | DPL3, FLAGS32)),
        (CODE1, descriptor(0, flat, CODE_ACCESS | 0x20, FLAGS32)),
        (DATA1, descriptor(0, flat, DATA_ACCESS | 0x20, FLAGS32)),
    ] {
        guest.put_descriptor(selector, image);
    }
    for (i, (stack, selector)) in
        [(STACK0, DATA0), (STACK1, DATA1 | 1), (STACK2, DATA0 | 2)].into_iter().enumerate()
    {
        guest.put(TSS + 4 + 8 * i as u32, &stack.to_le_bytes());
        guest.put(TSS + 8 + 8 * i as u32, &selector.to_le_bytes());
    }
    // No I/O permission map.
    guest.put(TSS + 0x66, &0x68u16.to_le_bytes());
    for vector in 0..VECTORS {
        // The last vectors can be reached from CPL 3.
        let access = if vector >= 0x30 || vector == 3 || vector == 4 { 0xee } else { 0x8e };
        let image = gate(CODE0, HANDLERS + vector * STUB_BYTES, access, 0);
        guest.put(IDT + vector * 8, &image.to_le_bytes());
    }
}

/// From real-address mode to the first case.
fn put_start(guest: &mut SystemGuest, paging: Paging) {
    let protected = START + 0x100;
    guest.put(GDT_OPERAND, &GDT_LIMIT.to_le_bytes());
    guest.put(GDT_OPERAND + 2, &GDT.to_le_bytes());
    guest.put(IDT_OPERAND, &((VECTORS * 8 - 1) as u16).to_le_bytes());
    guest.put(IDT_OPERAND + 2, &IDT.to_le_bytes());
    guest.put_code(16, START, &|a| {
        a.lgdt(fword_ptr(GDT_OPERAND))?;
        a.lidt(fword_ptr(IDT_OPERAND))?;
        a.mov(eax, cr0)?;
        a.or(al, 1)?;
        a.mov(cr0, eax)?;
        // JMP FAR CODE0:protected, with a 32-bit offset.
        a.db(&[0x66, 0xea])?;
        a.dd(&[protected])?;
        a.dw(&[CODE0])
    });
    guest.put_code(32, protected, &|a| {
        a.mov(eax, i32::from(DATA0))?;
        for segment in [ds, es, fs, gs, ss] {
            a.mov(segment, eax)?;
        }
        a.mov(esp, STACK)?;
        a.mov(dword_ptr(LOG_POINTER), LOG)?;
        a.mov(eax, i32::from(TASK))?;
        a.ltr(ax)?;
        a.xor(eax, eax)?;
        for register in [ebx, ecx, edx, esi, edi, ebp] {
            a.mov(register, eax)?;
        }
        a.push(0x2)?;
        a.popfd()?;
        if paging != Paging::Off {
            // PSE, and PAE.
            a.mov(ecx, if paging == Paging::Pae { 0x20 } else { 0x10 })?;
            a.mov(cr4, ecx)?;
            a.mov(ecx, TABLES)?;
            a.mov(cr3, ecx)?;
            a.mov(ecx, cr0)?;
            a.or(ecx, 1 << 31)?;
            a.mov(cr0, ecx)?;
            a.xor(ecx, ecx)?;
        }
        a.jmp(u64::from(CASES))
    });
    guest.put(TARGET, &[0xcd, 0x30]);
}

fn put_handlers(guest: &mut SystemGuest, extras: &Extras<'_>) {
    let common = HANDLERS + VECTORS * STUB_BYTES;
    for vector in 0..VECTORS {
        guest.put_code(32, HANDLERS + vector * STUB_BYTES, &|a| {
            a.push(vector as i32)?;
            a.jmp(u64::from(common))
        });
    }
    guest.put_code(32, common, &|a| {
        a.pushad()?;
        for segment in [ds, es, fs, gs] {
            a.push(segment)?;
        }
        a.mov(eax, i32::from(DATA0))?;
        a.mov(ds, eax)?;
        a.mov(ebx, dword_ptr(LOG_POINTER))?;
        for i in 0..DUMPED as i32 {
            // A 16-bit stack's pointer must not be followed beyond its 16 bits.
            a.mov(eax, dword_ptr(esp + 4 * i))?;
            // A selector is pushed as two bytes or as four (SDM vol. 2, PUSH).
            if i < 4 {
                a.movzx(eax, ax)?;
            }
            a.mov(dword_ptr(ebx + 4 * i), eax)?;
        }
        let mut at = 4 * DUMPED as i32;
        for control in [cr2, cr0, cr3] {
            a.mov(eax, control)?;
            a.mov(dword_ptr(ebx + at), eax)?;
            at += 4;
        }
        a.mov(eax, dr6)?;
        a.mov(dword_ptr(ebx + at), eax)?;
        a.str(word_ptr(ebx + (at + 4)))?;
        a.sldt(word_ptr(ebx + (at + 8)))?;
        a.mov(word_ptr(ebx + (at + 12)), ss)?;
        a.pushfd()?;
        a.pop(dword_ptr(ebx + (at + 16)))?;
        for (i, (_, address)) in extras.logged.iter().enumerate() {
            a.mov(eax, dword_ptr(*address))?;
            a.mov(dword_ptr(ebx + (at + 20 + 4 * i as i32)), eax)?;
        }
        a.add(dword_ptr(LOG_POINTER), 256)?;
        a.mov(eax, i32::from(DATA0))?;
        for segment in [es, fs, gs, ss] {
            a.mov(segment, eax)?;
        }
        a.mov(esp, STACK)?;
        a.push(2)?;
        a.popfd()?;
        a.xor(eax, eax)?;
        a.mov(cr2, eax)?;
        a.mov(dr7, eax)?;
        a.mov(dr6, eax)?;
        (extras.restore)(a)?;
        a.xor(eax, eax)?;
        for register in [ebx, ecx, edx, esi, edi, ebp] {
            a.mov(register, eax)?;
        }
        a.clts()?;
        a.jmp(fword_ptr(RESUME))
    });
}
