//! What the benchmarks' command lines have in common, and the folder that they work in.

use super::machine::Machine;
use crate::guest::runner::{Emulator, have_qemu};
use anyhow::{Context, Result};
use clap::Args;
use std::ffi::OsString;
use std::path::Path;

/// Which machines are measured, and how.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// Without the native run.
    #[arg(long)]
    pub skip_native: bool,
    /// Without QEMU.
    #[arg(long)]
    pub skip_qemu: bool,
    /// Without rx86.
    #[arg(long)]
    pub skip_rx86: bool,
    /// With rx86's interpreter.
    #[arg(long)]
    pub interpreter: bool,
    /// Runs on each machine; the shortest time counts.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Seconds that a run may take.
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    pub limit: u64,
    /// Further arguments for rx86.
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub rx86_args: Vec<OsString>,
}

impl MachineArgs {
    /// The machines to measure. Says so if QEMU is wanted and missing.
    pub fn machines(&self) -> Vec<Machine> {
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

/// Calls `bench` with a folder of its own, which is removed afterwards, and the one that packages are kept in.
pub fn in_own_folder<T>(name: &str, bench: impl FnOnce(&Path, &Path) -> Result<T>) -> Result<T> {
    let cache = rx86::demo::default_cache()?;
    let folder = cache.join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    let outcome = bench(&folder, &cache);
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}
