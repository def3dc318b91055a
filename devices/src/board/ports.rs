//! Which chip decodes which port.

use crate::layout::{
    DEBUG_EXIT_LEN, I8042_COMMAND, I8042_DATA, PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA, PIC_ELCR, PIC_MASTER,
    PIC_SLAVE, PIT, PM_BASE, PM_LEN, PORT_61, PORT_92, RESET_CONTROL, RTC, SERIAL, SMI_COMMAND,
};

/// What an access is for; several may be parts of one chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Pic,
    Pit,
    Port61,
    I8042,
    Rtc,
    Port92,
    SmiCommand,
    Power,
    ResetControl,
    DebugExit,
    Serial,
    Pci,
    IoApic,
    Unassigned,
}

impl Target {
    /// All, in the order of their values.
    pub(super) const ALL: [Self; 14] = [
        Self::Pic,
        Self::Pit,
        Self::Port61,
        Self::I8042,
        Self::Rtc,
        Self::Port92,
        Self::SmiCommand,
        Self::Power,
        Self::ResetControl,
        Self::DebugExit,
        Self::Serial,
        Self::Pci,
        Self::IoApic,
        Self::Unassigned,
    ];

    /// The name in traces and statistics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pic => "pic",
            Self::Pit => "pit",
            Self::Port61 => "port61",
            Self::I8042 => "i8042",
            Self::Rtc => "rtc",
            Self::Port92 => "port92",
            Self::SmiCommand => "smi-command",
            Self::Power => "power",
            Self::ResetControl => "reset-control",
            Self::DebugExit => "debug-exit",
            Self::Serial => "serial",
            Self::Pci => "pci",
            Self::IoApic => "ioapic",
            Self::Unassigned => "unassigned",
        }
    }
}

/// Ports `first` to `last` of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortRange {
    first: u16,
    last: u16,
    pub(super) target: Target,
    /// What offset 0 is, which may be below `first`.
    pub(super) base: u16,
    /// The widest access in bytes that the target takes whole.
    widest: u16,
}

impl PortRange {
    const fn new(first: u16, len: u16, target: Target, widest: u16) -> Self {
        Self { first, last: first + (len - 1), target, base: first, widest }
    }

    /// The offset of `port` from the base.
    pub(super) fn offset(&self, port: u16) -> u64 {
        u64::from(port.wrapping_sub(self.base))
    }

    /// Whether the target takes an access of `len` bytes at `port` as one.
    pub(super) fn takes_whole(&self, port: u16, len: usize) -> bool {
        len <= usize::from(self.widest) && usize::from(port) + len - 1 <= usize::from(self.last)
    }
}

const UNASSIGNED: PortRange = PortRange { first: 0, last: 0, target: Target::Unassigned, base: 0, widest: 1 };

/// The fixed ranges, sorted.
const RANGES: [PortRange; 14] = [
    PortRange::new(PIC_MASTER, 2, Target::Pic, 1),
    PortRange::new(PIT, 4, Target::Pit, 1),
    PortRange::new(I8042_DATA, 1, Target::I8042, 1),
    PortRange::new(PORT_61, 1, Target::Port61, 1),
    PortRange { base: I8042_DATA, ..PortRange::new(I8042_COMMAND, 1, Target::I8042, 1) },
    PortRange::new(RTC, 2, Target::Rtc, 1),
    PortRange::new(PORT_92, 1, Target::Port92, 1),
    PortRange::new(PIC_SLAVE, 2, Target::Pic, 1),
    PortRange::new(SMI_COMMAND, 1, Target::SmiCommand, 1),
    PortRange::new(SERIAL, 8, Target::Serial, 1),
    PortRange::new(PIC_ELCR, 2, Target::Pic, 1),
    PortRange::new(PM_BASE, PM_LEN, Target::Power, 4),
    PortRange::new(PCI_CONFIG_ADDRESS, 4, Target::Pci, 4),
    PortRange { base: PCI_CONFIG_ADDRESS, ..PortRange::new(PCI_CONFIG_DATA, 4, Target::Pci, 4) },
];

/// The board's ports.
#[derive(Clone, Debug)]
pub(super) struct PortMap {
    debug_exit: Option<PortRange>,
}

impl PortMap {
    /// The fixed ports, and isa-debug-exit at `debug_exit`, where it hides what else there may be.
    pub(super) fn new(debug_exit: Option<u16>) -> Self {
        let debug_exit = debug_exit.map(|first| PortRange {
            first,
            last: first.saturating_add(DEBUG_EXIT_LEN - 1),
            target: Target::DebugExit,
            base: first,
            widest: 4,
        });
        Self { debug_exit }
    }

    /// Who decodes an access of `len` bytes that begins at `port`.
    pub(super) fn find(&self, port: u16, len: usize) -> PortRange {
        if let Some(range) = self.debug_exit.filter(|range| (range.first..=range.last).contains(&port)) {
            return range;
        }
        // The reset control register is a byte inside the configuration address, which takes double words only.
        if port == RESET_CONTROL && len == 1 {
            return PortRange::new(RESET_CONTROL, 1, Target::ResetControl, 1);
        }
        let index = RANGES.partition_point(|range| range.last < port);
        RANGES.get(index).filter(|range| range.first <= port).copied().unwrap_or(UNASSIGNED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_apart() {
        for pair in RANGES.windows(2) {
            assert!(pair[0].last < pair[1].first, "{pair:x?}");
        }
    }

    #[test]
    fn finds_the_target_and_offset_of_a_port() {
        let cases = [
            (0x00, 1, Target::Unassigned, 0),
            (0x20, 1, Target::Pic, 0),
            (0x43, 1, Target::Pit, 3),
            (0x44, 1, Target::Unassigned, 0x44),
            (0x60, 1, Target::I8042, 0),
            (0x61, 1, Target::Port61, 0),
            (0x64, 1, Target::I8042, 4),
            (0xf4, 1, Target::Unassigned, 0xf4),
            (0x500, 4, Target::DebugExit, 0),
            (0x503, 1, Target::DebugExit, 3),
            (0x504, 1, Target::Unassigned, 0x504),
            (0x608, 4, Target::Power, 8),
            (0xcf8, 4, Target::Pci, 0),
            (0xcf9, 1, Target::ResetControl, 0),
            (0xcf9, 2, Target::Pci, 1),
            (0xcfe, 2, Target::Pci, 6),
            (0xffff, 1, Target::Unassigned, 0xffff),
        ];
        let map = PortMap::new(Some(0x500));
        for (port, len, target, offset) in cases {
            let range = map.find(port, len);
            assert_eq!((range.target, range.offset(port)), (target, offset), "port {port:#x}, {len} bytes");
        }
    }

    #[test]
    fn targets_are_listed_in_their_order() {
        for (index, target) in Target::ALL.into_iter().enumerate() {
            assert_eq!(target as usize, index);
        }
    }
}
