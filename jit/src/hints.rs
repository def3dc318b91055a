//! Page hints: in a loop, an access first compares its address with the page that an access of its kind found last. That takes
//! fewer instructions than a look into the TLB, and no load on the way from the address to the data. A hint lives in the
//! stack frame of the region's code, while which runs no mapping changes.

use crate::access::Request;
use crate::context::JitContext;
use crate::steady::Sites;
use crate::translator::Translator;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block, InstBuilder, StackSlot, StackSlotData, StackSlotKind, Value};
use rx86_cpu::op::Op;
use rx86_softmmu::TlbEntry;
use std::mem::offset_of;

/// The most hints of a region. Further accesses look into the TLB.
const HINTS: usize = 16;

/// What a hint's stack slot holds: the page that was found last.
#[repr(C)]
struct PageHint {
    /// Its linear address, as a TLB entry has it.
    tag: u64,
    /// From a linear address in it to the host's.
    addend: u64,
    /// From the page's beginning, where accesses may begin: below this. Zero for none.
    limit: u64,
}

/// The bytes of the greatest access that shares a hint with this one.
fn most_bytes(request: Request) -> u64 {
    request.bytes.next_power_of_two().max(8)
}

/// What accesses must have in common to share a hint.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    base: u8,
    index: u8,
    segment: u8,
    for_writes: bool,
    /// Accesses are of no more bytes.
    bytes: u64,
}

/// The hints of a region.
#[derive(Default)]
pub(crate) struct PageHints {
    /// For each node, which of its instructions may use hints.
    sites: Vec<Sites>,
    node: usize,
    /// The current instruction's number in the node.
    current: usize,
    kinds: Vec<(Kind, StackSlot)>,
    /// Where they are made invalid.
    reset: Option<Block>,
    /// Registers of the current instruction's operand.
    base: u8,
    index: u8,
    segment: u8,
}

impl PageHints {
    pub(crate) fn new(sites: Vec<Sites>) -> Self {
        Self { sites, ..Self::default() }
    }

    pub(crate) fn begin_node(&mut self, node: usize) {
        (self.node, self.current) = (node, 0);
    }

    pub(crate) fn next_instruction(&mut self) {
        self.current += 1;
    }

    pub(crate) fn begin_instruction(&mut self, op: &Op) {
        (self.base, self.index, self.segment) = (op.base, op.index, op.segment);
    }

    pub(crate) fn is_used(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// What the hint of an access of the current instruction is known by, if it may use one.
    fn kind(&self, request: Request) -> Option<Kind> {
        if !self.sites.get(self.node)?.has(self.current) {
            return None;
        }
        let Self { base, index, segment, .. } = *self;
        let bytes = most_bytes(request);
        Some(Kind { base, index, segment, for_writes: request.for_writes, bytes })
    }
}

impl Translator<'_> {
    /// Begins the block that makes the hints invalid, and ends the one before. `end_hints` fills it.
    pub(crate) fn begin_hints(&mut self) {
        let reset = self.builder.create_block();
        self.builder.ins().jump(reset, &[]);
        self.builder.switch_to_block(reset);
        self.builder.ensure_inserted_block();
        self.hints.reset = Some(reset);
    }

    /// Fills the block that makes the hints invalid; it goes on to `first`.
    pub(crate) fn end_hints(&mut self, first: Block) {
        let Some(reset) = self.hints.reset else { return };
        self.builder.switch_to_block(reset);
        let none = self.builder.ins().iconst(I64, 0);
        for at in 0..self.hints.kinds.len() {
            self.set_hint(self.hints.kinds[at].1, offset_of!(PageHint, limit), none);
        }
        self.builder.ins().jump(first, &[]);
    }

    /// The hint for an access of the current instruction, if it may use one.
    pub(crate) fn hint_of(&mut self, request: Request) -> Option<StackSlot> {
        let kind = self.hints.kind(request)?;
        if let Some(&(_, hint)) = self.hints.kinds.iter().find(|(one, _)| *one == kind) {
            return Some(hint);
        }
        (self.hints.kinds.len() < HINTS).then(|| {
            let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, size_of::<PageHint>() as u32, 3);
            let hint = self.builder.create_sized_stack_slot(slot);
            self.hints.kinds.push((kind, hint));
            hint
        })
    }

    fn hint_field(&mut self, hint: StackSlot, field: usize) -> Value {
        let address = self.builder.ins().stack_addr(I64, hint, field as i32);
        self.builder.ins().load(I64, self.regions.hints, address, 0)
    }

    fn set_hint(&mut self, hint: StackSlot, field: usize, value: Value) {
        let address = self.builder.ins().stack_addr(I64, hint, field as i32);
        self.builder.ins().store(self.regions.hints, value, address, 0);
    }

    /// The host address of an access, by its hint or else as `probe` finds it, which is then what the hint says.
    pub(crate) fn probe_with_hint(&mut self, linear: Value, request: Request, hint: StackSlot) -> Value {
        // In this order, and with the addition in another block than its load, Cranelift makes none an operand of an instruction: for
        // that it would first compute the slot's address.
        let tag = self.hint_field(hint, offset_of!(PageHint, tag));
        let limit = self.hint_field(hint, offset_of!(PageHint, limit));
        let differs = self.builder.ins().bxor(tag, linear);
        let hit = self.builder.ins().icmp(IntCC::UnsignedLessThan, differs, limit);
        let [fast, look, found] = [(); 3].map(|()| self.builder.create_block());
        self.builder.set_cold_block(look);
        let addend = self.builder.append_block_param(found, I64);
        self.builder.ins().brif(hit, fast, &[], look, &[]);

        self.builder.switch_to_block(look);
        let tlb = self.load_cold(offset_of!(JitContext, tlb));
        let (entry, hit) = self.compare_entry(tlb, linear, request);
        let [known, slow] = [(); 2].map(|()| self.builder.create_block());
        self.builder.set_cold_block(known);
        self.builder.set_cold_block(slow);
        self.builder.ins().brif(hit, known, &[], slow, &[]);
        self.builder.switch_to_block(slow);
        let address = self.find_slowly(linear, request);
        let distance = self.builder.ins().isub(address, linear);
        self.builder.ins().jump(found, &[distance.into()]);

        self.builder.switch_to_block(known);
        let limit = self.builder.ins().iconst(I64, 4097 - most_bytes(request) as i64);
        let tag = self.builder.ins().load(I64, self.regions.tlb, entry, request.tag_offset());
        let addend_offset = offset_of!(TlbEntry, addend) as i32;
        let distance = self.builder.ins().load(I64, self.regions.tlb, entry, addend_offset);
        for (value, field) in [
            (tag, offset_of!(PageHint, tag)),
            (distance, offset_of!(PageHint, addend)),
            (limit, offset_of!(PageHint, limit)),
        ] {
            self.set_hint(hint, field, value);
        }
        self.builder.ins().jump(found, &[distance.into()]);

        self.builder.switch_to_block(fast);
        let distance = self.hint_field(hint, offset_of!(PageHint, addend));
        self.builder.ins().jump(found, &[distance.into()]);
        self.builder.switch_to_block(found);
        self.builder.ins().iadd(linear, addend)
    }
}
