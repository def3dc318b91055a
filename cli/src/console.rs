//! The guest's serial console on the host: standard output, and standard input on a thread of its own.

use crate::escape::{Command, EscapeKey, HELP};
use rx86_devices::serial::SerialSink;
use rx86_softmmu::Attention;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes typed ahead that are kept while the guest does not read; beyond, the reader waits.
const TYPED_AHEAD_BYTES: usize = 64 * 1024;
/// How long a non-blocking stream is left alone before it is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// What other threads ask of the machine's thread.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
    attention: Attention,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    typed: Mutex<VecDeque<u8>>,
    /// `typed` has become shorter, or the machine is to stop.
    room: Condvar,
}

impl Remote {
    /// A remote of the machine whose first vCPU looks at `attention`.
    pub fn new(attention: Attention) -> Self {
        Self { shared: Arc::default(), attention }
    }

    /// Asks the machine to stop.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        // Under the lock the reader either has seen the flag or waits already.
        drop(lock(&self.shared.typed));
        self.shared.room.notify_all();
        self.wake();
    }

    /// Whether somebody has asked the machine to stop.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Offers what was typed to `take`, which returns how many bytes it took; the rest is kept.
    pub fn hand_over(&self, take: impl FnOnce(&[u8]) -> usize) {
        let mut typed = lock(&self.shared.typed);
        if typed.is_empty() {
            return;
        }
        let taken = take(typed.as_slices().0);
        typed.drain(..taken);
        self.shared.room.notify_all();
    }

    fn wake(&self) {
        self.attention.raise(Attention::KICK);
    }

    /// Appends typed bytes; waits while too many are kept.
    pub fn type_bytes(&self, bytes: &[u8]) {
        let mut typed = lock(&self.shared.typed);
        while typed.len() > TYPED_AHEAD_BYTES && !self.is_stopped() {
            typed = self.shared.room.wait(typed).unwrap_or_else(PoisonError::into_inner);
        }
        typed.extend(bytes);
        drop(typed);
        self.wake();
    }
}

/// The bytes behind a lock are whole at any time, whatever their holder was doing when it panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the guest has written and the host has not yet seen.
#[derive(Clone, Default)]
pub struct Output {
    pending: Arc<Mutex<Vec<u8>>>,
    /// Held by the thread that writes, so that another one's bytes stay behind.
    turn: Arc<Mutex<()>>,
}

impl SerialSink for Output {
    fn transmit(&mut self, byte: u8) {
        lock(&self.pending).push(byte);
    }
}

impl Output {
    /// Drops what is pending.
    pub fn discard(&self) {
        lock(&self.pending).clear();
    }

    /// Writes what is pending to standard output.
    pub fn flush(&self) -> io::Result<()> {
        if lock(&self.pending).is_empty() {
            return Ok(());
        }
        let _turn = lock(&self.turn);
        let bytes = std::mem::take(&mut *lock(&self.pending));
        write_patiently(&mut io::stdout().lock(), &bytes)
    }
}

/// Writes all bytes and flushes. A standard output that somebody has made non-blocking is tried again until it takes them.
fn write_patiently(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        let outcome = match bytes {
            [] => out.flush().map(|()| 0),
            _ => out.write(bytes),
        };
        match outcome {
            Ok(0) if bytes.is_empty() => return Ok(()),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads standard input until it ends, on a thread of its own. With a terminal, the escape key is looked for, and `quit`
/// called when it asks to.
pub fn spawn_input(remote: Remote, terminal: bool, quit: impl FnOnce(&Remote) + Send + 'static) {
    std::thread::spawn(move || {
        let mut key = EscapeKey::default();
        let mut chunk = [0; 1024];
        loop {
            let mut typed = match io::stdin().read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => &chunk[..count],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(RETRY);
                    continue;
                }
                // A terminal that has gone away: there is no more input.
                Err(_) => return,
            };
            if !terminal {
                remote.type_bytes(typed);
                continue;
            }
            while !typed.is_empty() {
                let mut guest = Vec::new();
                let command = key.feed(&mut typed, &mut guest);
                remote.type_bytes(&guest);
                match command {
                    Some(Command::Quit) => return quit(&remote),
                    Some(Command::Help) => {
                        let _ = write_patiently(&mut io::stdout(), HELP.as_bytes());
                    }
                    None => {}
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a byte at a time, and nothing at every other call.
    #[derive(Default)]
    struct Reluctant {
        taken: Vec<u8>,
        ready: bool,
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.ready = !self.ready;
            if !self.ready {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.taken.extend(&bytes[..1]);
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_output_is_lost_on_a_slow_non_blocking_sink() {
        let mut sink = Reluctant::default();
        write_patiently(&mut sink, b"abc").unwrap();
        assert_eq!(sink.taken, b"abc");
    }

    #[test]
    fn typed_bytes_keep_their_order_when_the_guest_takes_few() {
        let attention = Attention::default();
        let remote = Remote::new(attention.clone());
        remote.type_bytes(b"abcd");
        assert!(attention.peek() & Attention::KICK != 0);
        let mut taken: Vec<u8> = Vec::new();
        remote.hand_over(|typed| {
            taken.extend(&typed[..3]);
            3
        });
        remote.type_bytes(b"ef");
        while taken.len() < 6 {
            remote.hand_over(|typed| {
                taken.extend(typed);
                typed.len()
            });
        }
        assert_eq!(taken, b"abcdef");
    }
}
