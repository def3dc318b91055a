//! The two bridges that every PC of this kind has: 82441FX (i440FX) to the host, 82371SB (PIIX3) to ISA.

use super::config::Identity;
use super::{ConfigSpace, PciFunction};

const INTEL: u16 = 0x8086;
const COMMAND_STATUS: u8 = 0x04;

/// The 82441FX host bridge. Its memory registers are kept and change nothing: all of RAM is always there.
pub struct HostBridge {
    config: ConfigSpace,
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl HostBridge {
    /// The bridge after reset.
    pub fn new() -> Self {
        let identity = Identity { vendor: INTEL, device: 0x1237, class: 0x06_0000, revision: 2 };
        let mut config = ConfigSpace::new(identity);
        // Memory and bus mastering are on for good.
        config.define(COMMAND_STATUS, 0x0280_0006, 0x0000_0140);
        // PMCCFG, DETURBO, DBC and AXC, then PAM0 to PAM6, which choose between ROM and shadow RAM.
        config.define(0x50, 0, 0xffff_ffff);
        config.define(0x58, 0, 0xffff_ff00);
        config.define(0x5c, 0, 0xffff_ffff);
        // SMRAM control.
        config.define(0x70, 0x0002_0000, 0x00ff_0000);
        Self { config }
    }
}

impl PciFunction for HostBridge {
    fn name(&self) -> &'static str {
        "host bridge"
    }

    fn read_config(&mut self, offset: u8) -> u32 {
        self.config.read(offset)
    }

    fn write_config(&mut self, offset: u8, value: u32, lanes: u32) {
        self.config.write(offset, value, lanes);
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

/// The 82371SB's function 0, the ISA bridge.
pub struct IsaBridge {
    config: ConfigSpace,
}

impl Default for IsaBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl IsaBridge {
    /// The bridge after reset.
    pub fn new() -> Self {
        let identity = Identity { vendor: INTEL, device: 0x7000, class: 0x06_0100, revision: 0 };
        let mut config = ConfigSpace::new(identity);
        config.define(COMMAND_STATUS, 0x0280_0007, 0x0000_0108);
        // IORT and XBCS.
        config.define(0x4c, 0x0003_004d, 0xffff_00ff);
        // PIRQRC A to D: no PCI interrupt is routed.
        config.define(0x60, 0x8080_8080, 0x8f8f_8f8f);
        // DLC: passive release and delayed transactions.
        config.define(0x80, 0, 0x000f_0000);
        Self { config }
    }
}

impl PciFunction for IsaBridge {
    fn name(&self) -> &'static str {
        "ISA bridge"
    }

    fn read_config(&mut self, offset: u8) -> u32 {
        self.config.read(offset)
    }

    fn write_config(&mut self, offset: u8, value: u32, lanes: u32) {
        self.config.write(offset, value, lanes);
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}
