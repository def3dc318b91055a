//! Which instructions the mode and the CPU model offer: the #UD and #NM rules that need no operand values.

use crate::exception::Exception;
use crate::features::{CpuModel, Feature};
use crate::mode::ModeKey;
use iced_x86::{Code, CpuidFeature, EncodingKind, FlowControl, Instruction, Mnemonic};
use std::sync::LazyLock;

/// Which register state an instruction needs enabled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    General,
    X87,
    Mmx,
    Sse,
    Avx,
}

/// It needs nothing but a processor with CPUID.
const BASIC: u8 = 1 << 0;
/// And that to have 64-bit mode.
const NEEDS_LM: u8 = 1 << 1;
/// It may continue elsewhere.
const ENDS_BLOCK: u8 = 1 << 2;

/// What is asked of every instruction, by its code: iced-x86 has it in many tables, and code that is decoded once finds none
/// of them in the host's caches.
static FACTS: LazyLock<Box<[u8]>> = LazyLock::new(|| Code::values().map(facts).collect());

fn facts(code: Code) -> u8 {
    let ends_block = code == Code::INVALID || code.flow_control() != FlowControl::Next;
    let basic = match code.cpuid_features() {
        _ if matches!(code, Code::INVALID | Code::Wait) => 0,
        [CpuidFeature::INTEL8086 | CpuidFeature::INTEL386] => BASIC,
        [CpuidFeature::X64] => BASIC | NEEDS_LM,
        _ => 0,
    };
    basic | if ends_block { ENDS_BLOCK } else { 0 }
}

/// Whether an instruction ends a block, because it may continue elsewhere, or raises an exception because it is none.
pub fn ends_block(code: Code) -> bool {
    FACTS[code as usize] & ENDS_BLOCK != 0
}

/// `Ok` if the instruction may execute; else #UD or #NM (SDM vol. 3, 2.5, 13.1 and the instructions' own tables).
pub fn check(instruction: &Instruction, mode: ModeKey, model: &CpuModel) -> Result<(), Exception> {
    // Most instructions are of those that all 64-bit processors have.
    let facts = FACTS[instruction.code() as usize];
    if facts & BASIC != 0 && mode.has(ModeKey::LONG64) && (facts & NEEDS_LM == 0 || model.has(Feature::Lm)) {
        return Ok(());
    }
    let real_or_vm86 = !mode.has(ModeKey::PROTECTED) || mode.has(ModeKey::VM86);
    if instruction.is_invalid()
        || !model.allows(instruction)
        || (real_or_vm86
            && (needs_protection(instruction.mnemonic()) || instruction.encoding() != EncodingKind::Legacy))
    {
        return Err(Exception::UD);
    }
    match unit(instruction) {
        Unit::General => Ok(()),
        Unit::X87 => {
            let fwait = instruction.code() == Code::Wait;
            let blocked = if fwait {
                mode.has(ModeKey::MONITOR_FPU | ModeKey::TASK_SWITCHED)
            } else {
                mode.has(ModeKey::EMULATE_FPU) || mode.has(ModeKey::TASK_SWITCHED)
            };
            if blocked { Err(Exception::NM) } else { Ok(()) }
        }
        Unit::Mmx => vector_check(mode, true),
        Unit::Sse => vector_check(mode, mode.has(ModeKey::OSFXSR)),
        // CR0.EM and CR4.OSFXSR do not matter to VEX (SDM vol. 2, 2.4.1 and following).
        Unit::Avx if !mode.has(ModeKey::AVX) => Err(Exception::UD),
        Unit::Avx if mode.has(ModeKey::TASK_SWITCHED) => Err(Exception::NM),
        Unit::Avx => Ok(()),
    }
}

fn vector_check(mode: ModeKey, enabled: bool) -> Result<(), Exception> {
    if mode.has(ModeKey::EMULATE_FPU) || !enabled {
        Err(Exception::UD)
    } else if mode.has(ModeKey::TASK_SWITCHED) {
        Err(Exception::NM)
    } else {
        Ok(())
    }
}

fn needs_protection(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(mnemonic, Arpl | Lar | Lsl | Verr | Verw | Lldt | Sldt | Ltr | Str)
}

/// The unit whose state the instruction uses, by its CPUID feature and operands.
fn unit(instruction: &Instruction) -> Unit {
    use Mnemonic::*;
    match instruction.mnemonic() {
        // These have rules of their own, or use no vector state in spite of their feature.
        Sfence | Lfence | Mfence | Pause | Clflush | Clflushopt | Clwb | Prefetchnta | Prefetcht0
        | Prefetcht1 | Prefetcht2 | Prefetchw | Prefetch | Movnti | Crc32 | Popcnt => return Unit::General,
        // FISTTP carries SSE3's feature bit. FXSAVE and FXRSTOR raise #NM, not #UD, for CR0.EM.
        Wait | Fisttp | Fxsave | Fxsave64 | Fxrstor | Fxrstor64 => return Unit::X87,
        _ => {}
    }
    if instruction.encoding() == EncodingKind::VEX {
        let general = |feature: &CpuidFeature| matches!(feature, CpuidFeature::BMI1 | CpuidFeature::BMI2);
        return if instruction.cpuid_features().iter().any(general) { Unit::General } else { Unit::Avx };
    }
    let mut unit = Unit::General;
    for feature in instruction.cpuid_features() {
        unit = match feature {
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 => Unit::X87,
            CpuidFeature::MMX if unit == Unit::General => Unit::Mmx,
            CpuidFeature::SSE
            | CpuidFeature::SSE2
            | CpuidFeature::SSE3
            | CpuidFeature::SSSE3
            | CpuidFeature::SSE4_1
            | CpuidFeature::SSE4_2
            | CpuidFeature::AES
            | CpuidFeature::PCLMULQDQ
            | CpuidFeature::SHA
            | CpuidFeature::GFNI => {
                if only_mmx(instruction) {
                    Unit::Mmx
                } else {
                    Unit::Sse
                }
            }
            _ => unit,
        };
    }
    unit
}

/// SSE's additions to MMX use MMX registers only, and do not depend on CR4.OSFXSR.
fn only_mmx(instruction: &Instruction) -> bool {
    let mut mmx = false;
    for i in 0..instruction.op_count() {
        let register = instruction.op_register(i);
        if register.is_xmm() {
            return false;
        }
        mmx |= register.is_mm();
    }
    mmx
}
