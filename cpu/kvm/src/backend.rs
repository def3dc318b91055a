//! `X86Ops` on KVM: registers are carried over on demand, exits are answered through the `Environment`.

#![expect(unsafe_code, reason = "hands guest RAM's host addresses and XSAVE areas to KVM")]

use crate::KvmError;
use crate::kick::Kicker;
use crate::registers::{MSRS, from_kvm_regs, from_kvm_sregs, msr_entries, to_kvm_regs, to_kvm_sregs};
use crate::xsave;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rx86_cpu::backend::{EngineStats, Exit, ResetKind, X86Ops};
use rx86_cpu::environment::Environment;
use rx86_cpu::exception::Exception;
use rx86_cpu::features::CpuModel;
use rx86_cpu::state::{Segment, Vcpu};
use rx86_cpu::system::event::Event;
use rx86_softmmu::{Attention, GuestMemory, WalkStep};
use std::sync::Arc;

/// Where KVM may put its real-mode TSS: in the hole below 4 GiB.
const TSS_ADDRESS: usize = 0xfffb_d000;
const APIC_BASE_MSR: u32 = 0x1b;
/// CPUID leaf 1, ECX: features of an APIC inside KVM, which we do not use.
const LEAF1_ECX_X2APIC: u32 = 1 << 21;
const LEAF1_ECX_TSC_DEADLINE: u32 = 1 << 24;
/// CPUID leaf 0x40000001, EAX: KVM's clock and nothing that needs its APIC.
const PV_FEATURES: u32 = 1 << 0 | 1 << 3 | 1 << 24;

/// A vCPU on KVM.
pub(crate) struct KvmBackend {
    vcpu: VcpuFd,
    // Dropping it would end the virtual machine.
    _vm: VmFd,
    memory: Arc<GuestMemory>,
    environment: Box<dyn Environment>,
    attention: Attention,
    model: CpuModel,
    state: Vcpu,
    /// The bits of XCR0 that KVM supports.
    components: u64,
    /// `state` holds what KVM has.
    pulled: bool,
    /// `state` holds what KVM must get.
    changed: bool,
    halted: bool,
    window_requested: bool,
    pending_exception: Option<Exception>,
    kicker: Option<Kicker>,
    stats: EngineStats,
    failure: Option<String>,
}

fn refused<T>(action: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, KvmError> {
    result.map_err(|error| KvmError::Refused { action, reason: error.to_string() })
}

impl KvmBackend {
    pub(crate) fn new(
        memory: Arc<GuestMemory>,
        environment: Box<dyn Environment>,
        model: &CpuModel,
        attention: Attention,
    ) -> Result<Self, KvmError> {
        let kvm = refused("be opened", Kvm::new())?;
        let vm = refused("create a virtual machine", kvm.create_vm())?;
        refused("place its task-state segment", vm.set_tss_address(TSS_ADDRESS))?;
        for (slot, region) in memory.regions().iter().enumerate() {
            let Some(page) = memory.host_page(region.gpa) else { continue };
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: region.gpa,
                memory_size: region.len,
                userspace_addr: page.host as u64,
            };
            // SAFETY: each region is one contiguous part of the mapping that `memory` holds, and this backend keeps
            // `memory` as long as the virtual machine.
            refused("map guest memory", unsafe { vm.set_user_memory_region(region) })?;
        }
        let vcpu = refused("create a vCPU", vm.create_vcpu(u64::from(environment.apic_id())))?;
        let cpuid = refused("tell its features", kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES))?;
        let components = components_of(&cpuid);
        refused("take our CPUID", vcpu.set_cpuid2(&own_cpuid(cpuid, environment.apic_id())))?;
        let state = Vcpu::power_on(model);
        Ok(Self {
            vcpu,
            _vm: vm,
            memory,
            environment,
            attention,
            model: model.clone(),
            state,
            components,
            pulled: true,
            changed: true,
            halted: false,
            window_requested: false,
            pending_exception: None,
            kicker: None,
            stats: EngineStats::default(),
            failure: None,
        })
    }

    /// Gives KVM our state, if it has changed.
    fn push(&mut self) -> Result<(), kvm_ioctls::Error> {
        if !self.changed {
            return Ok(());
        }
        let mut sregs = to_kvm_sregs(&self.state, &self.vcpu.get_sregs()?);
        sregs.apic_base = self.environment.apic_msr_read(APIC_BASE_MSR).unwrap_or(sregs.apic_base);
        self.vcpu.set_sregs(&sregs)?;
        self.vcpu.set_regs(&to_kvm_regs(&self.state))?;
        self.push_extended()?;
        if let Ok(msrs) = Msrs::from_entries(&msr_entries(&self.state)) {
            self.vcpu.set_msrs(&msrs)?;
        }
        self.changed = false;
        Ok(())
    }

    /// XCR0, x87, SSE and AVX registers.
    fn push_extended(&mut self) -> Result<(), kvm_ioctls::Error> {
        let mut xcrs = self.vcpu.get_xcrs()?;
        if xcrs.nr_xcrs > 0 {
            xcrs.xcrs[0].value = self.state.xcr0 & self.components;
            self.vcpu.set_xcrs(&xcrs)?;
        }
        let mut area = self.vcpu.get_xsave()?;
        xsave::to_kvm(&self.state, self.components, &mut area);
        // SAFETY: KVM reads more than the structure only if the process has asked for features whose state is larger,
        // AMX's, and this one never does.
        unsafe { self.vcpu.set_xsave(&area) }
    }

    fn xcr0(&self) -> Result<u64, kvm_ioctls::Error> {
        let xcrs = self.vcpu.get_xcrs()?;
        Ok(if xcrs.nr_xcrs > 0 { xcrs.xcrs[0].value } else { 1 })
    }

    /// Brings our state up to date.
    fn pull(&mut self) -> Result<(), kvm_ioctls::Error> {
        if self.pulled {
            return Ok(());
        }
        from_kvm_regs(&mut self.state, &self.vcpu.get_regs()?);
        from_kvm_sregs(&mut self.state, &self.vcpu.get_sregs()?);
        xsave::from_kvm(&mut self.state, &mut self.vcpu.get_xsave()?);
        self.state.xcr0 = self.xcr0()?;
        if let Ok(mut msrs) = Msrs::from_entries(&msr_entries(&self.state)) {
            self.vcpu.get_msrs(&mut msrs)?;
            for (entry, (_, field)) in msrs.as_slice().iter().zip(MSRS) {
                *field(&mut self.state) = entry.data;
            }
        }
        self.pulled = true;
        Ok(())
    }

    /// Changes the state through `change`; KVM gets it before the guest runs again.
    fn alter(&mut self, change: impl FnOnce(&mut Vcpu)) {
        self.note(|backend| backend.pull());
        change(&mut self.state);
        self.changed = true;
    }

    /// Remembers a failed call for `failure`.
    fn note(&mut self, call: impl FnOnce(&mut Self) -> Result<(), kvm_ioctls::Error>) {
        if let Err(error) = call(self) {
            self.failure.get_or_insert_with(|| error.to_string());
        }
    }

    /// Makes a pending interrupt, NMI or exception KVM's to deliver, or asks for the moment when that is possible.
    fn inject(&mut self) -> Result<(), kvm_ioctls::Error> {
        if self.attention.peek() & Attention::NMI != 0 {
            self.attention.clear(Attention::NMI);
            if self.environment.take_nmi() {
                self.vcpu.nmi()?;
            }
        }
        self.attention.clear(Attention::INTERRUPT);
        let pending = self.environment.interrupt_pending();
        let exception = self.pending_exception.take();
        let run = self.vcpu.get_kvm_run();
        let open = run.ready_for_interrupt_injection != 0 && run.if_flag != 0;
        run.request_interrupt_window = u8::from((pending && !open) || self.window_requested);
        if !(exception.is_some() || (pending && open)) {
            return Ok(());
        }
        let mut events = self.vcpu.get_vcpu_events()?;
        if let Some(exception) = exception {
            events.exception.injected = 1;
            events.exception.nr = exception.vector;
            events.exception.has_error_code = u8::from(exception.has_error_code);
            events.exception.error_code = exception.error_code;
        } else if let Some(vector) = self.environment.acknowledge_interrupt() {
            self.stats.interrupts += 1;
            events.interrupt.injected = 1;
            events.interrupt.nr = vector;
            events.interrupt.soft = 0;
        }
        self.vcpu.set_vcpu_events(&events)
    }

    /// Runs the guest to KVM's next exit.
    fn run_once(&mut self) -> Result<Option<Exit>, kvm_ioctls::Error> {
        self.push()?;
        self.inject()?;
        self.vcpu.get_kvm_run().cr8 = u64::from(self.environment.task_priority());
        self.pulled = false;
        let kicker = self.kicker.get_or_insert_with(Kicker::for_this_thread);
        kicker.set_running(true);
        let outcome = self.vcpu.run();
        kicker.set_running(false);
        let exit = match outcome {
            Ok(VcpuExit::IoIn(port, data)) => {
                self.stats.port_accesses += 1;
                for part in data.chunks_mut(access_bytes(data.len())) {
                    let value = self.environment.port_read(port, part.len() as u8).to_le_bytes();
                    part.copy_from_slice(&value[..part.len()]);
                }
                None
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                self.stats.port_accesses += 1;
                for part in data.chunks(access_bytes(data.len())) {
                    let mut value = [0; 4];
                    value[..part.len()].copy_from_slice(part);
                    self.environment.port_write(port, part.len() as u8, u32::from_le_bytes(value));
                }
                None
            }
            Ok(VcpuExit::MmioRead(gpa, data)) => {
                self.stats.mmio_accesses += 1;
                self.environment.mmio_read(gpa, data);
                None
            }
            Ok(VcpuExit::MmioWrite(gpa, data)) => {
                self.stats.mmio_accesses += 1;
                self.environment.mmio_write(gpa, data);
                None
            }
            Ok(VcpuExit::Hlt) => {
                self.halted = true;
                None
            }
            Ok(VcpuExit::IrqWindowOpen) => {
                std::mem::take(&mut self.window_requested).then_some(Exit::InterruptWindow)
            }
            Ok(VcpuExit::Shutdown) => Some(Exit::Shutdown),
            Ok(VcpuExit::Intr) => Some(Exit::Yield),
            Ok(VcpuExit::Debug(_)) => Some(Exit::Debug),
            Ok(other) => {
                self.failure = Some(format!("KVM stopped with {other:?}"));
                Some(Exit::Failed)
            }
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Some(Exit::Yield),
            Err(error) => return Err(error),
        };
        let priority = self.vcpu.get_kvm_run().cr8 as u8 & 15;
        if priority != self.environment.task_priority() {
            self.environment.set_task_priority(priority);
        }
        Ok(exit)
    }
}

/// The width of one access of an I/O exit; string instructions of bytes come with many at once.
fn access_bytes(bytes: usize) -> usize {
    if matches!(bytes, 1 | 2 | 4) { bytes } else { 1 }
}

/// The components of XSAVE's area: CPUID leaf 0xD; without it x87 and SSE.
fn components_of(cpuid: &CpuId) -> u64 {
    let leaf = cpuid.as_slice().iter().find(|entry| (entry.function, entry.index) == (0xd, 0));
    leaf.map_or(3, |leaf| u64::from(leaf.eax) | u64::from(leaf.edx) << 32)
}

/// What the host's KVM supports, less what needs KVM's own APIC.
fn own_cpuid(mut cpuid: CpuId, apic_id: u32) -> CpuId {
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                entry.ecx &= !(LEAF1_ECX_X2APIC | LEAF1_ECX_TSC_DEADLINE);
                entry.ebx = entry.ebx & 0x00ff_ffff | apic_id << 24;
            }
            0xb | 0x1f => entry.edx = apic_id,
            0x4000_0001 => entry.eax &= PV_FEATURES,
            _ => {}
        }
    }
    cpuid
}

impl X86Ops for KvmBackend {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn reset(&mut self, kind: ResetKind) {
        let kept = (kind == ResetKind::Init).then(|| self.state().clone());
        self.state = Vcpu::power_on(&self.model);
        if let Some(old) = kept {
            // INIT leaves the floating-point and vector registers and most MSRs alone.
            (self.state.x87, self.state.zmm, self.state.msrs) = (old.x87, old.zmm, old.msrs);
        }
        (self.pulled, self.changed, self.halted) = (true, true, false);
    }

    fn state(&mut self) -> &Vcpu {
        self.note(|backend| backend.pull());
        &self.state
    }

    fn load_state(&mut self, state: &Vcpu) {
        self.state = state.clone();
        (self.pulled, self.changed, self.halted) = (true, true, false);
    }

    fn msr(&mut self, index: u32) -> Result<u64, Exception> {
        let entry = kvm_bindings::kvm_msr_entry { index, ..Default::default() };
        let mut msrs = Msrs::from_entries(&[entry]).map_err(|_| Exception::gp(0))?;
        match self.vcpu.get_msrs(&mut msrs) {
            Ok(1) => Ok(msrs.as_slice()[0].data),
            _ => Err(Exception::gp(0)),
        }
    }

    fn set_msr(&mut self, index: u32, value: u64) -> Result<(), Exception> {
        self.note(|backend| backend.push());
        let entry = kvm_bindings::kvm_msr_entry { index, data: value, ..Default::default() };
        let msrs = Msrs::from_entries(&[entry]).map_err(|_| Exception::gp(0))?;
        self.pulled = false;
        if self.vcpu.set_msrs(&msrs).is_ok_and(|set| set == 1) { Ok(()) } else { Err(Exception::gp(0)) }
    }

    fn set_segment(&mut self, index: usize, segment: Segment) {
        self.alter(|state| state.segments[index] = segment);
    }

    fn set_cr0(&mut self, value: u64) -> Result<(), Exception> {
        self.alter(|state| state.cr0 = value);
        Ok(())
    }

    fn set_cr3(&mut self, value: u64) -> Result<(), Exception> {
        self.alter(|state| state.cr3 = value);
        Ok(())
    }

    fn set_cr4(&mut self, value: u64) -> Result<(), Exception> {
        self.alter(|state| state.cr4 = value);
        Ok(())
    }

    // Writing the control registers anew makes KVM drop its translations.
    fn flush_tlb(&mut self) {
        self.alter(|_| {});
    }

    fn flush_tlb_linear(&mut self, _linear: u64) {
        self.alter(|_| {});
    }

    fn interrupt_allowed(&mut self) -> bool {
        let run = self.vcpu.get_kvm_run();
        run.ready_for_interrupt_injection != 0 && run.if_flag != 0
    }

    fn nmi_allowed(&mut self) -> bool {
        self.vcpu.get_vcpu_events().is_ok_and(|events| events.nmi.masked == 0)
    }

    fn request_interrupt_window(&mut self) {
        self.window_requested = true;
    }

    fn queue_exception(&mut self, exception: Exception) {
        self.pending_exception = Some(exception);
    }

    // KVM has no A20 gate; a closed one matters to real-mode programs only.
    fn set_a20(&mut self, _open: bool) {}

    fn recent_events(&self) -> Vec<(Event, u64)> {
        Vec::new()
    }

    fn peek(&mut self, linear: u64, bytes: usize) -> Vec<u8> {
        let mut data = Vec::new();
        let mut byte = [0];
        for at in (0..bytes as u64).map(|i| linear.wrapping_add(i)) {
            let translation = self.vcpu.translate_gva(at).ok().filter(|translation| translation.valid != 0);
            match translation.filter(|t| self.memory.read(t.physical_address, &mut byte).is_ok()) {
                Some(_) => data.push(byte[0]),
                None => break,
            }
        }
        data
    }

    fn page_walk(&mut self, _linear: u64) -> Vec<WalkStep> {
        Vec::new()
    }

    fn run(&mut self, _budget: u64) -> Exit {
        loop {
            if self.halted {
                if !self.environment.interrupt_pending() && self.attention.peek() & Attention::NMI == 0 {
                    self.stats.exits_halt += 1;
                    return Exit::Halt;
                }
                self.halted = false;
            }
            let exit = match self.run_once() {
                Ok(exit) => exit,
                Err(error) => {
                    self.failure = Some(error.to_string());
                    Some(Exit::Failed)
                }
            };
            let kicked = self.attention.peek() & Attention::KICK != 0;
            self.attention.clear(Attention::KICK);
            if let Some(exit) = exit.or(kicked.then_some(Exit::Yield)) {
                self.stats.exits_yield += 1;
                return exit;
            }
        }
    }

    fn stats(&self) -> EngineStats {
        self.stats.clone()
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}
