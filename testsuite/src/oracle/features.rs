//! What an oracle's processor has, as its CPUID instruction says (SDM vol. 2, CPUID).

use super::{Oracle, Program};
use iced_x86::{Code, CpuidFeature};

/// The leaves that hold features: EAX and ECX before CPUID.
const LEAVES: [(u32, u32); 4] = [(1, 0), (7, 0), (7, 1), (0x8000_0001, 0)];

/// The features of a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// EAX, EBX, ECX and EDX of each of `LEAVES`.
    registers: [[u32; 4]; LEAVES.len()],
}

impl Features {
    /// Those of the processor that `oracle` runs programs on.
    pub fn of(oracle: &mut dyn Oracle) -> Self {
        let mut features = Self::default();
        for (registers, (leaf, subleaf)) in features.registers.iter_mut().zip(LEAVES) {
            let mut program = Program::new(vec![0x0f, 0xa2]);
            (program.state.gpr[0], program.state.gpr[1]) = (leaf.into(), subleaf.into());
            if let Some(outcome) = oracle.run(std::slice::from_ref(&program)).pop().flatten() {
                *registers = [0, 3, 1, 2].map(|register| outcome.state.gpr[register] as u32);
            }
        }
        features
    }

    /// Whether a processor with these features has the form.
    pub fn have(&self, code: Code) -> bool {
        code.cpuid_features().iter().all(|&feature| self.have_feature(feature))
    }

    fn have_feature(&self, feature: CpuidFeature) -> bool {
        use CpuidFeature::*;
        const EAX: usize = 0;
        const EBX: usize = 1;
        const ECX: usize = 2;
        const EDX: usize = 3;
        let (leaf, register, bit) = match feature {
            INTEL8086 | INTEL186 | INTEL286 | INTEL386 | INTEL486 | X64 | CMOV | CX8 | MULTIBYTENOP
            | PAUSE | CLFSH | CET_IBT | PREFETCHW | PREFETCHWT1 | FPU | FPU287 | FPU387 | MMX | SSE
            | SSE2 => return true,
            SSE3 => (0, ECX, 0),
            PCLMULQDQ => (0, ECX, 1),
            SSSE3 => (0, ECX, 9),
            FMA => (0, ECX, 12),
            CMPXCHG16B => (0, ECX, 13),
            SSE4_1 => (0, ECX, 19),
            SSE4_2 => (0, ECX, 20),
            MOVBE => (0, ECX, 22),
            POPCNT => (0, ECX, 23),
            AES => (0, ECX, 25),
            AVX => (0, ECX, 28),
            F16C => (0, ECX, 29),
            FSGSBASE => (1, EBX, 0),
            BMI1 => (1, EBX, 3),
            AVX2 => (1, EBX, 5),
            BMI2 => (1, EBX, 8),
            ADX => (1, EBX, 19),
            CLFLUSHOPT => (1, EBX, 23),
            CLWB => (1, EBX, 24),
            SHA => (1, EBX, 29),
            GFNI => (1, ECX, 8),
            VAES => (1, ECX, 9),
            VPCLMULQDQ => (1, ECX, 10),
            CLDEMOTE => (1, ECX, 25),
            MOVDIRI => (1, ECX, 27),
            MOVDIR64B => (1, ECX, 28),
            SERIALIZE => (1, EDX, 14),
            AVX_VNNI => (2, EAX, 4),
            LZCNT => (3, ECX, 5),
            _ => return false,
        };
        self.registers[leaf][register] >> bit & 1 != 0
    }
}
