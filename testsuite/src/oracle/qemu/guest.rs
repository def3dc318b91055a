//! The guest that runs programs on QEMU: it takes them from slots in its memory, one after the other, enters each in user
//! mode, and leaves registers, exception and data where it took them from.
//!
//! A batch costs one start and one stop through the debugger's stub; all else is the guest's own work. The data pages are
//! not copied: every slot has its own two, and the guest maps them.

use super::layout::*;
use crate::oracle::{self, CODE_BYTES, GS_BASE, PAGE, PRIVATE};
use crate::system::layout::{FLAGS32, FLAGS64, START, descriptor, gate};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// 64-bit code of CPL 0.
const KERNEL_CODE: u16 = 0x08;
/// Flat data of CPL 0.
const KERNEL_DATA: u16 = 0x10;
/// The task-state segment; two slots.
const TASK: u16 = 0x50;
const GDT_LIMIT: u16 = 0x5f;
const VECTORS: u32 = 32;

/// The selectors of `mode`'s code and data; those that Linux has where it has them.
pub(super) fn selectors(mode: oracle::Mode) -> (u16, u16) {
    match mode {
        oracle::Mode::Bits64 => (0x33, 0x2b),
        oracle::Mode::Bits32 => (0x23, 0x2b),
        oracle::Mode::Bits16 => (0x3b, 0x43),
    }
}

/// The linear address of something in the guest's own pages; it fits into a signed displacement.
pub(super) const fn linear(offset: u32) -> u32 {
    PRIVATE as u32 + offset
}

/// The guest's memory from address zero up to the data pages, and two places in its code.
pub(super) struct Guest {
    /// The memory.
    pub(super) image: Vec<u8>,
    /// Where it begins a batch.
    pub(super) begin: u32,
    /// Where it stands when it has done a batch, or nothing so far.
    pub(super) idle: u32,
}

/// The guest.
///
/// # Panics
/// If it cannot be assembled.
pub(super) fn build() -> Guest {
    let mut image = vec![0; (PRIVATE_GPA + PRIVATE_BYTES) as usize];
    let code = CODE_GPA as usize;
    image[code..code + CODE_BYTES].fill(0xcc);
    put_page_tables(&mut image);
    put_segments(&mut image);
    put_boot_code(&mut image);
    put_trampoline(&mut image);
    let addresses = put_kernel(&mut image).expect("the guest's code assembles");
    put_stubs(&mut image, addresses.common);
    Guest { image, begin: addresses.begin, idle: addresses.idle }
}

fn put(image: &mut [u8], at: u32, bytes: &[u8]) {
    image[at as usize..][..bytes.len()].copy_from_slice(bytes);
}

fn put_quadword(image: &mut [u8], at: u32, value: u64) {
    put(image, at, &value.to_le_bytes());
}

/// Two sets: the first maps low memory to itself too, which programs must not find.
fn put_page_tables(image: &mut [u8]) {
    const PRESENT: u64 = 1;
    const WRITE: u64 = 2;
    const FOR_USERS: u64 = 4;
    const LARGE: u64 = 0x80;
    const NO_EXECUTE: u64 = 1 << 63;
    let all = PRESENT | WRITE | FOR_USERS;
    for tables in [BOOT_TABLES, TABLES] {
        put_quadword(image, tables, u64::from(tables + 0x1000) | all);
        put_quadword(image, tables + 0x1000, u64::from(tables + 0x2000) | all);
        let directory_entry = (PRIVATE >> 21) as u32;
        put_quadword(image, tables + 0x2000 + directory_entry * 8, u64::from(TABLE) | all);
    }
    put_quadword(image, BOOT_TABLES + 0x2000, PRESENT | WRITE | LARGE);
    let mut map = |linear: u64, gpa: u32, rights: u64| {
        put_quadword(image, TABLE + (linear >> 12 & 511) as u32 * 8, u64::from(gpa) | rights);
    };
    let page = PAGE as u32;
    for i in 0..2u32 {
        map(oracle::CODE + u64::from(i * page), CODE_GPA + i * page, PRESENT | FOR_USERS);
    }
    map(oracle::DATA + 2 * PAGE as u64, ZERO_GPA, PRESENT | FOR_USERS | NO_EXECUTE);
    for i in 0..PRIVATE_BYTES.div_ceil(page) {
        map(PRIVATE + u64::from(i * page), PRIVATE_GPA + i * page, PRESENT | WRITE);
    }
    map(PRIVATE + u64::from(USER), PRIVATE_GPA + USER, all);
    map(PRIVATE + u64::from(TABLE_ALIAS), TABLE, PRESENT | WRITE);
    for i in 0..2 {
        map(PRIVATE + u64::from(CODE_ALIAS + i * page), CODE_GPA + i * page, PRESENT | WRITE);
    }
}

fn put_segments(image: &mut [u8]) {
    let (flat, all) = (0xf_ffff, 0xffff);
    let (code, data) = (oracle::CODE as u32, oracle::DATA as u32);
    for (selector, entry) in [
        (KERNEL_CODE, descriptor(0, flat, 0x9b, FLAGS64)),
        (KERNEL_DATA, descriptor(0, flat, 0x93, FLAGS32)),
        (0x20, descriptor(0, flat, 0xfb, FLAGS32)),
        (0x28, descriptor(0, flat, 0xf3, FLAGS32)),
        (0x30, descriptor(0, flat, 0xfb, FLAGS64)),
        (0x38, descriptor(code, all, 0xfb, 0)),
        (0x40, descriptor(data, all, 0xf3, 0)),
        (TASK, descriptor(linear(TSS), 0x67, 0x89, 0)),
    ] {
        put_quadword(image, PRIVATE_GPA + GDT + u32::from(selector), entry);
    }
    // RSP0, and an I/O permission map beyond the limit.
    put_quadword(image, PRIVATE_GPA + TSS + 4, linear(STACK).into());
    put(image, PRIVATE_GPA + TSS + 0x66, &0x68u16.to_le_bytes());
    for vector in 0..VECTORS {
        let stub = linear(STUBS + vector * STUB_BYTES);
        put_quadword(image, PRIVATE_GPA + IDT + vector * 16, gate(KERNEL_CODE, stub, 0xee, 0));
    }
}

/// From real-address mode straight to 64-bit mode and to `KERNEL`.
fn put_boot_code(image: &mut [u8]) {
    let table_operand = |base: u32, limit: u16| {
        let mut operand = [0; 6];
        operand[..2].copy_from_slice(&limit.to_le_bytes());
        operand[2..].copy_from_slice(&base.to_le_bytes());
        operand
    };
    let (gdt, idt) = (START + 0x80, START + 0x90);
    put(image, gdt, &table_operand(linear(GDT), GDT_LIMIT));
    put(image, idt, &table_operand(linear(IDT), (VECTORS * 16 - 1) as u16));
    let boot_gdt = START + 0xa0;
    put(image, boot_gdt, &table_operand(PRIVATE_GPA + GDT, GDT_LIMIT));
    let mut assemble = |bits: u32, at: u32, body: &dyn Fn(&mut CodeAssembler) -> Result<(), IcedError>| {
        let mut a = CodeAssembler::new(bits).expect("16 or 64 bits");
        body(&mut a).expect("the boot code assembles");
        put(image, at, &a.assemble(at.into()).expect("the boot code assembles"));
    };
    let long = START + 0x100;
    assemble(16, START, &|a| {
        a.lgdt(fword_ptr(boot_gdt))?;
        // PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE.
        a.mov(eax, 0x5_0620)?;
        a.mov(cr4, eax)?;
        a.mov(eax, BOOT_TABLES)?;
        a.mov(cr3, eax)?;
        // SCE, LME, NXE.
        a.mov(ecx, 0xc000_0080u32)?;
        a.mov(eax, 0x901)?;
        a.xor(edx, edx)?;
        a.wrmsr()?;
        // PG, AM, WP, NE, ET, MP, PE.
        a.mov(eax, 0x8005_0033u32)?;
        a.mov(cr0, eax)?;
        a.db(&[0x66, 0xea])?;
        a.dd(&[long])?;
        a.dw(&[KERNEL_CODE])
    });
    assemble(64, long, &|a| {
        a.lgdt(fword_ptr(u64::from(gdt)))?;
        a.lidt(fword_ptr(u64::from(idt)))?;
        a.mov(eax, linear(KERNEL))?;
        a.jmp(rax)
    });
}

/// Loads SS and goes to the program.
fn put_trampoline(image: &mut [u8]) {
    let mut a = CodeAssembler::new(64).expect("64 bits");
    let mut body = || {
        a.mov(ss, word_ptr(u64::from(linear(USER + 6))))?;
        a.jmp(fword_ptr(u64::from(linear(USER))))?;
        a.assemble(linear(TRAMPOLINE).into())
    };
    put(image, PRIVATE_GPA + TRAMPOLINE, &body().expect("the trampoline assembles"));
}

/// Places in the kernel's code.
struct Addresses {
    begin: u32,
    idle: u32,
    common: u32,
}

const GENERAL: [AsmRegister64; 16] =
    [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
const YMM: [AsmRegisterYmm; 16] =
    [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15];

fn put_kernel(image: &mut [u8]) -> Result<Addresses, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut begin, mut idle) = (a.create_label(), a.create_label());
    let (mut next, mut common) = (a.create_label(), a.create_label());
    prepare(&mut a)?;
    a.set_label(&mut idle)?;
    a.nop()?;
    a.set_label(&mut begin)?;
    a.mov(eax, linear(SLOTS))?;
    a.mov(qword_ptr(u64::from(linear(CURRENT))), rax)?;
    a.set_label(&mut next)?;
    a.mov(rdi, qword_ptr(u64::from(linear(CURRENT))))?;
    a.cmp(rdi, qword_ptr(u64::from(linear(END))))?;
    a.je(idle)?;
    enter(&mut a)?;
    a.set_label(&mut common)?;
    leave(&mut a)?;
    a.jmp(next)?;
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let code = a.assemble_options(linear(KERNEL).into(), options)?;
    put(image, PRIVATE_GPA + KERNEL, &code.inner.code_buffer);
    let address = |label| code.label_ip(label).map(|ip| ip as u32);
    Ok(Addresses { begin: address(&begin)?, idle: address(&idle)?, common: address(&common)? })
}

/// What is set once.
fn prepare(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(eax, TABLES)?;
    a.mov(cr3, rax)?;
    a.mov(eax, i32::from(KERNEL_DATA))?;
    a.mov(ss, eax)?;
    a.mov(esp, linear(STACK))?;
    a.mov(eax, i32::from(TASK))?;
    a.ltr(ax)?;
    // XCR0: x87, SSE and AVX.
    a.xor(ecx, ecx)?;
    a.xor(edx, edx)?;
    a.mov(eax, 7)?;
    a.xsetbv()
}

/// Enters the program in the slot at RDI.
fn enter(a: &mut CodeAssembler) -> Result<(), IcedError> {
    for i in 0..2 {
        let at = oracle::DATA + (i * PAGE) as u64;
        let entry = u64::from(linear(TABLE_ALIAS)) + (at >> 12 & 511) * 8;
        a.mov(rax, qword_ptr(rdi + (ENTRIES + 8 * i)))?;
        a.mov(qword_ptr(entry), rax)?;
        a.invlpg(byte_ptr(at))?;
    }
    a.lea(rsi, qword_ptr(rdi + CODE))?;
    a.mov(rcx, qword_ptr(rdi + CODE_LEN))?;
    a.mov(rdx, rdi)?;
    a.mov(rdi, qword_ptr(rdi + CODE_AT))?;
    a.rep().movsb()?;
    a.mov(rdi, rdx)?;
    a.mov(eax, dword_ptr(rdi + DATA_SELECTOR))?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.xor(eax, eax)?;
    a.wrfsbase(rax)?;
    a.mov(eax, GS_BASE as u32)?;
    a.wrgsbase(rax)?;
    a.fxrstor64(ptr(rdi + FX))?;
    for (i, register) in YMM.into_iter().enumerate() {
        a.vinsertf128(register, register, xmmword_ptr(rdi + (YMM_HIGH + 16 * i)), 1)?;
    }
    a.mov(rax, qword_ptr(rdi + FAR))?;
    a.mov(qword_ptr(u64::from(linear(USER))), rax)?;
    for pushed in [FRAME_STACK_SELECTOR, 8 * oracle::state::RSP, RFLAGS, CODE_SELECTOR, RIP] {
        a.push(qword_ptr(rdi + pushed))?;
    }
    for (i, register) in GENERAL.into_iter().enumerate() {
        if register != rsp && register != rdi {
            a.mov(register, qword_ptr(rdi + 8 * i))?;
        }
    }
    a.mov(rdi, qword_ptr(rdi + 56))?;
    a.iretq()
}

/// Saves what the program has left, behind its exception: the vector, the error code and the frame are on the stack.
fn leave(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.push(rdi)?;
    a.mov(rdi, qword_ptr(u64::from(linear(CURRENT))))?;
    for (i, register) in GENERAL.into_iter().enumerate() {
        if register != rsp && register != rdi {
            a.mov(qword_ptr(rdi + 8 * i), register)?;
        }
    }
    for popped in [56, VECTOR, ERROR_CODE, RIP, CODE_SELECTOR, RFLAGS, 8 * oracle::state::RSP, DATA_SELECTOR]
    {
        a.pop(qword_ptr(rdi + popped))?;
    }
    a.mov(rax, cr2)?;
    a.mov(qword_ptr(rdi + CR2), rax)?;
    a.cld()?;
    a.fxsave64(ptr(rdi + FX))?;
    for (i, register) in YMM.into_iter().enumerate() {
        a.vextractf128(xmmword_ptr(rdi + (YMM_HIGH + 16 * i)), register, 1)?;
    }
    a.mov(rcx, qword_ptr(rdi + CODE_LEN))?;
    a.mov(rdx, rdi)?;
    a.mov(rdi, qword_ptr(rdi + CODE_AT))?;
    a.mov(eax, 0xcc)?;
    a.rep().stosb()?;
    a.add(rdx, SLOT_BYTES as i32)?;
    a.mov(qword_ptr(u64::from(linear(CURRENT))), rdx)
}

/// The exceptions' entry points: each leaves an error code and its vector on the stack.
fn put_stubs(image: &mut [u8], common: u32) {
    const WITH_ERROR_CODE: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21;
    for vector in 0..VECTORS {
        let at = linear(STUBS + vector * STUB_BYTES);
        let mut a = CodeAssembler::new(64).expect("64 bits");
        let mut body = || {
            if WITH_ERROR_CODE >> vector & 1 == 0 {
                a.push(0)?;
            }
            a.push(vector as i32)?;
            a.jmp(u64::from(common))?;
            a.assemble(at.into())
        };
        let code = body().expect("an entry point assembles");
        put(image, PRIVATE_GPA + STUBS + vector * STUB_BYTES, &code);
    }
}
