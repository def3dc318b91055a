//! Which forms of the decode table were tried, family by family, and why the others were not.

use super::family::{Family, implemented, shape_of};
use super::untried;
use crate::oracle::Mode;
use iced_x86::Code;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The width of printed lists.
const WIDTH: usize = 118;

/// Forms that were executed, by mode.
#[derive(Debug, Default)]
pub struct Coverage {
    tried: BTreeMap<Mode, BTreeSet<Code>>,
}

impl Coverage {
    /// Adds the forms of a run.
    pub fn add(&mut self, mode: Mode, tried: &BTreeMap<Code, u64>) {
        self.tried.entry(mode).or_default().extend(tried.keys());
    }

    /// For each family how many of all forms that rx86 implements were tried, and all the others by name, each with why not. `has`
    /// says which forms the oracle has.
    pub fn text(&self, mode: Mode, families: &[Family], has: &dyn Fn(Code) -> bool) -> String {
        let mut text = String::new();
        let (all, bits) = (implemented(mode), mode.bits());
        let tried = |code: &Code| self.tried.get(&mode).is_some_and(|tried| tried.contains(code));
        let (mut done, mut never) = (0, Vec::new());
        for &family in families {
            let of_family = |code: &&Code| shape_of(**code, mode) == Some(family);
            let (here, others): (Vec<Code>, Vec<Code>) =
                all.iter().filter(of_family).partition(|code| tried(code));
            let (count, name) = (here.len(), family.name());
            let _ = writeln!(text, "# {bits}-bit {name}: {count} of {} forms tried", count + others.len());
            done += count;
            never.extend(others);
        }
        let system = all.iter().copied().filter(|&code| shape_of(code, mode).is_none());
        never.extend(system);
        let _ = writeln!(
            text,
            "# {bits}-bit: {done} of {} forms tried; the other {}, by reasons:",
            done + never.len(),
            never.len()
        );
        let mut reasons: BTreeMap<String, Vec<Code>> = BTreeMap::new();
        for code in never {
            reasons.entry(untried::reason(code, mode, has)).or_default().push(code);
        }
        for (reason, codes) in reasons {
            list(&mut text, &format!("{}: {reason}", codes.len()), codes);
        }
        text
    }
}

/// Names with a heading, in lines of `WIDTH`.
fn list(text: &mut String, heading: &str, codes: Vec<Code>) {
    let mut line = format!("#   {heading}:");
    for code in codes {
        let name = format!("{code:?}");
        if line.len() + 1 + name.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = "#    ".to_string();
        }
        line.push(' ');
        line.push_str(&name);
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_tried_is_named() {
        let mut coverage = Coverage::default();
        let forms = Family::Branch.forms();
        coverage.add(Mode::Bits64, &forms[1..].iter().map(|&code| (code, 1)).collect());
        let text = coverage.text(Mode::Bits64, &[Family::Branch], &|_| true);
        let heading = format!("64-bit branch: {} of {} forms tried", forms.len() - 1, forms.len());
        assert!(text.contains(&heading), "{text}");
        assert!(text.contains(&format!("1: {}: {:?}", untried::NOT_DRAWN, forms[0])), "{text}");
        assert!(text.contains("Wrmsr"), "{text}");
    }
}
