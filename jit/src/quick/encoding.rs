//! The VEX-encoded vector instructions that the quick tier uses, all of 128 bits or scalar (SDM vol. 2, chapters 2.3 and 3
//! to 5). They have three operands, so that none need be copied first, and name the legacy instructions' operations.

use rx86_cpu::float::{Arith, Fused};
use rx86_cpu::simd::packed::{Conversion, PackedOperation};

/// What the ModRM byte's fields and VEX.vvvv hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// reg is the result, vvvv the first operand, rm the second.
    Plain,
    /// reg is the operand, rm the result.
    Reversed,
    /// reg is this number, vvvv the result, rm the operand.
    Group(u8),
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    /// VEX.pp: none, 66, F3, F2.
    pub(super) prefix: u8,
    /// VEX.mmmmm: 0F, 0F38, 0F3A.
    pub(super) map: u8,
    pub(super) opcode: u8,
    pub(super) wide: bool,
    pub(super) immediate: Option<u8>,
    pub(super) form: Form,
    /// It may set flags of MXCSR.
    pub(super) floating: bool,
}

const NONE: u8 = 0;
const P66: u8 = 1;
const PF3: u8 = 2;
const PF2: u8 = 3;
const FLOATING: u64 = 1 << 63;

impl Encoding {
    const fn new(prefix: u8, map: u8, opcode: u8) -> Self {
        Self { prefix, map, opcode, wide: false, immediate: None, form: Form::Plain, floating: false }
    }

    const fn with(self, immediate: u8) -> Self {
        Self { immediate: Some(immediate), ..self }
    }

    const fn wide(self, wide: bool) -> Self {
        Self { wide, ..self }
    }

    const fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    const fn floating(self) -> Self {
        Self { floating: true, ..self }
    }

    /// As an operation's constant.
    pub(super) const fn encode(self) -> u64 {
        let (has_immediate, immediate) = match self.immediate {
            Some(immediate) => (1, immediate),
            None => (0, 0),
        };
        let form = match self.form {
            Form::Plain => 0,
            Form::Reversed => 1,
            Form::Group(number) => 8 + number,
        };
        self.prefix as u64
            | (self.map as u64) << 2
            | (self.wide as u64) << 4
            | has_immediate << 5
            | (immediate as u64) << 8
            | (self.opcode as u64) << 16
            | (form as u64) << 24
            | if self.floating { FLOATING } else { 0 }
    }

    pub(super) fn decode(code: u64) -> Self {
        Self {
            prefix: code as u8 & 3,
            map: (code >> 2) as u8 & 3,
            opcode: (code >> 16) as u8,
            wide: code >> 4 & 1 != 0,
            immediate: (code >> 5 & 1 != 0).then_some((code >> 8) as u8),
            form: match (code >> 24) as u8 {
                0 => Form::Plain,
                1 => Form::Reversed,
                group => Form::Group(group - 8),
            },
            floating: is_floating(code),
        }
    }
}

/// Whether an encoded instruction may set flags of MXCSR.
pub(super) fn is_floating(code: u64) -> bool {
    code & FLOATING != 0
}

/// The low doubleword of the second operand, the rest of the first.
pub(super) const MERGE_SINGLE: Encoding = Encoding::new(PF3, 1, 0x10);
/// The low quadword of the second operand, the high one of the first.
pub(super) const MERGE_DOUBLE: Encoding = Encoding::new(PF2, 1, 0x10);
/// The low quadword of the first operand, and above it that of the second.
pub(super) const MERGE_HIGH: Encoding = Encoding::new(NONE, 1, 0x16);
/// The high quadword, twice.
pub(super) const HIGH: Encoding = Encoding::new(P66, 1, 0x70).with(0xee);
/// The low quadword, with zeros above.
pub(super) const ONLY_DOUBLE: Encoding = Encoding::new(PF3, 1, 0x7e);
pub(super) const XOR: Encoding = Encoding::new(P66, 1, 0xef);
pub(super) const COPY: Encoding = Encoding::new(NONE, 1, 0x28);
/// A general register, with zeros above.
pub(super) const OF_INT: [Encoding; 2] =
    [Encoding::new(P66, 1, 0x6e), Encoding::new(P66, 1, 0x6e).wide(true)];
/// The low doubleword or quadword to a general register.
pub(super) const TO_INT: [Encoding; 2] = [
    Encoding::new(P66, 1, 0x7e).form(Form::Reversed),
    Encoding::new(P66, 1, 0x7e).wide(true).form(Form::Reversed),
];

/// A load (`false`) or store of the low 32, 64 or 128 bits; loads clear what is above.
pub(super) fn movement(bits: u32, stores: bool) -> Encoding {
    let prefix = match bits {
        32 => PF3,
        64 => PF2,
        _ => NONE,
    };
    Encoding::new(prefix, 1, 0x10 | u8::from(stores))
}

/// The prefix that says the format and how many numbers: packed, or the lowest alone.
fn precision(double: bool, packed: bool) -> u8 {
    match (double, packed) {
        (false, true) => NONE,
        (true, true) => P66,
        (false, false) => PF3,
        (true, false) => PF2,
    }
}

/// Arithmetic. A packed square root has one operand, any other instruction two.
pub(super) fn arithmetic(operation: Arith, double: bool, packed: bool) -> Encoding {
    let opcode = match operation {
        Arith::Sqrt => 0x51,
        Arith::Add => 0x58,
        Arith::Mul => 0x59,
        Arith::Sub => 0x5c,
        Arith::Min => 0x5d,
        Arith::Div => 0x5e,
        Arith::Max => 0x5f,
    };
    Encoding::new(precision(double, packed), 1, opcode).floating()
}

/// `result += a * b` and its kin: the result is the addend before.
pub(super) fn fused(operation: Fused, double: bool, packed: bool) -> Option<Encoding> {
    let opcode = match operation {
        Fused::Add => 0xb8,
        Fused::Sub => 0xba,
        Fused::NegAdd => 0xbc,
        Fused::NegSub => 0xbe,
        Fused::AddSub if packed => 0xb6,
        Fused::SubAdd if packed => 0xb7,
        Fused::AddSub | Fused::SubAdd => return None,
    };
    Some(Encoding::new(P66, 2, opcode | u8::from(!packed)).wide(double).floating())
}

pub(super) fn comparison(predicate: u8, double: bool, packed: bool) -> Encoding {
    Encoding::new(precision(double, packed), 1, 0xc2).with(predicate).floating()
}

/// UCOMISS, UCOMISD, COMISS, COMISD.
pub(super) fn order(quiet: bool, double: bool) -> Encoding {
    Encoding::new(precision(double, true), 1, if quiet { 0x2e } else { 0x2f }).floating()
}

/// CVTSS2SD (`true`) or CVTSD2SS.
pub(super) fn resizing(to_double: bool) -> Encoding {
    Encoding::new(precision(!to_double, false), 1, 0x5a).floating()
}

/// CVTSI2SS and CVTSI2SD.
pub(super) fn of_int(double: bool, wide: bool) -> Encoding {
    Encoding::new(precision(double, false), 1, 0x2a).wide(wide).floating()
}

/// CVTSS2SI, CVTSD2SI, and those that truncate.
pub(super) fn to_int(double: bool, wide: bool, truncate: bool) -> Encoding {
    Encoding::new(precision(double, false), 1, if truncate { 0x2c } else { 0x2d }).wide(wide).floating()
}

pub(super) fn conversion(conversion: Conversion) -> Encoding {
    let (prefix, opcode) = match conversion {
        Conversion::IntsToSingles => (NONE, 0x5b),
        Conversion::RoundSingles => (P66, 0x5b),
        Conversion::TruncateSingles => (PF3, 0x5b),
        Conversion::TruncateDoubles => (P66, 0xe6),
        Conversion::RoundDoubles => (PF2, 0xe6),
        Conversion::IntsToDoubles => (PF3, 0xe6),
        Conversion::Narrow => (P66, 0x5a),
        Conversion::Widen => (NONE, 0x5a),
    };
    Encoding::new(prefix, 1, opcode).floating()
}

/// PMOVMSKB, MOVMSKPS, MOVMSKPD.
pub(super) fn sign_bits(lane_bits: u32) -> Encoding {
    match lane_bits {
        8 => Encoding::new(P66, 1, 0xd7),
        32 => Encoding::new(NONE, 1, 0x50),
        _ => Encoding::new(P66, 1, 0x50),
    }
}

/// PEXTRB and its kin.
pub(super) fn extraction(lane_bits: u32, lane: u32) -> Encoding {
    let opcode = match lane_bits {
        8 => 0x14,
        16 => 0x15,
        _ => 0x16,
    };
    Encoding::new(P66, 3, opcode).wide(lane_bits == 64).with(lane as u8).form(Form::Reversed)
}

/// PINSRB and its kin.
pub(super) fn insertion(lane_bits: u32, lane: u32) -> Encoding {
    let (map, opcode) = match lane_bits {
        8 => (3, 0x20),
        16 => (1, 0xc4),
        _ => (3, 0x22),
    };
    Encoding::new(P66, map, opcode).wide(lane_bits == 64).with(lane as u8)
}

/// A packed operation, and whether it has a first operand.
pub(super) fn packed(operation: PackedOperation, immediate: u8) -> (Encoding, bool) {
    if let Some(encoding) = of_second_alone(operation, immediate) {
        return (encoding, false);
    }
    (of_both(operation, immediate), true)
}

fn of_second_alone(operation: PackedOperation, immediate: u8) -> Option<Encoding> {
    use PackedOperation::*;
    let shift =
        |opcode: u8, group: u8| Encoding::new(P66, 1, opcode).with(immediate).form(Form::Group(group));
    let extension = |opcode: u8| Encoding::new(P66, 2, opcode);
    Some(match operation {
        Psrlw => shift(0x71, 2),
        Psraw => shift(0x71, 4),
        Psllw => shift(0x71, 6),
        Psrld => shift(0x72, 2),
        Psrad => shift(0x72, 4),
        Pslld => shift(0x72, 6),
        Psrlq => shift(0x73, 2),
        Psrldq => shift(0x73, 3),
        Psllq => shift(0x73, 6),
        Pslldq => shift(0x73, 7),
        Pshufd => Encoding::new(P66, 1, 0x70).with(immediate),
        Pshuflw => Encoding::new(PF2, 1, 0x70).with(immediate),
        Pshufhw => Encoding::new(PF3, 1, 0x70).with(immediate),
        Movsldup => Encoding::new(PF3, 1, 0x12),
        Movshdup => Encoding::new(PF3, 1, 0x16),
        Movddup => Encoding::new(PF2, 1, 0x12),
        Pabsb => extension(0x1c),
        Pabsw => extension(0x1d),
        Pabsd => extension(0x1e),
        Pmovsxbw => extension(0x20),
        Pmovsxbd => extension(0x21),
        Pmovsxwd => extension(0x23),
        Pmovsxwq => extension(0x24),
        Pmovsxdq => extension(0x25),
        Pmovzxbw => extension(0x30),
        Pmovzxbd => extension(0x31),
        Pmovzxwd => extension(0x33),
        Pmovzxwq => extension(0x34),
        Pmovzxdq => extension(0x35),
        BroadcastByte => extension(0x78),
        BroadcastWord => extension(0x79),
        BroadcastDouble => extension(0x58),
        _ => return None,
    })
}

fn of_both(operation: PackedOperation, immediate: u8) -> Encoding {
    use PackedOperation::*;
    match operation {
        Shufps => return Encoding::new(NONE, 1, 0xc6).with(immediate),
        Shufpd => return Encoding::new(P66, 1, 0xc6).with(immediate),
        Blendps => return Encoding::new(P66, 3, 0x0c).with(immediate),
        Blendpd => return Encoding::new(P66, 3, 0x0d).with(immediate),
        Pblendw => return Encoding::new(P66, 3, 0x0e).with(immediate),
        Palignr => return Encoding::new(P66, 3, 0x0f).with(immediate),
        _ => {}
    }
    let (map, opcode) = opcode_of_both(operation);
    Encoding::new(P66, map, opcode)
}

/// The map and the opcode of an operation of two operands without an immediate.
fn opcode_of_both(operation: PackedOperation) -> (u8, u8) {
    use PackedOperation::*;
    match operation {
        Punpcklbw => (1, 0x60),
        Punpcklwd => (1, 0x61),
        Punpckldq => (1, 0x62),
        Packsswb => (1, 0x63),
        Pcmpgtb => (1, 0x64),
        Pcmpgtw => (1, 0x65),
        Pcmpgtd => (1, 0x66),
        Packuswb => (1, 0x67),
        Punpckhbw => (1, 0x68),
        Punpckhwd => (1, 0x69),
        Punpckhdq => (1, 0x6a),
        Packssdw => (1, 0x6b),
        Punpcklqdq => (1, 0x6c),
        Punpckhqdq => (1, 0x6d),
        Pcmpeqb => (1, 0x74),
        Pcmpeqw => (1, 0x75),
        Pcmpeqd => (1, 0x76),
        Paddq => (1, 0xd4),
        Pmullw => (1, 0xd5),
        Psubusb => (1, 0xd8),
        Psubusw => (1, 0xd9),
        Pminub => (1, 0xda),
        Pand => (1, 0xdb),
        Paddusb => (1, 0xdc),
        Paddusw => (1, 0xdd),
        Pmaxub => (1, 0xde),
        Pandn => (1, 0xdf),
        Pavgb => (1, 0xe0),
        Pavgw => (1, 0xe3),
        Pmulhuw => (1, 0xe4),
        Pmulhw => (1, 0xe5),
        Psubsb => (1, 0xe8),
        Psubsw => (1, 0xe9),
        Pminsw => (1, 0xea),
        Por => (1, 0xeb),
        Paddsb => (1, 0xec),
        Paddsw => (1, 0xed),
        Pmaxsw => (1, 0xee),
        Pxor => (1, 0xef),
        Pmuludq => (1, 0xf4),
        Pmaddwd => (1, 0xf5),
        Psubb => (1, 0xf8),
        Psubw => (1, 0xf9),
        Psubd => (1, 0xfa),
        Psubq => (1, 0xfb),
        Paddb => (1, 0xfc),
        Paddw => (1, 0xfd),
        Paddd => (1, 0xfe),
        operation => (2, opcode_of_ssse3(operation)),
    }
}

/// The opcode in map 0F38.
fn opcode_of_ssse3(operation: PackedOperation) -> u8 {
    use PackedOperation::*;
    match operation {
        Pshufb => 0x00,
        Pmaddubsw => 0x04,
        Pmulhrsw => 0x0b,
        Pmuldq => 0x28,
        Pcmpeqq => 0x29,
        Packusdw => 0x2b,
        Pcmpgtq => 0x37,
        Pminsb => 0x38,
        Pminsd => 0x39,
        Pminuw => 0x3a,
        Pminud => 0x3b,
        Pmaxsb => 0x3c,
        Pmaxsd => 0x3d,
        Pmaxuw => 0x3e,
        Pmaxud => 0x3f,
        Pmulld => 0x40,
        other => unreachable!("{other:?} has one operand, an immediate or another map"),
    }
}
