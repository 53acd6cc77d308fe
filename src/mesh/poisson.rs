//! Poisson meshing (M. Kazhdan and H. Hoppe, "Screened Poisson surface reconstruction", 2013) of a run's cloud, by
//! COLMAP, which has it: Python's pycolmap is run where it is installed, on the cloud relative to the grid's origin, in
//! a folder that goes when it is done.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use glam::DVec3;

use crate::error::{Error, Result};
use crate::export::cloud::Cloud;
use crate::export::job::{Job, put};
use crate::host::allocator::may_fail;
use crate::host::interrupt;
use crate::mesh::triangles::Triangles;

const SCRIPT: &str = include_str!("poisson.py");

/// A Python that has pycolmap, and its version.
pub struct Pycolmap {
    python: &'static str,
    /// As it says itself.
    pub version: String,
}

impl Pycolmap {
    /// The first that is installed.
    ///
    /// # Errors
    /// None is.
    pub fn find() -> Result<Self> {
        let of = |python: &'static str| {
            let mut command = Command::new(python);
            command.args(["-c", "import pycolmap; print(pycolmap.__version__)"]).stdin(Stdio::null());
            let output = command.output().ok().filter(|output| output.status.success())?;
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Some(Self { python, version })
        };
        of("python3").or_else(|| of("python")).ok_or_else(|| {
            Error::input(
                "--poisson",
                "no pycolmap in Python",
                "it, for COLMAP's Poisson meshing: `pip install pycolmap`; without --poisson the engine makes the mesh",
            )
        })
    }

    /// The mesh of the cloud, relative to `origin`.
    ///
    /// # Errors
    /// A cloud that cannot be read, a folder that takes no files, what Python says when it fails,
    /// [`Error::Interrupted`].
    pub fn mesh(&self, job: &Job, cloud: &Cloud, origin: DVec3, trim: f64) -> Result<Triangles> {
        const MAKE: &str = "make a folder for Poisson meshing in";
        let folder = tempfile::Builder::new().prefix(".engine-poisson-").tempdir_in(job.out());
        let folder = folder.map_err(Error::io(MAKE, job.out()))?;
        let [points, mesh, log] = ["cloud.ply", "mesh.ply", "said.log"].map(|name| folder.path().join(name));
        write_cloud(cloud, origin, &points)?;
        let said = std::fs::File::create(&log).map_err(Error::io(MAKE, job.out()))?;
        let also = said.try_clone().map_err(Error::io(MAKE, job.out()))?;
        let mut command = Command::new(self.python);
        command.args(["-c", SCRIPT]).args([&points, &mesh]).arg(trim.to_string());
        command.arg(rayon::current_num_threads().to_string());
        // Threads that wait must not keep the processor busy: others need it.
        command.env("OMP_WAIT_POLICY", "passive");
        command.stdin(Stdio::null()).stdout(said).stderr(also);
        let refused = |found: String| Error::input(format!("pycolmap {}", self.version), found, "it to make a mesh");
        let mut child = Ended(command.spawn().map_err(|e| refused(format!("it cannot be started ({e})")))?);
        let status = loop {
            interrupt::check()?;
            match child.0.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => std::thread::sleep(Duration::from_millis(50)),
                Err(e) => return Err(refused(format!("its end cannot be waited for ({e})"))),
            }
        };
        interrupt::check()?;
        if !status.success() {
            let said = std::fs::read(&log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            return Err(refused(format!("it ended with {status}, last `{}`", last.trim())));
        }
        let bytes = std::fs::read(&mesh).map_err(Error::io("read pycolmap's mesh", &mesh))?;
        triangles(&bytes).ok_or_else(|| refused(format!("{} bytes that are no mesh as it writes them", bytes.len())))
    }
}

/// A process that does not outlive its use.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes the points as COLMAP reads them: floats with normals and colours.
fn write_cloud(cloud: &Cloud, origin: DVec3, path: &Path) -> Result<()> {
    const WRITE: &str = "write the cloud for Poisson meshing";
    let file = std::fs::File::create(path).map_err(Error::io(WRITE, path))?;
    let mut out = BufWriter::new(file);
    let floats: String = ["x", "y", "z", "nx", "ny", "nz"].map(|name| format!("property float {name}\n")).concat();
    let colours: String = ["red", "green", "blue"].map(|name| format!("property uchar {name}\n")).concat();
    let header =
        format!("ply\nformat binary_little_endian 1.0\nelement vertex {}\n{floats}{colours}end_header\n", cloud.count);
    put(out.write_all(header.as_bytes()))?;
    cloud.each(|point| {
        let place = (DVec3::from(point.position) - origin).as_vec3().to_array();
        let numbers = place.into_iter().chain(point.normal).flat_map(f32::to_le_bytes);
        put(out.write_all(&numbers.chain(point.colour).collect::<Vec<u8>>()))
    })?;
    out.flush().map_err(Error::io(WRITE, path))
}

/// The triangles of a mesh as COLMAP writes it: little endian, vertices that begin with three floats, faces of three
/// whole numbers behind their count. `None` where it is anything else.
fn triangles(bytes: &[u8]) -> Option<Triangles> {
    const END: &[u8] = b"end_header\n";
    let end = bytes.windows(END.len()).position(|window| window == END)? + END.len();
    let header = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = header.lines().filter(|line| !line.starts_with("comment"));
    (lines.next()? == "ply" && lines.next()? == "format binary_little_endian 1.0").then_some(())?;
    let vertices: usize = lines.next()?.strip_prefix("element vertex ")?.parse().ok()?;
    let (mut of_vertex, mut places) = (0, 0);
    let faces: usize = loop {
        let line = lines.next()?;
        match line.split_once(' ')? {
            ("element", rest) => break rest.strip_prefix("face ")?.parse().ok()?,
            ("property", rest) => {
                let (kind, name) = rest.split_once(' ')?;
                places += usize::from(kind == "float" && ["x", "y", "z"].get(places) == Some(&name));
                of_vertex += match kind {
                    "float" | "int" => 4,
                    "uchar" => 1,
                    _ => return None,
                };
            }
            _ => return None,
        }
    };
    (places == 3).then_some(())?;
    let counted = match lines.next()? {
        "property list int int vertex_indices" => 4,
        "property list uchar int vertex_indices" | "property list uchar int vertex_index" => 1,
        _ => return None,
    };
    let data = &bytes[end..];
    let of_vertices = vertices.checked_mul(of_vertex)?;
    let of_face = counted + 12;
    (data.len() == of_vertices.checked_add(faces.checked_mul(of_face)?)?).then_some(())?;
    let mut made = Triangles::default();
    may_fail(|| made.positions.try_reserve_exact(vertices).and_then(|()| made.faces.try_reserve_exact(faces))).ok()?;
    let word = |bytes: &[u8], at: usize| -> [u8; 4] { bytes[at..at + 4].try_into().unwrap_or_default() };
    made.positions.extend(
        data[..of_vertices]
            .chunks_exact(of_vertex)
            .map(|vertex| [0, 4, 8].map(|at| f32::from_le_bytes(word(vertex, at)))),
    );
    for face in data[of_vertices..].chunks_exact(of_face) {
        let corners = [0, 4, 8].map(|at| u32::from_le_bytes(word(face, counted + at)));
        let is_one = face[0] == 3 && corners.iter().all(|&corner| (corner as usize) < vertices);
        is_one.then(|| made.faces.push(corners))?;
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(list: &str, count: &[u8], last: u32) -> Vec<u8> {
        let header = format!(
            "ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty float x\nproperty float y\n\
             property float z\nproperty float value\nproperty uchar red\nelement face 2\n\
             property list {list}\nend_header\n"
        );
        let mut bytes = header.into_bytes();
        for i in 0..4u8 {
            bytes.extend([f32::from(i), 1.0, -2.0, 9.0].into_iter().flat_map(f32::to_le_bytes));
            bytes.push(7);
        }
        for face in [[0, 1, 2], [1, 3, last]] {
            bytes.extend(count);
            bytes.extend(face.into_iter().flat_map(u32::to_le_bytes));
        }
        bytes
    }

    #[test]
    fn meshes_of_colmap_are_read_and_damaged_ones_are_not() {
        let expected = Triangles {
            positions: (0..4u8).map(|i| [f32::from(i), 1.0, -2.0]).collect(),
            faces: vec![[0, 1, 2], [1, 3, 2]],
        };
        let good = file("int int vertex_indices", &[3, 0, 0, 0], 2);
        assert_eq!(triangles(&good), Some(expected.clone()));
        assert_eq!(triangles(&file("uchar int vertex_indices", &[3], 2)), Some(expected));
        assert_eq!(triangles(&file("int int vertex_indices", &[3, 0, 0, 0], 4)), None);
        assert_eq!(triangles(&file("int int vertex_indices", &[4, 0, 0, 0], 2)), None);
        for length in 0..good.len() {
            assert_eq!(triangles(&good[..length]), None, "{length}");
        }
    }
}
