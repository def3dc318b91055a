//! A few words that many threads read together, without a lock, and few change: a sequence lock.

use crate::sync::{AtomicU64, Mutex, Ordering, fence};
use std::array;
use std::sync::PoisonError;

/// `WORDS` words, of which every look finds those of one moment.
#[derive(Debug)]
pub struct Sequenced<const WORDS: usize> {
    /// Odd while the words change.
    changes: AtomicU64,
    words: [AtomicU64; WORDS],
    /// Held by who changes them.
    change: Mutex<()>,
}

impl<const WORDS: usize> Default for Sequenced<WORDS> {
    /// All words are zero.
    fn default() -> Self {
        Self {
            changes: AtomicU64::new(0),
            words: array::from_fn(|_| AtomicU64::new(0)),
            change: Mutex::new(()),
        }
    }
}

impl<const WORDS: usize> Sequenced<WORDS> {
    fn load(&self) -> [u64; WORDS] {
        array::from_fn(|word| self.words[word].load(Ordering::Relaxed))
    }

    /// What `look` makes of the words. It is called until nobody has begun to change them meanwhile: if it reads a clock, then the
    /// next `change` reads a later time.
    #[inline]
    pub fn look<T>(&self, look: impl Fn([u64; WORDS]) -> T) -> T {
        loop {
            let changes = self.changes.load(Ordering::Acquire);
            if changes.is_multiple_of(2) {
                let seen = look(self.load());
                // With the fence in `change`: who has seen anything of a change sees that there is one.
                fence(Ordering::Acquire);
                if self.changes.load(Ordering::Relaxed) == changes {
                    return seen;
                }
            }
            self.wait();
        }
    }

    /// Until nobody changes the words; who does may have to wait for a host CPU.
    #[cold]
    fn wait(&self) {
        drop(self.change.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Puts what `change` makes of the words in their place. Others who change them wait for that, and so does who looks.
    pub fn change(&self, change: impl FnOnce([u64; WORDS]) -> [u64; WORDS]) {
        let _guard = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.changes.load(Ordering::Relaxed);
        self.changes.store(changes + 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        for (word, new) in self.words.iter().zip(change(self.load())) {
            word.store(new, Ordering::Relaxed);
        }
        self.changes.store(changes + 2, Ordering::Release);
    }
}
