//! Which bytes of guest memory hold decoded code: what a store must look at to notice self-modifying code.

use rustc_hash::FxHashMap;

/// Bytes covered by one bit of a page's mask.
const GRANULE_BYTES: u64 = 64;

/// For each page with decoded code, the 64-byte granules that code came from, and the writes that have hit them.
#[derive(Default)]
pub struct CodeMap {
    granules: FxHashMap<u64, u64>,
    written: Vec<(u64, u64)>,
    /// How often a page was left without code.
    emptied: FxHashMap<u64, u32>,
}

/// A page that was left without code more often is expected to get some again.
const EMPTIED_OFTEN: u32 = 16;

/// The mask of the granules that `bytes` at offset `start` of a page touch; clipped to the page.
fn granule_mask(start: u64, bytes: u64) -> u64 {
    let first = start / GRANULE_BYTES;
    let last = (start + bytes - 1).min(4095) / GRANULE_BYTES;
    (u64::MAX >> (63 - (last - first))) << first
}

impl CodeMap {
    /// Records that the page of `gpa` is about to be decoded from. Returns whether it is new.
    pub fn open_page(&mut self, gpa: u64) -> bool {
        let known = self.granules.len();
        self.granules.entry(gpa >> 12).or_insert(0);
        self.granules.len() != known
    }

    /// Whether stores to the page of `gpa` are noticed.
    pub fn is_open(&self, gpa: u64) -> bool {
        self.granules.contains_key(&(gpa >> 12))
    }

    /// Records that `bytes` at `gpa`, within one page, have been decoded.
    pub fn add(&mut self, gpa: u64, bytes: u64) {
        *self.granules.entry(gpa >> 12).or_insert(0) |= granule_mask(gpa & 0xfff, bytes);
    }

    /// Records a write of `bytes` (at least one) at `gpa`. Returns whether it touched decoded code.
    pub fn note_write(&mut self, gpa: u64, bytes: u64) -> bool {
        let mut touched = false;
        let end = gpa + bytes;
        let mut at = gpa;
        while at < end {
            let len = (4096 - (at & 0xfff)).min(end - at);
            if let Some(&mask) = self.granules.get(&(at >> 12))
                && mask & granule_mask(at & 0xfff, len) != 0
            {
                self.record(at, len);
                touched = true;
            }
            at += len;
        }
        touched
    }

    /// Whether decoded code may be among `bytes` bytes at `gpa`, all in one page.
    pub fn has_code(&self, gpa: u64, bytes: u64) -> bool {
        let mask = self.granules.get(&(gpa >> 12)).copied().unwrap_or(0);
        mask & granule_mask(gpa & 0xfff, bytes) != 0
    }

    /// Keeps a write for `take_writes`; one that goes on where the last one ended makes that one longer.
    fn record(&mut self, at: u64, len: u64) {
        match self.written.last_mut() {
            Some((start, bytes)) if *start + *bytes == at && *start >> 12 == at >> 12 => *bytes += len,
            _ => self.written.push((at, len)),
        }
    }

    /// Whether a write that waits to be taken has changed one of `bytes` bytes at `gpa`.
    pub fn has_write_in(&self, gpa: u64, bytes: u64) -> bool {
        self.written.iter().any(|&(at, len)| at < gpa + bytes && gpa < at + len)
    }

    /// Whether writes to decoded code wait to be taken.
    pub fn has_writes(&self) -> bool {
        !self.written.is_empty()
    }

    /// Takes the writes to decoded code, each within one page.
    pub fn take_writes(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.written)
    }

    /// Replaces the granules of a page after blocks were dropped from it. Returns whether there are any.
    pub fn set_page(&mut self, page: u64, blocks: impl Iterator<Item = (u64, u64)>) -> bool {
        let mask = blocks.fold(0, |mask, (gpa, bytes)| mask | granule_mask(gpa & 0xfff, bytes));
        self.granules.insert(page, mask);
        mask != 0
    }

    /// Forgets a page of which nothing is decoded any more, unless that happens to it all the time. Returns whether it did.
    pub fn forget(&mut self, page: u64) -> bool {
        let times = self.emptied.entry(page).or_insert(0);
        *times = times.saturating_add(1);
        let forgotten = *times <= EMPTIED_OFTEN;
        if forgotten {
            self.granules.remove(&page);
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_to_decoded_granules_count() {
        let mut map = CodeMap::default();
        assert!(map.open_page(0x1040));
        assert!(!map.open_page(0x1000));
        map.add(0x1040, 10);
        map.add(0x10c0, 1);
        assert!(!map.note_write(0x1000, 64));
        assert!(!map.note_write(0x1080, 64));
        assert!(map.note_write(0x107f, 1));
        assert!(map.note_write(0xff0, 0x60));
        assert!(map.has_write_in(0x1078, 8) && !map.has_write_in(0x1080, 8));
        assert_eq!(map.take_writes(), vec![(0x107f, 1), (0x1000, 0x50)]);
        assert!(map.note_write(0x1040, 8) && map.note_write(0x1048, 8) && map.note_write(0x10c0, 8));
        assert_eq!(map.take_writes(), vec![(0x1040, 16), (0x10c0, 8)]);
        assert!(!map.set_page(1, std::iter::empty()));
        assert!(!map.note_write(0x107f, 1));
    }

    #[test]
    fn a_page_that_is_rewritten_all_the_time_stays_open() {
        let mut map = CodeMap::default();
        for _ in 0..EMPTIED_OFTEN {
            assert!(map.open_page(0x1000));
            assert!(map.forget(1));
        }
        assert!(map.open_page(0x1000));
        assert!(!map.forget(1));
        assert!(!map.open_page(0x1000));
        map.add(0x1040, 10);
        assert!(map.note_write(0x1040, 1));
    }
}
