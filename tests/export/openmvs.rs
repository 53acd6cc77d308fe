//! OpenMVS's scene and depth maps.

use super::*;
use readers::Bytes;

/// A text after its length.
fn words(file: &mut Bytes) -> String {
    let length = file.u64() as usize;
    String::from_utf8(file.many(length)).unwrap()
}

#[test]
fn maps_and_scene_are_openmvss() {
    let run = Run::new(DVec3::ZERO);
    run.export(&["--to", "openmvs", "--photos", "png"]).done();
    let folder = run.path("out/export/openmvs");
    let manifest = json(&run.path("out/manifest.json"));
    let centre = |view: &TestView| -(view.r.transpose() * view.t);
    for (at, view) in run.views.iter().enumerate() {
        let mut file = Bytes::of(&folder.join(format!("depth{at:04}.dmap")));
        assert_eq!(&file.take::<4>(), b"DR\x07\0", "raw; depth, normals and confidence");
        assert_eq!([0; 4].map(|_| file.u32()), [96, 64, 96, 64]);
        let truth = depth(&plane_scene::scene().views[at], at);
        let depths = || truth.data.iter().copied().filter(|&d| d > 0.0);
        assert_eq!([file.f32(), file.f32()], [depths().fold(9.0, f32::min), depths().fold(0.0, f32::max)]);
        let length = usize::from(file.u16());
        assert_eq!(file.many(length), format!("images/{}.png", NAMES[at]).as_bytes());
        let ids: Vec<usize> = (0..file.u32()).map(|_| file.u32() as usize).collect();
        let against: Vec<&str> = ids[1..].iter().map(|&id| NAMES[id]).collect();
        let checked = manifest["views"][at]["checked_against"].as_array().unwrap();
        assert_eq!((ids[0], against), (at, checked.iter().map(|name| name.as_str().unwrap()).collect()));
        assert_eq!(file.f64s(9), rows(view.k));
        assert!(file.f64s(9).iter().zip(rows(view.r)).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!((DVec3::from_slice(&file.f64s(3)) - centre(view)).length() < 1e-12);
        assert_eq!(file.f32s(96 * 64), truth.data);
        let normals = file.f32s(3 * 96 * 64);
        let found = DVec3::from([0, 1, 2].map(|axis| f64::from(normals[3 * (50 * 96 + 20) + axis])));
        assert!((found - view.r * normal()).length() < 1e-4, "{found}");
        assert_eq!(file.f32s(96 * 64), confidence().data);
        assert_eq!(file.left(), 0);
    }

    let mut file = Bytes::of(&folder.join("scene.mvs"));
    assert_eq!((&file.take::<4>(), file.u32(), file.u32()), (b"MVSI", 3, 0));
    assert_eq!((file.u64(), words(&mut file).as_str()), (1, "engine"));
    assert_eq!(file.u64(), 5);
    for view in &run.views {
        words(&mut file);
        assert_eq!([file.u32(), file.u32()], [96, 64]);
        assert_eq!(file.f64s(9), rows(view.k));
        assert_eq!((file.f64s(9), file.f64s(3)), (rows(DMat3::IDENTITY), vec![0.0; 3]));
    }
    assert_eq!(file.u64(), 5);
    for view in &run.views {
        assert!(file.f64s(9).iter().zip(rows(view.r)).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!((DVec3::from_slice(&file.f64s(3)) - centre(view)).length() < 1e-12);
    }
    assert_eq!(file.u64(), 5);
    for (at, name) in NAMES.iter().enumerate() {
        let path = words(&mut file);
        assert_eq!(path, format!("images/{name}.png"));
        assert!(folder.join(path).is_file());
        assert_eq!([0; 4].map(|_| file.u32()), [0, at as u32, at as u32, at as u32]);
    }
    let (cloud, count) = (run.cloud(), file.u64() as usize);
    assert!(count > cloud.len() * 99 / 100 && count <= cloud.len());
    let mut places = Vec::new();
    for _ in 0..count {
        places.push(DVec3::from([0; 3].map(|_| f64::from(file.f32()))));
        let views = file.u64();
        assert!(views >= 2);
        for _ in 0..views {
            let (view, weight) = (file.u32() as usize, file.f32());
            let q = run.views[view].k * (run.views[view].r * places[places.len() - 1] + run.views[view].t);
            let (x, y) = (q.x / q.z, q.y / q.z);
            assert!(weight == 0.0 && (-0.5..95.5).contains(&x) && (-0.5..63.5).contains(&y), "{view}: {x} {y}");
        }
    }
    // Points that no view sees are left out; the others keep their order.
    let mut all = cloud.iter();
    let kept: Vec<&TestPoint> =
        places.iter().map(|place| all.find(|point| point.position == *place).expect("a point of the cloud")).collect();
    assert_eq!(file.u64() as usize, count);
    for point in &kept {
        assert_eq!(file.f32s(3), point.normal);
    }
    assert_eq!(file.u64() as usize, count);
    for point in &kept {
        let [blue, green, red] = file.take();
        assert_eq!([red, green, blue], point.colour);
    }
    assert_eq!([0; 3].map(|_| file.u64()), [0; 3], "lines, their normals and colours");
    let identity: Vec<f64> = (0..16).map(|i| f64::from(u8::from(i % 5 == 0))).collect();
    assert_eq!(file.f64s(16), identity);
    assert_eq!(file.left(), 0);
}
