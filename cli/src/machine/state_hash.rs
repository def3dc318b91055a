//! A hash of the machine's architectural state: every vCPU's registers with its local APIC's, and RAM. Two runs whose hashes
//! are the same at the same counts of instructions have executed the same.

use super::Machine;
use super::shared::lock;
use anyhow::{Context, Result};
use rx86_cpu::state::{Msrs, Segment, TableRegister, Vcpu, X87};
use rx86_devices::Clock;
use rx86_devices::lapic::LocalApic;
use rx86_softmmu::GuestMemory;
use std::fmt;
use std::io::Write;

/// Bytes of RAM that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Words hashed in four lanes. Finds differences; it is no defence against somebody who makes them.
#[derive(Clone, Debug)]
struct Digest {
    lanes: [u64; 4],
    count: u64,
}

impl Digest {
    fn new() -> Self {
        Self { lanes: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 1], count: 0 }
    }

    fn mix(lane: u64, word: u64) -> u64 {
        // Odd, so that no word is lost.
        (lane ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    fn word(&mut self, word: u64) {
        let lane = &mut self.lanes[self.count as usize & 3];
        *lane = Self::mix(*lane, word);
        self.count += 1;
    }

    fn words(&mut self, words: impl IntoIterator<Item = u64>) {
        words.into_iter().for_each(|word| self.word(word));
    }

    /// Adds a whole number of four words.
    fn bytes(&mut self, bytes: &[u8]) {
        let (groups, _) = bytes.as_chunks::<32>();
        for group in groups {
            let (words, _) = group.as_chunks::<8>();
            for (lane, word) in self.lanes.iter_mut().zip(words) {
                *lane = Self::mix(*lane, u64::from_le_bytes(*word));
            }
        }
        self.count += bytes.len() as u64 / 8;
    }

    fn value(&self) -> u64 {
        let folded = self.lanes.iter().fold(self.count, |sum, &lane| Self::mix(sum, lane));
        Self::mix(folded, folded >> 32)
    }
}

/// The hashes of a state, by part, so that one sees where two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDigest {
    /// By vCPU.
    cpus: Vec<u64>,
    ram: u64,
}

impl StateDigest {
    /// All of it in one number.
    pub fn value(&self) -> u64 {
        let mut digest = Digest::new();
        digest.words(self.cpus.iter().copied());
        digest.word(self.ram);
        digest.value()
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.value())?;
        for (number, cpu) in self.cpus.iter().enumerate() {
            write!(f, " cpu{number} {cpu:016x}")?;
        }
        write!(f, " ram {:016x}", self.ram)
    }
}

impl Machine {
    /// The hashes of the present state.
    pub fn state_digest(&mut self) -> StateDigest {
        let now_ns = self.shared.clock.now_ns();
        let cpus = self.processors.iter_mut().map(|processor| {
            let mut digest = Digest::new();
            digest.word(now_ns);
            add_registers(&mut digest, processor.engine.state());
            let lapic: &LocalApic = &lock(&processor.lapic);
            digest.words(lapic.state_words());
            digest.value()
        });
        StateDigest { cpus: cpus.collect(), ram: ram(&self.memory) }
    }
}

fn segment_words(segment: &Segment) -> [u64; 3] {
    let Segment { base, limit, access, selector } = *segment;
    [base, u64::from(limit) << 32 | u64::from(access), selector.into()]
}

fn add_registers(digest: &mut Digest, state: &Vcpu) {
    let Vcpu {
        regs,
        flags,
        segments,
        ldtr,
        tr,
        gdtr,
        idtr,
        cr0,
        cr2,
        cr3,
        cr4,
        efer,
        xcr0,
        pdptes,
        dr,
        pkru,
        mxcsr,
        cpl,
        activity,
        sti_shadow,
        mov_ss_shadow,
        nmi_blocked,
        nmi_pending,
        a20,
        msrs,
        x87,
        zmm,
    } = state;
    // The slots behind RIP hold nothing.
    digest.words(regs[..=16].iter().copied());
    digest.word(flags.get());
    for segment in segments.iter().chain([ldtr, tr]) {
        digest.words(segment_words(segment));
    }
    for &TableRegister { base, limit } in [gdtr, idtr] {
        digest.words([base, limit.into()]);
    }
    digest.words([*cr0, *cr2, *cr3, *cr4, *efer, *xcr0]);
    digest.words(*pdptes);
    digest.words(*dr);
    digest.words([u64::from(*pkru), u64::from(*mxcsr), u64::from(*cpl), *activity as u64]);
    digest.words([sti_shadow, mov_ss_shadow, nmi_blocked, nmi_pending, a20].map(|&bit| u64::from(bit)));
    add_msrs(digest, msrs);
    add_x87(digest, x87);
    zmm.iter().for_each(|register| digest.words(register.0));
}

fn add_msrs(digest: &mut Digest, msrs: &Msrs) {
    let Msrs {
        star,
        lstar,
        cstar,
        fmask,
        kernel_gs_base,
        sysenter_cs,
        sysenter_esp,
        sysenter_eip,
        tsc_aux,
        tsc_adjust,
        tsc_offset,
        umwait_control,
        pat,
        misc_enable,
        mtrr_def_type,
        mtrr_variable,
        mtrr_fixed,
        xss,
        debugctl,
        mcg_status,
        kvm_system_time,
        kvm_wall_clock,
        kvm_steal_time,
        kvm_pv_eoi,
    } = *msrs;
    digest.words([star, lstar, cstar, fmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip]);
    digest.words([tsc_aux, tsc_adjust, tsc_offset, umwait_control, pat, misc_enable, mtrr_def_type]);
    digest.words(mtrr_variable);
    digest.words(mtrr_fixed);
    digest.words([xss, debugctl, mcg_status, kvm_system_time, kvm_wall_clock, kvm_steal_time, kvm_pv_eoi]);
}

fn add_x87(digest: &mut Digest, x87: &X87) {
    for register in &x87.regs {
        digest.words([register.mantissa, register.sign_exponent.into()]);
    }
    let words =
        [x87.control, x87.status, x87.tags, x87.opcode, x87.instruction_selector, x87.operand_selector];
    digest.words(words.map(u64::from));
    digest.words([x87.instruction_pointer, x87.operand_pointer]);
}

/// RAM's hash. Pieces without a bit set are left out, so that memory that was never written takes little time.
fn ram(memory: &GuestMemory) -> u64 {
    let mut digest = Digest::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    for region in memory.regions() {
        let mut at = region.gpa;
        let end = region.gpa + region.len;
        while at < end {
            let piece = &mut chunk[..CHUNK_BYTES.min((end - at) as usize)];
            if memory.read(at, piece).is_ok() && piece.iter().any(|&byte| byte != 0) {
                digest.words([at, 0, 0, 0]);
                digest.bytes(piece);
            }
            at += piece.len() as u64;
        }
    }
    digest.value()
}

/// Where hashes go, and when the next is due.
pub struct StateHashes {
    every: u64,
    next: u64,
    to: Box<dyn Write + Send>,
}

impl StateHashes {
    /// A line in `to` whenever another `every` instructions are retired, which are more than none.
    pub fn new(every: u64, to: Box<dyn Write + Send>) -> Self {
        Self { every, next: every, to }
    }

    /// The count of instructions at which the next is due.
    pub(super) fn due(&self) -> u64 {
        self.next
    }

    /// Writes a line if one is due.
    pub(super) fn write_if_due(
        &mut self,
        retired: u64,
        now_ns: u64,
        digest: impl FnOnce() -> StateDigest,
    ) -> Result<()> {
        if retired < self.next {
            return Ok(());
        }
        self.next = retired.saturating_add(self.every);
        self.write(retired, now_ns, &digest())
    }

    /// Writes the line of the run's end.
    pub(super) fn write_last(
        &mut self,
        retired: u64,
        now_ns: u64,
        digest: impl FnOnce() -> StateDigest,
    ) -> Result<()> {
        self.write(retired, now_ns, &digest())?;
        self.to.flush().context("cannot write the state's hashes")
    }

    fn write(&mut self, retired: u64, now_ns: u64, digest: &StateDigest) -> Result<()> {
        let line = format!("state {retired} {now_ns} {digest}\n");
        self.to.write_all(line.as_bytes()).context("cannot write the state's hashes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_and_its_place_count() {
        let value = |words: &[u64]| {
            let mut digest = Digest::new();
            digest.words(words.iter().copied());
            digest.value()
        };
        let all =
            [&[1, 2, 3, 4, 5][..], &[2, 1, 3, 4, 5], &[1, 2, 3, 4, 6], &[1, 2, 3, 4], &[1, 2, 3, 4, 5, 0]];
        for (i, left) in all.iter().enumerate() {
            for right in &all[..i] {
                assert_ne!(value(left), value(right), "{left:?} {right:?}");
            }
        }
        let mut bytes = Digest::new();
        bytes.bytes(&[1u64, 2, 3, 4].map(u64::to_le_bytes).concat());
        assert_eq!(bytes.value(), value(&[1, 2, 3, 4]));
    }

    #[test]
    fn ram_is_hashed_with_its_addresses() {
        let hash = |gpa| {
            let memory = GuestMemory::new(1 << 20).expect("1 MiB");
            memory.write(gpa, &[7]).expect("RAM");
            ram(&memory)
        };
        assert_eq!(hash(0x1000), hash(0x1000));
        assert_ne!(hash(0x1000), hash(0x1001));
        assert_ne!(hash(0x1000), hash(0x11000));
    }
}
