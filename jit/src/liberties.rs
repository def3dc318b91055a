//! Which liberties translations may take with memory: one look into the TLB for several accesses, and a stack window. What was
//! in vain too often is given up, by instructions first.

use crate::groups::Reach;
use crate::region::Region;
use crate::worker::Entry;
use rustc_hash::{FxHashMap, FxHashSet};

/// So many looks of an instruction may be in vain before they reach less far.
const MAX_MISSES: u32 = 64;

/// So often a region is translated anew for that before it has no groups at all.
const MAX_CHANGES: u32 = 4;

#[derive(Debug, Default)]
pub(crate) struct Liberties {
    /// By physical addresses of instructions: looks in vain, and how far they still reach.
    instructions: FxHashMap<u64, (u32, Reach)>,
    /// Regions that were translated anew, how often.
    changes: FxHashMap<Entry, u32>,
    windowless: FxHashSet<Entry>,
}

impl Liberties {
    /// Tells the region at `entry` what it may do.
    pub(crate) fn grant(&self, entry: Entry, region: &mut Region) {
        region.grouped = self.changes.get(&entry).is_none_or(|&changes| changes < MAX_CHANGES);
        region.windowed = region.grouped && !self.windowless.contains(&entry);
        region.limits = self.limits(region);
    }

    /// Whether the region at `entry` was granted no more and no less than it would be now.
    pub(crate) fn are_those_of(&self, entry: Entry, region: &Region) -> bool {
        let mut now = Region { limits: Vec::new(), ..Region::of_bytes(&[]) };
        self.grant(entry, &mut now);
        (now.grouped, now.windowed) == (region.grouped, region.windowed)
            && self.limits(region) == region.limits
    }

    fn limits(&self, region: &Region) -> Vec<(u64, Reach)> {
        let is_in = |gpa: u64| {
            let holds = |&(first, bytes): &(u64, u64)| (first..first + bytes).contains(&gpa);
            region.pieces.iter().any(holds)
        };
        let known =
            self.instructions.iter().filter(|&(&gpa, &(_, reach))| reach < Reach::Region && is_in(gpa));
        let mut limits: Vec<(u64, Reach)> = known.map(|(&gpa, &(_, reach))| (gpa, reach)).collect();
        limits.sort_unstable_by_key(|limit| limit.0);
        limits
    }

    /// A look of the instruction at a physical address was in vain; whether it reaches less far from now on.
    pub(crate) fn note_miss(&mut self, gpa: u64) -> bool {
        let (misses, reach) = self.instructions.entry(gpa).or_insert((0, Reach::Region));
        *misses += 1;
        let is_over = *misses > MAX_MISSES;
        if is_over {
            *misses = 0;
            *reach = if *reach == Reach::Region { Reach::Node } else { Reach::Alone };
        }
        is_over
    }

    /// The region at `entry` is translated anew because of that.
    pub(crate) fn note_change(&mut self, entry: Entry) {
        *self.changes.entry(entry).or_default() += 1;
    }

    /// The window of the region at `entry` was in vain; these many times by now. Whether it has none from now on.
    pub(crate) fn note_window_miss(&mut self, entry: Entry, misses: u32) -> bool {
        misses > MAX_MISSES && self.windowless.insert(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rx86_cpu::mode::ModeKey;

    const ENTRY: Entry = (0x1000, ModeKey(0));

    fn region() -> Region {
        Region { pieces: vec![(0x1000, 0x10)], ..Region::of_bytes(&[0x90]) }
    }

    fn miss_too_often(liberties: &mut Liberties, gpa: u64) {
        let over = (0..=MAX_MISSES).filter(|_| liberties.note_miss(gpa)).count();
        assert_eq!(over, 1);
    }

    #[test]
    fn looks_in_vain_reach_less_far_and_those_of_others_do_not() {
        let (mut liberties, mut region) = (Liberties::default(), region());
        liberties.grant(ENTRY, &mut region);
        assert!(region.grouped && region.windowed && region.limits.is_empty());
        miss_too_often(&mut liberties, 0x1004);
        miss_too_often(&mut liberties, 0x1010);
        assert!(!liberties.are_those_of(ENTRY, &region));
        liberties.grant(ENTRY, &mut region);
        assert_eq!(region.limits, [(0x1004, Reach::Node)]);
        assert!(liberties.are_those_of(ENTRY, &region));
        miss_too_often(&mut liberties, 0x1004);
        liberties.grant(ENTRY, &mut region);
        assert_eq!(region.limits, [(0x1004, Reach::Alone)]);
    }

    #[test]
    fn a_region_gives_up_its_window_first_and_then_all() {
        let (mut liberties, mut region) = (Liberties::default(), region());
        assert!(!liberties.note_window_miss(ENTRY, MAX_MISSES));
        assert!(liberties.note_window_miss(ENTRY, MAX_MISSES + 1));
        liberties.grant(ENTRY, &mut region);
        assert!(region.grouped && !region.windowed);
        (0..MAX_CHANGES).for_each(|_| liberties.note_change(ENTRY));
        liberties.grant(ENTRY, &mut region);
        assert!(!region.grouped);
    }
}
