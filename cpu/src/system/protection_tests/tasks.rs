//! Task switches by JMP, CALL, IRET and task gates, between 32-bit and 16-bit tasks.

use super::*;
use crate::op::reg::{RAX, RDI, RSP};

/// The other task's TSS.
const OTHER: u64 = 0x3400;
/// Where the other task begins.
const OTHER_EIP: u64 = 0x5678;
const OTHER_STACK: u64 = 0xc000;
/// Flags in the other task's TSS, with reserved bits that must not come through.
const OTHER_FLAGS: u64 = 0x8000_8202;

/// A 16-bit task has a 16-bit stack: only SP counts.
fn stack_selector(wide: bool) -> u16 {
    if wide { DATA0 } else { SPARE2 }
}

/// Another task in `SPARE`, of 32 or 16 bits.
fn two_tasks(cpl: u8, wide: bool) -> Bench {
    let bench = Bench::legacy(cpl);
    let dpl = cpl << 5;
    let selectors = [DATA0, CODE0, stack_selector(wide), DATA3, DATA0, DATA0];
    if wide {
        bench.set_descriptor(SPARE, descriptor(OTHER as u32, 0x67, 0x89 | dpl, 0));
        for (offset, value) in
            [(0x20, OTHER_EIP), (0x24, OTHER_FLAGS), (0x28, 0xaaaa_0001), (0x38, OTHER_STACK)]
        {
            bench.write(OTHER + offset, (value as u32).to_le_bytes());
        }
        for (i, selector) in selectors.iter().enumerate() {
            bench.write(OTHER + 0x48 + 4 * i as u64, selector.to_le_bytes());
        }
    } else {
        bench.set_descriptor(SPARE, descriptor(OTHER as u32, 0x2b, 0x81 | dpl, 0));
        bench.set_descriptor(SPARE2, descriptor(0, 0xffff, DATA, 0));
        for (offset, value) in [(0x0e, OTHER_EIP), (0x10, OTHER_FLAGS), (0x12, 1), (0x1a, OTHER_STACK)] {
            bench.write(OTHER + offset, (value as u16).to_le_bytes());
        }
        for (i, selector) in selectors.iter().enumerate().take(4) {
            bench.write(OTHER + 0x22 + 2 * i as u64, selector.to_le_bytes());
        }
    }
    bench
}

fn far(opcode: u8, selector: u16) -> [u8; 7] {
    let [low, high] = selector.to_le_bytes();
    [opcode, 0, 0, 0, 0, low, high]
}
const JMP: u8 = 0xea;
const CALL: u8 = 0x9a;

#[test]
fn switches_and_returns() {
    for wide in [true, false] {
        for (opcode, nested) in [(JMP, false), (CALL, true)] {
            let name = format!("{opcode:#x} {wide}");
            let mut bench = two_tasks(0, wide);
            bench.set_reg(RDI, 0x1234_5678);
            bench.cpu.state.dr[7] |= 3;
            let before = (bench.place(), bench.rflags());
            assert_eq!(bench.run(&far(opcode, SPARE)), Ok(()), "{name}");
            assert_eq!(bench.cpu.pending_exception, None, "{name}");
            assert_eq!(bench.place(), (0, CODE0, OTHER_EIP, stack_selector(wide), OTHER_STACK), "{name}");
            assert_eq!(bench.reg(RAX), if wide { 0xaaaa_0001 } else { 1 }, "{name}");
            assert_eq!(bench.selector(SegmentIndex::DS), DATA3, "{name}");
            assert_eq!(bench.selector(SegmentIndex::GS), if wide { DATA0 } else { 0 }, "{name}");
            let nt = if nested { bits::RFLAGS_NT } else { 0 };
            assert_eq!(bench.rflags(), 0x202 | nt, "{name}: {:#x}", bench.rflags());
            assert_eq!(bench.cpu.state.tr.selector, SPARE, "{name}");
            assert_ne!(bench.cpu.state.cr0 & bits::CR0_TS, 0, "{name}");
            assert_eq!(bench.cpu.state.dr[7] & 3, 2, "{name}: local breakpoints end");
            // Busy bits, the link, and the old task as it was left.
            assert_eq!(bench.access_byte(SPARE) & 2, 2, "{name}");
            assert_eq!(bench.access_byte(TASK) & 2, if nested { 2 } else { 0 }, "{name}");
            assert_eq!(bench.values::<1>(OTHER, 2), [if nested { u64::from(TASK) } else { 0 }], "{name}");
            assert_eq!(bench.values::<2>(TSS + 0x20, 4), [START + 7, before.1], "{name}");
            assert_eq!(bench.values::<1>(TSS + 0x44, 4), [0x1234_5678], "{name}");
            assert_eq!(bench.values::<1>(TSS + 0x4c, 2), [u64::from(CODE0)], "{name}");
            if nested {
                assert_eq!(bench.run(b"\xcf"), Ok(()), "{name}");
                let (cpl, cs, _, ss, rsp) = before.0;
                assert_eq!(bench.place(), (cpl, cs, START + 7, ss, rsp), "{name}: back");
                assert_eq!(bench.rflags(), before.1, "{name}: back");
                assert_eq!(bench.access_byte(SPARE) & 2, 0, "{name}: back");
                let saved = bench.values::<1>(OTHER + if wide { 0x24 } else { 0x10 }, 2);
                assert_eq!(saved, [0x202], "{name}: NT is not saved");
            }
        }
    }
}

#[test]
fn refusals_in_the_old_task() {
    type Change = fn(&mut Bench);
    let gp = Exception::gp(u32::from(SPARE));
    type Case<'a> = (&'a str, Change, u16, Exception);
    let cases: &[Case<'_>] = &[
        ("busy", |b| b.set_descriptor(SPARE, descriptor(OTHER as u32, 0x67, 0x8b, 0)), SPARE, gp),
        (
            "absent",
            |b| b.set_descriptor(SPARE, descriptor(OTHER as u32, 0x67, 9, 0)),
            SPARE,
            Exception::np(u32::from(SPARE)),
        ),
        (
            "too short",
            |b| b.set_descriptor(SPARE, descriptor(OTHER as u32, 0x66, 0x89, 0)),
            SPARE,
            Exception::ts(u32::from(SPARE)),
        ),
        (
            "absent gate",
            |b| b.set_descriptor(SPARE2, gate(SPARE, 0, 5, 0)),
            SPARE2,
            Exception::np(u32::from(SPARE2)),
        ),
        (
            "gate to no TSS",
            |b| b.set_descriptor(SPARE2, gate(DATA0, 0, 0x85, 0)),
            SPARE2,
            Exception::gp(u32::from(DATA0)),
        ),
    ];
    for &(name, change, selector, expected) in cases {
        let mut bench = two_tasks(0, true);
        change(&mut bench);
        let before = bench.place();
        assert_eq!(bench.run(&far(JMP, selector)), Err(expected), "{name}");
        assert_eq!((bench.place(), bench.cpu.state.tr.selector), (before, TASK), "{name}");
        assert_eq!(bench.access_byte(TASK), 0x8b, "{name}");
    }
    // A return to a task that is not busy, and one from CPL 3 to a TSS of DPL 0.
    let mut bench = two_tasks(0, true);
    bench.write(TSS, SPARE.to_le_bytes());
    bench.cpu.set_rflags(bits::RFLAGS_NT | 2);
    assert_eq!(bench.run(b"\xcf"), Err(Exception::ts(u32::from(SPARE))));
    let mut bench = two_tasks(3, true);
    bench.set_descriptor(SPARE, descriptor(OTHER as u32, 0x67, 0x89, 0));
    assert_eq!(bench.run(&far(JMP, SPARE)), Err(gp));
}

#[test]
fn faults_in_the_new_task() {
    type Change = fn(&mut Bench);
    type Case<'a> = (&'a str, Change, Exception);
    let cases: &[Case<'_>] = &[
        ("LDT", |b| b.write(OTHER + 0x60, DATA0.to_le_bytes()), Exception::ts(u32::from(DATA0))),
        ("null CS", |b| b.write(OTHER + 0x4c, [0; 2]), Exception::ts(0)),
        ("CS is data", |b| b.write(OTHER + 0x4c, DATA0.to_le_bytes()), Exception::ts(u32::from(DATA0))),
        (
            "CS absent",
            |b| b.write(OTHER + 0x4c, ABSENT_CODE0.to_le_bytes()),
            Exception::np(u32::from(ABSENT_CODE0)),
        ),
        ("SS of DPL 3", |b| b.write(OTHER + 0x50, DATA3.to_le_bytes()), Exception::ts(u32::from(DATA3))),
        (
            "SS absent",
            |b| b.write(OTHER + 0x50, ABSENT_DATA0.to_le_bytes()),
            Exception::ss(u32::from(ABSENT_DATA0)),
        ),
        ("DS beyond", |b| b.write(OTHER + 0x54, 0x100u16.to_le_bytes()), Exception::ts(0x100)),
        (
            "DS absent",
            |b| b.write(OTHER + 0x54, ABSENT_DATA0.to_le_bytes()),
            Exception::np(u32::from(ABSENT_DATA0)),
        ),
        ("T bit", |b| b.write(OTHER + 0x64, [1]), Exception::db(bits::DR6_BT)),
    ];
    for &(name, change, expected) in cases {
        let mut bench = two_tasks(0, true);
        change(&mut bench);
        assert_eq!(bench.run(&far(JMP, SPARE)), Ok(()), "{name}");
        assert_eq!(bench.cpu.pending_exception, Some(expected), "{name}");
        // The fault is at the new task's first instruction.
        assert_eq!(bench.place().2, OTHER_EIP, "{name}");
        assert_eq!(bench.cpu.state.tr.selector, SPARE, "{name}");
    }
}

#[test]
fn events_through_task_gates() {
    for wide in [true, false] {
        let mut bench = two_tasks(0, wide);
        bench.set_gate(13, SPARE, 0, 0x85, 0);
        let before = (bench.place(), bench.rflags());
        bench.cpu.deliver_exception(Exception::gp(0x1234));
        let bytes = if wide { 4 } else { 2 };
        let place = bench.place();
        assert_eq!((place.2, place.4 & 0xffff), (OTHER_EIP, OTHER_STACK - bytes));
        assert_eq!(bench.values::<1>(OTHER_STACK - bytes, bytes), [0x1234]);
        assert_eq!(bench.values::<2>(TSS + 0x20, 4), [START, before.1 | bits::RFLAGS_RF]);
        assert_eq!(bench.rflags() & bits::RFLAGS_NT, bits::RFLAGS_NT);
    }
    // Errors about the switch carry EXT; INT n has none, and its faults in the new task are there.
    let mut bench = two_tasks(0, true);
    bench.set_gate(0x40, SPARE, 0, 0x85, 0);
    bench.write(OTHER + 0x54, 0x100u16.to_le_bytes());
    assert_eq!(bench.cpu.deliver(exception(0x40, None)), Err(Exception::ts(0x101)));
    let mut bench = two_tasks(0, true);
    bench.set_gate(0x40, SPARE, 0, 0x85, 0);
    bench.write(OTHER + 0x54, 0x100u16.to_le_bytes());
    assert_eq!(bench.run(b"\xcd\x40"), Ok(()));
    assert_eq!(bench.cpu.pending_exception, Some(Exception::ts(0x100)));
    assert_eq!(bench.place().2, OTHER_EIP);
    let mut bench = two_tasks(0, true);
    bench.set_gate(0x40, DATA0, 0, 0x85, 0);
    assert_eq!(bench.cpu.deliver(exception(0x40, None)), Err(Exception::gp(u32::from(DATA0) | 1)));
    assert_eq!(bench.run(b"\xcd\x40"), Err(Exception::gp(u32::from(DATA0))));
    assert_eq!(bench.reg(RSP), STACK);
}

#[test]
fn a_task_in_virtual_8086_mode() {
    let mut bench = two_tasks(0, true);
    bench.write(OTHER + 0x24, (bits::RFLAGS_VM as u32 | 2).to_le_bytes());
    bench.write(OTHER + 0x4c, 0x1000u16.to_le_bytes());
    assert_eq!(bench.run(&far(JMP, SPARE)), Ok(()));
    assert_eq!(bench.cpu.pending_exception, None);
    assert_eq!((bench.cpu.state.cpl, bench.cpu.state.segments[SegmentIndex::CS].base), (3, 0x1_0000));
    assert_eq!(bench.cpu.state.segments[SegmentIndex::CS].access, 0xf3);
}
