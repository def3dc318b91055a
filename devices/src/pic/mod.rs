//! The PC's pair of 8259A interrupt controllers, with the edge/level registers of EISA (Intel 8259A datasheet;
//! 82371AB for ELCR).

mod chip;

#[cfg(test)]
mod tests;

use chip::Pic;

/// The master's input at which the slave's output arrives.
const CASCADE: u8 = 2;

/// The two 8259As: the master's inputs are IRQ 0 to 7, the slave's 8 to 15.
#[derive(Debug)]
pub struct PicPair {
    master: Pic,
    slave: Pic,
}

impl Default for PicPair {
    fn default() -> Self {
        Self::new()
    }
}

impl PicPair {
    /// Both chips as after power-up: all inputs edge-triggered, waiting for ICW1.
    pub fn new() -> Self {
        // IRQ 0, 1, 2, 8 and 13 cannot be made level-triggered.
        Self { master: Pic::new(0xf8), slave: Pic::new(0xde) }
    }

    /// The board's reset line.
    pub fn reset(&mut self) {
        self.master.reset();
        self.slave.reset();
    }

    /// Reads port 0x20, 0x21, 0xa0, 0xa1, 0x4d0 or 0x4d1.
    pub fn read_port(&mut self, port: u16) -> u8 {
        let value = match port {
            // A poll of the master is its INTA cycle; the slave is left to be polled by itself.
            0x20 if self.master.is_polled() => self.master.poll(),
            0x20 => self.master.read_status(),
            0xa0 if self.slave.is_polled() => self.slave.poll(),
            0xa0 => self.slave.read_status(),
            0x21 => self.master.mask(),
            0xa1 => self.slave.mask(),
            0x4d0 => self.master.elcr(),
            0x4d1 => self.slave.elcr(),
            _ => 0xff,
        };
        self.cascade();
        value
    }

    /// Writes port 0x20, 0x21, 0xa0, 0xa1, 0x4d0 or 0x4d1.
    pub fn write_port(&mut self, port: u16, value: u8) {
        match port {
            0x20 => self.master.write_command(value),
            0x21 => self.master.write_data(value),
            0xa0 => self.slave.write_command(value),
            0xa1 => self.slave.write_data(value),
            0x4d0 => self.master.set_elcr(value),
            0x4d1 => self.slave.set_elcr(value),
            _ => {}
        }
        self.cascade();
    }

    /// Drives the line of `irq` (0 to 15). IRQ 2 is the cascade and has no line of its own.
    ///
    /// An edge stays requested when its line falls before the CPU takes it: a chip's pulse is shorter than the time
    /// between two looks of the CPU, and in silicon it would have been seen.
    pub fn set_irq(&mut self, irq: u8, high: bool) {
        match irq {
            CASCADE => {}
            0..8 => self.master.set_input(irq, high),
            8..16 => self.slave.set_input(irq - 8, high),
            _ => {}
        }
        self.cascade();
    }

    /// The INTR line to the CPU.
    pub fn output(&self) -> bool {
        self.master.output()
    }

    /// The INTA cycle: the vector for the CPU. With no request left it is that of IRQ 7, or of IRQ 15 if the slave's
    /// request went away, without anything coming into service.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.master.acknowledge() {
            Some(CASCADE) => self.slave_vector(),
            Some(input) => self.master.vector(input),
            None => self.master.vector(7),
        };
        self.cascade();
        vector
    }

    fn slave_vector(&mut self) -> u8 {
        let input = self.slave.acknowledge().unwrap_or(7);
        self.slave.vector(input)
    }

    fn cascade(&mut self) {
        let request = self.slave.output();
        self.master.set_cascade(CASCADE, request);
    }
}
