//! ACPI tables of the board (ACPI specification 6.4, chapter 5): RSDP, XSDT, FADT, FACS, MADT, DSDT.

mod dsdt;
mod tables;

use crate::error::LoadError;
use crate::layout::{ACPI_TABLES, EXTENDED};
use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use rx86_softmmu::GuestMemory;

/// Where the board has what the tables name. The board's own constants are in the devices' crate, which this one does
/// not know; the machine's tests hold both together.
pub mod board {
    /// PM1a event block.
    pub const PM1A_EVENT: u16 = 0x600;
    /// PM1a control block.
    pub const PM1A_CONTROL: u16 = 0x604;
    /// Power management timer, 32 bits.
    pub const PM_TIMER: u16 = 0x608;
    /// General purpose event block 0: four bytes.
    pub const GPE0: u16 = 0x60c;
    /// The SMI command port.
    pub const SMI_COMMAND: u16 = 0xb2;
    /// Written there: turns ACPI on.
    pub const ACPI_ENABLE: u8 = 0xf1;
    /// Written there: turns ACPI off.
    pub const ACPI_DISABLE: u8 = 0xf0;
    /// The reset register and the value that resets.
    pub const RESET_PORT: u16 = 0xcf9;
    /// The value that resets.
    pub const RESET_VALUE: u8 = 6;
    /// SLP_TYP of S5.
    pub const SLP_TYP_S5: u8 = 5;
    /// The system control interrupt.
    pub const SCI: u8 = 9;
    /// Local APICs.
    pub const LAPIC: u32 = 0xfee0_0000;
    /// The I/O APIC.
    pub const IOAPIC: u32 = 0xfec0_0000;
    /// The I/O APIC's input that the timer is wired to.
    pub const IOAPIC_PIN_PIT: u32 = 2;
}

/// OEM id in every table.
const OEM_ID: [u8; 6] = *b"RX86  ";
/// OEM table id in every table.
const OEM_TABLE_ID: [u8; 8] = *b"RX86PC  ";
/// OEM revision in every table.
const OEM_REVISION: u32 = 1;

/// The most processors that the MADT has room for.
pub const MAX_CPUS: u32 = 4096;

/// Writes all tables for `cpus` processors, from [`ACPI_TABLES`] and below 1 MiB.
///
/// Fails when `cpus` is not in 1 to [`MAX_CPUS`] or the guest has less than 1 MiB of RAM.
pub fn write_tables(memory: &GuestMemory, cpus: u32) -> Result<(), LoadError> {
    if !(1..=MAX_CPUS).contains(&cpus) {
        return Err(LoadError::CpuCount { cpus, limit: MAX_CPUS });
    }
    let mut writer = Writer { memory, at: ACPI_TABLES + 0x40 };
    let facs = writer.write(&bytes_of(&FACS::new()), 64)?;
    let dsdt = writer.write(&dsdt::table(), 16)?;
    let fadt = writer.write(&tables::fadt(facs, dsdt), 16)?;
    let madt = writer.write(&tables::madt(cpus), 16)?;
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = writer.write(&bytes_of(&xsdt), 16)?;
    let rsdp = bytes_of(&Rsdp::new(OEM_ID, xsdt));
    memory.write(ACPI_TABLES, &rsdp).map_err(|_| LoadError::NoRoomForTables)
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

struct Writer<'a> {
    memory: &'a GuestMemory,
    at: u64,
}

impl Writer<'_> {
    /// Writes a table at the next address with `alignment`; returns that address.
    fn write(&mut self, table: &[u8], alignment: u64) -> Result<u64, LoadError> {
        let address = self.at.next_multiple_of(alignment);
        self.at = address + table.len() as u64;
        assert!(self.at <= EXTENDED, "MAX_CPUS bounds the tables");
        self.memory.write(address, table).map_err(|_| LoadError::NoRoomForTables)?;
        Ok(address)
    }
}
