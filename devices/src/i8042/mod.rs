//! The i8042 keyboard controller, its A20 gate and reset line, port 0x92, and the keyboard behind it (IBM PS/2
//! Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller").

mod keyboard;

use crate::{Device, Wire};
use keyboard::Keyboard;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
const STATUS_AUX: u8 = 1 << 5;

const COMMAND_KEYBOARD_INTERRUPT: u8 = 1 << 0;
const COMMAND_AUX_INTERRUPT: u8 = 1 << 1;
const COMMAND_SYSTEM: u8 = 1 << 2;
const COMMAND_KEYBOARD_DISABLED: u8 = 1 << 4;
const COMMAND_AUX_DISABLED: u8 = 1 << 5;

const OUTPUT_NOT_RESET: u8 = 1 << 0;
const OUTPUT_A20: u8 = 1 << 1;
const OUTPUT_KEYBOARD_FULL: u8 = 1 << 4;
const OUTPUT_AUX_FULL: u8 = 1 << 5;

const PORT_92_RESET: u8 = 1 << 0;
const PORT_92_A20: u8 = 1 << 1;

const SELF_TEST_PASSED: u8 = 0x55;
const PORT_TEST_PASSED: u8 = 0x00;
/// The mouse port's test result: its clock line is stuck high, as with nothing there.
const AUX_TEST_FAILED: u8 = 0x02;

/// Who put the byte into the output buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Controller,
    Keyboard,
    Aux,
}

/// The controller, at two ports: offset 0 is the data port (0x60), any other offset status and command (0x64).
pub struct I8042 {
    keyboard: Keyboard,
    keyboard_irq: Wire,
    aux_irq: Wire,
    output: Option<(u8, Source)>,
    last_output: u8,
    ram: [u8; 32],
    output_port: u8,
    port_92: u8,
    /// The command whose data byte comes next.
    awaiting_data: Option<u8>,
    last_was_command: bool,
    reset_requested: bool,
}

impl I8042 {
    /// The controller after its self test, with A20 open, as PC firmware leaves it.
    pub fn new(keyboard_irq: Wire, aux_irq: Wire) -> Self {
        let mut ram = [0; 32];
        ram[0] = COMMAND_SYSTEM | COMMAND_KEYBOARD_INTERRUPT | COMMAND_AUX_DISABLED;
        Self {
            keyboard: Keyboard::default(),
            keyboard_irq,
            aux_irq,
            output: None,
            last_output: 0,
            ram,
            output_port: OUTPUT_NOT_RESET | OUTPUT_A20,
            port_92: 0,
            awaiting_data: None,
            last_was_command: false,
            reset_requested: false,
        }
    }

    /// Whether address line 20 is let through: either of the two gates opens it.
    pub fn a20(&self) -> bool {
        self.output_port & OUTPUT_A20 != 0 || self.port_92 & PORT_92_A20 != 0
    }

    /// Takes the guest's wish to reset the machine.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset_requested)
    }

    /// Reads system control port A.
    pub fn read_port_92(&self) -> u8 {
        self.port_92
    }

    /// Writes system control port A; a rising bit 0 resets.
    pub fn write_port_92(&mut self, value: u8) {
        self.reset_requested |= value & !self.port_92 & PORT_92_RESET != 0;
        self.port_92 = value & (PORT_92_RESET | PORT_92_A20);
    }

    fn status(&self) -> u8 {
        let mut status = STATUS_UNLOCKED;
        if let Some((_, source)) = self.output {
            status |= STATUS_OUTPUT_FULL;
            if source == Source::Aux {
                status |= STATUS_AUX;
            }
        }
        if self.ram[0] & COMMAND_SYSTEM != 0 {
            status |= STATUS_SYSTEM;
        }
        if self.last_was_command {
            status |= STATUS_COMMAND;
        }
        status
    }

    fn read_data(&mut self) -> u8 {
        if let Some((byte, _)) = self.output.take() {
            self.last_output = byte;
        }
        // The wires fall before the next byte raises them again.
        self.drive();
        self.fill_output();
        self.last_output
    }

    fn write_data(&mut self, value: u8) {
        match self.awaiting_data.take() {
            Some(command @ 0x60..=0x7f) => self.ram[usize::from(command & 31)] = value,
            Some(0xd1) => self.write_output_port(value),
            Some(0xd2) => self.answer(value, Source::Keyboard),
            // With no mouse port, its loopback comes back without the mark of a mouse byte.
            Some(0xd3) => self.answer(value, Source::Controller),
            // A byte for a mouse that is not there is lost.
            Some(_) => {}
            None => {
                // Sending to the keyboard turns its clock on again.
                self.ram[0] &= !COMMAND_KEYBOARD_DISABLED;
                self.keyboard.receive(value);
            }
        }
    }

    fn write_command(&mut self, command: u8) {
        self.awaiting_data = None;
        match command {
            0x20..=0x3f => self.answer(self.ram[usize::from(command & 31)], Source::Controller),
            0x60..=0x7f | 0xd1..=0xd4 => self.awaiting_data = Some(command),
            0xa7 => self.ram[0] |= COMMAND_AUX_DISABLED,
            0xa8 => self.ram[0] &= !COMMAND_AUX_DISABLED,
            0xa9 => self.answer(AUX_TEST_FAILED, Source::Controller),
            0xaa => {
                self.ram[0] |= COMMAND_SYSTEM;
                self.answer(SELF_TEST_PASSED, Source::Controller);
            }
            0xab => self.answer(PORT_TEST_PASSED, Source::Controller),
            0xad => self.ram[0] |= COMMAND_KEYBOARD_DISABLED,
            0xae => self.ram[0] &= !COMMAND_KEYBOARD_DISABLED,
            // The input port: no jumpers set, keyboard not locked.
            0xc0 => self.answer(0x80, Source::Controller),
            0xd0 => self.answer(self.read_output_port(), Source::Controller),
            0xdd => self.output_port &= !OUTPUT_A20,
            0xdf => self.output_port |= OUTPUT_A20,
            // The test inputs: both clock lines are high.
            0xe0 => self.answer(0x03, Source::Controller),
            // Pulses low the output port's bits that are clear; bit 0 is the reset line.
            0xf0..=0xff => self.reset_requested |= command & OUTPUT_NOT_RESET == 0,
            _ => {}
        }
    }

    fn read_output_port(&self) -> u8 {
        let full = match self.output {
            Some((_, Source::Aux)) => OUTPUT_AUX_FULL,
            Some(_) => OUTPUT_KEYBOARD_FULL,
            None => 0,
        };
        self.output_port | full
    }

    fn write_output_port(&mut self, value: u8) {
        self.output_port = value & (OUTPUT_NOT_RESET | OUTPUT_A20);
        if value & OUTPUT_NOT_RESET == 0 {
            self.reset_requested = true;
            self.output_port |= OUTPUT_NOT_RESET;
        }
    }

    /// The controller's own answers come first, over whatever the buffer holds.
    fn answer(&mut self, byte: u8, source: Source) {
        self.output = Some((byte, source));
    }

    /// Lets the keyboard's next byte into an empty buffer.
    fn fill_output(&mut self) {
        if self.output.is_none() && self.ram[0] & COMMAND_KEYBOARD_DISABLED == 0 {
            self.output = self.keyboard.send().map(|byte| (byte, Source::Keyboard));
        }
        self.drive();
    }

    fn drive(&self) {
        let source = self.output.map(|(_, source)| source);
        let aux = source == Some(Source::Aux);
        let keyboard = source.is_some() && !aux;
        self.keyboard_irq.set(keyboard && self.ram[0] & COMMAND_KEYBOARD_INTERRUPT != 0);
        self.aux_irq.set(aux && self.ram[0] & COMMAND_AUX_INTERRUPT != 0);
    }
}

impl Device for I8042 {
    fn name(&self) -> &'static str {
        "i8042"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for byte in data {
            *byte = if offset == 0 { self.read_data() } else { self.status() };
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for &byte in data {
            self.last_was_command = offset != 0;
            if offset == 0 {
                self.write_data(byte);
            } else {
                self.write_command(byte);
            }
            self.fill_output();
        }
    }

    fn reset(&mut self) {
        *self = Self::new(self.keyboard_irq.clone(), self.aux_irq.clone());
        self.drive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WireHarness;

    fn controller() -> (I8042, WireHarness) {
        let harness = WireHarness::default();
        (I8042::new(harness.wire(1), harness.wire(12)), harness)
    }

    fn status(chip: &mut I8042) -> u8 {
        let mut byte = [0];
        chip.read(4, &mut byte);
        byte[0]
    }

    /// Reads answers until the output buffer is empty.
    fn answers(chip: &mut I8042) -> Vec<u8> {
        let mut bytes = Vec::new();
        while status(chip) & STATUS_OUTPUT_FULL != 0 {
            let mut byte = [0];
            chip.read(0, &mut byte);
            bytes.push(byte[0]);
        }
        bytes
    }

    #[test]
    fn answers_commands() {
        // Bytes above 0xff go to the command port.
        let cases: &[(&str, &[u16], &[u8])] = &[
            ("self test", &[0x1aa], &[0x55]),
            ("keyboard port test", &[0x1ab], &[0x00]),
            ("mouse port test", &[0x1a9], &[0x02]),
            ("mouse loopback", &[0x1d3, 0x5a], &[0x5a]),
            ("byte for no mouse", &[0x1d4, 0xf2], &[]),
            ("command byte", &[0x120], &[0x25]),
            ("write command byte", &[0x160, 0x74, 0x120], &[0x74]),
            ("controller RAM", &[0x165, 0x99, 0x125], &[0x99]),
            ("disable and enable the mouse port", &[0x1a8, 0x120], &[0x05]),
            ("keyboard buffer", &[0x1d2, 0x1c], &[0x1c]),
            ("output port, itself empty", &[0x1d0], &[0x03]),
            ("keyboard reset", &[0xff], &[0xfa, 0xaa]),
            ("keyboard identity", &[0xf2], &[0xfa, 0xab, 0x83]),
            ("keyboard LEDs", &[0xed, 0x07], &[0xfa, 0xfa]),
            ("keyboard scan code set", &[0xf0, 0x02, 0xf0, 0x00], &[0xfa, 0xfa, 0xfa, 0xfa, 0x02]),
            ("keyboard echo", &[0xee], &[0xee]),
            ("keyboard rate and enabling", &[0xf3, 0x00, 0xf4], &[0xfa, 0xfa, 0xfa]),
            ("unknown to the keyboard", &[0x17], &[0xfe]),
            ("disabling leaves the byte in the buffer", &[0xee, 0x1ad], &[0xee]),
            ("a command forgets the one before", &[0x160, 0x120], &[0x25]),
        ];
        for (name, writes, expected) in cases {
            let (mut chip, _) = controller();
            for &write in *writes {
                chip.write(if write > 0xff { 4 } else { 0 }, &[write as u8]);
            }
            assert_eq!(answers(&mut chip), *expected, "{name}");
            assert!(!chip.take_reset(), "{name}");
        }
    }

    #[test]
    fn each_keyboard_byte_is_an_edge_on_irq1() {
        let (mut chip, harness) = controller();
        chip.write(0, &[0xf2]);
        let mut byte = [0];
        for expected in [0xfa, 0xab, 0x83] {
            let changes = harness.take_changes();
            assert_eq!((changes.level, changes.rose), (1 << 1, 1 << 1));
            chip.read(0, &mut byte);
            assert_eq!(byte[0], expected);
        }
        assert_eq!(harness.take_changes().level, 0);
        chip.write(4, &[0x60]);
        chip.write(0, &[0x00]);
        chip.write(0, &[0xee]);
        assert_eq!(harness.take_changes().rose, 0, "interrupts are off");
    }

    #[test]
    fn resets_by_pulse_output_port_and_port_92() {
        let cases: &[(&[u16], bool)] = &[
            (&[0x1fe], true),
            (&[0x1f0], true),
            (&[0x1ff], false),
            (&[0x1fd], false),
            (&[0x1d1, 0x02], true),
            (&[0x1d1, 0x03], false),
        ];
        for (writes, expected) in cases {
            let (mut chip, _) = controller();
            for &write in *writes {
                chip.write(if write > 0xff { 4 } else { 0 }, &[write as u8]);
            }
            assert_eq!(chip.take_reset(), *expected, "{writes:x?}");
        }
        let (mut chip, _) = controller();
        chip.write_port_92(2);
        assert!(!chip.take_reset());
        chip.write_port_92(3);
        assert!(chip.take_reset() && !chip.take_reset());
    }

    #[test]
    fn either_gate_opens_a20() {
        let (mut chip, _) = controller();
        assert!(chip.a20());
        chip.write(4, &[0xd1]);
        chip.write(0, &[0x01]);
        assert!(!chip.a20());
        chip.write_port_92(2);
        assert!(chip.a20());
        chip.write_port_92(0);
        assert!(!chip.a20());
        chip.write(4, &[0xdf]);
        assert!(chip.a20());
        chip.write(4, &[0xdd]);
        assert!(!chip.a20());
        chip.reset();
        assert!(chip.a20());
    }
}
