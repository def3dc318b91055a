//! The 16550A chip by itself: registers, FIFOs and interrupt logic (National Semiconductor PC16550D datasheet).

use std::collections::VecDeque;

const FIFO_LEN: usize = 16;

const IER_RECEIVED: u8 = 1 << 0;
const IER_THRE: u8 = 1 << 1;
const IER_LINE_STATUS: u8 = 1 << 2;
const IER_MODEM_STATUS: u8 = 1 << 3;

const IIR_NONE: u8 = 0x01;
const IIR_MODEM_STATUS: u8 = 0x00;
const IIR_THRE: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const IIR_LINE_STATUS: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0c;
const IIR_FIFOS_ENABLED: u8 = 0xc0;

const FCR_ENABLE: u8 = 1 << 0;
const FCR_RESET_RECEIVER: u8 = 1 << 1;

const LCR_TWO_STOP_BITS: u8 = 1 << 2;
const LCR_PARITY: u8 = 1 << 3;
const LCR_BREAK: u8 = 1 << 6;
const LCR_DLAB: u8 = 1 << 7;

const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
const MCR_OUT1: u8 = 1 << 2;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;

const LSR_DATA_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_PARITY: u8 = 1 << 2;
const LSR_FRAMING: u8 = 1 << 3;
const LSR_BREAK: u8 = 1 << 4;
const LSR_THRE: u8 = 1 << 5;
const LSR_TEMT: u8 = 1 << 6;
const LSR_FIFO_ERROR: u8 = 1 << 7;
/// The errors that belong to one character.
const LSR_CHARACTER_ERRORS: u8 = LSR_PARITY | LSR_FRAMING | LSR_BREAK;

const MSR_TERI: u8 = 1 << 2;
const MSR_CTS: u8 = 1 << 4;
const MSR_DSR: u8 = 1 << 5;
const MSR_RI: u8 = 1 << 6;
const MSR_DCD: u8 = 1 << 7;
/// The far end is there and ready.
const LINE_INPUTS: u8 = MSR_CTS | MSR_DSR | MSR_DCD;

/// The divisor for 9600 baud, which PC firmware leaves.
const DEFAULT_DIVISOR: u16 = 12;
/// Sixteen input clocks at 1.8432 MHz, in picoseconds: one bit at divisor 1.
const BIT_PS: u64 = 16 * 1_000_000_000_000 / 1_843_200;

/// A character in the receiver with its LSR error bits.
#[derive(Clone, Copy, Debug)]
struct Received {
    byte: u8,
    errors: u8,
}

/// The chip's registers. Times are guest nanoseconds.
#[derive(Debug)]
pub struct Uart {
    receiver: VecDeque<Received>,
    last_received: u8,
    overrun: bool,
    transmitting: Option<u8>,
    thre_pending: bool,
    timeout_at_ns: Option<u64>,
    timeout_pending: bool,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    /// The modem inputs (high half) as last seen, and their deltas (low half).
    msr: u8,
    scr: u8,
    divisor: u16,
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart {
    /// The chip after its master reset, with a far end that is ready.
    pub fn new() -> Self {
        Self {
            receiver: VecDeque::with_capacity(FIFO_LEN),
            last_received: 0,
            overrun: false,
            transmitting: None,
            thre_pending: false,
            timeout_at_ns: None,
            timeout_pending: false,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            msr: LINE_INPUTS,
            scr: 0,
            divisor: DEFAULT_DIVISOR,
        }
    }

    /// Reads register 0 to 7, with the side effects that reading has.
    pub fn read(&mut self, register: u8, now_ns: u64) -> u8 {
        let dlab = self.lcr & LCR_DLAB != 0;
        match register & 7 {
            0 if dlab => self.divisor as u8,
            0 => self.read_rbr(now_ns),
            1 if dlab => (self.divisor >> 8) as u8,
            1 => self.ier,
            2 => self.read_iir(),
            3 => self.lcr,
            4 => self.mcr,
            5 => self.read_lsr(),
            6 => {
                let msr = self.msr;
                self.msr &= 0xf0;
                msr
            }
            _ => self.scr,
        }
    }

    /// Writes register 0 to 7. A byte written to THR stays there until `shift_out`.
    pub fn write(&mut self, register: u8, value: u8, now_ns: u64) {
        let dlab = self.lcr & LCR_DLAB != 0;
        match register & 7 {
            0 if dlab => self.divisor = self.divisor & 0xff00 | u16::from(value),
            0 => {
                self.transmitting = Some(value);
                self.thre_pending = false;
            }
            1 if dlab => self.divisor = self.divisor & 0x00ff | u16::from(value) << 8,
            1 => self.write_ier(value),
            2 => self.write_fcr(value),
            3 => self.write_lcr(value, now_ns),
            4 => {
                self.mcr = value & 0x1f;
                self.sample_modem_inputs();
            }
            5 | 6 => {}
            _ => self.scr = value,
        }
    }

    /// Sends what THR holds and raises THRE; returns the byte if it left the chip (not in loopback).
    pub fn shift_out(&mut self, now_ns: u64) -> Option<u8> {
        let byte = self.transmitting.take()?;
        self.thre_pending = true;
        if self.is_loopback() {
            let character_mask = 0xff >> (3 - (self.lcr & 3));
            self.push(Received { byte: byte & character_mask, errors: 0 }, now_ns);
            return None;
        }
        Some(byte)
    }

    /// A character arrives on the line, of whatever length the guest has selected.
    pub fn receive(&mut self, byte: u8, now_ns: u64) {
        self.push(Received { byte, errors: 0 }, now_ns);
    }

    /// A break arrives on the line: one zero character, marked.
    pub fn receive_break(&mut self, now_ns: u64) {
        self.push(Received { byte: 0, errors: LSR_BREAK }, now_ns);
    }

    /// How many characters fit before an overrun.
    pub fn room(&self) -> usize {
        self.capacity().saturating_sub(self.receiver.len())
    }

    /// The guest raises RTS and the line is connected to the receiver.
    pub fn is_listening(&self) -> bool {
        self.mcr & (MCR_RTS | MCR_LOOP) == MCR_RTS
    }

    /// The interrupt line as it reaches the PC: INTR through the gate that OUT2 opens. Loopback holds the OUT2 pin
    /// inactive.
    pub fn interrupt(&self) -> bool {
        self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2 && self.interrupt_source() != IIR_NONE
    }

    /// When a character timeout is due.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.timeout_at_ns
    }

    /// Raises the timeout indication if it is due.
    pub fn advance(&mut self, now_ns: u64) {
        if self.timeout_at_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            self.timeout_at_ns = None;
            self.timeout_pending = true;
        }
    }

    fn is_loopback(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    fn fifos_enabled(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    fn capacity(&self) -> usize {
        if self.fifos_enabled() { FIFO_LEN } else { 1 }
    }

    fn trigger_level(&self) -> usize {
        if self.fifos_enabled() { [1, 4, 8, 14][usize::from(self.fcr >> 6)] } else { 1 }
    }

    /// The pending interrupt of the highest priority, as IIR names it.
    fn interrupt_source(&self) -> u8 {
        let received = self.ier & IER_RECEIVED != 0;
        if self.ier & IER_LINE_STATUS != 0 && (self.overrun || self.first_errors() != 0) {
            IIR_LINE_STATUS
        } else if received && self.receiver.len() >= self.trigger_level() {
            IIR_RECEIVED
        } else if received && self.timeout_pending {
            IIR_TIMEOUT
        } else if self.ier & IER_THRE != 0 && self.thre_pending {
            IIR_THRE
        } else if self.ier & IER_MODEM_STATUS != 0 && self.msr & 0x0f != 0 {
            IIR_MODEM_STATUS
        } else {
            IIR_NONE
        }
    }

    fn first_errors(&self) -> u8 {
        self.receiver.front().map_or(0, |first| first.errors)
    }

    fn push(&mut self, received: Received, now_ns: u64) {
        if self.room() == 0 {
            self.overrun = true;
            // A full FIFO keeps what it holds; a lone RBR is overwritten.
            if self.fifos_enabled() {
                return;
            }
            self.receiver.clear();
        }
        self.receiver.push_back(received);
        self.restart_timeout(now_ns);
    }

    fn read_rbr(&mut self, now_ns: u64) -> u8 {
        if let Some(first) = self.receiver.pop_front() {
            self.last_received = first.byte;
        }
        self.timeout_pending = false;
        self.restart_timeout(now_ns);
        self.last_received
    }

    /// The timeout runs for four character times after the last arrival or read, while a FIFO holds something.
    fn restart_timeout(&mut self, now_ns: u64) {
        let runs = self.fifos_enabled() && !self.receiver.is_empty() && !self.timeout_pending;
        self.timeout_at_ns = runs.then(|| now_ns.saturating_add(4 * self.character_ns()));
    }

    fn character_ns(&self) -> u64 {
        let data_bits = 5 + u64::from(self.lcr & 3);
        let parity_bits = u64::from(self.lcr & LCR_PARITY != 0);
        let stop_bits = 1 + u64::from(self.lcr & LCR_TWO_STOP_BITS != 0);
        let bits = 1 + data_bits + parity_bits + stop_bits;
        bits * u64::from(self.divisor.max(1)) * BIT_PS / 1000
    }

    fn read_iir(&mut self) -> u8 {
        let source = self.interrupt_source();
        // Reading IIR acknowledges THRE, and only if THRE is what it reports.
        if source == IIR_THRE {
            self.thre_pending = false;
        }
        source | if self.fifos_enabled() { IIR_FIFOS_ENABLED } else { 0 }
    }

    fn read_lsr(&mut self) -> u8 {
        let mut lsr = self.first_errors();
        if !self.receiver.is_empty() {
            lsr |= LSR_DATA_READY;
        }
        if self.overrun {
            lsr |= LSR_OVERRUN;
        }
        if self.transmitting.is_none() {
            lsr |= LSR_THRE | LSR_TEMT;
        }
        if self.fifos_enabled() && self.receiver.iter().any(|received| received.errors != 0) {
            lsr |= LSR_FIFO_ERROR;
        }
        self.overrun = false;
        if let Some(first) = self.receiver.front_mut() {
            first.errors &= !LSR_CHARACTER_ERRORS;
        }
        lsr
    }

    fn write_ier(&mut self, value: u8) {
        let enabled = value & !self.ier;
        self.ier = value & 0x0f;
        // Enabling the THRE interrupt while the holding register is empty raises it at once.
        if enabled & IER_THRE != 0 && self.transmitting.is_none() {
            self.thre_pending = true;
        }
    }

    fn write_fcr(&mut self, value: u8) {
        let toggles = (value ^ self.fcr) & FCR_ENABLE != 0;
        if toggles || value & FCR_RESET_RECEIVER != 0 {
            self.receiver.clear();
            self.timeout_pending = false;
            self.timeout_at_ns = None;
        }
        // The other bits are only programmed while the FIFOs are enabled.
        self.fcr = if value & FCR_ENABLE != 0 { value & 0xc1 } else { 0 };
    }

    fn write_lcr(&mut self, value: u8, now_ns: u64) {
        let break_begins = value & !self.lcr & LCR_BREAK != 0;
        self.lcr = value;
        if break_begins && self.is_loopback() {
            self.receive_break(now_ns);
        }
    }

    /// Takes the modem inputs (in loopback, the chip's own outputs) and notes what changed.
    fn sample_modem_inputs(&mut self) {
        let inputs = if self.is_loopback() {
            [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)]
                .iter()
                .filter(|(output, _)| self.mcr & output != 0)
                .fold(0, |inputs, (_, input)| inputs | input)
        } else {
            LINE_INPUTS
        };
        let changed = (inputs ^ self.msr) & 0xf0;
        let mut deltas = (changed & !MSR_RI) >> 4;
        // RI reports its trailing edge only.
        if changed & MSR_RI != 0 && inputs & MSR_RI == 0 {
            deltas |= MSR_TERI;
        }
        self.msr = inputs | self.msr & 0x0f | deltas;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Register accesses in order: `W(register, value)` writes (and sends), `R(register, value)` reads and compares.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        W(u8, u8),
        R(u8, u8),
        Arrives(u8),
        Break,
        At(u64),
        Interrupt(bool),
    }
    use Step::*;

    fn run(name: &str, steps: &[Step]) {
        let mut uart = Uart::new();
        let mut now_ns = 0;
        for (index, &step) in steps.iter().enumerate() {
            let place = format!("{name}, step {index}: {step:?}");
            match step {
                W(register, value) => {
                    uart.write(register, value, now_ns);
                    uart.shift_out(now_ns);
                }
                R(register, value) => assert_eq!(uart.read(register, now_ns), value, "{place}"),
                Arrives(byte) => uart.receive(byte, now_ns),
                Break => uart.receive_break(now_ns),
                At(ns) => {
                    now_ns = ns;
                    uart.advance(ns);
                }
                Interrupt(high) => assert_eq!(uart.interrupt(), high, "{place}"),
            }
        }
    }

    #[test]
    fn registers_behave_as_the_datasheet_says() {
        let cases: &[(&str, &[Step])] = &[
            ("after reset", &[R(1, 0), R(2, 1), R(3, 0), R(4, 0), R(5, 0x60), R(6, 0xb0)]),
            ("divisor latch", &[W(3, 0x83), W(0, 1), W(1, 2), R(0, 1), R(1, 2), W(3, 3), R(1, 0)]),
            ("scratch and masks", &[W(7, 0xa5), R(7, 0xa5), W(1, 0xff), R(1, 0x0f), W(4, 0xff), R(4, 0x1f)]),
            (
                "THRE: raised by enabling, cleared by IIR, raised again by sending",
                &[
                    W(4, 8),
                    W(1, 2),
                    Interrupt(true),
                    R(2, 2),
                    R(2, 1),
                    Interrupt(false),
                    W(0, b'a'),
                    Interrupt(true),
                    R(5, 0x60),
                    R(2, 2),
                    W(1, 0),
                    W(1, 2),
                    R(2, 2),
                    R(2, 1),
                ],
            ),
            ("OUT2 gates", &[W(1, 2), Interrupt(false), W(4, 8), Interrupt(true), W(4, 0), Interrupt(false)]),
            (
                "IIR leaves THRE alone below data",
                &[W(1, 3), W(3, 3), Arrives(9), R(2, 4), R(0, 9), R(2, 2), R(2, 1)],
            ),
            (
                "FIFO triggers and timeout at 115200 8N1",
                &[
                    W(3, 0x83),
                    W(0, 1),
                    W(1, 0),
                    W(3, 3),
                    W(2, 0x41),
                    W(1, 1),
                    W(4, 8),
                    Arrives(1),
                    Arrives(2),
                    Arrives(3),
                    R(2, 0xc1),
                    Interrupt(false),
                    At(347_000),
                    R(2, 0xc1),
                    At(348_000),
                    R(2, 0xcc),
                    Interrupt(true),
                    R(0, 1),
                    R(2, 0xc1),
                    Arrives(4),
                    Arrives(5),
                    R(2, 0xc4),
                    R(0, 2),
                    R(2, 0xc1),
                ],
            ),
            (
                "overrun without FIFO overwrites",
                &[
                    W(3, 3),
                    W(1, 4),
                    Arrives(1),
                    Arrives(2),
                    R(2, 6),
                    R(5, 0x63),
                    R(5, 0x61),
                    R(0, 2),
                    R(5, 0x60),
                ],
            ),
            (
                "break is marked on its own character",
                &[
                    W(3, 3),
                    W(2, 1),
                    Arrives(1),
                    Break,
                    R(5, 0xe1),
                    R(0, 1),
                    R(5, 0xf1),
                    R(5, 0x61),
                    R(0, 0),
                    R(5, 0x60),
                ],
            ),
            (
                "loopback modem lines",
                &[
                    W(4, 0x1a),
                    R(6, 0x92),
                    R(6, 0x90),
                    W(4, 0x15),
                    R(6, 0x6b),
                    W(4, 0x10),
                    R(6, 0x06),
                    W(4, 0),
                    R(6, 0xbb),
                ],
            ),
            (
                "loopback data and break",
                &[W(3, 3), W(4, 0x10), W(0, 0x5a), R(5, 0x61), R(0, 0x5a), W(3, 0x43), R(5, 0x71), R(0, 0)],
            ),
            (
                "FCR toggling clears",
                &[W(3, 3), Arrives(1), W(2, 1), R(5, 0x60), Arrives(1), W(2, 0), R(5, 0x60)],
            ),
            ("modem status interrupt", &[W(1, 8), W(4, 0x10), R(2, 0), R(6, 0x0b), R(2, 1)]),
            ("character length", &[W(3, 0), W(4, 0x10), W(0, 0xff), R(0, 0x1f)]),
        ];
        for (name, steps) in cases {
            run(name, steps);
        }
    }

    /// The probe that drivers use to tell a 16-byte FIFO from a deeper one.
    #[test]
    fn a_loopback_probe_counts_sixteen() {
        let mut uart = Uart::new();
        uart.write(2, 0x07, 0);
        uart.write(4, 0x10, 0);
        uart.write(3, 0x03, 0);
        for byte in 0..=255 {
            uart.write(0, byte, 0);
            assert_eq!(uart.shift_out(0), None);
        }
        let mut count = 0;
        while uart.read(5, 0) & LSR_DATA_READY != 0 {
            assert_eq!(uart.read(0, 0), count);
            count += 1;
        }
        assert_eq!(count, 16);
    }

    /// Linux tells other chips apart by a readable EFR, EXCR or a 64-byte-FIFO flag; a 16550A shows IIR there.
    #[test]
    fn probes_for_other_chips_find_a_16550a() {
        let mut uart = Uart::new();
        uart.write(2, 0x01, 0);
        for lcr in [0x80, 0xbf, 0xe0, 0x00] {
            uart.write(3, lcr, 0);
            assert_eq!(uart.read(2, 0), 0xc1, "LCR {lcr:#x}");
        }
        uart.write(2, 0x21, 0);
        assert_eq!(uart.read(2, 0) & 0x20, 0);
    }
}
