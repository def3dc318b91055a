//! Masked moves: elements whose mask's sign bit is clear are not accessed at all (SDM vol. 2, VMASKMOV, VPMASKMOV).

use super::operand::Lanes;
use super::rows;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::memory::stack_fault;
use crate::op::{AddressForm, Op, reg};
use crate::simd::lanes::Vector;
use rx86_softmmu::Access;

impl Cpu {
    /// The linear address of `bytes` at an offset in the memory operand's segment, segment checks done. The offset is
    /// already cut to the address size.
    #[inline(always)]
    pub(super) fn element_linear(
        &mut self,
        op: &Op,
        offset: u64,
        bytes: u64,
        access: Access,
    ) -> Result<u64, Exception> {
        match op.form {
            AddressForm::Flat => Ok(offset),
            AddressForm::Based => Ok(offset.wrapping_add(self.state.segments[usize::from(op.segment)].base)),
            AddressForm::Checked => self.segment_linear(usize::from(op.segment), offset, bytes, access),
        }
    }
}

/// Whether the mask of the element at byte `at` is set.
#[inline(always)]
pub(super) fn is_chosen<const N: usize>(mask: &Lanes<N>, at: usize, bytes: usize) -> bool {
    let last = at + bytes - 1;
    mask[last / 16].to_bytes()[last % 16] & 0x80 != 0
}

/// Elements of `BYTES` from memory where the mask, op1, is set; zeros elsewhere.
fn load<const N: usize, const BYTES: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = cpu.lanes::<N>(op.regs[1]);
    let start = cpu.effective_offset(op) & op.address_mask();
    let mut value = [[0u8; 16]; N];
    for at in (0..16 * N).step_by(BYTES) {
        if is_chosen(&mask, at, BYTES) {
            let linear = cpu.element_linear(op, start.wrapping_add(at as u64), BYTES as u64, Access::Read)?;
            let element = cpu.read_operand::<BYTES>(op, linear)?;
            value[at / 16][at % 16..at % 16 + BYTES].copy_from_slice(&element);
        }
    }
    cpu.set_lanes::<N>(op.regs[0], value.map(Vector::from_bytes));
    Ok(())
}

/// Elements of `BYTES` of op2 to memory where the mask, op1, is set. Nothing is stored unless all of them can be.
fn store<const N: usize, const BYTES: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = cpu.lanes::<N>(op.regs[1]);
    let value = cpu.lanes::<N>(op.regs[2]).map(Vector::to_bytes);
    let start = cpu.effective_offset(op) & op.address_mask();
    let mut addresses = [None; 8];
    for (i, address) in addresses.iter_mut().enumerate().take(16 * N / BYTES) {
        let at = i * BYTES;
        if is_chosen(&mask, at, BYTES) {
            let linear =
                cpu.element_linear(op, start.wrapping_add(at as u64), BYTES as u64, Access::Write)?;
            cpu.probe_write(linear, BYTES as u64).map_err(|fault| stack_fault(op, fault))?;
            *address = Some(linear);
        }
    }
    for (i, address) in addresses.into_iter().enumerate() {
        if let Some(linear) = address {
            let at = i * BYTES;
            let mut element = [0; BYTES];
            element.copy_from_slice(&value[at / 16][at % 16..at % 16 + BYTES]);
            cpu.write_linear(linear, element)?;
        }
    }
    Ok(())
}

#[inline(always)]
fn masked<const N: usize, const BYTES: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if op.regs[0] == reg::NONE { store::<N, BYTES>(cpu, op) } else { load::<N, BYTES>(cpu, op) }
}

fn doubles<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    masked::<N, 4>(cpu, op)
}

fn quads<const N: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    masked::<N, 8>(cpu, op)
}

rows! { select:
    Vmaskmovps | Vpmaskmovd => doubles;
    Vmaskmovpd | Vpmaskmovq => quads;
}
