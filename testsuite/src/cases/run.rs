//! Runs generated cases of a family on two oracles and counts what comes out.

use super::compare::{Difference, Place};
use super::family::Family;
use super::form::generate;
use super::known::{Verdict, instruction_of, judge};
use super::random::Random;
use super::shrink::shrink;
use super::text::print_case;
use crate::oracle::{Oracle, Outcome, Program};
use iced_x86::{Code, Mnemonic};
use std::collections::BTreeMap;

/// Cases that are run at once.
const BATCH: u64 = 128;
/// Failures that are kept for each form.
const FAILURES_KEPT: u32 = 2;

/// A case on which the oracles disagree.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The form.
    pub code: Code,
    /// The case, shrunk.
    pub program: Program,
    /// What the reference says.
    pub reference: Outcome,
    /// Where the other one differs.
    pub differences: Vec<Difference>,
}

impl Failure {
    /// The line for a cases file, with the differences before it as comments.
    pub fn text(&self) -> String {
        let differences: Vec<_> = self.differences.iter().map(Difference::to_string).collect();
        format!(
            "# {:?}: host / rx86: {}\n{}",
            self.code,
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
    /// Forms that were tried.
    pub forms: usize,
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
}

/// Runs cases of a family.
pub struct Runner<'a> {
    /// Whose outcome is right.
    pub reference: &'a mut dyn Oracle,
    /// Whose outcome is looked at.
    pub subject: &'a mut dyn Oracle,
    /// The seed of all cases.
    pub seed: u64,
    /// The family.
    pub family: Family,
}

impl Runner<'_> {
    /// Runs the cases numbered `range`; case n is the same in every run of the same seed. `progress` is told the number
    /// of the next case after each batch.
    pub fn run(&mut self, range: std::ops::Range<u64>, progress: &mut dyn FnMut(u64, &Report)) -> Report {
        let mut report = Report::default();
        let forms = self.buildable(&mut report);
        report.forms = forms.len();
        let mut next = range.start;
        while next < range.end && !forms.is_empty() {
            let end = range.end.min(next + BATCH);
            let cases: Vec<(Code, Program)> =
                (next..end).filter_map(|number| self.case(&forms, number)).collect();
            self.batch(&cases, &mut report);
            next = end;
            progress(next, &report);
        }
        report
    }

    fn buildable(&self, report: &mut Report) -> Vec<Code> {
        let (built, not_built) = self
            .family
            .forms()
            .into_iter()
            .partition(|&code| (0..20).any(|seed| generate(code, &mut Random::new(seed)).is_some()));
        report.not_built = not_built;
        built
    }

    fn case(&self, forms: &[Code], number: u64) -> Option<(Code, Program)> {
        let code = forms[(number % forms.len() as u64) as usize];
        let mut random = Random::new(Random::new(self.seed).bits() ^ Random::new(number).bits());
        // The generator may stumble over a combination that has no encoding.
        (0..4).find_map(|_| generate(code, &mut random)).map(|program| (code, program))
    }

    fn batch(&mut self, cases: &[(Code, Program)], report: &mut Report) {
        let programs: Vec<Program> = cases.iter().map(|(_, program)| program.clone()).collect();
        let references = self.reference.run(&programs);
        let subjects = self.subject.run(&programs);
        for (((code, program), reference), subject) in cases.iter().zip(references).zip(subjects) {
            let Some(reference) = reference else {
                report.not_run += 1;
                continue;
            };
            report.cases += 1;
            let verdict = subject.as_ref().map(|subject| judge(program, &reference, subject));
            if let Some(Verdict { undefined_flags, approximate, failures, .. }) = &verdict {
                report.approximate += u64::from(*approximate);
                if *undefined_flags != 0 {
                    let entry = report.undefined.entry(instruction_of(program).mnemonic()).or_default();
                    entry.0 |= undefined_flags;
                    entry.1 += 1;
                }
                if failures.is_empty() {
                    continue;
                }
            }
            let count = report.failed.entry(*code).or_insert(0);
            *count += 1;
            if *count <= FAILURES_KEPT {
                let places = verdict.iter().flat_map(|verdict| &verdict.failures).map(|d| d.place).collect();
                let failure = self.shrunk(*code, program, &places);
                report.failures.push(failure.unwrap_or_else(|| Failure {
                    code: *code,
                    program: program.clone(),
                    reference,
                    differences: verdict.map(|verdict| verdict.failures).unwrap_or_default(),
                }));
            }
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
        Some(Failure { code, program: small, reference, differences })
    }

    fn differing(&mut self, program: &Program) -> Option<(Outcome, Vec<Difference>)> {
        let one = std::slice::from_ref(program);
        let reference = self.reference.run(one).pop()??;
        let subject = self.subject.run(one).pop()??;
        let failures = judge(program, &reference, &subject).failures;
        Some((reference, failures))
    }
}
