//! Clouds and depth maps as other programs store them, written by the descriptions of their formats.

#![allow(dead_code)] // each test file uses its own part

use std::path::Path;

use engine::files::map::Map;
use glam::DVec3;

/// Steps of the coordinates of LAS files.
pub const SCALE: f64 = 1e-7;
const OFFSET: [f64; 3] = [0.25, -0.5, 1.0];

/// LAS of a version and point format, by the description of the format; the points' records are beside it.
fn las_parts(points: &[DVec3], minor: u8, format: u8, length: u16, vlr: Option<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    let header = if minor == 4 { 375u16 } else { 227 };
    let record = vlr.map(|data| {
        let mut record = vec![0; 54];
        record[2..16].copy_from_slice(b"laszip encoded");
        record[18..20].copy_from_slice(&22204u16.to_le_bytes());
        record[20..22].copy_from_slice(&(data.len() as u16).to_le_bytes());
        [record, data].concat()
    });
    let mut bytes = vec![0u8; header.into()];
    let mut set = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    set(0, b"LASF");
    set(24, &[1, minor]);
    set(94, &header.to_le_bytes());
    set(96, &(u32::from(header) + record.as_ref().map_or(0, Vec::len) as u32).to_le_bytes());
    set(100, &u32::from(record.is_some()).to_le_bytes());
    set(104, &[if record.is_some() { format | 0x80 } else { format }]);
    set(105, &length.to_le_bytes());
    // Version 1.4 may leave the old number 0.
    set(107, &(if minor == 4 { 0 } else { points.len() as u32 }).to_le_bytes());
    for (i, offset) in OFFSET.iter().enumerate() {
        set(131 + 8 * i, &SCALE.to_le_bytes());
        set(155 + 8 * i, &offset.to_le_bytes());
    }
    if minor == 4 {
        set(247, &(points.len() as u64).to_le_bytes());
    }
    let mut records = Vec::new();
    for p in points {
        let mut record = vec![7; length.into()];
        for (i, value) in p.to_array().into_iter().enumerate() {
            let steps = ((value - OFFSET[i]) / SCALE).round() as i32;
            record[4 * i..4 * i + 4].copy_from_slice(&steps.to_le_bytes());
        }
        records.extend(record);
    }
    (bytes.into_iter().chain(record.into_iter().flatten()).collect(), records)
}

/// A whole LAS file.
pub fn las(points: &[DVec3], minor: u8, format: u8, length: u16) -> Vec<u8> {
    let (header, records) = las_parts(points, minor, format, length, None);
    [header, records].concat()
}

/// As LAS, compressed in chunks of 64 points.
pub fn laz(points: &[DVec3], minor: u8, format: u8, length: u16) -> Vec<u8> {
    let vlr = laz::LazVlrBuilder::default().with_point_format(format, 0).unwrap().with_fixed_chunk_size(64).build();
    let mut of_vlr = Vec::new();
    vlr.write_to(&mut of_vlr).unwrap();
    let (header, records) = las_parts(points, minor, format, length, Some(of_vlr));
    // Behind the header, since places in the file are counted from its beginning.
    let mut out = std::io::Cursor::new(header);
    out.set_position(out.get_ref().len() as u64);
    let mut squeezed = laz::LasZipCompressor::new(&mut out, vlr).unwrap();
    records.chunks_exact(length.into()).for_each(|record| squeezed.compress_one(record).unwrap());
    squeezed.done().unwrap();
    drop(squeezed);
    out.into_inner()
}

/// Two scans of which the second stands elsewhere, turned by half around z.
pub fn e57(path: &Path, points: &[DVec3]) {
    let mut writer = e57::E57Writer::from_file(path, "file").unwrap();
    let (first, second) = points.split_at(points.len() / 2);
    let pose = e57::Transform {
        rotation: e57::Quaternion { w: 0.0, x: 0.0, y: 0.0, z: 1.0 },
        translation: e57::Translation { x: 3.0, y: -2.0, z: 0.5 },
    };
    for (points, pose) in [(first, None), (second, Some(pose))] {
        let (x, y, z) = (e57::Record::CARTESIAN_X_F64, e57::Record::CARTESIAN_Y_F64, e57::Record::CARTESIAN_Z_F64);
        let mut scan = writer.add_pointcloud("scan", vec![x, y, z]).unwrap();
        let is_moved = pose.is_some();
        scan.set_transform(pose);
        for p in points {
            let stored = if is_moved { DVec3::new(3.0 - p.x, -2.0 - p.y, p.z - 0.5) } else { *p };
            scan.add_point(stored.to_array().map(e57::RecordValue::Double).into()).unwrap();
        }
        scan.finalize().unwrap();
    }
    writer.finalize().unwrap();
}

/// OpenEXR without compression, by the description of its layout.
pub fn exr(map: &Map, channels: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0x76, 0x2f, 0x31, 0x01, 2, 0, 0, 0];
    let mut attribute = |name: &str, kind: &str, value: &[u8]| {
        bytes.extend([name.as_bytes(), b"\0", kind.as_bytes(), b"\0"].concat());
        bytes.extend((value.len() as i32).to_le_bytes());
        bytes.extend(value);
    };
    let mut list = Vec::new();
    for name in channels {
        list.extend([name.as_bytes(), b"\0", &2i32.to_le_bytes(), &[0; 4]].concat());
        list.extend([1i32.to_le_bytes(), 1i32.to_le_bytes()].concat());
    }
    list.push(0);
    let window = [0, 0, map.width as i32 - 1, map.height as i32 - 1].map(i32::to_le_bytes).concat();
    attribute("channels", "chlist", &list);
    attribute("compression", "compression", &[0]);
    attribute("dataWindow", "box2i", &window);
    attribute("displayWindow", "box2i", &window);
    attribute("lineOrder", "lineOrder", &[0]);
    attribute("pixelAspectRatio", "float", &1f32.to_le_bytes());
    attribute("screenWindowCenter", "v2f", &[0; 8]);
    attribute("screenWindowWidth", "float", &1f32.to_le_bytes());
    bytes.push(0);
    let row = 8 + 4 * map.width * channels.len();
    let first = bytes.len() + 8 * map.height;
    bytes.extend((0..map.height).flat_map(|y| ((first + y * row) as u64).to_le_bytes()));
    for (y, values) in map.data.chunks_exact(map.width).enumerate() {
        bytes.extend([(y as i32).to_le_bytes(), ((row - 8) as i32).to_le_bytes()].concat());
        for name in channels {
            // Only the one that is asked for has the depths.
            let value = |v: &f32| if *name == "Z" { *v } else { 0.25 };
            bytes.extend(values.iter().flat_map(|v| value(v).to_le_bytes()));
        }
    }
    bytes
}

/// Grey of 16 bits; a scale in a text chunk where there is one.
pub fn png(map: &Map, scale: f64, told: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, map.width as u32, map.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    if let Some(told) = told {
        encoder.add_text_chunk("depth_scale".into(), told.into()).unwrap();
    }
    let value = |v: &f32| ((f64::from(*v) * scale).round().min(65535.0) as u16).to_be_bytes();
    let values: Vec<u8> = map.data.iter().flat_map(value).collect();
    encoder.write_header().unwrap().write_image_data(&values).unwrap();
    bytes
}
