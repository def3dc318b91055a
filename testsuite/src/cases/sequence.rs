//! Generated programs of several instructions: registers, flags and memory flow from one to the next.
//!
//! What one oracle may leave otherwise than the other must not reach a register: an instruction that reads a flag which
//! the manual leaves undefined is not chosen, and neither are instructions whose results are approximations.

use super::family::{Family, shape_of};
use super::form::{inputs, operands};
use super::known::flag_bits;
use super::random::Random;
use crate::oracle::{CODE_MAX, Mode, PAGE, Program};
use iced_x86::{
    Code, CpuidFeature, Encoder, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    RflagsBits,
};

/// The longest program in instructions.
pub const LENGTH_MAX: u64 = 8;
/// How often another instruction is tried for a place.
const ATTEMPTS: u32 = 12;

/// Whether a form may be part of a sequence.
pub fn is_fit(code: Code) -> bool {
    use Mnemonic::*;
    let approximate = matches!(
        code.mnemonic(),
        Rcpps
            | Rcpss
            | Rsqrtps
            | Rsqrtss
            | Vrcpps
            | Vrcpss
            | Vrsqrtps
            | Vrsqrtss
            | F2xm1
            | Fyl2x
            | Fyl2xp1
            | Fptan
            | Fpatan
            | Fsin
            | Fcos
            | Fsincos
    );
    // Where the manual promises too little about the results, or about which fault comes first.
    let vague = matches!(
        code.mnemonic(),
        Fnstenv
            | Fstenv
            | Fnsave
            | Fsave
            | Fldenv
            | Frstor
            | Cvtpi2ps
            | Cvtps2pi
            | Cvttps2pi
            | Cvtpd2pi
            | Cvttpd2pi
            | Shld
            | Shrd
            | Movsxd
            | Bswap
            | Maskmovq
            | Maskmovdqu
            | Vmaskmovdqu
            | Ldmxcsr
            | Vldmxcsr
            | Call
    );
    // Whether their memory operands must be aligned differs between vendors.
    let sha = code.cpuid_features().contains(&CpuidFeature::SHA);
    !approximate && !vague && !sha
}

/// The flags, as iced-x86's bits, that are undefined after `instruction` if `before` were before it.
fn undefined_after(instruction: &Instruction, before: u32) -> u32 {
    use Mnemonic::*;
    let defined = instruction.rflags_written() | instruction.rflags_cleared() | instruction.rflags_set();
    let undefined = instruction.rflags_undefined();
    match instruction.mnemonic() {
        // With a count of zero the flags stay as they are, and OF is defined for a count of one only.
        Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar | Shld | Shrd => before | undefined | RflagsBits::OF,
        // The same with RCX.
        _ if instruction.is_string_instruction() => before | undefined,
        _ => before & !defined | undefined,
    }
}

/// The status flags that a program may leave undefined, as bits of RFLAGS: after its last instruction, or, if it has not
/// `ended` there, after any of them.
pub fn undefined_flags(instructions: &[Instruction], ended: bool) -> u64 {
    let (mut undefined, mut ever) = (0, 0);
    for instruction in instructions {
        undefined = undefined_after(instruction, undefined);
        ever |= undefined;
    }
    flag_bits(if ended { undefined } else { ever })
}

/// A program in the making.
struct Sequence {
    program: Program,
    codes: Vec<Code>,
    /// Undefined flags, as iced-x86's bits.
    undefined: u32,
    /// General registers that were written, or that memory operands depend on: inputs that must not change any more.
    fixed: u32,
    info: InstructionInfoFactory,
}

impl Sequence {
    /// Appends an instruction of the form `code`. False if it does not suit what is there.
    fn append(&mut self, code: Code, random: &mut Random) -> bool {
        let here = self.program.ip() + self.program.code.len() as u64;
        let mut program = self.program.clone();
        let Some(instruction) = operands(code, &mut program, here, random) else { return false };
        if instruction.rflags_read() & self.undefined != 0 {
            return false;
        }
        let gpr = |program: &Program, i: usize| program.state.gpr[i];
        let changed = (0..16).filter(|&i| gpr(&program, i) != gpr(&self.program, i));
        let changed = changed.fold(0u32, |all, i| all | 1 << i);
        if changed & self.fixed != 0 {
            return false;
        }
        let mut encoder = Encoder::new(program.mode.bits());
        if encoder.encode(&instruction, here).is_err() {
            return false;
        }
        let bytes = encoder.take_buffer();
        if program.code.len() + bytes.len() > CODE_MAX {
            return false;
        }
        program.code.extend(bytes);
        self.fixed |= changed | self.written(&instruction);
        self.undefined = undefined_after(&instruction, self.undefined);
        self.program = program;
        self.codes.push(code);
        true
    }

    /// The general registers that `instruction` writes.
    fn written(&mut self, instruction: &Instruction) -> u32 {
        let writes = |access| {
            use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
            matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
        };
        let info = self.info.info(instruction);
        let registers = info.used_registers().iter().filter(|used| writes(used.access()));
        registers
            .map(|used| used.register().full_register())
            .filter(|register| register.is_gpr())
            .fold(0, |all, register| all | 1 << register.number())
    }
}

/// A program of 2 to 8 instructions of the given forms, with those forms. `None` if hardly any suit each other.
pub fn generate(forms: &[Code], mode: Mode, random: &mut Random) -> Option<(Vec<Code>, Program)> {
    let length = 2 + random.below(LENGTH_MAX - 1);
    let family = shape_of(random.pick(forms), mode)?;
    // x87 and MMX registers are the same ones: the family that sets them is chosen at random.
    let families = [Family::Sse, if family == Family::Mmx { Family::Mmx } else { Family::X87 }];
    let mut program = inputs(mode, &families, random);
    if program.at != PAGE / 2 {
        // More of the program in the first page than of single instructions.
        program.at -= random.below(48) as usize;
    }
    let mut sequence =
        Sequence { program, codes: Vec::new(), undefined: 0, fixed: 0, info: InstructionInfoFactory::new() };
    for place in 1..=length {
        for _ in 0..ATTEMPTS {
            let code = random.pick(forms);
            let branch = !matches!(code.flow_control(), FlowControl::Next);
            if is_fit(code) && (!branch || place == length) && sequence.append(code, random) {
                break;
            }
        }
    }
    (sequence.codes.len() > 1).then_some((sequence.codes, sequence.program))
}
