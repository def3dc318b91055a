//! SYSCALL, SYSRET, SYSENTER, SYSEXIT; PUSHF, POPF, CLI and STI by privilege.

use super::*;
use crate::op::reg::{RCX, RDX, RSP};

const GP: Result<(), Exception> = Err(Exception::gp(0));
const UD: Result<(), Exception> = Err(Exception::UD);

fn bench(cpl: u8) -> Bench {
    let mut bench = Bench::long(cpl);
    let msrs = &mut bench.cpu.state.msrs;
    msrs.star = 0x0023_0008 << 32;
    msrs.lstar = HANDLER;
    msrs.fmask = bits::RFLAGS_IF | bits::RFLAGS_TF;
    msrs.sysenter_cs = 8;
    msrs.sysenter_esp = STACK0;
    msrs.sysenter_eip = HANDLER + 0x100;
    bench
}

#[test]
fn calls_and_returns() {
    type Change = fn(&mut Bench);
    let flags = bits::RFLAGS_IF | bits::RFLAGS_CF | 2;
    // CPL before, change, instruction, and CPL, CS, RIP, SS behind it.
    type Case<'a> = (&'a str, u8, Change, &'a [u8], (u8, u16, u64, u16));
    let cases: &[Case<'_>] = &[
        ("syscall", 3, |_| (), b"\x0f\x05", (0, 8, HANDLER, 0x10)),
        ("syscall, RPL in STAR", 3, |b| b.cpu.state.msrs.star |= 3 << 32, b"\x0f\x05", (0, 8, HANDLER, 0x13)),
        ("sysretq", 0, |b| b.set_reg(RCX, 0x1_2345_6789), b"\x48\x0f\x07", (3, 0x33, 0x1_2345_6789, 0x2b)),
        ("sysretd", 0, |b| b.set_reg(RCX, 0x1_2345_6789), b"\x0f\x07", (3, 0x23, 0x2345_6789, 0x2b)),
        ("sysenter", 3, |_| (), b"\x0f\x34", (0, 8, HANDLER + 0x100, 0x10)),
        ("sysexitd", 0, |b| b.set_reg(RDX, 0x1_0000_1234), b"\x0f\x35", (3, 0x1b, 0x1234, 0x23)),
        ("sysexitq", 0, |b| b.set_reg(RDX, 0x1_0000_1234), b"\x48\x0f\x35", (3, 0x2b, 0x1_0000_1234, 0x33)),
    ];
    for &(name, cpl, change, bytes, (to_cpl, cs, rip, ss)) in cases {
        let mut bench = bench(cpl);
        bench.cpu.set_rflags(flags);
        change(&mut bench);
        bench.set_reg(11, flags | 1 << 63 | bits::RFLAGS_RF | bits::RFLAGS_VM);
        assert_eq!(bench.run(bytes), Ok(()), "{name}");
        let place = bench.place();
        assert_eq!((place.0, place.1, place.2, place.3), (to_cpl, cs, rip, ss), "{name}");
        let segments = &bench.cpu.state.segments;
        assert_eq!(segments[SegmentIndex::CS].dpl(), to_cpl, "{name}");
        assert_eq!(segments[SegmentIndex::SS].dpl(), to_cpl, "{name}");
        match name {
            "syscall" => {
                assert_eq!((bench.reg(RCX), bench.reg(11)), (START + 2, flags));
                assert_eq!(bench.rflags(), flags & !bits::RFLAGS_IF);
            }
            "sysretq" => assert_eq!(bench.rflags(), flags),
            "sysenter" => {
                assert_eq!(bench.reg(RSP), STACK0);
                assert_eq!(bench.rflags(), flags & !bits::RFLAGS_IF);
            }
            _ => {}
        }
    }
}

#[test]
fn refusals() {
    type Change = fn(&mut Bench);
    type Case<'a> = (&'a str, u8, Change, &'a [u8], Result<(), Exception>);
    let cases: &[Case<'_>] = &[
        ("syscall without SCE", 3, |b| b.cpu.state.efer &= !bits::EFER_SCE, b"\x0f\x05", UD),
        ("sysret without SCE", 0, |b| b.cpu.state.efer &= !bits::EFER_SCE, b"\x0f\x07", UD),
        ("sysret at CPL 3", 3, |_| (), b"\x48\x0f\x07", GP),
        ("sysret to a hole", 0, |b| b.set_reg(RCX, 1 << 47), b"\x48\x0f\x07", GP),
        ("sysretd cuts RCX", 0, |b| b.set_reg(RCX, 1 << 47), b"\x0f\x07", Ok(())),
        ("sysenter, null CS", 3, |b| b.cpu.state.msrs.sysenter_cs = 3, b"\x0f\x34", GP),
        ("sysexit, null CS", 0, |b| b.cpu.state.msrs.sysenter_cs = 0, b"\x0f\x35", GP),
        ("sysexit at CPL 3", 3, |_| (), b"\x0f\x35", GP),
        ("sysexit to a hole", 0, |b| b.set_reg(RDX, 1 << 47), b"\x48\x0f\x35", GP),
        ("sysexit, stack in a hole", 0, |b| b.set_reg(RCX, 1 << 47), b"\x48\x0f\x35", GP),
    ];
    for &(name, cpl, change, bytes, expected) in cases {
        let mut bench = bench(cpl);
        change(&mut bench);
        let before = (bench.place(), bench.rflags());
        assert_eq!(bench.run(bytes), expected, "{name}");
        if expected.is_err() {
            assert_eq!((bench.place(), bench.rflags()), before, "{name}");
        }
    }
}

#[test]
fn interrupt_flag_by_privilege() {
    const IF: u64 = bits::RFLAGS_IF;
    const VIF: u64 = bits::RFLAGS_VIF;
    const VIP: u64 = bits::RFLAGS_VIP;
    const PVI: u64 = bits::CR4_PVI;
    const CLI: &[u8] = b"\xfa";
    const STI: &[u8] = b"\xfb";
    // CPL, IOPL, CR4, RFLAGS before, instruction, and IF, VIF, VIP behind it.
    type Case<'a> = (u8, u64, u64, u64, &'a [u8], Result<u64, Exception>);
    let cases: &[Case<'_>] = &[
        (0, 0, 0, IF, CLI, Ok(0)),
        (0, 0, 0, 0, STI, Ok(IF)),
        (3, 0, 0, IF, CLI, Err(Exception::gp(0))),
        (3, 2, 0, IF, STI, Err(Exception::gp(0))),
        (3, 3, 0, IF, CLI, Ok(0)),
        (3, 3, 0, 0, STI, Ok(IF)),
        (3, 0, PVI, IF | VIF, CLI, Ok(IF)),
        (3, 0, PVI, IF, STI, Ok(IF | VIF)),
        (3, 0, PVI, IF | VIP, STI, Err(Exception::gp(0))),
        (3, 3, PVI, 0, STI, Ok(IF)),
    ];
    for &(cpl, iopl, cr4, before, bytes, expected) in cases {
        let mut bench = Bench::long(cpl);
        bench.cpu.state.cr4 |= cr4;
        bench.cpu.set_rflags(before | iopl << 12);
        let outcome = bench.run(bytes).map(|()| bench.rflags() & (IF | VIF | VIP));
        assert_eq!(outcome, expected, "{cpl} {iopl} {cr4:#x} {before:#x} {bytes:x?}");
    }
}

#[test]
fn flags_on_the_stack() {
    use bits::{RFLAGS_AC as AC, RFLAGS_IF as IF, RFLAGS_IOPL as IOPL, RFLAGS_RF as RF, RFLAGS_VM as VM};
    let all = bits::RFLAGS_DEFINED | 2;
    let fixed = VM | RF | bits::RFLAGS_VIF | bits::RFLAGS_VIP;
    // CPL, IOPL, the image, instruction, RFLAGS behind it.
    type Case<'a> = (u8, u64, u64, &'a [u8], u64);
    let cases: &[Case<'_>] = &[
        (0, 0, u64::MAX, b"\x9d", all & !fixed),
        (3, 0, u64::MAX, b"\x9d", all & !fixed & !(IF | IOPL)),
        (3, IOPL, u64::MAX, b"\x9d", all & !fixed),
        (3, IOPL, 2, b"\x9d", 2 | IOPL),
        (0, IOPL, 2, b"\x9d", 2),
        (0, 0, u64::MAX, b"\x66\x9d", all & 0xffff),
    ];
    for &(cpl, iopl, image, bytes, expected) in cases {
        let mut bench = Bench::long(cpl);
        bench.cpu.set_rflags(iopl | 2);
        bench.stack([image], 8);
        assert_eq!(bench.run(bytes), Ok(()));
        assert_eq!(bench.rflags(), expected, "{cpl} {iopl:#x} {image:#x} {bytes:x?}: {:#x}", bench.rflags());
    }
    let mut bench = Bench::long(0);
    bench.cpu.set_rflags(RF | AC | IF | 3);
    bench.run(b"\x9c").unwrap();
    assert_eq!(bench.values::<1>(bench.reg(RSP), 8), [AC | IF | 3], "PUSHF hides RF");
}
