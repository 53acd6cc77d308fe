//! `mesh.glb`: binary glTF 2.0, one mesh of triangles.
//!
//! Positions are floats; a mesh for which these are too coarse gets whole numbers near its middle as its node's
//! translation. Colours are linear light by the format's rules, of 16 bits. The material is unlit: the photos' light is
//! in the colours; without colours it is a matt grey. Both sides are shown. Axes are the scene's.

use std::io::Write;

use glam::DVec3;
use gltf_json::accessor::{ComponentType, GenericComponentType, Type};
use gltf_json::buffer::{Buffer, Target, View};
use gltf_json::material::{Material, PbrBaseColorFactor, PbrMetallicRoughness, StrengthFactor};
use gltf_json::mesh::{Mesh, Mode, Primitive, Semantic};
use gltf_json::scene::{Node, Scene};
use gltf_json::validation::{Checked::Valid, USize64};
use gltf_json::{Accessor, Asset, Index, Root, Value, extensions};

use crate::error::{Error, Result};
use crate::export::glb::linear;
use crate::export::job::{Job, put};
use crate::mesh::options::MeshFormat;
use crate::mesh::triangles::Finished;

/// Writes it.
///
/// # Errors
/// Those of writing; a mesh of more than 4 GiB, which the format cannot hold.
pub fn write(job: &Job, mesh: &Finished) -> Result<()> {
    let name = MeshFormat::Glb.file();
    let (vertices, faces) = (mesh.triangles.positions.len() as u64, mesh.triangles.faces.len() as u64);
    let a_vertex = 12 + 12 + if mesh.colours.is_some() { 8 } else { 0 };
    let size = vertices * a_vertex + faces * 12;
    if size > u64::from(u32::MAX) - (1 << 16) {
        return Err(Error::input(
            job.results.folder().display().to_string(),
            format!("a mesh of {faces} triangles, {size} bytes as glTF"),
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
    for (axis, value) in (0..vertices as usize).flat_map(|vertex| place(vertex).into_iter().enumerate()) {
        low[axis] = low[axis].min(value);
        high[axis] = high[axis].max(value);
    }
    let root = document(mesh, origin, (low, high));
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
        let mut floats = |values: [f32; 3]| values.iter().try_for_each(|v| put(out.write_all(&v.to_le_bytes())));
        (0..vertices as usize).try_for_each(|vertex| floats(place(vertex)))?;
        mesh.normals.iter().try_for_each(|normal| floats(normal.to_array()))?;
        for colour in mesh.colours.iter().flatten() {
            let [r, g, b] = colour.map(linear);
            [r, g, b, u16::MAX].iter().try_for_each(|v| put(out.write_all(&v.to_le_bytes())))?;
        }
        mesh.triangles.faces.iter().flatten().try_for_each(|vertex| put(out.write_all(&vertex.to_le_bytes())))
    })
}

/// The JSON part: views of the buffer in the order in which [`write()`] fills it.
fn document(mesh: &Finished, origin: DVec3, (low, high): ([f32; 3], [f32; 3])) -> Root {
    let (vertices, indices) = (mesh.triangles.positions.len(), 3 * mesh.triangles.faces.len());
    let mut root = Root {
        asset: Asset { generator: Some(format!("engine {}", env!("CARGO_PKG_VERSION"))), ..Asset::default() },
        ..Root::default()
    };
    let colour_bytes = if mesh.colours.is_some() { 8 * vertices } else { 0 };
    let length = 24 * vertices + colour_bytes + 4 * indices;
    let buffer = root.push(Buffer {
        byte_length: USize64::from(length),
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
            normalized: kind.0 == ComponentType::U16,
            sparse: None,
            extensions: None,
            extras: Default::default(),
        })
    };
    let floats = (ComponentType::F32, Type::Vec3);
    let positions = array(&mut root, 12 * vertices, Target::ArrayBuffer, floats, vertices);
    let normals = array(&mut root, 12 * vertices, Target::ArrayBuffer, floats, vertices);
    let mut attributes = vec![(Valid(Semantic::Positions), positions), (Valid(Semantic::Normals), normals)];
    if mesh.colours.is_some() {
        let kind = (ComponentType::U16, Type::Vec4);
        let colours = array(&mut root, colour_bytes, Target::ArrayBuffer, kind, vertices);
        attributes.push((Valid(Semantic::Colors(0)), colours));
    }
    let of_faces = (ComponentType::U32, Type::Scalar);
    let faces = array(&mut root, 4 * indices, Target::ElementArrayBuffer, of_faces, indices);
    let corner = |values: [f32; 3]| Some(Value::from(values.to_vec()));
    let accessor = &mut root.accessors[positions.value()];
    (accessor.min, accessor.max) = (corner(low), corner(high));
    let material = root.push(material(mesh.colours.is_some()));
    if mesh.colours.is_some() {
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

fn material(coloured: bool) -> Material {
    let grey = if coloured { 1.0 } else { 0.6 };
    let unlit = extensions::material::Material {
        unlit: coloured.then(|| extensions::material::Unlit {}),
        ..Default::default()
    };
    Material {
        double_sided: true,
        extensions: coloured.then_some(unlit),
        pbr_metallic_roughness: PbrMetallicRoughness {
            base_color_factor: PbrBaseColorFactor([grey, grey, grey, 1.0]),
            metallic_factor: StrengthFactor(0.0),
            roughness_factor: StrengthFactor(1.0),
            ..Default::default()
        },
        ..Default::default()
    }
}
