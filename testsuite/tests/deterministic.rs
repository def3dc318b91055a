//! Deterministic runs: the same hashes and console bytes at every run and on both engines, with one processor and with
//! several; other seeds give other interleavings. A recording repeats what was typed, and pauses leave no trace.
//!
//! `RX86_DETERMINISTIC_BOOTS=1` also boots Debian's kernel with 1, 2 and 4 processors on both engines.

use rx86::demo::debian::Flavour;
use rx86_testsuite::guest::runner::{Emulator, Guest, Run};
use rx86_testsuite::guest::{bare, crowd, debian};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
/// Only ends what hangs.
const LIMIT: Duration = Duration::from_secs(600);
const ENGINES: [&str; 2] = ["interp", "jit"];

/// What must be the same.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    console: String,
    hashes: String,
}

/// Runs a guest deterministically, with a hash every `every` instructions.
fn trace(guest: &Guest, name: &str, every: u64, arguments: &[&str]) -> Trace {
    let hashes = Path::new(TMP).join(format!("hashes-{name}"));
    let mut guest = guest.clone();
    let every = every.to_string();
    let path = hashes.to_str().expect("the path is UTF-8");
    let options = ["--deterministic", "--state-hash-every", &every, "--state-hash-file", path];
    guest.rx86_args.extend(options.iter().chain(arguments).map(Into::into));
    let run: Run = guest.run(Emulator::Rx86, LIMIT).expect("rx86 starts");
    assert_eq!(run.status, Some(0), "{name}: {}\n{}", run.tail(), run.errors);
    let hashes = std::fs::read_to_string(hashes).expect("the hashes were written");
    Trace { console: run.console(), hashes }
}

fn crowd_of(cpus: u32) -> Guest {
    let kernel = PathBuf::from(TMP).join(format!("crowd-{cpus}"));
    std::fs::write(&kernel, crowd::guest(cpus, 60_000)).expect("the target folder can be written");
    let rx86_args = ["--no-reboot", "--cpus", &cpus.to_string()].map(Into::into).to_vec();
    Guest { kernel, initrd: None, append: String::new(), memory_mib: 32, rx86_args }
}

fn assert_same(left: &Trace, right: &Trace, what: &str) {
    let lines = left.hashes.lines().zip(right.hashes.lines());
    for (left, right) in lines {
        assert_eq!(left, right, "{what}");
    }
    assert_eq!(left, right, "{what}");
}

#[test]
fn every_run_and_engine_gives_the_same_hashes() {
    for cpus in [1, 2, 4] {
        let guest = crowd_of(cpus);
        let mut consoles = Vec::new();
        for seed in ["1", "2"] {
            let run = |engine: &str, time: u32| {
                let name = format!("crowd-{cpus}-{seed}-{engine}-{time}");
                // A prime, so that hashes are taken everywhere in turns.
                trace(&guest, &name, 100_003, &["--engine", engine, "--seed", seed])
            };
            let first = run("interp", 0);
            assert!(first.hashes.lines().count() > 6, "{}", first.hashes);
            assert!(first.console.contains("done"), "{}", first.console);
            for (engine, time) in [("interp", 1), ("jit", 0), ("jit", 1)] {
                assert_same(&first, &run(engine, time), &format!("{cpus} processors, seed {seed}, {engine}"));
            }
            consoles.push(first.console);
        }
        assert_ne!(consoles[0], consoles[1], "{cpus} processors: the seed changes nothing");
        if cpus > 1 {
            // Increments without a lock are lost here and there, others for each seed.
            let results = |console: &str| {
                let line = console.lines().rev().nth(1).expect("a line of results").to_string();
                let numbers = line.split_whitespace().skip(usize::from(!line.starts_with(' ')));
                numbers.map(String::from).collect::<Vec<_>>()
            };
            let [left, right] = [results(&consoles[0]), results(&consoles[1])];
            assert_eq!(left[1], right[1], "locked increments: {left:?} {right:?}");
            assert_ne!(left[5], right[5], "plain increments: {left:?} {right:?}");
        }
    }
}

#[test]
fn hashes_at_other_counts_change_nothing() {
    let guest = crowd_of(2);
    let last = |every| {
        let trace = trace(&guest, &format!("every-{every}"), every, &[]);
        (trace.console, trace.hashes.lines().last().expect("a line").to_string())
    };
    assert_eq!(last(1_000_000), last(70_007));
}

/// A guest that sends back what it gets, up to a full stop.
fn echo() -> Vec<u8> {
    use iced_x86::code_asm::*;
    bare::guest(|a| {
        let (mut wait, mut end) = (a.create_label(), a.create_label());
        // DTR and RTS: the guest listens.
        a.mov(edx, 0x3fc)?;
        a.mov(al, 3)?;
        a.out(dx, al)?;
        a.set_label(&mut wait)?;
        a.pause()?;
        a.mov(edx, 0x3fd)?;
        a.in_(al, dx)?;
        a.test(al, 1)?;
        a.je(wait)?;
        a.mov(edx, 0x3f8)?;
        a.in_(al, dx)?;
        a.out(dx, al)?;
        a.cmp(al, i32::from(b'.'))?;
        a.jne(wait)?;
        a.set_label(&mut end)?;
        bare::power_off(a)
    })
}

#[test]
fn a_recording_is_replayed_on_both_engines() {
    let kernel = PathBuf::from(TMP).join("echo");
    std::fs::write(&kernel, echo()).expect("the target folder can be written");
    let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 16, rx86_args: Vec::new() };
    let file = PathBuf::from(TMP).join("echo-recording");
    let text = "rx86 recording 1\nseed 9\nat 100000 ab\nat 2000000 c\\x41.\n";
    std::fs::write(&file, text).expect("the target folder can be written");
    let path = file.to_str().expect("the path is UTF-8");
    let replayed = ENGINES.map(|engine| {
        trace(&guest, &format!("echo-{engine}"), 100_000, &["--replay", path, "--engine", engine])
    });
    assert_eq!(replayed[0].console, "abcA.\n");
    assert_same(&replayed[0], &replayed[1], "replayed");
    // With another machine it is refused.
    let text = "rx86 recording 1\nseed 9\nstart 12\n";
    std::fs::write(&file, text).expect("the target folder can be written");
    let mut other = guest.clone();
    other.rx86_args.extend(["--replay", path].map(Into::into));
    let run = other.run(Emulator::Rx86, LIMIT).expect("rx86 starts");
    assert_eq!(run.status, Some(2));
    assert!(run.errors.contains("another machine"), "{}", run.errors);
}

#[test]
fn what_is_typed_is_recorded() {
    let kernel = PathBuf::from(TMP).join("echo-typed");
    std::fs::write(&kernel, echo()).expect("the target folder can be written");
    let file = PathBuf::from(TMP).join("typed-recording");
    let path = file.to_str().expect("the path is UTF-8");
    let guest = Guest { kernel, initrd: None, append: String::new(), memory_mib: 16, rx86_args: Vec::new() };
    let hashes = |name: &str| Path::new(TMP).join(format!("hashes-{name}"));
    let mut recorded = guest.clone();
    let options = ["--record", path, "--seed", "5", "--state-hash-every", "100000", "--state-hash-file"];
    recorded.rx86_args.extend(options.map(Into::into));
    recorded.rx86_args.push(hashes("typed").into());
    let mut command = recorded.command(Emulator::Rx86).expect("rx86 is built");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("rx86 starts");
    let mut keyboard = child.stdin.take().expect("it is piped");
    let mut console = child.stdout.take().expect("it is piped");
    let mut echoed = Vec::new();
    // Each byte when the one before has come back, so that they come at different times.
    for byte in *b"typed." {
        keyboard.write_all(&[byte]).expect("rx86 reads");
        let mut came = [0];
        console.read_exact(&mut came).expect("rx86 writes");
        echoed.extend(came);
    }
    assert!(child.wait().expect("rx86 ends").success());
    assert_eq!(echoed, b"typed.");
    let hashes = std::fs::read_to_string(hashes("typed")).expect("the hashes were written");
    for engine in ENGINES {
        let name = format!("typed-{engine}");
        let replayed = trace(&guest, &name, 100_000, &["--replay", path, "--engine", engine]);
        assert_same(&Trace { console: "typed.\n".into(), hashes: hashes.clone() }, &replayed, engine);
    }
}

#[test]
fn debian_boots_the_same_on_both_engines() {
    if std::env::var_os("RX86_DETERMINISTIC_BOOTS").is_none() {
        println!("skipped: RX86_DETERMINISTIC_BOOTS is not set");
        return;
    }
    const SCRIPT: &str = "seq 1 3000 | sha256sum; cat /proc/interrupts; date; for i in 1 2 3 4; do (seq 1 500 | sha256sum) & done; \
                          wait; sleep 2; echo done; poweroff -f\n";
    let Some(guest) = debian::guest(TMP, "deterministic", Flavour::Cloud, SCRIPT, &[]) else { return };
    for cpus in ["1", "2", "4"] {
        let run = |engine: &str, time: u32| {
            let name = format!("debian-{cpus}-{engine}-{time}");
            trace(&guest, &name, 20_000_003, &["--engine", engine, "--cpus", cpus])
        };
        let first = run("jit", 0);
        assert!(first.console.contains("done"), "{}", first.console);
        for (engine, time) in [("jit", 1), ("interp", 0)] {
            assert_same(&first, &run(engine, time), &format!("{cpus} processors on {engine}"));
        }
    }
}
