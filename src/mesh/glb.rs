//! `mesh.glb`: binary glTF 2.0, one mesh of triangles.
//!
//! Positions are floats; a mesh for which these are too coarse gets whole numbers near its middle as its node's
//! translation. Colours are linear light by the format's rules, of 16 bits. The material is unlit: the photos' light is
//! in the colours, or in the texture, a JPEG file inside; without either it is a matt grey. Both sides are shown. Axes
//! are the scene's.

use std::io::Write;

use glam::DVec3;
use gltf_json::accessor::{ComponentType, GenericComponentType, Type};
use gltf_json::buffer::{Buffer, Target, View};
use gltf_json::image::MimeType;
use gltf_json::material::{Material, PbrBaseColorFactor, PbrMetallicRoughness, StrengthFactor};
use gltf_json::mesh::{Mesh, Mode, Primitive, Semantic};
use gltf_json::scene::{Node, Scene};
use gltf_json::validation::{Checked::Valid, USize64};
use gltf_json::{Accessor, Asset, Image, Index, Root, Texture, Value, extensions, texture};

use crate::error::{Error, Result};
use crate::export::glb::linear;
use crate::export::job::{Job, put};
use crate::mesh::finished::Finished;
use crate::mesh::options::MeshFormat;

/// Writes it.
///
/// # Errors
/// Those of writing; a mesh of more than 4 GiB, which the format cannot hold.
pub fn write(job: &Job, mesh: &Finished) -> Result<()> {
    let name = MeshFormat::Glb.file();
    let content = Content::of(mesh)?;
    let size = content.bytes();
    if size > u64::from(u32::MAX) - (1 << 16) {
        return Err(Error::input(
            job.results.folder().display().to_string(),
            format!("a mesh of {} triangles, {size} bytes as glTF", mesh.triangles.faces.len()),
            "a smaller one in a .glb file, which ends at 4 GiB: --triangles or --simplify reduces it",
        ));
    }
    let origin = if mesh.needs_doubles() { mesh.origin.round().as_vec3().as_dvec3() } else { DVec3::ZERO };
    if origin != DVec3::ZERO {
        let DVec3 { x, y, z } = origin;
        job.note(format!(
            "{name} has coordinates less {x} {y} {z}, its node's translation; a viewer that computes in floats will \
             lose what they were kept for"
        ));
    }
    let place = |vertex: usize| (mesh.position(vertex) - origin).as_vec3().to_array();
    let (mut low, mut high) = ([f32::INFINITY; 3], [f32::NEG_INFINITY; 3]);
    let all = 0..mesh.triangles.positions.len();
    for (axis, value) in all.flat_map(|vertex| place(vertex).into_iter().enumerate()) {
        low[axis] = low[axis].min(value);
        high[axis] = high[axis].max(value);
    }
    let root = document(&content, origin, (low, high));
    let mut text = root.to_vec().map_err(|e| Error::Bug { place: "glb", problem: e.to_string() })?;
    while !text.len().is_multiple_of(4) {
        text.push(b' ');
    }
    let (json_bytes, binary) = (text.len() as u32, size as u32);
    job.write(name, |out| {
        let words = [0x4654_6c67, 2, 12 + 8 + json_bytes + 8 + binary, json_bytes, 0x4e4f_534a];
        words.iter().try_for_each(|word: &u32| put(out.write_all(&word.to_le_bytes())))?;
        put(out.write_all(&text))?;
        put(out.write_all(&binary.to_le_bytes()))?;
        put(out.write_all(b"BIN\0"))?;
        let mut floats = |values: &[f32]| values.iter().try_for_each(|v| put(out.write_all(&v.to_le_bytes())));
        (0..content.vertices).try_for_each(|i| floats(&place(content.vertex(i))))?;
        (0..content.vertices).try_for_each(|i| floats(&mesh.normals[content.vertex(i)].to_array()))?;
        content.places.iter().try_for_each(|place| floats(place))?;
        content.colours.iter().flat_map(|colours| colours.iter()).try_for_each(|c| floats(&c.map(linear)))?;
        content.faces.iter().flatten().try_for_each(|vertex| put(out.write_all(&vertex.to_le_bytes())))?;
        put(out.write_all(&content.picture))
    })
}

/// What the file holds: the mesh's vertices, or with a texture one for each piece that they belong to.
struct Content<'a> {
    mesh: &'a Finished,
    vertices: usize,
    faces: &'a [[u32; 3]],
    /// In the texture.
    places: Vec<[f32; 2]>,
    /// Where there is no texture.
    colours: Option<&'a [[u8; 3]]>,
    /// A JPEG file, with zeros up to whole words.
    picture: Vec<u8>,
    picture_bytes: usize,
}

impl<'a> Content<'a> {
    fn of(mesh: &'a Finished) -> Result<Self> {
        let mut content = Self {
            mesh,
            vertices: mesh.triangles.positions.len(),
            faces: &mesh.triangles.faces,
            places: Vec::new(),
            colours: mesh.colours.as_deref(),
            picture: Vec::new(),
            picture_bytes: 0,
        };
        if let Some(texture) = &mesh.texture {
            content.picture = texture.jpeg()?;
            content.picture_bytes = content.picture.len();
            content.picture.resize(content.picture_bytes.next_multiple_of(4), 0);
            (content.vertices, content.faces) = (texture.vertices.len(), &texture.faces);
            (content.places, content.colours) = (texture.coordinates(), None);
        }
        Ok(content)
    }

    /// The vertex of the mesh.
    fn vertex(&self, at: usize) -> usize {
        self.mesh.texture.as_ref().map_or(at, |texture| texture.vertices[at] as usize)
    }

    fn bytes(&self) -> u64 {
        let a_vertex = 12 + 12 + if self.colours.is_some() { 12 } else { 0 };
        let picture = (8 * self.places.len() + self.picture.len()) as u64;
        self.vertices as u64 * a_vertex + self.faces.len() as u64 * 12 + picture
    }
}

/// The JSON part: views of the buffer in the order in which [`write()`] fills it.
fn document(content: &Content, origin: DVec3, (low, high): ([f32; 3], [f32; 3])) -> Root {
    let (vertices, indices) = (content.vertices, 3 * content.faces.len());
    let mut root = Root {
        asset: Asset { generator: Some(format!("engine {}", env!("CARGO_PKG_VERSION"))), ..Asset::default() },
        ..Root::default()
    };
    let buffer = root.push(Buffer {
        byte_length: USize64::from(content.bytes() as usize),
        name: None,
        uri: None,
        extensions: None,
        extras: Default::default(),
    });
    let mut offset = 0;
    let mut array = |root: &mut Root, bytes: usize, target: Target, kind: (ComponentType, Type), count: usize| {
        let view = root.push(View {
            buffer,
            byte_length: USize64::from(bytes),
            byte_offset: Some(USize64::from(offset)),
            byte_stride: None,
            name: None,
            target: Some(Valid(target)),
            extensions: None,
            extras: Default::default(),
        });
        offset += bytes;
        root.push(Accessor {
            buffer_view: Some(view),
            byte_offset: None,
            count: USize64::from(count),
            component_type: Valid(GenericComponentType(kind.0)),
            type_: Valid(kind.1),
            min: None,
            max: None,
            name: None,
            normalized: false,
            sparse: None,
            extensions: None,
            extras: Default::default(),
        })
    };
    let floats = (ComponentType::F32, Type::Vec3);
    let positions = array(&mut root, 12 * vertices, Target::ArrayBuffer, floats, vertices);
    let normals = array(&mut root, 12 * vertices, Target::ArrayBuffer, floats, vertices);
    let mut attributes = vec![(Valid(Semantic::Positions), positions), (Valid(Semantic::Normals), normals)];
    if !content.places.is_empty() {
        let kind = (ComponentType::F32, Type::Vec2);
        let places = array(&mut root, 8 * vertices, Target::ArrayBuffer, kind, vertices);
        attributes.push((Valid(Semantic::TexCoords(0)), places));
    }
    if content.colours.is_some() {
        let colours = array(&mut root, 12 * vertices, Target::ArrayBuffer, floats, vertices);
        attributes.push((Valid(Semantic::Colors(0)), colours));
    }
    let of_faces = (ComponentType::U32, Type::Scalar);
    let faces = array(&mut root, 4 * indices, Target::ElementArrayBuffer, of_faces, indices);
    let corner = |values: [f32; 3]| Some(Value::from(values.to_vec()));
    let accessor = &mut root.accessors[positions.value()];
    (accessor.min, accessor.max) = (corner(low), corner(high));
    let is_painted = content.colours.is_some() || !content.picture.is_empty();
    let picture = (!content.picture.is_empty()).then(|| {
        let offset = content.bytes() as usize - content.picture.len();
        picture(&mut root, buffer, offset, content.picture_bytes)
    });
    let material = root.push(material(is_painted, picture));
    if is_painted {
        root.extensions_used.push("KHR_materials_unlit".into());
    }
    let primitive = Primitive {
        attributes: attributes.into_iter().collect(),
        indices: Some(faces),
        material: Some(material),
        mode: Valid(Mode::Triangles),
        targets: None,
        extensions: None,
        extras: Default::default(),
    };
    let mesh: Index<Mesh> = root.push(Mesh {
        primitives: vec![primitive],
        weights: None,
        name: Some("mesh".into()),
        extensions: None,
        extras: Default::default(),
    });
    let translation = (origin != DVec3::ZERO).then(|| origin.as_vec3().to_array());
    let node = root.push(Node { mesh: Some(mesh), name: Some("mesh".into()), translation, ..Node::default() });
    let scene = root.push(Scene { nodes: vec![node], name: None, extensions: None, extras: Default::default() });
    root.scene = Some(scene);
    root
}

/// The texture of a JPEG file in the buffer.
fn picture(root: &mut Root, buffer: Index<Buffer>, offset: usize, bytes: usize) -> texture::Info {
    let view = root.push(View {
        buffer,
        byte_length: USize64::from(bytes),
        byte_offset: Some(USize64::from(offset)),
        byte_stride: None,
        name: None,
        target: None,
        extensions: None,
        extras: Default::default(),
    });
    let source = root.push(Image {
        buffer_view: Some(view),
        mime_type: Some(MimeType("image/jpeg".into())),
        name: None,
        uri: None,
        extensions: None,
        extras: Default::default(),
    });
    let sampler = root.push(texture::Sampler {
        mag_filter: Some(Valid(texture::MagFilter::Linear)),
        min_filter: Some(Valid(texture::MinFilter::Linear)),
        wrap_s: Valid(texture::WrappingMode::ClampToEdge),
        wrap_t: Valid(texture::WrappingMode::ClampToEdge),
        ..texture::Sampler::default()
    });
    let index =
        root.push(Texture { sampler: Some(sampler), source, name: None, extensions: None, extras: Default::default() });
    texture::Info { index, tex_coord: 0, extensions: None, extras: Default::default() }
}

fn material(is_painted: bool, picture: Option<texture::Info>) -> Material {
    let grey = if is_painted { 1.0 } else { 0.6 };
    let unlit = extensions::material::Material { unlit: Some(extensions::material::Unlit {}) };
    Material {
        double_sided: true,
        extensions: is_painted.then_some(unlit),
        pbr_metallic_roughness: PbrMetallicRoughness {
            base_color_factor: PbrBaseColorFactor([grey, grey, grey, 1.0]),
            base_color_texture: picture,
            metallic_factor: StrengthFactor(0.0),
            roughness_factor: StrengthFactor(1.0),
            ..Default::default()
        },
        ..Default::default()
    }
}
