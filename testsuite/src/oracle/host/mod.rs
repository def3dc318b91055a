//! The host CPU as an oracle: programs run in a child process, which may die without taking anybody along.
//!
//! The child is forked, not started anew, so that every test binary has it at hand. From the fork on it uses system calls
//! only. Programs and outcomes are in memory that both processes share; two pipes say whose turn it is.
#![expect(unsafe_code, reason = "forks, shares memory with the child and makes system calls")]

mod child;

use super::{CODE_BYTES, CODE_MAX, DATA_BYTES, Ending, Mode, Oracle, Outcome, Program, State};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Programs that are handed over at once.
const BATCH: usize = 128;

/// One program on its way there and back.
#[repr(C)]
struct Slot {
    state: State,
    memory: [u8; DATA_BYTES],
    ending: Ending,
    mode: Mode,
    at: usize,
    code_len: usize,
    code: [u8; CODE_MAX],
}

/// What parent and child share.
#[repr(C)]
struct Exchange {
    count: AtomicU32,
    /// Programs that are done, counted by the child.
    done: AtomicU32,
    slots: [Slot; BATCH],
}

/// The host CPU.
pub struct HostOracle {
    exchange: *mut Exchange,
    child: Option<Child>,
}

struct Child {
    pid: libc::pid_t,
    to: i32,
    from: i32,
}

impl HostOracle {
    /// Starts the child process.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping; nothing else is touched.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Exchange>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut oracle = Self { exchange: address.cast(), child: None };
        oracle.start()?;
        Ok(oracle)
    }

    fn start(&mut self) -> io::Result<()> {
        let (to_read, to_write) = pipe()?;
        let (from_read, from_write) = pipe()?;
        // SAFETY: the child runs `child::serve` alone, which makes system calls only and never returns.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            close(to_write);
            close(from_read);
            child::serve(self.exchange, to_read, from_write);
        }
        close(to_read);
        close(from_write);
        self.child = Some(Child { pid, to: to_write, from: from_read });
        Ok(())
    }

    /// Ends the child.
    fn stop(&mut self) {
        if let Some(child) = self.child.take() {
            close(child.to);
            close(child.from);
            // SAFETY: the process is our own child, not yet waited for.
            unsafe {
                libc::kill(child.pid, libc::SIGKILL);
                libc::waitpid(child.pid, ptr::null_mut(), 0);
            }
        }
    }

    fn put(&mut self, index: usize, program: &Program) {
        assert!(program.code.len() <= CODE_MAX && program.at + program.code.len() <= CODE_BYTES);
        // SAFETY: the slot is within the mapping, and the child waits for its turn.
        let slot = unsafe { &mut (*self.exchange).slots[index] };
        slot.state = program.state.clone();
        slot.memory.copy_from_slice(&program.memory);
        slot.mode = program.mode;
        slot.at = program.at;
        slot.code_len = program.code.len();
        slot.code[..program.code.len()].copy_from_slice(&program.code);
    }

    fn take(&self, index: usize) -> Outcome {
        // SAFETY: as in `put`; the child leaves a valid `Slot`.
        let slot = unsafe { &(*self.exchange).slots[index] };
        let mut state = slot.state.clone();
        if slot.mode != Mode::Bits64 {
            state.narrow();
        }
        Outcome { state, memory: slot.memory.to_vec(), ending: slot.ending }
    }

    /// Lets the child work. Returns how many of the programs it has done.
    fn hand_over(&mut self, count: usize) -> usize {
        // SAFETY: the counters are atomic and within the mapping.
        let (todo, done) = unsafe { (&(*self.exchange).count, &(*self.exchange).done) };
        todo.store(count as u32, Ordering::SeqCst);
        done.store(0, Ordering::SeqCst);
        if let Some(child) = &self.child {
            let mut byte = [0u8];
            // SAFETY: one byte is written from and read into a local buffer.
            let answered = unsafe {
                libc::write(child.to, byte.as_ptr().cast(), 1) == 1
                    && libc::read(child.from, byte.as_mut_ptr().cast(), 1) == 1
            };
            if !answered {
                self.stop();
            }
        }
        done.load(Ordering::SeqCst) as usize
    }
}

impl Oracle for HostOracle {
    fn name(&self) -> &'static str {
        "host"
    }

    fn run(&mut self, programs: &[Program]) -> Vec<Option<Outcome>> {
        let mut outcomes = Vec::with_capacity(programs.len());
        while outcomes.len() < programs.len() {
            if self.child.is_none() && self.start().is_err() {
                outcomes.resize(programs.len(), None);
                break;
            }
            let batch = &programs[outcomes.len()..];
            let batch = &batch[..batch.len().min(BATCH)];
            for (index, program) in batch.iter().enumerate() {
                self.put(index, program);
            }
            let done = self.hand_over(batch.len());
            outcomes.extend((0..done).map(|index| Some(self.take(index))));
            if done < batch.len() {
                // This is the one that the child died of, or that did not end.
                outcomes.push(None);
                self.stop();
            }
        }
        outcomes
    }
}

impl Drop for HostOracle {
    fn drop(&mut self) {
        self.stop();
        // SAFETY: the mapping is ours, and nobody uses it any more.
        unsafe { libc::munmap(self.exchange.cast(), size_of::<Exchange>()) };
    }
}

fn pipe() -> io::Result<(i32, i32)> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two integers into the array.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((ends[0], ends[1]))
}

fn close(fd: i32) {
    // SAFETY: the descriptor is ours.
    unsafe { libc::close(fd) };
}
