//! Clouds, near the origin and at UTM coordinates.

use super::*;
use readers::Las;

const CLOUDS: &str = "las,laz,e57,glb,xyz,pcd,ply";

/// The same points, moved by at most this along any axis.
#[track_caller]
fn expect_same(found: &[TestPoint], expected: &[TestPoint], most_moved: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let moved = (found.position - expected.position).abs().max_element();
        assert!(moved <= most_moved, "{found:?} is not {expected:?}: moved by {moved}");
        assert_eq!(TestPoint { position: expected.position, ..*found }, *expected);
    }
}

#[test]
fn every_format_keeps_what_it_can_hold_wherever_the_scene_is() {
    for offset in [DVec3::ZERO, FAR] {
        let run = Run::new(offset);
        run.export(&["--to", CLOUDS, "--crs", "EPSG:25832"]).done();
        let (expected, exports) = (run.cloud(), run.path("out/export"));
        assert!(expected.len() > 3000, "{}", expected.len());
        // The cloud itself is the plane.
        let still = |p: &TestPoint| plane_scene::distance((p.position - offset).to_array());
        // Beside the wrong piece a depth may be half right: up to 1 % of 4 to 5 units agrees.
        assert!(expected.iter().all(|p| still(p) < 0.05));
        let high = expected.iter().map(|p| p.position).fold(DVec3::NEG_INFINITY, DVec3::max);
        let low = expected.iter().map(|p| p.position).fold(DVec3::INFINITY, DVec3::min);

        let las = Las::read(&exports.join("cloud.las"));
        assert_eq!(las.point_format, 2);
        let points = las.points(las.data.clone());
        // Half a step, and what the sum of step and offset is rounded by.
        let most = 0.5 * las.scale.max_element() + 1e-15 * high.abs().max_element();
        assert!(las.scale.max_element() <= 1e-8 * (high - low).max_element(), "{}", las.scale);
        expect_same(&points, &expected, most);
        assert!((las.low - low).abs().max_element() <= most && (las.high - high).abs().max_element() <= most);
        let extra = las.extra();
        let extra: Vec<(&str, u8)> = extra.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let (float, byte) = (9, 1);
        let normals = [("NormalX", float), ("NormalY", float), ("NormalZ", float)];
        assert_eq!(extra, [[("confidence", float), ("views", byte)].as_slice(), &normals].concat());
        let keys: Vec<u16> = las.records[&("LASF_Projection".to_owned(), 34735)]
            .chunks(2)
            .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
            .collect();
        // GeoTIFF 1.1: version, revision, keys; model type projected; the projected system.
        assert_eq!(keys, [1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 25832]);

        let laz = Las::read(&exports.join("cloud.laz"));
        assert_eq!(laz.point_format, 0x82);
        let vlr = laz::LazVlr::from_buffer(&laz.records[&("laszip encoded".to_owned(), 22204)]).unwrap();
        // The offset of the chunk table counts from the file's start.
        let file = std::io::Cursor::new(fs::read(exports.join("cloud.laz")).unwrap());
        let start = file.get_ref().len() - laz.data.len();
        let mut file = file;
        file.set_position(start as u64);
        let mut data = vec![0; las.data.len()];
        laz::LasZipDecompressor::new(file, vlr).unwrap().decompress_many(&mut data).unwrap();
        assert!(data == las.data, "the compressed points are those of cloud.las");
        assert!(laz.data.len() < las.data.len());

        let (json, points) = readers::glb(&exports.join("cloud.glb"));
        // Floats of at most 4 units have steps of 5e-7.
        expect_same(&points, &expected, if offset == DVec3::ZERO { 0.0 } else { 2.5e-7 });
        let position = &json["accessors"][0];
        for (axis, side) in ["min", "max"].iter().flat_map(|side| [0, 1, 2].map(|axis| (axis, side))) {
            let moved = json["nodes"][0]["translation"][axis].as_f64().unwrap_or(0.0);
            let end = position[side][axis].as_f64().unwrap() + moved;
            let bound = if *side == "min" { low[axis] } else { high[axis] };
            assert!((end - bound).abs() < 3e-7, "{side} {axis}: {end}, {bound}");
        }
        assert_eq!(json["nodes"][0].get("translation").is_some(), offset != DVec3::ZERO);

        expect_same(&readers::ply(&exports.join("cloud.ply"), ["confidence", "views"]), &expected, 0.0);
        expect_same(&xyz(&exports.join("cloud.xyz"), offset == DVec3::ZERO), &expected, 0.0);
        expect_same(&e57(&exports.join("cloud.e57")), &expected, 0.0);
        expect_same(&pcd(&exports.join("cloud.pcd"), offset != DVec3::ZERO), &expected, 0.0);
    }
}

/// Near the origin numbers are floats, and to be read as such.
fn xyz(path: &Path, floats: bool) -> Vec<TestPoint> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("//X Y Z R G B Nx Ny Nz confidence views"));
    let number = |word: &str| match floats {
        true => f64::from(word.parse::<f32>().unwrap()),
        false => word.parse().unwrap(),
    };
    let point = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words.len(), 11, "{line}");
        TestPoint {
            position: DVec3::new(number(words[0]), number(words[1]), number(words[2])),
            colour: [3, 4, 5].map(|i| words[i].parse().unwrap()),
            normal: [6, 7, 8].map(|i| words[i].parse().unwrap()),
            confidence: words[9].parse().unwrap(),
            views: words[10].parse().unwrap(),
        }
    };
    lines.map(point).collect()
}

/// Read by the crate's own reader, which checks every page's sum.
fn e57(path: &Path) -> Vec<TestPoint> {
    use e57::{E57Reader, RecordName, RecordValue};
    E57Reader::<fs::File>::validate_crc(fs::File::open(path).unwrap()).unwrap();
    let mut file = E57Reader::from_file(path).unwrap();
    let scan = file.pointclouds().remove(0);
    let names: Vec<String> = scan
        .prototype
        .iter()
        .map(|record| match &record.name {
            RecordName::Unknown { namespace, name } => format!("{namespace}:{name}"),
            known => format!("{known:?}"),
        })
        .collect();
    let fields = ["CartesianX", "CartesianY", "CartesianZ", "ColorRed", "ColorGreen", "ColorBlue"];
    let others = ["nor:normalX", "nor:normalY", "nor:normalZ", "Intensity", "engine:views"];
    assert_eq!(names, [fields.as_slice(), &others].concat());
    let number = |value: &RecordValue| match value {
        RecordValue::Single(v) => f64::from(*v),
        RecordValue::Double(v) => *v,
        RecordValue::Integer(v) | RecordValue::ScaledInteger(v) => *v as f64,
    };
    let point = |values: Vec<RecordValue>| {
        let v: Vec<f64> = values.iter().map(number).collect();
        TestPoint {
            position: DVec3::from_slice(&v[..3]),
            normal: [6, 7, 8].map(|i| v[i] as f32),
            colour: [3, 4, 5].map(|i| v[i] as u8),
            confidence: v[9] as f32,
            views: v[10] as u8,
        }
    };
    file.pointcloud_raw(&scan).unwrap().map(|values| point(values.unwrap())).collect()
}

fn pcd(path: &Path, doubles: bool) -> Vec<TestPoint> {
    let mut file = readers::Bytes::of(path);
    let mut header = Vec::new();
    while header.last().is_none_or(|line: &String| line != "DATA binary") {
        header.push(file.until(b'\n'));
    }
    let count: usize = header.iter().find_map(|line| line.strip_prefix("POINTS ")).unwrap().parse().unwrap();
    let size = if doubles { 8 } else { 4 };
    assert!(header.contains(&format!("SIZE {size} {size} {size} 4 4 4 4 4 1")), "{header:?}");
    assert!(header.contains(&"FIELDS x y z rgb normal_x normal_y normal_z confidence views".to_owned()));
    let point = |_| {
        let position = [0; 3].map(|_| if doubles { file.f64() } else { f64::from(file.f32()) });
        let [blue, green, red, _] = file.take();
        let normal = [0; 3].map(|_| file.f32());
        let (confidence, [views]) = (file.f32(), file.take());
        TestPoint { position: position.into(), normal, colour: [red, green, blue], confidence, views }
    };
    let points = (0..count).map(point).collect();
    assert_eq!(file.left(), 0);
    points
}

#[test]
fn cloudcompare_gets_its_names_and_an_offset_is_added_again() {
    let run = Run::new(FAR);
    let plain = run.cloud();
    // The same run with floats less an offset in fused.ply.
    let (maps, scene, out) = (run.path("maps"), run.path("scene"), run.path("moved"));
    let words = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--min-views", "2", "--quiet"];
    engine(words.iter().chain(&["--ply-offset", "auto"])).done();
    engine(["export", text(&out), "--to", "ply", "--ply-names", "cloudcompare"]).done();
    let found = readers::ply(&out.join("export/cloud.ply"), ["scalar_confidence", "scalar_views"]);
    // Floats below 4 are good to 1.2e-7 a side.
    expect_same(&found, &plain, 2.4e-7);
}

#[test]
fn thinned_clouds_are_the_same_every_time_and_made_of_the_whole_one() {
    let run = Run::new(DVec3::ZERO);
    let whole = run.cloud();
    let read = |folder: &str| readers::ply(&run.path(folder).join("cloud.ply"), ["confidence", "views"]);
    let export = |folder: &str, more: &[&str]| {
        let out = run.path(folder);
        run.export(&[&["--to", "ply", "-o", text(&out)], more].concat()).done();
        read(folder)
    };
    let some = export("some", &["--max-points", "100"]);
    let every = |i: usize| whole[i * whole.len() / 100];
    assert_eq!(some, (0..100).map(every).collect::<Vec<_>>());
    assert_eq!(export("all", &["--max-points", "1000000"]), whole);

    let spaced = export("spaced", &["--spacing", "0.25"]);
    // The first camera stands in the middle of a cube.
    let centre = -(run.views[0].r.transpose() * run.views[0].t);
    let cube = |p: &TestPoint| ((p.position - centre) / 0.25 + 0.5).floor().as_i64vec3().to_array();
    let cubes: std::collections::HashSet<_> = whole.iter().map(cube).collect();
    assert_eq!(spaced.len(), cubes.len());

    // A point far outside, as fused.ply would have it, is an outlier; half of the plane is none.
    let file = run.path("out/fused.ply");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 32;
    bytes[last..last + 4].copy_from_slice(&9f32.to_le_bytes());
    fs::write(&file, &bytes).unwrap();
    let ran = run.export(&["--to", "ply", "--outliers=3", "--threads", "1"]).done();
    assert!(ran.stderr.contains("left out: their 16 nearest neighbours"), "{}", ran.stderr);
    let left = read("out/export");
    assert!(left.len() > whole.len() * 9 / 10 && left.len() < whole.len());
    assert!(left.iter().all(|p| p.position.x < 5.0 && whole.contains(p)));
    assert_eq!(export("again", &["--outliers=3", "--threads", "3"]), left);
}

/// COPC 1.0, by its own tree; the table of chunks is that of any LAZ file.
#[test]
fn the_octree_has_every_point_once() {
    for offset in [DVec3::ZERO, FAR] {
        let run = Run::new(offset);
        run.export(&["--to", "copc"]).done();
        let (expected, path) = (run.cloud(), run.path("out/export/cloud.copc.laz"));
        let bytes = fs::read(&path).unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let f64_at = |at: usize| f64::from_bits(u64_at(at));
        // Version 1.4, words for coordinate systems, format 7 compressed, 53 bytes a point, no counts of 32 bits.
        assert_eq!((&bytes[..4], &bytes[24..26], bytes[6], bytes[104]), (&b"LASF"[..], &[1, 4][..], 1 << 4, 0x87));
        assert_eq!((&bytes[105..107], u64_at(107), u64_at(247)), (&[53, 0][..], 0, expected.len() as u64));
        // The first record says where the tree is.
        assert_eq!((&bytes[377..381], &bytes[393..397]), (&b"copc"[..], &[1, 0, 160, 0][..]));
        let [x, y, z, half, spacing] = [0, 1, 2, 3, 4].map(|i| f64_at(429 + 8 * i));
        assert!((2.0 * half / spacing - 128.0).abs() < 1e-9);
        let (tree, size) = (u64_at(469) as usize, u64_at(477) as usize);
        assert_eq!((u64_at(235) as usize + 60, u32_at(243)), (tree, 1));
        assert_eq!((tree + size, size % 32, &bytes[tree - 58..tree - 54]), (bytes.len(), 0, &b"copc"[..]));
        assert_eq!((&bytes[tree..tree + 16], u32_at(tree + 28)), (&[0; 16][..], expected.len() as u32));

        let start = u32_at(96) as usize;
        assert_eq!(u64_at(tree + 16) as usize, start + 8, "the root's chunk is the first");
        assert_eq!(start + 8 + u32_at(tree + 24) as usize, u64_at(start) as usize, "the table stands behind it");
        let vlr = laz::LazVlr::from_buffer(&bytes[429 + 160 + 54..]).unwrap();
        assert!(vlr.uses_variable_size_chunks());
        let mut file = std::io::Cursor::new(&bytes);
        file.set_position(start as u64);
        let mut data = vec![0; 53 * expected.len()];
        laz::LasZipDecompressor::new(file, vlr).unwrap().decompress_many(&mut data).unwrap();
        let [scale, origin] = [131, 155].map(|at| DVec3::new(f64_at(at), f64_at(at + 8), f64_at(at + 16)));
        let point = |r: &[u8]| {
            let int = |at: usize| f64::from(i32::from_le_bytes(r[at..at + 4].try_into().unwrap()));
            let float = |at: usize| f32::from_le_bytes(r[at..at + 4].try_into().unwrap());
            assert_eq!((r[14], r[16]), (0x11, 1), "the first of one return, not classified");
            TestPoint {
                position: DVec3::new(int(0), int(4), int(8)) * scale + origin,
                colour: [31, 33, 35].map(|at| r[at]),
                normal: [41, 45, 49].map(float),
                confidence: float(36),
                views: r[40],
            }
        };
        let found: Vec<TestPoint> = data.chunks_exact(53).map(point).collect();
        let far = offset.abs().max_element();
        expect_same(&found, &expected, 0.5 * scale.max_element() + 1e-15 * (far + 10.0));
        let centre = DVec3::new(x, y, z);
        assert!(found.iter().all(|point| (point.position - centre).abs().max_element() < half));
    }
}
