//! A walk over every CPUID bit and every group of instructions, on a processor: what CPUID reports executes, and what it
//! does not report raises #UD.

use super::*;
use crate::bare_board::BareBoard;
use crate::cpu::Cpu;
use crate::decode::{Semantics, decode};
use crate::exception::Exception;
use crate::state::{Segment, SegmentIndex, Vcpu, access, bits};
use iced_x86::{Code, Decoder};
use std::collections::BTreeMap;

/// Where memory operands lie.
const BUFFER: u64 = 0x8000;

/// Encodings of each form, found by decoding the whole opcode space with every vendor's extensions.
fn encodings() -> BTreeMap<Code, Vec<Vec<u8>>> {
    let mut found = BTreeMap::<Code, Vec<Vec<u8>>>::new();
    let options = [DecoderOptions::NONE, DecoderOptions::AMD, DecoderOptions::KNC];
    let mut look = |bytes: Vec<u8>| {
        for options in options {
            let instruction = Decoder::new(64, &bytes, options).decode();
            if !instruction.is_invalid() {
                let forms = found.entry(instruction.code()).or_default();
                if forms.len() < 2 {
                    forms.push(bytes[..instruction.len()].to_vec());
                }
            }
        }
    };
    // Memory at RBX, and registers.
    let modrms = (0..8u8).flat_map(|register| [3 | register << 3, 0xc1 | register << 3]);
    let modrms: Vec<u8> = modrms.chain((0xc0..=0xff).filter(|byte| byte & 7 != 1)).collect();
    let tail = |opcode: u8, modrm: u8, immediate: u8| [opcode, modrm, immediate, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for opcode in 0..=255u8 {
        for &modrm in &modrms {
            for map in [&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]] {
                for prefix in [&[][..], &[0x66], &[0xf3], &[0xf2]] {
                    for rex in [&[][..], &[0x48]] {
                        look([prefix, rex, map, &tail(opcode, modrm, 0)].concat());
                    }
                }
            }
            // 3DNow: the opcode is behind the operands.
            look([&[0x0f][..], &tail(0x0f, modrm, opcode)].concat());
        }
        for &modrm in &modrms[..16] {
            for (w, pp) in [(0, 0), (0, 1), (0, 2), (0, 3), (0x80, 0), (0x80, 1), (0x80, 2), (0x80, 3u8)] {
                // VEX and XOP of both lengths, with operand vvvv 0 and 15; EVEX and MVEX of three lengths.
                for length in [0, 4] {
                    for vvvv in [0x78, 0] {
                        for (first, map) in
                            [(0xc4, 1), (0xc4, 2), (0xc4, 3), (0x8f, 8), (0x8f, 9), (0x8f, 10)]
                        {
                            look(
                                [&[first, 0xe0 | map, w | vvvv | length | pp], &tail(opcode, modrm, 0)[..]]
                                    .concat(),
                            );
                        }
                    }
                }
                for map in [1, 2, 3, 5, 6] {
                    for last in [0x08, 0x28, 0x48, 0x09] {
                        look(
                            [&[0x62, 0xf0 | map, w | 0x7c | pp, last], &tail(opcode, modrm, 0)[..]].concat(),
                        );
                    }
                    look([&[0x62, 0xf0 | map, w | 0x78 | pp, 0x08], &tail(opcode, modrm, 0)[..]].concat());
                }
            }
        }
    }
    found
}

/// A processor at CPL 0 in 64-bit mode, without paging, with everything enabled that the model has.
fn processor(model: CpuModel) -> (Cpu, Vcpu) {
    let mut cpu = BareBoard::default().cpu();
    cpu.model = model;
    let has = |feature, bit| if cpu.model.has(feature) { bit } else { 0 };
    let state = &mut cpu.state;
    state.cr0 = bits::CR0_PE | bits::CR0_NE | bits::CR0_ET;
    state.cr4 = has(Feature::Fxsr, bits::CR4_OSFXSR)
        | has(Feature::Xsave, bits::CR4_OSXSAVE)
        | has(Feature::Fsgsbase, bits::CR4_FSGSBASE)
        | has(Feature::Pku, bits::CR4_PKE);
    state.efer = bits::EFER_LME | bits::EFER_LMA | bits::EFER_SCE;
    let code = Segment { base: 0, limit: u32::MAX, access: 0x9b | access::LONG, selector: 8 };
    state.segments[SegmentIndex::CS] = code;
    state.xcr0 = xsave_area::supported(&cpu.model);
    state.regs = Default::default();
    state.regs[3] = BUFFER;
    state.regs[4] = BUFFER + 0x800;
    let start = state.clone();
    (cpu, start)
}

/// Executes one instruction from the state `start`.
fn run(cpu: &mut Cpu, start: &Vcpu, bytes: &[u8]) -> Result<(), Exception> {
    cpu.state = start.clone();
    cpu.paging_changed();
    // Followed by NOPs: an invalid instruction may look as if bytes of it were missing.
    let mut padded = bytes.to_vec();
    padded.resize(15, 0x90);
    let Ok(decoded) = decode::<Cpu>(&padded, cpu.mode(), &cpu.model) else { return Ok(()) };
    cpu.state.set_rip(u64::from(decoded.op.length));
    let result = match decoded.semantics {
        Semantics::Hard(hard) => hard(cpu, &decoded.op),
        Semantics::Inline(meaning) => meaning(cpu, &decoded.op),
    };
    cpu.exit = None;
    result
}

/// Whether CPUID reports the feature.
fn reported(cpu: &mut Cpu, row: &FeatureRow) -> bool {
    let leaf = cpu.cpuid(row.leaf, row.subleaf);
    let registers = [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx];
    registers[row.register as usize] >> row.bit & 1 != 0
}

/// Instructions that are not refused although nothing reports their group.
fn stays(code: Code) -> bool {
    // NOPs of the hint space, and the hypercall, which comes with the hypervisor's leaves.
    matches!(code.mnemonic(), Mnemonic::Rdsspd | Mnemonic::Rdsspq | Mnemonic::Prefetch | Mnemonic::Vmcall)
}

/// Whether CPUID's bits say that `code` must raise #UD.
fn must_be_undefined(code: Code, reported: &[bool]) -> bool {
    code.cpuid_features().iter().any(|&group| match gate_of(group) {
        Gate::Always => false,
        Gate::Never => !stays(code),
        Gate::Feature(feature) => !reported[feature as usize],
    })
}

/// What is wrong with `model`, given the encodings of all forms.
fn faults(model: &CpuModel, encodings: &BTreeMap<Code, Vec<Vec<u8>>>) -> Vec<String> {
    let (mut cpu, start) = processor(model.clone());
    let mut faults = Vec::new();
    let reported: Vec<bool> = FEATURES.iter().map(|row| reported(&mut cpu, row)).collect();
    for row in FEATURES {
        if reported[row.feature as usize] != model.has(row.feature) {
            faults.push(format!("CPUID says {} of {:?}", reported[row.feature as usize], row.feature));
        }
    }
    let mut executed: Vec<CpuidFeature> = Vec::new();
    for (&code, forms) in encodings {
        for bytes in forms {
            let meant = Decoder::new(64, bytes, model.decoder_options()).decode();
            if !meant.is_invalid() && meant.code() != code {
                // For this model the bytes are another instruction.
                continue;
            }
            let undefined = run(&mut cpu, &start, bytes) == Err(Exception::UD);
            if !undefined {
                executed.extend(code.cpuid_features());
            }
            if !undefined && must_be_undefined(code, &reported) {
                faults.push(format!("{code:?} ({bytes:02x?}) is executed"));
            }
        }
    }
    for row in FEATURES.iter().filter(|row| reported[row.feature as usize]) {
        for gate in row.gates.iter().filter(|gate| !executed.contains(gate)) {
            faults.push(format!("nothing of {gate:?} is executed, but CPUID reports {:?}", row.feature));
        }
    }
    faults
}

#[test]
fn every_reported_bit_executes_and_every_other_group_is_undefined() {
    let encodings = encodings();
    assert!(encodings.len() > 3000, "only {} forms were found", encodings.len());
    let max = CpuModel::max();
    for row in MODELS {
        let (model, _) = row.model();
        let faults = faults(&model, &encodings);
        assert!(faults.is_empty(), "{}: {}", row.name, faults.join("\n"));
    }
    for row in FEATURES.iter().filter(|row| max.has(row.feature) && !row.gates.is_empty()) {
        // Long mode is what the test runs in.
        if row.feature != Feature::Lm {
            let features = models::without_orphans(max.features.without(row.feature));
            let model = CpuModel { features, ..max.clone() };
            let faults = faults(&model, &encodings);
            assert!(faults.is_empty(), "without {:?}: {}", row.feature, faults.join("\n"));
        }
    }
}

/// Something to be done to a processor that shows whether it has a feature.
type Probe = fn(&mut Cpu) -> bool;

fn cr4(cpu: &mut Cpu, bit: u64) -> bool {
    // PCIDE can be set in long mode only, PAE not be cleared there.
    let long = bit == bits::CR4_PCIDE;
    cpu.state.efer = if long { bits::EFER_LME | bits::EFER_LMA } else { 0 };
    cpu.state.cr4 = if long { bits::CR4_PAE } else { 0 };
    cpu.write_cr4(cpu.state.cr4 | bit).is_ok()
}

fn msr(cpu: &mut Cpu, index: u32) -> bool {
    cpu.read_msr(index).is_ok()
}

/// Features that are a behaviour and no instruction, with what shows it.
const PROBES: &[(Feature, Probe)] = &[
    (Feature::Vme, |cpu| cr4(cpu, bits::CR4_VME)),
    (Feature::De, |cpu| cr4(cpu, bits::CR4_DE)),
    (Feature::Pse, |cpu| cr4(cpu, bits::CR4_PSE)),
    (Feature::Pae, |cpu| cr4(cpu, bits::CR4_PAE)),
    (Feature::Mce, |cpu| cr4(cpu, bits::CR4_MCE)),
    (Feature::Pge, |cpu| cr4(cpu, bits::CR4_PGE)),
    (Feature::Fxsr, |cpu| cr4(cpu, bits::CR4_OSFXSR)),
    (Feature::Pcid, |cpu| cr4(cpu, bits::CR4_PCIDE)),
    (Feature::Smep, |cpu| cr4(cpu, bits::CR4_SMEP)),
    (Feature::Smap, |cpu| cr4(cpu, bits::CR4_SMAP)),
    (Feature::Umip, |cpu| cr4(cpu, bits::CR4_UMIP)),
    (Feature::La57, |cpu| cr4(cpu, bits::CR4_LA57)),
    (Feature::Pku, |cpu| cr4(cpu, bits::CR4_PKE)),
    (Feature::Xsave, |cpu| cr4(cpu, bits::CR4_OSXSAVE)),
    (Feature::Fsgsbase, |cpu| cr4(cpu, bits::CR4_FSGSBASE)),
    (Feature::Mtrr, |cpu| msr(cpu, 0xfe)),
    (Feature::Mca, |cpu| msr(cpu, 0x179)),
    (Feature::Pat, |cpu| msr(cpu, 0x277)),
    (Feature::Sep, |cpu| msr(cpu, 0x174)),
    (Feature::TscAdjust, |cpu| msr(cpu, 0x3b)),
    (Feature::ArchCapabilities, |cpu| msr(cpu, 0x10a)),
    (Feature::Rdtscp, |cpu| msr(cpu, 0xc000_0103)),
    (Feature::Hypervisor, |cpu| cpu.cpuid(0x4000_0000, 0).ebx == u32::from_le_bytes(*b"KVMK")),
    (Feature::Apic, |cpu| msr(cpu, 0x1b)),
    (Feature::Xsaves, |cpu| msr(cpu, 0xda0)),
    (Feature::Nx, |cpu| {
        let efer = cpu.state.efer;
        cpu.write_msr(0xc000_0080, efer | bits::EFER_NXE).is_ok()
    }),
    (Feature::Lahf64, |cpu| {
        let start = cpu.state.clone();
        run(cpu, &start, &[0x9f]).is_ok()
    }),
    (Feature::Xgetbv1, |cpu| {
        let mut start = cpu.state.clone();
        start.regs[1] = 1;
        run(cpu, &start, &[0x0f, 0x01, 0xd0]).is_ok()
    }),
    (Feature::Page1gb, |cpu| cpu.mmu.context().pages1g),
    (Feature::Pse36, |cpu| cpu.mmu.context().pse36),
];

#[test]
fn behaviours_come_and_go_with_their_bits() {
    let max = CpuModel::max();
    for &(feature, probe) in PROBES {
        for features in [max.features, models::without_orphans(max.features.without(feature))] {
            let (mut cpu, start) = processor(CpuModel { features, ..max.clone() });
            cpu.state = start;
            cpu.paging_changed();
            assert_eq!(probe(&mut cpu), features.has(feature), "{feature:?}");
        }
    }
}
