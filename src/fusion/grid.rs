//! What was asked for on the command line, one setting or a grid of them, by the names of methods, presets and
//! constants.

use std::str::FromStr;

use super::constants::{CONSTANTS, Constant};
use super::presets::Preset;
use super::settings::{Method, Settings};
use crate::{Error, Result};

/// A constant's name, and its value as it was typed.
pub type Given = (String, String);

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The preset that it began from.
    pub preset: Option<&'static str>,
    /// All constants.
    pub settings: Settings,
    /// Its value on every axis of a grid; `-` where the method has no such constant.
    pub words: Vec<String>,
}

/// The setting of a method or preset (or the default method) with some constants of their own.
///
/// # Errors
/// A name that does not exist, a preset of another method, a constant that the method does not have, a value that is
/// none.
pub fn setting(method: Option<&str>, preset: Option<&str>, given: &[Given]) -> Result<Setting> {
    let mut begun = begin(method, preset)?;
    for (name, value) in given {
        if !set(&mut begun.settings, &format!("--{name}"), name, value)? {
            return Err(unused(&format!("--{name}"), name, begun.settings.fusion.method.name()));
        }
    }
    check(&begun.settings)?;
    Ok(begun)
}

/// A name with the values to try: of a constant, or methods or presets.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// A constant's name, `method` or `preset`.
    pub name: String,
    /// Its values as they were typed.
    pub values: Vec<String>,
}

impl FromStr for Axis {
    type Err = String;

    /// `min-views=2,3,4`; in names `_` stands for `-`, too.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a name and its values, such as min-views=2,3,4".to_owned();
        let (name, values) = text.split_once('=').ok_or_else(expected)?;
        let values: Vec<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
        if name.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err(expected());
        }
        Ok(Self { name: name.trim().replace('_', "-"), values })
    }
}

impl Axis {
    /// As it was typed, for messages.
    fn place(&self) -> String {
        format!("--sweep {}={}", self.name, self.values.join(","))
    }
}

/// All combinations of the axes' values, the last axis changing fastest. An axis `method` or `preset` chooses what the
/// others change; a constant that one method does not have is not varied for it, but some method must have it.
///
/// # Errors
/// As [`setting`]; an axis that is there twice or has no value; a method or preset on an axis and given besides.
pub fn grid(method: Option<&str>, preset: Option<&str>, given: &[Given], axes: &[Axis]) -> Result<Vec<Setting>> {
    for (at, axis) in axes.iter().enumerate() {
        let Axis { name, values } = axis;
        if axes[..at].iter().any(|other| other.name == *name) {
            return Err(Error::input(axis.place(), format!("{name} a second time"), "each name once"));
        }
        if let Some(twice) = values.iter().enumerate().find(|(i, v)| values[..*i].contains(v)) {
            return Err(Error::input(axis.place(), format!("{} twice", twice.1), "each value once"));
        }
    }
    let mut all = starts(method, preset, axes)?;
    expect_used(&all, given, axes)?;
    for start in &mut all {
        for (name, value) in given {
            set(&mut start.settings, &format!("--{name}"), name, value)?;
        }
    }
    for axis in axes {
        all = all.iter().map(|setting| setting.along(axis)).collect::<Result<Vec<_>>>()?.concat();
    }
    all.iter().try_for_each(|setting| check(&setting.settings))?;
    Ok(all)
}

/// What constants are varied of: the methods or presets of an axis, or the one that was given.
fn starts(method: Option<&str>, preset: Option<&str>, axes: &[Axis]) -> Result<Vec<Setting>> {
    let values = |wanted: &str| axes.iter().find(|axis| axis.name == wanted).map(|axis| &axis.values);
    let refused = |found: &str, expected: &str| Err(Error::input("--sweep", found, expected));
    match (values("method"), values("preset")) {
        (Some(_), Some(_)) => refused("both method and preset", "one of the two: a preset has its method"),
        (Some(_), None) | (None, Some(_)) if method.is_some() || preset.is_some() => {
            refused("methods or presets, and --method or --preset besides", "one of the two")
        }
        (Some(methods), None) => methods.iter().map(|name| begin(Some(name), None)).collect(),
        (None, Some(presets)) => presets.iter().map(|name| begin(None, Some(name))).collect(),
        (None, None) => Ok(vec![begin(method, preset)?]),
    }
}

/// Refuses constants that none of the methods has, or that are given and varied.
fn expect_used(starts: &[Setting], given: &[Given], axes: &[Axis]) -> Result<()> {
    let methods: Vec<&str> = starts.iter().map(|start| start.settings.fusion.method.name()).collect();
    let expect = |place: &str, name: &str| {
        let used = Constant::named(name).is_some_and(|c| c.methods().iter().any(|with| methods.contains(with)));
        if used { Ok(()) } else { Err(unused(place, name, &methods.join(", "))) }
    };
    for (name, _) in given {
        let place = format!("--{name}");
        expect(&place, name)?;
        if axes.iter().any(|axis| axis.name == *name) {
            return Err(Error::input(place, "a value, and values in --sweep besides", "one of the two"));
        }
    }
    let constants = axes.iter().filter(|axis| axis.name != "method" && axis.name != "preset");
    constants.into_iter().try_for_each(|axis| expect(&axis.place(), &axis.name))
}

impl Setting {
    /// It with each of the axis' values; once where they do not change it.
    fn along(&self, Axis { name, values }: &Axis) -> Result<Vec<Setting>> {
        let with_word = |settings: Settings, word: &str| {
            let words = [&self.words[..], &[word.to_owned()]].concat();
            Setting { settings, words, ..*self }
        };
        match name.as_str() {
            "method" => return Ok(vec![with_word(self.settings, self.settings.fusion.method.name())]),
            "preset" => return Ok(vec![with_word(self.settings, self.preset.unwrap_or("-"))]),
            _ => {}
        }
        let mut found = Vec::new();
        for value in values {
            let mut settings = self.settings;
            if !set(&mut settings, &format!("--sweep {name}"), name, value)? {
                return Ok(vec![with_word(settings, "-")]);
            }
            found.push(with_word(settings, value));
        }
        Ok(found)
    }
}

fn begin(method: Option<&str>, preset: Option<&str>) -> Result<Setting> {
    let preset = preset.map(Preset::named).transpose()?;
    let settings = match (method, preset) {
        (None, None) => Settings::default(),
        (Some(method), None) => Settings::of(Method::named(method)?),
        (Some(method), Some(preset)) if method != preset.method => {
            return Err(Error::input(
                format!("--preset {}", preset.name),
                format!("settings of the method {}", preset.method),
                format!("a preset of {method}, or no --method"),
            ));
        }
        (_, Some(preset)) => preset.settings()?,
    };
    Ok(Setting { preset: preset.map(|p| p.name), settings, words: Vec::new() })
}

fn set(settings: &mut Settings, place: &str, name: &str, value: &str) -> Result<bool> {
    settings.set(name, value).map_err(|expected| Error::input(place.to_owned(), format!("{value:?}"), expected))
}

fn unused(place: &str, name: &str, methods: &str) -> Error {
    let Some(constant) = Constant::named(name) else {
        let mut known = CONSTANTS.each_ref().map(|constant| constant.name);
        known.sort_unstable();
        let expected = format!("method, preset or a constant: {}", known.join(", "));
        return Error::input(place, format!("no constant {name}"), expected);
    };
    Error::input(
        place,
        format!("a constant that the method {methods} does not use"),
        format!("a constant of its own, or --method {}", constant.methods().join(" or ")),
    )
}

/// Constants that contradict each other.
fn check(settings: &Settings) -> Result<()> {
    match settings.fusion.method {
        Method::Dynamic(m) if m.thresholds.min_views > m.thresholds.max_views => Err(Error::input(
            "--min-views",
            format!("{}, more than --max-views {}", m.thresholds.min_views, m.thresholds.max_views),
            "at most as many",
        )),
        Method::Graph(m) if m.min_pixels > m.max_pixels => Err(Error::input(
            "--min-pixels",
            format!("{}, more than --max-pixels {}", m.min_pixels, m.max_pixels),
            "at most as many",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Vec<Given> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn axes(list: &[(&str, &[&str])]) -> Vec<Axis> {
        list.iter().map(|(name, values)| format!("{name}={}", values.join(",")).parse().unwrap()).collect()
    }

    #[test]
    fn axes_are_names_with_values() {
        let two = Axis { name: "min-views".into(), values: vec!["2".into(), "3".into()] };
        assert_eq!("min_views=2, 3".parse(), Ok(two));
        for bad in ["", "min-views", "min-views=", "=2", "min-views=2,,3"] {
            assert!(bad.parse::<Axis>().is_err(), "{bad}");
        }
    }

    #[test]
    fn given_constants_override_the_presets() {
        let found = setting(None, Some("colmap"), &given(&[("min-pixels", "3")])).unwrap();
        assert_eq!(found.preset, Some("colmap"));
        let Method::Graph(graph) = found.settings.fusion.method else { panic!("{found:?}") };
        assert_eq!((graph.min_pixels, graph.max_reprojection_px, found.settings.check_sources), (3, 2.0, 50));
        assert_eq!(setting(None, None, &[]).unwrap().settings, Settings::default());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let message =
            |method, preset, pairs: &[(&str, &str)]| setting(method, preset, &given(pairs)).unwrap_err().to_string();
        assert_eq!(
            message(Some("graph"), None, &[("min-views", "3")]),
            "--min-views: a constant that the method graph does not use; expected a constant of its own, or --method \
             reprojection or pyramid or dynamic or disparity"
        );
        assert_eq!(
            message(Some("graph"), Some("mvsnet"), &[]),
            "--preset mvsnet: settings of the method reprojection; expected a preset of graph, or no --method"
        );
        assert!(message(Some("graf"), None, &[]).starts_with("method graf: no such method; expected one of repro"));
        assert!(message(None, Some("x"), &[]).contains("casmvsnet"));
        let contradiction = message(Some("dynamic"), None, &[("min-views", "9"), ("max-views", "4")]);
        assert_eq!(contradiction, "--min-views: 9, more than --max-views 4; expected at most as many");
        assert!(message(Some("graph"), None, &[("max-pixels", "4")]).starts_with("--min-pixels: 5, more than"));
    }

    #[test]
    fn a_grid_has_every_combination_of_what_a_method_uses() {
        let list = axes(&[
            ("method", &["reprojection", "graph"]),
            ("min-views", &["2", "3"]),
            ("max-reprojection-px", &["1", "2"]),
        ]);
        let found = grid(None, None, &given(&[("min-confidence", "0.5")]), &list).unwrap();
        let words: Vec<String> = found.iter().map(|s| s.words.join(" ")).collect();
        let expected =
            ["reprojection 2 1", "reprojection 2 2", "reprojection 3 1", "reprojection 3 2", "graph - 1", "graph - 2"];
        assert_eq!(words, expected);
        assert!(found.iter().all(|s| s.settings.fusion.min_confidence == 0.5));
        let Method::Graph(graph) = found[5].settings.fusion.method else { panic!() };
        assert_eq!(graph.max_reprojection_px, 2.0);
    }

    #[test]
    fn a_grid_that_makes_no_sense_is_refused() {
        let refused = |method, pairs: &[(&str, &str)], list: &[(&str, &[&str])]| {
            grid(method, None, &given(pairs), &axes(list)).unwrap_err().to_string()
        };
        let cases = [
            (refused(None, &[], &[("min-views", &["2"]), ("min-views", &["3"])]), "min-views a second time"),
            (refused(None, &[], &[("min-views", &["2", "2"])]), "2 twice"),
            (refused(None, &[], &[("min-views", &["many"])]), "\"many\"; expected a whole number, 1 or more"),
            (refused(None, &[], &[("min-pixels", &["2"])]), "does not use"),
            (refused(None, &[], &[("colour", &["2"])]), "no constant colour; expected method, preset or"),
            (refused(Some("graph"), &[], &[("method", &["graph"])]), "one of the two"),
            (refused(None, &[], &[("method", &["graph"]), ("preset", &["colmap"])]), "both method and preset"),
            (refused(None, &[("min-views", "2")], &[("min-views", &["3"])]), "values in --sweep besides"),
            (refused(None, &[("min-pixels", "2")], &[("min-views", &["3"])]), "--min-pixels: a constant that"),
            (refused(Some("graph"), &[], &[("min-pixels", &["2", "20000"])]), "more than --max-pixels 10000"),
        ];
        for (message, part) in cases {
            assert!(message.contains(part), "{message}");
        }
    }
}
