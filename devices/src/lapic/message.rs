//! Interrupt messages: what I/O APICs, MSI writes and IPIs put on the system bus (SDM Vol. 3A, 12.6.1 and 12.11).

/// How a message is to be delivered; the value is the encoding of SDM Vol. 3A, figure 12-12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// The vector in the message.
    Fixed = 0,
    /// The vector in the message, at the addressed processor that runs at the lowest priority.
    LowestPriority = 1,
    /// System management interrupt.
    Smi = 2,
    /// Non-maskable interrupt.
    Nmi = 4,
    /// Processor initialization.
    Init = 5,
    /// Start-up IPI; the vector is the page number of the code.
    StartUp = 6,
    /// The vector comes from the 8259A.
    ExtInt = 7,
}

impl DeliveryMode {
    /// The mode encoded in the low three bits; `None` for the reserved encoding 3.
    pub fn from_bits(bits: u32) -> Option<Self> {
        match bits & 7 {
            0 => Some(Self::Fixed),
            1 => Some(Self::LowestPriority),
            2 => Some(Self::Smi),
            4 => Some(Self::Nmi),
            5 => Some(Self::Init),
            6 => Some(Self::StartUp),
            7 => Some(Self::ExtInt),
            _ => None,
        }
    }
}

/// One interrupt on its way to local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptMessage {
    /// The destination field: 8 bits, or 32 when `wide`.
    pub destination: u32,
    /// The destination is a logical one, to be compared with each APIC's LDR.
    pub logical: bool,
    /// The destination has x2APIC's 32 bits, in which all ones is the broadcast; otherwise 0xff is.
    pub wide: bool,
    /// What the message does at its destination.
    pub delivery_mode: DeliveryMode,
    /// The vector, where the delivery mode has one.
    pub vector: u8,
    /// Level triggered: the end of the interrupt is broadcast to the I/O APICs.
    pub level: bool,
}

impl InterruptMessage {
    /// The message that a write of `data` to `address` in 0xfee0_0000 to 0xfeef_ffff stands for (SDM Vol. 3A,
    /// 12.11); `None` if the address is elsewhere or the delivery mode is reserved.
    pub fn from_msi(address: u64, data: u32) -> Option<Self> {
        const REDIRECTION_HINT: u64 = 1 << 3;
        const LOGICAL: u64 = 1 << 2;
        if address >> 20 != 0xfee {
            return None;
        }
        Some(Self {
            destination: (address >> 12) as u32 & 0xff,
            // The SDM has the destination mode ignored without the redirection hint, but chipsets honour it and
            // guests such as Linux in flat logical mode depend on that.
            logical: address & LOGICAL != 0,
            wide: false,
            delivery_mode: match DeliveryMode::from_bits(data >> 8)? {
                DeliveryMode::Fixed
                    if address & (REDIRECTION_HINT | LOGICAL) == REDIRECTION_HINT | LOGICAL =>
                {
                    DeliveryMode::LowestPriority
                }
                mode => mode,
            },
            vector: data as u8,
            level: data & 1 << 15 != 0,
        })
    }
}

/// Which local APICs an IPI is for, after its destination shorthand was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Those that the message's destination field matches.
    Field,
    /// The one with this APIC ID.
    Only(u32),
    /// All but the one with this APIC ID.
    AllBut(u32),
    /// All.
    All,
}
