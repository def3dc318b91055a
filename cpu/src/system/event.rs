//! Events: how exceptions, interrupts and NMIs reach their handlers, and what happens when delivery itself faults
//! (SDM vol. 3, 6.5, 6.9, 6.15).

use crate::backend::Exit;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::state::{Activity, bits};

/// Delivered events kept for reports.
const HISTORY: usize = 16;

/// Where an event comes from: decides on privilege checks, the EXT bit and the pushed RIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// An exception that the processor found.
    Exception,
    /// An external interrupt or NMI.
    External,
    /// INT n, INT3 or INTO: the gate's DPL is checked, and errors do not carry EXT.
    Software,
}

/// An event on its way to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The vector.
    pub vector: u8,
    /// The error code to push, if any.
    pub error_code: Option<u32>,
    /// Where it comes from.
    pub source: EventSource,
    /// RF is set in the pushed RFLAGS, so that an instruction breakpoint does not fire again on the return: faults do
    /// that, but not the breakpoint itself (SDM vol. 3, 18.3.1.1).
    pub resume: bool,
}

impl Event {
    /// The EXT bit of error codes about this event's delivery.
    pub(super) fn ext(&self) -> u32 {
        u32::from(self.source != EventSource::Software)
    }

    /// The error code that names this event's gate.
    pub(super) fn gate_error(&self) -> u32 {
        u32::from(self.vector) << 3 | 2 | self.ext()
    }
}

/// The last delivered events, for the report of a triple fault.
#[derive(Clone, Debug, Default)]
pub struct EventHistory {
    events: [Option<(Event, u64)>; HISTORY],
    next: usize,
}

impl EventHistory {
    fn record(&mut self, event: Event, rip: u64) {
        self.events[self.next] = Some((event, rip));
        self.next = (self.next + 1) % HISTORY;
    }

    /// The events, oldest first, each with the RIP that it interrupted.
    pub fn iter(&self) -> impl Iterator<Item = (Event, u64)> + '_ {
        let (newer, older) = self.events.split_at(self.next);
        older.iter().chain(newer).filter_map(|entry| *entry)
    }
}

/// The classes of SDM vol. 3, table 6-4.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
}

fn class(vector: u8) -> Class {
    match vector {
        0 | 10..=13 => Class::Contributory,
        14 => Class::PageFault,
        _ => Class::Benign,
    }
}

/// What a second exception during the delivery of a first one becomes (SDM vol. 3, table 6-5).
fn is_double_fault(first: u8, second: u8) -> bool {
    match class(first) {
        Class::Benign => false,
        Class::Contributory => class(second) == Class::Contributory,
        Class::PageFault => class(second) != Class::Benign,
    }
}

impl Cpu {
    /// Delivers an exception; if that faults, what comes of it, up to a shutdown.
    pub fn deliver_exception(&mut self, exception: Exception) {
        self.stats.exceptions += 1;
        if self.state.activity == Activity::Halted {
            // A debug trap behind HLT ends the halt.
            self.state.activity = Activity::Active;
        }
        let mut current = exception;
        let mut event = self.exception_event(&current);
        loop {
            let Err(second) = self.deliver(event) else { return };
            tracing::trace!(target: "rx86::exception", first = event.vector, second = second.vector, "fault in delivery");
            if event.source == EventSource::Exception && event.vector == Exception::DOUBLE_FAULT {
                self.shut_down();
                return;
            }
            let first_is_exception = event.source == EventSource::Exception;
            current = if first_is_exception && is_double_fault(event.vector, second.vector) {
                // The second fault still leaves its address in CR2.
                self.note_payload(&second);
                Exception::df()
            } else {
                second
            };
            event = self.exception_event(&current);
        }
    }

    fn exception_event(&mut self, exception: &Exception) -> Event {
        self.note_payload(exception);
        let error_code = exception.has_error_code.then_some(exception.error_code);
        let resume = match exception.vector {
            // Of the debug exceptions, an access to a debug register is a fault.
            1 => exception.payload & bits::DR6_BD != 0,
            // Traps and aborts.
            3 | 4 | 8 | 18 => false,
            _ => true,
        };
        Event { vector: exception.vector, error_code, source: EventSource::Exception, resume }
    }

    /// CR2 or DR6 take what the exception reports.
    fn note_payload(&mut self, exception: &Exception) {
        match exception.vector {
            Exception::PAGE_FAULT => self.state.cr2 = exception.payload,
            1 => {
                self.state.dr[6] |= exception.payload;
                self.state.dr[7] &= !bits::DR7_GD;
            }
            _ => {}
        }
    }

    fn shut_down(&mut self) {
        self.state.activity = Activity::Shutdown;
        self.request_exit(Exit::Shutdown);
    }

    /// Delivers an external interrupt.
    pub fn deliver_interrupt(&mut self, vector: u8) {
        self.stats.interrupts += 1;
        self.deliver_asynchronous(vector);
    }

    /// Delivers an NMI and blocks further ones until IRET.
    pub fn deliver_nmi(&mut self) {
        self.stats.interrupts += 1;
        self.state.nmi_pending = false;
        self.state.nmi_blocked = true;
        self.deliver_asynchronous(2);
    }

    fn deliver_asynchronous(&mut self, vector: u8) {
        self.state.activity = Activity::Active;
        let event = Event { vector, error_code: None, source: EventSource::External, resume: false };
        if let Err(exception) = self.deliver(event) {
            self.deliver_exception(exception);
        }
    }

    /// Whether an external interrupt would be delivered now.
    pub fn interrupts_open(&self) -> bool {
        let state = &self.state;
        state.flags.system & bits::RFLAGS_IF != 0
            && !state.sti_shadow
            && !state.mov_ss_shadow
            && matches!(state.activity, Activity::Active | Activity::Halted)
    }

    /// Whether an NMI would be delivered now.
    pub fn nmi_open(&self) -> bool {
        let state = &self.state;
        !state.nmi_blocked
            && !state.mov_ss_shadow
            && matches!(state.activity, Activity::Active | Activity::Halted)
    }

    /// Takes an event through the IDT in the mode in force. On a fault nothing has changed.
    pub(super) fn deliver(&mut self, event: Event) -> Result<(), Exception> {
        let rip = self.state.rip();
        self.recent_events.record(event, rip);
        if event.source == EventSource::External {
            tracing::trace!(target: "rx86::interrupt", ?event, rip = format_args!("{rip:#x}"), "deliver");
        } else {
            tracing::trace!(target: "rx86::exception", ?event, rip = format_args!("{rip:#x}"), "deliver");
        }
        let outcome = if self.state.long_mode_active() {
            self.deliver_long(event)
        } else if self.state.cr0 & bits::CR0_PE != 0 {
            self.deliver_protected(event)
        } else {
            self.deliver_real(event)
        };
        // The views and the mode follow the state, whichever it is now.
        self.mode_changed();
        self.serialize();
        if outcome.is_ok() {
            self.state.sti_shadow = false;
            self.state.mov_ss_shadow = false;
        }
        outcome
    }

    /// RFLAGS as an event pushes it.
    pub(super) fn pushed_rflags(&self, event: Event) -> u64 {
        self.state.flags.get() | if event.resume { bits::RFLAGS_RF } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn double_faults_follow_the_table() {
        for (first, second, double) in [
            (6, 13, false),
            (13, 13, true),
            (13, 14, false),
            (14, 14, true),
            (14, 11, true),
            (14, 6, false),
            (0, 10, true),
            (1, 14, false),
        ] {
            assert_eq!(is_double_fault(first, second), double, "{first} then {second}");
        }
    }

    #[test]
    fn history_keeps_the_newest_in_order() {
        let mut history = EventHistory::default();
        for vector in 0..20 {
            let event = Event { vector, error_code: None, source: EventSource::External, resume: false };
            history.record(event, 0);
        }
        let vectors: Vec<u8> = history.iter().map(|(event, _)| event.vector).collect();
        assert_eq!(vectors, (4..20).collect::<Vec<_>>());
    }
}
