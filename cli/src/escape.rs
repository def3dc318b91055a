//! The escape key: Ctrl-A starts a command to rx86 itself; everything else goes to the guest.

/// Ctrl-A.
const ESCAPE: u8 = 1;

/// What Ctrl-A H prints.
pub const HELP: &str = "\r\n\
    Ctrl-A X       quit: stop the machine at once\r\n\
    Ctrl-A H       this help\r\n\
    Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

/// A command to rx86.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop the machine.
    Quit,
    /// Print the help.
    Help,
}

/// The state between two bytes of input.
#[derive(Debug, Default)]
pub struct EscapeKey {
    escaped: bool,
}

impl EscapeKey {
    /// Splits typed bytes into what the guest gets (appended to `guest`) and a command; bytes behind a command are dropped.
    pub fn feed(&mut self, typed: &[u8], guest: &mut Vec<u8>) -> Option<Command> {
        for &byte in typed {
            if !std::mem::take(&mut self.escaped) {
                if byte == ESCAPE {
                    self.escaped = true;
                } else {
                    guest.push(byte);
                }
                continue;
            }
            match byte {
                b'x' | b'X' => return Some(Command::Quit),
                b'h' | b'H' | b'?' => return Some(Command::Help),
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
        for (typed, guest, command) in [
            (&b"ls\r"[..], &b"ls\r"[..], None),
            (b"\x01x", b"", Some(Command::Quit)),
            (b"ab\x01X", b"ab", Some(Command::Quit)),
            (b"\x01h", b"", Some(Command::Help)),
            (b"\x01\x01", b"\x01", None),
            (b"\x01k", b"\x01k", None),
            (b"\x03", b"\x03", None),
        ] {
            let mut out = Vec::new();
            let mut key = EscapeKey::default();
            let mut found = None;
            // Byte by byte, as a terminal gives them.
            for byte in typed {
                found = found.or(key.feed(&[*byte], &mut out));
            }
            assert_eq!((&out[..], found), (guest, command), "{typed:?}");
        }
    }
}
