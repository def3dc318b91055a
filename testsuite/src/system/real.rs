//! Real-address mode: exceptions and interrupts through the vector table, far transfers, the flags, limits, and "unreal" modes,
//! in which limits and sizes of protected mode stay (SDM vol. 3, 20.1 and 9.9).

use super::frame16;
use super::guest::{Code, SystemGuest};
use super::layout::*;
use super::opcodes::{COPROCESSOR, PROTECTED_ONLY};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The guest.
pub fn guest() -> SystemGuest {
    let mut guest = frame16::guest("real-address mode");
    exceptions(&mut guest);
    interrupts(&mut guest);
    coprocessor(&mut guest);
    absent_instructions(&mut guest);
    flags(&mut guest);
    transfers(&mut guest);
    segments(&mut guest);
    unreal(&mut guest);
    control(&mut guest);
    limits(&mut guest);
    guest
}

fn exceptions(guest: &mut SystemGuest) {
    let cases: [(&str, Code<'_>); 10] = [
        ("#DE", &|a| a.div(cx)),
        ("INT3", &|a| a.int3()),
        ("INT 0x03", &|a| a.db(&[0xcd, 3])),
        ("INTO with OF", &|a| {
            a.mov(al, 0x7f)?;
            a.inc(al)?;
            a.into()
        }),
        ("INTO without OF", &|a| a.into()),
        ("BOUND beyond", &|a| {
            a.mov(ax, 5)?;
            a.bound(ax, dword_ptr(SCRATCH))
        }),
        ("BOUND within", &|a| a.bound(ax, dword_ptr(SCRATCH))),
        ("UD2", &|a| a.ud2()),
        ("LOCK NOP", &|a| a.db(&[0xf0, 0x90])),
        ("15 prefixes", &|a| {
            a.db(&[0x66; 15])?;
            a.nop()
        }),
    ];
    for (name, body) in cases {
        guest.case(name, body);
    }
}

/// Software interrupts, single steps, and tables elsewhere.
fn interrupts(guest: &mut SystemGuest) {
    let cases: [(&str, Code<'_>); 10] = [
        ("INT 0x20", &|a| a.int(0x20)),
        ("INT with all flags", &|a| {
            a.push(0x7ed7 & !0x100)?;
            a.popf()?;
            a.int(0x21)
        }),
        ("INT at the stack's end", &|a| {
            a.mov(ax, 0x8000u32 as i32)?;
            a.mov(ss, ax)?;
            a.mov(sp, 2)?;
            a.int(frame16::LEAVES_STACK)
        }),
        ("INT with bits of ESP beyond 16", &|a| {
            a.or(esp, 0x1234_0000)?;
            a.int(0x21)
        }),
        ("single step", &|a| {
            a.push(0x102)?;
            a.popf()?;
            a.inc(bx)?;
            a.inc(bx)
        }),
        ("single step into INT", &|a| {
            a.push(0x102)?;
            a.popf()?;
            a.int(0x21)
        }),
        ("single step over MOV SS", &|a| {
            a.push(0x102)?;
            a.popf()?;
            a.mov(ss, cx)?;
            a.inc(bx)?;
            a.inc(bx)
        }),
        ("a table elsewhere", &|a| {
            a.mov(dword_ptr(SCRATCH + 8), 0x0100_03ff)?;
            a.mov(dword_ptr(SCRATCH + 12), 0x2000)?;
            a.mov(word_ptr(SCRATCH + 10), (TSS + 0x200) as i32)?;
            a.mov(word_ptr(SCRATCH + 12), 0)?;
            a.mov(dword_ptr(TSS + 0x200 + 0x22 * 4), (HANDLERS + 0x23 * STUB_BYTES) as i32)?;
            a.lidt(fword_ptr(SCRATCH + 8))?;
            a.int(0x22)
        }),
        ("INT beyond the table's limit", &|a| {
            a.mov(word_ptr(SCRATCH + 8), 0x7f)?;
            a.mov(dword_ptr(SCRATCH + 10), 0)?;
            a.lidt(fword_ptr(SCRATCH + 8))?;
            a.int(0x20)
        }),
        ("INT at the table's limit", &|a| {
            a.mov(word_ptr(SCRATCH + 8), 0x83)?;
            a.mov(dword_ptr(SCRATCH + 10), 0)?;
            a.lidt(fword_ptr(SCRATCH + 8))?;
            a.int(0x20)
        }),
    ];
    for (name, body) in cases {
        guest.case(name, body);
    }
}

/// #NM by CR0.EM, TS and MP.
fn coprocessor(guest: &mut SystemGuest) {
    for (name, set) in [("EM", 4), ("TS", 8), ("TS and MP", 0xa), ("MP", 2)] {
        for (instruction, code) in COPROCESSOR {
            guest.case(format!("{instruction} with {name}"), &|a| {
                a.mov(eax, cr0)?;
                a.or(al, set)?;
                a.mov(cr0, eax)?;
                a.db(code)
            });
        }
    }
}

/// What real-address mode does not have.
fn absent_instructions(guest: &mut SystemGuest) {
    let sysenter: [(&str, &[u8]); 1] = [("SYSENTER", &[0x0f, 0x34])];
    for (name, code) in PROTECTED_ONLY.into_iter().chain(sysenter) {
        guest.case(name, &|a| a.db(code));
    }
}

fn flags(guest: &mut SystemGuest) {
    for image in [0u32, 0xed7, 0x7000, 0x3000, 0x8002, 0xfe28, 0x4202] {
        guest.case(format!("POPF of {image:#x}"), &|a| {
            a.push(image)?;
            a.popf()?;
            a.pushf()?;
            a.pop(bx)
        });
        guest.case(format!("IRET of {image:#x}"), &|a| {
            a.push(image)?;
            a.push(0)?;
            a.push(TARGET)?;
            a.iret()
        });
    }
    for image in [0x24_7ed7u32 & !0x100, 0xffff_fed7, 0x1a_0002, 0x1_0002, 0x2_0002] {
        guest.case(format!("POPFD of {image:#x}"), &|a| {
            push32(a, image)?;
            a.popfd()?;
            a.pushfd()?;
            a.pop(ebx)
        });
        guest.case(format!("IRETD of {image:#x}"), &|a| {
            push32(a, image)?;
            push32(a, 0)?;
            push32(a, TARGET)?;
            a.iretd()
        });
    }
    guest.case("IRETD beyond 64 KiB", &|a| {
        push32(a, 2)?;
        push32(a, 0)?;
        push32(a, 0x1_0000 + TARGET)?;
        a.iretd()
    });
    guest.expect("flags cs", u128::from(guest_segment(guest)) | 0x2 << 16);
    guest.case("CLI and STI", &|a| {
        a.sti()?;
        a.pushf()?;
        a.cli()?;
        a.pushf()?;
        a.pop(bx)?;
        a.pop(cx)
    });
}

/// The code segment of the last case.
fn guest_segment(guest: &SystemGuest) -> u32 {
    (CASES >> 4) + (guest.cases.len() as u32 - 1) * (CASE_BYTES >> 4)
}

fn push32(a: &mut CodeAssembler, value: u32) -> Result<(), IcedError> {
    a.db(&[0x66, 0x68])?;
    a.dd(&[value])
}

fn transfers(guest: &mut SystemGuest) {
    let (segment, offset) = (0x7d0u16, (TARGET - 0x7d00) as u16);
    for (name, opcode) in [("JMP", 0xeau8), ("CALL", 0x9a)] {
        guest.case(format!("{name} FAR"), &|a| {
            a.db(&[opcode])?;
            a.dw(&[offset, segment])
        });
        guest.case(format!("{name} FAR with a 32-bit operand"), &|a| {
            a.db(&[0x66, opcode])?;
            a.dd(&[offset.into()])?;
            a.dw(&[segment])
        });
        guest.case(format!("{name} FAR beyond 64 KiB"), &|a| {
            a.db(&[0x66, opcode])?;
            a.dd(&[0x1_0000 + u32::from(offset)])?;
            a.dw(&[segment])
        });
        let modrm = if opcode == 0xea { 0x2e } else { 0x1e };
        for (what, prefix) in [("", &[][..]), (" with a 32-bit operand", &[0x66])] {
            guest.case(format!("{name} FAR through memory{what}"), &|a| {
                a.mov(word_ptr(SCRATCH + 8), i32::from(offset))?;
                a.mov(word_ptr(SCRATCH + 10), if prefix.is_empty() { i32::from(segment) } else { 0 })?;
                a.mov(word_ptr(SCRATCH + 12), i32::from(segment))?;
                a.db(prefix)?;
                a.db(&[0xff, modrm])?;
                a.dw(&[(SCRATCH + 8) as u16])
            });
        }
    }
    for (name, code) in [
        ("RETF", &[0xcb][..]),
        ("RETF 6", &[0xca, 6, 0]),
        ("RETF of 32 bits", &[0x66, 0xcb]),
        ("IRET", &[0xcf]),
    ] {
        guest.case(name, &|a| {
            if code[0] == 0x66 {
                push32(a, segment.into())?;
                push32(a, offset.into())?;
            } else {
                if code[0] == 0xcf {
                    a.pushf()?;
                }
                a.push(i32::from(segment))?;
                a.push(i32::from(offset))?;
            }
            a.db(code)
        });
    }
    guest.case("CALL and RET near, of 32 bits", &|a| {
        let mut next = a.create_label();
        a.db(&[0x66, 0xe8, 0, 0, 0, 0])?;
        a.set_label(&mut next)?;
        a.nop()
    });
}

fn segments(guest: &mut SystemGuest) {
    for (name, segment) in [("DS", ds), ("ES", es), ("FS", fs), ("GS", gs)] {
        guest.case(format!("MOV {name}, any selector"), &|a| {
            a.mov(ax, 0x1237)?;
            a.mov(segment, ax)?;
            a.mov(ebx, dword_ptr(5).ds())?;
            a.mov(ecx, dword_ptr(5).es())
        });
    }
    guest.case("LDS, LES, LFS, LGS and LSS", &|a| {
        a.mov(dword_ptr(SCRATCH), 0x0061_0010)?;
        a.mov(bx, SCRATCH)?;
        a.les(ax, dword_ptr(bx))?;
        a.lfs(cx, dword_ptr(bx))?;
        a.lgs(dx, dword_ptr(bx))?;
        a.lds(si, dword_ptr(bx))?;
        a.mov(dword_ptr(si), 0x12)
    });
    guest.case("PUSH and POP of segments", &|a| {
        a.push(0x1234)?;
        a.pop(ds)?;
        a.push(ds)?;
        a.pop(fs)?;
        a.db(&[0x66, 0x1e])?;
        a.pop(ebx)
    });
    guest.case("beyond 1 MiB", &|a| {
        a.mov(ax, -1)?;
        a.mov(es, ax)?;
        a.mov(dword_ptr(0x0010).es(), 0x1234_5678)?;
        a.mov(ebx, dword_ptr(0x0010).es())?;
        a.mov(ecx, dword_ptr(0))
    });
    guest.case("offsets wrap at 64 KiB", &|a| {
        a.mov(dword_ptr(SCRATCH), 0x55aa)?;
        a.mov(bx, -0x10)?;
        a.mov(si, (SCRATCH + 0x10) as i32)?;
        a.mov(eax, dword_ptr(bx + si))
    });
    guest.case("strings wrap at 64 KiB", &|a| {
        a.mov(ax, 0x8000u32 as i32)?;
        a.mov(es, ax)?;
        a.mov(di, 0xfffe)?;
        a.mov(cx, 4)?;
        a.mov(al, 0x77)?;
        a.rep().stosb()?;
        a.mov(ebx, dword_ptr(0).es())?;
        a.mov(edx, dword_ptr(0xfffc).es())
    });
    guest.case("PUSHA near the stack's end", &|a| {
        a.mov(ax, 0x8000u32 as i32)?;
        a.mov(ss, ax)?;
        a.mov(sp, 0x10)?;
        a.pusha()?;
        a.int(frame16::LEAVES_STACK)
    });
}

/// Loads `selector` into the segment registers in protected mode and goes back.
fn load_unreal(
    a: &mut CodeAssembler,
    selector: u16,
    registers: &[AsmRegisterSegment],
) -> Result<(), IcedError> {
    a.mov(eax, cr0)?;
    a.or(al, 1)?;
    a.mov(cr0, eax)?;
    a.mov(cx, i32::from(selector))?;
    for &register in registers {
        a.mov(register, cx)?;
    }
    a.and(al, !1)?;
    a.mov(cr0, eax)
}

fn unreal(guest: &mut SystemGuest) {
    guest.case("a limit of 4 GiB", &|a| {
        load_unreal(a, DATA0, &[ds])?;
        a.mov(eax, 0x11_0000)?;
        a.mov(dword_ptr(eax), 0x1234_5678)?;
        a.mov(ebx, dword_ptr(eax))
    });
    guest.case("it survives a load in real-address mode", &|a| {
        load_unreal(a, DATA0, &[ds, es])?;
        a.mov(cx, 0x100)?;
        a.mov(ds, cx)?;
        a.mov(eax, 0x11_0000)?;
        a.mov(dword_ptr(eax), 0x5678)?;
        a.mov(edx, dword_ptr(eax + 0x1000).es())
    });
    guest.case("and an interrupt", &|a| {
        load_unreal(a, DATA0, &[ds])?;
        a.mov(dword_ptr(0x24 * 4), (TARGET + 8) as i32)?;
        a.mov(byte_ptr(TARGET + 8), 0xcf)?;
        a.int(0x24)?;
        a.mov(dword_ptr(0x24 * 4), (HANDLERS + 0x24 * STUB_BYTES) as i32)?;
        a.mov(eax, 0x11_0000)?;
        a.mov(ebx, dword_ptr(eax))
    });
    guest.case("the base of protected mode stays until a load", &|a| {
        load_unreal(a, SPARE, &[fs])?;
        a.mov(dword_ptr(4).fs(), 0x77)?;
        a.mov(bx, fs)?;
        a.mov(fs, bx)?;
        a.mov(edx, dword_ptr(4).fs())
    });
    guest.case("a stack of 32 bits", &|a| {
        load_unreal(a, DATA0, &[ss])?;
        a.xor(ax, ax)?;
        a.mov(ss, ax)?;
        a.mov(esp, 0x11_1000)?;
        a.push(0x1234)?;
        a.pop(bx)?;
        a.push(0x4321)?;
        a.mov(edx, esp)?;
        a.mov(edi, dword_ptr(esp).ss())?;
        a.mov(esp, STACK)
    });
    guest.case("a selector of null keeps a usable segment", &|a| {
        load_unreal(a, 0, &[gs])?;
        a.xor(cx, cx)?;
        a.mov(gs, cx)?;
        a.mov(ebx, dword_ptr(SCRATCH).gs())
    });
    guest.case("interrupt into 64 KiB from code beyond", &|a| {
        load_unreal(a, DATA0, &[ds, es, fs, gs])?;
        a.int(0x21)
    });
}

fn control(guest: &mut SystemGuest) {
    let cases: [(&str, Code<'_>); 7] = [
        ("SMSW, SGDT and SIDT", &|a| {
            a.smsw(ebx)?;
            a.sgdt(fword_ptr(SCRATCH + 0x10))?;
            a.sidt(fword_ptr(SCRATCH + 0x20))?;
            a.mov(ecx, dword_ptr(SCRATCH + 0x10))?;
            a.mov(edx, dword_ptr(SCRATCH + 0x20))
        }),
        ("CLTS", &|a| {
            a.mov(eax, cr0)?;
            a.or(al, 8)?;
            a.mov(cr0, eax)?;
            a.clts()?;
            a.mov(ebx, cr0)
        }),
        ("LMSW into protected mode, and out", &|a| {
            a.mov(ax, 1)?;
            a.lmsw(ax)?;
            a.smsw(bx)?;
            a.mov(cx, i32::from(DATA16))?;
            a.mov(gs, cx)?;
            a.mov(eax, cr0)?;
            a.and(al, !1)?;
            a.mov(cr0, eax)?;
            a.smsw(dx)
        }),
        ("a code breakpoint", &|a| {
            // With CS's base at zero: QEMU compares the address with EIP.
            a.mov(eax, TARGET)?;
            a.mov(dr0, eax)?;
            a.mov(eax, 2)?;
            a.mov(dr7, eax)?;
            a.push(0)?;
            a.push(TARGET)?;
            a.retf()
        }),
        ("a data breakpoint", &|a| {
            a.mov(eax, SCRATCH + 0x40)?;
            a.mov(dr1, eax)?;
            a.mov(eax, 0xd0_0004)?;
            a.mov(dr7, eax)?;
            a.mov(word_ptr(SCRATCH + 0x43), 5)?;
            a.inc(bx)
        }),
        ("RDMSR of EFER", &|a| {
            a.mov(ecx, 0xc000_0080u32)?;
            a.rdmsr()
        }),
        ("MOV to CR1", &|a| a.db(&[0x0f, 0x22, 0xc8])),
    ];
    for (name, body) in cases {
        guest.case(name, body);
    }
}

/// Accesses beyond limits, where QEMU looks at none (SDM vol. 3, 20.1.4).
fn limits(guest: &mut SystemGuest) {
    let (gp, ss_fault) = (13, 12);
    let cases: [(&str, u32, Code<'_>); 13] = [
        ("a word at 0xFFFF", gp, &|a| a.mov(ax, word_ptr(0xffff))),
        ("a dword at 0xFFFD", gp, &|a| a.mov(eax, dword_ptr(0xfffd))),
        ("a byte at 0x10000", gp, &|a| a.db(&[0x67, 0xa0, 0, 0, 1, 0])),
        ("a word store at 0xFFFF", gp, &|a| a.mov(word_ptr(0xffff), ax)),
        ("a word of the stack at 0xFFFF", ss_fault, &|a| a.mov(ax, word_ptr(0xffff).ss())),
        ("a word through BP at 0xFFFF", ss_fault, &|a| {
            a.mov(bp, -1)?;
            a.mov(ax, word_ptr(bp))
        }),
        ("a dword of a string at 0xFFFE", gp, &|a| {
            a.mov(si, 0xfffe)?;
            a.lodsd()
        }),
        ("a quadword of the x87 at 0xFFFC", gp, &|a| a.db(&[0xdd, 0x06, 0xfc, 0xff])),
        ("16 bytes of SSE at 0xFFF8", gp, &|a| {
            a.mov(eax, 0x200)?;
            a.mov(cr4, eax)?;
            a.db(&[0x0f, 0x10, 0x06, 0xf8, 0xff])
        }),
        ("beyond a limit of protected mode", gp, &|a| {
            load_unreal(a, SPARE + 8, &[fs])?;
            a.xor(cx, cx)?;
            a.mov(fs, cx)?;
            a.mov(al, byte_ptr(0x100).fs())
        }),
        ("within a limit of protected mode", 0x30, &|a| {
            load_unreal(a, SPARE + 8, &[fs])?;
            a.xor(cx, cx)?;
            a.mov(fs, cx)?;
            a.mov(al, byte_ptr(0xff).fs())
        }),
        ("a jump to 0x10000", gp, &|a| {
            a.db(&[0x66, 0xb8])?;
            a.dd(&[0x1_0000])?;
            a.db(&[0x66, 0xff, 0xe0])
        }),
        ("SGDT at 0xFFFC", gp, &|a| a.db(&[0x0f, 0x01, 0x06, 0xfc, 0xff])),
    ];
    for (name, vector, body) in cases {
        // Where QEMU arrives behind 64 KiB.
        let beyond = guest.slot() + 0x1_0000;
        guest.put(beyond, &[0xcd, 0x30]);
        guest.case(format!("limit: {name}"), body);
        // The low half is the vector; the address of the fault is behind it.
        guest.expected_halves.push((guest.cases.len() - 1, "ip vector", vector));
    }
    guest.case("what QEMU has loaded is gone", &|a| {
        a.fninit()?;
        for _ in 0..8 {
            a.fldz()?;
        }
        a.fninit()?;
        a.xorps(xmm0, xmm0)
    });
}
