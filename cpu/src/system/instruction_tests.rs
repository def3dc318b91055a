//! Privilege, #UD and #GP rules of the system instructions, from their bytes, by cases.

use crate::bare_board::{BareBoard, TSC};
use crate::cpu::Cpu;
use crate::decode::{Semantics, decode};
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{Activity, SegmentIndex, X87, access, bits};

const GP: Outcome = Err(Exception::gp(0));
const UD: Outcome = Err(Exception::UD);
const OK: Outcome = Ok(());

/// What an instruction may come to.
type Outcome = Result<(), Exception>;
/// Registers and their values.
type Registers = [(u8, u64)];

/// A processor in 64-bit mode at `cpl`, paging by identity over the first 2 MiB, for users too.
fn long_mode(cpl: u8) -> Cpu {
    let mut cpu = BareBoard::default().cpu();
    let memory = cpu.mmu.memory().clone();
    for (gpa, entry) in [(0x1000, 0x2007u64), (0x2000, 0x3007), (0x3000, 0x87)] {
        memory.write(gpa, &entry.to_le_bytes()).unwrap();
    }
    let state = &mut cpu.state;
    state.cr0 = bits::CR0_PE | bits::CR0_ET | bits::CR0_PG;
    state.cr3 = 0x1000;
    state.cr4 = bits::CR4_PAE | bits::CR4_FSGSBASE | bits::CR4_OSXSAVE | bits::CR4_PKE | bits::CR4_PCIDE;
    state.efer = bits::EFER_LME | bits::EFER_LMA;
    state.segments[SegmentIndex::CS].access |= access::LONG;
    state.cpl = cpl;
    state.regs = Default::default();
    cpu.paging_changed();
    cpu
}

fn run(cpu: &mut Cpu, bytes: &[u8]) -> Outcome {
    let Ok(decoded) = decode::<Cpu>(bytes, cpu.mode(), &cpu.model) else { panic!("{bytes:x?} is cut short") };
    assert_eq!(usize::from(decoded.op.length), bytes.len(), "{bytes:x?}");
    match decoded.semantics {
        Semantics::Inline(run) => run(cpu, &decoded.op),
        Semantics::Hard(run) => run(cpu, &decoded.op),
    }
}

fn set(cpu: &mut Cpu, values: &Registers) {
    for &(register, value) in values {
        cpu.state.regs[usize::from(register)] = value;
    }
}

#[test]
fn privilege() {
    // The instruction at CPL 0 and at CPL 3.
    let cases: &[(&str, &[u8], Outcome, Outcome)] = &[
        ("hlt", b"\xf4", OK, GP),
        ("mov rax, cr0", b"\x0f\x20\xc0", OK, GP),
        ("mov rax, cr1", b"\x0f\x20\xc8", UD, UD),
        ("mov rax, cr8", b"\x44\x0f\x20\xc0", OK, GP),
        ("mov rax, dr0", b"\x0f\x21\xc0", OK, GP),
        ("mov rax, dr4", b"\x0f\x21\xe0", OK, GP),
        ("lmsw [rbx]", b"\x0f\x01\x33", OK, GP),
        ("smsw eax", b"\x0f\x01\xe0", OK, OK),
        ("clts", b"\x0f\x06", OK, GP),
        ("invd", b"\x0f\x08", OK, GP),
        ("wbinvd", b"\x0f\x09", OK, GP),
        ("invlpg [rax]", b"\x0f\x01\x38", OK, GP),
        ("rdmsr", b"\x0f\x32", OK, GP),
        ("wrmsr", b"\x0f\x30", GP, GP),
        ("swapgs", b"\x0f\x01\xf8", OK, GP),
        ("stac", b"\x0f\x01\xcb", OK, UD),
        ("rdtsc", b"\x0f\x31", OK, OK),
        ("rdtscp", b"\x0f\x01\xf9", OK, OK),
        ("rdpmc", b"\x0f\x33", GP, GP),
        ("xgetbv", b"\x0f\x01\xd0", GP, GP),
        ("xsetbv", b"\x0f\x01\xd1", GP, GP),
        ("rdpkru", b"\x0f\x01\xee", GP, GP),
        ("rdfsbase rax", b"\xf3\x48\x0f\xae\xc0", OK, OK),
        ("rdpid rax", b"\xf3\x0f\xc7\xf8", OK, OK),
        ("rdrand eax", b"\x0f\xc7\xf0", OK, OK),
        ("rdseed eax", b"\x0f\xc7\xf8", OK, OK),
        ("clflush [rbx]", b"\x0f\xae\x3b", OK, OK),
        ("clflushopt [r9]", b"\x66\x41\x0f\xae\x39", GP, GP),
        ("prefetcht0 [r9]", b"\x41\x0f\x18\x09", OK, OK),
        ("vmcall", b"\x0f\x01\xc1", OK, OK),
        ("cpuid", b"\x0f\xa2", OK, OK),
        ("pause", b"\xf3\x90", OK, OK),
        ("mfence", b"\x0f\xae\xf0", OK, OK),
        ("endbr64", b"\xf3\x0f\x1e\xfa", OK, OK),
        ("monitor", b"\x0f\x01\xc8", UD, UD),
        ("mwait", b"\x0f\x01\xc9", UD, UD),
        ("serialize", b"\x0f\x01\xe8", OK, OK),
        ("cldemote [r9]", b"\x41\x0f\x1c\x01", OK, OK),
        ("umonitor rbx", b"\xf3\x0f\xae\xf3", OK, OK),
        ("umonitor r9", b"\xf3\x41\x0f\xae\xf1", GP, GP),
        ("umonitor r9d", b"\x67\xf3\x41\x0f\xae\xf1", OK, OK),
        ("tpause eax", b"\x66\x0f\xae\xf0", OK, OK),
        ("tpause ebx", b"\x66\x0f\xae\xf3", GP, GP),
        ("umwait eax", b"\xf2\x0f\xae\xf0", OK, OK),
        ("umwait ebx", b"\xf2\x0f\xae\xf3", GP, GP),
        ("movdiri [rbx], eax", b"\x0f\x38\xf9\x03", OK, OK),
        ("movdiri [r9], rax", b"\x49\x0f\x38\xf9\x01", GP, GP),
        ("movdir64b rbx, [rcx]", b"\x66\x0f\x38\xf8\x19", OK, OK),
        ("movdir64b rcx, [rbx]", b"\x66\x0f\x38\xf8\x0b", GP, GP),
        ("movdir64b r9, [rbx]", b"\x66\x44\x0f\x38\xf8\x0b", GP, GP),
    ];
    for &(name, bytes, at_0, at_3) in cases {
        for (cpl, expected) in [(0, at_0), (3, at_3)] {
            let mut cpu = long_mode(cpl);
            // RCX names an MSR that reads and does not write, and no XCR or PKRU.
            set(&mut cpu, &[(reg::RCX, 0xfe), (reg::RBX, 0x8000), (9, 1 << 60)]);
            assert_eq!(run(&mut cpu, bytes), expected, "{name} at CPL {cpl}");
        }
    }
}

#[test]
fn user_mode_restrictions_by_cr4() {
    let cases: &[(&str, u64, &[u8], Outcome)] = &[
        ("smsw, UMIP", bits::CR4_UMIP, b"\x0f\x01\xe0", GP),
        ("rdtsc, TSD", bits::CR4_TSD, b"\x0f\x31", GP),
        ("rdtscp, TSD", bits::CR4_TSD, b"\x0f\x01\xf9", GP),
        ("tpause, TSD", bits::CR4_TSD, b"\x66\x0f\xae\xf0", GP),
        ("umwait, TSD", bits::CR4_TSD, b"\xf2\x0f\xae\xf0", GP),
    ];
    for &(name, cr4, bytes, expected) in cases {
        for cpl in [0, 3] {
            let mut cpu = long_mode(cpl);
            cpu.state.cr4 |= cr4;
            assert_eq!(run(&mut cpu, bytes), if cpl == 3 { expected } else { OK }, "{name} at CPL {cpl}");
        }
    }
    let enabled: &[(&str, u64, &[u8])] = &[
        ("rdfsbase eax", bits::CR4_FSGSBASE, b"\xf3\x0f\xae\xc0"),
        ("wrgsbase rax", bits::CR4_FSGSBASE, b"\xf3\x48\x0f\xae\xd8"),
        ("xgetbv", bits::CR4_OSXSAVE, b"\x0f\x01\xd0"),
        ("rdpkru", bits::CR4_PKE, b"\x0f\x01\xee"),
        ("wrpkru", bits::CR4_PKE, b"\x0f\x01\xef"),
    ];
    for &(name, cr4, bytes) in enabled {
        let mut cpu = long_mode(3);
        assert_eq!(run(&mut cpu, bytes), OK, "{name}");
        cpu.state.cr4 &= !cr4;
        cpu.mode_changed();
        assert_eq!(run(&mut cpu, bytes), UD, "{name} without its bit of CR4");
    }
}

#[test]
fn values() {
    use reg::{RAX, RCX, RDX};
    // Registers before, the instruction, what becomes of it.
    let cases: &[(&str, &Registers, &[u8], Outcome)] = &[
        ("xsetbv", &[(RAX, 0x203)], b"\x0f\x01\xd1", OK),
        ("xsetbv without x87", &[(RAX, 0x202)], b"\x0f\x01\xd1", GP),
        ("xsetbv of AVX", &[(RAX, 7)], b"\x0f\x01\xd1", OK),
        ("xsetbv of AVX without SSE", &[(RAX, 5)], b"\x0f\x01\xd1", GP),
        ("xsetbv of AVX-512", &[(RAX, 0xe7)], b"\x0f\x01\xd1", GP),
        ("xsetbv of XCR1", &[(RAX, 3), (RCX, 1)], b"\x0f\x01\xd1", GP),
        ("xgetbv of XINUSE", &[(RCX, 1)], b"\x0f\x01\xd0", OK),
        ("wrpkru with EDX", &[(RDX, 1)], b"\x0f\x01\xef", GP),
        ("mov cr8, rax", &[(RAX, 15)], b"\x44\x0f\x22\xc0", OK),
        ("mov cr8, rax of 16", &[(RAX, 16)], b"\x44\x0f\x22\xc0", GP),
        ("mov dr6, rax", &[(RAX, 1 << 32)], b"\x0f\x23\xf0", GP),
        ("mov dr7, rax", &[(RAX, 1 << 32)], b"\x0f\x23\xf8", GP),
        ("mov dr0, rax", &[(RAX, 1 << 60)], b"\x0f\x23\xc0", OK),
        ("wrfsbase rax", &[(RAX, 1 << 47)], b"\xf3\x48\x0f\xae\xd0", GP),
        ("wrfsbase eax", &[(RAX, 1 << 47)], b"\xf3\x0f\xae\xd0", OK),
        ("invpcid 4", &[(RAX, 4), (RDX, 0x8000)], b"\x66\x0f\x38\x82\x02", GP),
        ("invpcid 2", &[(RAX, 2), (RDX, 0x8000)], b"\x66\x0f\x38\x82\x02", OK),
        ("invpcid 0", &[(RAX, 0), (RDX, 0x8000)], b"\x66\x0f\x38\x82\x02", OK),
        ("invpcid 0, not canonical", &[(RAX, 0), (RDX, 0x8010)], b"\x66\x0f\x38\x82\x02", GP),
        ("invpcid 1, not canonical", &[(RAX, 1), (RDX, 0x8010)], b"\x66\x0f\x38\x82\x02", OK),
        ("invpcid 3, reserved bits", &[(RAX, 3), (RDX, 0x8020)], b"\x66\x0f\x38\x82\x02", GP),
        ("invlpg, not canonical", &[(RAX, 1 << 50)], b"\x0f\x01\x38", OK),
    ];
    for &(name, before, bytes, expected) in cases {
        let mut cpu = long_mode(0);
        cpu.mmu.memory().write(0x8010, &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]).unwrap();
        cpu.mmu.memory().write(0x8020, &[0, 0x10]).unwrap();
        set(&mut cpu, before);
        assert_eq!(run(&mut cpu, bytes), expected, "{name}");
    }
}

#[test]
fn xgetbv_tells_what_is_in_use() {
    let mut cpu = long_mode(0);
    let xinuse = |cpu: &mut Cpu| {
        set(cpu, &[(reg::RCX, 1)]);
        run(cpu, b"\x0f\x01\xd0").unwrap();
        cpu.state.regs[0]
    };
    cpu.state.xcr0 = 7;
    cpu.state.x87 = X87::default();
    assert_eq!(xinuse(&mut cpu), 0, "all components are in their initial configuration");
    cpu.state.set_xmm(3, 1);
    assert_eq!(xinuse(&mut cpu), 2);
    cpu.state.x87.control = 0x27f;
    assert_eq!(xinuse(&mut cpu), 3);
    cpu.state.zmm[5].0[3] = 1;
    assert_eq!(xinuse(&mut cpu), 7);
    cpu.state.xcr0 = 3;
    assert_eq!(xinuse(&mut cpu), 3, "what XCR0 does not enable is not told");
}

#[test]
fn results() {
    let mut cpu = long_mode(0);
    set(&mut cpu, &[(reg::RAX, u64::MAX), (reg::RDX, u64::MAX)]);
    cpu.state.msrs.tsc_aux = 7;
    run(&mut cpu, b"\x0f\x01\xf9").unwrap();
    assert_eq!((cpu.state.regs[0], cpu.state.regs[2], cpu.state.regs[1]), (TSC, 0, 7), "rdtscp");
    run(&mut cpu, b"\x0f\x01\xc1").unwrap();
    assert_eq!(cpu.state.regs[0] as i64, -1000, "vmcall");
    cpu.state.flags.set(!0x28 & 0xfff);
    run(&mut cpu, b"\x66\x0f\xc7\xf0").unwrap();
    assert_eq!(cpu.state.regs[0] as u16, 0xcdef, "rdrand ax");
    assert_eq!(cpu.state.flags.get() & bits::RFLAGS_ARITH, bits::RFLAGS_CF, "rdrand ax");
    cpu.state.msrs.kernel_gs_base = 0x1111;
    cpu.state.segments[SegmentIndex::GS].base = 0x2222;
    run(&mut cpu, b"\x0f\x01\xf8").unwrap();
    let swapped = (cpu.state.segments[SegmentIndex::GS].base, cpu.state.msrs.kernel_gs_base);
    assert_eq!(swapped, (0x1111, 0x2222), "swapgs");
    set(&mut cpu, &[(reg::RAX, 0)]);
    run(&mut cpu, b"\x0f\x01\xf0").unwrap();
    assert_eq!(cpu.state.cr0 & bits::CR0_PE, bits::CR0_PE, "lmsw ax keeps PE");
    run(&mut cpu, b"\xf4").unwrap();
    assert_eq!((cpu.state.activity, cpu.exit), (Activity::Halted, None), "hlt");
}

#[test]
fn waits_clear_the_flags_and_end() {
    let mut cpu = long_mode(0);
    for (deadline, limit) in [(0, 0), (TSC - 1, 4), (TSC + 100, 0), (u64::MAX, 4), (u64::MAX, 1)] {
        cpu.state.msrs.umwait_control = limit;
        set(&mut cpu, &[(reg::RBX, 1), (reg::RAX, deadline & 0xffff_ffff), (reg::RDX, deadline >> 32)]);
        cpu.state.flags.set(0x8d7);
        run(&mut cpu, b"\x66\x0f\xae\xf3").unwrap();
        assert_eq!(cpu.state.flags.get() & bits::RFLAGS_ARITH, 0, "tpause until {deadline:#x}, {limit}");
        assert_eq!(cpu.state.activity, Activity::Active);
    }
}

#[test]
fn direct_stores_reach_memory() {
    let mut cpu = long_mode(0);
    let line: [u8; 64] = std::array::from_fn(|i| i as u8 + 1);
    cpu.mmu.memory().write(0x8001, &line).unwrap();
    set(&mut cpu, &[(reg::RBX, 0x9fc0), (reg::RCX, 0x8001), (reg::RAX, 0x1122_3344_5566_7788)]);
    run(&mut cpu, b"\x66\x0f\x38\xf8\x19").unwrap();
    assert_eq!(cpu.read_linear(0x9fc0), Ok(line), "movdir64b rbx, [rcx]");
    run(&mut cpu, b"\x0f\x38\xf9\x03").unwrap();
    assert_eq!(cpu.read_linear(0x9fc0), Ok(0x0807_0605_5566_7788u64.to_le_bytes()), "movdiri [rbx], eax");
}

#[test]
fn debug_registers_are_guarded() {
    let mut cpu = long_mode(0);
    cpu.state.cr4 |= bits::CR4_DE;
    assert_eq!(run(&mut cpu, b"\x0f\x21\xe0"), UD, "mov rax, dr4 with CR4.DE");
    set(&mut cpu, &[(reg::RAX, 0xffff_ffff)]);
    run(&mut cpu, b"\x0f\x23\xf0").unwrap();
    assert_eq!(cpu.state.dr[6], 0xffff_efff & !(1 << 12), "mov dr6, rax");
    run(&mut cpu, b"\x0f\x23\xf8").unwrap();
    assert_eq!(cpu.state.dr[7], 0xffff_27ff, "mov dr7, rax");
    assert_eq!(run(&mut cpu, b"\x0f\x21\xc0"), Err(Exception::db(bits::DR6_BD)), "mov rax, dr0 with GD");
}
