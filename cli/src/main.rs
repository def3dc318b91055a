//! The `rx86` command.
fn main() {}
