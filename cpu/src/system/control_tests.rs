//! The rules of control registers, by cases.

use crate::bare_board::BareBoard;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::features::Feature;
use crate::state::bits::*;
use crate::state::{SegmentIndex, access};
use rx86_softmmu::PagingMode;

const GP: Result<(), Exception> = Err(Exception::gp(0));
/// Protected mode with paging.
const PAGED: u64 = CR0_PE | CR0_ET | CR0_PG;

/// Where a case starts from.
#[derive(Clone, Copy, Debug)]
enum From {
    Real,
    Paged,
    Pae,
    Compatibility,
    Long,
}

fn cpu(from: From) -> Cpu {
    let mut cpu = BareBoard::default().cpu();
    let state = &mut cpu.state;
    let (cr0, cr4, efer) = match from {
        From::Real => (CR0_ET, 0, 0),
        From::Paged => (PAGED, 0, 0),
        From::Pae => (PAGED, CR4_PAE, 0),
        From::Compatibility | From::Long => (PAGED, CR4_PAE, EFER_LME | EFER_LMA),
    };
    (state.cr0, state.cr4, state.efer) = (cr0, cr4, efer);
    if let From::Long = from {
        state.segments[SegmentIndex::CS].access |= access::LONG;
    }
    cpu.paging_changed();
    cpu
}

#[test]
fn cr0() {
    let cases: &[(From, u64, Result<(), Exception>)] = &[
        (From::Real, CR0_PE, Ok(())),
        (From::Real, CR0_PG, GP),
        (From::Real, CR0_NW, GP),
        (From::Real, CR0_NW | CR0_CD, Ok(())),
        (From::Real, 1 << 32, GP),
        (From::Real, 1 << 6 | 1 << 28, Ok(())),
        (From::Paged, CR0_PE, Ok(())),
        (From::Paged, 0, Ok(())),
        (From::Compatibility, CR0_PE, Ok(())),
        (From::Long, CR0_PE, GP),
        (From::Long, PAGED | CR0_WP, Ok(())),
    ];
    for &(from, value, expected) in cases {
        let mut cpu = cpu(from);
        let before = cpu.state.cr0;
        assert_eq!(cpu.write_cr0(value), expected, "{from:?} {value:#x}");
        let after = if expected.is_ok() { value & 0xe005_003f | CR0_ET } else { before };
        assert_eq!(cpu.state.cr0, after, "{from:?} {value:#x}");
    }
}

#[test]
fn long_mode_is_entered_and_left_by_paging() {
    let mut cpu = cpu(From::Real);
    cpu.write_cr0(CR0_PE).unwrap();
    cpu.write_msr(0xc000_0080, EFER_LME).unwrap();
    assert_eq!(cpu.write_cr0(PAGED), GP, "without PAE");
    cpu.write_cr4(CR4_PAE).unwrap();
    cpu.state.segments[SegmentIndex::CS].access |= access::LONG;
    assert_eq!(cpu.write_cr0(PAGED), GP, "from a 64-bit code segment");
    cpu.state.segments[SegmentIndex::CS].access &= !access::LONG;
    cpu.state.tr.access = 0x83;
    assert_eq!(cpu.write_cr0(PAGED), GP, "with a 16-bit task");
    cpu.state.tr.access = 0x8b;
    cpu.write_cr0(PAGED).unwrap();
    assert_eq!((cpu.state.efer, cpu.mmu.context().mode), (EFER_LME | EFER_LMA, PagingMode::Level4));
    assert_eq!(cpu.write_msr(0xc000_0080, 0), GP, "LME while paging is on");
    cpu.write_msr(0xc000_0080, EFER_LME | EFER_NXE).unwrap();
    assert_eq!(cpu.state.efer, EFER_LME | EFER_LMA | EFER_NXE, "LMA is read-only");
    cpu.write_cr0(CR0_PE).unwrap();
    assert_eq!((cpu.state.efer, cpu.mmu.context().mode), (EFER_LME | EFER_NXE, PagingMode::Off));
    cpu.write_cr4(CR4_PAE | CR4_LA57).unwrap();
    cpu.write_cr0(PAGED).unwrap();
    assert_eq!(cpu.mmu.context().mode, PagingMode::Level5);
}

#[test]
fn cr4() {
    let cases: &[(From, u64, u64, Result<(), Exception>)] = &[
        (From::Real, 0, CR4_PAE | CR4_PSE | CR4_OSXSAVE | CR4_UMIP, Ok(())),
        (From::Real, 0, 1 << 13, GP),
        (From::Real, 0, 1 << 15, GP),
        (From::Real, 0, 1 << 23, GP),
        (From::Real, 0, 1 << 32, GP),
        (From::Real, 0, CR4_LA57, Ok(())),
        (From::Real, 0, CR4_PCIDE, GP),
        (From::Long, 0, 0, GP),
        (From::Long, 0, CR4_PAE | CR4_LA57, GP),
        (From::Long, 0, CR4_PAE | CR4_PCIDE, Ok(())),
        (From::Compatibility, 0, CR4_PAE | CR4_PCIDE, Ok(())),
        (From::Long, 0x1000, CR4_PAE | CR4_PCIDE, Ok(())),
        (From::Long, 0x1001, CR4_PAE | CR4_PCIDE, GP),
        (From::Pae, 0, CR4_PAE | CR4_PCIDE, GP),
    ];
    for &(from, cr3, value, expected) in cases {
        let mut cpu = cpu(from);
        cpu.state.cr3 = cr3;
        let before = cpu.state.cr4;
        assert_eq!(cpu.write_cr4(value), expected, "{from:?} {value:#x}");
        assert_eq!(cpu.state.cr4, if expected.is_ok() { value } else { before }, "{from:?} {value:#x}");
    }
}

#[test]
fn a_model_without_a_feature_reserves_its_bit() {
    let mut cpu = cpu(From::Real);
    cpu.model.features = cpu.model.features.without(Feature::Smap);
    assert_eq!(cpu.write_cr4(CR4_SMAP), GP);
    assert_eq!(cpu.write_cr4(CR4_SMEP), Ok(()));
}

#[test]
fn cr3() {
    let cases: &[(From, bool, u64, Result<(), Exception>)] = &[
        (From::Long, false, 0x3fff_ffff_f018, Ok(())),
        (From::Long, false, 1 << 46, GP),
        (From::Long, false, 1 << 63, GP),
        (From::Long, true, 1 << 63 | 0x1005, Ok(())),
        (From::Long, true, 1 << 62, GP),
    ];
    for &(from, pcid, value, expected) in cases {
        let mut cpu = cpu(from);
        if pcid {
            cpu.write_cr4(CR4_PAE | CR4_PCIDE).unwrap();
        }
        assert_eq!(cpu.write_cr3(value), expected, "{value:#x}");
        if expected.is_ok() {
            assert_eq!(cpu.state.cr3, value & !(1 << 63));
            assert_eq!(cpu.mmu.context().cr3, cpu.state.cr3);
        }
    }
    let mut cpu = cpu(From::Long);
    cpu.write_cr4(CR4_PAE | CR4_PCIDE).unwrap();
    assert_eq!(cpu.write_cr0(CR0_PE), GP, "paging stays on with PCIDs");
}

#[test]
fn pdptes_are_loaded_and_checked_with_cr3() {
    let mut cpu = cpu(From::Pae);
    let memory = cpu.mmu.memory().clone();
    for (i, entry) in [0x2001u64, 0, 0x4001, 0].into_iter().enumerate() {
        memory.write(0x1020 + i as u64 * 8, &entry.to_le_bytes()).unwrap();
    }
    cpu.write_cr3(0x1020).unwrap();
    assert_eq!(cpu.state.pdptes, [0x2001, 0, 0x4001, 0]);
    assert_eq!(cpu.mmu.context().pdptes, cpu.state.pdptes);
    memory.write(0x1028, &3u64.to_le_bytes()).unwrap();
    assert_eq!(cpu.write_cr3(0x1020), GP);
    assert_eq!(cpu.write_cr4(CR4_PAE | CR4_PGE), GP, "a change of PGE loads them again");
    memory.write(0x1028, &2u64.to_le_bytes()).unwrap();
    assert_eq!(cpu.write_cr3(0x1020), Ok(()), "what is not present is not checked");
}

#[test]
fn only_what_matters_empties_the_tlb() {
    let mut cpu = cpu(From::Long);
    let flushes = cpu.mmu.stats().flushes;
    cpu.write_cr0(cpu.state.cr0 | CR0_TS | CR0_MP).unwrap();
    cpu.write_cr4(cpu.state.cr4 | CR4_OSFXSR | CR4_TSD).unwrap();
    cpu.write_msr(0xc000_0080, cpu.state.efer | EFER_SCE).unwrap();
    assert_eq!(cpu.mmu.stats().flushes, flushes);
    cpu.write_cr4(cpu.state.cr4 | CR4_PGE).unwrap();
    assert!(cpu.mmu.stats().flushes > flushes);
}
