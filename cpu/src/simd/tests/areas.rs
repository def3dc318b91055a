//! FXSAVE and XSAVE areas.

use super::board::{BUFFER, processor, run};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{F80, Segment, Vcpu, X87, access, bits};

const FXSAVE: &[u8] = &[0x0f, 0xae, 0x07];
const FXSAVE64: &[u8] = &[0x48, 0x0f, 0xae, 0x07];
const FXRSTOR: &[u8] = &[0x0f, 0xae, 0x0f];
const FXRSTOR64: &[u8] = &[0x48, 0x0f, 0xae, 0x0f];
const XSAVE: &[u8] = &[0x0f, 0xae, 0x27];
const XRSTOR: &[u8] = &[0x0f, 0xae, 0x2f];
const XSAVEOPT: &[u8] = &[0x0f, 0xae, 0x37];
const XSAVEC: &[u8] = &[0x0f, 0xc7, 0x27];
const XSAVES: &[u8] = &[0x0f, 0xc7, 0x2f];
const XRSTORS: &[u8] = &[0x0f, 0xc7, 0x1f];

/// XSTATE_BV, XCOMP_BV, and the extended region.
const XSTATE_BV: u64 = BUFFER + 512;
const XCOMP_BV: u64 = BUFFER + 520;
const COMPACTED: u64 = 1 << 63;
/// PKRU's place in the compacted and in the standard format.
const PKRU_COMPACTED: u64 = BUFFER + 576;
const PKRU_STANDARD: u64 = BUFFER + 832;

fn read<const N: usize>(cpu: &mut Cpu, at: u64) -> [u8; N] {
    cpu.read_linear(at).expect("memory")
}

fn quad(cpu: &mut Cpu, at: u64) -> u64 {
    u64::from_le_bytes(read(cpu, at))
}

fn write(cpu: &mut Cpu, at: u64, value: u64) {
    cpu.write_linear(at, value.to_le_bytes()).expect("memory");
}

/// Gives every register of the area a value of its own.
fn fill(cpu: &mut Cpu) {
    let state = &mut cpu.state;
    state.x87 = X87 {
        regs: std::array::from_fn(|i| F80 { mantissa: 1 << 63 | i as u64, sign_exponent: 0x4000 + i as u16 }),
        control: 0x27f,
        status: 3 << 11 | 0x4100,
        tags: 0x00ff,
        opcode: 0x123,
        instruction_selector: 0x10,
        operand_selector: 0x18,
        instruction_pointer: 0x1234_5678,
        operand_pointer: 0x9abc_def0,
    };
    for i in 0..16 {
        state.set_xmm(i, u128::MAX / u128::from(i + 3));
    }
    state.mxcsr = 0x1fa5;
    state.pkru = 0x5555_0000;
}

/// What the tests compare.
fn contents(state: &Vcpu) -> (X87, [u128; 16], u32, u32) {
    (state.x87, std::array::from_fn(|i| state.xmm(i as u8)), state.mxcsr, state.pkru)
}

fn request(cpu: &mut Cpu, components: u64) {
    cpu.state.regs[usize::from(reg::RAX)] = components & 0xffff_ffff;
    cpu.state.regs[usize::from(reg::RDX)] = components >> 32;
}

#[test]
fn fxsave_lays_the_area_out() {
    let mut cpu = processor();
    fill(&mut cpu);
    assert_eq!(run(&mut cpu, FXSAVE), Ok(()));
    assert_eq!(read(&mut cpu, BUFFER), [0x7f, 0x02, 0x00, 0x59, 0xf0, 0, 0x23, 0x01]);
    assert_eq!(quad(&mut cpu, BUFFER + 8), 0x10_1234_5678);
    assert_eq!(quad(&mut cpu, BUFFER + 16), 0x18_9abc_def0);
    assert_eq!(quad(&mut cpu, BUFFER + 24), 0xffff_0000_1fa5);
    // ST(0) is R3.
    assert_eq!(quad(&mut cpu, BUFFER + 32), 1 << 63 | 3);
    assert_eq!(quad(&mut cpu, BUFFER + 40), 0x4003);
    assert_eq!(u128::from_le_bytes(read(&mut cpu, BUFFER + 160 + 15 * 16)), cpu.state.xmm(15));
    cpu.state.x87.instruction_pointer = 0x1234_5678_9abc;
    assert_eq!(run(&mut cpu, FXSAVE64), Ok(()));
    assert_eq!(quad(&mut cpu, BUFFER + 8), 0x1234_5678_9abc);
}

#[test]
fn every_restore_undoes_its_save() {
    let pairs: [(&[u8], &[u8], u32); 6] = [
        (FXSAVE, FXRSTOR, 0),
        (XSAVE, XRSTOR, 0x5555_0000),
        (XSAVEOPT, XRSTOR, 0x5555_0000),
        (XSAVEC, XRSTOR, 0x5555_0000),
        (XSAVES, XRSTORS, 0x5555_0000),
        (FXSAVE64, FXRSTOR64, 0),
    ];
    for (save, restore, pkru) in pairs {
        let mut cpu = processor();
        fill(&mut cpu);
        if save == FXSAVE64 {
            cpu.state.x87.instruction_selector = 0;
            cpu.state.x87.operand_selector = 0;
        }
        let filled = contents(&cpu.state);
        request(&mut cpu, u64::MAX);
        assert_eq!(run(&mut cpu, save), Ok(()), "{save:x?}");
        cpu.state.x87 = X87::default();
        (0..16).for_each(|i| cpu.state.set_xmm(i, 0));
        (cpu.state.mxcsr, cpu.state.pkru) = (0x1f80, 0);
        assert_eq!(run(&mut cpu, restore), Ok(()), "{restore:x?}");
        let (x87, xmm, mxcsr, _) = filled;
        assert_eq!(contents(&cpu.state), (x87, xmm, mxcsr, pkru), "{save:x?}");
    }
}

#[test]
fn fxrstor_derives_tags_and_summary() {
    let mut cpu = processor();
    assert_eq!(run(&mut cpu, FXSAVE), Ok(()));
    // Control word 0: all exceptions unmasked. Status: an invalid operation. R0, R1 and R2 in use: 0, infinity, 1.
    cpu.write_linear(BUFFER, [0, 0, 1, 0, 7, 0]).expect("memory");
    write(&mut cpu, BUFFER + 32 + 24, 0x7fff);
    write(&mut cpu, BUFFER + 32 + 16, 1 << 63);
    write(&mut cpu, BUFFER + 32 + 40, 0x3fff);
    write(&mut cpu, BUFFER + 32 + 32, 1 << 63);
    assert_eq!(run(&mut cpu, FXRSTOR), Ok(()));
    assert_eq!((cpu.state.x87.status, cpu.state.x87.tags), (0x8081, 0xffc9));
}

#[test]
fn reserved_mxcsr_bits_leave_everything_as_it_was() {
    for restore in [FXRSTOR, XRSTOR] {
        let mut cpu = processor();
        request(&mut cpu, u64::MAX);
        assert_eq!(run(&mut cpu, XSAVE), Ok(()));
        write(&mut cpu, BUFFER + 24, 0x1_1f80);
        fill(&mut cpu);
        let before = contents(&cpu.state);
        assert_eq!(run(&mut cpu, restore), Err(Exception::gp(0)));
        assert_eq!(contents(&cpu.state), before);
    }
}

#[test]
fn headers_tell_what_is_in_use() {
    // The instruction, the request, whether XMM registers and PKRU differ from their initial values, then XSTATE_BV
    // and XCOMP_BV over an area that had all ones in XSTATE_BV and a zero XCOMP_BV.
    let cases: [(&[u8], u64, bool, u64, u64); 8] = [
        (XSAVE, 0x203, false, !0x203, 0),
        (XSAVE, 0x203, true, !0x203 | 0x202, 0),
        (XSAVE, 0x1, true, !1, 0),
        (XSAVEOPT, 0x203, true, !0x203 | 0x202, 0),
        (XSAVEC, 0x203, false, 0, COMPACTED | 0x203),
        (XSAVEC, 0x202, true, 0x202, COMPACTED | 0x202),
        (XSAVES, 0x3, true, 0x2, COMPACTED | 0x3),
        // What XCR0 does not enable is not saved.
        (XSAVEC, 0xff, true, 0x2, COMPACTED | 0x3),
    ];
    for (code, requested, used, xstate, xcomp) in cases {
        let mut cpu = processor();
        if used {
            cpu.state.set_xmm(3, 1);
            cpu.state.pkru = 4;
        }
        write(&mut cpu, XSTATE_BV, u64::MAX);
        request(&mut cpu, requested);
        assert_eq!(run(&mut cpu, code), Ok(()), "{code:x?}");
        let header = (quad(&mut cpu, XSTATE_BV), quad(&mut cpu, XCOMP_BV));
        assert_eq!(header, (xstate, xcomp), "{code:x?} {requested:#x} {used}");
        let place = if xcomp == 0 { PKRU_STANDARD } else { PKRU_COMPACTED };
        let saved = used && requested & 0x200 != 0;
        assert_eq!(quad(&mut cpu, place), if saved { 4 } else { 0 }, "{code:x?} {requested:#x}");
    }
}

#[test]
fn mxcsr_makes_sse_count_as_in_use_when_compacted() {
    let mut cpu = processor();
    cpu.state.mxcsr = 0x1fa0;
    request(&mut cpu, 3);
    assert_eq!(run(&mut cpu, XSAVEC), Ok(()));
    assert_eq!(quad(&mut cpu, XSTATE_BV), 2);
    assert_eq!(quad(&mut cpu, BUFFER + 24) as u32, 0x1fa0);
}

#[test]
fn absent_components_are_initialised() {
    let mut cpu = processor();
    fill(&mut cpu);
    let filled = contents(&cpu.state);
    request(&mut cpu, 0x202);
    write(&mut cpu, BUFFER + 24, 0x1f81);
    assert_eq!(run(&mut cpu, XRSTOR), Ok(()));
    // The standard format loads MXCSR in any case; the x87 was not asked for.
    assert_eq!(contents(&cpu.state), (filled.0, [0; 16], 0x1f81, 0));
    fill(&mut cpu);
    write(&mut cpu, XCOMP_BV, COMPACTED | 0x203);
    request(&mut cpu, 0x203);
    assert_eq!(run(&mut cpu, XRSTOR), Ok(()));
    assert_eq!(contents(&cpu.state), (X87::default(), [0; 16], 0x1f80, 0));
}

#[test]
fn bad_headers_fault() {
    // XSTATE_BV, XCOMP_BV, the quadwords at 16 and 24 of the header; whether XRSTOR and XRSTORS accept them.
    let cases = [
        (0x3, 0, 0, 0, true, false),
        (0x3, 0, 0, 1, true, false),
        (0x3, 0, 1, 0, false, false),
        (0x7, 0, 0, 0, false, false),
        (0x3, 1, 0, 0, false, false),
        (0x3, COMPACTED | 0x3, 0, 0, true, true),
        (0x3, COMPACTED | 0x1, 0, 0, false, false),
        (0x3, COMPACTED | 0x7, 0, 0, false, false),
        (0x3, COMPACTED | 0x3, 1, 0, false, false),
        (0x3, COMPACTED | 0x3, 0, 1, false, false),
        (COMPACTED | 0x3, COMPACTED | 0x3, 0, 0, false, false),
    ];
    for case in cases {
        let (xstate, xcomp, low, high, user, supervisor) = case;
        for (code, accepted) in [(XRSTOR, user), (XRSTORS, supervisor)] {
            let mut cpu = processor();
            request(&mut cpu, 3);
            for (i, value) in [xstate, xcomp, low, high].into_iter().enumerate() {
                write(&mut cpu, XSTATE_BV + 8 * i as u64, value);
            }
            let expected = if accepted { Ok(()) } else { Err(Exception::gp(0)) };
            assert_eq!(run(&mut cpu, code), expected, "{code:x?} {case:x?}");
        }
    }
}

#[test]
fn xsave_needs_its_enables() {
    for code in [XSAVE, XRSTOR, XSAVEOPT, XSAVEC, XSAVES, XRSTORS] {
        let mut cpu = processor();
        cpu.state.cr4 &= !bits::CR4_OSXSAVE;
        cpu.mode_changed();
        assert_eq!(run(&mut cpu, code), Err(Exception::UD), "{code:x?}");
        let mut cpu = processor();
        cpu.state.cr0 |= bits::CR0_TS;
        cpu.mode_changed();
        assert_eq!(run(&mut cpu, code), Err(Exception::NM), "{code:x?}");
    }
    for code in [XSAVES, XRSTORS] {
        let mut cpu = processor();
        cpu.set_cpl(3);
        assert_eq!(run(&mut cpu, code), Err(Exception::gp(0)), "{code:x?}");
    }
}

#[test]
fn outside_64_bit_mode_there_are_eight_xmm_registers() {
    for (save, restore) in [(FXSAVE, FXRSTOR), (XSAVE, XRSTOR), (XSAVEC, XRSTOR)] {
        let mut cpu = processor();
        for segment in &mut cpu.state.segments {
            let rights = access::DEFAULT_32 | access::GRANULARITY | access::PRESENT | access::CODE_OR_DATA;
            *segment = Segment { base: 0, limit: u32::MAX, access: rights | 3, selector: 8 };
        }
        cpu.state.efer = 0;
        cpu.paging_changed();
        fill(&mut cpu);
        request(&mut cpu, 2);
        assert_eq!(run(&mut cpu, save), Ok(()), "{save:x?}");
        assert_eq!(u128::from_le_bytes(read(&mut cpu, BUFFER + 160 + 7 * 16)), cpu.state.xmm(7));
        assert_eq!(quad(&mut cpu, BUFFER + 160 + 8 * 16), 0, "{save:x?}");
        (0..16).for_each(|i| cpu.state.set_xmm(i, 1));
        assert_eq!(run(&mut cpu, restore), Ok(()), "{restore:x?}");
        assert_eq!((cpu.state.xmm(7), cpu.state.xmm(8)), (u128::MAX / 10, 1), "{restore:x?}");
        if save == FXSAVE {
            continue;
        }
        cpu.state.xcr0 = 7;
        request(&mut cpu, 4);
        cpu.state.zmm[..16].iter_mut().for_each(|register| register.0 = [3; 8]);
        assert_eq!(run(&mut cpu, save), Ok(()), "{save:x?}");
        assert_eq!((quad(&mut cpu, BUFFER + 576 + 120), quad(&mut cpu, BUFFER + 576 + 128)), (3, 0));
        cpu.state.zmm[..16].iter_mut().for_each(|register| register.0 = [4; 8]);
        assert_eq!(run(&mut cpu, restore), Ok(()), "{restore:x?}");
        assert_eq!((cpu.state.zmm[7].0[..4].to_vec(), cpu.state.zmm[8].0[3]), (vec![4, 4, 3, 3], 4));
    }
}

/// The upper halves of the YMM registers, which lie behind the header in both formats.
#[test]
fn upper_halves_are_a_component() {
    const UPPER: u64 = BUFFER + 576;
    let pairs: [(&[u8], &[u8]); 4] =
        [(XSAVE, XRSTOR), (XSAVEOPT, XRSTOR), (XSAVEC, XRSTOR), (XSAVES, XRSTORS)];
    for (save, restore) in pairs {
        let mut cpu = processor();
        cpu.state.xcr0 = 0x207;
        request(&mut cpu, u64::MAX);
        for (i, register) in cpu.state.zmm[..16].iter_mut().enumerate() {
            register.0[..4].copy_from_slice(&[i as u64, 1, 2, 100 + i as u64]);
        }
        assert_eq!(run(&mut cpu, save), Ok(()), "{save:x?}");
        assert_eq!(quad(&mut cpu, XSTATE_BV) & 6, 6);
        assert_eq!((quad(&mut cpu, UPPER), quad(&mut cpu, UPPER + 15 * 16 + 8)), (2, 115), "{save:x?}");
        // The halves are separate components.
        request(&mut cpu, 4);
        cpu.state.zmm[5].0[..4].fill(9);
        assert_eq!(run(&mut cpu, restore), Ok(()), "{restore:x?}");
        assert_eq!(cpu.state.zmm[5].0[..4], [9, 9, 2, 105], "{restore:x?}");
        request(&mut cpu, 2);
        cpu.state.zmm[5].0[..4].fill(9);
        assert_eq!(run(&mut cpu, restore), Ok(()), "{restore:x?}");
        assert_eq!(cpu.state.zmm[5].0[..4], [5, 1, 9, 9], "{restore:x?}");
        // In the initial configuration they are not written, and restored as zeros.
        request(&mut cpu, 4);
        cpu.state.zmm.iter_mut().for_each(|register| register.0[2..4].fill(0));
        assert_eq!(run(&mut cpu, save), Ok(()), "{save:x?}");
        assert_eq!(quad(&mut cpu, XSTATE_BV) & 4, 0, "{save:x?}");
        assert_eq!(quad(&mut cpu, UPPER), if save == XSAVE { 0 } else { 2 }, "{save:x?}");
        cpu.state.zmm[5].0[..4].fill(9);
        assert_eq!(run(&mut cpu, restore), Ok(()), "{restore:x?}");
        assert_eq!(cpu.state.zmm[5].0[..4], [9, 9, 0, 0], "{restore:x?}");
    }
}

#[test]
fn pkru_is_behind_the_upper_halves_when_compacted() {
    let mut cpu = processor();
    cpu.state.xcr0 = 0x207;
    cpu.state.pkru = 4;
    request(&mut cpu, 0x204);
    assert_eq!(run(&mut cpu, XSAVEC), Ok(()));
    assert_eq!((quad(&mut cpu, XCOMP_BV), quad(&mut cpu, BUFFER + 832)), (COMPACTED | 0x204, 4));
}
