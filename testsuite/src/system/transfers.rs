//! Far jumps, calls and returns: to code of every type, through call gates, to other privilege levels (SDM vol. 3, 5.8).

use super::frame32::{self, Paging};
use super::guest::{Code, SystemGuest, set_descriptor};
use super::layout::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// `JMP FAR selector:offset` or `CALL FAR`.
fn far(a: &mut CodeAssembler, call: bool, selector: u16, offset: u32) -> Result<(), IcedError> {
    a.db(&[if call { 0x9a } else { 0xea }])?;
    a.dd(&[offset])?;
    a.dw(&[selector])
}

/// The guest.
pub fn guest() -> SystemGuest {
    let mut guest = frame32::guest("far transfers", Paging::Off);
    direct(&mut guest);
    gates(&mut guest);
    returns(&mut guest);
    guest
}

/// Adds the case at CPL 0 and at CPL 3.
fn both(guest: &mut SystemGuest, name: &str, before: Code<'_>, body: Code<'_>) {
    guest.case(format!("{name}, CPL 0"), &|a| {
        before(a)?;
        body(a)
    });
    guest.user_case(format!("{name}, CPL 3"), 0, before, body);
}

fn direct(guest: &mut SystemGuest) {
    for kind in 0..32u8 {
        // Task-state segments and gates are for other cases.
        if matches!(kind, 1 | 3 | 4 | 5 | 9 | 0xb | 0xc) {
            continue;
        }
        for (dpl, present) in [(0, true), (3, true), (3, false)] {
            let access = kind | dpl << 5 | if present { 0x80 } else { 0 };
            let image = descriptor(0, 0xf_ffff, access, 0xc);
            for (call, rpl) in [(false, 0), (true, 3)] {
                let name = format!("far call {call}, type {kind:#x} DPL {dpl} present {present} RPL {rpl}");
                both(guest, &name, &|a| set_descriptor(a, SPARE, image), &|a| {
                    far(a, call, SPARE | rpl, TARGET)
                });
            }
        }
    }
    for (what, image) in [
        ("beyond the limit", descriptor(0, 0x7d00, CODE_ACCESS, 4)),
        ("16-bit code", descriptor(0, 0xffff, CODE_ACCESS, 0)),
        ("long code outside of IA-32e mode", descriptor(0, 0xf_ffff, CODE_ACCESS, FLAGS64)),
    ] {
        guest.case(format!("far jump, {what}"), &|a| {
            set_descriptor(a, SPARE, image)?;
            far(a, false, SPARE, TARGET)
        });
    }
    for selector in [0, 3, GDT_LIMIT + 1, 0xc] {
        guest.case(format!("far jump to selector {selector:#x}"), &|a| far(a, false, selector, TARGET));
    }
}

fn gates(guest: &mut SystemGuest) {
    for (what, target) in [
        ("code", CODE0),
        ("code of CPL 1", CODE1 | 1),
        ("code of CPL 3", CODE3 | 3),
        ("data", DATA0),
        ("null", 0),
        ("beyond", 0x100),
    ] {
        for (kind, count) in [(0x8c, 0), (0xec, 2), (0xe4, 3), (0x6c, 0)] {
            for call in [true, false] {
                let image = gate(target, TARGET, kind, count);
                let name = format!("gate {kind:#x} with {count} parameters to {what}, call {call}");
                both(guest, &name, &|a| set_descriptor(a, SPARE, image), &|a| {
                    for value in [0x3333, 0x2222, 0x1111] {
                        a.push(value)?;
                    }
                    far(a, call, SPARE | 3, 0xdead_beef)
                });
            }
        }
    }
    let conforming = descriptor(0, 0xf_ffff, CODE_ACCESS | 4, FLAGS32);
    both(
        guest,
        "gate to conforming code",
        &|a| {
            set_descriptor(a, SPARE, gate(SPARE + 8, TARGET, 0xec, 0))?;
            set_descriptor(a, SPARE + 8, conforming)
        },
        &|a| far(a, true, SPARE, 0),
    );
    guest.user_case(
        "gate with a bad stack in the TSS",
        0,
        &|a| {
            set_descriptor(a, SPARE, gate(CODE1 | 1, TARGET, 0xec, 0))?;
            a.mov(word_ptr(TSS + 0x10), i32::from(CODE0))
        },
        &|a| far(a, true, SPARE, 0),
    );
    guest.case("the TSS is good again", &|a| a.mov(word_ptr(TSS + 0x10), i32::from(DATA1 | 1)));
}

fn returns(guest: &mut SystemGuest) {
    let selectors = [
        ("CODE0", CODE0),
        ("CODE3", CODE3 | 3),
        ("CODE3 with RPL 0", CODE3),
        ("CODE0 with RPL 3", CODE0 | 3),
        ("CODE1", CODE1 | 1),
        ("data", DATA0),
        ("null", 0),
        ("beyond", 0x100),
    ];
    for (what, selector) in selectors {
        for (stack_name, stack) in [("DATA0", DATA0), ("DATA3", DATA3 | 3), ("DATA1", DATA1 | 1), ("null", 0)]
        {
            for iret in [false, true] {
                let name = format!("iret {iret} to {what}, stack {stack_name}");
                guest.case(name, &|a| {
                    a.push(i32::from(stack))?;
                    a.push(STACK3)?;
                    if iret {
                        // All flags that there are but VM, NT and IF.
                        a.push(0x0025_1cd7 & !0x100)?;
                    }
                    a.push(i32::from(selector))?;
                    a.push(TARGET)?;
                    if iret { a.iretd() } else { a.retf() }
                });
            }
        }
    }
    guest.case("RETF of 16 bits with 8 bytes of parameters to CPL 3", &|a| {
        a.db(&[0x66, 0x6a, (DATA3 | 3) as u8, 0x66, 0x68, 0x00, 0x65])?;
        a.push(0)?;
        a.push(0)?;
        a.db(&[0x66, 0x6a, (CODE3 | 3) as u8, 0x66, 0x68, 0x00, 0x7e])?;
        a.db(&[0x66, 0xca, 8, 0])
    });
    guest.user_case("IRET at CPL 3 changes neither IOPL nor IF", 0, &|_| Ok(()), &|a| {
        a.push(0x3202)?;
        a.push(i32::from(CODE3 | 3))?;
        a.push(TARGET)?;
        a.iretd()
    });
    guest.user_case("IRET at CPL 3 to CPL 0", 0, &|_| Ok(()), &|a| {
        a.push(2)?;
        a.push(i32::from(CODE0))?;
        a.push(TARGET)?;
        a.iretd()
    });
    guest.user_case("POPF at CPL 3, IOPL 3", 0x3000, &|_| Ok(()), &|a| {
        a.push(0x0024_7ed7 & !0x100)?;
        a.popfd()
    });
    for (what, code) in [
        ("CLI", &[0xfa][..]),
        ("HLT", &[0xf4]),
        ("IN", &[0xe4, 0x80]),
        ("MOV CR0", &[0x0f, 0x20, 0xc0]),
        ("CLTS", &[0x0f, 0x06]),
        ("LGDT", &[0x0f, 0x01, 0x10]),
        ("LMSW", &[0x0f, 0x01, 0xf0]),
        ("SMSW", &[0x0f, 0x01, 0xe0]),
        ("SLDT", &[0x0f, 0x00, 0xc0]),
        ("STR", &[0x0f, 0x00, 0xc8]),
        ("RDMSR", &[0x0f, 0x32]),
        ("MOV DR7", &[0x0f, 0x21, 0xf8]),
        ("INVD", &[0x0f, 0x08]),
        ("LTR", &[0x0f, 0x00, 0xd8]),
    ] {
        guest.user_case(format!("{what} at CPL 3"), 0, &|_| Ok(()), &|a| a.db(code));
    }
}
