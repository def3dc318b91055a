//! A processor in 64-bit mode with a few mapped pages, for the JIT's tests.
//!
//! Linear 0x10000 to 0x16000 maps to the same physical addresses: `DATA` (two pages), `READ_ONLY`, `ABSENT`, `STACK` (two
//! pages). Nothing else is mapped.

// Each test file uses its part.
#![allow(dead_code, unreachable_pub)]

use rx86_cpu::bare_board::BareBoard;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::features::CpuModel;
use rx86_cpu::state::{Segment, SegmentIndex, access, bits};
use rx86_softmmu::{Access, Attention, GuestMemory};

/// Two pages that may be read and written.
pub const DATA: u64 = 0x10000;
/// A page that may be read.
pub const READ_ONLY: u64 = 0x12000;
/// A page that is not present.
pub const ABSENT: u64 = 0x13000;
/// Two pages that may be read and written.
pub const STACK: u64 = 0x14000;
/// The end of what is mapped.
pub const END: u64 = 0x16000;
/// FS and GS point this far below the data.
pub const FS_BASE: u64 = DATA - 0x800;
pub const GS_BASE: u64 = DATA + 0x400;

const PAGE_TABLES: u64 = 0x1000;
const PRESENT_WRITABLE: u64 = 3;

/// A processor at CPL 0 in 64-bit mode with WP set.
pub fn cpu() -> Cpu {
    let memory = GuestMemory::new(1 << 20).expect("1 MiB of memory");
    let put = |gpa: u64, entry: u64| memory.write(gpa, &entry.to_le_bytes()).expect("in RAM");
    for level in 0..3 {
        let table = PAGE_TABLES + 0x1000 * level;
        put(table, (table + 0x1000) | PRESENT_WRITABLE);
    }
    let page_table = PAGE_TABLES + 0x3000;
    for page in (DATA..END).step_by(0x1000) {
        let rights = match page {
            READ_ONLY => 1,
            ABSENT => 0,
            _ => PRESENT_WRITABLE,
        };
        put(page_table + 8 * (page >> 12), page | rights);
    }
    let mut cpu = Cpu::new(memory, Box::new(BareBoard::default()), CpuModel::max(), Attention::default());
    let state = &mut cpu.state;
    state.cr0 = bits::CR0_PE | bits::CR0_WP | bits::CR0_PG;
    state.cr3 = PAGE_TABLES;
    state.cr4 = bits::CR4_PAE | bits::CR4_OSFXSR | bits::CR4_OSXSAVE;
    state.xcr0 = 7;
    state.efer = bits::EFER_LME | bits::EFER_LMA;
    let flat = Segment { base: 0, limit: u32::MAX, access: 0xc093, selector: 16 };
    state.segments = [flat; 6];
    state.segments[SegmentIndex::CS] = Segment { access: 0x809b | access::LONG, selector: 8, ..flat };
    state.segments[SegmentIndex::FS].base = FS_BASE;
    state.segments[SegmentIndex::GS].base = GS_BASE;
    cpu.paging_changed();
    fill_tlb(&mut cpu);
    cpu
}

/// Makes the TLB hold what may be accessed, as an access of the interpreter would.
pub fn fill_tlb(cpu: &mut Cpu) {
    for page in (DATA..END).step_by(0x1000) {
        for access in [Access::Read, Access::Write] {
            // The absent page faults, and the read-only one for writes.
            let _ = cpu.mmu.translate(page, access);
        }
    }
}

/// All mapped memory.
pub fn memory(cpu: &Cpu) -> Vec<u8> {
    let mut image = vec![0; (END - DATA) as usize];
    cpu.mmu.memory().read(DATA, &mut image).expect("in RAM");
    image
}

/// Replaces all mapped memory.
pub fn set_memory(cpu: &Cpu, image: &[u8]) {
    cpu.mmu.memory().write(DATA, image).expect("in RAM");
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in `turns`.
    pub fn one_in(&mut self, turns: u64) -> bool {
        self.below(turns) == 0
    }

    /// A register's value: anything, an edge of some width, a small number, or an address in the data.
    pub fn value(&mut self) -> u64 {
        match self.below(5) {
            0 => self.next(),
            1 => {
                let edge = 1u64 << (8 << self.below(4)).min(63) >> self.below(2);
                edge.wrapping_add(self.below(3)).wrapping_sub(1)
            }
            2 => self.below(80),
            3 => self.below(80).wrapping_neg(),
            _ => DATA + self.below(0x1f00),
        }
    }
}
