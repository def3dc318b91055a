//! Decoder and interpreter on random bytes in random states of all modes.

use super::Bytes;
use crate::cases::random::Random;
use crate::cases::values;
use rx86_cpu::backend::X86Ops;
use rx86_cpu::bare_board::BareBoard;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::features::{CpuModel, MODELS, selection::Selection};
use rx86_cpu::interp::Interpreter;
use rx86_cpu::state::{Segment, SegmentIndex, TableRegister, Vcpu, bits};
use rx86_softmmu::{Attention, GuestMemory};

const RAM_BYTES: u64 = 2 << 20;
/// Where the input lies as code, and RIP begins.
const CODE: u64 = 0x8000;
/// Page tables for the modes with paging: the memory is mapped by identity, in one large page.
const TABLES: u64 = 0x1_0000;
/// The last of them, which is the page directory of 32-bit paging too.
const DIRECTORY: u64 = TABLES + 0x2000;
/// Random values that the registers point to.
const DATA: u64 = 0x2_0000;
const DATA_BYTES: usize = 0x1000;
/// Instructions of a run.
const BUDGET: u64 = 300;

/// Executes `data`: the first bytes choose the mode, the model and the seed of the registers, the rest is code.
///
/// # Panics
/// If the interpreter does, which is what is looked for, or if the host has no memory.
pub fn run(data: &[u8]) {
    let mut input = Bytes(data);
    let (mode, model, seed) = (input.u8(), input.u8(), input.u64(4));
    let code = input.take(data.len());
    let mut random = Random::new(seed);
    let memory = GuestMemory::new(RAM_BYTES).expect("guest memory");
    let mut values = vec![0; DATA_BYTES];
    values::fill(&mut random, &mut values);
    let length = code.len().min(0x4000);
    for (gpa, bytes) in [(DATA, &values[..]), (CODE, &code[..length])] {
        memory.write(gpa, bytes).expect("the guest's own memory");
    }
    // Present, writable, for users; the last one a large page.
    for (at, entry) in [(TABLES, TABLES + 0x1007), (TABLES + 0x1000, DIRECTORY + 7), (DIRECTORY, 0x87)] {
        memory.write(at, &entry.to_le_bytes()).expect("the guest's own memory");
    }
    let board = Box::new(BareBoard::default());
    let mut engine = Interpreter::new(Cpu::new(memory, board, self::model(model), Attention::default()));
    let mut state = engine.state().clone();
    registers(&mut state, &mut random);
    enter(&mut state, mode);
    engine.load_state(&state);
    engine.run(BUDGET);
    // Interrupts and halts end a run early; the state must be one that can be loaded again.
    let after = engine.state().clone();
    engine.load_state(&after);
    engine.run(BUDGET / 4);
}

fn model(choice: u8) -> CpuModel {
    let row = &MODELS[usize::from(choice) % MODELS.len()];
    Selection::parse(row.name).map(|selection| selection.model).unwrap_or_default()
}

fn registers(state: &mut Vcpu, random: &mut Random) {
    for register in &mut state.regs[..16] {
        *register =
            if random.percent(50) { DATA + random.below(DATA_BYTES as u64) } else { values::integer(random) };
    }
    for i in 0..16 {
        state.set_xmm(i, values::vector(random));
    }
    for register in &mut state.x87.regs {
        let value = values::extended(random);
        register.mantissa = value as u64;
        register.sign_exponent = (value >> 64) as u16;
    }
    state.x87.tags = random.bits() as u16;
    state.x87.control = random.bits() as u16;
    state.x87.status = random.bits() as u16 & 0x7f7f;
    state.mxcsr = random.bits() as u32 & 0xffff;
    let flags = random.bits() & 0xcd5 & !bits::RFLAGS_TF;
    state.flags.set(flags | bits::RFLAGS_FIXED);
}

/// One of real mode, virtual-8086 mode, protected mode of 16 and 32 bits, the same at CPL 3, and 64-bit mode at both.
fn enter(state: &mut Vcpu, mode: u8) {
    let user = mode & 8 != 0;
    let cpl = if user { 3 } else { 0 };
    let rights = u32::from(cpl) << 5;
    state.set_rip(CODE);
    state.gdtr = TableRegister { base: DATA, limit: 0xff };
    state.idtr = TableRegister { base: DATA + 0x400, limit: 0x3ff };
    state.tr = Segment { base: DATA + 0x800, limit: 0x67, access: 0x8b, selector: 0x40 };
    state.cr4 |= bits::CR4_OSFXSR | bits::CR4_OSXMMEXCPT | bits::CR4_OSXSAVE;
    state.xcr0 = 7;
    let flat = |access: u32| Segment { base: 0, limit: u32::MAX, access: access | rights, selector: cpl };
    let small = |access: u32| Segment { base: 0, limit: 0xffff, access: access | rights, selector: cpl };
    let (code, data) = match mode & 7 {
        0 | 1 => {
            state.segments = [small(0x93); 6];
            state.segments[SegmentIndex::CS] = Segment { selector: 0, ..small(0x9b) };
            return;
        }
        2 => (small(0x9b), small(0x93)),
        3 | 4 => (flat(0xc09b), flat(0xc093)),
        _ => {
            state.efer = bits::EFER_LME | bits::EFER_LMA | bits::EFER_SCE;
            state.cr4 |= bits::CR4_PAE;
            (flat(0xa09b), flat(0xc093))
        }
    };
    state.segments = [data; 6];
    state.segments[SegmentIndex::CS] = code;
    state.cpl = cpl as u8;
    state.cr0 = bits::CR0_PE | bits::CR0_ET | bits::CR0_NE;
    if mode & 7 > 3 {
        state.cr0 |= bits::CR0_PG;
        state.cr3 = TABLES;
        if mode & 7 == 4 {
            state.cr3 = DIRECTORY;
            state.cr4 |= bits::CR4_PSE;
        }
    }
}
