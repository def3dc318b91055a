//! A QEMU process (TCG, a processor and memory, no board) that is driven through its debugger stub. Its guest memory is a
//! file that this process reads and writes too.

use super::gdb::{GdbClient, Stop};
use super::registers::{GDB_RIP, Registers};
use anyhow::{Context, Result, bail};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The program, found through PATH.
const PROGRAM: &str = "qemu-system-x86_64";

/// A running QEMU whose processor stands still except while a method lets it run.
pub struct Qemu {
    child: Child,
    gdb: GdbClient,
    memory: File,
    memory_path: PathBuf,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.memory_path);
    }
}

impl Qemu {
    /// Starts QEMU in its power-on state with `memory_bytes` of zeroed memory at address zero. None if this host has no
    /// QEMU.
    pub fn start(memory_bytes: u64) -> Result<Option<Self>> {
        // Without its local APIC: nothing but the program decides what this processor does.
        Self::start_processor(memory_bytes, "max,-apic,apic-id=0")
    }

    /// The same with a local APIC.
    pub fn start_with_local_apic(memory_bytes: u64) -> Result<Option<Self>> {
        Self::start_processor(memory_bytes, "max,apic-id=0")
    }

    fn start_processor(memory_bytes: u64, processor: &str) -> Result<Option<Self>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rx86-diff-{}-{number}.ram", std::process::id());
        let memory_path = memory_folder().join(name);
        let made = OpenOptions::new().read(true).write(true).create_new(true).open(&memory_path);
        let memory = made.with_context(|| {
            format!("cannot make QEMU's guest memory '{}'; is TMPDIR writable?", memory_path.display())
        })?;
        memory.set_len(memory_bytes).context("cannot give QEMU its guest memory")?;
        let backend = format!(
            "memory-backend-file,id=ram,size={memory_bytes},share=on,mem-path={}",
            memory_path.display().to_string().replace(',', ",,")
        );
        let spawned = Command::new(PROGRAM)
            .args(["-accel", "tcg", "-machine", "none,memory-backend=ram", "-object", &backend])
            .args(["-m", &format!("{}k", memory_bytes / 1024)])
            .args(["-cpu", processor, "-nodefaults", "-display", "none", "-S", "-gdb", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                let _ = fs::remove_file(&memory_path);
                if error.kind() == ErrorKind::NotFound {
                    return Ok(None);
                }
                return Err(error).with_context(|| format!("cannot start {PROGRAM}"));
            }
        };
        let (Some(output), Some(input)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{PROGRAM} was started without its pipes");
        };
        let mut qemu = Self { child, gdb: GdbClient::new(input, output), memory, memory_path };
        // Announces that the client knows the x86 registers, without which a stub may send a shorter list.
        qemu.gdb.command("qSupported:xmlRegisters=i386").with_context(|| {
            format!("{PROGRAM} does not start; it must know '-machine none' and '-cpu max'")
        })?;
        qemu.gdb.command("qXfer:features:read:target.xml:0,ffb")?;
        // Memory packets take physical addresses.
        qemu.gdb.command("Qqemu.PhyMemMode:1")?;
        Ok(Some(qemu))
    }

    /// The debugger's connection.
    pub fn gdb(&mut self) -> &mut GdbClient {
        &mut self.gdb
    }

    /// All registers that the stub knows.
    pub fn registers(&mut self) -> Result<Registers> {
        Registers::from_packet(&self.gdb.registers()?)
    }

    /// RIP, EIP or IP.
    pub fn rip(&mut self) -> Result<u64> {
        let answer = self.gdb.command(&format!("p{GDB_RIP:x}"))?;
        let big_endian = u64::from_str_radix(&answer, 16).context("the debugger stub does not know RIP")?;
        Ok(big_endian.swap_bytes())
    }

    /// Executes one instruction, or delivers the exception that it raises.
    pub fn step(&mut self) -> Result<()> {
        match self.gdb.step()? {
            Stop::Trap => Ok(()),
            stop => bail!("QEMU did not execute one instruction: {stop:?}"),
        }
    }

    /// Runs to a breakpoint that is set already; false if that takes longer than `limit`. The instruction at RIP must not
    /// have one.
    pub fn resume(&mut self, limit: Duration) -> Result<bool> {
        Ok(self.gdb.resume(limit)? == Stop::Trap)
    }

    /// Runs to the next execution of the instruction at `linear`; false if that takes longer than `limit`. The instruction
    /// at RIP must not be that one.
    pub fn run_to(&mut self, linear: u64, limit: Duration) -> Result<bool> {
        self.gdb.insert_breakpoint(linear)?;
        let stop = self.gdb.resume(limit)?;
        self.gdb.remove_breakpoint(linear)?;
        Ok(stop == Stop::Trap)
    }

    /// Runs through several executions of the instruction at `linear`, `distances` instructions apart, to the last one.
    /// `stands_there`: the instruction at RIP is that one. False if it takes longer than `limit` to one of them.
    pub fn run_through(
        &mut self,
        linear: u64,
        distances: &[usize],
        mut stands_there: bool,
        limit: Duration,
    ) -> Result<bool> {
        if let [1] = distances {
            return self.step().map(|()| true);
        }
        if distances.is_empty() {
            return Ok(true);
        }
        self.gdb.insert_breakpoint(linear)?;
        let mut arrived = true;
        for &distance in distances {
            if stands_there {
                // A breakpoint stops what stands on it.
                self.step()?;
            }
            if !(stands_there && distance == 1) {
                arrived = self.gdb.resume(limit)? == Stop::Trap;
            }
            stands_there = true;
            if !arrived {
                break;
            }
        }
        self.gdb.remove_breakpoint(linear)?;
        Ok(arrived)
    }

    /// Reads guest physical memory.
    pub fn read(&mut self, gpa: u64, data: &mut [u8]) -> Result<()> {
        self.memory.seek(SeekFrom::Start(gpa))?;
        self.memory.read_exact(data).with_context(|| format!("QEMU has no memory at {gpa:#x}"))
    }

    /// Writes guest physical memory that QEMU has not executed from.
    pub fn write(&mut self, gpa: u64, data: &[u8]) -> Result<()> {
        self.memory.seek(SeekFrom::Start(gpa))?;
        self.memory.write_all(data).with_context(|| format!("cannot write QEMU's memory at {gpa:#x}"))
    }

    /// Reads memory at a linear address.
    pub fn read_linear(&mut self, linear: u64, bytes: usize) -> Result<Vec<u8>> {
        self.gdb.command("Qqemu.PhyMemMode:0")?;
        let data = self.gdb.read_memory(linear, bytes);
        self.gdb.command("Qqemu.PhyMemMode:1")?;
        data
    }

    /// Writes memory at a linear address.
    pub fn write_linear(&mut self, linear: u64, data: &[u8]) -> Result<()> {
        self.gdb.command("Qqemu.PhyMemMode:0")?;
        self.gdb.write_memory(linear, data)?;
        self.gdb.command("Qqemu.PhyMemMode:1").map(drop)
    }

    /// Writes guest physical memory, and makes QEMU forget what it has translated from there.
    pub fn write_code(&mut self, gpa: u64, data: &[u8]) -> Result<()> {
        self.gdb.write_memory(gpa, data)
    }
}

/// Where the memory file lies: in memory if the host has such a folder.
fn memory_folder() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}
