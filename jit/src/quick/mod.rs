//! The quick tier: host code for a region within microseconds, for code that is warm but not worth Cranelift's time.
//!
//! It executes the same meanings as the other engines. A node's instructions are listed as operations (`micro`, `ir`); what
//! nobody needs is left out (`liveness`); the rest becomes host instructions one by one, with values kept in registers as
//! far as there are (`registers`, `emit`). State is written to `Vcpu` as instructions end, so ways out have nothing to store.
//! Instructions that micro-operations cannot say are calls.
//!
//! Each node counts how often it is executed (`crate::heat`), so that Cranelift's tier learns what is hot.

mod assembler;
mod emit;
mod encoding;
mod flags;
mod ir;
mod liveness;
mod micro;
mod registers;
mod stubs;
mod system;
mod vector;
mod vex;
pub(crate) mod ways;

use crate::calls::is_floating;
use crate::compiler::{CompileError, Translation, check_mode};
use crate::context::Call;
use crate::links::{Links, Slots};
use crate::region::{Node, Region};
use crate::rewritten::ReadAnew;
use crate::shape::Shape;
use crate::system::system_instruction;
use assembler::Label;
use emit::{Edge, Edges, Emitter};
use iced_x86::{Decoder, DecoderOptions};
use ir::Ending;
use micro::Recorder;
use rx86_cpu::cpu::Cpu;
use rx86_cpu::decode::{DecodeFailure, Decoded, Decoding, Semantics, decode};
use rx86_cpu::features::CpuModel;
use rx86_cpu::mode::ModeKey;

/// Translates regions; keeps buffers between them.
pub(crate) struct QuickCompiler {
    recorder: Recorder,
    emitter: Emitter,
    /// Where the nodes of a region begin.
    labels: Vec<Label>,
    /// For each node whether it is the region's first, or something that leads to it is written behind it.
    firsts: Vec<bool>,
    /// For each node the only one that leads to it, if it is one.
    only: Vec<Option<usize>>,
    /// For each node that is listed what is known of the flags at its end.
    shapes: Vec<Option<Shape>>,
}

impl QuickCompiler {
    /// None on hosts whose instructions it does not know, or that lack some of those.
    pub(crate) fn for_host() -> Option<Self> {
        Self::is_host_known().then(|| Self {
            recorder: Recorder::new(),
            emitter: Emitter::new(),
            labels: Vec::new(),
            firsts: Vec::new(),
            only: Vec::new(),
            shapes: Vec::new(),
        })
    }

    /// Whether this is an x86-64 host of level v3, which passes arguments as on Unix.
    pub(crate) fn is_host_known() -> bool {
        #[cfg(all(target_arch = "x86_64", unix))]
        {
            std::is_x86_feature_detected!("bmi1")
                && std::is_x86_feature_detected!("bmi2")
                && std::is_x86_feature_detected!("avx2")
                && std::is_x86_feature_detected!("fma")
                && std::is_x86_feature_detected!("lzcnt")
                && std::is_x86_feature_detected!("popcnt")
        }
        #[cfg(not(all(target_arch = "x86_64", unix)))]
        {
            false
        }
    }

    /// Translates a region, whose nodes have these counters.
    pub(crate) fn translate(
        &mut self,
        region: &Region,
        heats: &[u32],
        mode: ModeKey,
        model: &CpuModel,
        links: &mut Links,
    ) -> Result<Translation, CompileError> {
        check_mode(mode)?;
        self.emitter.stubs.supply(links, 2 * region.nodes.len() + 1);
        let translated = self.translate_nodes(region, heats, mode, model);
        let slots = self.emitter.stubs.take_slots(links);
        match translated {
            Ok(translation) => Ok(Translation { slots, ..translation }),
            Err(error) => {
                links.close(&slots);
                Err(error)
            }
        }
    }

    fn translate_nodes(
        &mut self,
        region: &Region,
        heats: &[u32],
        mode: ModeKey,
        model: &CpuModel,
    ) -> Result<Translation, CompileError> {
        let order = region.order();
        self.recorder.begin_region();
        self.emitter.begin_region();
        self.labels.clear();
        self.labels.extend(region.nodes.iter().map(|_| self.emitter.asm.label()));
        let mut calls = Vec::new();
        let mut read_anew = Vec::new();
        let mut instructions = 0;
        self.note_ways(region, &order);
        for (position, &number) in order.iter().enumerate() {
            let node = &region.nodes[number];
            let shape = self.only[number].and_then(|before| self.shapes[before]);
            self.recorder.begin_node(node.offset, shape);
            let failure = self.record(node, mode, model, &mut calls, &mut read_anew).err();
            if failure.is_some() {
                self.recorder.listing.ending = Ending::Interpret;
            }
            self.shapes[number] = self.recorder.held.flags.shape();
            let done = self.recorder.listing.starts.len() - 1;
            if done == 0 && number == 0 {
                return Err(CompileError::Decode(failure.unwrap_or(DecodeFailure::NeedMoreBytes)));
            }
            instructions += done;
            let edges = self.edges(region, node, order.get(position + 1));
            self.emitter.asm.bind(self.labels[number]);
            let written =
                self.emitter.node(&self.recorder.listing, heats[number], self.firsts[number], edges);
            written.map_err(|_| CompileError::Codegen { instructions, why: "too many values".to_owned() })?;
        }
        Ok(Translation {
            code: self.emitter.finish(),
            calls: calls.into(),
            read_anew,
            extent: self.recorder.extent(),
            instructions: instructions as u32,
            clif: None,
            windowed: false,
            shared_looks: Vec::new(),
            slots: Slots::default(),
        })
    }

    /// Fills in `firsts` and `only` for nodes that are written in this order.
    fn note_ways(&mut self, region: &Region, order: &[usize]) {
        self.firsts.clear();
        self.firsts.resize(region.nodes.len(), false);
        self.firsts[0] = true;
        self.shapes.clear();
        self.shapes.resize(region.nodes.len(), None);
        self.only.clear();
        self.only.resize(region.nodes.len(), None);
        // The region's entry leads to node 0.
        let mut is_led_to = 1u128;
        let mut is_written = 0u128;
        for &number in order {
            is_written |= 1 << number;
            let successors = &region.nodes[number].successors;
            for next in [successors.next, successors.target].into_iter().flatten() {
                self.firsts[next] |= is_written >> next & 1 != 0;
                let is_first_way = is_led_to >> next & 1 == 0;
                is_led_to |= 1 << next;
                self.only[next] = is_first_way.then_some(number);
            }
        }
    }

    /// The code of a translation that is not needed any more: its memory is that of the next one's.
    pub(crate) fn take_back(&mut self, code: Vec<u8>) {
        self.emitter.asm.code = code;
    }

    /// Where the edges of the listed node lead, whose follower in the code is `following`.
    fn edges(&self, region: &Region, node: &Node, following: Option<&usize>) -> Edges {
        let listing = &self.recorder.listing;
        let behind = listing.starts[listing.starts.len() - 1];
        let target = match listing.ending {
            Ending::Offset(offset) => offset,
            Ending::Branch { taken, .. } => taken,
            Ending::Next | Ending::Target(_) | Ending::Interpret => behind,
        };
        let node_at = |successor: Option<usize>, offset: i64| {
            successor.filter(|&successor| region.nodes[successor].offset == offset)
        };
        let edge = |successor: Option<usize>, offset: i64| match node_at(successor, offset) {
            Some(node) => Edge::Node(self.labels[node]),
            None => Edge::Out(offset),
        };
        let next = node_at(node.successors.next, behind);
        Edges {
            next: edge(node.successors.next, behind),
            target: edge(node.successors.target, target),
            falls_through: next.is_some() && next.as_ref() == following,
        }
    }

    /// Lists a node, which has been begun; if an instruction cannot be decoded, up to that.
    fn record(
        &mut self,
        node: &Node,
        mode: ModeKey,
        model: &CpuModel,
        calls: &mut Vec<Call>,
        read_anew: &mut Vec<ReadAnew>,
    ) -> Result<(), DecodeFailure> {
        let mut at = 0;
        let mut decoding = Decoding::new(&node.bytes, mode, model);
        while at < node.bytes.len() {
            let bytes = decoding.rest();
            let Decoded { op, semantics, contained, .. } = decoding.decode::<Recorder>(model)?;
            let length = usize::from(op.length);
            self.recorder.immediate_at(node.read_anew.and_then(|host| {
                let (offset, bytes) = immediate_place(&bytes[..length])?;
                Some((host + (at + offset) as u64, bytes))
            }));
            if system_instruction(&mut self.recorder, &op, mode, &bytes[length..]) {
                at += length;
                continue;
            }
            let function = match semantics {
                Semantics::Hard(run) => Some(run),
                Semantics::Inline(meaning) if self.recorder.instruction(&op, meaning).is_ok() => None,
                // What it does in the interpreter.
                Semantics::Inline(_) => {
                    let (Semantics::Inline(run) | Semantics::Hard(run)) =
                        decode::<Cpu>(bytes, mode, model)?.semantics;
                    Some(run)
                }
            };
            if let Some(run) = function {
                let floating = is_floating(&bytes[..length], contained);
                self.recorder.call_function(&op, calls.len());
                calls.push(Call { run, op, floating, host: 0 });
            } else if let Some((host, bytes)) = self.recorder.immediate_read() {
                let gpa = node.gpa + (host - node.read_anew.unwrap_or(host));
                read_anew.push(ReadAnew { node: node.gpa, gpa, bytes });
            }
            at += length;
        }
        Ok(())
    }
}

/// The offset and the length of an immediate in an instruction of 64-bit code, if it is one of four or eight bytes.
fn immediate_place(bytes: &[u8]) -> Option<(usize, u64)> {
    let mut decoder = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let places = decoder.get_constant_offsets(&instruction);
    let size = places.immediate_size();
    (matches!(size, 4 | 8) && !places.has_immediate2()).then(|| (places.immediate_offset(), size as u64))
}
