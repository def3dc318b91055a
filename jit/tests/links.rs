//! Guests whose translations lead straight to each other, and then no longer may: pages are mapped anew under one of them, the
//! same code is executed at several addresses, and what is led to is written. What they leave must be what they leave on the
//! interpreter.

mod machine;

use iced_x86::code_asm::*;
use machine::compared::*;
use machine::{Emitted, Guest, MAIN, PAGE_TABLE, PRESENT};

/// The upper half has here what linear zero to 512 GiB maps.
const UPPER: u64 = 0xffff_ff80_0000_0000;
/// Physical pages with code that calls, and with functions that are called.
const CALLER: u64 = MAIN + 0x1_0000;
const ONE: u64 = MAIN + 0x1_1000;
const OTHER: u64 = MAIN + 0x1_2000;
/// The linear page that `CALLER` calls.
const CALLED: u64 = MAIN + 0x2_0000;
const DISTANCE: u64 = CALLED - CALLER;
/// Another linear page for `CALLER`, from which it calls another page.
const ALIAS: u64 = MAIN + 0x3_0000;
/// Where in `CALLER` a second function is, in the same page.
const WITHIN_PAGE: u64 = 0x100;
/// And a third, which calls the first unless R14 is zero.
const IF_WANTED: u64 = 0x200;
const GLOBAL: u64 = 1 << 8;
const TURNS: u32 = 1200;

/// Forgets the mapping of `CALLED` at `base`.
type Forget = fn(&mut CodeAssembler, u64) -> Emitted;

const FORGETS: [(&str, Forget); 3] = [
    ("INVLPG", |a, base| {
        a.mov(rdi, base + CALLED)?;
        a.invlpg(byte_ptr(rdi))
    }),
    ("CR3", |a, _| {
        a.mov(rax, cr3)?;
        a.mov(cr3, rax)
    }),
    ("CR4.PGE", |a, _| {
        a.mov(rax, cr4)?;
        a.xor(rax, 1 << 7)?;
        a.mov(cr4, rax)?;
        a.xor(rax, 1 << 7)?;
        a.mov(cr4, rax)
    }),
];

/// Maps the upper half as the lower one, sets CR4.PGE, and puts the functions where they are: that at `CALLER` calls
/// `DISTANCE` bytes on, and that behind it in its page the first.
fn prepare(a: &mut CodeAssembler) -> Emitted {
    a.mov(rax, qword_ptr(0x1000))?;
    a.mov(qword_ptr(0x1000 + 8 * 511), rax)?;
    a.mov(rax, cr4)?;
    a.or(rax, 1 << 7)?;
    a.mov(cr4, rax)?;
    put_code(a, CALLER, &calling(DISTANCE))?;
    put_code(a, CALLER + WITHIN_PAGE, &calling(WITHIN_PAGE.wrapping_neg()))?;
    put_code(a, ONE, &returning(0x111))?;
    put_code(a, OTHER, &returning(0x2222))?;
    map(a, CALLED, ONE, 0)
}

/// CALL so far; RET.
fn calling(distance: u64) -> Vec<u8> {
    let mut code = vec![0xe8];
    code.extend((distance as u32).wrapping_sub(5).to_le_bytes());
    code.push(0xc3);
    code
}

/// Maps a linear page, which need not be forgotten.
fn map(a: &mut CodeAssembler, linear: u64, page: u64, bits: u64) -> Emitted {
    a.mov(rax, page | PRESENT | bits)?;
    a.mov(qword_ptr(PAGE_TABLE + 8 * (linear >> 12)), rax)
}

/// Maps `CALLED` to `ONE` or `OTHER`, which changes every four turns.
fn map_in_turn(a: &mut CodeAssembler, bits: u64) -> Emitted {
    a.mov(eax, r15d)?;
    a.and(eax, 4)?;
    a.shl(eax, 10)?;
    a.add(rax, (ONE | PRESENT | bits) as i32)?;
    a.mov(qword_ptr(PAGE_TABLE + 8 * (CALLED >> 12)), rax)
}

/// Skips what follows in three of four turns.
fn now_and_then(a: &mut CodeAssembler, what: impl FnOnce(&mut CodeAssembler) -> Emitted) -> Emitted {
    let mut behind = a.create_label();
    a.test(r15d, 3)?;
    a.jne(behind)?;
    what(a)?;
    a.set_label(&mut behind)?;
    a.zero_bytes()
}

#[test]
fn the_page_that_is_led_to_is_mapped_anew() {
    let mut guests = Vec::new();
    for (_, forget) in FORGETS {
        for base in [0, UPPER] {
            for bits in [0, GLOBAL] {
                guests.push(Guest::new("two pages in turn", move |a| {
                    prepare(a)?;
                    repeated(a, TURNS, |a| {
                        now_and_then(a, |a| {
                            map_in_turn(a, bits)?;
                            forget(a, base)
                        })?;
                        call(a, base + CALLED)?;
                        call(a, base + CALLER)
                    })
                }));
            }
        }
    }
    compare(&guests);
}

#[test]
fn the_same_code_at_two_addresses_leads_to_different_code() {
    let at = |base: u64, entry: u64, first: i32| {
        move |a: &mut CodeAssembler| {
            prepare(a)?;
            map(a, ALIAS, CALLER, 0)?;
            map(a, ALIAS + DISTANCE, OTHER, 0)?;
            repeated(a, TURNS, |a| {
                call(a, base + CALLED)?;
                call(a, base + ALIAS + DISTANCE)?;
                // For a while at the one address alone.
                let (mut alias, mut behind) = (a.create_label(), a.create_label());
                a.cmp(r15d, first)?;
                a.jb(alias)?;
                call(a, base + CALLER + entry)?;
                a.jmp(behind)?;
                a.set_label(&mut alias)?;
                call(a, base + ALIAS + entry)?;
                a.test(r15d, 1)?;
                a.jne(behind)?;
                call(a, base + CALLER)?;
                a.set_label(&mut behind)?;
                a.zero_bytes()
            })
        }
    };
    let mut guests = Vec::new();
    for base in [0, UPPER] {
        for first in [0, TURNS as i32 / 2, i32::MAX] {
            guests.push(Guest::new("called", at(base, 0, first)));
            guests.push(Guest::new("led to within its page", at(base, WITHIN_PAGE, first)));
        }
    }
    compare(&guests);
}

#[test]
fn what_is_entered_at_addresses_that_nobody_has_noted_leads_to_different_code() {
    let at = |base: u64, directly: bool| {
        move |a: &mut CodeAssembler| {
            prepare(a)?;
            // TEST R14, R14; JE to the RET; CALL.
            let mut code = vec![0x4d, 0x85, 0xf6, 0x74, 0x05];
            code.extend(calling((IF_WANTED + 5).wrapping_neg()));
            put_code(a, CALLER + IF_WANTED, &code[..8])?;
            put_code(a, CALLER + IF_WANTED + 8, &code[8..])?;
            map(a, ALIAS, CALLER, 0)?;
            map(a, ALIAS + DISTANCE, OTHER, 0)?;
            repeated(a, TURNS, |a| {
                call(a, base + CALLED)?;
                call(a, base + ALIAS + DISTANCE)?;
                if directly {
                    call(a, base + CALLER)?;
                }
                // Its own calls come late, and at the other address later.
                for (entry, first) in [(CALLER, 2 * TURNS / 3), (ALIAS, TURNS / 3)] {
                    a.xor(r14d, r14d)?;
                    a.cmp(r15d, first as i32)?;
                    a.setb(r14b)?;
                    call(a, base + entry + IF_WANTED)?;
                }
                a.zero_bytes()
            })
        }
    };
    for directly in [false, true] {
        compare(&[Guest::new("below", at(0, directly)), Guest::new("above", at(UPPER, directly))]);
    }
}

#[test]
fn what_is_led_to_is_written() {
    let written = |base: u64, page: u64, instruction: u64| {
        move |a: &mut CodeAssembler| {
            prepare(a)?;
            put_code(a, CALLER + DISTANCE + 0x40, &returning(0x33))?;
            repeated(a, TURNS, |a| {
                now_and_then(a, |a| {
                    a.mov(rdi, page)?;
                    a.mov(eax, r15d)?;
                    a.and(eax, 0x40)?;
                    a.add(eax, instruction as i32)?;
                    a.mov(byte_ptr(rdi + 1), al)
                })?;
                call(a, base + CALLED)?;
                call(a, base + CALLER)?;
                call(a, base + CALLER + WITHIN_PAGE)
            })
        }
    };
    let mut guests = Vec::new();
    for base in [0, UPPER] {
        // The function's constant, and what the caller calls.
        guests.push(Guest::new("the function", written(base, ONE, 1)));
        guests.push(Guest::new("the caller", written(base, CALLER, (DISTANCE - 5) & 0xff)));
    }
    compare(&guests);
}
