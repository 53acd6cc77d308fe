//! Photos without cameras: an installed COLMAP finds these (structure from motion).
//!
//! Its program `colmap` is run where ENGINE_COLMAP names one or PATH has one, else Python's pycolmap
//! (`calibration.py`). All that it makes stays in a folder of its own beside the results: models in `sparse/`, the
//! database, and `calibration.log` with every line that it said. A stopped calibration goes on from the database; a
//! later run on the same photos takes the models that are there.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::{Error, Result, counted};
use crate::files::folder::{Claim, FolderKind, Found, OutputFolder, write_json};
use crate::files::names::in_json;
use crate::files::{image, input, photo_format};
use crate::host::interrupt;
use crate::host::memory_limits::{expect_room_for_threads, no_thread};
use crate::host::progress::{Live, Progress, duration};
use crate::scene::colmap::scene::registered;

/// The folder of models in that of a calibration.
pub const MODELS: &str = "sparse";
const DATABASE: &str = "database.db";
const LOG: &str = "calibration.log";
/// Written last.
const DONE: &str = "calibrated.json";
const MARK: &str = ".engine.cameras.json";
const SCRIPT: &str = include_str!("calibration.py");

const CAMERAS: FolderKind = FolderKind {
    mark: MARK,
    called: "folder of cameras",
    foreign: (
        "it is not empty and was not made by `engine infer --calibrate`",
        "no such folder: remove it, or let results go elsewhere with -o OUT",
    ),
    list: "list the folder of cameras",
    create: "create the folder of cameras",
    write: "write into the folder of cameras",
    own: |name| {
        // COLMAP's program writes dense/ even where it makes nothing dense.
        [MODELS, LOG, DONE, MARK, "dense"].contains(&name) || name.starts_with(DATABASE)
    },
    own_left: "no such folder: remove it",
};

/// Which photos share a camera: focal length, principal point and distortion. The fewer there are, the better they are
/// known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cameras {
    /// All, if all have one size; else each has its own.
    Auto,
    /// All: one camera that was not zoomed.
    One,
    /// None: several cameras, or a lens that was zoomed.
    Each,
}

/// What finds cameras.
enum Tool {
    /// COLMAP's program, and whether it was built with CUDA.
    Colmap { program: PathBuf, version: String, cuda: bool },
    /// A Python that has pycolmap.
    Pycolmap { python: &'static str, version: String },
}

impl Tool {
    /// The first that is installed.
    fn find(photos: &Path) -> Result<Self> {
        const NAMED: &str = "ENGINE_COLMAP";
        if let Some(named) = std::env::var_os(NAMED) {
            let program = PathBuf::from(named);
            let place = format!("{NAMED}={}", program.display());
            let missing = || Error::input(place, "it cannot be run as COLMAP", "the path of COLMAP's program `colmap`");
            return Self::colmap(program).ok_or_else(missing);
        }
        let python = |python: &'static str| {
            let version = said_by(Command::new(python).args(["-c", "import pycolmap; print(pycolmap.__version__)"]))?;
            Some(Self::Pycolmap { python, version: version.trim().to_owned() })
        };
        let found = Self::colmap("colmap".into()).or_else(|| python("python3")).or_else(|| python("python"));
        found.ok_or_else(|| {
            Error::input(
                "--calibrate",
                "neither COLMAP's program `colmap` on PATH nor pycolmap in Python",
                format!(
                    "one of them, to find the cameras of {}: `apt install colmap`, `brew install colmap`, or `pip \
                     install pycolmap`",
                    photos.display()
                ),
            )
        })
    }

    fn colmap(program: PathBuf) -> Option<Self> {
        // "COLMAP 3.8 -- Structure-from-Motion and Multi-View Stereo", then "(Commit ... with CUDA)".
        let help = said_by(Command::new(&program).arg("help"))?;
        let version = help.lines().find_map(|line| line.trim().strip_prefix("COLMAP "))?;
        let version = version.split_whitespace().next()?.to_owned();
        Some(Self::Colmap { program, version, cuda: help.contains("with CUDA") })
    }

    fn name(&self) -> String {
        match self {
            Self::Colmap { version, .. } => format!("COLMAP {version}"),
            Self::Pycolmap { version, .. } => format!("pycolmap {version}"),
        }
    }

    fn command(&self, photos: &Path, folder: &Path, one: bool) -> Command {
        match self {
            Self::Colmap { program, cuda, .. } => {
                let mut command = Command::new(program);
                command.arg("automatic_reconstructor").arg("--workspace_path").arg(folder);
                command.arg("--image_path").arg(photos).args(["--dense", "0"]);
                command.args(["--single_camera", if one { "1" } else { "0" }]);
                // Without CUDA its features would be found on a GPU through OpenGL, which asks for a display.
                if !cuda {
                    command.args(["--use_gpu", "0"]);
                }
                command
            }
            Self::Pycolmap { python, .. } => {
                let mut command = Command::new(python);
                command.args(["-u", "-c", SCRIPT]).arg(folder.join(DATABASE)).arg(photos).arg(folder.join(MODELS));
                command.arg(if one { "one" } else { "each" });
                command
            }
        }
    }
}

/// Standard output of a command that succeeds.
fn said_by(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Finds the cameras of the photos in a folder, unless `folder` has them from an earlier run; its models are in
/// [`MODELS`] there then. Says what was done.
///
/// # Errors
/// Fewer than two photos, no COLMAP, what it said when it failed, photos that it finds no cameras for;
/// [`Error::Interrupted`].
pub fn calibrate(photos: &Path, cameras: Cameras, folder: &Path, progress: &Progress) -> Result<String> {
    let (files, others): (Vec<PathBuf>, Vec<PathBuf>) =
        input::files_in(photos, "list the photos")?.into_iter().partition(|file| image::has_photo_extension(file));
    if files.is_empty() {
        photo_format::refuse_first(others.iter().map(PathBuf::as_path))?;
    }
    if files.len() < 2 {
        let found = counted(files.len(), "photo");
        return Err(Error::input(photos.display().to_string(), found, "at least two to find the cameras of"));
    }
    let one = match cameras {
        Cameras::Auto => one_size(&files)?,
        Cameras::One => true,
        Cameras::Each => false,
    };
    let described = described(photos, &files, one)?;
    // Cameras of other photos, that earlier runs have found, go.
    let before = std::fs::read(folder.join(MARK)).unwrap_or_default();
    let is_ours = serde_json::from_slice::<Value>(&before).is_ok_and(|mark| mark["command"] == "calibrate");
    let claim = Claim { path: folder, force: is_ours, kind: &CAMERAS };
    let mut claimed = OutputFolder::new(claim, described.clone(), |mark| {
        let found: Value = serde_json::from_slice(mark).unwrap_or_default();
        Ok(match found {
            found if found == described => Found::Same,
            _ if is_ours => Found::Old,
            _ => Found::Foreign,
        })
    })?;
    let models = folder.join(MODELS);
    let of_all = |cameras: usize| format!("{cameras} of {}", counted(files.len(), "photo"));
    if claimed.goes_on() && folder.join(DONE).is_file() {
        let cameras = registered(&models)?;
        return Ok(format!("an earlier run had COLMAP find the cameras of {}: {}", of_all(cameras), models.display()));
    }
    let tool = Tool::find(photos)?;
    if claimed.goes_on() {
        // What it has matched stays in its database; models are made anew.
        claimed.remove_leftovers();
        match std::fs::remove_dir_all(&models) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove the models of an earlier run", &models)(e));
            }
            _ => {}
        }
    } else {
        claimed.claim()?;
    }
    let began = Instant::now();
    let shared = if one { "one camera for all" } else { "each with a camera of its own" };
    let what = counted(files.len(), "photo");
    progress.note(&format!("{} looks for where {what} were taken, {shared}", tool.name()));
    let mut command = tool.command(photos, folder, one);
    run(&tool.name(), &mut command, folder, files.len(), progress)?;
    let cameras = registered(&models)?;
    if cameras < 2 {
        return Err(Error::input(
            photos.display().to_string(),
            format!("{} found no cameras for the photos", tool.name()),
            format!(
                "photos with texture that overlap by more than half, from different places; {} has all that it said",
                folder.join(LOG).display()
            ),
        ));
    }
    write_json(&folder.join(DONE), CAMERAS.write, &json!({ "by": tool.name(), "photos": files.len() }))?;
    let seconds = duration(began.elapsed().as_secs_f64());
    Ok(format!("{} found the cameras of {} in {seconds}: {}", tool.name(), of_all(cameras), models.display()))
}

/// Whether all photos have as many columns and rows.
fn one_size(files: &[PathBuf]) -> Result<bool> {
    let sizes = files.iter().map(|file| Ok(image::header(file)?.size)).collect::<Result<Vec<_>>>()?;
    Ok(sizes.windows(2).all(|pair| pair[0] == pair[1]))
}

/// Which photos a calibration is of.
fn described(photos: &Path, files: &[PathBuf], one: bool) -> Result<Value> {
    let mut list = Vec::with_capacity(files.len());
    for file in files {
        let data = file.metadata().map_err(Error::io("look at the photo", file))?;
        let changed = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let name = in_json(Path::new(file.file_name().unwrap_or_default()));
        list.push(json!([name, data.len(), changed.map_or(0, |time| time.as_millis() as u64)]));
    }
    let photos = dunce::canonicalize(photos).map_err(Error::io("open the folder of photos", photos))?;
    let cameras = if one { "one" } else { "each" };
    Ok(json!({
        "program": "engine", "command": "calibrate", "cameras": cameras, "photos": in_json(&photos), "files": list,
    }))
}

/// Runs a command to its end, with what it does as progress and all that it says in the log.
fn run(name: &str, command: &mut Command, folder: &Path, count: usize, progress: &Progress) -> Result<()> {
    let log_file = folder.join(LOG);
    let log_error = |e| Error::io("write what COLMAP says", &log_file)(e);
    let mut log = std::fs::File::create(&log_file).map_err(log_error)?;
    let refused = |found: String| {
        let expected = format!("it to end well; {} has all that it said", log_file.display());
        Error::input(name, found, expected)
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Ended(command.spawn().map_err(|e| refused(format!("it cannot be started ({e})")))?);
    let (sender, lines) = channel();
    expect_room_for_threads(2)?;
    let outputs: [Option<Box<dyn Read + Send>>; 2] =
        [child.0.stdout.take().map(|o| Box::new(o) as _), child.0.stderr.take().map(|o| Box::new(o) as _)];
    for (output, is_error) in outputs.into_iter().zip([false, true]) {
        let (Some(output), sender) = (output, sender.clone()) else { continue };
        let reader =
            std::thread::Builder::new().name("reader".into()).spawn(move || pass_on(output, is_error, &sender));
        reader.map_err(|e| no_thread("the thread that reads what COLMAP says", &e))?;
    }
    drop(sender);
    let mut shown = Shown { progress, count, live: None };
    // Of what is said on either output; errors tell more.
    let mut last = [String::new(), String::new()];
    loop {
        interrupt::check()?;
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok((is_error, line)) => {
                writeln!(log, "{line}").map_err(log_error)?;
                shown.line(&line);
                if !line.trim().is_empty() {
                    last[usize::from(is_error)] = line;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    drop(shown);
    let status = child.0.wait().map_err(|e| refused(format!("its end cannot be waited for ({e})")))?;
    // Whoever is stopped together with us says so itself.
    interrupt::check()?;
    if !status.success() {
        let last = if last[1].is_empty() { &last[0] } else { &last[1] };
        return Err(refused(format!("it ended with {status}, last `{}`", last.trim())));
    }
    Ok(())
}

/// A process that does not outlive its use.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Passes lines on, of whatever bytes, until there are no more or nobody listens.
fn pass_on(output: impl Read, is_error: bool, lines: &Sender<(bool, String)>) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    while output.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        if lines.send((is_error, String::from_utf8_lossy(&bytes).trim_end().to_owned())).is_err() {
            return;
        }
        bytes.clear();
    }
}

/// What is shown of COLMAP's work.
struct Shown<'a> {
    progress: &'a Progress,
    /// Photos.
    count: usize,
    live: Option<(&'static str, Live)>,
}

impl Shown<'_> {
    fn line(&mut self, line: &str) {
        let Some((name, done, steps)) = step(line, self.count) else { return };
        if self.live.as_ref().is_none_or(|live| live.0 != name) {
            self.live = Some((name, self.progress.live(name, steps as u64, 0)));
        }
        if let Some((_, live)) = &mut self.live {
            live.update(done as u64, String::new);
            live.report("COLMAP", "calibration", json!({ "stage": name, "done": done, "steps": steps }));
        }
    }
}

/// What a line of COLMAP says of its progress: the stage, what is done of it, and of how much. Versions 3 and 4 say
/// `Processed file [2/11]`, `Matching block [1/1, 1/1]` (or `Processing block`), and `Registering image #3 (5)` (or
/// `(num_reg_frames=5)`).
fn step(line: &str, photos: usize) -> Option<(&'static str, usize, usize)> {
    let fraction = |text: &str| -> Option<(usize, usize)> {
        let (done, of) = text.split_once('/')?;
        Some((done.trim().parse().ok()?, of.trim().parse().ok()?)).filter(|&(done, of)| 0 < done && done <= of)
    };
    let after = |words: &str| line.split_once(words).and_then(|(_, rest)| rest.split_once(']')).map(|parts| parts.0);
    if let Some(inside) = after("Processed file [") {
        let (done, of) = fraction(inside)?;
        return Some(("features", done, of));
    }
    if let Some(inside) = after("block [") {
        let (row, column) = inside.split_once(',').unwrap_or((inside, "1/1"));
        let ((row, rows), (column, columns)) = (fraction(row)?, fraction(column)?);
        return Some(("matching", (row - 1) * columns + column, rows.checked_mul(columns)?));
    }
    if line.contains("Registering image #") {
        let inside = line.rsplit_once('(')?.1.split_once(')')?.0;
        let done: usize = inside.rsplit('=').next()?.trim().parse().ok()?;
        return Some(("cameras", done.min(photos), photos));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn lines_of_both_versions_tell_how_far_it_is() {
        let cases = [
            ("Processed file [2/11]", Some(("features", 2, 11))),
            ("I20261127 20:00:00.1 9 feature.cc:254] Processed file [11/11]", Some(("features", 11, 11))),
            ("Matching block [2/3, 1/3] in 0.5s", Some(("matching", 4, 9))),
            ("I1127 12:00:00.0 1 pairing.cc:1] Processing block [1/1, 1/1]", Some(("matching", 1, 1))),
            ("Registering image #3 (5)", Some(("cameras", 5, 11))),
            ("Registering image #3 (num_reg_frames=12)", Some(("cameras", 11, 11))),
            ("Matching block [0/3, 1/3]", None),
            ("Processed file [x/3]", None),
            ("nothing of the kind", None),
        ];
        for (line, expected) in cases {
            assert_eq!(step(line, 11), expected, "{line}");
        }
    }
}
