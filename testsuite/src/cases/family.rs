//! Which instructions are tried, and in which family each of them is.

use crate::oracle::Mode;
use iced_x86::{
    Code, CpuidFeature, EncodingKind, FlowControl, Instruction, Mnemonic, OpCodeInfo, OpCodeOperandKind,
};
use rx86_cpu::features::CpuModel;

/// A family of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// General registers and memory; stack; BMI, ADX and their like.
    Integer,
    /// String instructions, with and without REP.
    String,
    /// Near branches, calls and returns.
    Branch,
    /// Instructions with an MMX register, and EMMS.
    Mmx,
    /// SSE to SSE4.2.
    Sse,
    /// AES, PCLMULQDQ, SHA, GFNI, in all encodings.
    Crypto,
    /// VEX-encoded instructions of AVX.
    Avx,
    /// AVX2 and AVX-VNNI.
    Avx2,
    /// FMA and F16C.
    Fma,
    /// The x87 FPU.
    X87,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 10] = [
        Self::Integer,
        Self::String,
        Self::Branch,
        Self::Mmx,
        Self::Sse,
        Self::Crypto,
        Self::Avx,
        Self::Avx2,
        Self::Fma,
        Self::X87,
    ];

    /// The name on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::String => "string",
            Self::Branch => "branch",
            Self::Mmx => "mmx",
            Self::Sse => "sse",
            Self::Crypto => "crypto",
            Self::Avx => "avx",
            Self::Avx2 => "avx2",
            Self::Fma => "fma",
            Self::X87 => "x87",
        }
    }

    /// The family of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// The family's forms of 64-bit mode that this host has.
    pub fn forms(self) -> Vec<Code> {
        self.forms_in(Mode::Bits64)
    }

    /// The family's forms of `mode` that this host has.
    pub fn forms_in(self, mode: Mode) -> Vec<Code> {
        Code::values().filter(|&code| family_in(code, mode) == Some(self)).collect()
    }
}

/// All forms of `mode` that rx86 implements.
pub fn implemented(mode: Mode) -> Vec<Code> {
    let model = CpuModel::max();
    let offers = |code: &Code| {
        let mut instruction = Instruction::default();
        instruction.set_code(*code);
        let info = code.op_code();
        info.is_instruction() && is_of_mode(info, mode) && model.allows(&instruction)
    };
    Code::values().filter(offers).collect()
}

fn is_of_mode(info: &OpCodeInfo, mode: Mode) -> bool {
    match mode {
        Mode::Bits64 => info.mode64(),
        Mode::Bits32 => info.mode32(),
        Mode::Bits16 => info.mode16(),
    }
}

/// The family of a form; `None` if it is not tried, or if this host does not have it.
pub fn family_in(code: Code, mode: Mode) -> Option<Family> {
    let on_host = code.cpuid_features().iter().all(|&feature| host_has(feature));
    shape_of(code, mode).filter(|_| on_host)
}

/// The family of a form, whether or not this host has it; `None` if it is out of a user program's reach or its result
/// depends on more than the program.
pub fn shape_of(code: Code, mode: Mode) -> Option<Family> {
    let info = code.op_code();
    let tried = info.is_instruction()
        && is_of_mode(info, mode)
        && matches!(info.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
        && !info.must_be_cpl0()
        && !info.is_privileged()
        && !info.is_input_output()
        && !info.is_reserved_nop()
        && !is_far(code)
        && !excluded(code.mnemonic());
    if !tried || info.op_kinds().iter().any(|&kind| !operand_tried(kind, mode)) {
        return None;
    }
    Some(if info.op_kinds().iter().any(|&kind| is_string_operand(kind)) && !is_masked_move(code.mnemonic()) {
        Family::String
    } else if !matches!(code.flow_control(), FlowControl::Next | FlowControl::Exception) {
        // Intel ignores the operand-size prefix of near branches in 64-bit mode, AMD does not. In 32-bit code it leads to
        // the first 64 KiB, where nothing is.
        if info.operand_size() == 16 && mode != Mode::Bits16 {
            return None;
        }
        Family::Branch
    } else if code.mnemonic() == Mnemonic::Emms || info.op_kinds().iter().any(|&kind| is_mmx_operand(kind)) {
        Family::Mmx
    } else if code.mnemonic() == Mnemonic::Wait || code.cpuid_features().iter().any(|&f| is_x87(f)) {
        Family::X87
    } else if code.cpuid_features().iter().any(|&f| is_crypto(f)) {
        Family::Crypto
    } else if code.cpuid_features().iter().any(|&f| is_fma(f)) {
        Family::Fma
    } else if code.cpuid_features().iter().any(|&f| is_avx2(f)) {
        Family::Avx2
    } else if code.cpuid_features().contains(&CpuidFeature::AVX) {
        Family::Avx
    } else if code.cpuid_features().iter().any(|&f| is_sse(f)) {
        Family::Sse
    } else {
        Family::Integer
    })
}

/// Far jumps and calls through memory.
fn is_far(code: Code) -> bool {
    use Code::*;
    matches!(code, Jmp_m1616 | Jmp_m1632 | Jmp_m1664 | Call_m1616 | Call_m1632 | Call_m1664)
}

fn is_masked_move(mnemonic: Mnemonic) -> bool {
    matches!(mnemonic, Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu)
}

fn is_mmx_operand(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind::*;
    matches!(kind, mm_reg | mm_rm | mm_or_mem)
}

fn is_string_operand(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind::*;
    matches!(kind, seg_rSI | es_rDI | seg_rDI)
}

/// Operands that are out of reach of a user program, or that have no meaning in a single case.
fn operand_tried(kind: OpCodeOperandKind, mode: Mode) -> bool {
    use OpCodeOperandKind::*;
    match kind {
        br16_1 | br16_2 => mode == Mode::Bits16,
        seg_reg | cr_reg | dr_reg | tr_reg | es | cs | ss | ds | fs | gs | farbr2_2 | farbr4_2 => false,
        _ => true,
    }
}

fn is_x87(feature: CpuidFeature) -> bool {
    matches!(feature, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387)
}

fn is_sse(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(feature, SSE | SSE2 | SSE3 | SSSE3 | SSE4_1 | SSE4_2)
}

fn is_crypto(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(feature, AES | PCLMULQDQ | SHA | GFNI | VAES | VPCLMULQDQ)
}

fn is_fma(feature: CpuidFeature) -> bool {
    matches!(feature, CpuidFeature::FMA | CpuidFeature::F16C)
}

fn is_avx2(feature: CpuidFeature) -> bool {
    matches!(feature, CpuidFeature::AVX2 | CpuidFeature::AVX_VNNI)
}

/// Instructions whose results depend on the machine and the moment, or which leave the program.
fn excluded(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Cpuid | Rdtsc | Rdtscp | Rdpmc | Syscall | Sysenter | Sysexit | Sysret | Int | Int1 | Int3 | Into
            // Far transfers and system tables.
            | Iret | Iretd | Iretq | Retf | Sgdt | Sidt | Sldt | Str | Smsw | Lar | Lsl | Verr | Verw
            | Lss | Lfs | Lgs | Lds | Les | Arpl
            // Flags that change what is executed next.
            | Popf | Popfd | Popfq | Cli | Sti
            // Their images hold what differs between processors.
            | Fxsave | Fxsave64 | Fxrstor | Fxrstor64
            // No operation has a defined length here.
            | Ud0 | Ud1
            // Cases have no operand in memory that a register alone names.
            | Movdir64b
    )
}

/// Whether the host has a feature that rx86 has too.
#[cfg(target_arch = "x86_64")]
fn host_has(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    match feature {
        INTEL8086 | INTEL186 | INTEL286 | INTEL386 | INTEL486 | X64 | CMOV | CX8 | MULTIBYTENOP | PAUSE
        | CLFSH | FPU | FPU287 | FPU387 | MMX | SSE | SSE2 => true,
        CMPXCHG16B => is_x86_feature_detected!("cmpxchg16b"),
        BMI1 => is_x86_feature_detected!("bmi1"),
        BMI2 => is_x86_feature_detected!("bmi2"),
        ADX => is_x86_feature_detected!("adx"),
        MOVBE => is_x86_feature_detected!("movbe"),
        POPCNT => is_x86_feature_detected!("popcnt"),
        LZCNT => is_x86_feature_detected!("lzcnt"),
        SSE3 => is_x86_feature_detected!("sse3"),
        SSSE3 => is_x86_feature_detected!("ssse3"),
        SSE4_1 => is_x86_feature_detected!("sse4.1"),
        SSE4_2 => is_x86_feature_detected!("sse4.2"),
        AES => is_x86_feature_detected!("aes"),
        PCLMULQDQ => is_x86_feature_detected!("pclmulqdq"),
        SHA => is_x86_feature_detected!("sha"),
        GFNI => is_x86_feature_detected!("gfni"),
        AVX => is_x86_feature_detected!("avx"),
        AVX2 => is_x86_feature_detected!("avx2"),
        FMA => is_x86_feature_detected!("fma"),
        F16C => is_x86_feature_detected!("f16c"),
        AVX_VNNI => is_x86_feature_detected!("avxvnni"),
        VAES => is_x86_feature_detected!("vaes"),
        VPCLMULQDQ => is_x86_feature_detected!("vpclmulqdq"),
        CLFLUSHOPT => structured_features(EBX, 23),
        CLWB => structured_features(EBX, 24),
        MOVDIRI => structured_features(ECX, 27),
        MOVDIR64B => structured_features(ECX, 28),
        SERIALIZE => structured_features(EDX, 14),
        // Without shadow stacks RDSSP is a NOP, as hints of later processors are to earlier ones.
        CET_SS => !structured_features(ECX, 7),
        CET_IBT | CLDEMOTE | PREFETCHW | PREFETCHWT1 | PREFETCHITI => true,
        _ => false,
    }
}

// Registers of CPUID's answer.
#[cfg(target_arch = "x86_64")]
const EBX: usize = 1;
#[cfg(target_arch = "x86_64")]
const ECX: usize = 2;
#[cfg(target_arch = "x86_64")]
const EDX: usize = 3;

/// A bit of CPUID leaf 7, subleaf 0.
#[cfg(target_arch = "x86_64")]
fn structured_features(register: usize, bit: u32) -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    if __cpuid(0).eax < 7 {
        return false;
    }
    let leaf = __cpuid_count(7, 0);
    [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx][register] >> bit & 1 != 0
}

/// Whether the host has the upper halves of YMM registers, which SSE has to keep.
pub fn host_has_ymm() -> bool {
    host_has(CpuidFeature::AVX)
}

/// Whether a form is of AVX or AVX2 and the host lacks that.
pub fn host_lacks(code: Code) -> bool {
    let vex = |feature: &CpuidFeature| matches!(feature, CpuidFeature::AVX | CpuidFeature::AVX2);
    code.cpuid_features().iter().any(|feature| vex(feature) && !host_has(*feature))
}

/// Other hosts execute no cases.
#[cfg(not(target_arch = "x86_64"))]
fn host_has(_: CpuidFeature) -> bool {
    false
}
