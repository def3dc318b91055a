//! The processor's features: one list that drives CPUID and what the decoder accepts.

mod host;
mod list;
mod models;
mod names;
pub mod selection;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk_tests;
pub mod xsave_area;

pub use list::{CpuidRegister, FEATURES, Feature, FeatureRow};
pub use models::{MODELS, ModelRow};

use iced_x86::{CpuidFeature, DecoderOptions, Instruction, Mnemonic};
use std::borrow::Cow;

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet(u128);

impl FeatureSet {
    /// Every feature of the list.
    pub const fn all() -> Self {
        Self((1 << FEATURES.len()) - 1)
    }

    /// Whether `feature` is in the set.
    #[inline]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u8 & 1 != 0
    }

    /// The set without `feature`.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u8))
    }

    /// The set with `feature`.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u8)
    }

    /// The feature bits of one register of one CPUID leaf.
    pub fn cpuid_bits(self, leaf: u32, subleaf: u32, register: CpuidRegister) -> u32 {
        FEATURES
            .iter()
            .filter(|row| (row.leaf, row.subleaf, row.register) == (leaf, subleaf, register))
            .filter(|row| self.has(row.feature))
            .fold(0, |bits, row| bits | 1 << row.bit)
    }
}

/// A CPU model: what CPUID tells, and what the processor does accordingly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuModel {
    /// The name that selects the model.
    pub name: &'static str,
    /// CPUID's vendor string.
    pub vendor: [u8; 12],
    /// CPUID's brand string, at most 47 characters.
    pub brand: Cow<'static, str>,
    /// The displayed family (SDM vol. 2, CPUID, figure 3-6).
    pub family: u32,
    /// The displayed model.
    pub model: u32,
    /// The stepping.
    pub stepping: u32,
    /// What the model has.
    pub features: FeatureSet,
    /// MAXPHYADDR.
    pub physical_bits: u32,
}

impl Default for CpuModel {
    fn default() -> Self {
        Self::max()
    }
}

impl CpuModel {
    /// Everything that is implemented.
    ///
    /// The signature is that of the Bonnell Atom, an in-order processor: it is how Linux and others know that no
    /// speculative-execution fault needs mitigating, Spectre variants 1 and 2 included, for which no CPUID or MSR bit
    /// exists. MONITOR is left out: Linux would idle in MWAIT, which is no better than HLT here, and which stores of other
    /// processors would have to end.
    pub const fn max() -> Self {
        Self {
            name: "max",
            vendor: *b"GenuineIntel",
            brand: Cow::Borrowed("rx86 virtual processor"),
            family: 6,
            model: 0x1c,
            stepping: 10,
            features: FeatureSet::all().without(Feature::Monitor),
            physical_bits: 46,
        }
    }

    /// Whether the model has `feature`.
    #[inline]
    pub const fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    /// Bits of a linear address.
    pub const fn linear_bits(&self) -> u32 {
        if self.has(Feature::La57) { 57 } else { 48 }
    }

    /// CPUID leaf 1's EAX, which is also in EDX after a reset.
    pub const fn signature(&self) -> u32 {
        let (family, extended_family) =
            if self.family > 15 { (15, self.family - 15) } else { (self.family, 0) };
        let extended_model = if family == 6 || family == 15 { self.model >> 4 & 15 } else { 0 };
        extended_family << 20 | extended_model << 16 | family << 8 | (self.model & 15) << 4 | self.stepping
    }

    /// Whether the model has everything that `instruction` needs.
    pub fn allows(&self, instruction: &Instruction) -> bool {
        instruction.cpuid_features().iter().all(|&gate| match gate_of(gate) {
            Gate::Always => true,
            Gate::Never => self.allows_alone(instruction.mnemonic()),
            Gate::Feature(feature) => self.has(feature),
        })
    }

    /// The instructions that exist although the rest of their group does not.
    fn allows_alone(&self, mnemonic: Mnemonic) -> bool {
        match mnemonic {
            // NOPs without CET's shadow stacks and without 3DNow.
            Mnemonic::Rdsspd | Mnemonic::Rdsspq | Mnemonic::Prefetch => true,
            // The hypercall; the rest of VMX is not implemented.
            Mnemonic::Vmcall => self.has(Feature::Hypervisor),
            _ => false,
        }
    }

    /// What the decoder must know: with these features absent, the same bytes are other instructions.
    pub fn decoder_options(&self) -> u32 {
        let unless = |feature, option| if self.has(feature) { 0 } else { option };
        // F3 0F BC is BSF without BMI1, F3 0F BD is BSR without LZCNT, F3 0F 09 is WBINVD without WBNOINVD.
        DecoderOptions::NO_WBNOINVD
            | unless(Feature::Bmi1, DecoderOptions::NO_MPFX_0FBC)
            | unless(Feature::Lzcnt, DecoderOptions::NO_MPFX_0FBD)
            | unless(Feature::Lahf64, DecoderOptions::NO_LAHF_SAHF_64)
    }
}

/// What a group of instructions depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// On nothing: every processor that runs this code has them, or executes them as NOPs.
    Always,
    /// They are not implemented.
    Never,
    /// On a feature of the list.
    Feature(Feature),
}

/// What the instructions of the decoder's group `group` depend on.
fn gate_of(group: CpuidFeature) -> Gate {
    use CpuidFeature::*;
    match group {
        INTEL8086 | INTEL186 | INTEL286 | INTEL386 | INTEL486 | CPUID | RDPMC | PAUSE | MULTIBYTENOP => {
            Gate::Always
        }
        // Hints in NOP space: ENDBR, CLDEMOTE, PREFETCHWT1 and PREFETCHIT do nothing where they mean nothing.
        CET_IBT | CLDEMOTE | PREFETCHWT1 | PREFETCHITI => Gate::Always,
        _ => FEATURES
            .iter()
            .find(|row| row.gates.contains(&group))
            .map_or(Gate::Never, |row| Gate::Feature(row.feature)),
    }
}
