//! x87 and MMX in translated code: the host's own.
//!
//! On x86-64 hosts the guest's x87 registers are in the host's x87 while translated code computes with them (`host`). They are
//! loaded when the first such instruction is reached, and stored when translated code is left or a function is called that
//! may use them. x87 and MMX instructions that follow each other are a run (`run`), which a piece of host code behind the
//! translation's own executes: the same instructions. Translated code finds where their memory operands are beforehand, and
//! leaves before the run where it cannot. So results, flags, tags and stack faults are the silicon's.
//!
//! While the guest has an exception unmasked, the interpreter executes its x87 instructions.

pub(crate) mod host;
pub(crate) mod run;

use crate::access::Kind;
use crate::context::{Call, JitContext};
use crate::translator::Translator;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I16, I64};
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, Value};
use cranelift_codegen::isa::CallConv;
use run::{Answer, Argument, Run};
use rx86_cpu::op::{Op, reg};
use rx86_cpu::state::{ArithFlags, Segment, SegmentIndex, Vcpu, X87};
use rx86_cpu::width::Width;
use std::mem::offset_of;

/// An access of 80 bits.
#[derive(Clone, Copy)]
struct Bits80;

impl Width for Bits80 {
    const BITS: u32 = 80;
    const MASK: u64 = u64::MAX;
    const SIGN: u64 = 0;
}

/// What a node knows of the x87.
#[derive(Clone, Copy, Default)]
pub(crate) struct NodeX87 {
    /// The registers are the host's.
    is_loaded: bool,
    /// The selector of the last instruction has been noted.
    code_noted: bool,
    /// The segment whose selector was last noted as that of an operand.
    operand_noted: Option<u8>,
}

fn x87_offset(field: usize) -> usize {
    offset_of!(Vcpu, x87) + field
}

fn selector_offset(segment: usize) -> i32 {
    let at = offset_of!(Vcpu, segments) + segment * size_of::<Segment>() + offset_of!(Segment, selector);
    at as i32
}

impl Translator<'_> {
    /// Emits a run, whose host code `calls[index]` will know.
    pub(crate) fn x87_run(&mut self, run: &Run, index: usize) {
        self.begin_instruction(&run.ops[0]);
        self.require_x87();
        let starts: Vec<i64> = self.run_starts(run);
        let mut operand = None;
        let mut arguments = Vec::new();
        for (number, op) in run.ops.iter().enumerate() {
            if number != 0 {
                self.continue_run(op);
            }
            if run.noted_operand == Some(number) {
                operand = Some(self.address_offset(op));
            }
            for &argument in &run.arguments {
                if let Argument::Operand { op, .. } | Argument::ControlWord { op } = argument
                    && op == number
                {
                    arguments.push(self.x87_operand(&run.ops[op], argument));
                }
            }
        }
        let mut operands = arguments.into_iter();
        let arguments: Vec<Value> = run
            .arguments
            .iter()
            .map(|&argument| match argument {
                Argument::Register(number) => self.register(number),
                Argument::Condition(code) => self.x87_condition(code),
                _ => operands.next().expect("each has been made"),
            })
            .collect();
        let answer = self.call_host(index, &arguments, run.answer.is_some());
        self.note_x87(run, &starts, operand);
        if let (Some(answer), Some(value)) = (run.answer, answer) {
            self.take_answer(answer, value);
        }
        self.end_run(&run.ops);
    }

    /// Where the run's instructions begin.
    fn run_starts(&self, run: &Run) -> Vec<i64> {
        let mut at = self.offset();
        let mut starts = Vec::new();
        for op in &run.ops {
            starts.push(at);
            at += i64::from(op.length);
        }
        starts
    }

    /// Goes on with the guest's registers in the host's x87, or leaves the region.
    fn require_x87(&mut self) {
        if std::mem::replace(&mut self.x87.is_loaded, true) {
            return;
        }
        let [load, done] = std::array::from_fn(|_| self.builder.create_block());
        self.builder.set_cold_block(load);
        let offset = offset_of!(JitContext, x87_loaded) as i32;
        let flags = self.regions.exchange;
        let loaded = self.builder.ins().load(I64, flags, self.context, offset);
        self.builder.ins().brif(loaded, done, &[], load, &[]);
        self.builder.switch_to_block(load);
        let function_offset = offset_of!(JitContext, load_x87) as i32;
        let function = self.builder.ins().load(I64, self.regions.context, self.context, function_offset);
        self.builder.ins().call_indirect(self.signatures.preserving, function, &[self.context]);
        let loaded = self.builder.ins().load(I64, flags, self.context, offset);
        let exit = self.side_exit();
        self.builder.ins().brif(loaded, done, &[], exit, &[]);
        self.builder.switch_to_block(done);
    }

    /// A memory operand as an argument.
    fn x87_operand(&mut self, op: &Op, argument: Argument) -> Value {
        let Argument::Operand { bytes, writes, .. } = argument else {
            return self.control_word(op);
        };
        let kind = if writes { Kind::Write } else { Kind::ReadLater };
        match bytes {
            2 => self.operand_host::<rx86_cpu::width::W16>(op, kind),
            4 => self.operand_host::<rx86_cpu::width::W32>(op, kind),
            8 => self.operand_host::<rx86_cpu::width::W64>(op, kind),
            _ => self.operand_host::<Bits80>(op, kind),
        }
    }

    /// The address of a copy of the control word that FLDCW loads. Where it does not mask all exceptions, the region is left.
    fn control_word(&mut self, op: &Op) -> Value {
        let host = self.operand_host::<rx86_cpu::width::W16>(op, Kind::Read);
        let word = self.load_host::<rx86_cpu::width::W16>(host);
        let masks = self.builder.ins().band_imm_u(word, i64::from(host::MASKS));
        let masked = self.builder.ins().icmp_imm_u(IntCC::Equal, masks, i64::from(host::MASKS));
        self.side_exit_unless(masked);
        // Nobody changes the copy, as another processor could change the operand.
        let offset = offset_of!(JitContext, control_word);
        self.store_exchange(word, offset);
        self.builder.ins().iadd_imm_s(self.context, offset as i64)
    }

    /// A condition that FCMOVcc knows, but for parity, as zero or not.
    fn x87_condition(&mut self, code: u8) -> Value {
        if let Some(holds) = self.known_condition_of(code) {
            return holds;
        }
        let ArithFlags { result, aux } = self.arithmetic_flags();
        let below = self.builder.ins().ushr_imm_u(aux, 63);
        let equal = self.builder.ins().icmp_imm_u(IntCC::Equal, result, 0);
        let equal = self.builder.ins().uextend(I64, equal);
        let holds = match code >> 1 {
            1 => below,
            2 => equal,
            _ => self.builder.ins().bor(below, equal),
        };
        if code & 1 == 0 { holds } else { self.builder.ins().bxor_imm_u(holds, 1) }
    }

    /// Calls the host code that `calls[index]` knows.
    fn call_host(&mut self, index: usize, arguments: &[Value], answers: bool) -> Option<Value> {
        let mut signature = Signature::new(CallConv::PreserveAll);
        signature.params.resize(arguments.len(), AbiParam::new(I64));
        signature.returns.resize(usize::from(answers), AbiParam::new(I64));
        let signature = self.builder.import_signature(signature);
        let offset = index * size_of::<Call>() + offset_of!(Call, host);
        let code = self.builder.ins().load(I64, self.regions.context, self.calls, offset as i32);
        let call = self.builder.ins().call_indirect(signature, code, arguments);
        self.builder.inst_results(call).first().copied()
    }

    fn take_answer(&mut self, answer: Answer, value: Value) {
        match answer {
            Answer::Register(number) => self.set_register(number, value),
            Answer::Word => {
                let old = self.register(reg::RAX);
                let kept = self.builder.ins().band_imm_s(old, !0xffff);
                let low = self.cut_to(value, I16);
                let value = self.builder.ins().bor(kept, low);
                self.set_register(reg::RAX, value);
            }
            Answer::Flags => self.take_flags(value),
        }
    }

    /// ZF, PF and CF as LAHF had them in AH; the other arithmetic flags are clear. They become what
    /// `ArithFlags::from_rflags` makes of them.
    fn take_flags(&mut self, value: Value) {
        // Bits 6, 2 and 0 of AH.
        let not_equal = self.builder.ins().bnot(value);
        let not_equal = self.builder.ins().band_imm_u(not_equal, 1 << 14);
        let result = self.builder.ins().ushr_imm_u(not_equal, 6);
        let carry = self.builder.ins().ishl_imm_u(value, 63 - 8);
        let carry = self.builder.ins().sshr_imm_s(carry, 1);
        let carry = self.builder.ins().band_imm_s(carry, 3 << 62);
        let even = self.builder.ins().bnot(value);
        let even = self.builder.ins().ushr_imm_u(even, 2);
        let even = self.builder.ins().band_imm_u(even, 1 << 8);
        let aux = self.builder.ins().bor(carry, even);
        self.set_arithmetic_flags(ArithFlags { result, aux });
    }

    /// Notes the address of the run's last instruction, and of its last operand, as every instruction does.
    fn note_x87(&mut self, run: &Run, starts: &[i64], operand: Option<Value>) {
        let Some(noted) = run.noted else { return };
        let rip = self.rip_at(starts[noted]);
        self.store_state(rip, x87_offset(offset_of!(X87, instruction_pointer)));
        if !std::mem::replace(&mut self.x87.code_noted, true) {
            self.note_selector(SegmentIndex::CS, offset_of!(X87, instruction_selector));
        }
        if let (Some(offset), Some(number)) = (operand, run.noted_operand) {
            self.store_state(offset, x87_offset(offset_of!(X87, operand_pointer)));
            let segment = run.ops[number].segment % 6;
            if self.x87.operand_noted.replace(segment) != Some(segment) {
                self.note_selector(usize::from(segment), offset_of!(X87, operand_selector));
            }
        }
    }

    fn note_selector(&mut self, segment: usize, field: usize) {
        let flags = self.regions.state;
        let selector = self.builder.ins().load(I16, flags, self.state, selector_offset(segment));
        self.builder.ins().store(flags, selector, self.state, x87_offset(field) as i32);
    }
}
