//! The x87's computations on an x86-64 host's own x87: results and status are silicon's. The functions are those of
//! [`x87_soft`](super::x87_soft), with the same meaning. [`x87`](super::x87) uses the transcendental ones; the exact
//! ones are what tests hold the portable twins to.
#![expect(unsafe_code, reason = "x87 instructions exist only as assembly")]

use super::environment::status::{BEFORE, C0, C1, C2, C3, EXCEPTIONS};
use super::format::F80;
pub use super::x87_soft::{Outcome, compare, load_bcd, load_f32, load_f64, load_int, widen_f32, widen_f64};
use std::arch::asm;

/// The status bits that ordinary operations define.
const ORDINARY: u16 = EXCEPTIONS | C1;

/// The memory that a block of instructions works on; its offsets stand in the instructions below.
#[repr(C)]
#[derive(Default)]
struct Frame {
    /// Loaded into ST(0).
    a: F80,
    /// Loaded into ST(1).
    b: F80,
    /// At 32: the first result.
    first: F80,
    /// At 48: the second result.
    second: F80,
    host_control: u16,
    control: u16,
}

impl Frame {
    fn new(control: u16, a: F80, b: F80) -> Frame {
        Frame { control, a, b, ..Frame::default() }
    }
}

/// Runs `$instruction` under the guest's control word, then `$store`s, and gives the status word. Exceptions that the
/// guest unmasked are cleared before a waiting instruction could deliver them.
macro_rules! run {
    ($frame:ident, $instruction:literal $(, $store:literal)*) => {{
        let status: u16;
        // SAFETY: all of the register stack is declared clobbered, so it is empty on entry; EMMS leaves it empty, and
        // the host's control word is put back. The pointer is to a live frame, and all offsets lie within it.
        unsafe {
            asm!(
                "fnstcw word ptr [{f} + 64]",
                "fnclex",
                "fldcw word ptr [{f} + 66]",
                "fld tbyte ptr [{f} + 16]",
                "fld tbyte ptr [{f}]",
                $instruction,
                "fnstsw ax",
                "fnclex",
                $($store,)*
                "emms",
                "fldcw word ptr [{f} + 64]",
                f = in(reg) &raw mut $frame,
                out("ax") status,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            );
        }
        status
    }};
}

/// Functions whose result is left in ST(0).
macro_rules! in_st0 {
    ($($(#[$doc:meta])* $name:ident($($operand:ident),+) as ($a:expr, $b:expr) = $instruction:literal, $defined:expr;)*) => {
        $($(#[$doc])*
        pub fn $name(control: u16, $($operand: F80),+) -> Outcome<F80> {
            let mut frame = Frame::new(control, $a, $b);
            let status = run!(frame, $instruction, "fstp tbyte ptr [{f} + 32]");
            Outcome { value: frame.first, status: status & $defined }
        })*
    };
}

in_st0! {
    /// a + b.
    add(a, b) as (a, b) = "fadd st, st(1)", ORDINARY;
    /// a - b.
    sub(a, b) as (a, b) = "fsub st, st(1)", ORDINARY;
    /// a * b.
    mul(a, b) as (a, b) = "fmul st, st(1)", ORDINARY;
    /// a / b.
    div(a, b) as (a, b) = "fdiv st, st(1)", ORDINARY;
    /// The square root of a.
    sqrt(a) as (a, F80::ZERO) = "fsqrt", ORDINARY;
    /// a rounded to an integral value (FRNDINT).
    round_to_int(a) as (a, F80::ZERO) = "frndint", ORDINARY;
    /// a * 2^trunc(b) (FSCALE).
    scale(a, b) as (a, b) = "fscale", ORDINARY;
    /// 2^a - 1.
    f2xm1(a) as (a, F80::ZERO) = "f2xm1", ORDINARY;
    /// y * log2(x).
    fyl2x(y, x) as (x, y) = "fyl2x", ORDINARY;
    /// y * log2(x + 1).
    fyl2xp1(y, x) as (x, y) = "fyl2xp1", ORDINARY;
    /// The angle of the point (x, y) (FPATAN).
    patan(y, x) as (x, y) = "fpatan", ORDINARY;
    /// The sine of a; a itself with C2 when it is 2^63 or more.
    sin(a) as (a, F80::ZERO) = "fsin", ORDINARY | C2;
    /// The cosine of a; a itself with C2 when it is 2^63 or more.
    cos(a) as (a, F80::ZERO) = "fcos", ORDINARY | C2;
}

/// Functions that tell the quotient's low bits in the condition codes.
macro_rules! remainders {
    ($($(#[$doc:meta])* $name:ident = $instruction:literal;)*) => {
        $($(#[$doc])*
        pub fn $name(control: u16, a: F80, b: F80) -> Outcome<F80> {
            let mut frame = Frame::new(control, a, b);
            let status = run!(frame, $instruction, "fstp tbyte ptr [{f} + 32]");
            let value = frame.first;
            // When there is no quotient, silicon leaves the condition codes as they were before.
            let no_quotient = value.sign_exponent & 0x7fff == 0x7fff || status & !control & BEFORE != 0;
            let defined = if no_quotient { ORDINARY } else { ORDINARY | C0 | C2 | C3 };
            Outcome { value, status: status & defined }
        })*
    };
}

remainders! {
    /// A step of the remainder of a / b, quotient truncated (FPREM).
    prem = "fprem";
    /// A step of the remainder of a / b, quotient to nearest (FPREM1).
    prem1 = "fprem1";
}

/// The tangent of a, which FPTAN follows with pushing 1.0; a itself with C2 when it is 2^63 or more.
pub fn ptan(control: u16, a: F80) -> Outcome<F80> {
    let mut frame = Frame::new(control, a, F80::ZERO);
    let status = run!(frame, "fptan", "fstp tbyte ptr [{f} + 32]", "fstp tbyte ptr [{f} + 48]");
    let value = if status & C2 != 0 { frame.first } else { frame.second };
    Outcome { value, status: status & (ORDINARY | C2) }
}

/// The sine and cosine of a; a itself twice with C2 when it is 2^63 or more.
pub fn sincos(control: u16, a: F80) -> Outcome<(F80, F80)> {
    let mut frame = Frame::new(control, a, F80::ZERO);
    let status = run!(frame, "fsincos", "fstp tbyte ptr [{f} + 32]", "fstp tbyte ptr [{f} + 48]");
    let sine = if status & C2 != 0 { frame.first } else { frame.second };
    Outcome { value: (sine, frame.first), status: status & (ORDINARY | C2) }
}

/// a's exponent and significand (FXTRACT).
pub fn extract(control: u16, a: F80) -> Outcome<(F80, F80)> {
    let mut frame = Frame::new(control, a, F80::ZERO);
    let status = run!(frame, "fxtract", "fstp tbyte ptr [{f} + 32]", "fstp tbyte ptr [{f} + 48]");
    Outcome { value: (frame.second, frame.first), status: status & ORDINARY }
}

/// Functions that store into memory; the results lie in `first`, lowest byte first.
macro_rules! stores {
    ($($(#[$doc:meta])* $name:ident -> $type:ty = $instruction:literal, $convert:expr;)*) => {
        $($(#[$doc])*
        pub fn $name(control: u16, a: F80) -> Outcome<$type> {
            let mut frame = Frame::new(control, a, F80::ZERO);
            let status = run!(frame, $instruction);
            Outcome { value: $convert(frame.first), status: status & ORDINARY }
        })*
    };
}

stores! {
    /// FST m32fp.
    store_f32 -> u32 = "fstp dword ptr [{f} + 32]", |x: F80| x.mantissa as u32;
    /// FST m64fp.
    store_f64 -> u64 = "fstp qword ptr [{f} + 32]", |x: F80| x.mantissa;
    /// FIST m16int; FISTTP with RC set to zero.
    store_i16 -> i16 = "fistp word ptr [{f} + 32]", |x: F80| x.mantissa as i16;
    /// FIST m32int; FISTTP with RC set to zero.
    store_i32 -> i32 = "fistp dword ptr [{f} + 32]", |x: F80| x.mantissa as i32;
    /// FISTP m64int; FISTTP with RC set to zero.
    store_i64 -> i64 = "fistp qword ptr [{f} + 32]", |x: F80| x.mantissa as i64;
    /// FBSTP.
    store_bcd -> [u8; 10] = "fbstp tbyte ptr [{f} + 32]", F80::to_bytes;
}
