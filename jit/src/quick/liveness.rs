//! What of a node's listing is needed, and until when.

use super::ir::{Ending, Listing, NONE, Opcode, Value, slot};

const _: () = assert!(slot::COUNT <= 64);

/// For each operation, whether it is emitted, and the last one that uses its result (the listing's length: its end does).
#[derive(Debug, Default)]
pub(super) struct Liveness {
    pub(super) live: Vec<bool>,
    pub(super) last_use: Vec<Value>,
}

impl Liveness {
    /// Looks at a listing from its end on. What is put into a slot and replaced there before the code can be left is not
    /// needed.
    pub(super) fn analyze(&mut self, listing: &Listing) {
        let count = listing.operations.len();
        self.live.clear();
        self.live.resize(count, false);
        self.last_use.clear();
        self.last_use.resize(count, 0);
        match listing.ending {
            Ending::Target(target) => self.note(target, count),
            Ending::Branch { condition, .. } => self.note_condition(listing, condition, count),
            Ending::Next | Ending::Offset(_) | Ending::Interpret => {}
        }
        // Bit n: slot n.
        let mut replaced = 0u64;
        for at in (0..count).rev() {
            let operation = &listing.operations[at];
            let opcode = operation.opcode;
            if opcode.may_leave() {
                replaced = 0;
                self.live[at] = true;
            }
            match opcode {
                Opcode::Store | Opcode::VectorStore | Opcode::SetShadow => self.live[at] = true,
                Opcode::Set => {
                    self.live[at] = replaced >> operation.constant & 1 == 0;
                    replaced |= 1 << operation.constant;
                }
                _ => self.live[at] |= operation.is_floating(),
            }
            if !self.live[at] {
                continue;
            }
            let operands = listing.operands(operation);
            if opcode == Opcode::Select {
                self.note_condition(listing, operands[0], at);
                self.note(operands[1], at);
                self.note(operands[2], at);
            } else {
                for operand in operands {
                    self.note(operand, at);
                }
            }
        }
    }

    /// A comparison is made again where its outcome is looked at, so that the host's flags say it.
    fn note_condition(&mut self, listing: &Listing, condition: Value, at: usize) {
        match listing.comparison(condition) {
            Some(&comparison) => {
                self.note(comparison.a, at);
                self.note(comparison.b, at);
            }
            None => self.note(condition, at),
        }
    }

    fn note(&mut self, value: Value, at: usize) {
        if value == NONE {
            return;
        }
        let value = usize::from(value);
        self.live[value] = true;
        self.last_use[value] = self.last_use[value].max(at as Value);
    }
}
