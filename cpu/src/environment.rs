//! What a vCPU sees of the machine around it: ports, memory-mapped registers, its local APIC, and time.

/// A request that the board does not know: the register does not exist or the value is not allowed (#GP for an MSR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// The machine as one vCPU sees it (KVM's `emulate_ops` and in-kernel APIC).
///
/// The vCPU calls it between or within instructions, on its own thread; the implementor locks what it shares.
pub trait Environment: Send {
    /// IN: reads `bytes` (1, 2 or 4) from `port`.
    fn port_read(&mut self, port: u16, bytes: u8) -> u32;
    /// OUT: writes `bytes` (1, 2 or 4) to `port`.
    fn port_write(&mut self, port: u16, bytes: u8, value: u32);
    /// Reads guest physical memory that is not RAM; unassigned addresses read all ones.
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]);
    /// Writes guest physical memory that is not RAM.
    fn mmio_write(&mut self, gpa: u64, data: &[u8]);
    /// Whether an external interrupt could be delivered now if RFLAGS.IF allows it.
    fn interrupt_pending(&mut self) -> bool;
    /// Acknowledges the highest-priority external interrupt and returns its vector.
    fn acknowledge_interrupt(&mut self) -> Option<u8>;
    /// Takes a pending NMI.
    fn take_nmi(&mut self) -> bool;
    /// Takes an INIT signal, if one has come.
    fn take_init(&mut self) -> bool;
    /// Takes a start-up IPI's vector.
    fn take_sipi(&mut self) -> Option<u8>;
    /// CR8: the task priority, 0 to 15.
    fn task_priority(&mut self) -> u8;
    /// Sets CR8.
    fn set_task_priority(&mut self, priority: u8);
    /// RDMSR of the local APIC's registers: IA32_APIC_BASE, IA32_TSC_DEADLINE, 0x800 to 0x8ff.
    fn apic_msr_read(&mut self, msr: u32) -> Result<u64, Refused>;
    /// WRMSR of the local APIC's registers.
    fn apic_msr_write(&mut self, msr: u32, value: u64) -> Result<(), Refused>;
    /// This vCPU's initial APIC id.
    fn apic_id(&self) -> u32;
    /// How many vCPUs the machine has.
    fn cpu_count(&self) -> u32;
    /// The time stamp counter before this vCPU's offset; never goes back.
    fn tsc(&mut self) -> u64;
    /// Ticks of the time stamp counter per second.
    fn tsc_hz(&self) -> u64;
    /// Guest nanoseconds since switch-on, on the same clock as `tsc`.
    fn now_ns(&mut self) -> u64;
    /// Nanoseconds since 1970 at guest time zero.
    fn boot_wall_clock_ns(&mut self) -> u64;
    /// 64 random bits for RDRAND and RDSEED; the same sequence for the same machine seed.
    fn random(&mut self) -> u64;
    /// The x87's FERR# output, for CR0.NE = 0.
    fn set_ferr(&mut self, asserted: bool);
    /// KVM PV EOI: whether the interrupt in service is edge-triggered and alone, so that its EOI may be deferred.
    fn pv_eoi_allowed(&mut self) -> bool;
    /// Ends the interrupt in service at the local APIC, on the guest's behalf.
    fn end_of_interrupt(&mut self);

    /// `tsc` and `now_ns` of one moment.
    fn tsc_and_ns(&mut self) -> (u64, u64) {
        (self.tsc(), self.now_ns())
    }
    /// The guest spins: other vCPUs may have the host CPU first.
    fn relax(&mut self) {}
    /// Gives the host CPU away for up to `limit_ns`, or until something happens that the vCPU must look at.
    fn rest(&mut self, _limit_ns: u64) {}
    /// Ends the next HLT, or the present one, of the vCPU with this APIC id.
    fn end_halt(&mut self, _apic_id: u32) {}
    /// How long this vCPU has waited for a host CPU while it could have run, in nanoseconds.
    fn stolen_ns(&mut self) -> u64 {
        0
    }
}
