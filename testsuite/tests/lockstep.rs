//! `rx86 diff`'s library: equal sides, planted differences, and QEMU.

use iced_x86::Mnemonic;
use iced_x86::code_asm::*;
use rx86::diff::against_qemu;
use rx86::diff::known::READ_MODIFY_WRITE;
use rx86::diff::lockstep::{self, Pace};
use rx86::diff::report::{Finding, Verdict};
use rx86::diff::side::Rx86Side;
use rx86::image::Image;
use rx86::machine::{Engine, MachineConfig, Protocol};
use rx86_cpu::features::CpuModel;
use rx86_cpu::state::{Vcpu, bits};
use rx86_jit::JitConfig;
use rx86_testsuite::guest::bare;
use std::io::Write;

/// A guest that adds with carry in a loop, looks at the time and the board, and powers off.
fn image() -> Vec<u8> {
    bare::guest(|a| {
        let mut top = a.create_label();
        a.mov(esp, 0x9_0000)?;
        a.mov(ecx, 2000)?;
        a.set_label(&mut top)?;
        a.mov(edx, ecx)?;
        a.add(ebx, edx)?;
        a.adc(eax, 0x1234_5678)?;
        a.push(eax)?;
        a.rol(eax, 3)?;
        a.pop(esi)?;
        a.xor(eax, esi)?;
        a.loop_(top)?;
        a.rdtsc()?;
        a.mov(esi, eax)?;
        a.xor(eax, eax)?;
        a.cpuid()?;
        bare::print(a, "ok\n")?;
        a.mov(edi, 0x20_0000)?;
        a.mov(ecx, 100)?;
        a.rep().stosd()?;
        bare::power_off(a)
    })
}

/// A guest that increments where no page is, and adds #PF's error code to EBX.
fn page_fault_image() -> Vec<u8> {
    const DIRECTORY: i32 = 0x20_0000;
    const IDT: i32 = 0x20_1000;
    const IDT_OPERAND: i32 = 0x20_2000;
    bare::guest(|a| {
        let mut setup = a.create_label();
        a.mov(esp, 0x9_0000)?;
        // CALL pushes the handler's address.
        a.call(setup)?;
        a.pop(eax)?;
        a.add(ebx, eax)?;
        bare::power_off(a)?;
        a.set_label(&mut setup)?;
        a.pop(eax)?;
        a.mov(ebx, cs)?;
        a.shl(ebx, 16)?;
        a.mov(bx, ax)?;
        a.mov(dword_ptr(IDT + 14 * 8), ebx)?;
        a.mov(ax, 0x8e00)?;
        a.mov(dword_ptr(IDT + 14 * 8 + 4), eax)?;
        a.mov(word_ptr(IDT_OPERAND), 0x7f)?;
        a.mov(dword_ptr(IDT_OPERAND + 2), IDT)?;
        a.lidt(ptr(IDT_OPERAND))?;
        // The first 4 MiB are mapped, the next are not.
        a.mov(dword_ptr(DIRECTORY), 0x83)?;
        a.mov(eax, 0x10)?;
        a.mov(cr4, eax)?;
        a.mov(eax, DIRECTORY)?;
        a.mov(cr3, eax)?;
        a.mov(eax, cr0)?;
        a.or(eax, i32::MIN)?;
        a.mov(cr0, eax)?;
        a.xor(ebx, ebx)?;
        a.inc(dword_ptr(0x40_0000))
    })
}

fn side() -> Rx86Side {
    side_with(image())
}

fn side_with(bytes: Vec<u8>) -> Rx86Side {
    let config = MachineConfig {
        memory_bytes: 16 << 20,
        kernel: Image::Bytes { name: "the test's guest".into(), bytes },
        initrd: None,
        append: String::new(),
        protocol: Protocol::Auto,
        engine: Engine::Interp,
        jit: JitConfig::default(),
        cpu: CpuModel::max(),
        cpus: 1,
        debug_exit: None,
        no_reboot: true,
        seed: 1,
        by_hand: true,
    };
    Rx86Side::new(config, true).expect("the guest is loaded")
}

/// Plants `change` behind every instruction with `mnemonic`, from the `number`th on.
fn planted(mnemonic: Mnemonic, number: u32, change: impl Fn(&mut Vcpu) + 'static) -> Rx86Side {
    let mut side = side();
    let mut seen = 0;
    side.set_tamper(Box::new(move |instruction, state| {
        seen += u32::from(instruction.mnemonic() == mnemonic);
        let now = instruction.mnemonic() == mnemonic && seen >= number;
        if now {
            change(state);
        }
        now
    }));
    side
}

fn wrong_af(state: &mut Vcpu) {
    let rflags = state.flags.get();
    state.flags.set(rflags ^ bits::RFLAGS_AF);
}

/// A prime, so that borders fall everywhere in a loop.
const PACE: Pace = Pace { every: 997, limit: 1_000_000 };

fn found(verdict: Verdict) -> Finding {
    match verdict {
        Verdict::Different(finding) => *finding,
        Verdict::Same { instructions, end, .. } => {
            panic!("no difference in {instructions} instructions; {end}")
        }
    }
}

#[test]
fn an_engine_agrees_with_itself_to_the_end() {
    let make = || Ok((side(), side()));
    match lockstep::compare(&make, PACE, &mut |_| {}).unwrap() {
        Verdict::Same { instructions, end, .. } => {
            assert!(instructions > 16_000, "{instructions}");
            assert!(end.contains("powered itself off"), "{end}");
        }
        Verdict::Different(finding) => panic!("{finding}"),
    }
}

#[test]
fn a_wrong_flag_is_found_at_its_instruction() {
    let make = || Ok((side(), planted(Mnemonic::Adc, 1234, wrong_af)));
    let every_one = Pace { every: 1, ..PACE };
    let finding = found(lockstep::compare(&make, every_one, &mut |_| {}).unwrap());
    let text = finding.to_string();
    assert!(finding.instructions.len() == 1 && finding.instructions[0].contains("adc eax"), "{text}");
    assert_eq!(finding.history.len(), 16, "{text}");
    assert!(finding.history[15].contains("add ebx,edx"), "{text}");
    assert!(finding.differences.iter().all(|difference| difference.name == "RFLAGS"), "{text}");
    // Two instructions before the loop, and eight a turn.
    assert_eq!(finding.before, 2 + 8 * 1233 + 2, "{text}");
    // Comparisons that are further apart find one of those behind it.
    let finding = found(lockstep::compare(&make, PACE, &mut |_| {}).unwrap());
    assert!(finding.instructions[0].contains("adc eax"), "{finding}");
    assert!(finding.before > 2 + 8 * 1233, "{finding}");
}

#[test]
fn a_difference_that_only_memory_keeps_is_found_where_it_arose() {
    // The pushed value is popped into ESI, and ESI becomes right again with the next turn.
    let make = || {
        let mut side = side();
        let mut popped = 0;
        side.set_tamper(Box::new(move |instruction, state| {
            match instruction.mnemonic() {
                Mnemonic::Stosd => state.regs[7] += 4,
                _ => return false,
            }
            popped += 1;
            popped == 1
        }));
        Ok((self::side(), side))
    };
    let finding = found(lockstep::compare(&make, PACE, &mut |_| {}).unwrap());
    assert!(finding.instructions[0].contains("stosd"), "{finding}");
}

#[test]
fn qemu_agrees_and_a_planted_difference_is_found() {
    let Some(verdict) = against_qemu::compare(side(), 997, 1_000_000, &mut |_| {}).expect("QEMU works")
    else {
        let _ = writeln!(std::io::stderr(), "skipped: rx86 diff against QEMU: it is not installed");
        return;
    };
    match verdict {
        Verdict::Same { instructions, .. } => assert!(instructions > 16_000, "{instructions}"),
        Verdict::Different(finding) => panic!("{finding}"),
    }
    let left = planted(Mnemonic::Adc, 20, wrong_af);
    let verdict = against_qemu::compare(left, 1, 1_000_000, &mut |_| {}).expect("QEMU works");
    let finding = found(verdict.expect("QEMU was there"));
    // ROL does not touch AF; XOR leaves it undefined.
    assert!(finding.instructions[0].contains("adc eax"), "{finding}");
    let left = planted(Mnemonic::Rol, 1500, |state| state.regs[0] ^= 1 << 40 | 1);
    let verdict = against_qemu::compare(left, 997, 1_000_000, &mut |_| {}).expect("QEMU works");
    let finding = found(verdict.expect("QEMU was there"));
    assert!(finding.instructions[0].contains("rol eax"), "{finding}");
}

#[test]
fn qemu_takes_over_where_the_left_side_has_run_to_alone() {
    let mut left = side();
    // The loop, of two instructions and eight a turn, has begun.
    left.run_alone(1000, 97, &mut |_| {}).expect("the guest runs that long");
    assert_eq!(left.retired(), 1000);
    let verdict = against_qemu::compare(left, 97, 9000, &mut |_| {}).expect("QEMU works");
    match verdict {
        None => return,
        Some(Verdict::Same { instructions, .. }) => assert_eq!(instructions, 9000),
        Some(Verdict::Different(finding)) => panic!("{finding}"),
    }
    let mut left = planted(Mnemonic::Rol, 500, |state| state.regs[0] ^= 1);
    left.run_alone(1000, 97, &mut |_| {}).expect("the guest runs that long");
    let finding =
        found(against_qemu::compare(left, 97, 9000, &mut |_| {}).expect("QEMU works").expect("it was there"));
    assert!(finding.instructions[0].contains("rol eax"), "{finding}");
    assert!(side().run_alone(u64::MAX, 997, &mut |_| {}).is_err(), "the guest ends before");
}

#[test]
fn a_known_difference_is_passed_and_counted() {
    let left = side_with(page_fault_image());
    match against_qemu::compare(left, 997, 1_000_000, &mut |_| {}).expect("QEMU works") {
        None => {}
        Some(Verdict::Same { known, .. }) => assert_eq!(known, [(&READ_MODIFY_WRITE, 1)]),
        Some(Verdict::Different(finding)) => panic!("{finding}"),
    }
}
