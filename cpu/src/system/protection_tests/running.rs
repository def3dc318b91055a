//! Events as the interpreter's loop meets them: shutdown, traps behind HLT, faults of a new task, compatibility mode.

use super::*;
use crate::backend::{Exit, X86Ops};
use crate::interp::Interpreter;
use crate::mode::ModeKey;

/// Runs `code` at `START`; a handler halts.
fn run(bench: Bench, code: &[u8]) -> (Exit, Bench) {
    bench.cpu.mmu.memory().write(START, code).unwrap();
    bench.write(HANDLER, [0xf4]);
    let mut interpreter = Interpreter::new(bench.cpu);
    let exit = interpreter.run(1000);
    (exit, Bench { cpu: std::mem::replace(interpreter.cpu(), BareBoard::default().cpu()) })
}

#[test]
fn a_triple_fault_shuts_down_where_it_began() {
    for mut bench in [Bench::long(0), Bench::legacy(0)] {
        bench.cpu.state.idtr.limit = 0;
        // NOP; UD2.
        let (exit, bench) = run(bench, b"\x90\x0f\x0b");
        assert_eq!(exit, Exit::Shutdown);
        assert_eq!(bench.place().2, START + 1);
        let vectors: Vec<u8> = bench.cpu.recent_events.iter().map(|(event, _)| event.vector).collect();
        assert_eq!(vectors, [6, 13, 8]);
    }
}

#[test]
fn a_single_step_ends_a_halt() {
    let mut bench = Bench::long(0);
    bench.set_gate(1, CODE0, HANDLER, 0x8e, 0);
    bench.stack([bits::RFLAGS_TF | 2], 8);
    // POPF; HLT. The trap comes behind the instruction that follows POPF.
    let (exit, bench) = run(bench, b"\x9d\xf4");
    assert_eq!((exit, bench.place().2), (Exit::Halt, HANDLER + 1));
    assert_eq!(bench.values::<3>(STACK - 40, 8), [START + 2, u64::from(CODE0), bits::RFLAGS_TF | 2]);
    assert_eq!(bench.cpu.state.dr[6], bits::DR6_FIXED | bits::DR6_BS);
}

#[test]
fn loading_ss_holds_a_single_step_back() {
    let mut bench = Bench::long(0);
    bench.set_gate(1, CODE0, HANDLER, 0x8e, 0);
    bench.set_reg(reg::RAX, u64::from(DATA0));
    bench.stack([bits::RFLAGS_TF | 2], 8);
    // POPF; MOV SS, AX; NOP; HLT.
    let (exit, bench) = run(bench, b"\x9d\x8e\xd0\x90\xf4");
    assert_eq!((exit, bench.place().2), (Exit::Halt, HANDLER + 1));
    assert_eq!(bench.values::<1>(STACK - 40, 8), [START + 4]);
}

#[test]
fn a_fault_of_a_new_task_is_at_its_first_instruction() {
    const OTHER: u64 = 0x3400;
    let bench = Bench::legacy(0);
    bench.set_descriptor(SPARE, descriptor(OTHER as u32, 0x67, 0x89, 0));
    bench.write(OTHER + 0x20, 0x5678u32.to_le_bytes());
    bench.write(OTHER + 0x38, (STACK0 as u32).to_le_bytes());
    bench.write(OTHER + 0x4c, CODE0.to_le_bytes());
    bench.write(OTHER + 0x50, DATA0.to_le_bytes());
    bench.write(OTHER + 0x54, 0x100u16.to_le_bytes());
    bench.set_gate(10, CODE0, HANDLER, 0x8e, 0);
    let (exit, bench) = run(bench, &[0xea, 0, 0, 0, 0, SPARE as u8, 0]);
    assert_eq!((exit, bench.place().2), (Exit::Halt, HANDLER + 1));
    assert_eq!(bench.values::<3>(STACK0 - 16, 4), [0x100, 0x5678, u64::from(CODE0)]);
}

#[test]
fn compatibility_mode_and_back() {
    let mut bench = Bench::long(0);
    bench.set_gate(0x80, CODE0, HANDLER, 0xee, 0);
    bench.write(START + 0x100, [0xcd, 0x80]);
    bench.stack([START + 0x100, u64::from(COMPAT3 | 3), 0x202, 0xa000, u64::from(DATA3 | 3)], 8);
    // IRETQ to 32-bit code at CPL 3, which makes a system call.
    let (exit, bench) = run(bench, b"\x48\xcf");
    assert_eq!((exit, bench.place()), (Exit::Halt, (0, CODE0, HANDLER + 1, 0, STACK0 - 40)));
    assert!(bench.cpu.mode().has(ModeKey::LONG64));
    let frame = [START + 0x102, u64::from(COMPAT3 | 3), 0x202, 0xa000, u64::from(DATA3 | 3)];
    assert_eq!(bench.values::<5>(STACK0 - 40, 8), frame);
}

#[test]
fn an_interrupted_repetition_pushes_the_resume_flag() {
    const LAST: u64 = 5000;
    let mut bench = Bench::long(0);
    bench.set_gate(2, CODE0, HANDLER, 0x8e, 0);
    bench.set_gate(1, CODE0, HANDLER, 0x8e, 0);
    bench.set_reg(reg::RCX, LAST);
    bench.set_reg(reg::RDI, 0x10_0000);
    bench.cpu.state.dr[0] = START;
    bench.cpu.state.dr[7] = 1;
    bench.cpu.state.flags.system |= bits::RFLAGS_RF;
    // REP STOSB; HLT. An NMI waits until the processor looks up after the first turn.
    bench.cpu.mmu.memory().write(START, b"\xf3\xaa\xf4").unwrap();
    bench.write(HANDLER, [0xf4]);
    let mut interpreter = Interpreter::new(bench.cpu);
    assert_eq!(interpreter.run(1), Exit::Yield);
    let state = &mut interpreter.cpu().state;
    let rest = state.regs[usize::from(reg::RCX)];
    assert!(rest > 0 && rest < LAST, "{rest} elements are left");
    state.nmi_pending = true;
    assert_eq!(interpreter.run(1000), Exit::Halt);
    let bench = Bench { cpu: std::mem::replace(interpreter.cpu(), BareBoard::default().cpu()) };
    let pushed = bits::RFLAGS_RF | bits::RFLAGS_IF | 2;
    assert_eq!(bench.values::<3>(STACK - 40, 8), [START, u64::from(CODE0), pushed]);
}

#[test]
fn a_breakpoint_on_a_repetition_fires_once() {
    let mut bench = Bench::long(0);
    bench.set_gate(1, CODE0, HANDLER, 0x8e, 0);
    bench.set_reg(reg::RCX, 20_000);
    bench.set_reg(reg::RDI, 0x10_0000);
    bench.cpu.state.dr[0] = START + 2;
    bench.cpu.state.dr[7] = 1;
    // An IRETQ to the REP STOSB with RF set goes past the breakpoint there, turn by turn, to the HLT.
    bench.stack([START + 2, u64::from(CODE0), bits::RFLAGS_RF | 2, STACK, u64::from(DATA0)], 8);
    let (exit, bench) = run(bench, b"\x48\xcf\xf3\xaa\xf4");
    assert_eq!((exit, bench.place().2), (Exit::Halt, START + 5));
    assert_eq!(bench.cpu.state.flags.get() & bits::RFLAGS_RF, 0);
}

#[test]
fn a_single_step_of_a_repetition_is_one_element() {
    let mut bench = Bench::long(0);
    bench.set_gate(1, CODE0, HANDLER, 0x8e, 0);
    bench.set_reg(reg::RCX, 10);
    bench.set_reg(reg::RDI, 0x10_0000);
    bench.stack([bits::RFLAGS_TF | 2], 8);
    // POPF; REP STOSB.
    let (exit, bench) = run(bench, b"\x9d\xf3\xaa");
    assert_eq!((exit, bench.place().2), (Exit::Halt, HANDLER + 1));
    let pushed = bits::RFLAGS_RF | bits::RFLAGS_TF | 2;
    assert_eq!(bench.values::<3>(STACK - 40, 8), [START + 1, u64::from(CODE0), pushed]);
    assert_eq!(bench.cpu.state.regs[usize::from(reg::RCX)], 9);
}
