//! `engine fuse` with other methods and presets, and `engine fuse --sweep`.

use std::fmt::Write as _;

use super::*;

/// The maps of the plane scene with three levels, made by one run.
fn place_with_maps() -> Place {
    let place = Place::new();
    place.infer("out", &["--resolution", "quarter", "--quiet"]).done();
    place
}

impl Place {
    fn fuse(&self, out: &str, more: &[&str]) -> Ran {
        let (maps, scene, out) = (self.path("out"), self.scene(), self.path(out));
        let base = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out)];
        engine(base.iter().chain(more))
    }
}

#[test]
fn every_method_and_preset_makes_a_cloud_and_is_recorded() {
    let place = place_with_maps();
    // Five views with four sources each, so that all presets but the strictest leave points; the constants of graph
    // fusion count on maps of more than 24 x 16 pixels.
    for (arguments, method) in [
        (&["--method", "reprojection"][..], "reprojection"),
        (&["--method", "pyramid"], "pyramid"),
        (&["--method", "dynamic", "--depth-error-step-rel", "0.005"], "dynamic"),
        (&["--method", "disparity", "--max-disparity-px", "0.5"], "disparity"),
        (&["--method", "graph", "--min-pixels", "3", "--max-normal-deg", "40"], "graph"),
        (&["--preset", "pva", "--min-confidence", "0.3", "--max-reprojection-px=1", "--min-views", "1"], "pyramid"),
    ] {
        let ran = place.fuse("by_method", arguments).done();
        let out = place.path("by_method");
        let (_, points) = cloud(&out.join("fused.ply"));
        assert!(!points.is_empty(), "{arguments:?}: {}", ran.stdout);
        let mut far: Vec<f64> = points.iter().map(|p| plane_scene::distance(p.map(f64::from))).collect();
        far.sort_by(f64::total_cmp);
        // One interval of the planes is 0.2; most depths are within a third of it (see the test of the whole job).
        assert!(far[far.len() / 2] < 0.07, "{arguments:?}: median {}", far[far.len() / 2]);
        let parameters = &json(&out.join("manifest.json"))["parameters"];
        assert_eq!(parameters["method"], method);
        assert_eq!(parameters["preset"].is_string(), arguments[0] == "--preset");
    }
    // A preset's constants where no option overrides them, and all of them in the manifest.
    let manifest = json(&place.path("by_method/manifest.json"));
    let parameters = &manifest["parameters"];
    let of = |name: &str| parameters[name].as_f64().unwrap_or_else(|| panic!("{name}: {parameters}"));
    assert_eq!((of("min_confidence"), of("max_depth_error_rel")), (0.3, 0.005));
    assert_eq!((of("levels"), of("doublings"), of("check_sources")), (2.0, 1.0, 6.0));
    assert_eq!(parameters["preset"], "pva");

    // The levels as kept, merged again, are the maps that the run wrote.
    place.fuse("again", &["--method", "pyramid", "--quiet"]).done();
    assert!(fs::read(place.path("again/fused.ply")).unwrap() == fs::read(place.path("out/fused.ply")).unwrap());

    let message = place.fuse("no", &["--method", "pyramid", "--levels", "4"]).failed(3).to_owned();
    let missing = place.path("out/levels/3/depth/00000000.pfm");
    assert!(message.starts_with(&format!("{}: no such map; expected", missing.display())), "{message}");
    assert!(message.contains("`engine infer` keeps them"), "{message}");
    let message = place.fuse("no", &["--method", "disparity", "--max-pixels", "4"]).failed(3).to_owned();
    assert!(message.contains("that the method disparity does not use"), "{message}");
    assert!(!place.path("no").exists(), "a refused run leaves nothing");
}

#[test]
fn presets_are_listed_with_constants_and_sources() {
    let ran = engine(["fuse", "--list-presets"]).done();
    for part in ["pva: yhw-yhw/PVAMVSNet", "doublings 1", "colmap: colmap/colmap", "max-normal-deg 10", "min-pixels 5"]
    {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let events = engine(["fuse", "--list-presets", "--json"]).done().events();
    let presets = events[0]["presets"].as_array().unwrap();
    assert!(presets.len() > 10 && presets.iter().all(|p| p["settings"]["method"].is_string()));
}

/// A dense grid on the plane, as a text PLY.
fn write_truth(path: &Path) {
    let mut body = String::new();
    let mut count = 0;
    for (i, k) in (-60..=60).flat_map(|i| (-40..=40).map(move |k| (i, k))) {
        let (x, y) = (f64::from(i) * 0.03, f64::from(k) * 0.03);
        // normal . X = offset, solved for z by walking: the normal's z is above 0.9.
        let mut z = 0.0;
        for _ in 0..60 {
            let [ahead, here] = [1e-6, 0.0].map(|step| plane_scene::distance([x, y, z + step]));
            z -= if ahead < here { -here } else { here };
        }
        assert!(plane_scene::distance([x, y, z]) < 1e-5);
        writeln!(body, "{x} {y} {z}").unwrap();
        count += 1;
    }
    let head = format!(
        "ply\nformat ascii 1.0\nelement vertex {count}\n\
         property float x\nproperty float y\nproperty float z\nend_header\n"
    );
    fs::write(path, head + &body).unwrap();
}

#[test]
fn a_grid_scores_every_setting_and_marks_the_pareto_optimal_ones() {
    let place = place_with_maps();
    let truth = place.path("truth.ply");
    write_truth(&truth);
    let arguments = [
        "--reference",
        text(&truth),
        "--max-distance",
        "0.5",
        "--threshold",
        "0.05",
        "--keep-best",
        "f-score",
        "--sweep",
        "min_confidence=0.2,0.9,0.97",
        "--sweep",
        "min-views=1,2,4",
        "--max-depth-error-rel",
        "0.02",
    ];
    let ran = place.fuse("grid", &arguments).done();
    let out = place.path("grid");
    let scores = json(&out.join("sweep.json"));
    let results = scores["results"].as_array().unwrap();
    assert_eq!(results.len(), 9);

    // Each number is that of a run with the setting alone, measured by `engine eval cloud`.
    for (result, (confidence, views)) in
        results.iter().zip(["0.2", "0.9", "0.97"].iter().flat_map(|c| ["1", "2", "4"].map(|v| (*c, v))))
    {
        let settings = &result["settings"];
        assert_eq!(settings["min_confidence"].to_string(), confidence);
        assert_eq!(settings["min_views"].to_string(), views);
        assert_eq!(
            (&settings["method"], settings["max_depth_error_rel"].as_f64()),
            (&"reprojection".into(), Some(0.02))
        );
        let alone = ["--min-confidence", confidence, "--min-views", views, "--max-depth-error-rel", "0.02"];
        place.fuse("alone", &alone).done();
        let fused = place.path("alone/fused.ply");
        let numbers = place.path("numbers.json");
        let eval = ["eval", "cloud", text(&fused), text(&truth), "--max-distance", "0.5", "--thresholds", "0.05"];
        engine(eval.iter().chain(&["--out", text(&numbers)])).done();
        let found = json(&numbers);
        assert_eq!(result["points"], found["numbers"]["points"]);
        assert_eq!(result["accuracy"], found["numbers"]["accuracy"]);
        assert_eq!(result["completeness"], found["numbers"]["completeness"]);
        assert_eq!(result["score"], found["numbers"]["scores"][0]);
    }

    // Marks by the definition: none at least as good in both, and better in one.
    let means: Vec<[f64; 2]> =
        results.iter().map(|r| ["accuracy", "completeness"].map(|name| r[name]["mean"].as_f64().unwrap())).collect();
    let optimal = |own: &[f64; 2]| !means.iter().any(|other| other[0] <= own[0] && other[1] <= own[1] && other != own);
    let expected: Vec<bool> = means.iter().map(optimal).collect();
    let marked: Vec<bool> = results.iter().map(|r| r["pareto"].as_bool().unwrap()).collect();
    assert_eq!(marked, expected);
    assert!(marked.contains(&true) && marked.contains(&false), "{marked:?} of {means:?}");
    // The table says the same.
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].split_whitespace().take(4).eq(["#", "min-confidence", "min-views", "points"]), "{}", lines[0]);
    for (line, &optimal) in lines[1..10].iter().zip(&marked) {
        assert_eq!(line.trim_end().ends_with('*'), optimal, "{line}");
    }
    let words = svg::readable(&std::fs::read_to_string(out.join("pareto.svg")).unwrap());
    let first = (marked.iter().position(|&m| m).unwrap() + 1).to_string();
    assert!(words.contains(&first), "the number {first} among {words:?}");
    // The best cloud is the one of its setting.
    let f_score = |r: &Value| r["score"]["f_score"].as_f64().unwrap();
    let best = scores["best"].as_u64().unwrap() as usize;
    let most = results.iter().map(f_score).fold(0.0, f64::max);
    assert_eq!(f_score(&results[best - 1]), most);
    let (_, points) = cloud(&out.join("best.ply"));
    assert_eq!(results[best - 1]["points"], points.len());

    // Again without a cloud to keep: that of the grid before is not left beside other numbers. An empty cloud has
    // none.
    let base = ["--reference", text(&truth), "--sweep"];
    place.fuse("grid", &[&base[..], &["min-confidence=0.5,1"]].concat()).done();
    assert!(!out.join("best.ply").exists());
    let scores = json(&out.join("sweep.json"));
    assert_eq!(scores["results"][1]["points"], 0);
    assert_eq!(
        (&scores["results"][1]["accuracy"]["mean"], &scores["results"][1]["pareto"]),
        (&Value::Null, &false.into())
    );
    let empty = place.fuse("grid", &[&base[..], &["min-confidence=1"]].concat());
    assert!(empty.failed(6).starts_with("every cloud is empty"), "{}", empty.stderr);
}

#[test]
fn a_grid_compares_methods_and_gives_the_same_numbers_whatever_the_number_of_threads() {
    let place = place_with_maps();
    let truth = place.path("truth.ply");
    write_truth(&truth);
    let results = |threads: &str| {
        let arguments = ["--reference", text(&truth), "--sweep", "method=reprojection,pyramid,dynamic,disparity,graph"];
        let more = ["--sweep", "min-views=1,2", "--min-confidence", "0.5", "--threads", threads];
        place.fuse("grid", &[&arguments[..], &more].concat()).done();
        let mut results = json(&place.path("grid/sweep.json"))["results"].clone();
        for result in results.as_array_mut().unwrap() {
            result["seconds"] = Value::Null;
        }
        results
    };
    let [one, three] = ["1", "3"].map(results);
    assert_eq!(one, three);
    // Graph fusion has no number of views.
    let methods: Vec<&str> =
        one.as_array().unwrap().iter().map(|r| r["settings"]["method"].as_str().unwrap()).collect();
    assert_eq!(methods[..4], ["reprojection", "reprojection", "pyramid", "pyramid"]);
    assert_eq!((methods.len(), methods[8]), (9, "graph"));
}

#[test]
fn a_grid_that_cannot_be_is_refused() {
    let place = place_with_maps();
    let truth = place.path("truth.ply");
    fs::write(&truth, "no cloud").unwrap();
    let usage = [
        (&["--sweep", "min-views=2"][..], "--reference <FILE>"),
        (&["--reference", "a.ply"], "--sweep"),
        (&["--keep-best", "f-score"], "--sweep"),
        (&["--sweep", "min-views", "--reference", "a.ply"], "expected a name and its values, such as min-views=2,3,4"),
        (&["--keep-best", "price", "--sweep", "a=1", "--reference", "a.ply"], "[possible values: f-score"),
    ];
    for (arguments, message) in usage {
        let ran = place.fuse("no", arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    }
    let with = |axis: &str| place.fuse("no", &["--reference", text(&truth), "--sweep", axis]);
    let cases = [
        ("min-views=2,0", "--sweep min-views: \"0\"; expected a whole number, 1 or more"),
        (
            "min-pixels=2",
            "--sweep min-pixels=2: a constant that the method reprojection does not use; \
             expected a constant of its own, or --method graph",
        ),
        ("price=2", "--sweep price=2: no constant price; expected method, preset or a constant: check-sources,"),
        ("preset=pva,none", "preset none: no such preset; expected one of mvsnet,"),
        ("min-views=2", "truth.ply"),
    ];
    for (axis, expected) in cases {
        let ran = with(axis);
        let message = ran.failed(3);
        assert!(message.contains(expected), "{axis}: {message}");
    }
    fs::remove_file(&truth).unwrap();
    assert!(with("min-views=2").failed(4).contains("cannot open the point cloud"));
    assert!(!place.path("no").exists(), "a refused grid leaves nothing");
}
