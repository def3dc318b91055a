//! What no host process can show: #MF and FERR#, pointers, and the environment's formats.

use super::bench::{CODE_GPA, OPERAND_GPA, cpu, cpu_and_ferr, run};
use super::mmx_enter;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::F80;
use crate::float::status::{DE, PE, ZE};
use crate::state::{SegmentIndex, X87, access, bits};
use std::sync::atomic::Ordering;

const FLD1: &[u8] = &[0xd9, 0xe8];
const FLDZ: &[u8] = &[0xd9, 0xee];
/// FDIVRP ST(1), ST(0): ST(1) = ST(0) / ST(1).
const FDIVRP: &[u8] = &[0xde, 0xf1];
const FWAIT: &[u8] = &[0x9b];
const FNCLEX: &[u8] = &[0xdb, 0xe2];
const FNSTENV_RDI: &[u8] = &[0xd9, 0x37];
const FLDENV_RDI: &[u8] = &[0xd9, 0x27];

/// Leaves an unmasked divide by zero pending: 1 / 0.
fn divide_by_zero(cpu: &mut Cpu) {
    cpu.state.x87.control &= !ZE;
    for code in [FLDZ, FLD1, FDIVRP] {
        run(cpu, code).expect("nothing is pending before");
    }
}

#[test]
fn a_pending_exception_waits_for_the_next_waiting_instruction() {
    let mut cpu = cpu();
    divide_by_zero(&mut cpu);
    assert_eq!(cpu.state.x87.status & 0xff, ZE | 0x80);
    assert_eq!(cpu.state.x87.st(0), F80::ONE, "neither stored nor popped");
    for code in [FWAIT, FLD1, FDIVRP] {
        assert_eq!(run(&mut cpu, code), Err(Exception::MF));
    }
    assert_eq!(mmx_enter(&mut cpu), Err(Exception::MF));
    run(&mut cpu, FNCLEX).expect("FNCLEX does not wait");
    assert_eq!(run(&mut cpu, FWAIT), Ok(()));
}

#[test]
fn without_ne_the_error_line_is_driven() {
    let (mut cpu, ferr) = cpu_and_ferr();
    cpu.state.cr0 &= !bits::CR0_NE;
    divide_by_zero(&mut cpu);
    assert!(ferr.load(Ordering::Relaxed));
    assert_eq!(run(&mut cpu, FWAIT), Ok(()));
    run(&mut cpu, FNCLEX).expect("FNCLEX does not wait");
    assert!(!ferr.load(Ordering::Relaxed));
}

#[test]
fn an_unmasked_exception_notes_instruction_and_opcode() {
    let mut cpu = cpu();
    divide_by_zero(&mut cpu);
    let x87 = &cpu.state.x87;
    assert_eq!(x87.opcode, 0x6f1);
    assert_eq!(x87.instruction_pointer, CODE_GPA);
}

#[test]
fn environments_have_four_formats() {
    // CR0.PE, operand-size prefix, the words expected (control, status, tags, pointers).
    let cases: [(bool, bool, &[u8]); 4] = [
        (
            true,
            false,
            &[
                0x7f, 0x03, 0xff, 0xff, 0x21, 0x38, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x78, 0x56, 0x34,
                0x12, 0x23, 0x01, 0xf1, 0x06, 0xdd, 0xcc, 0xbb, 0x0a, 0x67, 0x45, 0xff, 0xff,
            ],
        ),
        (true, true, &[0x7f, 0x03, 0x21, 0x38, 0xff, 0x3f, 0x78, 0x56, 0x23, 0x01, 0xdd, 0xcc, 0x67, 0x45]),
        (
            false,
            false,
            &[
                0x7f, 0x03, 0xff, 0xff, 0x21, 0x38, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xa8, 0x68, 0xff,
                0xff, 0xf1, 0x46, 0x23, 0x01, 0x4d, 0x23, 0xff, 0xff, 0x00, 0x00, 0xac, 0x00,
            ],
        ),
        (false, true, &[0x7f, 0x03, 0x21, 0x38, 0xff, 0x3f, 0xa8, 0x68, 0xf1, 0x46, 0x4d, 0x23, 0x00, 0x00]),
    ];
    for (protected, short, expected) in cases {
        let mut cpu = cpu();
        cpu.state.efer = 0;
        let cs = &mut cpu.state.segments[SegmentIndex::CS];
        (cs.base, cs.access) = (0, cs.access & !access::LONG | access::DEFAULT_32);
        if !protected {
            cpu.state.cr0 &= !bits::CR0_PE;
        }
        cpu.mode_changed();
        let x87 = &mut cpu.state.x87;
        (x87.status, x87.tags, x87.opcode) = (0x3821, 0x3fff, 0x6f1);
        (x87.instruction_pointer, x87.instruction_selector) = (0x1234_5678, 0x123);
        (x87.operand_pointer, x87.operand_selector) = (0xabb_ccdd, 0x4567);
        x87.regs[7] = F80::ONE;
        x87.control = 0x37f;
        let before = *x87;
        let prefix: &[u8] = if short { &[0x66] } else { &[] };
        run(&mut cpu, &[prefix, FNSTENV_RDI].concat()).expect("RAM");
        let mut stored = vec![0; expected.len()];
        cpu.mmu.memory().read(OPERAND_GPA, &mut stored).expect("RAM");
        assert_eq!(stored, expected, "protected {protected} short {short}");
        cpu.state.x87 = X87 { regs: before.regs, ..Default::default() };
        run(&mut cpu, &[prefix, FLDENV_RDI].concat()).expect("RAM");
        let x87 = &cpu.state.x87;
        assert_eq!((x87.control, x87.status, x87.tags), (before.control, before.status, before.tags));
    }
}

#[test]
fn mmx_makes_all_registers_valid_and_emms_none() {
    let mut cpu = cpu();
    run(&mut cpu, FLD1).expect("empty stack");
    assert_eq!(mmx_enter(&mut cpu), Ok(()));
    assert_eq!((cpu.state.x87.status >> 11 & 7, cpu.state.x87.tags), (0, 0));
    run(&mut cpu, &[0x0f, 0x77]).expect("nothing pending");
    assert_eq!(cpu.state.x87.tags, 0xffff);
}

#[test]
fn a_denormal_memory_operand_is_seen_through_its_widening() {
    let mut cpu = cpu();
    run(&mut cpu, FLD1).expect("empty stack");
    cpu.mmu.memory().write(OPERAND_GPA, &1u32.to_le_bytes()).expect("RAM");
    run(&mut cpu, &[0xd8, 0x07]).expect("masked");
    assert_eq!(cpu.state.x87.status & 0xff, DE | PE);
}
