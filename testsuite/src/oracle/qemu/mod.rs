//! QEMU's TCG as an oracle: a guest of our own runs programs in batches (`guest`), and what it leaves is read from its
//! memory, which is a file.

mod guest;
mod layout;

use super::{CODE, Ending, Mode, Oracle, Outcome, Program, State};
use crate::cases::compare::Difference;
use crate::cases::known_qemu;
use crate::oracle::state::FLAGS;
use crate::system::run::start_state;
use anyhow::{Result, bail};
use guest::{Guest, linear, selectors};
use layout::*;
use rx86::diff::qemu::Qemu;
use rx86::diff::registers::{GDB_RFLAGS, GDB_RIP};
use rx86_cpu::exception::Exception;
use rx86_cpu::features::CpuModel;
use rx86_cpu::state::{Vcpu, bits};
use std::time::Duration;

/// More time than any batch takes.
const LIMIT: Duration = Duration::from_secs(20);

/// Bytes of the data pages of a slot.
const DATA_BYTES: usize = super::DATA_BYTES;

/// QEMU, with the guest that runs programs.
pub struct QemuOracle {
    guest: Guest,
    qemu: Option<Qemu>,
}

impl QemuOracle {
    /// Starts QEMU; none if this host has none. It must be one that emulates AVX: 7.2 or later.
    pub fn new() -> Result<Option<Self>> {
        let mut oracle = Self { guest: guest::build(), qemu: None };
        oracle.qemu = oracle.start()?;
        Ok(oracle.qemu.is_some().then_some(oracle))
    }

    /// QEMU's version: two numbers with a point between them.
    pub fn version(&mut self) -> Result<String> {
        let Some(qemu) = &mut self.qemu else { bail!("QEMU is no longer there") };
        let text = qemu.gdb().monitor("info version")?;
        let numbers: Vec<&str> = text.trim().splitn(3, '.').take(2).collect();
        Ok(numbers.join("."))
    }

    /// A QEMU whose guest waits for its first batch.
    fn start(&self) -> Result<Option<Qemu>> {
        let Some(mut qemu) = Qemu::start(MEMORY_BYTES)? else { return Ok(None) };
        qemu.load_state(&start_state(&Vcpu::power_on(&CpuModel::max())))?;
        qemu.write(0, &self.guest.image)?;
        qemu.gdb().insert_breakpoint(self.guest.idle.into())?;
        if !qemu.resume(LIMIT)? {
            bail!("QEMU's processor stands at {:#x}; does it have AVX?", qemu.rip()?);
        }
        Ok(Some(qemu))
    }

    /// Runs a batch. Fewer outcomes than programs: the one behind them does not end, and QEMU is gone.
    fn batch(&mut self, programs: &[Program]) -> Result<Vec<Outcome>> {
        if self.qemu.is_none() {
            self.qemu = self.start()?;
        }
        let Some(mut qemu) = self.qemu.take() else { bail!("QEMU is no longer there") };
        let mut slots = Vec::with_capacity(programs.len() * SLOT_BYTES);
        let mut data = Vec::with_capacity(programs.len() * DATA_BYTES);
        for (index, program) in programs.iter().enumerate() {
            slots.extend(slot_of(index, program));
            data.extend_from_slice(&program.memory);
        }
        let end = linear(SLOTS) + slots.len() as u32;
        qemu.write((PRIVATE_GPA + SLOTS).into(), &slots)?;
        qemu.write(DATA_GPA.into(), &data)?;
        qemu.write((PRIVATE_GPA + END).into(), &u64::from(end).to_le_bytes())?;
        qemu.gdb().set_register(GDB_RIP, &u64::from(self.guest.begin).to_le_bytes())?;
        // QEMU keeps reserved bits that got in there by its lazy computation of the flags.
        qemu.gdb().set_register(GDB_RFLAGS, &(bits::RFLAGS_FIXED as u32).to_le_bytes())?;
        let done = if qemu.resume(LIMIT)? { programs.len() } else { current(&mut qemu)? };
        qemu.read((PRIVATE_GPA + SLOTS).into(), &mut slots)?;
        qemu.read(DATA_GPA.into(), &mut data)?;
        let left = slots.chunks_exact(SLOT_BYTES).zip(data.chunks_exact(DATA_BYTES)).zip(programs);
        let outcomes = left.take(done).map(|((slot, data), program)| outcome_of(slot, data, program.mode));
        let outcomes = outcomes.collect();
        if done == programs.len() {
            self.qemu = Some(qemu);
        }
        Ok(outcomes)
    }
}

impl Oracle for QemuOracle {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn known(
        &self,
        program: &Program,
        own: &Outcome,
        rx86: &Outcome,
        differences: &[Difference],
    ) -> Option<Vec<usize>> {
        known_qemu::explained(program, own, rx86, differences)
    }

    fn known_names(&self) -> Vec<&'static str> {
        known_qemu::KNOWN.iter().map(|known| known.name).collect()
    }

    fn run(&mut self, programs: &[Program]) -> Vec<Option<Outcome>> {
        let mut outcomes = Vec::with_capacity(programs.len());
        while outcomes.len() < programs.len() {
            let rest = &programs[outcomes.len()..];
            let batch = &rest[..rest.len().min(BATCH)];
            let Ok(done) = self.batch(batch) else {
                outcomes.resize(programs.len(), None);
                break;
            };
            let complete = done.len() == batch.len();
            outcomes.extend(done.into_iter().map(Some));
            if !complete {
                outcomes.push(None);
            }
        }
        outcomes
    }
}

/// The number of the slot that the guest is at.
fn current(qemu: &mut Qemu) -> Result<usize> {
    let mut pointer = [0; 8];
    qemu.read((PRIVATE_GPA + CURRENT).into(), &mut pointer)?;
    let offset = u64::from_le_bytes(pointer).saturating_sub(linear(SLOTS).into());
    Ok(offset as usize / SLOT_BYTES)
}

fn put(slot: &mut [u8], at: usize, value: u64) {
    slot[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(slot: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(slot[at..at + 8].try_into().unwrap_or_default())
}

/// Slot `index` with a program in it.
fn slot_of(index: usize, program: &Program) -> [u8; SLOT_BYTES] {
    /// Present, writable, for users, not executable.
    const RIGHTS: u64 = 7 | 1 << 63;
    let mut slot = [0; SLOT_BYTES];
    let state = &program.state;
    for (i, register) in state.gpr.iter().enumerate() {
        put(&mut slot, 8 * i, *register);
    }
    put(&mut slot, RFLAGS, state.rflags & FLAGS | bits::RFLAGS_FIXED | bits::RFLAGS_IF);
    slot[FX..FX + 512].copy_from_slice(&state.fx);
    // A processor's FXRSTOR computes ES and B from the flags and their masks; QEMU's does not.
    let mut status = state.fsw() & 0x7f7f;
    if status & !state.fcw() & 0x3f != 0 {
        status |= 0x8080;
    }
    slot[FX + 2..FX + 4].copy_from_slice(&status.to_le_bytes());
    for (i, high) in state.ymm_high.iter().enumerate() {
        slot[YMM_HIGH + 16 * i..][..16].copy_from_slice(&high.to_le_bytes());
    }
    let (code, data) = selectors(program.mode);
    put(&mut slot, FAR, program.ip() | u64::from(code) << 32 | u64::from(data) << 48);
    put(&mut slot, DATA_SELECTOR, data.into());
    let (entry, code, stack) = match program.mode {
        Mode::Bits16 => {
            let (code, data) = selectors(Mode::Bits64);
            (linear(TRAMPOLINE).into(), code, data)
        }
        _ => (program.ip(), code, data),
    };
    put(&mut slot, RIP, entry);
    put(&mut slot, CODE_SELECTOR, code.into());
    put(&mut slot, FRAME_STACK_SELECTOR, stack.into());
    put(&mut slot, CODE_AT, u64::from(linear(CODE_ALIAS)) + (program.entry() - CODE));
    put(&mut slot, CODE_LEN, program.code.len() as u64);
    for page in 0..2 {
        let gpa = u64::from(DATA_GPA) + (index * DATA_BYTES + page * super::PAGE) as u64;
        put(&mut slot, ENTRIES + 8 * page, gpa | RIGHTS);
    }
    slot[layout::CODE..][..program.code.len()].copy_from_slice(&program.code);
    slot
}

/// What a program has left in its slot and in its data pages.
fn outcome_of(slot: &[u8], data: &[u8], mode: Mode) -> Outcome {
    let mut state = State::default();
    for (i, register) in state.gpr.iter_mut().enumerate() {
        *register = get(slot, 8 * i);
    }
    state.rip = get(slot, RIP);
    state.rflags = get(slot, RFLAGS) & FLAGS;
    state.fx.copy_from_slice(&slot[FX..FX + 512]);
    for (i, high) in state.ymm_high.iter_mut().enumerate() {
        *high = u128::from(get(slot, YMM_HIGH + 16 * i)) | u128::from(get(slot, YMM_HIGH + 16 * i + 8)) << 64;
    }
    if mode != Mode::Bits64 {
        state.narrow();
    }
    let vector = get(slot, VECTOR) as u32;
    let page_fault = vector == u32::from(Exception::PAGE_FAULT);
    let ending = Ending {
        vector,
        error_code: if page_fault { get(slot, ERROR_CODE) as u32 } else { 0 },
        address: if page_fault { get(slot, CR2) } else { 0 },
    };
    Outcome { state, memory: data.to_vec(), ending }
}
