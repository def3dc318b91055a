//! Unmasked x87 exceptions on the whole machine, both ways (SDM vol. 1, 8.7): #MF with CR0.NE, and without it FERR#, which a
//! PC carries to interrupt request 13. QEMU is no oracle here: the TCG of version 7.2 aborts when it raises FERR#.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use rx86_testsuite::guest::bare;
use rx86_testsuite::guest::runner::{Emulator, Guest};
use std::path::PathBuf;
use std::time::Duration;

/// Only ends what hangs.
const LIMIT: Duration = Duration::from_secs(60);
const STACK: u32 = 0x9_0000;
/// An interrupt descriptor table in RAM that nobody else uses, and the operand of LGDT and LIDT.
const IDT: u32 = 0x20_0000;
const OPERAND: u32 = 0x20_1000;
const CONTROL: u32 = 0x20_1010;
const MF: u32 = 16;
/// Interrupt request 13, with the second controller's requests from 0x28 on.
const IRQ13: u32 = 0x2d;
const CR0_MP: i32 = 2;
const CR0_EM_TS: i32 = 0xc;
const CR0_NE: i32 = 0x20;

/// Leaves the address of what `data` emits in EAX.
fn address_of(
    a: &mut CodeAssembler,
    data: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let mut behind = a.create_label();
    a.call(behind)?;
    data(a)?;
    a.set_label(&mut behind)?;
    a.pop(eax)
}

/// An interrupt gate for the handler at EAX.
fn set_gate(a: &mut CodeAssembler, vector: u32) -> Result<(), IcedError> {
    let at = IDT + 8 * vector;
    a.mov(word_ptr(at), ax)?;
    a.mov(word_ptr(at + 2), 8)?;
    a.mov(word_ptr(at + 4), 0x8e00)?;
    a.shr(eax, 16)?;
    a.mov(word_ptr(at + 6), ax)
}

/// Flat segments.
fn load_segments(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut far, mut flat) = (a.create_label(), a.create_label());
    a.mov(esp, STACK)?;
    address_of(a, |a| a.dq(&[0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff]))?;
    a.mov(word_ptr(OPERAND), 23)?;
    a.mov(dword_ptr(OPERAND + 2), eax)?;
    a.lgdt(fword_ptr(OPERAND))?;
    a.push(8)?;
    a.call(far)?;
    a.jmp(flat)?;
    a.set_label(&mut far)?;
    a.retf()?;
    a.set_label(&mut flat)
}

/// The two handlers, and interrupt controllers that let request 13 pass.
fn prepare(a: &mut CodeAssembler) -> Result<(), IcedError> {
    address_of(a, |a| {
        bare::print(a, "MF\n")?;
        a.fnclex()?;
        a.iretd()
    })?;
    set_gate(a, MF)?;
    address_of(a, |a| {
        bare::print(a, "IRQ 13\n")?;
        // Releases FERR#'s latch, where there is one.
        a.xor(eax, eax)?;
        a.out(0xf0, al)?;
        a.fnclex()?;
        a.mov(al, 0x20)?;
        a.out(0xa0, al)?;
        a.out(0x20, al)?;
        a.iretd()
    })?;
    set_gate(a, IRQ13)?;
    a.mov(word_ptr(OPERAND), 8 * 0x30 - 1)?;
    a.mov(dword_ptr(OPERAND + 2), IDT)?;
    a.lidt(fword_ptr(OPERAND))?;
    let commands = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xfb),
        (0xa1, 0xdf),
    ];
    for (port, value) in commands {
        a.mov(al, value)?;
        a.out(port, al)?;
    }
    Ok(())
}

/// 1 / 0 with divisions by zero unmasked, and a waiting instruction behind it.
fn divide_by_zero(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.fninit()?;
    a.mov(word_ptr(CONTROL), 0x37b)?;
    a.fldcw(word_ptr(CONTROL))?;
    a.fldz()?;
    a.fld1()?;
    a.fdivrp(st1, st0)?;
    a.nop()?;
    a.wait()?;
    a.nop()
}

fn body(a: &mut CodeAssembler) -> Result<(), IcedError> {
    load_segments(a)?;
    prepare(a)?;
    a.mov(eax, cr0)?;
    a.and(eax, !(CR0_EM_TS | CR0_NE))?;
    a.or(eax, CR0_MP)?;
    a.mov(cr0, eax)?;
    a.sti()?;
    divide_by_zero(a)?;
    bare::print(a, "with NE\n")?;
    a.mov(eax, cr0)?;
    a.or(eax, CR0_NE)?;
    a.mov(cr0, eax)?;
    divide_by_zero(a)?;
    bare::print(a, "masked\n")?;
    // Nothing is reported of what is masked.
    a.fninit()?;
    a.fldz()?;
    a.fld1()?;
    a.fdivrp(st1, st0)?;
    a.wait()?;
    bare::power_off(a)
}

#[test]
fn x87_errors_are_reported_both_ways() {
    let kernel = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("numeric-errors.elf");
    std::fs::write(&kernel, bare::guest(body)).expect("the target folder can be written");
    for emulator in [Emulator::Rx86, Emulator::Rx86Interpreter] {
        let kernel = kernel.clone();
        let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 64, rx86_args: vec![] };
        let run = guest.run(emulator, LIMIT).expect("the emulator starts");
        assert_eq!(run.console(), "IRQ 13\nwith NE\nMF\nmasked\n", "{emulator:?}: {}", run.errors);
    }
}
