//! The guest's serial console on the host: standard output, and standard input on a thread of its own.

use crate::escape::{Command, EscapeKey, HELP};
use crate::machine::Outcome;
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

/// What other threads ask of the machine's threads.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
    /// By vCPU.
    attentions: Arc<[Attention]>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    pause: AtomicBool,
    /// Somebody wants to see the state, for which the machine stands still a moment.
    show: AtomicBool,
    typed: Mutex<VecDeque<u8>>,
    /// `typed` or one of the wishes has changed.
    changed: Condvar,
}

impl Remote {
    /// A remote of the machine whose vCPUs look at `attentions`, of which there is at least one.
    pub fn new(attentions: Vec<Attention>) -> Self {
        Self { shared: Arc::default(), attentions: attentions.into() }
    }

    /// Asks the machine to stop.
    pub fn stop(&self) {
        self.set(&self.shared.stop, true);
    }

    /// Asks the machine to stand still until `resume`: its run ends with `Outcome::Paused`.
    pub fn pause(&self) {
        self.set(&self.shared.pause, true);
    }

    /// Lets the machine go on.
    pub fn resume(&self) {
        self.set(&self.shared.pause, false);
    }

    /// Asks for the state to be shown: the run ends with `Outcome::Paused`, and `take_show` tells why.
    pub fn show_state(&self) {
        self.set(&self.shared.show, true);
    }

    fn set(&self, wish: &AtomicBool, value: bool) {
        wish.store(value, Ordering::Release);
        // Under the lock whoever waits either has seen the flag or waits already.
        drop(lock(&self.shared.typed));
        self.shared.changed.notify_all();
        // Any of them ends the run: the first one may be waiting for a host CPU.
        for attention in &*self.attentions {
            attention.raise(Attention::KICK);
        }
    }

    /// Whether somebody has asked the machine to stop.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Whether the machine is to stand still.
    pub fn is_paused(&self) -> bool {
        self.shared.pause.load(Ordering::Acquire)
    }

    /// Whether the state is to be shown; the wish is fulfilled then.
    pub fn take_show(&self) -> bool {
        self.shared.show.swap(false, Ordering::AcqRel)
    }

    /// How the machine's run is to end, if it is.
    pub fn wish(&self) -> Option<Outcome> {
        if self.is_stopped() {
            return Some(Outcome::Stopped);
        }
        (self.is_paused() || self.shared.show.load(Ordering::Acquire)).then_some(Outcome::Paused)
    }

    /// Waits until the machine is to do anything else than to stand still.
    pub fn wait_until_resumed(&self) {
        let mut typed = lock(&self.shared.typed);
        while self.is_paused() && !self.is_stopped() && !self.shared.show.load(Ordering::Acquire) {
            typed = self.shared.changed.wait(typed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until there are typed bytes, but no longer than `limit`, and no longer than until the run is to end. Returns whether
    /// there are any.
    pub fn wait_for_input(&self, limit: Option<Duration>) -> bool {
        let typed = lock(&self.shared.typed);
        let waits = |typed: &mut VecDeque<u8>| typed.is_empty() && self.wish().is_none();
        let typed = match limit {
            Some(limit) => {
                let waited = self.shared.changed.wait_timeout_while(typed, limit, waits);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.shared.changed.wait_while(typed, waits).unwrap_or_else(PoisonError::into_inner),
        };
        !typed.is_empty() && self.wish().is_none()
    }

    /// Offers what was typed to `take`, which returns how many bytes it took; the rest is kept.
    pub fn hand_over(&self, take: impl FnOnce(&[u8]) -> usize) {
        let mut typed = lock(&self.shared.typed);
        if typed.is_empty() {
            return;
        }
        let taken = take(typed.as_slices().0);
        typed.drain(..taken);
        self.shared.changed.notify_all();
    }

    /// Appends typed bytes; waits while too many are kept.
    pub fn type_bytes(&self, bytes: &[u8]) {
        let mut typed = lock(&self.shared.typed);
        while typed.len() > TYPED_AHEAD_BYTES && !self.is_stopped() {
            typed = self.shared.changed.wait(typed).unwrap_or_else(PoisonError::into_inner);
        }
        typed.extend(bytes);
        drop(typed);
        self.shared.changed.notify_all();
        self.attentions[0].raise(Attention::KICK);
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

/// What is done with standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputMode {
    /// It is a terminal, on which the escape key is looked for.
    pub terminal: bool,
    /// The guest gets it.
    pub for_guest: bool,
}

/// Reads standard input until it ends, on a thread of its own. `quit` is called when the escape key asks to.
pub fn spawn_input(remote: Remote, mode: InputMode, quit: impl FnOnce(&Remote) + Send + 'static) {
    if mode.terminal || mode.for_guest {
        std::thread::spawn(move || read_input(&remote, mode, quit));
    }
}

fn read_input(remote: &Remote, mode: InputMode, quit: impl FnOnce(&Remote)) {
    let mut key = EscapeKey::default();
    let mut chunk = [0; 1024];
    let mut refused = false;
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
        if !mode.terminal {
            remote.type_bytes(typed);
            continue;
        }
        while !typed.is_empty() {
            let mut guest = Vec::new();
            let command = key.feed(&mut typed, &mut guest);
            if mode.for_guest {
                remote.type_bytes(&guest);
            } else if !guest.is_empty() && !std::mem::replace(&mut refused, true) {
                say(NO_INPUT);
            }
            match command {
                Some(Command::Quit) => return quit(remote),
                Some(Command::Help) => say(HELP),
                Some(Command::Pause) if remote.is_paused() => remote.resume(),
                Some(Command::Pause) => {
                    remote.pause();
                    say(PAUSED);
                }
                Some(Command::ShowState) => remote.show_state(),
                None => {}
            }
        }
    }
}

const NO_INPUT: &str = "\r\nrx86: a deterministic run takes no input; type with --record FILE\r\n";
const PAUSED: &str = "\r\nrx86: paused; Ctrl-A P goes on\r\n";

/// Tells the user something amid the guest's output.
fn say(text: &str) {
    let _ = write_patiently(&mut io::stdout(), text.as_bytes());
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
    fn wishes_are_told_by_their_urgency() {
        let remote = Remote::new(vec![Attention::default()]);
        assert!(remote.wish().is_none());
        remote.show_state();
        assert!(matches!(remote.wish(), Some(Outcome::Paused)));
        assert!(remote.take_show() && !remote.take_show());
        assert!(remote.wish().is_none());
        remote.pause();
        assert!(matches!(remote.wish(), Some(Outcome::Paused)));
        remote.resume();
        remote.wait_until_resumed();
        remote.pause();
        remote.stop();
        assert!(matches!(remote.wish(), Some(Outcome::Stopped)));
        remote.wait_until_resumed();
        remote.type_bytes(b"x");
        assert!(!remote.wait_for_input(None), "the run is to end");
    }

    #[test]
    fn typed_bytes_keep_their_order_when_the_guest_takes_few() {
        let attention = Attention::default();
        let remote = Remote::new(vec![attention.clone()]);
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
