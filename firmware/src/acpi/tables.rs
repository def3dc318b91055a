//! FADT (5.2.9) and MADT (5.2.12).

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, board};
use acpi_tables::sdt::Sdt;

/// 255 is the xAPIC's broadcast: from there on processors have x2APIC entries.
const FIRST_X2APIC_ID: u32 = 255;
const FADT_BYTES: u32 = 276;

/// FADT flags (table 5.10).
mod fadt_flag {
    pub(super) const WBINVD: u32 = 1 << 0;
    pub(super) const PROC_C1: u32 = 1 << 2;
    pub(super) const PWR_BUTTON: u32 = 1 << 4;
    pub(super) const SLP_BUTTON: u32 = 1 << 5;
    pub(super) const TMR_VAL_EXT: u32 = 1 << 8;
    pub(super) const RESET_REG_SUP: u32 = 1 << 10;
}

/// IA-PC boot architecture: legacy devices, and an 8042.
const BOOT_ARCH: u16 = 1 << 0 | 1 << 1 | 1 << 2;

/// A generic address structure for `bits` of I/O space at `port`.
fn io_address(port: u16, bits: u8, access: u8) -> [u8; 12] {
    let mut gas = [1, bits, 0, access, 0, 0, 0, 0, 0, 0, 0, 0];
    gas[4..6].copy_from_slice(&port.to_le_bytes());
    gas
}

/// The fixed ACPI description table.
pub(super) fn fadt(facs: u64, dsdt: u64) -> Vec<u8> {
    let mut t = Sdt::new(*b"FACP", FADT_BYTES, 6, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    t.write_u32(36, facs as u32);
    t.write_u32(40, dsdt as u32);
    t.write_u16(46, u16::from(board::SCI));
    t.write_u32(48, u32::from(board::SMI_COMMAND));
    t.write_u8(52, board::ACPI_ENABLE);
    t.write_u8(53, board::ACPI_DISABLE);
    t.write_u32(56, u32::from(board::PM1A_EVENT));
    t.write_u32(64, u32::from(board::PM1A_CONTROL));
    t.write_u32(76, u32::from(board::PM_TIMER));
    t.write_u32(80, u32::from(board::GPE0));
    // Lengths: PM1 event 4, PM1 control 2, PM2 none, timer 4, GPE0 4.
    t.write_bytes(88, &[4, 2, 0, 4, 4, 0, 0, 0]);
    // C2 and C3 latencies beyond their limits: neither state is offered.
    t.write_u16(96, 0xfff);
    t.write_u16(98, 0xfff);
    // The century's place in CMOS.
    t.write_u8(108, 0x32);
    t.write_u16(109, BOOT_ARCH);
    let flags = fadt_flag::WBINVD
        | fadt_flag::PROC_C1
        | fadt_flag::PWR_BUTTON
        | fadt_flag::SLP_BUTTON
        | fadt_flag::TMR_VAL_EXT
        | fadt_flag::RESET_REG_SUP;
    t.write_u32(112, flags);
    t.write_bytes(116, &io_address(board::RESET_PORT, 8, 1));
    t.write_u8(128, board::RESET_VALUE);
    t.write_u64(140, dsdt);
    t.write_bytes(148, &io_address(board::PM1A_EVENT, 32, 2));
    t.write_bytes(172, &io_address(board::PM1A_CONTROL, 16, 2));
    t.write_bytes(208, &io_address(board::PM_TIMER, 32, 3));
    t.write_bytes(220, &io_address(board::GPE0, 32, 1));
    t.as_slice().to_vec()
}

/// The multiple APIC description table.
pub(super) fn madt(cpus: u32) -> Vec<u8> {
    const ENABLED: u32 = 1;
    let mut t = Sdt::new(*b"APIC", 36, 5, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    t.append_slice(&board::LAPIC.to_le_bytes());
    // PCAT_COMPAT: there are 8259s too.
    t.append_slice(&1u32.to_le_bytes());
    for id in 0..cpus {
        if id < FIRST_X2APIC_ID {
            t.append_slice(&[0, 8, id as u8, id as u8]);
            t.append_slice(&ENABLED.to_le_bytes());
        } else {
            t.append_slice(&[9, 16, 0, 0]);
            t.append_slice(&id.to_le_bytes());
            t.append_slice(&ENABLED.to_le_bytes());
            t.append_slice(&id.to_le_bytes());
        }
    }
    // The I/O APIC's id is 0, as its register says after reset; Linux compares the two.
    t.append_slice(&[1, 12, 0, 0]);
    t.append_slice(&board::IOAPIC.to_le_bytes());
    t.append_slice(&0u32.to_le_bytes());
    interrupt_override(&mut t, 0, board::IOAPIC_PIN_PIT, 0);
    // Active high, level triggered.
    interrupt_override(&mut t, board::SCI, u32::from(board::SCI), 0b1101);
    // LINT1 is NMI on every processor.
    t.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    if cpus > FIRST_X2APIC_ID {
        // The same for the processors with x2APIC entries, which the line above does not mean.
        t.append_slice(&[0x0a, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    }
    t.as_slice().to_vec()
}

fn interrupt_override(table: &mut Sdt, isa_irq: u8, gsi: u32, flags: u16) {
    table.append_slice(&[2, 10, 0, isa_irq]);
    table.append_slice(&gsi.to_le_bytes());
    table.append_slice(&flags.to_le_bytes());
}
