//! PLY clouds in every encoding, and broken ones each with its line.

use std::fs;

use engine::files::ply_points::{self, Cloud};

use crate::dtu_files::ply;
use crate::message;

pub const POINTS: [[f32; 3]; 3] = [[1.0, -2.5, 3.25], [1e-3, 1e6, 0.0], [-7.0, 8.0, 9.0]];

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
        bytes.extend(order(f64::from(y).to_le_bytes().to_vec()));
        if with_list {
            bytes.push(i as u8);
            (0..i).for_each(|_| bytes.extend([0; 4]));
        }
        bytes.extend(order(x.to_le_bytes().to_vec()));
        bytes.extend([1, 2]);
        bytes.extend(order(z.to_le_bytes().to_vec()));
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
    let expected = Cloud { points: POINTS.to_vec(), not_finite: 0 };
    assert_eq!(read(&ply(&POINTS)), expected);
    for little in [true, false] {
        for with_list in [true, false] {
            assert_eq!(read(&rich(little, with_list)), expected, "{little} {with_list}");
        }
    }
    let ascii = "ply\nformat ascii 1.0\nelement other 2\nproperty list uchar int l\nelement vertex 3\nproperty list \
                 int float l\n\
                 property float x\nproperty double y\nproperty int n\nproperty float z\nend_header\n3 1 2 3\n0\n\
                 0 1 -2.5 7 3.25\n2 8 8 0.001 1e6 7 0\n1 4 -7 8 7 9";
    assert_eq!(read(ascii.as_bytes()), expected);
    let crlf = ascii.replace('\n', "\r\n");
    assert_eq!(read(crlf.as_bytes()), expected);

    // More than one block of the reader, and coordinates that are none.
    let mut many: Vec<[f32; 3]> = (0..40_000).map(|i| [i as f32, 0.5, -1.0]).collect();
    many[100][1] = f32::NAN;
    many[39_999][2] = f32::INFINITY;
    let found = read(&ply(&many));
    assert_eq!((found.points.len(), found.not_finite), (39_998, 2));
    assert_eq!(found.points[39_997], [39_998.0, 0.5, -1.0]);
    assert_eq!(read(&ply(&[])), Cloud { points: Vec::new(), not_finite: 0 });
    // The engine's own clouds.
    engine::files::ply::write_coloured(&path, &POINTS, |i| [i as u8; 3], &[]).unwrap();
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
