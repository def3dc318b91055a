//! Brings a thread back out of KVM_RUN: a signal that does nothing, sent at a steady pace while the guest runs.
//!
//! KVM has no budget of instructions. The machine wants its thread back now and then, for timers and input.

#![expect(unsafe_code, reason = "installs a signal handler and sends signals to one thread")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The pace: how late a timer may be.
const PERIOD: Duration = Duration::from_micros(500);

extern "C" fn do_nothing(_signal: libc::c_int) {}

/// Sends the signal to the thread that created it, while the guest runs.
pub(crate) struct Kicker {
    running: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Kicker {
    /// A kicker for the calling thread.
    pub(crate) fn for_this_thread() -> Self {
        // SAFETY: the handler is an empty function, and an all-zero sigaction is a valid one: no flags (so that a system
        // call returns EINTR) and an empty mask.
        let target = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = do_nothing as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
            libc::pthread_self()
        };
        let running = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let (run, end) = (running.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Acquire) {
                if run.load(Ordering::Acquire) {
                    // SAFETY: the target thread owns this kicker and joins it before it ends.
                    unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                }
                std::thread::sleep(PERIOD);
            }
        });
        Self { running, ended, thread: Some(thread) }
    }

    /// Says whether the thread is in the guest.
    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }
}

impl Drop for Kicker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It only sleeps and sends signals; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}
