//! The thread that translates while the guest goes on; or the same work done at once.

use crate::compiler::{CompileError, Compiler, Translation};
use crate::region::Region;
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

/// Regions that wait for the thread. What finds no place asks again when its code is decoded again.
const QUEUE: usize = 256;

/// A region to translate.
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) mode: ModeKey,
    pub(crate) region: Arc<Region>,
}

/// A job that is done.
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) outcome: Result<Translation, CompileError>,
    pub(crate) elapsed: Duration,
}

/// Who translates.
pub(crate) enum Worker {
    /// A thread; it ends when the sender is dropped.
    Thread { jobs: SyncSender<Job>, done: Receiver<Done> },
    /// The caller, at once.
    Here { compiler: Box<Compiler>, model: CpuModel, done: VecDeque<Done> },
}

fn translate(compiler: &mut Compiler, model: &CpuModel, job: &Job) -> Done {
    let start = Instant::now();
    let outcome = compiler.translate(&job.region, job.mode, model);
    Done { number: job.number, outcome, elapsed: start.elapsed() }
}

impl Worker {
    pub(crate) fn new(compiler: Compiler, model: CpuModel, background: bool) -> Result<Self, CompileError> {
        if !background {
            return Ok(Self::Here { compiler: Box::new(compiler), model, done: VecDeque::new() });
        }
        let (jobs, work) = sync_channel::<Job>(QUEUE);
        let (finished, done) = channel();
        let mut compiler = compiler;
        std::thread::Builder::new().name("translator".to_owned()).spawn(move || {
            for job in work {
                if finished.send(translate(&mut compiler, &model, &job)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self::Thread { jobs, done })
    }

    /// Begins a job. False if there is no place for it.
    pub(crate) fn begin(&mut self, job: Job) -> bool {
        match self {
            Self::Thread { jobs, .. } => !matches!(jobs.try_send(job), Err(TrySendError::Full(_))),
            Self::Here { compiler, model, done } => {
                done.push_back(translate(compiler, model, &job));
                true
            }
        }
    }

    /// Takes a job that is done.
    pub(crate) fn take(&mut self) -> Option<Done> {
        match self {
            Self::Thread { done, .. } => done.try_recv().ok(),
            Self::Here { done, .. } => done.pop_front(),
        }
    }
}
