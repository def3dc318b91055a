//! Removes computations whose values nobody uses: a meaning reads flags or a register that it then turns out not to need.
//! Cranelift removes those too, except for loads.

use cranelift_codegen::entity::EntitySet;
use cranelift_codegen::ir::{Function, Inst, Value};

/// Removes them. In translated functions every use of a value comes after it in the layout, so one walk from the end will
/// do. No load traps, so an unused one has no effect.
pub(crate) fn remove(function: &mut Function) {
    let mut used: EntitySet<Value> = EntitySet::new();
    let mut dead = Vec::new();
    let mut next_block = function.layout.last_block();
    while let Some(block) = next_block {
        next_block = function.layout.prev_block(block);
        let mut next = function.layout.last_inst(block);
        while let Some(instruction) = next {
            next = function.layout.prev_inst(instruction);
            if !is_needed(function, instruction, &used) {
                dead.push(instruction);
                continue;
            }
            for value in function.dfg.inst_values(instruction) {
                used.insert(function.dfg.resolve_aliases(value));
            }
        }
    }
    for instruction in dead {
        function.layout.remove_inst(instruction);
    }
}

fn is_needed(function: &Function, instruction: Inst, used: &EntitySet<Value>) -> bool {
    let opcode = function.dfg.insts[instruction].opcode();
    opcode.can_store()
        || opcode.is_terminator()
        || opcode.is_call()
        || function.dfg.inst_results(instruction).iter().any(|&value| used.contains(value))
}
