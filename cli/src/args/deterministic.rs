//! Options of deterministic runs.

use clap::Args;
use std::path::PathBuf;

/// Whether a run can be repeated exactly, and what is kept of it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Repeat a run exactly")]
pub struct DeterministicArgs {
    /// All processors take turns on one thread, in time that is a count of instructions: a run with the same options and files
    /// is the same to the last instruction, on --engine jit and interp alike. The guest gets no input from the console.
    #[arg(long)]
    pub deterministic: bool,
    /// Run deterministically, with input from the console, and write what is typed and when to a file.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<PathBuf>,
    /// Repeat the run that a file was recorded from.
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    pub replay: Option<PathBuf>,
    /// Run deterministically, and write a hash of the machine's state every N instructions and at the end: `state`, the
    /// instructions of all processors, the guest's nanoseconds, the hash, and the hashes that it was made of.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub state_hash_every: Option<u64>,
    /// Where the hashes go in place of standard error.
    #[arg(long, value_name = "FILE", requires = "state_hash_every")]
    pub state_hash_file: Option<PathBuf>,
}

impl DeterministicArgs {
    /// Whether the run is to be deterministic; all options say so.
    pub fn is_wanted(&self) -> bool {
        let Self { deterministic, record, replay, state_hash_every, state_hash_file: _ } = self;
        *deterministic || record.is_some() || replay.is_some() || state_hash_every.is_some()
    }
}

#[cfg(test)]
mod tests {
    use crate::args::{Cli, one_line};
    use clap::Parser;

    fn wanted(options: &[&str]) -> Result<bool, String> {
        let cli = Cli::try_parse_from(["rx86", "--kernel", "k"].iter().chain(options));
        cli.map(|cli| cli.boot.machine.deterministic.is_wanted()).map_err(|error| one_line(&error))
    }

    #[test]
    fn every_option_asks_for_a_deterministic_run() {
        assert_eq!(wanted(&[]), Ok(false));
        for options in [
            &["--deterministic"][..],
            &["--record", "r"],
            &["--replay", "r"],
            &["--state-hash-every", "1000"],
        ] {
            assert_eq!(wanted(options), Ok(true), "{options:?}");
        }
        for (options, part) in [
            (&["--state-hash-every", "0"][..], "0 is not in"),
            (&["--state-hash-file", "f"], "--state-hash-every"),
            (&["--record", "a", "--replay", "b"], "cannot be used with"),
            (&["--replay", "b", "--seed", "3"], "cannot be used with"),
        ] {
            let line = wanted(options).unwrap_err();
            assert!(line.contains(part), "{options:?}: {line}");
        }
    }
}
