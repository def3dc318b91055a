//! Runs a system guest on rx86's engines and on QEMU.

use super::apic_board::ApicBoard;
use super::guest::SystemGuest;
use super::layout::{MEMORY_BYTES, START};
use anyhow::{Result, bail};
use rx86::diff::qemu::Qemu;
use rx86::diff::registers::Registers;
use rx86_cpu::backend::{Exit, X86Ops};
use rx86_cpu::bare_board::BareBoard;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::environment::Environment;
use rx86_cpu::features::CpuModel;
use rx86_cpu::interp::Interpreter;
use rx86_cpu::state::{Segment, SegmentIndex, Vcpu, X87, bits};
use rx86_kvm::KvmError;
use rx86_softmmu::{Attention, GuestMemory};
use std::sync::Arc;
use std::time::Duration;

/// More instructions than any guest executes.
const BUDGET: u64 = 10_000_000;
/// How often an engine without such a budget may come back before a guest's end.
const MOST_YIELDS: u32 = 2000;
/// More time than any guest takes.
const LIMIT: Duration = Duration::from_secs(20);

/// What a guest has left.
pub struct Left {
    /// All of memory.
    pub memory: Vec<u8>,
    /// Registers at the end.
    pub registers: Registers,
    /// How it ended, if not by halting at its end.
    pub ending: Option<String>,
}

/// The state in which every guest starts: real-address mode with all segments at zero.
pub(crate) fn start_state(power_on: &Vcpu) -> Vcpu {
    let mut state = power_on.clone();
    state.segments = [Segment::real_mode(0); 6];
    state.segments[SegmentIndex::CS].access = 0x9b;
    state.cr0 = bits::CR0_ET;
    state.x87 = X87::default();
    state.regs = Default::default();
    state.set_rip(START.into());
    state
}

/// Runs `guest` on the interpreter.
pub fn on_interpreter(guest: &SystemGuest) -> Left {
    let memory = GuestMemory::new(MEMORY_BYTES).expect("memory for the guest");
    let attention = Attention::default();
    let cpu = Cpu::new(memory.clone(), board(guest, &attention), CpuModel::max(), attention);
    on_engine(guest, memory, Box::new(Interpreter::new(cpu)))
}

/// What the guest finds around its processor.
fn board(guest: &SystemGuest, attention: &Attention) -> Box<dyn Environment> {
    if guest.local_apic {
        Box::new(ApicBoard::new(attention.clone()))
    } else {
        Box::new(BareBoard::default())
    }
}

/// Runs `guest` on the host's processor through KVM; the error says why that cannot be.
pub fn on_kvm(guest: &SystemGuest) -> Result<Left, KvmError> {
    let memory = GuestMemory::new(MEMORY_BYTES).expect("memory for the guest");
    let attention = Attention::default();
    let engine = rx86_kvm::open(memory.clone(), board(guest, &attention), &CpuModel::max(), attention)?;
    Ok(on_engine(guest, memory, engine))
}

/// Runs `guest` on `engine`, which runs on `memory`.
pub fn on_engine(guest: &SystemGuest, memory: Arc<GuestMemory>, mut engine: Box<dyn X86Ops>) -> Left {
    memory.write(0, &guest.image).expect("the image fits");
    let state = start_state(engine.state());
    engine.load_state(&state);
    let mut exit = engine.run(BUDGET);
    for _ in 0..MOST_YIELDS {
        if exit != Exit::Yield {
            break;
        }
        exit = engine.run(BUDGET);
    }
    let mut data = vec![0; MEMORY_BYTES as usize];
    // A PC has no memory from 640 KiB to 1 MiB.
    for region in memory.regions() {
        let range = region.gpa as usize..(region.gpa + region.len) as usize;
        memory.read(region.gpa, &mut data[range]).expect("a region can be read");
    }
    let rip = engine.state().rip();
    let linear = rip.wrapping_add(engine.state().segments[SegmentIndex::CS].base);
    // HLT has been executed; a debugger sees the processor stand before it.
    let halted = exit == Exit::Halt && linear == u64::from(guest.end) + 1;
    let mut registers = Registers::of(engine.state());
    if halted {
        registers.rip -= 1;
    }
    Left { memory: data, registers, ending: (!halted).then(|| format!("{exit:?} at {rip:#x}")) }
}

/// Runs `guest` on QEMU; none if this host has none.
pub fn on_qemu(guest: &SystemGuest) -> Result<Option<Left>> {
    let started = if guest.local_apic {
        Qemu::start_with_local_apic(MEMORY_BYTES)?
    } else {
        Qemu::start(MEMORY_BYTES)?
    };
    let Some(mut qemu) = started else { return Ok(None) };
    qemu.load_state(&start_state(&Vcpu::power_on(&CpuModel::max())))?;
    qemu.write(0, &guest.image)?;
    let reached = qemu.run_to(guest.end.into(), LIMIT)?;
    let mut memory = vec![0; MEMORY_BYTES as usize];
    qemu.read(0, &mut memory)?;
    let registers = qemu.registers()?;
    let rip = registers.rip;
    if rip == 0xfff0 && reached {
        bail!("{} has reset QEMU's processor", guest.name);
    }
    Ok(Some(Left { memory, registers, ending: (!reached).then(|| format!("no end, at {rip:#x}")) }))
}
