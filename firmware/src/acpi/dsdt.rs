//! DSDT: the board's devices as AML (ACPI specification, chapter 20).

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, board};
use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Name, Package, PackageBuilder,
    Path, ResourceTemplate, Scope,
};
use acpi_tables::sdt::Sdt;

/// The first I/O APIC input of PCI interrupts; slots take the four from here in turn.
const PCI_GSI_BASE: u8 = 16;
const PCI_SLOTS: u32 = 32;

/// A device on an interrupt line and a few ports.
fn isa_device(scope: &mut Vec<u8>, name: &str, id: &str, ports: &[(u16, u8)], irq: Option<u32>) {
    let io: Vec<IO> = ports.iter().map(|&(port, length)| IO::new(port, port, 1, length)).collect();
    let interrupt = irq.map(|irq| Interrupt::new(true, true, false, false, irq));
    let mut resources: Vec<&dyn Aml> = io.iter().map(|io| io as &dyn Aml).collect();
    resources.extend(interrupt.iter().map(|interrupt| interrupt as &dyn Aml));
    let id = Name::new("_HID".into(), &EISAName::new(id));
    let current = Name::new("_CRS".into(), &ResourceTemplate::new(resources));
    Device::new(Path::new(name), vec![&id, &current]).to_aml_bytes(scope);
}

/// `_PRT`: INTA# to INTD# of each slot to an I/O APIC input.
fn pci_routing() -> PackageBuilder {
    let mut table = PackageBuilder::new();
    for slot in 0..PCI_SLOTS {
        for pin in 0..4u8 {
            let address = slot << 16 | 0xffff;
            let gsi = PCI_GSI_BASE + (slot as u8 + pin) % 4;
            table.add_element(&Package::new(vec![&address, &pin, &0u8, &gsi]));
        }
    }
    table
}

/// The PCI host bridge with its windows.
fn pci_host(scope: &mut Vec<u8>) {
    let id = Name::new("_HID".into(), &EISAName::new("PNP0A03"));
    let unique = Name::new("_UID".into(), &0u8);
    let bus = Name::new("_BBN".into(), &0u8);
    let windows = Name::new(
        "_CRS".into(),
        &ResourceTemplate::new(vec![
            &AddressSpace::new_bus_number(0u16, 0xffu16),
            &IO::new(0xcf8, 0xcf8, 1, 8),
            &AddressSpace::new_io(0x0000u16, 0x0cf7u16, None),
            &AddressSpace::new_io(0x0d00u16, 0xffffu16, None),
            &AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, 0xa_0000u32, 0xb_ffffu32, None),
            &AddressSpace::new_memory(
                AddressSpaceCacheable::NotCacheable,
                true,
                0xc000_0000u32,
                0xfebf_ffffu32,
                None,
            ),
        ]),
    );
    let routing = Name::new("_PRT".into(), &pci_routing());
    Device::new("PCI0".into(), vec![&id, &unique, &bus, &windows, &routing]).to_aml_bytes(scope);
}

/// The whole table.
pub(super) fn table() -> Vec<u8> {
    let mut body = Vec::new();
    let sleep = Package::new(vec![&board::SLP_TYP_S5, &0u8, &0u8, &0u8]);
    Name::new("\\_S5_".into(), &sleep).to_aml_bytes(&mut body);
    let mut devices = Vec::new();
    pci_host(&mut devices);
    isa_device(&mut devices, "COM1", "PNP0501", &[(0x3f8, 8)], Some(4));
    isa_device(&mut devices, "KBD_", "PNP0303", &[(0x60, 1), (0x64, 1)], Some(1));
    isa_device(&mut devices, "RTC_", "PNP0B00", &[(0x70, 2)], Some(8));
    isa_device(&mut devices, "TIMR", "PNP0100", &[(0x40, 4)], Some(0));
    isa_device(&mut devices, "PIC_", "PNP0000", &[(0x20, 2), (0xa0, 2), (0x4d0, 2)], None);
    body.extend(Scope::raw("\\_SB_".into(), devices));
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(&body);
    table.as_slice().to_vec()
}
