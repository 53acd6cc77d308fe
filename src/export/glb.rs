//! `cloud.glb`: binary glTF 2.0, one mesh of points.
//!
//! `POSITION` is f32; a cloud for which that is too coarse gets whole numbers near its middle as the node's
//! `translation`, so that floats hold what is left. `COLOR_0` is linear light by the format's rules, so the photos'
//! sRGB values are converted, to floats: MeshLab takes numbers of 16 bits for bytes. `NORMAL` must have length 1 in the
//! format: where a point has none, the attribute is called `_NORMAL`. `_CONFIDENCE` and `_VIEWS` are floats. Axes are
//! the scene's.

use std::io::Write;

use glam::DVec3;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::export::job::{Job, put};
use crate::files::ply::Point;

/// Bytes of a point.
const BYTES_A_POINT: u64 = 12 + 12 + 12 + 4 + 4;
/// Normals whose length differs from 1 by more are none: floats are good for 1e-7.
const LENGTH_ERROR: f32 = 1e-4;

/// Writes it.
///
/// # Errors
/// Those of the cloud and of writing; a cloud of more than 4 GiB, which the format cannot hold.
pub fn write(job: &Job) -> Result<()> {
    let cloud = job.cloud()?;
    let size = cloud.count.saturating_mul(BYTES_A_POINT);
    if size > u64::from(u32::MAX) - (1 << 16) {
        return Err(Error::input(
            job.results.cloud().display().to_string(),
            format!("{} points, {size} bytes as glTF", cloud.count),
            "at most 97611000 points in a .glb file, which ends at 4 GiB: --max-points or --spacing takes less",
        ));
    }
    let origin = if cloud.needs_doubles() { cloud.bounds()?.middle() } else { DVec3::ZERO };
    let place = |point: &Point| (DVec3::from(point.position) - origin).as_vec3().to_array();
    let (mut low, mut high, mut unit) = ([f32::INFINITY; 3], [f32::NEG_INFINITY; 3], true);
    cloud.each(|point| {
        for (axis, value) in place(point).into_iter().enumerate() {
            low[axis] = low[axis].min(value);
            high[axis] = high[axis].max(value);
        }
        let length = point.normal.iter().map(|v| v * v).sum::<f32>().sqrt();
        unit &= (length - 1.0).abs() < LENGTH_ERROR;
        Ok(())
    })?;
    if !unit {
        job.note("cloud.glb: some points have no normal, so normals are called _NORMAL there, which viewers pass over");
    }
    if origin != DVec3::ZERO {
        let DVec3 { x, y, z } = origin;
        job.note(format!(
            "cloud.glb has coordinates less {x} {y} {z}, its node's translation; a viewer that computes in floats will \
             lose what they were kept for"
        ));
    }
    let mut text = document(cloud.count, (low, high), unit, origin).to_string();
    while !text.len().is_multiple_of(4) {
        text.push(' ');
    }
    let (json_bytes, binary) = (text.len() as u32, size as u32);
    job.write("cloud.glb", |out| {
        let words = [0x4654_6c67, 2, 12 + 8 + json_bytes + 8 + binary, json_bytes, 0x4e4f_534a];
        words.iter().try_for_each(|word: &u32| put(out.write_all(&word.to_le_bytes())))?;
        put(out.write_all(text.as_bytes()))?;
        put(out.write_all(&binary.to_le_bytes()))?;
        put(out.write_all(b"BIN\0"))?;
        let mut all = |bytes: &dyn Fn(&Point, &mut Vec<u8>)| {
            let mut buffer = Vec::with_capacity(16);
            cloud.each(|point| {
                buffer.clear();
                bytes(point, &mut buffer);
                put(out.write_all(&buffer))
            })
        };
        all(&|point, bytes| bytes.extend(place(point).iter().flat_map(|v| v.to_le_bytes())))?;
        all(&|point, bytes| bytes.extend(point.normal.iter().flat_map(|v| v.to_le_bytes())))?;
        all(&|point, bytes| bytes.extend(point.colour.iter().flat_map(|&v| linear(v).to_le_bytes())))?;
        all(&|point, bytes| bytes.extend(point.confidence.to_le_bytes()))?;
        all(&|point, bytes| bytes.extend(f32::from(point.views).to_le_bytes()))
    })
}

/// The JSON part: views of the buffer in the order in which [`write()`] fills it.
fn document(count: u64, (low, high): ([f32; 3], [f32; 3]), unit: bool, origin: DVec3) -> Value {
    const FLOAT: u32 = 5126;
    const ARRAY_BUFFER: u32 = 34962;
    let sizes = [12, 12, 12, 4, 4];
    let views: Vec<Value> = (0..sizes.len())
        .map(|i| {
            let offset = sizes[..i].iter().sum::<u64>() * count;
            json!({ "buffer": 0, "byteOffset": offset, "byteLength": sizes[i] * count, "target": ARRAY_BUFFER })
        })
        .collect();
    let accessor = |view: usize, kind: u32, shape: &str| -> Value {
        json!({ "bufferView": view, "componentType": kind, "count": count, "type": shape })
    };
    let mut position = accessor(0, FLOAT, "VEC3");
    position["min"] = json!(low);
    position["max"] = json!(high);
    let normal = if unit { "NORMAL" } else { "_NORMAL" };
    let mut node = json!({ "mesh": 0, "name": "cloud" });
    if origin != DVec3::ZERO {
        node["translation"] = json!(origin.to_array());
    }
    json!({
        "asset": { "version": "2.0", "generator": format!("engine {}", env!("CARGO_PKG_VERSION")) },
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{ "nodes": [0] }],
        "nodes": [node],
        "meshes": [{ "primitives": [{
            "attributes": { "POSITION": 0, normal: 1, "COLOR_0": 2, "_CONFIDENCE": 3, "_VIEWS": 4 },
            "mode": 0,
            "material": 0,
        }] }],
        "materials": [{
            "pbrMetallicRoughness": { "metallicFactor": 0, "roughnessFactor": 1 },
            "extensions": { "KHR_materials_unlit": {} },
        }],
        "accessors": [
            position, accessor(1, FLOAT, "VEC3"), accessor(2, FLOAT, "VEC3"), accessor(3, FLOAT, "SCALAR"),
            accessor(4, FLOAT, "SCALAR"),
        ],
        "bufferViews": views,
        "buffers": [{ "byteLength": count * BYTES_A_POINT }],
    })
}

/// Linear light, 0 to 1, of an sRGB value (IEC 61966-2-1).
pub(crate) fn linear(value: u8) -> f32 {
    let v = f64::from(value) / 255.0;
    let light = if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) };
    light as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_srgb_value_comes_back_from_linear_light() {
        for value in 0..=255u8 {
            let light = f64::from(linear(value));
            let v = if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
            assert_eq!((v * 255.0).round() as u8, value);
        }
    }
}
