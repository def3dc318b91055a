//! The harness against engines with faults planted on purpose: each one must be found, shrunk to one instruction and
//! printed as a case that fails on the faulty engine and holds on the sound one.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use iced_x86::Mnemonic;
use rx86_testsuite::cases::family::Family;
use rx86_testsuite::cases::known::{instructions_of, judge};
use rx86_testsuite::cases::run::{Plan, Report, Runner};
use rx86_testsuite::cases::text::parse_case;
use rx86_testsuite::oracle::engine::EngineOracle;
use rx86_testsuite::oracle::host::HostOracle;
use rx86_testsuite::oracle::planted::{Fault, Planted};
use rx86_testsuite::oracle::{Mode, Oracle, Program};

const SEED: u64 = 1;

fn faulty(fault: Fault) -> Planted<EngineOracle> {
    Planted { oracle: EngineOracle::interpreter(), fault }
}

fn run(subject: &mut dyn Oracle, plan: Plan, count: u64) -> Report {
    let mut host = HostOracle::new().expect("a child process");
    Runner { reference: &mut host, subject, seed: SEED, plan }.run(0..count)
}

/// Whether the failing instruction of the printed cases is `mnemonic`, and each case tells the engines apart.
fn assert_found(report: &Report, fault: Fault, mnemonic: Mnemonic) {
    assert!(!report.failures.is_empty(), "{} was not found in {} cases", fault.name(), report.cases);
    for failure in &report.failures {
        println!("{}: {}", fault.name(), failure.text());
        assert_eq!(failure.code.mnemonic(), mnemonic, "{}", failure.text());
        let text = failure.text();
        let case = parse_case(text.lines().last().unwrap_or_default()).expect("a case");
        let differs = |oracle: &mut dyn Oracle| {
            let outcome = oracle.run(std::slice::from_ref::<Program>(&case.program)).pop().flatten();
            outcome.is_none_or(|outcome| !judge(&case.program, &case.expected, &outcome).failures.is_empty())
        };
        assert!(differs(&mut faulty(fault)), "{text}: the faulty engine passes");
        assert!(!differs(&mut EngineOracle::interpreter()), "{text}: the sound engine fails");
    }
}

#[test]
fn a_wrong_auxiliary_carry_of_adc_is_found() {
    let report = run(&mut faulty(Fault::AdcAf), Plan::of(Family::Integer), 20_000);
    assert_found(&report, Fault::AdcAf, Mnemonic::Adc);
}

#[test]
fn a_wrong_rounding_of_cvtsd2si_is_found() {
    let report = run(&mut faulty(Fault::Cvtsd2siRounding), Plan::of(Family::Sse), 20_000);
    assert_found(&report, Fault::Cvtsd2siRounding, Mnemonic::Cvtsd2si);
}

#[test]
fn a_missed_fault_of_a_split_store_is_found() {
    let report = run(&mut faulty(Fault::SplitStore), Plan::of(Family::Integer), 100_000);
    assert_found(&report, Fault::SplitStore, Mnemonic::Mov);
}

/// The same within sequences: what is printed is the faulty instruction, and before it only what brings its inputs about.
#[test]
fn a_fault_within_a_sequence_is_shrunk_to_its_instruction() {
    let plan = Plan { families: vec![Family::Integer], mode: Mode::Bits64, sequences: true };
    let report = run(&mut faulty(Fault::AdcAf), plan, 60_000);
    assert_found(&report, Fault::AdcAf, Mnemonic::Adc);
    let lengths: Vec<usize> =
        report.failures.iter().map(|failure| instructions_of(&failure.program).len()).collect();
    assert!(lengths.iter().all(|&length| length <= 4) && lengths.contains(&1), "{lengths:?}");
}
