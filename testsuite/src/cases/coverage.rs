//! Which forms of the decode table were tried, family by family, and which never.

use super::family::{Family, family_in, implemented, shape_of};
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

    /// For each family how many of all forms that rx86 implements were tried, and the others by name.
    pub fn text(&self, mode: Mode, families: &[Family]) -> String {
        let mut text = String::new();
        let all = implemented(mode);
        let tried = |code: &Code| self.tried.get(&mode).is_some_and(|tried| tried.contains(code));
        for &family in families {
            let forms: Vec<Code> =
                all.iter().copied().filter(|&code| shape_of(code, mode) == Some(family)).collect();
            let (done, never): (Vec<Code>, Vec<Code>) = forms.iter().partition(|code| tried(code));
            let (bits, name) = (mode.bits(), family.name());
            let _ = writeln!(text, "# {bits}-bit {name}: {} of {} forms tried", done.len(), forms.len());
            let (here, elsewhere) = never.into_iter().partition(|&code| family_in(code, mode).is_some());
            list(&mut text, "never tried", here);
            list(&mut text, "not on this host", elsewhere);
        }
        let system: Vec<Code> = all.into_iter().filter(|&code| shape_of(code, mode).is_none()).collect();
        let _ = writeln!(
            text,
            "# {}-bit: {} forms are not for user programs on a host",
            mode.bits(),
            system.len()
        );
        list(&mut text, "privileged, far, input and output, or different on every machine", system);
        text
    }
}

/// Names with a heading, in lines of `WIDTH`.
fn list(text: &mut String, heading: &str, codes: Vec<Code>) {
    if codes.is_empty() {
        return;
    }
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
        let text = coverage.text(Mode::Bits64, &[Family::Branch]);
        let heading = format!("64-bit branch: {} of {} forms tried", forms.len() - 1, forms.len());
        assert!(text.contains(&heading), "{text}");
        assert!(text.contains(&format!("never tried: {:?}", forms[0])), "{text}");
        assert!(text.contains("Wrmsr"), "{text}");
    }
}
