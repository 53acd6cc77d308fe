//! Triangle meshes from OBJ and PLY files.

use std::io::BufReader;
use std::path::Path;

use glam::DVec3;
use ply_rs_bw::parser::{ParseError, Parser, Reader};
use ply_rs_bw::ply::{DefaultElement, Property, PropertyAccess, PropertyAccessResult};

use super::bounds::{Bounds, Tree};
use super::obj;
use super::ray::{Hit, Ray, triangle};
use crate::files::input;
use crate::{Error, Result};

/// Triangles, scaled and moved into the unit ball around the origin.
#[derive(Clone, Debug)]
pub struct Mesh {
    corners: Vec<[DVec3; 3]>,
    /// Smooth normals of the corners: the mean of the faces around each, weighted by area.
    normals: Vec<[DVec3; 3]>,
    tree: Tree,
}

impl Mesh {
    /// From corners and faces of three indices each.
    ///
    /// # Errors
    /// What is wrong: no face, an index beyond the corners, a coordinate that is not finite, no extent.
    pub fn new(points: &[DVec3], faces: &[[usize; 3]]) -> Result<Self, String> {
        if faces.is_empty() {
            return Err("no faces".into());
        }
        if let Some(at) = points.iter().position(|p| !p.is_finite()) {
            return Err(format!("vertex {} with a coordinate that is not finite", at + 1));
        }
        let count = points.len();
        if let Some((at, index)) =
            faces.iter().enumerate().find_map(|(at, f)| f.iter().find(|&&i| i >= count).map(|&i| (at, i)))
        {
            return Err(format!("face {} with vertex index {index} (from 0) of {count} vertices", at + 1));
        }
        let bounds = Bounds::of(faces.iter().flatten().map(|&i| points[i]));
        let middle = bounds.middle();
        let radius = faces.iter().flatten().map(|&i| points[i].distance(middle)).fold(0.0, f64::max);
        if !(radius > 0.0 && radius.is_finite()) {
            return Err("all vertices at one place, or too far apart for numbers".into());
        }
        let placed: Vec<DVec3> = points.iter().map(|&p| (p - middle) / radius).collect();
        let mut sums = vec![DVec3::ZERO; points.len()];
        for face in faces {
            let [a, b, c] = face.map(|i| placed[i]);
            let area = (b - a).cross(c - a);
            face.iter().for_each(|&i| sums[i] += area);
        }
        let corners: Vec<[DVec3; 3]> = faces.iter().map(|f| f.map(|i| placed[i])).collect();
        let normals = faces.iter().map(|f| f.map(|i| sums[i].normalize_or_zero())).collect();
        let boxes: Vec<Bounds> = corners.iter().map(|c| Bounds::of(*c)).collect();
        Ok(Self { tree: Tree::new(&boxes), corners, normals })
    }

    /// Reads a mesh; faces with more than three corners are cut into triangles.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read; [`Error::Input`] where it is no OBJ or PLY mesh.
    pub fn read(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let (points, faces) = match extension.as_str() {
            "obj" => obj::read(path, |found| refuse(path, found))?,
            "ply" => read_ply(path)?,
            _ => return Err(refuse(path, "its name ends in neither .obj nor .ply".into())),
        };
        Self::new(&points, &faces).map_err(|problem| refuse(path, problem))
    }

    /// Number of triangles.
    pub fn triangles(&self) -> usize {
        self.corners.len()
    }

    /// The box around it.
    pub fn bounds(&self) -> Bounds {
        self.tree.bounds()
    }

    /// The first hit with `from < t < to`.
    pub fn hit(&self, ray: &Ray, from: f64, to: f64) -> Option<Hit> {
        let mut best = None;
        self.tree.walk(ray, from, to, |item, end| match triangle(ray, self.corners[item]) {
            Some((t, u, v)) if t > from && t < end => {
                best = Some((item, t, u, v));
                t
            }
            _ => end,
        });
        let (item, t, u, v) = best?;
        let [a, b, c] = self.corners[item];
        let normal = (b - a).cross(c - a);
        let [na, nb, nc] = self.normals[item];
        let smooth = na * (1.0 - u - v) + nb * u + nc * v;
        // Corners whose faces cancel out have no direction of their own.
        Some(Hit { t, normal, smooth: if smooth.length_squared() > 1e-6 { smooth } else { normal } })
    }
}

type Soup = (Vec<DVec3>, Vec<[usize; 3]>);

fn refuse(path: &Path, found: String) -> Error {
    // The readers' own messages may have several lines.
    let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::input(path.display().to_string(), found, "a triangle mesh as OBJ or PLY file, with vertices and faces")
}

/// A vertex of a PLY file.
struct Vertex([Option<f64>; 3]);

impl PropertyAccess for Vertex {
    fn new() -> Self {
        Self([None; 3])
    }

    fn set_property(&mut self, name: &str, property: Property) -> PropertyAccessResult {
        let axis = match name {
            "x" => 0,
            "y" => 1,
            "z" => 2,
            _ => return PropertyAccessResult::Ignored,
        };
        self.0[axis] = match property {
            Property::Float(v) => Some(f64::from(v)),
            Property::Double(v) => Some(v),
            Property::Int(v) => Some(f64::from(v)),
            Property::Short(v) => Some(f64::from(v)),
            _ => return PropertyAccessResult::UnsupportedType,
        };
        PropertyAccessResult::Set
    }
}

/// A face of a PLY file: its corners, from 0; one beyond any vertex where the file's index is negative.
struct Face(Vec<usize>);

impl PropertyAccess for Face {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn set_property(&mut self, name: &str, property: Property) -> PropertyAccessResult {
        if !matches!(name, "vertex_indices" | "vertex_index") {
            return PropertyAccessResult::Ignored;
        }
        fn all<T: TryInto<usize>>(list: Vec<T>) -> Vec<usize> {
            list.into_iter().map(|i| i.try_into().unwrap_or(usize::MAX)).collect()
        }
        self.0 = match property {
            Property::ListInt(v) => all(v),
            Property::ListUInt(v) => all(v),
            Property::ListShort(v) => all(v),
            Property::ListUShort(v) => all(v),
            Property::ListChar(v) => all(v),
            Property::ListUChar(v) => all(v),
            _ => return PropertyAccessResult::UnsupportedType,
        };
        PropertyAccessResult::Set
    }
}

fn read_ply(path: &Path) -> Result<Soup> {
    let (file, size) = input::open(path, "open the mesh")?;
    let mut reader = Reader::new(BufReader::new(file));
    let wrong = |e: ParseError| refuse(path, e.to_string());
    let header = Parser::<DefaultElement>::new().read_header(&mut reader).map_err(wrong)?;
    let (mut points, mut faces) = (Vec::new(), Vec::new());
    for (name, element) in &header.elements {
        // Every element takes at least a byte; without this a header that lies would keep the reader busy for ever.
        if element.count as u64 > size {
            return Err(refuse(path, format!("{} x {name} stated in a file of {size} bytes", element.count)));
        }
        match name.as_str() {
            "vertex" => {
                let read = Parser::<Vertex>::new().read_payload_for_element(&mut reader, element, &header);
                for Vertex(p) in read.map_err(wrong)? {
                    let [Some(x), Some(y), Some(z)] = p else {
                        return Err(refuse(path, "vertices without x, y and z as numbers".into()));
                    };
                    points.push(DVec3::new(x, y, z));
                }
            }
            "face" => {
                let read = Parser::<Face>::new().read_payload_for_element(&mut reader, element, &header);
                for Face(corners) in read.map_err(wrong)? {
                    faces.extend(corners.windows(2).skip(1).map(|pair| [corners[0], pair[0], pair[1]]));
                }
            }
            _ => {
                let skipped = Parser::<DefaultElement>::new().read_payload_for_element(&mut reader, element, &header);
                skipped.map_err(wrong)?;
            }
        }
    }
    Ok((points, faces))
}
