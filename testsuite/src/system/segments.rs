//! Protected-mode segment loads with every descriptor type (SDM vol. 3, 5.4 to 5.6), what the segments then allow, and
//! the instructions that look at descriptors.

use super::frame32::{self, Paging};
use super::guest::{SystemGuest, set_descriptor};
use super::layout::*;
use iced_x86::code_asm::*;

const LOADS: [(&str, AsmRegisterSegment); 3] = [("DS", ds), ("GS", gs), ("SS", ss)];
/// DPL and whether the segment is present.
const RIGHTS: [(u8, bool); 4] = [(0, true), (1, true), (3, true), (0, false)];

fn access_byte(kind: u8, dpl: u8, present: bool) -> u8 {
    kind | dpl << 5 | if present { 0x80 } else { 0 }
}

/// MOV to DS, GS and SS from selectors of every descriptor type, at CPL 0 and 3; a few of each with other RPLs.
pub fn data_segments() -> SystemGuest {
    let mut guest = frame32::guest("segment loads", Paging::Off);
    for kind in 0..32u8 {
        for (dpl, present) in RIGHTS {
            // Above the limit of an expand-down segment is all of memory.
            let limit = if kind & 0x1c == 0x14 { 0 } else { 0xf_ffff };
            let image = descriptor(0, limit, access_byte(kind, dpl, present), 4);
            for (name, segment) in LOADS {
                let what = format!("MOV {name}, type {kind:#x} DPL {dpl} present {present}");
                guest.case(format!("{what} RPL 0"), &|a| {
                    set_descriptor(a, SPARE, image)?;
                    a.mov(eax, i32::from(SPARE))?;
                    a.mov(segment, eax)
                });
                if kind & 0x10 != 0 && dpl != 1 {
                    guest.user_case(
                        format!("{what} RPL 3, CPL 3"),
                        0,
                        &|a| set_descriptor(a, SPARE, image),
                        &|a| {
                            a.mov(eax, i32::from(SPARE | 3))?;
                            a.mov(segment, eax)
                        },
                    );
                }
            }
        }
    }
    for (name, segment) in LOADS {
        for (what, selector) in [
            ("null", 0),
            ("null with RPL 3", 3),
            ("beyond the GDT", GDT_LIMIT + 1),
            ("LDT without an LDT", 4),
            ("RPL 3 of DPL 0", DATA0 | 3),
            ("RPL 1 of DPL 3", DATA3 | 1),
        ] {
            guest.case(format!("MOV {name}, {what}"), &|a| {
                a.mov(eax, i32::from(selector))?;
                a.mov(segment, eax)
            });
        }
    }
    guest
}

/// LAR, LSL, VERR, VERW and ARPL on every descriptor type, and accesses at the limits of segments.
pub fn descriptor_looks() -> SystemGuest {
    let mut guest = frame32::guest("descriptor looks", Paging::Off);
    for kind in 0..32u8 {
        for (dpl, present) in RIGHTS {
            let image = descriptor(0x12_3000, 0x4_5678, access_byte(kind, dpl, present), 0xd);
            for rpl in [0, 3] {
                guest.case(
                    format!("LAR LSL VERR VERW, type {kind:#x} DPL {dpl} present {present} RPL {rpl}"),
                    &|a| {
                        set_descriptor(a, SPARE, image)?;
                        a.mov(edx, i32::from(SPARE | rpl))?;
                        a.mov(eax, 0x5555)?;
                        a.mov(ebx, 0x6666)?;
                        a.lar(eax, edx)?;
                        a.setz(cl)?;
                        a.lsl(ebx, edx)?;
                        a.setz(ch)?;
                        a.verr(dx)?;
                        a.pushfd()?;
                        a.pop(esi)?;
                        a.verw(dx)?;
                        a.pushfd()?;
                        a.pop(edi)
                    },
                );
            }
        }
    }
    for (what, first, second) in [("raises", 0x10, 0x13), ("leaves", 0x13, 0x10), ("equal", 0x22, 0x32)] {
        guest.case(format!("ARPL {what}"), &|a| {
            a.mov(eax, first)?;
            a.mov(ebx, second)?;
            a.arpl(ax, bx)
        });
    }
    system_registers(&mut guest);
    guest
}

/// Accesses of four bytes around the limits of segments of every data type and readable code.
pub fn limits() -> SystemGuest {
    let mut guest = frame32::guest("segment limits", Paging::Off);
    for (what, access, flags, limit) in [
        ("expand-up", DATA_ACCESS, 4, 0xfff),
        ("expand-up pages", DATA_ACCESS, 0xc, 0),
        ("read-only", DATA_ACCESS & !2, 4, 0xfff),
        ("expand-down 32", DATA_ACCESS | 4, 4, 0xfff),
        ("expand-down 16", DATA_ACCESS | 4, 0, 0xfff),
        ("expand-down pages", DATA_ACCESS | 4, 0xc, 0),
        ("readable code", CODE_ACCESS, 4, 0xfff),
        ("execute-only code", CODE_ACCESS & !2, 4, 0xfff),
    ] {
        let image = descriptor(PAGES, limit, access, flags);
        for offset in [0, 0xffc, 0xffd, 0xfff, 0x1000, 0xfffc, 0xfffd, 0xffff_fffcu32, 0xffff_fffe] {
            for write in [false, true] {
                // At the top of the address space there is no memory to compare.
                let wraps = offset > 0xffff;
                guest.case(format!("{what} segment, offset {offset:#x}, write {write}"), &|a| {
                    set_descriptor(a, SPARE, image)?;
                    a.mov(eax, i32::from(SPARE))?;
                    a.mov(es, eax)?;
                    a.mov(esi, offset)?;
                    match (write, wraps) {
                        (true, _) => a.mov(dword_ptr(esi).es(), esi),
                        (false, _) => a.mov(ebx, dword_ptr(esi).es()),
                    }
                });
            }
        }
    }
    guest.case("a null segment is not for use", &|a| {
        a.xor(eax, eax)?;
        a.mov(fs, eax)?;
        a.mov(eax, dword_ptr(0x600).fs())
    });
    guest.case("a stack access beyond the limit is #SS", &|a| {
        set_descriptor(a, SPARE, descriptor(0, 0x7fff, DATA_ACCESS, 4))?;
        a.mov(eax, i32::from(SPARE))?;
        a.mov(ss, eax)?;
        a.mov(ebx, dword_ptr(ebp + 0x7ffd))
    });
    guest.case("a code fetch beyond the limit", &|a| {
        set_descriptor(a, SPARE, descriptor(0, 0x7d00, CODE_ACCESS, 4))?;
        // A jump to the last byte of the segment, where an instruction of two bytes begins.
        a.mov(word_ptr(0x7d00), 0x30cd)?;
        a.db(&[0xea])?;
        a.dd(&[0x7d00])?;
        a.dw(&[SPARE])
    });
    guest
}

fn system_registers(guest: &mut SystemGuest) {
    guest.case("LDT: load, use, and its own limit", &|a| {
        a.mov(dword_ptr(LDT + 8), 0x0000_ffff)?;
        a.mov(dword_ptr(LDT + 12), 0x00cf_9300)?;
        a.mov(eax, i32::from(LOCAL))?;
        a.lldt(ax)?;
        a.mov(eax, 0xc)?;
        a.mov(gs, eax)?;
        a.mov(eax, 0x24)?;
        a.mov(fs, eax)
    });
    for (what, selector) in
        [("data", DATA0), ("null", 0), ("a local", LOCAL | 4), ("beyond", 0x100), ("TSS", OTHER_TASK)]
    {
        guest.case(format!("LLDT of {what}"), &|a| {
            a.mov(eax, i32::from(selector))?;
            a.lldt(ax)
        });
    }
    for (what, selector) in
        [("data", DATA0), ("a local", LOCAL | 4), ("beyond", 0x100), ("busy", TASK), ("null", 0)]
    {
        guest.case(format!("LTR of {what}"), &|a| {
            a.mov(eax, i32::from(selector))?;
            a.ltr(ax)
        });
    }
}
