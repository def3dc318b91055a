//! One and two processors, on the host, on QEMU TCG and on rx86, side by side: `cargo run --release -p rx86-testsuite --bin rx86-smp`.
//!
//! Build the whole workspace first (`cargo build --release --workspace`); the emulator under test is the binary beside
//! this one, or the one that `RX86_BINARY` names.

use anyhow::{Context, Result, bail};
use clap::Parser;
use rx86_testsuite::guest::runner::{Emulator, have_qemu};
use rx86_testsuite::kernels::machine::Machine;
use rx86_testsuite::kernels::times::Times;
use rx86_testsuite::smp::bench::{Bench, WORK, Work};
use rx86_testsuite::smp::program;
use rx86_testsuite::smp::table::{Column, Tables};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Measures independent and contended work with one and two processors, and round trips between two, natively, on QEMU TCG
/// and on rx86; prints Markdown tables.
#[derive(Debug, Parser)]
struct Args {
    /// Only this work.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Without the native run.
    #[arg(long)]
    skip_native: bool,
    /// Without QEMU.
    #[arg(long)]
    skip_qemu: bool,
    /// With rx86's interpreter.
    #[arg(long)]
    interpreter: bool,
    /// Runs on each machine; the shortest time counts.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Seconds that a run may take.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    limit: u64,
    /// Further arguments for rx86.
    #[arg(last = true, value_name = "ARGUMENTS")]
    rx86_args: Vec<OsString>,
}

impl Args {
    fn work(&self) -> Result<Vec<Work>> {
        if let Some(unknown) = self.only.iter().find(|name| WORK.iter().all(|work| work.name != **name)) {
            let all: Vec<&str> = WORK.iter().map(|work| work.name).collect();
            bail!("no work '{unknown}'; there are {}", all.join(", "));
        }
        let is_wanted = |work: &Work| self.only.is_empty() || self.only.iter().any(|name| name == work.name);
        Ok(WORK.into_iter().filter(is_wanted).collect())
    }

    fn machines(&self) -> Vec<Machine> {
        let qemu = !self.skip_qemu && have_qemu();
        if !qemu && !self.skip_qemu {
            eprintln!("skipped: the comparison with QEMU (qemu-system-x86_64 is not installed)");
        }
        let machines = [
            (!self.skip_native, Machine::Native),
            (qemu, Machine::Guest(Emulator::QemuTcg)),
            (true, Machine::Guest(Emulator::Rx86)),
            (self.interpreter, Machine::Guest(Emulator::Rx86Interpreter)),
        ];
        machines.into_iter().filter_map(|(wanted, machine)| wanted.then_some(machine)).collect()
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let cache = rx86::demo::default_cache()?;
    let folder = cache.join(format!("smp-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    let outcome = bench(&args, &folder, &cache);
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

fn bench(args: &Args, folder: &Path, cache: &Path) -> Result<()> {
    let work = args.work()?;
    let limit = Duration::from_secs(args.limit);
    let program = program::compile(folder)?;
    let bench = Bench::new(program, work.clone(), folder, cache, limit, args.rx86_args.clone())?;
    let columns = args.machines().into_iter().map(|machine| Column { machine, times: Default::default() });
    let mut columns: Vec<Column> = columns.collect();
    for _ in 0..args.repeat {
        for column in &mut columns {
            for (times, cpus) in column.times.iter_mut().zip([1, 2]) {
                let name = column.machine.name();
                eprintln!("{name:12} {cpus}");
                let measured: Times = bench.run(column.machine, cpus).with_context(|| name.to_string())?;
                times.merge(measured);
            }
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    println!("{cores} host processors\n\n{}", Tables { work: &work, columns: &columns });
    Ok(())
}
