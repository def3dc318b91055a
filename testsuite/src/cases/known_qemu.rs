//! Where QEMU's TCG (7.2) and rx86 are known to disagree about instructions, and whom the SDM supports.

use super::compare::{Difference, Place};
use super::family::{Family, shape_of};
use super::known::{instruction_of, instructions_of, is_sequence};
use crate::oracle::{BREAKPOINT, Mode, Outcome, Program};
use crate::system::known::Right;
use iced_x86::Mnemonic::*;
use iced_x86::{Code, CpuidFeature, EncodingKind, FlowControl, Instruction, Mnemonic, OpCodeTableKind};

/// One disagreement. It must show up; if it no longer does, the test fails.
pub struct Known {
    /// What it is about, in a few words.
    pub name: &'static str,
    /// Who is right.
    pub right: Right,
    /// Why, with the SDM's section.
    pub reason: &'static str,
    /// Whether this difference is one of it.
    pub explains: fn(&Look<'_>, &Difference) -> bool,
}

/// A case on which they disagree.
pub struct Look<'a> {
    /// The instruction that it is about: of a sequence the one that faulted, or the last one.
    pub instruction: Instruction,
    /// The case.
    pub program: &'a Program,
    /// QEMU's outcome.
    pub qemu: &'a Outcome,
    /// rx86's outcome.
    pub rx86: &'a Outcome,
}

impl Look<'_> {
    /// Exceptions on QEMU and on rx86.
    fn vectors(&self) -> (u32, u32) {
        (self.qemu.ending.vector, self.rx86.ending.vector)
    }

    /// Whether it is an x87 instruction.
    fn x87(&self) -> bool {
        let features = self.instruction.code().cpuid_features();
        self.instruction.mnemonic() == Mnemonic::Wait
            || features
                .iter()
                .any(|f| matches!(f, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387))
    }

    /// Whether some operand is, or may be, an MMX register.
    fn mmx(&self) -> bool {
        (0..self.instruction.op_count()).any(|i| self.instruction.op_register(i).is_mm())
    }
}

/// A difference in bits of the x87 status word only.
fn fsw_bits(difference: &Difference, bits: u128) -> bool {
    difference.place == Place::Fsw && (difference.left ^ difference.right) & !bits == 0
}

/// Whether it is in a vector register.
fn vector(difference: &Difference) -> bool {
    matches!(difference.place, Place::Xmm(_) | Place::YmmHigh(_))
}

/// Whether all lanes of 32 or 64 bits that differ are NaNs on both sides.
fn differ_in_nans(difference: &Difference, bits: u32) -> bool {
    let fraction = if bits == 32 { 23 } else { 52 };
    let lane = |value: u128, at: u32| (value >> (at * bits)) as u64 & (u64::MAX >> (64 - bits));
    let infinity = (1 << (bits - 1)) - (1 << fraction);
    let nan = |value: u64| value & ((1 << (bits - 1)) - 1) > infinity;
    (0..128 / bits).all(|at| {
        let (left, right) = (lane(difference.left, at), lane(difference.right, at));
        left == right || nan(left) && nan(right)
    })
}

fn is_vex(code: Code) -> bool {
    code.encoding() == EncodingKind::VEX
}

const UD: u32 = 6;
const PF: u32 = 14;
const XM: u32 = 19;
const GP: u32 = 13;
const SS: u32 = 12;

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        name: "VEX in 16-bit code",
        right: Right::Rx86,
        reason: "it is #UD in real-address and virtual-8086 mode, not in 16-bit code of protected mode (SDM vol. 2, 2.3); \
                 QEMU takes it for LES and LDS",
        explains: |look, _| {
            look.program.mode == Mode::Bits16
                && is_vex(look.instruction.code())
                && look.qemu.ending.vector == UD
        },
    },
    Known {
        name: "limits and types of segments",
        right: Right::Rx86,
        reason: "outside 64-bit mode an access beyond the limit, or a store through CS, is #GP(0) or #SS(0) (SDM vol. 3, 5.3 \
                 and 5.5); QEMU does not look",
        explains: |look, _| {
            let (qemu, rx86) = look.vectors();
            look.program.mode != Mode::Bits64 && qemu != rx86 && matches!(rx86, GP | SS)
        },
    },
    Known {
        name: "VZEROALL and VZEROUPPER outside 64-bit mode",
        right: Right::Rx86,
        reason: "they leave YMM8 to YMM15 alone (SDM vol. 2, VZEROALL)",
        explains: |look, difference| {
            let high = matches!(difference.place, Place::Xmm(8..) | Place::YmmHigh(8..));
            high && look.program.mode != Mode::Bits64
                && matches!(look.instruction.mnemonic(), Vzeroall | Vzeroupper)
        },
    },
    Known {
        name: "MOVBE and CRC32 in 16-bit code",
        right: Right::Rx86,
        reason: "without a prefix their operand has 16 bits (SDM vol. 1, 3.6); QEMU takes 32",
        explains: |look, _| {
            look.program.mode == Mode::Bits16 && matches!(look.instruction.mnemonic(), Movbe | Crc32)
        },
    },
    Known {
        name: "CLFLUSH, CLFLUSHOPT and CLWB",
        right: Right::Rx86,
        reason: "they fault as a load (SDM vol. 2, CLFLUSH); QEMU does not look",
        explains: |look, _| {
            matches!(look.instruction.mnemonic(), Clflush | Clflushopt | Clwb)
                && matches!(look.vectors(), (BREAKPOINT, SS | GP | PF))
        },
    },
    Known {
        name: "the order of PUSHA's stores",
        right: Right::Either,
        reason: "the SDM does not say which of several faulting addresses is reported",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Pusha | Pushad)
                && look.vectors() == (PF, PF)
                && matches!(difference.place, Place::Address | Place::ErrorCode)
        },
    },
    Known {
        name: "gathers with a register twice",
        right: Right::Rx86,
        reason: "destination, indices and mask are different registers, otherwise #UD (SDM vol. 2, VGATHERDPS)",
        explains: |look, _| look.instruction.is_invalid() && look.rx86.ending.vector == UD,
    },
    Known {
        name: "MXCSR.DE",
        right: Right::Rx86,
        reason: "a denormal operand sets DE (SDM vol. 1, 11.5.2.2); QEMU never does",
        explains: |_, difference| {
            difference.place == Place::Mxcsr
                && (difference.left, difference.right ^ difference.left) == (difference.right & !2, 2)
        },
    },
    Known {
        name: "#XM",
        right: Right::Rx86,
        reason: "an unmasked SIMD floating-point exception is #XM (SDM vol. 1, 11.5.3); QEMU never raises it",
        explains: |look, _| look.rx86.ending.vector == XM && look.qemu.ending.vector != XM,
    },
    Known {
        name: "operands of 16 bytes that are not aligned",
        right: Right::Rx86,
        reason: "they are #GP(0) in legacy SSE encodings (SDM vol. 2, 2.4, exceptions of type 4); QEMU checks moves only",
        explains: |look, _| {
            matches!(look.vectors(), (BREAKPOINT | PF, GP)) && look.instruction.memory_size().size() == 16
        },
    },
    Known {
        name: "an operand that is not canonical to its end",
        right: Right::Rx86,
        reason: "it is #GP(0) before any page fault (SDM vol. 1, 3.3.7.1), as on the host's CPU",
        explains: |look, _| matches!(look.vectors(), (PF, GP | SS)) && look.qemu.ending.address >> 40 != 0,
    },
    Known {
        name: "an address in SS that is not canonical",
        right: Right::Rx86,
        reason: "it is #SS(0) (SDM vol. 1, 3.3.7.1)",
        explains: |look, _| look.vectors() == (GP, SS),
    },
    Known {
        name: "instructions that read and write their operand",
        right: Right::Rx86,
        reason: "they fault as writes (SDM vol. 3, 4.7); QEMU reads first",
        explains: |look, difference| {
            let writes = look.vectors() == (PF, PF)
                && look.rx86.ending.error_code & !look.qemu.ending.error_code & 2 != 0;
            writes && matches!(difference.place, Place::ErrorCode | Place::Address)
        },
    },
    Known {
        name: "x87 stack faults",
        right: Right::Rx86,
        reason: "an empty source and a full destination are #IS (SDM vol. 1, 8.5.1.1); QEMU computes with what is there",
        explains: |look, _| look.x87() && look.rx86.state.fsw() & 0x40 != 0,
    },
    Known {
        name: "unmasked x87 exceptions",
        right: Right::Rx86,
        reason: "invalid operations, denormal operands and divisions by zero leave operands and stack as they were if they are \
                 unmasked (SDM vol. 1, 8.5); QEMU sets ES and goes on as if they were masked",
        explains: |look, _| {
            let state = &look.rx86.state;
            look.x87() && state.fsw() & !state.fcw() & 0x3f != 0
        },
    },
    Known {
        name: "C1 as the direction of rounding",
        right: Right::Rx86,
        reason: "C1 tells whether the last rounding was up (SDM vol. 1, 8.1.3.3); QEMU leaves it clear",
        explains: |look, difference| look.x87() && fsw_bits(difference, 0x200),
    },
    Known {
        name: "denormal operands of x87 instructions",
        right: Right::Rx86,
        reason: "a denormal operand sets DE (SDM vol. 1, 8.5.2); QEMU does so for few instructions",
        explains: |look, difference| look.x87() && fsw_bits(difference, 0x202),
    },
    Known {
        name: "transcendental x87 instructions",
        right: Right::Rx86,
        reason: "the error is below 1 ulp, and exceptions and C2 follow the operands (SDM vol. 1, 8.3.10); QEMU computes \
                 some of them in double precision",
        explains: |look, difference| {
            let place = matches!(difference.place, Place::St(_) | Place::Fsw | Place::Ftw);
            place
                && matches!(
                    look.instruction.mnemonic(),
                    F2xm1 | Fyl2x | Fyl2xp1 | Fptan | Fpatan | Fsin | Fcos | Fsincos
                )
        },
    },
    Known {
        name: "page faults of MMX instructions",
        right: Right::Rx86,
        reason: "a faulting instruction changes nothing (SDM vol. 3, 6.5); QEMU enters MMX state before the access",
        explains: |look, difference| {
            let x87 = matches!(difference.place, Place::Fsw | Place::Ftw | Place::St(_));
            x87 && look.mmx() && look.rx86.faulted()
        },
    },
    Known {
        name: "EMMS",
        right: Right::Rx86,
        reason: "it clears TOP (SDM vol. 3, 12.2, table 12-2); QEMU leaves it",
        explains: |look, difference| {
            look.instruction.mnemonic() == Emms && matches!(difference.place, Place::Fsw | Place::St(_))
        },
    },
    Known {
        name: "MOVDQ2Q",
        right: Right::Rx86,
        reason: "bits 64 to 79 of the x87 register become ones (SDM vol. 3, 12.2); QEMU leaves them",
        explains: |look, difference| {
            look.instruction.mnemonic() == Movdq2q && matches!(difference.place, Place::St(_))
        },
    },
    Known {
        name: "reserved bits of the x87 control word",
        right: Right::Either,
        reason: "bits 6, 7 and 13 to 15 are reserved (SDM vol. 1, 8.1.5); processors read bit 6 as one and the others as \
                 zero, QEMU as they were written",
        explains: |_, difference| {
            difference.place == Place::Fcw && (difference.left ^ difference.right) & !0xe0c0 == 0
        },
    },
    Known {
        name: "precision control",
        right: Right::Rx86,
        reason: "it concerns the results of FADD, FSUB, FMUL, FDIV and FSQRT alone (SDM vol. 1, 8.1.5.2); QEMU rounds their \
                 operands in memory and the results of others too",
        explains: |look, difference| {
            let limited = look.program.state.fcw() & 0x300 != 0x300;
            limited && look.x87() && matches!(difference.place, Place::St(_) | Place::Fsw)
        },
    },
    Known {
        name: "condition codes that are undefined",
        right: Right::Either,
        reason: "most instructions leave C0, C2 and C3 undefined (SDM vol. 1, 8.1.3.1), and FPREM does so for operands that \
                 are invalid; rx86 leaves what processors leave",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Fprem | Fprem1 | Fsqrt | Fincstp | Fdecstp | Fstpnce | Fxam)
                && fsw_bits(difference, 0x4702)
        },
    },
    Known {
        name: "faults of stores that convert",
        right: Right::Rx86,
        reason: "a faulting instruction changes nothing (SDM vol. 3, 6.5); QEMU sets the flags of the conversion before it \
                 stores",
        explains: |look, difference| {
            let flags = look.x87() && difference.place == Place::Fsw
                || look.instruction.mnemonic() == Vcvtps2ph && difference.place == Place::Mxcsr;
            flags && look.rx86.faulted() && look.vectors().0 == look.vectors().1
        },
    },
    Known {
        name: "faults of FRSTOR and FLDENV",
        right: Right::Rx86,
        reason: "a faulting instruction changes nothing (SDM vol. 3, 6.5); QEMU loads word by word, and FLDENV skips the \
                 pointers",
        explains: |look, _| {
            matches!(look.instruction.mnemonic(), Frstor | Fldenv) && look.rx86.ending.vector == PF
        },
    },
    Known {
        name: "ES and B after FRSTOR and FLDENV",
        right: Right::Rx86,
        reason: "they follow from the flags and their masks (SDM vol. 1, 8.1.3.3); QEMU loads them as they are",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Frstor | Fldenv) && fsw_bits(difference, 0x8080)
        },
    },
    Known {
        name: "FNSTENV's masks",
        right: Right::Rx86,
        reason: "it masks all exceptions behind the store, so that none is pending (SDM vol. 2, FSTENV); QEMU does not",
        explains: |look, difference| {
            let masked = difference.place == Place::Fcw && difference.right == difference.left | 0x7f;
            matches!(look.instruction.mnemonic(), Fnstenv | Fstenv)
                && (masked || fsw_bits(difference, 0x8080))
        },
    },
    Known {
        name: "FSTPNCE",
        right: Right::Either,
        reason: "the SDM has no such instruction; with an empty ST(0) processors store nothing, QEMU stores what is there",
        explains: |look, difference| {
            look.instruction.mnemonic() == Fstpnce
                && matches!(difference.place, Place::Fsw | Place::St(_) | Place::Ftw)
        },
    },
    Known {
        name: "addresses of BCD operands",
        right: Right::Either,
        reason: "the SDM does not say in which order the bytes of FBLD and FBSTP are accessed",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Fbld | Fbstp)
                && look.vectors() == (PF, PF)
                && matches!(difference.place, Place::Address | Place::ErrorCode)
        },
    },
    Known {
        name: "FST to an empty register",
        right: Right::Rx86,
        reason: "the register is in use then (SDM vol. 2, FST); QEMU leaves its tag",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Fst | Fstp | Fstpnce) && difference.place == Place::Ftw
        },
    },
    Known {
        name: "OF, SF and AF after FCOMI",
        right: Right::Rx86,
        reason: "they are cleared (SDM vol. 2, FCOMI); QEMU leaves them",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Fcomi | Fcomip | Fucomi | Fucomip)
                && difference.place == Place::Flags
                && (difference.left ^ difference.right) & !0x890 == 0
        },
    },
    Known {
        name: "CVTPI2PS and CVTPI2PD from memory",
        right: Right::Either,
        reason: "the x87 registers enter MMX state for a register source (SDM vol. 2, CVTPI2PD); processors leave them alone \
                 for memory, QEMU does not",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Cvtpi2ps | Cvtpi2pd)
                && matches!(difference.place, Place::Fsw | Place::Ftw | Place::St(_))
        },
    },
    Known {
        name: "which of two NaNs is the result",
        right: Right::Rx86,
        reason: "with SSE the first source's, with the x87 the quiet one's (SDM vol. 1, table 4-7); QEMU takes the larger \
                 significand",
        explains: |look, difference| {
            let nan = |value: u128| value >> 64 & 0x7fff == 0x7fff && value as u64 & u64::MAX >> 1 != 0;
            match difference.place {
                Place::St(_) => look.x87() && nan(difference.left) && nan(difference.right),
                _ => vector(difference) && (differ_in_nans(difference, 32) || differ_in_nans(difference, 64)),
            }
        },
    },
    Known {
        name: "MIN and MAX of denormal operands with DAZ",
        right: Right::Rx86,
        reason: "the operand that is returned has been made zero (SDM vol. 1, 10.2.3.4); QEMU returns it as it was",
        explains: |look, difference| {
            let min_max = matches!(
                look.instruction.mnemonic(),
                Minps
                    | Minss
                    | Minpd
                    | Minsd
                    | Maxps
                    | Maxss
                    | Maxpd
                    | Maxsd
                    | Vminps
                    | Vminss
                    | Vminpd
                    | Vminsd
                    | Vmaxps
                    | Vmaxss
                    | Vmaxpd
                    | Vmaxsd
            );
            min_max && look.program.state.mxcsr() & 0x40 != 0 && vector(difference)
        },
    },
    Known {
        name: "half-precision numbers with DAZ and FTZ",
        right: Right::Rx86,
        reason: "F16C's conversions heed neither for half-precision numbers (SDM vol. 2, VCVTPH2PS and VCVTPS2PH)",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Vcvtph2ps | Vcvtps2ph)
                && look.program.state.mxcsr() & 0x8040 != 0
                && (vector(difference) || matches!(difference.place, Place::Memory(_) | Place::Mxcsr))
        },
    },
    Known {
        name: "FTZ and what becomes normal by rounding",
        right: Right::Rx86,
        reason: "a result is tiny if it is so after rounding (SDM vol. 1, 4.9.1.5); with FTZ, QEMU flushes before it",
        explains: |look, difference| {
            let underflow = difference.place == Place::Mxcsr
                && difference.left & !difference.right == 0x10
                && difference.right & !difference.left & !2 == 0;
            look.program.state.mxcsr() & 0x8000 != 0 && (vector(difference) || underflow)
        },
    },
    Known {
        name: "reads of more than the operand",
        right: Right::Rx86,
        reason: "scalar operands and elements that are not masked are all that is read (SDM vol. 2, VFMADD132SD and \
                 VMASKMOVPS); QEMU reads a whole vector",
        explains: |look, _| {
            let features = look.instruction.code().cpuid_features();
            matches!(look.vectors(), (PF | GP, BREAKPOINT))
                && features.iter().all(|&f| f != CpuidFeature::INTEL8086)
        },
    },
    Known {
        name: "TEST with 1 in ModRM.reg",
        right: Right::Either,
        reason: "the SDM has no such form, processors execute it as the one with 0, QEMU raises #UD",
        explains: |look, _| {
            use Code::{
                Test_rm8_imm8_F6r1, Test_rm16_imm16_F7r1, Test_rm32_imm32_F7r1, Test_rm64_imm32_F7r1,
            };
            let code = look.instruction.code();
            matches!(
                code,
                Test_rm8_imm8_F6r1 | Test_rm16_imm16_F7r1 | Test_rm32_imm32_F7r1 | Test_rm64_imm32_F7r1
            )
        },
    },
    Known {
        name: "ENTER",
        right: Right::Rx86,
        reason: "it faults if a push at the new stack pointer would (SDM vol. 2, ENTER); QEMU does not look",
        explains: |look, _| look.instruction.mnemonic() == Enter && look.vectors() == (BREAKPOINT, PF),
    },
    Known {
        name: "RET with 32 KiB or more to release",
        right: Right::Rx86,
        reason: "the number has no sign (SDM vol. 2, RET)",
        explains: |look, difference| {
            look.instruction.mnemonic() == Ret
                && difference.place == Place::Gpr(4)
                && look.instruction.immediate16() >> 15 != 0
        },
    },
    Known {
        name: "branches to an address that is not canonical",
        right: Right::Rx86,
        reason: "the branch faults itself (SDM vol. 2, JMP, CALL and RET); QEMU faults at its target",
        explains: |look, _| {
            look.vectors() == (GP, GP) && look.instruction.flow_control() != FlowControl::Next
        },
    },
    Known {
        name: "BLSI",
        right: Right::Rx86,
        reason: "CF is set if the source is not zero (SDM vol. 2, BLSI)",
        explains: |look, difference| look.instruction.mnemonic() == Blsi && difference.place == Place::Flags,
    },
    Known {
        name: "ADCX and ADOX of 32 bits",
        right: Right::Rx86,
        reason: "bits 32 to 63 of the registers do not take part (SDM vol. 2, ADCX and ADOX)",
        explains: |look, difference| {
            matches!(look.instruction.mnemonic(), Adcx | Adox) && difference.place == Place::Flags
        },
    },
    Known {
        name: "page faults of RCL and RCR",
        right: Right::Rx86,
        reason: "a faulting instruction changes no flags (SDM vol. 3, 6.5)",
        explains: |look, difference| {
            let rotation = matches!(look.instruction.mnemonic(), Rcl | Rcr);
            rotation && look.vectors() == (PF, PF) && difference.place == Place::Flags
        },
    },
    Known {
        name: "PCMPESTRI and PCMPESTRM with REX.W",
        right: Right::Rx86,
        reason: "the lengths are in RAX and RDX (SDM vol. 2, PCMPESTRI); QEMU takes EAX and EDX",
        explains: |look, _| {
            matches!(
                look.instruction.code(),
                Code::Pcmpestri64_xmm_xmmm128_imm8
                    | Code::Pcmpestrm64_xmm_xmmm128_imm8
                    | Code::VEX_Vpcmpestri64_xmm_xmmm128_imm8
                    | Code::VEX_Vpcmpestrm64_xmm_xmmm128_imm8
            )
        },
    },
    Known {
        name: "VAES on 256 bits",
        right: Right::Rx86,
        reason: "the two halves are independent of each other (SDM vol. 2, AESENC)",
        explains: |look, difference| {
            look.instruction.op0_register().is_ymm()
                && matches!(look.instruction.mnemonic(), Vaesenc | Vaesenclast | Vaesdec | Vaesdeclast)
                && matches!(difference.place, Place::Xmm(_) | Place::YmmHigh(_))
        },
    },
    Known {
        name: "gathers",
        right: Right::Rx86,
        reason: "indices have signs, and the mask's elements decide one by one what is read (SDM vol. 2, VGATHERDPS)",
        explains: |look, _| look.instruction.is_vsib(),
    },
    Known {
        name: "SHLD and SHRD with an address relative to RIP",
        right: Right::Rx86,
        reason: "it counts from the end of the instruction, immediate included (SDM vol. 2, 2.2.1.6)",
        explains: |look, _| {
            look.instruction.is_ip_rel_memory_operand()
                && matches!(
                    look.instruction.code(),
                    Code::Shld_rm16_r16_imm8
                        | Code::Shld_rm32_r32_imm8
                        | Code::Shld_rm64_r64_imm8
                        | Code::Shrd_rm16_r16_imm8
                        | Code::Shrd_rm32_r32_imm8
                        | Code::Shrd_rm64_r64_imm8
                )
        },
    },
    Known {
        name: "BSF and BSR of zero, 32 bits",
        right: Right::Either,
        reason: "the destination is undefined (SDM vol. 2, BSF); processors leave all 64 bits as they were",
        explains: |look, difference| {
            matches!(look.instruction.code(), Code::Bsf_r32_rm32 | Code::Bsr_r32_rm32)
                && matches!(difference.place, Place::Gpr(_))
                && difference.left == difference.right & 0xffff_ffff
        },
    },
    Known {
        name: "WRFSBASE and WRGSBASE of an address that is not canonical",
        right: Right::Rx86,
        reason: "it is #GP(0) (SDM vol. 2, WRFSBASE)",
        explains: |look, _| {
            matches!(look.instruction.mnemonic(), Wrfsbase | Wrgsbase) && look.vectors() == (BREAKPOINT, GP)
        },
    },
    Known {
        name: "wide stores across pages",
        right: Right::Rx86,
        reason: "a faulting instruction changes nothing (SDM vol. 3, 6.5); QEMU stores eight bytes at a time",
        explains: |look, difference| {
            look.vectors() == (PF, PF)
                && matches!(look.instruction.memory_size().size(), 10 | 16 | 32)
                && matches!(difference.place, Place::Memory(_))
        },
    },
    Known {
        name: "RCPPS, RSQRTPS and their kin",
        right: Right::Rx86,
        reason: "a denormal operand is taken for zero, and a tiny result is zero (SDM vol. 2, RCPPS and RSQRTPS)",
        explains: |look, difference| {
            matches!(
                look.instruction.mnemonic(),
                Rcpps | Rcpss | Rsqrtps | Rsqrtss | Vrcpps | Vrcpss | Vrsqrtps | Vrsqrtss
            ) && matches!(difference.place, Place::Xmm(_) | Place::YmmHigh(_))
        },
    },
];

/// Whether a form may be part of a sequence: QEMU and rx86 agree about its results, so that what comes behind it can be
/// compared.
pub fn is_fit(code: Code) -> bool {
    let test = |op_code: u32, group: i32| {
        code.op_code().op_code() == op_code && code.op_code().group_index() == group
    };
    // After a fault of SETcc or CMPXCHG8B QEMU's flags are not those of the instruction before, or of none.
    let loses_flags = code.op_code().table() == OpCodeTableKind::T0F
        && code.op_code().op_code() & 0xf0 == 0x90
        || matches!(code.mnemonic(), Cmpxchg8b | Cmpxchg16b | Pushf | Pushfd | Pushfq);
    let disputed = matches!(
        code.mnemonic(),
        Blsi | Adcx
            | Adox
            | Bsf
            | Bsr
            | Enter
            | Wrfsbase
            | Wrgsbase
            | Rcl
            | Rcr
            | Clflush
            | Clflushopt
            | Clwb
            | Movbe
            | Crc32
    );
    let family = [Mode::Bits64, Mode::Bits32].into_iter().find_map(|mode| shape_of(code, mode));
    let plain = matches!(family, Some(Family::Integer | Family::String | Family::Branch));
    plain && !disputed && !loses_flags && !is_vex(code) && !test(0xf6, 1) && !test(0xf7, 1)
}

/// The indices of the entries that explain all `differences`; none if one of them is left.
pub fn explained(
    program: &Program,
    qemu: &Outcome,
    rx86: &Outcome,
    differences: &[Difference],
) -> Option<Vec<usize>> {
    let instructions = instructions_of(program);
    let at_fault = instructions.iter().find(|i| qemu.faulted() && i.ip() == qemu.state.rip);
    let instruction = match at_fault.or(instructions.last()) {
        Some(instruction) if is_sequence(&instructions) => *instruction,
        _ => instruction_of(program),
    };
    let look = Look { instruction, program, qemu, rx86 };
    let entry = |difference| KNOWN.iter().position(|known| (known.explains)(&look, difference));
    let mut entries = differences.iter().map(entry).collect::<Option<Vec<usize>>>()?;
    entries.sort_unstable();
    entries.dedup();
    Some(entries)
}
