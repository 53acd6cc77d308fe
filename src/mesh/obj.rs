//! `mesh.obj`: text. Numbers have the shortest digits that give the same number, wherever the scene lies. Colours follow
//! the coordinates, 0..1, as many programs read them.

use std::io::Write;

use crate::error::Result;
use crate::export::job::{Job, put};
use crate::mesh::options::MeshFormat;
use crate::mesh::triangles::Finished;

/// Writes it.
///
/// # Errors
/// Those of writing.
pub fn write(job: &Job, mesh: &Finished) -> Result<()> {
    let name = MeshFormat::Obj.file();
    if mesh.storage.double {
        job.note(format!("{name} has digits that floats do not hold: read it with a program that computes in doubles"));
    }
    job.write(name, |out| {
        put(writeln!(out, "# engine {}", env!("CARGO_PKG_VERSION")))?;
        for vertex in 0..mesh.triangles.positions.len() {
            let [x, y, z] = mesh.position(vertex).to_array();
            put(match mesh.storage.double {
                true => write!(out, "v {x} {y} {z}"),
                false => write!(out, "v {} {} {}", x as f32, y as f32, z as f32),
            })?;
            if let Some(colours) = &mesh.colours {
                // Four digits tell all 256 values apart.
                let [r, g, b] = colours[vertex].map(|value| f64::from(value) / 255.0);
                put(write!(out, " {r:.4} {g:.4} {b:.4}"))?;
            }
            put(writeln!(out))?;
        }
        for normal in &mesh.normals {
            put(writeln!(out, "vn {:.4} {:.4} {:.4}", normal.x, normal.y, normal.z))?;
        }
        for face in &mesh.triangles.faces {
            let [a, b, c] = face.map(|vertex| u64::from(vertex) + 1);
            put(writeln!(out, "f {a}//{a} {b}//{b} {c}//{c}"))?;
        }
        Ok(())
    })
}
