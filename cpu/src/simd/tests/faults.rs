//! Exceptions, and what they leave untouched.

use super::board::{BUFFER, processor, run};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{F80, bits};

const ONE: u64 = 0x3ff0 << 48;
const HUGE: u64 = 0x7fef_ffff_ffff_ffff;
const SNAN: u64 = 0x7ff0 << 48 | 1;

const ADDSD: &[u8] = &[0xf2, 0x0f, 0x58, 0xc1];
const MULSD: &[u8] = &[0xf2, 0x0f, 0x59, 0xc1];
const DIVSD: &[u8] = &[0xf2, 0x0f, 0x5e, 0xc1];
const SQRTSD: &[u8] = &[0xf2, 0x0f, 0x51, 0xc1];
const COMISD: &[u8] = &[0x66, 0x0f, 0x2f, 0xc1];
const CVTTSD2SI: &[u8] = &[0xf2, 0x0f, 0x2c, 0xc1];
const CVTPD2PS: &[u8] = &[0x66, 0x0f, 0x5a, 0xc1];

/// MXCSR's exceptions, at the places of their flags.
const IE: u32 = 1;
const DE: u32 = 2;
const ZE: u32 = 4;
const OE: u32 = 8;
const UE: u32 = 16;
const PE: u32 = 32;

#[test]
fn unmasked_exceptions_set_flags_and_nothing_else() {
    // Code, xmm0, xmm1, the exceptions that are not masked, and the flags afterwards.
    let cases: [(&[u8], u64, u64, u32, u32); 12] = [
        (ADDSD, ONE, SNAN, IE, IE),
        (ADDSD, ONE, 1, DE, DE),
        (ADDSD, ONE, 1, PE, DE | PE),
        (DIVSD, ONE, 0, ZE, ZE),
        (ADDSD, HUGE, HUGE, OE, OE),
        (MULSD, HUGE, 0x4008 << 48 | 12345, OE, OE | PE),
        (DIVSD, 1 << 52, 0x3ffc << 48, UE, UE | PE),
        (DIVSD, 1 << 52, 0x4000 << 48, UE, UE),
        (DIVSD, ONE, 0x4008 << 48, PE, PE),
        (SQRTSD, 0, ONE | 1 << 63, IE, IE),
        (CVTTSD2SI, 0, HUGE, IE, IE),
        (COMISD, ONE, 0x7ff8 << 48, IE, IE),
    ];
    for (code, a, b, unmasked, flags) in cases {
        for enabled in [true, false] {
            let mut cpu = processor();
            if !enabled {
                cpu.state.cr4 &= !bits::CR4_OSXMMEXCPT;
            }
            cpu.state.set_xmm(0, u128::from(a));
            cpu.state.set_xmm(1, u128::from(b));
            cpu.state.mxcsr = 0x1f80 & !(unmasked << 7);
            let before = (cpu.state.xmm(0), cpu.state.regs[0], cpu.state.flags);
            let expected = if enabled { Exception::XM } else { Exception::UD };
            assert_eq!(run(&mut cpu, code), Err(expected), "{code:x?} {unmasked:#x}");
            assert_eq!((cpu.state.xmm(0), cpu.state.regs[0], cpu.state.flags), before, "{code:x?}");
            assert_eq!(cpu.state.mxcsr & 0x3f, flags, "{code:x?} {unmasked:#x}");
        }
    }
}

#[test]
fn an_exception_before_computing_hides_those_of_other_lanes_after_it() {
    let mut cpu = processor();
    cpu.state.set_xmm(1, u128::from(SNAN) << 64 | u128::from(HUGE));
    cpu.state.mxcsr = 0x1f80 & !(IE << 7);
    assert_eq!(run(&mut cpu, CVTPD2PS), Err(Exception::XM));
    assert_eq!(cpu.state.mxcsr & 0x3f, IE);
    cpu.state.mxcsr = 0x1f80 & !(OE << 7);
    assert_eq!(run(&mut cpu, CVTPD2PS), Err(Exception::XM));
    assert_eq!(cpu.state.mxcsr & 0x3f, IE | OE | PE);
}

fn at(cpu: &mut Cpu, address: u64) {
    cpu.state.regs[usize::from(reg::RDI)] = address;
}

#[test]
fn memory_operands_of_128_bits_are_aligned() {
    let aligned: [&[u8]; 8] = [
        &[0x0f, 0x28, 0x07],       // movaps xmm0, [rdi]
        &[0x0f, 0x29, 0x07],       // movaps [rdi], xmm0
        &[0x66, 0x0f, 0xfc, 0x07], // paddb xmm0, [rdi]
        &[0x0f, 0x58, 0x07],       // addps xmm0, [rdi]
        &[0x66, 0x0f, 0xe7, 0x07], // movntdq [rdi], xmm0
        &[0x0f, 0xae, 0x07],       // fxsave [rdi]
        &[0x0f, 0xae, 0x0f],       // fxrstor [rdi]
        &[0x0f, 0xae, 0x27],       // xsave [rdi]
    ];
    for code in aligned {
        let mut cpu = processor();
        assert_eq!(run(&mut cpu, code), Ok(()), "{code:x?}");
        at(&mut cpu, BUFFER + 8);
        assert_eq!(run(&mut cpu, code), Err(Exception::gp(0)), "{code:x?}");
    }
    let anywhere: [&[u8]; 5] = [
        &[0x0f, 0x10, 0x07],                // movups xmm0, [rdi]
        &[0xf3, 0x0f, 0x7f, 0x07],          // movdqu [rdi], xmm0
        &[0xf2, 0x0f, 0xf0, 0x07],          // lddqu xmm0, [rdi]
        &[0x66, 0x0f, 0x3a, 0x63, 0x07, 0], // pcmpistri xmm0, [rdi], 0
        &[0xf2, 0x0f, 0x58, 0x07],          // addsd xmm0, [rdi]
    ];
    for code in anywhere {
        let mut cpu = processor();
        at(&mut cpu, BUFFER + 3);
        assert_eq!(run(&mut cpu, code), Ok(()), "{code:x?}");
    }
}

#[test]
fn mxcsr_has_no_reserved_bits() {
    let mut cpu = processor();
    for (value, outcome) in
        [(0x1234_1f80u32, Err(Exception::gp(0))), (0xffff, Ok(())), (0x1_0000, Err(Exception::gp(0)))]
    {
        cpu.state.mxcsr = 0x1f80;
        cpu.write_linear(BUFFER, value.to_le_bytes()).expect("memory");
        assert_eq!(run(&mut cpu, &[0x0f, 0xae, 0x17]), outcome, "ldmxcsr {value:#x}");
        assert_eq!(cpu.state.mxcsr, if outcome.is_ok() { value } else { 0x1f80 });
    }
    cpu.state.mxcsr = 0x9f81;
    assert_eq!(run(&mut cpu, &[0x0f, 0xae, 0x5f, 0x10]), Ok(()));
    assert_eq!(cpu.read_linear(BUFFER + 16), Ok(0x9f81u32.to_le_bytes()));
}

#[test]
fn mmx_instructions_take_the_x87_over() {
    // Code, and whether it writes MM0.
    let cases: [(&[u8], bool); 6] = [
        (&[0x0f, 0xfc, 0xc1], true),       // paddb mm0, mm1
        (&[0x0f, 0x71, 0xf0, 3], true),    // psllw mm0, 3
        (&[0x0f, 0x7e, 0xc0], false),      // movd eax, mm0
        (&[0x0f, 0x7f, 0x07], false),      // movq [rdi], mm0
        (&[0xf2, 0x0f, 0xd6, 0xc1], true), // movdq2q mm0, xmm1
        (&[0x0f, 0x2a, 0xc0], false),      // cvtpi2ps xmm0, mm0
    ];
    for (code, writes) in cases {
        let mut cpu = processor();
        cpu.state.x87.status = 5 << 11;
        cpu.state.x87.tags = 0xffff;
        let before = F80 { mantissa: 7, sign_exponent: 0x4000 };
        cpu.state.x87.regs[0] = before;
        assert_eq!(run(&mut cpu, code), Ok(()), "{code:x?}");
        assert_eq!((cpu.state.x87.status, cpu.state.x87.tags), (0, 0), "{code:x?}");
        let exponent = if writes { 0xffff } else { before.sign_exponent };
        assert_eq!(cpu.state.x87.regs[0].sign_exponent, exponent, "{code:x?}");

        let mut cpu = processor();
        cpu.state.x87.status = 5 << 11 | 0x8081;
        let before = cpu.state.x87;
        assert_eq!(run(&mut cpu, code), Err(Exception::MF), "{code:x?}");
        assert_eq!(cpu.state.x87, before, "{code:x?}");
    }
    let mut cpu = processor();
    cpu.state.x87.status = 0x8081;
    let untouched = cpu.state.x87;
    assert_eq!(run(&mut cpu, &[0x66, 0x0f, 0x2a, 0x07]), Ok(()), "cvtpi2pd xmm0, [rdi]");
    assert_eq!(cpu.state.x87, untouched);
}

#[test]
fn masked_stores_touch_only_what_they_write() {
    let mut cpu = processor();
    cpu.state.set_xmm(0, u128::from_le_bytes(std::array::from_fn(|i| i as u8 + 1)));
    cpu.state.set_xmm(1, 0x80 << 8 | 0x80 << 24);
    let maskmovdqu = [0x66, 0x0f, 0xf7, 0xc1];
    assert_eq!(run(&mut cpu, &maskmovdqu), Ok(()));
    assert_eq!(cpu.read_linear(BUFFER), Ok([0, 2, 0, 4, 0]));
    // Nothing is stored at a non-canonical address, so nothing faults.
    at(&mut cpu, 1 << 63);
    cpu.state.set_xmm(1, 0);
    assert_eq!(run(&mut cpu, &maskmovdqu), Ok(()));
    cpu.state.set_xmm(1, 0x80);
    assert_eq!(run(&mut cpu, &maskmovdqu), Err(Exception::gp(0)));
}

/// RCPSS and RSQRTSS differ between processors; the SDM bounds the relative error by 1.5 * 2^-12.
#[test]
fn approximations_are_within_the_manuals_bound() {
    let mut cpu = processor();
    let mut random = super::random::Random::new(1);
    for _ in 0..10_000 {
        let x = f32::from_bits(random.next() as u32 & 0x3fff_ffff | 0x1000_0000);
        cpu.state.set_xmm(1, u128::from(x.to_bits()));
        assert_eq!(run(&mut cpu, &[0xf3, 0x0f, 0x53, 0xc1]), Ok(()), "rcpss xmm0, xmm1");
        let reciprocal = f64::from(f32::from_bits(cpu.state.xmm(0) as u32)) * f64::from(x);
        assert_eq!(run(&mut cpu, &[0xf3, 0x0f, 0x52, 0xc1]), Ok(()), "rsqrtss xmm0, xmm1");
        let root = f64::from(f32::from_bits(cpu.state.xmm(0) as u32)) * f64::from(x).sqrt();
        for product in [reciprocal, root] {
            assert!((product - 1.0).abs() < 1.5 / 4096.0, "{x} {reciprocal} {root}");
        }
    }
}
