//! MOV, MOVZX, MOVSX, MOVSXD, MOVBE, MOVNTI, LEA, XCHG, CMOVcc, SETcc, CBW to CQO, BSWAP, XLAT, absolute moves.

use super::flags::condition;
use super::operand::{Immediate, Memory, Register, Shape, Source, Target, by_width, shape, width_of};
use crate::cpu::Cpu;
use crate::decode::is_absolute_move;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, Meaning, MicroOps};
use crate::width::{W8, W16, W32, W64, Width};
use iced_x86::{Instruction, Mnemonic, OpKind};

fn mov<M: MicroOps, D: Target, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    D::write::<M, W>(m, op, value)
}

fn movzx<M: MicroOps, F: Width, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, F>(m, op)?;
    m.put::<W>(op.regs[0], value);
    Ok(())
}

fn movsx<M: MicroOps, F: Width, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, F>(m, op)?;
    let value = m.sign_extend::<F>(value);
    let value = m.truncate::<W>(value);
    m.put::<W>(op.regs[0], value);
    Ok(())
}

/// Reverses the bytes of a value of width `W`.
#[inline(always)]
fn reverse<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
    let swapped = m.swap_bytes(value);
    m.shr_by(swapped, 64 - W::BITS)
}

fn movbe<M: MicroOps, D: Target, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    let value = reverse::<M, W>(m, value);
    D::write::<M, W>(m, op, value)
}

/// BSWAP; of a 16-bit register it is undefined, and silicon clears the register's low half.
fn bswap<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = m.get::<W>(op.regs[0]);
    let value = if W::BITS == 16 { m.constant(0) } else { reverse::<M, W>(m, value) };
    m.put::<W>(op.regs[0], value);
    Ok(())
}

fn lea<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let address = m.effective_address(op);
    let address = m.truncate::<W>(address);
    m.put::<W>(op.regs[0], address);
    Ok(())
}

/// XCHG between registers.
fn xchg_registers<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let a = m.get::<W>(op.regs[0]);
    let b = m.get::<W>(op.regs[1]);
    m.put::<W>(op.regs[0], b);
    m.put::<W>(op.regs[1], a);
    Ok(())
}

/// XCHG with memory; always locked. `I` is the register operand's position.
fn xchg_memory<M: MicroOps, W: Width, const I: usize>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let new = m.get::<W>(op.regs[I]);
    let (old, _) = m.modify::<W>(op, |_, _| new)?;
    m.put::<W>(op.regs[I], old);
    Ok(())
}

fn xchg_first<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    xchg_memory::<M, W, 0>(m, op)
}

fn xchg_second<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    xchg_memory::<M, W, 1>(m, op)
}

/// CMOVcc: the source is read, and may fault, and a 32-bit destination is cleared above, whatever the condition.
fn cmov<M: MicroOps, S: Source, C: Condition, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    let old = m.get::<W>(op.regs[0]);
    let holds = C::test(m);
    let value = m.select(holds, value, old);
    m.put::<W>(op.regs[0], value);
    Ok(())
}

fn setcc<M: MicroOps, D: Target, C: Condition, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let holds = C::test(m);
    D::write::<M, W>(m, op, holds)
}

/// A condition as a type.
pub(super) trait Condition {
    fn test<M: MicroOps>(m: &mut M) -> M::Int;
}

/// The condition encoded as `CC`.
pub(super) struct Cc<const CC: u8>;

impl<const CC: u8> Condition for Cc<CC> {
    #[inline(always)]
    fn test<M: MicroOps>(m: &mut M) -> M::Int {
        condition::<M, CC>(m)
    }
}

/// Expands `$then!(.., Cc<N>)` for the condition code of an instruction.
macro_rules! by_condition {
    ($code:expr, $macro:ident, $($arg:tt)*) => {{
        use iced_x86::ConditionCode as K;
        use $crate::integer::moves::Cc;
        match $code {
            K::o => $macro!(Cc<0>, $($arg)*),
            K::no => $macro!(Cc<1>, $($arg)*),
            K::b => $macro!(Cc<2>, $($arg)*),
            K::ae => $macro!(Cc<3>, $($arg)*),
            K::e => $macro!(Cc<4>, $($arg)*),
            K::ne => $macro!(Cc<5>, $($arg)*),
            K::be => $macro!(Cc<6>, $($arg)*),
            K::a => $macro!(Cc<7>, $($arg)*),
            K::s => $macro!(Cc<8>, $($arg)*),
            K::ns => $macro!(Cc<9>, $($arg)*),
            K::p => $macro!(Cc<10>, $($arg)*),
            K::np => $macro!(Cc<11>, $($arg)*),
            K::l => $macro!(Cc<12>, $($arg)*),
            K::ge => $macro!(Cc<13>, $($arg)*),
            K::le => $macro!(Cc<14>, $($arg)*),
            K::g => $macro!(Cc<15>, $($arg)*),
            _ => None,
        }
    }};
}
pub(super) use by_condition;

macro_rules! cmov_of {
    ($cc:ty, $m:ident, $i:expr) => {{
        let bits = width_of($i, 0);
        if $i.op1_kind() == OpKind::Register {
            by_width!(bits, [W16, W32, W64], cmov, $m, Register<1>, $cc)
        } else {
            by_width!(bits, [W16, W32, W64], cmov, $m, Memory, $cc)
        }
    }};
}

macro_rules! setcc_of {
    ($cc:ty, $m:ident, $i:expr) => {
        if $i.op0_kind() == OpKind::Register {
            Some(setcc::<$m, Register<0>, $cc, W8> as Meaning<$m>)
        } else {
            Some(setcc::<$m, Memory, $cc, W8> as Meaning<$m>)
        }
    };
}

/// CBW, CWDE, CDQE: sign-extends the lower half of the accumulator into all of it.
fn extend_accumulator<M: MicroOps, F: Width, W: Width>(m: &mut M, _op: &Op) -> Result<(), M::Fault> {
    let value = m.get::<F>(reg::RAX);
    let value = m.sign_extend::<F>(value);
    let value = m.truncate::<W>(value);
    m.put::<W>(reg::RAX, value);
    Ok(())
}

/// CWD, CDQ, CQO: fills (r/e)DX with the accumulator's sign.
fn sign_to_dx<M: MicroOps, W: Width>(m: &mut M, _op: &Op) -> Result<(), M::Fault> {
    let value = m.get::<W>(reg::RAX);
    let value = m.sign_extend::<W>(value);
    let count = m.constant(63);
    let sign = m.sar(value, count);
    let sign = m.truncate::<W>(sign);
    m.put::<W>(reg::RDX, sign);
    Ok(())
}

/// XLAT: AL from the table at (r/e)BX.
fn xlat(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let table = cpu.state.regs[usize::from(reg::RBX)];
    let index = cpu.get::<W8>(reg::RAX);
    let offset = table.wrapping_add(index) & op.address_mask();
    let linear = cpu.segment_linear(usize::from(op.segment), offset, 1, rx86_softmmu::Access::Read)?;
    let [value] = cpu.read_linear(linear)?;
    cpu.put::<W8>(reg::RAX, u64::from(value));
    Ok(())
}

/// MOV between the accumulator and a 64-bit absolute offset, which no displacement field can hold.
fn mov_absolute<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let load = op.regs[0] != reg::NONE;
    let access = if load { rx86_softmmu::Access::Read } else { rx86_softmmu::Access::Write };
    let linear =
        cpu.segment_linear(usize::from(op.segment), op.immediate & op.address_mask(), W::BYTES, access)?;
    let bytes = W::BYTES as usize;
    let mut data = [0; 8];
    if load {
        cpu.read_bytes(linear, &mut data[..bytes])?;
        cpu.put::<W>(reg::RAX, u64::from_le_bytes(data));
        Ok(())
    } else {
        data = cpu.state.regs[usize::from(reg::RAX)].to_le_bytes();
        cpu.write_bytes(linear, &data[..bytes])
    }
}

fn absolute(i: &Instruction) -> Option<Hard> {
    let register = if i.op0_kind() == OpKind::Register { 0 } else { 1 };
    Some(match i.op_register(register).size() {
        1 => mov_absolute::<W8>,
        2 => mov_absolute::<W16>,
        4 => mov_absolute::<W32>,
        _ => mov_absolute::<W64>,
    })
}

fn select_mov<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    let bits = width_of(i, 0);
    match shape(i)? {
        Shape::RegisterRegister => by_width!(bits, [W8, W16, W32, W64], mov, M, Register<0>, Register<1>),
        Shape::RegisterMemory => by_width!(bits, [W8, W16, W32, W64], mov, M, Register<0>, Memory),
        Shape::RegisterImmediate => by_width!(bits, [W8, W16, W32, W64], mov, M, Register<0>, Immediate),
        Shape::MemoryRegister => by_width!(bits, [W8, W16, W32, W64], mov, M, Memory, Register<1>),
        Shape::MemoryImmediate => by_width!(bits, [W8, W16, W32, W64], mov, M, Memory, Immediate),
    }
}

macro_rules! extension {
    ($function:ident, $m:ident, $i:expr) => {{
        let (to, from) = (width_of($i, 0), width_of($i, 1));
        match ($i.op1_kind() == OpKind::Register, from) {
            (true, 8) => by_width!(to, [W16, W32, W64], $function, $m, W8, Register<1>),
            (true, 16) => by_width!(to, [W16, W32, W64], $function, $m, W16, Register<1>),
            (true, 32) => by_width!(to, [W32, W64], $function, $m, W32, Register<1>),
            (false, 8) => by_width!(to, [W16, W32, W64], $function, $m, W8, Memory),
            (false, 16) => by_width!(to, [W16, W32, W64], $function, $m, W16, Memory),
            (false, 32) => by_width!(to, [W32, W64], $function, $m, W32, Memory),
            _ => None,
        }
    }};
}

fn select_xchg<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    let bits = width_of(i, 0);
    match (i.op0_kind(), i.op1_kind()) {
        (OpKind::Register, OpKind::Register) => by_width!(bits, [W8, W16, W32, W64], xchg_registers, M),
        (OpKind::Register, _) => by_width!(bits, [W8, W16, W32, W64], xchg_first, M),
        _ => by_width!(bits, [W8, W16, W32, W64], xchg_second, M),
    }
}

/// The meaning of an instruction of this family.
pub(super) fn select<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    let cc = i.condition_code();
    match i.mnemonic() {
        Mnemonic::Mov if is_absolute_move(i.code()) => None,
        // Moves to and from segment, control and debug registers belong to the system family.
        Mnemonic::Mov
            if [0, 1].iter().any(|&n| i.op_kind(n) == OpKind::Register && !i.op_register(n).is_gpr()) =>
        {
            None
        }
        Mnemonic::Mov => select_mov(i),
        Mnemonic::Movnti => by_width!(width_of(i, 0), [W32, W64], mov, M, Memory, Register<1>),
        Mnemonic::Movzx => extension!(movzx, M, i),
        Mnemonic::Movsx | Mnemonic::Movsxd if width_of(i, 0) == width_of(i, 1) => select_mov(i),
        Mnemonic::Movsx | Mnemonic::Movsxd => extension!(movsx, M, i),
        Mnemonic::Movbe if i.op0_kind() == OpKind::Register => {
            by_width!(width_of(i, 0), [W16, W32, W64], movbe, M, Register<0>, Memory)
        }
        Mnemonic::Movbe => by_width!(width_of(i, 0), [W16, W32, W64], movbe, M, Memory, Register<1>),
        Mnemonic::Bswap => by_width!(width_of(i, 0), [W16, W32, W64], bswap, M),
        Mnemonic::Lea => by_width!(width_of(i, 0), [W16, W32, W64], lea, M),
        Mnemonic::Xchg => select_xchg(i),
        Mnemonic::Cbw => Some(extend_accumulator::<M, W8, W16>),
        Mnemonic::Cwde => Some(extend_accumulator::<M, W16, W32>),
        Mnemonic::Cdqe => Some(extend_accumulator::<M, W32, W64>),
        Mnemonic::Cwd => Some(sign_to_dx::<M, W16>),
        Mnemonic::Cdq => Some(sign_to_dx::<M, W32>),
        Mnemonic::Cqo => Some(sign_to_dx::<M, W64>),
        _ if is_cmov(i) => by_condition!(cc, cmov_of, M, i),
        _ if is_setcc(i) => by_condition!(cc, setcc_of, M, i),
        _ => None,
    }
}

/// The plain function of an instruction of this family.
pub(super) fn select_hard(i: &Instruction) -> Option<Hard> {
    match i.mnemonic() {
        Mnemonic::Xlatb => Some(xlat),
        Mnemonic::Mov if is_absolute_move(i.code()) => absolute(i),
        _ => None,
    }
}

fn is_setcc(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        i.mnemonic(),
        Seto | Setno
            | Setb
            | Setae
            | Sete
            | Setne
            | Setbe
            | Seta
            | Sets
            | Setns
            | Setp
            | Setnp
            | Setl
            | Setge
            | Setle
            | Setg
    )
}

fn is_cmov(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        i.mnemonic(),
        Cmovo
            | Cmovno
            | Cmovb
            | Cmovae
            | Cmove
            | Cmovne
            | Cmovbe
            | Cmova
            | Cmovs
            | Cmovns
            | Cmovp
            | Cmovnp
            | Cmovl
            | Cmovge
            | Cmovle
            | Cmovg
    )
}
