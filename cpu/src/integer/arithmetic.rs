//! ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST, INC, DEC, NEG, NOT, ADCX, ADOX.

use super::flags::{
    aux_of, carry, overflow_of, replace_carry, set_add, set_add_carry, set_logic, set_sub, set_sub_borrow,
};
use super::operand::{Immediate, Memory, Register, Shape, Source, Target, by_width, shape, width_of};
use crate::op::Op;
use crate::ops::{FlagsOf, Meaning, MicroOps};
use crate::state::{AUX_CF, AUX_CF_XOR_OF, ArithFlags};
use crate::width::Width;
use iced_x86::{Instruction, Mnemonic, OpKind};

/// A two-operand operation: its result, and the flags it leaves.
trait Alu {
    fn compute<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int) -> M::Int;
    fn set_flags<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int);
}

/// INC and DEC.
trait Step: Alu {
    fn flags_of<V>(result: V) -> FlagsOf<V>;
}

impl Step for Add {
    #[inline(always)]
    fn flags_of<V>(result: V) -> FlagsOf<V> {
        FlagsOf::Increment { result }
    }
}

impl Step for Sub {
    #[inline(always)]
    fn flags_of<V>(result: V) -> FlagsOf<V> {
        FlagsOf::Decrement { result }
    }
}

struct Add;
struct Adc;
struct Sub;
struct Sbb;
struct And;
struct Or;
struct Xor;

impl Alu for Add {
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int) -> M::Int {
        let sum = m.add(a, b);
        m.truncate::<W>(sum)
    }
    #[inline(always)]
    fn set_flags<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int) {
        set_add::<M, W>(m, a, b, result);
    }
}

impl Alu for Adc {
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int) -> M::Int {
        let carry = carry(m);
        let sum = m.add(a, b);
        let sum = m.add(sum, carry);
        m.truncate::<W>(sum)
    }
    #[inline(always)]
    fn set_flags<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int) {
        set_add_carry::<M, W>(m, a, b, result);
    }
}

impl Alu for Sub {
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int) -> M::Int {
        let difference = m.sub(a, b);
        m.truncate::<W>(difference)
    }
    #[inline(always)]
    fn set_flags<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int) {
        set_sub::<M, W>(m, a, b, result);
    }
}

impl Alu for Sbb {
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int) -> M::Int {
        let borrow = carry(m);
        let difference = m.sub(a, b);
        let difference = m.sub(difference, borrow);
        m.truncate::<W>(difference)
    }
    #[inline(always)]
    fn set_flags<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int) {
        set_sub_borrow::<M, W>(m, a, b, result);
    }
}

macro_rules! logical {
    ($($name:ident = $operation:ident;)*) => {$(
        impl Alu for $name {
            #[inline(always)]
            fn compute<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int) -> M::Int {
                m.$operation(a, b)
            }
            #[inline(always)]
            fn set_flags<M: MicroOps, W: Width>(m: &mut M, _a: M::Int, _b: M::Int, result: M::Int) {
                set_logic::<M, W>(m, result);
            }
        }
    )*};
}

logical! {
    And = and;
    Or = or;
    Xor = xor;
}

/// `destination = operation(destination, source)`.
fn alu<M: MicroOps, O: Alu, D: Target, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = S::read::<M, W>(m, op)?;
    let (a, result) = D::modify::<M, W>(m, op, |m, a| O::compute::<M, W>(m, a, b))?;
    O::set_flags::<M, W>(m, a, b, result);
    Ok(())
}

/// CMP and TEST: the flags only.
fn compare<M: MicroOps, O: Alu, D: Target, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = S::read::<M, W>(m, op)?;
    let a = D::read::<M, W>(m, op)?;
    let result = O::compute::<M, W>(m, a, b);
    O::set_flags::<M, W>(m, a, b, result);
    Ok(())
}

macro_rules! by_shape {
    ($function:ident, $m:ident, $operation:ty, $instruction:expr) => {{
        let bits = width_of($instruction, 0);
        match shape($instruction)? {
            Shape::RegisterRegister => {
                by_width!(bits, [W8, W16, W32, W64], $function, $m, $operation, Register<0>, Register<1>)
            }
            Shape::RegisterMemory => {
                by_width!(bits, [W8, W16, W32, W64], $function, $m, $operation, Register<0>, Memory)
            }
            Shape::RegisterImmediate => {
                by_width!(bits, [W8, W16, W32, W64], $function, $m, $operation, Register<0>, Immediate)
            }
            Shape::MemoryRegister => {
                by_width!(bits, [W8, W16, W32, W64], $function, $m, $operation, Memory, Register<1>)
            }
            Shape::MemoryImmediate => {
                by_width!(bits, [W8, W16, W32, W64], $function, $m, $operation, Memory, Immediate)
            }
        }
    }};
}

/// INC and DEC leave CF alone.
fn inc_dec<M: MicroOps, O: Step, D: Target, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let one = m.constant(1);
    let (a, result) = D::modify::<M, W>(m, op, |m, a| O::compute::<M, W>(m, a, one))?;
    if !m.remember_flags::<W>(O::flags_of(result)) {
        let old_carry = carry(m);
        O::set_flags::<M, W>(m, a, one, result);
        replace_carry(m, old_carry);
    }
    Ok(())
}

fn neg<M: MicroOps, D: Target, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let zero = m.constant(0);
    let (value, result) = D::modify::<M, W>(m, op, |m, a| {
        let difference = m.sub(zero, a);
        m.truncate::<W>(difference)
    })?;
    set_sub::<M, W>(m, zero, value, result);
    Ok(())
}

fn not<M: MicroOps, D: Target, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    D::modify::<M, W>(m, op, |m, a| m.not::<W>(a))?;
    Ok(())
}

macro_rules! unary {
    ($function:ident, $m:ident, $instruction:expr $(, $operation:ty)?) => {{
        let bits = width_of($instruction, 0);
        if $instruction.op0_kind() == OpKind::Register {
            by_width!(bits, [W8, W16, W32, W64], $function, $m $(, $operation)?, Register<0>)
        } else {
            by_width!(bits, [W8, W16, W32, W64], $function, $m $(, $operation)?, Memory)
        }
    }};
}

/// `a + b + carry_in` of width `W`: the sum, and the carry out of it.
fn add_with_carry<M: MicroOps, W: Width>(
    m: &mut M,
    a: M::Int,
    b: M::Int,
    carry_in: M::Int,
) -> (M::Int, M::Int) {
    let sum = m.add(a, b);
    let sum = m.truncate::<W>(sum);
    let first = m.less_unsigned(sum, a);
    let total = m.add(sum, carry_in);
    let total = m.truncate::<W>(total);
    let second = m.less_unsigned(total, sum);
    let carry_out = m.or(first, second);
    (total, carry_out)
}

/// ADCX: addition with CF in and out, all other flags untouched.
fn adcx<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = S::read::<M, W>(m, op)?;
    let a = m.get::<W>(op.regs[0]);
    let carry_in = carry(m);
    let (sum, carry_out) = add_with_carry::<M, W>(m, a, b, carry_in);
    m.put::<W>(op.regs[0], sum);
    replace_carry(m, carry_out);
    Ok(())
}

/// ADOX: addition with OF in and out, all other flags untouched.
fn adox<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = S::read::<M, W>(m, op)?;
    let a = m.get::<W>(op.regs[0]);
    let ArithFlags { result, aux } = m.flags();
    let overflow_in = overflow_of(m, aux);
    let (sum, overflow_out) = add_with_carry::<M, W>(m, a, b, overflow_in);
    m.put::<W>(op.regs[0], sum);
    let carry = carry(m);
    let mask = m.constant(!(AUX_CF | AUX_CF_XOR_OF));
    let rest = m.and(aux, mask);
    let top = aux_of(m, carry, overflow_out);
    let aux = m.or(rest, top);
    m.set_flags(ArithFlags { result, aux });
    Ok(())
}

macro_rules! carry_chain {
    ($function:ident, $m:ident, $instruction:expr) => {{
        let bits = width_of($instruction, 0);
        if $instruction.op1_kind() == OpKind::Register {
            by_width!(bits, [W32, W64], $function, $m, Register<1>)
        } else {
            by_width!(bits, [W32, W64], $function, $m, Memory)
        }
    }};
}

/// The meaning of an instruction of this family.
pub(super) fn select<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    match i.mnemonic() {
        Mnemonic::Add => by_shape!(alu, M, Add, i),
        Mnemonic::Adc => by_shape!(alu, M, Adc, i),
        Mnemonic::Sub => by_shape!(alu, M, Sub, i),
        Mnemonic::Sbb => by_shape!(alu, M, Sbb, i),
        Mnemonic::And => by_shape!(alu, M, And, i),
        Mnemonic::Or => by_shape!(alu, M, Or, i),
        Mnemonic::Xor => by_shape!(alu, M, Xor, i),
        Mnemonic::Cmp => by_shape!(compare, M, Sub, i),
        Mnemonic::Test => by_shape!(compare, M, And, i),
        Mnemonic::Inc => unary!(inc_dec, M, i, Add),
        Mnemonic::Dec => unary!(inc_dec, M, i, Sub),
        Mnemonic::Neg => unary!(neg, M, i),
        Mnemonic::Not => unary!(not, M, i),
        Mnemonic::Adcx => carry_chain!(adcx, M, i),
        Mnemonic::Adox => carry_chain!(adox, M, i),
        _ => None,
    }
}
