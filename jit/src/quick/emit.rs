//! From a node's listing to host code.

use super::assembler::*;
use super::ir::{Ending, Listing, NONE, Opcode, Operation, Value};
use super::liveness::Liveness;
use super::registers::{OutOfPlaces, Registers, STATE, TEMPORARY, slot_offset, slot_place, store};
use super::stubs::{MAX_NODE_INSTRUCTIONS, SHADOW, Stub, Stubs, TLB};
use crate::access::Request;
use crate::context::{Call, LeaveKind};
use rx86_softmmu::TlbEntry;
use rx86_softmmu::tlb::SETS;
use std::mem::offset_of;

/// Writes the code of a region's nodes, one after the other.
pub(super) struct Emitter {
    pub(super) asm: Assembler,
    pub(super) stubs: Stubs,
    pub(super) registers: Registers,
    liveness: Liveness,
    /// Instructions of the current node.
    instructions: usize,
    /// The way out before each instruction of the node, if one is needed.
    exits: Vec<Option<Label>>,
}

/// Where a node's edges lead.
#[derive(Clone, Copy)]
pub(super) struct Edges {
    /// Behind it.
    pub(super) next: Edge,
    /// At its direct target.
    pub(super) target: Edge,
    /// `next` is written directly behind it.
    pub(super) falls_through: bool,
}

/// Where an edge leads.
#[derive(Clone, Copy)]
pub(super) enum Edge {
    /// To a node of the region.
    Node(Label),
    /// Out of the region, at this offset from its first byte.
    Out(i64),
}

/// The place in the listing that is written, and the registers that must stay.
pub(super) struct Here<'a> {
    pub(super) listing: &'a Listing,
    pub(super) at: Value,
    locked: u32,
}

impl Emitter {
    pub(super) fn new() -> Self {
        Self {
            asm: Assembler::default(),
            stubs: Stubs::default(),
            registers: Registers::new(),
            liveness: Liveness::default(),
            instructions: 0,
            exits: Vec::new(),
        }
    }

    pub(super) fn begin_region(&mut self) {
        self.asm.clear();
        self.stubs.clear();
        self.stubs.entry(&mut self.asm);
    }

    /// Writes a node, whose label is here. `heat` is the number of its counter.
    /// It is the `first` of the region or of a loop if what leads to it may be written behind it.
    pub(super) fn node(
        &mut self,
        listing: &Listing,
        heat: u32,
        first: bool,
        edges: Edges,
    ) -> Result<(), OutOfPlaces> {
        self.instructions = listing.starts.len() - 1;
        if self.instructions > MAX_NODE_INSTRUCTIONS {
            return Err(OutOfPlaces);
        }
        self.exits.clear();
        self.exits.resize(listing.starts.len(), None);
        self.registers.begin_node(listing.operations.len());
        self.liveness.analyze(listing);
        let hot = self.asm.label();
        self.stubs.count(&mut self.asm, heat, hot, self.instructions, first);
        self.stubs.add(Stub::Hot { label: hot, offset: listing.starts[0] as i32, heat });
        if listing.floating {
            self.require_mxcsr(listing);
        }
        for at in 0..listing.operations.len() {
            if self.liveness.live[at] {
                let mut here = Here { listing, at: at as Value, locked: 0 };
                self.operation(&mut here, &listing.operations[at])?;
            }
        }
        self.end(listing, edges)
    }

    /// The register of an operand, which stays until the operation is written.
    pub(super) fn operand(&mut self, here: &mut Here<'_>, value: Value) -> Result<Reg, OutOfPlaces> {
        let reg = self.registers.locate(&mut self.asm, &self.liveness, here.listing, value, here.locked)?;
        here.locked |= 1 << reg;
        Ok(reg)
    }

    pub(super) fn is_last_use(&self, here: &Here<'_>, value: Value) -> bool {
        value != NONE && self.liveness.last_use[usize::from(value)] <= here.at
    }

    /// Frees an operand that the operation was the last to use.
    fn release(&mut self, here: &Here<'_>, value: Value) {
        if self.is_last_use(here, value) {
            self.registers.release(value);
        }
    }

    /// A register for the result, other than the operands'.
    pub(super) fn fresh(&mut self, here: &mut Here<'_>) -> Result<Reg, OutOfPlaces> {
        let Here { listing, at, locked } = *here;
        let reg = self.registers.allocate(&mut self.asm, &self.liveness, listing, at, locked)?;
        here.locked |= 1 << reg;
        Ok(reg)
    }

    /// A register for the result that holds `a`: its own, if nobody needs it any more.
    fn copy_of(&mut self, here: &mut Here<'_>, a: Value) -> Result<Reg, OutOfPlaces> {
        let from = self.operand(here, a)?;
        let to = self.reuse_or_fresh(here, a)?;
        if to != from {
            self.asm.mov(to, from);
        }
        Ok(to)
    }

    /// The operand's register, if this is its last use; else another.
    fn reuse_or_fresh(&mut self, here: &mut Here<'_>, a: Value) -> Result<Reg, OutOfPlaces> {
        if self.is_last_use(here, a)
            && let Some(reg) = self.registers.hand_over(a, here.at)
        {
            return Ok(reg);
        }
        self.fresh(here)
    }

    fn operation(&mut self, here: &mut Here<'_>, operation: &Operation) -> Result<(), OutOfPlaces> {
        let Operation { opcode, width, a, b, constant, .. } = *operation;
        let width = u32::from(width);
        match opcode {
            Opcode::Constant => {}
            Opcode::Get => self.registers.found_in_slot(here.at, constant as u8),
            Opcode::Settle => self.stubs.settle(&mut self.asm),
            Opcode::Set => self.set(here, a, constant as u8)?,
            Opcode::Add => self.sum(here, a, b)?,
            Opcode::Sub => self.arithmetic(here, Alu::Sub, a, b)?,
            Opcode::And => self.arithmetic(here, Alu::And, a, b)?,
            Opcode::Or => self.arithmetic(here, Alu::Or, a, b)?,
            Opcode::Xor => self.arithmetic(here, Alu::Xor, a, b)?,
            Opcode::Mul => self.multiply(here, a, b)?,
            Opcode::MulHigh => self.mul_high(here, a, b)?,
            Opcode::ShiftLeft => self.shift(here, Shift::Left, operation)?,
            Opcode::ShiftRight => self.shift(here, Shift::Right, operation)?,
            Opcode::ShiftArithmetic => self.shift(here, Shift::Arithmetic, operation)?,
            Opcode::Address => self.address(here, operation)?,
            Opcode::SignExtend | Opcode::ZeroExtend => self.extend(here, opcode, width, a)?,
            Opcode::InsertLow => {
                let part = self.operand(here, b)?;
                let to = self.copy_of(here, a)?;
                self.asm.insert_low(width, to, if a == b { to } else { part });
            }
            Opcode::CountOnes => self.count_bits(here, 0xb8, a)?,
            Opcode::LeadingZeros => self.count_bits(here, 0xbd, a)?,
            Opcode::TrailingZeros => self.count_bits(here, 0xbc, a)?,
            Opcode::SwapBytes => {
                let to = self.copy_of(here, a)?;
                self.asm.bswap(to);
            }
            Opcode::Compare => {
                let condition = self.compare(here, operation)?;
                let to = self.fresh(here)?;
                self.asm.set(condition, to);
            }
            Opcode::Select => self.select(here, operation)?,
            Opcode::Probe => self.probe(here, operation)?,
            Opcode::Load => {
                let host = self.operand(here, a)?;
                let to = self.reuse_or_fresh(here, a)?;
                self.asm.load(width, to, host, 0);
            }
            Opcode::Store => self.store(here, operation)?,
            Opcode::Canonical => self.canonical(here, operation)?,
            Opcode::Call => self.call(here.listing, operation),
            Opcode::SetShadow => self.set_shadow(here, a)?,
            Opcode::EndShadow => self.end_shadow(here.listing, operation),
            Opcode::VectorZero
            | Opcode::VectorLoad
            | Opcode::VectorStore
            | Opcode::Vector
            | Opcode::Fused
            | Opcode::VectorOfInt
            | Opcode::IntOfVector
            | Opcode::Order
            | Opcode::Aligned => self.vector_operation(here, operation)?,
        }
        for operand in here.listing.operands(operation) {
            self.release(here, operand);
        }
        if opcode == Opcode::Select
            && let Some(comparison) = here.listing.comparison(a)
        {
            self.release(here, comparison.a);
            self.release(here, comparison.b);
        }
        Ok(())
    }

    fn multiply(&mut self, here: &mut Here<'_>, a: Value, b: Value) -> Result<(), OutOfPlaces> {
        let b_in = self.operand(here, b)?;
        let to = self.copy_of(here, a)?;
        // If both are one value, its register was handed over.
        self.asm.imul(to, if a == b { to } else { b_in });
        Ok(())
    }

    fn extend(
        &mut self,
        here: &mut Here<'_>,
        opcode: Opcode,
        width: u32,
        a: Value,
    ) -> Result<(), OutOfPlaces> {
        let from = self.operand(here, a)?;
        let to = self.reuse_or_fresh(here, a)?;
        match opcode {
            Opcode::SignExtend => self.asm.sign_extend(width, to, from),
            _ => self.asm.zero_extend(width, to, from),
        }
        Ok(())
    }

    /// Leaves unless bits 63 to 47 are all the same.
    fn canonical(&mut self, here: &mut Here<'_>, operation: &Operation) -> Result<(), OutOfPlaces> {
        let target = self.operand(here, operation.a)?;
        let exit = self.exit(here.listing, operation.c);
        self.asm.mov(TEMPORARY, target);
        self.asm.shift(Shift::Left, TEMPORARY, 16);
        self.asm.shift(Shift::Arithmetic, TEMPORARY, 16);
        self.asm.alu(Alu::Cmp, 64, TEMPORARY, target);
        self.asm.jump_if(condition::NOT_EQUAL, exit);
        Ok(())
    }

    fn small_constant(&self, here: &Here<'_>, value: Value) -> Option<i32> {
        i32::try_from(here.listing.constant(value)? as i64).ok()
    }

    fn set(&mut self, here: &mut Here<'_>, value: Value, number: u8) -> Result<(), OutOfPlaces> {
        let constant = self.small_constant(here, value);
        let from = match constant {
            Some(_) => None,
            None => Some(self.operand(here, value)?),
        };
        let Here { listing, at, locked } = *here;
        self.registers.replace_slot(&mut self.asm, &self.liveness, listing, number, (value, at), locked)?;
        let (base, offset) = slot_place(number);
        match (constant, from) {
            (Some(constant), _) => self.asm.store_constant(64, base, offset, constant),
            (None, Some(from)) => {
                let is_vector = listing.is_vector(value);
                store(&mut self.asm, is_vector, base, offset, from);
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn sum(&mut self, here: &mut Here<'_>, a: Value, b: Value) -> Result<(), OutOfPlaces> {
        let (first, second) = (self.operand(here, a)?, self.operand(here, b)?);
        let to = self.reuse_or_fresh(here, a)?;
        self.asm.lea_indexed(to, first, second, 0, 0);
        Ok(())
    }

    fn arithmetic(&mut self, here: &mut Here<'_>, alu: Alu, a: Value, b: Value) -> Result<(), OutOfPlaces> {
        if let Some(constant) = self.small_constant(here, b) {
            let to = self.copy_of(here, a)?;
            self.asm.alu_constant(alu, 64, to, constant);
            return Ok(());
        }
        let b_in = self.operand(here, b)?;
        let to = self.copy_of(here, a)?;
        self.asm.alu(alu, 64, to, if a == b { to } else { b_in });
        Ok(())
    }

    fn mul_high(&mut self, here: &mut Here<'_>, a: Value, b: Value) -> Result<(), OutOfPlaces> {
        let (a_in, b_in) = (self.operand(here, a)?, self.operand(here, b)?);
        let to = self.fresh(here)?;
        // The implicit factor is in RDX; what is there else waits.
        let other = if b_in == RDX { a_in } else { b_in };
        if to != RDX {
            self.asm.mov(TEMPORARY, RDX);
        }
        if b_in != RDX {
            self.asm.mov(RDX, a_in);
        }
        self.asm.mul_high(to, other);
        if to != RDX {
            self.asm.mov(RDX, TEMPORARY);
        }
        Ok(())
    }

    fn shift(&mut self, here: &mut Here<'_>, shift: Shift, operation: &Operation) -> Result<(), OutOfPlaces> {
        let Operation { a, b, constant, .. } = *operation;
        if b == NONE {
            let to = self.copy_of(here, a)?;
            self.asm.shift(shift, to, constant as u8);
            return Ok(());
        }
        let (from, count) = (self.operand(here, a)?, self.operand(here, b)?);
        let to = self.fresh(here)?;
        self.asm.shift_by(shift, to, from, count);
        Ok(())
    }

    fn address(&mut self, here: &mut Here<'_>, operation: &Operation) -> Result<(), OutOfPlaces> {
        let Operation { a, b, width: scale, constant, .. } = *operation;
        let base = self.operand(here, a)?;
        let index = if b == NONE { None } else { Some(self.operand(here, b)?) };
        let to = self.reuse_or_fresh(here, a)?;
        let small = i32::try_from(constant as i64).ok();
        match (index, small) {
            (None, Some(displacement)) => self.asm.lea(to, base, displacement),
            (Some(index), Some(displacement)) => {
                self.asm.lea_indexed(to, base, index, scale, displacement);
            }
            (index, None) => {
                self.asm.mov_constant(TEMPORARY, constant);
                self.asm.lea_indexed(TEMPORARY, TEMPORARY, base, 0, 0);
                match index {
                    Some(index) => self.asm.lea_indexed(to, TEMPORARY, index, scale, 0),
                    None => self.asm.mov(to, TEMPORARY),
                }
            }
        }
        Ok(())
    }

    fn count_bits(&mut self, here: &mut Here<'_>, opcode: u8, a: Value) -> Result<(), OutOfPlaces> {
        let from = self.operand(here, a)?;
        let to = self.reuse_or_fresh(here, a)?;
        self.asm.count_bits(opcode, to, from);
        Ok(())
    }

    /// Makes the host's flags those of a comparison; returns the condition that says its outcome.
    fn compare(&mut self, here: &mut Here<'_>, comparison: &Operation) -> Result<u8, OutOfPlaces> {
        let Operation { width, a, b, constant, .. } = *comparison;
        let width = u32::from(width);
        let first = self.operand(here, a)?;
        let constant_b = here.listing.constant(b).map(|b| {
            let unused = 64 - width;
            ((b << unused) as i64) >> unused
        });
        match constant_b.and_then(|b| i32::try_from(b).ok()) {
            Some(b) => self.asm.alu_constant(Alu::Cmp, width, first, b),
            None => {
                let second = self.operand(here, b)?;
                self.asm.alu(Alu::Cmp, width, first, second);
            }
        }
        Ok(constant as u8)
    }

    /// The same for whether any value is not zero.
    fn condition(&mut self, here: &mut Here<'_>, value: Value) -> Result<u8, OutOfPlaces> {
        if let Some(&comparison) = here.listing.comparison(value) {
            return self.compare(here, &comparison);
        }
        let reg = self.operand(here, value)?;
        self.asm.test(reg, reg);
        Ok(condition::NOT_EQUAL)
    }

    fn select(&mut self, here: &mut Here<'_>, operation: &Operation) -> Result<(), OutOfPlaces> {
        let Operation { a, b, c, .. } = *operation;
        // Everything is in its place before the flags are: loading it may need arithmetic.
        let chosen = self.operand(here, b)?;
        let otherwise = self.operand(here, c)?;
        let to = self.fresh(here)?;
        self.asm.mov(to, otherwise);
        let holds = self.condition(here, a)?;
        self.asm.cmov(holds, to, chosen);
        Ok(())
    }

    fn probe(&mut self, here: &mut Here<'_>, operation: &Operation) -> Result<(), OutOfPlaces> {
        let Operation { a, constant, c: instruction, .. } = *operation;
        let request = Request::decode(constant);
        let linear = self.operand(here, a)?;
        let to = self.fresh(here)?;
        let entry_bits = size_of::<TlbEntry>().trailing_zeros() as u8;
        let tag_offset =
            if request.for_writes { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) };
        let (slow, back) = (self.asm.label(), self.asm.label());
        self.asm.rotate_right(to, linear, 12 - entry_bits);
        self.asm.alu_constant(Alu::And, 32, to, ((SETS - 1) * size_of::<TlbEntry>()) as i32);
        self.asm.load_indexed(TEMPORARY, TLB, to, tag_offset as i32);
        self.asm.alu(Alu::Xor, 64, TEMPORARY, linear);
        self.asm.alu_constant(Alu::Cmp, 64, TEMPORARY, 4097 - request.bytes as i32);
        self.asm.jump_if(condition::ABOVE_OR_EQUAL, slow);
        self.asm.load_indexed(to, TLB, to, offset_of!(TlbEntry, addend) as i32);
        self.asm.alu(Alu::Add, 64, to, linear);
        self.asm.bind(back);
        let at = usize::from(instruction);
        let (offset, undo) = (here.listing.starts[at] as i32, (self.instructions - at) as i32);
        self.stubs.add(Stub::SlowAccess { label: slow, back, linear, request: constant, to, offset, undo });
        Ok(())
    }

    fn store(&mut self, here: &mut Here<'_>, operation: &Operation) -> Result<(), OutOfPlaces> {
        let Operation { a, b, width, .. } = *operation;
        let host = self.operand(here, a)?;
        match self.small_constant(here, b) {
            Some(constant) => self.asm.store_constant(width.into(), host, 0, constant),
            None => {
                let value = self.operand(here, b)?;
                self.asm.store(width.into(), host, 0, value);
            }
        }
        Ok(())
    }

    /// Executes an instruction by its function. No value is needed behind it.
    fn call(&mut self, listing: &Listing, operation: &Operation) {
        let instruction = usize::from(operation.c);
        let undo = (self.instructions - instruction) as i32;
        let not_done = self.asm.label();
        let calls = operation.constant as usize * size_of::<Call>();
        self.stubs.call(&mut self.asm, calls as i32, listing.starts[instruction + 1], not_done);
        self.stubs.add(Stub::NotDone { label: not_done, undo });
        self.registers.forget();
    }

    fn set_shadow(&mut self, here: &mut Here<'_>, is_on: Value) -> Result<(), OutOfPlaces> {
        let is_on = self.operand(here, is_on)?;
        self.asm.store(8, STATE, SHADOW, is_on);
        Ok(())
    }

    /// The instruction behind an STI is done.
    fn end_shadow(&mut self, listing: &Listing, operation: &Operation) {
        let next = usize::from(operation.c);
        let (label, undo) = (self.asm.label(), (self.instructions - next) as i32);
        self.stubs.end_shadow(&mut self.asm, label);
        self.stubs.add(Stub::Exit { label, offset: listing.starts[next], undo, kind: LeaveKind::Engine });
    }

    /// The way out before an instruction.
    pub(super) fn exit(&mut self, listing: &Listing, instruction: Value) -> Label {
        let at = usize::from(instruction);
        if let Some(label) = self.exits[at] {
            return label;
        }
        let label = self.asm.label();
        let undo = (self.instructions - at) as i32;
        self.stubs.add(Stub::Exit { label, offset: listing.starts[at], undo, kind: LeaveKind::Interpret });
        self.exits[at] = Some(label);
        label
    }

    fn end(&mut self, listing: &Listing, edges: Edges) -> Result<(), OutOfPlaces> {
        let mut here = Here { listing, at: listing.operations.len() as Value, locked: 0 };
        match listing.ending {
            Ending::Next if edges.falls_through => {}
            Ending::Next => self.jump(edges.next),
            Ending::Offset(_) => self.jump(edges.target),
            Ending::Branch { condition, .. } => {
                let holds = self.condition(&mut here, condition)?;
                let target = self.label_of(edges.target);
                self.asm.jump_if(holds, target);
                if !edges.falls_through {
                    self.jump(edges.next);
                }
            }
            Ending::Target(target) => {
                let reg = self.operand(&mut here, target)?;
                self.asm.store(64, STATE, slot_offset(super::ir::slot::RIP), reg);
                if reg != RAX {
                    self.asm.mov(RAX, reg);
                }
                self.stubs.dispatch(&mut self.asm);
            }
            Ending::Interpret => {
                let offset = *listing.starts.last().unwrap_or(&0);
                let label = self.asm.label();
                self.stubs.add(Stub::Exit { label, offset, undo: 0, kind: LeaveKind::Interpret });
                self.asm.jump(label);
            }
        }
        Ok(())
    }

    fn label_of(&mut self, edge: Edge) -> Label {
        match edge {
            Edge::Node(label) => label,
            Edge::Out(offset) => {
                let label = self.asm.label();
                self.stubs.add(Stub::Leave { label, offset });
                label
            }
        }
    }

    fn jump(&mut self, edge: Edge) {
        match edge {
            Edge::Node(label) => self.asm.jump(label),
            Edge::Out(offset) => self.stubs.leave(&mut self.asm, offset),
        }
    }

    /// Ends the region, and returns its code.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.stubs.emit(&mut self.asm);
        self.asm.link();
        std::mem::take(&mut self.asm.code)
    }
}
