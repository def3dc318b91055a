//! Who translates well: threads while the guest goes on, or the caller at once.

use crate::compiler::{CompileError, Compiler, Translation};
use crate::region::Region;
use crate::workshop::{Customer, Product, Workshop};
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a region begins: the physical address, and the mode.
pub(crate) type Entry = (u64, ModeKey);

/// A region to translate.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) entry: Entry,
    /// How often its entry has been executed: the greatest comes first.
    pub(crate) heat: u32,
    pub(crate) region: Arc<Region>,
}

/// A job that is done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) outcome: Result<Translation, CompileError>,
    pub(crate) elapsed: Duration,
}

/// Who translates.
pub(crate) enum Worker {
    /// The workshop's.
    Threads(Customer),
    /// The caller, at once.
    Here { compiler: Box<Compiler>, model: CpuModel, done: VecDeque<Done> },
}

pub(crate) fn translate(compiler: &mut Compiler, model: &CpuModel, job: &Job) -> Done {
    let start = Instant::now();
    let outcome = compiler.translate(&job.region, job.entry.1, model);
    Done { number: job.number, outcome, elapsed: start.elapsed() }
}

impl Worker {
    /// `workshop`: where to have it done in the background, if it is to be.
    pub(crate) fn new(
        compiler: impl Fn() -> Result<Compiler, CompileError>,
        model: CpuModel,
        workshop: Option<&Workshop>,
    ) -> Result<Self, CompileError> {
        Ok(match workshop {
            Some(workshop) => Self::Threads(workshop.join(compiler, &model)?),
            None => Self::Here { compiler: Box::new(compiler()?), model, done: VecDeque::new() },
        })
    }

    /// Begins a job.
    pub(crate) fn begin(&mut self, job: Job) {
        match self {
            Self::Threads(customer) => customer.begin(job),
            Self::Here { compiler, model, done } => done.push_back(translate(compiler, model, &job)),
        }
    }

    /// Tells how hot the region of a job that is not yet done has become.
    pub(crate) fn heat(&self, number: u64, heat: u32, entry: Entry, region: &Arc<Region>) {
        if let Self::Threads(customer) = self {
            customer.heat(number, heat, entry, region);
        }
    }

    /// Gives up a job, if it still waits.
    pub(crate) fn cancel(&mut self, number: u64) {
        if let Self::Threads(customer) = self {
            customer.cancel(number);
        }
    }

    /// Takes a job that is done.
    pub(crate) fn take(&mut self) -> Option<Done> {
        match self {
            Self::Threads(customer) => customer.take(),
            Self::Here { done, .. } => done.pop_front(),
        }
    }

    /// What was made of the code at an entry for another vCPU.
    pub(crate) fn made(&self, entry: Entry) -> Option<Product> {
        match self {
            Self::Threads(customer) => customer.made(entry),
            Self::Here { .. } => None,
        }
    }

    /// Whether it is being made, or is about to be, for another vCPU.
    pub(crate) fn is_under_way(&self, entry: Entry) -> bool {
        match self {
            Self::Threads(customer) => customer.is_under_way(entry),
            Self::Here { .. } => false,
        }
    }
}
