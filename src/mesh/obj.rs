//! `mesh.obj`: text. Numbers have the shortest digits that give the same number, wherever the scene lies. Colours
//! follow the coordinates, 0..1, as many programs read them. A texture is `mesh.jpg`, which `mesh.mtl` names.

use std::io::Write;

use crate::error::Result;
use crate::export::job::{Job, put};
use crate::mesh::finished::Finished;
use crate::mesh::options::MeshFormat;

/// The texture's files.
pub const MATERIAL: &str = "mesh.mtl";
/// The texture itself.
pub const PICTURE: &str = "mesh.jpg";

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
        if mesh.texture.is_some() {
            put(writeln!(out, "mtllib {MATERIAL}\nusemtl photos"))?;
        }
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
        let Some(texture) = &mesh.texture else {
            return mesh.triangles.faces.iter().try_for_each(|face| {
                let [a, b, c] = face.map(|vertex| u64::from(vertex) + 1);
                put(writeln!(out, "f {a}//{a} {b}//{b} {c}//{c}"))
            });
        };
        // Up the picture, as the format has it.
        texture.coordinates().iter().try_for_each(|[u, v]| put(writeln!(out, "vt {u} {}", 1.0 - v)))?;
        mesh.triangles.faces.iter().zip(&texture.faces).try_for_each(|(face, corners)| {
            let corner = |i: usize| (u64::from(face[i]) + 1, u64::from(corners[i]) + 1);
            let [(a, ta), (b, tb), (c, tc)] = [corner(0), corner(1), corner(2)];
            put(writeln!(out, "f {a}/{ta}/{a} {b}/{tb}/{b} {c}/{tc}/{c}"))
        })
    })?;
    let Some(texture) = &mesh.texture else { return Ok(()) };
    job.write(MATERIAL, |out| {
        put(writeln!(out, "newmtl photos\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {PICTURE}"))
    })?;
    let bytes = texture.jpeg()?;
    job.write(PICTURE, |out| put(out.write_all(&bytes)))
}
