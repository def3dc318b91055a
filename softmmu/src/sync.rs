//! The atomics, locks and threads of what vCPUs share: the standard library's, or, with `--cfg loom`, those of the model
//! checker that tries every order of them (`softmmu/src/models.rs`).

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard},
    thread,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard},
    thread,
};
