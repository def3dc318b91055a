//! What was translated for one vCPU is taken by another one that executes the same code, and only the same.

mod machine;

use iced_x86::code_asm::*;
use machine::{DATA, Guest, Machine};
use rx86_cpu::backend::TierStats;
use rx86_jit::{JitConfig, Workshop, engine};

/// Instructions at a time, and how often: far more than it takes until code is translated in the background.
const BUDGET: u64 = 20_000;
const TURNS: usize = 5_000_000;

/// Sets RBX to `value` again and again, until the test writes to the data.
fn setting(value: u32) -> Guest {
    Guest::new("loop", move |a| {
        let mut top = a.create_label();
        a.set_label(&mut top)?;
        a.mov(ebx, value)?;
        a.cmp(dword_ptr(DATA), 0)?;
        a.je(top)?;
        a.cli()?;
        a.hlt()
    })
}

fn machine(value: u32, workshop: &Workshop) -> Machine {
    let config = JitConfig {
        threshold: 1,
        quick_threshold: 0,
        parallel: true,
        workshop: workshop.clone(),
        ..JitConfig::default()
    };
    Machine::new(&setting(value), |cpu| {
        Box::new(engine(cpu, config).expect("a code generator for this host"))
    })
}

/// Runs the loop until it is translated, and then to its end. Returns what the JIT has done, and RBX.
fn run(machine: &mut Machine) -> (TierStats, u64) {
    let translated =
        |machine: &Machine| machine.engine.stats().tier.is_some_and(|tier| tier.full.regions > 0);
    let mut turns = 0;
    while !translated(machine) {
        machine.engine.run(BUDGET);
        turns += 1;
        assert!(turns < TURNS, "the loop is not translated");
    }
    machine.engine.run(BUDGET);
    machine.memory().write(DATA, &[1]).expect("in RAM");
    let outcome = machine.run("loop", BUDGET, false);
    (machine.engine.stats().tier.expect("a tier"), outcome.regs[3])
}

#[test]
fn a_translation_is_taken_by_who_has_the_same_code() {
    let workshop = Workshop::default();
    let [mut first, mut second] = [0x111, 0x111].map(|value| machine(value, &workshop));
    let (stats, result) = run(&mut first);
    assert_eq!((stats.shared, result), (0, 0x111));
    let (stats, result) = run(&mut second);
    assert!(stats.shared > 0 && stats.instructions > 0, "{stats:?}");
    assert_eq!((stats.full.compile_ns, result), (0, 0x111));
}

#[test]
fn other_code_at_the_same_place_is_translated_anew() {
    let workshop = Workshop::default();
    let [mut first, mut second] = [0x111, 0x222].map(|value| machine(value, &workshop));
    run(&mut first);
    let (stats, result) = run(&mut second);
    // What is behind the loop is the same.
    assert!(stats.full.regions > stats.shared && stats.instructions > 0, "{stats:?}");
    assert_eq!(result, 0x222);
}

#[test]
fn a_vcpu_alone_leaves_nothing_behind() {
    let workshop = Workshop::default();
    run(&mut machine(0x111, &workshop));
    let (stats, _) = run(&mut machine(0x111, &workshop));
    assert_eq!(stats.shared, 0);
}
