//! Benchmarks against QEMU TCG and the host itself, in one run: `cargo run --release -p rx86-testsuite --bin rx86-bench`.
//!
//! Build the whole workspace first (`cargo build --release --workspace`); the emulator under test is the binary beside
//! this one. Every time is taken on the host's side, from the console.

use anyhow::{Context, Result, bail};
use rx86::demo::debian::{self, Flavour};
use rx86::initrd;
use rx86_testsuite::guest::program::{INTEGER, Program};
use rx86_testsuite::guest::runner::{Emulator, Guest, Run, have_qemu, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longer than any run should take, QEMU's included.
const LIMIT: Duration = Duration::from_secs(600);
const MEMORY_MIB: u64 = 512;
/// Runs of which the fastest counts.
const RUNS: usize = 3;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let all = wanted.is_empty();
    let folder = rx86::demo::default_cache()?;
    let bench = Bench::new(&folder)?;
    if all || wanted.iter().any(|name| name == "integer") {
        bench.integer()?;
    }
    if all || wanted.iter().any(|name| name == "boot") {
        bench.boot(Flavour::Cloud)?;
        bench.boot(Flavour::Full)?;
    }
    if let Some(unknown) = wanted.iter().find(|name| !matches!(name.as_str(), "integer" | "boot")) {
        bail!("unknown benchmark '{unknown}'; there are integer and boot");
    }
    Ok(())
}

struct Bench {
    folder: PathBuf,
    emulators: Vec<Emulator>,
}

impl Bench {
    fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
        let mut emulators = vec![Emulator::Rx86, Emulator::Rx86Interpreter];
        if have_qemu() {
            emulators.push(Emulator::QemuTcg);
        } else {
            println!("skipped: the comparison with QEMU (qemu-system-x86_64 is not installed)");
        }
        Ok(Self { folder: folder.to_path_buf(), emulators })
    }

    /// A guest with the given script and files, and Debian's kernel.
    fn guest(&self, flavour: Flavour, script: &str, files: &[(&str, &[u8])]) -> Result<Guest> {
        let found = debian::fetch(&self.folder, flavour)?;
        let busybox = std::fs::read(&found.busybox).context("cannot read busybox")?;
        let mut builder = initrd::busybox(&busybox, &format!("{}{script}", initrd::INIT_PROLOGUE));
        for (name, contents) in files {
            builder.file(name, 0o755, contents);
        }
        let path = self.folder.join(format!("bench-{}.gz", std::process::id()));
        std::fs::write(&path, builder.gzip()?)
            .with_context(|| format!("cannot write '{}'", path.display()))?;
        Ok(Guest {
            kernel: found.kernel,
            initrd: Some(path),
            append: "console=ttyS0 quiet".into(),
            memory_mib: MEMORY_MIB,
            rx86_args: vec!["--no-reboot".into()],
        })
    }

    /// Integer loops: natively, on rx86, on QEMU.
    fn integer(&self) -> Result<()> {
        let programs: Vec<(String, Vec<u8>)> =
            INTEGER.iter().map(|program| (format!("bin/{}", program.name), program.elf())).collect();
        let files: Vec<(&str, &[u8])> =
            programs.iter().map(|(name, elf)| (name.as_str(), &elf[..])).collect();
        let script: String = INTEGER.iter().map(|program| format!("/bin/{}\n", program.name)).collect();
        let guest = self.guest(Flavour::Cloud, &format!("{script}poweroff -f\n"), &files)?;
        let runs: Vec<Run> = self
            .emulators
            .iter()
            .map(|&emulator| guest.run(emulator, LIMIT).map_err(anyhow::Error::from))
            .collect::<Result<_>>()?;
        println!("\n| program | native s | rx86 s | rx86 MIPS | interpreter MIPS | QEMU s | QEMU / rx86 |");
        println!("|---|---|---|---|---|---|---|");
        for program in &INTEGER {
            let native = self.native(program)?;
            let expected = native.after(&format!("end {} ", program.name)).unwrap_or_default().to_string();
            let mut times = Vec::new();
            for result in &runs {
                let checksum = result.after(&format!("end {} ", program.name));
                if checksum != Some(&expected) {
                    bail!(
                        "{}: checksum {checksum:?}, natively {expected}\n{}",
                        program.name,
                        result.console()
                    );
                }
                times.push(interval(result, program)?);
            }
            let mips = program.instructions() as f64 / times[0] / 1e6;
            let interpreted = program.instructions() as f64 / times[1] / 1e6;
            let qemu = times.get(2).map_or("-".into(), |time| format!("{time:.3}"));
            let ratio = times.get(2).map_or("-".into(), |time| format!("{:.2}", time / times[0]));
            let native = interval(&native, program)?;
            println!(
                "| {} | {native:.3} | {:.3} | {mips:.0} | {interpreted:.0} | {qemu} | {ratio} |",
                program.name, times[0]
            );
        }
        Ok(())
    }

    fn native(&self, program: &Program) -> Result<Run> {
        let path = self.folder.join(format!("bench-{}-{}", program.name, std::process::id()));
        std::fs::write(&path, program.elf())?;
        make_executable(&path)?;
        let result = run(Command::new(&path), 0, LIMIT);
        std::fs::remove_file(&path)?;
        Ok(result?)
    }

    /// Boot to userspace and power-off, and host memory beyond the guest's.
    fn boot(&self, flavour: Flavour) -> Result<()> {
        let guest = self.guest(flavour, "echo userspace\npoweroff -f\n", &[])?;
        println!("\n| {flavour:?} kernel | userspace s | power-off s | guest pages MiB | above them MiB |");
        println!("|---|---|---|---|---|");
        for &emulator in &self.emulators {
            let mut best: Option<Run> = None;
            for _ in 0..RUNS {
                let result = guest.run(emulator, LIMIT)?;
                if result.time_of("userspace").is_none() {
                    bail!("{emulator:?} did not reach userspace:\n{}{}", result.console(), result.errors);
                }
                if best.as_ref().is_none_or(|best| result.elapsed < best.elapsed) {
                    best = Some(result);
                }
            }
            let Some(best) = best else { continue };
            let userspace = best.time_of("userspace").unwrap_or_default().as_secs_f64();
            let residency = best.residency.unwrap_or_default();
            println!(
                "| {emulator:?} | {userspace:.2} | {:.2} | {} | {} |",
                best.elapsed.as_secs_f64(),
                residency.guest_kib >> 10,
                residency.overhead_kib >> 10
            );
        }
        Ok(())
    }
}

/// Seconds between a program's start and end lines.
fn interval(result: &Run, program: &Program) -> Result<f64> {
    let start = result.time_of(&format!("start {}", program.name));
    let end = result.time_of(&format!("end {}", program.name));
    match (start, end) {
        (Some(start), Some(end)) => Ok((end - start).as_secs_f64()),
        _ => bail!("{} did not finish:\n{}{}", program.name, result.console(), result.errors),
    }
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .context("cannot make a program executable")
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    bail!("the programs are Linux programs; run the benchmark on Linux")
}
