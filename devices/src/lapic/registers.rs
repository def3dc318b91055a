//! The local APIC's registers, by memory and by MSR (SDM Vol. 3A, tables 12-1 and 12-6).

use super::timer::Mode;
use super::{
    BASE_BSP, BASE_ENABLED, BASE_EXTD, InvalidMsr, LVT_COUNT, LVT_MASKED, LVT_REMOTE_IRR, LocalApic, Lvt,
    SVR_ENABLED, SVR_SUPPRESS_EOI_BROADCAST,
};

pub(super) const ESR_SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
pub(super) const ESR_RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// An integrated APIC with six LVT entries that can suppress EOI broadcasts.
const VERSION: u32 = 1 << 24 | (LVT_COUNT as u32 - 1) << 16 | 0x14;

const IA32_APIC_BASE: u32 = 0x1b;
const IA32_TSC_DEADLINE: u32 = 0x6e0;
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;

/// Register numbers: the offset over 16, and the MSR less 0x800.
mod register {
    pub(super) const ID: u32 = 0x02;
    pub(super) const VERSION: u32 = 0x03;
    pub(super) const TPR: u32 = 0x08;
    pub(super) const APR: u32 = 0x09;
    pub(super) const PPR: u32 = 0x0a;
    pub(super) const EOI: u32 = 0x0b;
    pub(super) const RRD: u32 = 0x0c;
    pub(super) const LDR: u32 = 0x0d;
    pub(super) const DFR: u32 = 0x0e;
    pub(super) const SVR: u32 = 0x0f;
    pub(super) const ISR: u32 = 0x10;
    pub(super) const ISR_LAST: u32 = 0x17;
    pub(super) const TMR: u32 = 0x18;
    pub(super) const TMR_LAST: u32 = 0x1f;
    pub(super) const IRR: u32 = 0x20;
    pub(super) const IRR_LAST: u32 = 0x27;
    pub(super) const ESR: u32 = 0x28;
    pub(super) const ICR_LOW: u32 = 0x30;
    pub(super) const ICR_HIGH: u32 = 0x31;
    pub(super) const LVT: u32 = 0x32;
    pub(super) const LVT_LAST: u32 = 0x37;
    pub(super) const INITIAL_COUNT: u32 = 0x38;
    pub(super) const CURRENT_COUNT: u32 = 0x39;
    pub(super) const DIVIDE: u32 = 0x3e;
    pub(super) const SELF_IPI: u32 = 0x3f;
}

/// The bits that a guest may write in each LVT entry, in the order of the entries (SDM Vol. 3A, figure 12-8).
const LVT_WRITABLE: [u32; LVT_COUNT] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];
/// The read-only bits, which a write may hold without being refused: delivery status and remote IRR.
const LVT_READ_ONLY: [u32; LVT_COUNT] = [0x1000, 0x1000, 0x1000, 0x5000, 0x5000, 0x1000];
const SVR_WRITABLE: u32 = SVR_SUPPRESS_EOI_BROADCAST | SVR_ENABLED | 0xff;
const ICR_LOW_WRITABLE: u32 = 0x000c_cfff;

impl LocalApic {
    /// Reads the 32-bit register at `offset` (0 to 0xfff); zero between registers.
    pub fn mmio_read(&mut self, offset: u64) -> u32 {
        let number = (offset >> 4) as u32 & 0xff;
        if offset & 0xf != 0 {
            return 0;
        }
        if number == register::CURRENT_COUNT {
            self.advance_to_now();
        }
        match number {
            register::ID => (self.id & 0xff) << 24,
            register::APR => u32::from(self.ppr()),
            register::RRD | register::EOI => 0,
            register::DFR => self.dfr,
            register::ICR_HIGH => (self.icr >> 32) as u32,
            _ => self.read_register(number).unwrap_or_else(|| {
                self.report_error(ESR_ILLEGAL_REGISTER);
                0
            }),
        }
    }

    /// Writes the 32-bit register at `offset` (0 to 0xfff); writes between registers are lost.
    pub fn mmio_write(&mut self, offset: u64, value: u32) {
        let number = (offset >> 4) as u32 & 0xff;
        if offset & 0xf != 0 {
            return;
        }
        match number {
            register::ID | register::VERSION | register::APR | register::PPR | register::RRD => {}
            register::ISR..=register::IRR_LAST | register::CURRENT_COUNT => {}
            register::EOI => self.eoi(),
            register::LDR => self.ldr = value & 0xff00_0000,
            register::DFR => self.dfr = value | 0x0fff_ffff,
            register::ESR => self.latch_errors(),
            register::ICR_HIGH => self.icr = self.icr & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32,
            register::ICR_LOW => {
                self.icr = self.icr & !0xffff_ffff | u64::from(value & ICR_LOW_WRITABLE);
                self.send_ipi(self.icr);
            }
            _ => {
                if !self.write_register(number, value) {
                    self.report_error(ESR_ILLEGAL_REGISTER);
                }
            }
        }
    }

    /// RDMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC registers.
    pub fn read_msr(&mut self, msr: u32) -> Result<u64, InvalidMsr> {
        match msr {
            IA32_APIC_BASE => Ok(self.apic_base),
            IA32_TSC_DEADLINE => {
                self.advance_to_now();
                Ok(self.timer.tsc_deadline())
            }
            X2APIC_FIRST..=X2APIC_LAST if self.is_x2apic() => match msr - X2APIC_FIRST {
                register::ID => Ok(u64::from(self.id)),
                register::ICR_LOW => Ok(self.icr),
                register::CURRENT_COUNT => {
                    self.advance_to_now();
                    Ok(u64::from(self.timer.current_count()))
                }
                number => self.read_register(number).map(u64::from).ok_or(InvalidMsr),
            },
            _ => Err(InvalidMsr),
        }
    }

    /// WRMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC registers.
    pub fn write_msr(&mut self, msr: u32, value: u64) -> Result<(), InvalidMsr> {
        match msr {
            IA32_APIC_BASE => self.write_apic_base(value),
            IA32_TSC_DEADLINE => {
                if self.lvt_timer_mode() == Mode::TscDeadline {
                    self.timer.set_tsc_deadline(value);
                    // A deadline in the past interrupts at once.
                    self.advance_to_now();
                }
                Ok(())
            }
            X2APIC_FIRST..=X2APIC_LAST if self.is_x2apic() => self.write_x2apic(msr - X2APIC_FIRST, value),
            _ => Err(InvalidMsr),
        }
    }

    /// IA32_APIC_BASE with the mode transitions of SDM Vol. 3A, figure 12-27.
    fn write_apic_base(&mut self, value: u64) -> Result<(), InvalidMsr> {
        const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
        const MODE: u64 = BASE_ENABLED | BASE_EXTD;
        if value & !(ADDRESS | MODE | BASE_BSP) != 0 {
            return Err(InvalidMsr);
        }
        let (old, new) = (self.apic_base & MODE, value & MODE);
        let refused = new == BASE_EXTD || old == MODE && new == BASE_ENABLED || old == 0 && new == MODE;
        if refused {
            return Err(InvalidMsr);
        }
        if new == 0 && old != 0 {
            self.reset(true);
        }
        self.apic_base = value;
        if new == MODE && old != MODE {
            // The destination in the ICR's upper half has another layout in x2APIC mode.
            self.icr &= 0xffff_ffff;
        }
        Ok(())
    }

    fn write_x2apic(&mut self, number: u32, value: u64) -> Result<(), InvalidMsr> {
        if number == register::ICR_LOW {
            // Bit 12 was the delivery status, which software written for xAPIC may hold.
            if value as u32 & !ICR_LOW_WRITABLE & !(1 << 12) != 0 {
                return Err(InvalidMsr);
            }
            self.icr = value & !(1 << 12);
            self.send_ipi(self.icr);
            return Ok(());
        }
        let value = u32::try_from(value).map_err(|_| InvalidMsr)?;
        let allowed = match number {
            register::TPR | register::SELF_IPI => 0xff,
            register::EOI | register::ESR => 0,
            register::SVR => SVR_WRITABLE,
            register::LVT..=register::LVT_LAST => {
                let entry = (number - register::LVT) as usize;
                LVT_WRITABLE[entry] | LVT_READ_ONLY[entry]
            }
            register::INITIAL_COUNT => u32::MAX,
            register::DIVIDE => 0b1011,
            _ => return Err(InvalidMsr),
        };
        if value & !allowed != 0 {
            return Err(InvalidMsr);
        }
        match number {
            register::EOI => self.eoi(),
            register::ESR => self.latch_errors(),
            register::SELF_IPI => self.send_ipi(u64::from(value) | 1 << 18),
            _ => {
                self.write_register(number, value);
            }
        }
        Ok(())
    }

    /// The registers that read the same in both modes.
    fn read_register(&self, number: u32) -> Option<u32> {
        Some(match number {
            register::VERSION => VERSION,
            register::TPR => u32::from(self.tpr),
            register::PPR => u32::from(self.ppr()),
            register::LDR => self.logical_id(),
            register::SVR => self.svr,
            register::ISR..=register::ISR_LAST => self.isr.0[(number - register::ISR) as usize],
            register::TMR..=register::TMR_LAST => self.tmr.0[(number - register::TMR) as usize],
            register::IRR..=register::IRR_LAST => self.irr.0[(number - register::IRR) as usize],
            register::ESR => self.esr,
            register::ICR_LOW => self.icr as u32,
            register::LVT..=register::LVT_LAST => self.lvt[(number - register::LVT) as usize],
            register::INITIAL_COUNT => self.timer.initial_count(),
            register::CURRENT_COUNT => self.timer.current_count(),
            register::DIVIDE => self.timer.divide(),
            _ => return None,
        })
    }

    /// The registers that are written the same in both modes; false if there is no such register.
    fn write_register(&mut self, number: u32, value: u32) -> bool {
        match number {
            register::TPR => self.set_tpr(value as u8),
            register::SVR => self.write_svr(value),
            register::LVT..=register::LVT_LAST => self.write_lvt((number - register::LVT) as usize, value),
            register::INITIAL_COUNT => {
                // The initial count is not writable in TSC-deadline mode (SDM Vol. 3A, 12.5.4.1).
                if self.lvt_timer_mode() != Mode::TscDeadline {
                    self.timer.set_initial_count(value);
                }
            }
            register::DIVIDE => self.timer.set_divide(value),
            _ => return false,
        }
        true
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & SVR_WRITABLE;
        if self.svr & SVR_ENABLED == 0 {
            // A software-disabled APIC holds all mask bits set (SDM Vol. 3A, 12.4.7.2).
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
        }
        self.raise_if_pending();
    }

    fn write_lvt(&mut self, entry: usize, value: u32) {
        if entry == Lvt::Timer as usize {
            self.advance_to_now();
        }
        let old_mode = self.lvt_timer_mode();
        let mut new = value & LVT_WRITABLE[entry] | self.lvt[entry] & LVT_REMOTE_IRR;
        if self.svr & SVR_ENABLED == 0 {
            new |= LVT_MASKED;
        }
        self.lvt[entry] = new;
        if entry == Lvt::Timer as usize {
            let new_mode = self.lvt_timer_mode();
            if new_mode != old_mode && [old_mode, new_mode].contains(&Mode::TscDeadline) {
                self.timer.disarm();
            }
        } else if entry == Lvt::Lint0 as usize {
            self.redeliver_lint0();
            // The 8259A may have been waiting for LINT0 to open.
            if self.accepts_pic() {
                self.attention.raise(rx86_softmmu::Attention::INTERRUPT);
            }
        }
    }

    /// A write to the ESR shows the errors since the last one.
    fn latch_errors(&mut self) {
        self.esr = std::mem::take(&mut self.errors);
    }
}
