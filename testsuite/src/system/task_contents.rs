//! What stands in the task-state segment of a task that is entered: selectors, flags, CR3, the debug trap flag, and pages that
//! are not there (SDM vol. 3, 7.2.1 and 7.3).

use super::guest::{Code, SystemGuest, set_descriptor};
use super::layout::*;
use super::tasks::{Way, case};
use iced_x86::code_asm::*;

/// Offsets in a 32-bit task-state segment.
const CR3: u32 = 0x1c;
const EIP: u32 = 0x20;
const EFLAGS: u32 = 0x24;
const ES: u32 = 0x48;
const CS: u32 = 0x4c;
const SS: u32 = 0x50;
const DS: u32 = 0x54;
const FS: u32 = 0x58;
const GS: u32 = 0x5c;
const LDT_SELECTOR: u32 = 0x60;
const DEBUG_TRAP: u32 = 0x64;

/// A task that is changed: its name, the dwords to write, and a descriptor for `SPARE`.
type Change = (&'static str, &'static [(u32, u32)], u64);

const fn code(access: u8) -> u64 {
    0x00cf_0000_0000_ffff | (access as u64) << 40
}

/// Code segment selectors.
const CODES: [Change; 12] = [
    ("CS is null", &[(CS, 0)], 0),
    ("CS is data", &[(CS, DATA0 as u32)], 0),
    ("CS is CODE3", &[(CS, CODE3 as u32)], 0),
    ("CS is CODE0 with RPL 3", &[(CS, CODE0 as u32 | 3)], 0),
    ("CS is beyond", &[(CS, 0x100)], 0),
    ("CS is local", &[(CS, 4)], 0),
    ("CS is a TSS", &[(CS, TASK as u32)], 0),
    ("CS is absent", &[(CS, SPARE as u32)], code(0x1b)),
    ("CS is not accessed", &[(CS, SPARE as u32)], code(0x9a)),
    ("CS is conforming", &[(CS, SPARE as u32)], code(0x9f)),
    ("CS is conforming, RPL 3", &[(CS, SPARE as u32 | 3), (SS, DATA3 as u32 | 3)], code(0x9f)),
    ("CS is conforming of DPL 3", &[(CS, SPARE as u32)], code(0xff)),
];

/// Stack segment selectors.
const STACKS: [Change; 9] = [
    ("SS is null", &[(SS, 0)], 0),
    ("SS is code", &[(SS, CODE0 as u32)], 0),
    ("SS is DATA3", &[(SS, DATA3 as u32)], 0),
    ("SS is DATA0 with RPL 3", &[(SS, DATA0 as u32 | 3)], 0),
    ("SS is beyond", &[(SS, 0x100)], 0),
    ("SS is absent", &[(SS, SPARE as u32)], code(0x13)),
    ("SS is read-only", &[(SS, SPARE as u32)], code(0x91)),
    ("SS is not accessed", &[(SS, SPARE as u32)], code(0x92)),
    ("SS is a TSS", &[(SS, TASK as u32)], 0),
];

/// What a data segment register is given.
const DATA: [Change; 9] = [
    ("null", &[(0, 0)], 0),
    ("null with RPL 3", &[(0, 3)], 0),
    ("readable code", &[(0, CODE0 as u32)], 0),
    ("code that cannot be read", &[(0, SPARE as u32)], code(0x99)),
    ("absent", &[(0, SPARE as u32)], code(0x13)),
    ("not accessed", &[(0, SPARE as u32)], code(0x92)),
    ("beyond", &[(0, 0x100)], 0),
    ("a TSS", &[(0, TASK as u32)], 0),
    ("DATA0 with RPL 3", &[(0, DATA0 as u32 | 3)], 0),
];

/// Everything else.
const OTHERS: [Change; 22] = [
    ("LDT is there", &[(LDT_SELECTOR, LOCAL as u32)], 0),
    ("LDT and a local DS", &[(LDT_SELECTOR, LOCAL as u32), (DS, 4)], 0),
    ("LDT is data", &[(LDT_SELECTOR, DATA0 as u32)], 0),
    ("LDT is a TSS", &[(LDT_SELECTOR, TASK as u32)], 0),
    ("LDT is beyond", &[(LDT_SELECTOR, 0x100)], 0),
    ("LDT is local", &[(LDT_SELECTOR, LOCAL as u32 | 4)], 0),
    ("LDT is absent", &[(LDT_SELECTOR, SPARE as u32)], 0x0000_0200_3800_001f),
    ("LDT with RPL 3", &[(LDT_SELECTOR, LOCAL as u32 | 3)], 0),
    ("EIP is beyond", &[(CS, CODE16 as u32), (EIP, 0x1_2345)], 0),
    ("IOPL 3, IF, DF, AC and ID", &[(EFLAGS, 0x24_3602)], 0),
    ("all status flags", &[(EFLAGS, 0x8d7)], 0),
    ("reserved flags", &[(EFLAGS, 0xffc0_802a)], 0),
    ("nested", &[(EFLAGS, 0x4002)], 0),
    ("RF", &[(EFLAGS, 0x1_0002)], 0),
    ("TF", &[(EFLAGS, 0x102)], 0),
    ("T", &[(DEBUG_TRAP, 0x68_0001)], 0),
    ("T and TF", &[(DEBUG_TRAP, 0x68_0001), (EFLAGS, 0x102)], 0),
    ("T with a bad DS", &[(DEBUG_TRAP, 0x68_0001), (DS, 0x100)], 0),
    ("a bad DS and ES", &[(DS, 0x100), (ES, TASK as u32)], 0),
    ("a bad SS and DS", &[(SS, 0), (DS, 0x100)], 0),
    ("a bad CS and SS", &[(CS, 0), (SS, 0x100)], 0),
    ("a bad LDT and CS", &[(LDT_SELECTOR, 0x100), (CS, 0)], 0),
];

/// A task at CPL 3.
const USER: [(u32, u32); 7] = [
    (FS, 0),
    (CS, CODE3 as u32 | 3),
    (SS, DATA3 as u32 | 3),
    (ES, DATA3 as u32 | 3),
    (DS, DATA3 as u32 | 3),
    (EIP, USER_TARGET),
    (EFLAGS, 0x202),
];

/// Ways that stand for all: the checks of what is entered are the same.
const WAYS: [Way; 3] = [Way::Jump, Way::Call, Way::Return];

fn changed(guest: &mut SystemGuest, way: Way, name: &str, writes: &[&[(u32, u32)]], spare: u64) {
    case(guest, name, way, OTHER_TASK, &|a| {
        if spare != 0 {
            set_descriptor(a, SPARE, spare)?;
        }
        for &(offset, value) in writes.iter().copied().flatten() {
            a.mov(dword_ptr(OTHER_TSS + offset), value)?;
        }
        Ok(())
    });
    if writes.iter().copied().flatten().any(|&(offset, _)| offset == DEBUG_TRAP) && !name.contains("bad") {
        // Bit 15 of DR6 (SDM vol. 3, 17.2.3).
        guest.expect("vector", 1);
        guest.expect("dr6", 0xffff_8ff0);
    }
}

/// Tasks in which an exception can be delivered, whatever else is wrong with them.
pub fn with_good_stacks(guest: &mut SystemGuest) {
    for way in WAYS {
        for (name, writes, spare) in
            OTHERS.iter().filter(|(name, ..)| !name.contains("LDT") && !name.contains("SS"))
        {
            changed(guest, way, name, &[writes], *spare);
        }
        users(guest, way);
    }
    for (register, offset) in [("ES", ES), ("DS", DS), ("GS", GS)] {
        for (name, writes, spare) in &DATA {
            changed(guest, Way::Jump, &format!("{register} is {name}"), &[&[(offset, writes[0].1)]], *spare);
        }
    }
    virtual_8086(guest);
    breakpoints(guest);
}

/// Every kind of task.
pub fn all(guest: &mut SystemGuest) {
    for way in WAYS {
        for (name, writes, spare) in CODES.iter().chain(&STACKS).chain(&OTHERS) {
            changed(guest, way, name, &[writes], *spare);
        }
        for (name, writes, spare) in &STACKS[..4] {
            changed(guest, way, &format!("CPL 3, {name}"), &[&USER, writes], *spare);
        }
        users(guest, way);
        for (register, offset) in [("ES", ES), ("DS", DS), ("GS", GS)] {
            for (name, writes, spare) in &DATA {
                changed(guest, way, &format!("{register} is {name}"), &[&[(offset, writes[0].1)]], *spare);
            }
        }
    }
    virtual_8086(guest);
}

/// Tasks at CPL 3.
fn users(guest: &mut SystemGuest, way: Way) {
    changed(guest, way, "CPL 3", &[&USER], 0);
    changed(guest, way, "CPL 3, DS is of DPL 0", &[&USER, &[(DS, DATA0 as u32)]], 0);
    changed(guest, way, "CPL 3, IOPL 0 and IF clear", &[&USER, &[(EFLAGS, 2)]], 0);
    changed(guest, way, "CPL 3 and T", &[&USER, &[(DEBUG_TRAP, 0x68_0001)]], 0);
}

/// Tasks in virtual-8086 mode.
fn virtual_8086(guest: &mut SystemGuest) {
    let task: &[(u32, u32)] =
        &[(CS, USER_TARGET >> 4), (EIP, 0), (SS, 0x600), (0x38, 0x400), (DS, 0x1234), (ES, 5), (GS, 0xffff)];
    for way in WAYS {
        for (name, flags) in [("VM, IOPL 3", 0x2_3202), ("VM, IOPL 0", 0x2_0202), ("VM, nested", 0x2_7002)] {
            changed(guest, way, name, &[task, &[(EFLAGS, flags)]], 0);
        }
        changed(guest, way, "VM, EIP beyond 64 KiB", &[task, &[(EFLAGS, 0x2_3202), (EIP, 0x1_0000)]], 0);
        changed(guest, way, "VM with a bad LDT", &[task, &[(EFLAGS, 0x2_3202), (LDT_SELECTOR, 0x100)]], 0);
    }
}

/// A task switch ends DR7's local enables (SDM vol. 3, 17.2.4), and a breakpoint may wait in the new task.
fn breakpoints(guest: &mut SystemGuest) {
    for (name, dr7_value) in [("local", 0x1u32), ("global", 0x2), ("all enables", 0x3ff)] {
        for way in WAYS {
            case(guest, &format!("a breakpoint in the new task, {name}"), way, OTHER_TASK, &|a| {
                a.mov(eax, TARGET)?;
                a.mov(dr0, eax)?;
                a.mov(eax, dr7_value)?;
                a.mov(dr7, eax)
            });
            case(guest, &format!("what DR7 becomes, {name}"), way, OTHER_TASK, &|a| {
                a.mov(eax, dr7_value)?;
                a.mov(dr7, eax)?;
                // MOV EAX, DR7 and INT 0x30.
                a.mov(dword_ptr(SCRATCH), 0xcdf8_210fu32)?;
                a.mov(dword_ptr(SCRATCH + 4), 0x30)?;
                a.mov(dword_ptr(OTHER_TSS + EIP), SCRATCH)
            });
        }
    }
}

/// CR3, and task-state segments in pages that are not there.
pub fn page_tables(guest: &mut SystemGuest) {
    // A window of two pages, the first of which is PAGES' second, the other one absent.
    let window = TEST_LINEAR;
    for way in WAYS {
        for (name, directory) in [("CR3 is the same", TABLES), ("CR3 with PWT and PCD", TABLES | 0x18)] {
            changed(guest, way, name, &[&[(CR3, directory)]], 0);
        }
        changed(guest, way, "CR3 with a bad DS", &[&[(CR3, TABLES | 8), (DS, 0x100)]], 0);
        changed(guest, way, "CR3 with a bad CS", &[&[(CR3, TABLES | 8), (CS, 0)]], 0);
        changed(guest, way, "CPL 3", &[&USER], 0);
        for (name, distance) in [("whole", 0x1000u32), ("its end", 0x40), ("all but its link", 4)] {
            // The segment begins this many bytes before the absent page, or in it.
            let base = window + if distance == 0x1000 { 0x1000 } else { 0x1000 - distance };
            let map: Code<'_> = &|a| {
                a.mov(dword_ptr(TEST_TABLE), (PAGES + 0x8003) as i32)?;
                set_descriptor(
                    a,
                    SPARE,
                    descriptor(base, 0x67, if way == Way::Return { 0x8b } else { 0x89 }, 0),
                )?;
                a.mov(dword_ptr(TSS), i32::from(SPARE))
            };
            guest.case(format!("{way:?}: a task of which an absent page holds {name}"), &|a| {
                map(a)?;
                super::tasks::switch(a, way, SPARE)
            });
            // The running task's segment: LTR names it, and the switch must save into it.
            guest.case(format!("{way:?}: from a task of which an absent page holds {name}"), &|a| {
                a.mov(dword_ptr(TEST_TABLE), (PAGES + 0x8003) as i32)?;
                set_descriptor(a, SPARE, descriptor(base, 0x67, 0x89, 0))?;
                a.mov(eax, i32::from(SPARE))?;
                a.ltr(ax)?;
                super::tasks::switch(a, way, OTHER_TASK)
            });
        }
    }
}
