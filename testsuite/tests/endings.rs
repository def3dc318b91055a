//! What a user sees at the end of a run: the report of a triple fault, and the counters of a guest that idles.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use rx86_testsuite::guest::bare;
use rx86_testsuite::guest::runner::{Emulator, Guest, Run};
use std::path::PathBuf;
use std::time::Duration;

/// Only ends what hangs.
const LIMIT: Duration = Duration::from_secs(120);

fn run(name: &str, image: &[u8], argument: &str) -> Run {
    let kernel = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ending-{name}"));
    std::fs::write(&kernel, image).expect("the target folder can be written");
    let rx86_args = vec![argument.into()];
    let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 64, rx86_args };
    guest.run(Emulator::Rx86, LIMIT).expect("rx86 starts")
}

#[test]
fn a_triple_fault_is_reported() {
    // The interrupt table is empty when INT3 looks for its gate.
    let flat = bare::guest(|a| {
        a.mov(ebx, 0x1234_5678)?;
        // RAM that nobody has written.
        a.lidt(ptr(0x20_0000))?;
        a.int3()
    });
    let long = bare::long_mode_guest(|a| {
        let mut empty = a.create_label();
        a.mov(ebx, 0x1234_5678)?;
        a.lidt(ptr(empty))?;
        a.int3()?;
        a.set_label(&mut empty)?;
        a.db(&[0; 10])
    });
    for (name, image, mode, walk) in [
        ("fault-32", &flat, "32-bit protected mode", "paging is off"),
        ("fault-64", &long, "64-bit mode", "PML4"),
    ] {
        let run = run(name, image, "--no-reboot");
        assert_eq!((run.status, run.console().as_str()), (Some(6), ""), "{name}: {}", run.errors);
        for part in [
            "rx86: triple fault at 0x1",
            mode,
            "RBX=0000000012345678",
            "IDTR base=0000000000000000 limit=0000",
            "CR0=",
            "last events",
            "0x08",
            "int3",
            "page walk",
            walk,
        ] {
            assert!(run.errors.contains(part), "{name}: no '{part}' in:\n{}", run.errors);
        }
    }
}

/// Executes HLT until 100 interrupts of a 100 Hz timer have come, then powers off.
fn idle(a: &mut CodeAssembler) -> Result<(), IcedError> {
    const INTERRUPT_TABLE: u32 = 0x20_0000;
    const VECTOR: u32 = 0x20;
    const DESCRIPTORS: u32 = 0x20_1000;
    const REGISTER: u32 = 0x20_2000;
    const STACK: u32 = 0x20_4000;
    /// 1193182 Hz / 11932 is 100 ticks a second.
    const TICK_COUNT: u32 = 11932;
    let (mut far_return, mut install, mut wait) = (a.create_label(), a.create_label(), a.create_label());
    a.mov(esp, STACK)?;
    a.mov(word_ptr(REGISTER), 23)?;
    a.mov(dword_ptr(REGISTER + 2), DESCRIPTORS)?;
    for (i, half) in [0, 0, 0xffff, 0x00cf_9b00, 0xffff, 0x00cf_9300].into_iter().enumerate() {
        a.mov(dword_ptr(DESCRIPTORS + 4 * i as u32), half)?;
    }
    a.lgdt(ptr(REGISTER))?;
    // The call's return address under selector 8 is a far pointer.
    a.push(8)?;
    a.call(far_return)?;
    a.call(install)?;
    // The handler, whose address that call has pushed.
    a.inc(ebx)?;
    a.mov(eax, 0x20)?;
    a.out(0x20, al)?;
    a.iretd()?;
    a.set_label(&mut far_return)?;
    a.retf()?;
    a.set_label(&mut install)?;
    a.pop(eax)?;
    // The gate: offset, selector 8, present 32-bit interrupt gate.
    a.mov(edi, INTERRUPT_TABLE + VECTOR * 8)?;
    a.mov(word_ptr(edi), ax)?;
    a.mov(word_ptr(edi + 2), 8)?;
    a.mov(word_ptr(edi + 4), 0x8e00)?;
    a.shr(eax, 16)?;
    a.mov(word_ptr(edi + 6), ax)?;
    a.mov(word_ptr(REGISTER), 0x7ff)?;
    a.mov(dword_ptr(REGISTER + 2), INTERRUPT_TABLE)?;
    a.lidt(ptr(REGISTER))?;
    // The first 8259 at VECTOR with only IRQ 0 open, the second closed; the 8254's channel 0 in mode 2.
    for (port, value) in [
        (0x20, 0x11),
        (0x21, VECTOR),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xfe),
        (0xa1, 0xff),
        (0x43, 0x34),
        (0x40, TICK_COUNT & 0xff),
        (0x40, TICK_COUNT >> 8),
    ] {
        a.mov(eax, value)?;
        a.out(port, al)?;
    }
    a.xor(ebx, ebx)?;
    a.set_label(&mut wait)?;
    a.sti()?;
    a.hlt()?;
    a.cmp(ebx, 100)?;
    a.jb(wait)?;
    bare::power_off(a)
}

#[test]
fn an_idle_guest_executes_nothing() {
    let run = run("idle", &bare::guest(idle), "--stats=json");
    assert_eq!(run.status, Some(0), "{}", run.errors);
    let stats: serde_json::Value = serde_json::from_str(run.errors.trim()).expect("the counters are JSON");
    // Eight a tick and some to begin with, in a second in which a guest that spins executes many millions.
    let instructions = stats["instructions"]["interp"].as_u64().expect("they are counted");
    assert!((600..1200).contains(&instructions), "{stats}");
    let halts = stats["exits"]["halt"].as_u64().expect("they are counted");
    assert!((1..=400).contains(&halts), "{stats}");
}
