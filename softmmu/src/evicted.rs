//! Translations that had to make room in a view's TLB: the second level, which only the slow path looks into.

use crate::tlb::Origin;

/// Translations kept, direct-mapped by linear address bits 25:12.
const PLACES: usize = 16384;

/// Words of a place: the two of an `Origin`; the epoch, shifted left by one, and whether the page is global.
type Place = [u64; 3];

/// What a view's TLB has forgotten only because another page needed the place. A flush forgets all at once.
#[derive(Debug)]
pub(crate) struct Evicted {
    /// Empty until something is kept.
    places: Box<[Place]>,
    /// Of the places that count; never zero.
    epoch: u64,
}

impl Evicted {
    pub(crate) fn new() -> Self {
        Self { places: Box::default(), epoch: 1 }
    }

    fn place(linear: u64) -> usize {
        (linear >> 12) as usize & (PLACES - 1)
    }

    /// Keeps a translation.
    pub(crate) fn keep(&mut self, origin: Origin, global: bool) {
        if self.places.is_empty() {
            // The host gives memory only to what is used of it.
            self.places = vec![[0; 3]; PLACES].into_boxed_slice();
        }
        let (linear, gpa) = origin.words();
        self.places[Self::place(linear)] = [linear, gpa, self.epoch << 1 | u64::from(global)];
    }

    /// Takes the translation of the page of `linear` out, and whether it is global.
    pub(crate) fn take(&mut self, linear: u64) -> Option<(Origin, bool)> {
        let place = self.places.get_mut(Self::place(linear))?;
        let [kept, gpa, stamp] = *place;
        if (kept ^ linear) >> 12 != 0 || stamp >> 1 != self.epoch {
            return None;
        }
        *place = [0; 3];
        Some((Origin::from_words(kept, gpa), stamp & 1 != 0))
    }

    /// Forgets everything.
    pub(crate) fn flush(&mut self) {
        self.epoch += 1;
    }
}
