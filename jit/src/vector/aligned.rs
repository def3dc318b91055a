//! Alignment of vector operands: what has been seen to be aligned is not looked at again a multiple of its size further on.

use crate::translator::Translator;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, InstructionData, Opcode, Value, ValueDef};

/// Addresses known to be multiples of some size: a value, plus a constant.
#[derive(Clone, Default)]
pub(crate) struct Aligned(Vec<(Value, u64, u64)>);

impl Aligned {
    /// Whether `value + offset` is a multiple of `bytes`, a power of two.
    fn knows(&self, value: Value, offset: u64, bytes: u64) -> bool {
        let says = |&(other, at, size): &(Value, u64, u64)| {
            other == value && size >= bytes && offset.wrapping_sub(at) & (bytes - 1) == 0
        };
        self.0.iter().any(says)
    }
}

impl Translator<'_> {
    /// Leaves before the current instruction unless `linear` is a multiple of `bytes`, a power of two.
    pub(super) fn require_aligned(&mut self, linear: Value, bytes: u64) {
        let (value, offset) = self.parts_of(linear);
        if self.lookups.aligned.knows(value, offset, bytes) {
            return;
        }
        let low = self.builder.ins().band_imm_u(linear, bytes as i64 - 1);
        let is_aligned = self.builder.ins().icmp_imm_u(IntCC::Equal, low, 0);
        self.side_exit_unless(is_aligned);
        self.lookups.aligned.0.push((value, offset, bytes));
    }

    /// A value as another one plus a constant.
    fn parts_of(&self, value: Value) -> (Value, u64) {
        let graph = &self.builder.func.dfg;
        let (mut value, mut offset) = (graph.resolve_aliases(value), 0u64);
        while let ValueDef::Result(instruction, _) = graph.value_def(value) {
            let InstructionData::Binary { opcode, args } = graph.insts[instruction] else { break };
            let Some(constant) = self.constant_value(args[1]) else { break };
            offset = match opcode {
                Opcode::Iadd => offset.wrapping_add(constant),
                Opcode::Isub => offset.wrapping_sub(constant),
                _ => break,
            };
            value = graph.resolve_aliases(args[0]);
        }
        (value, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiple_further_on_is_aligned_too() {
        let [one, other] = [1, 2].map(Value::from_u32);
        let aligned = Aligned(vec![(one, 8, 16)]);
        assert!(aligned.knows(one, 8u64.wrapping_sub(32), 16));
        assert!(aligned.knows(one, 0, 8));
        assert!(!aligned.knows(one, 0, 16));
        assert!(!aligned.knows(one, 8, 32));
        assert!(!aligned.knows(other, 8, 16));
    }
}
