//! Which RAM pages hold translated code, and the record of DMA writes into them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use crate::attention::Attention;

const HAS_CODE: u8 = 1 << 0;

/// Flags of every RAM page, and what DMA has changed in pages with code.
#[derive(Debug)]
pub(crate) struct CodeTracking {
    flags: Box<[AtomicU8]>,
    watchers: Mutex<Vec<Attention>>,
    /// First and one-past-last written address, by page address: at most one entry a page, whatever the guest does.
    written: Mutex<BTreeMap<u64, (u64, u64)>>,
}

impl CodeTracking {
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            flags: (0..pages).map(|_| AtomicU8::new(0)).collect(),
            watchers: Mutex::default(),
            written: Mutex::default(),
        }
    }

    pub(crate) fn mark(&self, page: usize) {
        if let Some(flags) = self.flags.get(page) {
            flags.fetch_or(HAS_CODE, Ordering::SeqCst);
        }
        // The translator reads the code's bytes after this, `note_write` reads the flag after writing bytes: with a fence
        // on both sides at least one of them sees the other.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn clear(&self, page: usize) {
        if let Some(flags) = self.flags.get(page) {
            flags.fetch_and(!HAS_CODE, Ordering::SeqCst);
        }
    }

    pub(crate) fn has_code(&self, page: usize) -> bool {
        self.flags.get(page).is_some_and(|flags| flags.load(Ordering::Relaxed) & HAS_CODE != 0)
    }

    pub(crate) fn watch(&self, attention: Attention) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(attention);
    }

    /// Called after `len` bytes at `gpa`, all in RAM page `page`, were written by something other than a vCPU.
    pub(crate) fn note_write(&self, page: usize, gpa: u64, len: u64) {
        fence(Ordering::SeqCst);
        if !self.has_code(page) {
            return;
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let range = written.entry(gpa & !0xfff).or_insert((gpa, gpa + len));
        *range = (range.0.min(gpa), range.1.max(gpa + len));
        drop(written);
        for attention in self.watchers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            attention.raise(Attention::CODE_WRITTEN);
        }
    }

    pub(crate) fn take_writes(&self) -> Vec<(u64, u64)> {
        let written = std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        written.into_values().map(|(start, end)| (start, end - start)).collect()
    }
}
