//! Packed operations on 128 or 256 bits without floating point (SDM vol. 1, 5.4 to 5.10, 5.14, 5.15).

use super::{put, registers, sources};
use crate::op::Op;
use crate::ops::Meaning;
use crate::simd::packed::*;
use crate::vector_ops::VectorOps;
use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind};
use std::array::from_fn;

/// `xmm1 = O(xmm1, xmm2/m128, imm8)`.
fn packed<M: VectorOps, O: Operation>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let [b] = sources::<M, 1>(m, op, 1, true)?;
    let a = m.vector(op.regs[0]);
    let value = m.packed::<O>(a, b, op.immediate as u8);
    m.set_vector(op.regs[0], value);
    Ok(())
}

/// The same of a bitwise operation.
fn bitwise<M: VectorOps, O: Operation>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let [b] = sources::<M, 1>(m, op, 1, true)?;
    m.bitwise::<O>(op.regs[0], b);
    Ok(())
}

/// `xmm1 = O(xmm1, imm8)`.
fn by_immediate<M: VectorOps, O: Operation>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let a = m.vector(op.regs[0]);
    let value = m.packed::<O>(a, a, op.immediate as u8);
    m.set_vector(op.regs[0], value);
    Ok(())
}

/// `op0 = O(op1, op2, imm8)`, lane by lane.
fn vex<M: VectorOps, O: Operation, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = sources::<M, N>(m, op, 2, false)?;
    let a = registers::<M, N>(m, op.regs[1]);
    let immediate = op.immediate as u8;
    let value = from_fn(|i| m.packed::<O>(a[i], b[i], immediate >> (O::SLICE * i)));
    put::<M, N>(m, op.regs[0], value);
    Ok(())
}

/// `op0 = O(_, op1, imm8)`, lane by lane.
fn vex_unary<M: VectorOps, O: Operation, const N: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = sources::<M, N>(m, op, 1, false)?;
    let value = b.map(|b| m.packed::<O>(b, b, op.immediate as u8));
    put::<M, N>(m, op.regs[0], value);
    Ok(())
}

/// Rows: legacy mnemonics, VEX mnemonics, the shape of either, and the operation.
macro_rules! rows {
    ($name:ident: $($($legacy:ident)|+, $($vex:ident)|+ => $shape:ident, $vex_shape:ident, $operation:ident;)*) => {
        fn $name<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
            Some(match instruction.mnemonic() {
                $(
                    $(Mnemonic::$legacy)|+ => $shape::<M, $operation>,
                    $(Mnemonic::$vex)|+ if wide => $vex_shape::<M, $operation, 2>,
                    $(Mnemonic::$vex)|+ => $vex_shape::<M, $operation, 1>,
                )*
                _ => return None,
            })
        }
    };
}

rows! { select_by_operands:
    Paddb, Vpaddb => packed, vex, Paddb;
    Paddw, Vpaddw => packed, vex, Paddw;
    Paddd, Vpaddd => packed, vex, Paddd;
    Paddq, Vpaddq => packed, vex, Paddq;
    Psubb, Vpsubb => packed, vex, Psubb;
    Psubw, Vpsubw => packed, vex, Psubw;
    Psubd, Vpsubd => packed, vex, Psubd;
    Psubq, Vpsubq => packed, vex, Psubq;
    Paddsb, Vpaddsb => packed, vex, Paddsb;
    Paddsw, Vpaddsw => packed, vex, Paddsw;
    Paddusb, Vpaddusb => packed, vex, Paddusb;
    Paddusw, Vpaddusw => packed, vex, Paddusw;
    Psubsb, Vpsubsb => packed, vex, Psubsb;
    Psubsw, Vpsubsw => packed, vex, Psubsw;
    Psubusb, Vpsubusb => packed, vex, Psubusb;
    Psubusw, Vpsubusw => packed, vex, Psubusw;
    Pavgb, Vpavgb => packed, vex, Pavgb;
    Pavgw, Vpavgw => packed, vex, Pavgw;
    Pminub, Vpminub => packed, vex, Pminub;
    Pminuw, Vpminuw => packed, vex, Pminuw;
    Pminud, Vpminud => packed, vex, Pminud;
    Pminsb, Vpminsb => packed, vex, Pminsb;
    Pminsw, Vpminsw => packed, vex, Pminsw;
    Pminsd, Vpminsd => packed, vex, Pminsd;
    Pmaxub, Vpmaxub => packed, vex, Pmaxub;
    Pmaxuw, Vpmaxuw => packed, vex, Pmaxuw;
    Pmaxud, Vpmaxud => packed, vex, Pmaxud;
    Pmaxsb, Vpmaxsb => packed, vex, Pmaxsb;
    Pmaxsw, Vpmaxsw => packed, vex, Pmaxsw;
    Pmaxsd, Vpmaxsd => packed, vex, Pmaxsd;
    Pmullw, Vpmullw => packed, vex, Pmullw;
    Pmulld, Vpmulld => packed, vex, Pmulld;
    Pmulhw, Vpmulhw => packed, vex, Pmulhw;
    Pmulhuw, Vpmulhuw => packed, vex, Pmulhuw;
    Pmulhrsw, Vpmulhrsw => packed, vex, Pmulhrsw;
    Pmuludq, Vpmuludq => packed, vex, Pmuludq;
    Pmuldq, Vpmuldq => packed, vex, Pmuldq;
    Pmaddwd, Vpmaddwd => packed, vex, Pmaddwd;
    Pmaddubsw, Vpmaddubsw => packed, vex, Pmaddubsw;
    Pcmpeqb, Vpcmpeqb => packed, vex, Pcmpeqb;
    Pcmpeqw, Vpcmpeqw => packed, vex, Pcmpeqw;
    Pcmpeqd, Vpcmpeqd => packed, vex, Pcmpeqd;
    Pcmpeqq, Vpcmpeqq => packed, vex, Pcmpeqq;
    Pcmpgtb, Vpcmpgtb => packed, vex, Pcmpgtb;
    Pcmpgtw, Vpcmpgtw => packed, vex, Pcmpgtw;
    Pcmpgtd, Vpcmpgtd => packed, vex, Pcmpgtd;
    Pcmpgtq, Vpcmpgtq => packed, vex, Pcmpgtq;
    Punpcklbw, Vpunpcklbw => packed, vex, Punpcklbw;
    Punpcklwd, Vpunpcklwd => packed, vex, Punpcklwd;
    Punpckhbw, Vpunpckhbw => packed, vex, Punpckhbw;
    Punpckhwd, Vpunpckhwd => packed, vex, Punpckhwd;
    Packsswb, Vpacksswb => packed, vex, Packsswb;
    Packssdw, Vpackssdw => packed, vex, Packssdw;
    Packuswb, Vpackuswb => packed, vex, Packuswb;
    Packusdw, Vpackusdw => packed, vex, Packusdw;
    Pshufb, Vpshufb => packed, vex, Pshufb;
    Shufps, Vshufps => packed, vex, Shufps;
    Shufpd, Vshufpd => packed, vex, Shufpd;
    Palignr, Vpalignr => packed, vex, Palignr;
    Pblendw, Vpblendw => packed, vex, Pblendw;
    Blendpd, Vblendpd => packed, vex, Blendpd;
    Punpckldq | Unpcklps, Vpunpckldq | Vunpcklps => packed, vex, Punpckldq;
    Punpckhdq | Unpckhps, Vpunpckhdq | Vunpckhps => packed, vex, Punpckhdq;
    Punpcklqdq | Unpcklpd, Vpunpcklqdq | Vunpcklpd => packed, vex, Punpcklqdq;
    Punpckhqdq | Unpckhpd, Vpunpckhqdq | Vunpckhpd => packed, vex, Punpckhqdq;
    Blendps, Vblendps | Vpblendd => packed, vex, Blendps;
    Pand | Andps | Andpd, Vpand | Vandps | Vandpd => bitwise, vex, Pand;
    Pandn | Andnps | Andnpd, Vpandn | Vandnps | Vandnpd => bitwise, vex, Pandn;
    Por | Orps | Orpd, Vpor | Vorps | Vorpd => bitwise, vex, Por;
    Pxor | Xorps | Xorpd, Vpxor | Vxorps | Vxorpd => bitwise, vex, Pxor;
    Pabsb, Vpabsb => packed, vex_unary, Pabsb;
    Pabsw, Vpabsw => packed, vex_unary, Pabsw;
    Pabsd, Vpabsd => packed, vex_unary, Pabsd;
    Pshufd, Vpshufd => packed, vex_unary, Pshufd;
    Pshuflw, Vpshuflw => packed, vex_unary, Pshuflw;
    Pshufhw, Vpshufhw => packed, vex_unary, Pshufhw;
    Movsldup, Vmovsldup => packed, vex_unary, Movsldup;
    Movshdup, Vmovshdup => packed, vex_unary, Movshdup;
}

rows! { select_by_immediate:
    Psllw, Vpsllw => by_immediate, vex_unary, Psllw;
    Pslld, Vpslld => by_immediate, vex_unary, Pslld;
    Psllq, Vpsllq => by_immediate, vex_unary, Psllq;
    Psrlw, Vpsrlw => by_immediate, vex_unary, Psrlw;
    Psrld, Vpsrld => by_immediate, vex_unary, Psrld;
    Psrlq, Vpsrlq => by_immediate, vex_unary, Psrlq;
    Psraw, Vpsraw => by_immediate, vex_unary, Psraw;
    Psrad, Vpsrad => by_immediate, vex_unary, Psrad;
    Pslldq, Vpslldq => by_immediate, vex_unary, Pslldq;
    Psrldq, Vpsrldq => by_immediate, vex_unary, Psrldq;
}

pub(super) fn select<M: VectorOps>(instruction: &Instruction, wide: bool) -> Option<Meaning<M>> {
    let shifts = if instruction.encoding() == EncodingKind::VEX { 2 } else { 1 };
    if instruction.op_kind(shifts) == OpKind::Immediate8
        && let Some(meaning) = select_by_immediate::<M>(instruction, wide)
    {
        return Some(meaning);
    }
    select_by_operands::<M>(instruction, wide)
}
