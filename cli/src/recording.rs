//! The console's input of a deterministic run: none, or what is typed, which is recorded, or what a recording holds.
//!
//! A recording is text. Its first line is `rx86 recording 1`; then `seed NUMBER`, `start HASH` (the machine's state at
//! switch-on, so that it is not replayed with another guest), any number of lines `at NANOSECONDS BYTES` in guest time and
//! with bytes escaped as in a Rust byte string, and, if the user stopped the run, `stop INSTRUCTIONS`. Both `start` and `stop`
//! may be left out where somebody writes one by hand.

use crate::console::Remote;
use crate::machine::StateDigest;
use anyhow::{Context, Result, bail, ensure};
use rx86_devices::Board;
use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const FIRST_LINE: &str = "rx86 recording 1";

/// Where a deterministic run's input comes from.
pub enum Input {
    /// There is none.
    None,
    /// What is typed; it is recorded.
    Record(Recorder),
    /// A recording.
    Replay(Recording),
}

/// Writes a recording.
pub struct Recorder {
    to: Box<dyn Write + Send>,
    seed: u64,
    /// The guest time of the last border at which input could arrive.
    last_ns: Option<u64>,
}

/// A recording, of which what has been replayed is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The seed of the run.
    pub seed: u64,
    /// `StateDigest::value` at switch-on.
    start: Option<u64>,
    /// Guest times, in order, and what arrives then.
    typed: VecDeque<(u64, Vec<u8>)>,
    /// The count of instructions at which the run was stopped.
    stop: Option<u64>,
}

impl Recorder {
    /// A recorder of a run with this seed.
    pub fn new(to: Box<dyn Write + Send>, seed: u64) -> Self {
        Self { to, seed, last_ns: None }
    }

    fn line(&mut self, line: &str) -> Result<()> {
        // At once, so that a recording of what killed the emulator is whole.
        writeln!(self.to, "{line}").and_then(|()| self.to.flush()).context("cannot write the recording")
    }

    /// Waits, as the guest does, until `next_ns` or something is typed, and returns the guest time of that; None if the user
    /// wants something else of the machine, or nothing can come any more.
    fn wait(&self, now_ns: u64, next_ns: Option<u64>, remote: &Remote) -> Option<u64> {
        let begun = Instant::now();
        let limit = next_ns.map(|at| Duration::from_nanos(at.saturating_sub(now_ns)));
        if remote.wait_for_input(limit) {
            let at_ns = now_ns.saturating_add(begun.elapsed().as_nanos() as u64);
            return Some(next_ns.map_or(at_ns, |next| next.min(at_ns)));
        }
        next_ns.filter(|_| remote.wish().is_none())
    }
}

impl Recording {
    /// Reads a recording from a file.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recording '{}'", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot replay '{}'", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().enumerate();
        ensure!(
            lines.next().is_some_and(|(_, line)| line == FIRST_LINE),
            "its first line is not '{FIRST_LINE}'"
        );
        let mut recording = Self { seed: 1, ..Self::default() };
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            recording.take_line(line).with_context(|| format!("line {} is '{line}'", number + 1))?;
        }
        Ok(recording)
    }

    fn take_line(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').context("a word and a value were expected")?;
        match word {
            "seed" => self.seed = rest.parse()?,
            "start" => self.start = Some(u64::from_str_radix(rest, 16)?),
            "stop" => self.stop = Some(rest.parse()?),
            "at" => {
                let (time, bytes) = rest.split_once(' ').context("bytes were expected behind the time")?;
                let time = time.parse()?;
                ensure!(self.typed.back().is_none_or(|last| last.0 <= time), "the times go back");
                self.typed.push_back((time, unescape(bytes)?));
            }
            _ => bail!("there is no such line"),
        }
        Ok(())
    }
}

/// The bytes that `[u8]::escape_ascii` has written as `text`.
fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(same @ (b'\\' | b'"' | b'\'')) => same,
            Some(b'x') => {
                let digits: Vec<u8> = rest.by_ref().take(2).filter(u8::is_ascii_hexdigit).collect();
                ensure!(digits.len() == 2, "two hexadecimal digits stand behind \\x");
                u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
            }
            _ => bail!("a backslash stands before r, n, t, xNN, a quote or another one"),
        });
    }
    Ok(bytes)
}

impl Input {
    /// To be called at switch-on, with the machine's state.
    pub(crate) fn begin(&mut self, state: StateDigest) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Record(recorder) => {
                recorder.line(FIRST_LINE)?;
                recorder.line(&format!("seed {}", recorder.seed))?;
                recorder.line(&format!("start {:016x}", state.value()))
            }
            Self::Replay(recording) => {
                ensure!(
                    recording.start.is_none_or(|start| start == state.value()),
                    "the recording begins with another machine: give it the kernel, initrd, command line, memory and \
                     processors that it was made with"
                );
                Ok(())
            }
        }
    }

    /// Gives the board what arrives at a border at guest time `now_ns`.
    pub(crate) fn arrive(&mut self, now_ns: u64, board: &mut Board, remote: &Remote) -> Result<()> {
        match self {
            Self::None => {}
            Self::Record(recorder) => {
                // A recording names a time; of the borders at it, only the first is meant.
                if recorder.last_ns.replace(now_ns).is_none_or(|last| last < now_ns) {
                    let mut taken = Vec::new();
                    remote.hand_over(|typed| {
                        taken.extend_from_slice(&typed[..board.serial_input(typed)]);
                        taken.len()
                    });
                    if !taken.is_empty() {
                        recorder.line(&format!("at {now_ns} {}", taken.escape_ascii()))?;
                    }
                }
            }
            Self::Replay(recording) => {
                while let Some((_, bytes)) = recording.typed.front_mut().filter(|(time, _)| *time <= now_ns) {
                    let taken = board.serial_input(bytes);
                    bytes.drain(..taken);
                    if !bytes.is_empty() {
                        break;
                    }
                    recording.typed.pop_front();
                }
            }
        }
        Ok(())
    }

    /// While all vCPUs wait, at guest time `now_ns` and until `next_ns` if that is anything: the guest time at which something
    /// is to be done next. None if nothing ever will, or if the machine is wanted for something else.
    pub(crate) fn wait(&mut self, now_ns: u64, next_ns: Option<u64>, remote: &Remote) -> Option<u64> {
        match self {
            Self::None => next_ns,
            Self::Record(recorder) => recorder.wait(now_ns, next_ns, remote),
            Self::Replay(recording) => {
                let typed = recording.typed.front().map(|(time, _)| *time);
                typed.into_iter().chain(next_ns).min()
            }
        }
    }

    /// The count of instructions at which the run is to be stopped.
    pub(crate) fn stops_at(&self) -> Option<u64> {
        match self {
            Self::Replay(recording) => recording.stop,
            _ => None,
        }
    }

    /// To be called when the run was stopped from outside.
    pub(crate) fn note_stop(&mut self, retired: u64) -> Result<()> {
        match self {
            Self::Record(recorder) => recorder.line(&format!("stop {retired}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_file() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&all.escape_ascii().to_string()).unwrap(), all);
        for wrong in ["\\", "\\q", "\\x4", "\\xzz"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_recording_is_read_by_its_lines() {
        let text = "rx86 recording 1\nseed 7\nstart ff\nat 5 ls\\r\nat 9  x\nstop 1000\n";
        let recording = Recording::parse(text).unwrap();
        assert_eq!((recording.seed, recording.start, recording.stop), (7, Some(255), Some(1000)));
        assert_eq!(recording.typed, [(5, b"ls\r".to_vec()), (9, b" x".to_vec())]);
        for (wrong, why) in [
            ("", "first line"),
            ("rx86 recording 2\n", "first line"),
            ("rx86 recording 1\nseed x\n", "line 2"),
            ("rx86 recording 1\n\nat 5\n", "line 3"),
            ("rx86 recording 1\nat 5 a\nat 4 b\n", "go back"),
            ("rx86 recording 1\nhello world\n", "no such line"),
        ] {
            let error = format!("{:#}", Recording::parse(wrong).unwrap_err());
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
