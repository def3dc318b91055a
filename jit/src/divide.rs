//! DIV and IDIV of 32 and 64 bits as host divisions, where the quotient is one of 64-bit integers.
//!
//! What would raise #DE, and 64-bit dividends that are longer than 64 bits after all, is left to the interpreter.

use crate::access::Kind;
use crate::dead_code;
use crate::translator::Translator;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Function, InstBuilder, Value, ValueDef};
use iced_x86::Code;
use rx86_cpu::op::{Op, op_flags, reg};
use rx86_cpu::ops::MicroOps;
use rx86_cpu::state::{AUX_AF, AUX_CF, AUX_CF_XOR_OF, ArithFlags};
use rx86_cpu::width::{W32, W64, Width};

/// What an unsigned division has been translated to.
#[derive(Clone, Copy)]
pub(crate) struct Division {
    dividend: Value,
    divisor: Value,
    quotient: Value,
    /// The dividend less the product of the quotient and the divisor.
    remainder: Value,
}

/// Where nobody wants the quotient, the remainder is the host's own: there is less to wait for.
pub(crate) fn take_remainders(function: &mut Function, divisions: &[Division]) {
    let mut taken = false;
    for &Division { dividend, divisor, quotient, remainder } in divisions {
        let ValueDef::Result(place, _) = function.dfg.value_def(remainder) else { continue };
        if function.layout.inst_block(place).is_some() && uses(function, quotient) == 1 {
            function.replace(place).urem(dividend, divisor);
            taken = true;
        }
    }
    if taken {
        dead_code::remove(function);
    }
}

fn uses(function: &Function, value: Value) -> usize {
    let graph = &function.dfg;
    let instructions = function.layout.blocks().flat_map(|block| function.layout.block_insts(block));
    instructions
        .flat_map(|instruction| graph.inst_values(instruction))
        .filter(|&used| graph.resolve_aliases(used) == value)
        .count()
}

impl Translator<'_> {
    /// Emits a division. False, and nothing is emitted, if it is none of those: of 64-bit DIV only that whose dividend is known
    /// to be short is done here.
    pub(crate) fn division(&mut self, op: &Op) -> bool {
        let code = op.iced_code();
        let signed = matches!(code, Code::Idiv_rm32 | Code::Idiv_rm64);
        match code {
            Code::Div_rm32 | Code::Idiv_rm32 => self.divide::<W32>(op, signed),
            Code::Idiv_rm64 => self.divide::<W64>(op, signed),
            Code::Div_rm64 => {
                let high = self.register(reg::RDX);
                if self.constant_value(high) != Some(0) {
                    return false;
                }
                self.divide::<W64>(op, signed);
            }
            _ => return false,
        }
        true
    }

    fn divide<W: Width>(&mut self, op: &Op, signed: bool) {
        self.begin_instruction(op);
        let divisor = if op.has(op_flags::MEMORY) {
            let host = self.operand_host::<W>(op, Kind::Read);
            self.load_host::<W>(host)
        } else {
            self.get::<W>(op.regs[0])
        };
        let divisor = if signed { self.sign_extend::<W>(divisor) } else { divisor };
        self.side_exit_unless(divisor);
        let dividend = self.short_dividend::<W>(signed);
        let quotient = if signed {
            self.require_no_overflow(dividend, divisor);
            self.builder.ins().sdiv(dividend, divisor)
        } else {
            self.builder.ins().udiv(dividend, divisor)
        };
        // Cheaper than a second division, which Cranelift does not merge with the first.
        let product = self.builder.ins().imul(quotient, divisor);
        let remainder = self.builder.ins().isub(dividend, product);
        if !signed {
            self.divisions.push(Division { dividend, divisor, quotient, remainder });
        }
        if W::BITS < 64 {
            let cut = if signed { self.sign_extend::<W>(quotient) } else { self.truncate::<W>(quotient) };
            let fits = self.builder.ins().icmp(IntCC::Equal, cut, quotient);
            self.side_exit_unless(fits);
        }
        self.put::<W>(reg::RAX, quotient);
        self.put::<W>(reg::RDX, remainder);
        self.set_division_flags();
        self.end_instruction();
    }

    /// The dividend as a 64-bit integer; leaves if it is longer.
    fn short_dividend<W: Width>(&mut self, signed: bool) -> Value {
        let (low, high) = (self.get::<W>(reg::RAX), self.get::<W>(reg::RDX));
        if W::BITS < 64 {
            let high = self.builder.ins().ishl_imm_u(high, i64::from(W::BITS));
            return self.builder.ins().bor(high, low);
        }
        if signed {
            let sign = self.builder.ins().sshr_imm_u(low, 63);
            let short = self.builder.ins().icmp(IntCC::Equal, high, sign);
            self.side_exit_unless(short);
        }
        low
    }

    fn require_no_overflow(&mut self, dividend: Value, divisor: Value) {
        let least = self.builder.ins().iconst(I64, i64::MIN);
        let other = self.builder.ins().icmp(IntCC::NotEqual, dividend, least);
        let not_minus_one = self.builder.ins().icmp_imm_s(IntCC::NotEqual, divisor, -1);
        let fits = self.builder.ins().bor(other, not_minus_one);
        self.side_exit_unless(fits);
    }

    /// The flags after a division, as in `rx86_cpu::integer::multiply`: the manual leaves them open.
    fn set_division_flags(&mut self) {
        let aux = self.arithmetic_flags().aux;
        let kept = self.builder.ins().band_imm_s(aux, (AUX_CF | AUX_CF_XOR_OF) as i64);
        let aux = self.builder.ins().bor_imm_s(kept, AUX_AF as i64);
        let result = self.constant(1);
        self.set_arithmetic_flags(ArithFlags { result, aux });
    }
}
