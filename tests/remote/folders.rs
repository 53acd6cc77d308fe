//! Jobs whose addresses are folders (`file://`): what is brought and put, without a server.

use super::*;

/// A row of views in a folder, and a job on it.
fn row(views: u32) -> (TempDir, Job) {
    let root = tempfile::tempdir().unwrap();
    plane_scene::write_row(&root.path().join("scene"), views);
    let address = |name: &str| format!("file://{}", text(&root.path().join(name)));
    let job = Job::new(address("scene"), address("out"), Vec::new());
    (root, job)
}

#[test]
fn a_job_by_shards_and_tiles_is_a_single_runs_byte_for_byte() {
    let (root, job) = row(8);
    let alone_in = root.path().join("alone");
    let expected = alone(&root.path().join("scene"), &alone_in, &OPTIONS);
    engine(["mesh", text(&alone_in), "--voxel", "0.1"]).done();

    job.plan(&[&OPTIONS[..], &["--shards", "3"]].concat()).done();
    let plan = json(&root.path().join("out/plan.json"));
    assert_eq!(plan["scene"], *job.scene, "the plan names the scene by its address");
    let pending = job.run(&["status", &job.out]);
    assert_eq!(pending.code, Some(9), "{}", pending.stderr);
    // One of them is twice on its way, all at once.
    let shards = ["1/3", "2/3", "3/3", "2/3"].map(|shard| job.start(&job.shard(shard)));
    shards.into_iter().for_each(|shard| drop(ended(shard)));
    for shard in ["3/3", "1/3", "2/3"] {
        job.run(&["merge", &job.out, "--shard", shard]).done();
    }
    let status = job.run(&["status", &job.out, "--json"]);
    let told = status.events().into_iter().next().unwrap();
    assert_eq!((&told["merged"], &told["mapped"], &told["fused"]), (&8.into(), &8.into(), &false.into()));
    // Looking costs the small files alone: the plan and the states of shards.
    let looked = moved(&status, &job.out);
    assert!(looked["gets"].as_u64().unwrap() <= 1 + 3 * 2, "{looked}");

    for shard in ["1/2", "2/2"] {
        job.run(&["fuse", &job.out, "--tiles", "4", "--shard", shard]).done();
    }
    job.run(&["fuse", &job.out, "--join"]).done();
    assert_eq!(job.run(&["status", &job.out]).code, Some(0));
    assert!(results(files(&root.path().join("out"))) == expected);

    for shard in ["1/2", "2/2"] {
        job.run(&["mesh", &job.out, "--voxel", "0.1", "--tiles", "2", "--shard", shard]).done();
    }
    job.run(&["mesh", &job.out, "--voxel", "0.1", "--join"]).done();
    let mesh = |out: &Path| std::fs::read(out.join("mesh/mesh.ply")).unwrap();
    assert!(mesh(&root.path().join("out")) == mesh(&alone_in));

    // What reads results finds the scene by its address, and writes beside them.
    job.run(&["export", &job.out, "--to", "las,xyz"]).done();
    job.run(&["report", &job.out]).done();
    let page = format!("file://{}", text(&root.path().join("pages/page.html")));
    job.run(&["report", &job.out, "-o", &page]).done();
    let made = files(&root.path().join("out"));
    for file in ["export/export.json", "export/cloud.las", "report.html"] {
        assert!(made.contains_key(Path::new(file)), "{file}: {:?}", made.keys());
    }
    assert!(made[Path::new("report.html")] == std::fs::read(root.path().join("pages/page.html")).unwrap());
    let names_a_copy = |(_, bytes): &(&PathBuf, &Vec<u8>)| bytes.windows(15).any(|word| word == b".engine-copies-");
    assert_eq!(made.iter().find(names_a_copy).map(|(path, _)| path), None, "results name addresses");
    assert_eq!(job.left(), Vec::<PathBuf>::new(), "no scratch files stay");
}

#[test]
fn only_what_is_needed_is_brought_and_kept_copies_are_not_brought_again() {
    let (root, job) = row(12);
    job.plan(&[&OPTIONS[..], &["--shards", "6"]].concat()).done();
    let photos = |name: &str| std::fs::metadata(root.path().join("scene").join(name)).unwrap().len();
    let all: u64 = (0..12).map(|id| photos(&format!("images/{id:08}.png"))).sum();
    let cache = root.path().join("cache");
    let words = [&job.shard("1/6")[..], &["--json", "--cache", text(&cache)]].concat();
    let first = job.run(&words).done();
    let scene = moved(&first, &job.scene);
    assert!(scene["gets"].as_u64().unwrap() > 0 && scene["got_bytes"].as_u64().unwrap() < all * 3, "{scene}");
    let out = moved(&first, &job.out);
    assert!(out["puts"].as_u64().unwrap() >= 2 * 2 * 3 + 3, "{out}");
    // Again, with what it has kept: nothing of the scene, and of the results only what is not its own.
    let again = job.run(&words).done();
    assert_eq!(moved(&again, &job.scene)["gets"], 0, "{}", again.stdout);
    assert_eq!(moved(&again, &job.out)["gets"], 0, "{}", again.stdout);
    // A copy that somebody has changed is not believed, nor is one of an object that was replaced.
    let copies: Vec<PathBuf> = files(&cache).into_keys().filter(|path| path.ends_with("plan.json")).collect();
    std::fs::write(cache.join(&copies[0]), "{}").unwrap();
    let again = job.run(&words).done();
    assert_eq!(moved(&again, &job.out)["gets"], 1, "{}", again.stdout);
    let plan = root.path().join("out/plan.json");
    let newer = std::fs::read_to_string(&plan).unwrap().replace("\"version\": \"0.", "\"version\": \"9.");
    std::fs::write(&plan, newer).unwrap();
    let refused = job.run(&words);
    assert!(refused.failed(3).starts_with(&format!("{}/plan.json: a plan of version 9.", job.out)));
    // One process at a time in a folder of copies is all that there can be.
    assert!(!files(&cache).is_empty());
}

#[test]
fn without_a_plan_the_first_shard_puts_it_and_a_new_plan_stops_the_shards_of_the_old_one() {
    let (root, job) = row(6);
    let expected = alone(&root.path().join("scene"), &root.path().join("alone"), &OPTIONS);
    let with = |shard| [&job.shard(shard)[..], &OPTIONS].concat();
    let shards = ["1/2", "2/2"].map(|shard| job.start(&with(shard)));
    shards.into_iter().for_each(|shard| drop(ended(shard)));
    job.run(&["merge", &job.out]).done();
    job.run(&["fuse", &job.out]).done();
    assert!(results(files(&root.path().join("out"))) == expected);
    // Maps that change take the cloud away, in the store, too.
    job.plan(&[&OPTIONS[..], &["--shards", "2", "--planes", "12"]].concat()).done();
    let _ = ["1/2", "2/2"].map(|shard| job.run(&job.shard(shard)).done());
    assert!(!root.path().join("out/fused.ply").exists() && !root.path().join("out/manifest.json").exists());
}

#[test]
fn a_scene_may_be_named_by_its_file_and_results_may_be_a_folder() {
    let (root, job) = row(5);
    let scene = root.path().join("scene");
    let expected = alone(&scene, &root.path().join("alone"), &OPTIONS);
    let out = root.path().join("here");
    job.run(&[&["infer", &job.scene, "-o", text(&out)], &OPTIONS[..]].concat()).done();
    assert!(results(files(&out)) == expected);
    // And the other way round; a second run finds everything.
    job.run(&[&["infer", text(&scene), "-o", &job.out], &OPTIONS[..]].concat()).done();
    assert!(results(files(&root.path().join("out"))) == expected);
    let again = job.run(&[&["infer", text(&scene), "-o", &job.out], &OPTIONS[..]].concat()).done();
    assert!(again.stderr.contains("nothing is left to do"), "{}", again.stderr);
    let folder = job.run(&["fuse", &job.out, "--scene", &job.scene, "-o", text(&root.path().join("fused"))]);
    assert!(folder.done().stdout.contains("points"));
    assert_eq!(job.left(), Vec::<PathBuf>::new());
}
