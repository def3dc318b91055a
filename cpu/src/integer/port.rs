//! IN and OUT, with the I/O permission check that INS and OUTS share (SDM vol. 1, 19.5).

use super::operand::width_of;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::{access, bits};
use crate::width::{W8, W16, W32, Width};
use iced_x86::{Instruction, Mnemonic, OpKind};

/// Byte offset in a 32-bit or 64-bit TSS of the I/O permission bitmap's offset.
const IO_MAP_BASE: u64 = 102;

impl Cpu {
    /// #GP(0) unless the current privilege may access `bytes` ports from `port` on.
    pub fn check_port_permission(&mut self, port: u16, bytes: u8) -> Result<(), Exception> {
        let iopl = (self.state.flags.system & bits::RFLAGS_IOPL) >> 12;
        let real = self.state.cr0 & bits::CR0_PE == 0;
        if real || (!self.state.vm86() && u64::from(self.state.cpl) <= iopl) {
            return Ok(());
        }
        let tss = self.state.tr;
        // Only 32-bit and 64-bit TSSs (types 9 and 11) have a bitmap.
        let has_map = tss.access & 0xd == 9 && !tss.unusable() && tss.access & access::PRESENT != 0;
        if !has_map || tss.limit < IO_MAP_BASE as u32 + 1 {
            return Err(Exception::gp(0));
        }
        let base = u16::from_le_bytes(self.read_system(tss.base.wrapping_add(IO_MAP_BASE))?);
        let offset = u64::from(base) + u64::from(port >> 3);
        if offset + 1 > u64::from(tss.limit) {
            return Err(Exception::gp(0));
        }
        let map = u16::from_le_bytes(self.read_system(tss.base.wrapping_add(offset))?);
        let mask = ((1u16 << bytes) - 1) << (port & 7);
        if map & mask == 0 { Ok(()) } else { Err(Exception::gp(0)) }
    }

    /// Reads a port. An interrupt that the access lowered or raised is seen before the next instruction.
    pub fn read_port(&mut self, port: u16, bytes: u8) -> u32 {
        self.stats.port_accesses += 1;
        self.end_block();
        self.port_breakpoints(port, u64::from(bytes));
        self.env.port_read(port, bytes)
    }

    /// Writes a port.
    pub fn write_port(&mut self, port: u16, bytes: u8, value: u32) {
        self.stats.port_accesses += 1;
        self.end_block();
        self.port_breakpoints(port, u64::from(bytes));
        self.env.port_write(port, bytes, value);
    }
}

/// The port operand: the immediate, or DX.
fn port_operand(cpu: &mut Cpu, op: &Op, operand: usize) -> u16 {
    if op.regs[operand] == reg::NONE { op.immediate as u8 as u16 } else { cpu.get::<W16>(reg::RDX) as u16 }
}

fn input<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let port = port_operand(cpu, op, 1);
    cpu.check_port_permission(port, W::BYTES as u8)?;
    let value = cpu.read_port(port, W::BYTES as u8);
    cpu.put::<W>(reg::RAX, u64::from(value));
    Ok(())
}

fn output<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let port = port_operand(cpu, op, 0);
    cpu.check_port_permission(port, W::BYTES as u8)?;
    let value = cpu.get::<W>(reg::RAX) as u32;
    cpu.write_port(port, W::BYTES as u8, value);
    Ok(())
}

/// The plain function of an instruction of this family.
pub(super) fn select_hard(i: &Instruction) -> Option<Hard> {
    let data = match i.mnemonic() {
        Mnemonic::In => 0,
        Mnemonic::Out => 1,
        _ => return None,
    };
    debug_assert_eq!(i.op_kind(data), OpKind::Register);
    Some(match (data, width_of(i, data)) {
        (0, 8) => input::<W8>,
        (0, 16) => input::<W16>,
        (0, _) => input::<W32>,
        (_, 8) => output::<W8>,
        (_, 16) => output::<W16>,
        _ => output::<W32>,
    })
}
