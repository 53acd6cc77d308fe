//! The methods with their constants, and every constant by the name of its option.

use serde_json::{Map as Fields, Value, json};

use crate::maps::consistency::{DynamicThresholds, Thresholds};
use crate::maps::merge::MergeOptions;

/// Which pixels become points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FusionOptions {
    /// A pixel is used only above this confidence.
    pub min_confidence: f64,
    /// How the views' maps are compared.
    pub method: Method,
}

impl Default for FusionOptions {
    /// Above 0.8, by reprojection with its defaults.
    fn default() -> Self {
        Self { min_confidence: 0.8, method: Method::Reprojection(Reprojection::default()) }
    }
}

impl FusionOptions {
    /// Reprojection with these constants.
    pub fn reprojection(min_confidence: f64, thresholds: Thresholds, keep_duplicates: bool) -> Self {
        let method = Method::Reprojection(Reprojection { thresholds, keep_duplicates });
        Self { min_confidence, method }
    }
}

/// How the views' maps are compared and what becomes of pixels that agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// A fixed number of source views must bring a pixel back to its place and depth.
    Reprojection(Reprojection),
    /// The maps of several pyramid levels are merged first.
    Pyramid(Pyramid),
    /// Few views must agree closely or many loosely.
    Dynamic(Dynamic),
    /// Depths are compared as disparities; a pixel that went into a point is used up.
    Disparity(Disparity),
    /// Points are gathered by walking from view to view; a pixel that was gathered is used up.
    Graph(Graph),
}

/// Constants of [`Method::Reprojection`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reprojection {
    /// How the pixel must be confirmed by the source views' maps.
    pub thresholds: Thresholds,
    /// Also emit the pixels of later views that an accepted point has already explained.
    pub keep_duplicates: bool,
}

/// Constants of [`Method::Pyramid`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pyramid {
    /// Levels that are merged, from the finest on.
    pub levels: usize,
    /// How they are merged.
    pub merge: MergeOptions,
    /// How often the merged maps are doubled in size before they are compared, by interpolation.
    pub doublings: usize,
    /// How the merged maps are compared.
    pub reprojection: Reprojection,
}

impl Default for Pyramid {
    /// Three levels merged and compared as `engine infer` does.
    fn default() -> Self {
        Self { levels: 3, merge: MergeOptions::default(), doublings: 0, reprojection: Reprojection::default() }
    }
}

/// Constants of [`Method::Dynamic`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dynamic {
    /// How the pixel must be confirmed by the source views' maps.
    pub thresholds: DynamicThresholds,
    /// Also emit the pixels of later views that an accepted point has already explained.
    pub keep_duplicates: bool,
}

/// Constants of [`Method::Disparity`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disparity {
    /// A source view agrees only where the disparities of the two depths differ by less than this, in pixels.
    pub max_disparity_px: f64,
    /// A source view agrees only where the normals differ by less than this many degrees; from 180 on they are not
    /// compared.
    pub max_normal_deg: f64,
    /// Number of source views that must agree, however many a view has.
    pub min_views: usize,
}

impl Default for Disparity {
    /// 0.25 px and 3 source views; normals are not compared.
    fn default() -> Self {
        Self { max_disparity_px: 0.25, max_normal_deg: 180.0, min_views: 3 }
    }
}

/// Constants of [`Method::Graph`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Graph {
    /// A pixel belongs to a point only where the point's first pixel projects at most this far from it, in pixels ...
    pub max_reprojection_px: f64,
    /// ... at a depth that differs from its own by at most this share of its own ...
    pub max_depth_error_rel: f64,
    /// ... and its normal is at most this many degrees from the first pixel's.
    pub max_normal_deg: f64,
    /// Pixels, of all views, that make a point.
    pub min_pixels: usize,
    /// Pixels after which a point is complete.
    pub max_pixels: usize,
    /// Pixels from the first to the last of a chain of projections.
    pub max_traversal_depth: usize,
}

impl Default for Graph {
    /// COLMAP's: 2 px, 1 %, 10 degrees, 5 to 10000 pixels, chains of 100.
    fn default() -> Self {
        Self {
            max_reprojection_px: 2.0,
            max_depth_error_rel: 0.01,
            max_normal_deg: 10.0,
            min_pixels: 5,
            max_pixels: 10_000,
            max_traversal_depth: 100,
        }
    }
}

impl Method {
    /// The names of all methods.
    pub const NAMES: [&str; 5] = ["reprojection", "pyramid", "dynamic", "disparity", "graph"];

    /// The method of this name with its defaults.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "reprojection" => Self::Reprojection(Reprojection::default()),
            "pyramid" => Self::Pyramid(Pyramid::default()),
            "dynamic" => Self::Dynamic(Dynamic::default()),
            "disparity" => Self::Disparity(Disparity::default()),
            "graph" => Self::Graph(Graph::default()),
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reprojection(_) => "reprojection",
            Self::Pyramid(_) => "pyramid",
            Self::Dynamic(_) => "dynamic",
            Self::Disparity(_) => "disparity",
            Self::Graph(_) => "graph",
        }
    }

    /// The number of source views that must agree on a pixel before it becomes a point; the least one where that
    /// depends on how closely they agree or where one view may agree several times.
    pub fn asked(&self) -> usize {
        match self {
            Self::Reprojection(m) => m.thresholds.min_views,
            Self::Pyramid(m) => m.reprojection.thresholds.min_views,
            Self::Dynamic(m) => m.thresholds.min_views,
            Self::Disparity(m) => m.min_views,
            Self::Graph(_) => 1,
        }
    }

    /// What must agree, for messages: `the 3 asked for`.
    pub fn asked_for(&self) -> String {
        match self {
            Self::Reprojection(_) | Self::Pyramid(_) | Self::Disparity(_) => {
                format!("the {} asked for", self.asked())
            }
            Self::Dynamic(m) => {
                let DynamicThresholds { min_views, max_views, .. } = m.thresholds;
                format!("some i of {min_views} to {max_views} views within i steps")
            }
            Self::Graph(m) => format!("{} pixels in all", m.min_pixels),
        }
    }

    /// The options that would let more pixels through, where no view has more than this many sources.
    pub fn looser(&self, sources: usize) -> String {
        let fewer = |asked: usize| asked.saturating_sub(1).max(1);
        let views = fewer(self.asked().min(sources));
        match self {
            Self::Reprojection(Reprojection { thresholds, .. })
            | Self::Pyramid(Pyramid { reprojection: Reprojection { thresholds, .. }, .. }) => {
                format!("--min-views {views} or --max-depth-error-rel {}", 2.0 * thresholds.max_depth_error_rel)
            }
            Self::Dynamic(m) => format!(
                "--depth-error-step-rel {:.6} or --reprojection-step-px {}",
                2.0 * m.thresholds.depth_error_step_rel,
                2.0 * m.thresholds.reprojection_step_px
            ),
            Self::Disparity(m) => {
                format!("--min-views {views} or --max-disparity-px {}", 2.0 * m.max_disparity_px)
            }
            Self::Graph(m) => {
                format!("--min-pixels {} or --max-depth-error-rel {}", fewer(m.min_pixels), 2.0 * m.max_depth_error_rel)
            }
        }
    }

    /// Bytes that it holds beside the views for each pixel of all views' maps.
    pub fn bytes_a_pixel(&self) -> u64 {
        match self {
            // Depth, count and mark.
            Self::Reprojection(_) | Self::Dynamic(_) => 6,
            // The merged level and the next coarser one, copies of the views for each doubling, and the above.
            Self::Pyramid(m) => 8 + 4 + (6 + 11) * 4u64.pow(m.doublings as u32) * 4 / 3,
            // Usable depth, normal and mark.
            Self::Disparity(_) | Self::Graph(_) => 4 + 12 + 1,
        }
    }

    /// How many points a pixel of the maps can become at most.
    pub fn points_a_pixel(&self) -> u64 {
        match self {
            Self::Pyramid(m) => 4u64.pow(m.doublings as u32),
            _ => 1,
        }
    }
}

/// Everything that a cloud depends on beside the maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Source views that a pixel is checked against, the best ones first.
    pub check_sources: usize,
    /// The rest.
    pub fusion: FusionOptions,
}

impl Default for Settings {
    /// Ten source views and the default options.
    fn default() -> Self {
        Self { check_sources: 10, fusion: FusionOptions::default() }
    }
}

/// Where a constant is kept, and so what it can be.
pub enum Slot<'a> {
    /// A number from 0 to 1.
    Fraction(&'a mut f64),
    /// A number above 0.
    Positive(&'a mut f64),
    /// A whole number from the first to the last.
    Count(&'a mut usize, usize, usize),
    /// On or off.
    Switch(&'a mut bool),
}

impl Slot<'_> {
    /// Takes a value; what was expected where it is not one.
    fn set(self, text: &str) -> Result<(), String> {
        let number = || text.parse::<f64>().ok().filter(|n| n.is_finite());
        match self {
            Self::Fraction(slot) => {
                *slot = number().filter(|n| (0.0..=1.0).contains(n)).ok_or("a number from 0 to 1")?;
            }
            Self::Positive(slot) => *slot = number().filter(|&n| n > 0.0).ok_or("a number above 0")?,
            Self::Count(slot, least, most) => {
                let fits = text.parse().ok().filter(|n| (least..=most).contains(n));
                *slot = fits.ok_or_else(|| match most {
                    usize::MAX => format!("a whole number, {least} or more"),
                    _ => format!("a whole number from {least} to {most}"),
                })?;
            }
            Self::Switch(slot) => *slot = text.parse().map_err(|_| "true or false")?,
        }
        Ok(())
    }

    /// Its value, for people.
    fn shown(&self) -> String {
        match self {
            Self::Fraction(value) | Self::Positive(value) => value.to_string(),
            Self::Count(value, ..) => value.to_string(),
            Self::Switch(value) => value.to_string(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Fraction(value) | Self::Positive(value) => json!(value),
            Self::Count(value, ..) => json!(value),
            Self::Switch(value) => json!(value),
        }
    }
}

impl Settings {
    /// A method's defaults.
    pub fn of(method: Method) -> Self {
        Self { fusion: FusionOptions { method, ..FusionOptions::default() }, ..Self::default() }
    }

    /// All constants of the method, by the names of their options.
    pub fn constants(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        use Slot::{Count, Fraction, Positive, Switch};
        const ANY: usize = usize::MAX;
        let mut all = vec![
            ("min-confidence", Fraction(&mut self.fusion.min_confidence)),
            ("check-sources", Count(&mut self.check_sources, 1, ANY)),
        ];
        match &mut self.fusion.method {
            Method::Reprojection(m) => all.extend(m.constants()),
            Method::Pyramid(m) => {
                all.extend([
                    ("levels", Count(&mut m.levels, 1, 8)),
                    ("trusted-confidence", Fraction(&mut m.merge.trusted_confidence)),
                    ("replaced-confidence", Fraction(&mut m.merge.replaced_confidence)),
                    ("coarse-reprojection-px", Positive(&mut m.merge.thresholds.max_reprojection_px)),
                    ("coarse-depth-error-rel", Positive(&mut m.merge.thresholds.max_depth_error_rel)),
                    ("coarse-min-views", Count(&mut m.merge.thresholds.min_views, 1, ANY)),
                    ("doublings", Count(&mut m.doublings, 0, 3)),
                ]);
                all.extend(m.reprojection.constants());
            }
            Method::Dynamic(m) => all.extend([
                ("reprojection-step-px", Positive(&mut m.thresholds.reprojection_step_px)),
                ("depth-error-step-rel", Positive(&mut m.thresholds.depth_error_step_rel)),
                ("min-views", Count(&mut m.thresholds.min_views, 1, DynamicThresholds::MOST_VIEWS)),
                ("max-views", Count(&mut m.thresholds.max_views, 1, DynamicThresholds::MOST_VIEWS)),
                ("keep-duplicates", Switch(&mut m.keep_duplicates)),
            ]),
            Method::Disparity(m) => all.extend([
                ("max-disparity-px", Positive(&mut m.max_disparity_px)),
                ("max-normal-deg", Positive(&mut m.max_normal_deg)),
                ("min-views", Count(&mut m.min_views, 1, ANY)),
            ]),
            Method::Graph(m) => all.extend([
                ("max-reprojection-px", Positive(&mut m.max_reprojection_px)),
                ("max-depth-error-rel", Positive(&mut m.max_depth_error_rel)),
                ("max-normal-deg", Positive(&mut m.max_normal_deg)),
                ("min-pixels", Count(&mut m.min_pixels, 1, ANY)),
                ("max-pixels", Count(&mut m.max_pixels, 1, ANY)),
                ("max-traversal-depth", Count(&mut m.max_traversal_depth, 1, ANY)),
            ]),
        }
        all
    }

    /// Gives a constant a value, by the name of its option. `Ok(false)` where the method has no such constant.
    ///
    /// # Errors
    /// What was expected, where the value is not one of the constant's.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match self.constants().into_iter().find(|(constant, _)| *constant == name) {
            Some((_, slot)) => slot.set(value).map(|()| true),
            None => Ok(false),
        }
    }

    /// The names of the method's constants with their values.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        let mut own = *self;
        own.constants().iter().map(|(name, slot)| (*name, slot.shown())).collect()
    }

    /// The method and all its constants, for manifests; in names `_` stands for `-`.
    pub fn fields(&self) -> Fields<String, Value> {
        let (mut fields, mut own) = (Fields::new(), *self);
        fields.insert("method".into(), self.fusion.method.name().into());
        for (name, slot) in own.constants() {
            fields.insert(name.replace('-', "_"), slot.json());
        }
        fields
    }

    /// The methods that have a constant of this name.
    pub fn methods_with(name: &str) -> Vec<&'static str> {
        let has = |method: &&'static str| {
            Method::named(method).is_some_and(|m| Self::of(m).values().iter().any(|(n, _)| *n == name))
        };
        Method::NAMES.iter().copied().filter(has).collect()
    }
}

impl Reprojection {
    fn constants(&mut self) -> [(&'static str, Slot<'_>); 4] {
        let thresholds = &mut self.thresholds;
        [
            ("max-reprojection-px", Slot::Positive(&mut thresholds.max_reprojection_px)),
            ("max-depth-error-rel", Slot::Positive(&mut thresholds.max_depth_error_rel)),
            ("min-views", Slot::Count(&mut thresholds.min_views, 1, usize::MAX)),
            ("keep-duplicates", Slot::Switch(&mut self.keep_duplicates)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_set_by_their_names_and_checked() {
        for name in Method::NAMES {
            let mut settings = Settings::of(Method::named(name).unwrap());
            assert_eq!(settings.fusion.method.name(), name);
            let before = settings.values();
            // Setting every constant to what it is changes nothing; no name is there twice.
            for (constant, value) in &before {
                assert_eq!(settings.set(constant, value), Ok(true), "{name} {constant} {value}");
                assert_eq!(before.iter().filter(|(other, _)| other == constant).count(), 1);
            }
            assert_eq!(settings.values(), before);
            assert_eq!(settings.fields().len(), before.len() + 1);
            for bad in ["", "x", "nan", "inf", "-1"] {
                for (constant, _) in &before {
                    assert!(settings.set(constant, bad).is_err(), "{name} {constant} {bad:?}");
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
        assert_eq!(Settings::methods_with("max-normal-deg"), ["disparity", "graph"]);
        assert!(Settings::methods_with("colour").is_empty());
    }
}
