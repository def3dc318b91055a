//! The same guest on every engine: it must say the same and end the same.

use iced_x86::code_asm::*;
use rx86_testsuite::guest::bare;
use rx86_testsuite::guest::runner::{Emulator, Guest, Run};
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs a bare guest on `engine`.
fn run(name: &str, image: &[u8], engine: &str) -> Run {
    let kernel = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{engine}.elf"));
    std::fs::write(&kernel, image).expect("the target folder can be written");
    let rx86_args = vec!["--engine".into(), engine.into(), "--no-reboot".into()];
    let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 64, rx86_args };
    guest.run(Emulator::Rx86, LIMIT).expect("rx86 starts")
}

/// The engines that this host has.
fn engines() -> Vec<&'static str> {
    let mut engines = vec!["interp"];
    let probe = run("probe", &bare::guest(bare::power_off), "kvm");
    if probe.status == Some(0) {
        engines.push("kvm");
    } else {
        println!("skipped: the KVM engine ({})", probe.errors.trim());
    }
    engines
}

#[test]
fn every_engine_prints_and_powers_off() {
    // The sum of squares from 1 to 100 and a division, so that more than moves are executed.
    let image = bare::guest(|a| {
        let mut top = a.create_label();
        a.mov(ecx, 100)?;
        a.xor(ebx, ebx)?;
        a.set_label(&mut top)?;
        a.mov(eax, ecx)?;
        a.imul_2(eax, ecx)?;
        a.add(ebx, eax)?;
        a.loop_(top)?;
        a.mov(eax, ebx)?;
        a.xor(edx, edx)?;
        a.mov(ecx, 10_000)?;
        a.div(ecx)?;
        // 338350 / 10000 = 33 remainder 8350.
        a.add(al, i32::from(b'0'))?;
        a.mov(esi, eax)?;
        bare::print(a, "quotient ")?;
        a.mov(eax, esi)?;
        a.mov(edx, 0x3f8)?;
        a.out(dx, al)?;
        bare::print(a, "\n")?;
        bare::power_off(a)
    });
    for engine in engines() {
        let run = run("sum", &image, engine);
        assert_eq!(run.status, Some(0), "{engine}: {}", run.errors);
        assert_eq!(run.console(), "quotient Q\n", "{engine}");
    }
}

#[test]
fn every_engine_reports_a_triple_fault() {
    // An empty IDT: the first exception cannot be delivered, nor can the double fault.
    let image = bare::guest(|a| {
        a.mov(esp, 0x9_0000)?;
        a.push(0)?;
        a.push(0)?;
        a.lidt(ptr(esp))?;
        a.ud2()
    });
    for engine in engines() {
        let run = run("triple", &image, engine);
        assert_eq!(run.status, Some(6), "{engine}: {}", run.errors);
        for part in ["triple fault", "32-bit protected mode", "RAX=", "CR0=", "page walk"] {
            assert!(run.errors.contains(part), "{engine}: no '{part}' in:\n{}", run.errors);
        }
    }
}
