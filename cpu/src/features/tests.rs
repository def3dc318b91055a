//! The feature list against the decoder's groups and against CPUID's layout.

use super::*;
use iced_x86::{Code, Decoder};

/// Features that are a behaviour and not instructions: where it is.
const BEHAVIOURS: &[(Feature, &str)] = &[
    (Feature::Vme, "CR4.VME, CR4.PVI"),
    (Feature::De, "CR4.DE"),
    (Feature::Pse, "CR4.PSE"),
    (Feature::Pae, "CR4.PAE"),
    (Feature::Mce, "CR4.MCE"),
    (Feature::Apic, "IA32_APIC_BASE"),
    (Feature::Mtrr, "IA32_MTRRCAP"),
    (Feature::Pge, "CR4.PGE"),
    (Feature::Mca, "IA32_MCG_CAP"),
    (Feature::Pat, "IA32_PAT"),
    (Feature::Pse36, "PagingContext::pse36"),
    (Feature::SelfSnoop, "written code is dropped by itself"),
    (Feature::Pcid, "CR4.PCIDE"),
    (Feature::X2apic, "registers 0x800 to 0x8ff"),
    (Feature::TscDeadline, "IA32_TSC_DEADLINE"),
    (Feature::Hypervisor, "leaf 0x40000000, VMCALL"),
    (Feature::Arat, "the local APIC's timer runs in HLT"),
    (Feature::TscAdjust, "IA32_TSC_ADJUST"),
    (Feature::Smep, "CR4.SMEP"),
    (Feature::Erms, "REP MOVSB moves runs of bytes"),
    (Feature::Prefetchwt1, "Gate::Always"),
    (Feature::Umip, "CR4.UMIP"),
    (Feature::La57, "CR4.LA57"),
    (Feature::Cldemote, "Gate::Always"),
    (Feature::Fsrm, "REP MOVSB moves runs of bytes"),
    (Feature::ArchCapabilities, "IA32_ARCH_CAPABILITIES"),
    (Feature::Xgetbv1, "XGETBV with ECX = 1"),
    (Feature::Lahf64, "decoder option"),
    (Feature::Nx, "EFER.NXE"),
    (Feature::Page1gb, "PagingContext::pages1g"),
    (Feature::InvariantTsc, "Environment::tsc"),
];

fn decode(bytes: &[u8], model: &CpuModel) -> Instruction {
    Decoder::new(64, bytes, model.decoder_options()).decode()
}

#[test]
fn every_feature_is_instructions_or_a_named_behaviour() {
    for row in FEATURES {
        let behaviour = BEHAVIOURS.iter().any(|(feature, _)| *feature == row.feature);
        assert_ne!(behaviour, !row.gates.is_empty(), "{:?}", row.feature);
        let used = |gate: &CpuidFeature| Code::values().any(|code| code.cpuid_features().contains(gate));
        assert!(row.gates.iter().all(used), "{:?}: a group without instructions", row.feature);
    }
}

#[test]
fn every_bit_and_every_group_has_one_feature() {
    for (i, a) in FEATURES.iter().enumerate() {
        assert_eq!(a.feature as usize, i);
        for b in &FEATURES[i + 1..] {
            let place = |row: &FeatureRow| (row.leaf, row.subleaf, row.register as u8, row.bit);
            assert_ne!(place(a), place(b));
            assert!(!a.gates.iter().any(|gate| b.gates.contains(gate)), "{:?} {:?}", a.feature, b.feature);
            assert!(!a.gates.iter().any(|&gate| gate_of(gate) == Gate::Always));
        }
    }
}

/// Whatever needs state or rules that do not exist is refused, group by group.
#[test]
fn later_extensions_and_other_vendors_are_refused() {
    use CpuidFeature::*;
    for group in [
        AVX512F,
        RTM,
        HLE_or_RTM,
        MPX,
        CET_SS,
        VMX,
        SVM,
        SMX,
        SGX1,
        D3NOW,
        D3NOWEXT,
        SSE4A,
        FMA4,
        XOP,
        TBM,
        LWP,
        MONITORX,
        CLZERO,
        ENQCMD,
        PTWRITE,
        PCONFIG,
        KL,
        UINTR,
        AMX_TILE,
        WBNOINVD,
        SMM,
        MOV_TR,
        UMOV,
        INTEL8086_ONLY,
        INTEL386_ONLY,
        IA64,
        PADLOCK_ACE,
        CYRIX_FPU,
        KNC,
        FRED,
        LKGS,
        MSRLIST,
        WRMSRNS,
    ] {
        assert_eq!(gate_of(group), Gate::Never, "{group:?}");
    }
}

#[test]
fn what_a_model_lacks_is_refused_or_means_something_else() {
    let max = CpuModel::max();
    let cases: &[(&[u8], Option<Feature>, &str)] = &[
        (b"\xf3\x0f\xb8\xc1", Some(Feature::Popcnt), "popcnt eax, ecx"),
        (b"\x0f\x38\xf0\x00", Some(Feature::Movbe), "movbe eax, [rax]"),
        (b"\x0f\x01\xcb", Some(Feature::Smap), "stac"),
        (b"\x0f\x01\xf9", Some(Feature::Rdtscp), "rdtscp"),
        (b"\xf3\x0f\xc7\xf8", Some(Feature::Rdpid), "rdpid rax"),
        (b"\x66\x0f\x38\x82\x00", Some(Feature::Invpcid), "invpcid rax, [rax]"),
        (b"\x0f\x01\xc1", Some(Feature::Hypervisor), "vmcall"),
        (b"\xc4\xe2\x78\xf2\xc1", Some(Feature::Bmi1), "andn eax, eax, ecx"),
        (b"\xc5\xf8\x77", Some(Feature::Avx), "vzeroupper"),
        (b"\xc5\xfd\xfc\xc0", Some(Feature::Avx2), "vpaddb ymm0, ymm0, ymm0"),
        (b"\xc5\xf9\xfc\xc0", Some(Feature::Avx), "vpaddb xmm0, xmm0, xmm0"),
        (b"\x9f", Some(Feature::Lahf64), "lahf"),
        (b"\x0f\x38\xc8\xc1", Some(Feature::Sha), "sha1nexte xmm0, xmm1"),
        (b"\x66\x0f\x38\xcf\xc1", Some(Feature::Gfni), "gf2p8mulb xmm0, xmm1"),
        (b"\xc4\xe2\x71\xcf\xc2", Some(Feature::Gfni), "vgf2p8mulb xmm0, xmm1, xmm2"),
        (b"\xc4\xe2\x71\x98\xc2", Some(Feature::Fma), "vfmadd132ps xmm0, xmm1, xmm2"),
        (b"\xc4\xe2\x79\x13\xc1", Some(Feature::F16c), "vcvtph2ps xmm0, xmm1"),
        (b"\xc4\xe2\x75\xdc\xc2", Some(Feature::Vaes), "vaesenc ymm0, ymm1, ymm2"),
        (b"\xc4\xe3\x75\x44\xc2\x00", Some(Feature::Vpclmulqdq), "vpclmulqdq ymm0, ymm1, ymm2, 0"),
        (b"\xc4\xe2\x71\x50\xc2", Some(Feature::AvxVnni), "vpdpbusd xmm0, xmm1, xmm2"),
        (b"\x66\x0f\xae\xf0", Some(Feature::Waitpkg), "tpause eax"),
        (b"\x0f\x01\xe8", Some(Feature::Serialize), "serialize"),
        (b"\x0f\x38\xf9\x00", Some(Feature::Movdiri), "movdiri [rax], eax"),
        (b"\x66\x0f\x38\xf8\x00", Some(Feature::Movdir64b), "movdir64b rax, [rax]"),
        (b"\xdb\xf0", Some(Feature::Cmov), "fcomi st, st"),
        (b"\xf3\x0f\x1e\xfa", None, "endbr64"),
        (b"\xf3\x0f\x1e\xc8", None, "rdsspd eax"),
        (b"\x0f\x1c\x00", None, "cldemote [rax]"),
        (b"\x0f\x0d\x10", None, "prefetchwt1 [rax]"),
        (b"\x0f\x18\x38", None, "prefetchit0 or a reserved NOP"),
        (b"\x0f\x1f\x40\x00", None, "nop [rax]"),
        (b"\xf3\x90", None, "pause"),
    ];
    for &(bytes, feature, name) in cases {
        let instruction = decode(bytes, &max);
        assert!(!instruction.is_invalid() && max.allows(&instruction), "{name}");
        if let Some(feature) = feature {
            let poorer = CpuModel { features: max.features.without(feature), ..max.clone() };
            let instruction = decode(bytes, &poorer);
            assert!(instruction.is_invalid() || !poorer.allows(&instruction), "{name} without {feature:?}");
        }
    }
    let refused: &[(&[u8], &str)] = &[
        (b"\x62\xf1\x7c\x48\x58\xc0", "vaddps zmm0, zmm0, zmm0"),
        (b"\x0f\x01\xd4", "vmfunc"),
        (b"\x0f\x01\xd9", "vmmcall"),
        (b"\xc6\xf8\x00", "xabort 0"),
        (b"\xf3\x0f\xae\xe9", "incsspd ecx"),
        (b"\x0f\xaa", "rsm"),
        (b"\x0f\x01\xc8", "monitor"),
        (b"\x0f\x0f\xc1\xb4", "pfmul mm0, mm1"),
    ];
    for &(bytes, name) in refused {
        let instruction = decode(bytes, &max);
        assert!(instruction.is_invalid() || !max.allows(&instruction), "{name}");
    }
}

#[test]
fn tzcnt_and_lzcnt_are_bsf_and_bsr_without_their_features() {
    let max = CpuModel::max();
    let cases: [(&[u8], Feature, Mnemonic, Mnemonic); 3] = [
        (b"\xf3\x0f\xbc\xc1", Feature::Bmi1, Mnemonic::Tzcnt, Mnemonic::Bsf),
        (b"\xf3\x0f\xbd\xc1", Feature::Lzcnt, Mnemonic::Lzcnt, Mnemonic::Bsr),
        (b"\xf3\x0f\x09", Feature::Fpu, Mnemonic::Wbinvd, Mnemonic::Wbinvd),
    ];
    for (bytes, feature, with, without) in cases {
        let poorer = CpuModel { features: max.features.without(feature), ..max.clone() };
        assert_eq!(decode(bytes, &max).mnemonic(), with);
        assert_eq!(decode(bytes, &poorer).mnemonic(), without);
    }
}

#[test]
fn signatures_are_packed_as_the_manual_says() {
    let cases = [
        ((6, 0x1c, 10), 0x000106ca),
        ((15, 4, 1), 0x00000f41),
        ((0x19, 0x21, 0), 0x00a20f10),
        ((5, 2, 3), 0x523),
    ];
    for ((family, model, stepping), signature) in cases {
        let model = CpuModel { family, model, stepping, ..CpuModel::max() };
        assert_eq!(model.signature(), signature, "{signature:#x}");
    }
}
