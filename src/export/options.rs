//! What an export can be told.

use std::path::PathBuf;

use crate::export::crs::CrsOption;
use crate::files::folder::OutputOptions;

/// Everything that [`crate::export::exporting::export`] can be told, beside the run.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Where exports go; no folder named: `export` in the run's.
    pub output: OutputOptions,
    /// Names of formats, each of the [`crate::export::table`].
    pub to: Vec<&'static str>,
    /// The scene's folder, where photos are wanted and it is no longer where the run has found it.
    pub scene: Option<PathBuf>,
    /// The coordinate system that the scene's coordinates are in, or where its files say where on earth these lie, that
    /// they are to be in.
    pub crs: Option<CrsOption>,
    /// What confidence and views are called in `ply`.
    pub ply_names: PlyNames,
    /// Depth 0 where a pixel is not confirmed as those of the cloud are.
    pub filtered_depth: bool,
    /// Points whose neighbours are farther than this many standard deviations above the mean are left out.
    pub outliers: Option<f64>,
    /// Side of the voxels of which each keeps one point, in scene units.
    pub spacing: Option<f64>,
    /// Most points of the cloud.
    pub max_points: Option<usize>,
    /// How photos are stored.
    pub photos: PhotoFormat,
}

impl ExportOptions {
    /// Whether the cloud is changed, for which it must be in memory.
    pub fn changes_cloud(&self) -> bool {
        self.outliers.is_some() || self.spacing.is_some() || self.max_points.is_some()
    }
}

/// What a PLY file calls confidence and number of views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PlyNames {
    /// `confidence` (float), `views` (uchar), as in fused.ply.
    #[default]
    Engine,
    /// `scalar_confidence`, `scalar_views`, both float, as CloudCompare writes and reads scalar fields.
    Cloudcompare,
}

/// How undistorted photos are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhotoFormat {
    /// Of this quality, 1 to 100.
    Jpeg(u8),
    /// Without loss.
    Png,
}

impl Default for PhotoFormat {
    /// JPEG of quality 95.
    fn default() -> Self {
        Self::Jpeg(95)
    }
}

impl PhotoFormat {
    /// Of the file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jpeg(_) => "jpg",
            Self::Png => "png",
        }
    }
}

impl std::str::FromStr for PhotoFormat {
    type Err = String;

    /// `png`, `jpeg`, or `jpeg:QUALITY`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "png" => Ok(Self::Png),
            None if text == "jpeg" => Ok(Self::default()),
            Some(("jpeg", quality)) => match quality.parse() {
                Ok(quality @ 1..=100) => Ok(Self::Jpeg(quality)),
                _ => Err("expected a quality from 1 to 100 after jpeg:".into()),
            },
            _ => Err("expected png, jpeg or jpeg:QUALITY (1 to 100)".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photo_formats_read_as_they_are_typed() {
        assert_eq!("png".parse(), Ok(PhotoFormat::Png));
        assert_eq!("jpeg".parse(), Ok(PhotoFormat::Jpeg(95)));
        assert_eq!("jpeg:80".parse(), Ok(PhotoFormat::Jpeg(80)));
        for bad in ["", "jpg", "jpeg:", "jpeg:0", "jpeg:101", "png:3", "JPEG"] {
            assert!(bad.parse::<PhotoFormat>().is_err(), "{bad}");
        }
    }
}
