//! Virtual-8086 mode: what depends on IOPL and on VME, I/O permission, interrupts out of it and within it, and faults (SDM vol. 3,
//! 20.2 and 20.3).

use super::frame32::{self, Extras, Paging};
use super::guest::{Code, SystemGuest, assemble, set_qword};
use super::layout::*;
use super::opcodes::PROTECTED_ONLY;
use super::virtual_8086_flags;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The vector whose gate the cases change.
const VECTOR: u32 = 0x31;
/// The TSS's interrupt redirection map: 32 bytes; the I/O permission map follows, for 256 ports.
const REDIRECTION: u32 = TSS + 0x68;
const IO_MAP: u32 = TSS + 0x88;
const TSS_LIMIT: u32 = 0xa8;
/// A vector that is not redirected to the monitor, and the linear address its entry of the interrupt vector table leads to.
const OWN_VECTOR: u32 = 0x40;
const OWN_HANDLER: u32 = OTHER_CODE + 0x2_fe00;
/// CR4.VME.
const VME: i32 = 1;

/// EFLAGS images with which the cases begin: IOPL 0 and 3, with and without VIF, VIP and IF.
pub const FLAGS: [(&str, u32); 6] = [
    ("IOPL 0", 0x2_0202),
    ("IOPL 3", 0x2_3202),
    ("IOPL 0, VIF", 0xa_0202),
    ("IOPL 0, VIP", 0x12_0202),
    ("IOPL 0, VIF and VIP", 0x1a_0202),
    ("IOPL 3, IF clear, VIP", 0x12_3002),
];

/// What POPF and IRET are given.
pub const IMAGES: [u32; 7] = [0, 0x202, 0xed7, 0x3000, 0x7202, 0x302, 0x4002];

/// The guests: without VME and with it.
pub fn guests() -> Vec<SystemGuest> {
    [("virtual-8086 mode, without VME", 0), ("virtual-8086 mode, VME", VME)]
        .into_iter()
        .map(|(name, cr4_value)| {
            let logged =
                [("TSS link", TSS), ("stack", STACK3 - 4), ("stack - 4", STACK3 - 8), ("CR4.VME", SCRATCH)];
            let restore: Code<'_> = &|a| {
                a.mov(eax, cr4_value)?;
                a.mov(cr4, eax)?;
                a.mov(dword_ptr(SCRATCH), eax)
            };
            let mut guest = frame32::guest_with(name, Paging::Off, &Extras { logged: &logged, restore });
            fill(&mut guest);
            // The first record turns CR4.VME on.
            guest.case("nothing", &|_| Ok(()));
            sensitive(&mut guest);
            pops(&mut guest);
            ports(&mut guest);
            privileged(&mut guest);
            faults(&mut guest);
            limits(&mut guest);
            gates(&mut guest);
            entries(&mut guest);
            if cr4_value == VME {
                virtual_8086_flags::expect(&mut guest);
            }
            guest
        })
        .collect()
}

/// A TSS with maps of redirected interrupts and of ports, and code that 8086 programs reach.
pub(super) fn fill(guest: &mut SystemGuest) {
    guest.put_descriptor(TASK, descriptor(TSS, TSS_LIMIT, 0x89, 0));
    guest.put(TSS + 0x66, &((IO_MAP - TSS) as u16).to_le_bytes());
    // INT 0x40 to 0x47 stay in the 8086 program; odd ports are open.
    let mut redirection = [0xff; 32];
    redirection[OWN_VECTOR as usize / 8] = 0;
    guest.put(REDIRECTION, &redirection);
    guest.put(IO_MAP, &[0x55; 32]);
    guest.put(IO_MAP + 0x20, &[0xff]);
    guest.put(OWN_VECTOR * 4, &((OWN_HANDLER & 0xf) | (OWN_HANDLER >> 4) << 16).to_le_bytes());
    guest.put(USER_TARGET, &[0xcd, 0x30]);
    // The end of that segment, and INT 0x30 behind it, where QEMU goes on.
    guest.put(USER_TARGET + 0xffff, &[0x90, 0xcd, 0x30]);
    // What was pushed is left in AX, BX and CX; PUSHF needs IOPL 3 or VME.
    guest.put_code(16, OWN_HANDLER, &|a| {
        a.pop(ax)?;
        a.pop(bx)?;
        a.pop(cx)?;
        a.int(0x30)
    });
    guest.put(IDT + VECTOR * 8, &gate(CODE0, HANDLERS + VECTOR * STUB_BYTES, 0xee, 0).to_le_bytes());
}

/// Enters virtual-8086 mode at the segment `code` with `flags`.
pub(super) fn enter(a: &mut CodeAssembler, code: u32, eip: u32, flags: u32) -> Result<(), IcedError> {
    for selector in [0x1111u32, 0x2222, 0x3333, SCRATCH >> 4, (STACK3 - 0x400) >> 4] {
        a.push(selector as i32)?;
    }
    a.push(0x400)?;
    a.push(flags as i32)?;
    a.push(code as i32)?;
    a.push(eip as i32)?;
    a.iretd()
}

/// Puts the 8086 code that `body` emits where the next case's is. Returns its segment.
pub(super) fn real_code(guest: &mut SystemGuest, body: Code<'_>) -> u32 {
    let at = guest.other_code();
    let bytes = assemble(16, 0, body);
    assert!(bytes.len() <= CASE_BYTES as usize);
    guest.put(at, &bytes);
    at >> 4
}

/// A case in virtual-8086 mode; ends with `INT 0x30`, or, where that is #GP, with it.
fn case(guest: &mut SystemGuest, name: &str, flags: u32, before: Code<'_>, body: Code<'_>) {
    let segment = real_code(guest, &|a| {
        body(a)?;
        a.int(0x30)
    });
    guest.case(name, &|a| {
        before(a)?;
        enter(a, segment, 0, flags)
    });
}

fn each(guest: &mut SystemGuest, name: &str, body: Code<'_>) {
    for (what, flags) in FLAGS {
        case(guest, &format!("{name}, {what}"), flags, &|_| Ok(()), body);
    }
}

/// The instructions that IOPL or VME decides about.
fn sensitive(guest: &mut SystemGuest) {
    let cases: [(&str, Code<'_>); 16] = [
        ("CLI", &|a| a.cli()),
        ("STI", &|a| a.sti()),
        ("PUSHF", &|a| {
            a.pushf()?;
            a.pop(ax)
        }),
        ("PUSHFD", &|a| {
            a.pushfd()?;
            a.pop(eax)
        }),
        ("INT 3", &|a| a.int3()),
        ("INT 0x03", &|a| a.db(&[0xcd, 3])),
        ("INTO", &|a| {
            a.mov(al, 0x7f)?;
            a.inc(al)?;
            a.into()
        }),
        ("INTO without OF", &|a| a.into()),
        ("INT of the monitor", &|a| a.int(VECTOR as i32)),
        ("INT of the program", &|a| a.int(OWN_VECTOR as i32)),
        ("INT of DPL 0", &|a| a.int(0x20)),
        ("INT1", &|a| a.int1()),
        ("HLT", &|a| a.hlt()),
        ("BOUND", &|a| {
            a.mov(ax, 5)?;
            a.bound(ax, dword_ptr(0x10))
        }),
        ("CLI and PUSHF", &|a| {
            a.cli()?;
            a.pushf()?;
            a.pop(ax)
        }),
        ("STI and PUSHF", &|a| {
            a.sti()?;
            a.pushf()?;
            a.pop(ax)
        }),
    ];
    for (name, body) in cases {
        each(guest, name, body);
    }
}

/// POPF and IRET of many images.
fn pops(guest: &mut SystemGuest) {
    let none: Code<'_> = &|_| Ok(());
    for image in IMAGES {
        for (what, flags) in FLAGS {
            case(guest, &format!("POPF of {image:#x}, {what}"), flags, none, &|a| {
                a.push(image)?;
                a.popf()?;
                a.nop()
            });
            case(guest, &format!("IRET of {image:#x}, {what}"), flags, none, &|a| {
                a.push(image)?;
                a.push(USER_TARGET >> 4)?;
                a.push(0)?;
                a.iret()
            });
        }
    }
    for image in [0x202u32, 0x1a_3202, 0x2_0202, 0x25_0202] {
        for (what, flags) in &FLAGS[..3] {
            case(guest, &format!("POPFD of {image:#x}, {what}"), *flags, none, &|a| {
                a.db(&[0x66, 0x68])?;
                a.dd(&[image])?;
                a.popfd()
            });
            case(guest, &format!("IRETD of {image:#x}, {what}"), *flags, none, &|a| {
                a.db(&[0x66, 0x68])?;
                a.dd(&[image])?;
                a.db(&[0x66, 0x68])?;
                a.dd(&[USER_TARGET >> 4])?;
                a.db(&[0x66, 0x6a, 0, 0x66, 0xcf])
            });
        }
    }
}

/// IN, OUT, INS and OUTS: the permission map decides, whatever IOPL is. What an absent port reads as is not compared.
fn ports(guest: &mut SystemGuest) {
    let none: Code<'_> = &|_| Ok(());
    let cases: [(&str, &[u8]); 10] = [
        ("IN AL, an open port", &[0xe4, 0x81]),
        ("IN AL, a closed port", &[0xe4, 0x80]),
        ("IN AX, half open", &[0xe5, 0x81]),
        ("IN EAX", &[0x66, 0xe5, 0x81]),
        ("OUT AL, an open port", &[0xe6, 0x81]),
        ("OUT AL, a closed port", &[0xe6, 0x80]),
        ("IN of a port beyond the map", &[0xba, 0x00, 0x02, 0xec]),
        ("IN of the map's last port", &[0xba, 0xff, 0x00, 0xec]),
        ("OUTSB to a closed port", &[0xba, 0x80, 0x00, 0x6e]),
        ("OUTSB to an open port", &[0xba, 0x81, 0x00, 0x6e]),
    ];
    for (name, code) in cases {
        for (what, flags) in &FLAGS[..2] {
            case(guest, &format!("{name}, {what}"), *flags, none, &|a| {
                a.db(code)?;
                a.db(&[0x66, 0x31, 0xc0])
            });
        }
    }
}

/// What virtual-8086 mode does not have, or only at CPL 0.
fn privileged(guest: &mut SystemGuest) {
    let none: Code<'_> = &|_| Ok(());
    let codes: [(&str, &[u8]); 21] = [
        ("LGDT", &[0x0f, 0x01, 0x16, 0, 0]),
        ("LIDT", &[0x0f, 0x01, 0x1e, 0, 0]),
        ("SGDT", &[0x0f, 0x01, 0x06, 0, 1]),
        ("SIDT", &[0x0f, 0x01, 0x0e, 0, 1]),
        ("SMSW", &[0x0f, 0x01, 0xe0]),
        ("LMSW", &[0x0f, 0x01, 0xf0]),
        ("INVLPG", &[0x0f, 0x01, 0x3e, 0, 0]),
        ("CLTS", &[0x0f, 0x06]),
        ("INVD", &[0x0f, 0x08]),
        ("WBINVD", &[0x0f, 0x09]),
        ("MOV EAX, CR0", &[0x0f, 0x20, 0xc0]),
        ("MOV CR0, EAX", &[0x0f, 0x22, 0xc0]),
        ("MOV EAX, CR1", &[0x0f, 0x20, 0xc8]),
        ("MOV EAX, DR7", &[0x0f, 0x21, 0xf8]),
        ("MOV DR7, EAX", &[0x0f, 0x23, 0xf8]),
        ("RDMSR", &[0x0f, 0x32]),
        ("WRMSR", &[0x0f, 0x30]),
        ("UD2", &[0x0f, 0x0b]),
        ("LOCK NOP", &[0xf0, 0x90]),
        ("XSETBV", &[0x0f, 0x01, 0xd1]),
        ("SWAPGS", &[0x0f, 0x01, 0xf8]),
    ];
    for (name, code) in codes.into_iter().chain(PROTECTED_ONLY) {
        for (what, flags) in &FLAGS[..2] {
            case(guest, &format!("{name}, {what}"), *flags, none, &|a| a.db(code));
        }
    }
}

/// Exceptions, single steps, far transfers and segment loads.
fn faults(guest: &mut SystemGuest) {
    let none: Code<'_> = &|_| Ok(());
    let cases: [(&str, u32, Code<'_>); 14] = [
        ("#DE", 0x2_3202, &|a| {
            a.xor(cx, cx)?;
            a.div(cx)
        }),
        ("single step", 0x2_3302, &|a| {
            a.inc(bx)?;
            a.inc(bx)
        }),
        ("single step over MOV SS", 0x2_3302, &|a| {
            a.mov(ss, ax)?;
            a.inc(bx)?;
            a.inc(bx)
        }),
        ("single step into INT", 0x2_3302, &|a| a.int(VECTOR as i32)),
        ("single step, IOPL 0, CLI", 0x2_0302, &|a| a.cli()),
        ("all flags", 0x3_7fd7 & !0x100, &|a| a.int(VECTOR as i32)),
        ("far jump", 0x2_3202, &|a| {
            a.db(&[0xea, 0, 0])?;
            a.dw(&[(USER_TARGET >> 4) as u16])
        }),
        ("far call", 0x2_3202, &|a| {
            a.db(&[0x9a, 0, 0])?;
            a.dw(&[(USER_TARGET >> 4) as u16])
        }),
        ("far call with a 32-bit operand", 0x2_3202, &|a| {
            a.db(&[0x66, 0x9a, 0, 0, 0, 0])?;
            a.dw(&[(USER_TARGET >> 4) as u16])
        }),
        ("far jump beyond 64 KiB", 0x2_3202, &|a| {
            a.db(&[0x66, 0xea, 0, 0, 1, 0])?;
            a.dw(&[(USER_TARGET >> 4) as u16])
        }),
        ("RETF", 0x2_3202, &|a| {
            a.push((USER_TARGET >> 4) as i32)?;
            a.push(0)?;
            a.retf()
        }),
        ("segment loads", 0x2_3202, &|a| {
            for (segment, selector) in [(ds, 0x1234), (es, 0), (fs, 0xffff), (gs, 3)] {
                a.mov(ax, selector)?;
                a.mov(segment, ax)?;
            }
            Ok(())
        }),
        ("LDS and a read", 0x2_3202, &|a| {
            a.mov(word_ptr(0x20), 0x10)?;
            a.mov(word_ptr(0x22), (SCRATCH >> 4) as i32)?;
            a.lds(si, dword_ptr(0x20))?;
            a.mov(ax, word_ptr(si))
        }),
        ("FNINIT and FNSTSW", 0x2_3202, &|a| {
            a.fninit()?;
            a.fnstsw(ax)
        }),
    ];
    for (name, flags, body) in cases {
        case(guest, name, flags, none, body);
    }
}

/// Accesses beyond 64 KiB, and #AC: what QEMU does not look at.
fn limits(guest: &mut SystemGuest) {
    let none: Code<'_> = &|_| Ok(());
    for (name, code, vector) in [
        ("a read beyond 64 KiB", &[0x67, 0xa1, 0, 0, 1, 0][..], 13),
        ("a word at 0xFFFF", &[0xa1, 0xff, 0xff], 13),
        ("a dword at 0xFFFD", &[0x66, 0xa1, 0xfd, 0xff], 13),
        ("a word of the stack at 0xFFFF", &[0x36, 0xa1, 0xff, 0xff], 12),
    ] {
        case(guest, &format!("limit: {name}"), 0x2_3202, none, &|a| a.db(code));
        guest.expect("vector", vector);
        guest.expect("pushed[0]", 0);
    }
    case(
        guest,
        "#AC",
        0x6_3202,
        &|a| {
            a.mov(eax, cr0)?;
            a.or(eax, 1 << 18)?;
            a.mov(cr0, eax)
        },
        &|a| a.mov(ax, word_ptr(0x11)),
    );
    guest.expect("vector", 17);
    guest.case("CR0.AM is off again", &|a| {
        a.mov(eax, cr0)?;
        a.and(eax, !(1 << 18))?;
        a.mov(cr0, eax)
    });
}

/// Gates that lead out of virtual-8086 mode, or not.
fn gates(guest: &mut SystemGuest) {
    let handler = HANDLERS + VECTOR * STUB_BYTES;
    let conforming = descriptor(0, 0xf_ffff, CODE_ACCESS | 4, FLAGS32);
    for (name, image) in [
        ("interrupt gate", gate(CODE0, handler, 0xee, 0)),
        ("trap gate", gate(CODE0, handler, 0xef, 0)),
        ("16-bit interrupt gate", gate(CODE0, TARGET, 0xe6, 0)),
        ("gate of DPL 0", gate(CODE0, handler, 0x8e, 0)),
        ("absent gate", gate(CODE0, handler, 0x6e, 0)),
        ("gate to CPL 1", gate(CODE1, handler, 0xee, 0)),
        ("gate to CPL 3", gate(CODE3, handler, 0xee, 0)),
        ("gate to conforming code", gate(SPARE, handler, 0xee, 0)),
        ("gate to data", gate(DATA0, handler, 0xee, 0)),
        ("null gate", gate(0, handler, 0xee, 0)),
        ("call gate", gate(CODE0, handler, 0xec, 0)),
        ("gate of no type", 0),
    ] {
        for (what, flags) in &FLAGS[..2] {
            let before: Code<'_> = &|a| {
                super::guest::set_descriptor(a, SPARE, conforming)?;
                set_qword(a, IDT + VECTOR * 8, image)
            };
            case(guest, &format!("{name}, {what}"), *flags, before, &|a| a.int(VECTOR as i32));
        }
    }
    for (name, offset) in [("SS", 8u32), ("ESP", 4)] {
        case(
            guest,
            &format!("INT with a null {name} in the TSS"),
            0x2_3202,
            &|a| {
                set_qword(a, IDT + VECTOR * 8, gate(CODE0, handler, 0xee, 0))?;
                // The stack of a double fault's delivery would be the same, so #TS is taken by a task.
                a.mov(eax, dword_ptr(TSS + offset))?;
                a.mov(
                    dword_ptr(TSS + offset),
                    if offset == 8 { i32::from(DATA0) } else { (STACK0 - 0x100) as i32 },
                )
            },
            &|a| a.int(VECTOR as i32),
        );
        guest.case(format!("{name} is good again"), &|a| {
            a.mov(dword_ptr(TSS + offset), if offset == 8 { i32::from(DATA0) } else { STACK0 as i32 })
        });
    }
}

/// IRETD into virtual-8086 mode.
fn entries(guest: &mut SystemGuest) {
    let code = USER_TARGET >> 4;
    for (name, eip, flags) in [
        ("all flags", 0u32, 0x3f_7ed7 & !0x100u32),
        ("TF", 0, 0x2_3302),
        ("RF", 0, 0x3_3202),
        ("EIP of more than 16 bits", 0x1_0000, 0x2_3202),
        ("EIP at 0xFFFF, which runs beyond 64 KiB", 0xffff, 0x2_3202),
    ] {
        guest.case(format!("IRETD with {name}"), &|a| enter(a, code, eip, flags));
    }
    guest.case("IRET of 16 bits does not enter", &|a| {
        a.db(&[0x66, 0x6a, 2, 0x66, 0x6a, CODE0 as u8, 0x66, 0x68])?;
        a.dw(&[TARGET as u16])?;
        a.iret()
    });
    guest.user_case("IRETD at CPL 3 does not enter", 0x3002, &|_| Ok(()), &|a| {
        a.push(0x2_3002)?;
        a.push(i32::from(CODE3 | 3))?;
        a.push(USER_TARGET as i32)?;
        a.iretd()
    });
    guest.expect("vector", 0x30);
    guest.expect("pushed[0]", u128::from(USER_TARGET) + 2);
}
