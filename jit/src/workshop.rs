//! The threads that translate for the vCPUs of a machine, and what they have made for them.
//!
//! One of them gives way to vCPUs where host CPUs are short, and then takes its time. What is very hot does not wait for it:
//! that is the other one's work.
//!
//! Each vCPU keeps its own translations. But they execute the same kernel and programs: what was translated for one of them
//! is handed to another that asks for the same code, as long as that is what it was.

use crate::compiler::{CompileError, Compiler, Translation};
use crate::region::Region;
use crate::worker::{Done, Entry, Job, translate};
use rustc_hash::FxHashMap;
use rx86_cpu::features::CpuModel;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Host code that is kept for others, in bytes; when there is more, the oldest goes.
const KEPT_BYTES: usize = 16 << 20;

/// A region whose entry was executed so often is translated at once.
const URGENT_HEAT: u32 = 64_000;

/// Which of the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hand {
    /// Takes any job, the hottest first.
    Patient,
    /// Takes urgent ones only.
    Urgent,
}

/// Where the vCPUs of one machine have their code translated. It has its threads while it has customers.
#[derive(Clone, Debug, Default)]
pub struct Workshop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<(usize, Job)>,
    customers: FxHashMap<usize, Sender<Done>>,
    next_customer: usize,
    /// What the hands work at, if they do: the customer, and the job's number and entry.
    current: [Option<(usize, u64, Entry)>; 2],
    runs: [bool; 2],
    made: Made,
}

/// A region and its translation, made for another vCPU.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) region: Arc<Region>,
    pub(crate) translation: Arc<Translation>,
}

/// The latest products, by their entries.
#[derive(Debug, Default)]
struct Made {
    by_entry: FxHashMap<Entry, Product>,
    /// The oldest first. An entry may be in it more than once.
    order: VecDeque<Entry>,
    bytes: usize,
}

impl Made {
    fn insert(&mut self, entry: Entry, product: Product) {
        self.bytes += product.translation.code.len();
        self.order.push_back(entry);
        if let Some(old) = self.by_entry.insert(entry, product) {
            self.bytes -= old.translation.code.len();
        }
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(gone) = self.by_entry.remove(&oldest) {
                self.bytes -= gone.translation.code.len();
            }
        }
    }
}

impl Workshop {
    /// One more vCPU. The threads' compilers are made by `compiler`.
    pub(crate) fn join(
        &self,
        compiler: impl Fn() -> Result<Compiler, CompileError>,
        model: &CpuModel,
    ) -> Result<Customer, CompileError> {
        let (sender, done) = channel();
        let mut state = self.0.lock();
        let number = state.next_customer;
        state.next_customer += 1;
        for (hand, name) in [(Hand::Patient, "translator"), (Hand::Urgent, "hot-translator")] {
            if !state.runs[hand as usize] {
                let (inner, compiler, model) = (self.0.clone(), compiler()?, model.clone());
                let work = move || inner.work(hand, compiler, &model);
                std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
                state.runs[hand as usize] = true;
            }
        }
        state.customers.insert(number, sender);
        drop(state);
        Ok(Customer { workshop: self.clone(), number, done })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, hand: Hand, mut compiler: Compiler, model: &CpuModel) {
        if hand == Hand::Patient {
            give_way();
        }
        while let Some((customer, job)) = self.take(hand) {
            let done = translate(&mut compiler, model, &job);
            self.deliver(hand, customer, &job, done);
        }
    }

    /// Waits for the most wanted job; None when nobody is left.
    fn take(&self, hand: Hand) -> Option<(usize, Job)> {
        let least_heat = if hand == Hand::Urgent { URGENT_HEAT } else { 0 };
        let mut state = self.lock();
        loop {
            if state.customers.is_empty() {
                state.runs[hand as usize] = false;
                return None;
            }
            let jobs = state.jobs.iter().enumerate().filter(|(_, (_, job))| job.heat >= least_heat);
            let hottest = jobs.max_by_key(|(_, (_, job))| job.heat).map(|(at, _)| at);
            if let Some(at) = hottest {
                let (customer, job) = state.jobs.swap_remove(at);
                state.current[hand as usize] = Some((customer, job.number, job.entry));
                return Some((customer, job));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn deliver(&self, hand: Hand, customer: usize, job: &Job, done: Done) {
        let mut state = self.lock();
        state.current[hand as usize] = None;
        if state.customers.len() > 1
            && let Ok(translation) = &done.outcome
        {
            let translation = Arc::new(translation.clone());
            state.made.insert(job.entry, Product { region: job.region.clone(), translation });
        }
        if let Some(sender) = state.customers.get(&customer) {
            // A customer that has just gone does not mind.
            let _ = sender.send(done);
        }
    }
}

/// A vCPU's place in its workshop, which it leaves when this is dropped.
pub(crate) struct Customer {
    workshop: Workshop,
    number: usize,
    done: Receiver<Done>,
}

impl Drop for Customer {
    fn drop(&mut self) {
        let mut state = self.workshop.0.lock();
        state.customers.remove(&self.number);
        state.jobs.retain(|(customer, _)| *customer != self.number);
        drop(state);
        self.workshop.0.changed.notify_all();
    }
}

impl Customer {
    pub(crate) fn begin(&self, job: Job) {
        self.workshop.0.lock().jobs.push((self.number, job));
        self.workshop.0.changed.notify_all();
    }

    /// Tells how hot the region of a job that is not yet done has become.
    pub(crate) fn heat(&self, number: u64, heat: u32, entry: Entry, region: &Arc<Region>) {
        let mut state = self.workshop.0.lock();
        let is_urgent = heat >= URGENT_HEAT;
        let is_it = |(customer, job): &&mut (usize, Job)| *customer == self.number && job.number == number;
        if let Some((_, job)) = state.jobs.iter_mut().find(is_it) {
            job.heat = heat;
        } else if is_urgent
            && state.current[Hand::Patient as usize] == Some((self.number, number, entry))
            && state.current[Hand::Urgent as usize].is_none()
        {
            // Whichever of the two is done first counts.
            state.jobs.push((self.number, Job { number, entry, heat, region: region.clone() }));
        }
        drop(state);
        if is_urgent {
            self.workshop.0.changed.notify_all();
        }
    }

    /// Gives up a job, if it still waits.
    pub(crate) fn cancel(&self, number: u64) {
        let mut state = self.workshop.0.lock();
        state.jobs.retain(|(customer, job)| (*customer, job.number) != (self.number, number));
    }

    /// Takes a job that is done.
    pub(crate) fn take(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// What was made of the code at an entry for another vCPU.
    pub(crate) fn made(&self, entry: Entry) -> Option<Product> {
        self.workshop.0.lock().made.by_entry.get(&entry).cloned()
    }

    /// Whether it is being made, or is about to be, for another vCPU.
    pub(crate) fn is_under_way(&self, entry: Entry) -> bool {
        let state = self.workshop.0.lock();
        let is_current = state.current.iter().flatten().any(|current| current.2 == entry);
        is_current || state.jobs.iter().any(|(customer, job)| *customer != self.number && job.entry == entry)
    }
}

/// Makes the calling thread get a tenth of what a vCPU's does where host CPUs are short.
#[cfg(target_os = "linux")]
fn give_way() {
    const NICE: i32 = 10;
    // Linux has this for each thread. One that is not let goes on as it is.
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}
