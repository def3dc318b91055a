//! The escape key: Ctrl-A starts a command to rx86 itself; everything else goes to the guest.

/// Ctrl-A.
const ESCAPE: u8 = 1;

/// What Ctrl-A H prints.
pub const HELP: &str = "\r\n\
    Ctrl-A X       quit: stop the machine at once\r\n\
    Ctrl-A P       pause: the machine stands still until Ctrl-A P\r\n\
    Ctrl-A S       show the processors' state\r\n\
    Ctrl-A H       this help\r\n\
    Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

/// A command to rx86.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop the machine.
    Quit,
    /// Print the help.
    Help,
    /// Stand still, or go on.
    Pause,
    /// Print the processors' state.
    ShowState,
}

/// The state between two bytes of input.
#[derive(Debug, Default)]
pub struct EscapeKey {
    escaped: bool,
}

impl EscapeKey {
    /// Takes bytes from the front of `typed` up to a command's end: the guest's are appended to `guest`.
    pub fn feed(&mut self, typed: &mut &[u8], guest: &mut Vec<u8>) -> Option<Command> {
        while let [byte, rest @ ..] = *typed {
            *typed = rest;
            if !std::mem::take(&mut self.escaped) {
                if *byte == ESCAPE {
                    self.escaped = true;
                } else {
                    guest.push(*byte);
                }
                continue;
            }
            match *byte {
                b'x' | b'X' => return Some(Command::Quit),
                b'h' | b'H' | b'?' => return Some(Command::Help),
                b'p' | b'P' => return Some(Command::Pause),
                b's' | b'S' => return Some(Command::ShowState),
                ESCAPE => guest.push(ESCAPE),
                // An unknown command is no reason to lose what was typed.
                other => guest.extend([ESCAPE, other]),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_guest_bytes_are_told_apart() {
        let cases: [(&[u8], &[u8], &[Command]); 10] = [
            (b"ls\r", b"ls\r", &[]),
            (b"\x01x", b"", &[Command::Quit]),
            (b"ab\x01X", b"ab", &[Command::Quit]),
            (b"\x01h", b"", &[Command::Help]),
            (b"a\x01hb\x01?c", b"abc", &[Command::Help, Command::Help]),
            (b"\x01pa\x01P\x01s", b"a", &[Command::Pause, Command::Pause, Command::ShowState]),
            (b"\x01\x01", b"\x01", &[]),
            (b"\x01\x01x", b"\x01x", &[]),
            (b"\x01k", b"\x01k", &[]),
            (b"\x03", b"\x03", &[]),
        ];
        for (typed, guest, commands) in cases {
            // Whole, and byte by byte, as a terminal gives them.
            for size in [typed.len(), 1] {
                let mut out = Vec::new();
                let mut key = EscapeKey::default();
                let mut found = Vec::new();
                for mut chunk in typed.chunks(size) {
                    while !chunk.is_empty() {
                        found.extend(key.feed(&mut chunk, &mut out));
                    }
                }
                assert_eq!((&out[..], &found[..]), (guest, commands), "{typed:?} by {size}");
            }
        }
    }
}
