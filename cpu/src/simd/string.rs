//! SSE4.2's string comparisons: PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM (SDM vol. 2, 4.1).

use super::lanes::{Lane, Vector};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::{ArithFlags, bits};
use crate::width::{W32, W64};
use iced_x86::{Code, Instruction};

/// The fields of the immediate.
#[derive(Clone, Copy)]
struct Control(u8);

impl Control {
    /// Elements are words, not bytes.
    fn words(self) -> bool {
        self.0 & 1 != 0
    }
    fn signed(self) -> bool {
        self.0 & 2 != 0
    }
    /// 0: equal any, 1: ranges, 2: equal each, 3: equal ordered.
    fn aggregation(self) -> u8 {
        self.0 >> 2 & 3
    }
    fn negated(self) -> bool {
        self.0 & 0x10 != 0
    }
    /// Negation leaves elements beyond the end of the second string alone.
    fn masked(self) -> bool {
        self.0 & 0x20 != 0
    }
    /// The index of the most significant set bit, or a mask of whole elements.
    fn most_significant(self) -> bool {
        self.0 & 0x40 != 0
    }
    /// Elements in a vector.
    fn elements(self) -> usize {
        if self.words() { 8 } else { 16 }
    }
}

/// A vector's elements, sign- or zero-extended.
fn elements(vector: Vector, control: Control) -> [i32; 16] {
    let mut result = [0; 16];
    match (control.words(), control.signed()) {
        (false, false) => result.copy_from_slice(&u8::split(vector).map(i32::from)),
        (false, true) => result.copy_from_slice(&i8::split(vector).map(i32::from)),
        (true, false) => result[..8].copy_from_slice(&u16::split(vector).map(i32::from)),
        (true, true) => result[..8].copy_from_slice(&i16::split(vector).map(i32::from)),
    }
    result
}

/// Elements before the first zero.
fn implicit_length(vector: Vector, control: Control) -> usize {
    let count = control.elements();
    elements(vector, control)[..count].iter().position(|&element| element == 0).unwrap_or(count)
}

/// What a comparison of two strings gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// IntRes2: one bit for each element.
    pub(crate) result: u16,
    /// CF, ZF, SF and OF at their places in RFLAGS.
    pub(crate) flags: u64,
}

/// IntRes1: bit j for element j of `b`.
fn aggregate(a: &[i32], b: &[i32], control: Control) -> u16 {
    let count = control.elements();
    let holds = |j: usize| match control.aggregation() {
        0 => j < b.len() && a.contains(&b[j]),
        1 => j < b.len() && a.chunks_exact(2).any(|range| range[0] <= b[j] && b[j] <= range[1]),
        2 => match (a.get(j), b.get(j)) {
            (Some(x), Some(y)) => x == y,
            (None, None) => true,
            _ => false,
        },
        // Elements beyond the end of a match anything; what would lie beyond the vector of b is not compared.
        _ => a.iter().take(count - j).enumerate().all(|(i, x)| b.get(j + i) == Some(x)),
    };
    (0..count).fold(0, |result, j| result | u16::from(holds(j)) << j)
}

/// Compares `a` of `a_length` elements with `b` of `b_length`; lengths beyond the vector count as its size.
pub(crate) fn compare_strings(
    a: Vector,
    a_length: usize,
    b: Vector,
    b_length: usize,
    immediate: u8,
) -> Comparison {
    let control = Control(immediate);
    let count = control.elements();
    let (a_length, b_length) = (a_length.min(count), b_length.min(count));
    let (a, b) = (elements(a, control), elements(b, control));
    let first = aggregate(&a[..a_length], &b[..b_length], control);
    let all = (u32::from(u16::MAX) >> (16 - count)) as u16;
    let inverted = match (control.negated(), control.masked()) {
        (false, _) => 0,
        (true, false) => all,
        (true, true) => ((1u32 << b_length) - 1) as u16,
    };
    let result = first ^ inverted;
    let set = |condition: bool, flag: u64| if condition { flag } else { 0 };
    let flags = set(result != 0, bits::RFLAGS_CF)
        | set(b_length < count, bits::RFLAGS_ZF)
        | set(a_length < count, bits::RFLAGS_SF)
        | set(result & 1 != 0, bits::RFLAGS_OF);
    Comparison { result, flags }
}

/// The index that PCMPxSTRI leaves in ECX.
pub(crate) fn index(result: u16, immediate: u8) -> u32 {
    let control = Control(immediate);
    if result == 0 {
        control.elements() as u32
    } else if control.most_significant() {
        result.ilog2()
    } else {
        result.trailing_zeros()
    }
}

/// The mask that PCMPxSTRM leaves in XMM0.
pub(crate) fn mask(result: u16, immediate: u8) -> Vector {
    let control = Control(immediate);
    match (control.most_significant(), control.words()) {
        (false, _) => Vector::from_low(u64::from(result)),
        (true, false) => u8::build(|i| (result >> i & 1) as u8 * 0xff),
        (true, true) => u16::build(|i| (result >> i & 1) * 0xffff),
    }
}

/// Where the lengths come from.
#[derive(Clone, Copy)]
pub(super) enum Lengths {
    /// The strings end with a zero.
    Implicit,
    /// EAX and EDX.
    Explicit32,
    /// RAX and RDX.
    Explicit64,
}

/// The absolute value of a length register, which may be cut because vectors are short.
fn explicit_length(cpu: &mut Cpu, register: u8, lengths: Lengths) -> usize {
    let length = match lengths {
        Lengths::Explicit64 => (cpu.get::<W64>(register) as i64).unsigned_abs(),
        _ => u64::from((cpu.get::<W32>(register) as i32).unsigned_abs()),
    };
    length.min(16) as usize
}

/// Compares the operands, which need no alignment, and sets the flags; gives IntRes2 and the immediate.
fn compare(cpu: &mut Cpu, op: &Op, lengths: Lengths) -> Result<(u16, u8), Exception> {
    let b = cpu.xmm_source_unaligned(op, 1)?;
    let a = cpu.vector(op.regs[0]);
    let immediate = op.immediate as u8;
    let (a_length, b_length) = match lengths {
        Lengths::Implicit => (implicit_length(a, Control(immediate)), implicit_length(b, Control(immediate))),
        explicit => (explicit_length(cpu, reg::RAX, explicit), explicit_length(cpu, reg::RDX, explicit)),
    };
    let comparison = compare_strings(a, a_length, b, b_length, immediate);
    cpu.state.flags.arith = ArithFlags::from_rflags(comparison.flags);
    Ok((comparison.result, immediate))
}

pub(super) fn to_index(cpu: &mut Cpu, op: &Op, lengths: Lengths) -> Result<(), Exception> {
    let (result, immediate) = compare(cpu, op, lengths)?;
    cpu.put::<W32>(reg::RCX, u64::from(index(result, immediate)));
    Ok(())
}

pub(super) fn to_mask(cpu: &mut Cpu, op: &Op, lengths: Lengths) -> Result<(), Exception> {
    let (result, immediate) = compare(cpu, op, lengths)?;
    cpu.set_vector(0, mask(result, immediate));
    Ok(())
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match instruction.code() {
        Pcmpistri_xmm_xmmm128_imm8 => |cpu, op| to_index(cpu, op, Lengths::Implicit),
        Pcmpistrm_xmm_xmmm128_imm8 => |cpu, op| to_mask(cpu, op, Lengths::Implicit),
        Pcmpestri_xmm_xmmm128_imm8 => |cpu, op| to_index(cpu, op, Lengths::Explicit32),
        Pcmpestrm_xmm_xmmm128_imm8 => |cpu, op| to_mask(cpu, op, Lengths::Explicit32),
        Pcmpestri64_xmm_xmmm128_imm8 => |cpu, op| to_index(cpu, op, Lengths::Explicit64),
        Pcmpestrm64_xmm_xmmm128_imm8 => |cpu, op| to_mask(cpu, op, Lengths::Explicit64),
        _ => return None,
    })
}
