//! x86-64 machine code as text, for golden tests and dumps.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, Instruction, IntelFormatter, OpKind};
use std::collections::{BTreeMap, VecDeque};

/// Instructions in an order.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    instructions: Vec<Instruction>,
}

impl Listing {
    /// All of `code`, which begins at `address`.
    pub fn straight(code: &[u8], address: u64) -> Self {
        Self { instructions: Decoder::with_ip(64, code, address, DecoderOptions::NONE).into_iter().collect() }
    }

    /// What can be reached from the first byte of `code`, by branches too; constants between and behind are left out.
    pub fn reachable(code: &[u8]) -> Self {
        let mut found = BTreeMap::new();
        let mut open = vec![0];
        while let Some(start) = open.pop() {
            let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
            if decoder.set_position(start as usize).is_err() {
                continue;
            }
            decoder.set_ip(start);
            while decoder.can_decode() && !found.contains_key(&decoder.ip()) {
                let instruction = decoder.decode();
                found.insert(instruction.ip(), instruction);
                open.extend(branch_target(&instruction));
                if !goes_on(&instruction) {
                    break;
                }
            }
        }
        Self { instructions: found.into_values().collect() }
    }

    /// How many instructions there are.
    pub fn count(&self) -> usize {
        self.instructions.len()
    }

    /// One turn of the loop, from its lowest address on, on the shortest way around: slow ways call functions, and are longer
    /// than fast ones. If there are several loops, the outermost: the inner may retry an exchange.
    pub fn one_turn(&self) -> Option<Self> {
        let by_address: BTreeMap<u64, &Instruction> =
            self.instructions.iter().map(|instruction| (instruction.ip(), instruction)).collect();
        let back = |instruction: &Instruction| {
            branch_target(instruction).filter(|&target| target <= instruction.ip())
        };
        let tops: Vec<u64> = self.instructions.iter().filter_map(back).collect();
        let longest = |with_calls: bool| {
            let turns = tops.iter().filter_map(|&top| way_back(&by_address, top, with_calls));
            turns.max_by_key(Vec::len)
        };
        let mut turn = longest(false).or_else(|| longest(true))?;
        let lowest = turn.iter().enumerate().min_by_key(|(_, instruction)| instruction.ip())?.0;
        turn.rotate_left(lowest);
        Some(Self { instructions: turn })
    }

    /// One line for each instruction: its distance from `origin`, and the instruction as Intel writes it.
    pub fn lines(&self, origin: u64) -> Vec<String> {
        let mut formatter = formatter();
        let line = |instruction: &Instruction| {
            let mut text = String::new();
            formatter.format(instruction, &mut text);
            format!("{:4x}  {text}", instruction.ip().wrapping_sub(origin))
        };
        self.instructions.iter().map(line).collect()
    }

    /// One line for each instruction, without addresses: a branch says whether it stays among these instructions, and what is
    /// relative to RIP is `[rip]`.
    pub fn lines_without_addresses(&self) -> Vec<String> {
        let mut formatter = formatter();
        formatter.options_mut().set_rip_relative_addresses(true);
        let line = |instruction: &Instruction| {
            let mut text = String::new();
            match branch_target(instruction) {
                Some(target) => {
                    let stays = self.instructions.iter().any(|other| other.ip() == target);
                    formatter.format_mnemonic(instruction, &mut text);
                    text += if stays { " within" } else { " out" };
                }
                None => {
                    let mut instruction = *instruction;
                    if instruction.is_ip_rel_memory_operand() {
                        instruction.set_memory_displacement64(instruction.next_ip());
                    }
                    formatter.format(&instruction, &mut text);
                }
            }
            text
        };
        self.instructions.iter().map(line).collect()
    }
}

fn formatter() -> IntelFormatter {
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    formatter
}

/// Where a direct jump or branch leads; calls are not followed.
fn branch_target(instruction: &Instruction) -> Option<u64> {
    let is_jump = matches!(
        instruction.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    );
    (is_jump && instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target())
}

/// Whether the next instruction may be executed next.
fn goes_on(instruction: &Instruction) -> bool {
    use FlowControl::{Exception, IndirectBranch, Return, UnconditionalBranch};
    ![Return, UnconditionalBranch, IndirectBranch, Exception].contains(&instruction.flow_control())
}

/// The shortest way from `top` to `top` again, through calls or around them.
fn way_back(code: &BTreeMap<u64, &Instruction>, top: u64, with_calls: bool) -> Option<Vec<Instruction>> {
    let mut came_from: BTreeMap<u64, u64> = BTreeMap::new();
    let mut open = VecDeque::from([top]);
    while let Some(at) = open.pop_front() {
        let instruction = code.get(&at)?;
        let is_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        if is_call && !with_calls {
            continue;
        }
        let next = goes_on(instruction).then(|| instruction.next_ip());
        for successor in next.into_iter().chain(branch_target(instruction)) {
            if code.contains_key(&successor) && !came_from.contains_key(&successor) {
                came_from.insert(successor, at);
                open.push_back(successor);
            }
        }
        if came_from.contains_key(&top) {
            break;
        }
    }
    let mut path = Vec::new();
    let mut at = *came_from.get(&top)?;
    loop {
        path.push(**code.get(&at)?);
        if at == top {
            break;
        }
        at = *came_from.get(&at)?;
    }
    path.reverse();
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_not_taken_for_code() {
        // 0: xor eax, eax; 2: jmp 6; 4: two bytes of data; 6: dec eax; 8: jne 6; a: ret; b: data
        let code = [0x31, 0xc0, 0xeb, 0x02, 0xff, 0xff, 0xff, 0xc8, 0x75, 0xfc, 0xc3, 0x0f, 0x0b];
        let listing = Listing::reachable(&code);
        let expected =
            ["   0  xor eax,eax", "   2  jmp short 6", "   6  dec eax", "   8  jne short 6", "   a  ret"];
        assert_eq!(listing.lines(0), expected);
        assert_eq!(listing.one_turn().unwrap().lines_without_addresses(), ["dec eax", "jne within"]);
    }

    #[test]
    fn a_turn_goes_the_shorter_way_around_every_loop_inside() {
        // 0: je 5; 2: nop; 3: jmp 9; 5: nop; 6: nop; 7: jmp 9; 9: dec eax; b: jne 9; d: jne 0; f: ret
        let code =
            [0x74, 0x03, 0x90, 0xeb, 0x04, 0x90, 0x90, 0xeb, 0x00, 0xff, 0xc8, 0x75, 0xfc, 0x75, 0xf1, 0xc3];
        let turn = Listing::reachable(&code).one_turn().unwrap();
        let expected = ["je out", "nop", "jmp within", "dec eax", "jne within", "jne within"];
        assert_eq!(turn.lines_without_addresses(), expected);
        assert!(Listing::reachable(&[0x90, 0xc3]).one_turn().is_none());
    }

    #[test]
    fn a_turn_makes_no_call_that_it_can_do_without() {
        // 0: je 4; 2: call rax; 4: dec eax; 6: jne 2; 8: jne 0; a: ret
        let code = [0x74, 0x02, 0xff, 0xd0, 0xff, 0xc8, 0x75, 0xfa, 0x75, 0xf6, 0xc3];
        let turn = Listing::reachable(&code).one_turn().unwrap();
        assert_eq!(turn.lines_without_addresses(), ["je within", "dec eax", "jne out", "jne within"]);
        let call_only = [0xff, 0xd0, 0x75, 0xfc, 0xc3];
        let turn = Listing::reachable(&call_only).one_turn().unwrap();
        assert_eq!(turn.lines_without_addresses(), ["call rax", "jne within"]);
    }
}
