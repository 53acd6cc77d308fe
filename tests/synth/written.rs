//! The program from its options to scenes on disk, which read back exactly, and the lines for bad input.

use super::*;

#[test]
fn the_program_writes_scenes_that_read_back_exactly_and_goes_on_where_it_stopped() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("made");
    let options = "--scenes 2 --views 4 --size 66x50 --rig cluster --seed 3 --extras --full-depth --planes 24";
    let arguments: Vec<&str> = ["synth", text(&out)].into_iter().chain(options.split(' ')).collect();
    let said = engine(&arguments).done();
    assert!(
        said.stdout.contains("2 scenes of 4 views at 66 x 50") && said.stdout.contains("scenes/s"),
        "{}",
        said.stdout
    );

    let folder = out.join("scene_00001");
    let scene = Scene::open(&folder, &OpenOptions::default()).unwrap();
    let made = generator(Rig::Cluster, 4, (66, 50), 3).scene(1);
    assert_eq!(scene.views.len(), 4);
    for (v, (view, expected)) in scene.views.iter().zip(made.views()).enumerate() {
        // To the bit: digits on paper read back as the same number.
        assert_eq!((view.camera, view.size, view.planes), (expected.camera, (66, 50), Some(24)));
        assert_eq!(view.range, expected.range);
        let order = |v: &engine::scene::View| v.sources.iter().map(|s| s.view).collect::<Vec<_>>();
        assert_eq!(order(view), order(&expected));
        assert!(!view.sources.is_empty());
        assert_eq!(image::read(&view.image).unwrap().rgb, made.photo(v).rgb);
        let map = |part: &str| pfm::read(&folder.join(part).join(format!("{}.pfm", view.name))).unwrap();
        let depth = map("depths");
        assert_eq!(depth, made.depth(v, 4));
        assert_eq!((depth.width, depth.height), (17, 13));
        let full = map("depths_full");
        assert!((0..17 * 13).all(|i| full.at(i % 17 * 4, i / 17 * 4) == depth.data[i]));
        assert_eq!(map("visible"), made.visible(v, 4));
        assert_eq!(map("slant"), made.slant(v, 4));
        assert!(map("texture").data.iter().any(|&t| t > 0.0));
    }
    let mark = json(&folder.join("scene.json"));
    assert_eq!(mark["views"], 4);
    // Every 0.7 pixels, 2.04 points a pixel: nothing that the first view sees was seen before. Its borders are a
    // fiftieth of it.
    let (first, points) =
        (made.depth(0, 1).data.iter().filter(|&&z| z > 0.0).count(), mark["points"].as_u64().unwrap());
    assert!(points as f64 > 2.0 * first as f64, "{points} points, {first} pixels of the first view");

    // Other threads, the same bytes; and a run that was stopped in scene 1 goes on there.
    // But for the lock, which says who was there last.
    let files = |out: &Path| {
        let mut found = files(out);
        found.remove(Path::new(engine::files::lock::LOCK));
        found
    };
    let before = files(&out);
    fs::remove_file(folder.join("scene.json")).unwrap();
    fs::remove_file(folder.join("pair.txt")).unwrap();
    let said = engine(arguments.iter().chain(&["--threads", "3"])).done();
    assert!(said.stdout.contains("1 scenes") && said.stdout.contains("1 were there"), "{}", said.stdout);
    assert_eq!(files(&out), before);

    let mut others = arguments;
    others[11] = "4";
    let said = engine(others);
    let message = said.failed(3);
    assert!(message.contains("made with other options (seed)") && message.contains("--force"), "{message}");
    assert_eq!(files(&out), before);
}

/// The points of a cloud that this program wrote: 32 bytes each.
fn positions(ply: &Path) -> Vec<DVec3> {
    let bytes = fs::read(ply).unwrap();
    let end = b"end_header\n";
    let start = bytes.windows(end.len()).position(|w| w == end).unwrap() + end.len();
    let number = |b: &[u8], k: usize| f64::from(f32::from_le_bytes(b[4 * k..4 * k + 4].try_into().unwrap()));
    bytes[start..].chunks_exact(32).map(|b| DVec3::new(number(b, 0), number(b, 1), number(b, 2))).collect()
}

#[test]
fn infer_reconstructs_a_written_scene() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("made");
    let clear = ["--low-texture", "0", "--variation", "0.2", "--truth-step", "4"];
    let arguments =
        ["synth", text(&out), "--views", "5", "--size", "192x144", "--rig", "cluster", "--seed", "2", "--planes", "48"];
    engine(arguments.iter().chain(&clear)).done();
    let scene = out.join("scene_00000");
    let cloud = root.path().join("cloud");
    engine(["infer", text(&scene), "-o", text(&cloud), "--levels", "1", "--min-confidence", "0.5", "--min-views", "2"])
        .done();
    let (found, truth) = (positions(&cloud.join("fused.ply")), positions(&scene.join("truth.ply")));
    assert!(found.len() > 100 && truth.len() > 500, "{} {}", found.len(), truth.len());
    let opened = Scene::open(&scene, &OpenOptions::default()).unwrap();
    let range = opened.views[0].range.unwrap();
    let mut errors: Vec<f64> = found
        .iter()
        .map(|p| truth.iter().map(|t| t.distance(*p)).fold(f64::INFINITY, f64::min) / (range.far - range.near))
        .collect();
    errors.sort_by(f64::total_cmp);
    // One plane's interval is 2.1 % of the range, and truth has a point every 4 pixels.
    let median = errors[errors.len() / 2];
    assert!(median < 0.03, "{median}");
}

#[test]
fn bad_input_gets_one_clear_line() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let write = |name: &str, content: &[u8]| {
        fs::write(path(name), content).unwrap();
        path(name)
    };
    let out = path("out");
    let refused = |arguments: &[&str], code: i32, parts: &[&str]| {
        let said = engine(["synth", text(&out), "--views", "2", "--size", "32x32"].iter().chain(arguments));
        let message = said.failed(code).to_owned();
        assert!(parts.iter().all(|p| message.contains(p)), "{message}");
        assert!(!out.exists(), "nothing was begun");
    };
    let empty = path("empty");
    fs::create_dir(&empty).unwrap();
    refused(&["--textures", text(&path("none"))], 4, &["none", "cannot list the textures"]);
    refused(&["--textures", text(&empty)], 3, &["empty", "no photos"]);
    let photos = path("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("a.jpg"), b"no photo").unwrap();
    refused(&["--textures", text(&photos)], 3, &["a.jpg", "cannot be decoded"]);

    refused(&["--mesh", text(&path("none.obj"))], 4, &["none.obj", "cannot open the mesh"]);
    let meshes: [(&str, &[u8], &str); 14] = [
        ("a.stl", b"solid", "neither .obj nor .ply"),
        ("a.obj", b"", "no faces"),
        ("b.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 x\nf 1 2 3\n", "line 3"),
        ("c.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "out of bounds"),
        ("d.obj", b"v 0 0 0\nv 1 0 nan\nv 0 1 0\nf 1 2 3\n", "not finite"),
        ("e.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 -4\n", "line 4: 'f 1 2 -4', a face with a vertex that is out of"),
        ("f.obj", b"v 0 0 0\nv 1 0 0\nf 18446744073709551616 2 1\n", "line 3"),
        ("g.obj", b"v 0 0 0\nf 1 9223372036854775807 -9223372036854775808\n", "line 2"),
        ("h.obj", b"v 0 0\n", "line 1: 'v 0 0', a vertex without three numbers"),
        ("a.ply", b"plx\n", "Line 1"),
        (
            "b.ply",
            b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float \
                    z\nend_header\n0 0 0\n1 0 0\n",
            "end",
        ),
        (
            "c.ply",
            b"ply\nformat binary_little_endian 1.0\nelement vertex 4000000000000\nproperty float \
                    x\nend_header\n",
            "4000000000000 x vertex stated in a file of",
        ),
        (
            "d.ply",
            b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float \
                    z\nend_header\n0 0 0\n1 0 0\n0 1 0\n",
            "no faces",
        ),
        (
            "e.ply",
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nelement face 1\nproperty list uchar int \
                    vertex_indices\nend_header\n0\n3 0 0 0\n",
            "without x, y and z",
        ),
    ];
    for (name, content, part) in meshes {
        let file = write(name, content);
        refused(&["--mesh", text(&file)], 3, &[name, part]);
    }

    // A folder of something else, and places where no folder can be made.
    fs::write(empty.join("letter.txt"), "dear").unwrap();
    let said = engine(["synth", text(&empty), "--views", "2", "--size", "32x32"]);
    assert!(said.failed(3).contains("not empty and was not made by engine synth"));
    let file = write("file", b"");
    let said = engine(["synth", text(&file), "--views", "2", "--size", "32x32"]);
    assert!(said.failed(4).contains("file: cannot use this as the output folder"));
    let said = engine(["synth", text(&file.join("below")), "--views", "2", "--size", "32x32"]);
    said.failed(4);

    for (arguments, part) in [
        (["--views", "0"], "expected a whole number from 1 to 10000"),
        (["--size", "8x800"], "each 16 to 16384 pixels"),
        (["--size", "640"], "expected WIDTHxHEIGHT"),
        (["--planes", "1"], "from 2 to 65536"),
        (["--rig", "tripod"], "[possible values: arc, circle, cluster, mixed]"),
        (["--low-texture", "2"], "expected a number from 0 to 1"),
    ] {
        let said = engine(["synth", text(&out)].iter().chain(&arguments));
        assert!(said.code == Some(2) && said.stderr.contains(part), "{}", said.stderr);
    }
    let wrong = GeneratorOptions { views: 0, ..GeneratorOptions::default() };
    assert!(Generator::new(wrong).unwrap_err().to_string().contains("at least one view"));
}

#[test]
fn photos_and_meshes_are_used() {
    let root = tempfile::tempdir().unwrap();
    let photos = root.path().join("photos");
    fs::create_dir(&photos).unwrap();
    // One photo that is red all over: with photos given, most surfaces are laid out with it.
    let rgb = engine::scene::photo::Photo { width: 64, height: 48, rgb: [1.0, 0.0, 0.0].repeat(64 * 48) };
    let bytes: Vec<u8> = rgb.rgb.iter().map(|v| (v * 255.0) as u8).collect();
    ::image::save_buffer(photos.join("red.png"), &bytes, 64, 48, ::image::ColorType::Rgb8).unwrap();
    let obj = root.path().join("tetrahedron.obj");
    fs::write(&obj, "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n").unwrap();
    let ply = root.path().join("square.ply");
    let header = "ply\nformat ascii 1.0\nelement vertex 4\nproperty double x\nproperty double y\nproperty double z\n\
        element face 1\nproperty list uchar uint vertex_index\nend_header\n";
    fs::write(&ply, format!("{header}0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")).unwrap();
    let given = GeneratorOptions {
        textures: Some(photos),
        meshes: vec![obj, ply],
        low_texture: 0.0,
        ..options(Rig::Cluster, 2, (64, 48), 1)
    };
    let generator = Generator::new(given).unwrap();
    let (mut triangles, mut red) = (std::collections::BTreeSet::new(), 0);
    for index in 0..12 {
        let scene = generator.scene(index);
        for object in scene.world.objects() {
            if let Shape::Mesh(mesh) = &object.shape {
                triangles.insert(mesh.triangles());
            }
        }
        let photo = scene.photo(0);
        red += photo.rgb.chunks_exact(3).filter(|p| p[0] > 0.15 && p[0] > 1.5 * p[1].max(p[2])).count();
    }
    assert!(triangles.contains(&4) && triangles.contains(&2), "{triangles:?}");
    assert!(red > 64 * 48, "{red}");
}
