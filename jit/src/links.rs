//! Links: slots through which quick translations go straight on in others, and which they find by number.
//!
//! A way out whose target is fixed jumps to what its slot holds. At first that is the function that looks where it leads; then,
//! if no check is needed on the way, the other translation. None is needed within a page, whose mapping was the source's key;
//! nor in the upper half of the address space while its mapping stays as it is, for a source that is entered at one address.
//! Whatever takes a translation from those that can be found takes the links to it, too.

use crate::context::Call;
use crate::installed::{Directory, Installed};
use crate::thunks::Thunks;
use rustc_hash::FxHashSet;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::interp::tier::TranslationId;

/// The number of a slot.
pub(crate) type SlotNumber = u32;

/// The slots of a quick translation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    /// Where its calls are.
    pub(crate) calls: Option<SlotNumber>,
    /// Each way out with a fixed target: where that is from the translation's first byte.
    pub(crate) ways: Vec<(SlotNumber, i64)>,
}

/// What is known of the way out whose slot it is.
#[derive(Clone, Copy, Debug)]
struct Way {
    from: TranslationId,
    offset: i64,
    /// The translation that the slot was set for.
    to: Option<TranslationId>,
    /// It leads to another page, and depends on the mapping of the upper half.
    is_far: bool,
}

/// All slots.
#[derive(Debug)]
pub(crate) struct Links {
    /// Addresses, of host code or of `Call`s.
    slots: Vec<u64>,
    ways: Vec<Option<Way>>,
    free: Vec<SlotNumber>,
    /// Slots that may be far ways'.
    far: FxHashSet<SlotNumber>,
    /// The generation of the upper half's mapping that they hold for.
    generation: u64,
    /// The function that looks where a way leads.
    look: u64,
    /// What goes on at any RIP.
    dispatch: u64,
}

impl Links {
    /// None yet, for code that uses these functions.
    pub(crate) fn of(thunks: &Thunks) -> Self {
        Self {
            slots: Vec::new(),
            ways: Vec::new(),
            free: Vec::new(),
            far: FxHashSet::default(),
            generation: 0,
            look: thunks.link().expose_provenance() as u64,
            dispatch: thunks.quick_dispatch().expose_provenance() as u64,
        }
    }

    pub(crate) fn as_ptr(&self) -> *const u64 {
        self.slots.as_ptr()
    }

    /// A slot that nobody uses.
    pub(crate) fn allocate(&mut self) -> SlotNumber {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(0);
            self.ways.push(None);
            self.slots.len() as SlotNumber - 1
        })
    }

    /// The slots are those of this translation from now on, which has these calls.
    pub(crate) fn open(&mut self, slots: &Slots, from: TranslationId, calls: &[Call]) {
        if let Some(number) = slots.calls {
            self.slots[number as usize] = calls.as_ptr().expose_provenance() as u64;
        }
        for &(number, offset) in &slots.ways {
            self.ways[number as usize] = Some(Way { from, offset, to: None, is_far: false });
            self.slots[number as usize] = self.look;
        }
    }

    /// Nobody uses the slots any more.
    pub(crate) fn close(&mut self, slots: &Slots) {
        for number in slots.calls.into_iter().chain(slots.ways.iter().map(|way| way.0)) {
            self.free(number);
        }
    }

    pub(crate) fn free(&mut self, number: SlotNumber) {
        self.ways[number as usize] = None;
        self.free.push(number);
    }

    /// The translation that a slot was set for.
    fn target(&self, number: SlotNumber) -> Option<TranslationId> {
        self.ways[number as usize]?.to
    }

    /// Where a slot leads has to be looked for anew, if it was set for `target`.
    fn forget(&mut self, number: SlotNumber, target: TranslationId) {
        if let Some(way) = self.ways[number as usize].as_mut().filter(|way| way.to == Some(target)) {
            way.to = None;
            self.slots[number as usize] = self.look;
        }
    }

    /// Where far ways lead has to be looked for anew if the mapping of the upper half is not of this generation.
    #[inline]
    pub(crate) fn settle(&mut self, generation: u64) {
        if generation != self.generation {
            self.generation = generation;
            self.forget_far();
        }
    }

    #[cold]
    fn forget_far(&mut self) {
        for number in std::mem::take(&mut self.far) {
            if let Some(Way { to: Some(target), is_far: true, .. }) = self.ways[number as usize] {
                self.forget(number, target);
            }
        }
    }

    /// Has a slot lead to `code` of a translation, or where that is None through the function that looks at RIP.
    fn set(&mut self, number: SlotNumber, to: TranslationId, code: Option<u64>, is_far: bool) {
        let Some(way) = &mut self.ways[number as usize] else { return };
        (way.to, way.is_far) = (Some(to), is_far);
        if is_far {
            self.far.insert(number);
        }
        self.slots[number as usize] = code.unwrap_or(self.dispatch);
    }
}

impl Directory {
    /// Finds where the way out with this slot leads, which is to RIP, whose physical address is `gpa`: the host address to go
    /// on at. From now on the slot holds it.
    pub(crate) fn connect(&mut self, number: SlotNumber, gpa: u64, cpu: &mut Cpu) -> Option<u64> {
        let rip = cpu.state.rip();
        let to = self.find(gpa, cpu.mode())?;
        self.enter(to, cpu).ok()?;
        self.links.settle(cpu.mmu.generation(u64::MAX));
        let Way { from, offset, .. } = self.links.ways[number as usize]?;
        let (source, target) = (self.get(from)?, self.get(to)?);
        let entry = rip.wrapping_sub(offset as u64);
        let is_only_there = !source.is_anywhere && source.remembered == [entry];
        let is_near = rip >> 12 == entry >> 12 && target.origin_at(rip).is_some();
        let is_far = !is_near && is_only_there && rip >> 63 != 0;
        let needs_no_look =
            is_far || is_near && (is_only_there || reaches_no_farther(target, source, entry, offset));
        let code = target.within().filter(|_| needs_no_look);
        if code.is_some() && !is_only_there {
            self.expect_anywhere(to);
        }
        let target = self.get_mut(to)?;
        if !target.linked_from.contains(&number) {
            target.linked_from.push(number);
        }
        self.links.set(number, to, code, is_far);
        Some(code.unwrap_or(self.links.dispatch))
    }

    /// The translation may be entered at addresses that nobody has noted. So may those that it leads to.
    fn expect_anywhere(&mut self, id: TranslationId) {
        let Some(installed) = self.get_mut(id) else { return };
        if !std::mem::replace(&mut installed.is_anywhere, true) {
            self.forget_ways(id);
        }
    }

    /// Where the ways of a translation lead has to be looked for anew.
    pub(crate) fn forget_ways(&mut self, id: TranslationId) {
        let Some(source) = self.get_mut(id) else { return };
        let slots = std::mem::take(&mut source.slots);
        for &(number, _) in &slots.ways {
            let Some(to) = self.links.target(number) else { continue };
            self.links.forget(number, to);
            if let Some(target) = self.get_mut(to) {
                target.linked_from.retain(|&other| other != number);
            }
        }
        if let Some(source) = self.get_mut(id) {
            source.slots = slots;
        }
    }

    /// Where all ways that lead to a translation lead, and all of its own, has to be looked for anew.
    pub(crate) fn disconnect(&mut self, id: TranslationId) {
        let Some(target) = self.get_mut(id) else { return };
        target.is_anywhere = false;
        for number in std::mem::take(&mut target.linked_from) {
            self.links.forget(number, id);
        }
        self.forget_ways(id);
    }
}

/// Whether all that the target jumps to unchecked is canonical wherever what the source does is, which begins at `entry`,
/// `offset` bytes before it in the same page.
fn reaches_no_farther(target: &Installed, source: &Installed, entry: u64, offset: i64) -> bool {
    let page = -((entry & 0xfff) as i64);
    let (least, greatest) = (source.extent.0.min(page), source.extent.1.max(page + 0xfff));
    least <= target.extent.0.saturating_add(offset) && target.extent.1.saturating_add(offset) <= greatest
}
