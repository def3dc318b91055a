//! The speed of guest programs: kernels in C (`testsuite/kernels`), run on the host itself, on QEMU TCG and on rx86.

pub mod args;
pub mod machine;
pub mod program;
pub mod table;
pub mod times;
