//! The CPU models as data: what each one has, and what each feature needs. Features are written by their names
//! (`names.rs`); a name that rx86 does not implement yet brings nothing.

use super::host;
use super::{CpuModel, FEATURES, Feature, FeatureSet};
use std::borrow::Cow;

/// Where a model's features come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// All that is implemented.
    All,
    /// Named.
    Named(&'static [&'static str]),
    /// What the host has.
    Host,
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct ModelRow {
    /// The name that selects it.
    pub name: &'static str,
    /// What it is, for `--cpu help`.
    pub summary: &'static str,
    pub(super) source: Source,
}

/// What every 64-bit processor has (the x86-64 psABI's baseline), and what programs do not see but systems use.
const BASELINE: &str = "fpu tsc msr cx8 cmov mmx fxsr sse sse2 syscall lm nx";
const SYSTEM: &str = "vme de pse pae mce apic sep mtrr pge mca pat pse36 clflush ss pcid smep smap umip invpcid erms fsrm \
    pdpe1gb rdtscp arch_capabilities 3dnowprefetch";
/// What the machine around the processor gives: a local APIC with its timers, a steady counter, a hypervisor's clock.
const MACHINE: &str = "x2apic tsc_deadline_timer arat tsc_adjust nonstop_tsc hypervisor";
/// The levels of the x86-64 psABI, each on top of the one before.
const V2: &str = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3";
const V3: &str = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave xsaveopt xsavec xgetbv1";
/// QEMU's `qemu64`, without the extension for nested guests.
const QEMU64: &str = "fpu de pse tsc msr mce cx8 pge cmov pat fxsr mmx sse sse2 pae sep apic mtrr clflush mca pse36 pni cx16 \
    lm syscall nx lahf_lm";

/// The models.
pub const MODELS: &[ModelRow] = &[
    ModelRow { name: "max", summary: "everything that rx86 implements (default)", source: Source::All },
    ModelRow {
        name: "x86-64-v2",
        summary: "the psABI's level 2: up to SSE4.2 and POPCNT",
        source: Source::Named(&[BASELINE, SYSTEM, MACHINE, V2]),
    },
    ModelRow {
        name: "x86-64-v3",
        summary: "the psABI's level 3: up to AVX2, BMI2 and FMA",
        source: Source::Named(&[BASELINE, SYSTEM, MACHINE, V2, V3]),
    },
    ModelRow {
        name: "qemu64",
        summary: "the features of QEMU's default: SSE3 and little else",
        source: Source::Named(&[QEMU64, MACHINE]),
    },
    ModelRow {
        name: "host-like",
        summary: "what the host has and rx86 implements, with the host's brand",
        source: Source::Host,
    },
];

/// What features cannot be without: those on the left need all on the right.
const NEEDS: &[(&str, &str)] = &[
    ("sse", "fxsr"),
    ("sse2", "sse"),
    ("pni", "sse2"),
    ("ssse3", "pni"),
    ("sse4_1", "ssse3"),
    ("sse4_2", "sse4_1"),
    ("aes pclmulqdq sha_ni gfni", "sse2"),
    ("mmx", "fpu"),
    ("xsave", "fxsr"),
    ("xsaveopt xsavec xgetbv1 avx pku", "xsave"),
    ("xsaves", "xsavec"),
    ("avx", "sse4_2"),
    ("avx2 fma f16c avx_vnni vaes vpclmulqdq", "avx"),
    ("avx_vnni", "avx2"),
    ("vaes", "aes"),
    ("vpclmulqdq", "pclmulqdq"),
    ("x2apic tsc_deadline_timer arat", "apic"),
    ("rdtscp tsc_adjust nonstop_tsc tsc_deadline_timer", "tsc"),
    ("lm la57 nx", "pae"),
    // EFER comes with SYSCALL.
    ("lm nx", "syscall"),
    ("lahf_lm cx16 pdpe1gb la57 pcid fsgsbase", "lm"),
    ("invpcid", "pcid"),
    ("pse36", "pse"),
    ("lm", "msr"),
    ("fsrm", "erms"),
];

fn named(names: &str) -> impl Iterator<Item = Feature> {
    names.split_whitespace().filter_map(Feature::from_name)
}

/// The features of all these names.
fn set(names: &[&str]) -> FeatureSet {
    names.iter().flat_map(|names| named(names)).fold(FeatureSet::default(), FeatureSet::with)
}

/// `NEEDS` with sets for names.
fn needs() -> impl Iterator<Item = (FeatureSet, FeatureSet)> {
    NEEDS.iter().map(|(dependents, needed)| (set(&[dependents]), set(&[needed])))
}

fn all() -> impl Iterator<Item = Feature> {
    FEATURES.iter().map(|row| row.feature)
}

/// What `feature` needs of which `features` lacks.
pub(super) fn missing(feature: Feature, features: FeatureSet) -> Vec<Feature> {
    let needed: Vec<FeatureSet> =
        needs().filter(|(dependents, _)| dependents.has(feature)).map(|(_, needed)| needed).collect();
    all().filter(|&other| !features.has(other) && needed.iter().any(|needed| needed.has(other))).collect()
}

/// `features` without those that cannot be without something that is not there.
pub(super) fn without_orphans(mut features: FeatureSet) -> FeatureSet {
    let needs: Vec<(FeatureSet, FeatureSet)> = needs().collect();
    loop {
        let lacks = |needed: &FeatureSet| all().any(|other| needed.has(other) && !features.has(other));
        let orphan = all().find(|&feature| {
            features.has(feature) && needs.iter().any(|(d, needed)| d.has(feature) && lacks(needed))
        });
        match orphan {
            Some(orphan) => features = features.without(orphan),
            None => return features,
        }
    }
}

impl ModelRow {
    /// The row of that name.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        MODELS.iter().find(|row| row.name.eq_ignore_ascii_case(name))
    }

    /// The model, and what a user should know about it.
    pub(super) fn model(&self) -> (CpuModel, Vec<String>) {
        let max = CpuModel::max();
        match self.source {
            Source::All => (max, Vec::new()),
            Source::Named(names) => {
                (CpuModel { name: self.name, features: without_orphans(set(names)), ..max }, Vec::new())
            }
            Source::Host => host_like(self.name, host::read()),
        }
    }
}

/// What `host` has and rx86 implements. Its signature is taken over from Intel's processors only: a guest that sees
/// another family under Intel's rules would apply another vendor's errata.
fn host_like(name: &'static str, host: Option<host::Host>) -> (CpuModel, Vec<String>) {
    let max = CpuModel { name, ..CpuModel::max() };
    let Some(host) = host else {
        let note = format!("{name}: this host is no x86-64, so the model is max");
        return (CpuModel::max(), vec![note]);
    };
    let machine = set(&[MACHINE, "apic"]);
    let features = FEATURES
        .iter()
        .map(|row| row.feature)
        .filter(|&feature| max.has(feature) && (machine.has(feature) || host.has(feature)))
        .fold(FeatureSet::default(), FeatureSet::with);
    let features = without_orphans(features);
    let brand = if host.brand.is_empty() { max.brand.clone() } else { Cow::Owned(host.brand) };
    let signed =
        if host.vendor == max.vendor { host.signature } else { (max.family, max.model, max.stepping) };
    let (family, model, stepping) = signed;
    (CpuModel { features, brand, family, model, stepping, ..max }, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::names::is_unimplemented;

    #[test]
    fn every_name_is_a_feature_or_known_to_be_absent() {
        let models = [BASELINE, SYSTEM, MACHINE, V2, V3, QEMU64];
        let needs = NEEDS.iter().flat_map(|(dependents, needed)| [*dependents, *needed]);
        for name in models.into_iter().chain(needs).flat_map(str::split_whitespace) {
            assert!(Feature::from_name(name).is_some() || is_unimplemented(name), "{name}");
        }
    }

    #[test]
    fn the_models_need_nothing_that_they_lack() {
        for row in MODELS {
            let (model, _) = row.model();
            assert_eq!(without_orphans(model.features), model.features, "{}", row.name);
            let beyond = FEATURES.iter().find(|f| model.has(f.feature) && !CpuModel::max().has(f.feature));
            assert!(beyond.is_none(), "{}: {beyond:?}", row.name);
            assert!(model.has(Feature::Lm) && model.has(Feature::Apic) && model.has(Feature::Sse2));
        }
    }

    #[test]
    fn each_level_has_the_one_below() {
        let features = |name| ModelRow::from_name(name).map(|row| row.model().0.features).unwrap_or_default();
        let (v2, v3, qemu64) = (features("x86-64-v2"), features("x86-64-v3"), features("qemu64"));
        for row in FEATURES {
            assert!(!v2.has(row.feature) || v3.has(row.feature), "{:?}", row.feature);
        }
        assert!(v2.has(Feature::Sse42) && !v2.has(Feature::Bmi1) && !v2.has(Feature::Xsave));
        assert!(v3.has(Feature::Bmi2) && v3.has(Feature::Movbe) && !v3.has(Feature::Rdrand));
        assert!(qemu64.has(Feature::Sse3) && !qemu64.has(Feature::Ssse3) && !qemu64.has(Feature::Popcnt));
    }

    #[test]
    fn a_host_gives_its_features_and_the_machine_keeps_its_own() {
        let mut leaves = host::Host { brand: "Some Processor".into(), ..host::Host::default() };
        leaves.vendor = *b"GenuineIntel";
        leaves.signature = (6, 0x8f, 3);
        leaves.features = set(&[BASELINE, "pae apic avx2 bmi1"]);
        let (model, notes) = host_like("host-like", Some(leaves.clone()));
        assert!(notes.is_empty() && model.has(Feature::Bmi1) && !model.has(Feature::Sse3));
        assert!(model.has(Feature::Hypervisor) && model.has(Feature::X2apic));
        assert_eq!((model.family, model.model, model.stepping), (6, 0x8f, 3));
        assert_eq!(model.brand, "Some Processor");
        leaves.vendor = *b"AuthenticAMD";
        let (model, _) = host_like("host-like", Some(leaves));
        assert_eq!(model.signature(), CpuModel::max().signature());
        let (model, notes) = host_like("host-like", None);
        assert_eq!((model, notes.len()), (CpuModel::max(), 1));
    }
}
