//! What was asked for on the command line, one setting or a grid of them, by the names of methods, presets and
//! constants.

use super::presets::{PRESETS, Preset, preset};
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

/// All combinations of the axes' values, the last axis changing fastest. An axis `method` or `preset` chooses what the
/// others change; a constant that one method does not have is not varied for it, but some method must have it.
///
/// # Errors
/// As [`setting`]; an axis that is there twice or has no value; a method or preset on an axis and given besides.
pub fn grid(
    method: Option<&str>,
    preset: Option<&str>,
    given: &[Given],
    axes: &[(String, Vec<String>)],
) -> Result<Vec<Setting>> {
    for (at, (name, values)) in axes.iter().enumerate() {
        let place = format!("--sweep {name}={}", values.join(","));
        if axes[..at].iter().any(|(other, _)| other == name) {
            return Err(Error::input(place, format!("{name} a second time"), "each name once"));
        }
        if let Some(twice) = values.iter().enumerate().find(|(i, v)| values[..*i].contains(v)) {
            return Err(Error::input(place, format!("{} twice", twice.1), "each value once"));
        }
    }
    let axis = |wanted: &str| axes.iter().find(|(name, _)| name == wanted).map(|(_, values)| values);
    let mut begun = match (axis("method"), axis("preset")) {
        (Some(_), Some(_)) => {
            return Err(Error::input("--sweep", "both method and preset", "one of the two: a preset has its method"));
        }
        (Some(_), None) | (None, Some(_)) if method.is_some() || preset.is_some() => {
            return Err(Error::input(
                "--sweep",
                "methods or presets, and --method or --preset besides",
                "one of the two",
            ));
        }
        (Some(methods), None) => methods.iter().map(|name| begin(Some(name), None)).collect::<Result<Vec<_>>>()?,
        (None, Some(presets)) => presets.iter().map(|name| begin(None, Some(name))).collect::<Result<_>>()?,
        (None, None) => vec![begin(method, preset)?],
    };
    let methods = || begun.iter().map(|b| b.settings.fusion.method.name()).collect::<Vec<_>>().join(", ");
    let of_no_use = |place: &str, name: &str| {
        let used = |b: &Setting| b.settings.values().iter().any(|(constant, _)| *constant == name);
        if begun.iter().any(used) { Ok(()) } else { Err(unused(place, name, &methods())) }
    };
    for (name, _) in given {
        of_no_use(&format!("--{name}"), name)?;
        if axis(name).is_some() {
            return Err(Error::input(format!("--{name}"), "a value, and values in --sweep besides", "one of the two"));
        }
    }
    for (name, values) in axes.iter().filter(|(name, _)| name != "method" && name != "preset") {
        of_no_use(&format!("--sweep {name}={}", values.join(",")), name)?;
    }
    for begun in &mut begun {
        for (name, value) in given {
            set(&mut begun.settings, &format!("--{name}"), name, value)?;
        }
    }
    let mut all = begun;
    for (name, values) in axes {
        let mut more = Vec::new();
        for begun in all {
            let with_word = |settings: Settings, word: &str| {
                let mut words = begun.words.clone();
                words.push(word.to_owned());
                Setting { settings, words, ..begun }
            };
            match name.as_str() {
                "method" => more.push(with_word(begun.settings, begun.settings.fusion.method.name())),
                "preset" => more.push(with_word(begun.settings, begun.preset.unwrap_or("-"))),
                _ => {
                    for value in values {
                        let mut settings = begun.settings;
                        if !set(&mut settings, &format!("--sweep {name}"), name, value)? {
                            more.push(with_word(settings, "-"));
                            break;
                        }
                        more.push(with_word(settings, value));
                    }
                }
            }
        }
        all = more;
    }
    all.iter().try_for_each(|setting| check(&setting.settings))?;
    Ok(all)
}

fn begin(method: Option<&str>, name: Option<&str>) -> Result<Setting> {
    let chosen = match name {
        Some(name) => Some(preset(name).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
            Error::input(format!("preset {name}"), "no such preset", format!("one of {}", names.join(", ")))
        })?),
        None => None,
    };
    let settings = match (method, chosen) {
        (None, None) => Settings::default(),
        (Some(method), None) => Settings::of(Method::named(method).ok_or_else(|| {
            let names = Method::NAMES.join(", ");
            Error::input(format!("method {method}"), "no such method", format!("one of {names}"))
        })?),
        (None, Some(preset)) => preset.settings,
        (Some(method), Some(Preset { name, settings, .. })) => {
            let of_preset = settings.fusion.method.name();
            if method != of_preset {
                return Err(Error::input(
                    format!("--preset {name}"),
                    format!("settings of the method {of_preset}"),
                    format!("a preset of {method}, or no --method"),
                ));
            }
            *settings
        }
    };
    Ok(Setting { preset: chosen.map(|p| p.name), settings, words: Vec::new() })
}

fn set(settings: &mut Settings, place: &str, name: &str, value: &str) -> Result<bool> {
    settings.set(name, value).map_err(|expected| Error::input(place.to_owned(), format!("{value:?}"), expected))
}

fn unused(place: &str, name: &str, methods: &str) -> Error {
    let with = Settings::methods_with(name);
    if with.is_empty() {
        let mut known: Vec<&str> = Method::NAMES
            .iter()
            .filter_map(|method| Method::named(method))
            .flat_map(|method| Settings::of(method).values().into_iter().map(|(name, _)| name))
            .collect();
        known.sort_unstable();
        known.dedup();
        let expected = format!("method, preset or a constant: {}", known.join(", "));
        return Error::input(place, format!("no constant {name}"), expected);
    }
    Error::input(
        place,
        format!("a constant that the method {methods} does not use"),
        format!("a constant of its own, or --method {}", with.join(" or ")),
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

    fn axes(list: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        list.iter().map(|(n, v)| (n.to_string(), v.iter().map(|v| v.to_string()).collect())).collect()
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
