//! Interrupts and exceptions through gates of 16 and 32 bits, with and without a change of privilege (SDM vol. 3, 6.12).

use super::frame32::{self, Paging};
use super::guest::{Code, SystemGuest, set_qword};
use super::layout::*;
use super::opcodes::COPROCESSOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The vector whose gate the cases change.
const VECTOR: u32 = 0x31;

/// The guest.
pub fn guest() -> SystemGuest {
    let mut guest = frame32::guest("interrupts", Paging::Off);
    gate_types(&mut guest);
    exceptions(&mut guest);
    debug(&mut guest);
    guest
}

fn set_gate(a: &mut CodeAssembler, image: u64) -> Result<(), IcedError> {
    set_qword(a, IDT + VECTOR * 8, image)
}

fn gate_types(guest: &mut SystemGuest) {
    let handler = HANDLERS + VECTOR * STUB_BYTES;
    for kind in 0..32u8 {
        for access in [0x80 | kind, 0xe0 | kind, 0x60 | kind] {
            // A task gate to a good task is another guest's.
            let selector = if kind == 5 { DATA0 } else { CODE0 };
            let image = gate(selector, handler, access, 0);
            guest.case(format!("INT through a gate with access {access:#x}, CPL 0"), &|a| {
                set_gate(a, image)?;
                a.int(VECTOR as i32)
            });
            guest.user_case(
                format!("INT through a gate with access {access:#x}, CPL 3"),
                0x202,
                &|a| set_gate(a, image),
                &|a| a.int(VECTOR as i32),
            );
        }
    }
    for (what, selector) in [
        ("CODE1", CODE1),
        ("CODE3", CODE3),
        ("data", DATA0),
        ("null", 0),
        ("beyond", 0x100),
        ("CODE0 with RPL 3", CODE0 | 3),
        ("16-bit code", CODE16),
    ] {
        let image = gate(selector, TARGET, 0xee, 0);
        guest.case(format!("INT to {what}, CPL 0"), &|a| {
            set_gate(a, image)?;
            a.int(VECTOR as i32)
        });
        guest.user_case(format!("INT to {what}, CPL 3"), 0, &|a| set_gate(a, image), &|a| {
            a.int(VECTOR as i32)
        });
    }
    guest.case("INT beyond the IDT", &|a| a.int(0x80));
    guest.user_case("INT beyond the IDT, CPL 3", 0, &|_| Ok(()), &|a| a.int(0x80));
    guest.user_case("INT of DPL 0", 0, &|_| Ok(()), &|a| a.int(0x20));
}

fn exceptions(guest: &mut SystemGuest) {
    let none: Code<'_> = &|_| Ok(());
    let cases: [(&str, Code<'_>); 15] = [
        ("divide by zero", &|a| a.div(ecx)),
        ("quotient too large", &|a| {
            a.mov(edx, 5)?;
            a.mov(ecx, 5)?;
            a.div(ecx)
        }),
        ("INT3", &|a| a.int3()),
        ("INTO without OF", &|a| a.into()),
        ("INTO with OF", &|a| {
            a.mov(al, 0x7f)?;
            a.inc(al)?;
            a.into()
        }),
        ("INT1", &|a| a.int1()),
        ("UD2", &|a| a.ud2()),
        ("LOCK on a register", &|a| a.db(&[0xf0, 0x01, 0xc0])),
        ("LOCK MOV", &|a| a.db(&[0xf0, 0x89, 0x05, 0, 6, 0, 0])),
        ("an instruction of 16 bytes", &|a| {
            a.db(&[0x66; 14])?;
            a.db(&[0x01, 0xc0])
        }),
        ("MOV to CS", &|a| a.db(&[0x8e, 0xc8])),
        ("MOV from CR1", &|a| a.db(&[0x0f, 0x20, 0xc8])),
        ("LES from a register", &|a| a.db(&[0xc4, 0xc0])),
        ("LEA of a register", &|a| a.db(&[0x8d, 0xc0])),
        ("BOUND within", &|a| {
            a.mov(dword_ptr(SCRATCH), 5)?;
            a.mov(dword_ptr(SCRATCH + 4), 9)?;
            a.mov(eax, 9)?;
            a.bound(eax, qword_ptr(SCRATCH))
        }),
    ];
    for (name, body) in cases {
        guest.case(format!("{name}, CPL 0"), body);
        if !name.starts_with("BOUND") && !name.starts_with("LOCK MOV") {
            guest.user_case(format!("{name}, CPL 3"), 0, none, body);
        }
    }
    guest.case("BOUND beyond", &|a| {
        a.mov(dword_ptr(SCRATCH), 5)?;
        a.mov(dword_ptr(SCRATCH + 4), 9)?;
        a.mov(eax, 10)?;
        a.bound(eax, qword_ptr(SCRATCH))
    });
    coprocessor(guest);
    alignment(guest);
}

/// #NM by CR0.EM, TS and MP (SDM vol. 3, 2.5).
fn coprocessor(guest: &mut SystemGuest) {
    for (what, set) in [("EM", 4), ("TS", 8), ("TS and MP", 0xa)] {
        for (name, code) in COPROCESSOR {
            guest.case(format!("{name} with {what}"), &|a| {
                a.mov(eax, cr0)?;
                a.mov(ebx, eax)?;
                a.or(eax, set)?;
                a.mov(cr0, eax)?;
                a.db(code)
            });
            // The handlers clear TS only.
            guest.case(format!("after {name} with {what}"), &|a| {
                a.mov(eax, cr0)?;
                a.and(eax, !6)?;
                a.mov(cr0, eax)
            });
        }
    }
}

/// #AC (SDM vol. 3, 6.15).
fn alignment(guest: &mut SystemGuest) {
    for (name, flags, offset) in
        [("alignment fault", 0x4_0000, 1), ("aligned", 0x4_0000, 4), ("not checked without AC", 0, 1)]
    {
        guest.user_case(
            name,
            flags,
            &|a| {
                a.mov(eax, cr0)?;
                a.or(eax, 1 << 18)?;
                a.mov(cr0, eax)
            },
            &|a| {
                a.mov(eax, i32::from(DATA3 | 3))?;
                a.mov(ds, eax)?;
                a.mov(eax, dword_ptr(SCRATCH + offset))
            },
        );
    }
}

/// Single steps and the debug registers (SDM vol. 3, 17.2 and 17.3).
fn debug(guest: &mut SystemGuest) {
    guest.case("single step behind POPF", &|a| {
        a.push(0x102)?;
        a.popfd()?;
        a.nop()?;
        a.inc(ebx)?;
        a.inc(ebx)
    });
    guest.case("single step over MOV SS", &|a| {
        a.push(0x102)?;
        a.mov(eax, ss)?;
        a.popfd()?;
        a.mov(ss, eax)?;
        a.inc(ebx)?;
        a.inc(ebx)
    });
    guest.case("single step of a repeated instruction", &|a| {
        a.mov(ecx, 3)?;
        a.mov(edi, SCRATCH)?;
        a.push(0x102)?;
        a.popfd()?;
        a.rep().stosb()?;
        a.inc(ebx)
    });
    guest.case("single step into INT", &|a| {
        a.push(0x102)?;
        a.popfd()?;
        a.int(0x30)
    });
    guest.user_case("single step at CPL 3", 0x102, &|_| Ok(()), &|a| {
        a.inc(ebx)?;
        a.inc(ebx)
    });
    data_breakpoints(guest);
    code_breakpoints(guest);
    control_registers(guest);
}

fn data_breakpoints(guest: &mut SystemGuest) {
    for (what, dr7_value, length_bytes) in [
        ("write", 0x1_0001u32, 1),
        ("write of two bytes", 0x5_0001, 2),
        ("read or write", 0xf_0001, 4),
        ("global", 0xd_0002, 4),
    ] {
        for (access, offset) in
            [("read", 0), ("write", 0), ("write beside", length_bytes), ("write before", -1)]
        {
            guest.case(format!("data breakpoint for {what}: {access}"), &|a| {
                a.mov(eax, SCRATCH + 0x10)?;
                a.mov(dr0, eax)?;
                a.mov(eax, dr7_value)?;
                a.mov(dr7, eax)?;
                if access == "read" {
                    a.mov(bl, byte_ptr(SCRATCH + 0x10))?;
                } else {
                    a.mov(byte_ptr(i64::from(SCRATCH) + 0x10 + i64::from(offset)), bl)?;
                }
                a.inc(ecx)
            });
        }
    }
}

fn code_breakpoints(guest: &mut SystemGuest) {
    // The address behind CALL and POP is the one that CALL pushed, plus the distance in bytes.
    for (what, flags) in [("", 0x2), (" with RF", 0x1_0002)] {
        guest.case(format!("code breakpoint{what}"), &|a| {
            let mut here = a.create_label();
            a.call(here)?;
            a.set_label(&mut here)?;
            a.pop(eax)?;
            a.add(eax, 26)?;
            a.mov(dr1, eax)?;
            a.mov(ecx, 0x04)?;
            a.mov(dr7, ecx)?;
            a.db(&[0x68])?;
            a.dd(&[flags])?;
            a.push(i32::from(CODE0))?;
            a.push(eax)?;
            a.iretd()?;
            a.nop()?;
            a.nop()?;
            a.inc(ebx)
        });
    }
    guest.case("general detect", &|a| {
        a.mov(eax, 1 << 13)?;
        a.mov(dr7, eax)?;
        a.mov(ebx, dr0)
    });
    guest.case("what DR6 and DR7 read as", &|a| {
        a.mov(eax, -1)?;
        a.mov(dr6, eax)?;
        a.mov(ebx, dr6)?;
        a.mov(eax, 0xd_5000)?;
        a.mov(dr7, eax)?;
        a.mov(ecx, dr7)?;
        a.mov(edx, dr4)
    });
    guest.case("DR4 with CR4.DE", &|a| {
        a.mov(eax, 8)?;
        a.mov(cr4, eax)?;
        a.mov(edx, dr4)
    });
    guest.case("CR4.DE is off again", &|a| {
        a.xor(eax, eax)?;
        a.mov(cr4, eax)
    });
}

fn control_registers(guest: &mut SystemGuest) {
    guest.case("LMSW cannot leave protected mode", &|a| {
        a.xor(eax, eax)?;
        a.lmsw(ax)?;
        a.smsw(ebx)
    });
    // QEMU keeps what these write, so they come last.
    for (what, value) in [("NW without CD", 0x2000_0001u32), ("a reserved bit", 0x51)] {
        guest.case(format!("MOV CR0 with {what}"), &|a| {
            a.mov(ebx, value)?;
            a.mov(cr0, ebx)
        });
    }
}
