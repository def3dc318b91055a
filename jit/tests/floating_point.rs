//! Floating point in translated code: what is not in any result must still happen, and what depends on MXCSR must follow it.
//! Other hosts than x86-64 leave floating point to functions.

#![cfg(target_arch = "x86_64")]

mod world;

use rx86_cpu::cpu::Cpu;
use rx86_cpu::features::CpuModel;
use rx86_jit::{BlockExit, Compiler, ExitKind};
use world::DATA;

const INVALID: u32 = 1 << 0;
const DENORMAL: u32 = 1 << 1;
const PRECISION: u32 = 1 << 5;
const MASKED: u32 = 0x1f80;
const UPWARD: u32 = 2 << 13;

const SIGNALLING: u64 = 0x7ff0_0000_0000_0007;
const QUIET: u64 = 0x7ff8_0000_0000_0001;
const OTHER_QUIET: u64 = 0xfff8_0000_0000_0002;

/// A processor whose XMM0 and XMM1 hold doubles, RDI the data, and MXCSR a value.
fn processor(low: [u64; 2], mxcsr: u32) -> Cpu {
    let mut cpu = world::cpu();
    for (register, low) in cpu.state.zmm.iter_mut().zip(low) {
        register.0[0] = low;
    }
    cpu.state.regs[7] = DATA;
    cpu.state.mxcsr = mxcsr;
    cpu.state.set_rip(0x1000);
    cpu
}

fn run(cpu: &mut Cpu, code: &[u8]) -> BlockExit {
    let mut compiler = Compiler::for_host().expect("a code generator for this host");
    let block = compiler.translate_block(code, cpu.mode(), &CpuModel::max()).expect("translatable code");
    block.run(cpu)
}

#[test]
fn results_that_nobody_needs_leave_their_flags() {
    let one_third = [1f64.to_bits(), 3f64.to_bits()];
    // Each is followed by what replaces its result.
    let cases: [(&str, &[u8], [u64; 2], u32); 7] = [
        ("divsd xmm0,xmm1; movapd xmm0,xmm2", b"\xf2\x0f\x5e\xc1\x66\x0f\x28\xc2", one_third, PRECISION),
        ("divsd, then xorps xmm0,xmm0", b"\xf2\x0f\x5e\xc1\x0f\x57\xc0", one_third, PRECISION),
        (
            "divsd xmm0,xmm1; divsd xmm0,xmm1; both dropped",
            b"\xf2\x0f\x5e\xc1\xf2\x0f\x5e\xc1\x0f\x57\xc0",
            one_third,
            PRECISION,
        ),
        ("cvttsd2si eax,xmm0; xor eax,eax", b"\xf2\x0f\x2c\xc0\x31\xc0", [0.5f64.to_bits(), 0], PRECISION),
        ("cvttsd2si rax,xmm0; xor eax,eax", b"\xf2\x48\x0f\x2c\xc0\x31\xc0", [QUIET, 0], INVALID),
        ("ucomisd xmm0,xmm1; test eax,eax", b"\x66\x0f\x2e\xc1\x85\xc0", [1, SIGNALLING], INVALID),
        ("comisd xmm0,xmm1; test eax,eax", b"\x66\x0f\x2f\xc1\x85\xc0", [1, QUIET], INVALID),
    ];
    for (name, code, operands, expected) in cases {
        let mut cpu = processor(operands, MASKED);
        let exit = run(&mut cpu, code);
        assert_eq!(exit.kind, ExitKind::Next, "{name}");
        let flags = cpu.state.mxcsr & !MASKED & !DENORMAL;
        assert_eq!(flags, expected, "{name}: MXCSR {:#x}", cpu.state.mxcsr);
    }
}

#[test]
fn quiet_comparisons_do_not_signal_quiet_nans() {
    let mut cpu = processor([QUIET, 0], MASKED);
    run(&mut cpu, b"\x66\x0f\x2e\xc1");
    assert_eq!(cpu.state.mxcsr, MASKED);
    assert_eq!(cpu.state.flags.get() & 0x45, 0x45, "unordered");
}

#[test]
fn the_first_nan_is_the_result() {
    // Addition and multiplication commute, except here; the first operand comes from memory, too.
    let codes: [&[u8]; 4] = [
        b"\xf2\x0f\x58\xc1",
        b"\xf2\x0f\x59\xc1",
        b"\xf2\x0f\x10\x07\xf2\x0f\x58\xc1",
        b"\xf2\x0f\x10\x07\xf2\x0f\x59\xc1",
    ];
    for code in codes {
        for nans in [[QUIET, OTHER_QUIET], [OTHER_QUIET, QUIET], [SIGNALLING, QUIET], [QUIET, SIGNALLING]] {
            let mut cpu = processor(nans, MASKED);
            cpu.mmu.memory().write(DATA, &nans[0].to_le_bytes()).expect("in RAM");
            run(&mut cpu, code);
            assert_eq!(cpu.state.zmm[0].0[0], nans[0] | 1 << 51, "{code:02x?} of {nans:x?}");
        }
    }
}

#[test]
fn rounding_follows_ldmxcsr_within_a_block() {
    // divsd xmm0,xmm1; ldmxcsr [rdi]; divsd xmm2,xmm1
    let code = b"\xf2\x0f\x5e\xc1\x0f\xae\x17\xf2\x0f\x5e\xd1";
    let mut cpu = processor([1f64.to_bits(), 3f64.to_bits()], MASKED);
    cpu.state.zmm[2].0[0] = 1f64.to_bits();
    cpu.mmu.memory().write(DATA, &(MASKED | UPWARD).to_le_bytes()).expect("in RAM");
    let nearest = (1.0f64 / 3.0).to_bits();
    let exit = run(&mut cpu, code);
    assert_eq!((exit.retired, exit.kind), (2, ExitKind::Next), "another rounding ends the block");
    assert_eq!((cpu.state.zmm[0].0[0], cpu.state.mxcsr), (nearest, MASKED | UPWARD));
    run(&mut cpu, &code[7..]);
    assert_eq!((cpu.state.zmm[2].0[0], cpu.state.mxcsr), (nearest + 1, MASKED | UPWARD | PRECISION));
}

#[test]
fn stmxcsr_stores_the_flags_of_what_came_before() {
    // divsd xmm0,xmm1; stmxcsr [rdi]; xorps xmm0,xmm0
    let mut cpu = processor([1f64.to_bits(), 3f64.to_bits()], MASKED);
    run(&mut cpu, b"\xf2\x0f\x5e\xc1\x0f\xae\x1f\x0f\x57\xc0");
    assert_eq!(world::memory(&cpu)[..4], (MASKED | PRECISION).to_le_bytes());
}

#[test]
fn arithmetic_with_an_unmasked_exception_is_the_interpreters() {
    for mask in 7..=12 {
        let mxcsr = MASKED & !(1 << mask);
        let mut cpu = processor([1f64.to_bits(), 3f64.to_bits()], mxcsr);
        let exit = run(&mut cpu, b"\xf2\x0f\x5e\xc1");
        assert_eq!((exit.retired, exit.kind), (0, ExitKind::Interpret), "mask bit {mask}");
        assert_eq!((cpu.state.mxcsr, cpu.state.zmm[0].0[0]), (mxcsr, 1f64.to_bits()));
    }
}

#[test]
fn host_arithmetic_is_as_before_afterwards() {
    let mut cpu = processor([1f64.to_bits(), 3f64.to_bits()], MASKED | UPWARD | 0x8040);
    run(&mut cpu, b"\xf2\x0f\x5e\xc1");
    let [one, three] = std::hint::black_box([1.0f64, 3.0]);
    assert_eq!((one / three).to_bits(), 0x3fd5_5555_5555_5555);
    assert_eq!(cpu.state.zmm[0].0[0], 0x3fd5_5555_5555_5556);
}
