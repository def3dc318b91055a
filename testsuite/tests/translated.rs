//! Generated instructions on the JIT, translated before their first execution, against the interpreter: every family,
//! faults and all flags included. The interpreter itself is held to the host CPU in `instructions.rs`.

use rx86_testsuite::cases::family::Family;
use rx86_testsuite::cases::run::Runner;
use rx86_testsuite::oracle::engine::EngineOracle;

/// Programs of a family; each is translated anew.
const COUNT: u64 = 3000;

#[test]
fn translations_do_what_the_interpreter_does() {
    let seed = std::env::var("RX86_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let count = std::env::var("RX86_COUNT").ok().and_then(|text| text.parse().ok()).unwrap_or(COUNT);
    let (mut interpreter, mut jit) = (EngineOracle::interpreter(), EngineOracle::jit());
    let mut failures = Vec::new();
    for family in Family::ALL {
        let mut runner = Runner { reference: &mut interpreter, subject: &mut jit, seed, family };
        let report = runner.run(0..count, &mut |_, _| {});
        println!("{}, seed {seed}: {} cases of {} forms", family.name(), report.cases, report.forms);
        failures.extend(report.failures.iter().map(|failure| failure.text()));
        let exact = report.undefined.is_empty() && report.approximate == 0;
        assert!(exact, "{}: undefined flags or approximations differ between the engines", family.name());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
