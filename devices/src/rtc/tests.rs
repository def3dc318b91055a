//! The real-time clock's cases.
