//! The table of the methods' constants. A row says what a constant's option is called, what it can be and what it means
//! to which methods. Options with their help, the values of `--sweep`, presets and lists are made from it. The
//! constants themselves with their defaults are fields of the types in `settings.rs`, found by their serialised names.

use serde_json::{Map as Fields, Value};

use super::settings::{Method, Settings};
use crate::maps::consistency::DynamicThresholds;
use Kind::{Count, Fraction, NotNegative, Positive, Switch};

/// A row of the table.
pub struct Constant {
    /// The name of its option; that of its field has `_` for `-`.
    pub name: &'static str,
    /// What stands for its value in help texts: a unit, or what kind of number it is.
    pub value: &'static str,
    meanings: &'static [Meaning],
}

/// Methods, what a constant can be, and its help text there.
type Meaning = (&'static str, Kind, &'static str);

/// What a constant can be.
#[derive(Clone, Copy)]
enum Kind {
    /// A number from 0 to 1.
    Fraction,
    /// A number above 0.
    Positive,
    /// A number above 0, or 0.
    NotNegative,
    /// A whole number from the first to the last.
    Count(usize, usize),
    /// On or off.
    Switch,
}

/// No upper limit.
const ANY: usize = usize::MAX;
/// The constant is every method's.
const ALL: &str = "";

/// All constants, in the order of help texts and lists.
#[rustfmt::skip]
pub static CONSTANTS: [Constant; 26] = [
    row("min-confidence", "0..1", &[(ALL, Fraction, "Use only pixels above this confidence")]),
    row("check-sources", "N", &[
        (ALL, Count(1, ANY), "Source views to check a pixel against, best first"),
    ]),
    row("max-reprojection-px", "PX", &[
        ("reprojection, pyramid", Positive, "a source view agrees with a pixel if the pixel, projected into the source \
            and back with the depth found there, moves by less than this many map pixels"),
        ("graph", Positive, "the seed falls at most this many map pixels from a pixel that joins it"),
    ]),
    row("max-depth-error-rel", "FRACTION", &[
        ("reprojection, pyramid", Positive, "... and its depth changes by less than this fraction (0.01 is 1 %)"),
        ("graph", Positive, "... at a depth that differs by at most this fraction"),
    ]),
    row("min-views", "N", &[
        ("reprojection, pyramid", Count(1, ANY), "source views that must agree on a pixel, or all if a view has fewer"),
        ("disparity", Count(1, ANY), "the same, however few a view has"),
        ("dynamic", Count(1, DynamicThresholds::MOST_VIEWS), "the least number that may do"),
    ]),
    row("keep-duplicates", "BOOL", &[
        ("reprojection, pyramid, dynamic", Switch, "keep pixels of later views even if an accepted point already \
            explains them"),
    ]),
    row("min-segment-px", "N", &[
        ("reprojection, pyramid", NotNegative, "drop surfaces that are connected in a map and have fewer pixels than \
            this in a map of a million pixels, half as many in one of a quarter million, and so on by the square \
            root; 0 drops none"),
    ]),
    row("min-angle-deg", "DEGREES", &[
        ("reprojection, pyramid", NotNegative, "a view confirms a point only if its ray meets those of the reference \
            and of the views already counted at this angle or more; 0 counts views wherever they stand"),
    ]),
    row("see-through-factor", "FACTOR", &[
        ("reprojection, pyramid", NotNegative, "a view sees through a point if its own depth lies behind it by more \
            than this many times --max-depth-error-rel; a point goes if the views that see through it outweigh half of \
            those that confirm it; 0 keeps all"),
    ]),
    row("max-depth-error-px", "PX", &[
        ("reprojection, pyramid", NotNegative, "a view that is asked about a point tells depths apart that differ by \
            less than --max-depth-error-rel, too, if that moves the point by this many map pixels in its sources; 0: \
            it does not"),
    ]),
    row("mean-colour", "BOOL", &[
        ("reprojection, pyramid", Switch, "colour a point with the mean over the views that confirm it, without \
            outliers, not with the reference's own"),
    ]),
    row("levels", "K", &[("pyramid", Count(1, 8), "number of levels to merge, starting at MAPS/levels/0")]),
    row("trusted-confidence", "0..1", &[
        ("pyramid", Fraction, "let a pixel of a coarser level repair a finer one only above this confidence"),
    ]),
    row("replaced-confidence", "0..1", &[
        ("pyramid", Fraction, "repair a pixel of a finer level only below this confidence"),
    ]),
    row("coarse-reprojection-px", "PX", &[
        ("pyramid", Positive, "--max-reprojection-px for the coarser pixel that repairs, in pixels of its own level"),
    ]),
    row("coarse-depth-error-rel", "FRACTION", &[
        ("pyramid", Positive, "--max-depth-error-rel for the coarser pixel that repairs, a fraction"),
    ]),
    row("coarse-min-views", "N", &[("pyramid", Count(1, ANY), "--min-views for the coarser pixel that repairs")]),
    row("doublings", "N", &[
        ("pyramid", Count(0, 3), "double the size of merged maps this many times before comparing them"),
    ]),
    row("reprojection-step-px", "PX", &[
        ("dynamic", Positive, "i views agree if they bring a pixel back less than i times this many map pixels \
            away ..."),
    ]),
    row("depth-error-step-rel", "FRACTION", &[
        ("dynamic", Positive, "... with a depth that changes by less than i times this fraction"),
    ]),
    row("max-views", "N", &[
        ("dynamic", Count(1, DynamicThresholds::MOST_VIEWS), "the greatest i, within whose tolerance depths are \
            averaged"),
    ]),
    row("max-disparity-px", "PX", &[
        ("disparity", Positive, "a source view agrees with a pixel if its depth and the pixel's, as disparities \
            between the two views, differ by less than this many map pixels"),
    ]),
    row("max-normal-deg", "DEGREES", &[
        ("reprojection, pyramid", Positive, "drop a point if the normals of most confirming views are more than this \
            many degrees from its own; from 180 on normals are not compared"),
        ("disparity, graph", Positive, "... and its normal is at most this many degrees from the pixel's; from 180 on \
            normals are not compared"),
    ]),
    row("min-pixels", "N", &[("graph", Count(1, ANY), "smallest number of pixels, over all views, that makes a \
            point")]),
    row("max-pixels", "N", &[("graph", Count(1, ANY), "largest number of pixels in a point")]),
    row("max-traversal-depth", "N", &[
        ("graph", Count(1, ANY), "longest chain of pixels, each the projection of the one before into \
            the next view"),
    ]),
];

const fn row(name: &'static str, value: &'static str, meanings: &'static [Meaning]) -> Constant {
    Constant { name, value, meanings }
}

impl Constant {
    /// The constant of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CONSTANTS.iter().find(|constant| constant.name == name)
    }

    /// The names of the methods that have it.
    pub fn methods(&self) -> Vec<&'static str> {
        Method::all().iter().map(Method::name).filter(|method| self.kind(method).is_some()).collect()
    }

    /// Whether it is on or off, not a number.
    pub fn is_switch(&self) -> bool {
        matches!(self.meanings, [(_, Switch, _), ..])
    }

    /// The help text of its option: what it means to which methods, what it can be, and its defaults.
    pub fn help(&self) -> String {
        let meaning = |&(methods, kind, text): &Meaning| {
            let mut defaults: Vec<String> = Vec::new();
            for method in Method::all().into_iter().filter(|method| is_among(method.name(), methods)) {
                let default = Settings::of(method).fields().get(&self.field()).map(default_text).unwrap_or_default();
                match defaults.first() {
                    None => defaults.push(default),
                    Some(first) if *first == default => {}
                    Some(_) => defaults.push(format!("{}: {default}", method.name())),
                }
            }
            let methods = if methods == ALL { String::new() } else { format!("{methods}: ") };
            format!("{methods}{text}{} [default: {}]", kind.limits(), defaults.join("; "))
        };
        self.meanings.iter().map(meaning).collect::<Vec<_>>().join(". ")
    }

    /// Checks a value where the method is not known yet.
    ///
    /// # Errors
    /// What was expected, where no method takes the value.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let mut parsed = self.meanings.iter().map(|(_, kind, _)| kind.parse(value));
        let first = parsed.next().unwrap_or(Ok(Value::Null));
        if parsed.any(|other| other.is_ok()) { Ok(()) } else { first.map(|_| ()) }
    }

    fn kind(&self, method: &str) -> Option<Kind> {
        self.meanings.iter().find(|(methods, ..)| is_among(method, methods)).map(|(_, kind, _)| *kind)
    }

    fn field(&self) -> String {
        self.name.replace('-', "_")
    }
}

fn is_among(method: &str, methods: &str) -> bool {
    methods == ALL || methods.split(", ").any(|one| one == method)
}

impl Kind {
    /// The value that a text says, or what was expected.
    fn parse(self, text: &str) -> Result<Value, String> {
        let number = || text.parse::<f64>().ok().filter(|n| n.is_finite());
        match self {
            Fraction => {
                number().filter(|n| (0.0..=1.0).contains(n)).map(Value::from).ok_or("a number from 0 to 1".into())
            }
            NotNegative => number().filter(|&n| n >= 0.0).map(Value::from).ok_or("a number, 0 or more".into()),
            Positive => number().filter(|&n| n > 0.0).map(Value::from).ok_or("a number above 0".into()),
            Count(least, most) => {
                let fits = text.parse().ok().filter(|n| (least..=most).contains(n)).map(Value::from);
                fits.ok_or_else(|| match most {
                    ANY => format!("a whole number, {least} or more"),
                    _ => format!("a whole number from {least} to {most}"),
                })
            }
            Switch => text.parse().map(Value::Bool).map_err(|_| "true or false".into()),
        }
    }

    /// What its values lie between, for help texts that do not say it.
    fn limits(self) -> String {
        match self {
            Fraction => " (0 to 1)".into(),
            Count(least, most) if most < ANY => format!(" ({least} to {most})"),
            Switch => " (true or false)".into(),
            Positive | NotNegative | Count(..) => String::new(),
        }
    }
}

/// A value for people; text holds numbers exactly.
fn shown(value: &Value) -> String {
    value.as_f64().filter(|_| value.is_f64()).map_or_else(|| value.to_string(), |number| number.to_string())
}

/// A value in a help text, where a long number is better told as what it is one part of.
fn default_text(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number > 0.0 && number < 0.001 => format!("1/{:.0}, about {number:.5}", 1.0 / number),
        _ => shown(value),
    }
}

impl Settings {
    /// Gives a constant a value, by the name of its option. `Ok(false)` where the method has no such constant.
    ///
    /// # Errors
    /// What was expected, where the value is not one of the constant's.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let constant = Constant::named(name);
        let Some((constant, kind)) = constant.and_then(|c| Some((c, c.kind(self.fusion.method.name())?))) else {
            return Ok(false);
        };
        let mut fields = self.fields();
        fields.insert(constant.field(), kind.parse(value)?);
        *self = serde_json::from_value(Value::Object(fields)).map_err(|problem| problem.to_string())?;
        Ok(true)
    }

    /// The names of the method's constants with their values.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        let fields = self.fields();
        CONSTANTS.iter().filter_map(|c| Some((c.name, shown(fields.get(&c.field())?)))).collect()
    }

    /// The method and all its constants, as they are serialised.
    pub fn fields(&self) -> Fields<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Fields::new(),
        }
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
            // Setting every constant to what it is changes nothing.
            for (constant, value) in &before {
                assert_eq!(settings.set(constant, value), Ok(true), "{name} {constant} {value}");
            }
            assert_eq!(settings, Settings::of(method));
            // Every field has its row, and every row of the method its field.
            assert_eq!(CONSTANTS.iter().filter(|c| c.methods().contains(&name)).count(), before.len(), "{name}");
            assert_eq!(settings.fields().len(), before.len() + 1, "{name}");
            for bad in ["", "x", "nan", "inf", "-1"] {
                for (constant, _) in &before {
                    assert!(settings.set(constant, bad).is_err(), "{name} {constant} {bad:?}");
                    assert!(Constant::named(constant).unwrap().check(bad).is_err(), "{constant} {bad:?}");
                }
            }
            assert_eq!(settings.set("colour", "1"), Ok(false));
        }
        let mut settings = Settings::default();
        assert_eq!(settings.set("min-confidence", "1.5"), Err("a number from 0 to 1".into()));
        assert_eq!(settings.set("min-views", "0"), Err("a whole number, 1 or more".into()));
        assert_eq!(settings.set("max-disparity-px", "1"), Ok(false));
        assert_eq!(settings.set("keep-duplicates", "true"), Ok(true));
        assert!(matches!(settings.fusion.method, Method::Reprojection(m) if m.keep_duplicates));
        assert_eq!(
            Constant::named("max-normal-deg").unwrap().methods(),
            ["reprojection", "pyramid", "disparity", "graph"]
        );
        assert!(Constant::named("colour").is_none());
    }

    #[test]
    fn help_texts_tell_methods_limits_and_defaults() {
        let help = |name: &str| Constant::named(name).unwrap().help();
        assert_eq!(help("min-confidence"), "Use only pixels above this confidence (0 to 1) [default: 0.8]");
        assert_eq!(
            help("min-views"),
            "reprojection, pyramid: source views that must agree on a pixel, or all if a view has fewer [default: 3]. \
             disparity: the same, however few a view has [default: 3]. dynamic: the least number that may do (1 to 16) \
             [default: 2]"
        );
        assert!(help("depth-error-step-rel").ends_with("fraction [default: 1/1300, about 0.00077]"));
        assert!(help("max-normal-deg").ends_with("not compared [default: 180; graph: 10]"));
    }
}
