//! `engine bench`: how fast the engine is here, and what it takes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use engine::bench::peers::{self, Kind, Peer, Setting};
use engine::bench::report::Report;
use engine::bench::scene::{SceneReport, processor_seconds};
use engine::bench::work::{Inputs, Named, Size, write_tensors};
use engine::bench::{ENOUGH, Measurement, Repetitions, device, host};
use engine::cpu::network::BsMvsNet;
use engine::cuda::driver::Driver;
use engine::cuda::inference::CUTS;
use engine::files::atomic::write_whole;
use engine::files::folder::OutputOptions;
use engine::host::progress::{Progress, Style, print_line};
use engine::host::{interrupt, trace};
use engine::manifest::MANIFEST;
use engine::net::weights::Checkpoint;
use engine::{Error, Result, cuda};
use safetensors::Dtype;
use serde_json::Value;

use super::infer::{InferWork, Task};
use super::machine::{Device, Precision, device};
use super::options::{self, LimitArgs, positive_integer};

/// Measure the engine's speed and memory on this machine.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Table3(Box<Table3Args>),
    Scene(Box<SceneBenchArgs>),
}

/// Measure the paper's Table III: one view of 1600 x 1200 with three sources and 192 planes, by stage.
///
/// Every device processes the same synthetic photos. Prints time, memory, FLOP/s and bytes/s beside those of a large
/// matrix product and a large copy. With --peer the reference also runs in PyTorch on the same photos and weights; its
/// depth is compared, and the ratios are printed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine bench table3 --device cpu
  engine bench table3 --device cuda --precision f16 --repetitions 50 --json table3.json
  engine bench table3 --width 800 --height 600 --planes 96 --device cpu --peer python3")]
struct Table3Args {
    /// Width of the photos, in pixels, a multiple of 4
    #[arg(long, value_name = "PX", default_value_t = Size::TABLE_3.width)]
    #[arg(value_parser = options::side, help_heading = "Work")]
    width: usize,
    /// Height of the photos, in pixels, a multiple of 4
    #[arg(long, value_name = "PX", default_value_t = Size::TABLE_3.height)]
    #[arg(value_parser = options::side, help_heading = "Work")]
    height: usize,
    /// Number of depths to try at every pixel
    #[arg(long, value_name = "D", default_value_t = Size::TABLE_3.planes)]
    #[arg(value_parser = options::planes, help_heading = "Work")]
    planes: usize,
    /// Views that the network compares, including the reference
    #[arg(long, value_name = "N", default_value_t = Size::TABLE_3.views)]
    #[arg(value_parser = options::two_or_more, help_heading = "Work")]
    views: usize,
    /// Read photos, cameras, depths and their sizes from this safetensors file (images, k, e, depths) instead of
    /// generating them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["width", "height", "planes", "views"])]
    #[arg(help_heading = "Work")]
    inputs: Option<PathBuf>,

    /// Device to measure: auto (a GPU if there is one, else the processor), cpu, cuda, cuda:N, or all
    #[arg(long, value_name = "DEVICE", default_value = "all", value_parser = devices, help_heading = "Machine")]
    device: Devices,
    /// Precision of the activations on a GPU; the processor always computes in f32
    #[arg(long, value_name = "F16|F32", default_value = "f16", help_heading = "Machine")]
    precision: Precision,
    #[command(flatten)]
    limits: LimitArgs,

    /// Number of measured runs
    #[arg(long, value_name = "N", default_value_t = ENOUGH)]
    #[arg(value_parser = positive_integer, help_heading = "Measurement")]
    repetitions: usize,
    /// Number of warm-up runs before them
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Measurement")]
    warm_up: usize,
    /// Also run the reference in PyTorch with this Python interpreter, which needs torch, numpy and safetensors
    #[arg(long, value_name = "PYTHON", help_heading = "Measurement")]
    peer: Option<String>,
    /// Ways to run the reference, one after another
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "eager")]
    #[arg(requires = "peer", help_heading = "Measurement")]
    peer_kinds: Vec<Kind>,
    /// Number of measured runs of each peer
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = positive_integer, requires = "peer", help_heading = "Measurement")]
    peer_repetitions: usize,

    #[command(flatten)]
    files: ReportFiles,
    /// Write the last device's depth and confidence to this safetensors file
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    outputs: Option<PathBuf>,
}

/// Where the report goes beside the terminal.
#[derive(Args, Debug)]
#[command(next_help_heading = "Reports")]
struct ReportFiles {
    /// Write all measurements to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl ReportFiles {
    fn write(&self, json: &Value, markdown: &str) -> Result<()> {
        if let Some(path) = &self.json {
            write_whole(path, "write the report", |file| Ok(serde_json::to_writer_pretty(file, json)?))?;
        }
        if let Some(path) = &self.markdown {
            write_whole(path, "write the report", |file| file.write_all(markdown.as_bytes()))?;
        }
        Ok(())
    }
}

/// Measure the whole job on a scene: load, features and depth by level, merge, fuse, write, and how much of it
/// overlaps.
///
/// Results go to a temporary folder, which is deleted at the end. Options are those of `engine infer`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  engine bench scene examples/scene --levels 2 --json scene.json")]
struct SceneBenchArgs {
    /// The scene's folder
    scene: PathBuf,
    #[command(flatten)]
    work: InferWork,
    #[command(flatten)]
    files: ReportFiles,
}

/// Which devices are measured.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Devices {
    /// As the other commands take them; each is measured alone.
    Named(Device),
    /// The processor and every GPU.
    All,
}

fn devices(text: &str) -> Result<Devices, String> {
    match text {
        "all" => Ok(Devices::All),
        text => device(text).map(Devices::Named).map_err(|error| error.replace("auto, cpu", "all, auto, cpu")),
    }
}

/// Measures.
pub fn run(args: BenchArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    match args.what {
        What::Table3(args) => table3(*args, progress),
        What::Scene(args) => scene(*args),
    }
}

/// A device to measure: the processor, or a GPU with its index.
enum Measured {
    Processor,
    Gpu(usize, Arc<dyn Driver>),
}

impl Devices {
    fn open(&self, progress: &Progress) -> Result<Vec<Measured>> {
        let gpu = |index: usize| Ok(Measured::Gpu(index, cuda::open(index)?));
        match self {
            Self::All => {
                let gpus = (0..cuda::count()).map(gpu);
                std::iter::once(Ok(Measured::Processor)).chain(gpus).collect()
            }
            Self::Named(device) => {
                let gpus = device.open(progress)?;
                if gpus.is_empty() {
                    return Ok(vec![Measured::Processor]);
                }
                Ok(gpus.into_iter().map(|(index, driver)| Measured::Gpu(index, driver)).collect())
            }
        }
    }
}

fn table3(args: Table3Args, progress: &Progress) -> Result<()> {
    args.limits.apply()?;
    let scripts = args.peer.as_ref().map(|_| peers::scripts()).transpose()?;
    let inputs = match &args.inputs {
        Some(path) => Inputs::read(path)?,
        None => {
            let Table3Args { width, height, planes, views, .. } = args;
            let size = Size { width, height, planes, views }.check()?;
            // The network of a processor that is measured needs its memory, too; a GPU's plans its own.
            let on_host = matches!(args.device, Devices::All | Devices::Named(Device::Cpu));
            let network = on_host.then(BsMvsNet::built_in).transpose()?;
            host::expect_room(size, network.as_ref(), &args.limits.room())?;
            Inputs::generated(size)
        }
    };
    let repetitions = Repetitions { warm_up: args.warm_up, counted: args.repetitions };
    let folder = tempfile::tempdir().map_err(Error::io("make a temporary folder", &std::env::temp_dir()))?;
    if args.peer.is_some() {
        let weights = folder.path().join(peers::WEIGHTS);
        write_whole(&weights, "write the weights", |file| file.write_all(Checkpoint::built_in_file()))?;
        inputs.write(&folder.path().join(peers::INPUTS))?;
    }
    let mut measurements: Vec<Measurement> = Vec::new();
    let mut beside: Vec<Peer> = Vec::new();
    for measured in args.device.open(progress)? {
        let (measurement, gpu) = match measured {
            Measured::Processor => (host::measure(&BsMvsNet::built_in()?, &inputs, repetitions)?, None),
            Measured::Gpu(index, driver) => {
                let parameters = Checkpoint::built_in()?.parameters;
                let slabs = CUTS[0];
                let element = args.precision.element();
                (device::measure(&driver, &parameters, &inputs, element, slabs, repetitions)?, Some(index))
            }
        };
        if let (Some(python), Some(scripts)) = (&args.peer, &scripts) {
            let setting = Setting {
                python,
                scripts,
                folder: folder.path(),
                threads: measurement.threads,
                repetitions: args.peer_repetitions,
                gpu,
                interval: inputs.interval(),
            };
            for &kind in &args.peer_kinds {
                interrupt::check()?;
                progress.note(&format!("running the reference: {}", kind.name()));
                beside.push(peers::run(kind, &setting, &measurement)?);
            }
        }
        measurements.push(measurement);
    }
    let report = Report { size: inputs.size(), repetitions, measurements: &measurements, peers: &beside };
    print_line(&report.text());
    args.files.write(&report.json(), &report.markdown())?;
    if let (Some(path), Some(last)) = (&args.outputs, measurements.last()) {
        write_maps(path, last, inputs.size())?;
    }
    peers::expect_agreement(&beside)
}

fn write_maps(path: &Path, of: &Measurement, size: Size) -> Result<()> {
    let shape = [size.height / 4, size.width / 4];
    let tensor = |name, values: &'_ [f32]| -> (&'static str, Vec<u8>) {
        (name, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    };
    let maps = [tensor("depth", &of.depth), tensor("confidence", &of.confidence)];
    let named: Vec<Named> = maps.iter().map(|(name, bytes)| (*name, Dtype::F32, &shape[..], &bytes[..])).collect();
    write_tensors(path, "write the maps", &named)
}

fn scene(args: SceneBenchArgs) -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::io("make a temporary folder", &std::env::temp_dir()))?;
    let out = folder.path().join("out");
    trace::record();
    let before = processor_seconds();
    // A cloud without points is a result here, too: the work was done.
    let output = OutputOptions { out: Some(out.clone()), force: false };
    match args.work.run(Task::Files(&args.scene), output, &Progress::new(Style::Quiet)) {
        Err(Error::Nothing(_)) if out.join(MANIFEST).is_file() => {}
        other => other?,
    }
    let taken = processor_seconds().zip(before).map(|(after, before)| after - before);
    let report = SceneReport::new(&trace::spans(), &out, taken)?;
    print_line(&report.text());
    args.files.write(&report.json(), &report.markdown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_one_or_all() {
        assert_eq!(devices("all"), Ok(Devices::All));
        assert_eq!(devices("cuda:2"), Ok(Devices::Named(Device::Cuda(vec![2]))));
        assert_eq!(
            devices("gpu").unwrap_err(),
            "expected all, auto, cpu, cuda, cuda:N, cuda:all or a list such as cuda:0,cuda:1"
        );
    }
}
