//! The quick tier's micro-operations: each adds the operation that computes it to the node's listing.

use super::flags::HeldFlags;
use super::ir::{Ending, Listing, NONE, Opcode, Operation, Value, slot};
use crate::access::{Kind, Request};
use crate::shape::Shape;
use crate::translator::Untranslatable;
use rx86_cpu::op::{AddressForm, Op, Reg, op_flags, reg};
use rx86_cpu::ops::{FlagsOf, Hard, Meaning, MicroOps};
use rx86_cpu::state::{ArithFlags, SegmentIndex};
use rx86_cpu::width::{W32, W64, Width};

/// What is known where the listing has come to.
#[derive(Clone, Copy)]
pub(super) struct Held {
    /// The slots of `slot`, by value.
    slots: [Value; slot::COUNT],
    /// Bit n: slot n was changed by the current instruction.
    changed: u64,
    pub(super) flags: HeldFlags,
    /// The flags are those of this ORDER.
    pub(super) order: Value,
    /// 128 zeros.
    pub(super) zero: Value,
}

impl Held {
    const NOTHING: Self =
        Self { slots: [NONE; slot::COUNT], changed: 0, flags: HeldFlags::Unknown, order: NONE, zero: NONE };
}

/// Lists what a node computes: implements `MicroOps`.
pub(super) struct Recorder {
    pub(super) listing: Listing,
    pub(super) held: Held,
    /// The first byte of the current instruction, and the one behind it, from the region's first.
    start: i64,
    end: i64,
    /// The last target known to be canonical.
    checked: Value,
    /// The last cut: a value, the width it was cut to, the result. An instruction that names a register twice then has one
    /// value for both.
    cut: (Value, u32, Value),
    /// The least and the greatest offset that is jumped to unchecked.
    extent: (i64, i64),
    /// Where the host has the immediate of the instruction that is listed next, and its bytes (4 or 8), if it is to be read
    /// anew at each execution.
    immediate: Option<(u64, u64)>,
    /// It is.
    immediate_read: bool,
    /// The instruction that is listed next is behind an STI.
    pub(super) in_sti_shadow: bool,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            listing: Listing {
                operations: Vec::new(),
                starts: Vec::new(),
                ending: Ending::Next,
                floating: false,
            },
            held: Held::NOTHING,
            start: 0,
            end: 0,
            checked: NONE,
            cut: (NONE, 0, NONE),
            extent: (0, 0),
            immediate: None,
            immediate_read: false,
            in_sti_shadow: false,
        }
    }

    pub(super) fn begin_region(&mut self) {
        self.extent = (0, 0);
    }

    pub(super) fn extent(&self) -> (i64, i64) {
        self.extent
    }

    /// Begins the node at `offset`.
    /// `shape`: that of the flags there, if it is known.
    pub(super) fn begin_node(&mut self, offset: i64, shape: Option<Shape>) {
        self.listing.operations.clear();
        self.listing.starts.clear();
        self.listing.starts.push(offset);
        self.listing.ending = Ending::Next;
        self.listing.floating = false;
        self.start = offset;
        self.in_sti_shadow = false;
        self.forget();
        self.held.flags = shape.map_or(HeldFlags::Unknown, HeldFlags::Kept);
    }

    /// Nothing is known any more.
    fn forget(&mut self) {
        self.held = Held::NOTHING;
        self.checked = NONE;
        self.cut = (NONE, 0, NONE);
    }

    /// The instruction that is listed next has its immediate there (host address, 4 or 8 bytes), and is to read it anew.
    pub(super) fn immediate_at(&mut self, place: Option<(u64, u64)>) {
        self.immediate = place;
        self.immediate_read = false;
    }

    /// Where the last instruction's immediate is that it reads anew.
    pub(super) fn immediate_read(&self) -> Option<(u64, u64)> {
        self.immediate.filter(|_| self.immediate_read)
    }

    /// Lists one instruction. On `Err` the listing is what it was before.
    pub(super) fn instruction(&mut self, op: &Op, meaning: Meaning<Self>) -> Result<(), Untranslatable> {
        let before = (self.held, self.listing.operations.len(), self.extent, self.checked, self.cut);
        self.begin_instruction(op);
        let mut outcome = meaning(self, op);
        // A value's number must not come near `NONE`.
        if self.listing.operations.len() > usize::from(NONE) / 2 {
            outcome = Err(Untranslatable);
        }
        if let Err(untranslatable) = outcome {
            self.held = before.0;
            self.listing.operations.truncate(before.1);
            (self.extent, self.checked, self.cut) = (before.2, before.3, before.4);
            self.listing.ending = Ending::Next;
            return Err(untranslatable);
        }
        self.end_instruction();
        Ok(())
    }

    /// Lists an instruction that is executed by the translation's function `index`.
    pub(super) fn call_function(&mut self, op: &Op, index: usize) {
        self.begin_instruction(op);
        let instruction = self.current();
        self.list(Opcode::Call, [NONE, NONE, instruction], 64, index as u64);
        self.forget();
        self.held.flags = HeldFlags::Kept(Shape::VALUES);
        self.end_instruction();
    }

    pub(super) fn begin_instruction(&mut self, op: &Op) {
        self.end = self.start + i64::from(op.length);
    }

    /// Lists what the instruction has changed.
    pub(super) fn end_instruction(&mut self) {
        let mut changed = std::mem::take(&mut self.held.changed);
        while changed != 0 {
            let number = changed.trailing_zeros();
            changed &= changed - 1;
            let value = self.held.slots[number as usize];
            self.list(Opcode::Set, [value, NONE, NONE], 64, u64::from(number));
        }
        self.start = self.end;
        self.listing.starts.push(self.start);
        if std::mem::take(&mut self.in_sti_shadow) {
            let next = self.current();
            self.list(Opcode::EndShadow, [NONE, NONE, next], 64, 0);
        }
    }

    /// The current instruction's number in the node.
    pub(super) fn current(&self) -> Value {
        self.listing.starts.len() as Value - 1
    }

    pub(super) fn list(&mut self, opcode: Opcode, [a, b, c]: [Value; 3], width: u32, constant: u64) -> Value {
        self.list_narrow(opcode, [a, b, c], width, constant, 64)
    }

    pub(super) fn list_narrow(
        &mut self,
        opcode: Opcode,
        [a, b, c]: [Value; 3],
        width: u32,
        constant: u64,
        bits: u32,
    ) -> Value {
        let number = self.listing.operations.len() as Value;
        let operation = Operation { opcode, width: width as u8, bits: bits as u8, a, b, c, constant };
        self.listing.operations.push(operation);
        number
    }

    fn constant_of(&self, value: Value) -> Option<u64> {
        self.listing.constant(value)
    }

    fn bits(&self, value: Value) -> u32 {
        u32::from(self.listing.operations[usize::from(value)].bits)
    }

    pub(super) fn slot(&mut self, number: u8) -> Value {
        let at = usize::from(number);
        if self.held.slots[at] == NONE {
            let bits = if number >= slot::VECTORS { 128 } else { 64 };
            self.held.slots[at] = self.list_narrow(Opcode::Get, [NONE; 3], 64, u64::from(number), bits);
        }
        self.held.slots[at]
    }

    /// A slot is known to hold a value.
    pub(super) fn note_slot(&mut self, number: u8, value: Value) {
        self.held.slots[usize::from(number)] = value;
    }

    /// Whether a slot is known to hold a value.
    pub(super) fn is_in_slot(&self, number: u8, value: Value) -> bool {
        self.held.slots[usize::from(number)] == value
    }

    pub(super) fn set_slot(&mut self, number: u8, value: Value) {
        self.held.slots[usize::from(number)] = value;
        self.held.changed |= 1 << number;
    }

    /// All 64 bits of the register in a slot of `Vcpu::regs`.
    fn register(&mut self, register: u8) -> Value {
        match register & 31 {
            reg::RIP => self.rip_at(self.end),
            number @ 0..16 => self.slot(number),
            _ => self.constant(0),
        }
    }

    /// RIP at `offset` bytes from the region's first.
    fn rip_at(&mut self, offset: i64) -> Value {
        let entry = self.slot(slot::RIP);
        self.add_constant(entry, offset as u64)
    }

    /// If `value` is an RIP at a fixed distance from the region's first byte: that distance.
    fn static_offset(&self, value: Value) -> Option<i64> {
        let entry = self.held.slots[usize::from(slot::RIP)];
        if value == entry {
            return Some(0);
        }
        let operation = self.listing.operations[usize::from(value)];
        let is_sum = operation.opcode == Opcode::Address && operation.a == entry && operation.b == NONE;
        is_sum.then_some(operation.constant as i64)
    }

    fn add_constant(&mut self, value: Value, constant: u64) -> Value {
        if constant == 0 {
            return value;
        }
        let operation = self.listing.operations[usize::from(value)];
        match operation.opcode {
            Opcode::Constant => self.constant(operation.constant.wrapping_add(constant)),
            Opcode::Address => {
                let sum = operation.constant.wrapping_add(constant);
                let operands = [operation.a, operation.b, NONE];
                self.list(Opcode::Address, operands, u32::from(operation.width), sum)
            }
            _ => self.list(Opcode::Address, [value, NONE, NONE], 0, constant),
        }
    }

    /// The offset part of the memory operand's address, before it is cut to the address size.
    fn effective_offset(&mut self, op: &Op) -> Value {
        let displacement = op.displacement as i64 as u64;
        match (op.base, op.index) {
            (reg::RIP, _) => self.rip_at(self.end.wrapping_add(displacement as i64)),
            (reg::ZERO, reg::ZERO) => self.constant(displacement),
            (base, reg::ZERO) => {
                let base = self.register(base);
                self.add_constant(base, displacement)
            }
            (base, index) => {
                let base = self.register(base);
                let index = self.register(index);
                self.list(Opcode::Address, [base, index, NONE], u32::from(op.scale), displacement)
            }
        }
    }

    fn cut_to_address_size(&mut self, op: &Op, offset: Value) -> Value {
        match op.address_mask() {
            u64::MAX => offset,
            mask => {
                let mask = self.constant(mask);
                self.and(offset, mask)
            }
        }
    }

    pub(super) fn linear(&mut self, op: &Op, displacement: Option<Value>) -> Value {
        let mut offset = self.effective_offset(op);
        if let Some(displacement) = displacement {
            offset = self.add(offset, displacement);
        }
        if op.form == AddressForm::Checked {
            offset = self.cut_to_address_size(op, offset);
        }
        let base = match usize::from(op.segment) {
            SegmentIndex::FS => slot::FS_BASE,
            SegmentIndex::GS => slot::GS_BASE,
            _ => return offset,
        };
        let base = self.slot(base);
        self.add(offset, base)
    }

    /// The host address of `W` at a linear address, or the way out.
    fn host<W: Width>(&mut self, linear: Value, kind: Kind) -> Value {
        let request = Request { bytes: W::BYTES, kind, for_writes: kind == Kind::Write, grouped: false };
        let instruction = self.current();
        self.list(Opcode::Probe, [linear, NONE, instruction], 64, request.encode())
    }

    fn load_host<W: Width>(&mut self, host: Value) -> Value {
        self.list_narrow(Opcode::Load, [host, NONE, NONE], W::BITS, 0, W::BITS)
    }

    fn store_host<W: Width>(&mut self, host: Value, value: Value) {
        self.list(Opcode::Store, [host, value, NONE], W::BITS, 0);
    }

    fn binary(&mut self, opcode: Opcode, a: Value, b: Value, fold: fn(u64, u64) -> u64) -> Value {
        match (self.constant_of(a), self.constant_of(b)) {
            (Some(a), Some(b)) => self.constant(fold(a, b)),
            // Constants on the right.
            (Some(_), None) if is_commutative(opcode) => self.list(opcode, [b, a, NONE], 64, 0),
            _ => self.list(opcode, [a, b, NONE], 64, 0),
        }
    }

    fn shift(&mut self, opcode: Opcode, a: Value, count: Value, fold: fn(u64, u32) -> u64) -> Value {
        match (self.constant_of(a), self.constant_of(count).map(|count| count & 63)) {
            (_, Some(0)) => a,
            (Some(a), Some(count)) => self.constant(fold(a, count as u32)),
            (None, Some(count)) if opcode == Opcode::ShiftRight => {
                let bits = self.bits(a).saturating_sub(count as u32).max(1);
                self.list_narrow(opcode, [a, NONE, NONE], 64, count, bits)
            }
            (None, Some(count)) => self.list(opcode, [a, NONE, NONE], 64, count),
            _ => self.list(opcode, [a, count, NONE], 64, 0),
        }
    }

    fn unary(&mut self, opcode: Opcode, a: Value, bits: u32, fold: fn(u64) -> u64) -> Value {
        match self.constant_of(a) {
            Some(a) => self.constant(fold(a)),
            None => self.list_narrow(opcode, [a, NONE, NONE], 64, 0, bits),
        }
    }

    pub(super) fn compare(&mut self, condition: u8, width: u32, a: Value, b: Value) -> Value {
        self.list_narrow(Opcode::Compare, [a, b, NONE], width, u64::from(condition), 1)
    }
}

fn is_commutative(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Add | Opcode::Mul | Opcode::And | Opcode::Or | Opcode::Xor)
}

/// Of zero, no bits are set, which a width cannot say.
fn significant_bits(value: u64) -> u32 {
    (64 - value.leading_zeros()).max(1)
}

impl MicroOps for Recorder {
    type Int = Value;
    type Fault = Untranslatable;

    fn constant(&mut self, value: u64) -> Value {
        self.list_narrow(Opcode::Constant, [NONE; 3], 64, value, significant_bits(value))
    }

    fn immediate<W: Width>(&mut self, op: &Op) -> Value {
        let Some((host, bytes)) = self.immediate.filter(|&(_, bytes)| bytes <= W::BYTES) else {
            return self.constant(op.immediate & W::MASK);
        };
        self.immediate_read = true;
        let host = self.constant(host);
        if bytes == W::BYTES {
            return self.load_host::<W>(host);
        }
        let value = self.load_host::<W32>(host);
        self.sign_extend::<W32>(value)
    }

    fn get<W: Width>(&mut self, register: Reg) -> Value {
        let value = self.register(register);
        if W::BITS == 8 && register & reg::HIGH_BYTE != 0 {
            let high = self.shr_by(value, 8);
            return self.truncate::<W>(high);
        }
        self.truncate::<W>(value)
    }

    fn put<W: Width>(&mut self, register: Reg, value: Value) {
        let number = register & 15;
        let value = match W::BITS {
            8 if register & reg::HIGH_BYTE != 0 => {
                let part = self.truncate::<W>(value);
                let part = self.shl_by(part, 8);
                let old = self.register(number);
                let mask = self.constant(!0xff00);
                let kept = self.and(old, mask);
                self.or(kept, part)
            }
            8 | 16 => {
                let old = self.register(number);
                self.list(Opcode::InsertLow, [old, value, NONE], W::BITS, 0)
            }
            _ => self.truncate::<W>(value),
        };
        self.set_slot(number, value);
    }

    fn effective_address(&mut self, op: &Op) -> Value {
        let offset = self.effective_offset(op);
        self.cut_to_address_size(op, offset)
    }

    fn load<W: Width>(&mut self, op: &Op) -> Result<Value, Untranslatable> {
        let linear = self.linear(op, None);
        let host = self.host::<W>(linear, Kind::Read);
        Ok(self.load_host::<W>(host))
    }

    fn load_at<W: Width>(&mut self, op: &Op, displacement: Value) -> Result<Value, Untranslatable> {
        let linear = self.linear(op, Some(displacement));
        let host = self.host::<W>(linear, Kind::Read);
        Ok(self.load_host::<W>(host))
    }

    fn store<W: Width>(&mut self, op: &Op, value: Value) -> Result<(), Untranslatable> {
        let linear = self.linear(op, None);
        let host = self.host::<W>(linear, Kind::Write);
        self.store_host::<W>(host, value);
        Ok(())
    }

    fn modify_at<W: Width>(
        &mut self,
        op: &Op,
        displacement: Value,
        change: impl Fn(&mut Self, Value) -> Value,
    ) -> Result<(Value, Value), Untranslatable> {
        if op.has(op_flags::LOCK) {
            return Err(Untranslatable);
        }
        let displacement = (self.constant_of(displacement) != Some(0)).then_some(displacement);
        let linear = self.linear(op, displacement);
        let host = self.host::<W>(linear, Kind::Write);
        let old = self.load_host::<W>(host);
        let new = change(self, old);
        self.store_host::<W>(host, new);
        Ok((old, new))
    }

    fn push<W: Width>(&mut self, _op: &Op, value: Value) -> Result<(), Untranslatable> {
        let top = self.register(reg::RSP);
        let top = self.add_constant(top, W::BYTES.wrapping_neg());
        let host = self.host::<W>(top, Kind::Write);
        self.store_host::<W>(host, value);
        self.set_slot(reg::RSP, top);
        Ok(())
    }

    fn peek_stack<W: Width>(&mut self, _op: &Op) -> Result<Value, Untranslatable> {
        let top = self.register(reg::RSP);
        let host = self.host::<W>(top, Kind::Read);
        Ok(self.load_host::<W>(host))
    }

    fn release_stack(&mut self, _op: &Op, bytes: u64) {
        let top = self.register(reg::RSP);
        let top = self.add_constant(top, bytes);
        self.set_slot(reg::RSP, top);
    }

    fn set_stack(&mut self, value: Value) {
        self.set_slot(reg::RSP, value);
    }

    fn add(&mut self, a: Value, b: Value) -> Value {
        match (self.constant_of(a), self.constant_of(b)) {
            (_, Some(b)) => self.add_constant(a, b),
            (Some(a), _) => self.add_constant(b, a),
            _ => self.list(Opcode::Add, [a, b, NONE], 64, 0),
        }
    }

    fn sub(&mut self, a: Value, b: Value) -> Value {
        match self.constant_of(b) {
            // Of one register this sets zero, and the register need not be looked at.
            _ if a == b => self.constant(0),
            Some(b) => self.add_constant(a, b.wrapping_neg()),
            None => self.list(Opcode::Sub, [a, b, NONE], 64, 0),
        }
    }

    fn mul(&mut self, a: Value, b: Value) -> Value {
        self.binary(Opcode::Mul, a, b, u64::wrapping_mul)
    }

    fn mul_high_unsigned(&mut self, a: Value, b: Value) -> Value {
        self.list(Opcode::MulHigh, [a, b, NONE], 64, 0)
    }

    /// A negative factor counts 2^64 too much in the unsigned product.
    fn mul_high_signed(&mut self, a: Value, b: Value) -> Value {
        let high = self.mul_high_unsigned(a, b);
        let sign = self.constant(63);
        let of_a = self.sar(a, sign);
        let of_a = self.and(of_a, b);
        let of_b = self.sar(b, sign);
        let of_b = self.and(of_b, a);
        let high = self.sub(high, of_a);
        self.sub(high, of_b)
    }

    fn and(&mut self, a: Value, b: Value) -> Value {
        match (self.constant_of(a), self.constant_of(b)) {
            (Some(a), Some(b)) => self.constant(a & b),
            (_, Some(mask)) if mask == u64::MAX => a,
            (None, Some(0xffff_ffff)) => self.truncate_to(a, 32),
            (Some(0xffff_ffff), None) => self.truncate_to(b, 32),
            _ => {
                let bits = self.bits(a).min(self.bits(b));
                let (a, b) = if self.constant_of(a).is_some() { (b, a) } else { (a, b) };
                self.list_narrow(Opcode::And, [a, b, NONE], 64, 0, bits)
            }
        }
    }

    fn or(&mut self, a: Value, b: Value) -> Value {
        match (self.constant_of(a), self.constant_of(b)) {
            (Some(0), _) => return b,
            (_, Some(0)) => return a,
            _ => {}
        }
        self.joined(Opcode::Or, a, b, |a, b| a | b)
    }

    fn xor(&mut self, a: Value, b: Value) -> Value {
        match (self.constant_of(a), self.constant_of(b)) {
            _ if a == b => return self.constant(0),
            (Some(0), _) => return b,
            (_, Some(0)) => return a,
            _ => {}
        }
        self.joined(Opcode::Xor, a, b, |a, b| a ^ b)
    }

    fn shl(&mut self, a: Value, count: Value) -> Value {
        self.shift(Opcode::ShiftLeft, a, count, |a, count| a << count)
    }

    fn shr(&mut self, a: Value, count: Value) -> Value {
        self.shift(Opcode::ShiftRight, a, count, |a, count| a >> count)
    }

    fn sar(&mut self, a: Value, count: Value) -> Value {
        self.shift(Opcode::ShiftArithmetic, a, count, |a, count| ((a as i64) >> count) as u64)
    }

    fn sign_extend<W: Width>(&mut self, a: Value) -> Value {
        match self.constant_of(a) {
            _ if W::BITS == 64 => a,
            Some(a) => self.constant(rx86_cpu::width::sign_extend::<W>(a)),
            None => self.list(Opcode::SignExtend, [a, NONE, NONE], W::BITS, 0),
        }
    }

    fn count_ones(&mut self, a: Value) -> Value {
        self.unary(Opcode::CountOnes, a, 7, |a| a.count_ones().into())
    }

    fn leading_zeros(&mut self, a: Value) -> Value {
        self.unary(Opcode::LeadingZeros, a, 7, |a| a.leading_zeros().into())
    }

    fn trailing_zeros(&mut self, a: Value) -> Value {
        self.unary(Opcode::TrailingZeros, a, 7, |a| a.trailing_zeros().into())
    }

    fn swap_bytes(&mut self, a: Value) -> Value {
        self.unary(Opcode::SwapBytes, a, 64, u64::swap_bytes)
    }

    fn equal(&mut self, a: Value, b: Value) -> Value {
        match (self.constant_of(a), self.constant_of(b)) {
            (Some(a), Some(b)) => self.constant(u64::from(a == b)),
            (Some(_), None) => self.compare(4, 64, b, a),
            _ => self.compare(4, 64, a, b),
        }
    }

    fn less_unsigned(&mut self, a: Value, b: Value) -> Value {
        match (self.constant_of(a), self.constant_of(b)) {
            (Some(a), Some(b)) => self.constant(u64::from(a < b)),
            _ => self.compare(2, 64, a, b),
        }
    }

    fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        match self.constant_of(condition) {
            Some(0) => b,
            Some(_) => a,
            None => {
                let bits = self.bits(a).max(self.bits(b));
                self.list_narrow(Opcode::Select, [condition, a, b], 64, 0, bits)
            }
        }
    }

    fn flags(&mut self) -> ArithFlags<Value> {
        self.flag_values()
    }

    fn set_flags(&mut self, flags: ArithFlags<Value>) {
        self.set_flag_values(flags);
    }

    fn remember_flags<W: Width>(&mut self, of: FlagsOf<Value>) -> bool {
        self.set_operation(W::BITS, of)
    }

    fn known_condition(&mut self, code: u8) -> Option<Value> {
        self.condition_of_operation(code)
    }

    fn check_target(&mut self, target: Value) -> Result<(), Untranslatable> {
        if let Some(offset) = self.static_offset(target) {
            self.extent = (self.extent.0.min(offset), self.extent.1.max(offset));
        } else if self.checked != target {
            let instruction = self.current();
            self.list(Opcode::Canonical, [target, NONE, instruction], 64, 0);
            self.checked = target;
        }
        Ok(())
    }

    fn jump(&mut self, target: Value) -> Result<(), Untranslatable> {
        self.check_target(target)?;
        self.listing.ending = match self.static_offset(target) {
            Some(offset) => Ending::Offset(offset),
            None => Ending::Target(target),
        };
        Ok(())
    }

    fn branch(&mut self, op: &Op, condition: Value) -> Result<(), Untranslatable> {
        if op.operand_bits() != W64::BITS {
            return Err(Untranslatable);
        }
        let taken = self.end.wrapping_add(op.immediate as i64);
        self.listing.ending = match self.constant_of(condition) {
            Some(0) => return Ok(()),
            Some(_) => Ending::Offset(taken),
            None => Ending::Branch { taken, condition },
        };
        self.extent = (self.extent.0.min(taken), self.extent.1.max(taken));
        Ok(())
    }

    fn call(&mut self, _function: Hard, _op: &Op) -> Result<(), Untranslatable> {
        Err(Untranslatable)
    }

    fn truncate<W: Width>(&mut self, a: Value) -> Value {
        self.truncate_to(a, W::BITS)
    }
}

impl Recorder {
    /// Or, or exclusive or.
    fn joined(&mut self, opcode: Opcode, a: Value, b: Value, fold: fn(u64, u64) -> u64) -> Value {
        let bits = self.bits(a).max(self.bits(b));
        let value = self.binary(opcode, a, b, fold);
        if let Some(operation) = self.listing.operations.last_mut()
            && operation.opcode == opcode
        {
            operation.bits = bits as u8;
        }
        value
    }

    fn truncate_to(&mut self, a: Value, width: u32) -> Value {
        if self.bits(a) <= width {
            return a;
        }
        if let Some(constant) = self.constant_of(a) {
            return self.constant(constant & (u64::MAX >> (64 - width)));
        }
        if (self.cut.0, self.cut.1) == (a, width) {
            return self.cut.2;
        }
        let result = self.list_narrow(Opcode::ZeroExtend, [a, NONE, NONE], width, 0, width);
        self.cut = (a, width, result);
        result
    }
}
