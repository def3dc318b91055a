//! Event delivery through a 64-bit IDT, double and triple faults, IRETQ.

use super::*;
use crate::backend::Exit;
use crate::state::Activity;

const INTERRUPT: u8 = 0x8e;
const TRAP: u8 = 0x8f;
const VECTOR: u8 = 0x40;
/// The error code that names the gate, and with EXT.
const GATE: u32 = 0x202;
const EXT: u32 = 1;

fn code(selector: u16) -> u32 {
    u32::from(selector) | EXT
}

#[test]
fn checks_of_delivery_and_nothing_changes() {
    type Change = fn(&mut Bench);
    // From CPL 3, a gate to CODE0 that `change` spoils.
    type Case<'a> = (&'a str, Change, Exception);
    let cases: &[Case<'_>] = &[
        ("IDT limit", |b| b.cpu.state.idtr.limit = 0x40e, Exception::gp(GATE | EXT)),
        ("task gate", |b| b.set_gate(VECTOR, TASK, 0, 0x85, 0), Exception::gp(GATE | EXT)),
        ("call gate", |b| b.set_gate(VECTOR, CODE0, HANDLER, 0x8c, 0), Exception::gp(GATE | EXT)),
        ("gate absent", |b| b.set_gate(VECTOR, CODE0, HANDLER, 0x0e, 0), Exception::np(GATE | EXT)),
        ("null selector", |b| b.set_gate(VECTOR, 3, HANDLER, INTERRUPT, 0), Exception::gp(EXT)),
        ("GDT limit", |b| b.set_gate(VECTOR, 0x100, HANDLER, INTERRUPT, 0), Exception::gp(code(0x100))),
        ("LDT is null", |b| b.set_gate(VECTOR, 0xc, HANDLER, INTERRUPT, 0), Exception::gp(code(0xc))),
        ("data", |b| b.set_gate(VECTOR, DATA0, HANDLER, INTERRUPT, 0), Exception::gp(code(DATA0))),
        ("32-bit code", |b| b.set_gate(VECTOR, COMPAT0, HANDLER, INTERRUPT, 0), Exception::gp(code(COMPAT0))),
        (
            "code absent",
            |b| b.set_gate(VECTOR, ABSENT_CODE0, HANDLER, INTERRUPT, 0),
            Exception::np(code(ABSENT_CODE0)),
        ),
        ("offset", |b| b.set_gate(VECTOR, CODE0, 1 << 47, INTERRUPT, 0), Exception::gp(EXT)),
        ("TSS limit", |b| b.cpu.state.tr.limit = 0xa, Exception::ts(code(TASK))),
        (
            "TSS limit of IST7",
            |b| {
                b.set_gate(VECTOR, CODE0, HANDLER, INTERRUPT, 7);
                b.cpu.state.tr.limit = 0x5a;
            },
            Exception::ts(code(TASK)),
        ),
        ("stack not canonical", |b| b.write(TSS + 4, (1u64 << 47).to_le_bytes()), Exception::ss(EXT)),
        (
            "stack unmapped",
            |b| b.write(TSS + 4, (UNMAPPED + 40).to_le_bytes()),
            // The address is aligned first, so that the frame begins in the page before.
            Exception::pf(UNMAPPED, 2),
        ),
    ];
    for &(name, change, expected) in cases {
        let mut bench = Bench::long(3);
        bench.set_gate(VECTOR, CODE0, HANDLER, INTERRUPT, 0);
        change(&mut bench);
        let before = (bench.place(), bench.rflags());
        assert_eq!(bench.cpu.deliver(exception(VECTOR, None)), Err(expected), "{name}");
        assert_eq!((bench.place(), bench.rflags()), before, "{name}");
    }
}

#[test]
fn software_interrupts_need_the_gates_privilege_and_report_no_ext() {
    for (cpl, access, expected) in [
        (3, INTERRUPT, Err(Exception::gp(GATE))),
        (3, INTERRUPT | DPL3, Ok(())),
        (0, INTERRUPT, Ok(())),
        // DPL is looked at before presence.
        (3, 0x0e, Err(Exception::gp(GATE))),
        (3, 0x6e, Err(Exception::np(GATE))),
    ] {
        let mut bench = Bench::long(cpl);
        bench.set_gate(VECTOR, CODE0, HANDLER, access, 0);
        assert_eq!(bench.run(b"\xcd\x40"), expected, "{cpl} {access:#x}");
    }
    // INT1 looks at no DPL, INT3 does.
    let mut bench = Bench::long(3);
    bench.set_gate(1, CODE0, HANDLER, INTERRUPT, 0);
    bench.set_gate(3, CODE0, HANDLER, INTERRUPT, 0);
    assert_eq!(bench.run(b"\xcc"), Err(Exception::gp(0x1a)));
    assert_eq!(bench.run(b"\xf1"), Ok(()));
    let trap = bench.cpu.pending_exception.take().unwrap();
    bench.cpu.deliver_exception(trap);
    assert_eq!(bench.place().2, HANDLER);
    assert_eq!(bench.values::<1>(STACK0 - 40, 8), [START + 1]);
}

#[test]
fn frames() {
    let flags = bits::RFLAGS_IF | bits::RFLAGS_TF | bits::RFLAGS_AC | bits::RFLAGS_CF | 2;
    let cleared = bits::RFLAGS_AC | bits::RFLAGS_CF | 2;
    let (null0, top) = (0, STACK0);
    // CPL, gate, IST, RSP, event; then SS and RSP in the handler, RFLAGS in it, and RFLAGS in the frame.
    type Case<'a> = (&'a str, u8, u8, u8, u64, Event, u16, u64, u64, u64);
    let cases: &[Case<'_>] = &[
        (
            "fault with code from CPL 3",
            3,
            INTERRUPT,
            0,
            STACK,
            exception(14, Some(6)),
            null0,
            top - 48,
            cleared,
            flags | bits::RFLAGS_RF,
        ),
        ("INT from CPL 3", 3, INTERRUPT, 0, STACK, software(VECTOR), null0, top - 40, cleared, flags),
        ("trap gate", 3, TRAP, 0, STACK, software(VECTOR), null0, top - 40, cleared | bits::RFLAGS_IF, flags),
        ("IST 1 from CPL 3", 3, INTERRUPT, 1, STACK, software(VECTOR), null0, 0xa000 - 40, cleared, flags),
        ("IST 1 from CPL 0", 0, INTERRUPT, 1, STACK, software(VECTOR), DATA0, 0xa000 - 40, cleared, flags),
        ("aligned", 0, INTERRUPT, 0, STACK - 7, software(VECTOR), DATA0, STACK - 16 - 40, cleared, flags),
    ];
    for &(name, cpl, kind, ist, rsp, event, ss, top, after, image) in cases {
        let mut bench = Bench::long(cpl);
        bench.write(TSS + 0x24, 0xa000u64.to_le_bytes());
        bench.set_gate(event.vector, CODE0, HANDLER, kind | DPL3, ist);
        bench.set_reg(reg::RSP, rsp);
        bench.cpu.set_rflags(flags);
        let (_, cs, rip, old_ss, _) = bench.place();
        assert_eq!(bench.cpu.deliver(event), Ok(()), "{name}");
        assert_eq!(bench.place(), (0, CODE0, HANDLER, ss, top), "{name}");
        assert_eq!(bench.rflags(), after, "{name}: {:#x}", bench.rflags());
        let frame = [rip, u64::from(cs), image, rsp, u64::from(old_ss)];
        match event.error_code {
            None => assert_eq!(bench.values::<5>(top, 8), frame, "{name}"),
            Some(code) => {
                assert_eq!(bench.values::<1>(top, 8), [u64::from(code)], "{name}");
                assert_eq!(bench.values::<5>(top + 8, 8), frame, "{name}");
            }
        }
        // IRETQ goes back to where it came from, with the same flags.
        bench.set_reg(reg::RSP, top + if event.error_code.is_some() { 8 } else { 0 });
        assert_eq!(bench.run(b"\x48\xcf"), Ok(()), "{name}");
        assert_eq!(bench.place(), (cpl, cs, rip, old_ss, rsp), "{name}");
        assert_eq!(bench.rflags(), image, "{name}");
    }
}

#[test]
fn a_handler_for_users_has_a_users_rights() {
    let mut bench = Bench::long(3);
    bench.set_gate(VECTOR, CODE3, HANDLER, INTERRUPT, 0);
    bench.set_reg(reg::RSP, SUPERVISOR + 0x800);
    assert_eq!(bench.cpu.deliver(exception(VECTOR, None)), Err(Exception::pf(SUPERVISOR + 0x800 - 40, 7)));
    bench.set_reg(reg::RSP, STACK);
    assert_eq!(bench.cpu.deliver(exception(VECTOR, None)), Ok(()));
    assert_eq!(bench.place(), (3, CODE3 | 3, HANDLER, DATA3 | 3, STACK - 40));
    // A conforming handler runs at the privilege that it interrupts.
    bench.set_gate(VECTOR, CONFORMING0, HANDLER, INTERRUPT, 0);
    assert_eq!(bench.cpu.deliver(exception(VECTOR, None)), Ok(()));
    assert_eq!(bench.place().0, 3);
    assert_eq!(bench.place().1, CONFORMING0 | 3);
}

#[test]
fn faults_in_delivery() {
    // Vectors with a gate, the first exception, the handler that is reached with its error code; none: shutdown.
    type Case<'a> = (&'a str, &'a [u8], Exception, Option<(u8, Option<u64>)>);
    let cases: &[Case<'_>] = &[
        ("#UD", &[6, 13, 8], Exception::UD, Some((6, None))),
        ("#UD, #GP", &[13, 8], Exception::UD, Some((13, Some(0x33)))),
        ("#PF, #GP: #DF", &[13, 8], Exception::pf(0x1234, 4), Some((8, Some(0)))),
        ("#GP, #GP: #DF", &[8], Exception::gp(0x10), Some((8, Some(0)))),
        ("#UD, #GP, #GP: #DF", &[8], Exception::UD, Some((8, Some(0)))),
        ("#BP, #GP", &[13], Exception::BP, Some((13, Some(0x1b)))),
        ("#GP, #GP, #GP: shutdown", &[14], Exception::gp(0), None),
        ("#DF, #GP: shutdown", &[13], Exception::df(), None),
    ];
    for &(name, vectors, first, expected) in cases {
        let mut bench = Bench::long(3);
        for &vector in vectors {
            bench.set_gate(vector, CODE0, HANDLER + u64::from(vector), INTERRUPT, 0);
        }
        let before = bench.place();
        bench.cpu.deliver_exception(first);
        let Some((vector, error)) = expected else {
            assert_eq!(bench.cpu.state.activity, Activity::Shutdown, "{name}");
            assert_eq!(bench.cpu.exit, Some(Exit::Shutdown), "{name}");
            assert_eq!(bench.place(), before, "{name}: the state is that of the instruction that began it");
            continue;
        };
        assert_eq!(bench.cpu.state.activity, Activity::Active, "{name}");
        assert_eq!(bench.place().2, HANDLER + u64::from(vector), "{name}");
        if let Some(error) = error {
            assert_eq!(bench.values::<1>(bench.reg(reg::RSP), 8), [error], "{name}");
        }
        assert_eq!(
            bench.cpu.recent_events.iter().last().map(|(event, _)| event.vector),
            Some(vector),
            "{name}"
        );
        assert_eq!(bench.cpu.stats.exceptions, 1, "{name}");
    }
}

#[test]
fn payloads_and_shadows() {
    let mut bench = Bench::long(0);
    for vector in [1, 2, 14, VECTOR] {
        bench.set_gate(vector, CODE0, HANDLER, INTERRUPT, 0);
    }
    bench.cpu.deliver_exception(Exception::pf(0xdead_0000, 2));
    assert_eq!(bench.cpu.state.cr2, 0xdead_0000);
    bench.cpu.state.dr[7] |= bits::DR7_GD;
    bench.cpu.deliver_exception(Exception::db(bits::DR6_BD));
    assert_eq!(bench.cpu.state.dr[7] & bits::DR7_GD, 0);
    assert_eq!(bench.cpu.state.dr[6], bits::DR6_FIXED | bits::DR6_BD);
    let image = bench.values::<3>(bench.reg(reg::RSP), 8)[2];
    assert_ne!(image & bits::RFLAGS_RF, 0, "a guarded access is a fault");
    bench.cpu.deliver_exception(Exception::db(bits::DR6_BS));
    let image = bench.values::<3>(bench.reg(reg::RSP), 8)[2];
    assert_eq!(image & bits::RFLAGS_RF, 0, "a single step is a trap");

    // STI and MOV SS hold interrupts off; NMIs stay off until IRET; HLT ends with any event.
    bench.cpu.set_rflags(2);
    assert!(!bench.cpu.interrupts_open());
    bench.run(b"\xfb").unwrap();
    assert!(bench.cpu.state.sti_shadow && !bench.cpu.interrupts_open());
    bench.cpu.state.sti_shadow = false;
    bench.run(b"\xfb").unwrap();
    assert!(bench.cpu.interrupts_open(), "STI with IF set casts no shadow");
    bench.set_reg(reg::RAX, u64::from(DATA0));
    bench.run(b"\x8e\xd0").unwrap();
    assert!(!bench.cpu.interrupts_open() && !bench.cpu.nmi_open());
    bench.cpu.state.mov_ss_shadow = false;
    bench.cpu.state.activity = Activity::Halted;
    assert!(bench.cpu.nmi_open());
    bench.cpu.deliver_nmi();
    assert_eq!(bench.cpu.state.activity, Activity::Active);
    assert!(!bench.cpu.nmi_open());
    bench.run(b"\x48\xcf").unwrap();
    assert!(bench.cpu.nmi_open());
    bench.cpu.state.activity = Activity::Halted;
    bench.cpu.deliver_exception(Exception::db(bits::DR6_BS));
    assert_eq!(bench.cpu.state.activity, Activity::Active);
    assert_eq!(bench.cpu.stats.interrupts, 1);
}

#[test]
fn iretq_checks() {
    let good = [HANDLER, u64::from(CODE3 | 3), 0x202, STACK, u64::from(DATA3 | 3)];
    let with = |index: usize, value: u64| {
        let mut frame = good;
        frame[index] = value;
        frame
    };
    let selector = |index: usize, selector: u16| with(index, u64::from(selector));
    let gp = |selector: u16| Err(Exception::gp(u32::from(selector & !3)));
    // CPL before, the frame, what comes of it.
    let cases = [
        ("to CPL 3", 0, good, Ok(())),
        ("to 32-bit code", 0, selector(1, COMPAT3 | 3), Ok(())),
        ("RIP not canonical", 0, with(0, 1 << 47), gp(0)),
        ("EIP too high", 0, [1 << 32, u64::from(COMPAT3 | 3), 0x202, STACK, u64::from(DATA3 | 3)], gp(0)),
        ("null CS", 0, selector(1, 3), gp(0)),
        ("CS in the null LDT", 0, selector(1, 0xc), gp(0xc)),
        ("CS is data", 0, selector(1, DATA3 | 3), gp(DATA3)),
        ("CS with RPL above DPL", 0, selector(1, CODE0 | 3), gp(CODE0)),
        ("CS inward", 3, selector(1, CODE0), gp(CODE0)),
        ("CS absent", 0, selector(1, ABSENT_CODE0), Err(Exception::np(u32::from(ABSENT_CODE0)))),
        ("null SS at CPL 3", 0, selector(4, 3), gp(0)),
        ("SS with another RPL", 0, selector(4, DATA3), gp(DATA3)),
        ("SS of another DPL", 0, selector(4, DATA0 | 3), gp(DATA0)),
        ("null SS at CPL 0", 0, [HANDLER, u64::from(CODE0), 0x202, STACK, 0], Ok(())),
        ("null SS for 32-bit code", 0, [HANDLER, u64::from(COMPAT0), 0x202, STACK, 0], gp(0)),
        ("SS read-only", 0, [HANDLER, u64::from(CODE0), 0x202, STACK, u64::from(READ_ONLY0)], gp(READ_ONLY0)),
        (
            "SS absent",
            0,
            [HANDLER, u64::from(CODE0), 0x202, STACK, u64::from(ABSENT_DATA0)],
            Err(Exception::ss(u32::from(ABSENT_DATA0))),
        ),
    ];
    for (name, cpl, frame, expected) in cases {
        let mut bench = Bench::long(cpl);
        bench.stack(frame, 8);
        bench.cpu.state.nmi_blocked = true;
        let before = (bench.place(), bench.rflags());
        assert_eq!(bench.run(b"\x48\xcf"), expected, "{name}");
        assert!(!bench.cpu.state.nmi_blocked, "{name}: IRET lets NMIs in even if it faults");
        match expected {
            Ok(()) => assert_eq!((bench.place().1, bench.place().2), (frame[1] as u16, frame[0]), "{name}"),
            Err(_) => assert_eq!((bench.place(), bench.rflags()), before, "{name}"),
        }
    }
    let mut bench = Bench::long(0);
    bench.stack(good, 8);
    bench.cpu.set_rflags(bits::RFLAGS_NT | 2);
    assert_eq!(bench.run(b"\x48\xcf"), gp(0), "NT");
    // Outward, what the outer level may not use becomes null, and null selectors lose their RPL.
    let mut bench = Bench::long(0);
    bench.stack(good, 8);
    bench.set_reg(reg::RAX, 3);
    bench.run(b"\x8e\xe0").unwrap();
    bench.set_reg(reg::RAX, u64::from(DATA3));
    bench.run(b"\x8e\xe8").unwrap();
    bench.run(b"\x48\xcf").unwrap();
    let selectors = [SegmentIndex::DS, SegmentIndex::FS, SegmentIndex::GS].map(|index| bench.selector(index));
    assert_eq!(selectors, [0, 0, DATA3]);
}
