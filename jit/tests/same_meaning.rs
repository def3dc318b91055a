//! Every integer instruction, executed by the interpreter and as translated code: registers, flags and memory must agree.
//!
//! The instructions are found by decoding all opcodes of all maps under the prefixes that matter. `RX86_SEED` sets another
//! seed than 1; a failure prints the seed.

mod world;

use iced_x86::{Code, Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, OpAccess, OpKind};
use rx86_cpu::cpu::Cpu;
use rx86_cpu::decode::{Decoded, Semantics, decode};
use rx86_cpu::features::CpuModel;
use rx86_cpu::op::{Op, op_flags, reg};
use rx86_cpu::state::{ArithFlags, SegmentIndex, Vcpu};
use rx86_jit::{Compiler, ExitKind};
use std::collections::{BTreeMap, BTreeSet};
use world::{DATA, Random, STACK};

/// States that each block is run with.
const STATES: usize = 6;
/// Blocks of several instructions.
const MIXED_BLOCKS: usize = 400;

fn seed() -> u64 {
    std::env::var("RX86_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// One encoding of an instruction with a meaning in micro-operations.
struct Sample {
    bytes: Vec<u8>,
    decoded: Decoded<Cpu>,
}

impl Sample {
    fn op(&self) -> &Op {
        &self.decoded.op
    }

    /// Whether it only reads its memory operand, or memory altogether.
    fn reads_memory(&self) -> bool {
        let instruction = Decoder::new(64, &self.bytes, DecoderOptions::NONE).decode();
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(&instruction);
        let is_read = |access: OpAccess| matches!(access, OpAccess::Read | OpAccess::CondRead);
        match (0..instruction.op_count()).find(|&i| instruction.op_kind(i) == OpKind::Memory) {
            Some(operand) => is_read(info.op_access(operand)),
            None => info.used_memory().iter().all(|memory| is_read(memory.access())),
        }
    }
}

fn prefixes() -> Vec<Vec<u8>> {
    let list: [&[u8]; 14] = [
        &[],
        &[0x66],
        &[0x48],
        &[0x66, 0x48],
        &[0xf3],
        &[0xf2],
        &[0xf3, 0x48],
        &[0xf2, 0x48],
        &[0x66, 0xf3],
        &[0x66, 0xf2],
        &[0x67],
        &[0x64],
        &[0x65, 0x48],
        &[0xf0],
    ];
    list.iter().map(|bytes| bytes.to_vec()).collect()
}

/// The bytes before the ModRM byte of every opcode: legacy maps under each prefix, and VEX maps.
fn opcodes(random: &mut Random) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for prefix in prefixes() {
        for map in [&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]] {
            for opcode in 0..=0xff {
                let mut bytes = prefix.clone();
                // Half the time some of REX's register bits are set, too.
                match bytes.last_mut() {
                    Some(rex) if *rex == 0x48 => *rex |= random.below(8) as u8,
                    _ if random.one_in(2) => bytes.push(0x40 | random.below(8) as u8),
                    _ => {}
                }
                bytes.extend_from_slice(map);
                bytes.push(opcode);
                all.push(bytes);
            }
        }
    }
    for map in 1..=3 {
        for w_and_pp in [0, 1, 2, 3, 4, 5, 6, 7, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87] {
            for opcode in 0..=0xff {
                let extensions = (random.below(8) as u8) << 5;
                let vvvv = (random.below(16) as u8) << 3;
                all.push(vec![0xc4, extensions | map, w_and_pp | vvvv, opcode]);
            }
        }
    }
    all
}

/// One sample for each instruction, operand kind and combination of sizes and prefixes.
fn samples(random: &mut Random, cpu: &Cpu) -> Vec<Sample> {
    let mut found = BTreeMap::new();
    for opcode in opcodes(random) {
        for variant in 0..32 {
            let mut bytes = opcode.clone();
            let mode = if variant & 8 != 0 { 0xc0 } else { (random.below(3) as u8) << 6 };
            bytes.push(mode | (variant & 7) << 3 | random.below(8) as u8);
            bytes.extend(std::iter::repeat_with(|| random.next() as u8).take(12));
            let Ok(decoded) = decode::<Cpu>(&bytes, cpu.mode(), &CpuModel::max()) else { continue };
            if !matches!(decoded.semantics, Semantics::Inline(_)) {
                continue;
            }
            bytes.truncate(usize::from(decoded.op.length));
            let decoded = aim_absolute(&mut bytes, decoded, cpu);
            let op = decoded.op;
            let high = op.regs.iter().any(|&r| r != reg::NONE && r & reg::HIGH_BYTE != 0);
            let key = (op.code, op.flags, op.form as u8, high, variant >> 4);
            found.entry(key).or_insert(Sample { bytes, decoded });
        }
    }
    found.into_values().collect()
}

/// Makes an address without registers one in the data.
fn aim_absolute(bytes: &mut [u8], decoded: Decoded<Cpu>, cpu: &Cpu) -> Decoded<Cpu> {
    let op = &decoded.op;
    let absolute = op.has(op_flags::MEMORY) && op.base == reg::ZERO && op.index == reg::ZERO;
    let displacement = op.displacement.to_le_bytes();
    let at = bytes.windows(4).position(|window| window == displacement);
    let (true, Some(at)) = (absolute, at) else { return decoded };
    let target = DATA as u32 + 0x123;
    bytes[at..at + 4].copy_from_slice(&target.to_le_bytes());
    decode::<Cpu>(bytes, cpu.mode(), &CpuModel::max()).unwrap_or(decoded)
}

fn random_flags(random: &mut Random) -> ArithFlags<u64> {
    if random.one_in(2) {
        return ArithFlags::from_rflags(random.next());
    }
    // Any result with any carries, as instructions leave them.
    ArithFlags { result: random.value(), aux: random.next() & (3 << 62 | 0xff << 8 | 9) }
}

/// All exceptions masked; any rounding, DAZ, FTZ and flags.
fn random_mxcsr(random: &mut Random) -> u32 {
    let settings = if random.one_in(2) { 0 } else { random.next() as u32 & 0xe07f };
    settings | 0x1f80
}

/// A quadword of a vector register: numbers of either precision, and anything.
fn random_lanes(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.value(),
        1 => u64::from(random_f32(random)) | u64::from(random_f32(random)) << 32,
        _ => {
            let sign = random.next() << 63;
            let special = [0, 1, 0x7ff0 << 48, 0x7ff8 << 48 | 5, 0x7ff0 << 48 | 9, 0xf << 48, 1 << 52];
            sign | match random.below(4) {
                0 => special[random.below(7) as usize],
                1 => (random.below(4096) as f64 / 8.0).to_bits(),
                _ => (0x3fe + random.below(70)) << 52 | random.next() >> (12 + random.below(50)),
            }
        }
    }
}

fn random_f32(random: &mut Random) -> u32 {
    let sign = (random.next() as u32) << 31;
    let special = [0, 1, 0x7f80 << 16, 0x7fc0 << 16 | 5, 0x7f80 << 16 | 9, 0x7f << 16, 1 << 23];
    sign | match random.below(4) {
        0 => special[random.below(7) as usize],
        1 => (random.below(4096) as f32 / 8.0).to_bits(),
        _ => (0x7e + random.below(70) as u32) << 23 | random.next() as u32 >> (9 + random.below(20)),
    }
}

/// Random registers, with the stack and the memory operand (of the block's first instruction) in mapped memory mostly.
fn random_state(random: &mut Random, cpu: &mut Cpu, op: &Op) {
    for slot in 0..16 {
        cpu.state.regs[slot] = random.value();
    }
    cpu.state.flags.arith = random_flags(random);
    cpu.state.mxcsr = random_mxcsr(random);
    for register in &mut cpu.state.zmm[..16] {
        // The guest has no more than 256 bits.
        register.0 = std::array::from_fn(|i| if i < 4 { random_lanes(random) } else { 0 });
    }
    for stack in [reg::RSP, reg::RBP] {
        cpu.state.regs[usize::from(stack)] = STACK + 0x800 + random.below(0xf00);
    }
    let rip = if random.one_in(8) { 0x7fff_ffff_ffe0 } else { random.below(1 << 40) };
    cpu.state.set_rip(rip + u64::from(op.length));
    if op.has(op_flags::MEMORY) {
        let target = match random.below(16) {
            0 => world::READ_ONLY + random.below(0x2000),
            1 => DATA + 0xff0 + random.below(32),
            // Some vector operands must be aligned.
            2..9 => DATA + (random.below(0x1f00) & !31),
            _ => DATA + random.below(0x1f00),
        };
        aim(cpu, op, target);
    }
    let start = cpu.state.rip().wrapping_sub(u64::from(op.length));
    cpu.state.set_rip(start);
}

/// Changes a register of the memory operand's address so that it leads to `target`, if that can be done.
fn aim(cpu: &mut Cpu, op: &Op, target: u64) {
    let segment = usize::from(op.segment);
    let base = if segment >= SegmentIndex::FS { cpu.state.segments[segment].base } else { 0 };
    let missing = target.wrapping_sub(base).wrapping_sub(cpu.effective_offset(op));
    let slot = |register: u8| usize::from(register & 31);
    if op.base != reg::ZERO && op.base != op.index {
        let register = &mut cpu.state.regs[slot(op.base)];
        *register = register.wrapping_add(missing);
    } else if op.index != reg::ZERO && op.base == reg::ZERO {
        let register = &mut cpu.state.regs[slot(op.index)];
        *register = register.wrapping_add(((missing as i64) >> op.scale) as u64);
    }
}

/// What a block must leave behind.
#[derive(PartialEq)]
struct Outcome {
    regs: [u64; 32],
    flags: u64,
    arith: ArithFlags<u64>,
    mxcsr: u32,
    vectors: Vec<[u64; 8]>,
    memory: Vec<u8>,
}

impl Outcome {
    fn of(cpu: &Cpu) -> Self {
        let Vcpu { regs, flags, .. } = &cpu.state;
        Self {
            regs: *regs,
            flags: flags.get(),
            arith: flags.arith,
            mxcsr: cpu.state.mxcsr,
            vectors: cpu.state.zmm.iter().map(|register| register.0).collect(),
            memory: world::memory(cpu),
        }
    }

    fn differences(&self, other: &Self) -> String {
        let mut text = String::new();
        let mut note = |name: String, a: u64, b: u64| {
            if a != b {
                text += &format!("\n  {name}: interpreter {a:#x}, translated {b:#x}");
            }
        };
        for (i, (&a, &b)) in self.regs.iter().zip(&other.regs).enumerate() {
            note(format!("register {i}"), a, b);
        }
        note("RFLAGS".into(), self.flags, other.flags);
        note("flag result".into(), self.arith.result, other.arith.result);
        note("flag carries".into(), self.arith.aux, other.arith.aux);
        note("MXCSR".into(), self.mxcsr.into(), other.mxcsr.into());
        for (i, (a, b)) in self.vectors.iter().zip(&other.vectors).enumerate() {
            for (quad, (&a, &b)) in a.iter().zip(b).enumerate() {
                note(format!("vector register {i}, quadword {quad}"), a, b);
            }
        }
        for (i, (&a, &b)) in self.memory.iter().zip(&other.memory).enumerate() {
            note(format!("byte at {:#x}", DATA + i as u64), a.into(), b.into());
        }
        text
    }
}

/// How an instruction went in the interpreter.
struct Went {
    /// Without an exception.
    well: bool,
    /// And all its accesses hit the TLB.
    fast: bool,
}

/// One instruction as the interpreter executes it.
fn interpret(cpu: &mut Cpu, decoded: &Decoded<Cpu>) -> Went {
    let start = cpu.state.rip();
    cpu.state.set_rip(start.wrapping_add(u64::from(decoded.op.length)));
    let (Semantics::Inline(run) | Semantics::Hard(run)) = decoded.semantics;
    let slow = cpu.stats.slow_accesses;
    let outcome = run(cpu, &decoded.op);
    if outcome.is_err() {
        cpu.state.set_rip(start);
    }
    let hit = cpu.stats.slow_accesses == slow;
    Went { well: outcome.is_ok(), fast: outcome.is_ok() && hit }
}

/// Whether an instruction may be one of those in floating point that translations leave to functions on this host.
fn computes_by_function(op: &Op) -> bool {
    let code = op.iced_code().op_code();
    let is_vector = |i| {
        let kind = format!("{:?}", code.op_kind(i));
        kind.contains("xmm") || kind.contains("ymm")
    };
    cfg!(not(target_arch = "x86_64")) && (0..code.op_count()).any(is_vector)
}

/// Who translates.
#[derive(Clone, Copy, Debug)]
enum Tier {
    Full,
    Quick,
}

/// The two processors and what they run.
struct Bench {
    tier: Tier,
    interpreter: Cpu,
    translated: Cpu,
    compiler: Compiler,
    random: Random,
    seed: u64,
}

impl Bench {
    fn new(seed: u64, tier: Tier) -> Self {
        Self {
            tier,
            interpreter: world::cpu(),
            translated: world::cpu(),
            compiler: Compiler::for_host().expect("a code generator for this host"),
            random: Random(seed),
            seed,
        }
    }

    /// Gives both processors one random state and memory.
    fn randomize(&mut self, op: &Op) {
        random_state(&mut self.random, &mut self.interpreter, op);
        let mut image = vec![0; (world::END - DATA) as usize];
        for chunk in image.chunks_exact_mut(8) {
            let value =
                if self.random.one_in(2) { self.random.value() } else { random_lanes(&mut self.random) };
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        self.translated.state = self.interpreter.state.clone();
        for cpu in [&mut self.interpreter, &mut self.translated] {
            world::set_memory(cpu, &image);
            cpu.mmu.flush_all();
            world::fill_tlb(cpu);
        }
    }

    /// Runs a block with several states. True if it went through without a side exit at least once.
    fn check(&mut self, block: &[&Sample]) -> bool {
        let bytes: Vec<u8> = block.iter().flat_map(|sample| sample.bytes.iter().copied()).collect();
        let context = format!("{:?}, seed {}, block {bytes:02x?}", self.tier, self.seed);
        let mode = self.interpreter.mode();
        let model = CpuModel::max();
        let compiled = match self.tier {
            Tier::Full => self.compiler.translate_block(&bytes, mode, &model),
            Tier::Quick => {
                let compiled = self.compiler.translate_block_quickly(&bytes, mode, &model);
                compiled.expect("a host that has the quick tier")
            }
        };
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => panic!("{context}: {error}"),
        };
        let mut through = false;
        for _ in 0..STATES {
            self.randomize(block[0].op());
            let before = self.interpreter.state.regs;
            let exit = compiled.run(&mut self.translated);
            for (i, sample) in block.iter().enumerate().take(exit.retired as usize) {
                let went = interpret(&mut self.interpreter, &sample.decoded);
                // What it only reads may lie in two pages.
                let fast = went.fast || went.well && sample.reads_memory();
                // Locked instructions that are called take the slow way by themselves, as does what else is called.
                let called = sample.op().has(op_flags::LOCK) || computes_by_function(sample.op());
                let fast = fast || called || matches!(self.tier, Tier::Quick);
                assert!(fast, "{context}: instruction {i} should have left the block; registers {before:x?}");
            }
            let expected = Outcome::of(&self.interpreter);
            let got = Outcome::of(&self.translated);
            if expected != got {
                panic!("{context}, registers {before:x?}:{}", expected.differences(&got));
            }
            if exit.retired == compiled.instructions() {
                through = true;
            } else {
                let raised = matches!(exit.kind, ExitKind::Exception(_));
                assert!(raised || exit.kind == ExitKind::Interpret, "{context}: {:?}", exit.kind);
                let left_at = &block[exit.retired as usize].decoded;
                let fast = interpret(&mut self.interpreter, left_at).fast;
                // A branch that is not taken is not let fall out of the canonical addresses, either.
                let inside = self.interpreter.is_canonical(self.interpreter.state.rip());
                assert!(!(raised && fast), "{context}: raised without need; registers {before:x?}");
                // Near the end of the canonical addresses a block is not entered.
                let near_end = !self.interpreter.is_canonical(before[16].wrapping_add(0x1000));
                // The operand may not be aligned.
                let locked = left_at.op.has(op_flags::LOCK);
                let needed = raised || !fast || !inside || near_end || locked;
                assert!(needed, "{context}: a side exit without need; registers {before:x?}");
            }
        }
        through
    }
}

/// The translators that this host has.
fn tiers() -> Vec<Tier> {
    let mut compiler = Compiler::for_host().expect("a code generator for this host");
    let mode = world::cpu().mode();
    let has_quick = compiler.translate_block_quickly(&[0x90], mode, &CpuModel::max()).is_some();
    if !has_quick {
        println!("this host has no quick tier: skipped");
    }
    [Some(Tier::Full), has_quick.then_some(Tier::Quick)].into_iter().flatten().collect()
}

#[test]
fn every_instruction_alone() {
    for tier in tiers() {
        every_instruction_alone_by(tier);
    }
}

fn every_instruction_alone_by(tier: Tier) {
    let mut bench = Bench::new(seed(), tier);
    let samples = samples(&mut Random(seed()), &bench.interpreter);
    let mut executed = BTreeSet::new();
    let mut known = BTreeMap::new();
    for sample in &samples {
        let through = bench.check(&[sample]);
        let code = sample.op().iced_code();
        known.insert(code as u16, code);
        if through {
            executed.insert(code as u16);
        }
    }
    let always_locked = |code: Code| {
        let exchange = code.mnemonic() == Mnemonic::Xchg;
        exchange && samples.iter().all(|s| s.op().iced_code() != code || s.op().has(op_flags::LOCK))
    };
    let missing: Vec<Code> =
        known.iter().filter(|(number, _)| !executed.contains(number)).map(|(_, &code)| code).collect();
    let unexplained: Vec<&Code> = missing.iter().filter(|&&code| !always_locked(code)).collect();
    println!(
        "{tier:?}, seed {}: {} codes, {} samples, {} executed",
        bench.seed,
        known.len(),
        samples.len(),
        executed.len()
    );
    assert!(unexplained.is_empty(), "seed {}: never ran through: {unexplained:?}", bench.seed);
    assert!(known.len() > 500, "only {} codes found", known.len());
}

#[test]
fn instructions_in_sequence() {
    for tier in tiers() {
        instructions_in_sequence_by(tier);
    }
}

fn instructions_in_sequence_by(tier: Tier) {
    let mut bench = Bench::new(seed(), tier);
    let mut random = Random(seed() ^ 0x5eed);
    let samples = samples(&mut random, &bench.interpreter);
    let (last, straight): (Vec<&Sample>, Vec<&Sample>) =
        samples.iter().filter(|s| !s.op().has(op_flags::LOCK)).partition(|s| s.decoded.ends_block);
    let mut through = 0;
    for _ in 0..MIXED_BLOCKS {
        let length = 2 + random.below(7);
        let mut block: Vec<&Sample> = Vec::new();
        while (block.len() as u64) < length {
            let sample = straight[random.below(straight.len() as u64) as usize];
            // A memory operand behind the first instruction mostly leaves the block.
            if block.is_empty() || !sample.op().has(op_flags::MEMORY) || random.one_in(16) {
                block.push(sample);
            }
        }
        block.push(last[random.below(last.len() as u64) as usize]);
        through += usize::from(bench.check(&block));
    }
    println!("{tier:?}, seed {}: {through} of {MIXED_BLOCKS} blocks ran through", bench.seed);
    assert!(through > MIXED_BLOCKS / 4, "seed {}: only {through} blocks ran through", bench.seed);
}
