//! The methods with their constants and defaults, and what can be said of each: its name, what it asks for, what it
//! takes. All of it is serialised as one flat object; `constants.rs` has the options of its fields.

use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value};

use crate::maps::consistency::{DynamicThresholds, Thresholds};
use crate::maps::merge::MergeOptions;
use crate::{Error, Result};

/// Which pixels become points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FusionOptions {
    /// A pixel is used only above this confidence.
    pub min_confidence: f64,
    /// How the views' maps are compared.
    #[serde(flatten)]
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
    pub fn reprojection(min_confidence: f64, constants: Reprojection) -> Self {
        Self { min_confidence, method: Method::Reprojection(constants) }
    }

    /// Those among a run's parameters, as a manifest has them. Earlier versions wrote no method before there were
    /// several, and nothing of the guard before there was one: they did without.
    ///
    /// # Errors
    /// What is missing or not as it should be.
    pub fn of_run(parameters: &Fields<String, Value>) -> serde_json::Result<Self> {
        let mut parameters = parameters.clone();
        parameters.entry("method").or_insert_with(|| Method::Reprojection(Reprojection::default()).name().into());
        serde_json::from_value(Value::Object(parameters))
    }
}

/// How the views' maps are compared and what becomes of pixels that agree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reprojection {
    /// How the pixel must be confirmed by the source views' maps.
    #[serde(flatten)]
    pub thresholds: Thresholds,
    /// Also emit the pixels of later views that an accepted point has already explained.
    pub keep_duplicates: bool,
    /// What is asked beyond that.
    #[serde(flatten)]
    pub guard: Guard,
}

/// What [`Method::Reprojection`] asks of pixels beside agreement, and how it colours points. None of it is part of the
/// published methods: see [`Guard::OFF`]. What a manifest does not have, its run did not ask.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default = "Guard::off")]
pub struct Guard {
    /// Pixels of a surface that is connected in its map and smaller than this are dropped before anything else: a
    /// number of pixels in a map of a million, see [`crate::maps::segments::least_pixels`] for other sizes. 0: none.
    pub min_segment_px: f64,
    /// A view confirms a point only where its ray meets those of the reference and of the views already counted at
    /// this angle or more, in degrees. 0: wherever it stands.
    pub min_angle_deg: f64,
    /// A view sees through a point where its own depth lies behind the point's by more than this many times
    /// `max_depth_error_rel`; a point that too many see through is dropped. 0: none is.
    pub see_through_factor: f64,
    /// Views that are heard about a point tell depths apart that differ by less than `max_depth_error_rel`, too, where
    /// that moves the point by at least this many map pixels in the middling one of the view's best sources. 0: they do
    /// not.
    pub max_depth_error_px: f64,
    /// A point is dropped where the normals of most confirming views differ from its own by more than this many
    /// degrees. From 180 on they are not compared.
    pub max_normal_deg: f64,
    /// Whether a point's colour is a mean over the views that confirm it, not the reference's alone.
    pub mean_colour: bool,
}

impl Default for Guard {
    /// 100 pixels of a million, 1 degree, once the tolerance, 1 pixel, 60 degrees, and mean colours.
    ///
    /// Below 1 degree, COLMAP's least angle, too, a change of depth by the tolerance of 1 % moves a pixel by less than
    /// a tenth of a map pixel at usual fields of view: such a view agrees with any depth. What is flat to one view and
    /// at 60 degrees to most others is not one surface; smaller angles are common at edges, where normals are rough.
    fn default() -> Self {
        Self {
            min_segment_px: 100.0,
            min_angle_deg: 1.0,
            see_through_factor: 1.0,
            max_depth_error_px: 1.0,
            max_normal_deg: 60.0,
            mean_colour: true,
        }
    }
}

impl Guard {
    /// Nothing beyond agreement, and the reference's colours: the methods as they were published.
    pub const OFF: Self = Self {
        min_segment_px: 0.0,
        min_angle_deg: 0.0,
        see_through_factor: 0.0,
        max_depth_error_px: 0.0,
        max_normal_deg: 180.0,
        mean_colour: false,
    };

    fn off() -> Self {
        Self::OFF
    }

    /// Whether it asks other views about a point.
    pub fn judges(&self) -> bool {
        Self { min_segment_px: 0.0, ..*self } != Self::OFF
    }
}

/// Constants of [`Method::Pyramid`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pyramid {
    /// Levels that are merged, from the finest on.
    pub levels: usize,
    /// A coarser pixel may repair a finer one only above this confidence.
    pub trusted_confidence: f64,
    /// A finer pixel is repaired only below this confidence.
    pub replaced_confidence: f64,
    /// `max_reprojection_px` of a coarser pixel that may repair, in pixels of its level.
    pub coarse_reprojection_px: f64,
    /// `max_depth_error_rel` of such a pixel.
    pub coarse_depth_error_rel: f64,
    /// `min_views` of such a pixel.
    pub coarse_min_views: usize,
    /// How often the merged maps are doubled in size before they are compared, by interpolation.
    pub doublings: usize,
    /// How the merged maps are compared.
    #[serde(flatten)]
    pub reprojection: Reprojection,
}

impl Default for Pyramid {
    /// Three levels merged and compared as `engine infer` does.
    fn default() -> Self {
        let MergeOptions { trusted_confidence, replaced_confidence, thresholds } = MergeOptions::calibrated();
        Self {
            levels: 3,
            trusted_confidence,
            replaced_confidence,
            coarse_reprojection_px: thresholds.max_reprojection_px,
            coarse_depth_error_rel: thresholds.max_depth_error_rel,
            coarse_min_views: thresholds.min_views,
            doublings: 0,
            reprojection: Reprojection::default(),
        }
    }
}

impl Pyramid {
    /// How levels are merged.
    pub fn merge(&self) -> MergeOptions {
        let thresholds = Thresholds {
            max_reprojection_px: self.coarse_reprojection_px,
            max_depth_error_rel: self.coarse_depth_error_rel,
            min_views: self.coarse_min_views,
        };
        let Self { trusted_confidence, replaced_confidence, .. } = *self;
        MergeOptions { trusted_confidence, replaced_confidence, thresholds }
    }
}

/// Constants of [`Method::Dynamic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dynamic {
    /// How the pixel must be confirmed by the source views' maps.
    #[serde(flatten)]
    pub thresholds: DynamicThresholds,
    /// Also emit the pixels of later views that an accepted point has already explained.
    pub keep_duplicates: bool,
}

/// Constants of [`Method::Disparity`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
    /// All methods with their defaults.
    pub fn all() -> [Self; 5] {
        [
            Self::Reprojection(Reprojection::default()),
            Self::Pyramid(Pyramid::default()),
            Self::Dynamic(Dynamic::default()),
            Self::Disparity(Disparity::default()),
            Self::Graph(Graph::default()),
        ]
    }

    /// The method of this name with its defaults.
    ///
    /// # Errors
    /// The names that there are, where this is none.
    pub fn named(name: &str) -> Result<Self> {
        Self::all().into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let names = Self::all().map(|method| method.name()).join(", ");
            Error::input(format!("method {name}"), "no such method", format!("one of {names}"))
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

    /// It without anything that is not part of the published method.
    pub fn as_published(self) -> Self {
        let plain = |m: Reprojection| Reprojection { guard: Guard::OFF, ..m };
        match self {
            Self::Reprojection(m) => Self::Reprojection(plain(m)),
            Self::Pyramid(m) => Self::Pyramid(Pyramid { reprojection: plain(m.reprojection), ..m }),
            other => other,
        }
    }

    /// Bytes that it holds beside the views for each pixel of all views' maps.
    pub fn bytes_a_pixel(&self) -> u64 {
        match self {
            // Depth, count and mark; a copy of the views without their small segments.
            Self::Reprojection(m) if m.guard.min_segment_px > 0.0 => 6 + 11,
            Self::Reprojection(_) | Self::Dynamic(_) => 6,
            // The merged level and the next coarser one, copies of the views for each doubling, and the above.
            Self::Pyramid(m) => 8 + 4 + (6 + 11 + 11) * 4u64.pow(m.doublings as u32) * 4 / 3,
            // Usable depth, normal and mark.
            Self::Disparity(_) | Self::Graph(_) => 4 + 12 + 1,
        }
    }

    /// Whether it takes one view after the other, so that maps can stay on disk ([`super::spilled`]).
    pub fn takes_views_one_by_one(&self) -> bool {
        matches!(self, Self::Reprojection(_) | Self::Dynamic(_))
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Source views that a pixel is checked against, the best ones first.
    pub check_sources: usize,
    /// The rest.
    #[serde(flatten)]
    pub fusion: FusionOptions,
}

impl Default for Settings {
    /// Ten source views and the default options.
    fn default() -> Self {
        Self { check_sources: 10, fusion: FusionOptions::default() }
    }
}

impl Settings {
    /// A method's defaults.
    pub fn of(method: Method) -> Self {
        Self { fusion: FusionOptions { method, ..FusionOptions::default() }, ..Self::default() }
    }
}
