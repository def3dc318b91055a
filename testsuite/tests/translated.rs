//! Generated instructions on both tiers of the JIT, translated before their first execution, against the interpreter: every family,
//! faults and all flags included. The interpreter itself is held to the host CPU in `instructions.rs`.

use rx86_testsuite::cases::family::Family;
use rx86_testsuite::cases::run::{Plan, Runner};
use rx86_testsuite::oracle::Mode;
use rx86_testsuite::oracle::engine::EngineOracle;

/// Programs of a plan; each is translated anew.
const COUNT: u64 = 3000;

/// Runs a plan's programs on both engines; returns the failures as text.
fn compare(plan: Plan, count: u64) -> Vec<String> {
    let seed = std::env::var("RX86_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let count = std::env::var("RX86_COUNT").ok().and_then(|text| text.parse().ok()).unwrap_or(count);
    let mut failures = Vec::new();
    for (tier, mut translated) in [("full", EngineOracle::jit()), ("quick", EngineOracle::quick())] {
        let mut interpreter = EngineOracle::interpreter();
        let name = plan.name();
        let plan = plan.clone();
        let mut runner = Runner { reference: &mut interpreter, subject: &mut translated, seed, plan };
        let report = runner.run(0..count);
        println!("{name}, {tier}, seed {seed}: {} cases of {} forms", report.cases, report.forms);
        let exact = report.undefined.is_empty() && report.approximate == 0;
        assert!(exact, "{name}, {tier}: undefined flags or approximations differ between the engines");
        failures.extend(report.failures.iter().map(|failure| format!("{tier}: {}", failure.text())));
    }
    failures
}

#[test]
fn translated_instructions_do_what_the_interpreter_does() {
    let failures: Vec<String> =
        Family::ALL.into_iter().flat_map(|family| compare(Plan::of(family), COUNT)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn translated_sequences_do_what_the_interpreter_does() {
    let plan = Plan { families: Family::ALL.to_vec(), mode: Mode::Bits64, sequences: true };
    let failures = compare(plan, 4 * COUNT);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
