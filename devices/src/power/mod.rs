//! ACPI power management: the PM1a and GPE0 blocks, the PM timer, ACPI mode and the reset control register (ACPI 6.5
//! section 4.8; Intel PIIX4 datasheet, "Reset Control Register").

use std::sync::Arc;

use crate::layout::{ACPI_DISABLE, ACPI_ENABLE, SLP_TYP_S5};
use crate::{Clock, Device, Wire};

const PM1_TMR: u16 = 1 << 0;
const PM1_GBL: u16 = 1 << 5;
const PM1_PWRBTN: u16 = 1 << 8;
const PM1_SLPBTN: u16 = 1 << 9;
const PM1_RTC: u16 = 1 << 10;
const PM1_WAK: u16 = 1 << 15;
const PM1_EVENTS: u16 = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC;

const CNT_SCI_EN: u16 = 1 << 0;
const CNT_BM_RLD: u16 = 1 << 1;
const CNT_SLP_TYP_SHIFT: u16 = 10;
const CNT_SLP_TYP: u16 = 7 << CNT_SLP_TYP_SHIFT;
const CNT_SLP_EN: u16 = 1 << 13;

const RESET_SYSTEM: u8 = 1 << 1;
const RESET_CPU: u8 = 1 << 2;
const RESET_FULL: u8 = 1 << 3;

/// The PM timer's frequency in Hz.
pub const PM_TIMER_HZ: u64 = 3_579_545;
const NS_PER_SECOND: u128 = 1_000_000_000;

/// The PM timer's length, which the FADT's TMR_VAL_EXT flag tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PmTimerWidth {
    /// 24 bits.
    Bits24 = 24,
    /// 32 bits.
    Bits32 = 32,
}

/// What the guest asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerRequest {
    /// Soft off (S5).
    Off,
    /// A reset through the reset control register.
    Reset,
}

/// The power management registers, their timer and the SCI wire. Offsets are those of the block at PM_BASE; ACPI mode
/// and the reset control register have methods, as they stand at other ports.
pub struct Power {
    clock: Arc<dyn Clock>,
    sci: Wire,
    timer_width: PmTimerWidth,
    pm1_status: u16,
    pm1_enable: u16,
    pm1_control: u16,
    gpe0_status: u16,
    gpe0_enable: u16,
    smi_command: u8,
    reset_control: u8,
    /// Half periods of the timer's top bit that have been accounted for in TMR_STS.
    carries_seen: u64,
    request: Option<PowerRequest>,
}

impl Power {
    /// The block after power-on, not yet in ACPI mode.
    pub fn new(clock: Arc<dyn Clock>, timer_width: PmTimerWidth, sci: Wire) -> Self {
        Self {
            clock,
            sci,
            timer_width,
            pm1_status: 0,
            pm1_enable: 0,
            pm1_control: 0,
            gpe0_status: 0,
            gpe0_enable: 0,
            smi_command: 0,
            reset_control: 0,
            carries_seen: 0,
            request: None,
        }
    }

    /// Takes what the guest asked for.
    pub fn take_request(&mut self) -> Option<PowerRequest> {
        self.request.take()
    }

    /// Presses the power button: an ACPI guest gets an SCI.
    pub fn press_power_button(&mut self) {
        self.pm1_status |= PM1_PWRBTN;
        self.drive();
    }

    /// Raises general purpose event `bit` (0 to 15).
    pub fn raise_gpe(&mut self, bit: u8) {
        self.gpe0_status |= 1 << (bit & 15);
        self.drive();
    }

    /// Reads the SMI command port: the last value written.
    pub fn read_smi_command(&self) -> u8 {
        self.smi_command
    }

    /// Writes the SMI command port, where firmware would turn ACPI mode on or off.
    pub fn write_smi_command(&mut self, value: u8) {
        self.smi_command = value;
        match value {
            ACPI_ENABLE => self.pm1_control |= CNT_SCI_EN,
            ACPI_DISABLE => self.pm1_control &= !CNT_SCI_EN,
            _ => {}
        }
        self.drive();
    }

    /// Reads the reset control register.
    pub fn read_reset_control(&self) -> u8 {
        self.reset_control
    }

    /// Writes the reset control register: a rising RST_CPU resets, whether SYS_RST asks for a hard reset or not.
    pub fn write_reset_control(&mut self, value: u8) {
        if value & !self.reset_control & RESET_CPU != 0 {
            self.request = Some(PowerRequest::Reset);
        }
        self.reset_control = value & (RESET_SYSTEM | RESET_CPU | RESET_FULL);
    }

    fn ticks(&self, now_ns: u64) -> u64 {
        (u128::from(now_ns) * u128::from(PM_TIMER_HZ) / NS_PER_SECOND) as u64
    }

    /// How often the timer's top bit has changed by `now_ns`.
    fn carries(&self, now_ns: u64) -> u64 {
        self.ticks(now_ns) >> (self.timer_width as u32 - 1)
    }

    fn update_timer_status(&mut self, now_ns: u64) {
        let carries = self.carries(now_ns);
        if carries > self.carries_seen {
            self.carries_seen = carries;
            self.pm1_status |= PM1_TMR;
        }
    }

    fn drive(&self) {
        let event = self.pm1_status & self.pm1_enable & PM1_EVENTS != 0;
        let general = self.gpe0_status & self.gpe0_enable != 0;
        self.sci.set(self.pm1_control & CNT_SCI_EN != 0 && (event || general));
    }

    /// The byte at `offset` of the block.
    fn read_byte(&self, offset: u64, timer: [u8; 4]) -> u8 {
        let register = match offset {
            0x0 | 0x1 => self.pm1_status,
            0x2 | 0x3 => self.pm1_enable,
            0x4 | 0x5 => self.pm1_control,
            0x8..=0xb => return timer[offset as usize & 3],
            0xc | 0xd => self.gpe0_status,
            0xe | 0xf => self.gpe0_enable,
            _ => 0,
        };
        register.to_le_bytes()[offset as usize & 1]
    }

    fn write_byte(&mut self, offset: u64, value: u8) {
        let shift = (offset as u32 & 1) * 8;
        let (value, kept) = (u16::from(value) << shift, !(0xff << shift));
        match offset {
            0x0 | 0x1 => self.pm1_status &= !value,
            0x2 | 0x3 => self.pm1_enable = self.pm1_enable & kept | value & PM1_EVENTS,
            0x4 | 0x5 => self.write_control(value, kept),
            0xc | 0xd => self.gpe0_status &= !value,
            0xe | 0xf => self.gpe0_enable = self.gpe0_enable & kept | value,
            _ => {}
        }
    }

    fn write_control(&mut self, value: u16, kept: u16) {
        // SCI_EN belongs to firmware: only the SMI command port changes it. GBL_RLS and SLP_EN read as zero.
        let writable = (CNT_BM_RLD | CNT_SLP_TYP) & !kept;
        self.pm1_control = self.pm1_control & !writable | value & writable;
        let sleep_type = (self.pm1_control & CNT_SLP_TYP) >> CNT_SLP_TYP_SHIFT;
        if value & CNT_SLP_EN != 0 {
            if sleep_type == SLP_TYP_S5 {
                self.request = Some(PowerRequest::Off);
            } else {
                // No other sleep state is offered: the guest wakes at once, as it may.
                self.pm1_status |= PM1_WAK;
            }
        }
    }
}

impl Device for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let now_ns = self.clock.now_ns();
        self.update_timer_status(now_ns);
        let mask = if self.timer_width == PmTimerWidth::Bits24 { 0x00ff_ffff } else { u32::MAX };
        let timer = (self.ticks(now_ns) as u32 & mask).to_le_bytes();
        for (offset, byte) in (offset..).zip(data) {
            *byte = self.read_byte(offset, timer);
        }
        self.drive();
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.update_timer_status(self.clock.now_ns());
        for (offset, &byte) in (offset..).zip(data) {
            self.write_byte(offset, byte);
        }
        self.drive();
    }

    /// The timer only needs the board while its carry would interrupt.
    fn next_deadline_ns(&self) -> Option<u64> {
        let wanted = self.pm1_enable & PM1_TMR != 0 && self.pm1_status & PM1_TMR == 0;
        wanted.then(|| {
            let ticks = u128::from(self.carries_seen + 1) << (self.timer_width as u32 - 1);
            (ticks * NS_PER_SECOND).div_ceil(u128::from(PM_TIMER_HZ)) as u64
        })
    }

    fn advance(&mut self, now_ns: u64) {
        self.update_timer_status(now_ns);
        self.drive();
    }

    fn reset(&mut self) {
        let fresh = Self::new(self.clock.clone(), self.timer_width, self.sci.clone());
        // The timer counts on through a reset; what it carried before is not the new guest's.
        let carries_seen = self.carries(self.clock.now_ns());
        *self = Self { carries_seen, ..fresh };
        self.drive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WireHarness;
    use crate::pit::manual_clock::ManualClock;

    fn block(width: PmTimerWidth) -> (Power, WireHarness, Arc<ManualClock>) {
        let (harness, time) = (WireHarness::default(), ManualClock::new());
        (Power::new(time.clone(), width, harness.wire(9)), harness, time)
    }

    fn read(power: &mut Power, offset: u64, bytes: usize) -> u32 {
        let mut data = [0; 4];
        power.read(offset, &mut data[..bytes]);
        u32::from_le_bytes(data)
    }

    #[test]
    fn only_s5_turns_off() {
        for (sleep_type, expected) in
            [(0, None), (1, None), (3, None), (5, Some(PowerRequest::Off)), (7, None)]
        {
            let (mut power, ..) = block(PmTimerWidth::Bits32);
            let value: u16 = sleep_type << 10;
            power.write(4, &value.to_le_bytes());
            assert_eq!(power.take_request(), None, "SLP_EN is not set");
            power.write(4, &(value | 1 << 13).to_le_bytes());
            assert_eq!(power.take_request(), expected, "SLP_TYP {sleep_type}");
            assert_eq!(read(&mut power, 4, 2), u32::from(value));
        }
    }

    #[test]
    fn the_timer_counts_at_its_frequency_and_wraps() {
        let cases = [
            (PmTimerWidth::Bits32, 1_000_000_000, 3_579_545),
            (PmTimerWidth::Bits24, 1_000_000_000, 3_579_545),
            (PmTimerWidth::Bits24, 5_000_000_000, 17_897_725 - (1 << 24)),
            (PmTimerWidth::Bits32, 5_000_000_000, 17_897_725),
            (PmTimerWidth::Bits32, u64::MAX, (u128::from(u64::MAX) * 3_579_545 / 1_000_000_000) as u32),
        ];
        for (width, now_ns, expected) in cases {
            let (mut power, _, time) = block(width);
            time.set_ns(now_ns);
            assert_eq!(read(&mut power, 8, 4), expected, "{width:?} at {now_ns} ns");
        }
    }

    #[test]
    fn the_timer_carry_raises_sci_in_acpi_mode() {
        for (width, carry_ns) in
            [(PmTimerWidth::Bits24, 2_343_484_437), (PmTimerWidth::Bits32, 599_932_015_940)]
        {
            let (mut power, harness, time) = block(width);
            assert_eq!(power.next_deadline_ns(), None);
            power.write(2, &[1, 0]);
            power.write_smi_command(ACPI_ENABLE);
            let deadline_ns = power.next_deadline_ns().expect("TMR_EN is set");
            assert!(deadline_ns.abs_diff(carry_ns) < 1_000, "{width:?}: {deadline_ns}");
            time.set_ns(deadline_ns);
            power.advance(deadline_ns);
            assert_eq!(harness.take_changes().level, 1 << 9);
            assert_eq!(power.next_deadline_ns(), None);
            power.write(0, &[1, 0]);
            assert_eq!(harness.take_changes().level, 0);
            assert!(power.next_deadline_ns().is_some_and(|next_ns| next_ns > deadline_ns));
        }
    }

    #[test]
    fn events_reach_sci_only_when_enabled_and_in_acpi_mode() {
        let (mut power, harness, _) = block(PmTimerWidth::Bits32);
        power.press_power_button();
        power.write(2, &[0x00, 0x01]);
        assert_eq!(harness.take_changes().level, 0);
        power.write_smi_command(ACPI_ENABLE);
        assert_eq!(read(&mut power, 4, 2), 1);
        assert_eq!(harness.take_changes().level, 1 << 9);
        power.write(0, &[0x00, 0x01]);
        assert_eq!(harness.take_changes().level, 0);
        power.raise_gpe(3);
        power.write(0xe, &[0x08, 0]);
        assert_eq!(harness.take_changes().level, 1 << 9);
        power.write_smi_command(ACPI_DISABLE);
        assert_eq!(harness.take_changes().level, 0);
    }

    #[test]
    fn reset_control_needs_a_rising_bit_2() {
        let (mut power, ..) = block(PmTimerWidth::Bits32);
        for (value, expected) in [
            (0x02, None),
            (0x06, Some(PowerRequest::Reset)),
            (0x06, None),
            (0x00, None),
            (0x0e, Some(PowerRequest::Reset)),
            (0x00, None),
            (0x04, Some(PowerRequest::Reset)),
        ] {
            power.write_reset_control(value);
            assert_eq!(power.take_request(), expected, "{value:#x}");
            assert_eq!(power.read_reset_control(), value);
        }
    }
}
