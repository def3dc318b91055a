//! The processor's features: one list that drives CPUID and what the decoder accepts.

/// A CPU model.
#[derive(Clone, Debug, Default)]
pub struct CpuModel {}

impl CpuModel {
    /// Whether the model has everything that `instruction` needs.
    pub fn allows(&self, _instruction: &iced_x86::Instruction) -> bool {
        true
    }
}
