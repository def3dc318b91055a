//! One and two processors, on the host, on QEMU TCG and on rx86, side by side: `cargo run --release -p rx86-testsuite --bin rx86-smp`.
//!
//! Build the whole workspace first (`cargo build --release --workspace`); the emulator under test is the binary beside
//! this one, or the one that `RX86_BINARY` names.

use anyhow::{Context, Result, bail};
use clap::Parser;
use rx86_testsuite::kernels::args::{MachineArgs, in_own_folder};
use rx86_testsuite::kernels::times::Times;
use rx86_testsuite::smp::bench::{Bench, WORK, Work};
use rx86_testsuite::smp::program;
use rx86_testsuite::smp::table::{Column, Tables};
use std::path::Path;
use std::time::Duration;

/// Measures independent and contended work with one and two processors, and round trips between two, natively, on QEMU TCG
/// and on rx86; prints Markdown tables.
#[derive(Debug, Parser)]
struct Args {
    /// Only this work.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    machines: MachineArgs,
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
}

fn main() -> Result<()> {
    let args = Args::parse();
    in_own_folder("smp", |folder, cache| bench(&args, folder, cache))
}

fn bench(args: &Args, folder: &Path, cache: &Path) -> Result<()> {
    let work = args.work()?;
    let limit = Duration::from_secs(args.machines.limit);
    let program = program::compile(folder)?;
    let bench = Bench::new(program, work.clone(), folder, cache, limit, args.machines.rx86_args.clone())?;
    let columns =
        args.machines.machines().into_iter().map(|machine| Column { machine, times: Default::default() });
    let mut columns: Vec<Column> = columns.collect();
    for _ in 0..args.machines.repeat {
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
