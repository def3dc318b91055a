//! Debug registers and resets, by cases.

use crate::backend::ResetKind;
use crate::bare_board::BareBoard;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{Activity, SegmentIndex, bits};
use rx86_softmmu::Access;

/// A processor with DR0 to DR3 and DR7 set.
fn cpu(addresses: [u64; 4], dr7: u64) -> Cpu {
    let mut cpu = BareBoard::default().cpu();
    cpu.state.dr[..4].copy_from_slice(&addresses);
    cpu.state.dr[7] = dr7;
    cpu.debug_registers_changed();
    cpu
}

/// Breakpoint 0 enabled, with its R/W and LEN fields.
const fn first(condition: u64, length: u64) -> u64 {
    2 | condition << 16 | length << 18
}

#[test]
fn data_breakpoints_hit_what_they_overlap() {
    use Access::{Read, Write};
    // DR0, DR7, the access, the hits.
    let cases: &[(u64, u64, u64, u64, Access, u64)] = &[
        (0x1000, first(1, 0), 0x1000, 1, Write, 1),
        (0x1000, first(1, 0), 0x1000, 1, Read, 0),
        (0x1000, first(3, 0), 0x1000, 1, Read, 1),
        (0x1000, first(3, 0), 0x0ffd, 4, Read, 1),
        (0x1000, first(3, 0), 0x0ffc, 4, Read, 0),
        (0x1000, first(3, 0), 0x1001, 8, Read, 0),
        (0x1007, first(3, 2), 0x1000, 1, Write, 1),
        (0x1006, first(3, 3), 0x1003, 1, Write, 0),
        (0x1006, first(3, 3), 0x1007, 1, Write, 1),
        (0x1003, first(1, 1), 0x1002, 1, Write, 1),
        (0x1000, first(0, 0), 0x1000, 8, Write, 0),
        (0x1000, first(2, 0), 0x1000, 8, Write, 0),
        (0x1000, 3 << 16, 0x1000, 8, Write, 0),
    ];
    for &(address, dr7, linear, bytes, access, hits) in cases {
        let mut cpu = cpu([address, 0, 0, 0], dr7);
        cpu.data_breakpoints(linear, bytes, access);
        let expected = (hits != 0).then(|| Exception::db(hits));
        assert_eq!(cpu.pending_exception, expected, "{address:#x} {dr7:#x} {linear:#x} {bytes} {access:?}");
    }
}

#[test]
fn traps_of_one_instruction_are_one() {
    let mut cpu = cpu([0x1000, 0x2000, 0, 0], first(3, 0) | 8 | 1 << 20);
    cpu.data_breakpoints(0x1000, 1, Access::Read);
    cpu.data_breakpoints(0x2000, 1, Access::Write);
    cpu.note_single_step();
    assert_eq!(cpu.pending_exception, Some(Exception::db(3 | bits::DR6_BS)));
}

#[test]
fn accesses_by_way_of_the_tlb_are_seen_too() {
    let mut cpu = cpu([0; 4], 0x400);
    cpu.write_linear(0x1000, [1; 4]).unwrap();
    cpu.write_linear(0x1000, [2; 4]).unwrap();
    cpu.state.dr[1] = 0x1002;
    cpu.state.dr[7] = 8 | 1 << 20;
    cpu.debug_registers_changed();
    cpu.write_linear(0x1004, [2; 4]).unwrap();
    assert_eq!(cpu.pending_exception, None);
    cpu.write_linear(0x1000, [2; 4]).unwrap();
    assert_eq!(cpu.pending_exception, Some(Exception::db(2)));
}

#[test]
fn an_access_that_faults_does_not_trap() {
    // Paging without a page directory: everything faults.
    let mut cpu = cpu([0x1000, 0, 0, 0], first(3, 0));
    cpu.state.cr0 |= bits::CR0_PE | bits::CR0_PG;
    cpu.paging_changed();
    assert!(cpu.read_linear::<4>(0x1000).is_err() && cpu.write_linear(0x1000, [0; 4]).is_err());
    assert_eq!(cpu.pending_exception, None);
}

#[test]
fn code_breakpoints_hit_the_first_byte_unless_rf_is_set() {
    let mut cpu = cpu([0xffff_fff0, 0, 0, 0], first(0, 0));
    assert_eq!(cpu.check_code_breakpoint(), Err(Exception::db(1)));
    cpu.state.flags.system |= bits::RFLAGS_RF;
    assert_eq!(cpu.check_code_breakpoint(), Ok(()));
    cpu.state.flags.system &= !bits::RFLAGS_RF;
    cpu.state.set_rip(0xfff1);
    assert_eq!(cpu.check_code_breakpoint(), Ok(()));
}

#[test]
fn port_breakpoints_need_cr4_de() {
    let mut cpu = cpu([0x61, 0, 0, 0], first(2, 0));
    cpu.port_breakpoints(0x60, 2);
    assert_eq!(cpu.pending_exception, None);
    cpu.state.cr4 |= bits::CR4_DE;
    cpu.port_breakpoints(0x60, 1);
    assert_eq!(cpu.pending_exception, None);
    cpu.port_breakpoints(0x60, 2);
    assert_eq!(cpu.pending_exception, Some(Exception::db(1)));
}

#[test]
fn power_up_and_init_values() {
    let mut cpu = BareBoard::default().cpu();
    let check = |cpu: &Cpu, cr0: u64| {
        let state = &cpu.state;
        let cs = state.segments[SegmentIndex::CS];
        assert_eq!((cs.selector, cs.base, state.rip()), (0xf000, 0xffff_0000, 0xfff0));
        assert_eq!((state.cr0, state.cr3, state.cr4, state.efer), (cr0, 0, 0, 0));
        assert_eq!((state.flags.get(), state.dr[6], state.dr[7]), (2, 0xffff_0ff0, 0x400));
        assert_eq!(state.regs[usize::from(reg::RDX)], 0x106ca);
        assert_eq!((state.idtr.limit, state.gdtr.limit), (0xffff, 0xffff));
    };
    check(&cpu, 0x6000_0010);
    assert_eq!((cpu.state.x87.control, cpu.state.x87.tags, cpu.state.mxcsr), (0x40, 0x5555, 0x1f80));

    cpu.write_cr0(bits::CR0_PE | bits::CR0_CD).unwrap();
    cpu.write_msr(0xc000_0080, 1).unwrap();
    cpu.write_msr(0xc000_0082, 0x1234).unwrap();
    cpu.state.set_xmm(3, 99);
    cpu.state.x87.control = 0x37f;
    cpu.state.set_rip(0x1000);
    cpu.pending_exception = Some(Exception::UD);
    cpu.reset(ResetKind::Init);
    check(&cpu, 0x4000_0010);
    assert_eq!((cpu.state.xmm(3), cpu.state.x87.control, cpu.state.msrs.lstar), (99, 0x37f, 0x1234));
    assert_eq!(cpu.pending_exception, None);
    cpu.reset(ResetKind::PowerOn);
    check(&cpu, 0x6000_0010);
    assert_eq!((cpu.state.xmm(3), cpu.state.x87.control, cpu.state.msrs.lstar), (0, 0x40, 0));
}

#[test]
fn a_start_up_ipi_is_for_those_who_wait() {
    let mut cpu = BareBoard::default().cpu();
    cpu.start_up(0x9f);
    assert_eq!(cpu.state.rip(), 0xfff0);
    cpu.state.activity = Activity::WaitForSipi;
    cpu.start_up(0x9f);
    let cs = cpu.state.segments[SegmentIndex::CS];
    assert_eq!((cs.selector, cs.base, cpu.state.rip()), (0x9f00, 0x9f000, 0));
    assert_eq!(cpu.state.activity, Activity::Active);
}
