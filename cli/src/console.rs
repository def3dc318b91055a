//! The guest's serial console on the host: standard output, and standard input on a thread of its own.

use crate::escape::{Command, EscapeKey, HELP};
use rx86_devices::serial::SerialSink;
use rx86_softmmu::Attention;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

/// Bytes typed ahead that are kept while the guest does not read; beyond, the reader waits.
const TYPED_AHEAD_BYTES: usize = 64 * 1024;

/// What other threads ask of the machine's thread.
#[derive(Clone)]
pub struct Remote {
    stop: Arc<AtomicBool>,
    typed: Arc<Mutex<Vec<u8>>>,
    attention: Attention,
    machine: Thread,
}

impl Remote {
    /// A remote of the machine that runs on the calling thread and whose vCPU looks at `attention`.
    pub fn new(attention: Attention) -> Self {
        Self { stop: Arc::default(), typed: Arc::default(), attention, machine: std::thread::current() }
    }

    /// Asks the machine to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether somebody has asked the machine to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Takes what was typed since the last call.
    pub fn take_typed(&self) -> Vec<u8> {
        std::mem::take(&mut *self.lock_typed())
    }

    /// Gives back what the guest did not take.
    pub fn untake_typed(&self, rest: &[u8]) {
        self.lock_typed().splice(0..0, rest.iter().copied());
    }

    fn lock_typed(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.typed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wake(&self) {
        self.attention.raise(Attention::KICK);
        self.machine.unpark();
    }

    /// Appends typed bytes; waits while too many are kept.
    fn type_bytes(&self, bytes: &[u8]) {
        while self.lock_typed().len() > TYPED_AHEAD_BYTES && !self.is_stopped() {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        self.lock_typed().extend_from_slice(bytes);
        self.wake();
    }
}

/// What the guest has written and the host has not yet seen.
#[derive(Clone, Default)]
pub struct Output {
    pending: Arc<Mutex<Vec<u8>>>,
}

impl SerialSink for Output {
    fn transmit(&mut self, byte: u8) {
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(byte);
    }
}

impl Output {
    /// Writes what is pending to standard output.
    pub fn flush(&self) -> io::Result<()> {
        let mut pending = self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pending.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut *pending);
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()
    }
}

/// Reads standard input until it ends, on a thread of its own. With a terminal, the escape key is looked for.
pub fn spawn_input(remote: Remote, terminal: bool) {
    std::thread::spawn(move || {
        let mut key = EscapeKey::default();
        let mut chunk = [0; 1024];
        while let Ok(count @ 1..) = io::stdin().read(&mut chunk) {
            if !terminal {
                remote.type_bytes(&chunk[..count]);
                continue;
            }
            let mut guest = Vec::new();
            let command = key.feed(&chunk[..count], &mut guest);
            remote.type_bytes(&guest);
            match command {
                Some(Command::Quit) => return remote.stop(),
                Some(Command::Help) => {
                    let _ = io::stdout().write_all(HELP.as_bytes()).and_then(|()| io::stdout().flush());
                }
                None => {}
            }
        }
    });
}
