//! The ways from one translation to the next on hosts of the quick tier: what `thunks` has as IR for all hosts, and a shorter
//! way that starts in a quick translation, whose registers another one takes over as they are.

use super::assembler::*;
use super::ir::slot;
use super::registers::{CONTEXT, STATE, STATE_BIAS, TEMPORARY, slot_offset};
use super::stubs::{FRAME, LINK, REMAINING, field};
use crate::context::{JitContext, LeaveKind};
use crate::jumps::{ENTRIES, JumpEntry, SHIFT};
use std::mem::offset_of;

/// Quick translations begin at odd addresses, others at even ones: by that this code tells them apart.
pub(crate) const QUICK_OFFSET: usize = 1;

/// From its first instruction so far is that before which another quick translation enters.
pub(crate) const WITHIN: i32 = 29;

/// Host code for `JitContext::dispatch`.
pub(crate) fn dispatch_code() -> Vec<u8> {
    let mut asm = Assembler::default();
    let (back, unknown) = (asm.label(), asm.label());
    asm.alu_memory(Alu::Cmp, 64, RDI, field(offset_of!(JitContext, remaining)), 0);
    asm.jump_if(condition::LESS_OR_EQUAL, back);
    asm.load(64, RAX, RDI, field(offset_of!(JitContext, state)));
    asm.load(64, RAX, RAX, slot_offset(slot::RIP) + STATE_BIAS);
    look(&mut asm, RDI, back, unknown);
    asm.jump_register(RAX);
    asm.bind(unknown);
    asm.mov(RSI, RDI);
    asm.jump_memory(RDI, field(offset_of!(JitContext, look_up)));
    asm.bind(back);
    asm.mov_constant(RAX, LeaveKind::Next as u64);
    asm.ret();
    asm.link();
    asm.code
}

/// Host code for `JitContext::quick_dispatch`, with the registers of a quick translation, and RIP in RAX, too.
pub(crate) fn quick_dispatch_code() -> Vec<u8> {
    let mut asm = Assembler::default();
    let (slow, other) = (asm.label(), asm.label());
    asm.test(REMAINING, REMAINING);
    asm.jump_if(condition::LESS_OR_EQUAL, slow);
    look(&mut asm, CONTEXT, slow, slow);
    asm.test_low(RAX, QUICK_OFFSET as u8);
    asm.jump_if(condition::EQUAL, other);
    asm.alu_constant(Alu::Add, 64, RAX, WITHIN);
    asm.jump_register(RAX);
    asm.bind(other);
    leave_quick(&mut asm);
    asm.mov(RDI, CONTEXT);
    asm.jump_register(RAX);
    asm.bind(slow);
    dispatch_from_quick(&mut asm);
    asm.link();
    asm.code
}

/// Host code for a link's slot at first, with the registers of a quick translation and the slot's address in `LINK`.
pub(crate) fn link_code() -> Vec<u8> {
    let mut asm = Assembler::default();
    let back = asm.label();
    asm.mov(RDI, CONTEXT);
    asm.mov(RSI, LINK);
    asm.call_memory(CONTEXT, field(offset_of!(JitContext, link_function)));
    asm.mov(RCX, RAX);
    asm.test(RAX, RAX);
    asm.jump_if(condition::EQUAL, back);
    asm.load(64, RAX, STATE, slot_offset(slot::RIP));
    asm.jump_register(RCX);
    asm.bind(back);
    leave_quick(&mut asm);
    asm.mov_constant(RAX, LeaveKind::Next as u64);
    asm.ret();
    asm.link();
    asm.code
}

/// Finds the way on at RAX, with `context` in that register: code in RAX, calls in RSI.
fn look(asm: &mut Assembler, context: Reg, disturbed: Label, unknown: Label) {
    let entry_bits = size_of::<JumpEntry>().trailing_zeros() as u8;
    asm.load(64, RDX, context, field(offset_of!(JitContext, attention)));
    asm.alu_memory(Alu::Cmp, 32, RDX, 0, 0);
    asm.jump_if(condition::NOT_EQUAL, disturbed);
    asm.mov(RCX, RAX);
    asm.shift(Shift::Right, RCX, SHIFT as u8);
    asm.alu(Alu::Xor, 64, RCX, RAX);
    asm.alu_constant(Alu::And, 32, RCX, ENTRIES as i32 - 1);
    asm.shift(Shift::Left, RCX, entry_bits);
    asm.load(64, RDX, context, field(offset_of!(JitContext, jumps)));
    asm.alu(Alu::Add, 64, RCX, RDX);
    asm.load(64, RDX, RCX, field(offset_of!(JumpEntry, rip)));
    asm.alu(Alu::Cmp, 64, RDX, RAX);
    asm.jump_if(condition::NOT_EQUAL, unknown);
    asm.shift(Shift::Right, RAX, 63);
    asm.lea_indexed(RAX, context, RAX, 3, 0);
    asm.load(64, TEMPORARY, RAX, field(offset_of!(JitContext, tags)));
    asm.load(64, RDX, RCX, field(offset_of!(JumpEntry, tag)));
    asm.alu(Alu::Cmp, 64, TEMPORARY, RDX);
    asm.jump_if(condition::NOT_EQUAL, unknown);
    asm.load(64, RAX, RCX, field(offset_of!(JumpEntry, code)));
    asm.load(64, RSI, RCX, field(offset_of!(JumpEntry, calls)));
}

/// Goes on in any translation, or returns; RIP has been stored.
pub(super) fn dispatch_from_quick(asm: &mut Assembler) {
    leave_quick(asm);
    asm.mov(RDI, CONTEXT);
    asm.jump_memory(RDI, field(offset_of!(JitContext, dispatch)));
}

/// Gives back what a quick translation has for itself: the count of instructions and the stack.
pub(super) fn leave_quick(asm: &mut Assembler) {
    asm.store(64, CONTEXT, field(offset_of!(JitContext, remaining)), REMAINING);
    asm.alu_constant(Alu::Add, 64, RSP, FRAME);
}
