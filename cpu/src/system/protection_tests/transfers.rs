//! Loads of segment and table registers, far transfers and call gates in 64-bit mode, by cases.

use super::*;
use crate::op::reg::{RAX, RSP};

type Outcome = Result<(), Exception>;

fn gp(selector: u16) -> Outcome {
    Err(Exception::gp(u32::from(selector & !3)))
}
fn np(selector: u16) -> Outcome {
    Err(Exception::np(u32::from(selector & !3)))
}

#[test]
fn segment_loads() {
    const DS: &[u8] = b"\x8e\xd8";
    const SS: &[u8] = b"\x8e\xd0";
    type Case<'a> = (&'a str, u8, &'a [u8], u16, Outcome);
    let cases: &[Case<'_>] = &[
        ("DS null", 3, DS, 0, Ok(())),
        ("DS null with RPL", 3, DS, 3, Ok(())),
        ("DS", 0, DS, DATA0, Ok(())),
        ("DS beyond the GDT", 0, DS, 0x100, gp(0x100)),
        ("DS in a null LDT", 0, DS, 0xc, gp(0xc)),
        ("DS of DPL 0 at CPL 3", 3, DS, DATA0, gp(DATA0)),
        ("DS of DPL 0 with RPL 3", 0, DS, DATA0 | 3, gp(DATA0)),
        ("DS of DPL 3 at CPL 0", 0, DS, DATA3, Ok(())),
        ("DS, readable code", 0, DS, CODE0, Ok(())),
        ("DS, execute-only code", 0, DS, EXECUTE_ONLY0, gp(EXECUTE_ONLY0)),
        ("DS, conforming code at CPL 3", 3, DS, CONFORMING0 | 3, Ok(())),
        ("DS, a TSS", 0, DS, TASK, gp(TASK)),
        ("DS absent", 0, DS, ABSENT_DATA0, np(ABSENT_DATA0)),
        ("SS", 0, SS, DATA0, Ok(())),
        ("SS null at CPL 0", 0, SS, 0, Ok(())),
        ("SS null, RPL 3 at CPL 0", 0, SS, 3, gp(0)),
        ("SS null at CPL 3", 3, SS, 3, gp(0)),
        ("SS with RPL 3 at CPL 0", 0, SS, DATA0 | 3, gp(DATA0)),
        ("SS of DPL 3 at CPL 0", 0, SS, DATA3, gp(DATA3)),
        ("SS read-only", 0, SS, READ_ONLY0, gp(READ_ONLY0)),
        ("SS, code", 0, SS, CODE0, gp(CODE0)),
        ("SS absent", 0, SS, ABSENT_DATA0, Err(Exception::ss(u32::from(ABSENT_DATA0)))),
        ("CS", 0, b"\x8e\xc8", CODE0, Err(Exception::UD)),
    ];
    for &(name, cpl, bytes, selector, expected) in cases {
        let mut bench = Bench::long(cpl);
        bench.set_reg(RAX, u64::from(selector));
        let before = bench.cpu.state.segments;
        assert_eq!(bench.run(bytes), expected, "{name}");
        let index = usize::from(bytes[1] >> 3 & 7);
        match expected {
            Ok(()) => assert_eq!(bench.selector(index), selector, "{name}"),
            Err(_) => assert_eq!(bench.cpu.state.segments, before, "{name}"),
        }
    }
    let mut bench = Bench::long(0);
    bench.set_descriptor(SPARE, descriptor(0, 0xfffff, 0x92, FLAT32));
    bench.set_reg(RAX, u64::from(SPARE));
    bench.run(DS).unwrap();
    assert_eq!(bench.access_byte(SPARE), 0x93, "accessed");
    assert_eq!(bench.cpu.state.segments[SegmentIndex::DS].access & 0xff, 0x93);
}

#[test]
fn a_null_selector_does_not_outlive_protected_mode() {
    let mut bench = Bench::legacy(0);
    bench.run(b"\x8e\xd8").unwrap();
    bench.cpu.state.cr0 &= !bits::CR0_PE;
    bench.cpu.mode_changed();
    bench.set_reg(RAX, 0x123);
    bench.run(b"\x8e\xd8").unwrap();
    assert_eq!(bench.cpu.state.segments[SegmentIndex::DS], Segment::real_mode(0x123));
    // A limit loaded in protected mode stays.
    let flat = bench.cpu.state.segments[SegmentIndex::ES].limit;
    bench.run(b"\x8e\xc0").unwrap();
    assert_eq!(bench.cpu.state.segments[SegmentIndex::ES].limit, flat);
}

#[test]
fn task_and_ldt_registers() {
    const LTR: &[u8] = b"\x0f\x00\xd8";
    const LLDT: &[u8] = b"\x0f\x00\xd0";
    let hole = 0xffff_0000u64;
    // Access byte and upper half of the descriptor, the selector.
    type Case<'a> = (&'a str, u8, &'a [u8], u8, u64, u16, Outcome);
    let cases: &[Case<'_>] = &[
        ("ltr", 0, LTR, 0x89, 0, SPARE, Ok(())),
        ("ltr at CPL 3", 3, LTR, 0x89, 0, SPARE, gp(0)),
        ("ltr null", 0, LTR, 0x89, 0, 0, gp(0)),
        ("ltr in the LDT", 0, LTR, 0x89, 0, SPARE | 4, gp(SPARE | 4)),
        ("ltr beyond the GDT", 0, LTR, 0x89, 0, 0x100, gp(0x100)),
        ("ltr half beyond the GDT", 0, LTR, 0x89, 0, 0xf8, gp(0xf8)),
        ("ltr busy", 0, LTR, 0x8b, 0, SPARE, gp(SPARE)),
        ("ltr of 16 bits", 0, LTR, 0x81, 0, SPARE, gp(SPARE)),
        ("ltr of data", 0, LTR, 0x93, 0, SPARE, gp(SPARE)),
        ("ltr absent", 0, LTR, 0x09, 0, SPARE, np(SPARE)),
        ("ltr, type in the upper half", 0, LTR, 0x89, 1 << 40, SPARE, gp(SPARE)),
        ("ltr, base in a hole", 0, LTR, 0x89, hole, SPARE, gp(SPARE)),
        ("lldt", 0, LLDT, 0x82, 0, SPARE, Ok(())),
        ("lldt null", 0, LLDT, 0x82, 0, 3, Ok(())),
        ("lldt at CPL 3", 3, LLDT, 0x82, 0, SPARE, gp(0)),
        ("lldt in the LDT", 0, LLDT, 0x82, 0, SPARE | 4, gp(SPARE | 4)),
        ("lldt of a TSS", 0, LLDT, 0x89, 0, SPARE, gp(SPARE)),
        ("lldt absent", 0, LLDT, 0x02, 0, SPARE, np(SPARE)),
        ("lldt, base in a hole", 0, LLDT, 0x82, hole, SPARE, gp(SPARE)),
    ];
    for &(name, cpl, bytes, kind, upper, selector, expected) in cases {
        let mut bench = Bench::long(cpl);
        let last = descriptor(0x1234, 0x67, kind, 0);
        bench.set_descriptor(0xf8, last);
        bench.set_descriptor(SPARE, last);
        bench.set_descriptor(SPARE2, upper);
        bench.set_reg(RAX, u64::from(selector));
        assert_eq!(bench.run(bytes), expected, "{name}");
        if name == "ltr" {
            assert_eq!(bench.access_byte(SPARE), 0x8b, "busy");
            assert_eq!((bench.cpu.state.tr.base, bench.cpu.state.tr.access), (0x1234, 0x8b));
        }
    }
}

#[test]
fn far_jumps_in_ia32e_mode() {
    // JMP m16:64 through [RBX].
    type Case<'a> = (&'a str, u8, u16, u64, Outcome);
    let cases: &[Case<'_>] = &[
        ("64-bit code", 0, CODE0, 1 << 40, Ok(())),
        ("32-bit code", 0, COMPAT0, HANDLER, Ok(())),
        ("beyond the limit", 0, COMPAT0, 1 << 32, gp(0)),
        ("not canonical", 0, CODE0, 1 << 47, gp(0)),
        ("null", 0, 3, 0, gp(0)),
        ("data", 0, DATA0, 0, gp(DATA0)),
        ("absent", 0, ABSENT_CODE0, 0, np(ABSENT_CODE0)),
        ("inward", 3, CODE0, 0, gp(CODE0)),
        ("outward", 0, CODE3, 0, gp(CODE3)),
        ("RPL above CPL", 0, CODE0 | 3, 0, gp(CODE0)),
        ("conforming inward", 3, CONFORMING0, HANDLER, Ok(())),
        ("a TSS", 0, TASK, 0, gp(TASK)),
    ];
    for &(name, cpl, selector, offset, expected) in cases {
        let mut bench = Bench::long(cpl);
        bench.write(0xb000, offset.to_le_bytes());
        bench.write(0xb008, selector.to_le_bytes());
        bench.set_reg(crate::op::reg::RBX, 0xb000);
        let before = bench.place();
        assert_eq!(bench.run(b"\x48\xff\x2b"), expected, "{name}");
        match expected {
            Ok(()) => {
                let place = bench.place();
                assert_eq!(
                    (place.0, place.1, place.2),
                    (cpl, selector & !3 | u16::from(cpl), offset),
                    "{name}"
                );
            }
            Err(_) => assert_eq!(bench.place(), before, "{name}"),
        }
    }
}

/// A 64-bit call gate in `SPARE`.
fn call_gate(bench: &Bench, target: u16, access: u8, upper: u64) {
    bench.set_descriptor(SPARE, gate(target, HANDLER, access, 0));
    bench.set_descriptor(SPARE2, upper);
}

#[test]
fn call_gates_in_ia32e_mode() {
    const GATE3: u8 = 0xec;
    type Case<'a> = (&'a str, u8, u16, u8, u64, Outcome);
    let cases: &[Case<'_>] = &[
        ("inward", 3, CODE0, GATE3, 0, Ok(())),
        ("same level", 0, CODE0, GATE3, 0, Ok(())),
        ("gate of DPL 0", 3, CODE0, 0x8c, 0, gp(SPARE)),
        ("gate absent", 3, CODE0, 0x6c, 0, np(SPARE)),
        ("type in the upper half", 3, CODE0, GATE3, 1 << 40, gp(SPARE)),
        ("16-bit gate", 3, CODE0, 0xe4, 0, gp(SPARE)),
        ("null target", 3, 0, GATE3, 0, gp(0)),
        ("target is data", 3, DATA0, GATE3, 0, gp(DATA0)),
        ("32-bit target", 3, COMPAT0, GATE3, 0, gp(COMPAT0)),
        ("outward", 0, CODE3, GATE3, 0, gp(CODE3)),
        ("target absent", 3, ABSENT_CODE0, GATE3, 0, np(ABSENT_CODE0)),
        ("offset not canonical", 3, CODE0, GATE3, 1 << 15, gp(0)),
    ];
    for &(name, cpl, target, access, upper, expected) in cases {
        let mut bench = Bench::long(cpl);
        call_gate(&bench, target, access, upper);
        bench.write(0xb000, [0, 0, 0, 0]);
        bench.write(0xb004, (SPARE | u16::from(cpl)).to_le_bytes());
        bench.set_reg(crate::op::reg::RBX, 0xb000);
        let before = bench.place();
        assert_eq!(bench.run(b"\xff\x1b"), expected, "{name}");
        if expected.is_err() {
            assert_eq!(bench.place(), before, "{name}");
            continue;
        }
        let rip = START + 2;
        if cpl == 3 {
            assert_eq!(bench.place(), (0, CODE0, HANDLER, 0, STACK0 - 32), "{name}");
            let frame = [rip, u64::from(CODE3 | 3), STACK, u64::from(DATA3 | 3)];
            assert_eq!(bench.values::<4>(STACK0 - 32, 8), frame, "{name}");
        } else {
            assert_eq!(bench.place(), (0, CODE0, HANDLER, DATA0, STACK - 16), "{name}");
            assert_eq!(bench.values::<2>(STACK - 16, 8), [rip, u64::from(CODE0)], "{name}");
        }
        bench.run(b"\x48\xcb").unwrap();
        assert_eq!(bench.place(), (before.0, before.1, rip, before.3, before.4), "{name}: back");
    }
}

#[test]
fn far_returns() {
    // RETFQ 3, of the frame RIP, CS, three bytes, RSP, SS.
    let mut bench = Bench::long(0);
    bench.stack([0; 6], 8);
    let top = bench.reg(RSP);
    bench.write(top, HANDLER.to_le_bytes());
    bench.write(top + 8, u64::from(CODE3 | 3).to_le_bytes());
    bench.write(top + 19, STACK.to_le_bytes());
    bench.write(top + 27, u64::from(DATA3 | 3).to_le_bytes());
    assert_eq!(bench.run(b"\x48\xca\x03\x00"), Ok(()));
    assert_eq!(bench.place(), (3, CODE3 | 3, HANDLER, DATA3 | 3, STACK + 3));
    // A null SS is for 64-bit code only.
    let mut bench = Bench::long(0);
    bench.set_descriptor(SPARE, descriptor(0, 0xfffff, CODE | 0x20, FLAT32));
    bench.stack([HANDLER, u64::from(SPARE | 1), STACK, 1], 8);
    assert_eq!(bench.run(b"\x48\xcb"), gp(0));
    bench.set_descriptor(SPARE, descriptor(0, 0xfffff, CODE | 0x20, FLAT64));
    assert_eq!(bench.run(b"\x48\xcb"), Ok(()));
    assert_eq!(bench.place(), (1, SPARE | 1, HANDLER, 1, STACK));
}

#[test]
fn questions_about_selectors() {
    const VERR: &[u8] = b"\x0f\x00\xe0";
    const VERW: &[u8] = b"\x0f\x00\xe8";
    const LAR: &[u8] = b"\x0f\x02\xc8";
    const LSL: &[u8] = b"\x0f\x03\xc8";
    let rights = |access: u64, flags: u64| access << 8 | flags << 20 | 0xf_0000;
    // What ECX becomes, if ZF is set.
    type Case<'a> = (&'a str, u8, &'a [u8], u16, Option<u64>);
    let cases: &[Case<'_>] = &[
        ("verr data", 0, VERR, DATA0, Some(0)),
        ("verr execute-only", 0, VERR, EXECUTE_ONLY0, None),
        ("verr inward", 3, VERR, DATA0, None),
        ("verr conforming inward", 3, VERR, CONFORMING0, Some(0)),
        ("verr null", 0, VERR, 0, None),
        ("verr beyond", 0, VERR, 0x100, None),
        ("verw data", 0, VERW, DATA0, Some(0)),
        ("verw read-only", 0, VERW, READ_ONLY0, None),
        ("verw code", 0, VERW, CODE0, None),
        ("verw of DPL 0 with RPL 3", 0, VERW, DATA0 | 3, None),
        ("lar data", 0, LAR, DATA0, Some(rights(0x93, 0xc))),
        ("lar absent", 0, LAR, ABSENT_DATA0, Some(rights(0x13, 0xc))),
        ("lar TSS", 0, LAR, TASK, Some(0x8b00)),
        ("lar inward", 3, LAR, DATA0, None),
        ("lsl data", 0, LSL, DATA0, Some(0xffff_ffff)),
        ("lsl TSS", 0, LSL, TASK, Some(0x67)),
        ("lsl null", 0, LSL, 3, None),
    ];
    for &(name, cpl, bytes, selector, expected) in cases {
        let mut bench = Bench::long(cpl);
        bench.set_reg(RAX, u64::from(selector));
        assert_eq!(bench.run(bytes), Ok(()), "{name}");
        let answer = (bench.rflags() & bits::RFLAGS_ZF != 0).then(|| bench.reg(crate::op::reg::RCX));
        assert_eq!(answer, expected, "{name}");
    }
    let mut bench = Bench::legacy(0);
    for (selector, source, result, raised) in [(0x10, 3, 0x13, true), (0x13, 2, 0x13, false)] {
        bench.set_reg(RAX, selector);
        bench.set_reg(crate::op::reg::RCX, source);
        bench.run(b"\x63\xc8").unwrap();
        assert_eq!((bench.reg(RAX), bench.rflags() & bits::RFLAGS_ZF != 0), (result, raised), "arpl");
    }
}
