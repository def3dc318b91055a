//! Bare guests with several processors: the others are started through real mode, and all execute rounds of a test between
//! barriers. What came of it is printed, a line for each test.

use super::bare;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Where the other processors start, one by one: the page that is their start-up IPI's vector.
pub(super) const TRAMPOLINE: u64 = 0x8000;
/// What the trampoline finds at its page's middle: GDT, its pointer, CR3, and a far pointer to 64-bit code.
const GDT: u64 = TRAMPOLINE + 0x800;
const GDT_POINTER: u64 = TRAMPOLINE + 0x840;
const CR3: u64 = TRAMPOLINE + 0x850;
const ENTRY: u64 = TRAMPOLINE + 0x858;
/// The end of the first processor's stack, and bytes to the next one's.
const STACKS: u32 = 0x30_0000;
const STACK_STRIDE: u32 = 0x1000;
pub(super) const LAPIC_ICR: i32 = 0x300;
const IA32_EFER: u32 = 0xc000_0080;

/// Where the tests' variables are: each in a cache line of its own, with room before it.
pub const DATA: u32 = 0x20_0000;
/// Bytes between two variables.
const STRIDE: u32 = 256;
/// The first of the numbers of arrivals at the barrier, one a processor.
const ARRIVED: u32 = DATA + 0x1_0000;
/// What a processor has loaded in the present round: two words each.
const LOADED: u32 = DATA + 0x1_1000;
/// Counts of outcomes.
const OUTCOMES: u32 = DATA + 0x2_0000;
/// Four loaded values of 0 and 1 make 16 outcomes; what else was loaded is the last one.
pub const OUTCOME_COUNT: usize = 17;
/// Bytes between two cells: variables 0 and 1, or what four processors have loaded.
const CELL_STRIDE: u32 = 2 * STRIDE;
/// The most cells of a round.
pub const MOST_CELLS: u32 = (ARRIVED - DATA) / CELL_STRIDE - 1;
/// The most processors of a guest.
pub const MOST_PROCESSORS: usize = 64;

/// The address of variable `number`.
pub fn variable(number: u32) -> u32 {
    DATA + 0x100 + number * STRIDE
}

/// The dword of variable `number` in the present cell.
pub fn in_cell(number: u32) -> AsmMemoryOperand {
    dword_ptr(rbp + variable(number))
}

/// One processor's part of a round. It may use RAX, RBX, RCX, RDX, RSI and RDI; R14 is the round's number, from 1, and RBP the
/// distance of the present cell's variables from the first one's.
pub type Part = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// A test: what the processors do at the same time in each round, in one cell after the other. In the first cells of a round
/// the processors may be as far apart as the barrier let them go, but in all of them they go at the same pace.
pub struct Test {
    /// The name under which its counts are printed.
    pub name: &'static str,
    /// Cells of a round, up to `MOST_CELLS`: variables of their own, on which the parts are done once.
    pub cells: u32,
    /// What each processor does.
    pub parts: Vec<Part>,
    /// What each does with each cell before a round.
    pub before: Vec<Part>,
    /// What the first processor does with each cell behind a round, while the others wait.
    pub after: Part,
}

fn loaded(cpu: u32, word: u32) -> AsmMemoryOperand {
    dword_ptr(rbp + (LOADED + cpu * 64 + word * 4))
}

/// Notes `value` as what processor `cpu` has loaded in this cell, as its word `word`. Cells have room for four processors.
pub fn note(a: &mut CodeAssembler, cpu: u32, word: u32, value: AsmRegister32) -> Result<(), IcedError> {
    a.mov(loaded(cpu, word), value)
}

/// Counts noted words of `(processor, word)` as an outcome: each is a bit of its number, the last the lowest. For `Test::after`.
pub fn count(a: &mut CodeAssembler, words: &[(u32, u32)]) -> Result<(), IcedError> {
    let mut other = a.create_label();
    let mut known = a.create_label();
    a.xor(eax, eax)?;
    for (cpu, word) in words {
        a.mov(ecx, loaded(*cpu, *word))?;
        a.cmp(ecx, 1)?;
        a.ja(other)?;
        a.lea(eax, ptr(rcx + rax * 2))?;
    }
    a.jmp(known)?;
    a.set_label(&mut other)?;
    a.mov(eax, OUTCOME_COUNT as i32 - 1)?;
    a.set_label(&mut known)?;
    a.inc(qword_ptr(rax * 8 + OUTCOMES))
}

/// Nothing.
pub fn nothing(_: &mut CodeAssembler) -> Result<(), IcedError> {
    Ok(())
}

/// Executes `body` so many times. It changes ESI.
pub fn repeat(
    a: &mut CodeAssembler,
    times: u32,
    body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.mov(esi, times)?;
    a.set_label(&mut again)?;
    body(a)?;
    a.dec(esi)?;
    a.jne(again)
}

/// Increments a variable while it has a lock, which is another variable and taken by XCHG. It changes EAX.
pub fn increment_under_lock(a: &mut CodeAssembler, counter: u32, lock: u32) -> Result<(), IcedError> {
    let mut taken = a.create_label();
    let mut wait = a.create_label();
    a.mov(eax, 1)?;
    a.set_label(&mut wait)?;
    a.xchg(dword_ptr(variable(lock)), eax)?;
    a.test(eax, eax)?;
    a.je(taken)?;
    a.pause()?;
    a.jmp(wait)?;
    a.set_label(&mut taken)?;
    a.inc(dword_ptr(variable(counter)))?;
    a.mov(dword_ptr(variable(lock)), 0)
}

/// A guest that runs each test for its number of rounds and powers off. For a test it prints its name, the counts of its
/// outcomes, and the variables 0 to 3, in hexadecimal. It wants as many processors as the largest test has parts.
///
/// # Panics
/// If there is no test, or one of more than `MOST_PROCESSORS` parts or `MOST_CELLS` cells.
pub fn guest(tests: &[(Test, u32)]) -> Vec<u8> {
    let cpus = tests.iter().map(|(test, _)| test.parts.len()).max().expect("there is a test");
    assert!(cpus <= MOST_PROCESSORS, "{cpus} processors");
    assert!(tests.iter().all(|(test, _)| (1..=MOST_CELLS).contains(&test.cells)), "cells");
    bare::long_mode_guest(|a| {
        let mut others: Vec<CodeLabel> = (1..cpus).map(|_| a.create_label()).collect();
        a.mov(esp, STACKS)?;
        prepare_trampoline(a)?;
        for (cpu, &entry) in (1..).zip(&others) {
            start(a, cpu, entry)?;
        }
        a.xor(r12d, r12d)?;
        barrier(a, 0, cpus as u32)?;
        for (test, rounds) in tests {
            clear(a)?;
            rounds_of(a, 0, cpus as u32, *rounds, test)?;
            print_counts(a, test.name)?;
        }
        bare::print(a, "done\n")?;
        bare::power_off(a)?;
        for (cpu, entry) in (1..).zip(&mut others) {
            a.set_label(entry)?;
            a.mov(esp, STACKS + cpu * STACK_STRIDE)?;
            a.xor(r12d, r12d)?;
            barrier(a, cpu, cpus as u32)?;
            for (test, rounds) in tests {
                rounds_of(a, cpu, cpus as u32, *rounds, test)?;
            }
            a.cli()?;
            a.hlt()?;
        }
        Ok(())
    })
}

/// Real mode to 64-bit mode, with the first processor's page tables.
fn trampoline() -> Vec<u8> {
    let mut a = CodeAssembler::new(16).expect("16-bit code can be assembled");
    let emit = |a: &mut CodeAssembler| {
        a.cli()?;
        a.xor(ax, ax)?;
        a.mov(ds, ax)?;
        a.lgdt(ptr(GDT_POINTER as u32))?;
        a.mov(eax, cr4)?;
        // PAE and OSFXSR.
        a.or(eax, 1 << 5 | 1 << 9)?;
        a.mov(cr4, eax)?;
        a.mov(eax, dword_ptr(CR3 as u32))?;
        a.mov(cr3, eax)?;
        a.mov(ecx, IA32_EFER)?;
        a.rdmsr()?;
        // LME.
        a.or(eax, 1 << 8)?;
        a.wrmsr()?;
        a.mov(eax, cr0)?;
        a.or(eax, 0x8000_0001u32)?;
        a.mov(cr0, eax)?;
        // JMP m16:32.
        a.db(&[0x66, 0xff, 0x2e])?;
        a.db(&(ENTRY as u16).to_le_bytes())
    };
    emit(&mut a).expect("the trampoline assembles");
    a.assemble(TRAMPOLINE).expect("the trampoline assembles")
}

/// Puts the trampoline and what it loads where the other processors start.
fn prepare_trampoline(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let code = trampoline();
    for (at, part) in (TRAMPOLINE..).step_by(4).zip(code.chunks(4)) {
        let mut word = [0x90; 4];
        word[..part.len()].copy_from_slice(part);
        a.mov(dword_ptr(at as u32), u32::from_le_bytes(word) as i32)?;
    }
    // A null descriptor, 64-bit code, and data.
    for (index, descriptor) in [0u64, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff].into_iter().enumerate() {
        a.mov(rax, descriptor)?;
        a.mov(qword_ptr(GDT as u32 + 8 * index as u32), rax)?;
    }
    a.mov(word_ptr(GDT_POINTER as u32), 23)?;
    a.mov(dword_ptr(GDT_POINTER as u32 + 2), GDT as i32)?;
    a.mov(rax, cr3)?;
    a.mov(dword_ptr(CR3 as u32), eax)
}

/// The same, for processors that enter 64-bit code at `entry`.
pub(super) fn place_trampoline(a: &mut CodeAssembler, entry: CodeLabel) -> Result<(), IcedError> {
    prepare_trampoline(a)?;
    enter_at(a, entry)
}

/// What starts next enters 64-bit code at `entry`.
fn enter_at(a: &mut CodeAssembler, entry: CodeLabel) -> Result<(), IcedError> {
    a.lea(rax, ptr(entry))?;
    a.mov(dword_ptr(ENTRY as u32), eax)?;
    a.mov(word_ptr(ENTRY as u32 + 4), 8)
}

/// Starts processor `cpu`, which enters 64-bit code at `entry`, and waits for it.
fn start(a: &mut CodeAssembler, cpu: u32, entry: CodeLabel) -> Result<(), IcedError> {
    let mut wait = a.create_label();
    enter_at(a, entry)?;
    a.mov(ebx, 0xfee0_0000u32)?;
    // INIT, then SIPI.
    for command in [0x4500, 0x4600 | (TRAMPOLINE >> 12) as i32] {
        a.mov(dword_ptr(rbx + LAPIC_ICR + 0x10), (cpu << 24) as i32)?;
        a.mov(dword_ptr(rbx + LAPIC_ICR), command)?;
    }
    a.set_label(&mut wait)?;
    a.pause()?;
    a.cmp(dword_ptr(ARRIVED + cpu * 64), 0)?;
    a.je(wait)
}

/// Waits until all processors are here. R12 counts.
fn barrier(a: &mut CodeAssembler, cpu: u32, cpus: u32) -> Result<(), IcedError> {
    a.inc(r12d)?;
    a.mov(dword_ptr(ARRIVED + cpu * 64), r12d)?;
    for other in (0..cpus).filter(|&other| other != cpu) {
        let mut wait = a.create_label();
        let mut here = a.create_label();
        a.set_label(&mut wait)?;
        a.cmp(dword_ptr(ARRIVED + other * 64), r12d)?;
        a.jae(here)?;
        a.pause()?;
        a.jmp(wait)?;
        a.set_label(&mut here)?;
        a.zero_bytes()?;
    }
    Ok(())
}

fn rounds_of(a: &mut CodeAssembler, cpu: u32, cpus: u32, rounds: u32, test: &Test) -> Result<(), IcedError> {
    let part = |parts: &[Part]| parts.get(cpu as usize).copied().unwrap_or(nothing);
    let mut round = a.create_label();
    a.mov(r14d, 1)?;
    a.set_label(&mut round)?;
    in_cells(a, test.cells, part(&test.before))?;
    barrier(a, cpu, cpus)?;
    delay(a, cpu)?;
    in_cells(a, test.cells, part(&test.parts))?;
    barrier(a, cpu, cpus)?;
    if cpu == 0 {
        in_cells(a, test.cells, test.after)?;
    }
    barrier(a, cpu, cpus)?;
    a.inc(r14d)?;
    a.cmp(r14d, rounds as i32)?;
    a.jbe(round)
}

/// Does `part` in each cell.
fn in_cells(a: &mut CodeAssembler, cells: u32, part: Part) -> Result<(), IcedError> {
    let mut cell = a.create_label();
    a.xor(ebp, ebp)?;
    if cells == 1 {
        return part(a);
    }
    a.set_label(&mut cell)?;
    part(a)?;
    a.add(ebp, CELL_STRIDE as i32)?;
    a.cmp(ebp, (cells * CELL_STRIDE) as i32)?;
    a.jb(cell)
}

/// Lets the processors begin at every distance in turn: who comes last to a barrier leaves it first.
fn delay(a: &mut CodeAssembler, cpu: u32) -> Result<(), IcedError> {
    let mut wait = a.create_label();
    a.imul_3(ecx, r14d, (cpu | 1) as i32)?;
    if cpu.is_multiple_of(2) {
        a.shr(ecx, 5)?;
    }
    a.and(ecx, 31)?;
    a.inc(ecx)?;
    a.set_label(&mut wait)?;
    a.dec(ecx)?;
    a.jne(wait)
}

/// Clears counts and variables. The other processors wait at their barrier meanwhile.
fn clear(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.xor(eax, eax)?;
    a.mov(edi, DATA)?;
    a.mov(ecx, (ARRIVED - DATA) / 8)?;
    a.rep().stosq()?;
    a.mov(edi, OUTCOMES)?;
    a.mov(ecx, OUTCOME_COUNT as i32)?;
    a.rep().stosq()
}

/// Prints the counts and variables.
fn print_counts(a: &mut CodeAssembler, name: &str) -> Result<(), IcedError> {
    bare::print(a, name)?;
    for index in 0..OUTCOME_COUNT as u32 {
        a.mov(rbx, qword_ptr(OUTCOMES + 8 * index))?;
        print_hex(a)?;
    }
    for index in 0..4 {
        a.mov(rbx, qword_ptr(variable(index)))?;
        print_hex(a)?;
    }
    bare::print(a, "\n")
}

/// Prints a blank and RBX.
pub(super) fn print_hex(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut digit = a.create_label();
    let mut decimal = a.create_label();
    bare::print(a, " ")?;
    a.mov(ecx, 16)?;
    a.set_label(&mut digit)?;
    a.rol(rbx, 4)?;
    a.mov(eax, ebx)?;
    a.and(eax, 15)?;
    a.add(eax, i32::from(b'0'))?;
    a.cmp(eax, i32::from(b'9'))?;
    a.jbe(decimal)?;
    a.add(eax, i32::from(b'a' - b'9' - 1))?;
    a.set_label(&mut decimal)?;
    a.out(dx, al)?;
    a.dec(ecx)?;
    a.jne(digit)
}

/// What a test has printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often each outcome of `count` came.
    pub outcomes: [u64; OUTCOME_COUNT],
    /// Variables 0 to 3 at the end.
    pub variables: [u64; 4],
}

impl Counts {
    /// The counts behind a test's name on its line.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<u64> = text
            .split_whitespace()
            .map(|word| u64::from_str_radix(word, 16))
            .collect::<Result<_, _>>()
            .ok()?;
        let (outcomes, variables) = numbers.split_at_checked(OUTCOME_COUNT)?;
        Some(Self { outcomes: outcomes.try_into().ok()?, variables: variables.try_into().ok()? })
    }
}
