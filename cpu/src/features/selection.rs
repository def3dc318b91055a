//! What `--cpu` takes: a model's name and features to add and to leave out, `MODEL,+feature,-feature`.

use super::models::{MODELS, ModelRow, missing, without_orphans};
use super::names::{is_unimplemented, near};
use super::{CpuModel, FEATURES, Feature};
use std::fmt::{self, Write};

/// A model as the user put it together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The model.
    pub model: CpuModel,
    /// What the user should know: features that were dropped with others, a host that is no x86.
    pub notes: Vec<String>,
}

/// Why no model could be made of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectionError {
    /// No model has this name; these look like it.
    UnknownModel(String, Vec<String>),
    /// No feature has this name; these look like it.
    UnknownFeature(String, Vec<String>),
    /// Processors have this feature, but rx86 does not.
    NotImplemented(String),
    /// A feature stands without `+` or `-`.
    NoSign(String),
    /// A feature that was asked for needs others that the model lacks.
    Needs(Feature, Vec<Feature>),
    /// A feature was asked for and refused.
    Both(Feature),
}

fn list(features: &[Feature], sign: &str) -> String {
    features.iter().map(|feature| format!("{sign}{}", feature.name())).collect::<Vec<_>>().join(",")
}

impl fmt::Display for SelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = |near: &[String]| match near {
            [] => "`--cpu help` lists them".to_string(),
            near => format!("did you mean {}? `--cpu help` lists them", near.join(" or ")),
        };
        match self {
            Self::UnknownModel(name, near) => write!(f, "there is no model '{name}'; {}", hint(near)),
            Self::UnknownFeature(name, near) => write!(f, "there is no feature '{name}'; {}", hint(near)),
            Self::NotImplemented(name) => write!(f, "rx86 does not implement the feature '{name}'"),
            Self::NoSign(name) => write!(f, "write +{name} or -{name}, or the model first: max,+{name}"),
            Self::Needs(feature, needed) => {
                let (name, needed) = (feature.name(), list(needed, "+"));
                write!(f, "{name} needs what this model lacks; add {needed} as well")
            }
            Self::Both(feature) => write!(f, "{} is both added and left out", feature.name()),
        }
    }
}

impl std::error::Error for SelectionError {}

impl Selection {
    /// Parses `MODEL,+feature,-feature`; without a model it is `max`.
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty()).peekable();
        let named = parts.next_if(|part| !part.starts_with(['+', '-']));
        let row = model_row(named.unwrap_or("max"))?;
        let (mut model, mut notes) = row.model();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for part in parts {
            if let Some(name) = part.strip_prefix('+') {
                added.push(feature(name)?);
            } else if let Some(name) = part.strip_prefix('-') {
                removed.push(feature(name)?);
            } else {
                return Err(SelectionError::NoSign(part.to_string()));
            }
        }
        if let Some(&both) = added.iter().find(|feature| removed.contains(feature)) {
            return Err(SelectionError::Both(both));
        }
        let wanted = added.iter().fold(model.features, |set, &feature| set.with(feature));
        let wanted = removed.iter().fold(wanted, |set, &feature| set.without(feature));
        model.features = without_orphans(wanted);
        for &feature in &added {
            if !model.has(feature) {
                return Err(SelectionError::Needs(feature, missing_deep(feature, wanted)));
            }
        }
        let dropped: Vec<Feature> = FEATURES
            .iter()
            .map(|row| row.feature)
            .filter(|&feature| wanted.has(feature) && !model.has(feature))
            .collect();
        if !dropped.is_empty() {
            notes.push(format!("left out with {}: {}", list(&removed, ""), list(&dropped, "")));
        }
        Ok(Self { model, notes })
    }
}

/// All that `feature` lacks in `features`, and what those lack in turn.
fn missing_deep(feature: Feature, features: super::FeatureSet) -> Vec<Feature> {
    let (mut seen, mut next) = (vec![feature], 0);
    while let Some(&feature) = seen.get(next) {
        next += 1;
        // What is there already may lack something itself.
        for needed in missing(feature, super::FeatureSet::default()) {
            if !seen.contains(&needed) {
                seen.push(needed);
            }
        }
    }
    seen.retain(|&feature| !features.has(feature));
    seen.retain(|&needed| needed != feature);
    seen
}

fn model_row(name: &str) -> Result<&'static ModelRow, SelectionError> {
    ModelRow::from_name(name).ok_or_else(|| {
        let near = near(name, MODELS.iter().map(|row| row.name));
        SelectionError::UnknownModel(name.to_string(), near.iter().map(|name| name.to_string()).collect())
    })
}

fn feature(name: &str) -> Result<Feature, SelectionError> {
    if let Some(feature) = Feature::from_name(name) {
        return Ok(feature);
    }
    if is_unimplemented(name) {
        return Err(SelectionError::NotImplemented(name.to_string()));
    }
    let names: Vec<String> = FEATURES.iter().map(|row| row.feature.name()).collect();
    let near = near(name, names.iter().map(String::as_str)).into_iter().map(str::to_string).collect();
    Err(SelectionError::UnknownFeature(name.to_string(), near))
}

/// The text of `--cpu help`: the models, and all features.
pub fn help() -> String {
    let mut text = String::from("Models:\n");
    for row in MODELS {
        let _ = writeln!(text, "  {:<12} {}", row.name, row.summary);
    }
    text.push_str("\nFeatures, added by MODEL,+NAME and left out by MODEL,-NAME:\n");
    let mut line = String::from(" ");
    for name in FEATURES.iter().map(|row| row.feature.name()) {
        if line.len() + 1 + name.len() > 78 {
            let _ = writeln!(text, "{line}");
            line = String::from(" ");
        }
        let _ = write!(line, " {name}");
    }
    let _ = writeln!(text, "{line}");
    text.push_str("\nExample: --cpu x86-64-v3,+rdrand,-movbe\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> CpuModel {
        Selection::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).model
    }

    #[test]
    fn models_with_changes() {
        assert_eq!(model("max"), CpuModel::max());
        assert_eq!(model(""), CpuModel::max());
        assert!(!model("-rdrand").has(Feature::Rdrand));
        let changed = model("qemu64,+ssse3,+rdrand,-lahf_lm");
        assert!(changed.has(Feature::Ssse3) && changed.has(Feature::Rdrand) && !changed.has(Feature::Lahf64));
        assert_eq!(changed.name, "qemu64");
        assert!(model("x86-64-v2, +sse4.2").has(Feature::Sse42));
        assert!(model("max,+monitor").has(Feature::Monitor));
    }

    #[test]
    fn what_needs_the_missing_is_dropped_with_it() {
        let selection = Selection::parse("max,-xsave").expect("a model");
        for feature in [Feature::Xsaveopt, Feature::Xsavec, Feature::Xsaves, Feature::Pku] {
            assert!(!selection.model.has(feature), "{feature:?}");
        }
        assert_eq!(selection.notes.len(), 1);
        assert!(selection.notes[0].contains("xsaves") && selection.notes[0].contains("with xsave:"));
    }

    #[test]
    fn errors_name_what_is_wrong_in_one_line() {
        let cases: [(&str, &[&str]); 9] = [
            ("x86-64-v5", &["model 'x86-64-v5'", "x86-64-v2"]),
            ("pentium", &["model 'pentium'", "--cpu help"]),
            ("max,+rdrnd", &["feature 'rdrnd'", "rdrand"]),
            ("max,-flux", &["feature 'flux'"]),
            ("max,+avx512f", &["does not implement", "avx512f"]),
            ("max,aes", &["+aes or -aes"]),
            ("qemu64,+sse4_2", &["sse4_2 needs", "+sse4_1", "+ssse3"]),
            ("max,+xsavec,-xsave", &["xsavec needs", "+xsave"]),
            ("max,+aes,-aes", &["both"]),
        ];
        for (text, parts) in cases {
            let line = Selection::parse(text).expect_err(text).to_string();
            assert!(!line.contains('\n'), "{line}");
            for part in parts {
                assert!(line.contains(part), "{text}: {line}");
            }
        }
    }

    #[test]
    fn help_lists_everything() {
        let text = help();
        for name in
            MODELS.iter().map(|row| row.name.to_string()).chain(FEATURES.iter().map(|r| r.feature.name()))
        {
            assert!(text.split_whitespace().any(|word| word == name), "{name}");
        }
        assert!(text.lines().all(|line| line.len() <= 80));
    }
}
