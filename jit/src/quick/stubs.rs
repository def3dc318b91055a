//! What stands around the nodes' code: the way in, counters, and out of line the ways out and slow accesses.

use super::assembler::*;
use super::ir::slot;
use super::registers::{CONTEXT, SPILL_BYTES, STATE, STATE_BIAS, TEMPORARY, slot_offset};
use super::ways::{QUICK_OFFSET, WITHIN, dispatch_from_quick, leave_quick};
use crate::context::{JitContext, LeaveKind, RAISED};
use crate::heat::TAKEN_OVER;
use crate::links::{Links, SlotNumber, Slots};
use rx86_cpu::state::Vcpu;
use std::mem::offset_of;

/// Holds the TLB's entries.
pub(super) const TLB: Reg = R13;
/// Holds the counters of `Heat`.
const HEATS: Reg = R12;
/// Holds `JitContext::remaining`.
pub(super) const REMAINING: Reg = R14;

/// Holds the address of a way's slot when that is jumped through.
pub(super) const LINK: Reg = RCX;

/// Where STI's shadow is from `STATE`.
pub(super) const SHADOW: i32 = offset_of!(Vcpu, sti_shadow) as i32 - STATE_BIAS;

/// An instruction of one byte that does nothing.
const NOP: u8 = 0x90;

/// The stack that code uses: places for values, and what makes it aligned for calls.
pub(super) const FRAME: i32 = SPILL_BYTES + 8;

/// Code that is written behind the nodes'.
#[derive(Clone, Copy)]
pub(super) enum Stub {
    /// Goes on in another translation, or returns, at an offset from the region's first byte.
    Leave { label: Label, offset: i64 },
    /// Leaves before an instruction; `undo` instructions have been counted too early.
    Exit { label: Label, offset: i64, undo: i32, kind: LeaveKind },
    /// As `Leave`, when the budget is spent or the node's counter is.
    Hot { label: Label, offset: i32, heat: u32 },
    /// Asks for the host address of `linear`, for `to`; if there is none, leaves as `Exit`.
    SlowAccess { label: Label, back: Label, linear: Reg, request: u64, to: Reg, offset: i32, undo: i32 },
    /// Makes the flags two values.
    Settle { label: Label, back: Label },
    /// Makes MXCSR the guest's.
    LoadMxcsr { label: Label, back: Label, exit: Label },
    /// A function has not just done its instruction. `undo` counts that one.
    NotDone { label: Label, undo: i32 },
}

/// The stubs of a region.
#[derive(Default)]
pub(super) struct Stubs {
    waiting: Vec<Stub>,
    common: Option<Common>,
    slots: Slots,
    /// Slots that may be used.
    supply: Vec<SlotNumber>,
}

/// Ends that stubs share.
#[derive(Clone, Copy)]
struct Common {
    dispatch: Label,
    /// Returns RAX.
    leave: Label,
    interpret: Label,
    /// What the stubs go through that have these names. Those of `Hot` and `SlowAccess` are called, and find behind the call
    /// what the stub has to say: few bytes for each of many places that are seldom come to.
    hot: Label,
    slow_access: Label,
    not_done: Label,
}

/// Where in `SlowAccess`'s first doubleword, above the request's bits, the count of instructions to undo is.
const UNDO_SHIFT: u8 = 19;

/// The most instructions of a node, so that the count has room there.
pub(super) const MAX_NODE_INSTRUCTIONS: usize = (1 << (32 - UNDO_SHIFT)) - 1;

pub(super) fn field(offset: usize) -> i32 {
    offset as i32
}

impl Stubs {
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.common = None;
    }

    /// Makes so many slots ready for use.
    pub(super) fn supply(&mut self, links: &mut Links, count: usize) {
        self.supply.extend((0..count).map(|_| links.allocate()));
    }

    /// The slots that the code uses. The others are given back.
    pub(super) fn take_slots(&mut self, links: &mut Links) -> Slots {
        self.supply.drain(..).for_each(|number| links.free(number));
        std::mem::take(&mut self.slots)
    }

    fn slot(&mut self) -> SlotNumber {
        self.supply.pop().expect("a node has no more than two ways out")
    }

    pub(super) fn add(&mut self, stub: Stub) {
        self.waiting.push(stub);
    }

    fn common(&mut self, asm: &mut Assembler) -> Common {
        *self.common.get_or_insert_with(|| Common {
            dispatch: asm.label(),
            leave: asm.label(),
            interpret: asm.label(),
            hot: asm.label(),
            slow_access: asm.label(),
            not_done: asm.label(),
        })
    }

    /// Goes on in another translation, or returns. The state has been stored, and RIP, which is in RAX, too.
    pub(super) fn dispatch(&mut self, asm: &mut Assembler) {
        asm.jump_memory(CONTEXT, field(offset_of!(JitContext, quick_dispatch)));
    }

    /// The way in: the parameters are those of every translation.
    pub(super) fn entry(&mut self, asm: &mut Assembler) {
        (0..QUICK_OFFSET).for_each(|_| asm.byte(NOP));
        asm.alu_constant(Alu::Sub, 64, RSP, FRAME);
        asm.mov(CONTEXT, RDI);
        asm.load(64, STATE, CONTEXT, field(offset_of!(JitContext, state)));
        asm.alu_constant(Alu::Sub, 64, STATE, -STATE_BIAS);
        asm.load(64, TLB, CONTEXT, field(offset_of!(JitContext, tlb)));
        asm.load(64, HEATS, CONTEXT, field(offset_of!(JitContext, heats)));
        asm.load(64, REMAINING, CONTEXT, field(offset_of!(JitContext, remaining)));
        assert_eq!(asm.code.len() - QUICK_OFFSET, WITHIN as usize, "others enter behind it");
    }

    /// The head of a node: counts it and its instructions, and looks at the budget if it is the `first` of a loop or of the
    /// region.
    pub(super) fn count(
        &mut self,
        asm: &mut Assembler,
        heat: u32,
        hot: Label,
        instructions: usize,
        first: bool,
    ) {
        asm.alu_memory(Alu::Sub, 32, HEATS, 4 * heat as i32, 1);
        asm.jump_if(condition::SIGN, hot);
        if first {
            asm.alu_constant(Alu::Cmp, 64, REMAINING, 0);
            asm.jump_if(condition::LESS_OR_EQUAL, hot);
        }
        asm.alu_constant(Alu::Sub, 64, REMAINING, instructions as i32);
    }

    /// Calls the function at `calls` bytes in the translation's, whose instruction ends at offset `next`.
    pub(super) fn call(&mut self, asm: &mut Assembler, calls: i32, next: i64, not_done: Label) {
        asm.mov(RDI, CONTEXT);
        let slot = self.slots.calls.unwrap_or_else(|| self.slot());
        self.slots.calls = Some(slot);
        asm.load(64, RSI, CONTEXT, field(offset_of!(JitContext, links)));
        asm.load(64, RSI, RSI, 8 * slot as i32);
        if calls != 0 {
            asm.alu_constant(Alu::Add, 64, RSI, calls);
        }
        asm.load(64, RDX, STATE, slot_offset(slot::RIP));
        self.add_offset(asm, RDX, next);
        asm.call_memory(CONTEXT, field(offset_of!(JitContext, call)));
        asm.test(RAX, RAX);
        asm.jump_if(condition::NOT_EQUAL, not_done);
    }

    /// Turns STI's shadow off, and goes to `disturbed` if somebody wants attention.
    pub(super) fn end_shadow(&mut self, asm: &mut Assembler, disturbed: Label) {
        asm.store_constant(8, STATE, SHADOW, 0);
        asm.load(64, TEMPORARY, CONTEXT, field(offset_of!(JitContext, attention)));
        asm.alu_memory(Alu::Cmp, 32, TEMPORARY, 0, 0);
        asm.jump_if(condition::NOT_EQUAL, disturbed);
    }

    /// Makes the flags two values, unless they are.
    pub(super) fn settle(&mut self, asm: &mut Assembler) {
        let (label, back) = (asm.label(), asm.label());
        asm.alu_memory(Alu::Cmp, 64, CONTEXT, field(offset_of!(JitContext, flags_shape)), 0);
        asm.jump_if(condition::NOT_EQUAL, label);
        asm.bind(back);
        self.add(Stub::Settle { label, back });
    }

    /// Goes to `load` unless MXCSR is the guest's.
    pub(super) fn check_mxcsr(&mut self, asm: &mut Assembler, load: Label) {
        asm.alu_memory(Alu::Cmp, 64, CONTEXT, field(offset_of!(JitContext, mxcsr_loaded)), 0);
        asm.jump_if(condition::EQUAL, load);
    }

    fn add_offset(&mut self, asm: &mut Assembler, reg: Reg, offset: i64) {
        match i32::try_from(offset) {
            Ok(0) => {}
            Ok(offset) => asm.alu_constant(Alu::Add, 64, reg, offset),
            Err(_) => {
                asm.mov_constant(TEMPORARY, offset as u64);
                asm.alu(Alu::Add, 64, reg, TEMPORARY);
            }
        }
    }

    /// RIP is `offset` bytes from the region's first; in RAX, too.
    fn set_rip_and_rax(&mut self, asm: &mut Assembler, offset: i64) {
        asm.load(64, RAX, STATE, slot_offset(slot::RIP));
        self.add_offset(asm, RAX, offset);
        asm.store(64, STATE, slot_offset(slot::RIP), RAX);
    }

    /// RIP is `offset` bytes from the region's first.
    fn set_rip(&mut self, asm: &mut Assembler, offset: i64) {
        match i32::try_from(offset) {
            Ok(0) => {}
            Ok(offset) => asm.alu_memory(Alu::Add, 64, STATE, slot_offset(slot::RIP), offset),
            Err(_) => self.set_rip_and_rax(asm, offset),
        }
    }

    /// Goes on in another translation, or returns, at `offset` from the region's first byte.
    pub(super) fn leave(&mut self, asm: &mut Assembler, offset: i64) {
        self.set_rip_and_rax(asm, offset);
        let slot = self.slot();
        self.slots.ways.push((slot, offset));
        asm.load(64, LINK, CONTEXT, field(offset_of!(JitContext, links)));
        asm.alu_constant(Alu::Add, 64, LINK, 8 * slot as i32);
        asm.jump_memory(LINK, 0);
    }

    /// Writes all that waits.
    pub(super) fn emit(&mut self, asm: &mut Assembler) {
        let common = self.common(asm);
        let (mut accesses, mut calls) = (false, false);
        for stub in std::mem::take(&mut self.waiting) {
            match stub {
                Stub::SlowAccess { .. } => accesses = true,
                Stub::NotDone { .. } => calls = true,
                _ => {}
            }
            self.stub(asm, stub, common);
        }
        self.hot(asm, common);
        if calls {
            self.not_done(asm, common);
        }
        asm.bind(common.dispatch);
        dispatch_from_quick(asm);
        if accesses {
            self.slow_access(asm, common);
        }
        asm.bind(common.interpret);
        asm.mov_constant(RAX, LeaveKind::Interpret as u64);
        asm.bind(common.leave);
        leave_quick(asm);
        asm.ret();
    }

    /// What `Hot` calls, with the offset and the counter's number behind the call.
    fn hot(&mut self, asm: &mut Assembler, common: Common) {
        asm.bind(common.hot);
        asm.pop(TEMPORARY);
        asm.load_signed(RAX, TEMPORARY, 0);
        asm.add_to_memory(STATE, slot_offset(slot::RIP), RAX);
        asm.load(32, RAX, TEMPORARY, 4);
        asm.load_element(RCX, HEATS, RAX);
        // Spent is the counter only if it has come to -1: a lower one says that there is another translation.
        asm.alu_constant(Alu::Cmp, 32, RCX, 0);
        asm.jump_if(condition::GREATER_OR_EQUAL, common.dispatch);
        asm.alu_constant(Alu::Cmp, 32, RCX, TAKEN_OVER);
        asm.jump_if(condition::LESS, common.dispatch);
        asm.store(64, CONTEXT, field(offset_of!(JitContext, hot)), RAX);
        asm.mov_constant(RAX, LeaveKind::Hot as u64);
        asm.jump(common.leave);
    }

    /// What `SlowAccess` calls, with the request and the way out behind the call: returns the host address in `TEMPORARY` and
    /// preserves all other registers, or leaves.
    fn slow_access(&mut self, asm: &mut Assembler, common: Common) {
        let refused = asm.label();
        asm.bind(common.slow_access);
        asm.load(64, TEMPORARY, RSP, 0);
        asm.load(32, TEMPORARY, TEMPORARY, 0);
        asm.store(64, CONTEXT, field(offset_of!(JitContext, access)), TEMPORARY);
        asm.alu_constant(Alu::Sub, 64, RSP, 8);
        asm.exchange(RDI, CONTEXT);
        asm.call_memory(RDI, field(offset_of!(JitContext, slow_access)));
        asm.exchange(RDI, CONTEXT);
        asm.alu_constant(Alu::Add, 64, RSP, 8);
        asm.load(64, TEMPORARY, CONTEXT, field(offset_of!(JitContext, host)));
        asm.test(TEMPORARY, TEMPORARY);
        asm.jump_if(condition::EQUAL, refused);
        asm.alu_memory(Alu::Add, 64, RSP, 0, 8);
        asm.ret();
        asm.bind(refused);
        asm.pop(TEMPORARY);
        asm.load_signed(RAX, TEMPORARY, 4);
        asm.add_to_memory(STATE, slot_offset(slot::RIP), RAX);
        asm.load(32, RAX, TEMPORARY, 0);
        asm.shift(Shift::Right, RAX, UNDO_SHIFT);
        asm.alu(Alu::Add, 64, REMAINING, RAX);
    }

    /// What `NotDone` goes on with.
    fn not_done(&mut self, asm: &mut Assembler, common: Common) {
        asm.bind(common.not_done);
        asm.alu_constant(Alu::Cmp, 64, RAX, RAISED as i32);
        asm.mov_constant(RAX, LeaveKind::Exception as u64);
        asm.jump_if(condition::EQUAL, common.leave);
        asm.alu_constant(Alu::Sub, 64, REMAINING, 1);
    }

    fn stub(&mut self, asm: &mut Assembler, stub: Stub, common: Common) {
        match stub {
            Stub::Leave { label, offset } => {
                asm.bind(label);
                self.leave(asm, offset);
            }
            Stub::Exit { label, offset, undo, kind } => {
                asm.bind(label);
                self.set_rip(asm, offset);
                if undo != 0 {
                    asm.alu_constant(Alu::Add, 64, REMAINING, undo);
                }
                if kind == LeaveKind::Interpret {
                    asm.jump(common.interpret);
                } else {
                    asm.mov_constant(RAX, kind as u64);
                    asm.jump(common.leave);
                }
            }
            Stub::Hot { label, offset, heat } => {
                asm.bind(label);
                asm.call(common.hot);
                asm.dword(offset);
                asm.dword(heat as i32);
            }
            Stub::SlowAccess { label, back, linear, request, to, offset, undo } => {
                asm.bind(label);
                asm.store(64, CONTEXT, field(offset_of!(JitContext, linear)), linear);
                asm.call(common.slow_access);
                asm.dword(request as i32 | undo << UNDO_SHIFT);
                asm.dword(offset);
                asm.mov(to, TEMPORARY);
                asm.jump(back);
            }
            Stub::Settle { label, back } => {
                asm.bind(label);
                asm.exchange(RDI, CONTEXT);
                asm.call_memory(RDI, field(offset_of!(JitContext, settle)));
                asm.exchange(RDI, CONTEXT);
                asm.jump(back);
            }
            Stub::LoadMxcsr { label, back, exit } => {
                asm.bind(label);
                asm.mov(RDI, CONTEXT);
                asm.call_memory(CONTEXT, field(offset_of!(JitContext, load_mxcsr_function)));
                asm.test(RAX, RAX);
                asm.jump_if(condition::NOT_EQUAL, back);
                asm.jump(exit);
            }
            Stub::NotDone { label, undo } => {
                asm.bind(label);
                asm.alu_constant(Alu::Add, 64, REMAINING, undo);
                asm.jump(common.not_done);
            }
        }
    }
}
