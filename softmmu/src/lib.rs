//! Guest physical memory, page walks, the software TLB, and the flags that connect a vCPU with the rest of the machine.
//!
//! This crate knows neither the vCPU's insides nor any device.

pub mod attention;

pub use attention::Attention;
