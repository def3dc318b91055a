//! Where values are while a node's code is written: in host registers, or where they can be had from again.

use super::assembler::*;
use super::ir::{Listing, NONE, Opcode, Value, slot};
use super::liveness::Liveness;
use crate::context::JitContext;
use crate::system::SystemField;
use crate::translator::{aux_offset, register_offset, result_offset};
use crate::vector::vector_offset;
use rx86_cpu::state::{Segment, SegmentIndex, Vcpu};
use std::mem::offset_of;

/// Holds the `JitContext`.
pub(super) const CONTEXT: Reg = R15;

/// Holds the address `STATE_BIAS` bytes into the `Vcpu` while translated code executes.
pub(super) const STATE: Reg = RBX;

/// What of the state is used most, flags, registers and RIP, is then within the reach of 8-bit displacements.
pub(super) const STATE_BIAS: i32 = 128;

/// Holds no value from one operation to the next.
pub(super) const TEMPORARY: Reg = R11;

/// Vector registers, all of which hold values, as a set.
const VECTORS: u32 = 0xffff << 16;

/// General registers that hold values.
const ALLOCATABLE: u32 = {
    let mut set = 0;
    let all = [RAX, RCX, RDX, RSI, RDI, R8, R9, R10];
    let mut at = 0;
    while at < all.len() {
        set |= 1 << all[at];
        at += 1;
    }
    set
};

/// Integers, and vectors behind them, that can be put aside on the stack.
const SPILLS: usize = 32;
const VECTOR_SPILLS: usize = 16;

/// The stack for that.
pub(super) const SPILL_BYTES: i32 = spill_offset((SPILLS + VECTOR_SPILLS) as u8);

const fn spill_offset(spill: u8) -> i32 {
    let spill = spill as i32;
    let vectors = spill - SPILLS as i32;
    if vectors < 0 { 8 * spill } else { 8 * SPILLS as i32 + 16 * vectors }
}

/// Where a value can be loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    None,
    Slot(u8),
    Spill(u8),
}

/// There were more values than places for them.
#[derive(Debug)]
pub(super) struct OutOfPlaces;

const NO_REG: Reg = u8::MAX;

/// The allocation's state.
#[derive(Debug)]
pub(super) struct Registers {
    /// What each register holds.
    holds: [Value; 32],
    /// The registers that hold nothing.
    free: u32,
    /// In which register each value is.
    place: Vec<Reg>,
    home: Vec<Home>,
    /// What each slot holds.
    owner: [Value; slot::COUNT],
    spilled: [Value; SPILLS + VECTOR_SPILLS],
}

/// Where a slot is: a register, and the offset from the address that it holds.
pub(super) fn slot_place(number: u8) -> (Reg, i32) {
    match number {
        slot::SHAPE => (CONTEXT, offset_of!(JitContext, flags_shape) as i32),
        slot::LEFT => (CONTEXT, offset_of!(JitContext, flags_left) as i32),
        _ => (STATE, slot_offset(number)),
    }
}

/// The offset of a slot of `Vcpu` from `STATE`.
pub(super) fn slot_offset(number: u8) -> i32 {
    let base = |segment: usize| {
        offset_of!(Vcpu, segments) + segment * size_of::<Segment>() + offset_of!(Segment, base)
    };
    let offset = match number {
        slot::RESULT => result_offset(),
        slot::AUX => aux_offset(),
        slot::FS_BASE => base(SegmentIndex::FS),
        slot::GS_BASE => base(SegmentIndex::GS),
        slot::SYSTEM_FLAGS => SystemField::Flags.offset(),
        slot::KERNEL_GS_BASE => SystemField::KernelGsBase.offset(),
        slot::VECTORS.. => {
            let vector = usize::from(number - slot::VECTORS);
            vector_offset(vector & 15, vector / 16 * 2)
        }
        _ => register_offset(usize::from(number)),
    };
    offset as i32 - STATE_BIAS
}

/// Loads a value from its home.
fn load(asm: &mut Assembler, is_vector: bool, to: Reg, base: Reg, displacement: i32) {
    if is_vector {
        asm.load_vector(128, to, base, displacement)
    } else {
        asm.load(64, to, base, displacement)
    }
}

/// Stores a value to its home.
pub(super) fn store(asm: &mut Assembler, is_vector: bool, base: Reg, displacement: i32, from: Reg) {
    if is_vector {
        asm.store_vector(128, base, displacement, from);
    } else {
        asm.store(64, base, displacement, from);
    }
}

impl Registers {
    pub(super) fn new() -> Self {
        Self {
            holds: [NONE; 32],
            free: ALLOCATABLE | VECTORS,
            place: Vec::new(),
            home: Vec::new(),
            owner: [NONE; slot::COUNT],
            spilled: [NONE; SPILLS + VECTOR_SPILLS],
        }
    }

    /// Begins a node of so many operations: nothing is anywhere.
    pub(super) fn begin_node(&mut self, operations: usize) {
        self.place.clear();
        self.place.resize(operations, NO_REG);
        self.home.clear();
        self.home.resize(operations, Home::None);
        self.forget();
    }

    /// No value is needed any more.
    pub(super) fn forget(&mut self) {
        self.holds = [NONE; 32];
        self.free = ALLOCATABLE | VECTORS;
        self.owner = [NONE; slot::COUNT];
        self.spilled = [NONE; SPILLS + VECTOR_SPILLS];
    }

    /// `value` is what a slot holds.
    pub(super) fn found_in_slot(&mut self, value: Value, number: u8) {
        self.owner[usize::from(number)] = value;
        self.home[usize::from(value)] = Home::Slot(number);
    }

    /// A register that holds nothing, other than those in `locked`, for `value`.
    pub(super) fn allocate(
        &mut self,
        asm: &mut Assembler,
        liveness: &Liveness,
        listing: &Listing,
        value: Value,
        locked: u32,
    ) -> Result<Reg, OutOfPlaces> {
        let all = if listing.is_vector(value) { VECTORS } else { ALLOCATABLE };
        let candidates = all & !locked;
        let reg = match self.free & candidates {
            0 => self.evict(asm, liveness, listing, candidates)?,
            free => free.trailing_zeros() as Reg,
        };
        self.put(value, reg);
        Ok(reg)
    }

    fn put(&mut self, value: Value, reg: Reg) {
        self.free &= !(1 << reg);
        self.holds[usize::from(reg)] = value;
        self.place[usize::from(value)] = reg;
    }

    /// Frees a register of `candidates`: rather one whose value can be had again without being put aside.
    fn evict(
        &mut self,
        asm: &mut Assembler,
        liveness: &Liveness,
        listing: &Listing,
        candidates: u32,
    ) -> Result<Reg, OutOfPlaces> {
        let cost = |reg: Reg| {
            let value = self.holds[usize::from(reg)];
            let again = listing.constant(value).is_some() || self.home[usize::from(value)] != Home::None;
            (!again, Value::MAX - liveness.last_use[usize::from(value)])
        };
        let candidates = (0..32).filter(|reg| candidates >> reg & 1 != 0);
        let reg = candidates.min_by_key(|&reg| cost(reg)).ok_or(OutOfPlaces)?;
        let value = self.holds[usize::from(reg)];
        if cost(reg).0 {
            let is_vector = listing.is_vector(value);
            let places = if is_vector { SPILLS..SPILLS + VECTOR_SPILLS } else { 0..SPILLS };
            let spill = places.into_iter().find(|&spill| self.spilled[spill] == NONE).ok_or(OutOfPlaces)?;
            self.spilled[spill] = value;
            self.home[usize::from(value)] = Home::Spill(spill as u8);
            store(asm, is_vector, RSP, spill_offset(spill as u8), reg);
        }
        self.place[usize::from(value)] = NO_REG;
        Ok(reg)
    }

    /// The register that holds `value`, which is loaded if it must be.
    pub(super) fn locate(
        &mut self,
        asm: &mut Assembler,
        liveness: &Liveness,
        listing: &Listing,
        value: Value,
        locked: u32,
    ) -> Result<Reg, OutOfPlaces> {
        let place = self.place[usize::from(value)];
        if place != NO_REG {
            return Ok(place);
        }
        let reg = self.allocate(asm, liveness, listing, value, locked)?;
        let is_vector = listing.is_vector(value);
        match (listing.operations[usize::from(value)].opcode, self.home[usize::from(value)]) {
            (Opcode::Constant, _) => {
                asm.mov_constant(reg, listing.operations[usize::from(value)].constant);
            }
            (_, Home::Slot(number)) => {
                let (base, offset) = slot_place(number);
                load(asm, is_vector, reg, base, offset);
            }
            (_, Home::Spill(spill)) => load(asm, is_vector, reg, RSP, spill_offset(spill)),
            (_, Home::None) => unreachable!("a value that is needed is somewhere"),
        }
        Ok(reg)
    }

    /// Gives the register of `value` to `other`, if it is in one.
    pub(super) fn hand_over(&mut self, value: Value, other: Value) -> Option<Reg> {
        let reg = self.place[usize::from(value)];
        if reg == NO_REG {
            return None;
        }
        self.release(value);
        self.put(other, reg);
        Some(reg)
    }

    /// `value` is not needed any more.
    pub(super) fn release(&mut self, value: Value) {
        let at = usize::from(value);
        let reg = std::mem::replace(&mut self.place[at], NO_REG);
        if reg != NO_REG {
            self.free |= 1 << reg;
            self.holds[usize::from(reg)] = NONE;
        }
        if let Home::Spill(spill) = self.home[at] {
            self.spilled[usize::from(spill)] = NONE;
            self.home[at] = Home::None;
        }
    }

    /// What holds `number` is about to be replaced by `value`: whoever still needs what is there gets it now.
    pub(super) fn replace_slot(
        &mut self,
        asm: &mut Assembler,
        liveness: &Liveness,
        listing: &Listing,
        number: u8,
        (value, at): (Value, Value),
        locked: u32,
    ) -> Result<(), OutOfPlaces> {
        let old = self.owner[usize::from(number)];
        if old != NONE && old != value && self.home[usize::from(old)] == Home::Slot(number) {
            if liveness.last_use[usize::from(old)] > at {
                self.locate(asm, liveness, listing, old, locked)?;
            }
            self.home[usize::from(old)] = Home::None;
        }
        self.owner[usize::from(number)] = value;
        if self.home[usize::from(value)] == Home::None && listing.constant(value).is_none() {
            self.home[usize::from(value)] = Home::Slot(number);
        }
        Ok(())
    }
}
