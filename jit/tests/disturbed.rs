//! Guests that disturb their translations: they rewrite code, map other pages under it, fault in every kind of access, and
//! are interrupted and stepped in hot loops. What they leave must be what they leave on the interpreter, whichever JIT of
//! `machine::compared` they run with.

mod machine;

use iced_x86::code_asm::*;
use machine::compared::*;
use machine::{DATA, Emitted, Guest, INTERRUPTS, MAIN, Machine, PAGE_TABLE, REMEMBERED};

/// A page for code that `MAIN` is not in, and the one behind it.
const OTHER: u64 = MAIN + 0x1_0000;
const BEHIND: u64 = OTHER + 0x1000;
/// A linear page that guests map.
const WINDOW: u64 = MAIN + 0x2_0000;

/// Something that sets flags or looks at them; it may use RAX, RCX and RDX, of which the latter two differ from turn to turn.
type Piece = fn(&mut CodeAssembler) -> Emitted;

/// Adds RFLAGS to what RBX has gathered.
fn gather_flags(a: &mut CodeAssembler) -> Emitted {
    a.pushfq()?;
    a.pop(rax)?;
    a.add(rbx, rax)?;
    a.rol(rbx, 7)
}

#[test]
fn flags_are_looked_at_in_other_translations_than_set_them() {
    let setters: [(&'static str, Piece); 16] = [
        ("cmp, 64 bits", |a| a.cmp(rcx, rdx)),
        ("cmp, 32 bits", |a| a.cmp(ecx, edx)),
        ("cmp, 16 bits", |a| a.cmp(cx, dx)),
        ("cmp, 8 bits", |a| a.cmp(ch, dl)),
        ("cmp with a constant", |a| a.cmp(cl, -3)),
        ("sub", |a| a.sub(ecx, edx)),
        ("add, 64 bits", |a| a.add(rcx, rdx)),
        ("add, 8 bits", |a| a.add(cl, dh)),
        ("adc", |a| a.adc(ecx, edx)),
        ("test", |a| a.test(cx, dx)),
        ("neg", |a| a.neg(cl)),
        ("shl", |a| a.shl(ecx, 3)),
        ("imul", |a| a.imul_2(rcx, rdx)),
        ("cmp and inc", |a| {
            a.cmp(ecx, edx)?;
            a.inc(cl)
        }),
        ("add and dec", |a| {
            a.add(cx, dx)?;
            a.dec(ecx)
        }),
        ("ucomisd", |a| {
            a.cvtsi2sd(xmm0, ecx)?;
            a.cvtsi2sd(xmm1, edx)?;
            a.ucomisd(xmm0, xmm1)
        }),
    ];
    let readers: [Piece; 9] = [
        |a| a.nop(),
        |a| a.inc(cl),
        |a| a.dec(rdx),
        |a| a.adc(ecx, edx),
        |a| a.cmc(),
        // Keeps all flags where the count is zero.
        |a| a.shl(edx, cl),
        |a| a.bt(edx, 5),
        |a| {
            let (mut below, mut less) = (a.create_label(), a.create_label());
            a.jb(below)?;
            a.lea(rbx, ptr(rbx + 3))?;
            a.set_label(&mut below)?;
            a.jle(less)?;
            a.lea(rbx, ptr(rbx + 5))?;
            a.set_label(&mut less)?;
            a.setp(al)?;
            a.movzx(eax, al)?;
            a.lea(rbx, ptr(rbx + rax * 8))
        },
        // A function executes it.
        |a| {
            a.push(rbx)?;
            a.mov(eax, 0)?;
            a.cpuid()?;
            a.pop(rbx)
        },
    ];
    let guests = setters.map(|(name, setter)| {
        Guest::new(name, move |a| {
            repeated(a, 200, |a| {
                for reader in readers {
                    a.imul_3(rbp, rbp, 0x5851_f42d)?;
                    a.add(rbp, 0x1405_7b7f)?;
                    a.mov(rcx, rbp)?;
                    a.sar(rcx, 33)?;
                    a.mov(rdx, rbp)?;
                    a.rol(rdx, 23)?;
                    // A return to what was not called ends a translation.
                    let (mut first, mut second) = (a.create_label(), a.create_label());
                    a.lea(rax, ptr(second))?;
                    a.push(rax)?;
                    a.lea(rax, ptr(first))?;
                    a.push(rax)?;
                    setter(a)?;
                    a.ret()?;
                    a.set_label(&mut first)?;
                    reader(a)?;
                    a.ret()?;
                    a.set_label(&mut second)?;
                    gather_flags(a)?;
                }
                Ok(())
            })
        })
    });
    compare(&guests);
}

#[test]
fn rewritten_code() {
    compare(&[
        Guest::new("a function in another page gets another constant", |a| {
            put_code(a, OTHER, &returning(0))?;
            repeated(a, 2000, |a| {
                a.mov(rdi, OTHER)?;
                a.mov(dword_ptr(rdi + 1), r15d)?;
                call(a, OTHER)
            })
        }),
        Guest::new("a function becomes another one now and then", |a| {
            // ADD RBX, R15 or XOR RBX, R15; RET.
            put_code(a, OTHER, &[0x4c, 0x01, 0xfb, 0xc3])?;
            repeated(a, 3000, |a| {
                let mut stays = a.create_label();
                a.test(r15d, 63)?;
                a.jne(stays)?;
                a.mov(rdi, OTHER)?;
                a.xor(byte_ptr(rdi + 1), 0x30)?;
                a.set_label(&mut stays)?;
                call(a, OTHER)
            })
        }),
        Guest::new("constants of all sizes", |a| {
            // MOV RAX, 0; ADD RAX, 0; IMUL RAX, RAX, 0; RET.
            put_code(a, OTHER, &[0x48, 0xb8])?;
            put_code(a, OTHER + 8, &[0, 0, 0x48, 0x05, 0, 0, 0, 0])?;
            put_code(a, OTHER + 16, &[0x48, 0x69, 0xc0, 0, 0, 0, 0, 0xc3])?;
            repeated(a, 2000, |a| {
                a.mov(rdi, OTHER)?;
                a.mov(rax, r15)?;
                a.shl(rax, 50)?;
                a.mov(qword_ptr(rdi + 2), rax)?;
                a.mov(eax, r15d)?;
                a.neg(eax)?;
                a.mov(dword_ptr(rdi + 12), eax)?;
                a.mov(dword_ptr(rdi + 19), eax)?;
                call(a, OTHER)
            })
        }),
        Guest::new("a block begins in another one's constant", |a| {
            // MOV EAX, ...; RET, whose constant is ADD EBX, R15D or XOR EBX, R15D; RET.
            put_code(a, OTHER, &[0xb8, 0x44, 0x01, 0xfb, 0xc3, 0xc3])?;
            repeated(a, 2000, |a| {
                let mut stays = a.create_label();
                a.test(r15d, 31)?;
                a.jne(stays)?;
                a.mov(rdi, OTHER)?;
                a.xor(byte_ptr(rdi + 2), 0x30)?;
                a.set_label(&mut stays)?;
                call(a, OTHER + 1)?;
                call(a, OTHER)
            })
        }),
        Guest::new("the next instruction but one", |a| {
            repeated(a, 1000, |a| {
                let mut patched = a.create_label();
                a.lea(rdi, ptr(patched))?;
                a.mov(dword_ptr(rdi + 1), r15d)?;
                a.nop()?;
                a.set_label(&mut patched)?;
                a.mov(eax, 0x1234_5678)?;
                a.add(rbx, rax)
            })
        }),
        Guest::new("an instruction that a later turn of an inner loop executes", |a| {
            repeated(a, 300, |a| {
                let mut patched = a.create_label();
                a.mov(ecx, 5)?;
                a.set_label(&mut patched)?;
                a.mov(eax, 0x1234_5678)?;
                a.add(rbx, rax)?;
                a.lea(rdi, ptr(patched))?;
                a.inc(dword_ptr(rdi + 1))?;
                a.dec(ecx)?;
                a.jne(patched)
            })
        }),
        Guest::new("by string stores", |a| {
            put_code(a, OTHER, &returning(0))?;
            repeated(a, 1000, |a| {
                a.mov(eax, r15d)?;
                a.mov(rdi, OTHER + 1)?;
                a.mov(ecx, 4)?;
                a.rep().stosb()?;
                call(a, OTHER)
            })
        }),
        Guest::new("by a locked addition and a push", |a| {
            put_code(a, OTHER, &returning(0))?;
            repeated(a, 1000, |a| {
                a.mov(rdi, OTHER)?;
                a.lock().add(dword_ptr(rdi + 1), r15d)?;
                call(a, OTHER)?;
                a.mov(rsi, rsp)?;
                a.lea(rsp, ptr(rdi + 9))?;
                a.mov(rax, 0xc300_0000_00b8_9090u64 as i64)?;
                a.rol(rax, 16)?;
                a.push(rsi)?;
                a.pop(rcx)?;
                a.mov(rsp, rsi)?;
                put_code(a, OTHER, &returning(7))?;
                call(a, OTHER)
            })
        }),
    ]);
}

/// Maps `WINDOW` to the physical page in RSI.
fn map_window(a: &mut CodeAssembler) -> Emitted {
    a.or(rsi, 3)?;
    a.mov(qword_ptr(PAGE_TABLE + 8 * (WINDOW >> 12)), rsi)
}

/// Maps `WINDOW` to `OTHER` or `BEHIND`, as `bit` of the count of turns says.
fn map_in_turn(a: &mut CodeAssembler, bit: u32) -> Emitted {
    a.mov(esi, r15d)?;
    a.and(esi, 1 << bit)?;
    a.shl(esi, 12 - bit)?;
    a.add(rsi, OTHER as i32)?;
    map_window(a)
}

fn forget_window(a: &mut CodeAssembler) -> Emitted {
    a.mov(rdi, WINDOW)?;
    a.invlpg(byte_ptr(rdi))
}

fn reload_cr3(a: &mut CodeAssembler) -> Emitted {
    a.mov(rax, cr3)?;
    a.mov(cr3, rax)
}

/// In turn maps two pages with different functions under one address, and calls it.
fn remapping(forget: fn(&mut CodeAssembler) -> Emitted) -> impl Fn(&mut CodeAssembler) -> Emitted {
    move |a| {
        put_code(a, OTHER, &returning(0x111))?;
        put_code(a, BEHIND, &returning(0x2222))?;
        repeated(a, 1500, |a| {
            map_in_turn(a, 2)?;
            forget(a)?;
            call(a, WINDOW)
        })
    }
}

#[test]
fn remapped_code() {
    compare(&[
        Guest::new("two pages in turn, INVLPG", remapping(forget_window)),
        Guest::new("two pages in turn, CR3", remapping(reload_cr3)),
        Guest::new("the second half of a function that crosses a page", |a| {
            // The last three bytes of MOV EAX, imm32 and the RET are in the window.
            put_code(a, WINDOW - 8, &[0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xb8, 0x01])?;
            put_code(a, OTHER, &[0x02, 0x03, 0x04, 0xc3])?;
            put_code(a, BEHIND, &[0x05, 0x06, 0x07, 0xc3])?;
            repeated(a, 1500, |a| {
                map_in_turn(a, 2)?;
                forget_window(a)?;
                call(a, WINDOW - 2)
            })
        }),
        Guest::new("a jump in the region leads to a page that is mapped anew", |a| {
            // JMP from the last bytes before the window into it.
            put_code(a, WINDOW - 8, &[0x31, 0xc0, 0xeb, 0x04])?;
            put_code(a, OTHER, &[0x83, 0xc0, 0x11, 0xc3])?;
            put_code(a, BEHIND, &[0x83, 0xc0, 0x22, 0xc3])?;
            repeated(a, 1500, |a| {
                map_in_turn(a, 3)?;
                forget_window(a)?;
                call(a, WINDOW - 8)
            })
        }),
        Guest::new("written under another linear address", |a| {
            put_code(a, OTHER, &returning(0))?;
            a.mov(rsi, OTHER)?;
            map_window(a)?;
            forget_window(a)?;
            repeated(a, 1500, |a| {
                a.mov(rdi, OTHER)?;
                a.mov(dword_ptr(rdi + 1), r15d)?;
                call(a, WINDOW)?;
                a.mov(rdi, WINDOW)?;
                a.add(word_ptr(rdi + 1), 3)?;
                call(a, OTHER)
            })
        }),
        Guest::new("code that may no longer be executed from the page", |a| {
            // The page goes; its handler brings it back.
            put_code(a, WINDOW, &returning(5))?;
            repeated(a, 500, |a| {
                a.and(qword_ptr(PAGE_TABLE + 8 * (WINDOW >> 12)), !1)?;
                forget_window(a)?;
                call(a, WINDOW)
            })
        }),
    ]);
}

/// An access to the page of RDI, or, for those that use the stack, of RSP.
type Access = fn(&mut CodeAssembler) -> Emitted;

/// Every kind of access that translations make or leave to a function.
const ACCESSES: [(&str, Access); 42] = [
    ("mov al,[]", |a| a.mov(al, byte_ptr(rdi))),
    ("mov ax,[]", |a| a.mov(ax, word_ptr(rdi))),
    ("mov eax,[]", |a| a.mov(eax, dword_ptr(rdi))),
    ("mov rax,[]", |a| a.mov(rax, qword_ptr(rdi))),
    ("movsx rax,byte []", |a| a.movsx(rax, byte_ptr(rdi + 1))),
    ("mov [],al", |a| a.mov(byte_ptr(rdi), al)),
    ("mov [],ax", |a| a.mov(word_ptr(rdi + 2), ax)),
    ("mov [],eax", |a| a.mov(dword_ptr(rdi + 4), eax)),
    ("mov [],rax", |a| a.mov(qword_ptr(rdi + 8), rax)),
    ("mov [],imm", |a| a.mov(qword_ptr(rdi + 8), -5)),
    ("add [],rax", |a| a.add(qword_ptr(rdi + 16), rax)),
    ("inc []", |a| a.inc(dword_ptr(rdi + 16))),
    ("neg []", |a| a.neg(byte_ptr(rdi + 16))),
    ("shl [],cl", |a| a.shl(qword_ptr(rdi + 16), cl)),
    ("bts [],rdx", |a| a.bts(qword_ptr(rdi), rdx)),
    ("adc rax,[]", |a| a.adc(rax, qword_ptr(rdi + 24))),
    ("cmp [],rax", |a| a.cmp(qword_ptr(rdi), rax)),
    ("imul rax,[]", |a| a.imul_2(rax, qword_ptr(rdi))),
    ("div []", |a| {
        a.xor(edx, edx)?;
        a.div(qword_ptr(rdi + 0x800))
    }),
    ("cmovc rax,[]", |a| a.cmovc(rax, qword_ptr(rdi))),
    ("setc []", |a| a.setc(byte_ptr(rdi))),
    ("xchg [],rax", |a| a.xchg(qword_ptr(rdi), rax)),
    ("lock xadd []", |a| a.lock().xadd(dword_ptr(rdi), eax)),
    ("cmpxchg []", |a| a.cmpxchg(qword_ptr(rdi), rdx)),
    ("cmpxchg16b []", |a| a.lock().cmpxchg16b(xmmword_ptr(rdi))),
    ("push, pop", |a| {
        a.push(rax)?;
        a.pop(rdx)
    }),
    ("pop []", |a| {
        a.push(rax)?;
        a.pop(qword_ptr(rdi + 0x40))
    }),
    ("call, ret", |a| {
        let (mut function, mut behind) = (a.create_label(), a.create_label());
        a.call(function)?;
        a.jmp(behind)?;
        a.set_label(&mut function)?;
        a.inc(rax)?;
        a.ret()?;
        a.set_label(&mut behind)?;
        a.zero_bytes()
    }),
    ("enter, leave", |a| {
        a.enter(16, 0)?;
        a.leave()
    }),
    ("across pages", |a| a.add(qword_ptr(rdi - 3), rax)),
    ("across pages, loaded", |a| a.mov(rdx, qword_ptr(rdi - 5))),
    ("two by one register", |a| {
        a.mov(rdx, qword_ptr(rdi + 8))?;
        a.mov(qword_ptr(rdi + 0x100), rdx)
    }),
    ("movaps", |a| {
        a.movaps(xmm1, xmmword_ptr(rdi))?;
        a.movaps(xmmword_ptr(rdi + 32), xmm1)
    }),
    ("paddd xmm,[]", |a| a.paddd(xmm1, xmmword_ptr(rdi))),
    ("movsd, addsd", |a| {
        a.movsd_2(xmm2, qword_ptr(rdi + 8))?;
        a.addsd(xmm2, qword_ptr(rdi + 0x800))?;
        a.movsd_2(qword_ptr(rdi + 0x48), xmm2)
    }),
    ("vmovdqu ymm", |a| {
        a.vmovdqu(ymmword_ptr(rdi + 0x60), ymm3)?;
        a.vpaddd(ymm3, ymm3, ymmword_ptr(rdi + 0x20))
    }),
    ("vpgatherdd", |a| {
        a.vpxor(xmm4, xmm4, xmm4)?;
        a.vpcmpeqd(xmm6, xmm6, xmm6)?;
        // VPGATHERDD XMM5, [RDI + XMM4 * 4], XMM6.
        a.db(&[0xc4, 0xe2, 0x49, 0x90, 0x2c, 0xa7])
    }),
    ("x87", |a| {
        a.fild(qword_ptr(rdi + 8))?;
        a.fistp(qword_ptr(rdi + 0x50))
    }),
    ("movs", |a| {
        a.lea(rsi, ptr(rdi + 8))?;
        a.movsq()?;
        a.sub(rdi, 8)
    }),
    ("rep movs", |a| {
        a.mov(ecx, 20)?;
        a.lea(rsi, ptr(rdi - 24))?;
        a.rep().movsb()?;
        a.sub(rdi, 20)
    }),
    ("rep stos across pages", |a| {
        a.mov(ecx, 9)?;
        a.sub(rdi, 32)?;
        a.rep().stosq()?;
        a.sub(rdi, 40)
    }),
    ("repe cmps", |a| {
        a.mov(ecx, 3)?;
        a.mov(rsi, rdi)?;
        a.repe().cmpsq()?;
        a.sub(rdi, 24)
    }),
];

/// A page of the data that is there only now and then.
const ABSENT: u64 = DATA + 0x4000;

/// Takes the page of an access away before every third one, and its right to be written before others.
fn faulting(access: Access) -> impl Fn(&mut CodeAssembler) -> Emitted {
    move |a| {
        let entry = PAGE_TABLE + 8 * (ABSENT >> 12);
        a.mov(rdi, ABSENT)?;
        a.mov(dword_ptr(rdi + 0x800), 0x4321)?;
        a.mov(r14, rsp)?;
        repeated(a, 120, |a| {
            let (mut goes, mut stays) = (a.create_label(), a.create_label());
            a.imul_3(eax, r15d, 0x5555_5556)?;
            a.mov(ecx, r15d)?;
            a.cmp(eax, 0x5555_5556)?;
            a.jb(goes)?;
            a.test(r15d, 7)?;
            a.jne(stays)?;
            a.and(qword_ptr(entry), !2)?;
            a.invlpg(byte_ptr(rdi))?;
            a.jmp(stays)?;
            a.set_label(&mut goes)?;
            a.and(qword_ptr(entry), !1)?;
            a.invlpg(byte_ptr(rdi))?;
            a.set_label(&mut stays)?;
            a.lea(rsp, ptr(rdi + 0x700))?;
            a.lea(eax, ptr(r15 + rcx * 2))?;
            a.mov(edx, r15d)?;
            a.add(rbx, rax)?;
            access(a)?;
            a.mov(rsp, r14)?;
            a.adc(rbx, rax)?;
            a.xor(rbx, rdx)?;
            a.rol(rbx, 3)
        })
    }
}

#[test]
fn faults_in_every_kind_of_access() {
    let guests: Vec<Guest> =
        ACCESSES.into_iter().map(|(name, access)| Guest::new(name, faulting(access))).collect();
    compare(&guests);
    for guest in &guests {
        let mut machine = Machine::new(guest, JITS[0].1);
        machine.run(guest.name, BUDGET, false);
        assert!(machine.quad(REMEMBERED + 24) > 30, "{}: hardly a page fault", guest.name);
    }
}

/// Steps a few instructions of every sixteenth turn.
fn stepped(a: &mut CodeAssembler) -> Emitted {
    repeated(a, 2000, |a| {
        let mut plain = a.create_label();
        a.test(r15d, 15)?;
        a.jne(plain)?;
        a.pushfq()?;
        a.or(dword_ptr(rsp), 0x100)?;
        a.popfq()?;
        a.add(rbx, 3)?;
        a.push(rbx)?;
        a.pop(rcx)?;
        a.pushfq()?;
        a.and(dword_ptr(rsp), !0x100)?;
        a.popfq()?;
        a.set_label(&mut plain)?;
        a.lea(rbx, ptr(rbx + rcx * 2 + 1))?;
        a.ror(rbx, 5)
    })
}

/// Has a breakpoint on an instruction, or on stores to a variable, in every other 64 turns.
fn broken(control: i32, on_data: bool) -> impl Fn(&mut CodeAssembler) -> Emitted {
    move |a| {
        let mut place = a.create_label();
        if on_data {
            a.mov(rax, DATA + 8)?;
        } else {
            a.lea(rax, ptr(place))?;
        }
        a.mov(dr0, rax)?;
        repeated(a, 2000, |a| {
            let mut same = a.create_label();
            a.test(r15d, 63)?;
            a.jne(same)?;
            a.mov(eax, r15d)?;
            a.shr(eax, 6)?;
            a.and(eax, 1)?;
            a.neg(rax)?;
            a.and(rax, control)?;
            a.mov(dr7, rax)?;
            a.set_label(&mut same)?;
            a.nop()?;
            a.set_label(&mut place)?;
            a.add(rbx, r15)?;
            a.mov(qword_ptr(DATA + 8), rbx)?;
            a.rol(rbx, 5)
        })
    }
}

#[test]
fn steps_and_breakpoints_in_hot_loops() {
    let guests = [
        Guest::new("single steps", stepped),
        Guest::new("a breakpoint on an instruction", broken(1, false)),
        // Writes, eight bytes.
        Guest::new("a breakpoint on a variable", broken(1 | 0b1001 << 16, true)),
    ];
    compare(&guests);
    for guest in &guests {
        let mut machine = Machine::new(guest, JITS[0].1);
        machine.run(guest.name, BUDGET, false);
        assert!(machine.quad(REMEMBERED) > 500, "{}: hardly a debug exception", guest.name);
    }
}

/// How often the loops that interrupts come into go around.
const TURNS: u32 = 20_000;

/// Loops that interrupts come into.
fn loops() -> [Guest; 7] {
    let loop_of = |name, body: fn(&mut CodeAssembler) -> Emitted| {
        Guest::new(name, move |a| {
            a.sti()?;
            a.mov(rdi, DATA)?;
            repeated(a, TURNS, body)
        })
    };
    [
        loop_of("registers and flags", |a| {
            a.adc(rbx, r15)?;
            a.sbb(rcx, rbx)?;
            a.rcl(rdx, 1)
        }),
        loop_of("memory", |a| {
            a.mov(eax, r15d)?;
            a.and(eax, 0x3ff8)?;
            a.add(rbx, qword_ptr(rdi + rax))?;
            a.mov(qword_ptr(rdi + rax), rbx)?;
            a.inc(rbx)
        }),
        loop_of("calls", ACCESSES[27].1),
        loop_of("vectors", |a| {
            a.movq(xmm1, r15)?;
            a.vpbroadcastq(ymm1, xmm1)?;
            a.vpaddq(ymm3, ymm3, ymm1)?;
            a.vpxor(ymm3, ymm3, ymmword_ptr(rdi))?;
            a.vmovdqu(ymmword_ptr(rdi), ymm3)
        }),
        loop_of("doubles", |a| {
            a.cvtsi2sd(xmm1, r15)?;
            a.sqrtsd(xmm1, xmm1)?;
            a.addsd(xmm3, xmm1)
        }),
        loop_of("repeated strings", |a| {
            a.mov(ecx, 300)?;
            a.mov(rdi, DATA)?;
            a.mov(eax, r15d)?;
            a.rep().stosd()
        }),
        loop_of("interrupts off and on", |a| {
            a.cli()?;
            a.add(rbx, r15)?;
            a.mov(qword_ptr(rdi), rbx)?;
            a.sti()?;
            a.rol(rbx, 9)
        }),
    ]
}

#[test]
fn interrupts_in_hot_loops() {
    for guest in loops() {
        let expected = Machine::new(&guest, interpreter).run(guest.name, BUDGET, false);
        for (jit, engine) in JITS {
            for budget in [997, 64] {
                let mut machine = Machine::new(&guest, engine);
                let got = machine.run(guest.name, budget, true);
                expect_same(&format!("{}, {jit}, every {budget}", guest.name), &expected, &got);
                let came = machine.quad(INTERRUPTS);
                assert!(came > u64::from(TURNS) / budget, "{}, {jit}: {came} interrupts", guest.name);
            }
        }
    }
}

/// No way through a region is longer, and no block of the interpreter.
const LONGEST_WAY: u64 = 256;

#[test]
fn a_hot_loop_looks_up_within_its_budget() {
    let mut endless: Vec<Guest> = loops().into_iter().collect();
    endless.push(Guest::new("a jump to itself", |a| {
        let mut here = a.create_label();
        a.set_label(&mut here)?;
        a.jmp(here)
    }));
    endless.push(Guest::new("indirect jumps", |a| {
        let (mut one, mut two) = (a.create_label(), a.create_label());
        a.lea(rsi, ptr(two))?;
        a.lea(rdi, ptr(one))?;
        a.set_label(&mut one)?;
        a.jmp(rsi)?;
        a.set_label(&mut two)?;
        a.jmp(rdi)
    }));
    for guest in endless {
        for (jit, engine) in JITS {
            let mut machine = Machine::new(&guest, engine);
            for budget in [1, 10, 100, 1000, BUDGET] {
                let before = machine.engine.stats().instructions;
                machine.engine.run(budget);
                let executed = machine.engine.stats().instructions - before;
                assert!(executed <= budget + LONGEST_WAY, "{}, {jit}: {executed} of {budget}", guest.name);
            }
        }
    }
}

/// A device replaces a function that a hot loop calls.
#[test]
fn code_written_by_dma() {
    let guest = Guest::new("DMA", |a| {
        put_code(a, OTHER, &returning(1))?;
        let mut top = a.create_label();
        a.set_label(&mut top)?;
        a.mov(rdi, OTHER)?;
        a.call(rdi)?;
        a.mov(qword_ptr(DATA), rax)?;
        a.test(eax, eax)?;
        a.jne(top)?;
        a.hlt()
    });
    for (jit, engine) in JITS {
        let mut machine = Machine::new(&guest, engine);
        for value in (0..50u32).rev() {
            // Often enough to be hot, and to have been translated.
            for _ in 0..3 {
                machine.engine.run(2000);
            }
            machine.memory().write(OTHER + 1, &value.to_le_bytes()).expect("in RAM");
            machine.engine.run(200);
            assert_eq!(machine.quad(DATA), value.into(), "{jit}");
        }
    }
}
