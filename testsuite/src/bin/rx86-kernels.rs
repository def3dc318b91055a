//! Guest kernels natively, on QEMU TCG and on rx86, side by side: `cargo run --release -p rx86-testsuite --bin rx86-kernels`.
//!
//! Build the whole workspace first (`cargo build --release --workspace`); the emulator under test is the binary beside
//! this one, or the one that `RX86_BINARY` names.

use anyhow::{Context, Result};
use clap::Parser;
use rx86_testsuite::guest::runner::{Emulator, have_qemu};
use rx86_testsuite::kernels::machine::{Bench, Machine};
use rx86_testsuite::kernels::program::Program;
use rx86_testsuite::kernels::table::{Column, Table};
use rx86_testsuite::kernels::times::Times;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Runs guest kernels natively, on QEMU TCG and on rx86; prints their times as a Markdown table.
///
/// The status is 1 if a checksum differs or a kernel does not finish.
#[derive(Debug, Parser)]
struct Args {
    /// Only these kernels.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Without the native run.
    #[arg(long)]
    skip_native: bool,
    /// Without QEMU.
    #[arg(long)]
    skip_qemu: bool,
    /// Without rx86.
    #[arg(long)]
    skip_rx86: bool,
    /// With rx86's interpreter.
    #[arg(long)]
    interpreter: bool,
    /// Runs on each machine; the shortest time of each kernel counts.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Seconds that a run may take.
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    limit: u64,
    /// The kernels' names and what they measure, and nothing else.
    #[arg(long)]
    list: bool,
    /// Further arguments for rx86.
    #[arg(last = true, value_name = "ARGUMENTS")]
    rx86_args: Vec<OsString>,
}

impl Args {
    fn machines(&self) -> Vec<Machine> {
        let qemu = !self.skip_qemu && have_qemu();
        if !qemu && !self.skip_qemu {
            eprintln!("skipped: the comparison with QEMU (qemu-system-x86_64 is not installed)");
        }
        let machines = [
            (!self.skip_native, Machine::Native),
            (qemu, Machine::Guest(Emulator::QemuTcg)),
            (!self.skip_rx86, Machine::Guest(Emulator::Rx86)),
            (self.interpreter, Machine::Guest(Emulator::Rx86Interpreter)),
        ];
        machines.into_iter().filter_map(|(wanted, machine)| wanted.then_some(machine)).collect()
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let cache = rx86::demo::default_cache()?;
    let folder = cache.join(format!("kernels-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    let outcome = bench(&args, &folder, &cache);
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

fn bench(args: &Args, folder: &Path, cache: &Path) -> Result<ExitCode> {
    let program = Program::compile(folder)?;
    let kernels = program.choose(&args.only)?;
    if args.list {
        kernels.iter().for_each(|kernel| println!("{:12} {}", kernel.name, kernel.what));
        return Ok(ExitCode::SUCCESS);
    }
    let limit = Duration::from_secs(args.limit);
    let bench = Bench::new(folder, cache, program, kernels.clone(), limit, args.rx86_args.clone())?;
    let mut columns: Vec<Column> =
        args.machines().into_iter().map(|machine| (machine, Times::default())).collect();
    let mut failures = Vec::new();
    for _ in 0..args.repeat {
        for (machine, times) in &mut columns {
            let outcome = bench.run(*machine)?;
            times.merge(outcome.times);
            failures.extend(outcome.failure);
            if let Some(mib) = outcome.overhead_mib.filter(|_| *machine != Machine::Native) {
                eprintln!("{:12} host memory beyond the guest's pages: {mib} MiB", machine.name());
            }
        }
    }
    let table = Table::new(&kernels, &columns);
    println!("{table}");
    failures.extend(table.faults());
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
