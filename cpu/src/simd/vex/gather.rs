//! Gathers: elements from as many addresses (SDM vol. 2, VPGATHERDD and relatives).
//!
//! Elements are fetched from the low one up, and each fetch clears its mask. A fault leaves what has been fetched, and of the
//! mask all ones for each element that is yet to be, so that the instruction can be started again. Indices, destination
//! and mask are three different registers, or the decoder has refused the instruction.

use super::masked::is_chosen;
use super::operand::Lanes;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::Hard;
use crate::simd::lanes::Vector;
use iced_x86::{Code, Instruction};
use rx86_softmmu::Access;

/// Bytes of two lanes.
type Bytes = [u8; 32];

fn bytes_of(lanes: Lanes<2>) -> Bytes {
    let mut bytes = [0; 32];
    for (bytes, lane) in bytes.as_chunks_mut().0.iter_mut().zip(lanes) {
        *bytes = lane.to_bytes();
    }
    bytes
}

fn lanes_of(bytes: &Bytes) -> Lanes<2> {
    let lanes = bytes.as_chunks().0;
    [Vector::from_bytes(lanes[0]), Vector::from_bytes(lanes[1])]
}

/// Gathers `count` elements of `BYTES` into op0 by indices of `INDEX_BYTES`, under the mask in op2.
fn gather<const BYTES: usize, const INDEX_BYTES: usize>(
    cpu: &mut Cpu,
    op: &Op,
    count: usize,
) -> Result<(), Exception> {
    let base = cpu.state.regs[usize::from(op.base & 31)].wrapping_add(op.displacement as i64 as u64);
    let indices = bytes_of(cpu.lanes(op.index));
    let mask = cpu.lanes::<2>(op.regs[2]);
    let mut value = bytes_of(cpu.lanes(op.regs[0]));
    let mut left = [0; 32];
    for at in (0..count * BYTES).step_by(BYTES).filter(|&at| is_chosen(&mask, at, BYTES)) {
        left[at..at + BYTES].fill(0xff);
    }
    for i in 0..count {
        let at = i * BYTES;
        if is_chosen(&mask, at, BYTES) {
            let offset = base.wrapping_add(index::<INDEX_BYTES>(&indices, i) << op.scale) & op.address_mask();
            let fetched = cpu
                .element_linear(op, offset, BYTES as u64, Access::Read)
                .and_then(|linear| cpu.read_operand::<BYTES>(op, linear));
            match fetched {
                Ok(element) => value[at..at + BYTES].copy_from_slice(&element),
                Err(fault) => {
                    cpu.set_lanes(op.regs[0], lanes_of(&value));
                    cpu.set_lanes(op.regs[2], lanes_of(&left));
                    return Err(fault);
                }
            }
        }
        left[at..at + BYTES].fill(0);
    }
    value[count * BYTES..].fill(0);
    cpu.set_lanes(op.regs[0], lanes_of(&value));
    cpu.set_lanes(op.regs[2], [Vector::ZERO; 2]);
    Ok(())
}

/// Index `i`, sign-extended.
#[inline(always)]
fn index<const INDEX_BYTES: usize>(indices: &Bytes, i: usize) -> u64 {
    let at = i * INDEX_BYTES;
    let bytes: [u8; 4] = std::array::from_fn(|k| indices[at + k]);
    let low = u32::from_le_bytes(bytes);
    if INDEX_BYTES == 4 {
        return low as i32 as u64;
    }
    let bytes: [u8; 4] = std::array::from_fn(|k| indices[at + 4 + k]);
    u64::from(low) | u64::from(u32::from_le_bytes(bytes)) << 32
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Code::*;
    Some(match instruction.code() {
        VEX_Vpgatherdd_xmm_vm32x_xmm | VEX_Vgatherdps_xmm_vm32x_xmm => |cpu, op| gather::<4, 4>(cpu, op, 4),
        VEX_Vpgatherdd_ymm_vm32y_ymm | VEX_Vgatherdps_ymm_vm32y_ymm => |cpu, op| gather::<4, 4>(cpu, op, 8),
        VEX_Vpgatherqd_xmm_vm64x_xmm | VEX_Vgatherqps_xmm_vm64x_xmm => |cpu, op| gather::<4, 8>(cpu, op, 2),
        VEX_Vpgatherqd_xmm_vm64y_xmm | VEX_Vgatherqps_xmm_vm64y_xmm => |cpu, op| gather::<4, 8>(cpu, op, 4),
        VEX_Vpgatherdq_xmm_vm32x_xmm | VEX_Vgatherdpd_xmm_vm32x_xmm => |cpu, op| gather::<8, 4>(cpu, op, 2),
        VEX_Vpgatherdq_ymm_vm32x_ymm | VEX_Vgatherdpd_ymm_vm32x_ymm => |cpu, op| gather::<8, 4>(cpu, op, 4),
        VEX_Vpgatherqq_xmm_vm64x_xmm | VEX_Vgatherqpd_xmm_vm64x_xmm => |cpu, op| gather::<8, 8>(cpu, op, 2),
        VEX_Vpgatherqq_ymm_vm64y_ymm | VEX_Vgatherqpd_ymm_vm64y_ymm => |cpu, op| gather::<8, 8>(cpu, op, 4),
        _ => return None,
    })
}
