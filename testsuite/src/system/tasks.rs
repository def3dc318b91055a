//! Task switches by JMP, CALL, IRET, INT and exceptions, directly and through task gates, to 32-bit and 16-bit tasks (SDM
//! vol. 3, 7.2 and 7.3).

use super::frame32::{self, Extras, Paging};
use super::guest::{Code, SystemGuest, set_descriptor, set_qword};
use super::layout::*;
use super::task_contents;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The vector whose gate the cases change.
const VECTOR: u32 = 0x31;
/// A task gate's type.
const TASK_GATE: u8 = 5;
/// RFLAGS.NT, and its fixed bit.
const NESTED: i32 = 0x4002;
/// Tables and task-state segments as every case finds them.
const TABLES_AGAIN: u32 = PAGES;
const TABLES_BYTES: u32 = 0x3000;

/// What a record holds of the descriptors and the task-state segments.
const LOGGED: [(&str, u32); 22] = [
    ("GDT TASK", GDT + TASK as u32 + 4),
    ("GDT OTHER_TASK", GDT + OTHER_TASK as u32 + 4),
    ("GDT TASK16", GDT + TASK16 as u32 + 4),
    ("GDT FAULT_TASK", GDT + FAULT_TASK as u32 + 4),
    ("TSS link", TSS),
    ("TSS CR3", TSS + 0x1c),
    ("TSS EIP", TSS + 0x20),
    ("TSS EFLAGS", TSS + 0x24),
    ("TSS ESP", TSS + 0x38),
    ("TSS ES", TSS + 0x48),
    ("TSS CS", TSS + 0x4c),
    ("TSS LDT", TSS + 0x60),
    ("OTHER_TSS link", OTHER_TSS),
    ("OTHER_TSS EIP", OTHER_TSS + 0x20),
    ("OTHER_TSS EFLAGS", OTHER_TSS + 0x24),
    ("OTHER_TSS ESP", OTHER_TSS + 0x38),
    ("OTHER_TSS CS", OTHER_TSS + 0x4c),
    ("OTHER_TSS SS", OTHER_TSS + 0x50),
    ("OTHER_TSS DS", OTHER_TSS + 0x54),
    ("TSS16 link", TSS16),
    ("TSS16 IP FLAGS", TSS16 + 0x0e),
    ("FAULT_TSS link", FAULT_TSS[0].1),
];

/// The guests. Where the new task may be one in which no exception can be delivered, the handlers are tasks.
pub fn guests() -> Vec<SystemGuest> {
    let parts: [(&str, Paging, u32, &dyn Fn(&mut SystemGuest)); 5] = [
        ("task switches", Paging::Off, 8, &|guest| {
            ways_to_switch(guest);
            descriptors(guest);
            returns(guest);
            exceptions(guest);
        }),
        ("new tasks, faults are not", Paging::Off, 8, &task_contents::with_good_stacks),
        ("new tasks, faults are tasks", Paging::Off, 13, &task_contents::all),
        ("tasks and page tables, 32-bit", Paging::Bits32, 13, &task_contents::page_tables),
        ("tasks and page tables, PAE", Paging::Pae, 13, &task_contents::page_tables),
    ];
    let guest = |(name, paging, last_vector, fill_cases): (_, _, u32, &dyn Fn(&mut SystemGuest))| {
        let restore: Code<'_> = &|a| restore(a, paging);
        let mut guest = frame32::guest_with(name, paging, &Extras { logged: &LOGGED, restore });
        fill(&mut guest, last_vector);
        fill_cases(&mut guest);
        guest
    };
    parts.into_iter().map(guest).collect()
}

/// The tasks, and the copy of the tables that is the same for every case. Tasks handle #DF and other exceptions up to
/// `last_vector`.
fn fill(guest: &mut SystemGuest, last_vector: u32) {
    guest.put(RETURN_TARGET, &[0xcf]);
    guest.put(USER_TARGET, &[0xcd, 0x30]);
    for (i, (vector, at)) in FAULT_TSS.into_iter().enumerate() {
        let selector = FAULT_TASK + 8 * i as u16;
        guest.put_descriptor(selector, descriptor(at, 0x67, 0x89, 0));
        put_task(guest, at, HANDLERS + vector * STUB_BYTES, STACK1 - 0x100);
        if vector <= last_vector {
            guest.put(IDT + vector * 8, &gate(selector, 0, 0x85, 0).to_le_bytes());
        }
    }
    put_task(guest, OTHER_TSS, TARGET, STACK2 - 0x100);
    for (at, value) in [
        (0x02, STACK0 as u16),
        (0x04, DATA0),
        (0x0e, TARGET as u16),
        (0x10, 2),
        (0x12, 0x1111),
        (0x14, 0x2222),
        (0x16, 0x3333),
        (0x18, 0x4444),
        (0x1a, STACK2 as u16),
        (0x1c, 0x6666),
        (0x1e, 0x7777),
        (0x20, 0x8888),
        (0x22, DATA0),
        (0x24, CODE0),
        (0x26, DATA0),
        (0x28, DATA3),
    ] {
        guest.put(TSS16 + at, &value.to_le_bytes());
    }
    let tables = guest.image[GDT as usize..(GDT + TABLES_BYTES) as usize].to_vec();
    guest.put(TABLES_AGAIN, &tables);
}

/// A 32-bit task at CPL 0.
fn put_task(guest: &mut SystemGuest, at: u32, eip: u32, stack: u32) {
    for (offset, value) in [(0x04, STACK0), (0x08, DATA0.into()), (0x1c, TABLES), (0x20, eip), (0x24, 2)] {
        guest.put(at + offset, &value.to_le_bytes());
    }
    for register in 0..8 {
        let value = if register == 4 { stack } else { 0x1111_1111 * (register + 1) };
        guest.put(at + 0x28 + 4 * register, &value.to_le_bytes());
    }
    let selectors = [DATA0, CODE0, DATA0, DATA3, DATA0, 0];
    for (i, selector) in selectors.into_iter().enumerate() {
        guest.put(at + 0x48 + 4 * i as u32, &selector.to_le_bytes());
    }
    guest.put(at + 0x66, &0x68u16.to_le_bytes());
}

/// Puts tables, TR, LDTR and CR3 back.
fn restore(a: &mut CodeAssembler, paging: Paging) -> Result<(), IcedError> {
    if paging != Paging::Off {
        a.mov(eax, TABLES)?;
        a.mov(cr3, eax)?;
    }
    a.mov(esi, TABLES_AGAIN)?;
    a.mov(edi, GDT)?;
    a.mov(ecx, TABLES_BYTES / 4)?;
    a.rep().movsd()?;
    a.xor(eax, eax)?;
    a.lldt(ax)?;
    a.mov(eax, i32::from(TASK))?;
    a.ltr(ax)
}

/// How a case switches to the task of a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// JMP to the task-state segment.
    Jump,
    /// CALL of it.
    Call,
    /// JMP to a task gate.
    JumpGate,
    /// CALL of one.
    CallGate,
    /// INT through one.
    Interrupt,
    /// IRET with NT.
    Return,
}

/// Every way that leads to a task which is not busy.
pub const FORWARD: [Way; 5] = [Way::Jump, Way::Call, Way::JumpGate, Way::CallGate, Way::Interrupt];

/// What must be done at CPL 0 before `switch`.
pub fn prepare(a: &mut CodeAssembler, way: Way, selector: u16) -> Result<(), IcedError> {
    let image = gate(selector, 0, 0xe0 | TASK_GATE, 0);
    match way {
        Way::JumpGate | Way::CallGate => set_descriptor(a, SPARE_GATE, image),
        Way::Interrupt => set_qword(a, IDT + VECTOR * 8, image),
        Way::Return => {
            a.mov(word_ptr(TSS), i32::from(selector))?;
            // The task to return to is busy.
            a.or(byte_ptr(GDT + u32::from(selector & !7) + 5), 2)
        }
        Way::Jump | Way::Call => Ok(()),
    }
}

/// Switches.
pub fn switch(a: &mut CodeAssembler, way: Way, selector: u16) -> Result<(), IcedError> {
    let (code, target) = match way {
        Way::Jump => (0xea, selector),
        Way::Call => (0x9a, selector),
        Way::JumpGate => (0xea, SPARE_GATE | 3),
        Way::CallGate => (0x9a, SPARE_GATE | 3),
        Way::Interrupt => return a.int(VECTOR as i32),
        Way::Return => {
            a.push(NESTED)?;
            a.popfd()?;
            return a.iretd();
        }
    };
    a.db(&[code])?;
    a.dd(&[0x1234_5678])?;
    a.dw(&[target])
}

/// A case that switches from CPL 0 behind `before`.
pub fn case(guest: &mut SystemGuest, name: &str, way: Way, selector: u16, before: Code<'_>) {
    guest.case(format!("{way:?}: {name}"), &|a| {
        prepare(a, way, selector)?;
        before(a)?;
        switch(a, way, selector)
    });
}

fn ways_to_switch(guest: &mut SystemGuest) {
    let none: Code<'_> = &|_| Ok(());
    for way in FORWARD.into_iter().chain([Way::Return]) {
        for (name, selector) in [("a 32-bit task", OTHER_TASK), ("a 16-bit task", TASK16)] {
            case(guest, name, way, selector, none);
            guest.user_case(format!("{way:?}: {name}, CPL 3"), 0x202, &|a| prepare(a, way, selector), &|a| {
                switch(a, way, selector | 3)
            });
            // With DPL 3 in the task's descriptor.
            let outer: Code<'_> = &|a| {
                prepare(a, way, selector)?;
                a.or(byte_ptr(GDT + u32::from(selector) + 5), i32::from(DPL3))
            };
            guest.user_case(format!("{way:?}: {name} of DPL 3, CPL 3"), 0x202, outer, &|a| {
                switch(a, way, selector | 3)
            });
        }
        case(guest, "flags are saved", way, OTHER_TASK, &|a| {
            a.push(0x0025_0ed7 & !0x100)?;
            a.popfd()
        });
    }
    for (name, eip) in [("nested 32-bit task returns", RETURN_TARGET), ("nested task", TARGET)] {
        for way in FORWARD {
            case(guest, name, way, OTHER_TASK, &|a| a.mov(dword_ptr(OTHER_TSS + 0x20), eip));
            case(guest, &format!("{name}, 16-bit"), way, TASK16, &|a| {
                a.mov(word_ptr(TSS16 + 0xe), eip as i32)
            });
        }
    }
}

/// Descriptors that no task can be entered by.
fn descriptors(guest: &mut SystemGuest) {
    let tss = |access, limit| descriptor(OTHER_TSS, limit, access, 0);
    let images = [
        ("good", SPARE, tss(0x89, 0x67)),
        ("busy", SPARE, tss(0x8b, 0x67)),
        ("absent", SPARE, tss(0x09, 0x67)),
        ("busy and absent", SPARE, tss(0x0b, 0x67)),
        ("of a short limit", SPARE, tss(0x89, 0x66)),
        ("busy and of a short limit", SPARE, tss(0x8b, 0x66)),
        ("16-bit and short", SPARE, tss(0x81, 0x2a)),
        ("large", SPARE, descriptor(OTHER_TSS, 0xff, 0x89, 8)),
        ("with RPL 3", SPARE | 3, tss(0x89, 0x67)),
        ("a local one", SPARE | 4, tss(0x89, 0x67)),
        ("data", SPARE, descriptor(OTHER_TSS, 0x67, 0x93, 0)),
        ("an LDT", SPARE, tss(0x82, 0x67)),
        ("a task gate", SPARE, gate(OTHER_TASK, 0, 0x85, 0)),
        ("null", 0, 0),
        ("beyond the GDT", 0x100, 0),
    ];
    for way in FORWARD.into_iter().chain([Way::Return]) {
        for (name, selector, image) in images {
            guest.case(format!("{way:?}: descriptor is {name}"), &|a| {
                prepare(a, way, selector)?;
                if selector & !7 == SPARE {
                    set_descriptor(a, SPARE, image)?;
                }
                switch(a, way, selector)
            });
        }
        if matches!(way, Way::JumpGate | Way::CallGate | Way::Interrupt) {
            for (name, access) in [("of DPL 0", 0x85), ("absent", 0x65)] {
                let image = gate(OTHER_TASK, 0, access, 0);
                guest.user_case(
                    format!("{way:?}: task gate {name}, CPL 3"),
                    0,
                    &|a| match way {
                        Way::Interrupt => set_qword(a, IDT + VECTOR * 8, image),
                        _ => set_descriptor(a, SPARE_GATE, image),
                    },
                    &|a| switch(a, way, 0),
                );
            }
        }
    }
}

/// IRET with NT, whose link is not what it should be.
fn returns(guest: &mut SystemGuest) {
    for (name, link) in [("OTHER_TASK, not busy", OTHER_TASK), ("null", 0), ("data", DATA0)] {
        guest.case(format!("IRET with NT, link is {name}"), &|a| {
            a.mov(word_ptr(TSS), i32::from(link))?;
            switch(a, Way::Return, link)
        });
    }
    guest.user_case("IRET with NT, CPL 3", NESTED, &|a| prepare(a, Way::Return, OTHER_TASK), &|a| a.iretd());
}

/// Exceptions through task gates.
fn exceptions(guest: &mut SystemGuest) {
    let cases: [(&str, u32, Code<'_>); 5] = [
        ("#UD", 6, &|a| a.ud2()),
        ("#DE", 0, &|a| {
            a.xor(ecx, ecx)?;
            a.div(ecx)
        }),
        ("#GP", 13, &|a| {
            a.mov(eax, 0x100)?;
            a.mov(ds, eax)
        }),
        ("#BP", 3, &|a| a.int3()),
        ("#NP", 11, &|a| {
            set_descriptor(a, SPARE, descriptor(0, 0, 0x13, 0))?;
            a.mov(eax, i32::from(SPARE))?;
            a.mov(ds, eax)
        }),
    ];
    for (name, vector, raise) in cases {
        for (size, selector, eip) in [
            ("32-bit", OTHER_TASK, TARGET),
            ("16-bit", TASK16, TARGET),
            ("32-bit, which returns,", OTHER_TASK, RETURN_TARGET),
        ] {
            // A fault's handler would return to the fault.
            if eip == RETURN_TARGET && vector != 3 {
                continue;
            }
            guest.case(format!("{name} to a {size} task"), &|a| {
                a.mov(dword_ptr(OTHER_TSS + 0x20), eip)?;
                set_qword(a, IDT + vector * 8, gate(selector, 0, 0xe5, 0))?;
                raise(a)
            });
        }
        guest.case(format!("{name} to a task with a bad stack"), &|a| {
            a.mov(word_ptr(OTHER_TSS + 0x50), 0)?;
            set_qword(a, IDT + vector * 8, gate(OTHER_TASK, 0, 0xe5, 0))?;
            raise(a)
        });
    }
}
