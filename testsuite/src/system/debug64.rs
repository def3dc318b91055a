//! 64-bit mode: the debug registers, single steps, alignment checks, and #NM, #UD and #GP of the x87 and SSE by CR0 and CR4 (SDM
//! vol. 3, 17.2 and 17.3; 6.15, #AC; 2.5 and 13.1).

use super::frame64;
use super::guest::{Code, SystemGuest};
use super::layout::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What is watched.
const WATCHED: u32 = SCRATCH + 0x40;

/// The guest.
pub fn guest() -> SystemGuest {
    let mut guest = frame64::guest("debug and coprocessor");
    data(&mut guest);
    code(&mut guest);
    steps(&mut guest);
    registers(&mut guest);
    alignment(&mut guest);
    coprocessor(&mut guest);
    guest
}

fn arm(a: &mut CodeAssembler, number: u32, address: u64, dr7_value: u32) -> Result<(), IcedError> {
    a.mov(rax, address)?;
    match number {
        0 => a.mov(dr0, rax)?,
        1 => a.mov(dr1, rax)?,
        2 => a.mov(dr2, rax)?,
        _ => a.mov(dr3, rax)?,
    }
    a.mov(eax, dr7_value)?;
    a.mov(dr7, rax)
}

/// DR7 with breakpoint `number` enabled, its R/W and LEN fields.
fn enable(number: u32, access: u32, length: u32) -> u32 {
    1 << (2 * number) | (access | length << 2) << (16 + 4 * number)
}

/// Every kind of access against every kind and length of watchpoint.
fn data(guest: &mut SystemGuest) {
    let accesses: [(&str, Code<'_>); 9] = [
        ("a read", &|a| a.mov(rbx, qword_ptr(u64::from(WATCHED)))),
        ("a write", &|a| a.mov(qword_ptr(u64::from(WATCHED)), rbx)),
        ("a byte written before", &|a| a.mov(byte_ptr(u64::from(WATCHED - 1)), bl)),
        ("a byte written at 1", &|a| a.mov(byte_ptr(u64::from(WATCHED + 1)), bl)),
        ("a byte written at 4", &|a| a.mov(byte_ptr(u64::from(WATCHED + 4)), bl)),
        ("a byte written at 8", &|a| a.mov(byte_ptr(u64::from(WATCHED + 8)), bl)),
        ("a quadword written before", &|a| a.mov(qword_ptr(u64::from(WATCHED - 7)), rbx)),
        ("read and written", &|a| a.inc(dword_ptr(u64::from(WATCHED)))),
        ("16 bytes written", &|a| a.movups(xmmword_ptr(u64::from(WATCHED - 8)), xmm0)),
    ];
    for (number, access, length) in
        [(0, 1, 0), (1, 1, 1), (2, 1, 3), (3, 1, 2), (0, 3, 0), (1, 3, 1), (2, 3, 3), (3, 3, 2)]
    {
        for (name, body) in accesses {
            guest.case(format!("R/W {access}, LEN {length}: {name}"), &|a| {
                arm(a, number, WATCHED.into(), enable(number, access, length))?;
                body(a)?;
                a.inc(ecx)
            });
        }
    }
    guest.case("two watchpoints in one access", &|a| {
        arm(a, 0, WATCHED.into(), 0)?;
        arm(a, 3, u64::from(WATCHED) + 4, enable(0, 1, 0) | enable(3, 3, 0))?;
        a.mov(qword_ptr(u64::from(WATCHED)), rbx)?;
        a.inc(ecx)
    });
    guest.case("a disabled watchpoint", &|a| {
        arm(a, 0, WATCHED.into(), enable(0, 1, 0) & !3)?;
        a.mov(qword_ptr(u64::from(WATCHED)), rbx)
    });
    guest.case("a push", &|a| {
        arm(a, 1, u64::from(STACK) - 0x48, enable(1, 1, 2))?;
        a.mov(esp, STACK - 0x40)?;
        a.push(rax)?;
        a.inc(ecx)
    });
    guest.case("REP STOSB", &|a| {
        arm(a, 2, u64::from(WATCHED) + 3, enable(2, 1, 0))?;
        a.mov(ecx, 8)?;
        a.mov(edi, WATCHED)?;
        a.rep().stosb()?;
        a.inc(ebx)
    });
    guest.user_case(
        "a watchpoint at CPL 3",
        2,
        &|a| arm(a, 0, u64::from(STACK3) - 0x10, enable(0, 3, 3)),
        &|a| {
            a.mov(ebx, dword_ptr(u64::from(STACK3) - 0x10))?;
            a.inc(ecx)
        },
    );
}

/// Breakpoints on code, behind an IRET that sets or clears RF.
fn code(guest: &mut SystemGuest) {
    for (name, flags, distance, number) in [
        ("at the target", 2u32, 0u64, 0),
        ("with RF", 0x1_0002, 0, 1),
        ("with RF, at the next instruction", 0x1_0002, 2, 2),
        ("within an instruction", 2, 1, 3),
        ("and a single step", 0x102, 2, 0),
        ("at the target, with a single step", 0x102, 0, 0),
    ] {
        let at = guest.other_code();
        guest.put_code(64, at, &|a| {
            a.inc(ebx)?;
            a.inc(ebx)?;
            a.inc(ebx)?;
            a.int(0x30)
        });
        guest.case(format!("a breakpoint on code {name}"), &|a| {
            arm(a, number, u64::from(at) + distance, 2 << (2 * number))?;
            a.push(i32::from(DATA0))?;
            a.push(STACK as i32)?;
            a.push(flags as i32)?;
            a.push(i32::from(CODE0))?;
            a.push(at as i32)?;
            a.iretq()
        });
    }
    guest.case("a breakpoint on code in a page that is not there", &|a| {
        arm(a, 0, u64::from(TEST_LINEAR), 1)?;
        a.mov(eax, TEST_LINEAR)?;
        a.jmp(rax)
    });
    guest.expect("vector", 1);
    guest.user_case("a breakpoint on code at CPL 3", 2, &|a| arm(a, 0, u64::from(OTHER_CODE), 1), &|a| {
        a.inc(ebx)?;
        a.jmp(u64::from(OTHER_CODE))
    });
}

fn steps(guest: &mut SystemGuest) {
    let cases: [(&str, Code<'_>); 9] = [
        ("NOP", &|a| a.nop()),
        ("a jump", &|a| {
            let mut there = a.create_label();
            a.jmp(there)?;
            a.ud2()?;
            a.set_label(&mut there)?;
            a.inc(ebx)
        }),
        ("MOV SS", &|a| {
            a.mov(eax, i32::from(DATA0))?;
            a.mov(ss, eax)?;
            a.inc(ebx)?;
            a.inc(ebx)
        }),
        ("REP STOSB", &|a| {
            a.rep().stosb()?;
            a.inc(ebx)
        }),
        ("POPFQ that ends it", &|a| {
            a.popfq()?;
            a.inc(ebx)?;
            a.inc(ebx)
        }),
        ("UD2", &|a| a.ud2()),
        ("INT", &|a| a.int(0x31)),
        ("CPUID", &|a| {
            a.xor(eax, eax)?;
            a.nop()
        }),
        ("SYSCALL without SCE", &|a| a.ud2()),
    ];
    for (name, body) in cases {
        guest.case(format!("single step: {name}"), &|a| {
            a.mov(ecx, 3)?;
            a.mov(edi, SCRATCH)?;
            a.push(2)?;
            a.push(0x102)?;
            a.popfq()?;
            body(a)?;
            a.inc(edx)
        });
    }
    guest.user_case("single step at CPL 3", 0x102, &|_| Ok(()), &|a| {
        a.inc(ebx)?;
        a.inc(ebx)
    });
}

fn registers(guest: &mut SystemGuest) {
    guest.case("DR7.GD", &|a| {
        a.mov(eax, 1 << 13)?;
        a.mov(dr7, rax)?;
        a.mov(rbx, dr0)
    });
    guest.expect("vector", 1);
    guest.expect("dr6", 0xffff_2ff0);
    guest.case("DR7.GD is cleared by its exception", &|a| {
        a.mov(rbx, dr7)?;
        a.mov(rcx, dr6)
    });
    for (name, value) in [("DR6", 1u64 << 32), ("DR7", 1 << 63)] {
        guest.case(format!("{name} beyond 32 bits"), &|a| {
            a.mov(rax, value)?;
            if name == "DR6" { a.mov(dr6, rax) } else { a.mov(dr7, rax) }
        });
    }
    guest.case("DR0 of 64 bits", &|a| {
        a.mov(rax, 0x8123_4567_89ab_cdefu64)?;
        a.mov(dr0, rax)?;
        a.mov(rbx, dr0)
    });
    guest.case("DR5 without CR4.DE", &|a| a.db(&[0x0f, 0x21, 0xeb]));
    guest.case("DR8", &|a| a.db(&[0x44, 0x0f, 0x21, 0xc3]));
    guest.user_case("DR0 at CPL 3", 2, &|_| Ok(()), &|a| a.db(&[0x0f, 0x21, 0xc0]));
}

/// #AC at CPL 3 with AC and CR0.AM. QEMU checks nothing, so the SDM's table of alignments (vol. 3, table 6-7) is the measure.
fn alignment(guest: &mut SystemGuest) {
    let base = i64::from(STACK3) - 0x100;
    let cases: [(&str, i64, u32, Code<'_>); 14] = [
        ("a byte", 1, 0, &|a| a.mov(al, byte_ptr(rsi))),
        ("a word", 1, 17, &|a| a.mov(ax, word_ptr(rsi))),
        ("a word at 2", 2, 0, &|a| a.mov(ax, word_ptr(rsi))),
        ("a dword", 2, 17, &|a| a.mov(eax, dword_ptr(rsi))),
        ("a quadword", 4, 17, &|a| a.mov(rax, qword_ptr(rsi))),
        ("a quadword at 8", 8, 0, &|a| a.mov(rax, qword_ptr(rsi))),
        ("a store", 1, 17, &|a| a.mov(dword_ptr(rsi), eax)),
        ("PUSH", 4, 17, &|a| {
            a.mov(rsp, rsi)?;
            a.push(rax)
        }),
        ("LODSD", 1, 17, &|a| a.lodsd()),
        ("FLD of 4 bytes", 2, 17, &|a| a.fld(dword_ptr(rsi))),
        ("FLD of 8 bytes", 4, 17, &|a| a.fld(qword_ptr(rsi))),
        ("MOVAPS", 8, 13, &|a| a.movaps(xmm0, xmmword_ptr(rsi))),
        ("LEA", 1, 0, &|a| a.lea(rax, qword_ptr(rsi))),
        ("PREFETCH", 1, 0, &|a| a.prefetcht0(byte_ptr(rsi))),
    ];
    let on: Code<'_> = &|a| {
        a.mov(rax, cr0)?;
        a.or(eax, 1 << 18)?;
        a.mov(cr0, rax)
    };
    for (name, offset, vector, body) in cases {
        for (what, flags) in [("", 0x4_0002), (" without AC", 2)] {
            guest.user_case(format!("alignment of {name}{what}"), flags, on, &|a| {
                a.mov(rsi, base + offset)?;
                body(a)
            });
            let fault = if flags == 2 && vector == 17 { 0 } else { vector };
            guest.expect("vector", if fault == 0 { 0x30 } else { fault.into() });
            if fault != 0 {
                guest.expect("pushed[0]", 0);
            }
        }
    }
    guest.case("alignment at CPL 0", &|a| {
        a.push(0x4_0002)?;
        a.popfq()?;
        a.mov(eax, dword_ptr(u64::from(SCRATCH + 1)))
    });
    guest.expect("vector", 0x30);
    guest.case("CR0.AM is off again", &|a| {
        a.mov(rax, cr0)?;
        a.and(eax, !(1 << 18))?;
        a.mov(cr0, rax)?;
        fresh_x87(a)
    });
}

/// Registers of the x87 that do not tell what was executed before.
fn fresh_x87(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.fninit()?;
    for _ in 0..8 {
        a.fldz()?;
    }
    a.fninit()
}

/// CR0.EM, MP and TS, and CR4.OSFXSR, against one instruction of each kind.
fn coprocessor(guest: &mut SystemGuest) {
    let codes: [(&str, &[u8]); 18] = [
        ("FNOP", &[0xd9, 0xd0]),
        ("FWAIT", &[0x9b]),
        ("FNSTSW AX", &[0xdf, 0xe0]),
        ("FNINIT", &[0xdb, 0xe3]),
        ("MOVQ MM0, MM1", &[0x0f, 0x6f, 0xc1]),
        ("EMMS", &[0x0f, 0x77]),
        ("ADDPS", &[0x0f, 0x58, 0xc1]),
        ("PADDB XMM0, XMM1", &[0x66, 0x0f, 0xfc, 0xc1]),
        ("CVTPI2PS", &[0x0f, 0x2a, 0xc1]),
        ("PSHUFB XMM0, XMM1", &[0x66, 0x0f, 0x38, 0x00, 0xc1]),
        ("CRC32", &[0xf2, 0x0f, 0x38, 0xf0, 0xc0]),
        ("POPCNT", &[0xf3, 0x0f, 0xb8, 0xc0]),
        ("SFENCE", &[0x0f, 0xae, 0xf8]),
        ("PREFETCHT0", &[0x0f, 0x18, 0x0c, 0x24]),
        ("MOVNTI", &[0x0f, 0xc3, 0x44, 0x24, 0xe0]),
        ("LDMXCSR", &[0x0f, 0xae, 0x14, 0x25, 0x80, 0x06, 0, 0]),
        ("FXSAVE", &[0x0f, 0xae, 0x04, 0x25, 0, 7, 0, 0]),
        ("VADDPS", &[0xc5, 0xf0, 0x58, 0xc2]),
    ];
    for (what, cr0_bits, osfxsr) in [
        ("nothing", 0, true),
        ("MP", 2, true),
        ("EM", 4, true),
        ("TS", 8, true),
        ("TS and MP", 0xa, true),
        ("TS and EM", 0xc, true),
        ("no OSFXSR", 0, false),
        ("TS and no OSFXSR", 8, false),
    ] {
        for (name, code) in codes {
            guest.case(format!("{name} with {what}"), &|a| {
                a.mov(dword_ptr(u64::from(SCRATCH + 0x80)), 0x1f80)?;
                a.mov(eax, 0x420 | if osfxsr { 0x200 } else { 0 })?;
                a.mov(cr4, rax)?;
                a.mov(rax, cr0)?;
                a.and(eax, !0xe)?;
                a.mov(cr0, rax)?;
                a.fninit()?;
                a.or(eax, cr0_bits)?;
                a.mov(cr0, rax)?;
                a.xor(eax, eax)?;
                a.db(code)
            });
        }
    }
    guest.case("as it was", &|a| {
        a.mov(eax, 0x620)?;
        a.mov(cr4, rax)?;
        a.mov(rax, cr0)?;
        a.and(eax, !0xe)?;
        a.mov(cr0, rax)?;
        fresh_x87(a)?;
        a.xorps(xmm0, xmm0)
    });
}
