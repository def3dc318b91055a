//! Near jumps, calls and returns, Jcc, LOOPcc, JrCXZ.

use super::moves::{Condition, by_condition};
use super::operand::{Memory, Register, Source, by_width};
use crate::op::{Op, reg};
use crate::ops::{Meaning, MicroOps};
use crate::width::{W16, W32, W64, Width};
use iced_x86::{Code, Instruction, Mnemonic, OpKind};

fn jcc<M: MicroOps, C: Condition>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let holds = C::test(m);
    m.branch(op, holds)
}

macro_rules! jcc_of {
    ($cc:ty, $m:ident) => {
        Some(jcc::<$m, $cc> as Meaning<$m>)
    };
}

fn jmp<M: MicroOps>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let always = m.constant(1);
    m.branch(op, always)
}

fn jmp_indirect<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let target = S::read::<M, W>(m, op)?;
    m.jump(target)
}

/// CALL to a displacement. The push comes first: a push that faults must leave RIP alone, and so must a bad target
/// leave the stack alone.
fn call<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let displacement = m.constant(op.immediate);
    let next = m.get::<W64>(reg::RIP);
    let target = m.add(next, displacement);
    let target = m.truncate::<W>(target);
    call_to::<M, W>(m, op, target)
}

fn call_indirect<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let target = S::read::<M, W>(m, op)?;
    call_to::<M, W>(m, op, target)
}

#[inline(always)]
fn call_to<M: MicroOps, W: Width>(m: &mut M, op: &Op, target: M::Int) -> Result<(), M::Fault> {
    let next = m.get::<W>(reg::RIP);
    m.check_target(target)?;
    m.push::<W>(op, next)?;
    m.jump(target)
}

/// RET, with the immediate's bytes released on top.
fn ret<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let target = m.peek_stack::<W>(op)?;
    m.jump(target)?;
    m.release_stack(op, W::BYTES + op.immediate);
    Ok(())
}

/// LOOP, LOOPE, LOOPNE: `C` is the count register's width.
fn loop_while<M: MicroOps, C: Width, K: LoopCondition>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let count = m.get::<C>(reg::RCX);
    let one = m.constant(1);
    let count = m.sub(count, one);
    let count = m.truncate::<C>(count);
    let zero = m.constant(0);
    let done = m.equal(count, zero);
    let more = m.xor(done, one);
    let holds = K::test(m);
    let taken = m.and(more, holds);
    // A taken branch may fault; then the count must not have changed.
    let before = m.get::<C>(reg::RCX);
    m.put::<C>(reg::RCX, count);
    let outcome = m.branch(op, taken);
    if outcome.is_err() {
        m.put::<C>(reg::RCX, before);
    }
    outcome
}

trait LoopCondition {
    fn test<M: MicroOps>(m: &mut M) -> M::Int;
}
struct Always;
impl LoopCondition for Always {
    #[inline(always)]
    fn test<M: MicroOps>(m: &mut M) -> M::Int {
        m.constant(1)
    }
}
struct WhileZero;
impl LoopCondition for WhileZero {
    #[inline(always)]
    fn test<M: MicroOps>(m: &mut M) -> M::Int {
        super::flags::condition::<M, 4>(m)
    }
}
struct WhileNotZero;
impl LoopCondition for WhileNotZero {
    #[inline(always)]
    fn test<M: MicroOps>(m: &mut M) -> M::Int {
        super::flags::condition::<M, 5>(m)
    }
}

/// JCXZ, JECXZ, JRCXZ.
fn jump_if_zero<M: MicroOps, C: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let count = m.get::<C>(reg::RCX);
    let zero = m.constant(0);
    let taken = m.equal(count, zero);
    m.branch(op, taken)
}

fn by_count<M: MicroOps>(op: &Op, functions: [Meaning<M>; 3]) -> Meaning<M> {
    match op.address_mask() {
        0xffff => functions[0],
        0xffff_ffff => functions[1],
        _ => functions[2],
    }
}

/// Near branches in 64-bit mode are 64 bits wide whatever the prefixes; iced-x86's codes say which width they are.
fn select_indirect<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    let bits = match i.code() {
        Code::Jmp_rm16 | Code::Call_rm16 => 16,
        Code::Jmp_rm32 | Code::Call_rm32 => 32,
        Code::Jmp_rm64 | Code::Call_rm64 => 64,
        _ => return None,
    };
    match (i.mnemonic() == Mnemonic::Call, i.op0_kind() == OpKind::Register) {
        (false, true) => by_width!(bits, [W16, W32, W64], jmp_indirect, M, Register<0>),
        (false, false) => by_width!(bits, [W16, W32, W64], jmp_indirect, M, Memory),
        (true, true) => by_width!(bits, [W16, W32, W64], call_indirect, M, Register<0>),
        (true, false) => by_width!(bits, [W16, W32, W64], call_indirect, M, Memory),
    }
}

/// The meaning of an instruction of this family.
pub(super) fn select<M: MicroOps>(i: &Instruction, op: &Op) -> Option<Meaning<M>> {
    match i.code() {
        Code::Jmp_rel8_16 | Code::Jmp_rel8_32 | Code::Jmp_rel8_64 => return Some(jmp::<M>),
        Code::Jmp_rel16 | Code::Jmp_rel32_32 | Code::Jmp_rel32_64 => return Some(jmp::<M>),
        Code::Call_rel16 => return Some(call::<M, W16>),
        Code::Call_rel32_32 => return Some(call::<M, W32>),
        Code::Call_rel32_64 => return Some(call::<M, W64>),
        Code::Retnw | Code::Retnw_imm16 => return Some(ret::<M, W16>),
        Code::Retnd | Code::Retnd_imm16 => return Some(ret::<M, W32>),
        Code::Retnq | Code::Retnq_imm16 => return Some(ret::<M, W64>),
        _ => {}
    }
    if i.is_jcc_short_or_near() {
        return by_condition!(i.condition_code(), jcc_of, M);
    }
    match i.mnemonic() {
        Mnemonic::Jmp | Mnemonic::Call => select_indirect(i),
        Mnemonic::Loop => Some(by_count(
            op,
            [loop_while::<M, W16, Always>, loop_while::<M, W32, Always>, loop_while::<M, W64, Always>],
        )),
        Mnemonic::Loope => Some(by_count(
            op,
            [
                loop_while::<M, W16, WhileZero>,
                loop_while::<M, W32, WhileZero>,
                loop_while::<M, W64, WhileZero>,
            ],
        )),
        Mnemonic::Loopne => Some(by_count(
            op,
            [
                loop_while::<M, W16, WhileNotZero>,
                loop_while::<M, W32, WhileNotZero>,
                loop_while::<M, W64, WhileNotZero>,
            ],
        )),
        Mnemonic::Jcxz => Some(jump_if_zero::<M, W16>),
        Mnemonic::Jecxz => Some(jump_if_zero::<M, W32>),
        Mnemonic::Jrcxz => Some(jump_if_zero::<M, W64>),
        _ => None,
    }
}
