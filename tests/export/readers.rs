//! Small readers of the exported files, by their formats' descriptions. They share nothing with the writers and fail on
//! whatever they do not expect.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use glam::DVec3;
use serde_json::Value;

/// A point as a reader finds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestPoint {
    pub position: DVec3,
    pub normal: [f32; 3],
    pub colour: [u8; 3],
    pub confidence: f32,
    pub views: u8,
}

/// Bytes that are read from the front, little endian.
pub struct Bytes(Cursor<Vec<u8>>);

impl Bytes {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Cursor::new(bytes))
    }

    pub fn of(path: &Path) -> Self {
        Self::new(fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn many(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.take())
    }

    pub fn f64(&mut self) -> f64 {
        f64::from_le_bytes(self.take())
    }

    pub fn f32s(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.f32()).collect()
    }

    pub fn f64s(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.f64()).collect()
    }

    /// Up to a byte, which is passed over.
    pub fn until(&mut self, end: u8) -> String {
        let mut text = Vec::new();
        loop {
            let [byte] = self.take();
            if byte == end {
                return String::from_utf8(text).unwrap();
            }
            text.push(byte);
        }
    }

    pub fn at(&self) -> usize {
        self.0.position() as usize
    }

    pub fn left(&self) -> usize {
        self.0.get_ref().len() - self.at()
    }

    pub fn go_to(&mut self, at: usize) {
        self.0.set_position(at as u64);
    }
}

/// A binary PLY cloud with x y z nx ny nz red green blue and the two named properties, whose types may differ.
pub fn ply(path: &Path, names: [&str; 2]) -> Vec<TestPoint> {
    let mut file = Bytes::of(path);
    let (mut kinds, mut count) = (BTreeMap::new(), 0);
    let mut order = Vec::new();
    loop {
        let line = file.until(b'\n');
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["element", "vertex", n] => count = n.parse().unwrap(),
            ["property", kind, name] => {
                order.push(name.to_owned());
                kinds.insert(name.to_owned(), kind.to_owned());
            }
            ["end_header"] => break,
            _ => {}
        }
    }
    let expected = ["x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", names[0], names[1]];
    assert_eq!(order, expected, "{}", path.display());
    let mut value = |name: &str| match kinds[name].as_str() {
        "float" => f64::from(file.f32()),
        "double" => file.f64(),
        "uchar" => f64::from(file.take::<1>()[0]),
        other => panic!("{other}"),
    };
    let point = |_| TestPoint {
        position: DVec3::new(value("x"), value("y"), value("z")),
        normal: [value("nx"), value("ny"), value("nz")].map(|v| v as f32),
        colour: [value("red"), value("green"), value("blue")].map(|v| v as u8),
        confidence: value(names[0]) as f32,
        views: value(names[1]) as u8,
    };
    let points: Vec<TestPoint> = (0..count).map(point).collect();
    assert_eq!(file.left(), 0, "{}", path.display());
    points
}

/// The parts of a LAS file that tests look at.
pub struct Las {
    pub scale: DVec3,
    pub offset: DVec3,
    pub low: DVec3,
    pub high: DVec3,
    pub count: u64,
    pub point_format: u8,
    /// Variable-length records by user and number.
    pub records: BTreeMap<(String, u16), Vec<u8>>,
    /// What follows the records.
    pub data: Vec<u8>,
}

impl Las {
    /// LAS 1.4 R15, table 3 and section 2.5.
    pub fn read(path: &Path) -> Self {
        let mut file = Bytes::of(path);
        assert_eq!(&file.take::<4>(), b"LASF");
        file.go_to(24);
        assert_eq!(file.take::<2>(), [1, 4], "the version");
        file.go_to(94);
        let header = usize::from(file.u16());
        let (start, records) = (file.u32() as usize, file.u32());
        let [point_format] = file.take();
        let bytes = file.u16();
        assert_eq!((header, bytes), (375, 43));
        let legacy = [file.u32(), file.u32()];
        file.go_to(131);
        let mut triple = || DVec3::new(file.f64(), file.f64(), file.f64());
        let (scale, offset) = (triple(), triple());
        let extent = file.f64s(6);
        file.go_to(247);
        let count = file.u64();
        assert_eq!(legacy, [count as u32; 2]);
        file.go_to(header);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().trim_end_matches('\0').to_owned();
        let record = |_| {
            file.u16();
            let (user, id, length) = (text(&file.take::<16>()), file.u16(), file.u16());
            file.take::<32>();
            ((user, id), file.many(usize::from(length)))
        };
        let records = (0..records).map(record).collect();
        assert_eq!(file.at(), start, "where points begin");
        let data = file.many(file.left());
        let [low, high] = [1, 0].map(|i| DVec3::new(extent[i], extent[2 + i], extent[4 + i]));
        Self { scale, offset, low, high, count, point_format, records, data }
    }

    /// Names and types of the extra bytes.
    pub fn extra(&self) -> Vec<(String, u8)> {
        let records = &self.records[&("LASF_Spec".to_owned(), 4)];
        assert_eq!(records.len() % 192, 0);
        let name = |r: &[u8]| String::from_utf8(r[4..36].to_vec()).unwrap().trim_end_matches('\0').to_owned();
        records.chunks(192).map(|r| (name(r), r[2])).collect()
    }

    /// Points of format 2 with extra bytes confidence, views and normal.
    pub fn points(&self, data: Vec<u8>) -> Vec<TestPoint> {
        let mut file = Bytes::new(data);
        let point = |_| {
            let steps = DVec3::from([0; 3].map(|_| f64::from(i32::from_le_bytes(file.take()))));
            let [_, _, returns, class, _, _, _, _] = file.take();
            assert_eq!((returns, class), (0b1001, 1), "the first of one return, not classified");
            let colour = [0; 3].map(|_| {
                let value = file.u16();
                assert_eq!(value % 257, 0);
                (value / 257) as u8
            });
            let confidence = file.f32();
            let [views] = file.take();
            let normal = [0; 3].map(|_| file.f32());
            TestPoint { position: steps * self.scale + self.offset, normal, colour, confidence, views }
        };
        let points = (0..self.count).map(point).collect();
        assert_eq!(file.left(), 0);
        points
    }
}

/// A GLB of one mesh of points, and its JSON.
pub fn glb(path: &Path) -> (Value, Vec<TestPoint>) {
    let mut file = Bytes::of(path);
    let whole = file.left();
    assert_eq!(&file.take::<4>(), b"glTF");
    assert_eq!([file.u32(), file.u32()], [2, whole as u32]);
    let length = file.u32() as usize;
    assert_eq!((&file.take::<4>(), length % 4), (b"JSON", 0));
    let json: Value = serde_json::from_slice(&file.many(length)).unwrap();
    let length = file.u32() as usize;
    assert_eq!((&file.take::<4>(), length % 4), (b"BIN\0", 0));
    assert_eq!(json["buffers"][0]["byteLength"], length);
    let start = file.at();
    let primitive = &json["meshes"][0]["primitives"][0];
    assert_eq!(primitive["mode"], 0, "points");
    let count = json["accessors"][0]["count"].as_u64().unwrap() as usize;
    let mut floats = |name: &str, width: usize| -> Vec<Vec<f32>> {
        let accessor = &json["accessors"][primitive["attributes"][name].as_u64().unwrap() as usize];
        assert_eq!((&accessor["componentType"], &accessor["count"]), (&5126.into(), &count.into()), "{name}");
        assert_eq!(accessor["type"], if width == 3 { "VEC3" } else { "SCALAR" });
        let view = &json["bufferViews"][accessor["bufferView"].as_u64().unwrap() as usize];
        assert_eq!(view["byteLength"], 4 * width * count);
        file.go_to(start + view["byteOffset"].as_u64().unwrap() as usize);
        (0..count).map(|_| file.f32s(width)).collect()
    };
    let (positions, normals) = (floats("POSITION", 3), floats("NORMAL", 3));
    let (confidence, views) = (floats("_CONFIDENCE", 1), floats("_VIEWS", 1));
    let lights = floats("COLOR_0", 3);
    let moved = json["nodes"][0].get("translation");
    let moved = moved.map_or(DVec3::ZERO, |t| DVec3::from([0, 1, 2].map(|i| t[i].as_f64().unwrap())));
    let points = (0..count)
        .map(|i| {
            let light = [0, 1, 2].map(|c| f64::from(lights[i][c]));
            // From linear light to sRGB, IEC 61966-2-1.
            let srgb = |l: f64| if l <= 0.003_130_8 { 12.92 * l } else { 1.055 * l.powf(1.0 / 2.4) - 0.055 };
            TestPoint {
                position: DVec3::from([0, 1, 2].map(|a| f64::from(positions[i][a]))) + moved,
                normal: [0, 1, 2].map(|a| normals[i][a]),
                colour: [0, 1, 2].map(|c| (255.0 * srgb(light[c])).round() as u8),
                confidence: confidence[i][0],
                views: views[i][0] as u8,
            }
        })
        .collect();
    (json, points)
}

/// An array of NumPy's format 1.0: its shape and values as f64.
pub fn npy(bytes: Vec<u8>) -> (Vec<usize>, Vec<f64>) {
    let mut file = Bytes::new(bytes);
    assert_eq!(&file.take::<8>(), b"\x93NUMPY\x01\x00");
    let length = usize::from(file.u16());
    let head = String::from_utf8(file.many(length)).unwrap();
    assert_eq!((10 + length) % 64, 0);
    assert!(head.ends_with('\n') && head.contains("'fortran_order': False"), "{head}");
    let shape = head.split(['(', ')']).nth(1).unwrap().split(',').filter_map(|n| n.trim().parse().ok());
    let shape: Vec<usize> = shape.collect();
    let count = shape.iter().product();
    let values = match head.split('\'').nth(3).unwrap() {
        "<f4" => file.f32s(count).into_iter().map(f64::from).collect(),
        "<f8" => file.f64s(count),
        other => panic!("{other}"),
    };
    assert_eq!(file.left(), 0);
    (shape, values)
}

/// The stored members of a ZIP file, by its directory; checksums are computed bit by bit.
pub fn zip(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut file = Bytes::of(path);
    let whole = file.left();
    file.go_to(whole - 22);
    assert_eq!(&file.take::<4>(), b"PK\x05\x06");
    file.u32();
    let (count, again, _, start) = (file.u16(), file.u16(), file.u32(), file.u32());
    assert_eq!(count, again);
    let (mut at, mut members) = (start as usize, BTreeMap::new());
    for _ in 0..count {
        file.go_to(at);
        assert_eq!(&file.take::<4>(), b"PK\x01\x02");
        file.go_to(at + 10);
        assert_eq!(file.u16(), 0, "stored");
        file.u32();
        let (crc, size, again, name) = (file.u32(), file.u32() as usize, file.u32() as usize, usize::from(file.u16()));
        assert_eq!(size, again);
        file.go_to(at + 42);
        let member = file.u32() as usize;
        let name = String::from_utf8(file.many(name)).unwrap();
        at = file.at();
        file.go_to(member);
        assert_eq!(&file.take::<4>(), b"PK\x03\x04");
        file.go_to(member + 26);
        let skipped = usize::from(file.u16()) + usize::from(file.u16());
        file.go_to(member + 30 + skipped);
        let bytes = file.many(size);
        assert_eq!(crc32(&bytes), crc, "{name}");
        members.insert(name, bytes);
    }
    members
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// An OpenEXR file of float channels that are not compressed: its attributes, and the channels by name.
pub fn exr(path: &Path) -> (BTreeMap<String, Vec<u8>>, BTreeMap<String, Vec<f32>>) {
    let mut file = Bytes::of(path);
    assert_eq!(file.take::<8>(), [0x76, 0x2f, 0x31, 0x01, 2, 0, 0, 0]);
    let mut attributes = BTreeMap::new();
    loop {
        let name = file.until(0);
        if name.is_empty() {
            break;
        }
        file.until(0);
        let length = file.u32() as usize;
        attributes.insert(name, file.many(length));
    }
    assert_eq!(attributes["compression"], [0], "none");
    let mut window = Bytes::new(attributes["dataWindow"].clone());
    let [left, top, right, bottom] = [0; 4].map(|_| window.u32() as usize);
    assert_eq!((left, top), (0, 0));
    let (width, height) = (right + 1, bottom + 1);
    let (mut list, mut names) = (Bytes::new(attributes["channels"].clone()), Vec::new());
    loop {
        let name = list.until(0);
        if name.is_empty() {
            break;
        }
        assert_eq!([list.u32(), list.u32(), list.u32(), list.u32()], [2, 0, 1, 1], "floats at every pixel");
        names.push(name);
    }
    let offsets: Vec<u64> = (0..height).map(|_| file.u64()).collect();
    let mut channels: BTreeMap<String, Vec<f32>> = names.iter().map(|name| (name.clone(), Vec::new())).collect();
    for (row, offset) in offsets.into_iter().enumerate() {
        file.go_to(offset as usize);
        assert_eq!(file.u32() as usize, row);
        assert_eq!(file.u32() as usize, width * names.len() * 4, "bytes of a row");
        for name in &names {
            channels.get_mut(name).unwrap().extend(file.f32s(width));
        }
    }
    (attributes, channels)
}
