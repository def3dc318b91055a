//! Locked read-modify-writes (SDM vol. 3, 9.1.2): the host's atomic operations on guest RAM.
//!
//! What lies within 16 aligned bytes is one compare-and-swap of the host. What crosses such a border, a cache line or a page
//! (a split lock) is done while no other vCPU executes anything. Registers of devices know no locks.

#![expect(
    unsafe_code,
    reason = "atomic accesses to guest RAM through the host addresses that the MMU hands out"
)]

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::width::Width;
use rx86_softmmu::{Access, Target};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// To be called behind a compare-and-swap: no access that follows goes before its store, as the one that an x86 host has
/// sees to itself (SDM vol. 3, 9.2.3.9). Of aarch64's, only the single instruction does, not the loop.
#[inline(always)]
fn after_locked() {
    if cfg!(not(target_arch = "x86_64")) {
        fence(Ordering::SeqCst);
    }
}

/// Loads `W` bits at a host address aligned to them.
///
/// # Safety
/// `host` is that of W::BYTES bytes of guest RAM, aligned to W::BYTES.
#[inline(always)]
unsafe fn load<W: Width>(host: *mut u8) -> u64 {
    let order = Ordering::Relaxed;
    // SAFETY: the caller's.
    unsafe {
        match W::BITS {
            8 => u64::from(AtomicU8::from_ptr(host).load(order)),
            16 => u64::from(AtomicU16::from_ptr(host.cast()).load(order)),
            32 => u64::from(AtomicU32::from_ptr(host.cast()).load(order)),
            _ => AtomicU64::from_ptr(host.cast()).load(order),
        }
    }
}

/// Replaces `old` by `new` at a host address aligned to `W`; returns whether it happened.
///
/// # Safety
/// `host` is that of W::BYTES bytes of writable guest RAM, aligned to W::BYTES.
#[inline(always)]
unsafe fn compare_exchange<W: Width>(host: *mut u8, old: u64, new: u64) -> bool {
    let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
    // SAFETY: the caller's.
    unsafe {
        match W::BITS {
            8 => AtomicU8::from_ptr(host).compare_exchange(old as u8, new as u8, success, failure).is_ok(),
            16 => AtomicU16::from_ptr(host.cast())
                .compare_exchange(old as u16, new as u16, success, failure)
                .is_ok(),
            32 => AtomicU32::from_ptr(host.cast())
                .compare_exchange(old as u32, new as u32, success, failure)
                .is_ok(),
            _ => AtomicU64::from_ptr(host.cast()).compare_exchange(old, new, success, failure).is_ok(),
        }
    }
}

/// Replaces `old` by `new` in 16 bytes; returns what they held, or none if the host has no such operation.
///
/// # Safety
/// `host` is that of 16 bytes of writable guest RAM, aligned to 16.
#[cfg(target_arch = "x86_64")]
unsafe fn compare_exchange_16(host: *mut u8, old: u128, new: u128) -> Option<u128> {
    if !std::arch::is_x86_feature_detected!("cmpxchg16b") {
        return None;
    }
    let (mut low, mut high) = (old as u64, (old >> 64) as u64);
    // SAFETY: the caller's address, and the host has the instruction. RBX, which cannot be named as an operand, is put back.
    // The others are named, as a compiler that chose RBX for one of them would have it replaced before it is used.
    unsafe {
        std::arch::asm!(
            "xchg rsi, rbx",
            "lock cmpxchg16b [rdi]",
            "mov rbx, rsi",
            in("rdi") host,
            inout("rsi") new as u64 => _,
            in("rcx") (new >> 64) as u64,
            inout("rax") low,
            inout("rdx") high,
            options(nostack),
        );
    }
    Some(u128::from(high) << 64 | u128::from(low))
}

/// As on x86-64, by a pair of exclusive accesses (Arm ARM, B2.9).
#[cfg(target_arch = "aarch64")]
unsafe fn compare_exchange_16(host: *mut u8, old: u128, new: u128) -> Option<u128> {
    let (low, high): (u64, u64);
    // SAFETY: the caller's address; the block changes nothing but what it names. A failed comparison stores back what was
    // there, for only a completed pair tells that both halves were read at one time.
    unsafe {
        std::arch::asm!(
            "2:",
            "ldaxp {low}, {high}, [{host}]",
            "cmp {low}, {old_low}",
            "ccmp {high}, {old_high}, #0, eq",
            "csel {store_low}, {new_low}, {low}, eq",
            "csel {store_high}, {new_high}, {high}, eq",
            "stlxp {failed:w}, {store_low}, {store_high}, [{host}]",
            "cbnz {failed:w}, 2b",
            "dmb ish",
            host = in(reg) host,
            old_low = in(reg) old as u64,
            old_high = in(reg) (old >> 64) as u64,
            new_low = in(reg) new as u64,
            new_high = in(reg) (new >> 64) as u64,
            low = out(reg) low,
            high = out(reg) high,
            store_low = out(reg) _,
            store_high = out(reg) _,
            failed = out(reg) _,
            options(nostack),
        );
    }
    Some(u128::from(high) << 64 | u128::from(low))
}

/// Other hosts have none.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn compare_exchange_16(_: *mut u8, _: u128, _: u128) -> Option<u128> {
    None
}

/// Changes `bytes` bytes that lie within 16 aligned ones; returns old and new, or none if the host cannot.
///
/// # Safety
/// `host` is that of `bytes` bytes of writable guest RAM, all within 16 aligned ones.
unsafe fn modify_within_16(
    host: *mut u8,
    bytes: u64,
    mut change: impl FnMut(u64) -> u64,
) -> Option<(u64, u64)> {
    let offset = host as usize & 15;
    let base = host.wrapping_sub(offset);
    let shift = 8 * offset as u32;
    let mask = u64::MAX >> (64 - 8 * bytes);
    // SAFETY: pages are multiples of 16 bytes, so all 16 are guest RAM. An exchange of zero for zero only reads.
    let mut whole = unsafe { compare_exchange_16(base, 0, 0) }?;
    loop {
        let old = (whole >> shift) as u64 & mask;
        let new = change(old) & mask;
        let replaced = whole & !(u128::from(mask) << shift) | u128::from(new) << shift;
        // SAFETY: as above.
        let found = unsafe { compare_exchange_16(base, whole, replaced) }?;
        if found == whole {
            return Some((old, new));
        }
        whole = found;
    }
}

impl Cpu {
    /// A locked read-modify-write of `W` at a linear address; `change` may be called more than once. Returns the old and the
    /// new value. Faults as a write.
    #[inline(always)]
    pub(crate) fn modify_locked<W: Width>(
        &mut self,
        linear: u64,
        change: impl Fn(&mut Self, u64) -> u64,
    ) -> Result<(u64, u64), Exception> {
        match self.mmu.host_for_write(linear, W::BYTES) {
            Some(host) if linear & (W::BYTES - 1) == 0 => loop {
                // SAFETY: the TLB hands out the address of W::BYTES bytes of writable guest RAM; pages are aligned to more
                // than W::BYTES, so it is aligned as `linear` is.
                let old = unsafe { load::<W>(host) };
                let new = change(self, old);
                // SAFETY: as above.
                if unsafe { compare_exchange::<W>(host, old, new & W::MASK) } {
                    after_locked();
                    return Ok((old, new));
                }
            },
            _ => self.modify_locked_slowly::<W>(linear, change),
        }
    }

    #[cold]
    #[inline(never)]
    fn modify_locked_slowly<W: Width>(
        &mut self,
        linear: u64,
        change: impl Fn(&mut Self, u64) -> u64,
    ) -> Result<(u64, u64), Exception> {
        if (linear & 15) + W::BYTES > 16 {
            return self.modify_alone::<W>(linear, change);
        }
        let target = self.translate_byte(linear, Access::Write, false)?;
        let Some(host) = target.host.filter(|_| target.writable) else {
            return self.modify_in_parts::<W>(linear, change);
        };
        // SAFETY: `host` is writable guest RAM to the end of its page, and the operand does not leave 16 aligned bytes.
        match unsafe { modify_within_16(host, W::BYTES, |old| change(self, old)) } {
            Some(values) => {
                self.written_at(linear, target, W::BYTES);
                Ok(values)
            }
            None => self.modify_alone::<W>(linear, change),
        }
    }

    /// What follows a locked write that took the slow way.
    fn written_at(&mut self, linear: u64, target: Target, bytes: u64) {
        self.stats.slow_accesses += 1;
        self.data_breakpoints(linear, bytes, Access::Write);
        if target.has_code {
            self.note_code_write(target.gpa, bytes);
        }
    }

    /// Reads, changes and writes while no other vCPU executes anything.
    fn modify_alone<W: Width>(
        &mut self,
        linear: u64,
        change: impl Fn(&mut Self, u64) -> u64,
    ) -> Result<(u64, u64), Exception> {
        self.probe_write(linear, W::BYTES)?;
        let memory = self.mmu.memory().clone();
        let watcher = self.code_watcher.clone();
        let outcome = memory.run_alone(&watcher, || self.modify_in_parts::<W>(linear, change));
        self.end_block();
        outcome
    }

    fn modify_in_parts<W: Width>(
        &mut self,
        linear: u64,
        change: impl Fn(&mut Self, u64) -> u64,
    ) -> Result<(u64, u64), Exception> {
        self.probe_write(linear, W::BYTES)?;
        let mut bytes = [0; 8];
        let part = W::BYTES as usize;
        self.read_bytes(linear, &mut bytes[..part])?;
        let old = u64::from_le_bytes(bytes);
        let new = change(self, old);
        self.write_bytes(linear, &new.to_le_bytes()[..part])?;
        Ok((old, new))
    }

    /// Writes `new` to 16 aligned bytes if they hold `expected`; returns what they held. Faults as a write.
    pub(crate) fn compare_exchange_16(
        &mut self,
        linear: u64,
        expected: u128,
        new: u128,
    ) -> Result<u128, Exception> {
        if let Some(host) = self.mmu.host_for_write(linear, 16) {
            // SAFETY: the TLB hands out the address of 16 bytes of writable guest RAM; the caller has checked that they are
            // aligned.
            if let Some(old) = unsafe { compare_exchange_16(host, expected, new) } {
                return Ok(old);
            }
        }
        let target = self.translate_byte(linear, Access::Write, false)?;
        if let Some(host) = target.host.filter(|_| target.writable) {
            // SAFETY: as above; `host` is good to the end of its page.
            if let Some(old) = unsafe { compare_exchange_16(host, expected, new) } {
                self.written_at(linear, target, 16);
                return Ok(old);
            }
        }
        let memory = self.mmu.memory().clone();
        let watcher = self.code_watcher.clone();
        let outcome = memory.run_alone(&watcher, || {
            let mut bytes = [0; 16];
            self.read_bytes(linear, &mut bytes)?;
            let old = u128::from_le_bytes(bytes);
            let value = if old == expected { new } else { old };
            self.write_bytes(linear, &value.to_le_bytes())?;
            Ok(old)
        });
        self.end_block();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare_board::BareBoard;
    use crate::width::{W8, W16, W32, W64};

    fn add_everywhere<W: Width>(cpu: &mut Cpu) {
        for linear in 0x1ff0..0x2010u64 {
            let before = [0x11u8; 64];
            cpu.mmu.memory().write(0x1fe0, &before).unwrap();
            let added = cpu.modify_locked::<W>(linear, |_, old| old.wrapping_add(0x0102_0304_0506_0708));
            let old = 0x1111_1111_1111_1111 & W::MASK;
            let new = 0x1213_1415_1617_1819 & W::MASK;
            assert_eq!(added.map(|(old, new)| (old, new & W::MASK)), Ok((old, new)), "{linear:#x}");
            let mut expected = before;
            let at = (linear - 0x1fe0) as usize;
            let bytes = W::BYTES as usize;
            expected[at..at + bytes].copy_from_slice(&new.to_le_bytes()[..bytes]);
            let mut after = [0; 64];
            cpu.mmu.memory().read(0x1fe0, &mut after).unwrap();
            assert_eq!(after, expected, "{} bits at {linear:#x}", W::BITS);
        }
    }

    #[test]
    fn all_alignments_give_the_same() {
        let mut cpu = BareBoard::default().cpu();
        // Once with closed write translations, once with open ones, and once with code in both pages.
        for has_code in [false, false, true] {
            if has_code {
                for gpa in [0x1000, 0x2000] {
                    cpu.mmu.memory().mark_code(&cpu.code_watcher, gpa);
                    cpu.mmu.protect_code_page(gpa);
                    cpu.code_map.add(gpa, 4096);
                }
            }
            add_everywhere::<W8>(&mut cpu);
            add_everywhere::<W16>(&mut cpu);
            add_everywhere::<W32>(&mut cpu);
            add_everywhere::<W64>(&mut cpu);
        }
        assert!(cpu.code_map.has_writes());
    }

    #[test]
    fn sixteen_bytes_are_replaced_only_if_they_are_as_expected() {
        let mut cpu = BareBoard::default().cpu();
        let (a, b) = (0x1111_2222_3333_4444_5555_6666_7777_8888u128, !0u128);
        assert_eq!(cpu.compare_exchange_16(0x3000, 0, a), Ok(0));
        assert_eq!(cpu.compare_exchange_16(0x3000, b, 7), Ok(a));
        assert_eq!(cpu.compare_exchange_16(0x3000, a, b), Ok(a));
        assert_eq!(cpu.compare_exchange_16(0x3000, 0, 0), Ok(b));
    }
}
