//! What executes an instruction case: the host CPU, QEMU, or one of rx86's engines, behind one trait.
//!
//! Every oracle runs the case as user code of a 64-bit system in the same small address space, so that addresses, faults
//! and error codes can be compared as they are: in 64-bit mode, or in compatibility mode with 32-bit or 16-bit code.

pub mod engine;
pub mod features;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod host;
pub mod kvm;
pub mod planted;
pub mod qemu;
pub mod state;

pub use state::State;

use crate::cases::compare::Difference;

/// Bytes in a page.
pub const PAGE: usize = 4096;
/// Where the data pages begin. Three pages are mapped: two that can be written, and one that can be read only. The
/// pages before and behind them are not mapped.
pub const DATA: u64 = 0x2000_0000;
/// Bytes of the data pages that can be written; the one behind them is always zero.
pub const DATA_BYTES: usize = 2 * PAGE;
/// Where the two code pages begin. They are full of INT3, so that wherever an instruction goes, it is known.
pub const CODE: u64 = 0x2001_0000;
/// Bytes of the code pages.
pub const CODE_BYTES: usize = 2 * PAGE;
/// Where an oracle keeps what is its own.
pub const PRIVATE: u64 = 0x2002_0000;
/// The base of GS.
pub const GS_BASE: u64 = DATA + 0x100;

/// The longest program in bytes.
pub const CODE_MAX: usize = 128;

/// The mode that a program runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// 64-bit mode.
    #[default]
    Bits64,
    /// 32-bit code in flat segments.
    Bits32,
    /// 16-bit code: CS begins at the code pages, DS, ES and SS at the data pages, and all reach 64 KiB. The stack is a
    /// 16-bit one.
    Bits16,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Bits64, Self::Bits32, Self::Bits16];

    /// The default operand size of code (64-bit mode: 64).
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits64 => 64,
            Self::Bits32 => 32,
            Self::Bits16 => 16,
        }
    }

    /// The mode of so many bits.
    pub fn from_bits(bits: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| u64::from(mode.bits()) == bits)
    }

    /// The base of CS.
    pub const fn code_base(self) -> u64 {
        if matches!(self, Self::Bits16) { CODE } else { 0 }
    }

    /// The base of DS, ES and SS.
    pub const fn data_base(self) -> u64 {
        if matches!(self, Self::Bits16) { DATA } else { 0 }
    }
}

/// The vector of INT3: a case that ends without a fault runs into one.
pub const BREAKPOINT: u32 = 3;

/// One instruction, or a few, with everything that it may depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The machine code, at most `CODE_MAX` bytes.
    pub code: Vec<u8>,
    /// The mode.
    pub mode: Mode,
    /// Offset of its first byte in the code pages.
    pub at: usize,
    /// Registers before. RIP is ignored.
    pub state: State,
    /// The writable data pages before.
    pub memory: Vec<u8>,
}

impl Program {
    /// A program in the middle of the first code page, with all registers in their states after a reset and all memory
    /// zero. RSP points into the first data page.
    pub fn new(code: Vec<u8>) -> Self {
        Self::in_mode(Mode::Bits64, code)
    }

    /// The same in `mode`.
    pub fn in_mode(mode: Mode, code: Vec<u8>) -> Self {
        let mut state = State::default();
        state.gpr[state::RSP] -= mode.data_base();
        Self { code, mode, at: PAGE / 2, state, memory: vec![0; DATA_BYTES] }
    }

    /// The linear address of the first byte.
    pub fn entry(&self) -> u64 {
        CODE + self.at as u64
    }

    /// The value of RIP, EIP or IP at the first byte.
    pub fn ip(&self) -> u64 {
        self.entry() - self.mode.code_base()
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ending {
    /// The exception's vector; `BREAKPOINT` if there was no fault.
    pub vector: u32,
    /// #PF's error code, otherwise zero.
    pub error_code: u32,
    /// CR2 for #PF, otherwise zero.
    pub address: u64,
}

/// What is there after a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Registers; RIP and RFLAGS are those that the exception saved.
    pub state: State,
    /// The writable data pages.
    pub memory: Vec<u8>,
    /// The exception.
    pub ending: Ending,
}

impl Outcome {
    /// Whether the program ended in a fault, and not in the INT3 behind it.
    pub fn faulted(&self) -> bool {
        self.ending.vector != BREAKPOINT
    }
}

/// Something that executes programs.
pub trait Oracle {
    /// Its name in reports.
    fn name(&self) -> &'static str;
    /// Executes each program from its own state. `None` where a program could not be executed to its end.
    fn run(&mut self, programs: &[Program]) -> Vec<Option<Outcome>>;
    /// The entries of its list of known disagreements that explain all `differences` of a program's outcomes, its own before
    /// rx86's; none if they do not.
    fn known(&self, _: &Program, _: &Outcome, _: &Outcome, _: &[Difference]) -> Option<Vec<usize>> {
        None
    }
    /// The names of that list's entries.
    fn known_names(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Whether it runs programs in `mode`.
    fn offers(&mut self, mode: Mode) -> bool {
        let nop = Program::in_mode(mode, vec![0x90]);
        let outcome = self.run(std::slice::from_ref(&nop)).pop().flatten();
        outcome.is_some_and(|end| end.ending.vector == BREAKPOINT && end.state.rip == nop.ip() + 2)
    }
}
