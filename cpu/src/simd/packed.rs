//! The packed operations without floating point: what each computes, and its name for translators.

use super::compare::*;
use super::convert;
use super::integer::*;
use super::lanes::{Lane, Vector};
use super::logic::{pand, pandn, por, pxor};
use super::shift::*;
use super::shuffle::*;
use super::sse41::*;

/// A packed operation.
pub trait Operation {
    /// Its name.
    const KIND: PackedOperation;
    /// Bits of the immediate that each 128-bit lane has for itself; zero if all have the same.
    const SLICE: usize = 0;
    #[doc(hidden)]
    fn compute(a: Vector, b: Vector, immediate: u8) -> Vector;
}

/// Conversions of packed numbers, of which one side is floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// CVTDQ2PS.
    IntsToSingles,
    /// CVTTPS2DQ.
    TruncateSingles,
    /// CVTPS2DQ.
    RoundSingles,
    /// CVTTPD2DQ, into the low half.
    TruncateDoubles,
    /// CVTPD2DQ, into the low half.
    RoundDoubles,
    /// CVTPD2PS, into the low half.
    Narrow,
    /// CVTPS2PD, from the low half.
    Widen,
    /// CVTDQ2PD, from the low half.
    IntsToDoubles,
}

impl Conversion {
    #[inline(always)]
    pub(crate) fn compute(self, a: Vector, mxcsr: u32) -> (Vector, u16) {
        match self {
            Self::IntsToSingles => convert::cvtdq2ps(a, a, mxcsr),
            Self::TruncateSingles => convert::cvtps2dq(a, true, mxcsr),
            Self::RoundSingles => convert::cvtps2dq(a, false, mxcsr),
            Self::TruncateDoubles => convert::cvtpd2dq(a, true, mxcsr),
            Self::RoundDoubles => convert::cvtpd2dq(a, false, mxcsr),
            Self::Narrow => convert::cvtpd2ps(a, a, mxcsr),
            Self::Widen => convert::cvtps2pd(a.low(), mxcsr),
            Self::IntsToDoubles => (convert::cvtdq2pd(a.low()), 0),
        }
    }
}

macro_rules! operations {
    ($($name:ident$([$slice:literal])? = $compute:expr;)*) => {
        /// The names of the packed operations: those of the legacy instructions, where there is one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the instructions' own names")]
        pub enum PackedOperation {
            $($name,)*
        }

        $(
            #[doc = concat!("`PackedOperation::", stringify!($name), "`.")]
            pub(crate) struct $name;

            impl Operation for $name {
                const KIND: PackedOperation = PackedOperation::$name;
                $(const SLICE: usize = $slice;)?
                #[inline(always)]
                fn compute(a: Vector, b: Vector, immediate: u8) -> Vector {
                    let compute: fn(Vector, Vector, u8) -> Vector = $compute;
                    compute(a, b, immediate)
                }
            }
        )*
    };
}

operations! {
    Paddb = |a, b, _| paddb(a, b);
    Paddw = |a, b, _| paddw(a, b);
    Paddd = |a, b, _| paddd(a, b);
    Paddq = |a, b, _| paddq(a, b);
    Psubb = |a, b, _| psubb(a, b);
    Psubw = |a, b, _| psubw(a, b);
    Psubd = |a, b, _| psubd(a, b);
    Psubq = |a, b, _| psubq(a, b);
    Paddsb = |a, b, _| paddsb(a, b);
    Paddsw = |a, b, _| paddsw(a, b);
    Paddusb = |a, b, _| paddusb(a, b);
    Paddusw = |a, b, _| paddusw(a, b);
    Psubsb = |a, b, _| psubsb(a, b);
    Psubsw = |a, b, _| psubsw(a, b);
    Psubusb = |a, b, _| psubusb(a, b);
    Psubusw = |a, b, _| psubusw(a, b);
    Pavgb = |a, b, _| pavgb(a, b);
    Pavgw = |a, b, _| pavgw(a, b);
    Pminub = |a, b, _| pminub(a, b);
    Pminuw = |a, b, _| pminuw(a, b);
    Pminud = |a, b, _| pminud(a, b);
    Pminsb = |a, b, _| pminsb(a, b);
    Pminsw = |a, b, _| pminsw(a, b);
    Pminsd = |a, b, _| pminsd(a, b);
    Pmaxub = |a, b, _| pmaxub(a, b);
    Pmaxuw = |a, b, _| pmaxuw(a, b);
    Pmaxud = |a, b, _| pmaxud(a, b);
    Pmaxsb = |a, b, _| pmaxsb(a, b);
    Pmaxsw = |a, b, _| pmaxsw(a, b);
    Pmaxsd = |a, b, _| pmaxsd(a, b);
    Pabsb = |a, b, _| pabsb(a, b);
    Pabsw = |a, b, _| pabsw(a, b);
    Pabsd = |a, b, _| pabsd(a, b);
    Pmullw = |a, b, _| pmullw(a, b);
    Pmulld = |a, b, _| pmulld(a, b);
    Pmulhw = |a, b, _| pmulhw(a, b);
    Pmulhuw = |a, b, _| pmulhuw(a, b);
    Pmulhrsw = |a, b, _| pmulhrsw(a, b);
    Pmuludq = |a, b, _| pmuludq(a, b);
    Pmuldq = |a, b, _| pmuldq(a, b);
    Pmaddwd = |a, b, _| pmaddwd(a, b);
    Pmaddubsw = |a, b, _| pmaddubsw(a, b);
    Pcmpeqb = |a, b, _| pcmpeqb(a, b);
    Pcmpeqw = |a, b, _| pcmpeqw(a, b);
    Pcmpeqd = |a, b, _| pcmpeqd(a, b);
    Pcmpeqq = |a, b, _| pcmpeqq(a, b);
    Pcmpgtb = |a, b, _| pcmpgtb(a, b);
    Pcmpgtw = |a, b, _| pcmpgtw(a, b);
    Pcmpgtd = |a, b, _| pcmpgtd(a, b);
    Pcmpgtq = |a, b, _| pcmpgtq(a, b);
    Pand = |a, b, _| pand(a, b);
    Pandn = |a, b, _| pandn(a, b);
    Por = |a, b, _| por(a, b);
    Pxor = |a, b, _| pxor(a, b);
    Punpcklbw = |a, b, _| punpcklbw(a, b);
    Punpcklwd = |a, b, _| punpcklwd(a, b);
    Punpckldq = |a, b, _| punpckldq(a, b);
    Punpcklqdq = |a, b, _| punpcklqdq(a, b);
    Punpckhbw = |a, b, _| punpckhbw(a, b);
    Punpckhwd = |a, b, _| punpckhwd(a, b);
    Punpckhdq = |a, b, _| punpckhdq(a, b);
    Punpckhqdq = |a, b, _| punpckhqdq(a, b);
    Packsswb = |a, b, _| packsswb(a, b);
    Packssdw = |a, b, _| packssdw(a, b);
    Packuswb = |a, b, _| packuswb(a, b);
    Packusdw = |a, b, _| packusdw(a, b);
    Pshufb = |a, b, _| pshufb(a, b);
    Movsldup = |a, b, _| movsldup(a, b);
    Movshdup = |a, b, _| movshdup(a, b);
    Movddup = |_, b, _| Vector([b.low(); 2]);
    Pshufd = pshufd;
    Pshuflw = pshuflw;
    Pshufhw = pshufhw;
    Shufps = shufps;
    Palignr = palignr;
    Pblendw = pblendw;
    Shufpd[2] = shufpd;
    Blendps[4] = blendps;
    Blendpd[2] = blendpd;
    Psllw = |_, b, immediate| psllw(b, Vector::from_low(u64::from(immediate)));
    Pslld = |_, b, immediate| pslld(b, Vector::from_low(u64::from(immediate)));
    Psllq = |_, b, immediate| psllq(b, Vector::from_low(u64::from(immediate)));
    Psrlw = |_, b, immediate| psrlw(b, Vector::from_low(u64::from(immediate)));
    Psrld = |_, b, immediate| psrld(b, Vector::from_low(u64::from(immediate)));
    Psrlq = |_, b, immediate| psrlq(b, Vector::from_low(u64::from(immediate)));
    Psraw = |_, b, immediate| psraw(b, Vector::from_low(u64::from(immediate)));
    Psrad = |_, b, immediate| psrad(b, Vector::from_low(u64::from(immediate)));
    Pslldq = |_, b, immediate| pslldq(b, Vector::from_low(u64::from(immediate)));
    Psrldq = |_, b, immediate| psrldq(b, Vector::from_low(u64::from(immediate)));
    Pmovsxbw = |_, b, _| pmovsxbw(b);
    Pmovsxbd = |_, b, _| pmovsxbd(b);
    Pmovsxwd = |_, b, _| pmovsxwd(b);
    Pmovsxwq = |_, b, _| pmovsxwq(b);
    Pmovsxdq = |_, b, _| pmovsxdq(b);
    Pmovzxbw = |_, b, _| pmovzxbw(b);
    Pmovzxbd = |_, b, _| pmovzxbd(b);
    Pmovzxwd = |_, b, _| pmovzxwd(b);
    Pmovzxwq = |_, b, _| pmovzxwq(b);
    Pmovzxdq = |_, b, _| pmovzxdq(b);
    BroadcastByte = |_, b, _| u8::build(|_| b.low() as u8);
    BroadcastWord = |_, b, _| u16::build(|_| b.low() as u16);
    BroadcastDouble = |_, b, _| u32::build(|_| b.low() as u32);
}
