//! Options that say what does the work: devices, what computes on them, and what decodes photos.

use std::sync::Arc;

use clap::Args;
use engine::cuda::driver::Driver;
use engine::cuda::inference::Convolutions;
use engine::cuda::storage::Element;
use engine::files::jpeg::{InUse, decode_by};
use engine::host::progress::Progress;
use engine::run::device::DeviceJpeg;
use engine::{Error, cuda};

use super::options::{LimitArgs, gigabytes};

/// Where the work is done.
#[derive(Args, Debug)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// Device for the network: auto, cpu, cuda (the first NVIDIA GPU), cuda:N, several such as cuda:0,cuda:2, or
    /// cuda:all. auto takes a GPU if the program was built with the feature `cuda` and finds one, and says so if it
    /// finds none. Several share the views
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    pub device: Device,
    /// Precision of the network's activations on a GPU; the processor always computes in f32
    #[arg(long, value_name = "F16|F32", default_value = "f16")]
    pub precision: Precision,
    /// Library for the convolutions on a GPU: the engine's own kernels, or cuDNN (9.x, found by the system or in the
    /// folders of ENGINE_CUDA_LIBS)
    #[arg(long, value_name = "OWN|CUDNN", default_value = "own")]
    pub convolutions: Convolutions,
    /// What decodes JPEG photos: the processor, or nvJPEG on the GPU (found as cuDNN is), which may round otherwise: a
    /// few of 255 levels in some pixels. Files that it does not take are the processor's
    #[arg(long, value_name = "PROCESSOR|NVJPEG", default_value = "processor")]
    pub jpeg: JpegBy,
    /// GPU memory that a run may use, in GB (1e9 bytes) [default: what is free]
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub vram: Option<u64>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// What the network runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A GPU where there is one, else the processors.
    Auto,
    /// This machine's processors.
    Cpu,
    /// NVIDIA GPUs by their indices.
    Cuda(Vec<usize>),
    /// All NVIDIA GPUs of this machine.
    AllCuda,
}

/// What decodes JPEG photos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum JpegBy {
    /// The processor.
    Processor,
    /// nvJPEG, on the first GPU of the run.
    Nvjpeg,
}

impl JpegBy {
    /// Has photos decoded so as long as the result lives.
    pub fn begin(self, gpus: &Gpus) -> Result<Option<InUse>, Error> {
        if self == Self::Processor {
            return Ok(None);
        }
        let Some((_, first)) = gpus.first() else {
            let found = "no GPU that the run is on";
            return Err(Error::input("--jpeg nvjpeg", found, "--device cuda with it, or neither"));
        };
        first.expect_jpeg()?;
        Ok(Some(decode_by(Arc::new(DeviceJpeg(first.clone())))))
    }
}

/// GPUs with their indices.
pub type Gpus = Vec<(usize, Arc<dyn Driver>)>;

/// How activations are stored on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// Half precision, with sums in single precision.
    F16,
    /// Single precision.
    F32,
}

impl Precision {
    pub fn element(self) -> Element {
        match self {
            Self::F16 => Element::F16,
            Self::F32 => Element::F32,
        }
    }
}

impl Device {
    /// The GPUs that are meant; none for the processors.
    pub fn open(&self, progress: &Progress) -> Result<Gpus, Error> {
        let opened = |index: usize| Ok((index, cuda::open(index)?));
        match self {
            Self::Cpu => Ok(Vec::new()),
            Self::Cuda(indices) => indices.iter().copied().map(opened).collect(),
            // Without one, the first says why.
            Self::AllCuda => (0..cuda::count().max(1)).map(opened).collect(),
            Self::Auto if !cuda::BUILT_IN => Ok(Vec::new()),
            Self::Auto => match cuda::open(0) {
                Ok(driver) => Ok(vec![(0, driver)]),
                Err(error) => {
                    progress.note(&format!("running on the processor: {error}"));
                    Ok(Vec::new())
                }
            },
        }
    }
}

/// What [`Device`] is called.
pub fn device(text: &str) -> Result<Device, String> {
    match text {
        "auto" => Ok(Device::Auto),
        "cpu" => Ok(Device::Cpu),
        "cuda:all" => Ok(Device::AllCuda),
        text => {
            let mut indices = Vec::new();
            for one in text.split(',') {
                let index = gpu(one, text.contains(','))?;
                if indices.contains(&index) {
                    return Err(format!("cuda:{index} is there twice; expected each GPU once"));
                }
                indices.push(index);
            }
            Ok(Device::Cuda(indices))
        }
    }
}

/// A GPU's index, perhaps of a list.
fn gpu(text: &str, of_list: bool) -> Result<usize, String> {
    match (text, text.split_once(':')) {
        ("cuda", _) => Ok(0),
        ("cuda:all", _) => Err("cuda:all stands for every GPU; expected it alone".into()),
        (_, Some(("cuda", index))) => index.parse().map_err(|_| "expected a GPU's index after cuda:, or all".into()),
        _ if of_list => Err(format!("`{text}` in a list; expected GPUs alone, such as cuda:0,cuda:1")),
        _ => Err("expected auto, cpu, cuda, cuda:N, cuda:all or a list such as cuda:0,cuda:1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_checked_where_they_are_typed() {
        assert_eq!(device("cpu"), Ok(Device::Cpu));
        assert_eq!(device("auto"), Ok(Device::Auto));
        assert_eq!((device("cuda"), device("cuda:3")), (Ok(Device::Cuda(vec![0])), Ok(Device::Cuda(vec![3]))));
        assert_eq!(device("cuda:2,cuda:0"), Ok(Device::Cuda(vec![2, 0])));
        assert_eq!(device("cuda:all"), Ok(Device::AllCuda));
        for (wrong, said) in [
            ("cuda:x", "expected a GPU's index after cuda:, or all"),
            ("cuda:0,cuda:", "expected a GPU's index after cuda:, or all"),
            ("cuda:0,1", "`1` in a list; expected GPUs alone, such as cuda:0,cuda:1"),
            ("cpu,cuda:0", "`cpu` in a list; expected GPUs alone, such as cuda:0,cuda:1"),
            ("cuda,cuda:0", "cuda:0 is there twice; expected each GPU once"),
            ("cuda:all,cuda:0", "cuda:all stands for every GPU; expected it alone"),
            ("gpu", "expected auto, cpu, cuda, cuda:N, cuda:all or a list such as cuda:0,cuda:1"),
        ] {
            assert_eq!(device(wrong).unwrap_err(), said, "{wrong}");
        }
    }
}
