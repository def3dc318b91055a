//! The PC board: owns the chips, decodes ports and physical addresses, and routes what the chips' wires say.
//!
//! A chip never calls another. After every access the board looks at the wires and carries their levels to both kinds
//! of interrupt controller, and messages between the I/O APIC and the local APICs.

mod access;
mod interrupts;
mod ports;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use rx86_softmmu::Attention;

use crate::debug_exit::DebugExit;
use crate::i8042::I8042;
use crate::ioapic::IoApic;
use crate::lapic::{LocalApic, LocalApics, TscClock, lock};
use crate::layout::{
    IRQ_AUX, IRQ_FERR, IRQ_KEYBOARD, IRQ_PIT, IRQ_RTC, IRQ_SCI, IRQ_SERIAL, PIC_MASTER, PIC_SLAVE,
};
use crate::pci::{HostBridge, IsaBridge, PciBus, Slot};
use crate::pic::PicPair;
use crate::pit::Pit;
use crate::power::{PmTimerWidth, Power};
use crate::rtc::Rtc;
use crate::serial::{Serial, SerialSink};
use crate::{Clock, Device, Wire, WireHarness};

use ports::{PortMap, Target};

/// How much input for the serial port waits at the board; a terminal line is at most as long.
const SERIAL_QUEUE_LEN: usize = 4096;
const IOAPIC_ID: u8 = 0;

/// What the board is made of.
pub struct BoardConfig {
    /// The number of vCPUs; their APIC IDs are 0 and up.
    pub cpus: u32,
    /// The first port of isa-debug-exit, if it is wanted.
    pub debug_exit: Option<u16>,
    /// Where COM1's output goes.
    pub serial: Box<dyn SerialSink>,
    /// The wall clock's seconds since 1970 (UTC) when the machine is switched on, for the RTC.
    pub unix_seconds_at_boot: i64,
    /// Guest time.
    pub clock: Arc<dyn Clock>,
    /// The time-stamp counter, which all vCPUs share.
    pub tsc: Arc<dyn TscClock>,
    /// Bytes of RAM below 4 GiB, from address 0.
    pub ram_low_bytes: u64,
    /// Bytes of RAM from 4 GiB.
    pub ram_high_bytes: u64,
}

/// What the guest wants of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoardRequest {
    /// To be switched off.
    PowerOff,
    /// To be reset; the machine resets its vCPUs and calls [`Board::reset`].
    Reset,
    /// To end with this value (the process's exit status is twice the value plus one).
    DebugExit(u32),
}

/// How often the guest has accessed a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCount {
    /// Read accesses.
    pub reads: u64,
    /// Write accesses.
    pub writes: u64,
}

/// The board. One vCPU or host thread at a time uses it; the local APICs have locks of their own, so that a vCPU works
/// with its own without the board. Whoever calls a method here holds no local APIC's lock.
pub struct Board {
    harness: WireHarness,
    ports: PortMap,
    pics: PicPair,
    pit: Pit,
    rtc: Rtc,
    i8042: I8042,
    serial: Serial,
    power: Power,
    debug_exit: DebugExit,
    pci: PciBus,
    ioapic: IoApic,
    lapics: LocalApics,
    attentions: Vec<Attention>,
    /// The coprocessor's error line, which a PC board carries to the interrupt controller.
    ferr: Wire,
    /// The INTR output of the interrupt controllers as last routed.
    pic_output: bool,
    serial_queue: VecDeque<u8>,
    request: Option<BoardRequest>,
    counts: [IoCount; Target::ALL.len()],
}

impl Board {
    /// A board after power-on, with the bootstrap processor's local APIC as firmware leaves it. `attentions` are those
    /// of the vCPUs, in the order of their APIC IDs.
    ///
    /// # Panics
    /// If there are not as many `attentions` as `config.cpus`, or none.
    pub fn new(config: BoardConfig, attentions: Vec<Attention>) -> Self {
        assert_eq!(attentions.len(), config.cpus as usize, "one attention for each vCPU");
        assert!(!attentions.is_empty(), "a board has a bootstrap processor");
        let harness = WireHarness::default();
        let clock = config.clock;
        let lapics = (0..)
            .zip(&attentions)
            .map(|(id, attention)| {
                let attention = attention.clone();
                LocalApic::new(id, id == 0, clock.clone(), config.tsc.clone(), attention)
            })
            .collect::<LocalApics>();
        let mut rtc = Rtc::new(clock.clone(), config.unix_seconds_at_boot, harness.wire(IRQ_RTC));
        describe_memory(&mut rtc, config.ram_low_bytes, config.ram_high_bytes);
        let mut pci = PciBus::new();
        pci.insert(Slot::new(0, 0), Box::new(HostBridge::new()));
        pci.insert(Slot::new(1, 0), Box::new(IsaBridge::new()));
        let mut board = Self {
            ports: PortMap::new(config.debug_exit),
            pics: PicPair::new(),
            pit: Pit::new(clock.clone(), harness.wire(IRQ_PIT)),
            rtc,
            i8042: I8042::new(harness.wire(IRQ_KEYBOARD), harness.wire(IRQ_AUX)),
            serial: Serial::new(clock.clone(), config.serial, harness.wire(IRQ_SERIAL)),
            power: Power::new(clock, PmTimerWidth::Bits32, harness.wire(IRQ_SCI)),
            debug_exit: DebugExit::new(),
            pci,
            ioapic: IoApic::new(IOAPIC_ID),
            lapics,
            attentions,
            ferr: harness.wire(IRQ_FERR),
            harness,
            pic_output: false,
            serial_queue: VecDeque::new(),
            request: None,
            counts: [IoCount::default(); Target::ALL.len()],
        };
        board.stand_in_for_firmware();
        board.route();
        board
    }

    /// The reset line: all chips are as after power-on, time goes on, and input that waits for the guest stays.
    pub fn reset(&mut self) {
        self.pics.reset();
        let chips: [&mut dyn Device; 8] = [
            &mut self.pit,
            &mut self.rtc,
            &mut self.i8042,
            &mut self.serial,
            &mut self.power,
            &mut self.debug_exit,
            &mut self.pci,
            &mut self.ioapic,
        ];
        for chip in chips {
            chip.reset();
        }
        for cpu in 0..self.lapics.len() {
            let mut lapic = self.lapic_mut(cpu);
            lapic.take_outbox();
            lapic.reset(false);
        }
        self.stand_in_for_firmware();
        self.request = None;
        self.route();
    }

    /// The local APIC of vCPU `cpu`.
    ///
    /// # Panics
    /// If there is no such vCPU.
    pub fn lapic(&self, cpu: usize) -> Arc<Mutex<LocalApic>> {
        self.lapics[cpu].clone()
    }

    /// All local APICs, which carry messages between themselves without the board.
    pub fn lapics(&self) -> LocalApics {
        self.lapics.clone()
    }

    /// Takes what the guest has asked of the machine. Worth a look after every port write.
    pub fn take_request(&mut self) -> Option<BoardRequest> {
        self.request.take()
    }

    /// Whether address line 20 is let through. It may change at a write to port 0x60, 0x64 or 0x92, and at a reset.
    pub fn a20(&self) -> bool {
        self.i8042.a20()
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.power.press_power_button();
        self.route();
    }

    /// Queues `bytes` for COM1 and returns how many there was room for; the caller keeps the rest.
    pub fn serial_input(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(SERIAL_QUEUE_LEN - self.serial_queue.len());
        self.serial_queue.extend(&bytes[..taken]);
        self.feed_serial();
        self.route();
        taken
    }

    /// Sends a break to COM1; lost while the guest does not listen.
    pub fn serial_break(&mut self) {
        self.serial.receive_break();
        self.route();
    }

    /// Drives the coprocessor's error line (FERR#), IRQ 13.
    pub fn set_ferr(&mut self, asserted: bool) {
        self.ferr.set(asserted);
        self.route();
    }

    /// The next time in nanoseconds at which a chip or a local APIC wants [`Board::advance`].
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let lapics = self.lapics.iter().map(|lapic| lock(lapic).next_deadline_ns());
        lapics.chain([self.next_chip_deadline_ns()]).flatten().min()
    }

    /// The next time in nanoseconds at which a chip wants [`Board::advance_chips`].
    pub fn next_chip_deadline_ns(&self) -> Option<u64> {
        let chips: [&dyn Device; 4] = [&self.pit, &self.rtc, &self.serial, &self.power];
        chips.iter().filter_map(|chip| chip.next_deadline_ns()).min()
    }

    /// Lets all timers do what they owe up to `now_ns`.
    pub fn advance(&mut self, now_ns: u64) {
        for lapic in self.lapics.iter() {
            lock(lapic).advance(now_ns);
        }
        self.advance_chips(now_ns);
    }

    /// Lets the chips' timers do what they owe up to `now_ns`, but not those of the local APICs, which are with their vCPUs.
    pub fn advance_chips(&mut self, now_ns: u64) {
        let chips: [&mut dyn Device; 4] = [&mut self.pit, &mut self.rtc, &mut self.serial, &mut self.power];
        for chip in chips {
            chip.advance(now_ns);
        }
        self.feed_serial();
        self.route();
    }

    /// How often the guest has accessed each device, by its name.
    pub fn io_counts(&self) -> impl Iterator<Item = (&'static str, IoCount)> + '_ {
        Target::ALL.into_iter().map(|target| (target.name(), self.counts[target as usize]))
    }

    /// Gives the serial port as much of the queue as it takes.
    fn feed_serial(&mut self) {
        while !self.serial_queue.is_empty() {
            let taken = self.serial.receive(self.serial_queue.as_slices().0);
            if taken == 0 {
                break;
            }
            self.serial_queue.drain(..taken);
        }
    }

    /// Interrupts as a boot loader leaves them: the 8259As masked, for their vectors are not the kernel's yet, and the
    /// bootstrap processor's LINT0 open to them.
    fn stand_in_for_firmware(&mut self) {
        self.pics.write_port(PIC_MASTER + 1, 0xff);
        self.pics.write_port(PIC_SLAVE + 1, 0xff);
        self.lapic_mut(0).set_virtual_wire();
    }

    fn lapic_mut(&self, cpu: usize) -> MutexGuard<'_, LocalApic> {
        lock(&self.lapics[cpu])
    }
}

/// Writes the memory sizes where a PC's firmware keeps them in CMOS.
fn describe_memory(rtc: &mut Rtc, low_bytes: u64, high_bytes: u64) {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let mut set_word = |index: u8, value: u64| {
        let [low, high] = (value.min(u64::from(u16::MAX)) as u16).to_le_bytes();
        rtc.set_cmos(index, low);
        rtc.set_cmos(index + 1, high);
    };
    let extended_kib = low_bytes.saturating_sub(MIB) / KIB;
    set_word(0x15, 640.min(low_bytes / KIB));
    // Both words of the memory above 1 MiB end at 64 MiB.
    set_word(0x17, extended_kib.min(63 * KIB));
    set_word(0x30, extended_kib.min(63 * KIB));
    set_word(0x34, low_bytes.saturating_sub(16 * MIB) / (64 * KIB));
    let high_units = high_bytes / (64 * KIB);
    set_word(0x5b, high_units & 0xffff);
    rtc.set_cmos(0x5d, (high_units >> 16).min(0xff) as u8);
    // The equipment byte: a mathematics coprocessor.
    rtc.set_cmos(0x14, 0x02);
}
