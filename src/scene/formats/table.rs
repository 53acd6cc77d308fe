//! The table of formats: what each is called, how it is recognised, and who reads it. A new one is a file beside this
//! one, its `mod` and a line here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::listing::Listing;
use super::{
    alicevision, bundler, kapture, llff, metashape, middlebury, neus, nvm, open3d, openmvg, openmvs, opensfm, opf,
    realitycapture, sevenscenes, strecha, transforms,
};
use crate::{Error, Result};

/// How a foreign format is handled.
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, for notes and messages.
    pub what: &'static str,
    /// The file or folder by which it is recognised.
    pub find: fn(&Listing) -> Option<PathBuf>,
    /// Reads what was found.
    pub read: fn(&Path) -> Result<Calibration>,
}

/// Makes the enum of all layouts and the table of the foreign ones, in the order in which they are looked for.
macro_rules! formats {
    ($($variant:ident = $name:literal: $what:literal, $module:ident;)*) => {
        /// Which layout a scene was read from.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
        pub enum Layout {
            /// `images/`, `cams/` or `cams_1/`, `pair.txt`.
            #[value(name = "mvsnet")]
            #[serde(rename = "mvsnet")]
            MvsNet,
            /// `images/` with a COLMAP sparse model.
            #[value(name = "colmap")]
            #[serde(rename = "colmap")]
            Colmap,
            /// No files: photos that the caller has in memory ([`crate::scene::memory`]).
            #[value(skip)]
            #[serde(rename = "memory")]
            Memory,
            $(
                #[doc = $what]
                #[value(name = $name)]
                #[serde(rename = $name)]
                $variant,
            )*
        }

        /// All foreign layouts, those first that are looked for first.
        pub const FOREIGN: &[Layout] = &[$(Layout::$variant),*];

        impl Layout {
            /// How a foreign layout is handled; `None` for those of `images/` with `cams/` or a COLMAP model, and
            /// for photos in memory.
            pub fn foreign(self) -> Option<Format> {
                match self {
                    Self::MvsNet | Self::Colmap | Self::Memory => None,
                    $(Self::$variant => Some(Format {
                        name: $name,
                        what: $what,
                        find: $module::find,
                        read: $module::read,
                    }),)*
                }
            }
        }
    };
}

formats! {
    Transforms = "transforms": "transforms.json (instant-ngp, nerfstudio)", transforms;
    Metashape = "metashape": "Metashape's cameras (XML)", metashape;
    Bundler = "bundler": "Bundler's bundle.out", bundler;
    Nvm = "nvm": "VisualSFM's NVM", nvm;
    OpenMvg = "openmvg": "OpenMVG's sfm_data.json", openmvg;
    OpenSfm = "opensfm": "OpenSfM's reconstruction.json", opensfm;
    AliceVision = "alicevision": "AliceVision's .sfm", alicevision;
    RealityCapture = "realitycapture": "RealityCapture's cameras (XMP or CSV)", realitycapture;
    OpenMvs = "openmvs": "OpenMVS's scene.mvs", openmvs;
    Strecha = "strecha": "Strecha's .camera files", strecha;
    Middlebury = "middlebury": "Middlebury's _par.txt", middlebury;
    Llff = "llff": "LLFF's poses_bounds.npy", llff;
    NeuS = "neus": "cameras.npz of IDR and NeuS", neus;
    SevenScenes = "7scenes": "pose.txt files of 7-Scenes", sevenscenes;
    Open3d = "open3d": "a trajectory of Open3D (.json or .log)", open3d;
    Kapture = "kapture": "kapture's sensors/", kapture;
    Opf = "opf": "Pix4D's OPF", opf;
}

impl Layout {
    /// Its name on the command line, and what it is.
    pub fn names(self) -> (&'static str, &'static str) {
        match (self, self.foreign()) {
            (_, Some(format)) => (format.name, format.what),
            (Self::MvsNet, None) => ("mvsnet", "MVSNet (images/, cams/)"),
            (Self::Memory, None) => ("memory", "photos in memory"),
            (_, None) => ("colmap", "COLMAP (images/, sparse model)"),
        }
    }
}

/// The foreign layouts that are there, with the file or folder of each.
pub fn recognised(listing: &Listing) -> Vec<(Layout, PathBuf)> {
    let found = |&layout: &Layout| Some((layout, (layout.foreign()?.find)(listing)?));
    FOREIGN.iter().filter_map(found).collect()
}

/// Reads the cameras of a foreign file, or of the one in a folder, without looking at photos; `layout` says as what,
/// `None` as what it is recognised.
///
/// # Errors
/// A path where there is no such format, files that do not hold what they should.
pub fn read_cameras(path: &Path, layout: Option<Layout>) -> Result<(Layout, Calibration)> {
    let listing = Listing::new(path)?;
    let found = match layout {
        Some(layout) => layout.foreign().and_then(|format| Some((layout, (format.find)(&listing)?))),
        None => recognised(&listing).into_iter().next(),
    };
    let Some((layout, file)) = found else {
        let (found, expected) = match layout {
            Some(layout) => {
                (format!("nothing that is {}", layout.names().1), "such a file, or another --format".into())
            }
            None => ("no cameras in a format that is known".to_owned(), names_of_foreign()),
        };
        return Err(Error::input(path.display().to_string(), found, expected));
    };
    let mut calibration = match layout.foreign() {
        Some(format) => (format.read)(&file)?,
        None => Calibration::default(),
    };
    calibration.notes.insert(0, format!("read as {}: {}", layout.names().1, file.display()));
    Ok((layout, calibration))
}

/// What the foreign formats are, for messages.
pub fn names_of_foreign() -> String {
    FOREIGN.iter().map(|layout| layout.names().1).collect::<Vec<_>>().join(", ")
}
