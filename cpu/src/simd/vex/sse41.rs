//! Blends, extensions, insertions, extractions, tests and string comparisons: what SSE4 brought, and VTESTPS and
//! VTESTPD (SDM vol. 1, 5.14, 5.15).

use super::moves::then_clear_upper;
use super::operand::{packed_masked, packed_sliced, unary};
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::Hard;
use crate::simd::lanes::{Lane, Vector};
use crate::simd::sse41::*;
use crate::simd::string;
use crate::state::{ArithFlags, bits};
use iced_x86::{Instruction, Mnemonic};

/// VPTEST, and VTESTPS and VTESTPD, which look at the bits of `looked_at` in each quadword: ZF if a and b have none in
/// common, CF if b has none that a has not.
#[inline(always)]
fn test<const N: usize>(cpu: &mut Cpu, op: &Op, looked_at: u64) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 1)?;
    let a = cpu.lanes::<N>(op.regs[0]);
    let (mut common, mut missing) = (0, 0);
    for (a, b) in a.into_iter().zip(b).flat_map(|(a, b)| a.0.into_iter().zip(b.0)) {
        common |= a & b & looked_at;
        missing |= !a & b & looked_at;
    }
    let zero = if common == 0 { bits::RFLAGS_ZF } else { 0 };
    let carry = if missing == 0 { bits::RFLAGS_CF } else { 0 };
    cpu.state.flags.arith = ArithFlags::from_rflags(zero | carry);
    Ok(())
}

macro_rules! extend {
    ($($shape:ident $leaf:ident($from:ty => $to:ty);)*) => {$(
        /// Widens the low elements of op1, of which a part of the size of a lane's is read for each lane.
        fn $shape<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
            const BYTES: usize = 16 * size_of::<$from>() / size_of::<$to>();
            if N == 1 {
                let source = cpu.low_source::<BYTES>(op, 1)?;
                cpu.set_only_vector(op.regs[0], $leaf(source));
            } else {
                let source = cpu.low_source::<{ 2 * BYTES }>(op, 1)?;
                let upper = Vector::from_bits(source.bits() >> (8 * BYTES));
                cpu.set_lanes(op.regs[0], [$leaf(source), $leaf(upper)]);
            }
            Ok(())
        }
    )*};
}

extend! {
    sxbd pmovsxbd(i8 => i32);
    sxbq pmovsxbq(i8 => i64);
    sxwq pmovsxwq(i16 => i64);
    zxbd pmovzxbd(u8 => u32);
    zxbq pmovzxbq(u8 => u64);
    zxwq pmovzxwq(u16 => u64);
}

rows! { select_by_length:
    Vpblendvb => packed_masked(pblendvb);
    Vblendvps => packed_masked(blendvps);
    Vblendvpd => packed_masked(blendvpd);
    Vptest => test(u64::MAX);
    Vtestps => test(1 << 63 | 1 << 31);
    Vtestpd => test(1 << 63);
    Vphminposuw => unary(phminposuw);
    Vmpsadbw => packed_sliced(3, mpsadbw);
    Vpmovsxbd => sxbd;
    Vpmovsxbq => sxbq;
    Vpmovsxwq => sxwq;
    Vpmovzxbd => zxbd;
    Vpmovzxbq => zxbq;
    Vpmovzxwq => zxwq;
}

/// VINSERTPS.
fn run_insertps(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let immediate = op.immediate as u8;
    let lane = match op.regs[2] {
        reg::NONE => u32::from_le_bytes(cpu.load_bytes(op)?),
        register => u32::split(cpu.vector(register))[usize::from(immediate >> 6)],
    };
    let a = cpu.vector(op.regs[1]);
    cpu.set_only_vector(op.regs[0], insertps(a, lane, immediate));
    Ok(())
}

fn select_string(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    use string::Lengths::{Explicit32, Explicit64, Implicit};
    Some(match instruction.mnemonic() {
        Vpcmpistri => |cpu, op| string::to_index(cpu, op, Implicit),
        Vpcmpestri => |cpu, op| string::to_index(cpu, op, Explicit32),
        Vpcmpestri64 => |cpu, op| string::to_index(cpu, op, Explicit64),
        Vpcmpistrm => |cpu, op| then_clear_upper(cpu, op, 0, |cpu, op| string::to_mask(cpu, op, Implicit)),
        Vpcmpestrm => |cpu, op| then_clear_upper(cpu, op, 0, |cpu, op| string::to_mask(cpu, op, Explicit32)),
        Vpcmpestrm64 => {
            |cpu, op| then_clear_upper(cpu, op, 0, |cpu, op| string::to_mask(cpu, op, Explicit64))
        }
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction, wide: bool) -> Option<Hard> {
    if instruction.mnemonic() == Mnemonic::Vinsertps {
        return Some(run_insertps);
    }
    select_by_length(instruction, wide).or_else(|| select_string(instruction))
}
