//! Instructions of the family on the host's own silicon and on a `Cpu`: registers, memory, flags and MXCSR afterwards
//! must be the same. The machine code that the host executes is the code that the `Cpu` decodes.

#![expect(unsafe_code, reason = "executes the instructions under test in assembly blocks")]

use super::board::{BUFFER, processor, run};
use super::random::Random;
use crate::cpu::Cpu;
use crate::op::reg;
use crate::state::bits::RFLAGS_ARITH;

/// Random states tried for each instruction.
const TRIES: u64 = 1000;

/// What an instruction reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
struct State {
    xmm: [u128; 3],
    mmx: [u64; 2],
    /// RAX, RCX, RDX.
    general: [u64; 3],
    flags: u64,
    memory: [u128; 2],
    mxcsr: u32,
    host_mxcsr: u32,
}

/// One instruction: its text, and the function that executes it on the host and tells where its code is.
struct Case {
    text: &'static str,
    run: fn(&mut State) -> (usize, usize),
}

macro_rules! case {
    ($text:expr) => {
        Case {
            text: $text,
            run: |state| {
                let (start, end): (usize, usize);
                // SAFETY: the instruction works on the registers named below, which are saved or given up, and on the
                // state's memory; MXCSR is put back before the block ends, with its exceptions masked between.
                unsafe {
                    std::arch::asm!(
                        "movups xmm0, [r8]", "movups xmm1, [r8 + 16]", "movups xmm2, [r8 + 32]",
                        "movq mm0, [r8 + 48]", "movq mm1, [r8 + 56]",
                        "mov rax, [r8 + 64]", "mov rcx, [r8 + 72]", "mov rdx, [r8 + 80]",
                        "stmxcsr [r8 + 132]", "ldmxcsr [r8 + 128]",
                        "push qword ptr [r8 + 88]", "popfq",
                        "2:", $text, "3:",
                        "pushfq", "pop qword ptr [r8 + 88]",
                        "stmxcsr [r8 + 128]", "ldmxcsr [r8 + 132]",
                        "movups [r8], xmm0", "movups [r8 + 16], xmm1", "movups [r8 + 32], xmm2",
                        "movq [r8 + 48], mm0", "movq [r8 + 56], mm1", "emms",
                        "mov [r8 + 64], rax", "mov [r8 + 72], rcx", "mov [r8 + 80], rdx",
                        "lea rax, [rip + 2b]", "lea rcx, [rip + 3b]",
                        in("r8") state, in("rdi") &raw mut (*state).memory,
                        out("rax") start, out("rcx") end, out("rdx") _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _,
                        out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                        out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                    );
                }
                (start, end)
            },
        }
    };
}

/// Cases of each mnemonic with each list of operands.
macro_rules! cases {
    ($($mnemonic:literal)*; $operands:tt) => {
        [$(cases!(@one $mnemonic $operands)),*].concat()
    };
    (@one $mnemonic:literal [$($operands:literal)*]) => {
        vec![$(case!(concat!($mnemonic, " ", $operands))),*]
    };
}

impl Clone for Case {
    fn clone(&self) -> Self {
        Case { text: self.text, run: self.run }
    }
}

fn load(cpu: &mut Cpu, state: &State) {
    for (i, value) in state.xmm.iter().enumerate() {
        cpu.state.set_xmm(i as u8, *value);
    }
    for (i, value) in state.mmx.iter().enumerate() {
        cpu.state.x87.regs[i].mantissa = *value;
    }
    cpu.state.regs[..3].copy_from_slice(&state.general);
    cpu.state.regs[usize::from(reg::RDI)] = BUFFER;
    cpu.set_rflags(state.flags);
    cpu.state.mxcsr = state.mxcsr;
    for (i, value) in state.memory.iter().enumerate() {
        cpu.write_linear(BUFFER + 16 * i as u64, value.to_le_bytes()).expect("memory");
    }
}

/// The state of `cpu`; `host` gives what the `Cpu` does not have.
fn store(cpu: &mut Cpu, host: &State) -> State {
    State {
        xmm: std::array::from_fn(|i| cpu.state.xmm(i as u8)),
        mmx: std::array::from_fn(|i| cpu.state.x87.regs[i].mantissa),
        general: std::array::from_fn(|i| cpu.state.regs[i]),
        flags: host.flags & !RFLAGS_ARITH | cpu.state.flags.get() & RFLAGS_ARITH,
        memory: std::array::from_fn(|i| {
            u128::from_le_bytes(cpu.read_linear(BUFFER + 16 * i as u64).expect("memory"))
        }),
        mxcsr: cpu.state.mxcsr,
        ..*host
    }
}

fn random_state(random: &mut Random) -> State {
    State {
        xmm: std::array::from_fn(|_| random.vector()),
        mmx: std::array::from_fn(|_| random.vector() as u64),
        general: std::array::from_fn(|_| random.vector() as u64),
        flags: if random.below(2) == 0 { 0x202 } else { RFLAGS_ARITH | 0x202 },
        memory: std::array::from_fn(|_| random.vector()),
        mxcsr: random.mxcsr(),
        host_mxcsr: 0,
    }
}

/// The state with the same NaN for all that a dot product has in its result: which one of several it is is up to the processor.
fn with_any_nan(text: &str, mut state: State) -> State {
    let singles = text.starts_with("dpps");
    if singles || text.starts_with("dppd") {
        let bits = if singles { 32 } else { 64 };
        for register in &mut state.xmm {
            for at in (0..128).step_by(bits) {
                let lane = (*register >> at) as u64;
                let is_nan = if singles {
                    f32::from_bits(lane as u32).is_nan()
                } else {
                    f64::from_bits(lane).is_nan()
                };
                if is_nan {
                    *register |= ((1 << bits) - 1) << at;
                }
            }
        }
    }
    state
}

/// Holds every case to the silicon.
fn check(cases: &[Case]) {
    assert!(!cases.is_empty());
    for case in cases {
        let mut cpu = processor();
        for seed in 1..=TRIES {
            let mut random = Random::new(seed);
            let before = random_state(&mut random);
            let mut host = before;
            let (start, end) = (case.run)(&mut host);
            // SAFETY: the labels enclose the instruction in this program's code, which stays mapped.
            let code = unsafe { std::slice::from_raw_parts(start as *const u8, end - start) };
            load(&mut cpu, &before);
            run(&mut cpu, code).unwrap_or_else(|fault| panic!("{} {fault:?}", case.text));
            let got = store(&mut cpu, &host);
            assert!(
                with_any_nan(case.text, got) == with_any_nan(case.text, host),
                "{} seed {seed}\nbefore {before:x?}\nhost   {host:x?}\ngot    {got:x?}",
                case.text
            );
        }
    }
}

macro_rules! tests {
    ($($name:ident($($feature:tt)*): [$($mnemonics:tt)*] $operands:tt;)*) => {$(
        #[test]
        fn $name() {
            if $(!std::arch::is_x86_feature_detected!($feature))||* {
                return;
            }
            check(&cases!($($mnemonics)*; $operands));
        }
    )*};
}

tests! {
    both_integer("sse2"): [
        "paddb" "paddw" "paddd" "paddq" "psubb" "psubw" "psubd" "psubq" "paddsb" "paddsw" "paddusb" "paddusw"
        "psubsb" "psubsw" "psubusb" "psubusw" "pavgb" "pavgw" "pminub" "pminsw" "pmaxub" "pmaxsw" "pmullw" "pmulhw"
        "pmulhuw" "pmuludq" "pmaddwd" "psadbw" "pand" "pandn" "por" "pxor" "pcmpeqb" "pcmpeqw" "pcmpeqd" "pcmpgtb"
        "pcmpgtw" "pcmpgtd" "packsswb" "packssdw" "packuswb" "punpckhbw" "punpckhwd" "punpckhdq" "punpcklbw"
        "punpcklwd" "punpckldq" "psllw" "pslld" "psllq" "psrlw" "psrld" "psrlq" "psraw" "psrad"
    ] ["xmm0, xmm1" "xmm1, xmm1" "xmm2, [rdi]" "mm0, mm1" "mm1, mm1" "mm1, [rdi]"];
    both_ssse3("ssse3"): [
        "pshufb" "phaddw" "phaddd" "phaddsw" "phsubw" "phsubd" "phsubsw" "pmaddubsw" "pmulhrsw" "psignb" "psignw"
        "psignd" "pabsb" "pabsw" "pabsd"
    ] ["xmm0, xmm1" "xmm1, xmm1" "xmm2, [rdi]" "mm0, mm1" "mm1, mm1" "mm1, [rdi]"];
    vector_only("sse2"): [
        "punpcklqdq" "punpckhqdq" "unpcklps" "unpckhps" "unpcklpd" "unpckhpd" "andps" "andpd" "andnps" "andnpd" "orps"
        "orpd" "xorps" "xorpd" "movaps" "movapd" "movdqa" "movups" "movupd" "movdqu"
    ] ["xmm0, xmm1" "xmm1, xmm1" "xmm2, [rdi]"];
    sse41_integer("sse4.1" "sse4.2"): [
        "pminuw" "pminud" "pminsb" "pminsd" "pmaxuw" "pmaxud" "pmaxsb" "pmaxsd" "pmulld" "pmuldq" "pcmpeqq" "pcmpgtq"
        "packusdw" "phminposuw" "ptest" "movsldup" "movshdup" "movddup" "pmovsxbw" "pmovsxbd" "pmovsxbq" "pmovsxwd"
        "pmovsxwq" "pmovsxdq" "pmovzxbw" "pmovzxbd" "pmovzxbq" "pmovzxwd" "pmovzxwq" "pmovzxdq"
    ] ["xmm0, xmm1" "xmm1, xmm1" "xmm2, [rdi]"];
    blends("sse4.1"): ["pblendvb" "blendvps" "blendvpd"] ["xmm1, xmm2, xmm0" "xmm2, [rdi], xmm0"];
    shifts_by_immediate("sse2"): [
        "psllw" "pslld" "psllq" "psrlw" "psrld" "psrlq" "psraw" "psrad"
    ] ["xmm0, 0" "xmm0, 3" "xmm0, 16" "xmm1, 31" "xmm1, 32" "xmm1, 63" "xmm1, 200" "mm0, 1" "mm0, 17" "mm1, 40"
        "mm1, 64"];
    byte_shifts("sse2"): ["pslldq" "psrldq"] ["xmm0, 0" "xmm0, 1" "xmm0, 8" "xmm0, 15" "xmm0, 16" "xmm0, 255"];
    shuffles("sse2"): [
        "pshufd" "pshuflw" "pshufhw" "shufps" "shufpd"
    ] ["xmm0, xmm1, 0" "xmm0, xmm1, 0x1b" "xmm0, xmm0, 0xe1" "xmm1, [rdi], 0x9c" "xmm1, [rdi], 0xff"];
    shuffle_words("sse2"): ["pshufw"] ["mm0, mm1, 0x1b" "mm0, mm0, 0xe1" "mm1, [rdi], 0x9c"];
    align("ssse3"): ["palignr"] [
        "xmm0, xmm1, 0" "xmm0, xmm1, 1" "xmm0, xmm1, 15" "xmm0, xmm1, 16" "xmm0, xmm1, 17" "xmm0, [rdi], 31"
        "xmm0, [rdi], 32" "xmm0, xmm1, 255" "mm0, mm1, 0" "mm0, mm1, 5" "mm0, mm1, 8" "mm0, [rdi], 11" "mm0, mm1, 16"
        "mm0, mm1, 200"
    ];
    immediates("sse4.1"): [
        "pblendw" "blendps" "blendpd" "mpsadbw" "insertps" "dpps" "dppd"
    ] ["xmm0, xmm1, 0" "xmm0, xmm1, 0x3f" "xmm0, xmm1, 0x71" "xmm1, xmm1, 0xc6" "xmm0, [rdi], 0x9d" "xmm0, [rdi], 0xff"];
    moves("sse2"): ["movq"] [
        "xmm0, xmm1" "xmm0, [rdi]" "[rdi], xmm1" "xmm0, rax" "rdx, xmm1" "mm0, mm1" "mm0, [rdi]" "[rdi], mm1" "mm0, rax"
        "rdx, mm1"
    ];
    moves_double("sse2"): ["movd"] [
        "xmm0, eax" "xmm0, dword ptr [rdi]" "[rdi], xmm1" "ecx, xmm1" "mm0, eax" "mm0, dword ptr [rdi]" "[rdi], mm1"
        "ecx, mm1"
    ];
    moves_scalar("sse2"): ["movss" "movsd"] ["xmm0, xmm1" "xmm0, [rdi]" "[rdi], xmm1"];
    moves_half("sse2"): ["movlps" "movhps" "movlpd" "movhpd"] ["xmm0, [rdi]" "[rdi], xmm1"];
    moves_between_halves("sse2"): ["movhlps" "movlhps"] ["xmm0, xmm1" "xmm1, xmm1"];
    stores("sse2"): [
        "movaps" "movapd" "movdqa" "movups" "movupd" "movdqu" "movntps" "movntpd" "movntdq"
    ] ["[rdi], xmm1" "[rdi + 16], xmm0"];
    unaligned("sse3"): ["movups" "movdqu" "lddqu"] ["xmm0, [rdi + 3]"];
    unaligned_stores("sse2"): ["movups" "movupd"] ["[rdi + 7], xmm1"];
    nontemporal("sse4.1"): ["movntdqa xmm1, [rdi]" "movnti [rdi], eax" "movnti [rdi], rdx" "movntq [rdi], mm1"] [""];
    masked("sse2"): ["maskmovdqu xmm0, xmm1" "maskmovq mm0, mm1"] [""];
    across("sse2"): ["movq2dq xmm0, mm1" "movdq2q mm0, xmm1"] [""];
    sign_masks("sse2"): ["movmskps" "movmskpd" "pmovmskb"] ["eax, xmm1" "rcx, xmm0"];
    sign_mask_mmx("sse2"): ["pmovmskb"] ["eax, mm1"];
    words("sse4.1"): [
        "pinsrw xmm0, eax, 3" "pinsrw xmm0, word ptr [rdi], 15" "pinsrw mm0, ecx, 2"
        "pinsrw mm0, word ptr [rdi], 5" "pextrw eax, xmm1, 7" "pextrw ecx, mm1, 6" "pextrw [rdi], xmm1, 12"
        "pinsrb xmm0, eax, 19" "pinsrb xmm0, byte ptr [rdi], 4" "pinsrd xmm0, eax, 3"
        "pinsrd xmm0, dword ptr [rdi], 6" "pinsrq xmm0, rax, 1" "pinsrq xmm0, qword ptr [rdi], 2"
        "pextrb eax, xmm1, 9" "pextrb [rdi], xmm1, 17" "pextrd ecx, xmm1, 2" "pextrd [rdi], xmm1, 7"
        "pextrq rdx, xmm1, 1" "pextrq [rdi], xmm1, 0" "extractps eax, xmm1, 3" "extractps [rdi], xmm1, 1"
        "insertps xmm0, dword ptr [rdi], 0xd5"
    ] [""];
    aes("aes"): ["aesenc" "aesenclast" "aesdec" "aesdeclast" "aesimc"] ["xmm0, xmm1" "xmm0, [rdi]"];
    aes_keys("aes"): ["aeskeygenassist"] ["xmm0, xmm1, 1" "xmm0, [rdi], 0x36"];
    carryless("pclmulqdq"): ["pclmulqdq"] [
        "xmm0, xmm1, 0" "xmm0, xmm1, 1" "xmm0, xmm1, 0x10" "xmm0, [rdi], 0x11"
    ];
    arithmetic_packed("sse2"): [
        "addps" "addpd" "subps" "subpd" "mulps" "mulpd" "divps" "divpd" "minps" "minpd" "maxps" "maxpd" "sqrtps" "sqrtpd"
        "cvtdq2ps" "cvtps2dq" "cvttps2dq" "cvtpd2dq" "cvttpd2dq" "cvtpd2ps" "cvtps2pd" "cvtdq2pd"
    ] ["xmm0, xmm1" "xmm1, xmm1" "xmm2, [rdi]"];
    arithmetic_scalar("sse2"): [
        "addss" "addsd" "subss" "subsd" "mulss" "mulsd" "divss" "divsd" "minss" "minsd" "maxss" "maxsd" "sqrtss" "sqrtsd"
        "cvtss2sd" "cvtsd2ss" "comiss" "comisd" "ucomiss" "ucomisd"
    ] ["xmm0, xmm1" "xmm1, xmm1" "xmm2, [rdi]"];
    arithmetic_horizontal("sse3"): [
        "haddps" "haddpd" "hsubps" "hsubpd" "addsubps" "addsubpd"
    ] ["xmm0, xmm1" "xmm1, xmm1" "xmm2, [rdi]"];
    comparisons("sse2"): ["cmpps" "cmppd" "cmpss" "cmpsd"] [
        "xmm0, xmm1, 0" "xmm0, xmm1, 1" "xmm0, xmm1, 2" "xmm0, xmm1, 3" "xmm0, xmm1, 4" "xmm0, xmm1, 5" "xmm0, [rdi], 6"
        "xmm0, [rdi], 7"
    ];
    rounding("sse4.1"): ["roundps" "roundpd" "roundss" "roundsd"] [
        "xmm0, xmm1, 0" "xmm0, xmm1, 1" "xmm0, xmm1, 2" "xmm0, xmm1, 3" "xmm0, [rdi], 4" "xmm0, [rdi], 11"
        "xmm0, [rdi], 12"
    ];
    to_integers("sse2"): ["cvtss2si" "cvttss2si" "cvtsd2si" "cvttsd2si"] ["eax, xmm1" "rcx, xmm0" "edx, [rdi]" "rdx, [rdi]"];
    from_integers("sse2"): ["cvtsi2ss" "cvtsi2sd"] [
        "xmm0, eax" "xmm0, rcx" "xmm1, dword ptr [rdi]" "xmm1, qword ptr [rdi]"
    ];
    to_mmx("sse2"): ["cvtps2pi" "cvttps2pi" "cvtpd2pi" "cvttpd2pi"] ["mm0, xmm1" "mm1, [rdi]"];
    from_mmx("sse2"): ["cvtpi2ps" "cvtpi2pd"] ["xmm0, mm1" "xmm1, [rdi]"];
}

/// The four string comparisons with the immediates whose high digits are given.
macro_rules! strings {
    ($($high:literal)*) => {
        [$(strings!(@low $high; "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "a" "b" "c" "d" "e" "f")),*].concat()
    };
    (@low $high:literal; $($low:literal)*) => {
        [$(
            case!(concat!("pcmpistri xmm0, xmm1, 0x", $high, $low)),
            case!(concat!("pcmpistrm xmm1, [rdi], 0x", $high, $low)),
            case!(concat!("pcmpestri xmm0, xmm1, 0x", $high, $low)),
            case!(concat!("pcmpestrm xmm0, xmm1, 0x", $high, $low)),
        )*]
    };
}

#[test]
fn string_comparisons() {
    if std::arch::is_x86_feature_detected!("sse4.2") {
        check(&strings!("0" "1" "2" "3" "4" "5" "6" "7"));
        check(&[case!("pcmpestri xmm0, [rdi + 1], 0x44"), case!("rex64 pcmpestri xmm0, xmm1, 0x0c")]);
    }
}
