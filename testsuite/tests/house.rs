//! The rules of the house, kept by a test: who may depend on whom, how large files and functions are, what every file
//! begins with, and that documents name only what is there.

use std::fs;
use std::path::{Path, PathBuf};

/// Our crates, and which of ours each may depend on (outside of tests).
const DEPENDENCIES: [(&str, &[&str]); 8] = [
    ("softmmu", &[]),
    ("cpu", &["rx86-softmmu"]),
    ("cpu/kvm", &["rx86-cpu", "rx86-softmmu"]),
    ("devices", &["rx86-softmmu"]),
    ("firmware", &["rx86-softmmu"]),
    ("jit", &["rx86-cpu", "rx86-softmmu"]),
    ("cli", &["rx86-cpu", "rx86-devices", "rx86-firmware", "rx86-jit", "rx86-kvm", "rx86-softmmu"]),
    (
        "testsuite",
        &["rx86", "rx86-cpu", "rx86-devices", "rx86-firmware", "rx86-jit", "rx86-kvm", "rx86-softmmu"],
    ),
];
const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the testsuite lies in the workspace").to_path_buf()
}

/// Every Rust file of our crates.
fn rust_files() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
        let entries = fs::read_dir(folder).expect("a folder of the workspace");
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                files.push((path, text));
            }
        }
    }
    let mut files = Vec::new();
    for (folder, _) in DEPENDENCIES {
        collect(&root().join(folder), &mut files);
    }
    assert!(files.len() > 100, "the walk found {} files only", files.len());
    files
}

fn report(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

#[test]
fn crates_depend_only_downwards() {
    let mut offences = Vec::new();
    for (folder, allowed) in DEPENDENCIES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let section = section.split("\n[").next().unwrap_or_default();
        for line in section.lines() {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if name.starts_with("rx86") && !allowed.contains(&name) {
                offences.push(format!("{folder} depends on {name}"));
            }
        }
    }
    report("a crate may depend only on those below it", &offences);
}

#[test]
fn files_say_what_they_hold_and_stay_small() {
    let mut offences = Vec::new();
    for (path, text) in rust_files() {
        if !text.starts_with("//!") {
            offences.push(format!("{}: no //! line at its head", path.display()));
        }
        let lines = text.lines().count();
        if lines > MAX_FILE_LINES {
            offences.push(format!("{}: {lines} lines", path.display()));
        }
    }
    report("a file begins with //! and has at most 800 lines", &offences);
}

/// The functions of a formatted file: their names and lengths in lines.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with("//")).collect();
        let Some(at) = words.iter().position(|&word| word == "fn") else { continue };
        let qualifier =
            |word: &&str| word.starts_with("pub") || matches!(*word, "const" | "unsafe" | "extern" | "\"C\"");
        if !words[..at].iter().all(|word| qualifier(word) || word.ends_with(')')) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|line| *line == closing);
        let one_line = line.ends_with('}') || line.ends_with(';');
        if let (Some(end), false) = (end, one_line) {
            found.push((words.get(at + 1).unwrap_or(&"?").to_string(), end + 1));
        }
    }
    found
}

#[test]
fn functions_stay_small() {
    let mut offences = Vec::new();
    let mut seen = 0;
    for (path, text) in rust_files() {
        // A test's table of cases is data.
        let is_test = path.components().any(|part| part.as_os_str() == "tests")
            || path.file_name().is_some_and(|name| name == "tests.rs");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (name, lines) in functions(code) {
            seen += 1;
            if lines > MAX_FUNCTION_LINES && !is_test {
                offences.push(format!("{}: {name} has {lines} lines", path.display()));
            }
        }
    }
    assert!(seen > 1000, "only {seen} functions were seen");
    report("a function has at most 70 lines", &offences);
}

#[test]
fn unsafe_code_is_announced_and_justified() {
    let mut offences = Vec::new();
    for (path, text) in rust_files() {
        let mut above = ["", "", ""];
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let is_block = [" {", " impl"].iter().any(|what| code.contains(&format!("unsafe{what}")));
            if is_block {
                if !text.contains("unsafe_code") {
                    offences.push(format!("{}: no expect(unsafe_code, reason)", path.display()));
                }
                if !above.iter().chain([&line]).any(|line| line.contains("SAFETY")) {
                    offences.push(format!("{}:{}: no SAFETY line above", path.display(), number + 1));
                }
            }
            above = [above[1], above[2], line];
        }
    }
    offences.dedup();
    report("unsafe code says why", &offences);
}

#[test]
fn nothing_is_left_undone() {
    // Spelled in halves, so that this file does not find itself.
    let marks = [["to", "do!("], ["unimpl", "emented!("], ["FIX", "ME"], ["#[ig", "nore"], ["db", "g!("]]
        .map(|parts| parts.concat());
    let mut offences = Vec::new();
    for (path, text) in rust_files() {
        for mark in &marks {
            if text.contains(mark.as_str()) {
                offences.push(format!("{}: {mark}", path.display()));
            }
        }
    }
    report("nothing is left undone", &offences);
}

#[test]
fn documents_name_what_is_there() {
    let mut documents = vec![root().join("README.md")];
    let entries = fs::read_dir(root().join("docs")).expect("the docs folder");
    documents.extend(entries.map(|entry| entry.expect("an entry").path()));
    let mut offences = Vec::new();
    let mut checked = 0;
    for document in documents {
        let text = fs::read_to_string(&document).expect("UTF-8");
        // Paths stand in back quotes and have a slash, or are files at the root.
        for (i, quoted) in text.split('`').enumerate() {
            let is_path = quoted.contains('/') && !quoted.contains(' ') && !quoted.starts_with('/');
            let is_root_file = quoted.ends_with(".md") || quoted.starts_with("LICENSE");
            if i % 2 == 1 && (is_path || is_root_file) {
                checked += 1;
                if !root().join(quoted).exists() {
                    offences.push(format!("{}: `{quoted}`", document.display()));
                }
            }
        }
    }
    assert!(checked > 20, "only {checked} paths were found");
    report("documents name paths that exist", &offences);
}
