//! Which vector registers a region's instructions use, and in which form each is best kept.

use iced_x86::{
    Decoder, DecoderOptions, EncodingKind, Instruction, InstructionInfoFactory, OpAccess, Register,
};

/// How an XMM register is kept between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 128 bits.
    Whole,
    /// Two quadwords.
    Halves,
}

/// The vector registers of a region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// For each register that is used, its kind.
    pub(crate) registers: [Option<Kind>; 16],
    /// Bit n: bits 128 to 255 of register n are used.
    pub(crate) uppers: u16,
    /// There is floating-point arithmetic.
    pub(crate) arithmetic: bool,
}

impl Plan {
    /// The plan for a region of this code.
    pub(crate) fn of<'a>(nodes: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut plan = Self::default();
        let mut factory = InstructionInfoFactory::new();
        // How often each register is used as a double, less how often in another way.
        let mut votes = [0i32; 16];
        for bytes in nodes {
            for instruction in Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE) {
                plan.note(&instruction, &mut factory, &mut votes);
            }
        }
        for (kind, votes) in plan.registers.iter_mut().zip(votes) {
            if kind.is_some() && votes > 0 {
                *kind = Some(Kind::Halves);
            }
        }
        plan
    }

    /// How many of the host's registers it takes to hold them all: two for 256 bits.
    pub(crate) fn host_registers(&self) -> u32 {
        self.registers.iter().flatten().count() as u32 + self.uppers.count_ones()
    }

    fn note(
        &mut self,
        instruction: &Instruction,
        factory: &mut InstructionInfoFactory,
        votes: &mut [i32; 16],
    ) {
        let vote = vote(instruction);
        for register in factory.info(instruction).used_registers() {
            let Some((number, upper)) = vector_register(register.register()) else { continue };
            // VZEROUPPER names all registers; those that nothing else uses need no variables.
            if register.access() != OpAccess::None && !is_zeroing(instruction) {
                self.registers[number].get_or_insert(Kind::Whole);
                votes[number] += vote;
            }
            // Every VEX instruction clears what is above the register it writes.
            let upper = upper || instruction.encoding() == EncodingKind::VEX;
            if upper && !is_zeroing(instruction) {
                self.uppers |= 1 << number;
            }
        }
        self.arithmetic |= is_arithmetic(instruction);
    }
}

fn is_zeroing(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), iced_x86::Mnemonic::Vzeroupper | iced_x86::Mnemonic::Vzeroall)
}

/// The number of a vector register that 64-bit code without EVEX names, and whether more than its XMM part is meant.
pub(crate) fn vector_register(register: Register) -> Option<(usize, bool)> {
    let number = register.number();
    (register.is_vector_register() && number < 16).then_some((number, !register.is_xmm()))
}

/// Whether the instruction says how its registers are best kept: as doubles if positive.
fn vote(instruction: &Instruction) -> i32 {
    use iced_x86::Mnemonic::*;
    match instruction.mnemonic() {
        // Copies and zeroing, and bitwise operations, which go with either.
        Movaps | Movapd | Movdqa | Vmovaps | Vmovapd | Vmovdqa | Pxor | Xorps | Xorpd | Andpd | Andps
        | Andnpd | Orpd | Vxorpd | Vxorps | Vandpd | Vandps | Vorpd => 0,
        Movsd | Vmovsd | Movq | Vmovq | Addsd | Subsd | Mulsd | Divsd | Sqrtsd | Minsd | Maxsd | Ucomisd
        | Comisd | Cvtsi2sd | Cvttsd2si | Cvtss2sd | Cvtsd2ss | Vaddsd | Vsubsd | Vmulsd | Vdivsd
        | Vsqrtsd | Vminsd | Vmaxsd | Vucomisd | Vcomisd | Vcvtsi2sd | Vcvttsd2si | Movhpd | Movlpd
        | Vfmadd132sd | Vfmadd213sd | Vfmadd231sd | Vfmsub132sd | Vfmsub213sd | Vfmsub231sd
        | Vfnmadd132sd | Vfnmadd213sd | Vfnmadd231sd | Vfnmsub132sd | Vfnmsub213sd | Vfnmsub231sd => 1,
        _ => -2,
    }
}

/// Whether the instruction computes in floating point.
pub(crate) fn is_arithmetic(instruction: &Instruction) -> bool {
    let name = format!("{:?}", instruction.mnemonic());
    let name = name.strip_prefix('V').unwrap_or(&name);
    let operation = |prefix: &str| name.starts_with(prefix);
    let kinds = ["ss", "sd", "ps", "pd"];
    let typed = kinds.iter().any(|kind| name.ends_with(kind));
    operation("Cvt")
        || operation("cvt")
        || typed
            && [
                "add", "sub", "mul", "div", "sqrt", "min", "max", "cmp", "ucomi", "comi", "fm", "fnm",
                "round", "hadd", "hsub", "addsub", "dp",
            ]
            .iter()
            .any(|prefix| name.to_ascii_lowercase().starts_with(prefix))
}
