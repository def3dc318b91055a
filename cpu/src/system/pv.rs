//! What a guest of KVM finds here too: the paravirtual clock, EOI without an exit, and hypercalls (Linux's
//! Documentation/virt/kvm/x86: cpuid, msr, hypercalls).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::width::{W32, W64};
use iced_x86::{Instruction, Mnemonic};

/// The lowest bit of the clock's and PV EOI's registers: enabled.
const ENABLED: u64 = 1;
/// The clock's flag: time read on one processor is never before time read on another.
const CLOCK_TSC_STABLE: u8 = 1;
/// The hypercall that ends a processor's halt: flags in RBX, the APIC id in RCX.
const KVM_HC_KICK_CPU: u64 = 5;
/// The hypercall result "no such call", as a negative number.
const KVM_ENOSYS: i64 = -1000;
/// The hypercall result "not allowed at this privilege level".
const KVM_EPERM: i64 = -1;

/// The multiplier and shift that make nanoseconds of ticks: `(ticks << shift) * multiplier >> 32`, with a right shift for
/// a negative `shift`.
pub(super) fn clock_scale(ticks_per_second: u64) -> (u32, i8) {
    let hz = u128::from(ticks_per_second.max(1));
    // Nanoseconds in a tick, with 64 bits of fraction.
    let ratio = (1_000_000_000u128 << 64) / hz;
    let bit_length = 128 - ratio.leading_zeros() as i32;
    let shift = bit_length - 64;
    // 32 significant bits.
    let multiplier = if shift >= -32 { ratio >> (32 + shift) } else { ratio << (-32 - shift) };
    (multiplier as u32, shift as i8)
}

/// Writes a structure that the guest reads with a version that is odd while it changes.
fn publish<const N: usize>(cpu: &mut Cpu, gpa: u64, mut body: [u8; N]) {
    let memory = cpu.mmu.memory();
    let mut version = [0; 4];
    if memory.read(gpa, &mut version).is_err() {
        return;
    }
    let odd = (u32::from_le_bytes(version) | 1).wrapping_add(2);
    let even = odd.wrapping_add(1);
    body[..4].copy_from_slice(&odd.to_le_bytes());
    // An address without memory behind it was caught above, but for the structure's tail; that is the guest's loss.
    let _ = memory.write(gpa, &body);
    let _ = memory.write(gpa, &even.to_le_bytes());
}

/// Writes the guest's clock page, if it has one, for the counter and the time of now.
pub(super) fn update_clock(cpu: &mut Cpu) {
    let register = cpu.state.msrs.kvm_system_time;
    if register & ENABLED == 0 {
        return;
    }
    let (multiplier, shift) = clock_scale(cpu.env.tsc_hz());
    // Of one moment, or the clocks of two processors would differ by what passed between two looks.
    let (ticks, system_time) = cpu.env.tsc_and_ns();
    let tsc = ticks.wrapping_add(cpu.state.msrs.tsc_offset);
    let mut page = [0; 32];
    page[8..16].copy_from_slice(&tsc.to_le_bytes());
    page[16..24].copy_from_slice(&system_time.to_le_bytes());
    page[24..28].copy_from_slice(&multiplier.to_le_bytes());
    page[28] = shift as u8;
    page[29] = CLOCK_TSC_STABLE;
    publish(cpu, register & !ENABLED, page);
}

/// MSR_KVM_SYSTEM_TIME_NEW.
pub(super) fn read_system_time(cpu: &mut Cpu, _: u32) -> Result<u64, Exception> {
    Ok(cpu.state.msrs.kvm_system_time)
}

/// MSR_KVM_SYSTEM_TIME_NEW: where the clock page is, and whether it is kept.
pub(super) fn write_system_time(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Exception> {
    if value & 2 != 0 {
        return Err(Exception::gp(0));
    }
    cpu.state.msrs.kvm_system_time = value;
    update_clock(cpu);
    Ok(())
}

/// MSR_KVM_WALL_CLOCK_NEW.
pub(super) fn read_wall_clock(cpu: &mut Cpu, _: u32) -> Result<u64, Exception> {
    Ok(cpu.state.msrs.kvm_wall_clock)
}

/// MSR_KVM_WALL_CLOCK_NEW: writes the time of switch-on to the address given.
pub(super) fn write_wall_clock(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Exception> {
    cpu.state.msrs.kvm_wall_clock = value;
    let boot = cpu.env.boot_wall_clock_ns();
    let mut body = [0; 12];
    body[4..8].copy_from_slice(&((boot / 1_000_000_000) as u32).to_le_bytes());
    body[8..12].copy_from_slice(&((boot % 1_000_000_000) as u32).to_le_bytes());
    publish(cpu, value, body);
    Ok(())
}

/// MSR_KVM_STEAL_TIME.
pub(super) fn read_steal_time(cpu: &mut Cpu, _: u32) -> Result<u64, Exception> {
    Ok(cpu.state.msrs.kvm_steal_time)
}

/// MSR_KVM_STEAL_TIME: where the guest wants to read stolen time, and whether it is kept.
pub(super) fn write_steal_time(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Exception> {
    if value & 0x3e != 0 {
        return Err(Exception::gp(0));
    }
    cpu.state.msrs.kvm_steal_time = value;
    cpu.report_stolen_time();
    Ok(())
}

/// MSR_KVM_PV_EOI_EN.
pub(super) fn read_pv_eoi(cpu: &mut Cpu, _: u32) -> Result<u64, Exception> {
    Ok(cpu.state.msrs.kvm_pv_eoi)
}

/// MSR_KVM_PV_EOI_EN: where the guest's flag is, and whether it is used.
pub(super) fn write_pv_eoi(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Exception> {
    if value & 2 != 0 {
        return Err(Exception::gp(0));
    }
    // A deferral through the old flag ends here.
    cpu.pv_eoi_sync();
    cpu.state.msrs.kvm_pv_eoi = value;
    Ok(())
}

impl Cpu {
    /// Writes the guest's page of stolen time, if it has one: nanoseconds at 0, a version at 8 that is odd meanwhile.
    pub fn report_stolen_time(&mut self) {
        let register = self.state.msrs.kvm_steal_time;
        if register & ENABLED == 0 {
            return;
        }
        let stolen = self.env.stolen_ns();
        let gpa = register & !0x3f;
        let memory = self.mmu.memory();
        let mut page = [0; 12];
        if memory.read(gpa, &mut page).is_err() || page[..8] == stolen.to_le_bytes() {
            return;
        }
        let version = u32::from_le_bytes([page[8], page[9], page[10], page[11]]) & !1;
        // It was there for reading.
        let _ = memory.write(gpa + 8, &version.wrapping_add(1).to_le_bytes());
        let _ = memory.write(gpa, &stolen.to_le_bytes());
        let _ = memory.write(gpa + 8, &version.wrapping_add(2).to_le_bytes());
    }

    /// To be called when an external interrupt has been acknowledged: lets the guest end it by clearing a flag in its
    /// memory, if it wants that and nothing else waits behind the interrupt.
    pub fn pv_eoi_on_injection(&mut self) {
        let register = self.state.msrs.kvm_pv_eoi;
        if register & ENABLED == 0 || !self.env.pv_eoi_allowed() {
            return;
        }
        let gpa = register & !3;
        let mut flag = [0];
        let memory = self.mmu.memory();
        if memory.read(gpa, &mut flag).is_ok() && memory.write(gpa, &[flag[0] | 1]).is_ok() {
            self.pv_eoi_deferred = true;
        }
    }

    /// To be called before the local APIC is asked for an interrupt. If the guest has cleared its flag, the interrupt in
    /// service ends; if it has not yet, the flag is taken back, and the guest ends the interrupt at the APIC.
    pub fn pv_eoi_sync(&mut self) {
        if !self.pv_eoi_deferred {
            return;
        }
        self.pv_eoi_deferred = false;
        let gpa = self.state.msrs.kvm_pv_eoi & !3;
        let mut flag = [0];
        let memory = self.mmu.memory();
        if memory.read(gpa, &mut flag).is_ok() && flag[0] & 1 != 0 {
            // The page was there for reading, so the write cannot fail; ROM would not have taken the flag's bit.
            let _ = memory.write(gpa, &[flag[0] & !1]);
        } else {
            self.env.end_of_interrupt();
        }
    }
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    (instruction.mnemonic() == Mnemonic::Vmcall).then_some(vmcall as Hard)
}

/// The hypercall's number is in RAX, its arguments in RBX, RCX and on; its result goes to RAX.
fn vmcall(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    let result = if cpu.state.cpl != 0 {
        KVM_EPERM
    } else if cpu.get::<W64>(reg::RAX) == KVM_HC_KICK_CPU {
        let apic_id = cpu.get::<W32>(reg::RCX) as u32;
        cpu.env.end_halt(apic_id);
        0
    } else {
        KVM_ENOSYS
    };
    cpu.put::<W64>(reg::RAX, result as u64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare_board::{BOOT_NS, BareBoard, NOW_NS, TSC, TSC_HZ};
    use std::sync::atomic::Ordering;

    #[test]
    fn nanoseconds_of_ticks_are_exact_enough() {
        for hz in
            [1_000u64, 1_193_182, 999_999_999, 1_000_000_000, 1_000_000_001, 2_899_999_000, 5_000_000_000]
        {
            let (multiplier, shift) = clock_scale(hz);
            assert!(multiplier >> 31 == 1, "{hz}: {multiplier:#x} has 32 significant bits");
            // An hour of ticks, to a nanosecond in a second.
            let ticks = u128::from(hz) * 3600;
            let shifted = if shift >= 0 { ticks << shift } else { ticks >> -shift };
            let ns = (shifted * u128::from(multiplier)) >> 32;
            let expected = 3_600_000_000_000u128;
            assert!(expected.abs_diff(ns) <= 3600 + 1000, "{hz}: {ns}");
        }
    }

    #[test]
    fn a_gigahertz_counts_nanoseconds() {
        assert_eq!(clock_scale(1_000_000_000), (1 << 31, 1));
    }

    fn read<const N: usize>(cpu: &Cpu, gpa: u64) -> [u8; N] {
        let mut bytes = [0; N];
        cpu.mmu.memory().read(gpa, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_clock_page_gives_the_time_of_a_counter() {
        let mut cpu = BareBoard::default().cpu();
        cpu.write_msr(0x4b56_4d01, 0x5000).unwrap();
        assert_eq!(read::<32>(&cpu, 0x5000), [0; 32], "not enabled");
        cpu.write_msr(0x4b56_4d01, 0x5001).unwrap();
        let page = read::<32>(&cpu, 0x5000);
        let (multiplier, shift) = clock_scale(TSC_HZ);
        assert_eq!(u64::from_le_bytes(page[8..16].try_into().unwrap()), TSC);
        assert_eq!(u64::from_le_bytes(page[16..24].try_into().unwrap()), NOW_NS);
        assert_eq!(u32::from_le_bytes(page[24..28].try_into().unwrap()), multiplier);
        assert_eq!((page[28] as i8, page[29]), (shift, CLOCK_TSC_STABLE));
        let version = u32::from_le_bytes(page[..4].try_into().unwrap());
        assert!(version != 0 && version % 2 == 0);
        cpu.write_msr(0x10, 77).unwrap();
        let page = read::<32>(&cpu, 0x5000);
        assert_eq!(u64::from_le_bytes(page[8..16].try_into().unwrap()), 77, "told anew");
        assert!(u32::from_le_bytes(page[..4].try_into().unwrap()) > version);
    }

    #[test]
    fn the_wall_clock_is_that_of_switch_on() {
        let mut cpu = BareBoard::default().cpu();
        cpu.write_msr(0x4b56_4d00, 0x6000).unwrap();
        let body = read::<12>(&cpu, 0x6000);
        let word = |at: usize| u64::from(u32::from_le_bytes(body[at..at + 4].try_into().unwrap()));
        assert_eq!(word(4) * 1_000_000_000 + word(8), BOOT_NS);
        // An address without memory is the guest's mistake.
        assert_eq!(cpu.write_msr(0x4b56_4d00, u64::MAX - 1), Ok(()));
    }

    #[test]
    fn stolen_time_is_told_with_an_even_version() {
        let board = BareBoard::default();
        let stolen = board.stolen.clone();
        let mut cpu = board.cpu();
        assert!(cpu.write_msr(0x4b56_4d03, 0x7003).is_err(), "a reserved bit");
        stolen.store(5, Ordering::Relaxed);
        cpu.write_msr(0x4b56_4d03, 0x7001).unwrap();
        assert_eq!(read::<12>(&cpu, 0x7000), [5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
        cpu.report_stolen_time();
        assert_eq!(read::<12>(&cpu, 0x7000)[8], 2, "nothing new");
        stolen.store(7, Ordering::Relaxed);
        cpu.report_stolen_time();
        assert_eq!(read::<12>(&cpu, 0x7000), [7, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
    }

    #[test]
    fn a_hypercall_ends_a_halt() {
        let board = BareBoard::default();
        let unhalted = board.unhalted.clone();
        let mut cpu = board.cpu();
        let hypercall = |cpu: &mut Cpu, number, apic_id| {
            cpu.put::<W64>(reg::RAX, number);
            cpu.put::<W64>(reg::RCX, apic_id);
            let decoded = crate::decode::decode::<Cpu>(b"\x0f\x01\xc1", cpu.mode(), &cpu.model).unwrap();
            vmcall(cpu, &decoded.op).unwrap();
            cpu.get::<W64>(reg::RAX) as i64
        };
        assert_eq!(hypercall(&mut cpu, 5, 3), 0);
        assert_eq!(unhalted.load(Ordering::Relaxed), 3);
        assert_eq!(hypercall(&mut cpu, 6, 4), KVM_ENOSYS);
        cpu.state.cpl = 3;
        assert_eq!(hypercall(&mut cpu, 5, 4), KVM_EPERM);
        assert_eq!(unhalted.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn an_interrupt_ends_when_the_guest_clears_the_flag() {
        let board = BareBoard::default();
        let ended = board.ended.clone();
        let mut cpu = board.cpu();
        cpu.pv_eoi_on_injection();
        cpu.pv_eoi_sync();
        assert_eq!(ended.load(Ordering::Relaxed), 0, "the guest has not asked for it");
        cpu.write_msr(0x4b56_4d04, 0x7001).unwrap();
        cpu.pv_eoi_on_injection();
        assert_eq!(read::<1>(&cpu, 0x7000), [1]);
        cpu.mmu.memory().write(0x7000, &[0]).unwrap();
        cpu.pv_eoi_sync();
        cpu.pv_eoi_sync();
        assert_eq!(ended.load(Ordering::Relaxed), 1);
        cpu.pv_eoi_on_injection();
        cpu.pv_eoi_sync();
        assert_eq!((read::<1>(&cpu, 0x7000), ended.load(Ordering::Relaxed)), ([0], 1), "taken back");
    }
}
