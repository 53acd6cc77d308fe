//! Published constants of fusion, each under the name of the program or paper that they are from (protocol page E.8 to
//! E.10).
//!
//! Constants count pixels of the maps that the program made: a quarter of the photos' size for the first ones, their
//! full size for others. Confidences are each network's own, so the same threshold may be strict for one and loose for
//! another. None of the published programs takes duplicates out, and none has the guard of this engine's own
//! ([`super::settings::Guard`]): presets begin without both. Fusibile asks all other views, not the best ones only, and
//! every published wrapper gives all normals the same direction: they are not compared.

use super::settings::{Method, Settings};
use crate::{Error, Result};

/// Published settings.
#[derive(Debug)]
pub struct Preset {
    /// What `--preset` calls it.
    pub name: &'static str,
    /// Repository and file that the constants are from, and what differs here.
    pub source: &'static str,
    /// The name of the method.
    pub method: &'static str,
    /// Its constants by the names of their options. The others have their defaults: those of dynamic, disparity and
    /// graph are the first published ones.
    values: &'static str,
}

/// All presets.
#[rustfmt::skip]
pub static PRESETS: [Preset; 15] = [
    Preset { name: "mvsnet", method: "reprojection",
        source: "xy-guo/MVSNet_pytorch eval.py (DTU); maps at 1/4",
        values: "min-confidence=0.8 max-reprojection-px=1 max-depth-error-rel=0.01 min-views=3 keep-duplicates=true" },
    Preset { name: "patchmatchnet-eth3d", method: "reprojection",
        source: "FangjinhuaWang/PatchmatchNet eval.sh (ETH3D); maps at full size. Its DTU settings are mvsnet's",
        values: "min-confidence=0.6 max-reprojection-px=1 max-depth-error-rel=0.01 min-views=2 keep-duplicates=true" },
    Preset { name: "patchmatchnet-tanks", method: "reprojection",
        source: "FangjinhuaWang/PatchmatchNet eval.sh (Tanks and Temples); maps at full size",
        values: "min-confidence=0.8 max-reprojection-px=1 max-depth-error-rel=0.01 min-views=5 keep-duplicates=true" },
    Preset { name: "casmvsnet", method: "reprojection",
        source: "alibaba/cascade-stereo CasMVSNet/test.py (normal fusion); maps at full size",
        values: "min-confidence=0.9 max-reprojection-px=1 max-depth-error-rel=0.01 min-views=5 keep-duplicates=true" },
    Preset { name: "geomvsnet", method: "reprojection",
        source: "doubleZ0108/GeoMVSNet scripts/dtu/fusion_dtu.sh (pcd); maps at full size",
        values: "min-confidence=0.5 max-reprojection-px=1 max-depth-error-rel=0.01 min-views=4 keep-duplicates=true" },
    Preset { name: "diffmvs", method: "reprojection",
        source: "cvg/diffmvs scripts/test (DTU); maps at full size. Its first stage's confidence; the others' are 0",
        values: "min-confidence=0.3 max-reprojection-px=0.125 max-depth-error-rel=0.01 min-views=2 \
            keep-duplicates=true" },
    Preset { name: "pva", method: "pyramid",
        source: "yhw-yhw/PVAMVSNet tools/mmp.py, tools/filter_fusion.py (DTU): only level 1 repairs level 0, then \
            maps are doubled; here by interpolation, there by pyrUp, which also smooths",
        values: "min-confidence=0.9 check-sources=6 levels=2 trusted-confidence=0.9 replaced-confidence=0.5 \
            coarse-reprojection-px=1 coarse-depth-error-rel=0.01 coarse-min-views=3 doublings=1 \
            max-reprojection-px=0.5 max-depth-error-rel=0.005 min-views=3 keep-duplicates=true" },
    Preset { name: "d2hc", method: "dynamic",
        source: "yhw-yhw/D2HC-RMVSNet fusion.py (DTU)",
        values: "min-confidence=0.35 keep-duplicates=true" },
    Preset { name: "d2hc-tanks", method: "dynamic",
        source: "yhw-yhw/D2HC-RMVSNet fusion.py (Tanks and Temples)",
        values: "min-confidence=0.3 keep-duplicates=true" },
    Preset { name: "unimvsnet", method: "dynamic",
        source: "prstrive/UniMVSNet main.py, filter/dypcd.py; maps at full size. Its last stage's confidence; the \
            others' are 0.1 and 0.15",
        values: "min-confidence=0.9 keep-duplicates=true" },
    Preset { name: "mvsformer", method: "dynamic",
        source: "MVSFormer++ options (dpcd: dist_base 4, rel_diff_base 1300, conf 0.5); maps at full size",
        values: "min-confidence=0.5 keep-duplicates=true" },
    Preset { name: "fusibile", method: "disparity",
        source: "YoYo000/MVSNet mvsnet/depthfusion.py over kysucix/fusibile (3D CNN); maps at 1/4",
        values: "min-confidence=0.8 check-sources=1000 min-views=3" },
    Preset { name: "fusibile-rmvsnet", method: "disparity",
        source: "YoYo000/MVSNet mvsnet/depthfusion.py over kysucix/fusibile (GRU, R-MVSNet); maps at 1/4",
        values: "min-confidence=0.3 check-sources=1000 min-views=3" },
    Preset { name: "fusibile-mvsformer", method: "disparity",
        source: "MVSFormer and MVSFormer++ READMEs over kysucix/fusibile; maps at full size",
        values: "min-confidence=0.5 check-sources=1000 max-disparity-px=0.1 min-views=2" },
    Preset { name: "colmap", method: "graph",
        source: "colmap/colmap src/colmap/mvs/fusion.h, defaults; maps at full size. It has no confidence: 0 here",
        values: "min-confidence=0 check-sources=50" },
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// The names that there are, where this is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names = PRESETS.each_ref().map(|preset| preset.name).join(", ");
            Error::input(format!("preset {name}"), "no such preset", format!("one of {names}"))
        })
    }

    /// All constants.
    ///
    /// # Errors
    /// The preset's row, where it does not fit its method's constants.
    pub fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::of(Method::named(self.method)?.as_published());
        for constant in self.values.split_whitespace() {
            let set = constant.split_once('=').map(|(name, value)| settings.set(name, value));
            if set != Some(Ok(true)) {
                return Err(Error::input(format!("preset {}", self.name), constant, "a constant of its method"));
            }
        }
        Ok(settings)
    }

    /// It as a paragraph: name and source, and below method and constants.
    ///
    /// # Errors
    /// As [`Self::settings`].
    pub fn described(&self) -> Result<String> {
        let Self { name, source, method, .. } = self;
        let values = self.settings()?.values().into_iter();
        let constants: Vec<String> = values.map(|(name, value)| format!("{name} {value}")).collect();
        Ok(format!("{name}: {source}\n    {method}: {}", constants.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_found_by_name_and_hold_what_their_method_takes() {
        for preset in &PRESETS {
            assert_eq!(Preset::named(preset.name).unwrap().source, preset.source);
            let settings = preset.settings().unwrap();
            // Text holds numbers exactly.
            let mut again = Settings::of(settings.fusion.method);
            for (name, value) in settings.values() {
                assert_eq!(again.set(name, &value), Ok(true), "{}: {name} {value}", preset.name);
            }
            assert_eq!(again, settings);
            // What is this engine's own is off, and only asked for by name.
            assert_eq!(settings.fusion.method, settings.fusion.method.as_published(), "{}", preset.name);
            if let Method::Reprojection(_) | Method::Pyramid(_) = settings.fusion.method {
                assert_eq!(again.set("min-angle-deg", "2"), Ok(true));
                assert_ne!(again.fusion.method, again.fusion.method.as_published(), "{}", preset.name);
            }
        }
        assert_ne!(Settings::default().fusion.method, Settings::default().fusion.method.as_published());
        assert!(Preset::named("none").is_err());
    }
}
