//! Runs: instructions of x87 and MMX that follow each other, and the host code that executes them: the same instructions, with
//! their memory operands where arguments say.

use super::host;
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, Encoder, Instruction, MemoryOperand, OpKind, Register,
};
use rx86_cpu::cpu::Cpu;
use rx86_cpu::decode::{Semantics, decode};
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;
use rx86_cpu::op::Op;

/// Where a run's host code finds its arguments, as the host's calling convention has it.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// More instructions are another run.
const MAX_INSTRUCTIONS: usize = 24;

/// What host code is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument {
    /// The host address of the memory operand of `Run::ops[op]`, of so many bytes.
    Operand { op: usize, bytes: u64, writes: bool },
    /// The address of a control word, copied from the memory operand of `Run::ops[op]`, with all exceptions masked.
    ControlWord { op: usize },
    /// A general register.
    Register(u8),
    /// Whether a condition, as FCMOVcc encodes it in Jcc's way, holds.
    Condition(u8),
}

/// What host code returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All 64 bits of a general register.
    Register(u8),
    /// The low word of RAX.
    Word,
    /// In bits 8 to 15 the flags, as LAHF has them.
    Flags,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(super) ops: Vec<Op>,
    pub(super) arguments: Vec<Argument>,
    pub(super) answer: Option<Answer>,
    /// The last instruction that notes its address, and the last of those with a memory operand.
    pub(super) noted: Option<usize>,
    pub(super) noted_operand: Option<usize>,
    code: Vec<u8>,
}

/// How the host executes an instruction.
enum Way {
    /// It need not.
    Nothing,
    /// As it is, with its memory operand or general register as the arguments.
    Same { argument: Option<Argument>, answer: Option<Answer> },
    /// FCMOVcc.
    Move { condition: u8 },
    /// FCOMI and its kin.
    Compare,
}

impl Run {
    /// The run that `bytes` begins with, if the host can execute it.
    pub(crate) fn begin(bytes: &[u8], mode: ModeKey, model: &CpuModel) -> Option<Self> {
        let mut run = Self {
            ops: Vec::new(),
            arguments: Vec::new(),
            answer: None,
            noted: None,
            noted_operand: None,
            code: Vec::new(),
        };
        if !host::is_supported() {
            return None;
        }
        let mut at = 0;
        while at < bytes.len() && run.ops.len() < MAX_INSTRUCTIONS {
            let instruction = Decoder::with_ip(64, &bytes[at..], 0, DecoderOptions::NONE).decode();
            if !is_candidate(&instruction) {
                break;
            }
            let Ok(decoded) = decode::<Cpu>(&bytes[at..], mode, model) else { break };
            if !decoded.contained || !matches!(decoded.semantics, Semantics::Hard(_)) {
                break;
            }
            if run.add(&instruction, decoded.op).is_none() {
                break;
            }
            at += instruction.len();
        }
        (!run.ops.is_empty()).then_some(run)
    }

    /// The host code, a function that preserves all registers but the one that it returns.
    pub(crate) fn host_code(&self) -> Vec<u8> {
        const RET: u8 = 0xc3;
        [&self.code[..], &[RET]].concat()
    }

    /// Instructions in the run.
    pub(crate) fn instructions(&self) -> usize {
        self.ops.len()
    }

    /// The bytes of the run.
    pub(crate) fn bytes(&self) -> usize {
        self.ops.iter().map(|op| usize::from(op.length)).sum()
    }

    /// Adds an instruction. None if it must be in another run, or in none.
    fn add(&mut self, instruction: &Instruction, op: Op) -> Option<()> {
        let way = self.way(instruction)?;
        let number = self.ops.len();
        if notes_itself(instruction) {
            self.noted = Some(number);
            if memory_bytes(instruction) != 0 {
                self.noted_operand = Some(number);
            }
        }
        self.ops.push(op);
        match way {
            Way::Nothing => {}
            Way::Same { argument, answer } => {
                let register = argument.map(|argument| self.argument(argument));
                self.encode(&rewritten(instruction, register));
                self.answer = self.answer.or(answer);
            }
            Way::Move { condition } => {
                let register = self.argument(Argument::Condition(condition));
                let test = Instruction::with2(Code::Test_rm64_r64, register, register).ok()?;
                self.encode(&test);
                let code = Code::Fcmovne_st0_sti;
                let moves = Instruction::with2(code, Register::ST0, instruction.op1_register()).ok()?;
                self.encode(&moves);
            }
            Way::Compare => {
                self.encode(instruction);
                self.encode(&Instruction::with(Code::Lahf));
                self.answer = Some(Answer::Flags);
            }
        }
        Some(())
    }

    fn argument(&mut self, argument: Argument) -> Register {
        self.arguments.push(argument);
        ARGUMENTS[self.arguments.len() - 1]
    }

    fn encode(&mut self, instruction: &Instruction) {
        let mut encoder = Encoder::new(64);
        let encoded = encoder.encode(instruction, 0);
        assert!(encoded.is_ok(), "what was decoded can be encoded: {instruction:?}");
        self.code.extend(encoder.take_buffer());
    }

    fn way(&self, instruction: &Instruction) -> Option<Way> {
        let code = instruction.code();
        if code == Code::Wait {
            return Some(Way::Nothing);
        }
        let is_answered = self.answer.is_some();
        let has_room = self.arguments.len() < ARGUMENTS.len();
        if compares(code) {
            return (!is_answered).then_some(Way::Compare);
        }
        if let Some(condition) = moved_if(code) {
            // The host's flags are still those of the run's own comparison.
            return match self.answer {
                Some(Answer::Flags) => Some(Way::Same { argument: None, answer: None }),
                _ => (has_room && condition >> 1 != 5).then_some(Way::Move { condition }),
            };
        }
        let op = self.ops.len();
        let bytes = memory_bytes(instruction);
        let written = instruction.op0_register();
        let answer = match () {
            () if code == Code::Fnstsw_AX => Some(Answer::Word),
            () if written.is_gpr() => Some(Answer::Register(written.full_register().number() as u8)),
            () => None,
        };
        let read = instruction.op1_register();
        let argument = match () {
            () if code == Code::Fldcw_m2byte => Some(Argument::ControlWord { op }),
            () if bytes != 0 => Some(Argument::Operand { op, bytes, writes: writes_memory(instruction) }),
            () if read.is_gpr() => Some(Argument::Register(read.full_register().number() as u8)),
            () => None,
        };
        // What a run computes is known only behind it, and it may have stored the control word that it loads.
        let general = matches!(self.answer, Some(Answer::Register(_) | Answer::Word));
        let fits = !(general || is_answered && answer.is_some())
            && (has_room || argument.is_none())
            && (code != Code::Fldcw_m2byte || !self.stores());
        fits.then_some(Way::Same { argument, answer })
    }

    fn stores(&self) -> bool {
        self.arguments.iter().any(|argument| matches!(argument, Argument::Operand { writes: true, .. }))
    }
}

/// The instruction with its memory operand where `register` says, or with that general register; what it writes to a
/// general register goes to RAX.
fn rewritten(instruction: &Instruction, register: Option<Register>) -> Instruction {
    let mut rewritten = *instruction;
    let sized = |register: Register, like: Register| match like.size() {
        8 => register,
        _ => register.full_register32(),
    };
    for i in 0..instruction.op_count() {
        let operand = instruction.op_register(i);
        match instruction.op_kind(i) {
            OpKind::Memory => {
                let at = MemoryOperand::with_base(register.unwrap_or(Register::RDI));
                rewritten.set_memory_base(at.base);
                rewritten.set_memory_index(Register::None);
                rewritten.set_memory_index_scale(1);
                rewritten.set_memory_displacement64(0);
                rewritten.set_memory_displ_size(0);
                rewritten.set_segment_prefix(Register::None);
            }
            OpKind::Register if operand.is_gpr() && instruction.code() != Code::Fnstsw_AX => {
                let place = if i == 0 { Register::RAX } else { register.unwrap_or(Register::RDI) };
                rewritten.set_op_register(i, sized(place, operand));
            }
            _ => {}
        }
    }
    rewritten
}

/// Whether it is an x87 or MMX instruction that touches nothing but these registers, flags, a memory operand and a general
/// register, and that an x87 with all exceptions masked executes as rx86 does.
fn is_candidate(instruction: &Instruction) -> bool {
    use Code::*;
    let code = instruction.code();
    if matches!(code, Wait | Emms) {
        return true;
    }
    let operands = (0..instruction.op_count()).all(|i| match instruction.op_kind(i) {
        OpKind::Register => {
            let register = instruction.op_register(i);
            register.is_st() || register.is_mm() || register.is_gpr()
        }
        OpKind::Memory => instruction.memory_size().size() <= 10 && instruction.memory_size().size() != 0,
        kind => kind == OpKind::Immediate8,
    });
    let is_x87 = is_x87(instruction)
        && !matches!(
            code,
            Fninit
                | Fneni
                | Fndisi
                | Fnsetpm
                | Frstpm
                | Fnstdw_AX
                | Fnstsg_AX
                | Fstpnce_sti
                | Fldenv_m14byte
                | Fldenv_m28byte
                | Fnstenv_m14byte
                | Fnstenv_m28byte
                | Fnsave_m94byte
                | Fnsave_m108byte
                | Frstor_m94byte
                | Frstor_m108byte
        );
    operands && (is_x87 || is_mmx(instruction))
}

/// Whether an instruction is one of the x87's, whatever it may do.
fn is_x87(instruction: &Instruction) -> bool {
    let is_fpu = |feature: &CpuidFeature| {
        matches!(feature, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387)
    };
    let fisttp =
        matches!(instruction.code(), Code::Fisttp_m16int | Code::Fisttp_m32int | Code::Fisttp_m64int);
    fisttp || instruction.cpuid_features().iter().any(is_fpu)
}

/// Whether it computes with MMX registers.
fn is_mmx(instruction: &Instruction) -> bool {
    let has_one = (0..instruction.op_count()).any(|i| instruction.op_register(i).is_mm());
    let of_host = |feature: &CpuidFeature| {
        use CpuidFeature::{MMX, SSE, SSE2, SSSE3, X64};
        matches!(feature, MMX | SSE | SSE2 | SSSE3 | X64)
    };
    has_one && instruction.cpuid_features().iter().all(of_host)
}

/// Whether an instruction may use x87 or MMX registers: all that is not known to do without.
pub(crate) fn may_use(instruction: &Instruction) -> bool {
    let is_vector = |i: u32| {
        let register = instruction.op_register(i);
        register.is_gpr()
            || register.is_xmm()
            || register.is_ymm()
            || instruction.op_kind(i) == OpKind::Immediate8
    };
    let only_vectors = instruction.op_count() != 0 && (0..instruction.op_count()).all(is_vector);
    let extended = instruction.encoding() != iced_x86::EncodingKind::Legacy;
    !(only_vectors || extended || instruction.is_string_instruction()) || is_x87(instruction)
}

/// Whether it notes its address: the x87's do, but for control instructions.
fn notes_itself(instruction: &Instruction) -> bool {
    use Code::*;
    let controls = matches!(
        instruction.code(),
        Wait | Fnclex | Fldcw_m2byte | Fnstcw_m2byte | Fnstsw_m2byte | Fnstsw_AX | Emms
    );
    is_x87(instruction) && !controls
}

/// Bytes of the memory operand; zero if there is none.
fn memory_bytes(instruction: &Instruction) -> u64 {
    let has_one = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    if has_one { instruction.memory_size().size() as u64 } else { 0 }
}

/// Whether the memory operand is written. It is then the first operand, which MMX instructions have in a register else.
fn writes_memory(instruction: &Instruction) -> bool {
    use iced_x86::Mnemonic::*;
    let stores =
        matches!(instruction.mnemonic(), Fst | Fstp | Fist | Fistp | Fisttp | Fbstp | Fnstcw | Fnstsw);
    let is_mmx = (0..instruction.op_count()).any(|i| instruction.op_register(i).is_mm());
    stores || is_mmx && instruction.op0_kind() == OpKind::Memory
}

fn compares(code: Code) -> bool {
    matches!(code, Code::Fcomi_st0_sti | Code::Fcomip_st0_sti | Code::Fucomi_st0_sti | Code::Fucomip_st0_sti)
}

/// FCMOVcc's condition.
fn moved_if(code: Code) -> Option<u8> {
    Some(match code {
        Code::Fcmovb_st0_sti => 2,
        Code::Fcmovnb_st0_sti => 3,
        Code::Fcmove_st0_sti => 4,
        Code::Fcmovne_st0_sti => 5,
        Code::Fcmovbe_st0_sti => 6,
        Code::Fcmovnbe_st0_sti => 7,
        Code::Fcmovu_st0_sti => 10,
        Code::Fcmovnu_st0_sti => 11,
        _ => return None,
    })
}
