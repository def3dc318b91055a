//! Guest memory accesses of translated code: linear addresses, the inline probe of the software TLB, host loads and
//! stores.

use crate::context::JitContext;
use crate::groups::{Group, Groups, Member};
use crate::translator::Translator;
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
    Read,
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
        self.bytes | bit(self.kind == Kind::Write, 16) | bit(self.for_writes, 17) | bit(self.grouped, 18)
    }

    /// Where in a TLB entry the tag is that it is compared with.
    pub(crate) fn tag_offset(self) -> i32 {
        let offset = if self.for_writes { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) };
        offset as i32
    }

    /// The request of `JitContext::access`.
    pub(crate) fn decode(access: u64) -> Self {
        let bit = |bit: u32| access >> bit & 1 != 0;
        let kind = if bit(16) { Kind::Write } else { Kind::Read };
        Self { bytes: access & 0xffff, kind, for_writes: bit(17), grouped: bit(18) }
    }
}

/// The groups of the node that is translated, and what is known of them where the translation is.
#[derive(Default)]
pub(crate) struct NodeGroups {
    groups: Groups,
    /// The host address of each group's first byte.
    hosts: Vec<Option<Value>>,
    /// For each instruction its place in the region's stack window, if it has one.
    in_window: Vec<Option<u64>>,
    /// The current instruction's number in the node.
    current: usize,
}

impl NodeGroups {
    pub(crate) fn new(groups: Groups, in_window: &[Option<u64>]) -> Self {
        let hosts = vec![None; groups.groups.len()];
        Self { groups, hosts, in_window: in_window.to_vec(), current: 0 }
    }

    fn in_window(&self) -> Option<u64> {
        self.in_window.get(self.current).copied().flatten()
    }

    fn member(&self) -> Option<Member> {
        self.groups.member(self.current)
    }

    fn group(&self, group: usize) -> Group {
        self.groups.groups[group]
    }

    fn host(&self, group: usize) -> Option<Value> {
        self.hosts[group]
    }

    fn set_host(&mut self, group: usize, host: Value) {
        self.hosts[group] = Some(host);
    }

    pub(crate) fn next_instruction(&mut self) {
        self.current += 1;
    }

    /// The mapping may have changed.
    pub(crate) fn forget(&mut self) {
        self.hosts.fill(None);
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
        if let (Some(window), Some(offset)) = (self.window, self.groups.in_window()) {
            return self.add_constant(window, offset);
        }
        let Some(Member { group, offset }) = self.groups.member() else {
            let linear = linear(self);
            return self.host_address::<W>(linear, kind);
        };
        let first = match self.groups.host(group) {
            Some(first) => first,
            None => {
                let Group { span, writes } = self.groups.group(group);
                let linear = linear(self);
                let first = self.add_constant(linear, offset.wrapping_neg());
                let request = Request { bytes: span, kind, for_writes: writes, grouped: true };
                let host = self.probe(first, request);
                self.groups.set_host(group, host);
                host
            }
        };
        self.add_constant(first, offset)
    }

    /// The host address of `W` at a linear address. If the TLB does not know it, a function fills the TLB; where it
    /// cannot, or the access crosses a page, the region is left before the current instruction.
    pub(crate) fn host_address<W: Width>(&mut self, linear: Value, kind: Kind) -> Value {
        let for_writes = kind == Kind::Write;
        self.probe(linear, Request { bytes: W::BYTES, kind, for_writes, grouped: false })
    }

    /// The host address of the region's stack window. Where it cannot be had, the region is left before it has begun.
    pub(crate) fn prove_window(&mut self, window: &StackWindow) {
        let top = self.register(reg::RSP);
        let first = self.add_constant(top, window.first as u64);
        let request =
            Request { bytes: window.span, kind: Kind::Read, for_writes: window.writes, grouped: true };
        self.window = Some(self.probe(first, request));
    }

    /// An instruction may change the mapping.
    pub(crate) fn forget_hosts(&mut self) {
        self.groups.forget();
        self.mapping_changes = true;
    }

    fn probe(&mut self, linear: Value, request: Request) -> Value {
        if let Some(hint) = self.hint_of(request) {
            return self.probe_with_hint(linear, request, hint);
        }
        let (entry, hit) = self.compare_entry(self.tlb, linear, request);
        let [fast, slow, found] = [(); 3].map(|()| self.builder.create_block());
        self.builder.set_cold_block(slow);
        let host = self.builder.append_block_param(found, I64);
        self.builder.ins().brif(hit, fast, &[], slow, &[]);
        self.builder.switch_to_block(slow);
        let address = self.find_slowly(linear, request);
        self.builder.ins().jump(found, &[address.into()]);
        self.builder.switch_to_block(fast);
        let addend_offset = offset_of!(TlbEntry, addend) as i32;
        let addend = self.builder.ins().load(I64, self.regions.tlb, entry, addend_offset);
        let address = self.builder.ins().iadd(linear, addend);
        self.builder.ins().jump(found, &[address.into()]);
        self.builder.switch_to_block(found);
        host
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
        self.builder.ins().call_indirect(self.signatures.slow_access, function, &[self.context]);
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
        let flags = self.regions.guest;
        let ins = self.builder.ins();
        match W::BITS {
            8 => ins.istore8(flags, value, host, 0),
            16 => ins.istore16(flags, value, host, 0),
            32 => ins.istore32(flags, value, host, 0),
            _ => ins.store(flags, value, host, 0),
        };
    }
}
