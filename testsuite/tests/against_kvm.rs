//! Generated instruction cases on the interpreter against the host's processor through KVM, where `/dev/kvm` opens;
//! `RX86_SEED` and `RX86_COUNT` choose the cases.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use rx86_testsuite::cases::family::Family;
use rx86_testsuite::cases::run::{Plan, Report, Runner, buildable_of};
use rx86_testsuite::oracle::engine::EngineOracle;
use rx86_testsuite::oracle::features::Features;
use rx86_testsuite::oracle::kvm::KvmOracle;
use rx86_testsuite::oracle::{Mode, Oracle};
use std::io::Write;

/// Cases of a plan, unless `RX86_COUNT` says otherwise. Each is an entry into KVM.
const COUNT: u64 = 300;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: instruction cases against KVM{what}");
}

fn plans(kvm: &mut KvmOracle) -> Vec<Plan> {
    let mut plans = Vec::new();
    for mode in Mode::ALL {
        if !kvm.offers(mode) {
            skipped(&format!(", {}-bit code: this KVM does not run it", mode.bits()));
            continue;
        }
        plans.extend(Family::ALL.map(|family| Plan { mode, ..Plan::of(family) }));
        plans.push(Plan { families: Family::ALL.to_vec(), mode, sequences: true });
    }
    plans
}

#[test]
fn instructions_agree_with_kvm() {
    let mut kvm = match KvmOracle::new() {
        Ok(kvm) => kvm,
        Err(error) => return skipped(&format!(": {error}")),
    };
    let features = Features::of(&mut kvm);
    let mut engine = EngineOracle::interpreter();
    let (seed, count) = (number("RX86_SEED", 1), number("RX86_COUNT", COUNT));
    let mut failures = Vec::new();
    for plan in plans(&mut kvm) {
        let name = plan.name();
        let (forms, _) = buildable_of(&plan, |code| features.have(code));
        let mut report = Report::default();
        Runner { reference: &mut kvm, subject: &mut engine, seed, plan }.extend(
            0..count,
            &forms,
            &mut report,
        );
        let known: u64 = report.known.values().sum();
        println!("{name}, seed {seed}: {} cases of {} forms, {known} known", report.cases, report.forms);
        assert!(report.cases * 10 > count * 9, "{name}: only {} of {count} were run", report.cases);
        failures.extend(report.failures.iter().map(|failure| failure.text()));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
