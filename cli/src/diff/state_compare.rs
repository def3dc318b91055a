//! What two of rx86's own engines must agree about beside the registers that a debugger shows.

use super::registers::Difference;
use rx86_cpu::state::{Segment, TableRegister, Vcpu};
use rx86_softmmu::GuestMemory;

/// Bytes that are compared at once.
const CHUNK: usize = 64 * 1024;
/// Differing bytes that are reported.
const MOST_BYTES: usize = 64;

/// The parts of two states that `Registers` does not hold.
pub(super) fn system_differences(left: &Vcpu, right: &Vcpu) -> Vec<Difference> {
    const SEGMENTS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];
    let mut found = Vec::new();
    let mut compare = |name: &str, left: u128, right: u128| {
        if left != right {
            found.push(Difference { name: name.into(), left, right });
        }
    };
    let segment = |segment: &Segment| {
        u128::from(segment.base) << 64 | u128::from(segment.limit) << 32 | u128::from(segment.access)
    };
    let table = |table: &TableRegister| u128::from(table.base) << 16 | u128::from(table.limit);
    for (i, name) in SEGMENTS.iter().enumerate() {
        compare(
            &format!("{name} (base, limit, access)"),
            segment(&left.segments[i]),
            segment(&right.segments[i]),
        );
    }
    compare("LDTR (base, limit, access)", segment(&left.ldtr), segment(&right.ldtr));
    compare("TR (base, limit, access)", segment(&left.tr), segment(&right.tr));
    compare("GDTR (base, limit)", table(&left.gdtr), table(&right.gdtr));
    compare("IDTR (base, limit)", table(&left.idtr), table(&right.idtr));
    compare("FTW", left.x87.tags.into(), right.x87.tags.into());
    compare("CPL", left.cpl.into(), right.cpl.into());
    compare("XCR0", left.xcr0.into(), right.xcr0.into());
    compare("PKRU", left.pkru.into(), right.pkru.into());
    compare("activity", left.activity as u128, right.activity as u128);
    compare("STI shadow", left.sti_shadow.into(), right.sti_shadow.into());
    compare("MOV SS shadow", left.mov_ss_shadow.into(), right.mov_ss_shadow.into());
    for (i, (left, right)) in left.dr.iter().zip(&right.dr).enumerate() {
        compare(&format!("DR{i}"), (*left).into(), (*right).into());
    }
    for (i, (left, right)) in left.zmm.iter().zip(&right.zmm).enumerate() {
        for (lane, (left, right)) in left.0.iter().zip(&right.0).enumerate() {
            compare(&format!("ZMM{i}[{lane}]"), (*left).into(), (*right).into());
        }
    }
    if left.msrs != right.msrs {
        found.push(Difference { name: "MSRs".into(), left: 0, right: 1 });
    }
    found
}

/// Guest physical addresses of bytes that differ, a few at most.
pub(super) fn memory_differences(left: &GuestMemory, right: &GuestMemory) -> Vec<u64> {
    let mut found = Vec::new();
    let (mut left_bytes, mut right_bytes) = (vec![0; CHUNK], vec![0; CHUNK]);
    for region in left.regions() {
        let mut at = region.gpa;
        while at < region.gpa + region.len && found.len() < MOST_BYTES {
            let bytes = CHUNK.min((region.gpa + region.len - at) as usize);
            let read = left.read(at, &mut left_bytes[..bytes]).and(right.read(at, &mut right_bytes[..bytes]));
            if read.is_ok() && left_bytes[..bytes] != right_bytes[..bytes] {
                let pairs = left_bytes[..bytes].iter().zip(&right_bytes[..bytes]).enumerate();
                found.extend(pairs.filter(|(_, (l, r))| l != r).map(|(i, _)| at + i as u64));
            }
            at += bytes as u64;
        }
    }
    found.truncate(MOST_BYTES);
    found
}

/// The bytes at `gpas` that differ, as differences.
pub(super) fn bytes_that_differ(left: &GuestMemory, right: &GuestMemory, gpas: &[u64]) -> Vec<Difference> {
    let byte = |memory: &GuestMemory, gpa: u64| {
        let mut byte = [0];
        memory.read(gpa, &mut byte).map_or(0, |()| byte[0])
    };
    gpas.iter()
        .map(|&gpa| (gpa, byte(left, gpa), byte(right, gpa)))
        .filter(|(_, left, right)| left != right)
        .map(|(gpa, left, right)| Difference {
            name: format!("the byte at {gpa:#x}"),
            left: left.into(),
            right: right.into(),
        })
        .collect()
}
