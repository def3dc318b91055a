//! Virtual-8086 mode: entry by IRET, exit by interrupts, IOPL, VME and the interrupt redirection map.

use super::*;
use crate::op::reg::RSP;

const IOPL3: u64 = bits::RFLAGS_IOPL;
const GP: Exception = Exception::gp(0);
const CS: u16 = 0x1000;

/// In virtual-8086 mode at CS:0, with a TSS long enough for a redirection map at 0x68.
fn vm86(flags: u64, cr4: u64) -> Bench {
    let mut bench = Bench::legacy(0);
    bench.cpu.state.cr4 |= cr4;
    bench.cpu.state.tr.limit = 0x67 + 0x20;
    bench.write(TSS + 102, 0x88u16.to_le_bytes());
    let frame = [0, u64::from(CS), flags | bits::RFLAGS_VM | 2, 0x800, 0x700, 0x11, 0x22, 0x33, 0x44];
    bench.stack(frame, 4);
    assert_eq!(bench.run(b"\xcf"), Ok(()));
    bench
}

#[test]
fn entry_and_exit() {
    let mut bench = vm86(bits::RFLAGS_IF | 1 << 15 | 1 << 31, 0);
    assert_eq!(bench.place(), (3, CS, 0, 0x700, 0x800));
    let flags = bits::RFLAGS_VM | bits::RFLAGS_IF | 2;
    assert_eq!(bench.rflags(), flags, "reserved bits are not taken from the image");
    let selectors: [u16; 6] = std::array::from_fn(|index| bench.selector(index));
    assert_eq!(selectors, [0x11, CS, 0x700, 0x22, 0x33, 0x44]);
    for segment in bench.cpu.state.segments {
        assert_eq!(segment.base, u64::from(segment.selector) << 4);
        assert_eq!((segment.limit, segment.access), (0xffff, 0xf3));
    }
    // An exception leaves it through a 32-bit gate; all selectors are on the stack, data segments are null.
    bench.set_gate(13, CODE0, HANDLER, 0x8e, 0);
    bench.cpu.deliver_exception(GP);
    assert_eq!(bench.place(), (0, CODE0, HANDLER, DATA0, STACK0 - 40));
    let image = flags | bits::RFLAGS_RF;
    let frame = [0, 0, u64::from(CS), image, 0x800, 0x700, 0x11, 0x22, 0x33, 0x44];
    assert_eq!(bench.values::<10>(STACK0 - 40, 4), frame);
    for index in [SegmentIndex::ES, SegmentIndex::DS, SegmentIndex::FS, SegmentIndex::GS] {
        assert!(bench.cpu.state.segments[index].unusable());
    }
    bench.set_reg(RSP, STACK0 - 36);
    bench.run(b"\xcf").unwrap();
    assert_eq!(bench.place(), (3, CS, 0, 0x700, 0x800));
    // A handler of another privilege than 0 is refused.
    bench.set_gate(13, CODE3, HANDLER, 0x8e, 0);
    assert_eq!(bench.cpu.deliver(exception(13, Some(0))), Err(Exception::gp(u32::from(CODE3) | 1)));
    // The way in checks the instruction pointer.
    let mut bench = Bench::legacy(0);
    bench.stack([0x1_0000, 0, bits::RFLAGS_VM, 0, 0, 0, 0, 0, 0], 4);
    assert_eq!(bench.run(b"\xcf"), Err(GP));
    assert_eq!(bench.rflags() & bits::RFLAGS_VM, 0);
}

#[test]
fn sensitive_instructions() {
    use bits::{CR4_VME as VME, RFLAGS_IF as IF, RFLAGS_VIF as VIF, RFLAGS_VIP as VIP};
    // RFLAGS, CR4, instruction, the word on the stack before; IF, VIF and VIP behind it, or the fault.
    type Case<'a> = (&'a str, u64, u64, &'a [u8], u16, Result<u64, Exception>);
    let cases: &[Case<'_>] = &[
        ("cli", IF, 0, b"\xfa", 0, Err(GP)),
        ("sti", IF, 0, b"\xfb", 0, Err(GP)),
        ("pushf", IF, 0, b"\x9c", 0, Err(GP)),
        ("popf", IF, 0, b"\x9d", 0, Err(GP)),
        ("int", IF, 0, b"\xcd\x40", 0, Err(GP)),
        ("iret", IF, 0, b"\xcf", 0, Err(GP)),
        ("hlt", IF | IOPL3, 0, b"\xf4", 0, Err(GP)),
        ("cli, IOPL 3", IF | IOPL3, 0, b"\xfa", 0, Ok(0)),
        ("sti, IOPL 3", IOPL3, 0, b"\xfb", 0, Ok(IF)),
        ("popf, IOPL 3", IF | IOPL3, 0, b"\x9d", 0, Ok(0)),
        ("cli, VME", IF | VIF, VME, b"\xfa", 0, Ok(IF)),
        ("sti, VME", IF, VME, b"\xfb", 0, Ok(IF | VIF)),
        ("sti, VME, VIP", IF | VIP, VME, b"\xfb", 0, Err(GP)),
        ("popf, VME", IF, VME, b"\x9d", 0x202, Ok(IF | VIF)),
        ("popf of IF, VME, VIP", IF | VIP, VME, b"\x9d", 0x202, Err(GP)),
        ("popf of TF, VME", IF, VME, b"\x9d", 0x102, Err(GP)),
        ("popfd, VME", IF, VME, b"\x66\x9d", 0x202, Err(GP)),
        ("lgdt", IF | IOPL3, 0, b"\x0f\x01\x17", 0, Err(GP)),
        ("lldt", IF | IOPL3, 0, b"\x0f\x00\xd0", 0, Err(Exception::UD)),
    ];
    for &(name, flags, cr4, bytes, word, expected) in cases {
        let mut bench = vm86(flags, cr4);
        bench.write(0x7800, u32::from(word).to_le_bytes());
        let outcome = bench.run(bytes).map(|()| bench.rflags() & (IF | VIF | VIP));
        assert_eq!(outcome, expected, "{name}");
        if expected.is_err() {
            assert_eq!(bench.place(), (3, CS, 0, 0x700, 0x800), "{name}");
        }
    }
    let mut bench = vm86(bits::RFLAGS_IF, VME);
    bench.run(b"\x9c").unwrap();
    assert_eq!(bench.values::<1>(0x77fe, 2), [IOPL3 | 2], "PUSHF shows VIF and IOPL 3");
}

#[test]
fn interrupts_are_redirected_by_the_map() {
    use bits::{CR4_VME as VME, RFLAGS_IF as IF, RFLAGS_VIF as VIF};
    // In the 8086 program, VIF stands for IF.
    let mut bench = vm86(IF | VIF, VME);
    bench.write(0x40 * 4, [0x34, 0x12, 0x00, 0x20]);
    assert_eq!(bench.run(b"\xcd\x40"), Ok(()));
    assert_eq!(bench.place(), (3, 0x2000, 0x1234, 0x700, 0x7fa));
    assert_eq!(bench.values::<3>(0x77fa, 2), [2, u64::from(CS), IF | IOPL3 | 2]);
    assert_eq!(bench.rflags() & (IF | VIF), IF);
    assert_eq!(bench.run(b"\xcf"), Ok(()));
    assert_eq!(bench.place(), (3, CS, 2, 0x700, 0x800));
    assert_eq!(bench.rflags() & (IF | VIF | IOPL3), IF | VIF);
    // The map sends it to the monitor: #GP below IOPL 3, the IDT otherwise.
    for (flags, expected) in [(IF, Err(GP)), (IF | IOPL3, Ok(()))] {
        let mut bench = vm86(flags, VME);
        bench.write(TSS + 0x68 + 8, [1]);
        bench.set_gate(0x40, CODE0, HANDLER, 0xee, 0);
        assert_eq!(bench.run(b"\xcd\x40"), expected);
        assert_eq!(bench.cpu.state.cpl == 0, expected.is_ok());
    }
    // Without a map in the TSS there is a fault.
    let mut bench = vm86(IF, VME);
    bench.cpu.state.tr.limit = 0x66;
    assert_eq!(bench.run(b"\xcd\x40"), Err(GP));
}
