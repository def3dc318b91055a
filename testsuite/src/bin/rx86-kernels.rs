//! Guest kernels natively, on QEMU TCG and on rx86, side by side: `cargo run --release -p rx86-testsuite --bin rx86-kernels`.
//!
//! Build the whole workspace first (`cargo build --release --workspace`); the emulator under test is the binary beside
//! this one, or the one that `RX86_BINARY` names.

use anyhow::Result;
use clap::Parser;
use rx86_testsuite::kernels::args::{MachineArgs, in_own_folder};
use rx86_testsuite::kernels::machine::{Bench, Machine};
use rx86_testsuite::kernels::program::Program;
use rx86_testsuite::kernels::table::{Column, Table};
use rx86_testsuite::kernels::times::Times;
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
    /// The kernels' names and what they measure, and nothing else.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    machines: MachineArgs,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    in_own_folder("kernels", |folder, cache| bench(&args, folder, cache))
}

fn bench(args: &Args, folder: &Path, cache: &Path) -> Result<ExitCode> {
    let program = Program::compile(folder)?;
    let kernels = program.choose(&args.only)?;
    if args.list {
        kernels.iter().for_each(|kernel| println!("{:12} {}", kernel.name, kernel.what));
        return Ok(ExitCode::SUCCESS);
    }
    let limit = Duration::from_secs(args.machines.limit);
    let bench = Bench::new(folder, cache, program, kernels.clone(), limit, args.machines.rx86_args.clone())?;
    let mut columns: Vec<Column> =
        args.machines.machines().into_iter().map(|machine| (machine, Times::default())).collect();
    let mut failures = Vec::new();
    for _ in 0..args.machines.repeat {
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
