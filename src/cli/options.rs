//! Options that several commands share, and the parsers of their values.

use std::net::IpAddr;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;
use engine::Error;
use engine::files::atomic::write_whole;
use engine::files::folder::OutputOptions;
use engine::host::memory::{MemoryNeed, refuse_if_too_large};
use engine::host::memory_limits::{Room, STACK_BYTES, expect_room_for_threads, no_thread, room};
use engine::host::progress::{Progress, Style};
use engine::host::{memory, trace};
use engine::scene::camera::{DepthRange, MAX_PLANES};
use engine::scene::pose_form::PoseForm;
use engine::scene::{DepthNumbers, Layout, OpenOptions, RegionOption};

/// How the scene's files are read.
#[derive(Args, Debug)]
#[command(next_help_heading = "Scene")]
pub struct SceneArgs {
    /// How to read the second of two depth numbers in a cam.txt: as the farthest depth or as the interval between
    /// planes. auto: as the farthest depth if it is larger than the first number
    #[arg(long, value_name = "WHAT", default_value = "auto")]
    pub depth_numbers: DepthNumbers,
    /// Format of the cameras, if SCENE holds several [default: whichever is there, mvsnet before colmap before the
    /// others in this order]
    #[arg(long = "format", visible_alias = "layout", value_name = "NAME")]
    pub layout: Option<Layout>,
    /// What the poses are in files that do not say (transforms.json, 7-Scenes, Open3D's .log); OpenGL: y up, z backward
    /// [default: as usual in the format, unless matches between the photos say otherwise]
    #[arg(long, value_name = "FORM")]
    pub poses: Option<PoseForm>,
    /// Folder of masks, images named after their photos (NAME.png, NAME.jpg.png or NAME_mask.png): where a mask is 0,
    /// there is no depth and no point, and no other view is confirmed. Goes before masks that the cameras' file names
    #[arg(long, value_name = "DIR")]
    pub masks: Option<PathBuf>,
    /// Take depth ranges from a cloud (PLY, LAS, LAZ, E57) in the scene's coordinates: a scan, an earlier
    /// reconstruction. It needs no tracks. Or from a list (.txt, .csv) with lines NAME NEAR FAR. --range goes before it
    #[arg(long, value_name = "FILE")]
    pub range_from: Option<PathBuf>,
    /// Folder of depth maps that are known before (NAME.pfm, .exr, .npy, .npz, .png of 16 bits, or in depth/ there with
    /// confidence/ beside it), in the scene's units: each view's range is narrowed to the 1st to 99th percentile of its
    /// map's trusted values, widened by a tenth. --range goes before it
    #[arg(long, value_name = "DIR")]
    pub prior: Option<PathBuf>,
    /// Divide the numbers in PNG maps of --prior by this [default: what the files or png16.json beside them say]
    #[arg(long, value_name = "N", value_parser = positive_number, requires = "prior")]
    pub prior_scale: Option<f64>,
    /// How far depths may lie from those of --prior, as a share of them: 0.01 for a laser scan, 0.2 for depths guessed
    /// from one photo. Depths farther off need better photos; the range is widened by this where it is more than a
    /// tenth [default: 0.05]
    #[arg(long, value_name = "SHARE", value_parser = proper_fraction, requires = "prior")]
    pub prior_tolerance: Option<f64>,
    /// Region of interest: X0,Y0,Z0,X1,Y1,Z1 (a box in scene units), a file (OpenMVS's box as text, a box as PLY or
    /// OBJ, the region of a Metashape project as XML), or auto (a Metashape scene's own; else around the sparse points,
    /// without strays). Depths are searched in it only; the cloud ends there
    #[arg(long, value_name = "BOX", value_parser = region, allow_hyphen_values = true)]
    pub roi: Option<RegionOption>,
    /// COLMAP model, or folder of models, if it is not in SCENE: SCENE is then the folder of the photos, or that around
    /// images/
    #[arg(long, value_name = "DIR")]
    pub sparse: Option<PathBuf>,
    /// Where the photos lie, if they are not found where the scene's files say
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Reduce photos by area averaging so that the longer side has at most this many pixels [default: as stored]
    #[arg(long, value_name = "PX", value_parser = positive_integer)]
    pub max_side: Option<usize>,
    /// Make a depth map of this view only: its image's file name without extension. Repeat for more views. Their
    /// source views still serve as photos [default: all views]
    #[arg(long = "view", value_name = "NAME")]
    pub only: Vec<String>,
}

impl SceneArgs {
    /// `range_given`: the files' own depth ranges are not needed.
    pub fn open_options(&self, range_given: bool) -> OpenOptions {
        OpenOptions {
            depth_numbers: self.depth_numbers,
            layout: self.layout,
            poses: self.poses,
            sparse: self.sparse.clone(),
            images: self.images.clone(),
            masks: self.masks.clone(),
            range_from: self.range_from.clone(),
            prior: self.prior.clone(),
            prior_scale: self.prior_scale,
            prior_tolerance: self.prior_tolerance,
            roi: self.roi.clone(),
            range_given,
        }
    }
}

/// How much of the machine a command takes: the same words for all commands.
#[derive(Args, Debug)]
#[command(next_help_heading = "Machine")]
pub struct LimitArgs {
    /// Number of threads [default: one per processor]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Memory that a run may use, in GB (1e9 bytes); limits of control groups and of ulimit are obeyed all the same
    /// [default: what the system has available]
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub memory: Option<u64>,
}

impl LimitArgs {
    /// Starts the threads, and says what a file may come to in memory.
    pub fn apply(&self) -> Result<(), Error> {
        memory::set_budget(self.memory);
        use_threads(self.threads)
    }

    /// What there is for the command.
    pub fn room(&self) -> Room {
        room(self.memory)
    }

    /// Refuses work that does not fit, before it begins. `otherwise` says what would help.
    pub fn expect_room(&self, need: &MemoryNeed, otherwise: &str) -> Result<(), Error> {
        refuse_if_too_large(need, &self.room(), &[], otherwise)
    }
}

/// Starts this many threads, or one a processor.
pub fn use_threads(threads: Option<usize>) -> Result<(), Error> {
    let wanted = threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    expect_room_for_threads(wanted)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).stack_size(STACK_BYTES);
    pool.build_global().map_err(|e| no_thread(&format!("{wanted} threads"), &e))
}

/// Where the profile goes.
static PROFILE: OnceLock<PathBuf> = OnceLock::new();

/// Writes the profile, if one was wanted.
pub fn write_profile() -> Result<(), Error> {
    let Some(path) = PROFILE.get() else { return Ok(()) };
    write_whole(path, "write the profile", |file| Ok(serde_json::to_writer(file, &trace::chrome())?))
}

/// How the run reports.
#[derive(Args, Debug)]
#[command(next_help_heading = "Reports")]
pub struct ReportArgs {
    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print a line for every step, also on a terminal, and first every option with where its value is from
    #[arg(short, long, conflicts_with_all = ["quiet", "json"])]
    pub verbose: bool,
    /// Print events to standard output as JSON, one object per line, instead of text
    #[arg(long)]
    pub json: bool,
    /// Record where the time goes, by thread, in this file: a Chrome trace, for ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
}

impl ReportArgs {
    /// How the run reports; begins the recording of a profile where one is wanted.
    pub fn progress(&self) -> Progress {
        if let Some(path) = &self.profile {
            let _ = PROFILE.set(path.clone());
            trace::record();
        }
        Progress::new(match (self.json, self.quiet) {
            (true, _) => Style::Json,
            (_, true) => Style::Quiet,
            _ if self.verbose => Style::Lines,
            _ => Style::for_this_terminal(),
        })
    }
}

/// Where results go.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Folder for the results, created if missing [default: see above]
    #[arg(short, long, value_name = "OUT")]
    pub out: Option<PathBuf>,
    /// Write into OUT even if it holds other files or the results of another scene
    #[arg(long)]
    pub force: bool,
}

impl OutputArgs {
    pub fn options(&self) -> OutputOptions {
        OutputOptions { out: self.out.clone(), force: self.force }
    }
}

/// A number that is accepted, or what was expected.
pub fn number(text: &str, accepts: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.parse().ok().filter(|n: &f64| n.is_finite() && accepts(*n)).ok_or_else(|| format!("expected {expected}"))
}

/// A finite number above 0.
pub fn positive_number(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0, "a number above 0")
}

/// Gigabytes as bytes.
pub fn gigabytes(text: &str) -> Result<u64, String> {
    positive_number(text).map(|gigabytes| (gigabytes * 1e9) as u64)
}

/// The file of a chart.
pub fn svg_file(file: PathBuf) -> Result<PathBuf, String> {
    match file.extension() {
        Some(ending) if ending.eq_ignore_ascii_case("svg") => Ok(file),
        _ => Err("expected a file name that ends in .svg, which is how charts are written".into()),
    }
}

/// A number from 0 to 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..=1.0).contains(&n), "a number from 0 to 1")
}

/// A number from 0 to less than 1.
pub fn proper_fraction(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..1.0).contains(&n), "a number from 0 to less than 1")
}

/// A whole number in a range, or what was expected.
fn whole(text: &str, range: impl RangeBounds<usize>, expected: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| format!("expected {expected}"))
}

/// A whole number from 1 on. The limit keeps products of two of them from overflowing.
pub fn positive_integer(text: &str) -> Result<usize, String> {
    whole(text, 1..=1_000_000_000, "a whole number, 1 or more (up to 1000000000)")
}

/// How many of something are made or held at once: a typing error must not ask for more than any machine holds.
pub fn count(text: &str) -> Result<usize, String> {
    whole(text, 1..=100_000, "a whole number from 1 to 100000")
}

/// The most views that are compared, or that a rendered scene has.
const MOST_VIEWS: usize = 10_000;

/// A number of views that a scene has.
pub fn views(text: &str) -> Result<usize, String> {
    whole(text, 1..=MOST_VIEWS, &format!("a whole number from 1 to {MOST_VIEWS}"))
}

/// A number of views that are compared.
pub fn two_or_more(text: &str) -> Result<usize, String> {
    whole(text, 2..=MOST_VIEWS, &format!("a whole number from 2 to {MOST_VIEWS}"))
}

/// A number of hypotheses.
pub fn planes(text: &str) -> Result<usize, String> {
    whole(text, 2..=MAX_PLANES, &format!("a whole number from 2 to {MAX_PLANES}"))
}

/// A photo's side; the limit keeps a typing error from becoming an overflow.
pub fn side(text: &str) -> Result<usize, String> {
    whole(text, 1..=65_536, "a number of pixels from 1 to 65536")
}

/// A number of threads; the limit keeps a typing error from starting millions.
pub fn threads(text: &str) -> Result<usize, String> {
    whole(text, 1..=1024, "a whole number from 1 to 1024")
}

/// A number of pyramid levels. Eight take 128 pixels to one; more would only repeat that.
pub fn levels(text: &str) -> Result<usize, String> {
    whole(text, 1..=8, "a whole number from 1 to 8")
}

/// A port that can be asked for.
pub fn port(text: &str) -> Result<u16, String> {
    let expected = "a port from 1 to 65535";
    whole(text, 1..=usize::from(u16::MAX), expected)?.try_into().map_err(|_| format!("expected {expected}"))
}

/// An address in numbers.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let text = if text.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { text };
    text.parse().map_err(|_| "expected an address in numbers, such as 127.0.0.1, ::1 or 0.0.0.0".to_owned())
}

/// `near,far`.
pub fn region(text: &str) -> Result<RegionOption, String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|word| word.trim().parse().ok()).collect();
    match numbers.as_deref() {
        None if text == "auto" => Ok(RegionOption::Auto),
        None => Ok(RegionOption::File(text.into())),
        Some(&[x0, y0, z0, x1, y1, z1]) if x0 < x1 && y0 < y1 && z0 < z1 => {
            let is_finite = [x0, y0, z0, x1, y1, z1].iter().all(|v| v.is_finite());
            let region = RegionOption::Box { low: [x0, y0, z0], high: [x1, y1, z1] };
            is_finite.then_some(region).ok_or_else(|| "expected six finite numbers".to_owned())
        }
        _ => Err("expected X0,Y0,Z0,X1,Y1,Z1 with X0 < X1, Y0 < Y1 and Z0 < Z1, a file, or auto".to_owned()),
    }
}

/// The nearest and farthest depth.
pub fn range(text: &str) -> Result<DepthRange, String> {
    let expected = || "expected two depths near,far with 0 < near < far, such as 0.5,12".to_owned();
    let (near, far) = text.split_once(',').ok_or_else(expected)?;
    let number = |t: &str| t.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    match (number(near), number(far)) {
        (Some(near), Some(far)) if near > 0.0 && near < far => Ok(DepthRange { near, far }),
        _ => Err(expected()),
    }
}

/// Seconds: a number with its unit.
pub fn time(text: &str) -> Result<f64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => f64::NAN,
    };
    let time = number.trim().parse::<f64>().unwrap_or(f64::NAN) * seconds;
    if time > 0.0 && time.is_finite() { Ok(time) } else { Err("expected a time such as 90s, 30m, 2h or 1.5d".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_where_they_are_typed() {
        assert_eq!(range("0.5, 12"), Ok(DepthRange { near: 0.5, far: 12.0 }));
        for bad in ["", "1", "2,1", "1,1", "0,1", "-1,1", "1,inf", "nan,2", "1;2", "1,2,3"] {
            assert!(range(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "nan", "inf", "x", ""] {
            assert!(positive_number(bad).is_err(), "{bad}");
        }
        for bad in ["-0.1", "1.1", "nan", "x"] {
            assert!(fraction(bad).is_err(), "{bad}");
            assert!(proper_fraction(bad).is_err(), "{bad}");
        }
        assert_eq!((fraction("1"), fraction("0")), (Ok(1.0), Ok(0.0)));
        assert!(proper_fraction("1").is_err());
        for bad in ["0", "-1", "1.5", "x", "99999999999999999999999"] {
            assert!(positive_integer(bad).is_err(), "{bad}");
        }
        for huge in ["18446744073709551615", "4294967296", "1000000001"] {
            for refuses in [positive_integer, count, views, two_or_more, planes, threads, side, levels] {
                assert!(refuses(huge).is_err_and(|e| !e.contains('\n')), "{huge}");
            }
        }
        assert!(two_or_more("1").is_err());
        assert!(levels("9").is_err() && levels("0").is_err() && levels("8") == Ok(8));
    }
}
