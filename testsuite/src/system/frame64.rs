//! 64-bit mode: how a guest gets there, and its handlers.

use super::guest::{SystemGuest, VECTORS};
use super::layout::*;
use super::tables;
use iced_x86::code_asm::*;

/// Quadwords that a handler dumps from its stack: segments, registers, the vector, and what the delivery pushed.
const DUMPED: u32 = 4 + 15 + 1 + 8;
const DUMPED_NAMES: [&str; 20] = [
    "gs", "fs", "es", "ds", "r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rdi", "rsi", "rbp", "rbx",
    "rdx", "rcx", "rax", "vector",
];
const OTHER_NAMES: [&str; 12] =
    ["cr2", "cr0", "cr3", "cr4", "dr6", "tr", "ldtr", "ss", "rflags", "FS base", "GS base", "KERNEL_GS_BASE"];
const RECORD_FIELDS: usize = 48;

/// A guest in 64-bit mode with four-level paging.
pub fn guest(name: &'static str) -> SystemGuest {
    let mut guest = SystemGuest::new(name, 64, CASES, LOG);
    guest.fields = DUMPED_NAMES.map(String::from).to_vec();
    guest.fields.extend((0..DUMPED - 20).map(|i| format!("pushed[{i}]")));
    guest.fields.extend(OTHER_NAMES.map(String::from));
    guest.fields.resize(RECORD_FIELDS, "unused".into());
    tables::four_level(&mut guest);
    fill_tables(&mut guest);
    put_start(&mut guest);
    put_handlers(&mut guest);
    guest
}

fn fill_tables(guest: &mut SystemGuest) {
    let flat = 0xf_ffff;
    for (selector, image) in [
        (CODE0, descriptor(0, flat, CODE_ACCESS, FLAGS64)),
        (DATA0, descriptor(0, flat, DATA_ACCESS, FLAGS32)),
        (CODE3, descriptor(0, flat, CODE_ACCESS | DPL3, FLAGS64)),
        (DATA3, descriptor(0, flat, DATA_ACCESS | DPL3, FLAGS32)),
        (TASK, descriptor(TSS, 0x67, 0x89, 0)),
        (OTHER_TASK, descriptor(OTHER_TSS, 0x67, 0x89, 0)),
        (LOCAL, descriptor(LDT, 0x1f, 0x82, 0)),
        (CODE32, descriptor(0, flat, CODE_ACCESS, FLAGS32)),
        (CODE16, descriptor(0, 0xffff, CODE_ACCESS, 0)),
        (DATA16, descriptor(0, 0xffff, DATA_ACCESS, 0)),
        (CODE32_3, descriptor(0, flat, CODE_ACCESS | DPL3, FLAGS32)),
        (CODE1, descriptor(0, flat, CODE_ACCESS | 0x20, FLAGS64)),
        (DATA1, descriptor(0, flat, DATA_ACCESS | 0x20, FLAGS32)),
    ] {
        guest.put_descriptor(selector, image);
    }
    for (at, stack) in [(4, STACK0), (12, STACK1), (20, STACK2), (0x24, IST1), (0x2c, IST1 + 0x400)] {
        guest.put(TSS + at, &u64::from(stack).to_le_bytes());
    }
    guest.put(TSS + 0x66, &0x68u16.to_le_bytes());
    for vector in 0..VECTORS {
        let access = if vector >= 0x30 || vector == 3 || vector == 4 { 0xee } else { 0x8e };
        let image = gate(CODE0, HANDLERS + vector * STUB_BYTES, access, 0);
        guest.put(IDT + vector * 16, &image.to_le_bytes());
    }
}

/// From real-address mode straight to 64-bit mode and the first case.
fn put_start(guest: &mut SystemGuest) {
    let long = START + 0x100;
    guest.put(GDT_OPERAND, &GDT_LIMIT.to_le_bytes());
    guest.put(GDT_OPERAND + 2, &GDT.to_le_bytes());
    guest.put(IDT_OPERAND, &((VECTORS * 16 - 1) as u16).to_le_bytes());
    guest.put(IDT_OPERAND + 2, &IDT.to_le_bytes());
    guest.put(TARGET, &[0xcd, 0x30]);
    guest.put_code(16, START, &|a| {
        a.lgdt(fword_ptr(GDT_OPERAND))?;
        a.lidt(fword_ptr(IDT_OPERAND))?;
        // PAE, OSFXSR, OSXMMEXCPT.
        a.mov(eax, 0x620)?;
        a.mov(cr4, eax)?;
        a.mov(eax, TABLES)?;
        a.mov(cr3, eax)?;
        a.mov(ecx, 0xc000_0080u32)?;
        a.mov(eax, 0x101)?;
        a.xor(edx, edx)?;
        a.wrmsr()?;
        a.mov(eax, 0x8000_0011u32)?;
        a.mov(cr0, eax)?;
        a.db(&[0x66, 0xea])?;
        a.dd(&[long])?;
        a.dw(&[CODE0])
    });
    guest.put_code(64, long, &|a| {
        a.mov(eax, i32::from(DATA0))?;
        for segment in [ds, es, fs, gs, ss] {
            a.mov(segment, eax)?;
        }
        a.mov(esp, STACK)?;
        a.mov(eax, LOG)?;
        a.mov(qword_ptr(u64::from(LOG_POINTER)), rax)?;
        a.mov(eax, i32::from(TASK))?;
        a.ltr(ax)?;
        for register in REGISTERS {
            a.mov(register, 0i64)?;
        }
        a.push(0x2)?;
        a.popfq()?;
        a.jmp(u64::from(CASES))
    });
}

const REGISTERS: [AsmRegister64; 15] =
    [rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];

fn put_handlers(guest: &mut SystemGuest) {
    let common = HANDLERS + VECTORS * STUB_BYTES;
    for vector in 0..VECTORS {
        guest.put_code(64, HANDLERS + vector * STUB_BYTES, &|a| {
            a.push(vector as i32)?;
            a.jmp(u64::from(common))
        });
    }
    guest.put_code(64, common, &|a| {
        // With SMAP the handlers may look at any page.
        for register in REGISTERS {
            a.push(register)?;
        }
        for segment in [ds, es, fs, gs] {
            a.mov(eax, segment)?;
            a.push(rax)?;
        }
        a.mov(rbx, qword_ptr(u64::from(LOG_POINTER)))?;
        for i in 0..DUMPED as i32 {
            a.mov(rax, qword_ptr(rsp + 8 * i))?;
            a.mov(qword_ptr(rbx + 8 * i), rax)?;
        }
        let mut at = 8 * DUMPED as i32;
        for control in [cr2, cr0, cr3, cr4] {
            a.mov(rax, control)?;
            a.mov(qword_ptr(rbx + at), rax)?;
            at += 8;
        }
        a.mov(rax, dr6)?;
        a.mov(qword_ptr(rbx + at), rax)?;
        a.str(word_ptr(rbx + (at + 8)))?;
        a.sldt(word_ptr(rbx + (at + 16)))?;
        a.mov(word_ptr(rbx + (at + 24)), ss)?;
        a.pushfq()?;
        a.pop(qword_ptr(rbx + (at + 32)))?;
        for (i, msr) in [0xc000_0100u32, 0xc000_0101, 0xc000_0102].into_iter().enumerate() {
            a.mov(ecx, msr)?;
            a.rdmsr()?;
            a.mov(dword_ptr(rbx + (at + 40 + 8 * i as i32)), eax)?;
            a.mov(dword_ptr(rbx + (at + 44 + 8 * i as i32)), edx)?;
        }
        a.add(qword_ptr(u64::from(LOG_POINTER)), 8 * RECORD_FIELDS as i32)?;
        a.mov(eax, i32::from(DATA0))?;
        for segment in [ds, es, fs, gs, ss] {
            a.mov(segment, eax)?;
        }
        a.mov(esp, STACK)?;
        a.push(2)?;
        a.popfq()?;
        a.xor(eax, eax)?;
        a.mov(cr2, rax)?;
        a.mov(dr7, rax)?;
        a.mov(dr6, rax)?;
        for register in REGISTERS {
            a.mov(register, 0i64)?;
        }
        a.jmp(fword_ptr(u64::from(RESUME)))
    });
}
