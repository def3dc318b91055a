//! SSE4.1's blends, insertions, extractions, extensions and odd integer sums (SDM vol. 1, 5.10), and the older
//! PINSRW and PEXTRW.

use super::lanes::{Lane, Vector};
use super::operand::{packed, packed_immediate};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::{ArithFlags, bits};
use crate::width::{W16, W64};
use iced_x86::{Code, Instruction, Mnemonic};

macro_rules! blends {
    ($($variable:ident $immediate:ident($lane:ty);)*) => {$(
        #[doc = concat!("Lanes of ", stringify!($lane), " from b where the mask lane's sign is set, else from a.")]
        #[inline(always)]
        pub(crate) fn $variable(a: Vector, b: Vector, mask: Vector) -> Vector {
            let (a, b, mask) = (<$lane>::split(a), <$lane>::split(b), <$lane>::split(mask));
            <$lane>::build(|i| if mask[i] < 0 { b[i] } else { a[i] })
        }

        #[doc = concat!("Lanes of ", stringify!($lane), " from b where the immediate's bit is set, else from a.")]
        #[inline(always)]
        pub(crate) fn $immediate(a: Vector, b: Vector, immediate: u8) -> Vector {
            let (a, b) = (<$lane>::split(a), <$lane>::split(b));
            <$lane>::build(|i| if immediate >> (i & 7) & 1 != 0 { b[i] } else { a[i] })
        }
    )*};
}

blends! {
    blendvpd blendpd(i64);
    blendvps blendps(i32);
}

/// PBLENDVB.
#[inline(always)]
pub(crate) fn pblendvb(a: Vector, b: Vector, mask: Vector) -> Vector {
    let (a, b, mask) = (i8::split(a), i8::split(b), i8::split(mask));
    i8::build(|i| if mask[i] < 0 { b[i] } else { a[i] })
}

/// PBLENDW.
#[inline(always)]
pub(crate) fn pblendw(a: Vector, b: Vector, immediate: u8) -> Vector {
    let (a, b) = (u16::split(a), u16::split(b));
    u16::build(|i| if immediate >> (i & 7) & 1 != 0 { b[i] } else { a[i] })
}

/// The blends whose mask is XMM0.
#[inline(always)]
fn variable_blend(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    let mask = cpu.vector(0);
    packed(cpu, op, |a, b| leaf(a, b, mask))
}

fn ptest(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = cpu.xmm_source(op, 1)?;
    let a = cpu.vector(op.regs[0]);
    let (a, b) = (a.bits(), b.bits());
    let zero = if a & b == 0 { bits::RFLAGS_ZF } else { 0 };
    let carry = if !a & b == 0 { bits::RFLAGS_CF } else { 0 };
    cpu.state.flags.arith = ArithFlags::from_rflags(zero | carry);
    Ok(())
}

/// PHMINPOSUW: the least word, and above it its lane.
pub(crate) fn phminposuw(_a: Vector, b: Vector) -> Vector {
    let words = u16::split(b);
    let (lane, word) = words.iter().enumerate().min_by_key(|&(_, word)| *word).unwrap_or((0, &0));
    Vector::from_low(u64::from(*word) | (lane as u64) << 16)
}

/// MPSADBW: eight sums of absolute differences of one quadruple of b's bytes with the quadruples that begin at eight
/// successive bytes of a.
pub(crate) fn mpsadbw(a: Vector, b: Vector, immediate: u8) -> Vector {
    let (a, b) = (u8::split(a), u8::split(b));
    let (from_a, from_b) = (usize::from(immediate & 4), usize::from(immediate & 3) * 4);
    u16::build(|i| (0..4).map(|k| u16::from(a[from_a + i + k].abs_diff(b[from_b + k]))).sum())
}

/// Rows of PMOVSX and PMOVZX: mnemonic, leaf, source lane, destination lane.
macro_rules! extensions {
    ($($mnemonic:ident $leaf:ident($from:ty => $to:ty);)*) => {
        $(
            #[doc = concat!("Widens the low lanes from ", stringify!($from), " to ", stringify!($to), ".")]
            #[inline(always)]
            pub(crate) fn $leaf(b: Vector) -> Vector {
                let b = <$from>::split(b);
                <$to>::build(|i| <$to>::from(b[i]))
            }
        )*

        fn select_extension(instruction: &Instruction) -> Option<Hard> {
            Some(match instruction.mnemonic() {
                $(
                    Mnemonic::$mnemonic => |cpu, op| {
                        const BYTES: usize = 16 * size_of::<$from>() / size_of::<$to>();
                        let b = low_bytes::<BYTES>(cpu, op)?;
                        cpu.set_vector(op.regs[0], $leaf(b));
                        Ok(())
                    },
                )*
                _ => return None,
            })
        }
    };
}

extensions! {
    Pmovsxbw pmovsxbw(i8 => i16);
    Pmovsxbd pmovsxbd(i8 => i32);
    Pmovsxbq pmovsxbq(i8 => i64);
    Pmovsxwd pmovsxwd(i16 => i32);
    Pmovsxwq pmovsxwq(i16 => i64);
    Pmovsxdq pmovsxdq(i32 => i64);
    Pmovzxbw pmovzxbw(u8 => u16);
    Pmovzxbd pmovzxbd(u8 => u32);
    Pmovzxbq pmovzxbq(u8 => u64);
    Pmovzxwd pmovzxwd(u16 => u32);
    Pmovzxwq pmovzxwq(u16 => u64);
    Pmovzxdq pmovzxdq(u32 => u64);
}

/// Operand 1: an XMM register, or `N` bytes of memory.
#[inline(always)]
fn low_bytes<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<Vector, Exception> {
    match op.regs[1] {
        reg::NONE => {
            let mut bytes = [0; 16];
            bytes[..N].copy_from_slice(&cpu.load_bytes::<N>(op)?);
            Ok(Vector::from_bytes(bytes))
        }
        register => Ok(cpu.vector(register)),
    }
}

fn pextrw_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    cpu.mmx_enter();
    let word = cpu.mmx(op.regs[1]) >> (op.immediate as u32 % 4 * 16) & 0xffff;
    cpu.put::<W64>(op.regs[0], word);
    Ok(())
}

fn pinsrw_mmx(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let word = match op.regs[1] {
        reg::NONE => cpu.load::<W16>(op)?,
        register => cpu.get::<W16>(register),
    };
    cpu.mmx_enter();
    let shift = op.immediate as u32 % 4 * 16;
    let kept = cpu.mmx(op.regs[0]) & !(0xffff << shift);
    cpu.set_mmx(op.regs[0], kept | word << shift);
    Ok(())
}

/// INSERTPS: bits 4 and 5 of the immediate choose the lane to replace, bits 0 to 3 the lanes to clear.
pub(crate) fn insertps(a: Vector, lane: u32, immediate: u8) -> Vector {
    let mut lanes = u32::split(a);
    lanes[usize::from(immediate >> 4 & 3)] = lane;
    u32::build(|i| if immediate >> i & 1 != 0 { 0 } else { lanes[i] })
}

/// INSERTPS takes the lane that bits 6 and 7 of the immediate choose, or the doubleword in memory.
fn run_insertps(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let immediate = op.immediate as u8;
    let lane = match op.regs[1] {
        reg::NONE => u32::from_le_bytes(cpu.load_bytes(op)?),
        register => u32::split(cpu.vector(register))[usize::from(immediate >> 6)],
    };
    let a = cpu.vector(op.regs[0]);
    cpu.set_vector(op.regs[0], insertps(a, lane, immediate));
    Ok(())
}

fn select_lane_moves(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match instruction.code() {
        Pextrw_r32_mm_imm8 | Pextrw_r64_mm_imm8 => pextrw_mmx,
        Pinsrw_mm_r32m16_imm8 | Pinsrw_mm_r64m16_imm8 => pinsrw_mmx,
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Pblendvb => |cpu, op| variable_blend(cpu, op, pblendvb),
        Blendvps => |cpu, op| variable_blend(cpu, op, blendvps),
        Blendvpd => |cpu, op| variable_blend(cpu, op, blendvpd),
        Ptest => ptest,
        Phminposuw => |cpu, op| packed(cpu, op, phminposuw),
        Mpsadbw => |cpu, op| packed_immediate(cpu, op, mpsadbw),
        Insertps => run_insertps,
        _ => return select_extension(instruction).or_else(|| select_lane_moves(instruction)),
    })
}
