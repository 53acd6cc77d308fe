//! Published constants of fusion, each under the name of the program or paper that they are from (protocol page E.8 to
//! E.10).
//!
//! Constants count pixels of the maps that the program made: a quarter of the photos' size for the first ones, their
//! full size for others. Confidences are each network's own, so the same threshold may be strict for one and loose for
//! another.

use super::settings::{Disparity, Dynamic, FusionOptions, Graph, Method, Pyramid, Reprojection, Settings};
use crate::maps::consistency::{DynamicThresholds, Thresholds};
use crate::maps::merge::MergeOptions;

/// Published settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// What `--preset` calls it.
    pub name: &'static str,
    /// Repository and file that the constants are from, and what differs here.
    pub source: &'static str,
    /// The constants.
    pub settings: Settings,
}

/// All presets.
pub const PRESETS: [Preset; 15] = [
    Preset {
        name: "mvsnet",
        source: "xy-guo/MVSNet_pytorch eval.py (DTU); maps at 1/4",
        settings: reprojection(0.8, 1.0, 0.01, 3),
    },
    Preset {
        name: "patchmatchnet-eth3d",
        source: "FangjinhuaWang/PatchmatchNet eval.sh (ETH3D); maps at full size. Its DTU settings are mvsnet's",
        settings: reprojection(0.6, 1.0, 0.01, 2),
    },
    Preset {
        name: "patchmatchnet-tanks",
        source: "FangjinhuaWang/PatchmatchNet eval.sh (Tanks and Temples); maps at full size",
        settings: reprojection(0.8, 1.0, 0.01, 5),
    },
    Preset {
        name: "casmvsnet",
        source: "alibaba/cascade-stereo CasMVSNet/test.py (normal fusion); maps at full size",
        settings: reprojection(0.9, 1.0, 0.01, 5),
    },
    Preset {
        name: "geomvsnet",
        source: "doubleZ0108/GeoMVSNet scripts/dtu/fusion_dtu.sh (pcd); maps at full size",
        settings: reprojection(0.5, 1.0, 0.01, 4),
    },
    Preset {
        name: "diffmvs",
        source: "cvg/diffmvs scripts/test (DTU); maps at full size. Its first stage's confidence; the others' are 0",
        settings: reprojection(0.3, 0.125, 0.01, 2),
    },
    Preset {
        name: "pva",
        source: "yhw-yhw/PVAMVSNet tools/mmp.py, tools/filter_fusion.py (DTU): only level 1 repairs level 0, then maps are \
                 doubled; here by interpolation, there by pyrUp, which also smooths",
        settings: Settings {
            check_sources: 6,
            fusion: FusionOptions {
                min_confidence: 0.9,
                method: Method::Pyramid(Pyramid {
                    levels: 2,
                    merge: MergeOptions {
                        trusted_confidence: 0.9,
                        replaced_confidence: 0.5,
                        thresholds: thresholds(1.0, 0.01, 3),
                    },
                    doublings: 1,
                    reprojection: Reprojection { thresholds: thresholds(0.5, 0.005, 3), keep_duplicates: true },
                }),
            },
        },
    },
    Preset {
        name: "d2hc",
        source: "yhw-yhw/D2HC-RMVSNet fusion.py (DTU)",
        settings: dynamic(0.35, 0.25, 1.0 / 1300.0),
    },
    Preset {
        name: "d2hc-tanks",
        source: "yhw-yhw/D2HC-RMVSNet fusion.py (Tanks and Temples)",
        settings: dynamic(0.3, 0.25, 1.0 / 1300.0),
    },
    Preset {
        name: "unimvsnet",
        source: "prstrive/UniMVSNet main.py, filter/dypcd.py; maps at full size. Its last stage's confidence; the others' are \
                 0.1 and 0.15",
        settings: dynamic(0.9, 0.25, 1.0 / 1300.0),
    },
    Preset {
        name: "mvsformer",
        source: "MVSFormer++ options (dpcd: dist_base 4, rel_diff_base 1300, conf 0.5); maps at full size",
        settings: dynamic(0.5, 0.25, 1.0 / 1300.0),
    },
    Preset {
        name: "fusibile",
        source: "YoYo000/MVSNet mvsnet/depthfusion.py over kysucix/fusibile (3D CNN); maps at 1/4",
        settings: disparity(0.8, 0.25, 3),
    },
    Preset {
        name: "fusibile-rmvsnet",
        source: "YoYo000/MVSNet mvsnet/depthfusion.py over kysucix/fusibile (GRU, R-MVSNet); maps at 1/4",
        settings: disparity(0.3, 0.25, 3),
    },
    Preset {
        name: "fusibile-mvsformer",
        source: "MVSFormer and MVSFormer++ READMEs over kysucix/fusibile; maps at full size",
        settings: disparity(0.5, 0.1, 2),
    },
    Preset {
        name: "colmap",
        source: "colmap/colmap src/colmap/mvs/fusion.h, defaults; maps at full size. It has no confidence: 0 here",
        settings: Settings {
            check_sources: 50,
            fusion: FusionOptions {
                min_confidence: 0.0,
                method: Method::Graph(Graph {
                    max_reprojection_px: 2.0,
                    max_depth_error_rel: 0.01,
                    max_normal_deg: 10.0,
                    min_pixels: 5,
                    max_pixels: 10_000,
                    max_traversal_depth: 100,
                }),
            },
        },
    },
];

/// The preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

const fn thresholds(max_reprojection_px: f64, max_depth_error_rel: f64, min_views: usize) -> Thresholds {
    Thresholds { max_reprojection_px, max_depth_error_rel, min_views }
}

/// None of the published programs takes duplicates out.
const fn reprojection(min_confidence: f64, px: f64, rel: f64, min_views: usize) -> Settings {
    let method =
        Method::Reprojection(Reprojection { thresholds: thresholds(px, rel, min_views), keep_duplicates: true });
    Settings { check_sources: 10, fusion: FusionOptions { min_confidence, method } }
}

const fn dynamic(min_confidence: f64, reprojection_step_px: f64, depth_error_step_rel: f64) -> Settings {
    let thresholds = DynamicThresholds { reprojection_step_px, depth_error_step_rel, min_views: 2, max_views: 10 };
    let method = Method::Dynamic(Dynamic { thresholds, keep_duplicates: true });
    Settings { check_sources: 10, fusion: FusionOptions { min_confidence, method } }
}

/// Every published wrapper gives all normals the same direction and allows 360 degrees: they are not compared.
/// Fusibile asks all other views, not the best ones only.
const fn disparity(min_confidence: f64, max_disparity_px: f64, min_views: usize) -> Settings {
    let method = Method::Disparity(Disparity { max_disparity_px, max_normal_deg: 180.0, min_views });
    Settings { check_sources: 1000, fusion: FusionOptions { min_confidence, method } }
}

/// One preset as a paragraph: its name and source, and below its method and constants.
pub fn described(preset: &Preset) -> String {
    let constants: Vec<String> =
        preset.settings.values().iter().map(|(name, value)| format!("{name} {value}")).collect();
    let method = preset.settings.fusion.method.name();
    format!("{}: {}\n    {method}: {}", preset.name, preset.source, constants.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_found_by_name_and_hold_what_their_method_takes() {
        for (at, preset) in PRESETS.iter().enumerate() {
            assert_eq!(super::preset(preset.name), Some(&PRESETS[at]));
            let mut settings = preset.settings;
            for (name, value) in preset.settings.values() {
                assert_eq!(settings.set(name, &value), Ok(true), "{}: {name} {value}", preset.name);
            }
            // Text holds numbers exactly.
            assert_eq!(settings, preset.settings);
        }
        assert_eq!(super::preset("none"), None);
    }
}
