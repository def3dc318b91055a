//! Guest memory accesses of translated code: linear addresses, the inline probe of the software TLB, host loads and
//! stores.

use crate::context::JitContext;
use crate::groups::{Group, Groups};
use crate::micro::type_of;
use crate::symbols::{Access, Key};
use crate::translator::Translator;
use crate::vector::aligned::Aligned;
use crate::window::StackWindow;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, Value};
use rx86_cpu::op::{AddressForm, Op, reg};
use rx86_cpu::state::{Segment, SegmentIndex, Vcpu};
use rx86_cpu::width::Width;
use rx86_softmmu::TlbEntry;
use rx86_softmmu::tlb::SETS;
use std::mem::offset_of;

const _: () = assert!(size_of::<TlbEntry>() == 32 && SETS.is_power_of_two());

/// What an access does, and so which tag it is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A read, at once.
    Read,
    /// A read through an address that is kept until other accesses have been looked up, too.
    ReadLater,
    /// A write, or a read-modify-write.
    Write,
}

/// What host address is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// How many bytes there must be, in one page.
    pub(crate) bytes: u64,
    /// What the current instruction does.
    pub(crate) kind: Kind,
    /// Whether it must be good for writes.
    pub(crate) for_writes: bool,
    /// Whether it is for later instructions, too.
    pub(crate) grouped: bool,
}

impl Request {
    pub(crate) fn encode(self) -> u64 {
        let bit = |condition: bool, bit: u32| u64::from(condition) << bit;
        let kind = bit(self.kind == Kind::Write, 16) | bit(self.kind == Kind::ReadLater, 19);
        self.bytes | kind | bit(self.for_writes, 17) | bit(self.grouped, 18)
    }

    /// Where in a TLB entry the tag is that it is compared with.
    pub(crate) fn tag_offset(self) -> i32 {
        let offset = if self.for_writes { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) };
        offset as i32
    }

    /// The request of `JitContext::access`.
    pub(crate) fn decode(access: u64) -> Self {
        let bit = |bit: u32| access >> bit & 1 != 0;
        let kind = match (bit(16), bit(19)) {
            (true, _) => Kind::Write,
            (false, true) => Kind::ReadLater,
            (false, false) => Kind::Read,
        };
        Self { bytes: access & 0xffff, kind, for_writes: bit(17), grouped: bit(18) }
    }
}

/// A look into the TLB that has been emitted: its group is in one page.
#[derive(Clone, Copy)]
struct Known {
    node: usize,
    key: Key,
    group: Group,
    /// The host address of the group's first byte.
    host: Value,
}

/// The accesses of the region, and what is known of them where the translation is.
#[derive(Default)]
pub(crate) struct Lookups {
    groups: Groups,
    window: Option<StackWindow>,
    /// The current node, and the number of the current instruction in it.
    node: usize,
    instruction: usize,
    known: Vec<Known>,
    /// The addresses that are known to be aligned.
    pub(crate) aligned: Aligned,
    /// What was known at the ends of nodes.
    ends: Vec<(Vec<Known>, Aligned)>,
    /// A look was made in another node than an access that relies on it.
    pub(crate) spread: bool,
    /// Where looks for several accesses were made: the node, and how far from the region's first byte.
    pub(crate) shared: Vec<(usize, i64)>,
}

impl Lookups {
    pub(crate) fn new(groups: Groups, window: Option<StackWindow>) -> Self {
        Self { groups, window, ..Self::default() }
    }

    pub(crate) fn begin_node(&mut self, node: usize) {
        (self.node, self.instruction) = (node, 0);
        let before = self.groups.before(node).and_then(|before| self.ends.get(before));
        (self.known, self.aligned) = before.cloned().unwrap_or_default();
    }

    pub(crate) fn end_node(&mut self) {
        let node = self.node;
        self.ends.resize(self.ends.len().max(node + 1), Default::default());
        self.ends[node] = (std::mem::take(&mut self.known), std::mem::take(&mut self.aligned));
    }

    pub(crate) fn next_instruction(&mut self) {
        self.instruction += 1;
    }

    fn in_window(&self) -> Option<u64> {
        self.window.as_ref()?.place(self.node, self.instruction)
    }

    /// The access of the current instruction, if it is one of so many bytes that may be in a group.
    fn access(&self, bytes: u64) -> Option<Access> {
        let access = self.groups.access(self.node, self.instruction)?;
        (access.bytes as u64 == bytes).then_some(*access)
    }

    /// Where an access is, if that is known: an address, and how far from it.
    fn place_of(&mut self, access: &Access) -> Option<(Value, u64)> {
        let holds = |known: &&Known| {
            let Group { first, end, writes, .. } = known.group;
            known.key == access.key
                && (first..=end - access.bytes).contains(&access.offset)
                && (writes || !access.writes)
        };
        let known = self.known.iter().rev().find(holds)?;
        self.spread |= known.node != self.node;
        Some((known.host, (access.offset - known.group.first) as u64))
    }

    /// What a look for the current instruction's access is for.
    fn group(&self, access: &Access) -> Group {
        self.groups.group(self.node, self.instruction, access)
    }

    fn add(&mut self, access: &Access, group: Group, host: Value) {
        self.known.push(Known { node: self.node, key: access.key, group, host });
        self.shared.push((self.node, access.at));
    }

    /// The mapping may have changed.
    fn forget(&mut self) {
        self.known.clear();
    }
}

impl Translator<'_> {
    /// The offset part of the memory operand's address, before it is cut to the address size.
    fn effective_offset(&mut self, op: &Op) -> Value {
        let displacement = op.displacement as i64 as u64;
        let sum = match (op.base, op.index) {
            (reg::RIP, _) => return self.next_rip(displacement),
            (reg::ZERO, reg::ZERO) => return self.builder.ins().iconst(I64, displacement as i64),
            (base, reg::ZERO) => self.register(base),
            (reg::ZERO, index) => self.scaled(index, op.scale),
            (base, index) => {
                let base = self.register(base);
                let index = self.scaled(index, op.scale);
                self.builder.ins().iadd(base, index)
            }
        };
        self.add_constant(sum, displacement)
    }

    fn scaled(&mut self, index: u8, scale: u8) -> Value {
        let index = self.register(index);
        if scale == 0 { index } else { self.builder.ins().ishl_imm_u(index, i64::from(scale)) }
    }

    fn cut_to_address_size(&mut self, op: &Op, offset: Value) -> Value {
        match op.address_mask() {
            u64::MAX => offset,
            mask => self.builder.ins().band_imm_u(offset, mask as i64),
        }
    }

    /// The effective address, cut to the address size.
    pub(crate) fn address_offset(&mut self, op: &Op) -> Value {
        let offset = self.effective_offset(op);
        self.cut_to_address_size(op, offset)
    }

    /// The linear address `displacement` bytes from the memory operand. No address that is not canonical is in the TLB,
    /// so no check is needed here.
    pub(crate) fn operand_linear(&mut self, op: &Op, displacement: Option<Value>) -> Value {
        let mut offset = self.effective_offset(op);
        if let Some(displacement) = displacement {
            offset = self.builder.ins().iadd(offset, displacement);
        }
        if op.form == AddressForm::Checked {
            offset = self.cut_to_address_size(op, offset);
        }
        let segment = usize::from(op.segment);
        if segment < SegmentIndex::FS {
            return offset;
        }
        let at = offset_of!(Vcpu, segments) + segment * size_of::<Segment>() + offset_of!(Segment, base);
        let base = self.load_state(at);
        self.builder.ins().iadd(offset, base)
    }

    /// The host address of the memory operand, of `W`. The same page is looked up once for the accesses of a group.
    pub(crate) fn operand_host<W: Width>(&mut self, op: &Op, kind: Kind) -> Value {
        self.member_host::<W>(kind, |t| t.operand_linear(op, None))
    }

    /// The host address of the only access of the current instruction, whose linear address `linear` gives.
    pub(crate) fn member_host<W: Width>(
        &mut self,
        kind: Kind,
        linear: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        if let (Some(window), Some(offset)) = (self.window, self.lookups.in_window()) {
            return self.add_constant(window, offset);
        }
        let Some(access) = self.lookups.access(W::BYTES) else {
            let linear = linear(self);
            return self.host_address::<W>(linear, kind);
        };
        if let Some((host, distance)) = self.lookups.place_of(&access) {
            return self.add_constant(host, distance);
        }
        let group = self.lookups.group(&access);
        let linear = linear(self);
        if !group.is_shared {
            return self.host_address::<W>(linear, kind);
        }
        let distance = (access.offset - group.first) as u64;
        let first = self.add_constant(linear, distance.wrapping_neg());
        let bytes = (group.end - group.first) as u64;
        let host = self.probe(first, Request { bytes, kind, for_writes: group.writes, grouped: true });
        self.lookups.add(&access, group, host);
        self.add_constant(host, distance)
    }

    /// The host address of `W` at a linear address. If the TLB does not know it, a function fills the TLB; where it
    /// cannot, or the access crosses a page, the region is left before the current instruction.
    pub(crate) fn host_address<W: Width>(&mut self, linear: Value, kind: Kind) -> Value {
        let for_writes = kind == Kind::Write;
        self.probe(linear, Request { bytes: W::BYTES, kind, for_writes, grouped: false })
    }

    /// The host address of the region's stack window. Where it cannot be had, the region is left before it has begun.
    pub(crate) fn prove_window(&mut self, window: &StackWindow) {
        let &StackWindow { first, span, writes, .. } = window;
        let top = self.register(reg::RSP);
        let first = self.add_constant(top, first as u64);
        let request = Request { bytes: span, kind: Kind::Read, for_writes: writes, grouped: true };
        self.window = Some(self.probe(first, request));
    }

    /// An instruction may change the mapping.
    pub(crate) fn forget_hosts(&mut self) {
        self.lookups.forget();
        self.mapping_changes = true;
    }

    fn probe(&mut self, linear: Value, request: Request) -> Value {
        if let Some(hint) = self.hint_of(request) {
            return self.probe_with_hint(linear, request, hint);
        }
        let (entry, hit) = self.compare_entry(self.tlb, linear, request);
        let [fast, slow, found] = [(); 3].map(|()| self.builder.create_block());
        self.builder.set_cold_block(slow);
        let addend = self.builder.append_block_param(found, I64);
        self.builder.ins().brif(hit, fast, &[], slow, &[]);
        self.builder.switch_to_block(slow);
        let address = self.find_slowly(linear, request);
        let distance = self.builder.ins().isub(address, linear);
        self.builder.ins().jump(found, &[distance.into()]);
        self.builder.switch_to_block(fast);
        let addend_offset = offset_of!(TlbEntry, addend) as i32;
        let distance = self.builder.ins().load(I64, self.regions.tlb, entry, addend_offset);
        self.builder.ins().jump(found, &[distance.into()]);
        self.builder.switch_to_block(found);
        // In another block than the load, so that it becomes part of the access's address rather than an instruction with a
        // load: the way from the address to the data is two cycles shorter.
        self.builder.ins().iadd(linear, addend)
    }

    /// The entry of the TLB at `tlb` that would know `linear`, and whether it does.
    pub(crate) fn compare_entry(&mut self, tlb: Value, linear: Value, request: Request) -> (Value, Value) {
        let entry_bits = size_of::<TlbEntry>().trailing_zeros();
        let sets = ((SETS - 1) * size_of::<TlbEntry>()) as i64;
        // `tlb::set_of`, already multiplied by the size of an entry.
        let shifted = self.builder.ins().ushr_imm_u(linear, i64::from(12 - entry_bits));
        let at = self.builder.ins().band_imm_u(shifted, sets);
        let entry = self.builder.ins().iadd(tlb, at);
        let tag = self.builder.ins().load(I64, self.regions.tlb, entry, request.tag_offset());
        let differs = self.builder.ins().bxor(linear, tag);
        let limit = 4097 - request.bytes as i64;
        let hit = self.builder.ins().icmp_imm_u(IntCC::UnsignedLessThan, differs, limit);
        (entry, hit)
    }

    /// The host address, in a cold block, or the region is left.
    pub(crate) fn find_slowly(&mut self, linear: Value, request: Request) -> Value {
        let address = self.slow_access(linear, request);
        let exit = self.side_exit();
        // Else the way back would be among the code that is not cold.
        let filled = self.builder.create_block();
        self.builder.set_cold_block(filled);
        self.builder.ins().brif(address, filled, &[], exit, &[]);
        self.builder.switch_to_block(filled);
        address
    }

    /// Asks `context::slow_access` for the host address; zero if there is none. Its arguments go through `JitContext`, and it
    /// preserves all registers, so that the way around it costs nothing.
    fn slow_access(&mut self, linear: Value, request: Request) -> Value {
        self.store_exchange(linear, offset_of!(JitContext, linear));
        let access = self.builder.ins().iconst(I64, request.encode() as i64);
        self.store_exchange(access, offset_of!(JitContext, access));
        let function = self.load_cold(offset_of!(JitContext, slow_access));
        self.builder.ins().call_indirect(self.signatures.preserving, function, &[self.context]);
        let offset = offset_of!(JitContext, host) as i32;
        self.builder.ins().load(I64, self.regions.exchange, self.context, offset)
    }

    /// Loads from guest RAM, zero-extended.
    pub(crate) fn load_host<W: Width>(&mut self, host: Value) -> Value {
        self.before_load();
        let flags = self.regions.guest;
        let ins = self.builder.ins();
        let value = match W::BITS {
            8 => ins.uload8(I64, flags, host, 0),
            16 => ins.uload16(I64, flags, host, 0),
            32 => ins.uload32(flags, host, 0),
            _ => ins.load(I64, flags, host, 0),
        };
        self.after_load();
        value
    }

    /// Stores the low `W` bits to guest RAM.
    pub(crate) fn store_host<W: Width>(&mut self, host: Value, value: Value) {
        self.before_store();
        let value = self.low_bits(value, type_of::<W>());
        self.builder.ins().store(self.regions.guest, value, host, 0);
    }
}
