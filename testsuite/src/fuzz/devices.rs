//! Every chip's registers, through the board: accesses of all sizes at ports and addresses, time that goes on, input.

use super::Bytes;
use rx86_devices::lapic::{LocalApic, TscClock};
use rx86_devices::serial::SerialSink;
use rx86_devices::{Board, BoardConfig, Clock, layout};
use rx86_softmmu::Attention;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

/// Time that is moved by hand; the counter runs at 1 GHz.
#[derive(Default)]
struct Time(AtomicU64);

impl Clock for Time {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TscClock for Time {
    fn tsc(&self) -> u64 {
        self.now_ns()
    }
    fn ns_until(&self, tsc: u64) -> u64 {
        tsc.saturating_sub(self.now_ns())
    }
}

/// A line that nobody listens to.
struct Nowhere;

impl SerialSink for Nowhere {
    fn transmit(&mut self, _: u8) {}
}

/// The first port of each chip, and a port without a chip.
const PORTS: [u16; 18] = [
    layout::PIC_MASTER,
    layout::PIC_SLAVE,
    layout::PIC_ELCR,
    layout::PIT,
    layout::I8042_DATA,
    layout::PORT_61,
    layout::I8042_COMMAND,
    layout::RTC,
    layout::PORT_92,
    layout::SMI_COMMAND,
    layout::DEBUG_EXIT,
    layout::SERIAL,
    layout::PCI_CONFIG_ADDRESS,
    layout::RESET_CONTROL,
    layout::PCI_CONFIG_DATA,
    layout::PM_BASE,
    layout::PM_TIMER,
    0x1234,
];

/// Accesses after which the run ends.
const LONGEST: u32 = 2000;

/// Makes the accesses that `data` describes, eight bytes each.
///
/// # Panics
/// If a chip does, which is what is looked for.
pub fn run(data: &[u8]) {
    let time = Arc::new(Time::default());
    let mut board = board(&time);
    let mut input = Bytes(data);
    for _ in 0..LONGEST {
        if input.is_empty() {
            break;
        }
        let (action, place, value) = (input.u8(), input.u64(2), input.u64(4));
        step(&mut board, &time, action, place, value);
        let _ = (board.take_request(), board.a20(), board.pending(0), board.next_deadline_ns());
    }
}

fn board(time: &Arc<Time>) -> Board {
    let attentions = vec![Attention::default(), Attention::default()];
    let config = BoardConfig {
        cpus: 2,
        debug_exit: Some(layout::DEBUG_EXIT),
        serial: Box::new(Nowhere),
        unix_seconds_at_boot: 1_700_000_000,
        clock: time.clone(),
        tsc: time.clone(),
        ram_low_bytes: 512 << 20,
        ram_high_bytes: 4 << 30,
    };
    Board::new(config, attentions)
}

fn step(board: &mut Board, time: &Time, action: u8, place: u64, value: u64) {
    let port = PORTS[(place & 0xff) as usize % PORTS.len()].wrapping_add((place >> 8) as u16 & 15);
    let size = [1, 2, 4, 1][usize::from(action >> 6)];
    let bytes = value.to_le_bytes();
    let length = (size as usize * 2).min(8);
    let cpu = (place & 1) as usize;
    match action & 15 {
        0..=4 => board.port_write(port, size, value as u32),
        5..=7 => {
            board.port_read(port, size);
        }
        8 => board.mmio_write(layout::IOAPIC_BASE + (place & 0xfff), &bytes[..length]),
        9 => board.mmio_read(layout::IOAPIC_BASE + (place & 0xfff), &mut [0; 8][..length]),
        10 | 11 => {
            let lapic = board.lapic(cpu);
            let mut lapic = lapic.lock().unwrap_or_else(PoisonError::into_inner);
            let (offset, msr) = (place as u32 & 0xff0, 0x800 + (place as u32 >> 1 & 0xff));
            access_lapic(&mut lapic, action, (offset, msr), value);
            drop(lapic);
            board.after_lapic_access(cpu);
        }
        12 => {
            board.serial_input(&bytes[..4]);
        }
        13 => {
            let now = time.now_ns().saturating_add(value << (place & 15));
            time.0.store(now, Ordering::Relaxed);
            board.advance(now);
        }
        14 => {
            board.acknowledge(cpu);
        }
        _ if place & 0xf00 == 0 => board.reset(),
        _ if place & 0x100 == 0 => board.press_power_button(),
        _ => board.serial_break(),
    }
}

/// A register in memory, or as an MSR.
fn access_lapic(lapic: &mut LocalApic, action: u8, (offset, msr): (u32, u32), value: u64) {
    let msr = if action & 32 != 0 { 0x1b } else { msr };
    match (action & 1 != 0, action & 16 != 0) {
        (false, false) => lapic.mmio_write(offset.into(), value as u32),
        (true, false) => {
            lapic.mmio_read(offset.into());
        }
        // Refused values are #GP for the guest, and no business of the chip.
        (false, true) => {
            let _ = lapic.write_msr(msr, value | value << 32 & 0xf_0000_0000);
        }
        (true, true) => {
            let _ = lapic.read_msr(msr);
        }
    }
}
