//! Guest memory as instructions see it: segmentation, paging, memory-mapped registers and self-modifying code.
//!
//! Loads and stores keep x86's order on every host: other vCPUs look at the same memory.
//!
//! The fast way is a TLB probe and a host access. Everything else (a miss, a page crossing, a register, a page with
//! code, a watched page) takes the slow way, in functions of their own.

#![expect(unsafe_code, reason = "accesses guest RAM through the host addresses that the TLB hands out")]

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::mode::ModeKey;
use crate::op::{AddressForm, Op};
use crate::state::{SegmentIndex, access};
use rx86_softmmu::{Access, Target, View};
use std::sync::atomic::{Ordering, fence};

/// The longest access that one instruction makes with one call: a 64-byte vector.
const MAX_ACCESS: usize = 64;

/// To be called behind a load: nothing that follows goes before it (SDM vol. 3, 9.2.2). x86 hosts keep that themselves.
#[inline(always)]
pub(crate) fn after_load() {
    if cfg!(not(target_arch = "x86_64")) {
        fence(Ordering::Acquire);
    }
}

/// To be called before a store: it does not go before anything that precedes.
#[inline(always)]
pub(crate) fn before_store() {
    if cfg!(not(target_arch = "x86_64")) {
        fence(Ordering::Release);
    }
}

/// An address that is not canonical raises #SS instead of #GP if it is in the stack segment (SDM vol. 1, 3.3.7.1).
#[cold]
pub(crate) fn not_canonical_stack(fault: Exception) -> Exception {
    if fault == Exception::gp(0) { Exception::ss(0) } else { fault }
}

/// The fault of a memory operand's access, which may be in the stack segment.
#[cold]
pub(crate) fn stack_fault(op: &Op, fault: Exception) -> Exception {
    if usize::from(op.segment) == SegmentIndex::SS { not_canonical_stack(fault) } else { fault }
}

impl Cpu {
    /// The offset part of the memory operand's address.
    #[inline(always)]
    pub fn effective_offset(&self, op: &Op) -> u64 {
        let regs = &self.state.regs;
        let base = regs[usize::from(op.base & 31)];
        let index = regs[usize::from(op.index & 31)];
        base.wrapping_add(index << op.scale).wrapping_add(op.displacement as i64 as u64)
    }

    /// The linear address of the memory operand for an access of `bytes`, segment checks done. A flat address that is not
    /// canonical is left to the access: `read_operand` and `write_operand` know the right exception for it.
    #[inline(always)]
    pub fn operand_linear(&mut self, op: &Op, bytes: u64, access: Access) -> Result<u64, Exception> {
        let offset = self.effective_offset(op);
        match op.form {
            AddressForm::Flat => Ok(offset),
            AddressForm::Based => Ok(offset.wrapping_add(self.state.segments[usize::from(op.segment)].base)),
            AddressForm::Checked => {
                let offset = offset & op.address_mask();
                self.segment_linear(usize::from(op.segment), offset, bytes, access)
            }
        }
    }

    /// The linear address of `offset` in segment register `segment` for an access of `bytes`, with limit, type,
    /// canonical and alignment checks (SDM vol. 3, 5.3 to 5.5).
    #[inline(never)]
    pub fn segment_linear(
        &mut self,
        segment: usize,
        offset: u64,
        bytes: u64,
        kind: Access,
    ) -> Result<u64, Exception> {
        let linear = if self.mode().has(ModeKey::LONG64) {
            let base = if segment >= SegmentIndex::FS { self.state.segments[segment].base } else { 0 };
            let linear = offset.wrapping_add(base);
            if !self.is_canonical(linear) || !self.is_canonical(linear.wrapping_add(bytes - 1)) {
                return Err(self.segment_fault(segment));
            }
            linear
        } else {
            let register = &self.state.segments[segment];
            let rights = register.access;
            let type_allows = match kind {
                Access::Write => rights & (access::CODE | access::WRITABLE) == access::WRITABLE,
                _ => rights & (access::CODE | access::WRITABLE) != access::CODE,
            };
            // Real-address and virtual-8086 mode check limits only.
            let type_checked = self.state.protected();
            if (type_checked && (register.unusable() || !type_allows)) || !register.contains(offset, bytes) {
                return Err(self.segment_fault(segment));
            }
            u64::from(offset.wrapping_add(register.base) as u32)
        };
        if self.mode().has(ModeKey::ALIGNMENT)
            && bytes.is_power_of_two()
            && bytes <= 8
            && linear & (bytes - 1) != 0
        {
            return Err(Exception::ac());
        }
        Ok(linear)
    }

    fn segment_fault(&self, segment: usize) -> Exception {
        if segment == SegmentIndex::SS { Exception::ss(0) } else { Exception::gp(0) }
    }

    /// Reads `N` bytes at a linear address with the current privilege.
    #[inline(always)]
    pub fn read_linear<const N: usize>(&mut self, linear: u64) -> Result<[u8; N], Exception> {
        if let Some(host) = self.mmu.host_for_read(linear, N as u64) {
            self.stats.tlb_hits += 1;
            // SAFETY: the TLB hands out addresses of guest RAM with at least N bytes left in the page; guest RAM stays
            // mapped as long as the MMU holds it, and any bytes are a valid [u8; N].
            let data = unsafe { host.cast::<[u8; N]>().read_unaligned() };
            after_load();
            return Ok(data);
        }
        let mut data = [0; N];
        self.read_slow(linear, &mut data, false)?;
        Ok(data)
    }

    /// Writes `N` bytes at a linear address with the current privilege.
    #[inline(always)]
    pub fn write_linear<const N: usize>(&mut self, linear: u64, data: [u8; N]) -> Result<(), Exception> {
        if let Some(host) = self.mmu.host_for_write(linear, N as u64) {
            self.stats.tlb_hits += 1;
            before_store();
            // SAFETY: as in `read_linear`; the write tag says that the page is writable RAM without code.
            unsafe { host.cast::<[u8; N]>().write_unaligned(data) };
            return Ok(());
        }
        self.write_slow(linear, &data, false)
    }

    /// Reads `N` bytes of the memory operand, of which `linear` is the address from `operand_linear`.
    #[inline(always)]
    pub fn read_operand<const N: usize>(&mut self, op: &Op, linear: u64) -> Result<[u8; N], Exception> {
        self.read_linear(linear).map_err(|fault| stack_fault(op, fault))
    }

    /// Writes `N` bytes of the memory operand, of which `linear` is the address from `operand_linear`.
    #[inline(always)]
    pub fn write_operand<const N: usize>(
        &mut self,
        op: &Op,
        linear: u64,
        data: [u8; N],
    ) -> Result<(), Exception> {
        self.write_linear(linear, data).map_err(|fault| stack_fault(op, fault))
    }

    /// Reads system data (descriptors, task-state segments) with supervisor privilege whatever the CPL.
    pub fn read_system<const N: usize>(&mut self, linear: u64) -> Result<[u8; N], Exception> {
        if self.mmu.view() == View::Supervisor {
            return self.read_linear(linear);
        }
        let mut data = [0; N];
        self.read_slow(linear, &mut data, true)?;
        Ok(data)
    }

    /// Writes system data with supervisor privilege whatever the CPL.
    pub fn write_system<const N: usize>(&mut self, linear: u64, data: [u8; N]) -> Result<(), Exception> {
        self.write_slow(linear, &data, true)
    }

    /// Checks that `bytes` at `linear` can be written, so that a later write cannot fault.
    pub fn probe_write(&mut self, linear: u64, bytes: u64) -> Result<(), Exception> {
        self.check_canonical_end(linear, bytes)?;
        for (at, _) in pieces(linear, bytes) {
            self.translate_byte(at, Access::Write, false)?;
        }
        Ok(())
    }

    /// Reads any number of bytes at the current privilege.
    pub fn read_bytes(&mut self, linear: u64, data: &mut [u8]) -> Result<(), Exception> {
        self.read_slow(linear, data, false)
    }

    /// Writes any number of bytes at the current privilege; faults before the first byte is written.
    pub fn write_bytes(&mut self, linear: u64, data: &[u8]) -> Result<(), Exception> {
        self.write_slow(linear, data, false)
    }

    pub(crate) fn translate_byte(
        &mut self,
        linear: u64,
        access: Access,
        system: bool,
    ) -> Result<Target, Exception> {
        if self.mode().has(ModeKey::LONG64) && !self.is_canonical(linear) {
            return Err(Exception::gp(0));
        }
        let target = if system {
            self.mmu.translate_as(linear, access, true)
        } else {
            self.mmu.translate(linear, access)
        };
        Ok(target?)
    }

    #[cold]
    #[inline(never)]
    fn read_slow(&mut self, linear: u64, data: &mut [u8], system: bool) -> Result<(), Exception> {
        self.stats.slow_accesses += 1;
        // Both pages are translated before a register is read: reading may have effects that a fault could not undo.
        let mut targets = [None; MAX_ACCESS / 16];
        let count = self.translate_pieces(linear, data.len() as u64, Access::Read, system, &mut targets)?;
        self.data_breakpoints(linear, data.len() as u64, Access::Read);
        let mut done = 0;
        for target in targets.iter().take(count).flatten() {
            let (target, len) = *target;
            let part = &mut data[done..done + len as usize];
            match target.host {
                // SAFETY: `host` is guest RAM with `len` bytes left in its page, `part` is ours and does not overlap it.
                Some(host) => unsafe { std::ptr::copy_nonoverlapping(host, part.as_mut_ptr(), part.len()) },
                None => {
                    self.stats.mmio_accesses += 1;
                    self.env.mmio_read(target.gpa, part);
                }
            }
            done += len as usize;
        }
        after_load();
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn write_slow(&mut self, linear: u64, data: &[u8], system: bool) -> Result<(), Exception> {
        self.stats.slow_accesses += 1;
        let mut targets = [None; MAX_ACCESS / 16];
        let count = self.translate_pieces(linear, data.len() as u64, Access::Write, system, &mut targets)?;
        self.data_breakpoints(linear, data.len() as u64, Access::Write);
        let mut done = 0;
        for target in targets.iter().take(count).flatten() {
            let (target, len) = *target;
            self.write_target(&target, &data[done..done + len as usize]);
            done += len as usize;
        }
        Ok(())
    }

    /// Writes within one translated page: RAM, ROM (dropped) or registers.
    fn write_target(&mut self, target: &Target, data: &[u8]) {
        match target.host {
            None => {
                self.stats.mmio_accesses += 1;
                self.env.mmio_write(target.gpa, data);
                // A register write may have raised or lowered an interrupt.
                self.end_block();
            }
            Some(host) if target.writable => {
                before_store();
                // SAFETY: `host` is writable guest RAM with `data.len()` bytes left in its page.
                unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), host, data.len()) };
                if target.has_code {
                    self.note_code_write(target.gpa, data.len() as u64);
                }
            }
            Some(_) => {}
        }
    }

    /// To be called after `bytes` at `gpa`, in a page with code, were written.
    pub(crate) fn note_code_write(&mut self, gpa: u64, bytes: u64) {
        self.mmu.memory().note_store(&self.code_watcher, gpa, bytes);
        if self.code_map.note_write(gpa, bytes) {
            self.end_block();
        }
    }

    /// An access that leaves the canonical addresses faults as a whole, whatever its first page would do.
    fn check_canonical_end(&self, linear: u64, bytes: u64) -> Result<(), Exception> {
        let last = linear.wrapping_add(bytes).wrapping_sub(1);
        if self.mode().has(ModeKey::LONG64) && !self.is_canonical(last) {
            return Err(Exception::gp(0));
        }
        Ok(())
    }

    fn translate_pieces(
        &mut self,
        linear: u64,
        bytes: u64,
        access: Access,
        system: bool,
        targets: &mut [Option<(Target, u64)>; MAX_ACCESS / 16],
    ) -> Result<usize, Exception> {
        self.check_canonical_end(linear, bytes)?;
        let mut count = 0;
        for (at, len) in pieces(linear, bytes) {
            targets[count] = Some((self.translate_byte(at, access, system)?, len));
            count += 1;
        }
        Ok(count)
    }
}

/// Splits an access at page borders (at most four pieces: 64 bytes never need more than two, XSAVE areas come in parts).
pub(crate) fn pieces(linear: u64, bytes: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= bytes {
            return None;
        }
        let at = linear.wrapping_add(done);
        let len = (4096 - (at & 0xfff)).min(bytes - done);
        done += len;
        Some((at, len))
    })
}
