//! Files of very many views lie in subfolders (here of few, since that is asked for): they are the same files, and
//! every command finds them.

use engine::files::subfolders::{Spread, find};

use super::*;

/// The same files, wherever they lie.
fn flat(files: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_subfolder =
        |part: &std::ffi::OsStr| part.to_str().is_some_and(|part| part.starts_with('_') && part.len() == 3);
    let flat = |path: &PathBuf| path.iter().filter(|part| !is_subfolder(part)).collect();
    files.iter().map(|(path, bytes)| (flat(path), bytes.clone())).collect()
}

/// A flat folder of a single run, and one that shards have filled, in subfolders.
fn both() -> (Place, BTreeMap<PathBuf, Vec<u8>>) {
    let place = Place::new(6);
    let alone = place.alone(&["--normals"]);
    place.plan("out", &["--shards", "2", "--normals", "--subfolders", "always"]).done();
    let _ = ["1/2", "2/2"].map(|shard| place.shard("out", shard).done());
    place.merge("out", &["--shard", "2/2"]).done();
    place.merge("out", &[]).done();
    place.fuse("out").done();
    (place, alone)
}

#[test]
fn the_files_are_the_same_and_stay_where_they_are() {
    let (place, alone) = both();
    let out = place.path("out");
    let made = results(&out);
    assert!(flat(&made) == alone && made != alone);
    let maps = |kind: &str| made.keys().filter(|path| path.starts_with(kind) && path.iter().count() == 3).count();
    assert_eq!(["depth", "confidence", "normal", "preview"].map(maps), [6; 4]);
    let of_levels = |ending: &str, folder: &Path| {
        let is_one = |path: &&PathBuf| path.extension().is_some_and(|e| e == ending);
        files(&out.join(folder)).keys().filter(is_one).all(|path| path.iter().any(|part| part.len() == 3))
    };
    assert!(of_levels("pfm", Path::new("levels")) && of_levels("json", Path::new("levels")));
    engine(["status", text(&out)]).done();

    // A run that is told nothing, or the contrary, goes on with what is there.
    fs::remove_file(out.join("fused.ply")).unwrap();
    let lost = find(&out.join("depth"), "00000002", "pfm");
    assert_eq!(lost, Spread::InSubfolders.place(&out.join("depth"), "00000002", "pfm"));
    fs::remove_file(&lost).unwrap();
    let ran = place.infer("out", &[&OPTIONS[..], &["--normals", "--subfolders", "never", "--json"]].concat()).done();
    assert!(!ran.stdout.contains("\"reused\":false"), "{}", ran.stdout);
    let again = results(&out);
    assert!(flat(&again) == alone);
    // What was lost comes back where it belongs by now; nothing else moves.
    let moved: Vec<_> = again.keys().filter(|path| !made.contains_key(*path)).collect();
    assert_eq!(moved, [Path::new("depth/00000002.pfm")]);
    // What a run makes no more is taken away with its folders.
    place.infer("out", &OPTIONS).done();
    assert!(!out.join("normal").exists());
}

#[test]
fn every_command_finds_them() {
    let (place, _) = both();
    let [alone, out] = ["alone", "out"].map(|name| place.path(name));
    // What a command writes of either folder, and what it says.
    let same = |what: &str, command: &dyn Fn(&Path, &Path) -> Vec<String>| {
        let [one, other] = [&alone, &out].map(|from| {
            let into = place.path(&format!("{what} of {}", from.file_name().unwrap().to_str().unwrap()));
            let said = engine(command(from, &into)).done().stdout;
            let mut made = if into.exists() { files(&into) } else { BTreeMap::new() };
            made.retain(|path, _| path.extension().is_none_or(|ending| ending != "json" && ending != "lock"));
            (made, said.replace(text(&into), "INTO").replace(text(from), "FROM"))
        });
        assert!(one.0 == other.0, "{what}: {:?} and {:?}", one.0.keys(), other.0.keys());
        (one.0.len(), one.1, other.1)
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let exported = same("export", &|from, into| words(&["export", text(from), "-o", text(into), "--to", "png16"]));
    assert!(exported.0 > 17, "{exported:?}");
    assert!(same("mesh", &|from, into| words(&["mesh", text(from), "-o", text(into), "--to", "ply"])).0 > 0);
    let map = |from: &Path, into: &Path| words(&["map", text(from), "-o", text(into), "--up", "0,0,-1"]);
    assert!(same("map", &map).0 >= 2);
    let fused: [&[&str]; 2] = [&["--method", "pyramid", "--levels", "2"], &["--tiles", "3"]];
    for (at, options) in fused.into_iter().enumerate() {
        let what = format!("cloud {at}");
        let fuse = |from: &Path, into: &Path| [words(&["fuse", text(from), "-o", text(into)]), words(options)].concat();
        assert!(same(&what, &fuse).0 > 0, "{options:?}");
    }
    let scores = |from: &Path, _: &Path| words(&["eval", "depth", text(from), "--truth", text(from)]);
    let (_, one, other) = same("eval", &scores);
    assert!(one == other && one.lines().count() > 5, "{one}\n{other}");
    let scene = place.path("scene");
    // What became of the pixels, among it.
    let doctor = |from: &Path, _: &Path| words(&["doctor", text(&scene), "--run", text(from), "--no-photos"]);
    let (_, one, other) = same("doctor", &doctor);
    // Memory that is available differs from one moment to the next.
    let [one, other] = [&one, &other].map(|said| said.lines().filter(|l| l.contains("run: ")).collect::<Vec<_>>());
    assert!(one == other && !one.is_empty(), "{one:?}\n{other:?}");
    // Known depths of an earlier run.
    let prior = |from: &Path, into: &Path| {
        let of_scene = ["infer", text(&scene), "-o", text(into), "--prior", text(from), "--depth-only"];
        [words(&of_scene), words(&OPTIONS)].concat()
    };
    assert!(same("prior", &prior).0 > 12);
    // One page with every view's maps, in which times and paths differ.
    let page = |from: &Path| {
        engine(["report", text(from), "--no-doctor"]).done();
        fs::read_to_string(from.join("report.html")).unwrap().len()
    };
    let pages = [page(&alone), page(&out)];
    assert!(pages[0].abs_diff(pages[1]) < 100, "{pages:?}");
}
