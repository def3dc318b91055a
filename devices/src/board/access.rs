//! Port and memory accesses: decoded, split where a chip is narrower, counted and traced.

use crate::Device;
use crate::layout::{IOAPIC_BASE, IOAPIC_LEN};
use crate::power::PowerRequest;

use super::ports::{PortRange, Target};
use super::{Board, BoardRequest};

impl Board {
    /// IN: reads 1, 2 or 4 `bytes` at `port`. Ports without a chip read as ones.
    pub fn port_read(&mut self, port: u16, bytes: u8) -> u32 {
        let mut data = [0; 4];
        self.read_ports(port, &mut data[..usize::from(bytes.clamp(1, 4))]);
        self.route();
        u32::from_le_bytes(data)
    }

    /// OUT: writes the low 1, 2 or 4 `bytes` of `value` at `port`.
    pub fn port_write(&mut self, port: u16, bytes: u8, value: u32) {
        self.write_ports(port, &value.to_le_bytes()[..usize::from(bytes.clamp(1, 4))]);
        self.route();
    }

    /// Reads physical memory that is not RAM, 1 to 8 bytes. Addresses without a chip read as ones. A local APIC's
    /// registers are its vCPU's business and not decoded here.
    pub fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        let target = mmio_target(gpa);
        match target {
            Target::IoApic => self.ioapic.read(gpa - IOAPIC_BASE, data),
            _ => data.fill(0xff),
        }
        self.counts[target as usize].reads += 1;
        tracing::trace!(target: "rx86::io", device = target.name(), gpa, value = ?data, "mmio read");
    }

    /// Writes physical memory that is not RAM, 1 to 8 bytes.
    pub fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        let target = mmio_target(gpa);
        tracing::trace!(target: "rx86::io", device = target.name(), gpa, value = ?data, "mmio write");
        self.counts[target as usize].writes += 1;
        if target == Target::IoApic {
            self.ioapic.write(gpa - IOAPIC_BASE, data);
            self.route();
        }
    }

    fn read_ports(&mut self, port: u16, data: &mut [u8]) {
        let range = self.ports.find(port, data.len());
        if data.len() > 1 && !range.takes_whole(port, data.len()) {
            for (index, byte) in data.chunks_mut(1).enumerate() {
                self.read_ports(port.wrapping_add(index as u16), byte);
            }
            return;
        }
        self.counts[range.target as usize].reads += 1;
        self.read_target(range, port, data);
        tracing::trace!(target: "rx86::io", device = range.target.name(), port, value = ?data, "port read");
    }

    fn write_ports(&mut self, port: u16, data: &[u8]) {
        let range = self.ports.find(port, data.len());
        if data.len() > 1 && !range.takes_whole(port, data.len()) {
            for (index, byte) in data.chunks(1).enumerate() {
                self.write_ports(port.wrapping_add(index as u16), byte);
            }
            return;
        }
        tracing::trace!(target: "rx86::io", device = range.target.name(), port, value = ?data, "port write");
        self.counts[range.target as usize].writes += 1;
        self.write_target(range, port, data);
    }

    fn read_target(&mut self, range: PortRange, port: u16, data: &mut [u8]) {
        let offset = range.offset(port);
        match range.target {
            Target::Pic => data[0] = self.pics.read_port(port),
            Target::Pit => self.pit.read(offset, data),
            Target::Port61 => data[0] = self.pit.read_port61(),
            Target::I8042 => self.i8042.read(offset, data),
            Target::Rtc => self.rtc.read(offset, data),
            Target::Port92 => data[0] = self.i8042.read_port_92(),
            Target::SmiCommand => data[0] = self.power.read_smi_command(),
            Target::Power => self.power.read(offset, data),
            Target::ResetControl => data[0] = self.power.read_reset_control(),
            Target::DebugExit => self.debug_exit.read(offset, data),
            Target::Serial => {
                self.serial.read(offset, data);
                self.feed_serial();
            }
            Target::Pci => self.pci.read(offset, data),
            Target::IoApic | Target::Unassigned => data.fill(0xff),
        }
    }

    fn write_target(&mut self, range: PortRange, port: u16, data: &[u8]) {
        let offset = range.offset(port);
        match range.target {
            Target::Pic => self.pics.write_port(port, data[0]),
            Target::Pit => self.pit.write(offset, data),
            Target::Port61 => self.pit.write_port61(data[0]),
            Target::I8042 => self.i8042.write(offset, data),
            Target::Rtc => self.rtc.write(offset, data),
            Target::Port92 => self.i8042.write_port_92(data[0]),
            Target::SmiCommand => self.power.write_smi_command(data[0]),
            Target::Power => self.power.write(offset, data),
            Target::ResetControl => self.power.write_reset_control(data[0]),
            Target::DebugExit => self.debug_exit.write(offset, data),
            Target::Serial => {
                self.serial.write(offset, data);
                self.feed_serial();
            }
            Target::Pci => self.pci.write(offset, data),
            Target::IoApic | Target::Unassigned => {}
        }
        self.note_request(range.target);
    }

    /// Keeps the first wish that a chip voiced in the write just done.
    fn note_request(&mut self, target: Target) {
        let request = match target {
            Target::I8042 | Target::Port92 => self.i8042.take_reset().then_some(BoardRequest::Reset),
            Target::Power | Target::ResetControl => self.power.take_request().map(|request| match request {
                PowerRequest::Off => BoardRequest::PowerOff,
                PowerRequest::Reset => BoardRequest::Reset,
            }),
            Target::DebugExit => self.debug_exit.take_request().map(BoardRequest::DebugExit),
            _ => None,
        };
        self.request = self.request.or(request);
    }
}

fn mmio_target(gpa: u64) -> Target {
    if (IOAPIC_BASE..IOAPIC_BASE + IOAPIC_LEN).contains(&gpa) { Target::IoApic } else { Target::Unassigned }
}
