//! The table of the methods' constants. A row says what a constant's option is called, what it means to each method and
//! where it is kept. Options with their help, the values of `--sweep`, presets, lists and manifests are made from it.
//! Defaults are not here: they are those of the types in `settings.rs` and [`crate::maps`] that hold the constants.

use serde::{Serialize, Serializer};
use serde_json::{Map as Fields, Value, json};

use super::settings::{Disparity, Dynamic, FusionOptions, Graph, Method, Pyramid, Reprojection, Settings};
use crate::maps::consistency::DynamicThresholds;
use crate::{Error, Result};
use Slot::{Count, Fraction, Positive, Switch};

/// A row of the table.
pub struct Constant {
    /// The name of its option.
    pub name: &'static str,
    /// What stands for its value in help texts: a unit, or what kind of number it is.
    pub value: &'static str,
    meanings: &'static [Meaning],
}

/// What a constant means to one method, or to all, and where it is kept.
enum Meaning {
    All(&'static str, fn(&mut Settings) -> Slot<'_>),
    /// To the method pyramid, too, which ends in a reprojection.
    Reprojection(&'static str, fn(&mut Reprojection) -> Slot<'_>),
    Pyramid(&'static str, fn(&mut Pyramid) -> Slot<'_>),
    Dynamic(&'static str, fn(&mut Dynamic) -> Slot<'_>),
    Disparity(&'static str, fn(&mut Disparity) -> Slot<'_>),
    Graph(&'static str, fn(&mut Graph) -> Slot<'_>),
}

/// Where a constant is kept, and so what it can be.
enum Slot<'a> {
    /// A number from 0 to 1.
    Fraction(&'a mut f64),
    /// A number above 0.
    Positive(&'a mut f64),
    /// A whole number from the first to the last.
    Count(&'a mut usize, usize, usize),
    /// On or off.
    Switch(&'a mut bool),
}

/// No upper limit.
const ANY: usize = usize::MAX;

/// All constants, in the order of help texts.
#[rustfmt::skip]
pub static CONSTANTS: [Constant; 21] = [
    constant("min-confidence", "0..1", &[
        Meaning::All("Pixels are used only above this confidence", |s| Fraction(&mut s.fusion.min_confidence)),
    ]),
    constant("check-sources", "N", &[
        Meaning::All("Source views that a pixel is checked against, the best ones first",
            |s| Count(&mut s.check_sources, 1, ANY)),
    ]),
    constant("max-reprojection-px", "PX", &[
        Meaning::Reprojection("a source view agrees with a pixel if the pixel, sent to the source and back with the \
            depth found there, moves by less than this many map pixels",
            |m| Positive(&mut m.thresholds.max_reprojection_px)),
        Meaning::Graph("the seed falls at most this many map pixels from a pixel that joins it",
            |m| Positive(&mut m.max_reprojection_px)),
    ]),
    constant("max-depth-error-rel", "FRACTION", &[
        Meaning::Reprojection("... and its depth changes by less than this fraction (0.01 is 1 %)",
            |m| Positive(&mut m.thresholds.max_depth_error_rel)),
        Meaning::Graph("... at a depth that differs by at most this fraction",
            |m| Positive(&mut m.max_depth_error_rel)),
    ]),
    constant("min-views", "N", &[
        Meaning::Reprojection("source views that must agree on a pixel; all where a view has fewer",
            |m| Count(&mut m.thresholds.min_views, 1, ANY)),
        Meaning::Disparity("the same, however few a view has", |m| Count(&mut m.min_views, 1, ANY)),
        Meaning::Dynamic("the least number that may do",
            |m| Count(&mut m.thresholds.min_views, 1, DynamicThresholds::MOST_VIEWS)),
    ]),
    constant("keep-duplicates", "BOOL", &[
        Meaning::Reprojection("also write the pixels of later views that an accepted point has already explained",
            |m| Switch(&mut m.keep_duplicates)),
        Meaning::Dynamic("the same", |m| Switch(&mut m.keep_duplicates)),
    ]),
    constant("levels", "K", &[
        Meaning::Pyramid("levels that are merged, from MAPS/levels/0 on", |m| Count(&mut m.levels, 1, 8)),
    ]),
    constant("trusted-confidence", "0..1", &[
        Meaning::Pyramid("a pixel of a coarser level may repair a finer one only above this confidence",
            |m| Fraction(&mut m.merge.trusted_confidence)),
    ]),
    constant("replaced-confidence", "0..1", &[
        Meaning::Pyramid("a pixel of a finer level is repaired only below this confidence",
            |m| Fraction(&mut m.merge.replaced_confidence)),
    ]),
    constant("coarse-reprojection-px", "PX", &[
        Meaning::Pyramid("--max-reprojection-px of a coarser pixel that may repair, in pixels of its own level",
            |m| Positive(&mut m.merge.thresholds.max_reprojection_px)),
    ]),
    constant("coarse-depth-error-rel", "FRACTION", &[
        Meaning::Pyramid("--max-depth-error-rel of a coarser pixel that may repair, a fraction",
            |m| Positive(&mut m.merge.thresholds.max_depth_error_rel)),
    ]),
    constant("coarse-min-views", "N", &[
        Meaning::Pyramid("--min-views of a coarser pixel that may repair",
            |m| Count(&mut m.merge.thresholds.min_views, 1, ANY)),
    ]),
    constant("doublings", "N", &[
        Meaning::Pyramid("how often merged maps are doubled in size before they are compared",
            |m| Count(&mut m.doublings, 0, 3)),
    ]),
    constant("reprojection-step-px", "PX", &[
        Meaning::Dynamic("i views agree if they bring a pixel back less than i times this many map pixels away ...",
            |m| Positive(&mut m.thresholds.reprojection_step_px)),
    ]),
    constant("depth-error-step-rel", "FRACTION", &[
        Meaning::Dynamic("... with a depth that changes by less than i times this fraction",
            |m| Positive(&mut m.thresholds.depth_error_step_rel)),
    ]),
    constant("max-views", "N", &[
        Meaning::Dynamic("the greatest i, within whose tolerance depths are averaged",
            |m| Count(&mut m.thresholds.max_views, 1, DynamicThresholds::MOST_VIEWS)),
    ]),
    constant("max-disparity-px", "PX", &[
        Meaning::Disparity("a source view agrees with a pixel if its depth and the pixel's, as disparities between \
            the two views, differ by less than this many map pixels",
            |m| Positive(&mut m.max_disparity_px)),
    ]),
    constant("max-normal-deg", "DEGREES", &[
        Meaning::Disparity("... and its normal is at most this many degrees from the pixel's; from 180 on normals \
            are not compared",
            |m| Positive(&mut m.max_normal_deg)),
        Meaning::Graph("the same", |m| Positive(&mut m.max_normal_deg)),
    ]),
    constant("min-pixels", "N", &[
        Meaning::Graph("pixels of all views that make a point", |m| Count(&mut m.min_pixels, 1, ANY)),
    ]),
    constant("max-pixels", "N", &[
        Meaning::Graph("pixels after which a point is complete", |m| Count(&mut m.max_pixels, 1, ANY)),
    ]),
    constant("max-traversal-depth", "N", &[
        Meaning::Graph("pixels in a row, each where the one before falls in the next view",
            |m| Count(&mut m.max_traversal_depth, 1, ANY)),
    ]),
];

const fn constant(name: &'static str, value: &'static str, meanings: &'static [Meaning]) -> Constant {
    Constant { name, value, meanings }
}

impl Constant {
    /// The constant of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CONSTANTS.iter().find(|constant| constant.name == name)
    }

    /// The names of the methods that have it.
    pub fn methods(&self) -> Vec<&'static str> {
        let has = |method: &Method| self.slot(&mut Settings::of(*method)).is_some();
        Method::all().iter().filter(|method| has(method)).map(Method::name).collect()
    }

    /// Whether it is on or off, not a number.
    pub fn is_switch(&self) -> bool {
        self.meanings.iter().flat_map(|meaning| meaning.of_each(|slot| matches!(slot, Switch(_)))).any(|(_, is)| is)
    }

    /// The help text of its option: what it means to which methods, what it can be, and its defaults.
    pub fn help(&self) -> String {
        self.meanings.iter().map(Meaning::help).collect::<Vec<_>>().join(". ")
    }

    /// Checks a value where the method is not known yet.
    ///
    /// # Errors
    /// What was expected, where no method takes the value.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let all = self.meanings.iter().flat_map(|meaning| meaning.of_each(|slot| slot.set(value)));
        let mut all: Vec<_> = all.map(|(_, set)| set).collect();
        let taken = all.iter().position(Result::is_ok).unwrap_or(0);
        all.swap_remove(taken)
    }

    fn slot<'a>(&self, settings: &'a mut Settings) -> Option<Slot<'a>> {
        let mut copy = *settings;
        self.meanings.iter().find(|meaning| meaning.slot(&mut copy).is_some())?.slot(settings)
    }
}

impl Meaning {
    /// Its place; `None` where the settings are another method's.
    fn slot<'a>(&self, settings: &'a mut Settings) -> Option<Slot<'a>> {
        if let Self::All(_, slot) = self {
            return Some(slot(settings));
        }
        Some(match (self, &mut settings.fusion.method) {
            (Self::Reprojection(_, slot), Method::Reprojection(m)) => slot(m),
            (Self::Reprojection(_, slot), Method::Pyramid(m)) => slot(&mut m.reprojection),
            (Self::Pyramid(_, slot), Method::Pyramid(m)) => slot(m),
            (Self::Dynamic(_, slot), Method::Dynamic(m)) => slot(m),
            (Self::Disparity(_, slot), Method::Disparity(m)) => slot(m),
            (Self::Graph(_, slot), Method::Graph(m)) => slot(m),
            _ => return None,
        })
    }

    /// Something of its place in the defaults of each method that has it, with the method's name.
    fn of_each<T>(&self, of: impl Fn(Slot) -> T) -> Vec<(&'static str, T)> {
        let all = Method::all().into_iter();
        all.filter_map(|method| Some((method.name(), of(self.slot(&mut Settings::of(method))?)))).collect()
    }

    fn help(&self) -> String {
        let (Self::All(text, _)
        | Self::Reprojection(text, _)
        | Self::Pyramid(text, _)
        | Self::Dynamic(text, _)
        | Self::Disparity(text, _)
        | Self::Graph(text, _)) = self;
        let defaults = self.of_each(|slot| format!("{} [default: {}]", slot.limits(), slot.default_text()));
        let methods: Vec<&str> = defaults.iter().map(|(method, _)| *method).collect();
        let methods = if let Self::All(..) = self { String::new() } else { format!("{}: ", methods.join(", ")) };
        format!("{methods}{text}{}", defaults[0].1)
    }
}

impl Slot<'_> {
    /// Takes a value; what was expected where it is not one.
    fn set(self, text: &str) -> Result<(), String> {
        let number = || text.parse::<f64>().ok().filter(|n| n.is_finite());
        match self {
            Fraction(slot) => {
                *slot = number().filter(|n| (0.0..=1.0).contains(n)).ok_or("a number from 0 to 1")?;
            }
            Positive(slot) => *slot = number().filter(|&n| n > 0.0).ok_or("a number above 0")?,
            Count(slot, least, most) => {
                let fits = text.parse().ok().filter(|n| (least..=most).contains(n));
                *slot = fits.ok_or_else(|| match most {
                    ANY => format!("a whole number, {least} or more"),
                    _ => format!("a whole number from {least} to {most}"),
                })?;
            }
            Switch(slot) => *slot = text.parse().map_err(|_| "true or false")?,
        }
        Ok(())
    }

    /// What its values lie between, for help texts that do not say it.
    fn limits(&self) -> String {
        match self {
            Fraction(_) => " (0 to 1)".into(),
            Count(_, least, most) if *most < ANY => format!(" ({least} to {most})"),
            Switch(_) => " (true or false)".into(),
            Positive(_) | Count(..) => String::new(),
        }
    }

    /// Its value, for people; text holds numbers exactly.
    fn shown(&self) -> String {
        match self {
            Fraction(value) | Positive(value) => value.to_string(),
            Count(value, ..) => value.to_string(),
            Switch(value) => value.to_string(),
        }
    }

    /// Its value in a help text, where a long number is better told as what it is one part of.
    fn default_text(&self) -> String {
        match self {
            Positive(value) if **value < 0.001 => format!("1/{:.0}, about {value:.5}", 1.0 / **value),
            _ => self.shown(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Fraction(value) | Positive(value) => json!(value),
            Count(value, ..) => json!(value),
            Switch(value) => json!(value),
        }
    }
}

impl Settings {
    /// Gives a constant a value, by the name of its option. `Ok(false)` where the method has no such constant.
    ///
    /// # Errors
    /// What was expected, where the value is not one of the constant's.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match Constant::named(name).and_then(|constant| constant.slot(self)) {
            Some(slot) => slot.set(value).map(|()| true),
            None => Ok(false),
        }
    }

    /// The names of the method's constants with their values.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        self.of_each(|slot| slot.shown())
    }

    /// The method and all its constants, for manifests; in names `_` stands for `-`.
    pub fn fields(&self) -> Fields<String, Value> {
        let constants =
            self.of_each(|slot| slot.json()).into_iter().map(|(name, value)| (name.replace('-', "_"), value));
        std::iter::once(("method".to_owned(), self.fusion.method.name().into())).chain(constants).collect()
    }

    fn of_each<T>(&self, of: impl Fn(&Slot) -> T) -> Vec<(&'static str, T)> {
        let mut own = *self;
        CONSTANTS.iter().filter_map(|constant| Some((constant.name, of(&constant.slot(&mut own)?)))).collect()
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields().serialize(serializer)
    }
}

/// As [`Settings`], without what they say beside.
impl Serialize for FusionOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = Settings { fusion: *self, ..Settings::default() }.fields();
        serializer.collect_map(all.iter().filter(|(name, _)| *name != "check_sources"))
    }
}

/// As [`Settings`], without what they say beside.
impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = Settings::of(*self).fields();
        let beside = ["check_sources", "min_confidence"];
        serializer.collect_map(all.iter().filter(|(name, _)| !beside.contains(&name.as_str())))
    }
}

/// Back from [`Settings::fields`]. What is missing has the method's default; other fields, such as those of a manifest
/// around them, are passed over.
impl TryFrom<Fields<String, Value>> for Settings {
    type Error = Error;

    fn try_from(fields: Fields<String, Value>) -> Result<Self> {
        let method = fields.get("method").and_then(Value::as_str).unwrap_or_default();
        let mut settings = Self::of(Method::named(method)?);
        for (name, value) in &fields {
            let set = settings.set(&name.replace('_', "-"), &value.to_string());
            set.map_err(|expected| Error::input(name.clone(), value.to_string(), expected))?;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_set_by_their_names_and_checked() {
        for method in Method::all() {
            let (name, mut settings) = (method.name(), Settings::of(method));
            let before = settings.values();
            // Setting every constant to what it is changes nothing; no name is there twice.
            for (constant, value) in &before {
                assert_eq!(settings.set(constant, value), Ok(true), "{name} {constant} {value}");
                assert_eq!(before.iter().filter(|(other, _)| other == constant).count(), 1);
            }
            assert_eq!(settings, Settings::of(method));
            assert_eq!(settings.fields().len(), before.len() + 1);
            for bad in ["", "x", "nan", "inf", "-1"] {
                for (constant, _) in &before {
                    assert!(settings.set(constant, bad).is_err(), "{name} {constant} {bad:?}");
                    assert!(Constant::named(constant).unwrap().check(bad).is_err(), "{constant} {bad:?}");
                }
            }
            assert_eq!(settings.set("colour", "1"), Ok(false));
            // What was written down is read back, whatever lies beside it.
            settings.check_sources = 7;
            let mut written = serde_json::to_value(settings).unwrap();
            written["colour"] = "blue".into();
            assert_eq!(serde_json::from_value::<Settings>(written).unwrap(), settings);
        }
        let mut settings = Settings::default();
        assert_eq!(settings.set("min-confidence", "1.5"), Err("a number from 0 to 1".into()));
        assert_eq!(settings.set("min-views", "0"), Err("a whole number, 1 or more".into()));
        assert_eq!(settings.set("max-disparity-px", "1"), Ok(false));
        assert_eq!(settings.set("keep-duplicates", "true"), Ok(true));
        assert!(matches!(settings.fusion.method, Method::Reprojection(m) if m.keep_duplicates));
        assert_eq!(Constant::named("max-normal-deg").unwrap().methods(), ["disparity", "graph"]);
        assert!(Constant::named("colour").is_none());
    }

    #[test]
    fn help_texts_tell_methods_limits_and_defaults() {
        let help = |name: &str| Constant::named(name).unwrap().help();
        assert_eq!(help("min-confidence"), "Pixels are used only above this confidence (0 to 1) [default: 0.8]");
        assert_eq!(
            help("min-views"),
            "reprojection, pyramid: source views that must agree on a pixel; all where a view has fewer [default: 3]. \
             disparity: the same, however few a view has [default: 3]. dynamic: the least number that may do (1 to 16) \
             [default: 2]"
        );
        assert!(help("depth-error-step-rel").ends_with("fraction [default: 1/1300, about 0.00077]"));
    }

    #[test]
    fn options_are_written_flat() {
        let written = serde_json::to_string(&FusionOptions { min_confidence: 0.5, method: Method::all()[3] }).unwrap();
        let expected = r#"{"method":"disparity","min_confidence":0.5,"min_views":3,"max_disparity_px":0.25,"#;
        assert_eq!(written, format!("{expected}{}", r#""max_normal_deg":180.0}"#));
        let written = serde_json::to_value(Method::all()[4]).unwrap();
        assert_eq!((&written["method"], &written["min_pixels"]), (&json!("graph"), &json!(5)));
        assert!(written.get("min_confidence").is_none());
    }
}
