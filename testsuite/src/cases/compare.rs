//! Where two outcomes of a case differ.

use crate::oracle::Outcome;
use std::fmt;

/// What two outcomes can differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The exception.
    Vector,
    /// #PF's error code.
    ErrorCode,
    /// CR2.
    Address,
    /// RIP.
    Rip,
    /// RFLAGS.
    Flags,
    /// A general register.
    Gpr(usize),
    /// MXCSR.
    Mxcsr,
    /// The x87 control word.
    Fcw,
    /// The x87 status word.
    Fsw,
    /// The abridged tag word.
    Ftw,
    /// A register of the x87 stack.
    St(usize),
    /// An XMM register.
    Xmm(usize),
    /// The upper half of a YMM register.
    YmmHigh(usize),
    /// Sixteen bytes at an offset of the data pages.
    Memory(usize),
}

/// Names of the general registers in encoding order.
pub const GPR_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector => f.write_str("vector"),
            Self::ErrorCode => f.write_str("error"),
            Self::Address => f.write_str("address"),
            Self::Rip => f.write_str("rip"),
            Self::Flags => f.write_str("flags"),
            Self::Gpr(i) => f.write_str(GPR_NAMES[*i]),
            Self::Mxcsr => f.write_str("mxcsr"),
            Self::Fcw => f.write_str("fcw"),
            Self::Fsw => f.write_str("fsw"),
            Self::Ftw => f.write_str("ftw"),
            Self::St(i) => write!(f, "st{i}"),
            Self::Xmm(i) => write!(f, "xmm{i}"),
            Self::YmmHigh(i) => write!(f, "ymmh{i}"),
            Self::Memory(at) => write!(f, "m{at:x}"),
        }
    }
}

/// A place with two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub place: Place,
    /// The value in the first outcome.
    pub left: u128,
    /// The value in the second outcome.
    pub right: u128,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:x} / {:x}", self.place, self.left, self.right)
    }
}

/// All places in which the outcomes differ.
pub fn differences(left: &Outcome, right: &Outcome) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut look = |place: Place, left: u128, right: u128| {
        if left != right {
            found.push(Difference { place, left, right });
        }
    };
    let (l, r) = (&left.state, &right.state);
    look(Place::Vector, left.ending.vector.into(), right.ending.vector.into());
    look(Place::ErrorCode, left.ending.error_code.into(), right.ending.error_code.into());
    look(Place::Address, left.ending.address.into(), right.ending.address.into());
    look(Place::Rip, l.rip.into(), r.rip.into());
    look(Place::Flags, l.rflags.into(), r.rflags.into());
    for i in 0..16 {
        look(Place::Gpr(i), l.gpr[i].into(), r.gpr[i].into());
    }
    look(Place::Mxcsr, l.mxcsr().into(), r.mxcsr().into());
    look(Place::Fcw, l.fcw().into(), r.fcw().into());
    look(Place::Fsw, l.fsw().into(), r.fsw().into());
    look(Place::Ftw, l.ftw().into(), r.ftw().into());
    for i in 0..8 {
        look(Place::St(i), l.st(i), r.st(i));
    }
    for i in 0..16 {
        look(Place::Xmm(i), l.xmm(i), r.xmm(i));
        look(Place::YmmHigh(i), l.ymm_high[i], r.ymm_high[i]);
    }
    if left.memory != right.memory {
        let (l, r) = (left.memory.chunks_exact(16), right.memory.chunks_exact(16));
        for (index, (l, r)) in l.zip(r).enumerate() {
            look(Place::Memory(16 * index), word(l), word(r));
        }
    }
    found
}

fn word(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |all, &byte| all << 8 | u128::from(byte))
}
