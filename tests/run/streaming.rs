//! Maps that do not fit into memory: the same cloud through a scratch file that nobody ever sees.

use glam::DVec3;

use super::together::kill_after;
use super::*;
use engine::files::map::Map;
use engine::host::random::Random;
use engine::manifest::Manifest;

/// The maps' sides are those of [`plane_scene`] times this.
const TIMES: u32 = 4;
/// In GB: enough to fuse view by view, not for all maps at once.
const LITTLE: &str = "0.075";

/// The scene of [`plane_scene`] with more pixels, moved, in `scene/`, and maps of its plane with some noise in `maps/`.
/// One map is half the size, one has no confidence, a part of a photo is transparent.
fn write(offset: DVec3) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut scene = plane_scene::enlarged(plane_scene::scene(), TIMES);
    let maps = root.path().join("maps");
    fs::create_dir_all(maps.join("depth")).unwrap();
    fs::create_dir_all(maps.join("confidence")).unwrap();
    let mut random = Random::from_state(3);
    for (at, view) in scene.views.iter().enumerate() {
        let step = if at == 2 { 2 } else { 1 };
        let (width, height) = (scene.size.0 as usize / step, scene.size.1 as usize / step);
        let depth = |i: usize| plane_scene::depth(view, (i % width * step) as f64, (i / width * step) as f64);
        let depths = (0..width * height).map(|i| (depth(i) * (1.0 + 0.002 * random.unit())) as f32).collect();
        let sure = (0..width * height).map(|_| random.unit().powf(0.2) as f32).collect();
        pfm::write(&maps.join(format!("depth/{:08}.pfm", view.id)), &Map { width, height, data: depths }).unwrap();
        if at != 3 {
            pfm::write(&maps.join(format!("confidence/{:08}.pfm", view.id)), &Map { width, height, data: sure })
                .unwrap();
        }
    }
    scene.views.iter_mut().for_each(|view| view.t -= view.r * offset);
    scene.write_mvsnet(&root.path().join("scene"), "2.6 0.2 16 5.6");
    let photo = root.path().join("scene/images").join(&scene.views[1].file);
    let mut pixels = image::open(&photo).unwrap().into_rgba8();
    pixels.enumerate_pixels_mut().for_each(|(x, y, pixel)| pixel.0[3] = if x < 60 && y < 90 { 0 } else { 255 });
    pixels.save(&photo).unwrap();
    root
}

fn arguments(root: &Path, out: &str, more: &[&str]) -> Vec<String> {
    let [maps, scene, out] = ["maps", "scene", out].map(|name| text(&root.join(name)).to_owned());
    let mut arguments: Vec<String> = ["fuse", &maps, "--scene", &scene, "-o", &out].map(str::to_owned).to_vec();
    arguments.extend(["--threads", "2"].iter().chain(more).map(|&word| word.to_owned()));
    arguments
}

fn fuse(root: &Path, out: &str, more: &[&str]) -> Ran {
    engine(arguments(root, out, more))
}

/// Names in a folder, of all kinds of files.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn clouds_in_little_memory_are_those_in_much() {
    let near = write(DVec3::ZERO);
    let far = write(DVec3::new(448_262.0, 5_411_932.0, 320.0));
    let cases: [(&TempDir, &[&str]); 7] = [
        (&near, &[]),
        (&near, &["--method", "dynamic", "--min-confidence", "0.4"]),
        (&near, &["--preset", "mvsnet", "--range", "3,4.2"]),
        (&near, &["--thin", "0.1", "--roi", "-0.6,-0.5,-0.4,0.3,0.4,0.5"]),
        (&far, &["--roi", "448261.4,5411931.5,319.6,448262.3,5411932.4,320.5"]),
        (
            &far,
            &["--ply-offset", "auto", "--view", NAMES[0], "--view", NAMES[1], "--view", NAMES[3], "--view", NAMES[4]],
        ),
        (&far, &["--thin", "0.1", "--ply-offset", "448000,5411000,0"]),
    ];
    for (which, (root, more)) in cases.into_iter().enumerate() {
        let [much, little] = ["much", "little"].map(|name| format!("{name}{which}"));
        fuse(root.path(), &much, more).done();
        let ran = fuse(root.path(), &little, &[more, &["--memory", LITTLE]].concat()).done();
        let said = "note: fusing all maps at once would take ";
        assert!(ran.stderr.lines().any(|line| line.starts_with(said)), "{more:?}: {}", ran.stderr);
        let [much, little] = [much, little].map(|name| root.path().join(name));
        assert!(
            fs::read(much.join("fused.ply")).unwrap() == fs::read(little.join("fused.ply")).unwrap(),
            "{more:?}: another cloud"
        );
        assert_eq!(names(&much), names(&little));
        let [much, little] = [much, little].map(|out| Manifest::read(&out).unwrap().unwrap());
        assert!(much.points > 100, "{more:?}: {}", much.points);
        assert_eq!((much.points, &much.funnel, &much.views), (little.points, &little.funnel, &little.views));
        assert_eq!((much.cloud, much.outputs), (little.cloud, little.outputs));
        let other_notes: Vec<&String> = little.notes.iter().filter(|note| !much.notes.contains(note)).collect();
        assert!(other_notes.len() == 1 && other_notes[0].contains("put aside in a scratch file"), "{other_notes:?}");
        let planned = little.machine.memory_planned.unwrap();
        let stages: Vec<&str> = planned.stages.iter().map(|stage| &*stage.stage).collect();
        assert_eq!(stages, ["putting maps aside", "fusion, view by view"]);
        assert!(planned.peak() <= 75_000_000 && much.machine.memory_planned.unwrap().peak() > 75_000_000);
    }
}

/// The peak that the system tells, of maps that come to several times as much.
#[cfg(target_os = "linux")]
#[test]
fn no_more_memory_is_taken_than_was_given() {
    let root = write(DVec3::ZERO);
    let peak = |out: &str, more: &[&str]| {
        fuse(root.path(), out, more).done();
        json(&root.path().join(out).join("manifest.json"))["machine"]["memory_peak"].as_u64().unwrap()
    };
    let (much, little) = (peak("much", &[]), peak("little", &["--memory", LITTLE]));
    assert!(little <= 75_000_000, "{little}");
    assert!(little < much, "{little} and {much}");
}

#[test]
fn less_than_one_view_needs_is_refused_before_anything_is_written() {
    let root = write(DVec3::ZERO);
    let message = fuse(root.path(), "out", &["--memory", "0.02"]).failed(5).to_owned();
    assert!(
        message.contains(", and 20 MB are available; smaller maps, fewer sources (--check-sources) or fewer --threads"),
        "{message}"
    );
    // Methods that need all maps at once are refused where those do not fit.
    let message = fuse(root.path(), "out", &["--memory", LITTLE, "--method", "graph"]).failed(5).to_owned();
    assert!(message.contains("fuse fewer views at a time (--view NAME), or smaller maps"), "{message}");
    // A voxel for nearly every point.
    let message = fuse(root.path(), "out", &["--memory", LITTLE, "--thin", "1e-9"]).failed(5).to_owned();
    assert!(message.starts_with("memory: the thinned cloud has more than "), "{message}");
    assert!(message.ends_with(" are left for them; expected a larger --thin, or more --memory"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_one_line_and_leaves_nothing() {
    let root = write(DVec3::ZERO);
    // No file may grow beyond 1 MiB (blocks of 512): two maps are more.
    let shell = format!("trap '' XFSZ; ulimit -f 2048; exec {} \"$@\"", env!("CARGO_BIN_EXE_engine"));
    let arguments = arguments(root.path(), "out", &["--memory", LITTLE]);
    let ran = Ran::from(Command::new("sh").args(["-c", &shell, "sh"]).args(arguments).output().unwrap());
    let message = ran.failed(4);
    let place = format!("{}: cannot put aside here what does not fit into memory: ", text(root.path()));
    assert!(message.starts_with(&place), "{message}");
    assert_eq!(names(root.path()), ["maps", "scene"], "nothing is left");
}

#[test]
fn killed_runs_leave_no_scratch_file() {
    let root = write(DVec3::ZERO);
    let little = ["--memory", LITTLE, "--quiet"];
    let began = std::time::Instant::now();
    fuse(root.path(), "fresh", &little).done();
    let long = began.elapsed().as_millis() as u64;
    let fresh = names(&root.path().join("fresh"));
    for part in 1..8 {
        let mut child = command(arguments(root.path(), "out", &little)).stderr(Stdio::null()).spawn().unwrap();
        kill_after(&mut child, long * part / 8);
        child.wait().unwrap();
        let left = names(root.path());
        assert!(left.iter().all(|name| ["fresh", "maps", "out", "scene"].contains(&&**name)), "{left:?}");
        let out = root.path().join("out");
        if out.exists() {
            let known = |name: &String| fresh.contains(name) || name.starts_with(".engine-");
            assert!(names(&out).iter().all(known), "{:?}", names(&out));
        }
    }
    fuse(root.path(), "out", &little).done();
    assert_eq!(names(&root.path().join("out")), fresh);
    assert!(results(&root.path().join("out")) == results(&root.path().join("fresh")));
}

/// A run that makes the maps itself puts them aside before they are fused.
#[test]
fn infer_fuses_view_by_view_where_all_maps_do_not_fit() {
    let root = write(DVec3::ZERO);
    let infer = |out: &str, more: &[&str]| {
        let (scene, out) = (root.path().join("scene"), root.path().join(out));
        let quick = ["--levels", "1", "--min-confidence", "0.2", "--threads", "2", "--planes", "8"];
        engine([&["infer", text(&scene), "-o", text(&out)][..], &quick, more].concat())
    };
    for out in ["much", "little"] {
        infer(out, &["--depth-only"]).done();
    }
    infer("much", &["--min-views", "1"]).done();
    let manifest = || Manifest::read(&root.path().join("much")).unwrap().unwrap();
    let planned = manifest().machine.memory_planned.unwrap();
    let [merging, fusion] = &planned.stages[..] else { panic!("{planned}") };
    assert!(fusion.total() > merging.total() + 1_000_000, "{planned}");
    let room = ((fusion.total() - 1_000_000) as f64 / 1e9).to_string();
    let ran = infer("little", &["--min-views", "1", "--memory", &room]).done();
    assert!(ran.stderr.contains("note: fusing all maps at once would take "), "{}", ran.stderr);
    assert!(manifest().points > 100, "{}", manifest().points);
    assert!(results(&root.path().join("much")) == results(&root.path().join("little")));
}
