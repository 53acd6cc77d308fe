//! Files of an evaluation: MAT files and PLY clouds in files of their own, and here the program from the command line
//! to its results.

use std::fs;
use std::path::{Path, PathBuf};

use engine::evaluation::dtu_files::{ReferenceFiles, find_prediction};

mod clouds;
#[path = "../support/dtu_files.rs"]
mod dtu_files;
mod mat;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/svg.rs"]
mod svg;

use clouds::POINTS;
use dtu_files::{MASK, MatArray, Stored, doubles, mask_values, mat, ply, square, write_reference};
use program::{engine, json, text};

/// Errors of a reader on bytes, with FILE for the path.
fn message<T: std::fmt::Debug>(bytes: &[u8], read: fn(&Path) -> engine::Result<T>) -> String {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, bytes).unwrap();
    read(&path).unwrap_err().to_string().replace(text(&path), "FILE")
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
    fs::write(&points, ply(&[[f64::NAN; 3]])).unwrap();
    assert_eq!(
        run().failed(3),
        format!(
            "{points}: 1 point without finite coordinates; expected none in the reference; the file is damaged, get it \
             again"
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
            "{mask}: byte 128: an element of {} bytes where {} are left; expected a whole file; this one is truncated \
             or damaged, get it again",
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
    let is_common = |p: &[f64; 3]| p[0] < 20.0 || p[1] < 20.0;
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
    fs::write(&a, ply(&[[f64::NAN; 3]])).unwrap();
    let ran = engine(arguments);
    assert!(ran.stderr.starts_with(&format!("note: {}: 1 point without finite coordinates left out\n", text(&a))));
    assert_eq!(
        ran.failed(6),
        "the cloud to measure: no points with finite coordinates, so there is nothing to compare"
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

/// A cloud of doubles.
fn ply_of_doubles(points: &[[f64; 3]]) -> Vec<u8> {
    let mut bytes = format!(
        "ply\nformat binary_little_endian 1.0\nelement vertex {}\nproperty double x\nproperty double y\n\
         property double z\nend_header\n",
        points.len()
    )
    .into_bytes();
    bytes.extend(points.iter().flatten().flat_map(|v| v.to_le_bytes()));
    bytes
}

#[test]
fn clouds_are_measured_alike_wherever_they_are() {
    let root = tempfile::tempdir().unwrap();
    let [a, b, out] = ["a.ply", "b.ply", "out.json"].map(|name| root.path().join(name));
    // Shaken, so that every point has one nearest neighbour of its own.
    let mut random = engine::host::random::Random::from_state(8);
    let mut shaken = |z: f64| -> Vec<[f64; 3]> {
        square(z).into_iter().map(|p| p.map(|v| 0.1 * v + 0.02 * random.unit())).collect()
    };
    let (measured, reference) = (shaken(1.0), shaken(0.0));
    let numbers = |offset: [f64; 3], more: &[&str]| {
        for (file, points) in [(&a, &measured), (&b, &reference)] {
            let moved: Vec<[f64; 3]> = points.iter().map(|p| [0, 1, 2].map(|axis| p[axis] + offset[axis])).collect();
            fs::write(file, ply_of_doubles(&moved)).unwrap();
        }
        let base = ["eval", "cloud", text(&a), text(&b), "--out", text(&out)];
        engine(base.iter().chain(more)).done();
        json(&out)["numbers"].clone()
    };
    let flat = |numbers: &serde_json::Value| -> Vec<f64> {
        let of = |side: &str| ["mean", "median", "variance", "count"].map(|n| numbers[side][n].as_f64().unwrap());
        let mut all = [of("accuracy"), of("completeness")].concat();
        for score in numbers["scores"].as_array().unwrap() {
            all.extend(["threshold", "precision", "recall", "f_score"].map(|n| score[n].as_f64().unwrap()));
        }
        all.push(numbers["diagonal"].as_f64().unwrap());
        all
    };
    for more in [&[][..], &["--thresholds", "0.101,0.11", "--max-distance", "0.115"], &["--voxel", "0.3"]] {
        let here = flat(&numbers([0.0; 3], more));
        assert!(here[0] > 0.05, "{here:?}");
        for offset in [[1e3, -1e3, 0.0], [448_262.0, 5_411_932.0, 320.0], [-1e7, 1e7, -1e7]] {
            let there = flat(&numbers(offset, more));
            for (here, there) in here.iter().zip(&there) {
                assert!((here - there).abs() <= 5e-7 * here.abs(), "{more:?} {offset:?}: {here} {there}");
            }
        }
    }
}
