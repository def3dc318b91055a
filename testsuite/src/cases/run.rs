//! Runs generated cases on two oracles and counts what comes out.

use super::compare::{Difference, Place};
use super::family::{Family, family_in, shape_of};
use super::form;
use super::known::{Verdict, instruction_of, instructions_of, judge};
use super::random::Random;
use super::sequence;
use super::shrink::{shrink, shrink_code};
use super::text::print_case;
use crate::oracle::{Mode, Oracle, Outcome, Program};
use iced_x86::{Code, Mnemonic};
use std::collections::BTreeMap;
use std::ops::Range;

/// Cases that are run at once.
pub const BATCH: u64 = 128;
/// Failures that are kept for each form.
const FAILURES_KEPT: u32 = 2;

/// What the cases of a run are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose forms.
    pub families: Vec<Family>,
    /// The mode of the code.
    pub mode: Mode,
    /// Whether a case is a sequence of instructions that draw on all these families, or one instruction.
    pub sequences: bool,
}

impl Plan {
    /// Single instructions of `family` in 64-bit mode.
    pub fn of(family: Family) -> Self {
        Self { families: vec![family], mode: Mode::Bits64, sequences: false }
    }

    /// The plan in reports: the family or `sequence`, and the bits of a mode that is not 64-bit.
    pub fn name(&self) -> String {
        let what = match self.families.first() {
            Some(family) if !self.sequences => family.name(),
            _ => "sequence",
        };
        match self.mode {
            Mode::Bits64 => what.to_string(),
            mode => format!("{what}{}", mode.bits()),
        }
    }
}

/// A case on which the oracles disagree.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The form; of a sequence the last one.
    pub code: Code,
    /// The case, shrunk.
    pub program: Program,
    /// What the reference says.
    pub reference: Outcome,
    /// Where the other one differs.
    pub differences: Vec<Difference>,
    /// The reference's name.
    pub oracle: &'static str,
}

impl Failure {
    /// The line for a cases file, with the differences before it as comments.
    pub fn text(&self) -> String {
        let differences: Vec<_> = self.differences.iter().map(Difference::to_string).collect();
        format!(
            "# {:?}: {} / rx86: {}\n{}",
            self.code,
            self.oracle,
            differences.join(", "),
            print_case(&self.program, &self.reference)
        )
    }
}

/// What a run has come to.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that both oracles have executed.
    pub cases: u64,
    /// Cases that an oracle could not execute.
    pub not_run: u64,
    /// Forms that can be tried.
    pub forms: usize,
    /// In how many executed cases each form was.
    pub tried: BTreeMap<Code, u64>,
    /// Forms that the generator cannot build.
    pub not_built: Vec<Code>,
    /// Cases that failed, by form.
    pub failed: BTreeMap<Code, u32>,
    /// Some of them, shrunk.
    pub failures: Vec<Failure>,
    /// For each mnemonic, undefined flags that differed, and in how many cases.
    pub undefined: BTreeMap<Mnemonic, (u64, u64)>,
    /// Cases whose results are approximations that differed within their error.
    pub approximate: u64,
    /// Known disagreements with the reference, by their place in its list, and in how many cases each was.
    pub known: BTreeMap<usize, u64>,
}

/// The forms of `plan` that this host has and the generator can build, and those that it cannot.
pub fn buildable(plan: &Plan) -> (Vec<Code>, Vec<Code>) {
    buildable_of(plan, |code| family_in(code, plan.mode).is_some())
}

/// The forms of `plan` that some processor has and the generator can build, and those that it cannot.
pub fn buildable_of(plan: &Plan, has: impl Fn(Code) -> bool) -> (Vec<Code>, Vec<Code>) {
    let of_plan = |code| shape_of(code, plan.mode).is_some_and(|family| plan.families.contains(&family));
    let forms = Code::values().filter(|&code| of_plan(code) && has(code));
    forms.partition(|&code| {
        (0..20).any(|seed| form::generate(code, plan.mode, &mut Random::new(seed)).is_some())
    })
}

/// A generated case, with the forms of its instructions.
pub type GeneratedCase = (Vec<Code>, Program);

/// Case `number` of the seed: the same in every run.
pub fn generate(plan: &Plan, forms: &[Code], seed: u64, number: u64) -> Option<GeneratedCase> {
    let mut random = Random::new(Random::new(seed).bits() ^ Random::new(number).bits());
    // The generator may stumble over a combination that has no encoding.
    if plan.sequences {
        (0..4).find_map(|_| sequence::generate(forms, plan.mode, &mut random))
    } else {
        let code = forms[(number % forms.len() as u64) as usize];
        let program = (0..4).find_map(|_| form::generate(code, plan.mode, &mut random))?;
        Some((vec![code], program))
    }
}

/// Runs cases of a plan.
pub struct Runner<'a> {
    /// Whose outcome is right.
    pub reference: &'a mut dyn Oracle,
    /// Whose outcome is looked at.
    pub subject: &'a mut dyn Oracle,
    /// The seed of all cases.
    pub seed: u64,
    /// The plan.
    pub plan: Plan,
}

impl Runner<'_> {
    /// Runs the cases numbered `range`; case n is the same in every run of the same seed.
    pub fn run(&mut self, range: Range<u64>) -> Report {
        let mut report = Report::default();
        let (forms, not_built) = buildable(&self.plan);
        report.not_built = not_built;
        self.extend(range, &forms, &mut report);
        report
    }

    /// Runs more cases, of forms from `buildable`, and adds them to `report`.
    pub fn extend(&mut self, range: Range<u64>, forms: &[Code], report: &mut Report) {
        report.forms = forms.len();
        let mut next = range.start;
        while next < range.end && !forms.is_empty() {
            let end = range.end.min(next + BATCH);
            let cases: Vec<GeneratedCase> =
                (next..end).filter_map(|number| generate(&self.plan, forms, self.seed, number)).collect();
            self.batch(&cases, report);
            next = end;
        }
    }

    fn batch(&mut self, cases: &[GeneratedCase], report: &mut Report) {
        let programs: Vec<Program> = cases.iter().map(|(_, program)| program.clone()).collect();
        let references = self.reference.run(&programs);
        let subjects = self.subject.run(&programs);
        for (((codes, program), reference), subject) in cases.iter().zip(references).zip(subjects) {
            let Some(reference) = reference else {
                report.not_run += 1;
                continue;
            };
            report.cases += 1;
            for &code in executed(codes, program, &reference) {
                *report.tried.entry(code).or_insert(0) += 1;
            }
            let verdict = subject.as_ref().map(|subject| judge(program, &reference, subject));
            if let Some(Verdict { undefined_flags, approximate, failures, .. }) = &verdict {
                report.approximate += u64::from(*approximate);
                if *undefined_flags != 0 && codes.len() == 1 {
                    let entry = report.undefined.entry(instruction_of(program).mnemonic()).or_default();
                    entry.0 |= undefined_flags;
                    entry.1 += 1;
                }
                if failures.is_empty() {
                    continue;
                }
                let subject = subject.as_ref();
                if let Some(known) =
                    subject.and_then(|it| self.reference.known(program, &reference, it, failures))
                {
                    known.into_iter().for_each(|entry| *report.known.entry(entry).or_insert(0) += 1);
                    continue;
                }
            }
            self.record(codes, program, reference, verdict, report);
        }
    }

    /// Counts a failure, and keeps it shrunk if there are few of its kind.
    fn record(
        &mut self,
        codes: &[Code],
        program: &Program,
        reference: Outcome,
        verdict: Option<Verdict>,
        report: &mut Report,
    ) {
        let mut program = program.clone();
        let mut code = codes[codes.len() - 1];
        let mut differences = verdict.map(|verdict| verdict.failures).unwrap_or_default();
        if codes.len() > 1 && !differences.is_empty() {
            program = shrink_code(&program, &mut |candidate| {
                self.differing(candidate).is_some_and(|(_, differences)| !differences.is_empty())
            });
            code = instructions_of(&program).last().map_or(code, |last| last.code());
            differences = self.differing(&program).map_or(differences, |(_, differences)| differences);
        }
        let count = report.failed.entry(code).or_insert(0);
        *count += 1;
        if *count <= FAILURES_KEPT {
            let places = differences.iter().map(|d| d.place).collect();
            let failure = self.shrunk(code, &program, &places);
            let oracle = self.reference.name();
            let whole = Failure { code, program, reference, differences, oracle };
            report.failures.push(failure.unwrap_or(whole));
        }
    }

    /// The failing case made small, with differences in the same places.
    fn shrunk(&mut self, code: Code, program: &Program, places: &Vec<Place>) -> Option<Failure> {
        let small = shrink(program, &mut |candidate| {
            self.differing(candidate).is_some_and(|(_, differences)| {
                differences.iter().map(|d| d.place).collect::<Vec<_>>() == *places
            })
        });
        let (reference, differences) = self.differing(&small).filter(|(_, found)| !found.is_empty())?;
        Some(Failure { code, program: small, reference, differences, oracle: self.reference.name() })
    }

    fn differing(&mut self, program: &Program) -> Option<(Outcome, Vec<Difference>)> {
        let one = std::slice::from_ref(program);
        let reference = self.reference.run(one).pop()??;
        let subject = self.subject.run(one).pop()??;
        let mut failures = judge(program, &reference, &subject).failures;
        if self.reference.known(program, &reference, &subject, &failures).is_some() {
            failures.clear();
        }
        Some((reference, failures))
    }
}

/// The forms that the program came to: all up to the one that faulted.
fn executed<'a>(codes: &'a [Code], program: &Program, reference: &Outcome) -> &'a [Code] {
    if codes.len() == 1 || !reference.faulted() {
        return codes;
    }
    let instructions = instructions_of(program);
    // A waiting form is two instructions, so this may count one form too few.
    let done = instructions.iter().take_while(|instruction| instruction.ip() <= reference.state.rip).count();
    &codes[..done.min(codes.len())]
}
