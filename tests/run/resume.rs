//! Stopping, going on, and what makes earlier maps worthless.

use super::*;

#[test]
fn a_second_run_takes_what_is_there_and_makes_what_is_missing() {
    let place = Place::new();
    let first = place.infer("out", &["--json"]).done();
    assert_eq!(computed(&first).len(), 15);
    let out = place.path("out");
    let before = results(&out);

    assert_eq!(computed(&place.infer("out", &["--json"]).done()), []);
    assert_eq!(results(&out), before);

    fs::remove_file(out.join("levels/1/depth/00000003.pfm")).unwrap();
    fs::remove_file(out.join("depth/00000005.pfm")).unwrap();
    assert_eq!(computed(&place.infer("out", &["--json"]).done()), [("00000003".to_owned(), 1)]);
    assert!(results(&out) == before, "the maps made again are not the same");

    // A map that was cut short is not taken for a whole one.
    let cut = out.join("levels/0/confidence/00000009.pfm");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(computed(&place.infer("out", &["--json"]).done()), [("00000009".to_owned(), 0)]);
    assert!(results(&out) == before, "the maps made again are not the same");

    // Fusion has its own parameters: the maps stay.
    assert_eq!(computed(&place.infer("out", &["--json", "--min-confidence", "0.5"]).done()), []);
    // A further level leaves the others as they are.
    let deeper = computed(&place.infer("out", &["--json", "--levels", "4"]).done());
    assert_eq!(deeper.len(), 5);
    assert!(deeper.iter().all(|(_, level)| *level == 3), "{deeper:?}");
}

#[test]
fn other_parameters_mean_other_maps() {
    let place = Place::new();
    place.infer("out", &["--levels", "1", "--quiet"]).done();
    for change in
        [["--planes", "24"], ["--views", "3"], ["--range", "2.5,6"], ["--sampling", "inverse"], ["--max-side", "80"]]
    {
        let ran = place.infer("out", &["--levels", "1", "--json", change[0], change[1]]).done();
        assert_eq!(computed(&ran).len(), 5, "{change:?}");
    }
    // A map of known depths is a parameter, pixel by pixel.
    let known = place.path("known");
    fs::create_dir(&known).unwrap();
    for file in fs::read_dir(place.path("out/depth")).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), known.join(file.file_name())).unwrap();
    }
    let infer = || {
        let made = computed(&place.infer("out", &["--levels", "1", "--json", "--prior", text(&known)]).done());
        made.into_iter().map(|(view, _)| view).collect::<Vec<_>>()
    };
    assert_eq!((infer().len(), infer().len()), (5, 0));
    let file = known.join("00000005.pfm");
    let mut map = pfm::read(&file).unwrap();
    map.data[17] *= 1.01;
    pfm::write(&file, &map).unwrap();
    assert_eq!(infer(), ["00000005"]);
}

#[test]
fn a_changed_photo_changes_the_maps_that_it_is_part_of() {
    let place = Place::new();
    let options = ["--levels", "1", "--views", "2", "--json"];
    let first = place.infer("out", &options).done();
    assert_eq!(computed(&first).len(), 5);
    let photo = place.scene().join("images/00000000.png");
    let mut picture = image::open(&photo).unwrap().to_rgb8();
    picture.put_pixel(10, 10, image::Rgb([255, 0, 0]));
    picture.save(&photo).unwrap();
    // Sources are the first other view in the list: 0 for all but itself, which has 2.
    let manifest = json(&place.path("out/manifest.json"));
    let with_it = manifest["views"].as_array().unwrap().iter().filter(|v| {
        v["name"] == "00000000" || v["depth"]["sources"].as_array().unwrap().contains(&Value::from("00000000"))
    });
    let with_it: Vec<&str> = with_it.map(|v| v["name"].as_str().unwrap()).collect();
    let again = computed(&place.infer("out", &options).done());
    let again: Vec<&str> = again.iter().map(|(view, _)| view.as_str()).collect();
    assert_eq!(
        {
            let mut a = again.clone();
            a.sort();
            a
        },
        with_it
    );

    // Another date or another place of the same photos changes nothing.
    fs::rename(place.scene(), place.path("moved")).unwrap();
    let moved = text(&place.path("moved")).to_owned();
    let out = text(&place.path("out")).to_owned();
    let refused = engine(["infer", &moved, "-o", &out, "--levels", "1", "--views", "2"]);
    assert!(refused.failed(3).contains("it holds the results of another scene"), "{}", refused.stderr);
    let ran = engine(["infer", &moved, "-o", &out, "--levels", "1", "--views", "2", "--json", "--force"]).done();
    assert_eq!(computed(&ran), []);
}

/// Ctrl-C as a terminal sends it.
#[cfg(unix)]
#[test]
fn a_stopped_run_leaves_whole_files_and_goes_on_later() {
    let place = Place::new();
    // Enough planes that each map takes a noticeable time; the probability spreads over them.
    let options = ["--json", "--planes", "600", "--levels", "2", "--threads", "1", "--min-confidence", "0.001"];
    let mut child =
        command(place.arguments("out", &options)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_step = |line: &String| serde_json::from_str::<Value>(line).unwrap()["event"] == "step";
    assert!(lines.by_ref().map(Result::unwrap).any(|line| is_step(&line)));
    let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{stderr}");
    assert_eq!(
        stderr.lines().last().unwrap(),
        "error: stopped by the user; run the same command again to go on with what is left"
    );
    let made = 1 + rest.iter().filter(|line| is_step(line)).count();
    assert!(made < 10, "the run was over before it was stopped");

    let out = place.path("out");
    assert!(!out.join("manifest.json").exists() && !out.join("fused.ply").exists());
    let left = files(&out);
    assert!(left.keys().all(|path| !path.to_str().unwrap().contains(".part")), "{:?}", left.keys());
    for path in left.keys().filter(|p| p.extension().is_some_and(|e| e == "pfm")) {
        pfm::read(&out.join(path)).unwrap_or_else(|e| panic!("{e}"));
    }

    let resumed = place.infer("out", &options).done();
    assert_eq!(computed(&resumed).len(), 10 - made);
    place.infer("straight", &options).done();
    assert!(results(&out) == results(&place.path("straight")));
}

/// Two signals: the second does not wait for the map in progress.
#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_run_at_once() {
    ends_at_once(Stdio::null);
}

/// As on a terminal that was closed: what cannot be told must not keep the second signal from being heard.
#[cfg(target_os = "linux")]
#[test]
fn a_second_signal_ends_a_run_that_cannot_tell_of_the_first() {
    ends_at_once(|| fs::File::options().write(true).open("/dev/full").unwrap().into());
}

#[cfg(unix)]
fn ends_at_once(stderr: impl Fn() -> Stdio) {
    let place = Place::new();
    // One map of some seconds. The first signal must find it in progress: between two maps it would end the run by
    // itself, so a try that came too early on a busy machine is made again with more patience.
    let options = ["--json", "--planes", "20000", "--levels", "1", "--threads", "1"];
    let cut_off = (1..=5).any(|patience| {
        let mut child =
            command(place.arguments("out", &options)).stdout(Stdio::piped()).stderr(stderr()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(r#""event":"stage""#)));
        let pause = |milliseconds| std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        pause(300 * patience);
        for _ in 0..2 {
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
            pause(50);
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        // A run that ends by itself says so in an event.
        !lines.any(|line| line.contains(r#""event":"error""#))
    });
    assert!(cut_off, "the second signal never ended a map in progress");
    let left = files(&place.path("out"));
    assert_eq!(left.keys().map(|p| p.to_str().unwrap()).collect::<Vec<_>>(), [".engine.json", ".engine.lock"]);
}
