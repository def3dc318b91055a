//! Why a form that rx86 implements was not tried against an oracle, and what tests it in place of that. There is a reason for
//! every form.

use super::family::shape_of;
use crate::oracle::Mode;
use iced_x86::{Code, FlowControl, Mnemonic, OpCodeOperandKind};

/// What is drawn by chance and was not yet.
pub const NOT_DRAWN: &str = "not drawn yet; a longer run draws it";
/// No reason is known, which a test finds.
pub const UNKNOWN: &str = "no reason known";

/// Why `code` was not tried in `mode` against an oracle that `has` some forms.
pub fn reason(code: Code, mode: Mode, has: &dyn Fn(Code) -> bool) -> String {
    let of_family = shape_of(code, mode).is_some();
    if of_family && has(code) {
        return NOT_DRAWN.into();
    }
    if let Some(text) = machine_decides(code.mnemonic()) {
        return text.into();
    }
    if of_family {
        let features: Vec<String> = code.cpuid_features().iter().map(|it| format!("{it:?}")).collect();
        return format!("this oracle lacks {}", features.join(" or "));
    }
    out_of_reach(code).unwrap_or(UNKNOWN).into()
}

/// Results that the machine, the moment or the kernel decides.
fn machine_decides(mnemonic: Mnemonic) -> Option<&'static str> {
    use Mnemonic::*;
    Some(match mnemonic {
        Cpuid | Xgetbv | Rdpid | Rdsspd | Rdsspq | Rdtsc | Rdtscp | Rdpmc => {
            "the answer is the machine's: unit tests in cpu/src/system and cpu/src/features"
        }
        Rdrand | Rdseed => "the answer is random: unit tests in cpu/src/system",
        Tpause | Umwait | Umonitor => "the end is a matter of time: unit tests in cpu/src/system",
        Rdpkru | Wrpkru => {
            "needs CR4.PKE, and would take the program's own rights away: unit tests in cpu/src/system"
        }
        Rdfsbase | Rdgsbase | Wrfsbase | Wrgsbase => {
            "bases belong to the host's threads: tried against QEMU and KVM"
        }
        Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 | Xrstor | Xrstor64 | Fxsave
        | Fxsave64 | Fxrstor | Fxrstor64 => {
            "the image holds what differs between processors: cpu/src/simd/tests compare its parts with the host's"
        }
        _ => return None,
    })
}

/// What a program of one user instruction cannot show.
fn out_of_reach(code: Code) -> Option<&'static str> {
    use Mnemonic::*;
    let info = code.op_code();
    let segments = |kind: &OpCodeOperandKind| {
        use OpCodeOperandKind::*;
        matches!(kind, seg_reg | es | cs | ss | ds | fs | gs)
    };
    Some(match code.mnemonic() {
        Popf | Popfd | Popfq | Cli | Sti => {
            "decides what is executed next: system cases (interrupts, virtual-8086 mode)"
        }
        Int | Int1 | Int3 | Into | Iret | Iretd | Iretq => {
            "interrupts and returns: system cases (interrupts, long mode)"
        }
        Syscall | Sysenter | Sysexit | Sysexitq | Sysret | Sysretq => {
            "enters or leaves the kernel: system cases (long mode) and unit tests in cpu/src/system"
        }
        Sgdt | Sidt | Sldt | Str | Smsw | Lar | Lsl | Verr | Verw | Arpl | Lss | Lfs | Lgs | Lds | Les => {
            "segments and tables: system cases (descriptor looks, data segments)"
        }
        Ud0 | Ud1 => "has no length that all processors agree about: unit tests in cpu/src",
        Movdir64b => "a register alone names its destination: unit tests in cpu/src/system",
        Vmcall | Vmmcall => "a hypercall: unit tests in cpu/src/system",
        _ if info.is_reserved_nop() => "a NOP that others take encodings from: cpu/src/decode_tests.rs",
        _ if info.is_input_output() => "ports: system cases (virtual-8086 mode) and guests in cli/tests",
        _ if info.must_be_cpl0() || info.is_privileged() => {
            "privileged: system cases and unit tests in cpu/src/system"
        }
        _ if info.op_kinds().iter().any(segments) => {
            "segment loads: system cases (data segments, real-address mode)"
        }
        Jmp | Call | Retf if is_far(code) => "far transfers: system cases (far transfers)",
        _ if info.operand_size() == 16 && code.flow_control() != FlowControl::Next => {
            "Intel and AMD read the operand-size prefix of near branches differently: tried in 16-bit code"
        }
        _ => return None,
    })
}

fn is_far(code: Code) -> bool {
    use OpCodeOperandKind::*;
    let info = code.op_code();
    let pointer = info.op_kinds().iter().any(|kind| matches!(kind, farbr2_2 | farbr4_2));
    pointer || code.mnemonic() == Mnemonic::Retf || code.is_jmp_far_indirect() || code.is_call_far_indirect()
}

#[cfg(test)]
mod tests {
    use super::super::family::implemented;
    use super::*;

    #[test]
    fn every_form_has_a_reason() {
        let mut without = Vec::new();
        for mode in Mode::ALL {
            let forms = implemented(mode);
            assert!(forms.len() > 1900, "{mode:?}: {} forms", forms.len());
            let unknown =
                |code: &Code| [true, false].into_iter().any(|has| reason(*code, mode, &|_| has) == UNKNOWN);
            without.extend(forms.into_iter().filter(unknown).map(|code| (mode, code)));
        }
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn an_oracle_without_a_feature_is_the_reason() {
        let lacks = reason(Code::VEX_Vpdpbusd_xmm_xmm_xmmm128, Mode::Bits64, &|_| false);
        assert_eq!(lacks, "this oracle lacks AVX_VNNI");
        assert_eq!(reason(Code::Add_rm8_r8, Mode::Bits64, &|_| true), NOT_DRAWN);
        assert!(reason(Code::Hlt, Mode::Bits64, &|_| true).starts_with("privileged"));
    }
}
