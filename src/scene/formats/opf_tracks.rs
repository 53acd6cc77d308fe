//! The tracks of an OPF project: a glTF file with points, whose extension `OPF_mesh_primitive_matches` says which
//! cameras see each.
//!
//! glTF has y upwards: a point of the project is the file's, transformed by its node and turned back by a quarter about
//! x. `pointIndexRanges` has for each point where its matches begin and how many there are, `cameraIds` for each match
//! the place of its camera in `cameraUids`. Numbers lie in files beside, which the accessors cut into arrays.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glam::{DMat4, DVec3};
use serde::Deserialize;

use crate::files::input;
use crate::scene::formats::calibration::Point;
use crate::scene::formats::json::{self, Id};
use crate::scene::formats::listing::folder_of;
use crate::{Error, Result};

const EXPECTED: &str = "glTF of OPF with accessors, bufferViews, buffers, meshes and nodes";

/// glTF's numbers of types.
const U32: u32 = 5125;
const F32: u32 = 5126;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gltf {
    #[serde(default)]
    accessors: Vec<Accessor>,
    #[serde(default)]
    buffer_views: Vec<BufferView>,
    #[serde(default)]
    buffers: Vec<Buffer>,
    #[serde(default)]
    meshes: Vec<Mesh>,
    #[serde(default)]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accessor {
    buffer_view: usize,
    #[serde(default)]
    byte_offset: usize,
    component_type: u32,
    count: usize,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BufferView {
    buffer: usize,
    #[serde(default)]
    byte_offset: usize,
    byte_length: usize,
    byte_stride: Option<usize>,
}

#[derive(Deserialize)]
struct Buffer {
    uri: String,
}

#[derive(Deserialize)]
struct Mesh {
    primitives: Vec<Primitive>,
}

#[derive(Deserialize)]
struct Primitive {
    attributes: Attributes,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Deserialize)]
struct Attributes {
    #[serde(rename = "POSITION")]
    position: usize,
}

#[derive(Default, Deserialize)]
struct Extensions {
    #[serde(rename = "OPF_mesh_primitive_matches")]
    matches: Option<Matches>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Matches {
    camera_ids: usize,
    camera_uids: Vec<Id>,
    point_index_ranges: usize,
}

#[derive(Deserialize)]
struct Node {
    mesh: Option<usize>,
    matrix: Option<[f64; 16]>,
}

/// A glTF file with the bytes of its buffers.
struct Arrays<'a> {
    file: &'a Path,
    gltf: &'a Gltf,
    bytes: Vec<Vec<u8>>,
}

impl Arrays<'_> {
    /// The numbers of an accessor, `parts` of them each, as four bytes.
    fn of(&self, accessor: usize, (kind, parts): (&str, usize), component: u32) -> Result<Vec<[u8; 4]>> {
        let place = format!("{}: accessor {accessor}", self.file.display());
        let refused = |found: String, expected: &str| Error::input(&place, found, expected);
        let Some(array) = self.gltf.accessors.get(accessor) else {
            return Err(refused("no such accessor".into(), "one of the file's"));
        };
        if array.kind != kind || array.component_type != component {
            let found = format!("{} of componentType {}", array.kind, array.component_type);
            return Err(refused(found, &format!("{kind} of componentType {component}")));
        }
        let view = self.gltf.buffer_views.get(array.buffer_view);
        let bytes = view.and_then(|view| self.bytes.get(view.buffer));
        let (Some(view), Some(bytes)) = (view, bytes) else {
            return Err(refused(format!("bufferView {}", array.buffer_view), "a bufferView of one of the buffers"));
        };
        let (size, stride) = (4 * parts, view.byte_stride.unwrap_or(4 * parts));
        let whole = view.byte_offset.checked_add(view.byte_length).and_then(|end| bytes.get(view.byte_offset..end));
        let end = array.count.checked_sub(1).map_or(Some(0), |last| last.checked_mul(stride)?.checked_add(size));
        let end = end.and_then(|end| end.checked_add(array.byte_offset));
        let Some(part) = whole.zip(end).and_then(|(whole, end)| whole.get(array.byte_offset..end)) else {
            let found = format!("{} elements in a bufferView of {} bytes", array.count, view.byte_length);
            return Err(refused(found, "as many as the buffer's file has"));
        };
        if stride < size {
            return Err(refused(format!("byteStride {stride}"), "at least the size of an element"));
        }
        let of_element = |i: usize| part[i * stride..i * stride + size].chunks_exact(4);
        Ok((0..array.count).flat_map(of_element).map(|four| [four[0], four[1], four[2], four[3]]).collect())
    }
}

/// Reads the points; `places` are those of the cameras by their ids.
///
/// # Errors
/// Files that cannot be read or hold something else; the message names the accessor.
pub fn read(file: &Path, places: &HashMap<String, u32>, notes: &mut Vec<String>) -> Result<Vec<Point>> {
    let gltf: Gltf = json::read(file, EXPECTED)?;
    let folder = folder_of(file);
    let place_of = |buffer: &Buffer| -> PathBuf { folder.join(&buffer.uri) };
    let bytes = gltf.buffers.iter().map(|buffer| input::read(&place_of(buffer), "read the points"));
    let bytes = bytes.collect::<Result<Vec<_>>>()?;
    let arrays = Arrays { file, gltf: &gltf, bytes };
    let mut points = Vec::new();
    for node in &gltf.nodes {
        let Some(mesh) = node.mesh.and_then(|mesh| gltf.meshes.get(mesh)) else { continue };
        // Column by column; then y up becomes z up.
        let of_node = node.matrix.map_or(DMat4::IDENTITY, |matrix| DMat4::from_cols_array(&matrix));
        let position = |p: DVec3| {
            let p = of_node.transform_point3(p);
            DVec3::new(p.x, -p.z, p.y)
        };
        for primitive in &mesh.primitives {
            let positions = arrays.of(primitive.attributes.position, ("VEC3", 3), F32)?;
            let shots = match &primitive.extensions.matches {
                Some(matches) => seen_by(&arrays, matches, positions.len() / 3, places, notes)?,
                None => Vec::new(),
            };
            points.extend(positions.chunks_exact(3).enumerate().map(|(i, p)| Point {
                position: position(DVec3::from_array([p[0], p[1], p[2]].map(|v| f64::from(f32::from_le_bytes(v))))),
                error: 0.0,
                shots: shots.get(i).cloned().unwrap_or_default(),
            }));
        }
    }
    Ok(points)
}

/// For each point the places of the cameras that see it.
fn seen_by(
    arrays: &Arrays,
    matches: &Matches,
    points: usize,
    places: &HashMap<String, u32>,
    notes: &mut Vec<String>,
) -> Result<Vec<Vec<u32>>> {
    let number = |four: [u8; 4]| u32::from_le_bytes(four) as usize;
    let cameras = arrays.of(matches.camera_ids, ("SCALAR", 1), U32)?;
    let ranges = arrays.of(matches.point_index_ranges, ("VEC2", 2), U32)?;
    let refused = |found: String, expected: &str| {
        Err(Error::input(format!("{}: OPF_mesh_primitive_matches", arrays.file.display()), found, expected))
    };
    if ranges.len() != 2 * points {
        return refused(format!("{} pointIndexRanges for {points} points", ranges.len() / 2), "one for each point");
    }
    let mut seen = Vec::with_capacity(points);
    let (mut beyond, mut all) = (0, 0);
    for (i, range) in ranges.chunks_exact(2).enumerate() {
        let (first, count) = (number(range[0]), number(range[1]));
        // The example of the specification has such points.
        let Some(of_point) = first.checked_add(count).and_then(|end| cameras.get(first..end)) else {
            beyond += 1;
            seen.push(Vec::new());
            continue;
        };
        all += count;
        if all > cameras.len() {
            let found = format!("more than {all} matches up to point {i}");
            return refused(found, &format!("the {} of cameraIds, each of one point", cameras.len()));
        }
        let mut shots = Vec::with_capacity(count);
        for camera in of_point.iter().map(|&four| number(four)) {
            let Some(id) = matches.camera_uids.get(camera) else {
                let found = format!("camera {camera} of point {i}");
                return refused(found, &format!("one of the {} cameraUids", matches.camera_uids.len()));
            };
            shots.extend(places.get(&id.0).copied());
        }
        seen.push(shots);
    }
    if beyond > 0 {
        notes.push(format!("{beyond} points whose matches lie beyond those of the file: who sees them is not known"));
    }
    Ok(seen)
}
