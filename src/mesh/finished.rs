//! A mesh with all that files have of it.

use glam::{DVec3, Vec3};

use crate::files::ply_storage::{OffsetOption, Storage};
use crate::mesh::texture::Texture;
use crate::mesh::triangles::Triangles;

/// A mesh as it is written.
pub struct Finished {
    /// Relative to the origin.
    pub triangles: Triangles,
    /// In the world.
    pub origin: DVec3,
    /// One for each vertex, of length 1.
    pub normals: Vec<Vec3>,
    /// One for each vertex.
    pub colours: Option<Vec<[u8; 3]>>,
    /// A picture of its surface.
    pub texture: Option<Texture>,
    /// How coordinates are stored where they may be doubles or less an offset.
    pub storage: Storage,
}

impl Finished {
    /// With normals.
    pub fn new(triangles: Triangles, origin: DVec3, colours: Option<Vec<[u8; 3]>>, offset: OffsetOption) -> Self {
        let normals = triangles.normals();
        let mut mesh = Self { triangles, origin, normals, colours, texture: None, storage: Storage::default() };
        mesh.storage = mesh.stored(offset);
        mesh
    }

    /// A vertex in the world.
    pub fn position(&self, vertex: usize) -> DVec3 {
        self.origin + self.triangles.at(vertex as u32)
    }

    /// Whether floats are too coarse for the coordinates as they are.
    pub fn needs_doubles(&self) -> bool {
        self.stored(OffsetOption::None).double
    }

    fn stored(&self, offset: OffsetOption) -> Storage {
        Storage::of(self.triangles.positions.len(), |vertex| self.position(vertex).to_array(), offset)
    }
}
