//! Instruction cases on the interpreter: those of `testsuite/cases` against what the files say, and generated ones of
//! every form against the host CPU.
//!
//! `RX86_UPDATE=1` rewrites the files' outputs by the host's; `RX86_SEED` and `RX86_COUNT` choose the generated cases.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use rx86_testsuite::cases::family::{Family, host_lacks};
use rx86_testsuite::cases::known::{PENDING, instruction_of, judge};
use rx86_testsuite::cases::run::{Plan, Report, Runner};
use rx86_testsuite::cases::text::{parse_case, parse_program, print_case};
use rx86_testsuite::oracle::engine::EngineOracle;
use rx86_testsuite::oracle::host::HostOracle;
use rx86_testsuite::oracle::{Mode, Oracle};
use std::fs;
use std::path::{Path, PathBuf};

/// Generated cases of each family, unless `RX86_COUNT` says otherwise.
const COUNT: u64 = 200_000;
const SEED: u64 = 1;

fn host() -> HostOracle {
    HostOracle::new().expect("a child process")
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = fs::read_dir(folder).expect("the cases' folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn is_case(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// The host's outcomes in place of those in the file.
fn update(path: &Path, host: &mut HostOracle) {
    let text = fs::read_to_string(path).expect("UTF-8");
    let lines = text.lines().map(|line| {
        if !is_case(line) {
            return line.to_string();
        }
        let program = parse_program(line.split("=>").next().unwrap_or_default()).expect(line);
        let outcome = host.run(std::slice::from_ref(&program)).pop().flatten().expect("an end");
        print_case(&program, &outcome)
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    fs::write(path, text).expect("the file can be written");
}

#[test]
fn the_cases_in_files_hold() {
    let (mut host, mut engine) = (host(), EngineOracle::interpreter());
    let mut failures = Vec::new();
    let mut count = 0;
    for path in files() {
        if std::env::var_os("RX86_UPDATE").is_some() {
            update(&path, &mut host);
        }
        let text = fs::read_to_string(&path).expect("UTF-8");
        for (index, line) in text.lines().enumerate().filter(|(_, line)| is_case(line)) {
            let place = format!("{}:{}", path.display(), index + 1);
            let case = parse_case(line).unwrap_or_else(|error| panic!("{place}: {error}"));
            let program = std::slice::from_ref(&case.program);
            let lacking = host_lacks(instruction_of(&case.program).code());
            for oracle in
                [&mut engine as &mut dyn Oracle, &mut host].into_iter().take(if lacking { 1 } else { 2 })
            {
                let outcome = oracle.run(program).pop().flatten();
                let verdict = outcome.as_ref().map(|outcome| judge(&case.program, &case.expected, outcome));
                for difference in verdict.iter().flat_map(|verdict| &verdict.failures) {
                    failures.push(format!("{place}: file / {}: {difference}", oracle.name()));
                }
                if outcome.is_none() {
                    failures.push(format!("{place}: {} comes to no end", oracle.name()));
                }
            }
            count += 1;
        }
    }
    println!("{count} cases in files");
    assert!(count > 200, "only {count} cases were found");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs generated cases; a thousand forms are tried some hundred times each. `None` if the host has no such mode.
fn run(plan: Plan) -> Option<Report> {
    let (seed, count) = (number("RX86_SEED", SEED), number("RX86_COUNT", COUNT));
    // The other modes share most of their meanings with 64-bit mode.
    let count = if plan.mode == Mode::Bits64 { count } else { count / 4 };
    if plan.families.iter().all(|family| family.forms_in(plan.mode).is_empty()) {
        println!("{}: skipped, the host has no such instructions", plan.name());
        return None;
    }
    let (mut host, mut engine) = (host(), EngineOracle::interpreter());
    let name = plan.name();
    if !host.offers(plan.mode) {
        println!("skipped: this host's kernel runs no {}-bit code for {name}", plan.mode.bits());
        return None;
    }
    let mut runner = Runner { reference: &mut host, subject: &mut engine, seed, plan };
    let report = runner.run(0..count);
    println!("{name}, seed {seed}: {} cases of {} forms", report.cases, report.forms);
    for (mnemonic, (flags, times)) in &report.undefined {
        println!("undefined flags {flags:03x} of {mnemonic:?} differ from the host's {times} times");
    }
    if report.undefined.is_empty() {
        println!("{name}: flags that the manual leaves undefined are as on this host");
    }
    let is_pending = |code| PENDING.iter().any(|&(pending, _)| pending == code);
    let failures: Vec<String> =
        report.failures.iter().filter(|f| !is_pending(f.code)).map(|f| f.text()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(report.not_built.is_empty(), "forms without cases: {:?}", report.not_built);
    assert!(
        report.cases + report.not_run + 100 + count / 1000 > count,
        "only {} of {count} cases were run",
        report.cases
    );
    Some(report)
}

/// Generated cases of a family in 64-bit mode.
fn generated(family: Family) {
    let Some(report) = run(Plan::of(family)) else { return };
    if (number("RX86_SEED", SEED), number("RX86_COUNT", COUNT)) == (SEED, COUNT) {
        let forms = family.forms();
        for (code, reason) in PENDING.iter().filter(|(code, _)| forms.contains(code)) {
            assert!(
                report.failed.contains_key(code),
                "{code:?} no longer differs ({reason}): remove it from PENDING"
            );
        }
    }
}

#[test]
fn sequences_of_instructions_agree_with_the_host() {
    for mode in Mode::ALL {
        run(Plan { families: Family::ALL.to_vec(), mode, sequences: true });
    }
}

#[test]
fn instructions_of_32_bit_code_agree_with_the_host() {
    for family in Family::ALL {
        run(Plan { mode: Mode::Bits32, ..Plan::of(family) });
    }
}

#[test]
fn instructions_of_16_bit_code_agree_with_the_host() {
    for family in Family::ALL {
        run(Plan { mode: Mode::Bits16, ..Plan::of(family) });
    }
}

#[test]
fn integer_instructions_agree_with_the_host() {
    generated(Family::Integer);
}

#[test]
fn string_instructions_agree_with_the_host() {
    generated(Family::String);
}

#[test]
fn branches_agree_with_the_host() {
    generated(Family::Branch);
}

#[test]
fn mmx_instructions_agree_with_the_host() {
    generated(Family::Mmx);
}

#[test]
fn sse_instructions_agree_with_the_host() {
    generated(Family::Sse);
}

#[test]
fn crypto_instructions_agree_with_the_host() {
    generated(Family::Crypto);
}

#[test]
fn fma_instructions_agree_with_the_host() {
    generated(Family::Fma);
}

#[test]
fn avx_instructions_agree_with_the_host() {
    generated(Family::Avx);
}

#[test]
fn avx2_instructions_agree_with_the_host() {
    generated(Family::Avx2);
}

#[test]
fn x87_instructions_agree_with_the_host() {
    generated(Family::X87);
}
