//! What translated code computes with: the state it holds, addresses of code, and constants.

use super::Translator;
use cranelift_codegen::ir::types::{I64, Type};
use cranelift_codegen::ir::{InstBuilder, InstructionData, Opcode, Value, ValueDef};
use rx86_cpu::op::reg;

impl Translator<'_> {
    pub(crate) fn load_state(&mut self, offset: usize) -> Value {
        self.builder.ins().load(I64, self.regions.state, self.state, offset as i32)
    }

    pub(crate) fn store_state(&mut self, value: Value, offset: usize) {
        self.builder.ins().store(self.regions.state, value, self.state, offset as i32);
    }

    /// Loads a field of `JitContext` in a cold block, whatever is known of it elsewhere: a value that only cold blocks use must
    /// not take a register all the way there. An address of its own keeps Cranelift from seeing that it is the same field.
    pub(crate) fn load_cold(&mut self, offset: usize) -> Value {
        let address = self.builder.ins().iadd_imm_s(self.context, offset as i64);
        self.builder.ins().load(I64, self.regions.exchange, address, 0)
    }

    pub(crate) fn store_exchange(&mut self, value: Value, offset: usize) {
        self.builder.ins().store(self.regions.exchange, value, self.context, offset as i32);
    }

    /// RIP at `offset` bytes from the region's start. It is always relative, so a region does not depend on the linear
    /// address it runs at.
    pub(crate) fn rip_at(&mut self, offset: i64) -> Value {
        self.add_constant(self.entry_rip, offset as u64)
    }

    /// RIP as instructions see it: behind the current one.
    pub(crate) fn next_rip(&mut self, displacement: u64) -> Value {
        self.rip_at(self.end.wrapping_add(displacement as i64))
    }

    /// If `value` is an RIP at a fixed distance from the region's start: that distance.
    pub(super) fn static_offset(&self, value: Value) -> Option<i64> {
        let value = self.builder.func.dfg.resolve_aliases(value);
        if value == self.entry_rip {
            return Some(0);
        }
        let InstructionData::Binary { opcode: Opcode::Iadd, args } = self.definition(value)? else {
            return None;
        };
        let constant = self.constant_value(args[1])?;
        Some(self.static_offset(args[0])?.wrapping_add(constant as i64))
    }

    pub(crate) fn add_constant(&mut self, value: Value, constant: u64) -> Value {
        if constant == 0 { value } else { self.builder.ins().iadd_imm_s(value, constant as i64) }
    }

    /// All 64 bits of the register in a slot of `Vcpu::regs`.
    pub(crate) fn register(&mut self, slot: u8) -> Value {
        let number = match slot & 31 {
            reg::RIP => return self.next_rip(0),
            number @ 0..16 => usize::from(number),
            _ => return self.builder.ins().iconst(I64, 0),
        };
        if let Some(value) = self.held.registers[number] {
            return value;
        }
        let value = self.builder.use_var(self.registers[number]);
        *self.held.registers[number].insert(value)
    }

    /// Replaces all 64 bits of a general register.
    pub(crate) fn set_register(&mut self, slot: u8, value: Value) {
        let number = usize::from(slot & 15);
        self.held.registers[number] = Some(value);
        self.held.dirty |= 1 << number;
    }

    /// The low bits of `value` that make an integer of type `width`, zero-extended.
    pub(crate) fn cut_to(&mut self, value: Value, width: Type) -> Value {
        if let Some(constant) = self.constant_value(value) {
            let kept = u64::MAX >> (64 - width.bits());
            return if constant & !kept == 0 {
                value
            } else {
                self.builder.ins().iconst(I64, (constant & kept) as i64)
            };
        }
        match self.cut {
            _ if width == I64 || self.significant_bits(value) <= width.bits() => value,
            Some((of, to, result)) if (of, to) == (value, width) => result,
            _ => {
                let low = self.builder.ins().ireduce(width, value);
                let result = self.builder.ins().uextend(I64, low);
                self.cut = Some((value, width, result));
                result
            }
        }
    }

    /// How many of a 64-bit value's low bits may be other than zero, as far as what computes it says.
    pub(crate) fn significant_bits(&self, value: Value) -> u32 {
        match self.definition(value) {
            Some(InstructionData::Load { opcode: Opcode::Uload8, .. }) => 8,
            Some(InstructionData::Load { opcode: Opcode::Uload16, .. }) => 16,
            Some(InstructionData::Load { opcode: Opcode::Uload32, .. }) => 32,
            Some(InstructionData::Unary { opcode: Opcode::Uextend, arg }) => {
                self.builder.func.dfg.value_type(arg).bits()
            }
            _ => 64,
        }
    }

    /// The low bits of `value` as an integer of type `width`.
    pub(crate) fn low_bits(&mut self, value: Value, width: Type) -> Value {
        match self.definition(value) {
            _ if width == I64 => value,
            Some(InstructionData::Unary { opcode: Opcode::Uextend, arg })
                if self.builder.func.dfg.value_type(arg) == width =>
            {
                arg
            }
            _ => self.builder.ins().ireduce(width, value),
        }
    }

    /// The value of an `iconst`.
    pub(crate) fn constant_value(&self, value: Value) -> Option<u64> {
        match self.definition(value)? {
            InstructionData::UnaryImm { imm, .. } => Some(imm.bits() as u64),
            _ => None,
        }
    }

    /// The instruction that computes a value; None if it is a parameter.
    fn definition(&self, value: Value) -> Option<InstructionData> {
        let graph = &self.builder.func.dfg;
        match graph.value_def(graph.resolve_aliases(value)) {
            ValueDef::Result(instruction, _) => Some(graph.insts[instruction]),
            _ => None,
        }
    }
}
