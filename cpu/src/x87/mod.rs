//! x87 instructions, and the transition to MMX (SDM vol. 1, chapters 8 and 9.5). The arithmetic itself is in `float`.

mod arithmetic;
#[cfg(test)]
mod bench;
mod compare;
mod control;
mod stack;
#[cfg(test)]
mod tests;
mod transfer;
#[cfg(all(test, target_arch = "x86_64"))]
mod twins;

use crate::float::status::C2;
use crate::float::{F80, x87};
use crate::ops::Hard;
use crate::state::bits::{RFLAGS_CF, RFLAGS_PF, RFLAGS_ZF};
use arithmetic::{Memory, Operation};
use compare::Answer;
pub use control::mmx_enter;
use iced_x86::{Code, Instruction};

/// The meaning of an instruction of this family.
pub fn select(instruction: &Instruction) -> Option<Hard> {
    let code = instruction.code();
    loads_and_stores(code)
        .or_else(|| moves_and_constants(code))
        .or_else(|| register_arithmetic(code))
        .or_else(|| memory_arithmetic(code))
        .or_else(|| comparisons(code))
        .or_else(|| functions(code))
        .or_else(|| control_instructions(code))
}

fn loads_and_stores(code: Code) -> Option<Hard> {
    Some(match code {
        Code::Fld_m32fp => transfer::load_f32,
        Code::Fld_m64fp => transfer::load_f64,
        Code::Fld_m80fp => transfer::load_f80,
        Code::Fbld_m80bcd => transfer::load_bcd,
        Code::Fild_m16int => transfer::load_int::<16>,
        Code::Fild_m32int => transfer::load_int::<32>,
        Code::Fild_m64int => transfer::load_int::<64>,
        Code::Fst_m32fp => transfer::store_f32::<false>,
        Code::Fstp_m32fp => transfer::store_f32::<true>,
        Code::Fst_m64fp => transfer::store_f64::<false>,
        Code::Fstp_m64fp => transfer::store_f64::<true>,
        Code::Fstp_m80fp => transfer::store_f80,
        Code::Fbstp_m80bcd => transfer::store_bcd,
        Code::Fist_m16int => transfer::store_i16::<false, false>,
        Code::Fistp_m16int => transfer::store_i16::<true, false>,
        Code::Fisttp_m16int => transfer::store_i16::<true, true>,
        Code::Fist_m32int => transfer::store_i32::<false, false>,
        Code::Fistp_m32int => transfer::store_i32::<true, false>,
        Code::Fisttp_m32int => transfer::store_i32::<true, true>,
        Code::Fistp_m64int => transfer::store_i64::<false>,
        Code::Fisttp_m64int => transfer::store_i64::<true>,
        _ => return None,
    })
}

fn moves_and_constants(code: Code) -> Option<Hard> {
    Some(match code {
        Code::Fld_sti => transfer::load_register,
        Code::Fst_sti => transfer::store_register::<false>,
        Code::Fstpnce_sti => transfer::store_register_unchecked,
        Code::Fstp_sti | Code::Fstp_sti_DFD0 | Code::Fstp_sti_DFD8 => transfer::store_register::<true>,
        Code::Fxch_st0_sti | Code::Fxch_st0_sti_DDC8 | Code::Fxch_st0_sti_DFC8 => transfer::exchange,
        Code::Fcmovb_st0_sti => |cpu, op| transfer::conditional(cpu, op, RFLAGS_CF, false),
        Code::Fcmove_st0_sti => |cpu, op| transfer::conditional(cpu, op, RFLAGS_ZF, false),
        Code::Fcmovbe_st0_sti => |cpu, op| transfer::conditional(cpu, op, RFLAGS_CF | RFLAGS_ZF, false),
        Code::Fcmovu_st0_sti => |cpu, op| transfer::conditional(cpu, op, RFLAGS_PF, false),
        Code::Fcmovnb_st0_sti => |cpu, op| transfer::conditional(cpu, op, RFLAGS_CF, true),
        Code::Fcmovne_st0_sti => |cpu, op| transfer::conditional(cpu, op, RFLAGS_ZF, true),
        Code::Fcmovnbe_st0_sti => |cpu, op| transfer::conditional(cpu, op, RFLAGS_CF | RFLAGS_ZF, true),
        Code::Fcmovnu_st0_sti => |cpu, op| transfer::conditional(cpu, op, RFLAGS_PF, true),
        Code::Fld1 => |cpu, op| transfer::load_constant(cpu, op, &transfer::ONE),
        Code::Fldl2t => |cpu, op| transfer::load_constant(cpu, op, &transfer::LOG2_10),
        Code::Fldl2e => |cpu, op| transfer::load_constant(cpu, op, &transfer::LOG2_E),
        Code::Fldpi => |cpu, op| transfer::load_constant(cpu, op, &transfer::PI),
        Code::Fldlg2 => |cpu, op| transfer::load_constant(cpu, op, &transfer::LOG10_2),
        Code::Fldln2 => |cpu, op| transfer::load_constant(cpu, op, &transfer::LN_2),
        Code::Fldz => |cpu, op| transfer::load_constant(cpu, op, &transfer::ZERO),
        _ => return None,
    })
}

fn register_arithmetic(code: Code) -> Option<Hard> {
    use Operation::{Add, Div, Divr, Mul, Sub, Subr};
    use arithmetic::registers;
    Some(match code {
        Code::Fadd_st0_sti | Code::Fadd_sti_st0 => |cpu, op| registers(cpu, op, Add, false),
        Code::Fmul_st0_sti | Code::Fmul_sti_st0 => |cpu, op| registers(cpu, op, Mul, false),
        Code::Fsub_st0_sti | Code::Fsub_sti_st0 => |cpu, op| registers(cpu, op, Sub, false),
        Code::Fsubr_st0_sti | Code::Fsubr_sti_st0 => |cpu, op| registers(cpu, op, Subr, false),
        Code::Fdiv_st0_sti | Code::Fdiv_sti_st0 => |cpu, op| registers(cpu, op, Div, false),
        Code::Fdivr_st0_sti | Code::Fdivr_sti_st0 => |cpu, op| registers(cpu, op, Divr, false),
        Code::Faddp_sti_st0 => |cpu, op| registers(cpu, op, Add, true),
        Code::Fmulp_sti_st0 => |cpu, op| registers(cpu, op, Mul, true),
        Code::Fsubp_sti_st0 => |cpu, op| registers(cpu, op, Sub, true),
        Code::Fsubrp_sti_st0 => |cpu, op| registers(cpu, op, Subr, true),
        Code::Fdivp_sti_st0 => |cpu, op| registers(cpu, op, Div, true),
        Code::Fdivrp_sti_st0 => |cpu, op| registers(cpu, op, Divr, true),
        _ => return None,
    })
}

fn memory_arithmetic(code: Code) -> Option<Hard> {
    use Memory::{F32, F64, I16, I32};
    use Operation::{Add, Div, Divr, Mul, Sub, Subr};
    use arithmetic::memory;
    Some(match code {
        Code::Fadd_m32fp => |cpu, op| memory(cpu, op, Add, F32),
        Code::Fmul_m32fp => |cpu, op| memory(cpu, op, Mul, F32),
        Code::Fsub_m32fp => |cpu, op| memory(cpu, op, Sub, F32),
        Code::Fsubr_m32fp => |cpu, op| memory(cpu, op, Subr, F32),
        Code::Fdiv_m32fp => |cpu, op| memory(cpu, op, Div, F32),
        Code::Fdivr_m32fp => |cpu, op| memory(cpu, op, Divr, F32),
        Code::Fadd_m64fp => |cpu, op| memory(cpu, op, Add, F64),
        Code::Fmul_m64fp => |cpu, op| memory(cpu, op, Mul, F64),
        Code::Fsub_m64fp => |cpu, op| memory(cpu, op, Sub, F64),
        Code::Fsubr_m64fp => |cpu, op| memory(cpu, op, Subr, F64),
        Code::Fdiv_m64fp => |cpu, op| memory(cpu, op, Div, F64),
        Code::Fdivr_m64fp => |cpu, op| memory(cpu, op, Divr, F64),
        Code::Fiadd_m16int => |cpu, op| memory(cpu, op, Add, I16),
        Code::Fimul_m16int => |cpu, op| memory(cpu, op, Mul, I16),
        Code::Fisub_m16int => |cpu, op| memory(cpu, op, Sub, I16),
        Code::Fisubr_m16int => |cpu, op| memory(cpu, op, Subr, I16),
        Code::Fidiv_m16int => |cpu, op| memory(cpu, op, Div, I16),
        Code::Fidivr_m16int => |cpu, op| memory(cpu, op, Divr, I16),
        Code::Fiadd_m32int => |cpu, op| memory(cpu, op, Add, I32),
        Code::Fimul_m32int => |cpu, op| memory(cpu, op, Mul, I32),
        Code::Fisub_m32int => |cpu, op| memory(cpu, op, Sub, I32),
        Code::Fisubr_m32int => |cpu, op| memory(cpu, op, Subr, I32),
        Code::Fidiv_m32int => |cpu, op| memory(cpu, op, Div, I32),
        Code::Fidivr_m32int => |cpu, op| memory(cpu, op, Divr, I32),
        _ => return None,
    })
}

fn comparisons(code: Code) -> Option<Hard> {
    use Answer::{Codes, Flags};
    use Memory::{F32, F64, I16, I32};
    use compare::{memory, registers};
    Some(match code {
        Code::Fcom_st0_sti | Code::Fcom_st0_sti_DCD0 => |cpu, op| registers(cpu, op, false, Codes, 0),
        Code::Fcomp_st0_sti | Code::Fcomp_st0_sti_DCD8 | Code::Fcomp_st0_sti_DED0 => {
            |cpu, op| registers(cpu, op, false, Codes, 1)
        }
        Code::Fcompp => |cpu, op| registers(cpu, op, false, Codes, 2),
        Code::Fucom_st0_sti => |cpu, op| registers(cpu, op, true, Codes, 0),
        Code::Fucomp_st0_sti => |cpu, op| registers(cpu, op, true, Codes, 1),
        Code::Fucompp => |cpu, op| registers(cpu, op, true, Codes, 2),
        Code::Fcomi_st0_sti => |cpu, op| registers(cpu, op, false, Flags, 0),
        Code::Fcomip_st0_sti => |cpu, op| registers(cpu, op, false, Flags, 1),
        Code::Fucomi_st0_sti => |cpu, op| registers(cpu, op, true, Flags, 0),
        Code::Fucomip_st0_sti => |cpu, op| registers(cpu, op, true, Flags, 1),
        Code::Fcom_m32fp => |cpu, op| memory(cpu, op, F32, 0),
        Code::Fcomp_m32fp => |cpu, op| memory(cpu, op, F32, 1),
        Code::Fcom_m64fp => |cpu, op| memory(cpu, op, F64, 0),
        Code::Fcomp_m64fp => |cpu, op| memory(cpu, op, F64, 1),
        Code::Ficom_m16int => |cpu, op| memory(cpu, op, I16, 0),
        Code::Ficomp_m16int => |cpu, op| memory(cpu, op, I16, 1),
        Code::Ficom_m32int => |cpu, op| memory(cpu, op, I32, 0),
        Code::Ficomp_m32int => |cpu, op| memory(cpu, op, I32, 1),
        Code::Ftst => compare::with_zero,
        Code::Fxam => compare::examine,
        _ => return None,
    })
}

fn functions(code: Code) -> Option<Hard> {
    use arithmetic::{binary, popping, pushing, unary};
    Some(match code {
        Code::Fchs => |cpu, op| arithmetic::sign(cpu, op, F80::negate),
        Code::Fabs => |cpu, op| arithmetic::sign(cpu, op, F80::abs),
        Code::Fsqrt => |cpu, op| unary(cpu, op, x87::sqrt, 0),
        Code::Frndint => |cpu, op| unary(cpu, op, x87::round_to_int, 0),
        Code::F2xm1 => |cpu, op| unary(cpu, op, x87::f2xm1, 0),
        Code::Fsin => |cpu, op| unary(cpu, op, x87::sin, C2),
        Code::Fcos => |cpu, op| unary(cpu, op, x87::cos, C2),
        Code::Fsincos => |cpu, op| pushing(cpu, op, x87::sincos, C2),
        Code::Fptan => |cpu, op| pushing(cpu, op, arithmetic::tangent_and_one, C2),
        Code::Fxtract => |cpu, op| pushing(cpu, op, x87::extract, 0),
        Code::Fscale => |cpu, op| binary(cpu, op, x87::scale, false),
        Code::Fprem => |cpu, op| binary(cpu, op, x87::prem, true),
        Code::Fprem1 => |cpu, op| binary(cpu, op, x87::prem1, true),
        Code::Fyl2x => |cpu, op| popping(cpu, op, x87::fyl2x),
        Code::Fyl2xp1 => |cpu, op| popping(cpu, op, x87::fyl2xp1),
        Code::Fpatan => |cpu, op| popping(cpu, op, x87::patan),
        _ => return None,
    })
}

fn control_instructions(code: Code) -> Option<Hard> {
    Some(match code {
        Code::Wait => control::wait,
        Code::Fnop => control::nothing,
        // What the 8087 and 80287 needed; these do not even wait for a pending exception.
        Code::Fneni | Code::Fndisi | Code::Fnsetpm => |_, _| Ok(()),
        Code::Fninit => control::initialise,
        Code::Fnclex => control::clear_exceptions,
        Code::Fldcw_m2byte => control::load_control,
        Code::Fnstcw_m2byte => control::store_control,
        Code::Fnstsw_m2byte => control::store_status,
        Code::Fnstsw_AX => control::status_to_ax,
        Code::Fincstp => |cpu, op| control::rotate(cpu, op, 1),
        Code::Fdecstp => |cpu, op| control::rotate(cpu, op, 7),
        Code::Ffree_sti => control::free::<false>,
        Code::Ffreep_sti => control::free::<true>,
        Code::Fldenv_m14byte | Code::Fldenv_m28byte => control::load_environment,
        Code::Fnstenv_m14byte | Code::Fnstenv_m28byte => control::store_environment,
        Code::Fnsave_m94byte | Code::Fnsave_m108byte => control::save,
        Code::Frstor_m94byte | Code::Frstor_m108byte => control::restore,
        Code::Emms => control::empty_mmx,
        _ => return None,
    })
}
