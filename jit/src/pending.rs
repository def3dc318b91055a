//! The regions that are being translated: their code may be written meanwhile.

use crate::region::Region;
use rustc_hash::FxHashMap;
use rx86_cpu::mode::ModeKey;
use std::sync::Arc;

/// A translation under way.
pub(crate) struct Pending {
    pub(crate) gpa: u64,
    pub(crate) mode: ModeKey,
    pub(crate) region: Arc<Region>,
}

/// All of them, by the number of their job.
#[derive(Default)]
pub(crate) struct PendingRegions {
    by_number: FxHashMap<u64, Pending>,
    /// How many pieces of code each physical page has in them.
    pages: FxHashMap<u64, u32>,
}

impl PendingRegions {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(crate) fn insert(&mut self, number: u64, pending: Pending) {
        for &(gpa, _) in &pending.region.pieces {
            *self.pages.entry(gpa >> 12).or_insert(0) += 1;
        }
        self.by_number.insert(number, pending);
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Pending> {
        let pending = self.by_number.remove(&number)?;
        for &(gpa, _) in &pending.region.pieces {
            let page = gpa >> 12;
            let count = self.pages.get(&page).copied().unwrap_or(0);
            match count {
                0 | 1 => self.pages.remove(&page),
                _ => self.pages.insert(page, count - 1),
            };
        }
        Some(pending)
    }

    /// The job for the region that begins at a physical address in a mode.
    pub(crate) fn find(&self, gpa: u64, mode: ModeKey) -> Option<(u64, &Arc<Region>)> {
        let is_asked = |(_, pending): &(&u64, &Pending)| (pending.gpa, pending.mode) == (gpa, mode);
        self.by_number.iter().find(is_asked).map(|(&number, pending)| (number, &pending.region))
    }

    /// Removes the regions with code in `bytes` at `gpa`, within one page; returns their jobs.
    pub(crate) fn remove_overlapping(&mut self, gpa: u64, bytes: u64) -> Vec<u64> {
        if !self.pages.contains_key(&(gpa >> 12)) {
            return Vec::new();
        }
        let is_hit = |(_, pending): &(&u64, &Pending)| overlaps(&pending.region.pieces, gpa, bytes);
        let hit: Vec<u64> = self.by_number.iter().filter(is_hit).map(|(&number, _)| number).collect();
        for &number in &hit {
            self.remove(number);
        }
        hit
    }

    /// The pieces of code in a physical page.
    pub(crate) fn pieces_of_page(&self, page: u64) -> Vec<(u64, u64)> {
        if !self.pages.contains_key(&page) {
            return Vec::new();
        }
        let pieces = self.by_number.values().flat_map(|pending| &pending.region.pieces);
        pieces.copied().filter(|&(gpa, _)| gpa >> 12 == page).collect()
    }
}

/// Whether any of `pieces` overlaps `bytes` at `gpa`.
pub(crate) fn overlaps(pieces: &[(u64, u64)], gpa: u64, bytes: u64) -> bool {
    pieces.iter().any(|&(at, length)| at < gpa + bytes && gpa < at + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(gpa: u64, pieces: &[(u64, u64)]) -> Pending {
        let region = Region { pieces: pieces.to_vec(), ..Region::of_bytes(&[]) };
        Pending { gpa, mode: ModeKey::default(), region: Arc::new(region) }
    }

    #[test]
    fn regions_are_found_by_what_is_written() {
        let mut regions = PendingRegions::default();
        regions.insert(1, pending(0x1000, &[(0x1000, 16), (0x1040, 16), (0x2000, 4)]));
        regions.insert(2, pending(0x1020, &[(0x1020, 16)]));
        assert_eq!(regions.find(0x1020, ModeKey::default()).map(|found| found.0), Some(2));
        assert_eq!(regions.pieces_of_page(2), [(0x2000, 4)]);
        assert!(regions.remove_overlapping(0x1010, 16).is_empty());
        assert_eq!(regions.remove_overlapping(0x2003, 8), [1]);
        assert!(regions.pieces_of_page(2).is_empty());
        assert_eq!(regions.pieces_of_page(1), [(0x1020, 16)]);
        assert!(regions.remove(1).is_none() && regions.remove(2).is_some() && regions.is_empty());
        assert!(regions.pages.is_empty());
    }
}
