//! All local APICs of a machine, and the system bus that carries messages between them (SDM Vol. 3A, 12.6 and 12.7).

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DeliveryMode, Destination, InterruptMessage, LocalApic};

/// The local APICs in the order of their IDs, which are 0 and up. Whoever sends a message holds none of their locks.
#[derive(Clone)]
pub struct LocalApics(Arc<[Arc<Mutex<LocalApic>>]>);

impl FromIterator<LocalApic> for LocalApics {
    fn from_iter<I: IntoIterator<Item = LocalApic>>(lapics: I) -> Self {
        Self(lapics.into_iter().map(|lapic| Arc::new(Mutex::new(lapic))).collect())
    }
}

impl Deref for LocalApics {
    type Target = [Arc<Mutex<LocalApic>>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A local APIC whose holder panicked is still a consistent one: its registers change one by one anyway.
pub(crate) fn lock(lapic: &Mutex<LocalApic>) -> MutexGuard<'_, LocalApic> {
    lapic.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LocalApics {
    /// Delivers a message to those that it addresses: a lowest-priority one to that of them with the lowest priority.
    pub fn send(&self, message: &InterruptMessage, destination: Destination) {
        tracing::trace!(target: "rx86::interrupt", ?message, ?destination, "message");
        let candidates = &self.0[self.candidates(message, destination)];
        if message.delivery_mode == DeliveryMode::LowestPriority {
            let addressed = candidates.iter().filter(|lapic| lock(lapic).is_addressed(message, destination));
            if let Some(lapic) = addressed.min_by_key(|lapic| lock(lapic).ppr()) {
                lock(lapic).deliver(message);
            }
            return;
        }
        for lapic in candidates {
            let mut lapic = lock(lapic);
            if lapic.is_addressed(message, destination) {
                lapic.deliver(message);
            }
        }
    }

    /// Those that the message can address, by ID: the others need not be asked.
    fn candidates(&self, message: &InterruptMessage, destination: Destination) -> Range<usize> {
        let broadcast = if message.wide { u32::MAX } else { 0xff };
        let field = message.destination;
        let (first, count) = match destination {
            Destination::Only(id) => (id as usize, 1),
            Destination::Field if field == broadcast => (0, self.len()),
            Destination::Field if !message.logical => (field as usize, 1),
            // A cluster of x2APIC mode; the first one's numbers are also 8-bit logical ones.
            Destination::Field if message.wide && field > 0xffff => ((field >> 16) as usize * 16, 16),
            _ => (0, self.len()),
        };
        first.min(self.len())..(first + count).min(self.len())
    }
}
