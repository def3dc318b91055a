//! Fuzz targets: each is a function of bytes that must not panic, hang or corrupt memory, whatever they are. cargo-fuzz
//! drives them from `testsuite/fuzz`; a test of this crate runs them over seeded random bytes.

pub mod devices;
pub mod instructions;
pub mod loaders;

use crate::cases::random::Random;

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by the names of their binaries in `testsuite/fuzz/fuzz_targets`.
pub const TARGETS: &[(&str, Target)] = &[
    ("instructions", instructions::run),
    ("kernel", loaders::kernel),
    ("initrd", loaders::initrd),
    ("devices", devices::run),
];

/// Random input for a target: any bytes, or bytes of which many are borders of ranges.
pub fn input(random: &mut Random, longest: u64) -> Vec<u8> {
    let length = random.below(longest + 1);
    let plain = random.percent(50);
    let byte = |random: &mut Random| match random.below(4) {
        0 if !plain => 0,
        1 if !plain => 0xff,
        _ => random.bits() as u8,
    };
    (0..length).map(|_| byte(random)).collect()
}

/// The input of a target, taken piece by piece; zeros once it is used up.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.u64(1) as u8
    }

    /// A number of 1 to 8 bytes.
    fn u64(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
    }
}
