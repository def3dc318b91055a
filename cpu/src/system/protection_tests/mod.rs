//! Protection by cases: a bench with descriptor tables, task-state segments and stacks at fixed places.

mod fast_calls;
mod legacy;
mod long;
mod running;
mod tasks;
mod transfers;
mod vm86;

use super::event::{Event, EventSource};
use crate::bare_board::BareBoard;
use crate::cpu::Cpu;
use crate::decode::{Semantics, decode};
use crate::exception::Exception;
use crate::op::reg;
use crate::state::{Segment, SegmentIndex, TableRegister, access, bits};

const GDT: u64 = 0x1000;
const IDT: u64 = 0x2000;
/// The running task's TSS, 32-bit or 64-bit by the mode.
const TSS: u64 = 0x3000;
/// Top of the stack that the bench starts on.
const STACK: u64 = 0x8000;
/// Top of the TSS's stack for CPL 0.
const STACK0: u64 = 0x9000;
/// Where the bench starts.
const START: u64 = 0x1_0000;
/// Where gates lead.
const HANDLER: u64 = 0x2_0000;
/// A page that is not mapped (with paging), and one that only supervisors may use.
const UNMAPPED: u64 = 0x1f_0000;
const SUPERVISOR: u64 = 0x1e_0000;

const CODE0: u16 = 0x08;
const DATA0: u16 = 0x10;
const CODE3: u16 = 0x18;
const DATA3: u16 = 0x20;
/// Two slots: in IA-32e mode the descriptor has 16 bytes.
const TASK: u16 = 0x28;
const CONFORMING0: u16 = 0x38;
const ABSENT_CODE0: u16 = 0x40;
const READ_ONLY0: u16 = 0x48;
const ABSENT_DATA0: u16 = 0x50;
/// 32-bit code in every mode.
const COMPAT0: u16 = 0x58;
const COMPAT3: u16 = 0x60;
/// Two slots for the case's own descriptor.
const SPARE: u16 = 0x68;
/// The second slot of `SPARE`, where descriptors have eight bytes.
const SPARE2: u16 = 0x70;
const EXECUTE_ONLY0: u16 = 0x78;
const SMALL_STACK0: u16 = 0x80;
/// Last byte of the GDT.
const GDT_LIMIT: u16 = 0xff;

/// Access bytes: present, accessed, by DPL.
const CODE: u8 = 0x9b;
const DATA: u8 = 0x93;
const DPL3: u8 = 0x60;
/// Flag nibbles: page granular with D/B, or with L.
const FLAT32: u8 = 0xc;
const FLAT64: u8 = 0xa;

fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | u64::from(access) << 40
        | (limit >> 16 & 0xf) << 48
        | u64::from(flags) << 52
        | (base >> 24) << 56
}

/// A gate's first eight bytes: `access` is its byte 5, `count` its byte 4.
fn gate(selector: u16, offset: u64, access: u8, count: u8) -> u64 {
    offset & 0xffff
        | u64::from(selector) << 16
        | u64::from(count) << 32
        | u64::from(access) << 40
        | (offset >> 16 & 0xffff) << 48
}

fn exception(vector: u8, error_code: Option<u32>) -> Event {
    Event { vector, error_code, source: EventSource::Exception, resume: error_code.is_some() }
}

fn software(vector: u8) -> Event {
    Event { vector, error_code: None, source: EventSource::Software, resume: false }
}

struct Bench {
    cpu: Cpu,
}

impl Bench {
    /// 32-bit protected mode without paging.
    fn legacy(cpl: u8) -> Self {
        let mut bench = Self { cpu: BareBoard::default().cpu() };
        bench.fill_gdt(FLAT32);
        bench.set_descriptor(TASK, descriptor(TSS as u32, 0x67, 0x8b, 0));
        bench.write(TSS + 4, (STACK0 as u32).to_le_bytes());
        bench.write(TSS + 8, DATA0.to_le_bytes());
        let state = &mut bench.cpu.state;
        state.cr0 = bits::CR0_PE | bits::CR0_ET;
        state.tr = Segment { base: TSS, limit: 0x67, access: 0x8b, selector: TASK };
        bench.start(cpl)
    }

    /// 64-bit mode, paging by identity with `UNMAPPED` and `SUPERVISOR` out of the row.
    fn long(cpl: u8) -> Self {
        let mut bench = Self { cpu: BareBoard::default().cpu() };
        bench.fill_gdt(FLAT64);
        bench.set_descriptor(TASK, descriptor(TSS as u32, 0x67, 0x8b, 0));
        bench.write(TSS + 4, STACK0.to_le_bytes());
        for (gpa, entry) in [(0x4000, 0x5007u64), (0x5000, 0x6007), (0x6000, 0x7007)] {
            bench.write(gpa, entry.to_le_bytes());
        }
        for page in 0..512u64 {
            let rights = match page << 12 {
                UNMAPPED => 0,
                SUPERVISOR => 3,
                _ => 7,
            };
            bench.write(0x7000 + page * 8, (page << 12 | rights).to_le_bytes());
        }
        let state = &mut bench.cpu.state;
        state.cr0 = bits::CR0_PE | bits::CR0_ET | bits::CR0_PG | bits::CR0_WP;
        state.cr3 = 0x4000;
        state.cr4 = bits::CR4_PAE;
        state.efer = bits::EFER_LME | bits::EFER_LMA | bits::EFER_SCE;
        state.tr = Segment { base: TSS, limit: 0x67, access: 0x8b, selector: TASK };
        bench.start(cpl)
    }

    fn fill_gdt(&mut self, code_flags: u8) {
        let flat = 0xf_ffff;
        for (selector, access, flags) in [
            (CODE0, CODE, code_flags),
            (DATA0, DATA, FLAT32),
            (CODE3, CODE | DPL3, code_flags),
            (DATA3, DATA | DPL3, FLAT32),
            (CONFORMING0, CODE | 4, code_flags),
            (ABSENT_CODE0, CODE & !0x80, code_flags),
            (READ_ONLY0, DATA & !2, FLAT32),
            (ABSENT_DATA0, DATA & !0x80, FLAT32),
            (COMPAT0, CODE, FLAT32),
            (COMPAT3, CODE | DPL3, FLAT32),
            (EXECUTE_ONLY0, CODE & !2, code_flags),
        ] {
            self.set_descriptor(selector, descriptor(0, flat, access, flags));
        }
        // An expand-up stack of 32 bytes.
        self.set_descriptor(SMALL_STACK0, descriptor(STACK0 as u32, 0x1f, DATA, 4));
    }

    /// Fills in what both modes share: tables, segments, RIP, RSP, and flags with IF set.
    fn start(mut self, cpl: u8) -> Self {
        let state = &mut self.cpu.state;
        state.gdtr = TableRegister { base: GDT, limit: GDT_LIMIT };
        state.idtr = TableRegister { base: IDT, limit: 0xfff };
        state.ldtr = Segment { access: access::UNUSABLE, ..Segment::default() };
        state.regs = Default::default();
        state.cpl = cpl;
        let (code, data) = if cpl == 3 { (CODE3 | 3, DATA3 | 3) } else { (CODE0, DATA0) };
        state.flags.set(bits::RFLAGS_IF);
        for index in 0..6 {
            let selector = if index == SegmentIndex::CS { code } else { data };
            let image = u64::from_le_bytes(self.read(GDT + u64::from(selector & !7)));
            let descriptor = super::descriptor::Descriptor { address: 0, low: image, high: 0 };
            self.cpu.state.segments[index] = descriptor.segment(selector);
        }
        self.cpu.state.set_rip(START);
        self.cpu.state.regs[usize::from(reg::RSP)] = STACK;
        self.cpu.paging_changed();
        self.cpu.mode_changed();
        self
    }

    fn write<const N: usize>(&self, gpa: u64, bytes: [u8; N]) {
        self.cpu.mmu.memory().write(gpa, &bytes).unwrap();
    }

    fn read<const N: usize>(&self, gpa: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.cpu.mmu.memory().read(gpa, &mut bytes).unwrap();
        bytes
    }

    /// `N` values of `bytes` bytes from `gpa` up.
    fn values<const N: usize>(&self, gpa: u64, bytes: u64) -> [u64; N] {
        std::array::from_fn(|i| {
            let value = u64::from_le_bytes(self.read(gpa + i as u64 * bytes));
            value & u64::MAX >> (64 - 8 * bytes)
        })
    }

    fn set_descriptor(&self, selector: u16, image: u64) {
        self.write(GDT + u64::from(selector & !7), image.to_le_bytes());
    }

    /// The access byte of a descriptor in memory.
    fn access_byte(&self, selector: u16) -> u8 {
        self.read::<1>(GDT + u64::from(selector & !7) + 5)[0]
    }

    /// Sets a gate of the mode's format; `offset` may have 64 bits.
    fn set_gate(&self, vector: u8, selector: u16, offset: u64, access: u8, count: u8) {
        let low = gate(selector, offset, access, count);
        if self.cpu.state.long_mode_active() {
            self.write(IDT + u64::from(vector) * 16, low.to_le_bytes());
            self.write(IDT + u64::from(vector) * 16 + 8, (offset >> 32).to_le_bytes());
        } else {
            self.write(IDT + u64::from(vector) * 8, low.to_le_bytes());
        }
    }

    /// Executes one instruction as an engine does.
    fn run(&mut self, bytes: &[u8]) -> Result<(), Exception> {
        let cpu = &mut self.cpu;
        let Ok(decoded) = decode::<Cpu>(bytes, cpu.mode(), &cpu.model) else {
            panic!("{bytes:x?} is cut short")
        };
        let length = bytes.len() as u64;
        assert_eq!(u64::from(decoded.op.length), length, "{bytes:x?}");
        cpu.state.set_rip(cpu.state.rip().wrapping_add(length));
        let outcome = match decoded.semantics {
            Semantics::Inline(run) => run(cpu, &decoded.op),
            Semantics::Hard(run) => run(cpu, &decoded.op),
        };
        if outcome.is_err() {
            cpu.state.set_rip(cpu.state.rip().wrapping_sub(length));
        }
        outcome
    }

    fn reg(&self, register: u8) -> u64 {
        self.cpu.state.regs[usize::from(register)]
    }

    fn set_reg(&mut self, register: u8, value: u64) {
        self.cpu.state.regs[usize::from(register)] = value;
    }

    fn selector(&self, index: usize) -> u16 {
        self.cpu.state.segments[index].selector
    }

    fn rflags(&self) -> u64 {
        self.cpu.state.flags.get()
    }

    /// CPL, CS, RIP, SS, RSP: where execution stands.
    fn place(&self) -> (u8, u16, u64, u16, u64) {
        let state = &self.cpu.state;
        (
            state.cpl,
            self.selector(SegmentIndex::CS),
            state.rip(),
            self.selector(SegmentIndex::SS),
            self.reg(reg::RSP),
        )
    }

    /// Puts values of `bytes` bytes on the stack, the first on top.
    fn stack<const N: usize>(&mut self, values: [u64; N], bytes: u64) {
        let top = self.reg(reg::RSP) - N as u64 * bytes;
        for (i, value) in values.iter().enumerate() {
            let image = value.to_le_bytes();
            let at = top + i as u64 * bytes;
            self.cpu.mmu.memory().write(at, &image[..bytes as usize]).unwrap();
        }
        self.set_reg(reg::RSP, top);
    }
}
