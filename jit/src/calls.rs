//! Instructions that translated code leaves to a function: SSE, x87, divisions, locked read-modify-writes, and system
//! instructions, after which the code goes on unless they ask for the block to end.

use crate::context::{Call, JitContext, LeaveKind, RAISED};
use crate::shape::Shape;
use crate::translator::{Kept, Place, Translator, aux_offset, register_offset, result_offset};
use crate::vector::plan::vector_register;
use crate::vector::{DirtyVectors, plan};
use crate::x87::{NodeX87, run};
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
};
use rx86_cpu::state::ArithFlags;
use std::mem::offset_of;

/// What of the general registers and flags an instruction uses: everything else may stay in host registers around it.
struct Uses {
    /// Registers that it reads or writes, bit n for register n.
    used: u16,
    /// Registers that it may write.
    written: u16,
    /// The same of vector registers.
    vectors: DirtyVectors,
    written_vectors: DirtyVectors,
    reads_flags: bool,
    writes_flags: bool,
}

/// What a system instruction may use.
const EVERYTHING: Uses = Uses {
    used: u16::MAX,
    written: u16::MAX,
    vectors: DirtyVectors::ALL,
    written_vectors: DirtyVectors::ALL,
    reads_flags: true,
    writes_flags: true,
};

fn decoded(bytes: &[u8]) -> Instruction {
    Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode()
}

/// Whether the function of an instruction may look at MXCSR or the x87, or compute in floating point. `contained` as in `Decoded`.
pub(crate) fn is_floating(bytes: &[u8], contained: bool) -> bool {
    let instruction = decoded(bytes);
    let memory = (0..instruction.op_count()).any(|i| {
        !matches!(instruction.op_kind(i), OpKind::Register | OpKind::Immediate8 | OpKind::Immediate8_2nd)
    });
    // A device behind a memory operand may compute anything.
    !contained || memory || run::may_use(&instruction) || plan::is_arithmetic(&instruction)
}

fn uses(bytes: &[u8]) -> Uses {
    let instruction = decoded(bytes);
    if instruction.mnemonic() == Mnemonic::Vzeroall {
        return EVERYTHING;
    }
    let mut factory = InstructionInfoFactory::new();
    let all_flags = uses_all_flags(instruction.code());
    let mut uses = Uses {
        used: 0,
        written: 0,
        vectors: DirtyVectors::default(),
        written_vectors: DirtyVectors::default(),
        reads_flags: all_flags || instruction.rflags_read() != 0,
        writes_flags: all_flags || instruction.rflags_modified() != 0,
    };
    for register in factory.info(&instruction).used_registers() {
        let writes = !matches!(register.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
        if let Some((number, _)) = vector_register(register.register()) {
            uses.vectors = uses.vectors.union(DirtyVectors::of(number));
            if writes {
                uses.written_vectors = uses.written_vectors.union(DirtyVectors::of(number));
            }
        }
        if !register.register().is_gpr() {
            continue;
        }
        let bit = 1 << register.register().full_register().number();
        uses.used |= bit;
        if writes {
            uses.written |= bit;
        }
    }
    uses
}

/// System instructions that use of the general registers and arithmetic flags no more than the manual says.
fn says_what_it_uses(code: Code) -> bool {
    matches!(
        code,
        Code::Rdtsc
            | Code::Rdtscp
            | Code::Rdmsr
            | Code::Wrmsr
            | Code::Pushfq
            | Code::Popfq
            | Code::Syscall
            | Code::Sysretq
            | Code::Sti
            | Code::Stac
            | Code::Clac
            | Code::Invlpg_m
            | Code::Serialize
            | Code::Mov_r64_cr
            | Code::Mov_cr_r64
            | Code::Iretq
    )
}

/// Whether it looks at RFLAGS as a whole, or sets it.
fn uses_all_flags(code: Code) -> bool {
    matches!(code, Code::Pushfq | Code::Popfq | Code::Syscall | Code::Sysretq | Code::Iretq)
}

impl Translator<'_> {
    /// Emits the call of `calls[index]`, which executes the instruction of `bytes`. `contained` as in `Decoded`.
    pub(crate) fn call_function(&mut self, call: &Call, index: usize, bytes: &[u8], contained: bool) {
        self.begin_instruction(&call.op);
        if !contained {
            self.forget_hosts();
        }
        let uses = if contained || says_what_it_uses(call.op.iced_code()) { uses(bytes) } else { EVERYTHING };
        self.publish(&uses);
        self.fenced = false;
        let offset = offset_of!(JitContext, call) as i32;
        let function = self.builder.ins().load(I64, self.regions.context, self.context, offset);
        let which = self.add_constant(self.calls, (index * size_of::<Call>()) as u64);
        let next = self.next_rip(0);
        let arguments = [self.context, which, next];
        let floating = call.floating;
        let call = self.builder.ins().call_indirect(self.signatures.call, function, &arguments);
        if floating {
            self.vectors.barriers.push(call);
            self.x87 = NodeX87::default();
        }
        let answer = self.builder.inst_results(call)[0];
        let (done, not_done) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(not_done);
        self.builder.ins().brif(answer, not_done, &[], done, &[]);

        self.builder.switch_to_block(not_done);
        let retired = i64::from(self.retired());
        // A repeated string instruction has moved on before it faults: what it uses is right where it is.
        let kept = Kept {
            registers: uses.used,
            flags: uses.reads_flags || uses.writes_flags,
            vectors: uses.vectors,
        };
        let raised = self.leave_keeping(self.before(), Place::Kept, retired, LeaveKind::Exception, kept);
        let ended = self.leave_keeping(self.before(), Place::Kept, retired + 1, LeaveKind::Next, kept);
        let is_raised = self.builder.ins().icmp_imm_u(IntCC::Equal, answer, RAISED as i64);
        self.builder.ins().brif(is_raised, raised, &[], ended, &[]);

        self.builder.switch_to_block(done);
        self.take_back(&uses);
        self.end_instruction();
    }

    /// Stores what the function looks at.
    fn publish(&mut self, uses: &Uses) {
        for number in (0..16).filter(|number| uses.used >> number & 1 != 0) {
            let value = self.register(number);
            self.store_state(value, register_offset(usize::from(number)));
        }
        if uses.reads_flags || uses.writes_flags {
            let flags = self.arithmetic_flags();
            self.store_state(flags.result, result_offset());
            self.store_state(flags.aux, aux_offset());
            let shape = self.builder.ins().iconst(I64, i64::from(Shape::VALUES.encode()));
            self.store_exchange(shape, offset_of!(JitContext, flags_shape));
        }
        self.publish_vectors(uses.vectors);
    }

    /// Loads what the function may have changed.
    fn take_back(&mut self, uses: &Uses) {
        for number in (0..16).filter(|number| uses.written >> number & 1 != 0) {
            let value = self.load_state(register_offset(usize::from(number)));
            self.set_register(number, value);
        }
        if uses.writes_flags {
            let result = self.load_state(result_offset());
            let aux = self.load_state(aux_offset());
            self.set_arithmetic_flags(ArithFlags { result, aux });
        }
        self.take_back_vectors(uses.written_vectors);
    }
}
