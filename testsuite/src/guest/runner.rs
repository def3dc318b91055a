//! Runs a guest on rx86 or QEMU as a user would, and keeps its console with the host's time of every line.

use super::residency::Residency;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which emulator runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// The `rx86` binary of this build.
    Rx86,
    /// rx86 on its interpreter.
    Rx86Interpreter,
    /// `qemu-system-x86_64 -accel tcg -cpu max`.
    QemuTcg,
}

/// A guest to boot.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub append: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Further arguments for rx86.
    pub rx86_args: Vec<OsString>,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    /// The exit status; none if a signal or the time limit ended it.
    pub status: Option<i32>,
    /// Whether the time limit ended it.
    pub timed_out: bool,
    /// The console's lines without their ends, each with the time since the start.
    pub lines: Vec<(Duration, String)>,
    /// Standard error.
    pub errors: String,
    /// From start to exit.
    pub elapsed: Duration,
    /// The largest host memory beyond the guest's own pages that was seen, if it was looked for and the host tells it.
    pub residency: Option<Residency>,
}

impl Run {
    /// The whole console.
    pub fn console(&self) -> String {
        self.lines.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// The end of the console and standard error, for the message of a failed assertion.
    pub fn tail(&self) -> String {
        let from = self.lines.len().saturating_sub(40);
        let lines: String = self.lines[from..].iter().map(|(_, line)| format!("{line}\n")).collect();
        format!("console:\n{lines}standard error:\n{}", self.errors)
    }

    /// When the first line that starts with `prefix` came.
    pub fn time_of(&self, prefix: &str) -> Option<Duration> {
        self.lines.iter().find(|(_, line)| line.starts_with(prefix)).map(|(time, _)| *time)
    }

    /// The rest of the first line that starts with `prefix`.
    pub fn after(&self, prefix: &str) -> Option<&str> {
        self.lines.iter().find_map(|(_, line)| line.strip_prefix(prefix)).map(str::trim)
    }
}

/// The `rx86` binary beside the running test or benchmark, or the one that `RX86_BINARY` names.
pub fn rx86_binary() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os("RX86_BINARY") {
        return Ok(named.into());
    }
    let own = std::env::current_exe()?;
    let name = format!("rx86{}", std::env::consts::EXE_SUFFIX);
    own.ancestors()
        .skip(1)
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file())
        .ok_or_else(|| io::Error::other("the rx86 binary is not built: run `cargo build --release` first"))
}

/// Whether QEMU is installed.
pub fn have_qemu() -> bool {
    Command::new("qemu-system-x86_64").arg("--version").output().is_ok_and(|out| out.status.success())
}

impl Guest {
    /// The command that boots this guest.
    pub fn command(&self, emulator: Emulator) -> io::Result<Command> {
        let mut command = match emulator {
            Emulator::Rx86 | Emulator::Rx86Interpreter => {
                let mut command = Command::new(rx86_binary()?);
                if emulator == Emulator::Rx86Interpreter {
                    command.args(["--engine", "interp"]);
                }
                command.arg("--memory").arg(format!("{}M", self.memory_mib)).args(&self.rx86_args);
                command.arg("--kernel").arg(&self.kernel);
                if let Some(initrd) = &self.initrd {
                    command.arg("--initrd").arg(initrd);
                }
                command
            }
            Emulator::QemuTcg => {
                let mut command = Command::new("qemu-system-x86_64");
                command.args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none"]);
                command.args(["-serial", "stdio", "-no-reboot", "-m"]).arg(format!("{}M", self.memory_mib));
                command.arg("-kernel").arg(&self.kernel);
                if let Some(initrd) = &self.initrd {
                    command.arg("-initrd").arg(initrd);
                }
                command
            }
        };
        command.arg(if emulator == Emulator::QemuTcg { "-append" } else { "--append" }).arg(&self.append);
        Ok(command)
    }

    /// Runs the guest to its end or to the time limit, with nothing on its standard input.
    pub fn run(&self, emulator: Emulator, limit: Duration) -> io::Result<Run> {
        run(self.command(emulator)?, Some(self.memory_mib), limit)
    }
}

/// Runs `command` to its end or to the time limit and keeps its output. With the guest's memory in `memory_mib`, the process's
/// resident set is looked at while it runs, which takes some per cent of a host processor.
pub fn run(command: Command, memory_mib: Option<u64>, limit: Duration) -> io::Result<Run> {
    run_watched(command, memory_mib, limit, |_, _| {})
}

/// As `run`; `watch` gets every line when it arrives, with the time since the start.
pub fn run_watched(
    mut command: Command,
    memory_mib: Option<u64>,
    limit: Duration,
    watch: impl FnMut(Duration, &str) + Send + 'static,
) -> io::Result<Run> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let reader = std::thread::spawn(move || read_lines(stdout, start, watch));
    let error_reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let (status, timed_out, residency) = wait(&mut child, memory_mib, start + limit)?;
    let elapsed = start.elapsed();
    let lines = reader.join().expect("the reader does not panic");
    let errors = error_reader.join().expect("the reader does not panic");
    Ok(Run { status, timed_out, lines, errors, elapsed, residency })
}

fn read_lines(
    mut from: impl Read,
    start: Instant,
    mut watch: impl FnMut(Duration, &str),
) -> Vec<(Duration, String)> {
    let mut lines = Vec::new();
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    let mut end_line = |now, bytes: Vec<u8>| {
        let line = String::from_utf8_lossy(&bytes).into_owned();
        watch(now, &line);
        lines.push((now, line));
    };
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        let now = start.elapsed();
        for &byte in &chunk[..count] {
            match byte {
                b'\n' => end_line(now, std::mem::take(&mut pending)),
                b'\r' => {}
                byte => pending.push(byte),
            }
        }
    }
    if !pending.is_empty() {
        end_line(start.elapsed(), pending);
    }
    lines
}

/// How often the child's resident set is looked at.
const RESIDENCY_PERIOD: Duration = Duration::from_millis(250);

/// Waits for the child; kills it at the deadline.
fn wait(
    child: &mut Child,
    memory_mib: Option<u64>,
    deadline: Instant,
) -> io::Result<(Option<i32>, bool, Option<Residency>)> {
    let mut largest: Option<Residency> = None;
    let mut next_look = Instant::now() + RESIDENCY_PERIOD;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status.code(), false, largest));
        }
        if let Some(memory_mib) = memory_mib
            && Instant::now() >= next_look
        {
            let now = Residency::of(child.id(), memory_mib);
            largest = largest.into_iter().chain(now).max_by_key(|residency| residency.overhead_kib);
            next_look = Instant::now() + RESIDENCY_PERIOD;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok((None, true, largest));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
