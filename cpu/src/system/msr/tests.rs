//! The table's order, and the #GP rules of registers, by cases.

use super::*;
use crate::bare_board::{BareBoard, TSC};

#[test]
fn the_table_is_in_ascending_order() {
    for pair in table::TABLE.windows(2) {
        assert!(pair[0].last < pair[1].first, "{} {}", pair[0].name, pair[1].name);
    }
    assert!(table::TABLE.iter().all(|row| row.first <= row.last));
}

#[test]
fn values_are_taken_or_refused() {
    const NOT_CANONICAL: u64 = 1 << 47;
    // Register, value, whether it is taken.
    let cases: &[(u32, u64, bool)] = &[
        (0xc000_0080, 1 << 8 | 1 << 11 | 1, true),
        (0xc000_0080, 1 << 12, false),
        (0xc000_0080, 1 << 15, false),
        (0xc000_0081, u64::MAX, true),
        (0xc000_0082, 0xffff_ffff_8000_0000, true),
        (0xc000_0082, NOT_CANONICAL, false),
        (0xc000_0083, NOT_CANONICAL, false),
        (0xc000_0084, 0x47700, true),
        (0xc000_0084, 1 << 32, false),
        (0xc000_0100, NOT_CANONICAL, false),
        (0xc000_0101, 0x7fff_ffff_ffff, true),
        (0xc000_0102, NOT_CANONICAL, false),
        (0xc000_0103, 0xffff_ffff, true),
        (0xc000_0103, 1 << 32, false),
        (0x174, 0x10, true),
        (0x176, NOT_CANONICAL, false),
        (0x277, 0x0007_0406_0007_0406, true),
        (0x277, 0x0407_0507_0606_0001, true),
        (0x277, 0x02, false),
        (0x277, 0x08 << 56, false),
        (0x2ff, 0xc06, true),
        (0x2ff, 0x7, false),
        (0x2ff, 1 << 12, false),
        (0x250, 0x0606_0606_0606_0606, true),
        (0x250, 0x0707_0707_0707_0707, false),
        (0x26f, 0x0505_0505_0505_0505, true),
        (0x26f, 2, false),
        (0x200, 0x8000_0006, true),
        (0x200, 0x8000_0106, false),
        (0x200, 1 << 46, false),
        (0x201, 0x3fff_8000_0800, true),
        (0x201, 0x400, false),
        (0x20f, 1 << 46, false),
        (0xe1, 0xffff_fffd, true),
        (0xe1, 2, false),
        (0xe1, 1 << 32, false),
        (0xfe, 0, false),
        (0x10a, 0, false),
        (0x8b, 0, true),
        (0x17a, 7, true),
        (0x17a, 8, false),
        (0x1d9, 2, true),
        (0x1d9, 1 << 6, false),
        (0xda0, 0, true),
        (0xda0, 1 << 8, false),
        (0x4b56_4d01, 0x1001, true),
        (0x4b56_4d01, 0x1003, false),
        (0x4b56_4d04, 0x1005, true),
        (0x4b56_4d04, 0x1007, false),
        (0x800, 0, false),
        (0x48, 0, false),
        (0xc001_0015, 0, false),
    ];
    for &(index, value, taken) in cases {
        let mut cpu = BareBoard::default().cpu();
        let before = cpu.read_msr(index);
        let expected = if taken { Ok(()) } else { Err(Exception::gp(0)) };
        assert_eq!(cpu.write_msr(index, value), expected, "{index:#x} {value:#x}");
        if !taken {
            assert_eq!(cpu.read_msr(index), before, "{index:#x}: a refused value changes nothing");
        } else if index != 0x8b {
            assert_eq!(cpu.read_msr(index), Ok(value), "{index:#x}");
        }
    }
}

#[test]
fn canonical_means_57_bits_with_la57() {
    let mut cpu = BareBoard::default().cpu();
    cpu.state.cr4 |= crate::state::bits::CR4_LA57;
    assert_eq!(cpu.write_msr(0xc000_0100, 1 << 47), Ok(()));
    assert_eq!(cpu.write_msr(0xc000_0100, 1 << 56), Err(Exception::gp(0)));
}

#[test]
fn a_model_without_a_feature_lacks_its_registers() {
    for (feature, index) in [
        (Feature::Mtrr, 0xfe),
        (Feature::Mtrr, 0x20a),
        (Feature::Pat, 0x277),
        (Feature::Rdtscp, 0xc000_0103),
        (Feature::TscAdjust, 0x3b),
        (Feature::Hypervisor, 0x4b56_4d01),
        (Feature::ArchCapabilities, 0x10a),
    ] {
        let mut cpu = BareBoard::default().cpu();
        assert!(cpu.read_msr(index).is_ok(), "{index:#x}");
        cpu.model.features = cpu.model.features.without(feature);
        assert_eq!(cpu.read_msr(index), Err(Exception::gp(0)), "{index:#x}");
    }
}

#[test]
fn the_counter_and_its_adjustment_move_together() {
    let mut cpu = BareBoard::default().cpu();
    assert_eq!(cpu.read_msr(0x10), Ok(TSC));
    cpu.write_msr(0x10, 5).unwrap();
    assert_eq!(cpu.read_msr(0x10), Ok(5));
    assert_eq!(cpu.read_msr(0x3b), Ok(5u64.wrapping_sub(TSC)));
    cpu.write_msr(0x3b, 0).unwrap();
    assert_eq!(cpu.read_msr(0x10), Ok(TSC));
}

#[test]
fn reading_misc_enable_back_shows_what_is_fixed() {
    let mut cpu = BareBoard::default().cpu();
    cpu.write_msr(0x1a0, u64::MAX).unwrap();
    assert_eq!(cpu.read_msr(0x1a0), Ok(1 << 0 | 1 << 11 | 1 << 12 | 1 << 22));
}
