//! Goldens made by the PyTorch reference (tests/data/goldens/README.md) and the weights that go with them.
#![allow(dead_code)] // every test binary takes its own part

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::cpu::network::BsMvsNet;
use engine::host::random::Random;
use engine::net::config::{Aggregation, Config, Decoder, Difference, Resolution};
use engine::net::weights::Checkpoint;
use engine::scene::camera::{Camera, Hypotheses, PlaneSweep, Sampling};
use engine::scene::photo::Photo;
use glam::{DMat3, DVec3};
use safetensors::{Dtype, SafeTensors};

/// A golden file: values and shapes by name; f32 ones are widened.
pub struct Golden {
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    pub metadata: serde_json::Value,
}

impl Golden {
    pub fn read(name: &str) -> Self {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/data/goldens", name].iter().collect();
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a golden is a safetensors file");
        let text = header.metadata().as_ref().and_then(|m| m.get("golden")).expect("a golden has metadata");
        let metadata = serde_json::from_str(text).expect("golden metadata is JSON");
        let file = SafeTensors::deserialize(&bytes).expect("a golden is a safetensors file");
        let tensors = file.iter().map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => {
                    data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
                }
                Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
                other => panic!("golden {name} is {other:?}"),
            };
            (name.to_owned(), (view.shape().to_vec(), values))
        });
        Self { tensors: tensors.collect(), metadata }
    }

    pub fn get(&self, name: &str) -> &(Vec<usize>, Vec<f64>) {
        self.tensors.get(name).unwrap_or_else(|| panic!("golden tensor {name}"))
    }

    pub fn values(&self, name: &str) -> &[f64] {
        &self.get(name).1
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.values(name).iter().map(|&v| v as f32).collect()
    }
}

/// The generator of tools/make_goldens.py: weights by name and seed.
pub fn generated(seed: u64) -> impl FnMut(&str, &[usize]) -> Vec<f32> {
    move |name: &str, shape: &[usize]| generate(name, shape, seed)
}

/// u in [0, 1) of a tensor, by its name.
pub fn draws(name: &str, seed: u64) -> impl FnMut() -> f64 + use<> {
    let mut random = Random::of_name(name, seed);
    move || f64::from(random.unit_f32())
}

pub fn generate(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    const GAINS: [(&str, f64); 20] = [
        ("features.lateral8.weight", 0.7),
        ("features.lateral4.weight", 0.7),
        ("features.output.weight", 0.25),
        ("gate.reduce.weight", 0.7),
        ("gate.weight.weight", 1.0),
        ("depthwise1.weight", 1.0),
        ("depthwise2.weight", 1.0),
        ("pointwise2.conv.weight", 0.8),
        ("shortcut.conv.weight", 0.8),
        ("attention.conv.weight", 0.5),
        ("attention1.conv.weight", 0.7),
        ("attention2.weight", 0.7),
        ("context_global.weight", 0.5),
        ("regularizer.logits.weight", 4.0),
        ("features.lateral2.weight", 0.7),
        ("features.output2.weight", 0.25),
        ("features.lateral1.weight", 0.7),
        ("features.output1.weight", 0.25),
        ("narrow2.logits.weight", 4.0),
        ("narrow1.logits.weight", 4.0),
    ];
    let mut u = draws(name, seed);
    let fan_in: usize = shape[1..].iter().product();
    let gain = GAINS.iter().filter(|(suffix, _)| name.ends_with(suffix)).max_by_key(|(s, _)| s.len());
    let gain = gain.map_or(1.5, |&(_, gain)| gain);
    let mut value = || {
        if name.ends_with("bn.weight") || name.ends_with("bn.running_var") {
            0.5 + u()
        } else if name.ends_with("bn.bias") || name.ends_with("bn.running_mean") {
            (2.0 * u() - 1.0) * 0.3
        } else if name.ends_with(".bias") {
            (2.0 * u() - 1.0) * 0.1
        } else {
            ((2.0 * u() - 1.0) * (3.0 / fan_in as f64).sqrt()) * gain
        }
    };
    (0..shape.iter().product()).map(|_| value() as f32).collect()
}

/// `voxel_squared_skip` and so on; `voxel_squared_skip_full` with narrow stages.
pub fn config(name: &str) -> Config {
    let mut parts = name.split('_');
    let mut part = || parts.next().expect("a configuration's name has three parts");
    Config {
        aggregation: match part() {
            "voxel" => Aggregation::Voxel(()),
            "pixel" => Aggregation::Pixel(()),
            "mean" => Aggregation::Mean,
            "variance" => Aggregation::Variance,
            other => panic!("aggregation {other}"),
        },
        difference: if part() == "squared" { Difference::Squared } else { Difference::Signed },
        decoder: if part() == "skip" { Decoder::Skip } else { Decoder::Trilinear },
        resolution: if name.contains("_full") { Resolution::Full } else { Resolution::Quarter },
    }
}

pub fn network(config_name: &str, seed: u64) -> BsMvsNet {
    let checkpoint = Checkpoint::from_function("generated", config(config_name), generated(seed));
    BsMvsNet::new(&checkpoint.expect("a value for each element")).expect("generated weights fit")
}

/// The input that all network goldens share, or its upper left corner.
pub struct Inputs {
    pub photos: Vec<Photo>,
    pub cameras: Vec<Camera>,
    pub linear: Hypotheses,
    pub inverse: Hypotheses,
}

impl Inputs {
    pub fn read() -> Self {
        let golden = Golden::read("inputs.safetensors");
        let (shape, images) = golden.get("images");
        let (height, width) = (shape[1], shape[2]);
        let photo = |v: &[f64]| Photo { width, height, rgb: v.iter().map(|&x| x as f32).collect() };
        let photos = images.chunks_exact(height * width * 3).map(photo).collect();
        let cameras = golden.values("k").chunks_exact(9).zip(golden.values("e").chunks_exact(16));
        Self {
            photos,
            cameras: cameras.map(|(k, e)| camera(k, e)).collect(),
            linear: Hypotheses { depths: golden.values("depths").to_vec(), sampling: Sampling::Linear, expected: None },
            inverse: Hypotheses {
                depths: golden.values("depths_inverse").to_vec(),
                sampling: Sampling::Inverse,
                expected: None,
            },
        }
    }

    pub fn corner(&self, width: usize, height: usize, planes: usize) -> Self {
        let crop = |p: &Photo| {
            let rows = p.rgb.chunks_exact(p.width * 3).take(height);
            Photo { width, height, rgb: rows.flat_map(|r| &r[..width * 3]).copied().collect() }
        };
        let ends =
            |h: &Hypotheses| engine::scene::camera::DepthRange { near: h.depths[0], far: h.depths[h.depths.len() - 1] };
        Self {
            photos: self.photos.iter().map(crop).collect(),
            cameras: self.cameras.clone(),
            linear: Hypotheses::new(ends(&self.linear), planes, Sampling::Linear),
            inverse: Hypotheses::new(ends(&self.inverse), planes, Sampling::Inverse),
        }
    }

    /// The input of `large.safetensors`: generated images, the same cameras with rows 0 and 1 of K doubled.
    pub fn large(&self, width: usize, height: usize, planes: usize, images_seed: u64) -> Self {
        let mut u = draws("images", images_seed);
        let mut photo = || {
            let rgb = (0..width * height * 3).map(|_| u() as f32).collect();
            Photo { width, height, rgb }
        };
        let corner = self.corner(4, 4, planes);
        Self {
            photos: self.cameras.iter().map(|_| photo()).collect(),
            cameras: self.cameras.iter().map(|c| c.decimated(2.0)).collect(),
            ..corner
        }
    }

    /// View 0 is the reference, all others its sources.
    pub fn sweeps(&self) -> Vec<PlaneSweep> {
        let reference = self.cameras[0].decimated(0.25);
        self.cameras[1..].iter().map(|c| PlaneSweep::new(&reference, &c.decimated(0.25))).collect()
    }
}

/// From row-major K [3, 3] and world-to-camera E [4, 4].
pub fn camera(k: &[f64], e: &[f64]) -> Camera {
    let row = |m: &[f64], i: usize, stride: usize| DVec3::new(m[i * stride], m[i * stride + 1], m[i * stride + 2]);
    let mat = |m: &[f64], stride: usize| {
        DMat3::from_cols(row(m, 0, stride), row(m, 1, stride), row(m, 2, stride)).transpose()
    };
    Camera { k: mat(k, 3), r: mat(e, 4), t: DVec3::new(e[3], e[7], e[11]) }
}

/// Every |a - b| <= atol + rtol |b|; returns the largest ratio of error to tolerance.
pub fn worst(found: &[f32], expected: &[f64], atol: f64, rtol: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let ratio = |(&a, &b): (&f32, &f64)| {
        let ratio = (f64::from(a) - b).abs() / (atol + rtol * b.abs());
        if ratio.is_nan() { f64::INFINITY } else { ratio }
    };
    found.iter().zip(expected).map(ratio).fold(0.0, f64::max)
}
