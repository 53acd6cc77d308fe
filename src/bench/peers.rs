//! The same view in the reference's PyTorch, in processes of their own: same photos, same weights, in the same run of
//! the benchmark.
//!
//! PyTorch is no dependency of the engine: the scripts in `benches/peers` are run by a python that the user names, and
//! a peer that cannot run says why. What a peer computed is compared with the engine's depth; a peer that disagrees is
//! an error, since times of different results compare nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use serde_json::Value;

use super::Measurement;
use crate::error::{Error, Result};
use crate::files::input;

/// A way to run the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// PyTorch without changes.
    Eager,
    /// Tensors and weights in channels-last order.
    ChannelsLast,
    /// Half precision where torch.autocast finds it safe: float16 on a GPU, bfloat16 on the processor.
    Half,
    /// torch.compile.
    Compile,
    /// ONNX Runtime on the processor, if the reference can be exported.
    Onnx,
}

impl Kind {
    /// As the option names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::ChannelsLast => "channels-last",
            Self::Half => "half",
            Self::Compile => "compile",
            Self::Onnx => "onnx",
        }
    }

    fn script(self) -> &'static str {
        if self == Self::Onnx { "reference_onnx.py" } else { "reference_torch.py" }
    }

    fn options(self, on_gpu: bool) -> &'static [&'static str] {
        match (self, on_gpu) {
            (Self::Eager | Self::Onnx, _) => &[],
            (Self::ChannelsLast, _) => &["--channels-last"],
            (Self::Half, true) => &["--autocast", "float16"],
            (Self::Half, false) => &["--autocast", "bfloat16"],
            (Self::Compile, _) => &["--compile"],
        }
    }
}

/// How far two depth maps are apart, in mean distances of neighbouring hypotheses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The pixel in the middle.
    pub median: f64,
    /// 99 % of the pixels are closer.
    pub percentile_99: f64,
    /// The worst pixel.
    pub largest: f64,
    /// What the median may be.
    pub allowed_median: f64,
    /// What the worst may be; `None` in half precision, where a pixel with two likely depths may fall to the other one.
    pub allowed_largest: Option<f64>,
}

/// In f32 on both sides: sums in another order, and a softmax over some hundred hypotheses. Seen on a processor: 2e-5
/// to 4e-5 in the median and 9e-4 at most, so that a layer that is left out shows and another machine's rounding does
/// not.
const ALLOWED_SINGLE: (f64, Option<f64>) = (1e-3, Some(0.05));
/// f16 has 11 significant bits, bfloat16 8.
const ALLOWED_F16: (f64, Option<f64>) = (0.05, None);
const ALLOWED_BFLOAT16: (f64, Option<f64>) = (0.25, None);

impl Agreement {
    /// Of two maps of the same pixels; a value that is not finite is infinitely far.
    pub fn new(ours: &[f32], theirs: &[f32], interval: f64, allowed: (f64, Option<f64>)) -> Self {
        let apart = |(a, b): (&f32, &f32)| {
            let apart = f64::from((a - b).abs()) / interval;
            if apart.is_finite() { apart } else { f64::INFINITY }
        };
        let mut apart: Vec<f64> = ours.iter().zip(theirs).map(apart).collect();
        apart.sort_by(f64::total_cmp);
        let at = |share: f64| apart.get((share * apart.len() as f64) as usize).or(apart.last()).copied();
        let at = |share: f64| at(share).unwrap_or(f64::INFINITY);
        let (allowed_median, allowed_largest) = allowed;
        Self { median: at(0.5), percentile_99: at(0.99), largest: at(1.0), allowed_median, allowed_largest }
    }

    /// Whether the maps are the same within what arithmetic allows.
    pub fn holds(&self) -> bool {
        self.median <= self.allowed_median && self.allowed_largest.is_none_or(|most| self.largest <= most)
    }
}

/// What a peer did.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    /// How it ran.
    pub kind: Kind,
    /// The measurement that it is compared with.
    pub device: String,
    /// Why it could not run; everything else is empty then.
    pub failed: Option<String>,
    /// Its median, in seconds.
    pub seconds: Option<f64>,
    /// Its median over the engine's: above 1 the engine is faster.
    pub ratio: Option<f64>,
    /// The most memory that it held: the process's on the processor, PyTorch's allocator's on a GPU.
    pub peak_bytes: Option<u64>,
    /// That over the engine's.
    pub memory_ratio: Option<f64>,
    /// Its depth against the engine's.
    pub agreement: Option<Agreement>,
    /// All that it said.
    pub said: Value,
}

/// What peers are run with.
pub struct Setting<'a> {
    /// A python with torch, numpy and safetensors.
    pub python: &'a str,
    /// The scripts' folder.
    pub scripts: &'a Path,
    /// Where inputs and weights lie and outputs go.
    pub folder: &'a Path,
    /// The processor's threads.
    pub threads: usize,
    /// Runs that are counted.
    pub repetitions: usize,
    /// The GPU's index, if it is a GPU's measurement.
    pub gpu: Option<usize>,
    /// Mean distance of neighbouring hypotheses.
    pub interval: f64,
}

/// Name of the inputs' file in the folder.
pub const INPUTS: &str = "inputs.safetensors";
/// Name of the weights' file in the folder.
pub const WEIGHTS: &str = "weights.safetensors";

/// The folder with the scripts: below the current folder, or below one that the program lies in.
///
/// # Errors
/// [`Error::Input`] where there is none.
pub fn scripts() -> Result<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let above = program.ancestors().skip(1).map(Path::to_owned);
    let folders = std::iter::once(PathBuf::from(".")).chain(above).map(|folder| folder.join("benches/peers"));
    folders.filter(|folder| folder.join("reference_torch.py").is_file()).find(|f| f.is_dir()).ok_or_else(|| {
        Error::input("--peer", "no benches/peers/reference_torch.py here", "the repository as the current folder")
    })
}

/// Runs a peer. That it cannot run is no error, but told in the result.
///
/// # Errors
/// Outputs that cannot be read.
pub fn run(kind: Kind, setting: &Setting, ours: &Measurement) -> Result<Peer> {
    let empty = |failed: String| Peer {
        kind,
        device: ours.device.clone(),
        failed: Some(failed),
        seconds: None,
        ratio: None,
        peak_bytes: None,
        memory_ratio: None,
        agreement: None,
        said: Value::Null,
    };
    if kind == Kind::Onnx && setting.gpu.is_some() {
        return Ok(empty("ONNX Runtime is run on the processor only".into()));
    }
    let output = setting.folder.join(format!("{}.safetensors", kind.name()));
    let mut command = Command::new(setting.python);
    command.arg(setting.scripts.join(kind.script()));
    command.arg("--inputs").arg(setting.folder.join(INPUTS)).arg("--weights").arg(setting.folder.join(WEIGHTS));
    command.arg("--output").arg(&output).args(kind.options(setting.gpu.is_some()));
    command.args(["--threads", &setting.threads.to_string(), "--warm-up", "1"]);
    command.args(["--repetitions", &setting.repetitions.to_string()]);
    if let Some(index) = setting.gpu {
        command.args(["--device", &format!("cuda:{index}")]);
    }
    let ran = match command.output() {
        Ok(ran) => ran,
        Err(error) => return Ok(empty(format!("cannot run {}: {error}", setting.python))),
    };
    let (said, complaint) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let json = said.lines().rev().find(|line| line.starts_with('{')).and_then(|l| serde_json::from_str(l).ok());
    let json: Value = match (ran.status.success(), json) {
        (true, Some(json)) => json,
        (_, Some(json @ Value::Object(_))) if json["failed"].is_string() => json,
        _ => {
            let last = complaint.lines().rev().find(|line| !line.trim().is_empty());
            return Ok(empty(last.unwrap_or("it printed no result").trim().to_owned()));
        }
    };
    if let Some(reason) = json["failed"].as_str() {
        return Ok(empty(reason.to_owned()));
    }
    let Some(seconds) = json["seconds_median"].as_f64() else {
        return Ok(empty("its result has no seconds_median".into()));
    };
    let peak_bytes = if setting.gpu.is_some() { &json["device_peak_bytes"] } else { &json["peak_bytes"] }.as_u64();
    let our_peak = if setting.gpu.is_some() { Some(ours.memory.planned) } else { ours.memory.host_peak };
    let depth = read_depth(&output)?;
    if depth.len() != ours.depth.len() {
        let found = format!("{} depths", depth.len());
        return Err(Error::input(format!("peer {}", kind.name()), found, format!("{}", ours.depth.len())));
    }
    let allowed = match (kind, setting.gpu.is_some(), ours.precision) {
        (Kind::Half, false, _) => ALLOWED_BFLOAT16,
        (Kind::Half, true, _) | (_, _, "f16") => ALLOWED_F16,
        _ => ALLOWED_SINGLE,
    };
    Ok(Peer {
        kind,
        device: ours.device.clone(),
        failed: None,
        seconds: Some(seconds),
        ratio: Some(seconds / ours.seconds.median),
        peak_bytes,
        memory_ratio: peak_bytes.zip(our_peak).map(|(theirs, ours)| theirs as f64 / ours as f64),
        agreement: Some(Agreement::new(&ours.depth, &depth, setting.interval, allowed)),
        said: json,
    })
}

/// An error that names every peer whose depth is another than the engine's.
///
/// # Errors
/// [`Error::Input`] where there is one.
pub fn expect_agreement(peers: &[Peer]) -> Result<()> {
    let wrong: Vec<String> = peers
        .iter()
        .filter_map(|peer| {
            let found = peer.agreement.filter(|a| !a.holds())?;
            let most = found.allowed_largest.map_or(String::new(), |most| format!(", largest at most {most}"));
            Some(format!(
                "{} on {}: median {:.1e}, largest {:.1e} of an interval (median at most {}{most})",
                peer.kind.name(),
                peer.device,
                found.median,
                found.largest,
                found.allowed_median
            ))
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::input("--peer", format!("depth differs from the engine's: {}", wrong.join("; ")), "the same depth"))
}

fn read_depth(path: &Path) -> Result<Vec<f32>> {
    let bytes = input::read(path, "read the peer's outputs")?;
    let bad = |found: String| Error::input(path.display().to_string(), found, "an f32 tensor `depth`");
    let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
    let view = file.tensor("depth").map_err(|e| bad(e.to_string()))?;
    if view.dtype() != Dtype::F32 {
        return Err(bad(format!("{:?}", view.dtype())));
    }
    Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes(std::array::from_fn(|i| b[i]))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_agree_within_what_arithmetic_allows_and_not_beyond() {
        let ours = vec![100.0f32; 1000];
        let mut theirs = ours.clone();
        theirs[3] = 100.4;
        let far = Agreement::new(&ours, &theirs, 2.0, ALLOWED_SINGLE);
        assert!((far.largest - 0.2).abs() < 1e-6 && far.median == 0.0 && far.percentile_99 == 0.0);
        assert!(!far.holds());
        assert!(Agreement::new(&ours, &theirs, 2.0, ALLOWED_F16).holds());
        theirs[3] = f32::NAN;
        assert_eq!(Agreement::new(&ours, &theirs, 2.0, ALLOWED_F16).largest, f64::INFINITY);
        theirs.fill(100.2);
        assert!(!Agreement::new(&ours, &theirs, 2.0, ALLOWED_F16).holds());
        assert!(!Agreement::new(&[], &[], 1.0, ALLOWED_SINGLE).holds());
    }
}
