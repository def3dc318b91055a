//! The registers that two emulators can be asked for and compared by.

use anyhow::{Context, Result};
use rx86_cpu::state::{SegmentIndex, Vcpu, bits};
use std::fmt;

/// Bytes of QEMU's register packet: 17 × 8, RFLAGS and six selectors of 4, nine of 8, x87, XMM and MXCSR.
pub const PACKET_BYTES: usize = 608;

/// GDB's order of the general registers, as numbers of ours.
const GDB_GENERAL: [usize; 16] = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];
/// GDB's order of the segment registers.
pub const GDB_SEGMENTS: [usize; 6] = [
    SegmentIndex::CS,
    SegmentIndex::SS,
    SegmentIndex::DS,
    SegmentIndex::ES,
    SegmentIndex::FS,
    SegmentIndex::GS,
];
const GENERAL_NAMES: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];
const SEGMENT_NAMES: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];

/// GDB's number of RIP.
pub const GDB_RIP: usize = 16;
/// GDB's number of RFLAGS; the six selectors follow.
pub const GDB_RFLAGS: usize = 17;
/// GDB's number of FS's base; GS's, IA32_KERNEL_GS_BASE, CR0, CR2, CR3, CR4, CR8 and EFER follow.
pub const GDB_FS_BASE: usize = 24;

/// One logical processor's registers. General registers are in encoding order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// RAX to R15; outside of 64-bit mode the low halves of the first eight.
    pub general: [u64; 16],
    /// RIP, EIP or IP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// FS's base.
    pub fs_base: u64,
    /// GS's base.
    pub gs_base: u64,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// CR0, CR2, CR3, CR4.
    pub control: [u64; 4],
    /// EFER.
    pub efer: u64,
    /// ST(0) to ST(7).
    pub st: [u128; 8],
    /// The x87 control and status words. QEMU's stub does not tell the tags.
    pub x87: [u16; 2],
    /// XMM0 to XMM15.
    pub xmm: [u128; 16],
    /// MXCSR.
    pub mxcsr: u32,
}

/// A register that two sides disagree about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// What the left side has.
    pub left: u128,
    /// What the right side has.
    pub right: u128,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: left {:#x}, right {:#x}", self.name, self.left, self.right)
    }
}

impl Registers {
    /// The registers of one of rx86's processors.
    pub fn of(state: &Vcpu) -> Self {
        let wide = state.in_64bit_mode();
        let mut registers = Self {
            rip: if wide { state.rip() } else { state.rip() & 0xffff_ffff },
            rflags: state.flags.get(),
            fs_base: state.segments[SegmentIndex::FS].base,
            gs_base: state.segments[SegmentIndex::GS].base,
            kernel_gs_base: state.msrs.kernel_gs_base,
            control: [state.cr0, state.cr2, state.cr3, state.cr4],
            efer: state.efer,
            mxcsr: state.mxcsr,
            ..Self::default()
        };
        for (to, from) in registers.general.iter_mut().zip(&state.regs).take(if wide { 16 } else { 8 }) {
            *to = if wide { *from } else { from & 0xffff_ffff };
        }
        for (to, from) in registers.selectors.iter_mut().zip(&state.segments) {
            *to = from.selector;
        }
        let x87 = &state.x87;
        for (i, st) in registers.st.iter_mut().enumerate() {
            let register = x87.regs[((x87.status >> 11) as usize + i) & 7];
            *st = u128::from(register.sign_exponent) << 64 | u128::from(register.mantissa);
        }
        registers.x87 = [x87.control, x87.status];
        for (i, xmm) in registers.xmm.iter_mut().enumerate() {
            *xmm = state.xmm(i as u8);
        }
        registers
    }

    /// The registers in a packet of QEMU's.
    pub fn from_packet(packet: &[u8]) -> Result<Self> {
        let mut reader = Reader { packet, at: 0 };
        let mut registers = Self::default();
        for slot in GDB_GENERAL {
            registers.general[slot] = reader.take(8)? as u64;
        }
        registers.rip = reader.take(8)? as u64;
        registers.rflags = reader.take(4)? as u64;
        for slot in GDB_SEGMENTS {
            registers.selectors[slot] = reader.take(4)? as u16;
        }
        registers.fs_base = reader.take(8)? as u64;
        registers.gs_base = reader.take(8)? as u64;
        registers.kernel_gs_base = reader.take(8)? as u64;
        for slot in &mut registers.control {
            *slot = reader.take(8)? as u64;
        }
        // CR8 is the local APIC's, which the other side may not have.
        reader.take(8)?;
        registers.efer = reader.take(8)? as u64;
        for st in &mut registers.st {
            *st = reader.take(10)?;
        }
        for slot in &mut registers.x87 {
            *slot = reader.take(4)? as u16;
        }
        // Tags, pointers and opcode.
        reader.take(3 * 4)?;
        reader.take(3 * 4)?;
        for xmm in &mut registers.xmm {
            *xmm = reader.take(16)?;
        }
        registers.mxcsr = reader.take(4)? as u32;
        Ok(registers)
    }

    /// Every register with its name.
    pub fn fields(&self) -> Vec<(String, u128)> {
        let mut fields: Vec<(String, u128)> = Vec::with_capacity(64);
        let mut add = |name: &str, value: u128| fields.push((name.to_string(), value));
        for (name, value) in GENERAL_NAMES.iter().zip(self.general) {
            add(name, value.into());
        }
        add("RIP", self.rip.into());
        add("RFLAGS", self.rflags.into());
        for (name, value) in SEGMENT_NAMES.iter().zip(self.selectors) {
            add(name, value.into());
        }
        add("FS.base", self.fs_base.into());
        add("GS.base", self.gs_base.into());
        add("KERNEL_GS_BASE", self.kernel_gs_base.into());
        for (name, value) in ["CR0", "CR2", "CR3", "CR4"].iter().zip(self.control) {
            add(name, value.into());
        }
        add("EFER", self.efer.into());
        for (i, value) in self.st.iter().enumerate() {
            add(&format!("ST{i}"), *value);
        }
        for (name, value) in ["FCW", "FSW"].iter().zip(self.x87) {
            add(name, value.into());
        }
        for (i, value) in self.xmm.iter().enumerate() {
            add(&format!("XMM{i}"), *value);
        }
        add("MXCSR", self.mxcsr.into());
        fields
    }

    /// What `self`, on the left, and `right` disagree about.
    pub fn differences(&self, right: &Self) -> Vec<Difference> {
        if self == right {
            return Vec::new();
        }
        let pairs = self.fields().into_iter().zip(right.fields());
        pairs
            .filter(|((_, left), (_, right))| left != right)
            .map(|((name, left), (_, right))| Difference { name, left, right })
            .collect()
    }

    /// Whether the code segment runs in 64-bit mode is not told by the packet; this is whether IA-32e mode is active.
    pub fn long_mode_active(&self) -> bool {
        self.efer & bits::EFER_LMA != 0
    }
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in GENERAL_NAMES.iter().zip(self.general).enumerate() {
            let end = if i % 4 == 3 { "\n" } else { "  " };
            write!(f, "  {name:>3}={value:016x}{end}")?;
        }
        writeln!(f, "    RIP={:016x}  RFLAGS={:08x}  EFER={:04x}", self.rip, self.rflags, self.efer)?;
        write!(f, "   ")?;
        for (name, value) in SEGMENT_NAMES.iter().zip(self.selectors) {
            write!(f, " {name}={value:04x}")?;
        }
        writeln!(f, " FS.base={:x} GS.base={:x}", self.fs_base, self.gs_base)?;
        let [cr0, cr2, cr3, cr4] = self.control;
        writeln!(f, "    CR0={cr0:08x} CR2={cr2:016x} CR3={cr3:016x} CR4={cr4:08x}")
    }
}

/// Takes little-endian values off a packet.
struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, bytes: usize) -> Result<u128> {
        let part = self.packet.get(self.at..self.at + bytes);
        let part =
            part.context("the debugger stub's register packet is too short for QEMU's x86-64 layout")?;
        self.at += bytes;
        let mut value = [0; 16];
        value[..bytes].copy_from_slice(part);
        Ok(u128::from_le_bytes(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_by_its_layout() {
        let packet: Vec<u8> = (0..PACKET_BYTES).map(|i| (i % 251) as u8).collect();
        let registers = Registers::from_packet(&packet).unwrap();
        let at = |offset: usize| packet[offset];
        assert_eq!(registers.general[3].to_le_bytes()[0], at(8), "RBX comes second");
        assert_eq!(registers.rip.to_le_bytes()[0], at(128));
        assert_eq!(registers.selectors[SegmentIndex::SS].to_le_bytes()[0], at(144));
        assert_eq!(registers.control[0].to_le_bytes()[0], at(188));
        assert_eq!(registers.mxcsr.to_le_bytes()[0], at(PACKET_BYTES - 4));
        assert!(Registers::from_packet(&packet[..PACKET_BYTES - 1]).is_err());
    }

    #[test]
    fn differences_name_the_register() {
        let left = Registers::default();
        let mut right = left.clone();
        right.general[1] = 5;
        assert_eq!(left.differences(&right), [Difference { name: "RCX".into(), left: 0, right: 5 }]);
        assert!(left.differences(&left).is_empty());
    }
}
