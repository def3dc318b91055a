//! Generated cases: any form of any instruction, with operands and inputs chosen at random.

use super::family::{Family, host_has_ymm, shape_of};
use super::operands::Builder;
use super::random::Random;
use super::values;
use crate::oracle::state::FLAGS;
use crate::oracle::{DATA, Mode, PAGE, Program};
use iced_x86::{Code, Encoder, FlowControl, Instruction, Mnemonic, OpCodeOperandKind};

/// A random case of the form `code` in `mode`, or `None` if the generator cannot build it.
pub fn generate(code: Code, mode: Mode, random: &mut Random) -> Option<Program> {
    let family = shape_of(code, mode)?;
    let mut program = Program::in_mode(mode, Vec::new());
    registers(&mut program, random);
    inputs_of(family, &mut program, random);
    memory(&mut program, random);
    let here = program.ip();
    let instruction = operands(code, &mut program, here, random)?;
    let mut encoder = Encoder::new(mode.bits());
    encoder.encode(&instruction, here).ok()?;
    program.code = encoder.take_buffer();
    Some(program)
}

/// Registers of all families and memory, for a program of many instructions.
pub(super) fn inputs(mode: Mode, families: &[Family], random: &mut Random) -> Program {
    let mut program = Program::in_mode(mode, Vec::new());
    registers(&mut program, random);
    for &family in families {
        inputs_of(family, &mut program, random);
    }
    memory(&mut program, random);
    program
}

/// The registers that instructions of `family` read.
fn inputs_of(family: Family, program: &mut Program, random: &mut Random) {
    match family {
        Family::X87 => x87(program, random),
        Family::Mmx => mmx(program, random),
        Family::Sse | Family::Crypto | Family::Avx | Family::Avx2 | Family::Fma => sse(program, random),
        _ => {}
    }
}

fn registers(program: &mut Program, random: &mut Random) {
    for register in &mut program.state.gpr {
        *register = values::integer(random);
    }
    program.state.gpr[4] = DATA + PAGE as u64 + 8 * random.below(32) - 128 - program.mode.data_base();
    if random.percent(10) {
        program.state.gpr[4] -= random.below(8);
    }
    if random.percent(3) {
        program.state.gpr[4] = values::integer(random);
    }
    if program.mode != Mode::Bits64 {
        program.state.narrow();
        program.state.gpr[8..].fill(0);
    }
    program.state.rflags = random.bits() & FLAGS;
    if random.percent(5) {
        // The last bytes of the first code page, so that the instruction continues in the next.
        program.at = PAGE - 1 - random.below(6) as usize;
    }
}

/// The windows that addresses are chosen in.
fn memory(program: &mut Program, random: &mut Random) {
    values::fill(random, &mut program.memory[PAGE - 256..PAGE + 256]);
    values::fill(random, &mut program.memory[2 * PAGE - 256..]);
    values::fill(random, &mut program.memory[..128]);
}

fn sse(program: &mut Program, random: &mut Random) {
    for i in 0..16 {
        program.state.set_xmm(i, values::vector(random));
        if host_has_ymm() {
            program.state.ymm_high[i] = values::vector(random);
        }
    }
    let masks = if random.percent(80) { 0x1f80 } else { random.bits() as u32 & 0x1f80 };
    let sticky = if random.percent(50) { 0 } else { random.bits() as u32 & 0x3f };
    let rounding = (random.below(4) as u32) << 13;
    let modes = if random.percent(70) { 0 } else { random.bits() as u32 & 0x8040 };
    program.state.set_mxcsr(masks | sticky | rounding | modes);
}

fn x87(program: &mut Program, random: &mut Random) {
    let state = &mut program.state;
    for i in 0..8 {
        let value = values::extended(random);
        state.set_st(i, value);
    }
    let masks = if random.percent(80) { 0x3f } else { random.bits() as u16 & 0x3f };
    let precision = random.pick(&[0u16, 2, 3, 3, 3, 3]) << 8;
    let rounding = (random.below(4) as u16) << 10;
    state.set_fcw(0x40 | masks | precision | rounding);
    let mut status = random.bits() as u16 & 0x7f00;
    if random.percent(40) {
        status |= random.bits() as u16 & 0x3f;
    }
    if random.percent(90) {
        // Nothing unmasked waits.
        status &= masks | 0xffc0;
    }
    if status & 0x3f & !masks != 0 {
        status |= 0x8080;
    }
    if status & 1 == 0 {
        status &= !0x40;
    }
    state.set_fsw(status);
    state.set_ftw(if random.percent(75) { 0xff } else { random.bits() as u8 });
}

fn mmx(program: &mut Program, random: &mut Random) {
    sse(program, random);
    let state = &mut program.state;
    for i in 0..8 {
        state.set_st(i, 0xffff << 64 | values::vector(random) & u128::from(u64::MAX));
    }
    state.set_fsw(random.bits() as u16 & 0x7f00);
    state.set_ftw(if random.percent(50) { 0 } else { random.bits() as u8 });
}

/// An instruction of the form `code` at the address `here`, with operands that suit the program's registers and memory.
pub(super) fn operands(
    code: Code,
    program: &mut Program,
    here: u64,
    random: &mut Random,
) -> Option<Instruction> {
    let info = code.op_code();
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    let memory = random.percent(50);
    // The size that decides alignment is the same for all encodings of the form.
    let mut builder = Builder {
        instruction,
        program,
        random,
        memory,
        aligned: false,
        target: 0,
        here,
        string_bits: 0,
        bit_offset: matches!(
            instruction.mnemonic(),
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
        ),
    };
    builder.choose_string_bits();
    let lock = memory && info.can_use_lock_prefix() && builder.random.percent(30);
    builder.aligned = lock || builder.random.percent(50);
    builder.target = builder.window();
    if builder.aligned {
        builder.target &= !31;
    }
    if lock {
        // Locked accesses that cross a cache line are slow beyond measure on some hosts.
        builder.instruction.set_has_lock_prefix(true);
    }
    inputs_before(&mut builder);
    // Memory operands last: their address registers must keep their values.
    let kinds = info.op_kinds();
    for pass in 0..2 {
        for (index, &kind) in kinds.iter().enumerate() {
            if usize::from(may_be_memory(kind)) == pass && !builder.operand(index as u32, kind) {
                return None;
            }
        }
    }
    if info.can_use_rep_prefix() && builder.random.percent(50) {
        builder.instruction.set_has_rep_prefix(true);
    } else if info.can_use_repne_prefix() && builder.random.percent(50) && is_string(kinds) {
        builder.instruction.set_has_repne_prefix(true);
    }
    inputs_after(&mut builder);
    Some(builder.instruction)
}

fn is_string(kinds: &[OpCodeOperandKind]) -> bool {
    use OpCodeOperandKind::*;
    kinds.iter().any(|kind| matches!(kind, seg_rSI | es_rDI))
}

fn may_be_memory(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind::*;
    matches!(
        kind,
        mem | mem_offs
            | r8_or_mem
            | r16_or_mem
            | r32_or_mem
            | r64_or_mem
            | mm_or_mem
            | xmm_or_mem
            | ymm_or_mem
            | mem_vsib32x
            | mem_vsib64x
            | mem_vsib32y
            | mem_vsib64y
            | seg_rBX_al
            | seg_rSI
            | es_rDI
            | seg_rDI
    )
}

/// Inputs that random values would hardly ever hit.
fn inputs_before(builder: &mut Builder<'_>) {
    use Mnemonic::*;
    let mnemonic = builder.instruction.mnemonic();
    match mnemonic {
        Div | Idiv if builder.random.percent(70) => {
            let high = builder.random.below(16);
            let negative = mnemonic == Idiv && builder.random.percent(50);
            builder.program.state.gpr[2] = if negative { high.wrapping_neg() } else { high };
            builder.program.state.gpr[0] &= if builder.random.percent(50) { 0xfff } else { u64::MAX };
        }
        Leave | Enter => {
            let frame = builder.window();
            let frame = builder.offset_of(frame);
            builder.program.state.gpr[5] = frame & if builder.aligned { !7 } else { !0 };
        }
        _ => {}
    }
}

fn write(builder: &mut Builder<'_>, address: u64, bytes: &[u8]) {
    let at = address.wrapping_sub(DATA) as usize;
    if let Some(place) = at.checked_add(bytes.len()).and_then(|end| builder.program.memory.get_mut(at..end)) {
        place.copy_from_slice(bytes);
    }
}

fn inputs_after(builder: &mut Builder<'_>) {
    use Mnemonic::*;
    let gpr = &builder.program.state.gpr;
    match builder.instruction.mnemonic() {
        // Half of the comparisons are to succeed.
        Cmpxchg if builder.random.percent(50) => {
            let accumulator = gpr[0].to_le_bytes();
            let target = builder.target;
            write(builder, target, &accumulator);
        }
        Cmpxchg8b if builder.random.percent(50) => {
            let value = u64::from(gpr[0] as u32) | gpr[2] << 32;
            let target = builder.target;
            write(builder, target, &value.to_le_bytes());
        }
        Cmpxchg16b if builder.random.percent(50) => {
            let value = u128::from(gpr[0]) | u128::from(gpr[2]) << 64;
            let target = builder.target;
            write(builder, target, &value.to_le_bytes());
        }
        Maskmovq | Maskmovdqu | Vmaskmovdqu => {
            builder.program.state.gpr[7] = builder.offset_of(builder.target)
        }
        _ => {}
    }
    let flow = builder.instruction.flow_control();
    if flow == FlowControl::Return {
        let stack = builder.program.state.gpr[4].wrapping_add(builder.program.mode.data_base());
        let target = builder.code_address();
        let bytes = builder.instruction.stack_pointer_increment().clamp(2, 8) as usize;
        write(builder, stack, &target.to_le_bytes()[..bytes]);
    } else if matches!(flow, FlowControl::IndirectBranch | FlowControl::IndirectCall) {
        let target = builder.code_address();
        if builder.memory {
            let place = builder.target;
            write(builder, place, &target.to_le_bytes());
        } else {
            let register = builder.instruction.op0_register();
            builder.program.state.gpr[register.number()] = target;
        }
    }
}
