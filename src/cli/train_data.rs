//! What `engine train --data` and `--validation` name: kinds of data, where they lie, and how often they are drawn.

use std::path::PathBuf;

/// What `--data` names.
#[derive(Clone, Debug, PartialEq)]
pub enum DataKind {
    Synth,
    Dtu(PathBuf),
    Scenes(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct DataSpec {
    pub kind: DataKind,
    /// Against the others'.
    pub weight: f64,
    /// As it was typed.
    pub typed: String,
}

/// `synth`, `dtu:DIR@3`.
pub fn data(text: &str) -> Result<DataSpec, String> {
    // A folder's name may hold an @; what follows the last one counts only if it is a number.
    let weighted = text.rsplit_once('@').and_then(|(what, w)| Some((what, w.parse::<f64>().ok()?)));
    let (what, weight) = weighted.unwrap_or((text, 1.0));
    if !(weight > 0.0 && weight.is_finite()) {
        return Err(format!("a weight of {weight}; expected a number above 0"));
    }
    let kind = match what.split_once(':') {
        None if what == "synth" => DataKind::Synth,
        Some(("dtu", folder)) if !folder.is_empty() => DataKind::Dtu(folder.into()),
        Some(("scenes", folder)) if !folder.is_empty() => DataKind::Scenes(folder.into()),
        _ => return Err("expected synth, dtu:DIR or scenes:DIR, and perhaps @WEIGHT after it".into()),
    };
    Ok(DataSpec { kind, weight, typed: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_folders_and_weights_are_told_apart() {
        let spec = |kind, weight, typed: &str| Ok(DataSpec { kind, weight, typed: typed.into() });
        assert_eq!(data("synth"), spec(DataKind::Synth, 1.0, "synth"));
        assert_eq!(data("dtu:a@3"), spec(DataKind::Dtu("a".into()), 3.0, "dtu:a@3"));
        assert_eq!(data("scenes:a@b"), spec(DataKind::Scenes("a@b".into()), 1.0, "scenes:a@b"));
        for bad in ["", "dtu", "dtu:", "synth:x", "other:x", "synth@0", "synth@-1", "synth@nan"] {
            assert!(data(bad).is_err(), "{bad}");
        }
    }
}
