//! Files of an evaluation: MAT files written by SciPy and by the test, PLY clouds in every encoding, broken ones each
//! with its line, and the program from the command line to its results.

use std::fs;
use std::path::{Path, PathBuf};

use engine::evaluation::dtu_files::{ReferenceFiles, find_prediction};
use engine::files::mat::{MatFile, Values};
use engine::files::ply_points::{self, Cloud};

#[path = "support/dtu_files.rs"]
mod dtu_files;
#[path = "support/program.rs"]
mod program;
#[path = "support/svg.rs"]
mod svg;

use dtu_files::{MASK, MatArray, Stored, doubles, mask_values, mat, ply, square, write_reference};
use program::{engine, json, text};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mat").join(name)
}

#[test]
fn what_scipy_writes_is_read() {
    let file = MatFile::read(&data("compressed.mat")).unwrap();
    let mask = file.array("ObsMask").unwrap();
    assert_eq!((mask.dimensions.as_slice(), mask.is_logical), (&[5, 4, 3][..], false));
    let expected: Vec<u8> = (0..60).map(|i| ((i % 5 + 2 * (i / 5 % 4) + 3 * (i / 20)) % 2) as u8).collect();
    assert_eq!(mask.values, Values::Bytes(expected));
    let bounds = file.array("BB").unwrap();
    assert_eq!(bounds.dimensions, [2, 3]);
    assert_eq!(bounds.values, Values::Numbers(vec![-1.5, 10.0, 2.0, 20.25, 3.0, 30.0]));
    assert_eq!(file.array("Res").unwrap().values.to_numbers(), [0.25]);
    let flag = file.array("flag").unwrap();
    assert!(flag.is_logical);
    assert_eq!(flag.values.to_flags(), [1, 0]);
    for (name, what) in
        [("text", "a text"), ("cell", "a cell array"), ("s", "a structure"), ("z", "an array of complex numbers")]
    {
        assert_eq!(
            file.array(name).unwrap_err().to_string(),
            format!("{}: '{name}' is {what}; expected an array of numbers '{name}'", data("compressed.mat").display())
        );
    }

    let file = MatFile::read(&data("plain.mat")).unwrap();
    let numbers = |name: &str| file.array(name).unwrap().values.to_numbers();
    assert_eq!(numbers("P"), [1.0, -2.5, 3e-9, 4e8]);
    assert_eq!(numbers("i16"), [-3.0, 7.0]);
    assert_eq!(numbers("i64"), [-5.0]);
    assert_eq!(numbers("f32"), [1.5, 2.5, -3.5]);
    assert_eq!(numbers("u32"), [4294967295.0]);
    assert_eq!(numbers("i8"), [-128.0, 127.0, 0.0]);
    assert!(numbers("e").is_empty());
}

#[test]
fn mat_files_of_both_byte_orders_are_alike() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.mat");
    let values = [1.0, -2.0, 3.0, 400.0, 5.0, 6.0];
    for little in [true, false] {
        for compressed in [true, false] {
            let arrays = [
                doubles("first", &[2, 3], &values),
                // Doubles are stored smaller where they fit; two of them share their tag's bytes.
                MatArray { stored: Stored::I16, ..doubles("small", &[1, 2], &values[..2]) },
                MatArray { stored: Stored::F32, class: 7, ..doubles("float", &[6, 1], &values) },
                MatArray { stored: Stored::U8, class: 9, flags: 2, ..doubles("b", &[3, 1, 1], &[1.0, 0.0, 1.0]) },
            ];
            fs::write(&path, mat(&arrays, little, compressed)).unwrap();
            let file = MatFile::read(&path).unwrap();
            for name in ["first", "float"] {
                assert_eq!(file.array(name).unwrap().values, Values::Numbers(values.to_vec()), "{name}");
            }
            assert_eq!(file.array("small").unwrap().values.to_numbers(), values[..2]);
            let flags = file.array("b").unwrap();
            assert!(flags.is_logical && flags.dimensions == [3, 1, 1]);
            assert_eq!(flags.values, Values::Bytes(vec![1, 0, 1]));
        }
    }
}

/// Errors of a reader on bytes, with FILE for the path.
fn message<T: std::fmt::Debug>(bytes: &[u8], read: fn(&Path) -> engine::Result<T>) -> String {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, bytes).unwrap();
    read(&path).unwrap_err().to_string().replace(text(&path), "FILE")
}

#[test]
fn broken_mat_files_are_told_in_one_line() {
    let of = |bytes: &[u8]| message(bytes, MatFile::read);
    let whole = mat(&[doubles("P", &[4, 1], &[1.0, 2.0, 3.0, 4.0])], true, false);
    assert_eq!(
        of(b"short"),
        "FILE: 5 bytes; expected a MAT file of level 5 (save -v6 or -v7), whose header alone has 128"
    );
    assert_eq!(
        of(b"MATLAB 7.3 MAT-file"),
        "FILE: a MAT file of version 7.3 (HDF5); expected a MAT file of level 5 (save -v6 or -v7)"
    );
    assert_eq!(
        of(&[b'x'; 200]),
        "FILE: 'xx' at byte 126; expected 'IM' or 'MI' there: a MAT file of level 5 (save -v6 or -v7)"
    );
    // Tag 8, flags 16, dimensions 16, name 8, values 40: 80 bytes after the first tag.
    assert_eq!(
        of(&whole[..whole.len() - 1]),
        "FILE: byte 128: an element of 80 bytes where 79 are left; expected a whole file; this one is truncated or damaged, get it again"
    );
    assert_eq!(
        of(&whole[..132]),
        "FILE: byte 128: an element of 8 bytes where 4 are left; expected a whole file; this one is truncated or damaged, get it again"
    );
    assert_eq!(
        of(&mat(&[doubles("P", &[5, 1], &[1.0, 2.0])], true, true)),
        "FILE: 'P': 2 values for dimensions 5 x 1; expected as many values as the dimensions say; the file is damaged, get it again"
    );
    // Damage anywhere gives an error or other numbers, never a panic.
    for compressed in [false, true] {
        let whole =
            mat(&[doubles("P", &[4, 1], &[1.0, 2.0, 3.0, 4.0]), doubles("Q", &[1, 1], &[1.0])], true, compressed);
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        for at in 124..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                fs::write(&path, &bytes).unwrap();
                let _ = MatFile::read(&path).map(|f| f.array("P").map(|a| a.values.len()));
            }
            fs::write(&path, &whole[..at]).unwrap();
            let _ = MatFile::read(&path);
        }
    }
}

const POINTS: [[f32; 3]; 3] = [[1.0, -2.5, 3.25], [1e-3, 1e6, 0.0], [-7.0, 8.0, 9.0]];

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
        "ply\r\nformat {encoding} 1.0\r\nobj_info none\nelement camera 2\nproperty list ushort double a\nproperty char b\n\
         element vertex 3\nproperty uchar red\nproperty double y\n{list}property float32 x\nproperty short s\nproperty float z\n\
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
    let ascii = "ply\nformat ascii 1.0\nelement other 2\nproperty list uchar int l\nelement vertex 3\nproperty list int float l\n\
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
        "FILE: line 3: 'property float x'; expected property TYPE NAME or property list TYPE TYPE NAME, after an element"
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
        "FILE: 35 bytes after the header, which states 3 vertices; expected a whole file of at most 4294967295 vertices; it is truncated, or its header lies"
    );
    let lying = String::from_utf8_lossy(&ply(&[])).replace("vertex 0", "vertex 18446744073709551615");
    assert_eq!(
        of(lying.as_bytes()),
        "FILE: 0 bytes after the header, which states 18446744073709551615 vertices; expected a whole file of at most 4294967295 vertices; it is truncated, or its header lies"
    );
    let listed = rich(true, true);
    let cut = &listed[..listed.len() - 7];
    assert!(of(cut).starts_with("FILE: the file ends after 2 of 3 elements 'vertex'"), "{}", of(cut));
}

/// A data set with scans 9 and 10.
fn data_set(root: &Path) -> PathBuf {
    let data = root.join("dtu");
    for scan in [9, 10] {
        write_reference(&data, scan);
    }
    data
}

#[test]
fn a_scan_is_measured_from_the_command_line() {
    let root = tempfile::tempdir().unwrap();
    let data = data_set(root.path());
    let [cloud, out, errors] = ["cloud.ply", "scores/a.json", "errors"].map(|name| root.path().join(name));
    // Every point twice: thinning takes one of each pair.
    let points = square(1.0);
    fs::write(&cloud, ply(&[points.clone(), points].concat())).unwrap();
    let arguments = ["eval", "dtu", text(&cloud), "--scan", "9", "--data", text(&data)];
    let more = ["--out", text(&out), "--error-clouds", text(&errors)];
    let ran = engine(arguments.iter().chain(&more)).done();
    // In the mask: rows with y up to 20, 41 x 81. Above the plane: columns with x over 20, 40 x 81. All exactly 1 mm
    // away.
    assert_eq!(
        ran.stdout,
        "scan  accuracy  median  completeness  median  overall  points  of reference\n   \
         9    1.0000  1.0000        1.0000  1.0000   1.0000    3321          3240\n"
    );
    let numbers = &json(&out)["scans"][0]["numbers"];
    assert_eq!(numbers["points"], 2 * 6561);
    assert_eq!((&numbers["thinned"], &numbers["in_mask"]), (&6561.into(), &3321.into()));
    assert_eq!((&numbers["accuracy"]["mean"], &numbers["accuracy"]["variance"]), (&1.0.into(), &0.0.into()));
    assert_eq!(json(&out)["settings"], serde_json::json!({ "thinning": true, "seed": 0 }));

    // 1 mm of 10: white to red by a tenth, blue to green by a tenth.
    for (name, counted) in [("Data2Stl", 3321), ("Stl2Data", 3240)] {
        let bytes = fs::read(errors.join(format!("scan9_{name}.ply"))).unwrap();
        let start = bytes.windows(11).position(|w| w == b"end_header\n").unwrap() + 11;
        let colours: Vec<&[u8]> = bytes[start..].chunks(15).map(|point| &point[12..]).collect();
        assert_eq!(colours.len(), 6561);
        assert_eq!(colours.iter().filter(|c| **c == [255, 230, 230]).count(), counted, "{name}");
        assert_eq!(colours.iter().filter(|c| **c == [0, 26, 230]).count(), 6561 - counted, "{name}");
    }

    // Events, another seed, no thinning.
    let ran = engine(arguments.iter().chain(&["--no-thinning", "--json", "--seed", "4"])).done();
    let events = ran.events();
    let summary = events.last().unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["scans"][0]["numbers"]["thinned"], 2 * 6561);
    assert_eq!(summary["settings"]["seed"], 4);
}

#[test]
fn a_folder_of_scans_gets_a_mean_and_an_empty_scan_leaves_none() {
    let root = tempfile::tempdir().unwrap();
    let data = data_set(root.path());
    let results = root.path().join("results");
    fs::create_dir_all(results.join("scan10")).unwrap();
    fs::write(results.join("mvs009_l3.ply"), ply(&square(1.0))).unwrap();
    fs::write(results.join("scan10/fused.ply"), ply(&square(2.0))).unwrap();
    let run = |more: &[&str]| {
        engine(["eval", "dtu", text(&results), "--scans", "10,9", "--data", text(&data)].iter().chain(more))
    };
    let ran = run(&[]).done();
    assert_eq!(
        ran.stdout,
        "scan  accuracy  median  completeness  median  overall  points  of reference\n   \
         9    1.0000  1.0000        1.0000  1.0000   1.0000    3321          3240\n  \
         10    2.0000  2.0000        2.0000  2.0000   2.0000    3321          3240\n\
         mean    1.5000  1.5000        1.5000  1.5000   1.5000\n"
    );
    // Nothing of scan 10 is in the mask or near the reference.
    fs::write(results.join("scan10/fused.ply"), ply(&square(50.0))).unwrap();
    let out = root.path().join("a.json");
    let ran = run(&["--out", text(&out)]).done();
    assert_eq!(
        ran.stdout,
        "scan  accuracy  median  completeness  median  overall  points  of reference\n   \
         9    1.0000  1.0000        1.0000  1.0000   1.0000    3321          3240\n  \
         10         -       -             -       -        -       0             0\n\
         mean         -       -             -       -        -\n"
    );
    let notes: Vec<&str> = ran.stderr.lines().filter_map(|line| line.strip_prefix("note: ")).collect();
    assert_eq!(
        notes,
        [
            "scan 10: no point of the prediction is in the observability mask",
            "scan 10: no point of the reference above the ground plane lies within 20 mm of the other cloud",
            "a scan without a number leaves the mean over scans without one",
        ]
    );
    let written = json(&out);
    assert!(written["mean"]["overall"].is_null() && written["scans"][1]["numbers"]["accuracy"]["mean"].is_null());
    assert_eq!(written["scans"][0]["numbers"]["overall"], 1.0);
    assert_eq!(written["notes"].as_array().unwrap().len(), 3);
}

#[test]
fn clouds_of_results_are_found_by_their_names() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let write = |name: &str| fs::write(folder.join(name), ply(&POINTS)).unwrap();
    for name in ["mvs001_l3.ply", "mvs2114_l3.ply", "._mvs004_l3.ply", "scan4.ply", "scan40.ply"] {
        write(name);
    }
    assert_eq!(find_prediction(folder, 1).unwrap(), folder.join("mvs001_l3.ply"));
    assert_eq!(find_prediction(folder, 4).unwrap(), folder.join("scan4.ply"));
    assert_eq!(
        find_prediction(folder, 114).unwrap_err().to_string(),
        format!(
            "{}: no cloud of scan 114; expected METHOD114_l3.ply, scan114/fused.ply or scan114.ply",
            folder.display()
        )
    );
    write("scan1.ply");
    assert_eq!(
        find_prediction(folder, 1).unwrap_err().to_string(),
        format!(
            "{}: 2 clouds of scan 1: mvs001_l3.ply, scan1.ply; expected one; move the others away",
            folder.display()
        )
    );
}

#[test]
fn reference_files_that_are_not_what_they_should_be() {
    let root = tempfile::tempdir().unwrap();
    let data = data_set(root.path());
    let cloud = root.path().join("cloud.ply");
    fs::write(&cloud, ply(&POINTS)).unwrap();
    let run = || engine(["eval", "dtu", text(&cloud), "--scan", "9", "--data", text(&data)]);
    let files = ReferenceFiles::find(&data, 9).unwrap();
    let [points, mask, plane] = [&files.points, &files.mask, &files.plane].map(|f| text(f).to_owned());

    let kept = fs::read(&points).unwrap();
    fs::remove_file(&points).unwrap();
    assert_eq!(
        run().failed(4),
        format!("{points}: cannot open the reference of the DTU data set: No such file or directory (os error 2)")
    );
    fs::write(&points, ply(&[[f32::NAN; 3]])).unwrap();
    assert_eq!(
        run().failed(3),
        format!(
            "{points}: 1 point without finite coordinates; expected none in the reference; the file is damaged, get it again"
        )
    );
    fs::write(&points, kept).unwrap();

    let bounds = [0.0, 40.0, 0.0, 40.0, -10.0, 10.0];
    let flat = [41, 41 * 21];
    let seen = mask_values();
    let array = |dimensions| MatArray { class: 9, stored: Stored::U8, ..doubles("ObsMask", dimensions, &seen) };
    let write = |arrays: &[MatArray]| fs::write(&mask, mat(arrays, true, true)).unwrap();
    write(&[doubles("BB", &[2, 3], &bounds), doubles("Res", &[1, 1], &[1.0]), array(&flat)]);
    assert_eq!(
        run().failed(3),
        format!("{mask}: 'ObsMask': 41 x 861; expected three dimensions: voxels along x, y and z")
    );
    write(&[doubles("BB", &[3, 2], &bounds), doubles("Res", &[1, 1], &[1.0]), array(&MASK)]);
    assert_eq!(
        run().failed(3),
        format!("{mask}: 'BB': 3 x 2; expected 2 x 3 finite numbers: the smallest and the largest corner of the box")
    );
    write(&[doubles("BB", &[2, 3], &bounds), doubles("Res", &[1, 1], &[0.0]), array(&MASK)]);
    assert_eq!(run().failed(3), format!("{mask}: 'Res': 0; expected the edge of a voxel in mm, above 0"));
    write(&[doubles("BB", &[2, 3], &bounds), array(&MASK)]);
    assert_eq!(run().failed(3), format!("{mask}: no 'Res', only 'BB', 'ObsMask'; expected an array of numbers 'Res'"));
    let whole = mat(&[array(&MASK)], true, true);
    fs::write(&mask, &whole[..whole.len() - 20]).unwrap();
    assert_eq!(
        run().failed(3),
        format!(
            "{mask}: byte 128: an element of {} bytes where {} are left; expected a whole file; this one is truncated or \
             damaged, get it again",
            whole.len() - 136,
            whole.len() - 156
        )
    );
    write_reference(&data, 9);
    fs::write(&plane, mat(&[doubles("P", &[3, 1], &[1.0; 3])], true, false)).unwrap();
    assert_eq!(
        run().failed(3),
        format!("{plane}: 'P': 3 x 1; expected 4 x 1 finite numbers a, b, c, d with a x + b y + c z + d > 0 above")
    );
}

#[test]
fn a_cloud_is_measured_against_another_from_the_command_line() {
    let root = tempfile::tempdir().unwrap();
    let [a, b, out] = ["a.ply", "b.ply", "out.json"].map(|name| root.path().join(name));
    // B's square has a quarter that A lacks: its 41 columns with x over 19.5 and 41 rows with y over 19.5.
    let is_common = |p: &[f32; 3]| p[0] < 20.0 || p[1] < 20.0;
    fs::write(&a, ply(&square(0.25).into_iter().filter(is_common).collect::<Vec<_>>())).unwrap();
    fs::write(&b, ply(&square(0.0))).unwrap();
    let arguments = ["eval", "cloud", text(&a), text(&b)];
    let more = ["--thresholds", "0.2,0.3", "--max-distance", "0.3", "--out", text(&out)];
    let ran = engine(arguments.iter().chain(&more)).done();
    // Recall: (6561 - 1681) / 6561 = 0.7438, F = 2 * 0.7438 / 1.7438 = 0.8531.
    assert_eq!(
        ran.stdout,
        "                  mean    median        points\n    accuracy  0.250000  0.250000  4880 of 4880\n\
         completeness  0.250000  0.250000  4880 of 6561\n\n\
         threshold  precision  recall  F-score\n \
         0.200000     0.0000  0.0000   0.0000\n \
         0.300000     1.0000  0.7438   0.8531\n"
    );
    assert_eq!(json(&out)["numbers"]["completeness"]["count"], 4880);
    let plot = root.path().join("plots/a.svg");
    let ran = engine(arguments.iter().chain(&["--voxel", "2", "--plot", text(&plot)])).done();
    let words = svg::readable(&fs::read_to_string(&plot).unwrap());
    for word in ["of the cloud (precision)", "of the reference (recall)", "thresholds", "Distances"] {
        assert!(words.iter().any(|w| w == word), "{word} among {words:?}");
    }
    assert!(
        ran.stderr.contains(
            "note: thresholds: 0.001, 0.002, 0.005 of the diagonal of the reference's box, which is 56.568542"
        ),
        "{}",
        ran.stderr
    );
    fs::write(&a, ply(&[[f32::NAN; 3]])).unwrap();
    let ran = engine(arguments);
    assert!(ran.stderr.starts_with(&format!("note: {}: 1 point without finite coordinates left out\n", text(&a))));
    assert_eq!(
        ran.failed(6),
        "the cloud to measure has no points with finite coordinates: there is nothing to compare"
    );
}

#[test]
fn usage_is_checked_before_files() {
    let cases: [(&[&str], &str); 5] = [
        (&["dtu", "x", "--data", "d"], "<--scan <N>|--scans <SCANS>>"),
        (&["dtu", "x", "--data", "d", "--scan", "1", "--scans", "2"], "cannot be used with"),
        (&["dtu", "x", "--data", "d", "--scans", "some"], "expected evaluation, validation, training or numbers"),
        (&["cloud", "x"], "<REFERENCE>"),
        (&["cloud", "x", "y", "--thresholds", "1,0"], "expected a number above 0"),
    ];
    for (arguments, expected) in cases {
        let ran = engine([&["eval"], arguments].concat());
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
    }
}
