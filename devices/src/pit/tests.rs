//! The 8254's cases.
