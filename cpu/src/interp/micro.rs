//! The interpreter's micro-operations: numbers.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::memory::{not_canonical_stack, stack_fault};
use crate::mode::ModeKey;
use crate::op::{AddressForm, Op, Reg, op_flags, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::{ArithFlags, SegmentIndex};
use crate::width::{self, Width};
use rx86_softmmu::Access;

impl Cpu {
    #[inline(always)]
    fn read_width<W: Width>(&mut self, linear: u64) -> Result<u64, Exception> {
        Ok(match W::BITS {
            8 => u64::from(u8::from_le_bytes(self.read_linear(linear)?)),
            16 => u64::from(u16::from_le_bytes(self.read_linear(linear)?)),
            32 => u64::from(u32::from_le_bytes(self.read_linear(linear)?)),
            _ => u64::from_le_bytes(self.read_linear(linear)?),
        })
    }

    #[inline(always)]
    fn write_width<W: Width>(&mut self, linear: u64, value: u64) -> Result<(), Exception> {
        match W::BITS {
            8 => self.write_linear(linear, (value as u8).to_le_bytes()),
            16 => self.write_linear(linear, (value as u16).to_le_bytes()),
            32 => self.write_linear(linear, (value as u32).to_le_bytes()),
            _ => self.write_linear(linear, value.to_le_bytes()),
        }
    }

    /// The linear address `displacement` bytes from the memory operand.
    #[inline(always)]
    fn displaced_linear(
        &mut self,
        op: &Op,
        displacement: u64,
        bytes: u64,
        access: Access,
    ) -> Result<u64, Exception> {
        if op.form == AddressForm::Checked {
            let offset = self.effective_offset(op).wrapping_add(displacement) & op.address_mask();
            return self.segment_linear(usize::from(op.segment), offset, bytes, access);
        }
        Ok(self.operand_linear(op, bytes, access)?.wrapping_add(displacement))
    }

    /// The linear address of the stack slot at `offset`, and the mask of the stack's address size.
    #[inline(always)]
    fn stack_linear(&mut self, op: &Op, offset: u64, bytes: u64, access: Access) -> Result<u64, Exception> {
        if op.form != AddressForm::Checked {
            return Ok(offset);
        }
        self.segment_linear(SegmentIndex::SS, offset, bytes, access)
    }

    /// Which bits of RSP address the stack (SS.B, or all in 64-bit mode).
    #[inline(always)]
    pub fn stack_mask(&self) -> u64 {
        if self.mode().has(ModeKey::LONG64) {
            u64::MAX
        } else if self.mode().has(ModeKey::STACK32) {
            0xffff_ffff
        } else {
            0xffff
        }
    }

    /// Replaces the part of RSP that the stack's address size covers.
    #[inline(always)]
    pub fn set_stack_pointer(&mut self, value: u64) {
        let mask = self.stack_mask();
        let rsp = &mut self.state.regs[usize::from(reg::RSP)];
        // A 32-bit stack pointer write clears the upper half as every 32-bit register write does.
        *rsp = if mask == 0xffff { *rsp & !mask | value & mask } else { value & mask };
    }
}

impl MicroOps for Cpu {
    type Int = u64;
    type Fault = Exception;

    #[inline(always)]
    fn constant(&mut self, value: u64) -> u64 {
        value
    }

    #[inline(always)]
    fn get<W: Width>(&mut self, reg: Reg) -> u64 {
        let slot = self.state.regs[usize::from(reg & 31)];
        if W::BITS == 8 { slot >> ((reg & reg::HIGH_BYTE) >> 3) & 0xff } else { slot & W::MASK }
    }

    #[inline(always)]
    fn put<W: Width>(&mut self, reg: Reg, value: u64) {
        let slot = &mut self.state.regs[usize::from(reg & 31)];
        *slot = match W::BITS {
            8 => {
                let shift = (reg & reg::HIGH_BYTE) >> 3;
                *slot & !(0xff << shift) | (value & 0xff) << shift
            }
            16 => *slot & !0xffff | value & 0xffff,
            _ => value & W::MASK,
        };
    }

    #[inline(always)]
    fn effective_address(&mut self, op: &Op) -> u64 {
        self.effective_offset(op) & op.address_mask()
    }

    #[inline(always)]
    fn load<W: Width>(&mut self, op: &Op) -> Result<u64, Exception> {
        let linear = self.operand_linear(op, W::BYTES, Access::Read)?;
        self.read_width::<W>(linear).map_err(|fault| stack_fault(op, fault))
    }

    #[inline(always)]
    fn load_at<W: Width>(&mut self, op: &Op, displacement: u64) -> Result<u64, Exception> {
        let linear = self.displaced_linear(op, displacement, W::BYTES, Access::Read)?;
        self.read_width::<W>(linear).map_err(|fault| stack_fault(op, fault))
    }

    #[inline(always)]
    fn store<W: Width>(&mut self, op: &Op, value: u64) -> Result<(), Exception> {
        let linear = self.operand_linear(op, W::BYTES, Access::Write)?;
        self.write_width::<W>(linear, value).map_err(|fault| stack_fault(op, fault))
    }

    #[inline(always)]
    fn modify_at<W: Width>(
        &mut self,
        op: &Op,
        displacement: u64,
        change: impl Fn(&mut Self, u64) -> u64,
    ) -> Result<(u64, u64), Exception> {
        let linear = self.displaced_linear(op, displacement, W::BYTES, Access::Write)?;
        if op.has(op_flags::LOCK) {
            return self.modify_locked::<W>(linear, change).map_err(|fault| stack_fault(op, fault));
        }
        if self.mmu.host_for_write(linear, W::BYTES).is_none() {
            self.probe_write(linear, W::BYTES).map_err(|fault| stack_fault(op, fault))?;
        }
        let old = self.read_width::<W>(linear)?;
        let new = change(self, old);
        self.write_width::<W>(linear, new)?;
        Ok((old, new))
    }

    #[inline(always)]
    fn push<W: Width>(&mut self, op: &Op, value: u64) -> Result<(), Exception> {
        let offset = self.state.regs[usize::from(reg::RSP)].wrapping_sub(W::BYTES) & self.stack_mask();
        let linear = self.stack_linear(op, offset, W::BYTES, Access::Write)?;
        self.write_width::<W>(linear, value).map_err(not_canonical_stack)?;
        self.set_stack_pointer(offset);
        Ok(())
    }

    #[inline(always)]
    fn peek_stack<W: Width>(&mut self, op: &Op) -> Result<u64, Exception> {
        let offset = self.state.regs[usize::from(reg::RSP)] & self.stack_mask();
        let linear = self.stack_linear(op, offset, W::BYTES, Access::Read)?;
        self.read_width::<W>(linear).map_err(not_canonical_stack)
    }

    #[inline(always)]
    fn release_stack(&mut self, _op: &Op, bytes: u64) {
        let offset = self.state.regs[usize::from(reg::RSP)].wrapping_add(bytes);
        self.set_stack_pointer(offset);
    }

    #[inline(always)]
    fn set_stack(&mut self, value: u64) {
        self.set_stack_pointer(value);
    }

    #[inline(always)]
    fn add(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn sub(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn mul(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_mul(b)
    }
    #[inline(always)]
    fn mul_high_unsigned(&mut self, a: u64, b: u64) -> u64 {
        ((u128::from(a) * u128::from(b)) >> 64) as u64
    }
    #[inline(always)]
    fn mul_high_signed(&mut self, a: u64, b: u64) -> u64 {
        ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
    }
    #[inline(always)]
    fn and(&mut self, a: u64, b: u64) -> u64 {
        a & b
    }
    #[inline(always)]
    fn or(&mut self, a: u64, b: u64) -> u64 {
        a | b
    }
    #[inline(always)]
    fn xor(&mut self, a: u64, b: u64) -> u64 {
        a ^ b
    }
    #[inline(always)]
    fn shl(&mut self, a: u64, count: u64) -> u64 {
        a << (count & 63)
    }
    #[inline(always)]
    fn shr(&mut self, a: u64, count: u64) -> u64 {
        a >> (count & 63)
    }
    #[inline(always)]
    fn sar(&mut self, a: u64, count: u64) -> u64 {
        ((a as i64) >> (count & 63)) as u64
    }
    #[inline(always)]
    fn sign_extend<W: Width>(&mut self, a: u64) -> u64 {
        width::sign_extend::<W>(a)
    }
    #[inline(always)]
    fn count_ones(&mut self, a: u64) -> u64 {
        u64::from(a.count_ones())
    }
    #[inline(always)]
    fn leading_zeros(&mut self, a: u64) -> u64 {
        u64::from(a.leading_zeros())
    }
    #[inline(always)]
    fn trailing_zeros(&mut self, a: u64) -> u64 {
        u64::from(a.trailing_zeros())
    }
    #[inline(always)]
    fn swap_bytes(&mut self, a: u64) -> u64 {
        a.swap_bytes()
    }
    #[inline(always)]
    fn equal(&mut self, a: u64, b: u64) -> u64 {
        u64::from(a == b)
    }
    #[inline(always)]
    fn less_unsigned(&mut self, a: u64, b: u64) -> u64 {
        u64::from(a < b)
    }
    #[inline(always)]
    fn select(&mut self, condition: u64, a: u64, b: u64) -> u64 {
        if condition != 0 { a } else { b }
    }

    #[inline(always)]
    fn flags(&mut self) -> ArithFlags<u64> {
        self.state.flags.arith
    }
    #[inline(always)]
    fn set_flags(&mut self, flags: ArithFlags<u64>) {
        self.state.flags.arith = flags;
    }

    #[inline(always)]
    fn check_target(&mut self, target: u64) -> Result<(), Exception> {
        self.check_near_target(target)
    }

    #[inline(always)]
    fn jump(&mut self, target: u64) -> Result<(), Exception> {
        self.check_near_target(target)?;
        self.state.set_rip(target);
        Ok(())
    }

    #[inline(always)]
    fn branch(&mut self, op: &Op, condition: u64) -> Result<(), Exception> {
        if condition == 0 {
            return Ok(());
        }
        let target = self.state.rip().wrapping_add(op.immediate);
        let target = match op.operand_bits() {
            64 => target,
            32 => target & 0xffff_ffff,
            _ => target & 0xffff,
        };
        self.jump(target)
    }

    #[inline(always)]
    fn call(&mut self, function: Hard, op: &Op) -> Result<(), Exception> {
        function(self, op)
    }
}

impl Cpu {
    /// #GP(0) unless `target` lies within CS's limit, or is canonical in 64-bit mode.
    #[inline(always)]
    pub fn check_near_target(&self, target: u64) -> Result<(), Exception> {
        let valid = if self.mode().has(ModeKey::LONG64) {
            self.is_canonical(target)
        } else {
            target <= u64::from(self.state.segments[SegmentIndex::CS].limit)
        };
        if valid { Ok(()) } else { Err(Exception::gp(0)) }
    }
}
