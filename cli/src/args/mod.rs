//! The command line.

mod deterministic;
mod jit;

pub use deterministic::DeterministicArgs;
pub use jit::JitArgs;

use crate::machine::{Engine, MAX_CPUS, Protocol};
use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rx86_cpu::features::selection::{self, Selection};
use std::path::PathBuf;

/// The smallest guest.
pub const MEMORY_MIN: u64 = 16 << 20;
/// The largest guest: as much as `GuestMemory` maps.
pub const MEMORY_MAX: u64 = 512 << 30;

const EXIT_STATUS_HELP: &str = "\
Exit status:
  0    the guest powered itself off
  2    bad arguments or files, or the host failed
  4    the guest reset itself and --no-reboot was given
  6    triple fault; registers, events and the page walk are on standard error
  8    stopped by Ctrl-A X, a signal, or a closed standard output
  10   the guest halted with interrupts off, for good
  odd  the guest wrote N to isa-debug-exit, to report a panic or a result: N * 2 + 1

Keys, when standard input is a terminal:
  Ctrl-A X quits, Ctrl-A P pauses and goes on, Ctrl-A S shows the processors' state,
  Ctrl-A H helps, everything else goes to the guest";

/// Boots a PC in software: an unmodified x86 Linux kernel, on any host, without virtualization.
#[derive(Debug, Parser)]
#[command(name = "rx86", version, after_help = EXIT_STATUS_HELP, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do in place of booting a kernel.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to boot.
    #[command(flatten)]
    pub boot: BootArgs,
}

/// The commands beside booting.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Gets a Debian kernel and busybox from the distribution's packages, and boots them to a shell.
    Demo(DemoArgs),
    /// Runs one guest on two engines and finds the first instruction that they execute differently.
    Diff(DiffArgs),
}

const DIFF_HELP: &str = "\
What is compared:
  Between two of rx86's engines: every --every instructions all registers, with hidden parts of segments, table registers,
  debug registers and MSRs; now and then, and at the end, all of memory. Time is a count of instructions, and the
  board's timers and interrupts act at the borders between stretches, so that both runs, and every repetition, are the same.
  Against qemu (TCG, from PATH): general registers, RIP and RFLAGS without the flags that are undefined, about every --every
  instructions; all registers that QEMU's debugger stub shows wherever the guest looks at the board or the time. QEMU has
  no board here: what IN, OUT, memory-mapped registers, RDTSC, CPUID, RDMSR and RDRAND give on the left is handed
  to it. Interrupts are kept from both, so that the comparison ends when the guest waits for one. Memory is not
  compared by itself, only through what is loaded from it.
  A difference that is gone again at the next comparison is not seen; --every 1 sees all.
  An engine that cannot stop behind a given instruction is stopped where it can; the report then names a few instructions.

Exit status:
  0    no difference
  12   a difference; it is on standard output
  2    bad arguments or files, or the host failed (no QEMU, no /dev/kvm)";

/// Options of `diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_HELP)]
pub struct DiffArgs {
    /// Linux bzImage, or ELF vmlinux with a PVH entry.
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[arg(long, value_name = "STRING", default_value = "")]
    pub append: String,
    /// How a bzImage is entered.
    #[arg(long, value_enum, default_value_t, value_name = "BITS")]
    pub boot_protocol: Protocol,
    /// Guest memory, with K, M or G behind the number.
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = parse_memory)]
    pub memory: u64,
    /// The left side: any engine that --engine takes.
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "interp")]
    pub left: Engine,
    /// The right side: any engine that --engine takes, or qemu.
    #[arg(long, value_name = "ENGINE|qemu", default_value = "qemu", value_parser = parse_right)]
    pub right: Right,
    /// Instructions between two comparisons.
    #[arg(long, value_name = "N", default_value = "10007", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub every: u64,
    /// Instructions after which the comparison ends; those that are skipped do not count.
    #[arg(long, value_name = "N", default_value = "100000000")]
    pub limit: u64,
    /// Instructions that the left side executes alone, with interrupts, before QEMU takes its registers and memory over.
    #[arg(long, value_name = "N", default_value = "0")]
    pub skip: u64,
    /// Seeds the guest's random numbers.
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// The JIT's options.
    #[command(flatten)]
    pub jit: JitArgs,
}

/// The right side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// QEMU's TCG.
    Qemu,
    /// One of our engines.
    Engine(Engine),
}

fn parse_right(text: &str) -> Result<Right, String> {
    if text == "qemu" {
        return Ok(Right::Qemu);
    }
    let names: Vec<String> = Engine::value_variants()
        .iter()
        .filter_map(|engine| Some(engine.to_possible_value()?.get_name().into()))
        .collect();
    Engine::from_str(text, true)
        .map(Right::Engine)
        .map_err(|_| format!("name one of {}, or qemu", names.join(", ")))
}

/// What to boot and on what.
#[derive(Debug, Args)]
pub struct BootArgs {
    /// Linux bzImage, or ELF vmlinux with a PVH entry.
    #[arg(long, value_name = "FILE", help_heading = "Boot a kernel")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE", help_heading = "Boot a kernel", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// The kernel's command line; console=ttyS0 shows its messages.
    #[arg(
        long,
        value_name = "STRING",
        default_value = "",
        requires = "kernel",
        help_heading = "Boot a kernel"
    )]
    pub append: String,
    /// How a bzImage is entered.
    #[arg(long, value_enum, default_value_t, value_name = "BITS", help_heading = "Boot a kernel")]
    pub boot_protocol: Protocol,
    /// The machine's options.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Options of the machine and the run.
#[derive(Clone, Debug, Args)]
pub struct MachineArgs {
    /// Guest memory, with K, M or G behind the number.
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse_memory, help_heading = "Shape the machine")]
    pub memory: u64,
    /// What executes the guest.
    #[arg(long, value_enum, default_value_t, help_heading = "Shape the machine")]
    pub engine: Engine,
    /// The processor: max, x86-64-v2, x86-64-v3, qemu64 or host-like, with changes such as `max,-avx2,+monitor`; `help` lists
    /// models and features.
    #[arg(long, value_name = "MODEL", default_value = "max", value_parser = parse_cpu, allow_hyphen_values = true,
          help_heading = "Shape the machine")]
    pub cpu: CpuChoice,
    /// How many processors the machine has; each runs on a thread of its own.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CPUS)),
          help_heading = "Shape the machine")]
    pub cpus: u32,
    /// An isa-debug-exit device, at port 0xf4 unless another is named.
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "0xf4",
          value_parser = parse_port, help_heading = "Shape the machine")]
    pub debug_exit: Option<u16>,
    /// The JIT's options.
    #[command(flatten)]
    pub jit: JitArgs,
    /// Seeds the guest's random numbers; the host's clock does if it is not given. With --deterministic it also varies how the
    /// processors take turns, and is 1 if it is not given.
    #[arg(long, value_name = "N", help_heading = "Shape the machine")]
    pub seed: Option<u64>,
    /// The options of deterministic runs.
    #[command(flatten)]
    pub deterministic: DeterministicArgs,
    /// End the run when the guest resets itself.
    #[arg(long, help_heading = "Shape the machine")]
    pub no_reboot: bool,
    /// Print counters at the end, on standard error.
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text",
          help_heading = "Look inside")]
    pub stats: Option<StatsFormat>,
    /// Print events: a list of instructions, exceptions, interrupts, io, io:CHIP.
    #[arg(long, value_name = "TARGETS", help_heading = "Look inside")]
    pub trace: Option<String>,
    /// Where the trace goes in place of standard error.
    #[arg(long, value_name = "FILE", requires = "trace", help_heading = "Look inside")]
    pub trace_file: Option<PathBuf>,
}

/// What `--cpu` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuChoice {
    /// The list of models and features.
    Help,
    /// A model.
    Model(Box<Selection>),
}

impl MachineArgs {
    /// The text that `--cpu help` asks for, if it was given.
    pub fn cpu_help(&self) -> Option<String> {
        (self.cpu == CpuChoice::Help).then(selection::help)
    }
}

/// How counters are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatsFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the kernel and busybox are kept; rx86 in the user's cache folder unless another is named.
    #[arg(long, value_name = "FOLDER", help_heading = "Get a guest")]
    pub cache: Option<PathBuf>,
    /// Boot the distribution's full kernel in place of the one for virtual machines.
    #[arg(long, help_heading = "Get a guest")]
    pub full_kernel: bool,
    /// A kernel at hand, in place of the distribution's.
    #[arg(long, value_name = "FILE", conflicts_with = "full_kernel", help_heading = "Get a guest")]
    pub kernel: Option<PathBuf>,
    /// A static x86-64 busybox at hand, in place of the distribution's.
    #[arg(long, value_name = "FILE", help_heading = "Get a guest")]
    pub busybox: Option<PathBuf>,
    /// The machine's options.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// A usage error in one line: what is wrong, clap's tip if it has one, and where the options are explained.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let join = |words: &str| words.split_whitespace().collect::<Vec<_>>().join(" ");
    let what = join(text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: "));
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let tip = tip.map(|tip| format!("; {}", join(tip))).unwrap_or_default();
    format!("{what}{tip}; see `rx86 --help`")
}

impl BootArgs {
    /// The kernel's path, or what is missing.
    pub fn kernel(&self) -> Result<&PathBuf> {
        match &self.kernel {
            Some(kernel) => Ok(kernel),
            None => bail!("nothing to boot: pass --kernel FILE, or try `rx86 demo`"),
        }
    }
}

/// Parses a memory size such as `512M`.
fn parse_memory(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes > MEMORY_MAX => Err(format!("the most is {} GiB", MEMORY_MAX >> 30)),
        bytes if bytes < MEMORY_MIN => Err(format!("the least is {} MiB", MEMORY_MIN >> 20)),
        bytes if bytes % 4096 != 0 => Err("use a multiple of 4 KiB".to_string()),
        bytes => Ok(bytes),
    }
}

/// Parses a number of bytes with its unit; more than can be counted is the most that can.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let shift = match unit.to_ascii_uppercase().as_str() {
        // As with other emulators, a bare number counts mebibytes.
        "" | "M" | "MB" | "MIB" => 20,
        "K" | "KB" | "KIB" => 10,
        "G" | "GB" | "GIB" => 30,
        _ => return Err(format!("unknown unit '{unit}'; write for example 512M or 4G")),
    };
    let number: u64 =
        digits.parse().map_err(|_| "write a number with a unit, for example 512M or 4G".to_string())?;
    Ok(number.saturating_mul(1 << shift))
}

/// Parses a CPU model.
fn parse_cpu(text: &str) -> Result<CpuChoice, String> {
    if matches!(text, "help" | "?") {
        return Ok(CpuChoice::Help);
    }
    let selection = Selection::parse(text).map_err(|error| error.to_string())?;
    Ok(CpuChoice::Model(Box::new(selection)))
}

/// Parses a port, decimal or hexadecimal.
fn parse_port(text: &str) -> Result<u16, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "write a port from 0 to 0xffff, for example 0xf4".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes() {
        for (text, bytes) in [("512M", 512 << 20), ("2g", 2 << 30), ("64", 64 << 20), ("32768K", 32 << 20)] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1T", "-5M", "1M", "99999999999999G", "16385K", "12.5M"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(parse_port("0xf4"), Ok(0xf4));
        assert_eq!(parse_port("244"), Ok(0xf4));
        assert!(parse_port("0x10000").is_err());
    }

    #[test]
    fn optional_values_have_their_defaults() {
        let cli = Cli::try_parse_from(["rx86", "--kernel", "k", "--debug-exit", "--stats"]).unwrap();
        assert_eq!(cli.boot.machine.debug_exit, Some(0xf4));
        assert_eq!(cli.boot.machine.stats, Some(StatsFormat::Text));
        let cli = Cli::try_parse_from(["rx86", "--kernel", "k", "--stats=json"]).unwrap();
        assert_eq!(cli.boot.machine.stats, Some(StatsFormat::Json));
    }

    #[test]
    fn contradictions_are_refused_in_one_line() {
        let cases: [(&[&str], &str); 11] = [
            (&["--kernel", "k", "--cpu", "x86-64-v22"], "did you mean x86-64-v2"),
            (&["--kernel", "k", "--cpu", "max,+rdrnd"], "no feature 'rdrnd'"),
            (&["--initrd", "i"], "--kernel"),
            (&["--append", "a"], "--kernel"),
            (&["--kernel", "k", "--trace-file", "f"], "--trace"),
            (&["--kernel", "k", "demo"], "'demo' cannot be used with '--kernel"),
            (&["demo", "--kernel", "k", "--full-kernel"], "cannot be used with '--full-kernel'"),
            (&["--kernel", "k", "--kernel", "l"], "multiple times"),
            (&["--kernel", "k", "--memory", "3x"], "unknown unit 'x'"),
            (&["--kernel", "k", "--engine", "abacus"], "possible values: interp"),
            (&["--kernle", "k"], "a similar argument exists: '--kernel'"),
        ];
        for (arguments, part) in cases {
            let error = Cli::try_parse_from(["rx86"].iter().chain(arguments)).unwrap_err();
            let line = one_line(&error);
            assert!(line.contains(part) && !line.contains('\n'), "{arguments:?}: {line}");
        }
    }
}
