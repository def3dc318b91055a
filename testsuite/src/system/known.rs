//! Where rx86 and QEMU are known to disagree, and whom the SDM supports.

/// Which side does what the SDM says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// rx86.
    Rx86,
    /// QEMU.
    Qemu,
    /// The SDM leaves it open.
    Either,
}

/// One disagreement. It must show up; if it no longer does, the test fails.
pub struct Known {
    /// Part of the guests' names; empty for every guest.
    pub guest: &'static str,
    /// Part of the names of the cases that it is about.
    pub case: &'static str,
    /// The record's fields that may differ; all if there is none.
    pub fields: &'static [&'static str],
    /// The bits that may differ.
    pub bits: u128,
    /// Who is right.
    pub right: Right,
    /// Why, with the SDM's section.
    pub reason: &'static str,
}

/// Everything about a case on which QEMU is wrong.
const fn qemu_is_wrong(guest: &'static str, case: &'static str, reason: &'static str) -> Known {
    Known { guest, case, fields: &[], bits: u128::MAX, right: Right::Rx86, reason }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        guest: "",
        case: "",
        fields: &["pushed[2]", "pushed[3]"],
        bits: 1 << 16,
        right: Right::Rx86,
        reason: "RF is set in the RFLAGS image that a fault pushes (SDM vol. 3, 17.3.1.1); QEMU leaves it as it was",
    },
    Known {
        guest: "descriptor looks",
        case: "LAR LSL VERR VERW",
        fields: &["eax"],
        bits: 0xf_0000,
        right: Right::Either,
        reason: "LAR leaves bits 16 to 19 undefined (SDM vol. 2, LAR)",
    },
    qemu_is_wrong(
        "segment limits",
        "",
        "QEMU's TCG checks neither limits nor types of segments on accesses (SDM vol. 3, 5.3 and 5.5)",
    ),
    qemu_is_wrong(
        "four-level paging",
        "a read across the canonical border",
        "a byte that is not canonical is #GP(0) before any page fault (SDM vol. 1, 3.3.7.1), as the host's CPU does",
    ),
    qemu_is_wrong("descriptor looks", "LTR of null", "LTR of a null selector is #GP(0) (SDM vol. 2, LTR)"),
    qemu_is_wrong(
        "far transfers",
        "gate to conforming code, CPL 3",
        "without a change of privilege CS.RPL is CPL (SDM vol. 2, CALL)",
    ),
    Known {
        guest: "INTR and NMI",
        case: "",
        fields: &["pushed[0]"],
        bits: 1,
        right: Right::Rx86,
        reason: "an error on the way of an external interrupt has EXT set (SDM vol. 3, 6.13); QEMU leaves it clear",
    },
    qemu_is_wrong(
        "INTR and NMI",
        "virtual-8086 mode, a gate to CPL 1",
        "an interrupt leaves virtual-8086 mode to CPL 0 or is #GP (SDM vol. 3, 20.3.1)",
    ),
    qemu_is_wrong("interrupts", "INT1", "INT1 raises #DB, a trap (SDM vol. 2, INT1)"),
    qemu_is_wrong("interrupts", "LOCK MOV", "LOCK before MOV is #UD (SDM vol. 2, LOCK)"),
    qemu_is_wrong(
        "interrupts",
        "MOV from CR1, CPL 3",
        "an invalid opcode comes before the check of CPL (SDM vol. 3, 6.9)",
    ),
    qemu_is_wrong(
        "interrupts",
        "alignment fault",
        "QEMU's TCG does not check alignment (SDM vol. 3, 6.15, #AC)",
    ),
    qemu_is_wrong("interrupts", "MOV CR0 with NW without CD", "NW without CD is #GP(0) (SDM vol. 2, MOV CR)"),
    qemu_is_wrong(
        "interrupts",
        "MOV CR0 with a reserved bit",
        "CR0's reserved bits stay clear (SDM vol. 2, MOV CR)",
    ),
    Known {
        guest: "paging",
        case: "read and write, CPL 0",
        fields: &["pushed[0]"],
        bits: 2,
        right: Right::Rx86,
        reason: "an instruction that reads and writes its operand faults as a write (SDM vol. 3, 4.7); QEMU reads first",
    },
    Known {
        guest: "paging",
        case: "reserved",
        fields: &["pushed[0]"],
        bits: 3,
        right: Right::Rx86,
        reason: "a reserved bit is reported for a present entry only, so P is set with it (SDM vol. 3, 4.7)",
    },
    Known {
        guest: "paging",
        case: "the page tables",
        fields: &[],
        bits: 0x20,
        right: Right::Either,
        reason: "QEMU sets the accessed flags of the entries that it walked before a right was missing, of the PDPTEs of \
                 PAE paging, and by the read of an instruction whose write then faults (SDM vol. 3, 4.8)",
    },
    qemu_is_wrong(
        "interrupts",
        "general detect",
        "DR7.GD makes MOV of debug registers #DB (SDM vol. 3, 17.2.4)",
    ),
    qemu_is_wrong(
        "interrupts",
        "what DR6 and DR7 read as",
        "bit 12 of DR6 and bits 12, 14 and 15 of DR7 read as zero (SDM vol. 3, 17.2.3 and 17.2.4)",
    ),
    Known {
        guest: "interrupts",
        case: "the end",
        fields: &["CR0"],
        bits: 0x2000_0040,
        right: Right::Rx86,
        reason: "what the cases of MOV CR0 have left",
    },
    qemu_is_wrong(
        "four-level paging",
        "a push on a stack that is not canonical",
        "an address that is not canonical is #SS(0) through SS (SDM vol. 1, 3.3.7.1)",
    ),
    qemu_is_wrong(
        "four-level paging",
        "to an address that is not canonical",
        "a branch to an address that is not canonical faults itself (SDM vol. 2, JMP and RET)",
    ),
    Known {
        guest: "long mode",
        case: "INT through a gate",
        fields: &["pushed[0]"],
        bits: 0xffff,
        right: Right::Rx86,
        reason: "an error code that refers to the IDT holds the vector, shifted by three in every mode (SDM vol. 3, 6.13)",
    },
    Known {
        guest: "long mode",
        case: "INT through a gate",
        fields: &["ss"],
        bits: 0xffff,
        right: Right::Rx86,
        reason: "SS becomes null with a change of privilege only, not by an IST stack (SDM vol. 2, INT n)",
    },
    qemu_is_wrong(
        "long mode",
        "CODE1, CPL 3",
        "behind a call gate to CPL 1, QEMU takes the processor to be at CPL 0 (SDM vol. 2, CALL)",
    ),
    qemu_is_wrong("long mode", "code of CPL 1, CPL 3", "as above"),
    qemu_is_wrong(
        "long mode",
        "not canonical",
        "#GP(0) is the instruction's own (SDM vol. 2, INT n, IRET, SYSRET, WRMSR)",
    ),
    Known {
        guest: "long mode",
        case: "SYSCALL, CPL 0",
        fields: &["pushed[2]", "rflags"],
        bits: 0xd5,
        right: Right::Rx86,
        reason: "SYSCALL keeps the flags that IA32_FMASK does not name (SDM vol. 2, SYSCALL); QEMU loses the status flags",
    },
    Known {
        guest: "long mode",
        case: "SYSRET of",
        fields: &["pushed[2]"],
        bits: 0x3_0000,
        right: Right::Rx86,
        reason: "SYSRET takes R11 without RF and VM (SDM vol. 2, SYSRET)",
    },
    qemu_is_wrong(
        "long mode",
        "SYSENTER",
        "SYSENTER works in IA-32e mode (SDM vol. 2, SYSENTER); QEMU's processor is AMD's",
    ),
    qemu_is_wrong("long mode", "SYSEXIT", "as above"),
    qemu_is_wrong(
        "long mode",
        "compatibility mode, SYSCALL",
        "SYSCALL is for 64-bit mode only (SDM vol. 2, SYSCALL); QEMU's processor is AMD's",
    ),
    qemu_is_wrong("long mode", "MOV SS, null with RPL 3", "RPL of a null SS must be CPL (SDM vol. 2, MOV)"),
    qemu_is_wrong(
        "long mode",
        "long and default, CPL 0",
        "a code segment with L and D is #GP (SDM vol. 3, 5.2.1)",
    ),
    qemu_is_wrong(
        "long mode",
        "iret true to CODE0, stack null with RPL 3",
        "RPL of a null SS must be CPL (SDM vol. 2, IRET)",
    ),
    Known {
        guest: "long mode",
        case: "to CODE1, stack null",
        fields: &[],
        bits: u128::MAX,
        right: Right::Either,
        reason: "the SDM's texts of RET and IRET do not say whether a null SS needs the RPL of CPL 1",
    },
    qemu_is_wrong("long mode", "EFER.LME", "EFER.LME cannot change while paging is on (SDM vol. 3, 9.8.5)"),
    Known {
        guest: "long mode",
        case: "the end",
        fields: &["EFER"],
        bits: 0x100,
        right: Right::Rx86,
        reason: "what the case of EFER.LME has left",
    },
    qemu_is_wrong("long mode", "CR0 beyond 32 bits", "CR0's upper half must be zero (SDM vol. 2, MOV CR)"),
    Known {
        guest: "task switches",
        case: " task",
        fields: &["TSS EFLAGS"],
        bits: 1 << 16,
        right: Right::Rx86,
        reason: "a fault saves RF set, in the old task's TSS too (SDM vol. 3, 17.3.1.1)",
    },
    Known {
        guest: "new tasks, faults are tasks",
        case: "",
        fields: &["OTHER_TSS EFLAGS"],
        bits: 1 << 16,
        right: Right::Rx86,
        reason: "as above",
    },
    Known {
        guest: "task switches",
        case: ": descriptor is a local one",
        fields: &["vector"],
        bits: 7,
        right: Right::Rx86,
        reason: "a task gate to a local TSS is #GP(selector) (SDM vol. 2, JMP, CALL and INT n)",
    },
    qemu_is_wrong(
        "task switches",
        "to a task with a bad stack",
        "#TS cannot be delivered on a stack that is not there, which is a double fault (SDM vol. 3, 6.15)",
    ),
    Known {
        guest: "new tasks",
        case: " is ",
        fields: &["pushed[1]", "OTHER_TSS EIP"],
        bits: 0xffff,
        right: Right::Rx86,
        reason: "a fault behind the switch is one of the new task, at its first instruction (SDM vol. 3, 6.15, #TS); QEMU \
                 keeps the address of the instruction that has switched",
    },
    Known {
        guest: "new tasks",
        case: "bad",
        fields: &["pushed[1]", "OTHER_TSS EIP"],
        bits: 0xffff,
        right: Right::Rx86,
        reason: "as above",
    },
    Known {
        guest: "new tasks",
        case: "beyond 64 KiB",
        fields: &["pushed[1]", "OTHER_TSS EIP"],
        bits: 0xffff,
        right: Right::Rx86,
        reason: "as above",
    },
    Known {
        guest: "new tasks, faults are tasks",
        case: "LDT and a local DS",
        fields: &["OTHER_TSS EIP"],
        bits: 0xffff,
        right: Right::Rx86,
        reason: "as above",
    },
    qemu_is_wrong(
        "new tasks",
        ": T",
        "the debug trap flag in a TSS raises #DB in the new task (SDM vol. 3, 17.3.1.5)",
    ),
    qemu_is_wrong("new tasks", "CPL 3 and T", "as above"),
    Known {
        guest: "new tasks, faults are tasks",
        case: ": SS is absent",
        fields: &["vector", "tr"],
        bits: u128::MAX,
        right: Right::Rx86,
        reason: "an absent stack segment is #SS (SDM vol. 3, table 7-1)",
    },
    Known {
        guest: "new tasks, faults are tasks",
        case: "CS is conforming, RPL 3",
        fields: &["pushed[0]"],
        bits: u128::MAX,
        right: Right::Rx86,
        reason: "conforming code may be of a lower DPL than CPL (SDM vol. 3, table 7-1)",
    },
    Known {
        guest: "new tasks, faults are not",
        case: "what DR7 becomes, all enables",
        fields: &["eax"],
        bits: 0x100,
        right: Right::Either,
        reason: "the SDM says that a task switch clears L0 to L3, and nothing of LE, which no processor uses any more \
                 (SDM vol. 3, 17.2.4)",
    },
    Known {
        guest: "tasks and page tables",
        case: "bad",
        fields: &["OTHER_TSS EIP", "OTHER_TSS EFLAGS"],
        bits: 0x1_ffff,
        right: Right::Rx86,
        reason: "as above, and RF is set",
    },
    Known {
        guest: "tasks and page tables",
        case: "task of which an absent page",
        fields: &["pushed[0]", "cr2"],
        bits: 0x7f,
        right: Right::Either,
        reason: "which byte of a TSS is looked at first, and whether by a read, is open (SDM vol. 3, 7.3)",
    },
    Known {
        guest: "tasks and page tables",
        case: "the page tables",
        fields: &["0x78000"],
        bits: 0x40,
        right: Right::Either,
        reason: "as above: rx86 has marked the first page of a TSS dirty before it finds that the second is absent",
    },
    Known {
        guest: "tasks and page tables, PAE",
        case: "the page tables",
        fields: &["0x70000"],
        bits: 0x20,
        right: Right::Rx86,
        reason: "the PDPTEs of PAE paging have no accessed flag (SDM vol. 3, 4.4.1)",
    },
    qemu_is_wrong(
        "INTR and NMI",
        "virtual-8086 mode, IOPL 0, VME, STI",
        "QEMU's TCG has no VME (SDM vol. 3, 20.3.3)",
    ),
    qemu_is_wrong("virtual-8086 mode, VME", "", "QEMU's TCG has no VME (SDM vol. 3, 20.3.3 and 20.4)"),
    qemu_is_wrong("virtual-8086 mode, without VME", "INT1", "INT1 raises #DB, a trap (SDM vol. 2, INT1)"),
    qemu_is_wrong(
        "virtual-8086 mode, without VME",
        "beyond 64 KiB",
        "an EIP beyond CS's limit is #GP(0) (SDM vol. 3, 5.3)",
    ),
    qemu_is_wrong(
        "virtual-8086 mode, without VME",
        "EIP of more than 16 bits",
        "IRET checks EIP against the 64 KiB of virtual-8086 mode (SDM vol. 2, IRET)",
    ),
    qemu_is_wrong(
        "virtual-8086 mode, without VME",
        "MOV EAX, CR1",
        "an invalid opcode comes before the check of CPL (SDM vol. 3, 6.9)",
    ),
    qemu_is_wrong(
        "virtual-8086 mode, without VME",
        "XSETBV",
        "as above: CR4.OSXSAVE is clear (SDM vol. 2, XSETBV)",
    ),
    qemu_is_wrong(
        "virtual-8086 mode, without VME",
        "gate to CPL 1, IOPL 3",
        "an interrupt leaves virtual-8086 mode for CPL 0 only, else #GP(selector) (SDM vol. 2, INT n)",
    ),
    qemu_is_wrong(
        "virtual-8086 mode, without VME",
        "IRETD at CPL 3 does not enter",
        "only CPL 0 can enter virtual-8086 mode (SDM vol. 2, IRET)",
    ),
    qemu_is_wrong("virtual-8086 mode, without VME", "memory", "as above: QEMU has taken a stack from there"),
    qemu_is_wrong("virtual-8086 mode, without VME", "limit", "QEMU's TCG checks no limits (SDM vol. 3, 5.3)"),
    qemu_is_wrong(
        "virtual-8086 mode, without VME",
        "#AC",
        "QEMU's TCG does not check alignment (SDM vol. 3, 6.15, #AC)",
    ),
    qemu_is_wrong("real-address mode", "limit", "QEMU's TCG checks no limits (SDM vol. 3, 5.3 and 20.1.4)"),
    qemu_is_wrong(
        "real-address mode",
        "beyond 64 KiB",
        "an EIP beyond CS's limit is #GP (SDM vol. 2, JMP, CALL and IRET)",
    ),
    qemu_is_wrong("real-address mode", "memory", "as above: what was stored beyond limits"),
    qemu_is_wrong(
        "debug and coprocessor",
        "two watchpoints in one access",
        "every breakpoint that was met is reported in DR6 (SDM vol. 3, 17.2.3)",
    ),
    Known {
        guest: "debug and coprocessor",
        case: "on code and a single step",
        fields: &["dr6"],
        bits: 1,
        right: Right::Rx86,
        reason: "the trap of a step comes before the breakpoint on the next instruction, which is a fault (SDM vol. 3, \
                 table 6-2)",
    },
    qemu_is_wrong(
        "debug and coprocessor",
        "DR7.GD",
        "DR7.GD makes MOV of debug registers #DB (SDM vol. 3, 17.2.4)",
    ),
    qemu_is_wrong(
        "debug and coprocessor",
        "alignment of",
        "QEMU's TCG does not check alignment (SDM vol. 3, 6.15, #AC)",
    ),
    qemu_is_wrong("debug and coprocessor", "EMMS", "EMMS looks at CR0.EM and TS (SDM vol. 2, EMMS)"),
    qemu_is_wrong(
        "debug and coprocessor",
        "CVTPI2PS",
        "it looks at CR0.EM, TS and CR4.OSFXSR (SDM vol. 2, CVTPI2PS)",
    ),
    Known {
        guest: "debug and coprocessor",
        case: "with TS and EM",
        fields: &["vector"],
        bits: 1,
        right: Right::Either,
        reason: "#UD by EM and #NM by TS are of one priority (SDM vol. 3, table 6-2)",
    },
    qemu_is_wrong(
        "debug and coprocessor",
        "memory",
        "a write to an MMX register sets bits 64 to 79 of the x87 register, which FXSAVE shows (SDM vol. 3, 12.2)",
    ),
    Known {
        guest: "mode changes",
        case: "the test pages",
        fields: &["0x90000"],
        bits: 0x20,
        right: Right::Rx86,
        reason: "the PDPTEs of PAE paging have no accessed flag (SDM vol. 3, 4.4.1)",
    },
];
