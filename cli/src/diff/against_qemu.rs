//! An rx86 engine on the left, QEMU on the right.
//!
//! The left side executes first, instruction by instruction, and keeps what it did. QEMU, which has a processor and
//! memory but no board, is then run to the same place with a breakpoint. What the board or time decides (IN, OUT, memory-
//! mapped registers, RDTSC, CPUID, RDMSR ...) QEMU does not execute: it is given the left side's results.

use super::known::{self, PushedCode, READ_MODIFY_WRITE};
use super::qemu::Qemu;
use super::registers::{Difference, GDB_FS_BASE, GDB_RFLAGS, GDB_RIP, Registers};
use super::report::{Finding, HISTORY, Verdict, describe};
use super::side::Rx86Side;
use anyhow::{Context, Result, bail};
use iced_x86::{Instruction, Mnemonic};
use rx86_cpu::exception::Exception;
use rx86_cpu::op::reg;
use rx86_cpu::state::{SegmentIndex, bits};
use std::collections::HashMap;
use std::time::Duration;

/// How long QEMU may take to a breakpoint.
const LIMIT: Duration = Duration::from_secs(60);
/// A border is looked for where QEMU's breakpoint is passed no more often than this.
const FEW_PASSES: usize = 24;
/// A stretch is at most this many times as long as was asked for.
const LONGEST: usize = 16;
/// Bytes copied for an exception that was delivered on the left side only.
const FRAME_BYTES: usize = 64;
const MOST_COPIED: u64 = 4096;
const GDB_GENERAL: [usize; 16] = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];

/// One executed instruction of the left side.
struct Done {
    linear: u64,
    instruction: Instruction,
    bytes: Vec<u8>,
    /// General registers, RIP and RFLAGS before it.
    before: Light,
    /// Status flags that the SDM leaves undefined at this point.
    undefined: u64,
}

/// The registers that are kept for every instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Light {
    general: [u64; 16],
    rip: u64,
    rflags: u64,
}

impl Light {
    fn of(registers: &Registers) -> Self {
        Self { general: registers.general, rip: registers.rip, rflags: registers.rflags }
    }
}

/// What the left side counts.
struct Counted {
    /// Accesses to ports and memory-mapped registers.
    accesses: u64,
    /// Delivered exceptions.
    exceptions: u64,
}

/// What QEMU is given in place of an instruction.
#[derive(Clone)]
struct Given {
    before: Registers,
    registers: Registers,
    memory: Vec<(u64, Vec<u8>)>,
}

/// A place to bring QEMU to, and what it is given there. They are kept, so that QEMU can be brought there again.
#[derive(Clone)]
struct Leg {
    /// Whether QEMU stands on `linear` before.
    starts_there: bool,
    /// Distances between the passes of `linear`, the last one the place itself; empty if QEMU is there already.
    passes: Vec<usize>,
    linear: u64,
    handed: Handed,
}

/// What QEMU is handed where it was brought to.
#[derive(Clone, Default)]
struct Handed {
    /// The error code of the exception that has just been delivered.
    pushed: Option<PushedCode>,
    /// The results of the instruction there.
    given: Option<Given>,
}

/// Compares `left` with QEMU for `limit` instructions, about every `every`. None if this host has no QEMU.
pub fn compare(
    mut left: Rx86Side,
    every: u64,
    limit: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Verdict>> {
    if !left.can_step() {
        bail!(
            "the engine '{}' cannot stop behind every instruction, which a comparison with QEMU needs",
            left.name()
        );
    }
    left.border();
    let start = Start::of(&mut left)?;
    let Some(qemu) = start.qemu()? else { return Ok(None) };
    let mut comparison = Comparison {
        left,
        qemu,
        start,
        legs: Vec::new(),
        trace: Vec::new(),
        undefined: 0,
        pushed: None,
        known: 0,
        first: 0,
    };
    comparison.run(every.max(1) as usize, limit, progress).map(Some)
}

/// The guest before its first instruction.
struct Start {
    memory: Vec<(u64, Vec<u8>)>,
    memory_bytes: u64,
    state: rx86_cpu::state::Vcpu,
}

impl Start {
    fn of(left: &mut Rx86Side) -> Result<Self> {
        const CHUNK: u64 = 1 << 16;
        let state = left.state();
        let memory = left.machine().memory().clone();
        let mut chunks = Vec::new();
        let mut end = 0;
        for region in memory.regions() {
            for at in (region.gpa..region.gpa + region.len).step_by(CHUNK as usize) {
                let mut chunk = vec![0; CHUNK.min(region.gpa + region.len - at) as usize];
                memory.read(at, &mut chunk).ok().context("guest memory cannot be read")?;
                if chunk.iter().any(|&byte| byte != 0) {
                    chunks.push((at, chunk));
                }
            }
            end = end.max(region.gpa + region.len);
        }
        Ok(Self { memory: chunks, memory_bytes: end, state })
    }

    /// A QEMU in this state.
    fn qemu(&self) -> Result<Option<Qemu>> {
        let Some(mut qemu) = Qemu::start(self.memory_bytes)? else { return Ok(None) };
        qemu.load_state(&self.state)?;
        for (at, chunk) in &self.memory {
            qemu.write(*at, chunk)?;
        }
        Ok(Some(qemu))
    }
}

struct Comparison {
    left: Rx86Side,
    qemu: Qemu,
    start: Start,
    /// What QEMU was made to do up to the last comparison that was equal.
    legs: Vec<Leg>,
    /// The left side's instructions since then, and some before for the report.
    trace: Vec<Done>,
    undefined: u64,
    /// The error code that the left side's last instruction has pushed, if QEMU's may differ.
    pushed: Option<PushedCode>,
    /// How often a known difference was passed.
    known: u64,
    /// Where in `trace` QEMU stands.
    first: usize,
}

impl Comparison {
    fn run(&mut self, every: usize, limit: u64, progress: &mut dyn FnMut(u64)) -> Result<Verdict> {
        let mut wanted = every;
        loop {
            let done = self.left.retired();
            let pushed = self.pushed.take();
            let given = self.step_left()?;
            let stands = self.trace.len().saturating_sub(self.first);
            let ended = self.left.ended().map(String::from).or_else(|| {
                self.left
                    .is_halted()
                    .then(|| "the processor halts, and interrupts are kept from it".to_string())
            });
            let last = ended.is_some() || done >= limit;
            let found = match (Handed { pushed, given }) {
                // QEMU goes to the instruction, and gets its results, or what led to it is put right.
                handed @ (Handed { given: Some(_), .. } | Handed { pushed: Some(_), .. }) => {
                    self.bring_qemu(self.trace.len() - 1, handed)?
                }
                nothing if last && self.trace.len() > self.first + 1 => {
                    self.bring_qemu(self.trace.len() - 1, nothing)?
                }
                nothing if stands >= wanted => match self.border(stands >= LONGEST * every) {
                    Some(border) => {
                        wanted = every;
                        self.bring_qemu(border, nothing)?
                    }
                    None => {
                        wanted += every;
                        None
                    }
                },
                _ => None,
            };
            if let Some(verdict) = found {
                return Ok(verdict);
            }
            if last {
                let end = ended.unwrap_or_else(|| "the limit is reached".into());
                return Ok(Verdict::Same { instructions: done, end, known: self.known() });
            }
            if done.is_multiple_of(65536) {
                progress(done);
            }
            self.forget();
        }
    }

    /// Executes one instruction on the left. Returns what QEMU must be given if it is not to execute it.
    fn step_left(&mut self) -> Result<Option<Given>> {
        if self.left.retired().is_multiple_of(1024) {
            // Time moves, and what the guest prints is dropped.
            self.left.border();
        }
        let (linear, instruction, bytes) = self.left.next_instruction();
        let registers = self.left.registers();
        let before = Light::of(&registers);
        let counted = self.counted();
        self.left.step();
        self.trace.push(Done { linear, instruction, bytes, before, undefined: self.undefined });
        let written = u64::from(instruction.rflags_modified());
        self.undefined =
            self.undefined & !flag_bits(written) | flag_bits(u64::from(instruction.rflags_undefined()));
        let now = self.counted();
        if now.exceptions != counted.exceptions {
            self.pushed = self.pushed_code(&instruction);
        }
        let foreign = is_foreign(instruction.mnemonic());
        let privileged_fault =
            instruction.mnemonic() == Mnemonic::Wrmsr && self.left.state().rip() != instruction.next_ip();
        if !foreign && !privileged_fault && now.accesses == counted.accesses {
            return Ok(None);
        }
        if instruction.mnemonic() == Mnemonic::Cpuid {
            self.hide_leaves(&before);
        }
        Ok(Some(self.given(&registers)))
    }

    fn counted(&mut self) -> Counted {
        let stats = self.left.machine().stats();
        Counted { accesses: stats.mmio_accesses + stats.port_accesses, exceptions: stats.exceptions }
    }

    /// The error code on the left side's stack, if `instruction` has just raised #PF and QEMU's may differ.
    fn pushed_code(&mut self, instruction: &Instruction) -> Option<PushedCode> {
        let engine = self.left.machine().engine();
        let (event, _) = engine.recent_events().pop()?;
        let error_code = event.error_code.filter(|_| event.vector == Exception::PAGE_FAULT)?;
        let state = engine.state();
        let (rsp, stack) = (state.regs[usize::from(reg::RSP)], &state.segments[SegmentIndex::SS]);
        let linear = if state.in_64bit_mode() {
            rsp
        } else {
            stack.base.wrapping_add(rsp & 0xffff_ffff) & 0xffff_ffff
        };
        let code = PushedCode { linear, code: error_code as u8 };
        known::may_differ(instruction, error_code).then_some(code)
    }

    fn known(&self) -> Vec<(&'static known::Known, u64)> {
        if self.known > 0 { vec![(&READ_MODIFY_WRITE, self.known)] } else { Vec::new() }
    }

    /// A hypervisor's leaves would tell the guest of clocks in memory that QEMU does not write; and what QEMU cannot execute
    /// is not offered.
    fn hide_leaves(&mut self, before: &Light) {
        const RAX: usize = 0;
        const RCX: usize = 1;
        const RDX: usize = 2;
        const RBX: usize = 3;
        let mut state = self.left.state();
        let cleared: &[(usize, u64)] = match (before.general[RAX] as u32, before.general[RCX] as u32) {
            (0x4000_0000..=0x4000_ffff, _) => {
                &[(RAX, u64::MAX), (RCX, u64::MAX), (RDX, u64::MAX), (RBX, u64::MAX)]
            }
            // PCID, x2APIC, TSC deadline, and the hypervisor bit.
            (1, _) => &[(RCX, 1 << 17 | 1 << 21 | 1 << 24 | 1 << 31)],
            // INVPCID.
            (7, 0) => &[(RBX, 1 << 10)],
            // XSAVEC, XSAVES.
            (0xd, 1) => &[(RAX, 1 << 1 | 1 << 3)],
            _ => &[],
        };
        for &(register, mask) in cleared {
            state.regs[register] &= !mask;
        }
        if !cleared.is_empty() {
            self.left.machine().engine().load_state(&state);
        }
    }

    /// The left side's registers, and the memory that the last instruction or the delivery of its exception may have written.
    fn given(&mut self, before: &Registers) -> Given {
        const RSP: usize = 4;
        const RDI: usize = 7;
        let registers = self.left.registers();
        let mut memory = Vec::new();
        let engine = self.left.machine().engine();
        let (rdi, old_rdi) = (registers.general[RDI], before.general[RDI]);
        if rdi != old_rdi {
            let at = rdi.min(old_rdi);
            memory.push((at, engine.peek(at, rdi.abs_diff(old_rdi).min(MOST_COPIED) as usize)));
        }
        if registers.general[RSP] != before.general[RSP] {
            memory.push((registers.general[RSP], engine.peek(registers.general[RSP], FRAME_BYTES)));
        }
        Given { before: before.clone(), registers, memory }
    }

    /// An instruction in the later half of the trace that QEMU can be stopped at with few passes, as late as possible; if
    /// `must`, with not many more than the fewest.
    fn border(&self, must: bool) -> Option<usize> {
        let mut passes: HashMap<u64, usize> = HashMap::new();
        let half = ((self.first + self.trace.len()) / 2).max(self.first + 1);
        let mut candidates = Vec::new();
        for (i, done) in self.trace.iter().enumerate().skip(self.first + 1) {
            let count = passes.entry(done.linear).or_default();
            *count += 1;
            // Each iteration of a repeated instruction is a pass to QEMU.
            if i >= half && !is_repeated(&done.instruction) {
                candidates.push((i, *count));
            }
        }
        let fewest = candidates.iter().map(|&(_, count)| count).min()?;
        let most = if must { FEW_PASSES.max(2 * fewest) } else { FEW_PASSES };
        candidates.iter().rev().find(|&&(_, count)| count <= most).map(|&(i, _)| i)
    }

    /// Brings QEMU to instruction `to` of the trace, compares, and hands it what it must be given.
    fn bring_qemu(&mut self, to: usize, handed: Handed) -> Result<Option<Verdict>> {
        let linear = self.trace[to].linear;
        let mut passes = Vec::new();
        let mut last = self.first;
        for i in self.first + 1..=to {
            if self.trace[i].linear == linear {
                passes.push(i - last);
                last = i;
            }
        }
        let leg = Leg { starts_there: self.trace[self.first].linear == linear, passes, linear, handed };
        let reached = travel(&mut self.qemu, &leg)?;
        let right = self.qemu.registers()?;
        let given = leg.handed.given.as_ref();
        if !reached || !self.differences(to, given, &right).is_empty() {
            return self.narrow(to, given).map(Some);
        }
        self.first = to + usize::from(given.is_some());
        self.known += u64::from(hand_over(&mut self.qemu, &right, &leg.handed)?);
        self.legs.push(leg);
        Ok(None)
    }

    /// What differs before instruction `to`: the general registers, RIP and RFLAGS, and where the left side stands there too,
    /// all registers. Flags that the SDM leaves undefined are not compared, nor is RF, which QEMU does not set in the image
    /// that a fault pushes.
    fn differences(&self, to: usize, given: Option<&Given>, right: &Registers) -> Vec<Difference> {
        let done = &self.trace[to];
        let mut left = given.map_or_else(|| right.clone(), |given| given.before.clone());
        left.general = done.before.general;
        left.rip = done.before.rip;
        let open = done.undefined | bits::RFLAGS_RF;
        left.rflags = done.before.rflags & !open | right.rflags & open;
        left.differences(right)
    }

    /// Runs a new QEMU to the last place that was equal, and from there instruction by instruction.
    fn narrow(&mut self, to: usize, given: Option<&Given>) -> Result<Verdict> {
        let Some(mut qemu) = self.start.qemu()? else { bail!("QEMU does not start a second time") };
        for leg in &self.legs {
            if !travel(&mut qemu, leg)? {
                bail!("QEMU did not come to {:#x} again; it is not deterministic", leg.linear);
            }
            let right = qemu.registers()?;
            hand_over(&mut qemu, &right, &leg.handed)?;
        }
        for i in self.first..to {
            let right = step_alike(&mut qemu, &self.trace[i], &self.trace[i + 1])?;
            let differences = self.differences(i + 1, given.filter(|_| i + 1 == to), &right);
            if !differences.is_empty() {
                return Ok(Verdict::Different(Box::new(self.finding(i, right, differences))));
            }
        }
        bail!("a difference before {:#x} was seen once and did not come again", self.trace[to].linear)
    }

    fn finding(&mut self, at: usize, right: Registers, differences: Vec<Difference>) -> Finding {
        let text = |done: &Done| describe(&done.instruction, &done.bytes);
        let next = &self.trace[at + 1];
        let mut left = right.clone();
        left.general = next.before.general;
        left.rip = next.before.rip;
        left.rflags = next.before.rflags;
        let behind = (self.trace.len() - at) as u64;
        Finding {
            before: self.left.retired().saturating_sub(behind),
            instructions: vec![text(&self.trace[at])],
            history: self.trace[at.saturating_sub(HISTORY)..at].iter().map(text).collect(),
            left: (self.left.name().into(), left),
            right: ("qemu".into(), right),
            differences,
        }
    }

    /// Drops what no report needs any more.
    fn forget(&mut self) {
        let old = self.first.saturating_sub(HISTORY);
        if old > 4096 {
            self.trace.drain(..old);
            self.first -= old;
        }
    }
}

/// Executes an instruction on QEMU, all iterations of a repeated one as far as the left side has executed them.
fn step_alike(qemu: &mut Qemu, done: &Done, next: &Done) -> Result<Registers> {
    const MOST_ITERATIONS: usize = 100_000;
    let repeated = is_repeated(&done.instruction);
    for _ in 0..if repeated { MOST_ITERATIONS } else { 1 } {
        qemu.step()?;
        let right = qemu.registers()?;
        if !repeated || right.rip != done.before.rip || Light::of(&right).general == next.before.general {
            return Ok(right);
        }
    }
    qemu.registers()
}

/// Runs QEMU along a leg; false if it did not arrive.
fn travel(qemu: &mut Qemu, leg: &Leg) -> Result<bool> {
    qemu.run_through(leg.linear, &leg.passes, leg.starts_there, LIMIT)
}

/// Gives QEMU, whose registers are `right`, what it is handed. Returns whether a known difference was put right.
fn hand_over(qemu: &mut Qemu, right: &Registers, handed: &Handed) -> Result<bool> {
    let was_known = match &handed.pushed {
        Some(pushed) => known::put_right(qemu, pushed)?,
        None => false,
    };
    if let Some(given) = &handed.given {
        give(qemu, right, given)?;
    }
    Ok(was_known)
}

/// Gives QEMU the results of an instruction.
fn give(qemu: &mut Qemu, right: &Registers, given: &Given) -> Result<()> {
    let left = &given.registers;
    for (number, slot) in GDB_GENERAL.into_iter().enumerate() {
        if left.general[slot] != right.general[slot] {
            qemu.gdb().set_register(number, &left.general[slot].to_le_bytes())?;
        }
    }
    if left.control[1] != right.control[1] {
        qemu.gdb().set_register(GDB_FS_BASE + 4, &left.control[1].to_le_bytes())?;
    }
    qemu.gdb().set_register(GDB_RIP, &left.rip.to_le_bytes())?;
    qemu.gdb().set_register(GDB_RFLAGS, &(left.rflags as u32).to_le_bytes())?;
    for (linear, bytes) in &given.memory {
        qemu.write_linear(*linear, bytes)?;
    }
    Ok(())
}

fn is_repeated(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repne_prefix()
}

/// Instructions whose results the board, time or the processor's model decide.
fn is_foreign(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        In | Insb
            | Insw
            | Insd
            | Out
            | Outsb
            | Outsw
            | Outsd
            | Rdtsc
            | Rdtscp
            | Cpuid
            | Rdmsr
            | Rdpmc
            | Rdrand
            | Rdseed
            | Rdpid
            | Xgetbv
    )
}

/// iced-x86's flag bits as RFLAGS has them.
fn flag_bits(flags: u64) -> u64 {
    use iced_x86::RflagsBits as F;
    let pairs = [
        (F::CF, bits::RFLAGS_CF),
        (F::PF, bits::RFLAGS_PF),
        (F::AF, bits::RFLAGS_AF),
        (F::ZF, bits::RFLAGS_ZF),
        (F::SF, bits::RFLAGS_SF),
        (F::OF, bits::RFLAGS_OF),
    ];
    pairs.iter().filter(|(flag, _)| flags & u64::from(*flag) != 0).map(|(_, bit)| bit).sum()
}
