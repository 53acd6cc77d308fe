//! `mesh.ply`: binary, little endian; vertices as those of the cloud, then triangles.

use std::io::Write;

use crate::error::Result;
use crate::export::job::{Job, put};
use crate::files::ply_storage::OFFSET_COMMENT;
use crate::mesh::finished::Finished;
use crate::mesh::options::MeshFormat;

/// Writes it.
///
/// # Errors
/// Those of writing.
pub fn write(job: &Job, mesh: &Finished) -> Result<()> {
    let storage = mesh.storage;
    storage.note(MeshFormat::Ply.file()).into_iter().for_each(|note| job.note(note));
    let number = if storage.double { "double" } else { "float" };
    let mut header = String::from("ply\nformat binary_little_endian 1.0\n");
    header += &format!("comment engine {}\n", env!("CARGO_PKG_VERSION"));
    if storage.is_moved() {
        let [x, y, z] = storage.offset;
        header += &format!("comment {OFFSET_COMMENT} {x} {y} {z}\n");
    }
    header += &format!("element vertex {}\n", mesh.triangles.positions.len());
    ["x", "y", "z"].iter().for_each(|name| header += &format!("property {number} {name}\n"));
    ["nx", "ny", "nz"].iter().for_each(|name| header += &format!("property float {name}\n"));
    if mesh.colours.is_some() {
        ["red", "green", "blue"].iter().for_each(|name| header += &format!("property uchar {name}\n"));
    }
    header += &format!("element face {}\n", mesh.triangles.faces.len());
    header += "property list uchar int vertex_indices\nend_header\n";
    job.write(MeshFormat::Ply.file(), |out| {
        put(out.write_all(header.as_bytes()))?;
        let mut bytes = Vec::with_capacity(64);
        for (vertex, normal) in mesh.normals.iter().enumerate() {
            bytes.clear();
            for value in storage.stored(mesh.position(vertex).to_array()) {
                match storage.double {
                    true => bytes.extend(value.to_le_bytes()),
                    false => bytes.extend((value as f32).to_le_bytes()),
                }
            }
            bytes.extend(normal.to_array().iter().flat_map(|value| value.to_le_bytes()));
            bytes.extend(mesh.colours.as_ref().map(|colours| colours[vertex]).into_iter().flatten());
            put(out.write_all(&bytes))?;
        }
        for face in &mesh.triangles.faces {
            bytes.clear();
            bytes.push(3);
            bytes.extend(face.iter().flat_map(|vertex| (*vertex as i32).to_le_bytes()));
            put(out.write_all(&bytes))?;
        }
        Ok(())
    })
}
