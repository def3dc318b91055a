//! The host's processor through Linux's KVM as an oracle: on a machine of its own, where bases of segments are its own
//! matter too.

use super::engine::EngineOracle;
use super::{Oracle, Outcome, Program};
use crate::cases::compare::Difference;
use rx86_kvm::KvmError;

/// The known disagreements. A KVM whose host is a virtual machine itself, without nested virtualization, lets its emulator have
/// instructions that raise #GP or #SS, or that find no canonical RSP. The emulator raises #UD for what it does not know, takes
/// LZCNT for BSR, and leaves the first bytes of a store whose second page faults.
/// It also keeps the upper half of linear addresses for itself.
const KNOWN: [&str; 2] = [
    "executed by KVM's own emulator, where rx86 is right (SDM vol. 2, exceptions of each instruction)",
    "RSVD in the error code of #PF at addresses that KVM keeps, where rx86 is right (SDM vol. 3, 4.7)",
];

/// KVM.
pub struct KvmOracle(EngineOracle);

impl KvmOracle {
    /// A machine; the error says why KVM cannot be had.
    pub fn new() -> Result<Self, KvmError> {
        EngineOracle::kvm().map(Self)
    }
}

fn is_canonical(address: u64) -> bool {
    (address << 16) as i64 >> 16 == address as i64
}

impl Oracle for KvmOracle {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn run(&mut self, programs: &[Program]) -> Vec<Option<Outcome>> {
        self.0.run(programs)
    }

    fn known(
        &self,
        program: &Program,
        reference: &Outcome,
        subject: &Outcome,
        _: &[Difference],
    ) -> Option<Vec<usize>> {
        const PRESENT_AND_RESERVED: u32 = 9;
        const SS: u32 = 12;
        const GP: u32 = 13;
        const PF: u32 = 14;
        let (own, other) = (&reference.ending, &subject.ending);
        let kept = (own.vector, own.address) == (other.vector, other.address) && own.address >> 63 != 0;
        if own.vector == PF && kept && own.error_code == other.error_code | PRESENT_AND_RESERVED {
            return Some(vec![1]);
        }
        let rsp = |state: &super::State| is_canonical(state.gpr[super::state::RSP]);
        let canonical = rsp(&program.state) && rsp(&subject.state) && rsp(&reference.state);
        let emulated = !canonical || reference.faulted() && matches!(other.vector, SS | GP);
        emulated.then(|| vec![0])
    }

    fn known_names(&self) -> Vec<&'static str> {
        KNOWN.to_vec()
    }
}
