//! LGDT, LIDT, SGDT, SIDT, LLDT, SLDT, LTR, STR (SDM vol. 2; UMIP in vol. 3, 2.5).

use super::descriptor::{Descriptor, is_null, selector_error, system_type};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::memory::stack_fault;
use crate::mode::ModeKey;
use crate::op::{Op, op_flags};
use crate::ops::{Hard, MicroOps};
use crate::state::{Segment, TableRegister, access, bits};
use crate::width::{W16, W32, W64};
use iced_x86::{Instruction, Mnemonic};
use rx86_softmmu::Access;

/// Which table register an instruction names.
#[derive(Clone, Copy)]
enum Table {
    Global,
    Interrupt,
}

fn load_table(cpu: &mut Cpu, op: &Op, table: Table) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let limit = cpu.load::<W16>(op)? as u16;
    let base = if cpu.mode().has(ModeKey::LONG64) {
        let base = cpu.load_at::<W64>(op, 2)?;
        if !cpu.is_canonical(base) {
            return Err(Exception::gp(0));
        }
        base
    } else {
        // A 16-bit operand size gives a 24-bit base.
        let base = cpu.load_at::<W32>(op, 2)?;
        if op.operand_bits() == 16 { base & 0xff_ffff } else { base }
    };
    let register = TableRegister { base, limit };
    match table {
        Table::Global => cpu.state.gdtr = register,
        Table::Interrupt => cpu.state.idtr = register,
    }
    Ok(())
}

fn store_table(cpu: &mut Cpu, op: &Op, table: Table) -> Result<(), Exception> {
    require_umip_privilege(cpu)?;
    let register = match table {
        Table::Global => cpu.state.gdtr,
        Table::Interrupt => cpu.state.idtr,
    };
    let mut image = [0u8; 10];
    image[..2].copy_from_slice(&register.limit.to_le_bytes());
    image[2..].copy_from_slice(&register.base.to_le_bytes());
    let bytes = if cpu.mode().has(ModeKey::LONG64) { 10 } else { 6 };
    let linear = cpu.operand_linear(op, bytes, Access::Write)?;
    cpu.write_bytes(linear, &image[..bytes as usize]).map_err(|fault| stack_fault(op, fault))
}

/// #GP(0) for SGDT, SIDT, SLDT, STR and SMSW at CPL above 0 with CR4.UMIP.
fn require_umip_privilege(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & bits::CR4_UMIP != 0 && cpu.state.cpl > 0 { Err(Exception::gp(0)) } else { Ok(()) }
}

fn selector_operand(cpu: &mut Cpu, op: &Op) -> Result<u16, Exception> {
    Ok(if op.has(op_flags::MEMORY) { cpu.load::<W16>(op)? } else { cpu.get::<W16>(op.regs[0]) } as u16)
}

/// In IA-32e mode: the descriptor's upper half is one, and the base is canonical.
fn valid_base(cpu: &Cpu, descriptor: &Descriptor) -> bool {
    !cpu.state.long_mode_active() || (descriptor.upper_half_valid() && cpu.is_canonical(descriptor.base()))
}

fn lldt(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let selector = selector_operand(cpu, op)?;
    if is_null(selector) {
        cpu.state.ldtr = Segment { selector, base: 0, limit: 0, access: access::UNUSABLE };
        return Ok(());
    }
    let error = selector_error(selector);
    if selector & 4 != 0 {
        return Err(Exception::gp(error));
    }
    let descriptor = cpu.read_descriptor(selector)?;
    if !descriptor.is_system() || descriptor.kind() != system_type::LDT || !valid_base(cpu, &descriptor) {
        return Err(Exception::gp(error));
    }
    if !descriptor.is_present() {
        return Err(Exception::np(error));
    }
    cpu.state.ldtr = descriptor.segment(selector);
    Ok(())
}

fn ltr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let selector = selector_operand(cpu, op)?;
    let error = selector_error(selector);
    if is_null(selector) || selector & 4 != 0 {
        return Err(Exception::gp(error));
    }
    let mut descriptor = cpu.read_descriptor(selector)?;
    let available = match descriptor.kind() {
        system_type::TSS_AVAILABLE => true,
        system_type::TSS16_AVAILABLE => !cpu.state.long_mode_active(),
        _ => false,
    };
    if !descriptor.is_system() || !available || !valid_base(cpu, &descriptor) {
        return Err(Exception::gp(error));
    }
    if !descriptor.is_present() {
        return Err(Exception::np(error));
    }
    // Busy is type bit 1.
    cpu.mark_type(&mut descriptor, 2)?;
    cpu.state.tr = descriptor.segment(selector);
    Ok(())
}

/// SLDT and STR: memory takes 16 bits, a register is zero-extended.
fn store_selector(cpu: &mut Cpu, op: &Op, selector: u16) -> Result<(), Exception> {
    require_umip_privilege(cpu)?;
    let selector = u64::from(selector);
    if op.has(op_flags::MEMORY) {
        return cpu.store::<W16>(op, selector);
    }
    match op.operand_bits() {
        16 => cpu.put::<W16>(op.regs[0], selector),
        32 => cpu.put::<W32>(op.regs[0], selector),
        _ => cpu.put::<W64>(op.regs[0], selector),
    }
    Ok(())
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.mnemonic() {
        Mnemonic::Lgdt => |cpu, op| load_table(cpu, op, Table::Global),
        Mnemonic::Lidt => |cpu, op| load_table(cpu, op, Table::Interrupt),
        Mnemonic::Sgdt => |cpu, op| store_table(cpu, op, Table::Global),
        Mnemonic::Sidt => |cpu, op| store_table(cpu, op, Table::Interrupt),
        Mnemonic::Lldt => lldt,
        Mnemonic::Ltr => ltr,
        Mnemonic::Sldt => |cpu, op| store_selector(cpu, op, cpu.state.ldtr.selector),
        Mnemonic::Str => |cpu, op| store_selector(cpu, op, cpu.state.tr.selector),
        _ => return None,
    })
}
