//! The rules of control registers and EFER: what may be written, and what follows (SDM vol. 3, 2.5, 4.1 and 10.8.5).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::features::{CpuModel, Feature};
use crate::state::{SegmentIndex, access, bits};
use rx86_softmmu::{PagingContext, PagingMode};

/// CR0 bits that exist; the others read as zero and ignore writes.
const CR0_BITS: u64 = bits::CR0_PE
    | bits::CR0_MP
    | bits::CR0_EM
    | bits::CR0_TS
    | bits::CR0_ET
    | bits::CR0_NE
    | bits::CR0_WP
    | bits::CR0_AM
    | bits::CR0_NW
    | bits::CR0_CD
    | bits::CR0_PG;
/// With PAE paging, a change of these reloads the PDPTE registers (SDM vol. 3, 5.4.1).
const CR0_RELOADS_PDPTES: u64 = bits::CR0_PG | bits::CR0_CD | bits::CR0_NW;
/// The same, in CR4.
const CR4_RELOADS_PDPTES: u64 = bits::CR4_PAE | bits::CR4_PGE | bits::CR4_PSE | bits::CR4_SMEP;
/// CR3's bit that keeps the TLB when CR4.PCIDE is set.
const CR3_NO_FLUSH: u64 = 1 << 63;

/// CR4's bits and the features that bring them. CR4.PCE is on every processor.
const CR4_FEATURES: [(u64, Feature); 18] = [
    (bits::CR4_VME, Feature::Vme),
    (bits::CR4_PVI, Feature::Vme),
    (bits::CR4_TSD, Feature::Tsc),
    (bits::CR4_DE, Feature::De),
    (bits::CR4_PSE, Feature::Pse),
    (bits::CR4_PAE, Feature::Pae),
    (bits::CR4_MCE, Feature::Mce),
    (bits::CR4_PGE, Feature::Pge),
    (bits::CR4_OSFXSR, Feature::Fxsr),
    (bits::CR4_OSXMMEXCPT, Feature::Sse),
    (bits::CR4_UMIP, Feature::Umip),
    (bits::CR4_LA57, Feature::La57),
    (bits::CR4_FSGSBASE, Feature::Fsgsbase),
    (bits::CR4_PCIDE, Feature::Pcid),
    (bits::CR4_OSXSAVE, Feature::Xsave),
    (bits::CR4_SMEP, Feature::Smep),
    (bits::CR4_SMAP, Feature::Smap),
    (bits::CR4_PKE, Feature::Pku),
];

/// The bits of CR4 that `model` has.
fn cr4_bits(model: &CpuModel) -> u64 {
    CR4_FEATURES
        .iter()
        .filter(|(_, feature)| model.has(*feature))
        .fold(bits::CR4_PCE, |bits, (bit, _)| bits | bit)
}

fn require(condition: bool) -> Result<(), Exception> {
    if condition { Ok(()) } else { Err(Exception::gp(0)) }
}

impl Cpu {
    /// MOV to CR0: checks, changes of mode, and what the TLB must forget. #GP(0) if the value is not allowed.
    pub fn write_cr0(&mut self, value: u64) -> Result<(), Exception> {
        let has = |bit| value & bit != 0;
        require(value >> 32 == 0)?;
        require(!has(bits::CR0_PG) || has(bits::CR0_PE))?;
        require(!has(bits::CR0_NW) || has(bits::CR0_CD))?;
        let state = &self.state;
        let value = value & CR0_BITS | bits::CR0_ET;
        let changed = value ^ state.cr0;
        let mut efer = state.efer & !bits::EFER_LMA;
        let enters_long = efer & bits::EFER_LME != 0;
        if has(bits::CR0_PG) {
            if enters_long {
                efer |= bits::EFER_LMA;
            }
            if enters_long && !state.paging() {
                require(state.cr4 & bits::CR4_PAE != 0)?;
                require(!state.segments[SegmentIndex::CS].long())?;
                // A 16-bit TSS cannot stay in TR.
                require(!matches!(state.tr.access & access::TYPE, 1 | 3))?;
            }
        } else {
            require(!state.in_64bit_mode())?;
            require(state.cr4 & bits::CR4_PCIDE == 0)?;
        }
        let pae = has(bits::CR0_PG) && !enters_long && state.cr4 & bits::CR4_PAE != 0;
        let pdptes = if pae && changed & CR0_RELOADS_PDPTES != 0 {
            self.load_pdptes(state.cr3)?
        } else {
            state.pdptes
        };
        self.state.pdptes = pdptes;
        self.state.cr0 = value;
        self.state.efer = efer;
        if changed & (bits::CR0_PG | bits::CR0_WP) != 0 || pae {
            self.paging_changed();
        } else {
            self.mode_changed();
        }
        Ok(())
    }

    /// MOV to CR3. #GP(0) for reserved bits, and for reserved bits in the PDPTEs of PAE paging.
    pub fn write_cr3(&mut self, value: u64) -> Result<(), Exception> {
        let state = &self.state;
        let keep = state.cr4 & bits::CR4_PCIDE != 0 && value & CR3_NO_FLUSH != 0;
        let value = if keep { value & !CR3_NO_FLUSH } else { value };
        require(value >> self.model.physical_bits == 0)?;
        let pae = state.paging() && !state.long_mode_active() && state.cr4 & bits::CR4_PAE != 0;
        if pae {
            let pdptes = self.load_pdptes(value)?;
            self.state.pdptes = pdptes;
            self.mmu.set_pdptes(pdptes);
        }
        self.state.cr3 = value;
        self.mmu.load_cr3(value, keep);
        self.serialize();
        self.end_block();
        Ok(())
    }

    /// MOV to CR4. #GP(0) if the value is not allowed.
    pub fn write_cr4(&mut self, value: u64) -> Result<(), Exception> {
        let has = |bit| value & bit != 0;
        let state = &self.state;
        let changed = value ^ state.cr4;
        let long = state.long_mode_active();
        require(value & !cr4_bits(&self.model) == 0)?;
        require(!long || (has(bits::CR4_PAE) && changed & bits::CR4_LA57 == 0))?;
        if has(bits::CR4_PCIDE) && changed & bits::CR4_PCIDE != 0 {
            require(long && state.cr3 & 0xfff == 0)?;
        }
        let pae = state.paging() && !long && has(bits::CR4_PAE);
        let pdptes = if pae && changed & CR4_RELOADS_PDPTES != 0 {
            self.load_pdptes(state.cr3)?
        } else {
            state.pdptes
        };
        self.state.pdptes = pdptes;
        self.state.cr4 = value;
        self.paging_changed();
        Ok(())
    }

    /// WRMSR of IA32_EFER. #GP(0) for reserved bits, and for a change of LME while paging is on. LMA is read-only.
    pub(super) fn write_efer(&mut self, value: u64) -> Result<(), Exception> {
        let allowed = [
            (bits::EFER_SCE, Feature::Syscall),
            (bits::EFER_LME, Feature::Lm),
            (bits::EFER_LMA, Feature::Lm),
            (bits::EFER_NXE, Feature::Nx),
        ];
        let allowed = allowed.iter().filter(|row| self.model.has(row.1)).fold(0, |bits, (bit, _)| bits | bit);
        require(value & !allowed == 0)?;
        let state = &mut self.state;
        require(!state.paging() || (value ^ state.efer) & bits::EFER_LME == 0)?;
        state.efer = value & !bits::EFER_LMA | state.efer & bits::EFER_LMA;
        self.paging_changed();
        Ok(())
    }

    /// Reads the four PDPTEs that `cr3` points to. #GP(0) if a present one has reserved bits set (SDM vol. 3, 5.4.1).
    fn load_pdptes(&self, cr3: u64) -> Result<[u64; 4], Exception> {
        let context = self.paging_context();
        let table = cr3 & 0xffff_ffe0 & context.a20_mask;
        let mut pdptes = [0; 4];
        for (i, entry) in pdptes.iter_mut().enumerate() {
            // Where there is no memory the bus gives ones.
            *entry = self.mmu.memory().read_u64(table + i as u64 * 8).unwrap_or(u64::MAX);
            require(*entry & 1 == 0 || *entry & context.pdpte_reserved() == 0)?;
        }
        Ok(pdptes)
    }

    /// What the MMU must know of the state.
    fn paging_context(&self) -> PagingContext {
        let state = &self.state;
        let cr4 = |bit| state.cr4 & bit != 0;
        let mode = if !state.paging() {
            PagingMode::Off
        } else if state.long_mode_active() {
            if cr4(bits::CR4_LA57) { PagingMode::Level5 } else { PagingMode::Level4 }
        } else if cr4(bits::CR4_PAE) {
            PagingMode::Pae
        } else {
            PagingMode::Bits32
        };
        PagingContext {
            mode,
            cr3: state.cr3,
            pdptes: state.pdptes,
            wp: state.cr0 & bits::CR0_WP != 0,
            pse: cr4(bits::CR4_PSE),
            nxe: state.efer & bits::EFER_NXE != 0,
            smep: cr4(bits::CR4_SMEP),
            smap: cr4(bits::CR4_SMAP),
            pke: cr4(bits::CR4_PKE),
            pge: cr4(bits::CR4_PGE),
            pcide: cr4(bits::CR4_PCIDE),
            pkru: state.pkru,
            physical_bits: self.model.physical_bits,
            pages1g: self.model.has(Feature::Page1gb),
            pse36: self.model.has(Feature::Pse36),
            a20_mask: if state.a20 { !0 } else { !(1 << 20) },
        }
    }

    /// Brings the MMU up to date after a change of CR0, CR3, CR4, EFER, the PDPTEs, PKRU or A20. The TLB is emptied only
    /// if something that translations depend on differs.
    pub fn paging_changed(&mut self) {
        let context = self.paging_context();
        self.mmu.set_context(context);
        self.mode_changed();
    }

    /// Opens or closes the board's A20 gate.
    pub fn set_a20(&mut self, open: bool) {
        if self.state.a20 != open {
            self.state.a20 = open;
            self.paging_changed();
        }
    }
}
