//! One 8259A.

/// What the chip expects next at its odd port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Operation: the interrupt mask, OCW1.
    Mask,
    /// The vector base.
    Icw2,
    /// The wiring of the cascade.
    Icw3,
    /// The modes.
    Icw4,
}

const ICW1: u8 = 1 << 4;
const ICW1_NEEDS_ICW4: u8 = 1 << 0;
const ICW1_SINGLE: u8 = 1 << 1;
const ICW1_LEVEL: u8 = 1 << 3;
const ICW4_AUTO_EOI: u8 = 1 << 1;
const ICW4_SPECIAL_FULLY_NESTED: u8 = 1 << 4;
const OCW3: u8 = 1 << 3;
const OCW3_POLL: u8 = 1 << 2;

#[derive(Debug)]
pub(super) struct Pic {
    /// The interrupt request register. For level-triggered inputs it follows the line.
    irr: u8,
    isr: u8,
    imr: u8,
    /// The lines' levels.
    lines: u8,
    /// Inputs that are level-triggered, and those that can be.
    elcr: u8,
    elcr_writable: u8,
    /// ICW1 made all inputs level-triggered.
    all_level: bool,
    /// The slave's output, on the one input where it arrives.
    cascade: u8,
    vector_base: u8,
    expect: Expect,
    single: bool,
    needs_icw4: bool,
    auto_eoi: bool,
    special_fully_nested: bool,
    special_mask: bool,
    rotate_on_auto_eoi: bool,
    /// The input of lowest priority; the next one up is the highest.
    lowest: u8,
    status_is_isr: bool,
    polled: bool,
}

impl Pic {
    pub(super) fn new(elcr_writable: u8) -> Self {
        Self {
            irr: 0,
            isr: 0,
            imr: 0,
            lines: 0,
            elcr: 0,
            elcr_writable,
            all_level: false,
            cascade: 0,
            vector_base: 0,
            expect: Expect::Mask,
            single: false,
            needs_icw4: false,
            auto_eoi: false,
            special_fully_nested: false,
            special_mask: false,
            rotate_on_auto_eoi: false,
            lowest: 7,
            status_is_isr: false,
            polled: false,
        }
    }

    /// Back to power-up; the lines are driven from outside and stay.
    pub(super) fn reset(&mut self) {
        let (lines, cascade) = (self.lines, self.cascade);
        *self = Self { lines, cascade, ..Self::new(self.elcr_writable) };
    }

    pub(super) fn set_input(&mut self, input: u8, high: bool) {
        let bit = 1 << (input & 7);
        let rose = high && self.lines & bit == 0;
        self.lines = if high { self.lines | bit } else { self.lines & !bit };
        if self.level_inputs() & bit != 0 {
            self.irr = self.irr & !bit | self.lines & bit;
        } else if rose {
            self.irr |= bit;
        }
    }

    /// The slave's output drops within each INTA cycle, so its input may as well follow the level.
    pub(super) fn set_cascade(&mut self, input: u8, high: bool) {
        let bit = 1 << (input & 7);
        self.cascade = bit;
        self.irr = if high { self.irr | bit } else { self.irr & !bit };
    }

    pub(super) fn elcr(&self) -> u8 {
        self.elcr
    }

    pub(super) fn set_elcr(&mut self, value: u8) {
        self.elcr = value & self.elcr_writable;
        self.follow_levels();
    }

    pub(super) fn mask(&self) -> u8 {
        self.imr
    }

    pub(super) fn vector(&self, input: u8) -> u8 {
        self.vector_base | input
    }

    pub(super) fn output(&self) -> bool {
        self.request().is_some()
    }

    /// The first half of an INTA cycle: the input that comes into service; `None` if the request has gone away.
    pub(super) fn acknowledge(&mut self) -> Option<u8> {
        let input = self.request()?;
        let bit = 1 << input;
        if self.level_inputs() & bit == 0 {
            self.irr &= !bit;
        }
        if !self.auto_eoi {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = input;
        }
        Some(input)
    }

    pub(super) fn is_polled(&self) -> bool {
        self.polled
    }

    /// The read after a poll command: an INTA cycle whose answer is the input's number.
    pub(super) fn poll(&mut self) -> u8 {
        self.polled = false;
        self.acknowledge().map_or(0, |input| 0x80 | input)
    }

    pub(super) fn read_status(&self) -> u8 {
        if self.status_is_isr { self.isr } else { self.irr }
    }

    /// A write to the even port: ICW1, OCW2 or OCW3.
    pub(super) fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.initialize(value);
        } else if value & OCW3 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    /// A write to the odd port: ICW2 to ICW4, or OCW1.
    pub(super) fn write_data(&mut self, value: u8) {
        self.expect = match self.expect {
            Expect::Mask => {
                self.imr = value;
                Expect::Mask
            }
            Expect::Icw2 => {
                self.vector_base = value & 0xf8;
                if !self.single { Expect::Icw3 } else { self.after_icw3() }
            }
            // The cascade is wired; what the guest says of it changes nothing.
            Expect::Icw3 => self.after_icw3(),
            Expect::Icw4 => {
                self.auto_eoi = value & ICW4_AUTO_EOI != 0;
                self.special_fully_nested = value & ICW4_SPECIAL_FULLY_NESTED != 0;
                Expect::Mask
            }
        };
    }

    fn after_icw3(&self) -> Expect {
        if self.needs_icw4 { Expect::Icw4 } else { Expect::Mask }
    }

    fn initialize(&mut self, icw1: u8) {
        self.single = icw1 & ICW1_SINGLE != 0;
        self.needs_icw4 = icw1 & ICW1_NEEDS_ICW4 != 0;
        self.all_level = icw1 & ICW1_LEVEL != 0;
        self.expect = Expect::Icw2;
        // The edge sense circuit is reset: a line that is high must fall and rise to be seen.
        self.irr = 0;
        self.isr = 0;
        self.imr = 0;
        self.lowest = 7;
        self.special_mask = false;
        self.status_is_isr = false;
        self.polled = false;
        self.auto_eoi = false;
        self.special_fully_nested = false;
        self.rotate_on_auto_eoi = false;
        self.follow_levels();
    }

    /// OCW2: the ways to end and to rotate (8259A datasheet, figure 8).
    fn write_ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            0b000 => self.rotate_on_auto_eoi = false,
            0b100 => self.rotate_on_auto_eoi = true,
            0b001 => {
                self.end_highest();
            }
            0b101 => {
                if let Some(ended) = self.end_highest() {
                    self.lowest = ended;
                }
            }
            0b011 => self.isr &= !(1 << level),
            0b111 => {
                self.isr &= !(1 << level);
                self.lowest = level;
            }
            0b110 => self.lowest = level,
            _ => {}
        }
    }

    fn write_ocw3(&mut self, value: u8) {
        self.polled = value & OCW3_POLL != 0;
        match value & 3 {
            0b10 => self.status_is_isr = false,
            0b11 => self.status_is_isr = true,
            _ => {}
        }
        match value >> 5 & 3 {
            0b10 => self.special_mask = false,
            0b11 => self.special_mask = true,
            _ => {}
        }
    }

    /// The nonspecific EOI. In special mask mode it passes over masked inputs.
    fn end_highest(&mut self) -> Option<u8> {
        let candidates = if self.special_mask { self.isr & !self.imr } else { self.isr };
        let input = self.highest(candidates)?;
        self.isr &= !(1 << input);
        Some(input)
    }

    /// The input whose request the chip would have served now.
    fn request(&self) -> Option<u8> {
        let input = self.highest(self.irr & !self.imr)?;
        let mut blocking = self.isr;
        if self.special_mask {
            // An input both in service and masked lets everybody else pass.
            blocking &= !self.imr;
        }
        if self.special_fully_nested {
            // The slave's more urgent inputs interrupt its less urgent ones.
            blocking &= !self.cascade;
        }
        match self.highest(blocking) {
            Some(served) if self.rank(served) <= self.rank(input) => None,
            _ => Some(input),
        }
    }

    fn highest(&self, inputs: u8) -> Option<u8> {
        self.by_priority().find(|input| inputs & 1 << input != 0)
    }

    fn by_priority(&self) -> impl Iterator<Item = u8> + use<> {
        let lowest = self.lowest;
        (1..=8).map(move |step| (lowest + step) & 7)
    }

    /// 0 for the most urgent input.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest + 1) & 7
    }

    fn level_inputs(&self) -> u8 {
        let inputs = if self.all_level { 0xff } else { self.elcr };
        inputs & !self.cascade
    }

    fn follow_levels(&mut self) {
        let level = self.level_inputs();
        self.irr = self.irr & !level | self.lines & level;
    }
}
