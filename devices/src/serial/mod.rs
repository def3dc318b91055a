//! A serial port: the 16550A chip, its interrupt wire and the far end of its line.

mod uart;

use std::sync::Arc;

use crate::{Clock, Device, Wire};
pub use uart::Uart;

/// Where the bytes that the guest sends go.
pub trait SerialSink: Send {
    /// Takes one byte from the line.
    fn transmit(&mut self, byte: u8);
}

/// A 16550A between a range of eight ports, an interrupt wire and a host's sink.
///
/// Sending takes no guest time. Received characters come as fast as the FIFO takes them, while RTS is raised: the far
/// end keeps to hardware flow control, so that what is typed early waits for a guest that listens.
pub struct Serial {
    uart: Uart,
    clock: Arc<dyn Clock>,
    sink: Box<dyn SerialSink>,
    irq: Wire,
}

impl Serial {
    /// A serial port after power-on.
    pub fn new(clock: Arc<dyn Clock>, sink: Box<dyn SerialSink>, irq: Wire) -> Self {
        Self { uart: Uart::new(), clock, sink, irq }
    }

    /// Offers `bytes` to the receiver and returns how many it took: what its FIFO has room for, or none while the guest
    /// holds RTS low or tests the chip in loopback. The caller keeps the rest and offers it again.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() || !self.uart.is_listening() {
            return 0;
        }
        let taken = bytes.len().min(self.uart.room());
        let now_ns = self.clock.now_ns();
        for &byte in &bytes[..taken] {
            self.uart.receive(byte, now_ns);
        }
        self.drive();
        taken
    }

    /// Lets the guest see a break on the line; false while it does not listen.
    pub fn receive_break(&mut self) -> bool {
        let listening = self.uart.is_listening();
        if listening {
            self.uart.receive_break(self.clock.now_ns());
            self.drive();
        }
        listening
    }

    fn drive(&self) {
        self.irq.set(self.uart.interrupt());
    }
}

impl Device for Serial {
    fn name(&self) -> &'static str {
        "serial"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (register, byte) in (offset as u8..).zip(data) {
            *byte = self.uart.read(register, self.clock.now_ns());
        }
        self.drive();
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (register, &byte) in (offset as u8..).zip(data) {
            let now_ns = self.clock.now_ns();
            self.uart.write(register, byte, now_ns);
            // The wire falls while the holding register is full, so that an edge-triggered controller sees THRE again.
            self.drive();
            if let Some(sent) = self.uart.shift_out(now_ns) {
                self.sink.transmit(sent);
            }
            self.drive();
        }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.uart.next_deadline_ns()
    }

    fn advance(&mut self, now_ns: u64) {
        self.uart.advance(now_ns);
        self.drive();
    }

    fn reset(&mut self) {
        self.uart = Uart::new();
        self.drive();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::WireHarness;
    use crate::pit::manual_clock::ManualClock;

    #[derive(Clone, Default)]
    struct Line(Arc<Mutex<Vec<u8>>>);

    impl SerialSink for Line {
        fn transmit(&mut self, byte: u8) {
            self.0.lock().unwrap().push(byte);
        }
    }

    fn port() -> (Serial, Line, WireHarness, Arc<ManualClock>) {
        let (line, harness, time) = (Line::default(), WireHarness::default(), ManualClock::new());
        (Serial::new(time.clone(), Box::new(line.clone()), harness.wire(4)), line, harness, time)
    }

    #[test]
    fn every_byte_sent_makes_a_new_edge() {
        let (mut serial, line, harness, _) = port();
        serial.write(4, &[0x0b]);
        serial.write(1, &[0x02]);
        for byte in *b"ok" {
            assert_eq!(harness.take_changes().rose, 1 << 4);
            serial.write(0, &[byte]);
        }
        assert_eq!(*line.0.lock().unwrap(), b"ok");
    }

    #[test]
    fn input_waits_for_rts_and_for_room() {
        let (mut serial, _, harness, time) = port();
        assert_eq!(serial.receive(b"early"), 0);
        serial.write(2, &[0xc1]);
        serial.write(4, &[0x0b]);
        serial.write(1, &[0x01]);
        assert_eq!(serial.receive(&[b'x'; 20]), 16);
        assert_eq!(serial.receive(b"more"), 0);
        assert_eq!(harness.take_changes().level, 1 << 4);
        let mut byte = [0];
        for _ in 0..3 {
            serial.read(0, &mut byte);
        }
        assert_eq!(byte, *b"x");
        assert_eq!(harness.take_changes().level, 0, "13 characters are below the trigger level of 14");
        let deadline = serial.next_deadline_ns().expect("a timeout is running");
        time.set_ns(deadline);
        serial.advance(deadline);
        assert_eq!(harness.take_changes().level, 1 << 4);
        serial.reset();
        assert_eq!(harness.take_changes().level, 0);
    }
}
