//! The instructions that read and write control registers, XCR0 and PKRU (SDM vol. 2: MOV CR, LMSW, SMSW, CLTS, XGETBV,
//! XSETBV, RDPKRU, WRPKRU).

use super::{edx_eax, set_edx_eax};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::features::{Feature, xsave_area};
use crate::mode::ModeKey;
use crate::op::{Op, op_flags, reg};
use crate::ops::{Hard, MicroOps};
use crate::simd::in_use;
use crate::state::bits;
use crate::width::{W16, W32, W64};
use iced_x86::{Code, Instruction, Mnemonic};

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    Some(match instruction.code() {
        Code::Mov_r32_cr | Code::Mov_r64_cr => mov_from_cr,
        Code::Mov_cr_r32 | Code::Mov_cr_r64 => mov_to_cr,
        _ => match instruction.mnemonic() {
            Mnemonic::Lmsw => lmsw,
            Mnemonic::Smsw => smsw,
            Mnemonic::Clts => clts,
            Mnemonic::Xgetbv => xgetbv,
            Mnemonic::Xsetbv => xsetbv,
            Mnemonic::Rdpkru => rdpkru,
            Mnemonic::Wrpkru => wrpkru,
            _ => return None,
        },
    })
}

fn mov_from_cr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let register = op.regs[1];
    if !matches!(register, 0 | 2 | 3 | 4 | 8) {
        return Err(Exception::UD);
    }
    cpu.require_cpl0()?;
    let value = match register {
        0 => cpu.state.cr0,
        2 => cpu.state.cr2,
        3 => cpu.state.cr3,
        4 => cpu.state.cr4,
        _ => u64::from(cpu.env.task_priority()),
    };
    put_mode_width(cpu, op.regs[0], value);
    Ok(())
}

/// Writes a register with 64 bits in 64-bit mode, with 32 elsewhere.
fn put_mode_width(cpu: &mut Cpu, register: u8, value: u64) {
    if cpu.mode().has(ModeKey::LONG64) {
        cpu.put::<W64>(register, value);
    } else {
        cpu.put::<W32>(register, value & 0xffff_ffff);
    }
}

fn mov_to_cr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let register = op.regs[0];
    if !matches!(register, 0 | 2 | 3 | 4 | 8) {
        return Err(Exception::UD);
    }
    cpu.require_cpl0()?;
    let value =
        if cpu.mode().has(ModeKey::LONG64) { cpu.get::<W64>(op.regs[1]) } else { cpu.get::<W32>(op.regs[1]) };
    match register {
        0 => cpu.write_cr0(value),
        2 => {
            cpu.state.cr2 = value;
            Ok(())
        }
        3 => cpu.write_cr3(value),
        4 => cpu.write_cr4(value),
        _ if value > 15 => Err(Exception::gp(0)),
        _ => {
            cpu.env.set_task_priority(value as u8);
            // A lower priority may let an interrupt through.
            cpu.end_block();
            Ok(())
        }
    }
}

fn lmsw(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    let source = if op.has(op_flags::MEMORY) { cpu.load::<W16>(op)? } else { cpu.get::<W16>(op.regs[0]) };
    // PE can be set but not cleared.
    let kept = cpu.state.cr0 & !(bits::CR0_MP | bits::CR0_EM | bits::CR0_TS);
    cpu.write_cr0(kept | source & 0xf)
}

fn smsw(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if cpu.state.cr4 & bits::CR4_UMIP != 0 {
        cpu.require_cpl0()?;
    }
    let value = cpu.state.cr0;
    if op.has(op_flags::MEMORY) {
        return cpu.store::<W16>(op, value & 0xffff);
    }
    match op.iced_code() {
        Code::Smsw_rm16 => cpu.put::<W16>(op.regs[0], value & 0xffff),
        Code::Smsw_r32m16 => cpu.put::<W32>(op.regs[0], value & 0xffff_ffff),
        _ => cpu.put::<W64>(op.regs[0], value),
    }
    Ok(())
}

fn clts(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    cpu.require_cpl0()?;
    if cpu.state.cr0 & bits::CR0_TS != 0 {
        cpu.state.cr0 &= !bits::CR0_TS;
        cpu.mode_changed();
    }
    Ok(())
}

fn require_osxsave(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & bits::CR4_OSXSAVE == 0 { Err(Exception::UD) } else { Ok(()) }
}

fn xgetbv(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    require_osxsave(cpu)?;
    let value = match cpu.get::<W32>(reg::RCX) {
        0 => cpu.state.xcr0,
        1 if cpu.model.has(Feature::Xgetbv1) => cpu.state.xcr0 & in_use(cpu),
        _ => return Err(Exception::gp(0)),
    };
    set_edx_eax(cpu, value);
    Ok(())
}

fn xsetbv(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    require_osxsave(cpu)?;
    cpu.require_cpl0()?;
    let value = edx_eax(cpu);
    if cpu.get::<W32>(reg::RCX) != 0 || !xsave_area::allows(&cpu.model, value) {
        return Err(Exception::gp(0));
    }
    cpu.state.xcr0 = value;
    cpu.mode_changed();
    Ok(())
}

fn require_pke(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & bits::CR4_PKE == 0 {
        return Err(Exception::UD);
    }
    if cpu.get::<W32>(reg::RCX) != 0 { Err(Exception::gp(0)) } else { Ok(()) }
}

fn rdpkru(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    require_pke(cpu)?;
    let value = u64::from(cpu.state.pkru);
    set_edx_eax(cpu, value);
    Ok(())
}

fn wrpkru(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    require_pke(cpu)?;
    if cpu.get::<W32>(reg::RDX) != 0 {
        return Err(Exception::gp(0));
    }
    let value = cpu.get::<W32>(reg::RAX) as u32;
    cpu.set_pkru(value);
    Ok(())
}

impl Cpu {
    /// Sets PKRU, and tells the MMU.
    pub fn set_pkru(&mut self, value: u32) {
        self.state.pkru = value;
        self.mmu.set_pkru(value);
    }
}
