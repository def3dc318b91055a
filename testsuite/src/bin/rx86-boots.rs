//! Boots Debian's kernels again and again with several processors: `cargo run --release -p rx86-testsuite --bin rx86-boots`.
//!
//! Build the whole workspace first (`cargo build --release --workspace`); the emulator under test is the binary beside
//! this one, or the one that `RX86_BINARY` names.

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rx86::demo::debian::Flavour;
use rx86_testsuite::kernels::args::in_own_folder;
use rx86_testsuite::smp::boots::{Boots, Outcome, Setting};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kernel {
    Cloud,
    Full,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Jit,
    Interp,
}

/// Boots each kernel with each number of processors on each engine, looks for complaints in the kernel's log, and powers off;
/// prints a Markdown table.
///
/// The status is 1 if a boot fails.
#[derive(Debug, Parser)]
struct Args {
    /// How often each.
    #[arg(long, value_name = "N", default_value = "1")]
    boots: u32,
    /// Which numbers of processors.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values = ["1", "2", "4", "8"])]
    cpus: Vec<u32>,
    /// Which engines.
    #[arg(long, value_delimiter = ',', default_values = ["jit", "interp"])]
    engines: Vec<Engine>,
    /// Which kernels.
    #[arg(long, value_delimiter = ',', default_values = ["cloud", "full"])]
    kernels: Vec<Kernel>,
    /// How many instances at the same time: more than one under `nice -n 19`.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values = ["1", "2"])]
    at_once: Vec<usize>,
    /// Seconds that a boot may take.
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    limit: u64,
}

impl Args {
    fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for kernel in &self.kernels {
            let flavour = match kernel {
                Kernel::Cloud => Flavour::Cloud,
                Kernel::Full => Flavour::Full,
            };
            for engine in &self.engines {
                let engine = match engine {
                    Engine::Jit => "jit",
                    Engine::Interp => "interp",
                };
                for &cpus in &self.cpus {
                    let setting = |&at_once| Setting { flavour, engine, cpus, at_once };
                    settings.extend(self.at_once.iter().map(setting));
                }
            }
        }
        settings
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    in_own_folder("boots", |folder, cache| boot_all(&args, folder, cache))
}

fn boot_all(args: &Args, folder: &Path, cache: &Path) -> Result<ExitCode> {
    let boots = Boots::new(folder, cache, Duration::from_secs(args.limit));
    let mut failures = Vec::new();
    println!("| kernel | engine | processors | at once | boots | failures | median s | longest s |");
    println!("|---|---|---|---|---|---|---|---|");
    for setting in args.settings() {
        let mut outcome = Outcome::default();
        for _ in 0..args.boots {
            boots.boot(&setting, &mut outcome)?;
        }
        let Setting { flavour, engine, cpus, at_once } = setting;
        let count = outcome.times.len() + outcome.failures.len();
        let (median, longest) = outcome.seconds().map_or(("-".into(), "-".into()), |(median, longest)| {
            (format!("{median:.2}"), format!("{longest:.2}"))
        });
        let failed = outcome.failures.len();
        println!(
            "| {flavour:?} | {engine} | {cpus} | {at_once} | {count} | {failed} | {median} | {longest} |"
        );
        outcome.failures.iter().for_each(|failure| eprintln!("{failure}"));
        failures.extend(outcome.failures);
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
