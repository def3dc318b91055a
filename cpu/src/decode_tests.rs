//! A sweep over opcodes: whatever the mode and the model offer has a meaning, and nothing makes the decoder panic.

use crate::cpu::Cpu;
use crate::features::CpuModel;
use crate::mode::ModeKey;
use crate::{availability, decode, integer, simd, system, x87};
use iced_x86::{Decoder, Instruction, Mnemonic};
use std::collections::BTreeSet;

/// Instructions that are #UD by definition here: reserved for that, or only for system-management mode.
const UNDEFINED: &[Mnemonic] = &[Mnemonic::Ud0, Mnemonic::Ud1, Mnemonic::Ud2];

/// Calls `look` with the bytes of every opcode under every mandatory prefix, with enough ModRM bytes to meet all its forms.
fn sweep(long: bool, mut look: impl FnMut(&[u8])) {
    let maps: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    let prefixes: [&[u8]; 4] = [&[], &[0x66], &[0xf3], &[0xf2]];
    let rex: &[&[u8]] = if long { &[&[], &[0x48]] } else { &[&[]] };
    for map in maps {
        for prefix in prefixes {
            for rex in rex {
                for opcode in 0..=255u8 {
                    for modrm in 0..=255u8 {
                        let mut bytes = [prefix, rex, map].concat();
                        bytes.extend([opcode, modrm, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                        look(&bytes);
                    }
                }
            }
        }
    }
    sweep_vex(&mut look);
}

/// The same for the three-byte VEX prefix, with all lengths and W, and with and without a second source.
fn sweep_vex(look: &mut impl FnMut(&[u8])) {
    for map in 1..=3u8 {
        for rest in 0..=255u8 {
            // VEX.vvvv is 1111b for "no operand"; 0111b names a register.
            if !matches!(rest >> 3 & 15, 0b1111 | 0b0111) {
                continue;
            }
            for opcode in 0..=255u8 {
                for modrm in 0..=255u8 {
                    look(&[0xc4, 0xe0 | map, rest, opcode, modrm, 0x11, 0, 0, 0, 0]);
                }
            }
        }
    }
}

fn has_meaning(instruction: &Instruction, bytes: &[u8], mode: ModeKey) -> bool {
    let op = decode::compact(instruction, bytes, mode);
    integer::select::<Cpu>(instruction, &op).is_some()
        || integer::select_hard(instruction).is_some()
        || system::select(instruction).is_some()
        || simd::select_meaning::<Cpu>(instruction).is_some()
        || simd::select(instruction).is_some()
        || x87::select(instruction).is_some()
}

#[test]
fn whatever_is_offered_has_a_meaning() {
    let model = CpuModel::max();
    let enabled = ModeKey::PROTECTED | ModeKey::OSFXSR | ModeKey::OSXSAVE | ModeKey::AVX;
    let mut missing = BTreeSet::new();
    for mode in [ModeKey(enabled | ModeKey::LONG64), ModeKey(enabled | ModeKey::CODE32)] {
        sweep(mode.has(ModeKey::LONG64), |bytes| {
            let instruction = Decoder::with_ip(mode.code_bits(), bytes, 0, model.decoder_options()).decode();
            if availability::check(&instruction, mode, &model).is_ok()
                && !UNDEFINED.contains(&instruction.mnemonic())
                && !has_meaning(&instruction, &bytes[..instruction.len()], mode)
            {
                missing.insert(format!("{:?}", instruction.code()));
            }
        });
    }
    assert!(missing.is_empty(), "offered, but without a meaning: {missing:?}");
}
