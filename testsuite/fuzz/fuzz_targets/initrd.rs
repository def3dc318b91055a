//! libFuzzer's entry to `rx86_testsuite::fuzz::loaders::initrd`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rx86_testsuite::fuzz::loaders::initrd(data));
