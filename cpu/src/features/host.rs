//! What the host's own CPUID tells, for the model `host-like`.

use super::{Feature, FeatureSet};

/// A host's processor.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    /// CPUID's vendor string.
    pub(super) vendor: [u8; 12],
    /// The brand string.
    pub(super) brand: String,
    /// Displayed family, model and stepping.
    pub(super) signature: (u32, u32, u32),
    /// The features of rx86's list that it has.
    pub(super) features: FeatureSet,
}

impl Host {
    /// Whether the host has `feature`.
    pub(super) fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }
}

/// The host's processor; `None` if it is no x86-64.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn read() -> Option<Host> {
    None
}

/// The host's processor; `None` if it is no x86-64.
#[cfg(target_arch = "x86_64")]
pub(super) fn read() -> Option<Host> {
    let basic = cpuid(0, 0);
    let mut vendor = [0; 12];
    for (place, word) in vendor.chunks_exact_mut(4).zip([basic[1], basic[3], basic[2]]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let features = super::FEATURES
        .iter()
        .filter(|row| cpuid(row.leaf, row.subleaf)[row.register as usize] >> row.bit & 1 != 0)
        .fold(FeatureSet::default(), |features, row| features.with(row.feature));
    let brand: Vec<u8> = (0x8000_0002..=0x8000_0004)
        .flat_map(|leaf| cpuid(leaf, 0))
        .flat_map(u32::to_le_bytes)
        .take_while(|&byte| byte != 0)
        .collect();
    let brand = String::from_utf8_lossy(&brand).trim().to_string();
    Some(Host { vendor, brand, signature: displayed(cpuid(1, 0)[0]), features })
}

/// EAX, EBX, ECX and EDX of a leaf; zeros if the host has no such leaf.
#[cfg(target_arch = "x86_64")]
fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let last = __cpuid(leaf & 0x8000_0000).eax;
    if leaf > last {
        return [0; 4];
    }
    let result = __cpuid_count(leaf, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Family, model and stepping of leaf 1's EAX (SDM vol. 2, CPUID, figure 3-6).
#[cfg(target_arch = "x86_64")]
fn displayed(signature: u32) -> (u32, u32, u32) {
    let family = signature >> 8 & 15;
    let model = signature >> 4 & 15;
    let extended = if family == 6 || family == 15 { signature >> 16 & 15 } else { 0 };
    let extended_family = if family == 15 { signature >> 20 & 0xff } else { 0 };
    (family + extended_family, extended << 4 | model, signature & 15)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::features::CpuModel;

    #[test]
    fn the_host_has_what_every_64_bit_processor_has() {
        let host = read().expect("an x86-64 host");
        for feature in [Feature::Fpu, Feature::Sse2, Feature::Lm, Feature::Nx, Feature::Cx8] {
            assert!(host.has(feature), "{feature:?}");
        }
        assert_eq!(host.has(Feature::Sse42), is_x86_feature_detected!("sse4.2"));
        assert_eq!(host.has(Feature::Bmi2), is_x86_feature_detected!("bmi2"));
    }

    #[test]
    fn signatures_are_read_as_they_are_packed() {
        for (family, model, stepping) in [(6, 0x1c, 10), (15, 4, 1), (0x19, 0x21, 0), (5, 2, 3)] {
            let packed = CpuModel { family, model, stepping, ..CpuModel::max() }.signature();
            assert_eq!(displayed(packed), (family, model, stepping));
        }
    }
}
