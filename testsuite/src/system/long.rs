//! IA-32e mode: gates of 64 bits with IST, SYSCALL and SYSENTER, compatibility mode, and the way between the modes (SDM
//! vol. 3, 5.8.7, 5.8.8, 6.14 and 9.8.5).

use super::frame64;
use super::guest::{Code, SystemGuest, assemble, set_qword};
use super::layout::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

const VECTOR: u32 = 0x31;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const FMASK: u32 = 0xc000_0084;
const SYSENTER_CS: u32 = 0x174;

/// The guest.
pub fn guest() -> SystemGuest {
    let mut guest = frame64::guest("long mode");
    gates(&mut guest);
    fast_calls(&mut guest);
    compatibility(&mut guest);
    loads(&mut guest);
    returns(&mut guest);
    mode_changes(&mut guest);
    guest
}

fn set_msr(a: &mut CodeAssembler, msr: u32, low: u32, high: u32) -> Result<(), IcedError> {
    a.mov(ecx, msr)?;
    a.mov(eax, low)?;
    a.mov(edx, high)?;
    a.wrmsr()
}

/// `INT` or far call from both privilege levels.
fn both(guest: &mut SystemGuest, name: &str, before: Code<'_>, body: Code<'_>) {
    guest.case(format!("{name}, CPL 0"), &|a| {
        before(a)?;
        body(a)
    });
    guest.user_case(format!("{name}, CPL 3"), 0x202, before, body);
}

fn gates(guest: &mut SystemGuest) {
    let handler = HANDLERS + VECTOR * STUB_BYTES;
    for kind in [0x4u8, 0x5, 0x6, 0x7, 0xc, 0xe, 0xf, 0x1e] {
        for rights in [0x80, 0xe0, 0x60] {
            for ist in [0, 1, 2] {
                let image = gate(CODE0, handler, rights | kind, ist);
                let name = format!("INT through a gate with access {:#x} IST {ist}", rights | kind);
                both(guest, &name, &|a| set_qword(a, IDT + VECTOR * 16, image), &|a| a.int(VECTOR as i32));
            }
        }
    }
    for (what, selector) in [
        ("32-bit code", CODE32),
        ("CODE1", CODE1),
        ("CODE3", CODE3),
        ("data", DATA0),
        ("null", 0),
        ("beyond", 0x100),
    ] {
        let image = gate(selector, TARGET, 0xee, 0);
        both(guest, &format!("INT to {what}"), &|a| set_qword(a, IDT + VECTOR * 16, image), &|a| {
            a.int(VECTOR as i32)
        });
        for kind in [0x8c, 0xec, 0x6c, 0xe4] {
            let call_gate = gate(selector, TARGET, kind, 0);
            let name = format!("call gate {kind:#x} to {what}");
            let set: Code<'_> = &|a| {
                set_qword(a, GDT + u32::from(SPARE), call_gate)?;
                set_qword(a, GDT + u32::from(SPARE) + 8, 0)
            };
            both(guest, &name, set, &|a| far_call(a, SPARE | 3));
        }
    }
    for (what, target, high) in [
        ("code", CODE0, 0u64),
        ("code of CPL 1", CODE1 | 1, 0),
        ("a type in the high half", CODE0, 0xc << 40),
    ] {
        let call_gate = gate(target, TARGET, 0xec, 0);
        let set: Code<'_> = &|a| {
            set_qword(a, GDT + u32::from(SPARE), call_gate)?;
            set_qword(a, GDT + u32::from(SPARE) + 8, high)
        };
        both(guest, &format!("call gate to {what}"), set, &|a| far_call(a, SPARE | 3));
    }
    guest.case("an unaligned stack is aligned by the delivery", &|a| {
        a.mov(esp, STACK - 5)?;
        a.int(0x30)
    });
    guest.case("gate to an address that is not canonical", &|a| {
        set_qword(a, IDT + VECTOR * 16, gate(CODE0, 0, 0xee, 0))?;
        set_qword(a, IDT + VECTOR * 16 + 8, 0x8000)?;
        a.int(VECTOR as i32)
    });
    guest.case("the gate is good again", &|a| {
        set_qword(a, IDT + VECTOR * 16, gate(CODE0, handler, 0xee, 0))?;
        set_qword(a, IDT + VECTOR * 16 + 8, 0)
    });
}

/// `CALL FAR [SCRATCH]` at whatever CPL: the pointer lies at the top of the stack.
fn far_call(a: &mut CodeAssembler, selector: u16) -> Result<(), IcedError> {
    a.push(i32::from(selector))?;
    a.push(0)?;
    a.mov(dword_ptr(rsp + 4), i32::from(selector))?;
    a.call(fword_ptr(rsp))
}

fn fast_calls(guest: &mut SystemGuest) {
    let star_high = u32::from(CODE0) | u32::from(CODE32_3) << 16;
    let set: Code<'_> = &|a| {
        set_msr(a, STAR, 0x1234, star_high)?;
        set_msr(a, LSTAR, TARGET, 0)?;
        set_msr(a, CSTAR, TARGET, 0)?;
        set_msr(a, FMASK, 0x4_7700, 0)?;
        set_msr(a, SYSENTER_CS, u32::from(CODE0), 0)?;
        set_msr(a, SYSENTER_CS + 1, STACK2, 0)?;
        set_msr(a, SYSENTER_CS + 2, TARGET, 0)?;
        a.xor(ecx, ecx)
    };
    guest.case("MSRs of the fast system calls", set);
    let none: Code<'_> = &|_| Ok(());
    both(guest, "SYSCALL", none, &|a| a.syscall());
    both(guest, "SYSENTER", none, &|a| a.sysenter());
    for (name, code) in [
        ("SYSRET of 64 bits", &[0x48, 0x0f, 0x07][..]),
        ("SYSRET of 32 bits", &[0x0f, 0x07]),
        ("SYSEXIT of 64 bits", &[0x48, 0x0f, 0x35]),
        ("SYSEXIT of 32 bits", &[0x0f, 0x35]),
    ] {
        both(guest, name, none, &|a| {
            a.mov(ecx, OTHER_CODE + 0x2_ff00)?;
            a.mov(edx, ecx)?;
            a.mov(r11d, 0x3_7ed7)?;
            a.db(code)
        });
    }
    guest.case("SYSCALL without SCE", &|a| {
        a.mov(ecx, 0xc000_0080u32)?;
        a.rdmsr()?;
        a.and(eax, !1)?;
        a.wrmsr()?;
        a.syscall()
    });
    guest.case("SCE again", &|a| {
        a.mov(ecx, 0xc000_0080u32)?;
        a.rdmsr()?;
        a.or(eax, 1)?;
        a.wrmsr()
    });
    guest.case("SYSRET to an address that is not canonical", &|a| {
        a.mov(rcx, 0x8000_0000_0000u64)?;
        a.sysretq()
    });
    guest.case("WRMSR of an address that is not canonical", &|a| set_msr(a, LSTAR, 0, 0x8000));
    guest.case("SWAPGS", &|a| {
        set_msr(a, 0xc000_0102, 0x1234_5678, 0xffff_8000)?;
        a.swapgs()
    });
    guest.user_case("SWAPGS at CPL 3", 0, none, &|a| a.swapgs());
    guest.case("WRFSBASE without FSGSBASE", &|a| a.wrfsbase(rax));
    guest.case("SYSENTER without a CS", &|a| {
        set_msr(a, SYSENTER_CS, 0, 0)?;
        a.sysenter()
    });
}

/// Compatibility mode, at CPL 0 through a far return and at CPL 3 through IRET.
fn compatibility(guest: &mut SystemGuest) {
    let cases: [(&str, Code<'_>); 9] = [
        ("INC and INT", &|a| a.inc(ecx)),
        ("a REX byte is DEC", &|a| a.db(&[0x48])),
        ("PUSHAD and PUSH CS", &|a| {
            a.pushad()?;
            a.push(cs)
        }),
        ("SYSCALL", &|a| a.syscall()),
        ("SYSENTER", &|a| a.sysenter()),
        ("addresses wrap at 4 GiB", &|a| {
            a.mov(eax, -0x1000)?;
            a.mov(ebx, dword_ptr(eax + 0x4_1000))
        }),
        ("UD2", &|a| a.ud2()),
        ("MOV CR0", &|a| a.mov(eax, cr0)),
        ("IRETD", &|a| {
            a.pushfd()?;
            a.push(cs)?;
            a.push(TARGET)?;
            a.iretd()
        }),
    ];
    for (name, body) in cases {
        let at = guest.other_code();
        let bytes = assemble(32, at, &|a| {
            body(a)?;
            a.int(0x30)
        });
        guest.put(at, &bytes);
        for (cpl, code, data) in [(0, CODE32, DATA0), (3, CODE32_3 | 3, DATA3 | 3)] {
            guest.case(format!("compatibility mode, {name}, CPL {cpl}"), &|a| {
                a.mov(eax, i32::from(data))?;
                a.mov(ds, eax)?;
                a.push(i32::from(data))?;
                a.push(STACK3 as i32)?;
                a.push(0x202)?;
                a.push(i32::from(code))?;
                a.push(at as i32)?;
                a.iretq()
            });
        }
    }
}

/// Segment loads in 64-bit mode.
fn loads(guest: &mut SystemGuest) {
    for (name, segment) in [("DS", ds), ("FS", fs), ("SS", ss)] {
        for (what, selector) in [
            ("null", 0),
            ("null with RPL 3", 3),
            ("code", CODE0),
            ("data of DPL 3", DATA3),
            ("TSS", TASK),
            ("beyond", 0x100),
            ("data with RPL 3", DATA0 | 3),
        ] {
            guest.case(format!("MOV {name}, {what}"), &|a| {
                a.mov(eax, i32::from(selector))?;
                a.mov(segment, eax)
            });
        }
    }
    for (what, selector) in [("null", 0), ("LDT", LOCAL), ("data", DATA0)] {
        guest.case(format!("LLDT of {what}"), &|a| {
            a.mov(eax, i32::from(selector))?;
            a.lldt(ax)
        });
    }
    for (what, selector) in [("data", DATA0), ("busy", TASK)] {
        guest.case(format!("LTR of {what}"), &|a| {
            a.mov(eax, i32::from(selector))?;
            a.ltr(ax)
        });
    }
    for (what, access, flags) in [
        ("long and default", CODE_ACCESS, 0xe),
        ("absent", CODE_ACCESS & 0x7f, 0xa),
        ("data", DATA_ACCESS, 0xa),
        ("conforming", CODE_ACCESS | 4, 0xa),
    ] {
        let image = descriptor(0, 0xf_ffff, access, flags);
        both(
            guest,
            &format!("far call to code that is {what}"),
            &|a| set_qword(a, GDT + u32::from(SPARE), image),
            &|a| {
                a.push(0)?;
                a.mov(dword_ptr(rsp), TARGET as i32)?;
                a.mov(dword_ptr(rsp + 4), i32::from(SPARE))?;
                a.call(fword_ptr(rsp))
            },
        );
    }
}

/// IRETQ and RETFQ with every kind of selector.
fn returns(guest: &mut SystemGuest) {
    guest.put(OTHER_CODE + 0x2_ff00, &[0xcd, 0x30]);
    let codes = [
        ("CODE0", CODE0),
        ("CODE3", CODE3 | 3),
        ("CODE1", CODE1 | 1),
        ("32-bit", CODE32_3 | 3),
        ("data", DATA0),
        ("null", 0),
    ];
    for (what, selector) in codes {
        for (stack_name, stack) in [
            ("DATA0", DATA0),
            ("DATA3", DATA3 | 3),
            ("null", 0),
            ("null with RPL 3", 3),
            ("DATA1", DATA1 | 1),
        ] {
            for iret in [false, true] {
                guest.case(format!("iret {iret} to {what}, stack {stack_name}"), &|a| {
                    a.push(i32::from(stack))?;
                    a.push(STACK3 as i32)?;
                    if iret {
                        a.push(0x0025_0cd7 & !0x100)?;
                    }
                    a.push(i32::from(selector))?;
                    // A user's page.
                    a.push(OTHER_CODE as i32 + 0x2_ff00)?;
                    if iret { a.iretq() } else { a.db(&[0x48, 0xcb]) }
                });
            }
        }
    }
    guest.case("IRETQ with NT", &|a| {
        a.push(0x4002)?;
        a.popfq()?;
        a.iretq()
    });
    guest.case("IRETQ to an address that is not canonical", &|a| {
        a.push(i32::from(DATA0))?;
        a.push(STACK as i32)?;
        a.push(2)?;
        a.push(i32::from(CODE0))?;
        a.mov(rax, 0x8000_0000_0000u64)?;
        a.push(rax)?;
        a.iretq()
    });
}

/// What must not be changed while IA-32e mode is active, and the way out to protected mode and back.
fn mode_changes(guest: &mut SystemGuest) {
    guest.case("CR0 beyond 32 bits", &|a| {
        a.mov(rax, 0x1_8000_0011u64)?;
        a.mov(cr0, rax)
    });
    // To protected mode without paging and back, through compatibility mode.
    let (at, back) = (guest.other_code(), guest.other_code() + 0x80);
    let bytes = assemble(32, at, &|a| {
        a.mov(eax, cr0)?;
        a.and(eax, 0x7fff_ffff)?;
        a.mov(cr0, eax)?;
        a.mov(ecx, 0xc000_0080u32)?;
        a.rdmsr()?;
        a.mov(esi, eax)?;
        a.mov(ebx, cr0)?;
        a.mov(edi, ebx)?;
        a.or(ebx, 0x8000_0000u32)?;
        a.mov(cr0, ebx)?;
        a.rdmsr()?;
        a.db(&[0xea])?;
        a.dd(&[back])?;
        a.dw(&[CODE0])
    });
    guest.put(at, &bytes);
    guest.put(back, &[0xcd, 0x30]);
    guest.case("to protected mode without paging and back", &|a| {
        a.push(i32::from(CODE32))?;
        a.push(at as i32)?;
        a.db(&[0x48, 0xcb])
    });
    // QEMU takes it, so it comes last.
    guest.case("EFER.LME cannot be cleared with paging", &|a| {
        a.mov(ecx, 0xc000_0080u32)?;
        a.rdmsr()?;
        a.and(eax, !0x100)?;
        a.wrmsr()
    });
}
