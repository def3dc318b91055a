//! What VEX adds to the instructions' values: when it is available, what becomes of upper bits, and faults.

use super::board::{BUFFER, processor, run};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{Segment, access, bits};

/// `vaddps xmm0, xmm1, xmm2`.
const VADDPS: &[u8] = &[0xc5, 0xf0, 0x58, 0xc2];
/// `vaddpd ymm0, ymm1, ymm2`.
const VADDPD_YMM: &[u8] = &[0xc5, 0xf5, 0x58, 0xc2];
const VZEROUPPER: &[u8] = &[0xc5, 0xf8, 0x77];
const VZEROALL: &[u8] = &[0xc5, 0xfc, 0x77];
const ANDN: &[u8] = &[0xc4, 0xe2, 0x78, 0xf2, 0xc1];
/// `vpgatherqq ymm0, [rdi + ymm2], ymm1`.
const VPGATHERQQ: &[u8] = &[0xc4, 0xe2, 0xf5, 0x91, 0x04, 0x17];

/// A processor with AVX enabled.
fn avx() -> Cpu {
    let mut cpu = processor();
    cpu.state.xcr0 = 7;
    cpu.mode_changed();
    cpu
}

/// Outside 64-bit mode, in flat 32-bit segments.
fn leave_64_bit_mode(cpu: &mut Cpu) {
    for segment in &mut cpu.state.segments {
        let rights = access::DEFAULT_32 | access::GRANULARITY | access::PRESENT | access::CODE_OR_DATA;
        *segment = Segment { base: 0, limit: u32::MAX, access: rights | 3, selector: 8 };
    }
    cpu.state.efer = 0;
    cpu.paging_changed();
}

#[test]
fn vex_needs_its_enables() {
    // What is done to the processor, and what VADDPS and ANDN say.
    type Case = (&'static str, fn(&mut Cpu), Result<(), Exception>, Result<(), Exception>);
    let cases: [Case; 8] = [
        ("nothing", |_| {}, Ok(()), Ok(())),
        ("no OSXSAVE", |cpu| cpu.state.cr4 &= !bits::CR4_OSXSAVE, Err(Exception::UD), Ok(())),
        ("XCR0 of SSE", |cpu| cpu.state.xcr0 = 3, Err(Exception::UD), Ok(())),
        ("XCR0 of PKRU", |cpu| cpu.state.xcr0 = 0x203, Err(Exception::UD), Ok(())),
        ("TS", |cpu| cpu.state.cr0 |= bits::CR0_TS, Err(Exception::NM), Ok(())),
        (
            "EM and no OSFXSR",
            |cpu| {
                cpu.state.cr0 |= bits::CR0_EM;
                cpu.state.cr4 &= !bits::CR4_OSFXSR;
            },
            Ok(()),
            Ok(()),
        ),
        (
            "real-address mode",
            |cpu| {
                cpu.state.efer = 0;
                cpu.state.cr0 &= !bits::CR0_PE;
            },
            Err(Exception::UD),
            Err(Exception::UD),
        ),
        (
            "virtual-8086 mode",
            |cpu| {
                cpu.state.efer = 0;
                cpu.state.flags.system |= bits::RFLAGS_VM;
            },
            Err(Exception::UD),
            Err(Exception::UD),
        ),
    ];
    for (name, change, vector, general) in cases {
        let mut cpu = avx();
        change(&mut cpu);
        cpu.paging_changed();
        assert_eq!(run(&mut cpu, VADDPS), vector, "{name}");
        assert_eq!(run(&mut cpu, ANDN), general, "{name}");
    }
    let mut cpu = avx();
    leave_64_bit_mode(&mut cpu);
    assert_eq!(run(&mut cpu, VADDPS), Ok(()), "32-bit protected mode");
}

#[test]
fn prefixes_and_registers_that_vex_forbids() {
    let cases: [(&[u8], &str); 10] = [
        (&[0x66, 0xc5, 0xf0, 0x58, 0xc2], "an operand-size prefix"),
        (&[0xf2, 0xc5, 0xf0, 0x58, 0xc2], "REPNE"),
        (&[0xf3, 0xc5, 0xf0, 0x58, 0xc2], "REP"),
        (&[0xf0, 0xc5, 0xf0, 0x58, 0xc2], "LOCK"),
        (&[0x48, 0xc5, 0xf0, 0x58, 0xc2], "REX"),
        (&[0xc5, 0xf0, 0x10, 0xc2], "VEX.vvvv of vmovups, which has two operands"),
        (&[0xc5, 0xfd, 0x6e, 0xc0], "VEX.L of vmovd"),
        (&[0xc4, 0xe2, 0x7d, 0x90, 0x04, 0x97], "vpgatherdd with its destination as mask"),
        (&[0xc4, 0xe2, 0x75, 0x90, 0x04, 0x87], "vpgatherdd with its destination as index"),
        (&[0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x97], "vpgatherdd with its mask as index"),
    ];
    for (code, what) in cases {
        assert_eq!(run(&mut avx(), code), Err(Exception::UD), "{what}");
    }
}

/// Every register holds ones in all its bits.
fn filled() -> Cpu {
    let mut cpu = avx();
    for register in &mut cpu.state.zmm {
        register.0 = [u64::MAX; 8];
    }
    cpu
}

#[test]
fn writes_clear_what_is_above_them() {
    const ONES: u64 = u64::MAX;
    // Code, and the quadwords of register 0 afterwards.
    let cases: [(&[u8], [u64; 4], &str); 6] = [
        (&[0xc5, 0xf1, 0xef, 0xc2], [0, 0, 0, 0], "vpxor xmm0, xmm1, xmm2"),
        (&[0xc5, 0xf8, 0x28, 0xc1], [ONES, ONES, 0, 0], "vmovaps xmm0, xmm1"),
        (&[0xc5, 0xfc, 0x28, 0xc1], [ONES, ONES, ONES, ONES], "vmovaps ymm0, ymm1"),
        (&[0xc5, 0xf9, 0x6e, 0xc0], [0, 0, 0, 0], "vmovd xmm0, eax"),
        (&[0xc5, 0xf2, 0x10, 0xc2], [ONES, ONES, 0, 0], "vmovss xmm0, xmm1, xmm2"),
        (&[0xc5, 0xfb, 0x10, 0x07], [0, 0, 0, 0], "vmovsd xmm0, [rdi]"),
    ];
    for (code, low, name) in cases {
        let mut cpu = filled();
        cpu.state.regs[0] = 0;
        assert_eq!(run(&mut cpu, code), Ok(()), "{name}");
        assert_eq!(cpu.state.zmm[0].0[..4], low, "{name}");
        assert_eq!(cpu.state.zmm[0].0[4..], [0; 4], "{name}");
    }
    // Legacy SSE leaves them: pxor xmm0, xmm1.
    let mut cpu = filled();
    assert_eq!(run(&mut cpu, &[0x66, 0x0f, 0xef, 0xc1]), Ok(()));
    assert_eq!(cpu.state.zmm[0].0, [0, 0, ONES, ONES, ONES, ONES, ONES, ONES]);
}

#[test]
fn clearing_all_registers_spares_those_that_the_mode_cannot_name() {
    for (code, low) in [(VZEROUPPER, u64::MAX), (VZEROALL, 0)] {
        for (long, cleared) in [(true, 16), (false, 8)] {
            let mut cpu = filled();
            if !long {
                leave_64_bit_mode(&mut cpu);
            }
            assert_eq!(run(&mut cpu, code), Ok(()));
            for (i, register) in cpu.state.zmm.iter().enumerate() {
                let expected = if i < cleared { [low, low, 0, 0, 0, 0, 0, 0] } else { [u64::MAX; 8] };
                assert_eq!(register.0, expected, "{code:x?} {long} {i}");
            }
        }
    }
}

#[test]
fn only_aligned_moves_demand_alignment() {
    // Code with [rdi], and whether it accepts an address that is a multiple of 16 only, and one that is not even.
    let cases: [(&[u8], bool, bool, &str); 7] = [
        (&[0xc5, 0xf8, 0x28, 0x07], true, false, "vmovaps xmm0, [rdi]"),
        (&[0xc5, 0xfc, 0x28, 0x07], false, false, "vmovaps ymm0, [rdi]"),
        (&[0xc5, 0xfd, 0xe7, 0x07], false, false, "vmovntdq [rdi], ymm0"),
        (&[0xc4, 0xe2, 0x7d, 0x2a, 0x07], false, false, "vmovntdqa ymm0, [rdi]"),
        (&[0xc5, 0xfc, 0x10, 0x07], true, true, "vmovups ymm0, [rdi]"),
        (&[0xc5, 0xf5, 0xfc, 0x07], true, true, "vpaddb ymm0, ymm1, [rdi]"),
        (&[0xc5, 0xf0, 0x58, 0x07], true, true, "vaddps xmm0, xmm1, [rdi]"),
    ];
    for (code, by_16, by_1, name) in cases {
        for (offset, accepted) in [(0, true), (16, by_16), (1, by_1)] {
            let mut cpu = avx();
            cpu.state.regs[usize::from(reg::RDI)] = BUFFER + offset;
            let expected = if accepted { Ok(()) } else { Err(Exception::gp(0)) };
            assert_eq!(run(&mut cpu, code), expected, "{name} {offset}");
        }
    }
}

#[test]
fn an_exception_before_computing_hides_those_of_the_other_lane() {
    const SNAN: u64 = 0x7ff0 << 48 | 1;
    const HUGE: u64 = 0x7fef_ffff_ffff_ffff;
    for a in [[HUGE, 0, SNAN, 0], [SNAN, 0, HUGE, 0]] {
        let mut cpu = avx();
        cpu.state.zmm[1].0[..4].copy_from_slice(&a);
        cpu.state.zmm[2].0[..4].copy_from_slice(&[HUGE, 1, HUGE, 1]);
        cpu.state.mxcsr = 0x1f00;
        let before = cpu.state.zmm[0];
        assert_eq!(run(&mut cpu, VADDPD_YMM), Err(Exception::XM));
        // An invalid operation and a denormal operand, but not the overflow.
        assert_eq!(cpu.state.mxcsr & 0x3f, 3);
        assert_eq!(cpu.state.zmm[0], before);
    }
}

#[test]
fn a_gather_that_faults_can_go_on() {
    const OLD: u64 = 0x1111_1111_1111_1111;
    let mut cpu = avx();
    for (i, value) in [7u64, 8, 9].into_iter().enumerate() {
        cpu.write_linear(BUFFER + 8 * i as u64, value.to_le_bytes()).expect("memory");
    }
    cpu.state.zmm[0].0[..4].fill(OLD);
    // The second element is not asked for; the third one's address is not canonical at first.
    cpu.state.zmm[1].0[..4].copy_from_slice(&[1 << 63, 0, 1 << 63, u64::MAX]);
    cpu.state.zmm[2].0[..4].copy_from_slice(&[8, 1 << 62, 1 << 62, 16]);
    assert_eq!(run(&mut cpu, VPGATHERQQ), Err(Exception::gp(0)));
    assert_eq!(cpu.state.zmm[0].0[..4], [8, OLD, OLD, OLD]);
    assert_eq!(cpu.state.zmm[1].0[..4], [0, 0, u64::MAX, u64::MAX]);
    cpu.state.zmm[2].0[2] = 0;
    assert_eq!(run(&mut cpu, VPGATHERQQ), Ok(()));
    assert_eq!(cpu.state.zmm[0].0[..4], [8, OLD, 7, 9]);
    assert_eq!(cpu.state.zmm[1].0, [0; 8]);
}

#[test]
fn masked_moves_access_only_what_is_chosen() {
    // vmaskmovpd ymm0, ymm1, [rdi], and the store of ymm0.
    let (load, store): (&[u8], &[u8]) = (&[0xc4, 0xe2, 0x75, 0x2d, 0x07], &[0xc4, 0xe2, 0x75, 0x2f, 0x07]);
    // The last two quadwords have addresses that are not canonical.
    const BORDER: u64 = 1 << 47;
    for (mask, expected) in [([0, 0, 0, 0], Ok(())), ([0, 0, 1 << 63, 0], Err(Exception::gp(0)))] {
        for code in [load, store] {
            let mut cpu = avx();
            cpu.state.regs[usize::from(reg::RDI)] = BORDER - 16;
            cpu.state.zmm[0].0 = [5; 8];
            cpu.state.zmm[1].0[..4].copy_from_slice(&mask);
            assert_eq!(run(&mut cpu, code), expected, "{mask:x?} {code:x?}");
            let loaded = code == load && expected.is_ok();
            assert_eq!(cpu.state.zmm[0].0, if loaded { [0; 8] } else { [5; 8] }, "{mask:x?} {code:x?}");
        }
    }
    let mut cpu = avx();
    cpu.state.zmm[0].0 = [5; 8];
    cpu.state.zmm[1].0[..4].copy_from_slice(&[0, 1 << 63, 0, u64::MAX]);
    assert_eq!(run(&mut cpu, store), Ok(()));
    let stored: [u8; 32] = cpu.read_linear(BUFFER).expect("memory");
    assert_eq!(stored.map(u64::from).chunks(8).map(|quad| quad[0]).collect::<Vec<_>>(), [0, 5, 0, 5]);
    assert_eq!(run(&mut cpu, load), Ok(()));
    assert_eq!(cpu.state.zmm[0].0, [0, 5, 0, 5, 0, 0, 0, 0]);
}
