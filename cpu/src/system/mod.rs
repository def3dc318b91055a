//! System instructions and events: plain functions on `Cpu`.

mod bases;
mod caches;
mod control;
mod control_moves;
#[cfg(test)]
mod control_tests;
mod cpuid;
mod debug;
#[cfg(test)]
mod debug_tests;
mod delivery_legacy;
mod delivery_long;
mod descriptor;
mod direct_stores;
pub mod event;
mod far_transfer;
mod fast_call;
mod flag_moves;
pub mod idle;
#[cfg(test)]
mod instruction_tests;
mod iret;
mod msr;
#[cfg(test)]
mod protection_tests;
mod pv;
mod reset;
mod segment_load;
mod software_interrupt;
mod tables;
mod task;
mod time_random;
mod translations;
mod verify;
mod wait;

pub use cpuid::CpuidResult;

use crate::cpu::Cpu;
use crate::op::reg;
use crate::ops::{Hard, MicroOps};
use crate::width::W32;
use iced_x86::Instruction;

/// The meaning of a system instruction: each family is asked.
pub fn select(instruction: &Instruction) -> Option<Hard> {
    control_moves::select(instruction)
        .or_else(|| bases::select(instruction))
        .or_else(|| caches::select(instruction))
        .or_else(|| cpuid::select(instruction))
        .or_else(|| debug::select(instruction))
        .or_else(|| direct_stores::select(instruction))
        .or_else(|| idle::select(instruction))
        .or_else(|| msr::select(instruction))
        .or_else(|| pv::select(instruction))
        .or_else(|| time_random::select(instruction))
        .or_else(|| translations::select(instruction))
        .or_else(|| segment_load::select(instruction))
        .or_else(|| far_transfer::select(instruction))
        .or_else(|| fast_call::select(instruction))
        .or_else(|| flag_moves::select(instruction))
        .or_else(|| iret::select(instruction))
        .or_else(|| software_interrupt::select(instruction))
        .or_else(|| tables::select(instruction))
        .or_else(|| verify::select(instruction))
        .or_else(|| wait::select(instruction))
}

/// EDX:EAX.
fn edx_eax(cpu: &mut Cpu) -> u64 {
    cpu.get::<W32>(reg::RDX) << 32 | cpu.get::<W32>(reg::RAX)
}

/// Sets EDX and EAX, and clears the upper halves of RDX and RAX.
fn set_edx_eax(cpu: &mut Cpu, value: u64) {
    cpu.put::<W32>(reg::RAX, value & 0xffff_ffff);
    cpu.put::<W32>(reg::RDX, value >> 32);
}
