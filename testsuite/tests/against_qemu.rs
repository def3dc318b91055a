//! Generated instruction cases on the interpreter against QEMU's TCG, where it is installed. What they disagree about is in
//! `testsuite/src/cases/known_qemu.rs`; `RX86_SEED` and `RX86_COUNT` choose the cases.

use rx86_testsuite::cases::family::Family;
use rx86_testsuite::cases::known_qemu::{KNOWN, is_fit};
use rx86_testsuite::cases::run::{Plan, Report, Runner, buildable_of};
use rx86_testsuite::oracle::Mode;
use rx86_testsuite::oracle::engine::EngineOracle;
use rx86_testsuite::oracle::features::Features;
use rx86_testsuite::oracle::qemu::QemuOracle;
use std::collections::BTreeMap;
use std::io::Write;

/// Cases of a family in 64-bit mode, unless `RX86_COUNT` says otherwise; a quarter of it in the other modes.
const COUNT: u64 = 20_000;
const SEED: u64 = 1;
/// The version that the list of disagreements is about.
const VERSION: &str = "7.2";

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn qemu() -> Option<QemuOracle> {
    let qemu = QemuOracle::new().expect("QEMU works");
    if qemu.is_none() {
        let _ = writeln!(std::io::stderr(), "skipped: instruction cases against QEMU: it is not installed");
    }
    qemu
}

/// Every family in every mode, and sequences of what QEMU is right about.
fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for mode in Mode::ALL {
        plans.extend(Family::ALL.map(|family| Plan { mode, ..Plan::of(family) }));
        let families = vec![Family::Integer, Family::String, Family::Branch];
        plans.push(Plan { families, mode, sequences: true });
    }
    plans
}

#[test]
fn instructions_agree_with_qemu() {
    let Some(mut qemu) = qemu() else { return };
    let version = qemu.version().expect("QEMU tells its version");
    let features = Features::of(&mut qemu);
    let mut engine = EngineOracle::interpreter();
    let (seed, count) = (number("RX86_SEED", SEED), number("RX86_COUNT", COUNT));
    let mut known: BTreeMap<usize, u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for plan in plans() {
        let count = if plan.mode == Mode::Bits64 { count } else { count / 4 };
        let name = plan.name();
        let (forms, not_built) =
            buildable_of(&plan, |code| features.have(code) && (!plan.sequences || is_fit(code)));
        assert!(not_built.is_empty(), "forms without cases: {not_built:?}");
        let mut report = Report::default();
        let mut runner = Runner { reference: &mut qemu, subject: &mut engine, seed, plan };
        runner.extend(0..count, &forms, &mut report);
        println!("{name}, seed {seed}: {} cases of {} forms", report.cases, report.forms);
        let few = forms.is_empty() || report.cases + report.not_run + 100 + count / 1000 > count;
        assert!(few, "{name}: only {} of {count} cases were run", report.cases);
        report.known.iter().for_each(|(&entry, count)| *known.entry(entry).or_default() += count);
        failures.extend(report.failures.iter().map(|failure| failure.text()));
    }
    for (&entry, count) in &known {
        println!("{count} cases: {} ({:?} is right)", KNOWN[entry].name, KNOWN[entry].right);
    }
    assert!(failures.is_empty(), "QEMU {version}:\n{}", failures.join("\n"));
    if version != VERSION {
        println!("QEMU {version}, not {VERSION}: the list of disagreements may name what no longer differs");
    } else if (seed, count) == (SEED, COUNT) {
        for (entry, it) in KNOWN.iter().enumerate() {
            assert!(known.contains_key(&entry), "'{}' no longer differs: remove it from the list", it.name);
        }
    }
}
