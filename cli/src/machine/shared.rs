//! What the threads of a machine's vCPUs share: the board, their attention flags, and whether they are to stop.

use super::Outcome;
use super::clock::GuestClock;
use anyhow::{Error, Result};
use rx86_devices::{Board, BoardRequest, Clock};
use rx86_softmmu::Attention;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by all vCPUs. The first one's thread, the *keeper*, also looks after the chips.
pub(super) struct Shared {
    pub(super) board: Arc<Mutex<Board>>,
    pub(super) clock: Arc<GuestClock>,
    /// By vCPU.
    pub(super) attentions: Vec<Attention>,
    /// External interrupts wait while it is set.
    pub(super) interrupts_held: AtomicBool,
    /// The A20 gate.
    pub(super) a20: AtomicBool,
    /// When the keeper next looks after the chips; written with the board locked.
    pub(super) next_look_ns: AtomicU64,
    /// All vCPUs are to stop, because of `ending`.
    stopping: AtomicBool,
    ending: Mutex<Option<Ending>>,
    /// The vCPUs that only another one could wake, one bit each.
    asleep: AtomicU64,
    /// How often one of those has woken.
    woken: AtomicU64,
    /// Until when the vCPU whose turn it is wants to rest, which gives its turn up; `NO_REST` if it does not.
    rest_until_ns: AtomicU64,
}

const NO_REST: u64 = u64::MAX;

/// Why the vCPUs stop.
#[derive(Debug)]
pub(super) enum Ending {
    /// The guest has asked for it.
    Request(BoardRequest),
    /// Something else, or a failure.
    Outcome(Result<Outcome>),
}

/// A thread that panicked with a lock held has ended the machine anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        board: Board,
        clock: Arc<GuestClock>,
        attentions: Vec<Attention>,
        interrupts_held: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            a20: AtomicBool::new(board.a20()),
            board: Arc::new(Mutex::new(board)),
            clock,
            attentions,
            interrupts_held: AtomicBool::new(interrupts_held),
            next_look_ns: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            ending: Mutex::default(),
            asleep: AtomicU64::new(0),
            woken: AtomicU64::new(0),
            rest_until_ns: AtomicU64::new(NO_REST),
        })
    }

    /// Makes the keeper look up.
    pub(super) fn call_keeper(&self) {
        self.attentions[0].raise(Attention::KICK);
    }

    /// Stops all vCPUs at their next look. The first reason counts.
    pub(super) fn end(&self, ending: Ending) {
        lock(&self.ending).get_or_insert(ending);
        self.stopping.store(true, Ordering::Release);
        for attention in &self.attentions {
            attention.raise(Attention::KICK);
        }
    }

    /// Whether this vCPU is to stop.
    pub(super) fn is_ending(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Takes the reason for stopping, so that the vCPUs may run again.
    pub(super) fn take_ending(&self) -> Option<Ending> {
        self.stopping.store(false, Ordering::Release);
        lock(&self.ending).take()
    }

    /// `cpu`, whose turn it is, gives it up and wants no other for `limit_ns`, or until it is wanted.
    pub(super) fn rest(&self, cpu: usize, limit_ns: u64) {
        let until_ns = self.clock.now_ns().saturating_add(limit_ns).min(NO_REST - 1);
        self.rest_until_ns.store(until_ns, Ordering::Relaxed);
        self.attentions[cpu].raise(Attention::KICK);
    }

    /// Takes the time until which the vCPU whose turn it was wants to rest, if it has given its turn up.
    pub(super) fn take_rest(&self) -> Option<u64> {
        let until_ns = self.rest_until_ns.swap(NO_REST, Ordering::Relaxed);
        (until_ns != NO_REST).then_some(until_ns)
    }

    /// Notes that only another vCPU can wake `cpu`. The keeper looks whether one still can.
    pub(super) fn fall_asleep(&self, cpu: usize) {
        let asleep = self.asleep.fetch_or(1 << cpu, Ordering::SeqCst) | 1 << cpu;
        if cpu != 0 && asleep | 1 == self.all() {
            self.call_keeper();
        }
    }

    /// Notes that `cpu` is awake again.
    pub(super) fn wake_up(&self, cpu: usize) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.asleep.fetch_and(!(1 << cpu), Ordering::SeqCst);
    }

    fn all(&self) -> u64 {
        u64::MAX >> (64 - self.attentions.len())
    }

    /// Whether all vCPUs wait for each other, if the first one does.
    pub(super) fn others_are_asleep(&self) -> bool {
        const WAKES: u32 = Attention::NMI | Attention::INIT | Attention::UNHALT;
        let woken = self.woken.load(Ordering::SeqCst);
        self.asleep.load(Ordering::SeqCst) | 1 == self.all()
            && self.attentions.iter().all(|attention| attention.peek() & WAKES == 0)
            && self.woken.load(Ordering::SeqCst) == woken
    }
}

/// Ends the run if the thread that holds it panics.
pub(super) struct EndOnPanic<'a>(pub(super) &'a Shared);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(Ending::Outcome(Err(Error::msg("a vCPU's thread has panicked"))));
        }
    }
}
