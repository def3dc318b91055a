//! The fuzz targets over seeded random inputs: what cargo-fuzz does for hours, for some seconds in every test run.
//!
//! `RX86_SEED` and `RX86_COUNT` choose the inputs.

use rx86_testsuite::cases::random::Random;
use rx86_testsuite::fuzz::{TARGETS, input};
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// Inputs of each target, unless `RX86_COUNT` says otherwise.
const COUNT: u64 = 4000;
const SEED: u64 = 1;
const LONGEST: u64 = 600;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn random_inputs_do_no_harm() {
    let (seed, count) = (number("RX86_SEED", SEED), number("RX86_COUNT", COUNT));
    for &(name, target) in TARGETS {
        for number in 0..count {
            let data =
                input(&mut Random::new(Random::new(seed).bits() ^ Random::new(number).bits()), LONGEST);
            let outcome = catch_unwind(|| target(&data));
            assert!(outcome.is_ok(), "{name}, seed {seed}, input {number}: {data:02x?}");
        }
        println!("{name}: {count} inputs, seed {seed}");
    }
}

/// Every target has its binary for cargo-fuzz, and every binary its entry in the manifest.
#[test]
fn every_target_is_built_by_cargo_fuzz() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
    for (name, _) in TARGETS {
        let text = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).expect(name);
        assert!(text.contains("rx86_testsuite::fuzz::"), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
