//! The kernels as one static Linux program, compiled when a benchmark wants it.

use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the C sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
/// Plain code for every x86-64 processor; a kernel that wants more says so itself.
const OPTIONS: [&str; 5] = ["-O2", "-std=gnu11", "-static", "-pthread", "-o"];

/// The compiled program.
#[derive(Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What it can run, in its order.
    pub kernels: Vec<Kernel>,
}

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its name, one word.
    pub name: String,
    /// What it measures.
    pub what: String,
}

impl Program {
    /// Compiles the program into `folder`.
    pub fn compile(folder: &Path) -> Result<Self> {
        let path = folder.join("kernels");
        compile(Path::new(SOURCES), &path)?;
        let listing = Command::new(&path).arg("--list").output().context("cannot run the kernels")?;
        Ok(Self { path, kernels: parse_listing(&String::from_utf8_lossy(&listing.stdout)) })
    }

    /// The kernels of these names, in the program's order; all, if none is named.
    pub fn choose(&self, names: &[String]) -> Result<Vec<Kernel>> {
        let known = |name: &&String| self.kernels.iter().any(|kernel| kernel.name == **name);
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            let all: Vec<&str> = self.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
            bail!("no kernel '{unknown}'; there are {}", all.join(", "));
        }
        let is_wanted = |kernel: &&Kernel| names.is_empty() || names.contains(&kernel.name);
        Ok(self.kernels.iter().filter(is_wanted).cloned().collect())
    }
}

/// Compiles the C sources of a folder into one static Linux program.
pub fn compile(sources: &Path, program: &Path) -> Result<()> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!("the programs are x86-64 Linux programs; run this on such a host");
    }
    let files = files_of(sources)?;
    let output = match Command::new("gcc").args(OPTIONS).arg(program).args(files).arg("-lm").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("gcc is not installed; `apt-get install gcc libc6-dev` gets it")
        }
        output => output.context("cannot run gcc")?,
    };
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("gcc failed; is libc6-dev installed?\n{errors}");
    }
    Ok(())
}

fn files_of(sources: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(sources).with_context(|| format!("cannot read '{}'", sources.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
    files.sort();
    Ok(files)
}

/// Lines of a name and what it measures.
fn parse_listing(text: &str) -> Vec<Kernel> {
    let kernel = |line: &str| {
        let (name, what) = line.split_once(' ')?;
        Some(Kernel { name: name.into(), what: what.into() })
    };
    text.lines().filter_map(kernel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_name_in_the_programs_order() {
        let kernels = parse_listing("fib recursive calls\nsieve byte stores\ntlb a byte of each page\n");
        let program = Program { path: PathBuf::new(), kernels };
        let names = |wanted: &[&str]| -> Result<Vec<String>> {
            let wanted: Vec<String> = wanted.iter().map(|name| name.to_string()).collect();
            Ok(program.choose(&wanted)?.into_iter().map(|kernel| kernel.name).collect())
        };
        assert_eq!(names(&[]).unwrap(), ["fib", "sieve", "tlb"]);
        assert_eq!(names(&["tlb", "fib"]).unwrap(), ["fib", "tlb"]);
        assert!(
            names(&["fob"]).unwrap_err().to_string().contains("no kernel 'fob'; there are fib, sieve, tlb")
        );
    }
}
