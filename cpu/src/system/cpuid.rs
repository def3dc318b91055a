//! CPUID: the leaves, made of the feature list and the model (SDM vol. 2, CPUID; the KVM and timing leaves as Linux reads them).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::features::{CpuidRegister, Feature, xsave_area};
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::bits;
use crate::width::W32;
use iced_x86::{Instruction, Mnemonic};

/// The last basic leaf.
const BASIC_END: u32 = 0x1f;
/// The first hypervisor leaf.
const HYPERVISOR: u32 = 0x4000_0000;
/// The last hypervisor leaf.
const HYPERVISOR_END: u32 = 0x4000_0010;
/// The first extended leaf.
const EXTENDED: u32 = 0x8000_0000;
/// The last extended leaf.
const EXTENDED_END: u32 = 0x8000_0008;

/// Leaf 1 EDX: more than one logical processor in the package.
const HTT: u32 = 1 << 28;
/// Leaf 1 ECX: CR4.OSXSAVE.
const OSXSAVE: u32 = 1 << 27;
/// Leaf 1 EDX: the local APIC is enabled.
const APIC: u32 = 1 << 9;
/// Leaf 7 ECX: CR4.PKE.
const OSPKE: u32 = 1 << 4;
/// IA32_MISC_ENABLE: basic leaves above 2 are hidden.
const LIMIT_CPUID: u64 = 1 << 22;
/// IA32_APIC_BASE and its enable bit.
const IA32_APIC_BASE: u32 = 0x1b;
const APIC_BASE_ENABLE: u64 = 1 << 11;

/// The local APIC timer's clock, which is also the crystal clock of leaf 0x15.
const CRYSTAL_HZ: u64 = 1_000_000_000;

/// Leaf 0x40000001 EAX: no delay for ports (1), the clock's new registers (3), stolen time (5), PV EOI (6), the end of
/// another processor's halt by hypercall (7), a clock that is stable over processors (24).
const KVM_FEATURES: u32 = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 24;

/// Leaf 4's subleaves: type and level, ways, line sets.
const CACHES: [Cache; 4] = [
    Cache { kind: 1, level: 1, ways: 8, sets: 64, shared: false },
    Cache { kind: 2, level: 1, ways: 8, sets: 64, shared: false },
    Cache { kind: 3, level: 2, ways: 16, sets: 2048, shared: false },
    Cache { kind: 3, level: 3, ways: 16, sets: 16384, shared: true },
];
const CACHE_LINE: u32 = 64;

/// A cache as leaf 4 describes it. `kind` is 1 for data, 2 for instructions, 3 for both.
struct Cache {
    kind: u32,
    level: u32,
    ways: u32,
    sets: u32,
    shared: bool,
}

/// What CPUID returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidResult {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

impl CpuidResult {
    fn new(eax: u32, ebx: u32, ecx: u32, edx: u32) -> Self {
        Self { eax, ebx, ecx, edx }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    (0..4).fold(0, |word, i| word | u32::from(bytes.get(at + i).copied().unwrap_or(0)) << (8 * i))
}

impl Cpu {
    /// CPUID with `leaf` in EAX and `subleaf` in ECX.
    pub fn cpuid(&mut self, leaf: u32, subleaf: u32) -> CpuidResult {
        let hypervisor = self.model.has(Feature::Hypervisor);
        let basic_end = if self.state.msrs.misc_enable & LIMIT_CPUID != 0 { 2 } else { BASIC_END };
        match leaf {
            0..=BASIC_END if leaf <= basic_end => self.basic_leaf(leaf, subleaf),
            HYPERVISOR..=HYPERVISOR_END if hypervisor => self.hypervisor_leaf(leaf),
            EXTENDED..=EXTENDED_END => self.extended_leaf(leaf),
            // A leaf that does not exist reads as the last basic one.
            _ => self.basic_leaf(basic_end, subleaf),
        }
    }

    /// The bits of a leaf that the feature list gives.
    fn listed(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let bits = |register| self.model.features.cpuid_bits(leaf, subleaf, register);
        CpuidResult::new(
            bits(CpuidRegister::Eax),
            bits(CpuidRegister::Ebx),
            bits(CpuidRegister::Ecx),
            bits(CpuidRegister::Edx),
        )
    }

    fn basic_leaf(&mut self, leaf: u32, subleaf: u32) -> CpuidResult {
        match leaf {
            0 => self.vendor_leaf(),
            1 => self.version_leaf(),
            // Descriptor FF: leaf 4 tells of the caches.
            2 => CpuidResult::new(0x00ff_0001, 0, 0, 0),
            4 => self.cache_leaf(subleaf),
            6 => self.listed(6, 0),
            7 => self.feature_leaf(subleaf),
            0xb | 0x1f => self.topology_leaf(subleaf),
            0xd => self.xsave_leaf(subleaf),
            0x15 => self.tsc_leaf(),
            0x16 => {
                let mhz = (self.env.tsc_hz() / 1_000_000).min(0xffff) as u32;
                CpuidResult::new(mhz, mhz, 100, 0)
            }
            _ => CpuidResult::default(),
        }
    }

    fn vendor_leaf(&self) -> CpuidResult {
        let vendor = &self.model.vendor;
        let end = if self.state.msrs.misc_enable & LIMIT_CPUID != 0 { 2 } else { BASIC_END };
        CpuidResult::new(end, word(vendor, 0), word(vendor, 8), word(vendor, 4))
    }

    fn version_leaf(&mut self) -> CpuidResult {
        let mut result = self.listed(1, 0);
        let count = self.env.cpu_count().max(1);
        result.eax = self.model.signature();
        result.ebx = (CACHE_LINE / 8) << 8 | (count.min(255) << 16) | (self.env.apic_id() & 0xff) << 24;
        if self.state.cr4 & bits::CR4_OSXSAVE != 0 {
            result.ecx |= OSXSAVE;
        }
        if count > 1 {
            result.edx |= HTT;
        }
        let enabled = self.env.apic_msr_read(IA32_APIC_BASE).is_ok_and(|base| base & APIC_BASE_ENABLE != 0);
        if !enabled {
            result.edx &= !APIC;
        }
        result
    }

    fn cache_leaf(&self, subleaf: u32) -> CpuidResult {
        let Some(cache) = CACHES.get(subleaf as usize) else { return CpuidResult::default() };
        // APIC ids come in powers of two.
        let ids = self.env.cpu_count().max(1).next_power_of_two().min(64);
        let sharing = if cache.shared { ids - 1 } else { 0 };
        // Bit 8: self-initializing.
        let eax = cache.kind | cache.level << 5 | 1 << 8 | sharing << 14 | (ids - 1) << 26;
        CpuidResult::new(eax, (cache.ways - 1) << 22 | (CACHE_LINE - 1), cache.sets - 1, 0)
    }

    fn feature_leaf(&self, subleaf: u32) -> CpuidResult {
        let mut result = self.listed(7, subleaf);
        if subleaf == 0 {
            // The last subleaf.
            result.eax = 2;
            if self.state.cr4 & bits::CR4_PKE != 0 {
                result.ecx |= OSPKE;
            }
        }
        result
    }

    /// Leaves 0xB and 0x1F: one thread in a core, all cores in one package.
    fn topology_leaf(&self, subleaf: u32) -> CpuidResult {
        let count = self.env.cpu_count().max(1);
        let id = self.env.apic_id();
        let core_shift = count.next_power_of_two().trailing_zeros();
        match subleaf {
            0 => CpuidResult::new(0, 1, 1 << 8, id),
            1 => CpuidResult::new(core_shift, count, 2 << 8 | 1, id),
            _ => CpuidResult::new(0, 0, subleaf & 0xff, id),
        }
    }

    fn xsave_leaf(&self, subleaf: u32) -> CpuidResult {
        let model = &self.model;
        if !model.has(Feature::Xsave) {
            return CpuidResult::default();
        }
        let supported = xsave_area::supported(model);
        match subleaf {
            0 => CpuidResult::new(
                supported as u32,
                xsave_area::standard_size(model, self.state.xcr0),
                xsave_area::standard_size(model, supported),
                (supported >> 32) as u32,
            ),
            1 => {
                let mut result = self.listed(0xd, 1);
                result.ebx = xsave_area::compacted_size(model, self.state.xcr0 | self.state.msrs.xss);
                result
            }
            _ => xsave_area::extended(model)
                .find(|component| component.index == subleaf)
                .map_or(CpuidResult::default(), |component| {
                    CpuidResult::new(component.size, component.offset, 0, 0)
                }),
        }
    }

    /// The counter's rate as a fraction of the crystal's.
    fn tsc_leaf(&self) -> CpuidResult {
        let tsc_khz = self.env.tsc_hz() / 1000;
        let divisor = greatest_common_divisor(tsc_khz, CRYSTAL_HZ / 1000).max(1);
        let fits = |value: u64| u32::try_from(value).unwrap_or(0);
        CpuidResult::new(fits(CRYSTAL_HZ / 1000 / divisor), fits(tsc_khz / divisor), CRYSTAL_HZ as u32, 0)
    }

    fn hypervisor_leaf(&self, leaf: u32) -> CpuidResult {
        let signature = b"KVMKVMKVM\0\0\0";
        match leaf {
            HYPERVISOR => {
                CpuidResult::new(HYPERVISOR_END, word(signature, 0), word(signature, 4), word(signature, 8))
            }
            0x4000_0001 => CpuidResult::new(KVM_FEATURES, 0, 0, 0),
            // Kilohertz of the counter and of the local APIC's timer.
            HYPERVISOR_END => {
                let tsc_khz = u32::try_from(self.env.tsc_hz() / 1000).unwrap_or(u32::MAX);
                CpuidResult::new(tsc_khz, (CRYSTAL_HZ / 1000) as u32, 0, 0)
            }
            _ => CpuidResult::default(),
        }
    }

    fn extended_leaf(&self, leaf: u32) -> CpuidResult {
        match leaf {
            EXTENDED => CpuidResult::new(EXTENDED_END, 0, 0, 0),
            0x8000_0001 => {
                let mut result = self.listed(leaf, 0);
                // Outside 64-bit mode SYSCALL does not exist on Intel's processors, and CPUID tells so.
                if !self.state.in_64bit_mode() {
                    result.edx &= !(1 << 11);
                }
                result
            }
            0x8000_0002..=0x8000_0004 => {
                let brand = self.model.brand.as_bytes();
                let at = (leaf - 0x8000_0002) as usize * 16;
                CpuidResult::new(
                    word(brand, at),
                    word(brand, at + 4),
                    word(brand, at + 8),
                    word(brand, at + 12),
                )
            }
            // The second-level cache: 2 MiB, 16 ways, 64-byte lines.
            0x8000_0006 => CpuidResult::new(0, 0, 2048 << 16 | 8 << 12 | CACHE_LINE, 0),
            0x8000_0007 => self.listed(leaf, 0),
            0x8000_0008 => {
                CpuidResult::new(self.model.linear_bits() << 8 | self.model.physical_bits, 0, 0, 0)
            }
            _ => CpuidResult::default(),
        }
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The meaning of an instruction of this family.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    (instruction.mnemonic() == Mnemonic::Cpuid).then_some(cpuid as Hard)
}

fn cpuid(cpu: &mut Cpu, _: &Op) -> Result<(), Exception> {
    let leaf = cpu.get::<W32>(reg::RAX) as u32;
    let subleaf = cpu.get::<W32>(reg::RCX) as u32;
    let result = cpu.cpuid(leaf, subleaf);
    cpu.put::<W32>(reg::RAX, u64::from(result.eax));
    cpu.put::<W32>(reg::RBX, u64::from(result.ebx));
    cpu.put::<W32>(reg::RCX, u64::from(result.ecx));
    cpu.put::<W32>(reg::RDX, u64::from(result.edx));
    cpu.serialize();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare_board::{BareBoard, TSC_HZ};

    #[test]
    fn strings() {
        let mut cpu = BareBoard::default().cpu();
        let vendor = cpu.cpuid(0, 0);
        let text: Vec<u8> =
            [vendor.ebx, vendor.edx, vendor.ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(text, b"GenuineIntel");
        let brand: Vec<u8> = (0x8000_0002..=0x8000_0004)
            .flat_map(|leaf| {
                let result = cpu.cpuid(leaf, 0);
                [result.eax, result.ebx, result.ecx, result.edx].map(u32::to_le_bytes).concat()
            })
            .collect();
        assert_eq!(brand.split(|&byte| byte == 0).next(), Some(&b"rx86 virtual processor"[..]));
        let hypervisor = cpu.cpuid(0x4000_0000, 0);
        assert_eq!(hypervisor.ebx.to_le_bytes(), *b"KVMK");
        assert_eq!(hypervisor.ecx.to_le_bytes(), *b"VMKV");
        assert_eq!(hypervisor.edx.to_le_bytes(), *b"M\0\0\0");
    }

    #[test]
    fn leaves_that_do_not_exist_read_as_the_last_basic_one() {
        let mut cpu = BareBoard { cpus: 4, ..BareBoard::default() }.cpu();
        let last = cpu.cpuid(BASIC_END, 1);
        assert_eq!(last, CpuidResult::new(2, 4, 0x201, 3));
        for leaf in [0x20, 0x3fff_ffff, 0x4000_0011, 0x8000_0009, 0xc000_0000, u32::MAX] {
            assert_eq!(cpu.cpuid(leaf, 1), last, "{leaf:#x}");
        }
        cpu.model.features = cpu.model.features.without(Feature::Hypervisor);
        assert_eq!(cpu.cpuid(HYPERVISOR, 1), last);
    }

    #[test]
    fn bits_follow_the_control_registers() {
        let mut cpu = BareBoard::default().cpu();
        let before = (cpu.cpuid(1, 0).ecx & OSXSAVE, cpu.cpuid(7, 0).ecx & OSPKE);
        cpu.state.cr4 |= bits::CR4_OSXSAVE | bits::CR4_PKE;
        let after = (cpu.cpuid(1, 0).ecx & OSXSAVE, cpu.cpuid(7, 0).ecx & OSPKE);
        assert_eq!((before, after), ((0, 0), (OSXSAVE, OSPKE)));
        assert_eq!(cpu.cpuid(1, 0).edx & (APIC | HTT), APIC);
    }

    #[test]
    fn the_counter_is_told_in_three_ways() {
        let mut cpu = BareBoard::default().cpu();
        let crystal = cpu.cpuid(0x15, 0);
        let hz = u64::from(crystal.ecx) * u64::from(crystal.ebx) / u64::from(crystal.eax);
        assert_eq!(hz, TSC_HZ);
        assert_eq!(u64::from(cpu.cpuid(0x16, 0).eax), TSC_HZ / 1_000_000);
        assert_eq!(u64::from(cpu.cpuid(0x4000_0010, 0).eax), TSC_HZ / 1000);
    }

    #[test]
    fn xsave_areas_grow_with_xcr0() {
        let mut cpu = BareBoard::default().cpu();
        cpu.state.xcr0 = 3;
        assert_eq!(cpu.cpuid(0xd, 0), CpuidResult::new(0x207, 576, 840, 0));
        assert_eq!(cpu.cpuid(0xd, 9), CpuidResult::new(8, 832, 0, 0));
        assert_eq!(cpu.cpuid(0xd, 2), CpuidResult::new(256, 576, 0, 0));
        assert_eq!(cpu.cpuid(0xd, 3), CpuidResult::default());
        cpu.state.xcr0 = 0x203;
        assert_eq!((cpu.cpuid(0xd, 0).ebx, cpu.cpuid(0xd, 1).ebx), (840, 584));
        cpu.state.xcr0 = 0x7;
        assert_eq!((cpu.cpuid(0xd, 0).ebx, cpu.cpuid(0xd, 1).ebx), (832, 832));
        cpu.state.xcr0 = 0x207;
        assert_eq!((cpu.cpuid(0xd, 0).ebx, cpu.cpuid(0xd, 1).ebx), (840, 840));
    }

    /// No bit is set that the feature list, a control register or the count of processors does not explain.
    #[test]
    fn every_feature_bit_comes_from_the_list() {
        let mut cpu = BareBoard::default().cpu();
        cpu.model.features = crate::features::FeatureSet::default();
        cpu.state.segments[1].access |= crate::state::access::LONG;
        let result = cpu.cpuid(1, 0);
        assert_eq!((result.ecx, result.edx), (0, 0));
        assert_eq!(cpu.cpuid(7, 0), CpuidResult::new(2, 0, 0, 0));
        for leaf in [6, 0xd, 0x8000_0001, 0x8000_0007] {
            assert_eq!(cpu.cpuid(leaf, 1), CpuidResult::default(), "{leaf:#x}");
        }
    }
}
