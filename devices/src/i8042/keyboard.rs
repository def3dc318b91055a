//! The keyboard's side of the PS/2 protocol: commands and answers (IBM PS/2 Hardware Interface Technical Reference,
//! "Keyboards"). No key is ever pressed.

use std::collections::VecDeque;

const ACK: u8 = 0xfa;
const BAT_PASSED: u8 = 0xaa;
const RESEND: u8 = 0xfe;
const ECHO: u8 = 0xee;
const IDENTITY: [u8; 2] = [0xab, 0x83];
const DEFAULT_SCAN_CODE_SET: u8 = 2;
/// The keyboard's own buffer; a host that never reads loses what comes later.
const BUFFER_LEN: usize = 16;

/// A keyboard that is asked and answers.
#[derive(Debug)]
pub(super) struct Keyboard {
    answers: VecDeque<u8>,
    awaiting_data: Option<u8>,
    scan_code_set: u8,
    last_sent: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self {
            answers: VecDeque::with_capacity(BUFFER_LEN),
            awaiting_data: None,
            scan_code_set: DEFAULT_SCAN_CODE_SET,
            last_sent: 0,
        }
    }
}

impl Keyboard {
    /// The next byte for the controller.
    pub(super) fn send(&mut self) -> Option<u8> {
        let byte = self.answers.pop_front()?;
        self.last_sent = byte;
        Some(byte)
    }

    /// A byte from the host: a command, or data for the command before.
    pub(super) fn receive(&mut self, byte: u8) {
        match self.awaiting_data.take() {
            // A command in place of data ends the command before.
            Some(command) if byte < 0xed => self.receive_data(command, byte),
            _ => self.receive_command(byte),
        }
    }

    fn receive_data(&mut self, command: u8, byte: u8) {
        self.answer(ACK);
        if command == 0xf0 {
            match byte {
                0 => self.answer(self.scan_code_set),
                1..=3 => self.scan_code_set = byte,
                _ => {}
            }
        }
    }

    fn receive_command(&mut self, byte: u8) {
        match byte {
            // LEDs, scan code set, typematic rate, and the per-key settings of set 3 take one byte.
            0xed | 0xf0 | 0xf3 | 0xfb..=0xfd => {
                self.answer(ACK);
                self.awaiting_data = Some(byte);
            }
            0xee => self.answer(ECHO),
            0xf2 => [ACK, IDENTITY[0], IDENTITY[1]].into_iter().for_each(|byte| self.answer(byte)),
            0xf4 | 0xf7..=0xfa => self.answer(ACK),
            0xf5 | 0xf6 => self.restore_defaults(),
            0xfe => self.answer(self.last_sent),
            0xff => {
                self.restore_defaults();
                self.answer(BAT_PASSED);
            }
            _ => self.answer(RESEND),
        }
    }

    fn restore_defaults(&mut self) {
        self.answers.clear();
        self.scan_code_set = DEFAULT_SCAN_CODE_SET;
        self.answer(ACK);
    }

    fn answer(&mut self, byte: u8) {
        if self.answers.len() < BUFFER_LEN {
            self.answers.push_back(byte);
        }
    }
}
