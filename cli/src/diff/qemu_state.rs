//! Gives QEMU's processor a whole state. A debugger's packets set general, segment and control registers; what they cannot
//! set (table registers, task register, MSRs, debug registers, x87) is loaded by instructions in a page of low memory,
//! which is put back afterwards.

use super::qemu::Qemu;
use super::registers::{GDB_FS_BASE, GDB_RFLAGS, GDB_RIP, GDB_SEGMENTS};
use anyhow::{Result, bail};
use rx86_cpu::state::{F80, Segment, SegmentIndex, TableRegister, Vcpu, access, bits};

/// The borrowed memory: a GDT, identity-mapping page tables, instructions, and their operands.
const BORROWED_BYTES: usize = 0x6000;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
const CODE: u64 = 0x4000;
const OPERAND: u64 = 0x5000;
/// Where system descriptors lie while LDTR and TR are loaded.
const SYSTEM_SELECTOR: u16 = 0xfe0;
/// Selectors that no state uses, so that a reload always takes place.
const SPARE_SELECTOR: u16 = 0xff0;
const GDB_CONTROL: usize = GDB_FS_BASE + 3;

impl Qemu {
    /// Gives the processor, which must be in its power-on state, the state `state`. Memory is not touched.
    pub fn load_state(&mut self, state: &Vcpu) -> Result<()> {
        if state.cpl != 0 || state.vm86() || state.cr4 & bits::CR4_LA57 != 0 {
            bail!("QEMU can take over at CPL 0 only, and with four levels of paging at most");
        }
        let mut saved = vec![0; BORROWED_BYTES];
        self.read(0, &mut saved)?;
        self.build_borrowed(state)?;
        self.set(GDB_RFLAGS, 4, bits::RFLAGS_FIXED)?;
        if state.protected() {
            self.enter_mode(state)?;
            self.load_system_segments(state)?;
        }
        self.load_segments(state)?;
        self.load_by_instructions(state)?;
        self.set_by_packets(state)?;
        self.write_code(0, &saved)
    }

    fn set(&mut self, number: usize, bytes: usize, value: u64) -> Result<()> {
        self.gdb().set_register(number, &value.to_le_bytes()[..bytes])
    }

    /// A GDT with the segments of `state` at their selectors, and page tables for its mode.
    fn build_borrowed(&mut self, state: &Vcpu) -> Result<()> {
        self.write(0, &[0; BORROWED_BYTES])?;
        for segment in &state.segments {
            if state.protected() && segment.selector >= SYSTEM_SELECTOR {
                bail!("QEMU cannot take over with the selector {:#x}", segment.selector);
            }
            if state.protected() && segment.selector > 3 {
                self.write(u64::from(segment.selector & !7), &descriptor(segment).to_le_bytes())?;
            }
        }
        let all = 7u64;
        self.write(PML4, &(PDPT | all).to_le_bytes())?;
        self.write(PDPT, &(DIRECTORY | all).to_le_bytes())?;
        // One page of 2 MiB.
        self.write(DIRECTORY, &(0x80 | all).to_le_bytes())
    }

    /// Protected mode, and IA-32e mode with the borrowed page tables, as `state` has them.
    fn enter_mode(&mut self, state: &Vcpu) -> Result<()> {
        let long = state.long_mode_active();
        // What would fault or trap in the instructions to come waits.
        let waits = bits::CR0_TS | bits::CR0_EM | bits::CR0_AM | if long { 0 } else { bits::CR0_PG };
        let cr4 = state.cr4 & !(bits::CR4_SMEP | bits::CR4_SMAP | bits::CR4_PCIDE) | bits::CR4_OSFXSR;
        self.set(GDB_CONTROL + 5, 8, state.efer & !bits::EFER_LMA)?;
        self.set(GDB_CONTROL + 3, 8, cr4)?;
        self.set(GDB_CONTROL + 2, 8, PML4)?;
        self.set(GDB_CONTROL, 8, state.cr0 & !waits)
    }

    /// LDTR and TR, from descriptors in the borrowed GDT.
    fn load_system_segments(&mut self, state: &Vcpu) -> Result<()> {
        for (segment, load) in [(&state.ldtr, 0xd0), (&state.tr, 0xd8)] {
            // A state in which none was loaded yet keeps QEMU's own.
            if segment.unusable() || segment.selector & !7 == 0 || segment.selector >= SYSTEM_SELECTOR {
                continue;
            }
            // A code segment for these instructions.
            let code = Segment {
                base: 0,
                limit: 0xffff_ffff,
                access: if state.long_mode_active() { 0xa09b } else { 0xc09b },
                selector: SPARE_SELECTOR,
            };
            self.write(u64::from(SPARE_SELECTOR), &descriptor(&code).to_le_bytes())?;
            self.set(GDB_RFLAGS + 1, 4, SPARE_SELECTOR.into())?;
            let at = u64::from(segment.selector & !7);
            let mut kept = [0; 16];
            self.read(at, &mut kept)?;
            // LTR wants a task that is not busy.
            let busy = segment.access & 0xf == 0xb || segment.access & 0xf == 3;
            let image = Segment { access: segment.access & !if busy { 2 } else { 0 }, ..*segment };
            self.write(at, &descriptor(&image).to_le_bytes())?;
            if state.long_mode_active() {
                self.write(at + 8, &(segment.base >> 32).to_le_bytes())?;
            }
            self.set(0, 8, segment.selector.into())?;
            self.execute(0, &[0x0f, 0x00, load])?;
            self.write(at, &kept)?;
        }
        Ok(())
    }

    /// The segment registers, from the borrowed GDT or, in real-address mode, by their selectors.
    fn load_segments(&mut self, state: &Vcpu) -> Result<()> {
        for (number, index) in GDB_SEGMENTS.into_iter().enumerate() {
            let segment = &state.segments[index];
            let selector = segment.selector;
            if !state.protected() && segment.base != u64::from(selector) << 4 {
                bail!("QEMU cannot take over in unreal mode");
            }
            // The stub reloads the hidden part only if the selector changes.
            let other = if state.protected() { SPARE_SELECTOR } else { selector ^ 1 };
            if state.protected() {
                let spare = Segment { selector: other, ..*segment };
                self.write(u64::from(SPARE_SELECTOR), &descriptor(&spare).to_le_bytes())?;
            }
            self.set(GDB_RFLAGS + 1 + number, 4, other.into())?;
            if !state.protected() || selector > 3 {
                self.set(GDB_RFLAGS + 1 + number, 4, selector.into())?;
            } else {
                // The stub reads slot 0 of the table for a null selector.
                self.write(0, &0u64.to_le_bytes())?;
                self.set(GDB_RFLAGS + 1 + number, 4, selector.into())?;
            }
        }
        Ok(())
    }

    /// Table registers, MSRs, debug registers, and the x87 and SSE state.
    fn load_by_instructions(&mut self, state: &Vcpu) -> Result<()> {
        let msrs = &state.msrs;
        let base = state.segments[SegmentIndex::CS].base;
        for (msr, value) in [
            (0xc000_0081, msrs.star),
            (0xc000_0082, msrs.lstar),
            (0xc000_0083, msrs.cstar),
            (0xc000_0084, msrs.fmask),
            (0x174, msrs.sysenter_cs),
            (0x175, msrs.sysenter_esp),
            (0x176, msrs.sysenter_eip),
            (0x277, msrs.pat),
        ] {
            self.set(2, 8, msr)?;
            self.set(0, 8, value & 0xffff_ffff)?;
            self.set(3, 8, value >> 32)?;
            self.execute(base, &[0x0f, 0x30])?;
        }
        for (number, value) in [0, 1, 2, 3, 6, 7].into_iter().map(|i| (i, state.dr[i])) {
            self.set(0, 8, value)?;
            self.execute(base, &[0x0f, 0x23, 0xc0 | (number as u8) << 3])?;
        }
        if state.protected() {
            self.write(OPERAND, &fx_image(state))?;
            self.execute_on_operand(state, &[0x0f, 0xae], 1)?;
        }
        // The GDT's register is the last one, because the borrowed table is where the power-on state has it.
        for (table, operation) in [(&state.idtr, 3), (&state.gdtr, 2)] {
            self.write(OPERAND, &table_image(table))?;
            self.execute_on_operand(state, &[0x0f, 0x01], operation)?;
        }
        Ok(())
    }

    /// What packets can set, in the order in which the last things stay valid.
    fn set_by_packets(&mut self, state: &Vcpu) -> Result<()> {
        self.set(GDB_CONTROL + 3, 8, state.cr4)?;
        self.set(GDB_CONTROL + 2, 8, state.cr3)?;
        self.set(GDB_CONTROL, 8, state.cr0)?;
        self.set(GDB_CONTROL + 1, 8, state.cr2)?;
        if state.long_mode_active() {
            self.set(GDB_FS_BASE, 8, state.segments[SegmentIndex::FS].base)?;
            self.set(GDB_FS_BASE + 1, 8, state.segments[SegmentIndex::GS].base)?;
            self.set(GDB_FS_BASE + 2, 8, state.msrs.kernel_gs_base)?;
        }
        for (number, slot) in [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15].into_iter().enumerate() {
            self.set(number, 8, state.regs[slot])?;
        }
        self.set(GDB_RIP, 8, state.rip())?;
        self.set(GDB_RFLAGS, 4, state.flags.get())
    }

    /// Executes one instruction in the borrowed code page, whose linear address is its physical one.
    fn execute(&mut self, code_base: u64, bytes: &[u8]) -> Result<()> {
        self.write_code(CODE, bytes)?;
        self.set(GDB_RIP, 8, CODE.wrapping_sub(code_base) & 0xffff_ffff)?;
        self.step()
    }

    /// Executes an instruction whose memory operand is the borrowed operand, with `extension` in ModRM.reg.
    fn execute_on_operand(&mut self, state: &Vcpu, opcode: &[u8], extension: u8) -> Result<()> {
        let base = state.segments[SegmentIndex::CS].base;
        // A CS prefix, because the other segments may be anything.
        let mut bytes = vec![0x2e];
        if state.in_64bit_mode() {
            bytes.extend_from_slice(opcode);
            let length = bytes.len() as u64 + 5;
            bytes.push(5 | extension << 3);
            bytes.extend_from_slice(&(OPERAND.wrapping_sub(CODE + length) as u32).to_le_bytes());
        } else if state.segments[SegmentIndex::CS].default_32() {
            bytes.extend_from_slice(opcode);
            bytes.push(5 | extension << 3);
            bytes.extend_from_slice(&(OPERAND.wrapping_sub(base) as u32).to_le_bytes());
        } else {
            bytes.insert(0, 0x66);
            bytes.extend_from_slice(opcode);
            bytes.push(6 | extension << 3);
            bytes.extend_from_slice(&(OPERAND.wrapping_sub(base) as u16).to_le_bytes());
        }
        self.execute(base, &bytes)
    }
}

/// The descriptor that a segment register was loaded from.
fn descriptor(segment: &Segment) -> u64 {
    let rights = u64::from(segment.access);
    let limit = if segment.access & access::GRANULARITY != 0 { segment.limit >> 12 } else { segment.limit };
    let (base, limit) = (segment.base, u64::from(limit));
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (rights & 0xff) << 40
        | (limit >> 16 & 0xf) << 48
        | (rights >> 12 & 0xf) << 52
        | (base >> 24 & 0xff) << 56
}

fn table_image(table: &TableRegister) -> [u8; 10] {
    let mut image = [0; 10];
    image[..2].copy_from_slice(&table.limit.to_le_bytes());
    image[2..].copy_from_slice(&table.base.to_le_bytes());
    image
}

/// The FXSAVE image of `state` (SDM vol. 1, 10.5.1), without XMM8 to XMM15 outside of 64-bit mode.
fn fx_image(state: &Vcpu) -> [u8; 512] {
    let mut image = [0; 512];
    let x87 = &state.x87;
    image[..2].copy_from_slice(&x87.control.to_le_bytes());
    image[2..4].copy_from_slice(&x87.status.to_le_bytes());
    image[4] = (0..8).filter(|i| x87.tags >> (2 * i) & 3 != 3).fold(0, |used, i| used | 1 << i);
    image[24..28].copy_from_slice(&state.mxcsr.to_le_bytes());
    for i in 0..8 {
        let F80 { mantissa, sign_exponent } = x87.regs[((x87.status >> 11) as usize + i) & 7];
        image[32 + 16 * i..][..8].copy_from_slice(&mantissa.to_le_bytes());
        image[40 + 16 * i..][..2].copy_from_slice(&sign_exponent.to_le_bytes());
    }
    for i in 0..16 {
        image[160 + 16 * i..][..16].copy_from_slice(&state.xmm(i as u8).to_le_bytes());
    }
    image
}
