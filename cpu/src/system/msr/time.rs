//! The time stamp counter and its adjustment (SDM vol. 3, 18.17).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::system::pv;

impl Cpu {
    /// The time stamp counter as this processor sees it.
    pub fn tsc(&mut self) -> u64 {
        self.env.tsc().wrapping_add(self.state.msrs.tsc_offset)
    }

    /// Moves the time stamp counter and IA32_TSC_ADJUST together.
    fn shift_tsc(&mut self, ticks: u64) {
        let msrs = &mut self.state.msrs;
        msrs.tsc_offset = msrs.tsc_offset.wrapping_add(ticks);
        msrs.tsc_adjust = msrs.tsc_adjust.wrapping_add(ticks);
        // The guest's clock is told in ticks of this counter.
        pv::update_clock(self);
    }
}

pub(super) fn read_tsc(cpu: &mut Cpu, _: u32) -> Result<u64, Exception> {
    Ok(cpu.tsc())
}

pub(super) fn write_tsc(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Exception> {
    let ticks = value.wrapping_sub(cpu.tsc());
    cpu.shift_tsc(ticks);
    Ok(())
}

pub(super) fn read_tsc_adjust(cpu: &mut Cpu, _: u32) -> Result<u64, Exception> {
    Ok(cpu.state.msrs.tsc_adjust)
}

pub(super) fn write_tsc_adjust(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Exception> {
    let ticks = value.wrapping_sub(cpu.state.msrs.tsc_adjust);
    cpu.shift_tsc(ticks);
    Ok(())
}
