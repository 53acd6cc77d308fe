//! Writers of the files of a DTU evaluation that share no code with the engine's readers, and a small made-up scan.

#![allow(dead_code)] // each test file uses its own part

use std::fs;
use std::io::Write;
use std::path::Path;

/// How numbers are stored in a MAT file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    U8,
    I16,
    F32,
    F64,
}

/// An array as MATLAB would write it.
pub struct MatArray<'a> {
    pub name: &'a str,
    /// MATLAB's class: 6 double, 7 single, 9 uint8, ...
    pub class: u8,
    /// 2: logical, 8: complex.
    pub flags: u8,
    pub dimensions: &'a [i32],
    pub stored: Stored,
    pub values: &'a [f64],
}

/// The bytes of one data element: tag, data, padding; short data shares the tag's eight bytes.
fn element(kind: u32, data: &[u8], little: bool) -> Vec<u8> {
    let word = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
    let mut bytes = Vec::new();
    if (1..=4).contains(&data.len()) {
        bytes.extend(word((data.len() as u32) << 16 | kind));
        bytes.extend(data);
    } else {
        bytes.extend(word(kind));
        bytes.extend(word(data.len() as u32));
        bytes.extend(data);
    }
    while bytes.len() % 8 != 0 {
        bytes.push(0);
    }
    bytes
}

fn ordered<const N: usize>(mut bytes: [u8; N], little: bool) -> [u8; N] {
    if !little {
        bytes.reverse();
    }
    bytes
}

/// A whole MAT file of level 5.
pub fn mat(arrays: &[MatArray], little: bool, compressed: bool) -> Vec<u8> {
    let mut bytes = format!("{:124}", "MATLAB 5.0 MAT-file, made by a test").into_bytes();
    bytes.extend(ordered(0x0100u16.to_le_bytes(), little));
    bytes.extend(if little { b"IM" } else { b"MI" });
    for array in arrays {
        let mut inner = Vec::new();
        let flags = [u32::from(array.class) | u32::from(array.flags) << 8, 0];
        let flags: Vec<u8> = flags.iter().flat_map(|v| ordered(v.to_le_bytes(), little)).collect();
        inner.extend(element(6, &flags, little));
        let sides: Vec<u8> = array.dimensions.iter().flat_map(|v| ordered(v.to_le_bytes(), little)).collect();
        inner.extend(element(5, &sides, little));
        inner.extend(element(1, array.name.as_bytes(), little));
        let each = |v: &f64| match array.stored {
            Stored::U8 => vec![*v as u8],
            Stored::I16 => ordered((*v as i16).to_le_bytes(), little).to_vec(),
            Stored::F32 => ordered((*v as f32).to_le_bytes(), little).to_vec(),
            Stored::F64 => ordered(v.to_le_bytes(), little).to_vec(),
        };
        let kind = match array.stored {
            Stored::U8 => 2,
            Stored::I16 => 3,
            Stored::F32 => 7,
            Stored::F64 => 9,
        };
        inner.extend(element(kind, &array.values.iter().flat_map(each).collect::<Vec<u8>>(), little));
        let whole = element(14, &inner, little);
        if compressed {
            let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            packer.write_all(&whole).unwrap();
            let packed = packer.finish().unwrap();
            bytes.extend(ordered(15u32.to_le_bytes(), little));
            bytes.extend(ordered((packed.len() as u32).to_le_bytes(), little));
            bytes.extend(packed);
        } else {
            bytes.extend(whole);
        }
    }
    bytes
}

/// A double array that is stored as such.
pub fn doubles<'a>(name: &'a str, dimensions: &'a [i32], values: &'a [f64]) -> MatArray<'a> {
    MatArray { name, class: 6, flags: 0, dimensions, stored: Stored::F64, values }
}

/// A binary little-endian cloud of nothing but x, y and z.
pub fn ply(points: &[[f64; 3]]) -> Vec<u8> {
    let mut bytes = format!(
        "ply\nformat binary_little_endian 1.0\ncomment made by a test\nelement vertex {}\nproperty float x\n\
         property float y\nproperty float z\nend_header\n",
        points.len()
    )
    .into_bytes();
    bytes.extend(points.iter().flatten().flat_map(|v| (*v as f32).to_le_bytes()));
    bytes
}

/// Sides of the made-up mask: 1 mm voxels over x and y from 0 to 40, z from -10 to 10.
pub const MASK: [i32; 3] = [41, 41, 21];

/// Voxels that are seen: those with y up to 20.5 mm.
pub fn mask_values() -> Vec<f64> {
    let count = MASK.iter().product::<i32>();
    (0..count).map(|i| f64::from(u8::from(i / MASK[0] % MASK[1] <= 20))).collect()
}

/// A square of 81 x 81 points half a millimetre apart at this height.
pub fn square(z: f64) -> Vec<[f64; 3]> {
    (0..81 * 81).map(|i| [f64::from(i % 81) * 0.5, f64::from(i / 81) * 0.5, z]).collect()
}

/// Writes the reference of a scan: the square at height 0, the mask above, and the plane x = 20, above which are the
/// 40 columns with more.
pub fn write_reference(data: &Path, scan: u32) {
    for folder in ["Points/stl", "ObsMask"] {
        fs::create_dir_all(data.join(folder)).unwrap();
    }
    fs::write(data.join(format!("Points/stl/stl{scan:03}_total.ply")), ply(&square(0.0))).unwrap();
    let mask =
        MatArray { name: "ObsMask", class: 9, flags: 2, dimensions: &MASK, stored: Stored::U8, values: &mask_values() };
    // Column after column: x of both corners first.
    let bounds = [0.0, 40.0, 0.0, 40.0, -10.0, 10.0];
    let arrays = [
        MatArray { stored: Stored::I16, ..doubles("BB", &[2, 3], &bounds) },
        doubles("Margin", &[1, 1], &[10.0]),
        mask,
        MatArray { stored: Stored::U8, ..doubles("Res", &[1, 1], &[1.0]) },
    ];
    fs::write(data.join(format!("ObsMask/ObsMask{scan}_10.mat")), mat(&arrays, true, true)).unwrap();
    let plane = mat(&[doubles("P", &[4, 1], &[1.0, 0.0, 0.0, -20.0])], true, true);
    fs::write(data.join(format!("ObsMask/Plane{scan}.mat")), plane).unwrap();
}
