//! A small machine for whole guests: 64-bit mode at CPL 0, two MiB mapped one to one by pages that the guest may map anew,
//! an interrupt table, and an external interrupt that the test raises.
//!
//! A guest is its main code, which ends in HLT with interrupts off. The handlers are always the same, and each counts how often
//! it ran: that of debug exceptions remembers where, and goes on; that of page faults remembers the address and error code,
//! and makes the page present; that of the interrupt changes registers and puts them back.

// Each test file uses its part.
#![allow(dead_code)]

pub(crate) mod compared;

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use rx86_cpu::backend::{Exit, X86Ops};
use rx86_cpu::bare_board::BareBoard;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::features::CpuModel;
use rx86_cpu::state::{Segment, SegmentIndex, TableRegister, access, bits};
use rx86_softmmu::{Attention, GuestMemory};
use std::sync::Arc;

/// What assembling comes to.
pub(crate) type Emitted = Result<(), IcedError>;

/// What runs: emits the code from `MAIN` on.
pub(crate) struct Guest {
    /// Its name in messages.
    pub(crate) name: &'static str,
    /// Its code.
    pub(crate) main: Box<dyn Fn(&mut CodeAssembler) -> Emitted>,
}

impl Guest {
    pub(crate) fn new(name: &'static str, main: impl Fn(&mut CodeAssembler) -> Emitted + 'static) -> Self {
        Self { name, main: Box::new(main) }
    }
}

const PAGE_TABLES: u64 = 0x1000;
/// The page table: the entry of a page is at this plus its number times eight.
pub(crate) const PAGE_TABLE: u64 = PAGE_TABLES + 0x3000;
const IDT: u64 = 0x5000;
const GDT: u64 = 0x6000;
const TSS: u64 = 0x6800;
/// The end of the page fault handler's stack, the first of the interrupt stack table.
const FAULT_STACK_END: u64 = 0x1_0000;
/// The end of the stack.
const STACK_END: u64 = 0x2_0000;
/// Sixteen pages that are compared at the end.
pub(crate) const DATA: u64 = 0x3_0000;
const DATA_BYTES: usize = 0x1_0000;
/// Where the handlers of debug exceptions and page faults count and remember, the last page of the data.
pub(crate) const REMEMBERED: u64 = DATA + 0xf000;
/// How many interrupts came, and the sum of the addresses that they came at; not compared.
pub(crate) const INTERRUPTS: u64 = 0x4_0000;
/// The main code, and pages behind it that a guest may use for code.
pub(crate) const MAIN: u64 = 0x10_0000;
/// The second processor's code, and the end of its stack.
const SECOND_MAIN: u64 = 0x18_0000;
const SECOND_STACK_END: u64 = 0x2_8000;
/// Present and writable.
pub(crate) const PRESENT: u64 = 3;

const PAGE_FAULT: u64 = 14;
const INTERRUPT: u8 = 32;
type Emit = fn(&mut CodeAssembler) -> Emitted;

/// The handlers: vector, place, code.
const HANDLERS: [(u64, u64, Emit); 3] =
    [(1, 0x8000, on_debug), (PAGE_FAULT, 0x9000, on_page_fault), (INTERRUPT as u64, 0xa000, on_interrupt)];

/// What a guest has left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) regs: [u64; 16],
    pub(crate) flags: u64,
    pub(crate) vectors: Vec<[u64; 4]>,
    pub(crate) data: Vec<u8>,
}

/// A guest on an engine.
pub(crate) struct Machine {
    pub(crate) engine: Box<dyn X86Ops>,
    memory: Arc<GuestMemory>,
    attention: Attention,
}

fn assemble(code: &dyn Fn(&mut CodeAssembler) -> Emitted, at: u64) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).expect("64-bit code");
    code(&mut assembler).expect("instructions that exist");
    assembler.assemble(at).expect("instructions that can be encoded")
}

impl Machine {
    /// A machine with `guest` loaded, and the engine that `engine` makes of its processor.
    pub(crate) fn new(guest: &Guest, engine: impl FnOnce(Cpu) -> Box<dyn X86Ops>) -> Self {
        let memory = GuestMemory::new(2 << 20).expect("2 MiB of memory");
        let write = |gpa: u64, data: &[u8]| memory.write(gpa, data).expect("in RAM");
        for level in 0..3 {
            let table = PAGE_TABLES + 0x1000 * level;
            write(table, &((table + 0x1000) | PRESENT).to_le_bytes());
        }
        for page in 0..512u64 {
            write(PAGE_TABLE + 8 * page, &(page << 12 | PRESENT).to_le_bytes());
        }
        write(GDT + 8, &0x00af_9b00_0000_ffffu64.to_le_bytes());
        write(GDT + 16, &0x00cf_9300_0000_ffffu64.to_le_bytes());
        for (vector, handler, code) in HANDLERS {
            // A present interrupt gate.
            let stack = u64::from(vector == PAGE_FAULT);
            let gate = handler | 8 << 16 | stack << 32 | 0x8e00 << 32;
            write(IDT + 16 * vector, &gate.to_le_bytes());
            write(handler, &assemble(&code, handler));
        }
        write(TSS + 36, &FAULT_STACK_END.to_le_bytes());
        write(MAIN, &assemble(&*guest.main, MAIN));
        let attention = Attention::default();
        let board = Box::new(BareBoard { interrupt: Some(INTERRUPT), ..BareBoard::default() });
        let mut cpu = Cpu::new(memory.clone(), board, CpuModel::max(), attention.clone());
        begin(&mut cpu, MAIN, STACK_END);
        Self { engine: engine(cpu), memory, attention }
    }

    /// A second processor on this machine's memory, with a guest of its own.
    pub(crate) fn beside(&self, guest: &Guest, engine: impl FnOnce(Cpu) -> Box<dyn X86Ops>) -> Self {
        let memory = self.memory.clone();
        memory.write(SECOND_MAIN, &assemble(&*guest.main, SECOND_MAIN)).expect("in RAM");
        let attention = Attention::default();
        let board = Box::new(BareBoard { cpus: 2, ..BareBoard::default() });
        let mut cpu = Cpu::new(memory.clone(), board, CpuModel::max(), attention.clone());
        begin(&mut cpu, SECOND_MAIN, SECOND_STACK_END);
        Self { engine: engine(cpu), memory, attention }
    }

    /// Executes the guest to its end, `budget` instructions at a time, and raises the interrupt after each if `interrupts`.
    ///
    /// # Panics
    /// If it takes unreasonably long or ends in another way.
    pub(crate) fn run(&mut self, name: &str, budget: u64, interrupts: bool) -> Outcome {
        for _ in 0..2_000_000 {
            match self.engine.run(budget) {
                Exit::Halt => return self.outcome(),
                Exit::Yield if interrupts => self.attention.raise(Attention::INTERRUPT),
                Exit::Yield => {}
                exit => panic!("{name}: {exit:?} at {:#x}", self.engine.state().rip()),
            }
        }
        panic!("{name}: does not end; at {:#x}", self.engine.state().rip());
    }

    /// The guest's RAM, as a device sees it.
    pub(crate) fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// A quadword of memory.
    pub(crate) fn quad(&self, gpa: u64) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read(gpa, &mut bytes).expect("in RAM");
        u64::from_le_bytes(bytes)
    }

    fn outcome(&mut self) -> Outcome {
        let state = self.engine.state();
        let mut data = vec![0; DATA_BYTES];
        self.memory.read(DATA, &mut data).expect("in RAM");
        Outcome {
            regs: std::array::from_fn(|i| state.regs[i]),
            flags: state.flags.get(),
            vectors: state.zmm[..16].iter().map(|zmm| std::array::from_fn(|i| zmm.0[i])).collect(),
            data,
        }
    }
}

/// Counts, adds up the addresses of what was interrupted, and goes on behind a breakpoint: sets RF in the frame.
fn on_debug(a: &mut CodeAssembler) -> Emitted {
    a.push(rax)?;
    a.inc(qword_ptr(REMEMBERED))?;
    a.mov(rax, qword_ptr(rsp + 8))?;
    a.add(qword_ptr(REMEMBERED + 8), rax)?;
    a.mov(rax, dr6)?;
    a.add(qword_ptr(REMEMBERED + 16), rax)?;
    a.mov(eax, 0xffff_0ff0u32)?;
    a.mov(dr6, rax)?;
    a.or(dword_ptr(rsp + 24), 1 << 16)?;
    a.pop(rax)?;
    a.iretq()
}

/// Counts, adds up error code, RIP and address, makes the page present and writable, and tries again. It has a stack of its
/// own: the other may be what is not there.
fn on_page_fault(a: &mut CodeAssembler) -> Emitted {
    a.push(rax)?;
    a.inc(qword_ptr(REMEMBERED + 24))?;
    a.mov(rax, qword_ptr(rsp + 8))?;
    a.add(qword_ptr(REMEMBERED + 32), rax)?;
    a.mov(rax, qword_ptr(rsp + 16))?;
    a.add(qword_ptr(REMEMBERED + 40), rax)?;
    a.mov(rax, cr2)?;
    a.add(qword_ptr(REMEMBERED + 48), rax)?;
    a.shr(rax, 12)?;
    a.or(qword_ptr(rax * 8 + PAGE_TABLE), PRESENT as i32)?;
    a.mov(rax, cr2)?;
    a.invlpg(byte_ptr(rax))?;
    a.pop(rax)?;
    a.add(rsp, 8)?;
    a.iretq()
}

/// Counts, adds up the addresses of what was interrupted, and uses registers of every kind in between.
fn on_interrupt(a: &mut CodeAssembler) -> Emitted {
    a.push(rax)?;
    a.push(rcx)?;
    a.sub(rsp, 32)?;
    a.vmovdqu(ymmword_ptr(rsp), ymm3)?;
    a.inc(qword_ptr(INTERRUPTS))?;
    a.mov(rax, qword_ptr(rsp + 48))?;
    a.add(qword_ptr(INTERRUPTS + 8), rax)?;
    a.vpcmpeqd(ymm3, ymm3, ymm3)?;
    a.xor(ecx, ecx)?;
    a.sub(rcx, 1)?;
    a.imul_2(rax, rcx)?;
    a.vmovdqu(ymm3, ymmword_ptr(rsp))?;
    a.add(rsp, 32)?;
    a.pop(rcx)?;
    a.pop(rax)?;
    a.iretq()
}

/// The state that a guest begins with.
fn begin(cpu: &mut Cpu, main: u64, stack_end: u64) {
    let state = &mut cpu.state;
    state.cr0 = bits::CR0_PE | bits::CR0_MP | bits::CR0_NE | bits::CR0_WP | bits::CR0_PG;
    state.cr3 = PAGE_TABLES;
    state.cr4 = bits::CR4_PAE | bits::CR4_OSFXSR | bits::CR4_OSXMMEXCPT | bits::CR4_OSXSAVE;
    state.xcr0 = 7;
    state.efer = bits::EFER_LME | bits::EFER_LMA;
    let flat = Segment { base: 0, limit: u32::MAX, access: 0xc093, selector: 16 };
    state.segments = [flat; 6];
    state.segments[SegmentIndex::CS] = Segment { access: 0x809b | access::LONG, selector: 8, ..flat };
    state.gdtr = TableRegister { base: GDT, limit: 0x17 };
    state.idtr = TableRegister { base: IDT, limit: 0xfff };
    state.tr = Segment { base: TSS, limit: 0x67, access: 0x8b, selector: 0x18 };
    state.x87.control = 0x37f;
    state.regs[4] = stack_end;
    state.set_rip(main);
    cpu.paging_changed();
}
