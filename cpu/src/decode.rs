//! From instruction bytes to an `Op` and its meaning (KVM's `x86_decode_insn`). iced-x86 decodes; this file turns its
//! instruction into the compact form and asks the families for the meaning.

use crate::exception::Exception;
use crate::features::CpuModel;
use crate::mode::ModeKey;
use crate::op::{AddressForm, Op, op_flags, reg};
use crate::ops::{Hard, Meaning, MicroOps};
use crate::vector_ops::VectorOps;
use crate::{availability, integer, simd, system, x87};
use iced_x86::{Code, Decoder, DecoderError, Instruction, Mnemonic, OpKind, Register};

/// The longest instruction (SDM vol. 2, 2.3.11).
pub const MAX_INSTRUCTION_BYTES: usize = 15;

/// How an instruction is executed.
pub enum Semantics<M: MicroOps> {
    /// Written in micro-operations.
    Inline(Meaning<M>),
    /// A plain function on the processor.
    Hard(Hard),
}

/// One decoded instruction with its meaning for engine `M`.
pub struct Decoded<M: MicroOps> {
    /// The operands.
    pub op: Op,
    /// The meaning.
    pub semantics: Semantics<M>,
    /// Whether the instruction ends a block, because it may continue elsewhere.
    pub ends_block: bool,
    /// Whether all that it reads and changes are memory and the registers and flags that iced-x86 lists, vector and x87
    /// state apart: it is no system instruction.
    pub contained: bool,
}

/// Why no instruction could be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeFailure {
    /// The bytes end before the instruction does; with more bytes it may be valid.
    NeedMoreBytes,
    /// The instruction is longer than 15 bytes: #GP(0).
    TooLong,
}

/// Decodes the instruction at the start of `bytes` (at most 15 are looked at).
///
/// An instruction that is invalid, or that the mode or the CPU model does not offer, decodes to one that raises the
/// exception the SDM gives it.
pub fn decode<M: VectorOps>(
    bytes: &[u8],
    mode: ModeKey,
    model: &CpuModel,
) -> Result<Decoded<M>, DecodeFailure> {
    Decoding::new(bytes, mode, model).decode(model)
}

/// Decodes one instruction after the other; the first of them as `decode` does.
pub struct Decoding<'a> {
    bytes: &'a [u8],
    mode: ModeKey,
    decoder: Decoder<'a>,
}

impl<'a> Decoding<'a> {
    /// Of the code in `bytes`.
    pub fn new(bytes: &'a [u8], mode: ModeKey, model: &CpuModel) -> Self {
        let decoder = Decoder::with_ip(mode.code_bits(), bytes, 0, model.decoder_options());
        Self { bytes, mode, decoder }
    }

    /// The bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.decoder.position()..]
    }

    /// Decodes the next instruction. After a failure, there is none.
    pub fn decode<M: VectorOps>(&mut self, model: &CpuModel) -> Result<Decoded<M>, DecodeFailure> {
        let rest = self.rest();
        // Displacements are from there.
        self.decoder.set_ip(0);
        let instruction = self.decoder.decode();
        if !instruction.is_invalid() {
            return Ok(complete(&instruction, rest, self.mode, model));
        }
        let decoded = decode_invalid(rest, self.mode, model)?;
        let position = self.bytes.len() - rest.len() + usize::from(decoded.op.length);
        self.decoder.set_position(position).map_err(|_| DecodeFailure::NeedMoreBytes)?;
        Ok(decoded)
    }
}

/// Decodes an instruction that is not valid, or whose bytes end before it does.
#[cold]
fn decode_invalid<M: VectorOps>(
    bytes: &[u8],
    mode: ModeKey,
    model: &CpuModel,
) -> Result<Decoded<M>, DecodeFailure> {
    let bytes = &bytes[..bytes.len().min(MAX_INSTRUCTION_BYTES)];
    let mut decoder = Decoder::with_ip(mode.code_bits(), bytes, 0, model.decoder_options());
    let instruction = decoder.decode();
    if instruction.is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes {
        return Err(if bytes.len() < MAX_INSTRUCTION_BYTES {
            DecodeFailure::NeedMoreBytes
        } else {
            DecodeFailure::TooLong
        });
    }
    if instruction.is_invalid() && bytes.len() == MAX_INSTRUCTION_BYTES && is_cut_short(bytes, mode, model) {
        return Err(DecodeFailure::TooLong);
    }
    Ok(complete(&instruction, bytes, mode, model))
}

/// What `instruction`, decoded from the start of `bytes`, is to an engine.
fn complete<M: VectorOps>(
    instruction: &Instruction,
    bytes: &[u8],
    mode: ModeKey,
    model: &CpuModel,
) -> Decoded<M> {
    let op = compact(instruction, &bytes[..instruction.len()], mode);
    let (semantics, contained) = match availability::check(instruction, mode, model) {
        Ok(()) => meaning(instruction, &op),
        Err(exception) => (Semantics::Hard(raiser(exception)), false),
    };
    let ends_block = availability::ends_block(instruction.code());
    Decoded { op, semantics, ends_block, contained }
}

/// Whether 15 bytes end before their instruction does. iced-x86 tells that only of fewer bytes, so one prefix is left out:
/// an instruction of that length has one to spare.
fn is_cut_short(bytes: &[u8], mode: ModeKey, model: &CpuModel) -> bool {
    let mut decoder = Decoder::with_ip(mode.code_bits(), &bytes[1..], 0, model.decoder_options());
    decoder.decode().is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes
}

/// The meaning of an available instruction: each family is asked; what nobody knows is an invalid opcode.
///
/// The second value is `Decoded::contained`.
fn meaning<M: VectorOps>(instruction: &Instruction, op: &Op) -> (Semantics<M>, bool) {
    if let Some(meaning) = integer::select::<M>(instruction, op) {
        return (Semantics::Inline(meaning), true);
    }
    if let Some(meaning) = simd::select_meaning::<M>(instruction) {
        return (Semantics::Inline(meaning), true);
    }
    if let Some(hard) = integer::select_hard(instruction) {
        return (Semantics::Hard(hard), true);
    }
    if let Some(hard) = system::select(instruction) {
        return (Semantics::Hard(hard), false);
    }
    match simd::select(instruction).or_else(|| x87::select(instruction)) {
        Some(hard) => (Semantics::Hard(hard), true),
        None => (Semantics::Hard(raiser(Exception::UD)), false),
    }
}

/// The function that raises `exception`.
fn raiser(exception: Exception) -> Hard {
    match exception.vector {
        7 => |_, _| Err(Exception::NM),
        _ => |_, _| Err(Exception::UD),
    }
}

/// What the legacy prefixes and REX say about sizes; iced-x86 folds them into its codes.
struct Sizes {
    operand_prefix: bool,
    address_prefix: bool,
    rex_w: bool,
}

fn scan_prefixes(bytes: &[u8], long64: bool) -> Sizes {
    let mut sizes = Sizes { operand_prefix: false, address_prefix: false, rex_w: false };
    for &byte in bytes {
        match byte {
            0x66 => sizes.operand_prefix = true,
            0x67 => sizes.address_prefix = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3 => {}
            0x40..=0x4f if long64 => {
                sizes.rex_w = byte & 8 != 0;
                break;
            }
            _ => break,
        }
    }
    sizes
}

fn size_flags(instruction: &Instruction, bytes: &[u8], mode: ModeKey) -> u8 {
    let sizes = scan_prefixes(bytes, mode.has(ModeKey::LONG64));
    let operand = match (instruction.op0_kind(), mode.code_bits()) {
        (OpKind::NearBranch64, _) => op_flags::OPERAND64,
        (_, 64) if sizes.rex_w => op_flags::OPERAND64,
        (_, 16) if !sizes.operand_prefix => op_flags::OPERAND16,
        (_, 32 | 64) if sizes.operand_prefix => op_flags::OPERAND16,
        _ => 0,
    };
    let address = match (mode.code_bits(), sizes.address_prefix) {
        (64, false) => op_flags::ADDRESS64,
        (32, true) | (16, false) => op_flags::ADDRESS16,
        _ => 0,
    };
    let set = |condition: bool, bit: u8| if condition { bit } else { 0 };
    let memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    let locked = instruction.has_lock_prefix() || (memory && instruction.mnemonic() == Mnemonic::Xchg);
    operand
        | address
        | set(memory, op_flags::MEMORY)
        | set(locked, op_flags::LOCK)
        | set(instruction.has_rep_prefix(), op_flags::REP)
        | set(instruction.has_repne_prefix(), op_flags::REPNE)
}

/// Fills in the compact form of `instruction`.
pub(crate) fn compact(instruction: &Instruction, bytes: &[u8], mode: ModeKey) -> Op {
    let mut op = Op {
        immediate: 0,
        displacement: 0,
        code: instruction.code() as u16,
        regs: [reg::NONE; 4],
        base: reg::ZERO,
        index: reg::ZERO,
        scale: 0,
        segment: segment_number(instruction.memory_segment()),
        form: AddressForm::Checked,
        length: bytes.len() as u8,
        flags: size_flags(instruction, bytes, mode),
    };
    op.form = address_form(&op, mode);
    for i in 0..instruction.op_count().min(4) {
        match instruction.op_kind(i) {
            OpKind::Register => op.regs[i as usize] = register_operand(instruction.op_register(i)),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                op.immediate = instruction.near_branch_target().wrapping_sub(instruction.next_ip());
            }
            OpKind::FarBranch16 | OpKind::FarBranch32 => {
                op.immediate =
                    u64::from(instruction.far_branch32().max(u32::from(instruction.far_branch16())));
                op.displacement = i32::from(instruction.far_branch_selector());
            }
            OpKind::Immediate8_2nd => op.displacement = i32::from(instruction.immediate8_2nd()),
            OpKind::Memory => memory_operand(&mut op, instruction),
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => op.immediate = instruction.immediate(i),
            _ => {}
        }
    }
    op
}

fn address_form(op: &Op, mode: ModeKey) -> AddressForm {
    if !mode.has(ModeKey::LONG64) || mode.has(ModeKey::ALIGNMENT) || !op.has(op_flags::ADDRESS64) {
        AddressForm::Checked
    } else if op.segment >= 4 {
        AddressForm::Based
    } else {
        AddressForm::Flat
    }
}

fn memory_operand(op: &mut Op, instruction: &Instruction) {
    op.scale = instruction.memory_index_scale().trailing_zeros() as u8;
    op.index = address_register(instruction.memory_index());
    let displacement = instruction.memory_displacement64();
    if instruction.is_ip_rel_memory_operand() {
        op.base = reg::RIP;
        op.displacement = displacement.wrapping_sub(instruction.next_ip()) as i32;
    } else {
        op.base = address_register(instruction.memory_base());
        op.displacement = displacement as i32;
        // Only the accumulator's absolute moves have 64 bits of address, and those have no immediate.
        if is_absolute_move(instruction.code()) {
            op.immediate = displacement;
        }
    }
}

/// MOV between the accumulator and an absolute offset (opcodes A0 to A3).
pub fn is_absolute_move(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        Mov_AL_moffs8
            | Mov_AX_moffs16
            | Mov_EAX_moffs32
            | Mov_RAX_moffs64
            | Mov_moffs8_AL
            | Mov_moffs16_AX
            | Mov_moffs32_EAX
            | Mov_moffs64_RAX
    )
}

fn address_register(register: Register) -> u8 {
    match register {
        Register::None => reg::ZERO,
        Register::RIP | Register::EIP => reg::RIP,
        other => other.number() as u8,
    }
}

fn segment_number(register: Register) -> u8 {
    if register.is_segment_register() { register.number() as u8 } else { 3 }
}

fn register_operand(register: Register) -> u8 {
    match register {
        Register::AH => reg::HIGH_BYTE,
        Register::CH => reg::HIGH_BYTE | 1,
        Register::DH => reg::HIGH_BYTE | 2,
        Register::BH => reg::HIGH_BYTE | 3,
        other if other.is_gpr() => other.full_register().number() as u8,
        other => other.number() as u8,
    }
}
