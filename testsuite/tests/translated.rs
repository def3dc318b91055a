//! Generated instructions on both tiers of the JIT, translated before their first execution, against the interpreter: every family,
//! faults and all flags included. The interpreter itself is held to the host CPU in `instructions.rs`.

use rx86_testsuite::cases::family::Family;
use rx86_testsuite::cases::run::{Plan, Runner};
use rx86_testsuite::oracle::Mode;
use rx86_testsuite::oracle::engine::EngineOracle;

/// Programs of a plan; each is translated anew.
const COUNT: u64 = 3000;

fn sequences() -> Plan {
    Plan { families: Family::ALL.to_vec(), mode: Mode::Bits64, sequences: true }
}

/// Runs a plan's programs on both engines; returns the failures as text.
fn compare(mut jit: EngineOracle, plan: Plan, count: u64) -> Vec<String> {
    let seed = std::env::var("RX86_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let count = std::env::var("RX86_COUNT").ok().and_then(|text| text.parse().ok()).unwrap_or(count);
    let mut interpreter = EngineOracle::interpreter();
    let name = plan.name();
    let mut runner = Runner { reference: &mut interpreter, subject: &mut jit, seed, plan };
    let report = runner.run(0..count);
    println!("{name}, seed {seed}: {} cases of {} forms", report.cases, report.forms);
    let exact = report.undefined.is_empty() && report.approximate == 0;
    assert!(exact, "{name}: undefined flags or approximations differ between the engines");
    report.failures.iter().map(|failure| failure.text()).collect()
}

#[test]
fn translated_instructions_do_what_the_interpreter_does() {
    let failures: Vec<String> = Family::ALL
        .into_iter()
        .flat_map(|family| compare(EngineOracle::jit(), Plan::of(family), COUNT))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn translated_sequences_do_what_the_interpreter_does() {
    let failures = compare(EngineOracle::jit(), sequences(), 4 * COUNT);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn quickly_translated_instructions_do_what_the_interpreter_does() {
    let plans = Family::ALL.into_iter().map(Plan::of).chain([sequences()]);
    let failures: Vec<String> = plans.flat_map(|plan| compare(EngineOracle::quick(), plan, COUNT)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Old translations go to make room.
#[test]
fn evicted_sequences_do_what_the_interpreter_does() {
    let failures = compare(EngineOracle::evicting_jit(), sequences(), 2 * COUNT);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn dropped_sequences_do_what_the_interpreter_does() {
    let failures = compare(EngineOracle::forgetful_jit(), sequences(), COUNT);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn sequences_in_order_do_what_the_interpreter_does() {
    let failures = compare(EngineOracle::ordered_jit(), sequences(), COUNT);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
