//! An rx86 engine as an oracle: long mode with paging, the program at CPL 3, and an IDT whose handlers halt.

use super::state::{FLAGS, State};
use super::{
    BREAKPOINT, CODE, DATA, DATA_BYTES, Ending, GS_BASE, Mode, Oracle, Outcome, PAGE, PRIVATE, Program,
};
use rx86_cpu::backend::{Exit, X86Ops};
use rx86_cpu::bare_board::BareBoard;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::exception::Exception;
use rx86_cpu::features::CpuModel;
use rx86_cpu::interp::Interpreter;
use rx86_cpu::state::{F80, Segment, SegmentIndex, TableRegister, Vcpu, X87, bits};
use rx86_jit::{Forgetful, Jit, JitConfig};
use rx86_kvm::KvmError;
use rx86_softmmu::{Attention, GuestMemory};
use std::sync::Arc;

/// More instructions than any program takes, its exception and repetitions included.
const BUDGET: u64 = 100_000;

/// How often an engine may come back before the end.
const MOST_YIELDS: u32 = 100;

// Guest physical places.
const RAM_BYTES: u64 = 1 << 20;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const PRIVATE_GPA: u64 = 0x8000;
const DATA_GPA: u64 = 0x1_0000;
const CODE_GPA: u64 = 0x2_0000;

// Offsets in the private pages.
const GDT: u64 = 0;
const TSS: u64 = 0x100;
const IDT: u64 = 0x200;
const HANDLERS: u64 = 0x400;
const HANDLER_BYTES: u64 = 16;
const STACK_TOP: u64 = 2 * PAGE as u64;

const VECTORS: u64 = 32;
const KERNEL_CODE: u16 = 0x10;
/// The selectors that Linux gives its 64-bit programs.
const USER_CODE: u16 = 0x33;
const USER_STACK: u16 = 0x2b;
/// The selector that Linux gives its 32-bit programs.
const USER_CODE32: u16 = 0x23;
/// The first two of a local descriptor table.
const USER_CODE16: u16 = 0x07;
const USER_DATA16: u16 = 0x0f;

/// One of rx86's engines, with a machine of its own.
pub struct EngineOracle {
    engine: Box<dyn X86Ops>,
    memory: Arc<GuestMemory>,
    start: Vcpu,
}

fn machine() -> (Arc<GuestMemory>, Cpu) {
    let memory = GuestMemory::new(RAM_BYTES).expect("a megabyte of guest memory");
    let cpu = Cpu::new(memory.clone(), Box::new(BareBoard::default()), CpuModel::max(), Attention::default());
    (memory, cpu)
}

/// The least code cache there is; with `RX86_KEEP_CODE` one that is never full (see docs/testing.md).
fn least_cache() -> usize {
    if std::env::var_os("RX86_KEEP_CODE").is_some() { JitConfig::default().code_cache_bytes } else { 0 }
}

/// Translates every block before its first execution.
fn at_once(config: JitConfig) -> JitConfig {
    JitConfig { threshold: 1, background: false, ..config }
}

impl EngineOracle {
    /// The interpreter.
    ///
    /// # Panics
    /// If the host has no memory for the machine.
    pub fn interpreter() -> Self {
        let (memory, cpu) = machine();
        Self::new(memory, Box::new(Interpreter::new(cpu)))
    }

    /// The JIT, which translates every block before its first execution.
    ///
    /// # Panics
    /// If the host has no memory for the machine, or there is no code generator for it.
    pub fn jit() -> Self {
        Self::jit_with(JitConfig::default())
    }

    /// The JIT's quick tier alone, which translates every block before its first execution. On hosts without it, the
    /// interpreter.
    ///
    /// # Panics
    /// As `jit`.
    pub fn quick() -> Self {
        Self::translating(JitConfig { threshold: u32::MAX, quick_threshold: 1, ..JitConfig::default() })
    }

    /// The same in the least code cache that there is, so that old translations go soon.
    ///
    /// # Panics
    /// As `jit`.
    pub fn evicting_jit() -> Self {
        Self::jit_with(JitConfig { code_cache_bytes: least_cache(), ..JitConfig::default() })
    }

    /// The same, keeping x86's memory order.
    ///
    /// # Panics
    /// As `jit`.
    pub fn ordered_jit() -> Self {
        Self::jit_with(JitConfig { parallel: true, ..JitConfig::default() })
    }

    /// The same in the least code cache, and it drops all translations every few entries.
    ///
    /// # Panics
    /// As `jit`.
    pub fn forgetful_jit() -> Self {
        let (memory, cpu) = machine();
        let config = JitConfig { code_cache_bytes: least_cache(), ..JitConfig::default() };
        let jit = Jit::new(&cpu, at_once(config)).expect("a code generator for this host");
        Self::new(memory, Box::new(Interpreter::with_tier(cpu, Forgetful::new(jit))))
    }

    fn jit_with(config: JitConfig) -> Self {
        Self::translating(at_once(config))
    }

    fn translating(config: JitConfig) -> Self {
        let (memory, cpu) = machine();
        let engine = rx86_jit::engine(cpu, config).expect("a code generator for this host");
        Self::new(memory, Box::new(engine))
    }

    /// The host's processor through Linux's KVM; the error says why it cannot be had.
    ///
    /// # Panics
    /// If the host has no memory for the machine.
    pub fn kvm() -> Result<Self, KvmError> {
        let memory = GuestMemory::new(RAM_BYTES).expect("a megabyte of guest memory");
        let board = Box::new(BareBoard::default());
        let engine = rx86_kvm::open(memory.clone(), board, &CpuModel::max(), Attention::default())?;
        Ok(Self::new(memory, engine))
    }

    /// `engine`, which must run on `memory` of at least a megabyte.
    pub fn new(memory: Arc<GuestMemory>, mut engine: Box<dyn X86Ops>) -> Self {
        let start = start_state(engine.state());
        let oracle = Self { engine, memory, start };
        oracle.build_machine();
        oracle
    }

    fn write(&self, gpa: u64, data: &[u8]) {
        self.memory.write(gpa, data).expect("the machine's own memory");
    }

    fn read<const N: usize>(&self, gpa: u64) -> [u8; N] {
        let mut data = [0; N];
        self.memory.read(gpa, &mut data).expect("the machine's own memory");
        data
    }

    fn write_u64(&self, gpa: u64, value: u64) {
        self.write(gpa, &value.to_le_bytes());
    }

    /// Page tables, descriptor tables, handlers, and code pages full of INT3.
    fn build_machine(&self) {
        const PRESENT: u64 = 1;
        const WRITE: u64 = 2;
        const USER: u64 = 4;
        const NO_EXECUTE: u64 = 1 << 63;
        let all = PRESENT | WRITE | USER;
        self.write_u64(PML4, PDPT | all);
        self.write_u64(PDPT, DIRECTORY | all);
        self.write_u64(DIRECTORY + (DATA >> 21) * 8, TABLE | all);
        let map = |linear: u64, gpa: u64, rights: u64| {
            self.write_u64(TABLE + (linear >> 12 & 511) * 8, gpa | rights);
        };
        let page = PAGE as u64;
        for i in 0..2 {
            map(DATA + i * page, DATA_GPA + i * page, all | NO_EXECUTE);
            map(CODE + i * page, CODE_GPA + i * page, PRESENT | USER);
            map(PRIVATE + i * page, PRIVATE_GPA + i * page, PRESENT | WRITE);
        }
        map(DATA + 2 * page, DATA_GPA + 2 * page, PRESENT | USER | NO_EXECUTE);

        self.write_u64(PRIVATE_GPA + GDT + u64::from(KERNEL_CODE), 0x00af_9b00_0000_ffff);
        // RSP0, and an I/O permission map beyond the limit.
        self.write_u64(PRIVATE_GPA + TSS + 4, PRIVATE + STACK_TOP);
        self.write(PRIVATE_GPA + TSS + 0x66, &0x68u16.to_le_bytes());
        for vector in 0..VECTORS {
            let handler = PRIVATE + HANDLERS + vector * HANDLER_BYTES;
            // A present interrupt gate of DPL 3.
            let low = handler & 0xffff
                | u64::from(KERNEL_CODE) << 16
                | 0xee00 << 32
                | (handler >> 16 & 0xffff) << 48;
            self.write_u64(PRIVATE_GPA + IDT + vector * 16, low);
            self.write_u64(PRIVATE_GPA + IDT + vector * 16 + 8, handler >> 32);
            self.write(PRIVATE_GPA + HANDLERS + vector * HANDLER_BYTES, &[0xf4]);
        }
        self.write(CODE_GPA, &[0xcc; 2 * PAGE]);
    }

    fn execute(&mut self, program: &Program) -> Option<Outcome> {
        self.write(DATA_GPA, &program.memory);
        self.write(CODE_GPA + program.at as u64, &program.code);
        let mut state = self.start.clone();
        enter_mode(&mut state, program.mode);
        load(&mut state, &program.state, program.ip());
        self.engine.load_state(&state);
        let mut exit = self.engine.run(BUDGET);
        for _ in 0..MOST_YIELDS {
            if exit != Exit::Yield {
                break;
            }
            // Nobody is waiting at the border of a repeated string instruction, nor after the time that KVM gives.
            exit = self.engine.run(BUDGET);
        }
        self.write(CODE_GPA + program.at as u64, &vec![0xcc; program.code.len()]);
        if exit != Exit::Halt {
            return None;
        }
        let state = self.engine.state().clone();
        let vector = state.rip().checked_sub(PRIVATE + HANDLERS)? / HANDLER_BYTES;
        let mut outcome = self.outcome(&state, vector as u32);
        if program.mode != Mode::Bits64 {
            outcome.state.narrow();
        }
        Some(outcome)
    }

    /// What the program has left, with what the exception's delivery has pushed.
    fn outcome(&self, vcpu: &Vcpu, vector: u32) -> Outcome {
        const WITH_ERROR_CODE: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21;
        let frame_bytes = if WITH_ERROR_CODE >> vector & 1 != 0 { 48 } else { 40 };
        let frame: [u8; 48] = self.read(PRIVATE_GPA + STACK_TOP - frame_bytes);
        let word = |at: u64| {
            let at = (at + frame_bytes - 40) as usize;
            u64::from_le_bytes(frame.get(at..at + 8).map_or([0; 8], |b| b.try_into().unwrap_or_default()))
        };
        let mut state = store(vcpu);
        state.rip = word(0);
        state.rflags = word(16) & FLAGS;
        state.gpr[super::state::RSP] = word(24);
        let page_fault = vector == u32::from(Exception::PAGE_FAULT);
        let ending = Ending {
            vector,
            error_code: if page_fault {
                u32::from_le_bytes(frame[..4].try_into().unwrap_or_default())
            } else {
                0
            },
            address: if page_fault { vcpu.cr2 } else { 0 },
        };
        Outcome { state, memory: self.read::<DATA_BYTES>(DATA_GPA).to_vec(), ending }
    }
}

impl Oracle for EngineOracle {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn run(&mut self, programs: &[Program]) -> Vec<Option<Outcome>> {
        programs.iter().map(|program| self.execute(program)).collect()
    }
}

/// 64-bit mode at CPL 3 as Linux sets it up.
fn start_state(reset: &Vcpu) -> Vcpu {
    let mut state = reset.clone();
    let flat = |selector: u16, access: u32| Segment { base: 0, limit: 0xffff_ffff, access, selector };
    state.segments = [flat(0, 0xc0f3); 6];
    state.segments[SegmentIndex::CS] = flat(USER_CODE, 0xa0fb);
    state.segments[SegmentIndex::SS] = flat(USER_STACK, 0xc0f3);
    state.segments[SegmentIndex::GS].base = GS_BASE;
    state.tr = Segment { base: PRIVATE + TSS, limit: 0x67, access: 0x8b, selector: 0x40 };
    state.gdtr = TableRegister { base: PRIVATE + GDT, limit: 0x1f };
    state.idtr = TableRegister { base: PRIVATE + IDT, limit: (VECTORS * 16 - 1) as u16 };
    state.cr0 = bits::CR0_PE
        | bits::CR0_MP
        | bits::CR0_ET
        | bits::CR0_NE
        | bits::CR0_WP
        | bits::CR0_AM
        | bits::CR0_PG;
    state.cr3 = PML4;
    state.cr4 =
        bits::CR4_PAE | bits::CR4_OSFXSR | bits::CR4_OSXMMEXCPT | bits::CR4_OSXSAVE | bits::CR4_FSGSBASE;
    state.efer = bits::EFER_SCE | bits::EFER_LME | bits::EFER_LMA | bits::EFER_NXE;
    state.xcr0 = 7;
    state.cpl = 3;
    state
}

/// The segments of `mode`, in place of those of 64-bit mode.
fn enter_mode(state: &mut Vcpu, mode: Mode) {
    let flat = |selector: u16, access: u32| Segment { base: 0, limit: 0xffff_ffff, access, selector };
    let small = |base: u64, selector: u16, access: u32| Segment { base, limit: 0xffff, access, selector };
    let (code, data) = match mode {
        Mode::Bits64 => return,
        Mode::Bits32 => (flat(USER_CODE32, 0xc0fb), flat(USER_STACK, 0xc0f3)),
        Mode::Bits16 => (small(CODE, USER_CODE16, 0xfb), small(DATA, USER_DATA16, 0xf3)),
    };
    state.segments[SegmentIndex::CS] = code;
    for index in [SegmentIndex::DS, SegmentIndex::ES, SegmentIndex::SS] {
        state.segments[index] = data;
    }
}

/// Loads the user-visible registers.
fn load(vcpu: &mut Vcpu, state: &State, entry: u64) {
    vcpu.regs[..16].copy_from_slice(&state.gpr);
    vcpu.set_rip(entry);
    vcpu.flags.set(state.rflags & FLAGS | bits::RFLAGS_FIXED | bits::RFLAGS_IF);
    vcpu.mxcsr = state.mxcsr();
    for i in 0..16u8 {
        vcpu.set_xmm(i, state.xmm(usize::from(i)));
        let (high, zmm) = (state.ymm_high[usize::from(i)], &mut vcpu.zmm[usize::from(i)].0);
        (zmm[2], zmm[3]) = (high as u64, (high >> 64) as u64);
    }
    let mut status = state.fsw() & 0x7f7f;
    // FXRSTOR computes ES and B from the flags and their masks.
    if status & !state.fcw() & 0x3f != 0 {
        status |= 0x8080;
    }
    let mut x87 = X87 { control: state.fcw(), status, tags: 0, ..X87::default() };
    for i in 0..8u16 {
        let physical = ((status >> 11) + i) & 7;
        let value = state.st(usize::from(i));
        let register = F80 { mantissa: value as u64, sign_exponent: (value >> 64) as u16 };
        let tag = if state.ftw() >> physical & 1 == 0 { 3 } else { tag_of(register) };
        x87.tags |= tag << (2 * physical);
        x87.regs[usize::from(physical)] = register;
    }
    vcpu.x87 = x87;
}

/// The tag of a register in use (SDM vol. 1, 8.1.7).
fn tag_of(register: F80) -> u16 {
    match (register.sign_exponent & 0x7fff, register.mantissa) {
        (0, 0) => 1,
        (exponent, mantissa) if exponent != 0 && exponent != 0x7fff && mantissa >> 63 != 0 => 0,
        _ => 2,
    }
}

/// The user-visible registers, RIP and RFLAGS apart.
fn store(vcpu: &Vcpu) -> State {
    let mut state = State::default();
    state.gpr.copy_from_slice(&vcpu.regs[..16]);
    state.set_mxcsr(vcpu.mxcsr);
    for i in 0..16 {
        state.set_xmm(usize::from(i), vcpu.xmm(i));
        let zmm = &vcpu.zmm[usize::from(i)].0;
        state.ymm_high[usize::from(i)] = u128::from(zmm[2]) | u128::from(zmm[3]) << 64;
    }
    let x87 = &vcpu.x87;
    state.set_fcw(x87.control);
    state.set_fsw(x87.status);
    let used = (0..8).filter(|i| x87.tags >> (2 * i) & 3 != 3).fold(0, |used, i| used | 1 << i);
    state.set_ftw(used);
    for i in 0..8u16 {
        let register = x87.regs[usize::from(((x87.status >> 11) + i) & 7)];
        state
            .set_st(usize::from(i), u128::from(register.sign_exponent) << 64 | u128::from(register.mantissa));
    }
    state
}

const _: () = assert!(BREAKPOINT == Exception::BP.vector as u32);
