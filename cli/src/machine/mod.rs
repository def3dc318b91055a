//! `Machine`: memory, the board, vCPUs with their engines, and what was booted.

mod clock;
mod environment;
mod halt_poll;
mod lag;
mod pace;
mod processor;
mod report;
mod run;
mod shared;
mod state_hash;
mod stepped;
mod stolen;
mod turns;

pub use report::TripleFault;
pub use state_hash::{StateDigest, StateHashes};
pub use turns::Turns;

use crate::console::{Output, Remote};
use crate::image::{Image, Role};
use crate::initrd::inspect::inspect;
use anyhow::{Context, Result, ensure};
use clock::GuestClock;
use environment::{VcpuEnvironment, split_mix};
use halt_poll::HaltPoll;
use processor::Processor;
use rx86_cpu::backend::{EngineStats, X86Ops};
use rx86_cpu::cpu::Cpu;
use rx86_cpu::features::CpuModel;
use rx86_cpu::interp::Interpreter;
use rx86_cpu::op::reg;
use rx86_cpu::state::{Segment, SegmentIndex, TableRegister, Vcpu};
use rx86_devices::{Board, BoardConfig, IoCount};
use rx86_firmware::{BootProtocol, BootRequest, Entry, EntryMode, SegmentImage};
use rx86_jit::{JitConfig, Workshop};
use rx86_softmmu::{Attention, GuestMemory};
use shared::{Shared, lock};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

/// Where RAM above the hole begins.
const HIGH_RAM: u64 = 4 << 30;
/// IA32_MTRR_DEF_TYPE as firmware leaves it: enabled, write-back by default.
const MTRR_ENABLED_WRITE_BACK: u64 = 0x806;

/// The most vCPUs of a machine.
pub const MAX_CPUS: u32 = 64;

/// Which engine executes the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The interpreter.
    Interp,
    /// The JIT: the interpreter, with hot code compiled.
    #[default]
    Jit,
    /// Linux's KVM, where /dev/kvm works.
    Kvm,
}

/// How a bzImage is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// 64-bit if the kernel can, else 32-bit.
    #[default]
    Auto,
    /// The 64-bit boot protocol.
    #[value(name = "64")]
    Bits64,
    /// The 32-bit boot protocol.
    #[value(name = "32")]
    Bits32,
}

impl From<Protocol> for BootProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Auto => Self::Auto,
            Protocol::Bits64 => Self::Bits64,
            Protocol::Bits32 => Self::Bits32,
        }
    }
}

/// What a machine is made of.
pub struct MachineConfig {
    /// RAM in bytes.
    pub memory_bytes: u64,
    /// The kernel.
    pub kernel: Image,
    /// The initial RAM disk.
    pub initrd: Option<Image>,
    /// The kernel's command line.
    pub append: String,
    /// How a bzImage is entered.
    pub protocol: Protocol,
    /// The engine.
    pub engine: Engine,
    /// How the JIT works, if it is the engine.
    pub jit: JitConfig,
    /// The processor.
    pub cpu: CpuModel,
    /// How many there are, from 1 to `MAX_CPUS`.
    pub cpus: u32,
    /// The first port of isa-debug-exit, if there is one.
    pub debug_exit: Option<u16>,
    /// Whether a reset ends the run.
    pub no_reboot: bool,
    /// Seeds RDRAND and the kernel's random number generator.
    pub seed: u64,
    /// Time stands until `Machine::set_time` moves it, and external interrupts wait for `Machine::let_interrupts_in`; or
    /// `Machine::run_in_turns` does both. Two runs are the same.
    pub by_hand: bool,
}

/// Why a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// ACPI S5.
    PowerOff,
    /// The guest reset the machine, with `no_reboot`.
    Reset,
    /// The guest wrote a value to isa-debug-exit.
    DebugExit(u32),
    /// The processor shut down.
    TripleFault(Box<TripleFault>),
    /// All processors halted with interrupts off, the first one at this RIP: nothing on the board can wake them.
    HaltedForGood(u64),
    /// Somebody stopped the machine from outside, or nobody reads its console any more.
    Stopped,
    /// Somebody wants the machine to stand still for a while.
    Paused,
}

/// A PC.
pub struct Machine {
    config: MachineConfig,
    memory: Arc<GuestMemory>,
    shared: Arc<Shared>,
    /// One or more.
    processors: Vec<Processor>,
    output: Output,
    remote: Remote,
}

impl Machine {
    /// Builds the machine and loads the kernel.
    pub fn new(config: MachineConfig) -> Result<Self> {
        ensure!((1..=MAX_CPUS).contains(&config.cpus), "a machine has from 1 to {MAX_CPUS} processors");
        ensure!(
            config.cpus == 1 || config.engine != Engine::Kvm,
            "the kvm engine runs one processor only: use --engine jit, or leave --cpus out"
        );
        let memory = GuestMemory::new(config.memory_bytes).context("cannot give the guest its memory")?;
        let output = Output::default();
        let attentions: Vec<_> = (0..config.cpus).map(|_| Attention::default()).collect();
        let shared = board(&config, &memory, &output, &attentions);
        let workshop = Workshop::default();
        let processors = (0..config.cpus as usize)
            .map(|number| {
                let environment = Box::new(VcpuEnvironment::new(shared.clone(), number, config.seed));
                let lapic = lock(&shared.board).lapic(number);
                let engine = engine(&config, &memory, environment, &attentions[number], &workshop)?;
                let halt_poll = HaltPoll::new(config.cpus as usize);
                let (shared, output) = (shared.clone(), output.clone());
                Ok(Processor { number, engine, lapic, shared, output, halt_poll })
            })
            .collect::<Result<Vec<_>>>()?;
        let remote = Remote::new(attentions);
        let mut machine = Self { config, memory, shared, processors, output, remote };
        machine.load()?;
        Ok(machine)
    }

    /// What other threads use to stop the machine and to type.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// The engine's name, as `--engine` takes it.
    pub fn engine_name(&self) -> &'static str {
        self.processors[0].engine.name()
    }

    /// The engines' counters, of all vCPUs together.
    pub fn stats(&self) -> EngineStats {
        let all = self.processors.iter().map(|processor| processor.engine.stats());
        all.reduce(|mut sum, stats| {
            sum.add(&stats);
            sum
        })
        .unwrap_or_default()
    }

    /// Accesses by chip.
    pub fn io_counts(&self) -> Vec<(&'static str, IoCount)> {
        lock(&self.shared.board).io_counts().collect()
    }

    /// Loads the kernel and puts the first vCPU at its entry.
    fn load(&mut self) -> Result<()> {
        let mut seed_state = self.config.seed;
        let mut rng_seed = [0; 32];
        for chunk in rng_seed.chunks_mut(8) {
            chunk.copy_from_slice(&split_mix(&mut seed_state).to_le_bytes());
        }
        let config = &self.config;
        let kernel = config.kernel.read(Role::Kernel, config.memory_bytes)?;
        let initrd = config.initrd.as_ref().map(|image| image.read(Role::Initrd, config.memory_bytes));
        let initrd = initrd.transpose()?;
        let request = BootRequest {
            kernel: &kernel,
            initrd: initrd.as_deref(),
            cmdline: &config.append,
            cpus: config.cpus,
            rng_seed,
            protocol: config.protocol.into(),
        };
        let entry = std::thread::scope(|scope| {
            let initrd = config.initrd.as_ref().zip(initrd.as_deref());
            // To look through it takes as long as all the rest.
            let check = initrd.map(|(image, bytes)| scope.spawn(|| check_initrd(&kernel, image, bytes)));
            let entry = rx86_firmware::load(&self.memory, &request);
            match check.map(ScopedJoinHandle::join) {
                Some(Ok(checked)) => checked?,
                Some(Err(panic)) => resume_unwind(panic),
                None => {}
            }
            entry.with_context(|| format!("cannot boot {}", boots(config)))
        })?;
        self.processors.iter_mut().for_each(Processor::power_on);
        let engine = &mut self.processors[0].engine;
        let mut state = engine.state().clone();
        apply_entry(&mut state, &entry);
        engine.load_state(&state);
        Ok(())
    }
}

/// An error if Linux could not unpack the initrd. An empty one is the loader's to report; what a PVH guest takes is its own
/// business.
fn check_initrd(kernel: &[u8], image: &Image, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() || kernel.starts_with(b"\x7fELF") {
        return Ok(());
    }
    inspect(bytes).with_context(|| format!("cannot boot with the initrd '{image}'"))
}

/// The images of a boot, for messages.
fn boots(config: &MachineConfig) -> String {
    match &config.initrd {
        Some(initrd) => format!("'{}' with the initrd '{initrd}'", config.kernel),
        None => format!("'{}'", config.kernel),
    }
}

/// The board, with what the vCPUs share besides.
fn board(
    config: &MachineConfig,
    memory: &GuestMemory,
    output: &Output,
    attentions: &[Attention],
) -> Arc<Shared> {
    // KVM does not say often enough that its vCPU runs.
    let waits_for = if matches!(config.engine, Engine::Kvm) { 0 } else { config.cpus as usize };
    let clock = Arc::new(if config.by_hand { GuestClock::by_hand() } else { GuestClock::start(waits_for) });
    let high = memory.regions().iter().filter(|region| region.gpa >= HIGH_RAM).map(|region| region.len).sum();
    let board = Board::new(
        BoardConfig {
            cpus: config.cpus,
            debug_exit: config.debug_exit,
            serial: Box::new(output.clone()),
            unix_seconds_at_boot: (clock.unix_ns_at_start() / 1_000_000_000) as i64,
            clock: clock.clone(),
            tsc: clock.clone(),
            ram_low_bytes: config.memory_bytes - high,
            ram_high_bytes: high,
        },
        attentions.to_vec(),
    );
    Shared::new(board, clock, attentions.to_vec(), config.by_hand)
}

/// The engine that was asked for, with a vCPU of the model.
fn engine(
    config: &MachineConfig,
    memory: &Arc<GuestMemory>,
    environment: Box<VcpuEnvironment>,
    attention: &Attention,
    workshop: &Workshop,
) -> Result<Box<dyn X86Ops>> {
    let model = &config.cpu;
    Ok(match config.engine {
        Engine::Interp => Box::new(Interpreter::new(Cpu::new(
            memory.clone(),
            environment,
            model.clone(),
            attention.clone(),
        ))),
        Engine::Jit => {
            let cpu = Cpu::new(memory.clone(), environment, model.clone(), attention.clone());
            let (parallel, workshop) = (config.cpus > 1, workshop.clone());
            let jit = JitConfig { parallel, workshop, ..config.jit.clone() };
            Box::new(rx86_jit::engine(cpu, jit)?)
        }
        Engine::Kvm => rx86_kvm::open(memory.clone(), environment, model, attention.clone())?,
    })
}

fn segment(image: &SegmentImage) -> Segment {
    Segment { base: image.base, limit: image.limit, access: image.access, selector: image.selector }
}

/// The processor as the boot protocol wants it.
fn apply_entry(state: &mut Vcpu, entry: &Entry) {
    state.set_rip(entry.rip);
    state.regs[usize::from(reg::RSI)] = entry.rsi;
    state.regs[usize::from(reg::RBX)] = entry.rbx;
    state.flags.set(entry.rflags);
    use SegmentIndex as S;
    state.segments[S::CS] = segment(&entry.code);
    for index in [S::ES, S::SS, S::DS, S::FS, S::GS] {
        state.segments[index] = segment(&entry.data);
    }
    state.tr = segment(&entry.task);
    state.gdtr = TableRegister { base: entry.gdt_base, limit: entry.gdt_limit };
    state.idtr = TableRegister { base: 0, limit: 0 };
    state.cr0 = entry.cr0;
    state.cr4 = entry.cr4;
    state.efer = entry.efer;
    if let EntryMode::Long64 { cr3 } = entry.mode {
        state.cr3 = cr3;
    }
    state.msrs.mtrr_def_type = MTRR_ENABLED_WRITE_BACK;
}
