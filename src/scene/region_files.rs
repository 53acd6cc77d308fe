//! What gives a region of interest: numbers, sparse points, or a file (OpenMVS's text, a box drawn as PLY or OBJ, a
//! Metashape project's region).

use std::collections::BTreeSet;
use std::path::Path;

use glam::{DMat3, DVec3};

use crate::error::counted;
use crate::files::{input, ply_points};
use crate::scene::formats::metashape;
use crate::scene::region::Region;
use crate::scene::{RegionOption, Scene};
use crate::{Error, Result};

const EXPECTED: &str = "a box: fifteen numbers (OpenMVS: rotation from the world row by row, centre, half sides), a \
                        PLY or OBJ file with its corners, or Metashape's XML";
/// A region of interest in words takes less.
const LONGEST: u64 = 1 << 20;

impl Scene {
    /// Takes the region of interest that an option gives; `auto` takes the one that the scene's own files have, if any.
    ///
    /// # Errors
    /// A file that holds no box, and no sparse points where they shall give it.
    pub fn take_region(&mut self, option: &RegionOption) -> Result<()> {
        let of_files = self.region.take();
        let region = match option {
            RegionOption::Auto if of_files.is_some() => {
                self.notes.push(format!("the region of interest is that of {}", self.layout.names().1));
                of_files
            }
            RegionOption::Box { low, high } => Region::aligned(DVec3::from(*low), DVec3::from(*high)),
            RegionOption::File(path) => Some(read(path)?),
            RegionOption::Auto => {
                let points = self.points.iter().map(|point| point.position);
                let region = Region::around(points);
                if region.is_none() {
                    let found = "no sparse points that a region of interest could be taken from";
                    let expected = "--roi with six numbers or a file";
                    return Err(Error::input(self.root.display().to_string(), found, expected));
                }
                region
            }
        };
        let problem = || Error::Bug { place: "region", problem: "an empty box".into() };
        let region = region.ok_or_else(problem)?;
        self.notes.push(format!("region of interest: {}", region.told()));
        self.region = Some(region);
        Ok(())
    }

    /// Gives views of which nobody says how deep they look what they see of the box in the scene's own files, with a
    /// note. Comes back with those that see nothing of it.
    pub fn take_ranges_of_files_region(&mut self) -> BTreeSet<usize> {
        let Some(region) = self.region_of_files else { return BTreeSet::new() };
        let with_points: BTreeSet<usize> = self.points.iter().flat_map(|point| point.views.iter().copied()).collect();
        let is_open = |&at: &usize| {
            let view = &self.views[at];
            view.range.is_none() && view.sweep.is_none() && !with_points.contains(&at)
        };
        let open: Vec<usize> = (0..self.views.len()).filter(is_open).collect();
        let mut outside = BTreeSet::new();
        for &at in &open {
            let view = &mut self.views[at];
            view.range = region.depths(&view.camera, view.size);
            if view.range.is_none() {
                outside.insert(at);
            }
        }
        let given = open.len() - outside.len();
        if given > 0 {
            self.notes.push(format!(
                "depth range of {given} of {}: what they see of the region in {}, {} (nothing is cut off: --roi auto \
                 does that; --range or --range-from gives other depths)",
                counted(self.views.len(), "view"),
                self.layout.names().1,
                region.told()
            ));
        }
        outside
    }

    /// That no view sees anything of the region.
    pub fn sees_nothing_of_region(&self) -> Error {
        let region = self.region.or(self.region_of_files).map(|region| region.told()).unwrap_or_default();
        let or = if self.region.is_none() { ", or --range near,far, the depths to search" } else { "" };
        Error::input(
            self.root.display().to_string(),
            format!("no view sees anything of the region of interest, {region}"),
            format!("a region in front of the cameras, in the scene's units{or}"),
        )
    }
}

/// The box in a file. A Metashape project has one as its chunk's region. Of a PLY or OBJ file only the vertices count:
/// eight that are the corners of a turned box are that box, any others are held by one along the axes.
///
/// # Errors
/// A file that cannot be read, or holds no box.
fn read(path: &Path) -> Result<Region> {
    let refuse = |found: &str| Error::input(path.display().to_string(), found, EXPECTED);
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let corners: Vec<DVec3> = match extension.as_str() {
        "xml" => return metashape::read_region(path),
        "ply" => ply_points::read(path)?.points.into_iter().map(DVec3::from).collect(),
        "obj" => {
            let vertices = text(path)?.lines().filter_map(|line| line.trim().strip_prefix("v ").map(numbers)).collect();
            let vertices: Vec<Option<Vec<f64>>> = vertices;
            let vertex = |v: Option<Vec<f64>>| v.filter(|v| v.len() >= 3).map(|v| DVec3::new(v[0], v[1], v[2]));
            let vertices: Option<Vec<DVec3>> = vertices.into_iter().map(vertex).collect();
            vertices.ok_or_else(|| refuse("a vertex without three numbers"))?
        }
        _ => {
            let numbers = numbers(&text(path)?).filter(|numbers| numbers.len() == 15);
            let n = numbers.ok_or_else(|| refuse("not fifteen numbers"))?;
            let vector = |at: usize| DVec3::new(n[at], n[at + 1], n[at + 2]);
            let axes = DMat3::from_cols(vector(0), vector(3), vector(6)).transpose();
            let region = Region::turned(vector(9), axes, vector(12));
            return region.ok_or_else(|| refuse("sides that are not positive, or a rotation that is none"));
        }
    };
    if corners.is_empty() {
        return Err(refuse("no vertices"));
    }
    let low = corners.iter().copied().fold(DVec3::INFINITY, DVec3::min);
    let high = corners.iter().copied().fold(DVec3::NEG_INFINITY, DVec3::max);
    let aligned = || Region::aligned(low, high);
    turned_box(&corners).or_else(aligned).ok_or_else(|| refuse("vertices that lie in a plane or are not finite"))
}

fn text(path: &Path) -> Result<String> {
    let (_, length) = input::open(path, "open the region of interest")?;
    if length > LONGEST {
        return Err(Error::input(path.display().to_string(), format!("{length} bytes"), EXPECTED));
    }
    Ok(String::from_utf8_lossy(&input::read(path, "read the region of interest")?).into_owned())
}

fn numbers(text: &str) -> Option<Vec<f64>> {
    text.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
}

/// The box of which these are the eight corners in any order, each once or more often (faces may have their own).
fn turned_box(corners: &[DVec3]) -> Option<Region> {
    let extent = corners.iter().map(|c| c.distance(corners[0])).fold(0.0, f64::max);
    let is_same = |a: DVec3, b: DVec3| a.distance(b) <= 1e-5 * extent;
    let mut distinct: Vec<DVec3> = Vec::new();
    for &corner in corners {
        if !distinct.iter().any(|&other| is_same(other, corner)) {
            distinct.push(corner);
        }
        if distinct.len() > 8 {
            return None;
        }
    }
    let (&first, others) = distinct.split_first()?;
    // Three neighbours of the first corner, from which all others follow.
    for (i, &a) in others.iter().enumerate() {
        for (j, &b) in others.iter().enumerate().skip(i + 1) {
            for &c in others.iter().skip(j + 1) {
                let [a, b, c] = [a, b, c].map(|corner| corner - first);
                let follow = [a + b, a + c, b + c, a + b + c].map(|way| first + way);
                if distinct.len() == 8 && follow.iter().all(|&f| distinct.iter().any(|&d| is_same(d, f))) {
                    let axes = DMat3::from_cols(a.normalize(), b.normalize(), c.normalize()).transpose();
                    let half = 0.5 * DVec3::new(a.length(), b.length(), c.length());
                    return Region::turned(first + 0.5 * (a + b + c), axes, half);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned() -> Region {
        let axes = DMat3::from_rotation_z(0.4) * DMat3::from_rotation_x(-0.7);
        Region::turned(DVec3::new(1.0, -2.0, 3.0), axes, DVec3::new(0.5, 1.0, 2.0)).unwrap()
    }

    fn same(a: &Region, b: &Region) {
        let (mut a, mut b) = (a.corners().to_vec(), b.corners().to_vec());
        let key = |p: &DVec3| (p.x * 1e3).round() as i64 * 1_000_000 + (p.y * 1e3).round() as i64 * 1000;
        a.sort_by_key(key);
        b.sort_by_key(key);
        // Files hold ten digits.
        assert!(a.iter().zip(&b).all(|(a, b)| a.distance(*b) < 1e-8), "{a:?} {b:?}");
    }

    #[test]
    fn a_box_in_each_form_is_the_same_box() {
        let (folder, region) = (tempfile::tempdir().unwrap(), turned());
        let path = |name: &str| folder.path().join(name);
        let mut corners = region.corners();
        corners.reverse();
        corners.swap(1, 6);
        let lines = |begin: &str, corners: &[DVec3]| -> String {
            corners.iter().map(|c| format!("{begin}{:.10} {:.10} {:.10}\n", c.x, c.y, c.z)).collect()
        };
        // Twice, as programs write them that give each face its own corners.
        std::fs::write(path("a.obj"), lines("v ", &[corners, corners].concat()) + "f 1 2 3\n").unwrap();
        same(&read(&path("a.obj")).unwrap(), &region);
        let head = "ply\nformat ascii 1.0\nelement vertex 8\nproperty double x\nproperty double y\nproperty double z\n";
        std::fs::write(path("a.ply"), format!("{head}end_header\n{}", lines("", &corners))).unwrap();
        same(&read(&path("a.ply")).unwrap(), &region);
        let axes = DMat3::from_rotation_z(0.4) * DMat3::from_rotation_x(-0.7);
        let rows = lines("", &[axes.row(0), axes.row(1), axes.row(2)]);
        std::fs::write(path("a.txt"), rows + "1 -2 3\n0.5 1 2\n").unwrap();
        same(&read(&path("a.txt")).unwrap(), &region);
        // Any other points: what holds them.
        std::fs::write(path("b.obj"), "v 0 0 0\nv 1 2 0\nv 0.5 1 4\n").unwrap();
        same(&read(&path("b.obj")).unwrap(), &Region::aligned(DVec3::ZERO, DVec3::new(1.0, 2.0, 4.0)).unwrap());
    }

    #[test]
    fn what_is_no_box_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, told) in [
            ("a.txt", "1 0 0 0 1 0 0 0 1 0 0 0 1 1", "not fifteen numbers"),
            ("b.txt", "1 0 0 0 1 0 0 0 1 0 0 0 1 1 x", "not fifteen numbers"),
            ("c.txt", "1 0 0 0 1 0 0 0 1 0 0 0 1 1 0", "sides that are not positive"),
            ("d.txt", "2 0 0 0 1 0 0 0 1 0 0 0 1 1 1", "a rotation that is none"),
            ("e.txt", "1 0 0 0 1 0 0 0 1 nan 0 0 1 1 1", "sides that are not positive"),
            ("f.obj", "v 1 2\n", "a vertex without three numbers"),
            ("g.obj", "# nothing\n", "no vertices"),
            ("h.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "lie in a plane"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let said = read(&path).unwrap_err().to_string();
            assert!(said.contains(told) && said.contains(name), "{said}");
        }
    }
}
