//! The JIT of rx86.
