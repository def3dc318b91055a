//! Protected mode without IA-32e: interrupt gates of both sizes, inner stacks, call gates with parameters, returns.

use super::*;
use crate::op::reg::RSP;

const GATE32: u8 = 0xee;
const GATE16: u8 = 0xe6;
const VECTOR: u8 = 0x40;
const EXT: u32 = 1;

fn ts(selector: u16) -> Exception {
    Exception::ts(u32::from(selector) | EXT)
}

#[test]
fn checks_of_inner_stacks_and_nothing_changes() {
    type Change = fn(&mut Bench);
    let stack = |bench: &Bench, selector: u16| bench.write(TSS + 8, selector.to_le_bytes());
    type Case<'a> = (&'a str, Change, Exception);
    let cases: &[Case<'_>] = &[
        ("TSS limit", |b| b.cpu.state.tr.limit = 8, ts(TASK)),
        ("null", |b| b.write(TSS + 8, [0; 2]), Exception::ts(EXT)),
        ("beyond the GDT", |b| b.write(TSS + 8, 0x100u16.to_le_bytes()), ts(0x100)),
        ("RPL", |b| b.write(TSS + 8, (DATA0 | 3).to_le_bytes()), ts(DATA0)),
        ("DPL", |b| b.write(TSS + 8, DATA3.to_le_bytes()), ts(DATA3)),
        ("read-only", |b| b.write(TSS + 8, READ_ONLY0.to_le_bytes()), ts(READ_ONLY0)),
        (
            "absent",
            |b| b.write(TSS + 8, ABSENT_DATA0.to_le_bytes()),
            Exception::ss(u32::from(ABSENT_DATA0) | EXT),
        ),
        (
            "no room",
            |b| {
                b.write(TSS + 8, SMALL_STACK0.to_le_bytes());
                b.write(TSS + 4, 16u32.to_le_bytes());
            },
            Exception::ss(u32::from(SMALL_STACK0) | EXT),
        ),
        (
            "target beyond the limit",
            |b| {
                b.set_descriptor(SPARE, descriptor(0, 0xffff, CODE, 4));
                b.set_gate(VECTOR, SPARE, HANDLER, GATE32, 0);
            },
            Exception::gp(EXT),
        ),
    ];
    for &(name, change, expected) in cases {
        let mut bench = Bench::legacy(3);
        stack(&bench, DATA0);
        bench.set_gate(VECTOR, CODE0, HANDLER, GATE32, 0);
        change(&mut bench);
        let before = (bench.place(), bench.rflags());
        assert_eq!(bench.cpu.deliver(exception(VECTOR, None)), Err(expected), "{name}");
        assert_eq!((bench.place(), bench.rflags()), before, "{name}");
    }
    // Just enough of a TSS.
    let mut bench = Bench::legacy(3);
    bench.cpu.state.tr.limit = 9;
    bench.set_gate(VECTOR, CODE0, HANDLER, GATE32, 0);
    assert_eq!(bench.cpu.deliver(exception(VECTOR, None)), Ok(()));
    // On the current stack, a fault names nothing.
    let mut bench = Bench::legacy(0);
    bench.set_gate(VECTOR, CODE0, HANDLER, GATE32, 0);
    bench.cpu.state.segments[SegmentIndex::SS].limit = 0x7ff3;
    assert_eq!(bench.cpu.deliver(exception(VECTOR, None)), Err(Exception::ss(EXT)));
}

#[test]
fn frames_and_returns() {
    // CPL, gate, bytes of a value, error code.
    type Case<'a> = (&'a str, u8, u8, u64, Option<u32>, &'a [u8]);
    let cases: &[Case<'_>] = &[
        ("32 bits, same level", 0, GATE32, 4, None, b"\xcf"),
        ("32 bits, inward", 3, GATE32, 4, None, b"\xcf"),
        ("32 bits, error code", 3, GATE32, 4, Some(0x18), b"\xcf"),
        ("16 bits, same level", 0, GATE16, 2, None, b"\x66\xcf"),
        ("16 bits, inward", 3, GATE16, 2, Some(0x18), b"\x66\xcf"),
    ];
    for &(name, cpl, kind, bytes, error, iret) in cases {
        let mut bench = Bench::legacy(cpl);
        bench.set_gate(VECTOR, CODE0, HANDLER, kind, 0);
        bench.cpu.state.set_rip(0x1234);
        let (before, flags) = (bench.place(), bench.rflags());
        assert_eq!(bench.cpu.deliver(exception(VECTOR, error)), Ok(()), "{name}");
        let (count, base) = if cpl == 3 { (5, STACK0) } else { (3, STACK) };
        let count = count + u64::from(error.is_some());
        let top = base - count * bytes;
        let target = if kind == GATE16 { HANDLER & 0xffff } else { HANDLER };
        assert_eq!(bench.place(), (0, CODE0, target, DATA0, top), "{name}");
        assert_eq!(bench.rflags(), flags & !bits::RFLAGS_IF, "{name}");
        let frame = top + if error.is_some() { bytes } else { 0 };
        let image = if error.is_some() && bytes == 4 { flags | bits::RFLAGS_RF } else { flags };
        assert_eq!(bench.values::<3>(frame, bytes), [0x1234, u64::from(before.1), image], "{name}");
        if cpl == 3 {
            assert_eq!(bench.values::<2>(frame + 3 * bytes, bytes), [STACK, u64::from(before.3)], "{name}");
        }
        if let Some(error) = error {
            assert_eq!(bench.values::<1>(top, bytes), [u64::from(error)], "{name}");
        }
        bench.set_reg(RSP, frame);
        assert_eq!(bench.run(iret), Ok(()), "{name}");
        assert_eq!(bench.place(), before, "{name}: back");
        assert_eq!(bench.rflags(), image, "{name}: back");
    }
}

#[test]
fn call_gates_copy_parameters() {
    // Gate's access byte, bytes of a value, CALL, RETF of three values.
    type Case<'a> = (u8, u64, &'a [u8]);
    let cases: &[Case<'_>] = &[(0xec, 4, b"\xca\x0c\x00"), (0xe4, 2, b"\x66\xca\x06\x00")];
    for &(access, bytes, retf) in cases {
        let mut bench = Bench::legacy(3);
        bench.cpu.state.set_rip(0x4000);
        bench.set_descriptor(SPARE, gate(CODE0, HANDLER, access, 3));
        bench.stack([0x11, 0x22, 0x33], bytes);
        let before = bench.place();
        // CALL SPARE:0.
        let mut call = vec![0x9a, 0, 0, 0, 0];
        call.extend((SPARE | 3).to_le_bytes());
        assert_eq!(bench.run(&call), Ok(()));
        let target = if bytes == 2 { HANDLER & 0xffff } else { HANDLER };
        let top = STACK0 - 7 * bytes;
        assert_eq!(bench.place(), (0, CODE0, target, DATA0, top));
        let frame = [0x4007, u64::from(CODE3 | 3), 0x11, 0x22, 0x33, before.4, u64::from(DATA3 | 3)];
        assert_eq!(bench.values::<7>(top, bytes), frame);
        assert_eq!(bench.run(retf), Ok(()));
        assert_eq!(bench.place(), (3, CODE3 | 3, 0x4007, DATA3 | 3, STACK));
        assert_eq!(bench.selector(SegmentIndex::DS), DATA3 | 3);
    }
    // The new stack's fault names it, and nothing has changed.
    let mut bench = Bench::legacy(3);
    bench.set_descriptor(SPARE, gate(CODE0, HANDLER, 0xec, 5));
    bench.write(TSS + 4, 32u32.to_le_bytes());
    bench.write(TSS + 8, SMALL_STACK0.to_le_bytes());
    let before = bench.place();
    let call = [0x9a, 0, 0, 0, 0, SPARE as u8 | 3, 0];
    assert_eq!(bench.run(&call), Err(Exception::ss(u32::from(SMALL_STACK0))));
    assert_eq!(bench.place(), before);
    assert_eq!(bench.values::<8>(STACK0, 4), [0; 8], "checked before the first value is written");
}

#[test]
fn interrupts_in_real_address_mode() {
    let mut bench = Bench::legacy(0);
    bench.cpu.state.cr0 &= !bits::CR0_PE;
    for index in 0..6 {
        bench.cpu.state.segments[index] = Segment::real_mode(0x100);
    }
    bench.cpu.state.idtr = TableRegister { base: 0, limit: 0x3ff };
    bench.cpu.mode_changed();
    bench.cpu.state.set_rip(0x50);
    bench.set_reg(RSP, 0x1000);
    bench.cpu.set_rflags(bits::RFLAGS_IF | bits::RFLAGS_TF | bits::RFLAGS_AC | 3);
    bench.write(0x40 * 4, [0x34, 0x12, 0x00, 0xf0]);
    assert_eq!(bench.run(b"\xcd\x40"), Ok(()));
    assert_eq!(bench.place(), (0, 0xf000, 0x1234, 0x100, 0xffa));
    assert_eq!(bench.cpu.state.segments[SegmentIndex::CS].base, 0xf_0000);
    assert_eq!(bench.rflags(), 3);
    assert_eq!(bench.values::<3>(0x1ffa, 2), [0x52, 0x100, 0x303]);
    bench.run(b"\xcf").unwrap();
    assert_eq!(bench.place(), (0, 0x100, 0x52, 0x100, 0x1000));
    assert_eq!(bench.rflags(), 0x303);
    // The IDT's limit holds here, too, and the gate is named, though nobody will see it.
    bench.cpu.state.idtr.limit = 0x40 * 4 + 2;
    assert_eq!(bench.run(b"\xcd\x40"), Err(Exception::gp(0x202)));
    // Without room the stack faults.
    bench.cpu.state.idtr.limit = 0x3ff;
    bench.cpu.state.segments[SegmentIndex::SS].limit = 0xffd;
    assert_eq!(bench.run(b"\xcd\x40").map_err(|fault| fault.vector), Err(12));
    assert_eq!(bench.place(), (0, 0x100, 0x52, 0x100, 0x1000));
}
