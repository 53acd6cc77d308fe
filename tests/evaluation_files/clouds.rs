//! PLY clouds in every encoding, and broken ones each with its line.

use std::fs;

use engine::files::ply_points::{self, Cloud};
use engine::files::ply_storage::Storage;

use crate::dtu_files::ply;
use crate::message;

/// Whole numbers of 1024ths, which floats hold.
pub const POINTS: [[f64; 3]; 3] = [[1.0, -2.5, 3.25], [0.0009765625, 1e6, 0.0], [-7.0, 8.0, 9.0]];

/// A cloud with more than is asked for: elements before and after the vertices, doubles, and properties around x, y
/// and z.
fn rich(little: bool, with_list: bool) -> Vec<u8> {
    let order = |mut bytes: Vec<u8>| {
        if !little {
            bytes.reverse();
        }
        bytes
    };
    let list = if with_list { "property list uchar int links\n" } else { "" };
    let encoding = if little { "binary_little_endian" } else { "binary_big_endian" };
    let mut bytes = format!(
        "ply\r\nformat {encoding} 1.0\r\nobj_info none\nelement camera 2\nproperty list ushort double a\nproperty char \
         b\n\
         element vertex 3\nproperty uchar red\nproperty double y\n{list}property float32 x\nproperty short s\nproperty \
         float z\n\
         element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    .into_bytes();
    for length in [2u16, 0] {
        bytes.extend(order(length.to_le_bytes().to_vec()));
        (0..length).for_each(|i| bytes.extend(order(f64::from(i).to_le_bytes().to_vec())));
        bytes.push(5);
    }
    for (i, [x, y, z]) in POINTS.into_iter().enumerate() {
        bytes.push(200);
        bytes.extend(order(y.to_le_bytes().to_vec()));
        if with_list {
            bytes.push(i as u8);
            (0..i).for_each(|_| bytes.extend([0; 4]));
        }
        bytes.extend(order((x as f32).to_le_bytes().to_vec()));
        bytes.extend([1, 2]);
        bytes.extend(order((z as f32).to_le_bytes().to_vec()));
    }
    bytes.push(1);
    bytes.extend([0; 4]);
    bytes
}

#[test]
fn clouds_of_every_encoding_are_alike() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.ply");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        ply_points::read(&path).unwrap()
    };
    let expected = Cloud { points: POINTS.to_vec(), not_finite: 0, offset: None, colours: None };
    assert_eq!(read(&ply(&POINTS)), expected);
    for little in [true, false] {
        for with_list in [true, false] {
            assert_eq!(read(&rich(little, with_list)), expected, "{little} {with_list}");
        }
    }
    let ascii = "ply\nformat ascii 1.0\nelement other 2\nproperty list uchar int l\nelement vertex 3\nproperty list \
                 int float l\n\
                 property float x\nproperty double y\nproperty int n\nproperty float z\nend_header\n3 1 2 3\n0\n\
                 0 1 -2.5 7 3.25\n2 8 8 9765625e-10 1e6 7 0\n1 4 -7 8 7 9";
    assert_eq!(read(ascii.as_bytes()), expected);
    let crlf = ascii.replace('\n', "\r\n");
    assert_eq!(read(crlf.as_bytes()), expected);

    // More than one block of the reader, and coordinates that are none.
    let mut many: Vec<[f64; 3]> = (0..40_000).map(|i| [f64::from(i), 0.5, -1.0]).collect();
    many[100][1] = f64::NAN;
    many[39_999][2] = f64::INFINITY;
    let found = read(&ply(&many));
    assert_eq!((found.points.len(), found.not_finite), (39_998, 2));
    assert_eq!(found.points[39_997], [39_998.0, 0.5, -1.0]);
    assert_eq!(read(&ply(&[])), Cloud { points: Vec::new(), not_finite: 0, offset: None, colours: None });
    // The engine's own clouds.
    engine::files::ply::write_coloured(&path, &POINTS, |i| [i as u8; 3], Storage::default(), &[]).unwrap();
    assert_eq!(ply_points::read(&path).unwrap(), expected);
    assert_eq!(fs::read(&path).unwrap().last(), Some(&2));
}

#[test]
fn broken_clouds_are_told_in_one_line() {
    let of = |bytes: &[u8]| message(bytes, ply_points::read);
    let header = |lines: &str| of(format!("ply\nformat ascii 1.0\n{lines}").as_bytes());
    assert_eq!(of(b"solid x\n"), "FILE: line 1: 'solid x'; expected 'ply' (a PLY file)");
    assert_eq!(of(b""), "FILE: line 1: ''; expected 'ply' (a PLY file)");
    assert_eq!(
        of(b"ply\nformat xml 1.0\n"),
        "FILE: line 2: 'format xml 1.0'; expected ascii, binary_little_endian or binary_big_endian"
    );
    assert_eq!(header("element vertex 1\n"), "FILE: a header without end; expected a line 'end_header'");
    assert_eq!(header("element vertex many\n"), "FILE: line 3: 'element vertex many'; expected element NAME COUNT");
    assert_eq!(
        header("property float x\n"),
        "FILE: line 3: 'property float x'; expected property TYPE NAME or property list TYPE TYPE NAME, after an \
         element"
    );
    assert_eq!(header("end_header\n"), "FILE: a PLY without vertices; expected an element 'vertex' with x, y and z");
    assert_eq!(
        header("element vertex 0\nproperty float y\nproperty float z\nend_header\n"),
        "FILE: vertices without 'x', only y, z; expected x, y and z of every vertex, one number each"
    );
    let xyz = "property float x\nproperty float y\nproperty float z\nend_header\n";
    assert_eq!(
        header(&format!("element vertex 2\n{xyz}1 2 3\n1 2 x\n")),
        "FILE: line 9: '1 2 x'; expected 3 properties with numbers for x, y and z"
    );
    assert_eq!(
        header(&format!("element vertex 2\n{xyz}1.25 2.5 3.75\n")),
        "FILE: the file ends after 1 of 2 elements 'vertex'; expected all of them; it is truncated, or its header lies"
    );
    let whole = ply(&POINTS);
    assert_eq!(
        of(&whole[..whole.len() - 1]),
        "FILE: 35 bytes after the header, which states 3 vertices; expected a whole file of at most 4294967295 \
         vertices; it is truncated, or its header lies"
    );
    let lying = String::from_utf8_lossy(&ply(&[])).replace("vertex 0", "vertex 18446744073709551615");
    assert_eq!(
        of(lying.as_bytes()),
        "FILE: 0 bytes after the header, which states 18446744073709551615 vertices; expected a whole file of at most \
         4294967295 vertices; it is truncated, or its header lies"
    );
    let listed = rich(true, true);
    let cut = &listed[..listed.len() - 7];
    assert!(of(cut).starts_with("FILE: the file ends after 2 of 3 elements 'vertex'"), "{}", of(cut));
}

#[test]
fn elements_without_properties_take_no_time() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.ply");
    let head = |encoding: &str, count: u64| {
        format!(
            "ply\nformat {encoding} 1.0\nelement x {count}\nelement vertex 1\nproperty double x\nproperty double y\n\
             property double z\nend_header\n"
        )
    };
    let mut bytes = head("binary_little_endian", u64::MAX).into_bytes();
    [1.0f64, 2.0, 3.0].iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    fs::write(&path, &bytes).unwrap();
    let expected = Cloud { points: vec![[1.0, 2.0, 3.0]], not_finite: 0, offset: None, colours: None };
    assert_eq!(ply_points::read(&path).unwrap(), expected);
    // In a text they are empty lines.
    fs::write(&path, head("ascii", 2) + "\n\n1 2 3\n").unwrap();
    assert_eq!(ply_points::read(&path).unwrap(), expected);
    fs::write(&path, head("ascii", u64::MAX) + "\n\n1 2 3\n").unwrap();
    assert!(ply_points::read(&path).unwrap_err().to_string().contains("it is truncated, or its header lies"));
    // Whole elements of one size are passed over at once, and their end is still seen.
    let short = |count: u64| {
        let head = head("binary_little_endian", count).replace("element vertex", "property short s\nelement vertex");
        fs::write(&path, [head.as_bytes(), &[0; 30]].concat()).unwrap();
        ply_points::read(&path).map(|cloud| cloud.points.len()).map_err(|e| e.to_string())
    };
    assert_eq!(short(3), Ok(1));
    assert!(short(4).unwrap_err().contains("truncated"));
}

#[test]
fn clouds_are_read_back_as_they_were_written() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.ply");
    let points = [[448_262.125, -5_411_932.3, 320.0], [448_263.125, -5_411_931.3, 321.5]];
    for (storage, bound) in [
        (Storage { double: true, offset: [0.0; 3] }, 0.0),
        (Storage { double: true, offset: [448_000.0, -5_411_000.5, 0.1] }, 1e-9),
        (Storage { double: false, offset: [448_000.0, -5_411_000.5, 0.1] }, 4e-5),
    ] {
        engine::files::ply::write_coloured(&path, &points, |_| [1, 2, 3], storage, &["by a test".into()]).unwrap();
        let read = ply_points::read(&path).unwrap();
        assert_eq!(read.offset, storage.is_moved().then_some(storage.offset));
        for (found, expected) in read.points.iter().flatten().zip(points.iter().flatten()) {
            assert!((found - expected).abs() <= bound, "{storage:?}: {found} {expected}");
        }
        for (found, expected) in read.points.iter().zip(points) {
            assert_eq!(*found, storage.read_back(expected));
        }
    }
    let bad = "ply\nformat ascii 1.0\ncomment ply-offset 1 x 3\n";
    assert_eq!(
        message(bad.as_bytes(), ply_points::read),
        "FILE: line 3: 'comment ply-offset 1 x 3'; expected comment ply-offset and three numbers"
    );
}
