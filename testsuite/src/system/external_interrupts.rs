//! External interrupts and NMIs, which the guest sends to itself through its local APIC: when they are let in, what they push at
//! CPL 0 and 3 and in virtual-8086 mode, errors on their way, and the blocking of NMIs (SDM vol. 3, 6.7, 6.8, 6.9, 6.12 and 20.3).
//!
//! Each is made pending while it is kept away, so that it comes at the same instruction on every processor.

use super::frame32::{self, Extras, Paging};
use super::guest::{Code, SystemGuest, set_qword};
use super::layout::*;
use super::virtual_8086::{self, enter, real_code};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The vector of the interrupts.
const VECTOR: u32 = 0x33;
/// A vector beyond the IDT.
const BEYOND: u32 = 0x80;

// The local APIC (SDM vol. 3, 10.4.1).
const TASK_PRIORITY: u32 = 0xfee0_0080;
const END_OF_INTERRUPT: u32 = 0xfee0_00b0;
const SPURIOUS: u32 = 0xfee0_00f0;
const COMMAND: u32 = 0xfee0_0300;
const COMMAND_HIGH: u32 = 0xfee0_0310;
/// Shorthand: the sender itself.
const SELF: u32 = 0x4_0000;
/// An NMI for the APIC id in `COMMAND_HIGH`.
const NMI: u32 = 0x4400;

/// The NMI handler of the cases about blocking.
const NMI_HANDLER: u32 = OTHER_CODE + 0x2_f000;

/// EFLAGS in virtual-8086 mode with IF, and CR4.VME.
const VM86: [(&str, u32, i32); 5] = [
    ("IOPL 0", 0x2_0202, 0),
    ("IOPL 3", 0x2_3202, 0),
    ("IOPL 0, VME", 0x2_0202, 1),
    ("IOPL 0, VME, VIF", 0xa_0202, 1),
    ("IOPL 3, VME", 0x2_3202, 1),
];

/// The guest.
pub fn guest() -> SystemGuest {
    let mut guest =
        frame32::guest_with("INTR and NMI", Paging::Off, &Extras { logged: &[], restore: &restore });
    guest.local_apic = true;
    virtual_8086::fill(&mut guest);
    // The first record opens the local APIC.
    guest.case("nothing", &|_| Ok(()));
    openings(&mut guest);
    priorities(&mut guest);
    privilege(&mut guest);
    gates(&mut guest);
    out_of_virtual_8086(&mut guest);
    non_maskable(&mut guest);
    guest
}

fn own_gate(vector: u32) -> u64 {
    gate(CODE0, HANDLERS + vector * STUB_BYTES, 0x8e, 0)
}

/// Ends the interrupt, opens the local APIC, puts gates and CR4 back, and unblocks NMIs.
fn restore(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut unblock, mut next) = (a.create_label(), a.create_label());
    write(a, END_OF_INTERRUPT, 0)?;
    write(a, SPURIOUS, 0x1ff)?;
    write(a, TASK_PRIORITY, 0)?;
    write(a, COMMAND_HIGH, 0)?;
    set_qword(a, IDT + 2 * 8, own_gate(2))?;
    set_qword(a, IDT + VECTOR * 8, own_gate(VECTOR))?;
    a.xor(eax, eax)?;
    a.mov(cr4, eax)?;
    a.push(2)?;
    a.push(i32::from(CODE0))?;
    // CALL pushes the offset that IRETD returns to.
    a.call(unblock)?;
    a.jmp(next)?;
    a.set_label(&mut unblock)?;
    a.iretd()?;
    a.set_label(&mut next)?;
    a.nop()
}

fn write(a: &mut CodeAssembler, register: u32, value: u32) -> Result<(), IcedError> {
    a.mov(eax, value)?;
    a.mov(dword_ptr(u64::from(register)), eax)?;
    a.xor(eax, eax)
}

fn send(a: &mut CodeAssembler, command: u32) -> Result<(), IcedError> {
    write(a, COMMAND, command)
}

/// When an interrupt that waits is let in (SDM vol. 3, 6.8.1 and 6.8.3).
fn openings(guest: &mut SystemGuest) {
    let cases: [(&str, u128, Code<'_>); 6] = [
        ("with IF clear it waits", 0x30, &|a| {
            a.inc(ebx)?;
            a.nop()
        }),
        ("STI, and one instruction more", VECTOR.into(), &|a| {
            a.sti()?;
            a.inc(ebx)?;
            a.inc(ecx)
        }),
        ("STI and CLI", 0x30, &|a| {
            a.sti()?;
            a.cli()?;
            a.inc(ebx)
        }),
        ("POPFD", VECTOR.into(), &|a| {
            a.push(0x202)?;
            a.popfd()?;
            a.inc(ebx)
        }),
        ("IRETD", VECTOR.into(), &|a| {
            a.push(0x202)?;
            a.push(i32::from(CODE0))?;
            a.push(TARGET as i32)?;
            a.iretd()
        }),
        ("STI and HLT", VECTOR.into(), &|a| {
            a.sti()?;
            a.hlt()?;
            a.inc(ebx)
        }),
    ];
    for (name, vector, body) in cases {
        guest.case(format!("maskable: {name}"), &|a| {
            send(a, SELF | VECTOR)?;
            body(a)
        });
        guest.expect("vector", vector);
        // What still waits comes now.
        guest.case(format!("behind: {name}"), &|a| {
            a.sti()?;
            a.inc(edx)?;
            a.inc(esi)
        });
        guest.expect("vector", if vector == VECTOR.into() { 0x30 } else { VECTOR.into() });
    }
}

/// The task priority (SDM vol. 3, 10.8.3).
fn priorities(guest: &mut SystemGuest) {
    guest.case("the task priority keeps it away", &|a| {
        write(a, TASK_PRIORITY, 0x40)?;
        send(a, SELF | VECTOR)?;
        a.sti()?;
        a.inc(ebx)?;
        a.inc(ecx)?;
        a.cli()
    });
    guest.expect("vector", 0x30);
    guest.case("and lets it in", &|a| {
        a.sti()?;
        a.inc(ebx)?;
        a.inc(ecx)
    });
    guest.expect("vector", VECTOR.into());
    guest.expect("ebx", 1);
    guest.expect("ecx", 0);
    guest.case("the higher of two comes first", &|a| {
        send(a, SELF | VECTOR)?;
        send(a, SELF | 0x32)?;
        a.sti()?;
        a.inc(ebx)
    });
    guest.expect("vector", VECTOR.into());
    guest.case("then the lower", &|a| {
        a.sti()?;
        a.inc(ebx)
    });
    guest.expect("vector", 0x32);
}

/// Out of CPL 3, and what is pushed.
fn privilege(guest: &mut SystemGuest) {
    for (name, flags) in [("IF set", 0x202), ("IF set, AC and ID", 0x24_0202), ("IF clear, IOPL 3", 0x3002)] {
        guest.user_case(format!("CPL 3, {name}"), flags, &|a| send(a, SELF | VECTOR), &|a| {
            a.inc(ebx)?;
            if flags & 0x200 == 0 { a.sti() } else { a.inc(ecx) }?;
            a.inc(edx)
        });
        guest.expect("vector", VECTOR.into());
    }
}

/// The gate's DPL does not matter; errors have EXT set (SDM vol. 3, 6.12.1.2 and 6.13).
fn gates(guest: &mut SystemGuest) {
    let handler = HANDLERS + VECTOR * STUB_BYTES;
    for (name, image) in [
        ("a trap gate", gate(CODE0, handler, 0x8f, 0)),
        ("a 16-bit interrupt gate", gate(CODE0, TARGET, 0x86, 0)),
        ("an absent gate", gate(CODE0, handler, 0x0e, 0)),
        ("a gate to CPL 3", gate(CODE3, handler, 0x8e, 0)),
        ("a gate to data", gate(DATA0, handler, 0x8e, 0)),
        ("a null gate", gate(0, handler, 0x8e, 0)),
        ("a call gate", gate(CODE0, handler, 0x8c, 0)),
    ] {
        let before: Code<'_> = &|a| {
            set_qword(a, IDT + VECTOR * 8, image)?;
            send(a, SELF | VECTOR)
        };
        guest.case(format!("through {name}, CPL 0"), &|a| {
            before(a)?;
            a.sti()?;
            a.inc(ebx)
        });
        guest.user_case(format!("through {name}, CPL 3"), 0x202, before, &|a| a.inc(ebx));
    }
    guest.case("beyond the IDT", &|a| {
        send(a, SELF | BEYOND)?;
        a.sti()?;
        a.inc(ebx)
    });
    guest.expect("vector", 13);
    guest.expect("pushed[0]", u128::from(BEYOND) << 3 | 3);
}

/// Out of virtual-8086 mode: IOPL, VIF and VIP do not matter.
fn out_of_virtual_8086(guest: &mut SystemGuest) {
    for (name, flags, cr4_value) in VM86 {
        let segment = real_code(guest, &|a| {
            a.inc(bx)?;
            a.int(0x30)
        });
        guest.case(format!("virtual-8086 mode, {name}"), &|a| {
            a.mov(eax, cr4_value)?;
            a.mov(cr4, eax)?;
            send(a, SELF | VECTOR)?;
            enter(a, segment, 0, flags)
        });
        guest.expect("vector", VECTOR.into());
        guest.expect("ebx", 0);
        guest.expect("pushed[0]", 0);
        guest.expect("pushed[2]", flags.into());
    }
    let segment = real_code(guest, &|a| {
        a.inc(bx)?;
        a.sti()?;
        a.inc(bx)?;
        a.inc(bx)?;
        a.int(0x30)
    });
    guest.case("virtual-8086 mode, IOPL 3, STI", &|a| {
        send(a, SELF | VECTOR)?;
        enter(a, segment, 0, 0x2_3002)
    });
    guest.expect("vector", VECTOR.into());
    guest.expect("ebx", 2);
    let segment = real_code(guest, &|a| {
        a.sti()?;
        a.inc(bx)?;
        a.int(0x30)
    });
    // STI sets VIF, which says nothing to the processor.
    guest.case("virtual-8086 mode, IOPL 0, VME, STI", &|a| {
        a.mov(eax, 1)?;
        a.mov(cr4, eax)?;
        send(a, SELF | VECTOR)?;
        enter(a, segment, 0, 0x2_0002)
    });
    guest.case("and it still waits", &|a| {
        a.sti()?;
        a.inc(edx)
    });
    guest.expect("vector", VECTOR.into());
    for (name, image) in [
        ("a gate to CPL 1", gate(CODE1, HANDLERS, 0x8e, 0)),
        ("a gate to conforming code", gate(SPARE, HANDLERS, 0x8e, 0)),
    ] {
        let conforming = descriptor(0, 0xf_ffff, CODE_ACCESS | 4, FLAGS32);
        let segment = real_code(guest, &|a| a.int(0x30));
        guest.case(format!("virtual-8086 mode, {name}"), &|a| {
            super::guest::set_descriptor(a, SPARE, conforming)?;
            set_qword(a, IDT + VECTOR * 8, image)?;
            send(a, SELF | VECTOR)?;
            enter(a, segment, 0, 0x2_3202)
        });
        guest.expect("vector", 13);
        let selector = (image >> 16) as u16;
        guest.expect("pushed[0]", u128::from(selector) | 1);
    }
}

/// An NMI handler that `body` ends sends further NMIs. It is entered somewhere in a loop, so its frame is dropped.
fn nmi_case(guest: &mut SystemGuest, name: &str, handler: u32, body: Code<'_>) {
    guest.put_code(32, handler, &|a| {
        a.add(esp, 12)?;
        set_qword(a, IDT + 2 * 8, own_gate(2))?;
        body(a)
    });
    guest.case(format!("NMI: {name}"), &|a| {
        let mut here = a.create_label();
        set_qword(a, IDT + 2 * 8, gate(CODE0, handler, 0x8e, 0))?;
        send(a, NMI)?;
        a.set_label(&mut here)?;
        a.jmp(here)
    });
}

fn return_to(a: &mut CodeAssembler, flags: i32) -> Result<(), IcedError> {
    a.push(flags)?;
    a.push(i32::from(CODE0))?;
    a.push(TARGET as i32)?;
    a.iretd()
}

/// NMIs are blocked from one's delivery to the next IRET (SDM vol. 3, 6.7.1).
fn non_maskable(guest: &mut SystemGuest) {
    let expect = |guest: &mut SystemGuest, fields: &[(&'static str, u32)]| {
        fields.iter().for_each(|&(field, value)| guest.expect(field, value.into()));
    };
    nmi_case(guest, "the next one waits for IRET", NMI_HANDLER, &|a| {
        send(a, NMI)?;
        a.inc(ebx)?;
        return_to(a, 2)
    });
    expect(guest, &[("vector", 2), ("ebx", 1), ("pushed[0]", TARGET)]);
    nmi_case(guest, "two that wait are one", NMI_HANDLER + 0x100, &|a| {
        send(a, NMI)?;
        send(a, NMI)?;
        a.inc(ebx)?;
        return_to(a, 2)
    });
    expect(guest, &[("vector", 2), ("ebx", 1), ("pushed[0]", TARGET)]);
    guest.case("NMI: none is left", &|a| a.inc(ebx));
    expect(guest, &[("vector", 0x30), ("ebx", 1)]);
    nmi_case(guest, "it comes before an interrupt", NMI_HANDLER + 0x200, &|a| {
        send(a, SELF | VECTOR)?;
        send(a, NMI)?;
        return_to(a, 0x202)
    });
    expect(guest, &[("vector", 2), ("pushed[0]", TARGET)]);
    guest.case("NMI: the interrupt behind it", &|a| {
        a.sti()?;
        a.inc(ebx)
    });
    expect(guest, &[("vector", VECTOR), ("ebx", 1)]);
    for (number, (name, flags, cr4_value)) in VM86.into_iter().enumerate() {
        let segment = real_code(guest, &|a| {
            a.inc(bx)?;
            a.int(0x30)
        });
        let handler = NMI_HANDLER + 0x300 + 0x100 * number as u32;
        nmi_case(guest, &format!("out of virtual-8086 mode, {name}"), handler, &|a| {
            a.mov(eax, cr4_value)?;
            a.mov(cr4, eax)?;
            send(a, NMI)?;
            enter(a, segment, 0, flags)
        });
        expect(guest, &[("vector", 2), ("ebx", 0), ("pushed[0]", 0), ("pushed[2]", flags)]);
    }
}
