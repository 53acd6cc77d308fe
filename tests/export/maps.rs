//! Maps of one view each.

use super::*;

/// What a reader finds of one view.
struct Found {
    depth: Vec<f64>,
    confidence: Vec<f64>,
    /// x y z pixel after pixel.
    normal: Vec<f64>,
}

const FORMATS: &str = "npz,exr,png16,tiff32";

/// Reads every format of a view, with the most by which depth and the others may be rounded.
fn read(run: &Run, exports: &Path, at: usize) -> Vec<(&'static str, Found, f64, f64)> {
    let (name, view) = (NAMES[at], &run.views[at]);
    let translation = view.t.to_array();
    let members = readers::zip(&exports.join("npz").join(format!("{name}.npz")));
    let npy = |name: &str| readers::npy(members[&format!("{name}.npy")].clone());
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    assert_eq!(npy("depth").0, [height, width]);
    assert_eq!(npy("normal").0, [height, width, 3]);
    assert_eq!(npy("K"), (vec![3, 3], rows(view.k)));
    let pose: Vec<f64> = rows(view.r).chunks(3).zip(translation).flat_map(|(r, t)| [r, &[t]].concat()).collect();
    expect_near(&npy("cam_from_world").1, &pose);
    let npz = Found { depth: npy("depth").1, confidence: npy("confidence").1, normal: npy("normal").1 };

    let (attributes, channels) = readers::exr(&exports.join("exr").join(format!("{name}.exr")));
    let doubles = |key: &str| {
        let bytes = attributes[key].clone();
        let count = bytes.len() / 8;
        readers::Bytes::new(bytes).f64s(count)
    };
    assert_eq!(doubles("K"), rows(view.k));
    expect_near(&doubles("camFromWorld"), &[pose, vec![0.0, 0.0, 0.0, 1.0]].concat());
    let channel = |name: &str| channels[name].iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let axes = ["normal.X", "normal.Y", "normal.Z"].map(channel);
    let normal = (0..width * height).flat_map(|i| [axes[0][i], axes[1][i], axes[2][i]]).collect();
    let exr = Found { depth: channel("Z"), confidence: channel("confidence"), normal };

    let about = json(&exports.join("png16/png16.json"));
    let scale = about["depth"]["scale"].as_f64().unwrap();
    let png = |kind: &str| image::open(exports.join("png16").join(kind).join(format!("{name}.png"))).unwrap();
    let grey = |kind: &str, scale: f64| match png(kind) {
        image::DynamicImage::ImageLuma16(i) => i.iter().map(|&v| f64::from(v) / scale).collect::<Vec<_>>(),
        other => panic!("{:?}", other.color()),
    };
    let image::DynamicImage::ImageRgb16(coded) = png("normal") else { panic!("normals in three channels") };
    let decode = |p: &image::Rgb<u16>| match p.0 {
        [0, 0, 0] => [0.0; 3],
        values => values.map(|v| (f64::from(v) - 32768.0) / 32767.0),
    };
    let normal = coded.pixels().flat_map(decode).collect();
    let png16 = Found { depth: grey("depth", scale), confidence: grey("confidence", 65535.0), normal };
    let bytes = fs::read(exports.join("png16/depth").join(format!("{name}.png"))).unwrap();
    let chunk = format!("tEXtdepth_scale\0{scale}");
    assert!(bytes.windows(chunk.len()).any(|w| w == chunk.as_bytes()), "the scale in the file itself");

    let tiff = |kind: &str| {
        let path = exports.join("tiff32").join(kind).join(format!("{name}.tif"));
        let mut decoder = tiff::decoder::Decoder::new(fs::File::open(path).unwrap()).unwrap();
        assert_eq!(decoder.dimensions().unwrap(), SIZE);
        match decoder.read_image().unwrap() {
            tiff::decoder::DecodingResult::F32(values) => values.into_iter().map(f64::from).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let tiff32 = Found { depth: tiff("depth"), confidence: tiff("confidence"), normal: tiff("normal") };
    // Whole numbers: half a step each, and a little for the sums.
    let half = 0.500_001;
    vec![
        ("npz", npz, 0.0, 0.0),
        ("exr", exr, 0.0, 0.0),
        ("png16", png16, half / scale, half / 32767.0),
        ("tiff32", tiff32, 0.0, 0.0),
    ]
}

/// The same but for the digits that text in a cam.txt has beyond a double's.
#[track_caller]
fn expect_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-9, "{found:?} {expected:?}");
    }
}

#[test]
fn every_format_holds_the_maps() {
    let run = Run::new(DVec3::ZERO);
    run.export(&["--to", FORMATS]).done();
    let exports = run.path("out/export");
    for at in 0..NAMES.len() {
        let (depth, confidence) = (depth(&plane_scene::scene().views[at], at), confidence());
        for (format, found, coarse, fine) in read(&run, &exports, at) {
            let place = |i: usize| format!("{format}, view {at}, pixel {i}");
            assert_eq!(found.depth.len(), depth.data.len());
            for i in 0..depth.data.len() {
                assert!((found.depth[i] - f64::from(depth.data[i])).abs() <= coarse, "{}", place(i));
                assert!((found.confidence[i] - f64::from(confidence.data[i])).abs() <= fine, "{}", place(i));
            }
            // Away from the wrong piece, the corner and the borders: the plane's own normal, to the rounding of depth
            // (4e-8 of it, over a pixel of 1/110 of it).
            for i in (0..depth.data.len()).filter(|&i| at != WRONG.0 && i > 2 * SIZE.0 as usize) {
                let n = DVec3::from_slice(&found.normal[3 * i..]);
                assert!((n - normal()).length() < 1e-4 + 2.0 * fine, "{}: {n}", place(i));
            }
            assert_eq!(found.normal[..3], [0.0; 3], "no depth, no normal");
        }
    }
}

#[test]
fn filtered_depth_has_only_what_the_other_views_confirm() {
    let run = Run::new(DVec3::ZERO);
    run.export(&["--to", FORMATS, "--filtered-depth"]).done();
    let (exports, width) = (run.path("out/export"), SIZE.0 as usize);
    let [left, right, top, bottom] = WRONG.1;
    let scene = plane_scene::scene();
    for at in 0..NAMES.len() {
        let whole = depth(&scene.views[at], at);
        let mut kept_of_format = Vec::new();
        for (format, found, coarse, fine) in read(&run, &exports, at) {
            let (mut kept, mut inside) = (0, 0);
            for i in 0..whole.data.len() {
                let (x, y) = (i % width, i / width);
                let is_wrong = at == WRONG.0 && (left..right).contains(&x) && (top..bottom).contains(&y);
                // How many other views look at this place of the plane, away from their borders and the wrong piece.
                let view = &scene.views[at];
                let ray = view.k.inverse() * DVec3::new(x as f64, y as f64, 1.0);
                let point = view.r.transpose() * (ray * plane_scene::depth(view, x as f64, y as f64) - view.t);
                let looks = |other: usize| {
                    let q = scene.views[other].k * (scene.views[other].r * point + scene.views[other].t);
                    let (u, v) = (q.x / q.z, q.y / q.z);
                    let in_map = u > 1.5 && v > 1.5 && u < 93.5 && v < 61.5;
                    let piece = other == WRONG.0
                        && (left as f64 - 2.0..right as f64 + 2.0).contains(&u)
                        && (top as f64 - 2.0..bottom as f64 + 2.0).contains(&v);
                    in_map && !piece
                };
                let looking = (0..NAMES.len()).filter(|&other| other != at && looks(other)).count();
                let is_kept = found.depth[i] > 0.0;
                if i < UNSURE_ROWS * width || is_wrong {
                    assert!(!is_kept, "{format}, view {at}: {x} {y} is kept");
                } else if looking >= 2 {
                    inside += 1;
                    assert!(is_kept, "{format}, view {at}: {x} {y} is not kept");
                }
                kept += usize::from(is_kept);
                if is_kept {
                    assert!((found.depth[i] - f64::from(whole.data[i])).abs() <= coarse);
                } else {
                    assert_eq!(found.normal[3 * i..3 * i + 3], [0.0; 3]);
                }
                assert!((found.confidence[i] - f64::from(confidence().data[i])).abs() <= fine);
            }
            assert!(inside > whole.data.len() / 3, "the test sees something: {inside}");
            kept_of_format.push(kept);
        }
        assert!(kept_of_format.windows(2).all(|w| w[0] == w[1]), "{kept_of_format:?}");
    }
}
