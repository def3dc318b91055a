//! A bare guest with any number of processors whose result depends on the order in which they do things, on the instructions
//! that timer interrupts come behind, on the time stamp counter and on random numbers.

use super::bare;
use super::rounds::{LAPIC_ICR, TRAMPOLINE, place_trampoline, print_hex, variable};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The end of the first processor's stack; those of the others follow.
const STACKS: u32 = 0x30_0000;
const STACK_BYTES: u32 = 0x1000;
const IDT: u32 = 0x28_0000;
const IDT_POINTER: u32 = 0x28_1000;
const LAPIC: u32 = 0xfee0_0000;
const LAPIC_EOI: i32 = 0xb0;
const LAPIC_LVT_TIMER: i32 = 0x320;
const LAPIC_INITIAL_COUNT: i32 = 0x380;
const LAPIC_DIVIDE: i32 = 0x3e0;
const VECTOR: u32 = 0x40;
/// LVT: the timer starts again by itself.
const PERIODIC: i32 = 1 << 17;
/// Nanoseconds between two interrupts.
const PERIOD_NS: i32 = 70_001;
/// Boot protocol, 64-bit: the code segment.
const BOOT_CS: u32 = 0x10;

// Variables.
/// Changed by all without a lock: what it becomes depends on the order.
const RACE: u32 = 0;
/// Counted by all under a lock.
const LOCKED: u32 = 1;
/// Times and random numbers.
const MIXED: u32 = 2;
/// Where interrupts came.
const PLACES: u32 = 3;
const TICKS: u32 = 4;
const TICKETS: u32 = 5;
const FINISHED: u32 = 6;
/// The increments that each does without a lock.
const LOST: u32 = 7;

/// A guest for `cpus` processors that do `rounds` rounds each, print a letter now and then, and at last print the five
/// results; then the machine is powered off.
pub fn guest(cpus: u32, rounds: u32) -> Vec<u8> {
    bare::long_mode_guest(|a| {
        let (mut others, mut handler) = (a.create_label(), a.create_label());
        a.mov(esp, STACKS)?;
        place_trampoline(a, others)?;
        start_timer(a, handler)?;
        a.mov(dword_ptr(variable(TICKETS)), 1)?;
        a.mov(ebx, LAPIC)?;
        // To all but this one: INIT, then SIPI.
        a.mov(dword_ptr(rbx + LAPIC_ICR), 0xc_4500)?;
        a.mov(dword_ptr(rbx + LAPIC_ICR), 0xc_4600 | (TRAMPOLINE >> 12) as i32)?;
        a.xor(r13d, r13d)?;
        a.sti()?;
        work(a, rounds)?;
        wait_for(a, cpus)?;
        for _ in 0..3 {
            a.hlt()?;
        }
        a.cli()?;
        for number in [RACE, LOCKED, MIXED, PLACES, TICKS, LOST] {
            a.mov(rbx, qword_ptr(variable(number)))?;
            print_hex(a)?;
        }
        bare::print(a, "\ndone\n")?;
        bare::power_off(a)?;

        a.set_label(&mut others)?;
        a.mov(r13d, 1)?;
        a.lock().xadd(dword_ptr(variable(TICKETS)), r13d)?;
        a.mov(ecx, r13d)?;
        a.imul_3(ecx, ecx, STACK_BYTES as i32)?;
        a.lea(esp, dword_ptr(rcx + STACKS))?;
        work(a, rounds)?;
        a.lock().inc(dword_ptr(variable(FINISHED)))?;
        a.cli()?;
        a.hlt()?;

        a.set_label(&mut handler)?;
        a.push(rax)?;
        a.mov(rax, qword_ptr(rsp + 8))?;
        a.xor(qword_ptr(variable(PLACES)), rax)?;
        a.rol(qword_ptr(variable(PLACES)), 9)?;
        a.inc(dword_ptr(variable(TICKS)))?;
        a.mov(eax, LAPIC)?;
        a.mov(dword_ptr(rax + LAPIC_EOI), 0)?;
        a.pop(rax)?;
        a.iretq()
    })
}

/// Where processor `cpu` of `endless` counts, a quadword.
pub fn counter(cpu: u32) -> u32 {
    variable(0x40 + cpu)
}

/// A guest in which all processors that there are count without end.
pub fn endless() -> Vec<u8> {
    bare::long_mode_guest(|a| {
        let (mut others, mut count) = (a.create_label(), a.create_label());
        place_trampoline(a, others)?;
        a.mov(dword_ptr(variable(TICKETS)), 1)?;
        a.mov(ebx, LAPIC)?;
        a.mov(dword_ptr(rbx + LAPIC_ICR), 0xc_4500)?;
        a.mov(dword_ptr(rbx + LAPIC_ICR), 0xc_4600 | (TRAMPOLINE >> 12) as i32)?;
        a.xor(r13d, r13d)?;
        a.jmp(count)?;
        a.set_label(&mut others)?;
        a.mov(r13d, 1)?;
        a.lock().xadd(dword_ptr(variable(TICKETS)), r13d)?;
        a.set_label(&mut count)?;
        let mut again = a.create_label();
        a.imul_3(ebx, r13d, (variable(1) - variable(0)) as i32)?;
        a.set_label(&mut again)?;
        a.inc(qword_ptr(rbx + counter(0)))?;
        a.jmp(again)
    })
}

/// Lets the first processor's timer interrupt it.
fn start_timer(a: &mut CodeAssembler, handler: CodeLabel) -> Result<(), IcedError> {
    let gate = IDT + VECTOR * 16;
    a.lea(rax, ptr(handler))?;
    a.mov(word_ptr(gate), ax)?;
    a.mov(word_ptr(gate + 2), BOOT_CS as i32)?;
    // A present interrupt gate.
    a.mov(word_ptr(gate + 4), 0x8e00)?;
    a.shr(rax, 16)?;
    a.mov(word_ptr(gate + 6), ax)?;
    a.mov(word_ptr(IDT_POINTER), 0xfff)?;
    a.mov(dword_ptr(IDT_POINTER + 2), IDT as i32)?;
    a.lidt(ptr(IDT_POINTER))?;
    a.mov(ebx, LAPIC)?;
    a.mov(dword_ptr(rbx + LAPIC_DIVIDE), 0b1011)?;
    a.mov(dword_ptr(rbx + LAPIC_LVT_TIMER), VECTOR as i32 | PERIODIC)?;
    a.mov(dword_ptr(rbx + LAPIC_INITIAL_COUNT), PERIOD_NS)
}

/// The rounds of the processor whose number is in R13.
fn work(a: &mut CodeAssembler, rounds: u32) -> Result<(), IcedError> {
    let (mut round, mut quiet) = (a.create_label(), a.create_label());
    a.mov(r14d, rounds)?;
    a.set_label(&mut round)?;
    a.mov(rax, qword_ptr(variable(RACE)))?;
    a.lea(rax, ptr(rax + rax * 4))?;
    a.lea(rax, ptr(rax + r13 + 1))?;
    a.rol(rax, 7)?;
    a.mov(qword_ptr(variable(RACE)), rax)?;
    a.mov(rax, qword_ptr(variable(LOST)))?;
    a.inc(rax)?;
    a.mov(qword_ptr(variable(LOST)), rax)?;
    a.lock().inc(qword_ptr(variable(LOCKED)))?;
    a.mov(eax, r14d)?;
    a.and(eax, 0x1ff)?;
    a.jne(quiet)?;
    a.rdtsc()?;
    a.lock().xadd(qword_ptr(variable(MIXED)), rax)?;
    a.rdrand(rax)?;
    a.lock().xadd(qword_ptr(variable(MIXED)), rax)?;
    a.mov(edx, 0x3f8)?;
    a.lea(eax, ptr(r13 + i32::from(b'a')))?;
    a.out(dx, al)?;
    a.set_label(&mut quiet)?;
    a.dec(r14d)?;
    a.jne(round)
}

/// Waits until all other processors are done.
fn wait_for(a: &mut CodeAssembler, cpus: u32) -> Result<(), IcedError> {
    let (mut wait, mut all) = (a.create_label(), a.create_label());
    a.set_label(&mut wait)?;
    a.cmp(dword_ptr(variable(FINISHED)), cpus as i32 - 1)?;
    a.jae(all)?;
    a.pause()?;
    a.jmp(wait)?;
    a.set_label(&mut all)?;
    a.zero_bytes()
}
