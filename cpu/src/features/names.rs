//! The features' names, as Linux's /proc/cpuinfo has them; QEMU's are understood too. Case, `_`, `.` and `-` do not count.

use super::{FEATURES, Feature};

/// Names that are not the feature's own in small letters: first the one that is printed, then others that are understood.
const NAMES: &[(&str, &[&str])] = &[
    ("Sse3", &["pni"]),
    ("Cmpxchg16b", &["cx16"]),
    ("Sse41", &["sse4_1"]),
    ("Sse42", &["sse4_2"]),
    ("SelfSnoop", &["ss"]),
    ("Clfsh", &["clflush"]),
    ("TscDeadline", &["tsc_deadline_timer", "tsc-deadline"]),
    ("TscAdjust", &["tsc_adjust"]),
    ("ArchCapabilities", &["arch_capabilities"]),
    ("Lahf64", &["lahf_lm"]),
    ("Lzcnt", &["abm"]),
    ("Prefetchw", &["3dnowprefetch"]),
    ("Page1gb", &["pdpe1gb"]),
    ("InvariantTsc", &["nonstop_tsc", "invtsc", "constant_tsc"]),
    ("Sha", &["sha_ni"]),
    ("AvxVnni", &["avx_vnni"]),
];

/// Features of other processors, which rx86 does not implement: their names are answered with that. A name that has
/// become a feature of the list is found there first.
pub(super) const UNIMPLEMENTED: &str = "avx avx2 fma f16c sha_ni gfni vaes vpclmulqdq avx_vnni serialize waitpkg movdiri \
    movdir64b cldemote avx512f avx512dq avx512cd avx512bw avx512vl avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni \
    avx512_bitalg avx512_vpopcntdq avx512_bf16 avx512_fp16 avx_ifma avx_ne_convert amx_tile amx_int8 amx_bf16 vmx svm smx \
    sgx rtm hle mpx shstk ibt user_shstk sse4a fma4 xop tbm 3dnow 3dnowext mwaitx clzero wbnoinvd pku5 enqcmd uintr kl \
    ptwrite pconfig fred lkgs cmpccxadd tme rdpru mcommit dtes64 ds_cpl est tm2 cid xtpr pdcm dca osxsave ospke ht acpi tm \
    pbe intel_pt cat_l3 spec_ctrl intel_stibp ssbd md_clear flush_l1d stibp ibpb ibrs perfctr_core topoext cr8_legacy \
    misalignsse osvw ibs skinit wdt lwp nodeid_msr bpext perfctr_nb perfctr_llc mmxext fxsr_opt fdp_excptn_only pts hwp";

/// The letters of a name that count.
fn letters(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().filter(|byte| !matches!(byte, b'_' | b'.' | b'-')).map(|byte| byte.to_ascii_lowercase())
}

fn is_same(a: &str, b: &str) -> bool {
    letters(a).eq(letters(b))
}

/// The printed and the understood names of a feature that is not printed as in the list.
fn others(own_name: &str) -> &'static [&'static str] {
    NAMES.iter().find(|(name, _)| *name == own_name).map_or(&[], |(_, others)| others)
}

impl Feature {
    /// The name as in /proc/cpuinfo.
    pub fn name(self) -> String {
        let own = FEATURES[self as usize].own_name;
        others(own).first().map_or_else(|| own.to_ascii_lowercase(), |name| name.to_string())
    }

    /// The feature of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let row = FEATURES.iter().find(|row| {
            is_same(row.own_name, name) || others(row.own_name).iter().any(|other| is_same(other, name))
        });
        row.map(|row| row.feature)
    }
}

/// Whether `name` is a feature of some processor that rx86 does not implement.
pub(super) fn is_unimplemented(name: &str) -> bool {
    UNIMPLEMENTED.split_whitespace().any(|other| is_same(other, name))
}

/// Those of `names` that look like `name`, the nearest first, at most three.
pub(super) fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let plain = |name| String::from_utf8_lossy(&letters(name).collect::<Vec<u8>>()).into_owned();
    let wanted = plain(name);
    let limit = 1 + wanted.len() / 4;
    let mut found: Vec<(usize, &str)> = names
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|&(distance, candidate)| {
            distance <= limit || (wanted.len() > 2 && plain(candidate).starts_with(&wanted))
        })
        .collect();
    found.sort();
    found.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// Letters that must be put in, taken out or replaced to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_found_by_its_printed_name() {
        for row in FEATURES {
            let name = row.feature.name();
            assert_eq!(Feature::from_name(&name), Some(row.feature), "{name}");
        }
    }

    #[test]
    fn names_of_linux_and_of_qemu() {
        let cases = [
            ("sse4_2", Feature::Sse42),
            ("sse4.2", Feature::Sse42),
            ("SSE42", Feature::Sse42),
            ("pni", Feature::Sse3),
            ("sse3", Feature::Sse3),
            ("lahf-lm", Feature::Lahf64),
            ("lzcnt", Feature::Lzcnt),
            ("invtsc", Feature::InvariantTsc),
            ("clflush", Feature::Clfsh),
            ("rdrand", Feature::Rdrand),
            ("arch-capabilities", Feature::ArchCapabilities),
        ];
        for (name, feature) in cases {
            assert_eq!(Feature::from_name(name), Some(feature), "{name}");
        }
        assert_eq!(Feature::from_name("sse5"), None);
    }

    #[test]
    fn near_names() {
        let names = ["sse4_1", "sse4_2", "rdrand", "rdseed", "tsc_deadline_timer"];
        for (name, nearest) in [("rdrnd", "rdrand"), ("sse43", "sse4_1"), ("tsc_dead", "tsc_deadline_timer")]
        {
            assert_eq!(near(name, names.into_iter()).first(), Some(&nearest), "{name}");
        }
        assert!(near("quux", names.into_iter()).is_empty());
    }
}
