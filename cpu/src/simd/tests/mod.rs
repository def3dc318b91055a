//! Tests of the whole family.

mod areas;
mod avx;
mod board;
mod faults;
mod random;
#[cfg(target_arch = "x86_64")]
mod silicon;

use super::{select, select_meaning};
use crate::cpu::Cpu;
use iced_x86::{Code, CpuidFeature, EncodingKind, Instruction, Mnemonic, Register};

/// What other families execute, although its feature bit is one of this family's.
fn elsewhere(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Fisttp
            | Emms
            | Lfence
            | Mfence
            | Sfence
            | Crc32
            | Prefetchnta
            | Prefetcht0
            | Prefetcht1
            | Prefetcht2
            | Xgetbv
            | Xsetbv
    )
}

/// An instruction of this code whose first operand is of the right register class.
fn sample(code: Code) -> Instruction {
    let mut instruction = Instruction::new();
    instruction.set_code(code);
    if format!("{code:?}").split('_').nth(1) == Some("mm") {
        instruction.set_op0_register(Register::MM0);
    }
    instruction
}

fn has_meaning(instruction: &Instruction) -> bool {
    select_meaning::<Cpu>(instruction).is_some() || select(instruction).is_some()
}

#[test]
fn every_legacy_vector_instruction_has_a_meaning() {
    use CpuidFeature::*;
    let ours = [
        MMX, SSE, SSE2, SSE3, SSSE3, SSE4_1, SSE4_2, AES, PCLMULQDQ, SHA, GFNI, FXSR, XSAVE, XSAVEOPT,
        XSAVEC, XSAVES,
    ];
    let mut seen = 0;
    for code in Code::values() {
        let wanted = code.encoding() == EncodingKind::Legacy
            && code.cpuid_features().iter().any(|feature| ours.contains(feature))
            && !elsewhere(code.mnemonic());
        if wanted {
            seen += 1;
            assert!(has_meaning(&sample(code)), "{code:?}");
        }
    }
    assert!(seen > 380, "{seen}");
}

#[test]
fn namesakes_of_the_string_instructions_are_told_apart() {
    for code in [Code::Movsd_m32_m32, Code::Cmpsd_m32_m32, Code::EVEX_Vpaddb_xmm_k1z_xmm_xmmm128] {
        assert!(!has_meaning(&sample(code)), "{code:?}");
    }
}
