//! Benchmarks against QEMU TCG and the host itself, in one run: `cargo run --release -p rx86-testsuite --bin rx86-bench`.
//!
//! Build the whole workspace first (`cargo build --release --workspace`); the emulator under test is the binary beside
//! this one. Every time is taken on the host's side, from the console.

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Integer loops: natively, on rx86 and on QEMU.
    Integer,
    /// Boots of both of Debian's kernels to userspace and power-off.
    Boot,
}

/// Times integer loops and boots on rx86, on its interpreter alone, and on QEMU.
#[derive(Debug, Parser)]
struct Args {
    /// What to time.
    #[arg(default_values = ["integer", "boot"])]
    benchmarks: Vec<Benchmark>,
    /// How often each boot is done.
    #[arg(long, value_name = "N", default_value = "3")]
    runs: usize,
    /// The kernel's command line for boots.
    #[arg(long, value_name = "TEXT", default_value = "console=ttyS0 quiet")]
    append: String,
    /// Do without the interpreter, which takes long.
    #[arg(long)]
    skip_interpreter: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = rx86::demo::default_cache()?;
    let bench = Bench::new(&folder)?;
    if args.benchmarks.contains(&Benchmark::Integer) {
        bench.integer()?;
    }
    if args.benchmarks.contains(&Benchmark::Boot) {
        bench.boot(Flavour::Cloud, &args)?;
        bench.boot(Flavour::Full, &args)?;
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
        let result = run(Command::new(&path), None, LIMIT);
        std::fs::remove_file(&path)?;
        Ok(result?)
    }

    /// Boots to userspace and power-off, the emulators in turns, as the machine's speed may change; and host memory beyond
    /// the guest's.
    fn boot(&self, flavour: Flavour, args: &Args) -> Result<()> {
        let mut guest = self.guest(flavour, "echo userspace\npoweroff -f\n", &[])?;
        guest.append.clone_from(&args.append);
        let is_wanted =
            |emulator: &Emulator| !(args.skip_interpreter && *emulator == Emulator::Rx86Interpreter);
        let emulators: Vec<Emulator> = self.emulators.iter().copied().filter(is_wanted).collect();
        let mut runs: Vec<Vec<Run>> = emulators.iter().map(|_| Vec::new()).collect();
        for _ in 0..args.runs {
            for (&emulator, runs) in emulators.iter().zip(&mut runs) {
                let result = guest.run(emulator, LIMIT)?;
                if result.time_of("userspace").is_none() {
                    bail!("{emulator:?} did not reach userspace:\n{}{}", result.console(), result.errors);
                }
                runs.push(result);
            }
        }
        println!(
            "\n| {flavour:?} kernel | userspace s | power-off s | median s | guest pages MiB | above them MiB |"
        );
        println!("|---|---|---|---|---|---|");
        for (emulator, runs) in emulators.iter().zip(&mut runs) {
            runs.sort_by_key(|run| run.elapsed);
            let (Some(best), Some(median)) = (runs.first(), runs.get(runs.len() / 2)) else { continue };
            let residency = best.residency.unwrap_or_default();
            println!(
                "| {emulator:?} | {:.2} | {:.2} | {:.2} | {} | {} |",
                best.time_of("userspace").unwrap_or_default().as_secs_f64(),
                best.elapsed.as_secs_f64(),
                median.elapsed.as_secs_f64(),
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
