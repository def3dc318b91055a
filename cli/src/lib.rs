//! rx86 cli.
