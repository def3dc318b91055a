//! The 8259A's cases.
