//! What a user sees of a processor, when it triple-faults or when the state is asked for: registers, mode, the last events, the
//! code, and the page walk.

use super::Machine;
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use rx86_cpu::backend::X86Ops;
use rx86_cpu::mode::ModeKey;
use rx86_cpu::state::{Activity, Vcpu};
use rx86_cpu::system::event::{Event, EventSource};
use rx86_softmmu::WalkStep;
use std::fmt;

/// Instructions shown from RIP on.
const SHOWN_INSTRUCTIONS: usize = 4;

/// The state at a triple fault.
#[derive(Debug)]
pub struct TripleFault(ProcessorReport);

/// One processor's state.
#[derive(Debug)]
struct ProcessorReport {
    state: Vcpu,
    events: Vec<(Event, u64)>,
    code: Vec<u8>,
    walk: Vec<WalkStep>,
}

impl TripleFault {
    /// Collects the state of an engine that has shut down.
    pub(super) fn of(engine: &mut dyn X86Ops) -> Self {
        Self(ProcessorReport::of(engine))
    }
}

impl fmt::Display for TripleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "triple fault {}", self.0)
    }
}

impl Machine {
    /// The state of all processors, for people. To be asked for while the machine does not run.
    pub fn state_text(&mut self) -> String {
        let processors = self.processors.iter_mut().map(|processor| {
            let doing = match processor.engine.state().activity {
                Activity::Active => "executes",
                Activity::Halted => "is halted",
                Activity::Shutdown => "has shut down",
                Activity::WaitForSipi => "waits to be started",
            };
            let report = ProcessorReport::of(&mut *processor.engine);
            format!("processor {} {doing} {report}", processor.number)
        });
        processors.collect()
    }
}

impl ProcessorReport {
    fn of(engine: &mut dyn X86Ops) -> Self {
        let state = engine.state().clone();
        let linear = code_linear(&state);
        Self {
            events: engine.recent_events(),
            code: engine.peek(linear, 64),
            walk: engine.page_walk(linear),
            state,
        }
    }
}

fn code_linear(state: &Vcpu) -> u64 {
    if state.in_64bit_mode() {
        state.rip()
    } else {
        state.segments[1].base.wrapping_add(state.rip()) & 0xffff_ffff
    }
}

fn mode_name(state: &Vcpu) -> &'static str {
    if state.in_64bit_mode() {
        "64-bit mode"
    } else if state.long_mode_active() {
        "compatibility mode"
    } else if state.vm86() {
        "virtual-8086 mode"
    } else if state.protected() {
        if state.segments[1].default_32() { "32-bit protected mode" } else { "16-bit protected mode" }
    } else {
        "real-address mode"
    }
}

impl fmt::Display for ProcessorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.state;
        writeln!(f, "at {:#x} in {}, CPL {}", s.rip(), mode_name(s), s.cpl)?;
        self.write_registers(f)?;
        writeln!(f, "last events, oldest first:")?;
        for (event, rip) in &self.events {
            let source = match event.source {
                EventSource::Exception => "exception",
                EventSource::External => "interrupt",
                EventSource::Software => "INT n",
            };
            write!(f, "  {source} {:#04x} at {rip:#x}", event.vector)?;
            match event.error_code {
                Some(code) => writeln!(f, ", error code {code:#x}")?,
                None => writeln!(f)?,
            }
        }
        self.write_code(f)?;
        writeln!(f, "page walk of the instruction pointer:")?;
        if self.walk.is_empty() {
            writeln!(f, "  paging is off")?;
        }
        for step in &self.walk {
            writeln!(f, "  {:6} at {:#012x}: {:#018x}", step.level, step.entry_gpa, step.entry)?;
        }
        Ok(())
    }
}

impl ProcessorReport {
    fn write_registers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 16] = [
            "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13",
            "R14", "R15",
        ];
        const SEGMENTS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];
        let s = &self.state;
        for (i, name) in NAMES.iter().enumerate() {
            let end = if i % 4 == 3 { "\n" } else { "  " };
            write!(f, "{name:>3}={:016x}{end}", s.regs[i])?;
        }
        writeln!(f, "RIP={:016x}  RFLAGS={:08x}", s.rip(), s.flags.get())?;
        for (name, segment) in SEGMENTS.iter().zip(&s.segments).chain([(&"TR", &s.tr), (&"LDTR", &s.ldtr)]) {
            writeln!(
                f,
                "{name:>4}={:04x} base={:016x} limit={:08x} access={:05x}",
                segment.selector, segment.base, segment.limit, segment.access
            )?;
        }
        writeln!(f, "GDTR base={:016x} limit={:04x}", s.gdtr.base, s.gdtr.limit)?;
        writeln!(f, "IDTR base={:016x} limit={:04x}", s.idtr.base, s.idtr.limit)?;
        writeln!(
            f,
            "CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x} EFER={:04x}",
            s.cr0, s.cr2, s.cr3, s.cr4, s.efer
        )
    }

    fn write_code(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "code:")?;
        if self.code.is_empty() {
            return writeln!(f, "  not mapped");
        }
        let bits = ModeKey::of(&self.state).code_bits();
        let mut decoder = Decoder::with_ip(bits, &self.code, self.state.rip(), DecoderOptions::NONE);
        let mut formatter = IntelFormatter::new();
        let mut text = String::new();
        for instruction in decoder.iter().take(SHOWN_INSTRUCTIONS) {
            text.clear();
            formatter.format(&instruction, &mut text);
            writeln!(f, "  {:x}: {text}", instruction.ip())?;
        }
        Ok(())
    }
}
