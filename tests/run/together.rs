//! Several runs in one folder, and others who change files while a run is at work.

use std::thread::sleep;
use std::time::{Duration, Instant};

use engine::files::lock::{FolderLock, LOCK, Mode};
use engine::host::random::Random;

use super::*;

/// Rounds of tests that try their luck: `ENGINE_TEST_ROUNDS=200` for a long night.
pub fn rounds() -> u64 {
    std::env::var("ENGINE_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// Small maps, so that a run takes a fraction of a second.
pub fn small<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["--resolution", "quarter", "--min-views", "1", "--threads", "1"], options].concat()
}

/// Starts a run that tells nobody anything but its errors.
pub fn start(place: &Place, out: &str, options: &[&str]) -> std::process::Child {
    let options = [options, &["--quiet"]].concat();
    command(place.arguments(out, &options)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills without a warning, as the system does when memory runs out.
pub fn kill_after(child: &mut std::process::Child, milliseconds: u64) {
    sleep(Duration::from_millis(milliseconds));
    child.kill().unwrap();
}

#[test]
fn two_runs_at_once_leave_what_one_of_them_alone_leaves() {
    let place = Place::new();
    let options = [small(&["--levels", "2"]), small(&["--levels", "1", "--planes", "24", "--normals"])];
    let mut longest = 0;
    let alone = [0, 1].map(|which| {
        let began = Instant::now();
        place.infer(&format!("alone{which}"), &options[which]).done();
        longest = longest.max(began.elapsed().as_millis() as u64);
        results(&place.path(&format!("alone{which}")))
    });
    assert!(alone[0] != alone[1]);
    let mut refused = 0;
    for round in 0..rounds() {
        let mut random = Random::new(&[round, 2]);
        let mut children = [0, 1].map(|which| start(&place, "out", &options[which]));
        let mut killed = [false; 2];
        if random.chance(0.6) {
            let which = random.below(2);
            kill_after(&mut children[which], random.between(0, longest as usize) as u64);
            killed[which] = true;
        }
        let ended = children.map(|child| Ran::from(child.wait_with_output().unwrap()));
        let mut done = 0;
        for (which, ran) in ended.iter().enumerate() {
            match ran.code {
                Some(0) => done += 1,
                None => assert!(killed[which]),
                _ => {
                    let message = ran.failed(3);
                    assert!(message.contains("another run ") && message.contains("out"), "{message}");
                    refused += 1;
                }
            }
        }
        // A run that was killed may have left a part.
        if done > 0 && !killed.contains(&true) {
            let left = results(&place.path("out"));
            assert!(alone.contains(&left), "round {round}: {:?}", left.keys());
        }
        // Whatever has happened, no run takes the other's maps for its own.
        let next = random.below(2);
        place.infer("out", &options[next]).done();
        assert!(results(&place.path("out")) == alone[next], "round {round}");
    }
    assert!(refused > 0, "the runs never met");
}

#[test]
fn no_command_writes_into_a_folder_that_another_run_holds() {
    let place = Place::new();
    let (out, scene) = (place.path("out"), place.scene());
    place.infer("out", &small(&["--levels", "1"])).done();
    place.infer("maps", &small(&["--levels", "1"])).done();
    let made = place.path("made");
    let synth = ["synth", text(&made), "--views", "2", "--size", "32x32", "--rig", "cluster"];
    engine(synth).done();
    let train = place.path("train");
    let training = ["train", text(&train), "--steps", "1", "--size", "64x64", "--planes", "34", "--views", "2"];
    engine(training.iter().chain(&["--validation-views", "1"])).done();
    let fused = place.path("maps_fused");
    let fuse = ["fuse", text(&place.path("maps")), "--scene", text(&scene), "--min-views", "1"].map(str::to_owned);
    engine(&fuse).done();

    let before = files(place.root.path());
    let held = [&out, &made, &train, &fused]
        .map(|folder| FolderLock::acquire(folder, Mode::Alone, "folder", "lock the folder").unwrap());
    let refuse = |ran: Ran, folder: &Path| {
        let message = ran.failed(3).to_owned();
        let who = format!("{}: another run is at work in it (`engine", folder.display());
        assert!(message.contains(&who), "{message}");
        assert!(message.contains(&format!("process {} on ", std::process::id())), "{message}");
    };
    refuse(place.infer("out", &small(&["--levels", "1"])), &out);
    refuse(place.infer("out", &small(&["--levels", "1", "--planes", "24", "--force"])), &out);
    refuse(engine(synth), &made);
    refuse(engine(training.iter().chain(&["--validation-views", "1"])), &train);
    refuse(engine(training.iter().chain(&["--validation-views", "1", "--fresh"])), &train);
    refuse(engine(&fuse), &fused);
    // Those who only read say so.
    let reading = engine(["fuse", text(&out), "--scene", text(&scene), "--min-views", "1"]).done();
    assert!(reading.stderr.contains("note: another run is at work on the maps (`engine"), "{}", reading.stderr);
    let doctor = engine(["doctor", text(&scene), "--run", text(&out), "--no-photos"]);
    assert!(doctor.stdout.contains("another run is at work in it (`engine"), "{}", doctor.stdout);
    drop(held);
    let mut after = files(place.root.path());
    after.retain(|path, _| !path.starts_with("out_fused"));
    let without_locks = |mut files: BTreeMap<PathBuf, Vec<u8>>| {
        files.retain(|path, _| path.file_name().is_none_or(|name| name != LOCK));
        files
    };
    assert!(without_locks(after) == without_locks(before), "nothing has changed");
    place.infer("out", &small(&["--levels", "1"])).done();
}

/// The photo that is hashed is the photo that is decoded.
#[test]
fn a_photo_that_is_replaced_while_a_run_is_at_work_makes_no_map() {
    let place = Place::new();
    let options = small(&["--levels", "1", "--planes", "400", "--min-confidence", "0.001"]);
    place.infer("straight", &options).done();
    let photo = place.scene().join("images/00000009.png");
    let other = place.scene().join("images/00000000.png");
    let kept = fs::read(&photo).unwrap();

    let arguments = place.arguments("out", &[&options[..], &["--json"]].concat());
    let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // All photos are hashed; the last is decoded once more for its colours even if it is at hand by now.
    assert!(lines.any(|line| line.contains(r#""event":"stage""#)));
    fs::copy(&other, &photo).unwrap();
    let said: Vec<String> = lines.collect();
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{said:?} {stderr}");
    assert!(
        stderr.contains("it was replaced while the run was at work") && stderr.contains("00000009.png"),
        "{stderr}"
    );

    fs::write(&photo, kept).unwrap();
    place.infer("out", &options).done();
    assert!(results(&place.path("out")) == results(&place.path("straight")));
}
