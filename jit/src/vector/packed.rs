//! Packed operations without floating point, as Cranelift's vector instructions.

use crate::translator::Translator;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I16X8, I32X4, I64, I64X2, Type};
use cranelift_codegen::ir::{InstBuilder, Value};
use rx86_cpu::simd::packed::PackedOperation;

/// Whether the host has x86's own operations, which Cranelift gives on no other.
const IS_X86: bool = cfg!(target_arch = "x86_64");

/// A shuffle's mask: bytes 0 to 15 are the first operand's, 16 to 31 the second's.
type Mask = [u8; 16];

/// The mask whose lanes of `bytes` bytes are the lanes that `lane` gives, of both operands counted on.
fn lanes(bytes: usize, lane: impl Fn(usize) -> usize) -> Mask {
    std::array::from_fn(|i| (lane(i / bytes) * bytes + i % bytes) as u8)
}

/// The two-bit field `i` of a shuffle's immediate.
fn field(immediate: u8, i: usize) -> usize {
    usize::from(immediate >> (2 * (i & 3)) & 3)
}

/// Lanes of `bytes` bytes of a and b in turn, from lane `first` on.
fn interleaved(bytes: usize, first: usize) -> Mask {
    let count = 16 / bytes;
    lanes(bytes, |i| first + i / 2 + if i & 1 != 0 { count } else { 0 })
}

/// Lanes of b where the immediate's bit is set, else of a.
fn blended(bytes: usize, immediate: u8) -> Mask {
    let count = 16 / bytes;
    lanes(bytes, |i| if immediate >> (i & 7) & 1 != 0 { i + count } else { i })
}

/// The mask of an operation that is a shuffle of its two operands, or of b and zero.
fn mask_of(operation: PackedOperation, immediate: u8) -> Option<(Operands, Mask)> {
    use PackedOperation::*;
    let half = |i: usize| if i < 2 { 0 } else { 4 };
    let shift = usize::from(immediate.min(32));
    Some(match operation {
        Punpcklbw => (Operands::Both, interleaved(1, 0)),
        Punpcklwd => (Operands::Both, interleaved(2, 0)),
        Punpckldq => (Operands::Both, interleaved(4, 0)),
        Punpcklqdq => (Operands::Both, interleaved(8, 0)),
        Punpckhbw => (Operands::Both, interleaved(1, 8)),
        Punpckhwd => (Operands::Both, interleaved(2, 4)),
        Punpckhdq => (Operands::Both, interleaved(4, 2)),
        Punpckhqdq => (Operands::Both, interleaved(8, 1)),
        Pshufd => (Operands::Second, lanes(4, |i| field(immediate, i))),
        Pshuflw => (Operands::Second, lanes(2, |i| if i < 4 { field(immediate, i) } else { i })),
        Pshufhw => (Operands::Second, lanes(2, |i| if i < 4 { i } else { 4 + field(immediate, i) })),
        Shufps => (Operands::Both, lanes(4, |i| field(immediate, i) + half(i))),
        Shufpd => (Operands::Both, lanes(8, |i| usize::from(immediate >> i & 1) + 2 * i)),
        Pblendw => (Operands::Both, blended(2, immediate)),
        Blendps => (Operands::Both, blended(4, immediate)),
        Blendpd => (Operands::Both, blended(8, immediate)),
        Movsldup => (Operands::Second, lanes(4, |i| i & !1)),
        Movshdup => (Operands::Second, lanes(4, |i| i | 1)),
        Movddup => (Operands::Second, lanes(8, |_| 0)),
        Palignr if shift <= 16 => (Operands::Reversed, lanes(1, |i| i + shift)),
        Palignr => (Operands::FirstAndZero, lanes(1, |i| (i + shift - 16).min(16))),
        Psrldq => (Operands::SecondAndZero, lanes(1, |i| (i + shift).min(16))),
        Pslldq => (Operands::SecondAndZero, lanes(1, |i| if i < shift { 16 } else { i - shift })),
        _ => return None,
    })
}

/// What a mask chooses from.
enum Operands {
    /// a, then b.
    Both,
    /// b, then a.
    Reversed,
    /// b.
    Second,
    /// a, then zero.
    FirstAndZero,
    /// b, then zero.
    SecondAndZero,
}

impl Translator<'_> {
    /// Emits an operation on 128 bits.
    pub(super) fn emit_packed(
        &mut self,
        operation: PackedOperation,
        a: Value,
        b: Value,
        immediate: u8,
    ) -> Value {
        if let Some((operands, mask)) = mask_of(operation, immediate) {
            return self.emit_shuffle(operands, a, b, mask);
        }
        if let Some(value) = self.emit_shift(operation, b, immediate) {
            return value;
        }
        self.emit_multiplication(operation, a, b)
            .or_else(|| self.emit_narrowing(operation, a, b))
            .or_else(|| self.emit_widening(operation, b))
            .unwrap_or_else(|| self.emit_lanes(operation, a, b))
    }

    fn emit_shuffle(&mut self, operands: Operands, a: Value, b: Value, mask: Mask) -> Value {
        let (a, b) = match operands {
            Operands::Both => (a, b),
            Operands::Reversed => (b, a),
            Operands::Second => (b, b),
            Operands::FirstAndZero => (a, self.zero_vector()),
            Operands::SecondAndZero => (b, self.zero_vector()),
        };
        self.shuffle(a, b, mask)
    }

    fn shuffle(&mut self, a: Value, b: Value, mask: Mask) -> Value {
        // Of a value with itself, only the first is named, for patterns that look for that.
        let mask = if a == b { mask.map(|byte| byte & 15) } else { mask };
        let mask = self.builder.func.dfg.immediates.push(mask.to_vec().into());
        self.builder.ins().shuffle(a, b, mask)
    }

    fn emit_shift(&mut self, operation: PackedOperation, b: Value, immediate: u8) -> Option<Value> {
        use PackedOperation::*;
        let (of, bits) = match operation {
            Psllw | Psrlw | Psraw => (I16X8, 16),
            Pslld | Psrld | Psrad => (I32X4, 32),
            Psllq | Psrlq => (I64X2, 64),
            _ => return None,
        };
        let arithmetic = matches!(operation, Psraw | Psrad);
        if immediate >= bits && !arithmetic {
            return Some(self.zero_vector());
        }
        let count = i64::from(immediate.min(bits - 1));
        let lanes = self.recast(of, b);
        let count = self.builder.ins().iconst(I64, count);
        let value = match operation {
            Psllw | Pslld | Psllq => self.builder.ins().ishl(lanes, count),
            Psrlw | Psrld | Psrlq => self.builder.ins().ushr(lanes, count),
            _ => self.builder.ins().sshr(lanes, count),
        };
        Some(self.recast(I8X16, value))
    }

    /// Products of the even doublewords.
    fn product_of_even(&mut self, a: Value, b: Value, signed: bool) -> Value {
        let mask = lanes(4, |i| 2 * (i & 1));
        let [a, b] = [a, b].map(|value| {
            let even = self.shuffle(value, value, mask);
            let even = self.recast(I32X4, even);
            if signed { self.builder.ins().swiden_low(even) } else { self.builder.ins().uwiden_low(even) }
        });
        self.builder.ins().imul(a, b)
    }

    /// The 32-bit products of the low and of the high words.
    fn products_of_words(&mut self, a: Value, b: Value, signed: bool) -> [Value; 2] {
        let (a, b) = (self.recast(I16X8, a), self.recast(I16X8, b));
        [false, true].map(|high| {
            let [a, b] = [a, b].map(|value| {
                let ins = self.builder.ins();
                match (signed, high) {
                    (true, false) => ins.swiden_low(value),
                    (true, true) => ins.swiden_high(value),
                    (false, false) => ins.uwiden_low(value),
                    (false, true) => ins.uwiden_high(value),
                }
            });
            self.builder.ins().imul(a, b)
        })
    }

    /// PMADDUBSW where the host lacks it: unsigned bytes of a times signed ones of b, neighbours added with saturation.
    fn sums_of_byte_products(&mut self, a: Value, b: Value) -> Value {
        let ins = self.builder.ins();
        let low = (ins.uwiden_low(a), self.builder.ins().swiden_low(b));
        let high = (self.builder.ins().uwiden_high(a), self.builder.ins().swiden_high(b));
        let [low, high] = [low, high].map(|(a, b)| {
            let product = self.builder.ins().imul(a, b);
            self.recast(I8X16, product)
        });
        let [even, odd] = [0, 1].map(|first| {
            let words = self.shuffle(low, high, lanes(2, |i| 2 * i + first));
            self.recast(I16X8, words)
        });
        self.builder.ins().sadd_sat(even, odd)
    }

    /// PMULHRSW where the host lacks it. The one product that others saturate becomes the most negative word.
    fn rounded_products(&mut self, a: Value, b: Value) -> Value {
        let saturated = self.builder.ins().sqmul_round_sat(a, b);
        let least = self.splat(0x8000, 2);
        let least = self.recast(I16X8, least);
        let [a, b] = [a, b].map(|factor| self.builder.ins().icmp(IntCC::Equal, factor, least));
        let both = self.builder.ins().band(a, b);
        self.builder.ins().bxor(saturated, both)
    }

    /// The low `bytes` bytes of `lane` in each lane, as bytes.
    fn splat(&mut self, lane: u16, bytes: usize) -> Value {
        let lane = lane.to_le_bytes();
        let all: Vec<u8> = (0..16).map(|i| lane[i % bytes]).collect();
        let all = self.builder.func.dfg.constants.insert(all.into());
        self.builder.ins().vconst(I8X16, all)
    }

    fn emit_multiplication(&mut self, operation: PackedOperation, a: Value, b: Value) -> Option<Value> {
        use PackedOperation::*;
        let value = match operation {
            Pmuludq => self.product_of_even(a, b, false),
            Pmuldq => self.product_of_even(a, b, true),
            Pmulhw | Pmulhuw => {
                let [low, high] = self.products_of_words(a, b, operation == Pmulhw);
                let (low, high) = (self.recast(I8X16, low), self.recast(I8X16, high));
                self.shuffle(low, high, lanes(2, |i| 2 * i + 1))
            }
            Pmaddwd => {
                let [low, high] = self.products_of_words(a, b, true);
                self.builder.ins().iadd_pairwise(low, high)
            }
            // Cranelift's first operand is the signed one.
            Pmaddubsw if IS_X86 => self.builder.ins().x86_pmaddubsw(b, a),
            Pmaddubsw => self.sums_of_byte_products(a, b),
            Pmulhrsw => {
                let (a, b) = (self.recast(I16X8, a), self.recast(I16X8, b));
                if IS_X86 { self.builder.ins().x86_pmulhrsw(a, b) } else { self.rounded_products(a, b) }
            }
            _ => return None,
        };
        Some(self.recast(I8X16, value))
    }

    fn emit_narrowing(&mut self, operation: PackedOperation, a: Value, b: Value) -> Option<Value> {
        use PackedOperation::*;
        let of = match operation {
            Packsswb | Packuswb => I16X8,
            Packssdw | Packusdw => I32X4,
            _ => return None,
        };
        let (a, b) = (self.recast(of, a), self.recast(of, b));
        let value = match operation {
            Packsswb | Packssdw => self.builder.ins().snarrow(a, b),
            _ => self.builder.ins().unarrow(a, b),
        };
        Some(self.recast(I8X16, value))
    }

    fn emit_widening(&mut self, operation: PackedOperation, b: Value) -> Option<Value> {
        use PackedOperation::*;
        let (steps, signed): (&[Type], bool) = match operation {
            Pmovsxbw => (&[I8X16], true),
            Pmovsxbd => (&[I8X16, I16X8], true),
            Pmovsxwd => (&[I16X8], true),
            Pmovsxwq => (&[I16X8, I32X4], true),
            Pmovsxdq => (&[I32X4], true),
            Pmovzxbw => (&[I8X16], false),
            Pmovzxbd => (&[I8X16, I16X8], false),
            Pmovzxwd => (&[I16X8], false),
            Pmovzxwq => (&[I16X8, I32X4], false),
            Pmovzxdq => (&[I32X4], false),
            _ => return None,
        };
        let mut value = b;
        for &step in steps {
            value = self.recast(step, value);
            value = if signed {
                self.builder.ins().swiden_low(value)
            } else {
                self.builder.ins().uwiden_low(value)
            };
        }
        Some(self.recast(I8X16, value))
    }

    fn emit_lanes(&mut self, operation: PackedOperation, a: Value, b: Value) -> Value {
        let of = lane_type(operation);
        let (a, b) = (self.recast(of, a), self.recast(of, b));
        let value = self.emit_lane_by_lane(operation, a, b);
        self.recast(I8X16, value)
    }

    fn emit_lane_by_lane(&mut self, operation: PackedOperation, a: Value, b: Value) -> Value {
        use PackedOperation::*;
        if matches!(operation, Pxor | Psubb | Psubw | Psubd | Psubq) && a == b {
            return self.zero_vector();
        }
        let ins = self.builder.ins();
        match operation {
            Paddb | Paddw | Paddd | Paddq => ins.iadd(a, b),
            Psubb | Psubw | Psubd | Psubq => ins.isub(a, b),
            Paddsb | Paddsw => ins.sadd_sat(a, b),
            Paddusb | Paddusw => ins.uadd_sat(a, b),
            Psubsb | Psubsw => ins.ssub_sat(a, b),
            Psubusb | Psubusw => ins.usub_sat(a, b),
            Pavgb | Pavgw => ins.avg_round(a, b),
            Pminub | Pminuw | Pminud => ins.umin(a, b),
            Pminsb | Pminsw | Pminsd => ins.smin(a, b),
            Pmaxub | Pmaxuw | Pmaxud => ins.umax(a, b),
            Pmaxsb | Pmaxsw | Pmaxsd => ins.smax(a, b),
            Pabsb | Pabsw | Pabsd => ins.iabs(b),
            Pmullw | Pmulld => ins.imul(a, b),
            Pcmpeqb | Pcmpeqw | Pcmpeqd | Pcmpeqq => ins.icmp(IntCC::Equal, a, b),
            Pcmpgtb | Pcmpgtw | Pcmpgtd | Pcmpgtq => ins.icmp(IntCC::SignedGreaterThan, a, b),
            Pand => ins.band(a, b),
            Pandn => self.builder.ins().band_not(b, a),
            Por => ins.bor(a, b),
            Pxor => ins.bxor(a, b),
            Pshufb if IS_X86 => ins.x86_pshufb(a, b),
            Pshufb => {
                // Bits 4 to 6 of an index mean nothing to x86; beyond 15 is zero.
                let index_bits = self.splat(0x8f, 1);
                let index = self.builder.ins().band(b, index_bits);
                self.builder.ins().swizzle(a, index)
            }
            BroadcastByte => self.shuffle(b, b, lanes(1, |_| 0)),
            BroadcastWord => self.shuffle(b, b, lanes(2, |_| 0)),
            _ => self.shuffle(b, b, lanes(4, |_| 0)),
        }
    }
}

/// The lanes that an operation works on.
fn lane_type(operation: PackedOperation) -> Type {
    use PackedOperation::*;
    match operation {
        Paddw | Psubw | Paddsw | Paddusw | Psubsw | Psubusw | Pavgw | Pminuw | Pminsw | Pmaxuw | Pmaxsw
        | Pabsw | Pmullw | Pcmpeqw | Pcmpgtw => I16X8,
        Paddd | Psubd | Pminud | Pminsd | Pmaxud | Pmaxsd | Pabsd | Pmulld | Pcmpeqd | Pcmpgtd => I32X4,
        Paddq | Psubq | Pcmpeqq | Pcmpgtq => I64X2,
        _ => I8X16,
    }
}
