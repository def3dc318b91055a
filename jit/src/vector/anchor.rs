//! Makes sure that floating-point operations are executed for their flags, even where nobody needs their result: what is
//! not computed on every way from its place is stored there.
//!
//! Values are computed where they are needed: Cranelift moves what has no effect to its uses, or drops it. So an operation
//! is executed on every way if on every way something with an effect (a store, a branch, a call) needs it. That is a backward
//! analysis over the blocks, of the operations and of what is computed from them. A function that looks at MXCSR ends a way.

use super::Vectors;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{
    Block, Function, Inst, InstBuilder, MemFlagsData, Opcode, StackSlotData, StackSlotKind, Value,
};

/// A set of values by their index in `Needs::values`.
type Set = Vec<u64>;

fn contains(set: &Set, index: usize) -> bool {
    set[index / 64] >> (index % 64) & 1 != 0
}

fn insert(set: &mut Set, index: usize) {
    set[index / 64] |= 1 << (index % 64);
}

/// What is needed on every way.
struct Needs {
    /// The values looked at: each comes behind those that it is computed from.
    values: Vec<Value>,
    /// The index of a value, plus one.
    indices: SecondaryMap<Value, u32>,
    /// For each value, those that it is computed from.
    operands: Vec<Vec<usize>>,
    /// For each block, what is needed on every way from its beginning.
    blocks: SecondaryMap<Block, Set>,
}

impl Needs {
    fn new(function: &Function, vectors: &Vectors) -> Self {
        let mut is_operation: SecondaryMap<Value, bool> = SecondaryMap::new();
        for &operation in &vectors.operations {
            is_operation[operation] = true;
        }
        let mut needs = Self {
            values: Vec::new(),
            indices: SecondaryMap::new(),
            operands: Vec::new(),
            blocks: SecondaryMap::new(),
        };
        for block in function.layout.blocks() {
            for instruction in function.layout.block_insts(block) {
                let data = &function.dfg.insts[instruction];
                let [result] = *function.dfg.inst_results(instruction) else { continue };
                if has_effect(data.opcode()) {
                    continue;
                }
                let mut operands = needs.indices_of(function, instruction);
                if data.opcode() != Opcode::Uextend {
                    operands.retain(|&index| !needs.is_condition(function, index));
                }
                if is_operation[result] || data.opcode() == Opcode::Fcmp || !operands.is_empty() {
                    needs.values.push(result);
                    needs.indices[result] = needs.values.len() as u32;
                    needs.operands.push(operands);
                }
            }
        }
        needs.solve(function, &vectors.barriers);
        needs
    }

    fn index(&self, function: &Function, value: Value) -> Option<usize> {
        (self.indices[function.dfg.resolve_aliases(value)] as usize).checked_sub(1)
    }

    /// The values looked at that an instruction uses, those that it passes to blocks included.
    fn indices_of(&self, function: &Function, instruction: Inst) -> Vec<usize> {
        let values = function.dfg.inst_values(instruction);
        values.filter_map(|value| self.index(function, value)).collect()
    }

    /// Whether a value is the outcome of a scalar comparison. Only branches need those for certain: arithmetic on flags is
    /// often simplified until nothing is left of them.
    fn is_condition(&self, function: &Function, index: usize) -> bool {
        let value = self.values[index];
        let made_by = |value: Value, opcode: Opcode| {
            let instruction = function.dfg.value_def(value).inst()?;
            (function.dfg.insts[instruction].opcode() == opcode).then_some(instruction)
        };
        let compared = match made_by(value, Opcode::Uextend) {
            Some(extension) => function.dfg.resolve_aliases(function.dfg.inst_args(extension)[0]),
            None => value,
        };
        made_by(compared, Opcode::Fcmp).is_some() && !function.dfg.value_type(compared).is_vector()
    }

    /// Adds what the members of a set are computed from.
    fn close(&self, set: &mut Set) {
        for index in (0..self.values.len()).rev() {
            if contains(set, index) {
                for &operand in &self.operands[index] {
                    insert(set, operand);
                }
            }
        }
    }

    fn solve(&mut self, function: &Function, barriers: &[Inst]) {
        let mut is_barrier: SecondaryMap<Inst, bool> = SecondaryMap::new();
        for &barrier in barriers {
            is_barrier[barrier] = true;
        }
        // Blocks with a barrier: what comes behind it is too late.
        let mut ends: SecondaryMap<Block, bool> = SecondaryMap::new();
        let words = self.values.len().div_ceil(64);
        let mut own: SecondaryMap<Block, Set> = SecondaryMap::new();
        for block in function.layout.blocks() {
            let mut set = vec![0; words];
            for instruction in function.layout.block_insts(block) {
                if has_effect(function.dfg.insts[instruction].opcode()) {
                    for index in self.indices_of(function, instruction) {
                        insert(&mut set, index);
                    }
                }
                if is_barrier[instruction] {
                    ends[block] = true;
                    break;
                }
            }
            self.close(&mut set);
            own[block] = set;
            self.blocks[block] = vec![u64::MAX; words];
        }
        loop {
            let mut changed = false;
            let mut next = function.layout.last_block();
            while let Some(block) = next {
                next = function.layout.prev_block(block);
                let mut set: Option<Set> = None;
                let successors = if ends[block] { Vec::new() } else { successors(function, block) };
                for successor in successors {
                    let theirs = &self.blocks[successor];
                    set = Some(match set {
                        None => theirs.clone(),
                        Some(set) => set.iter().zip(theirs).map(|(a, b)| a & b).collect(),
                    });
                }
                let mut set = set.unwrap_or_else(|| vec![0; words]);
                for (word, own) in set.iter_mut().zip(&own[block]) {
                    *word |= own;
                }
                if set != self.blocks[block] {
                    self.blocks[block] = set;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }
}

fn successors(function: &Function, block: Block) -> Vec<Block> {
    let Some(last) = function.layout.last_inst(block) else { return Vec::new() };
    let data = &function.dfg.insts[last];
    data.branch_destination(&function.dfg.jump_tables, &function.dfg.exception_tables)
        .iter()
        .map(|call| call.block(&function.dfg.value_lists))
        .collect()
}

fn has_effect(opcode: Opcode) -> bool {
    opcode.can_store() || opcode.is_terminator() || opcode.is_call()
}

/// Anchors the region's operations, and for each of its quiet comparisons some comparison of the operands.
pub(crate) fn anchor(function: &mut Function, vectors: &Vectors, scratch: MemFlagsData) {
    let Vectors { operations, comparisons, .. } = vectors;
    if operations.is_empty() && comparisons.is_empty() {
        return;
    }
    let mut needs = Needs::new(function, vectors);
    // The last first: what an anchored operation is computed from is needed where it is.
    for &operation in operations.iter().rev() {
        let operation = function.dfg.resolve_aliases(operation);
        let Some(index) = needs.index(function, operation) else { continue };
        let Some(instruction) = function.dfg.value_def(operation).inst() else { continue };
        let Some(block) = function.layout.inst_block(instruction) else { continue };
        if contains(&needs.blocks[block], index) {
            continue;
        }
        let mut set = std::mem::take(&mut needs.blocks[block]);
        insert(&mut set, index);
        needs.close(&mut set);
        needs.blocks[block] = set;
        store(function, instruction, operation, scratch);
    }
    for &(instruction, a, b) in comparisons {
        let Some(block) = function.layout.inst_block(instruction) else { continue };
        let operands = [a, b].map(|value| function.dfg.resolve_aliases(value));
        let is_done = needs.values.iter().enumerate().any(|(index, &value)| {
            contains(&needs.blocks[block], index) && compares(function, value, operands)
        });
        if !is_done {
            let result = function.dfg.first_result(instruction);
            let mut cursor = FuncCursor::new(function).after_inst(instruction);
            let wide = cursor.ins().uextend(I64, result);
            let wide_instruction = cursor.func.dfg.value_def(wide).unwrap_inst();
            store(function, wide_instruction, wide, scratch);
        }
    }
}

fn compares(function: &Function, value: Value, [a, b]: [Value; 2]) -> bool {
    let Some(instruction) = function.dfg.value_def(value).inst() else { return false };
    if function.dfg.insts[instruction].opcode() != Opcode::Fcmp {
        return false;
    }
    let arguments = function.dfg.inst_args(instruction);
    let arguments = [arguments[0], arguments[1]].map(|value| function.dfg.resolve_aliases(value));
    arguments == [a, b] || arguments == [b, a]
}

/// Stores a value behind the instruction that computes it, in a stack slot of its own: of two stores to one place the first
/// would be dropped.
fn store(function: &mut Function, instruction: Inst, value: Value, scratch: MemFlagsData) {
    let bytes = function.dfg.value_type(value).bytes();
    let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, bytes.trailing_zeros() as u8);
    let slot = function.create_sized_stack_slot(slot);
    let mut cursor = FuncCursor::new(function).after_inst(instruction);
    let address = cursor.ins().stack_addr(I64, slot, 0);
    cursor.ins().store(scratch, value, address, 0);
}
