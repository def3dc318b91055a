//! Which instructions the mode and the CPU model offer: the #UD and #NM rules that need no operand values.

use crate::exception::Exception;
use crate::features::{CpuModel, Feature};
use crate::mode::ModeKey;
use iced_x86::{Code, CpuidFeature, EncodingKind, Instruction, Mnemonic};

/// Which register state an instruction needs enabled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    General,
    X87,
    Mmx,
    Sse,
    Avx,
}

/// `Ok` if the instruction may execute; else #UD or #NM (SDM vol. 3, 2.5, 13.1 and the instructions' own tables).
pub fn check(instruction: &Instruction, mode: ModeKey, model: &CpuModel) -> Result<(), Exception> {
    // Most instructions are of those that all 64-bit processors have.
    let is_basic = match instruction.cpuid_features() {
        [CpuidFeature::INTEL8086 | CpuidFeature::INTEL386] => true,
        [CpuidFeature::X64] => model.has(Feature::Lm),
        _ => false,
    };
    if is_basic
        && mode.has(ModeKey::LONG64)
        && !instruction.is_invalid()
        && instruction.mnemonic() != Mnemonic::Wait
    {
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
