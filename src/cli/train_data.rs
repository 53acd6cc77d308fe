//! What `engine train` trains on, as it is typed: `synth`, `dtu:DIR`, `scenes:DIR`, with a weight or without.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use engine::files::names::{self, in_json};

/// What `--data` names.
#[derive(Clone, Debug, PartialEq)]
pub enum DataKind {
    /// Scenes rendered on the fly.
    Synth,
    /// DTU's training set.
    Dtu(PathBuf),
    /// A scene with true depth, or a folder of such.
    Scenes(PathBuf),
}

/// One `--data`.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSpec {
    /// What.
    pub kind: DataKind,
    /// How much of it.
    pub weight: f64,
    /// As it was typed, for the run's record.
    pub typed: String,
}

/// Of [`DataSpec`].
pub fn parser() -> impl TypedValueParser<Value = DataSpec> {
    OsStringValueParser::new().try_map(data)
}

/// `synth`, `dtu:DIR@3`. The folder's name may hold any bytes.
fn data(typed: OsString) -> Result<DataSpec, String> {
    let typed = PathBuf::from(typed);
    let text = names::bytes(&typed);
    // A folder's name may hold an @; what follows the last one counts only if it is a number.
    let at = text.iter().rposition(|&byte| byte == b'@');
    let number = |at: usize| std::str::from_utf8(&text[at + 1..]).ok()?.parse::<f64>().ok();
    let (what, weight) = at.and_then(|at| Some((&text[..at], number(at)?))).unwrap_or((&text, 1.0));
    if !(weight > 0.0 && weight.is_finite()) {
        return Err(format!("a weight of {weight}; expected a number above 0"));
    }
    let folder = |kind: &[u8]| what.strip_prefix(kind).filter(|f| !f.is_empty()).map(|f| names::from_bytes(f.to_vec()));
    let kind = match (folder(b"dtu:"), folder(b"scenes:")) {
        _ if what == b"synth" => DataKind::Synth,
        (Some(folder), _) => DataKind::Dtu(folder),
        (_, Some(folder)) => DataKind::Scenes(folder),
        _ => return Err("expected synth, dtu:DIR or scenes:DIR, and perhaps @WEIGHT after it".into()),
    };
    Ok(DataSpec { kind, weight, typed: in_json(&typed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_may_hold_an_at_sign_and_any_bytes() {
        let kind = |text: &str| data(text.into()).map(|spec| (spec.kind, spec.weight));
        assert_eq!(kind("synth@2"), Ok((DataKind::Synth, 2.0)));
        assert_eq!(kind("dtu:a@b"), Ok((DataKind::Dtu("a@b".into()), 1.0)));
        assert_eq!(kind("scenes:a@b@0.5"), Ok((DataKind::Scenes("a@b".into()), 0.5)));
        for bad in ["", "synth:", "dtu:", "scenes", "synth@0", "dtu:a@inf"] {
            assert!(kind(bad).is_err(), "{bad}");
        }
        #[cfg(unix)]
        {
            let odd = names::from_bytes(b"scenes:/a\xff@3".to_vec());
            let spec = data(odd.into()).unwrap();
            assert_eq!(spec.kind, DataKind::Scenes(names::from_bytes(b"/a\xff".to_vec())));
            assert_eq!((spec.weight, spec.typed.as_str()), (3.0, "bytes:scenes%3A/a%FF%403"));
        }
    }
}
