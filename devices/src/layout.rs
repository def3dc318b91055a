//! Where everything on the board is: ports, physical addresses and interrupt lines. Firmware tables say the same.

/// The master 8259: command and data.
pub const PIC_MASTER: u16 = 0x20;
/// The slave 8259: command and data.
pub const PIC_SLAVE: u16 = 0xa0;
/// The edge/level control registers of both interrupt controllers.
pub const PIC_ELCR: u16 = 0x4d0;
/// The 8254: three counters and the control word.
pub const PIT: u16 = 0x40;
/// The keyboard controller's data port.
pub const I8042_DATA: u16 = 0x60;
/// System control port B: speaker and counter 2's gate.
pub const PORT_61: u16 = 0x61;
/// The keyboard controller's status and command port.
pub const I8042_COMMAND: u16 = 0x64;
/// The RTC's index and data ports.
pub const RTC: u16 = 0x70;
/// System control port A: fast A20 and fast reset.
pub const PORT_92: u16 = 0x92;
/// The APM control port, which turns ACPI mode on and off.
pub const SMI_COMMAND: u16 = 0xb2;
/// isa-debug-exit's customary place.
pub const DEBUG_EXIT: u16 = 0xf4;
/// How many ports isa-debug-exit takes.
pub const DEBUG_EXIT_LEN: u16 = 4;
/// COM1.
pub const SERIAL: u16 = 0x3f8;
/// PCI configuration mechanism #1: the address register.
pub const PCI_CONFIG_ADDRESS: u16 = 0xcf8;
/// The reset control register, inside the address register's double word.
pub const RESET_CONTROL: u16 = 0xcf9;
/// PCI configuration mechanism #1: the data window.
pub const PCI_CONFIG_DATA: u16 = 0xcfc;

/// The ACPI power management block.
pub const PM_BASE: u16 = 0x600;
/// PM1a event block: status and enable, two bytes each.
pub const PM1A_EVENT: u16 = PM_BASE;
/// PM1a control block, two bytes.
pub const PM1A_CONTROL: u16 = PM_BASE + 0x04;
/// The power management timer, four bytes.
pub const PM_TIMER: u16 = PM_BASE + 0x08;
/// General purpose event block 0: status and enable, two bytes each.
pub const GPE0: u16 = PM_BASE + 0x0c;
/// The length of the whole block in ports.
pub const PM_LEN: u16 = 0x10;
/// The value at `SMI_COMMAND` that turns ACPI mode on.
pub const ACPI_ENABLE: u8 = 0xf1;
/// The value at `SMI_COMMAND` that turns ACPI mode off.
pub const ACPI_DISABLE: u8 = 0xf0;
/// SLP_TYP of S5, soft off, as the DSDT's `\_S5` names it.
pub const SLP_TYP_S5: u16 = 5;
/// The value that resets the machine when written to `RESET_CONTROL` (FADT RESET_VALUE).
pub const RESET_VALUE: u8 = 0x06;

/// The I/O APIC's registers.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;
/// How many bytes the I/O APIC decodes.
pub const IOAPIC_LEN: u64 = 0x1000;
/// The local APIC's registers after reset.
pub const LAPIC_BASE: u64 = 0xfee0_0000;

/// The PIT's counter 0.
pub const IRQ_PIT: u8 = 0;
/// The I/O APIC pin of the PIT (MADT interrupt source override).
pub const IOAPIC_PIN_PIT: u8 = 2;
/// The keyboard.
pub const IRQ_KEYBOARD: u8 = 1;
/// COM1.
pub const IRQ_SERIAL: u8 = 4;
/// The RTC.
pub const IRQ_RTC: u8 = 8;
/// The ACPI system control interrupt; level triggered, active high.
pub const IRQ_SCI: u8 = 9;
/// The coprocessor's error line.
pub const IRQ_FERR: u8 = 13;
/// The mouse port.
pub const IRQ_AUX: u8 = 12;
