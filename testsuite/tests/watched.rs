//! What the JIT shows of its work: dumps of regions, perf's map, counters.

#![cfg(unix)]

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use rx86_testsuite::guest::bare;
use rx86_testsuite::guest::runner::rx86_binary;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where `bare::long_mode_guest` is entered.
const ENTRY: u64 = 0x100_0200;
/// Turns of the loop: many more than are over before it is translated.
const TURNS: u32 = 200_000_000;

fn counts(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, TURNS)?;
    a.set_label(&mut top)?;
    a.add(rax, rcx)?;
    a.dec(ecx)?;
    a.jne(top)?;
    bare::power_off(a)
}

/// Where the loop begins, behind MOV ECX, imm32.
const LOOP: u64 = ENTRY + 5;

/// A folder of the test's own, without files.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// Runs the loop with these options; the process's number and its standard error.
fn run(name: &str, options: &[&str]) -> (u32, String) {
    let kernel = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("watched-{name}"));
    std::fs::write(&kernel, bare::long_mode_guest(counts)).expect("the target folder can be written");
    let mut command = Command::new(rx86_binary().expect("rx86 is built"));
    command.arg("--kernel").arg(kernel).args(["--memory", "64M", "--jit-threshold", "1"]).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().expect("rx86 starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("rx86 ends");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{name}: {errors}");
    (pid, errors)
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("rx86 made the folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_region_is_dumped_if_it_is_named() {
    let named = folder("dump-named");
    let address = format!("{LOOP:#x}");
    run("named", &["--dump-region", &address, "--dump-dir", &named.to_string_lossy()]);
    let files_of_loop = files(&named);
    let file = files_of_loop.iter().find(|file| file.starts_with(&format!("{LOOP:016x}")));
    let file = file.unwrap_or_else(|| panic!("only {files_of_loop:?}"));
    let text = std::fs::read_to_string(named.join(file)).expect("the file can be read");
    for part in ["region at linear 0x1000205", "add rax,rcx", "CLIF:", "function ", "host:"] {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
    let other = folder("dump-other");
    run("other", &["--dump-region", "0x2000000", "--dump-dir", &other.to_string_lossy()]);
    assert_eq!(files(&other), [""; 0]);
}

#[test]
fn perf_learns_the_names_of_regions() {
    let (pid, _) = run("perf", &["--perf-map"]);
    let path = format!("/tmp/perf-{pid}.map");
    let map = std::fs::read_to_string(&path).expect("the map is there");
    std::fs::remove_file(&path).expect("it can be removed");
    assert!(map.lines().any(|line| line.ends_with(&format!(" guest {LOOP:x}"))), "{map}");
}

#[test]
fn counters_tell_how_much_ran_translated_and_why_it_was_left() {
    let (_, errors) = run("counters", &["--stats=json"]);
    let stats: serde_json::Value = serde_json::from_str(errors.trim()).expect("the counters are JSON");
    let count = |value: &serde_json::Value| value.as_u64().expect("it is counted");
    let (translated, interpreted) =
        (count(&stats["instructions"]["jit"]), count(&stats["instructions"]["interp"]));
    assert!(translated + interpreted > 3 * u64::from(TURNS), "{stats}");
    assert!(translated > interpreted, "{stats}");
    let translations = &stats["translations"];
    assert!(count(&translations["regions"]) > 0, "{stats}");
    let exits = translations["exits"].as_object().expect("they are told apart");
    let all: u64 = exits.values().map(count).sum();
    assert_eq!(all, count(&translations["entries"]), "every entry has one exit: {stats}");
    // The loop is left only because its instructions are used up.
    assert!(count(&exits["budget"]) > 0, "{stats}");
}
