//! The files of a DTU evaluation: the reference as the data set's SampleSet and Points archives lay it out, and one
//! prediction for each scan in a folder of results.

use std::path::{Path, PathBuf};

use super::dtu::{ErrorCloud, ObservabilityMask, Reference};
use crate::error::counted;
use crate::files::mat::{Array, MatFile};
use crate::files::ply_storage::{OffsetOption, Storage};
use crate::files::{ply, ply_points};
use crate::{Error, Result};

/// The reference files of a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceFiles {
    /// `Points/stl/stlNNN_total.ply`.
    pub points: PathBuf,
    /// `ObsMask/ObsMaskN_10.mat`.
    pub mask: PathBuf,
    /// `ObsMask/PlaneN.mat`.
    pub plane: PathBuf,
}

impl ReferenceFiles {
    /// Those of a scan in the data set's folder.
    ///
    /// # Errors
    /// [`Error::Io`] on the first one that is missing.
    pub fn find(data: &Path, scan: u32) -> Result<Self> {
        let files = Self {
            points: data.join(format!("Points/stl/stl{scan:03}_total.ply")),
            mask: data.join(format!("ObsMask/ObsMask{scan}_10.mat")),
            plane: data.join(format!("ObsMask/Plane{scan}.mat")),
        };
        for file in [&files.points, &files.mask, &files.plane] {
            std::fs::metadata(file).map_err(Error::io("open the reference of the DTU data set", file))?;
        }
        Ok(files)
    }

    /// Reads them.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should.
    pub fn read(&self) -> Result<Reference> {
        let mask = read_mask(&self.mask)?;
        let plane = read_plane(&self.plane)?;
        let cloud = ply_points::read(&self.points)?;
        if cloud.not_finite > 0 {
            return Err(Error::input(
                self.points.display().to_string(),
                counted(cloud.not_finite, "point") + " without finite coordinates",
                "none in the reference; the file is damaged, get it again",
            ));
        }
        Ok(Reference { points: cloud.points, mask, plane })
    }
}

/// `ObsMask`, `BB` and `Res` of an observability mask.
fn read_mask(path: &Path) -> Result<ObservabilityMask> {
    let file = MatFile::read(path)?;
    let numbers = |array: &Array| (shape(array), array.values.to_numbers());
    let bad = |name: &str, found: String, expected: &str| {
        Err(Error::input(format!("{}: '{name}'", path.display()), found, expected))
    };
    let (box_shape, bounds) = numbers(file.array("BB")?);
    if box_shape != "2 x 3" || bounds.iter().any(|v| !v.is_finite()) {
        return bad("BB", box_shape, "2 x 3 finite numbers: the smallest and the largest corner of the box");
    }
    let (resolution_shape, resolution) = numbers(file.array("Res")?);
    let resolution = match resolution[..] {
        [one] if one > 0.0 && one.is_finite() => one,
        [one] => return bad("Res", one.to_string(), "the edge of a voxel in mm, above 0"),
        _ => return bad("Res", resolution_shape, "one number, the edge of a voxel in mm"),
    };
    let mask = file.array("ObsMask")?;
    let [x, y, z] = mask.dimensions[..] else {
        return bad("ObsMask", shape(mask), "three dimensions: voxels along x, y and z");
    };
    let [min, max] = [0, 1].map(|row| [bounds[row], bounds[row + 2], bounds[row + 4]]);
    Ok(ObservabilityMask { min, max, resolution, size: [x, y, z], seen: mask.values.to_flags() })
}

/// `P` of a ground plane.
fn read_plane(path: &Path) -> Result<[f64; 4]> {
    let file = MatFile::read(path)?;
    let array = file.array("P")?;
    let numbers = array.values.to_numbers();
    match numbers.first_chunk::<4>() {
        Some(plane) if numbers.len() == 4 && plane.iter().all(|v| v.is_finite()) => Ok(*plane),
        _ => {
            let place = format!("{}: 'P'", path.display());
            Err(Error::input(place, shape(array), "4 x 1 finite numbers a, b, c, d with a x + b y + c z + d > 0 above"))
        }
    }
}

fn shape(array: &Array) -> String {
    let sides: Vec<String> = array.dimensions.iter().map(usize::to_string).collect();
    sides.join(" x ")
}

/// The cloud of a scan in a folder of results: `METHODnnn_l3.ply` (the name that the original evaluation reads, three
/// digits), `scanN/fused.ply` or `scanN.ply`.
///
/// # Errors
/// [`Error::Input`] where there is none or more than one; [`Error::Io`] where the folder cannot be listed.
pub fn find_prediction(folder: &Path, scan: u32) -> Result<PathBuf> {
    let plain = [format!("scan{scan}/fused.ply"), format!("scan{scan}.ply")];
    let mut found: Vec<PathBuf> = plain.iter().map(|name| folder.join(name)).filter(|p| p.is_file()).collect();
    let ending = format!("{scan:03}_l3.ply");
    for entry in std::fs::read_dir(folder).map_err(Error::io("list the clouds", folder))? {
        let entry = entry.map_err(Error::io("list the clouds", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A method's name may end in a digit, but then the number would be ambiguous.
        let method = name.strip_suffix(&ending);
        if method.is_some_and(|m| !m.starts_with('.') && !m.ends_with(|c: char| c.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Error::input(
            folder.display().to_string(),
            format!("no cloud of scan {scan}"),
            format!("METHOD{ending}, {} or {}", plain[0], plain[1]),
        )),
        several => {
            let names: Vec<String> =
                several.iter().map(|p| p.strip_prefix(folder).unwrap_or(p).display().to_string()).collect();
            let found = format!("{} clouds of scan {scan}: {}", several.len(), names.join(", "));
            Err(Error::input(folder.display().to_string(), found, "one; move the others away"))
        }
    }
}

/// Writes a coloured error cloud.
///
/// # Errors
/// [`Error::Io`]; nothing is left behind then.
pub fn write_error_cloud(path: &Path, cloud: &ErrorCloud, what: &str) -> Result<()> {
    let comments =
        [what.to_owned(), "white to red: 0 to 10 mm, counted points; blue to green: 0 to 10 mm, others".to_owned()];
    let storage = Storage::of(cloud.points.len(), |i| cloud.points[i], OffsetOption::None);
    ply::write_coloured(path, &cloud.points, |index| cloud.colour(index), storage, &comments)
}
