//! Checkpoints: the configuration they name or imply, and one exact line for each way in which they can be wrong.
//!
//! The files are made from the built-in checkpoint, taken apart and put together with one thing changed.

#[path = "support/goldens.rs"]
mod goldens;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use engine::cpu::network::BsMvsNet;
use engine::net::config::{Aggregation, Config, Decoder, Difference, Resolution};
use engine::net::weights::Checkpoint;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

const BUILT_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/bs_mvsnet.safetensors");

/// A checkpoint's parts.
#[derive(Clone)]
struct Parts {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    metadata: Option<HashMap<String, String>>,
}

impl Parts {
    fn built_in() -> Self {
        let bytes = std::fs::read(BUILT_IN).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file
            .iter()
            .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
        Self { tensors: tensors.collect(), metadata: header.metadata().clone() }
    }

    fn set(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.insert(name.into(), (Dtype::F32, shape.to_vec(), bytes));
    }

    /// Changes one value of a tensor.
    fn poke(&mut self, name: &str, element: usize, value: f32) {
        let (_, _, bytes) = self.tensors.get_mut(name).unwrap();
        bytes[4 * element..][..4].copy_from_slice(&value.to_le_bytes());
    }

    fn remove(&mut self, prefix: &str) {
        let before = self.tensors.len();
        self.tensors.retain(|name, _| !name.starts_with(prefix));
        assert!(self.tensors.len() < before, "no tensor {prefix}");
    }

    fn say(&mut self, key: &str, value: &str) {
        self.metadata.get_or_insert_default().insert(key.into(), value.into());
    }

    fn bytes(&self) -> Vec<u8> {
        let views = self
            .tensors
            .iter()
            .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        safetensors::serialize(views, self.metadata.clone()).unwrap()
    }
}

/// A file in a folder of its own, which goes when this goes.
struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    std::fs::write(&path, bytes).unwrap();
    File { _folder: folder, path }
}

/// The network's one line about a file, without the path at its front.
fn message(bytes: &[u8]) -> String {
    let file = file(bytes);
    let error = BsMvsNet::from_file(&file.path).err().expect("a broken checkpoint is refused");
    assert_eq!(error.exit_code(), 3);
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    let front = format!("weights {}: ", file.path.display());
    text.strip_prefix(&front).unwrap_or_else(|| panic!("{text} does not begin with {front}")).to_owned()
}

#[test]
fn a_file_gives_the_same_network_as_the_built_in_weights() {
    let (built_in, read) = (BsMvsNet::built_in().unwrap(), BsMvsNet::from_file(BUILT_IN.as_ref()).unwrap());
    assert_eq!(built_in.weights_name(), "built-in");
    assert_eq!(read.weights_name(), BUILT_IN);
    assert_eq!(built_in.weights_hash(), read.weights_hash());
    assert!(read.weights_hash().len() == 64 && read.weights_hash().bytes().all(|b| b.is_ascii_hexdigit()));
    let photo = &goldens::Inputs::read().photos[0];
    let (a, b) = (built_in.features(photo).unwrap().quarter, read.features(photo).unwrap().quarter);
    assert!(a.data[..] == b.data[..] && a.data.iter().any(|&v| v != 0.0));
}

#[test]
fn batch_counters_may_be_absent() {
    let mut parts = Parts::built_in();
    parts.tensors.retain(|name, _| !name.ends_with(".num_batches_tracked"));
    let without = BsMvsNet::new(&Checkpoint::parse("x".into(), &parts.bytes()).unwrap()).unwrap();
    assert_ne!(without.weights_hash(), BsMvsNet::built_in().unwrap().weights_hash());
}

#[test]
fn metadata_names_the_configuration() {
    use {Aggregation::*, Decoder::*, Difference::*};
    for (aggregation_name, aggregation) in
        [("voxel", Voxel(())), ("pixel", Pixel(())), ("mean", Mean), ("variance", Variance)]
    {
        for (difference_name, difference) in [("squared", Squared), ("signed", Signed)] {
            for (decoder_name, decoder) in [("skip", Skip), ("trilinear", Trilinear)] {
                let said = [
                    ("aggregation", aggregation_name),
                    ("difference", difference_name),
                    ("decoder", decoder_name),
                    ("resolution", "full"),
                    ("format", "pt"),
                ];
                let said = said.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
                // Names of tensors imply another configuration; what the metadata say counts.
                let read = Config::of_checkpoint(Some(&said), |name| name == "gate.reduce.weight");
                assert_eq!(read, Ok(Config { aggregation, difference, decoder, resolution: Resolution::Full }));
            }
        }
    }
}

/// All 16 configurations load; those that names can tell apart are told apart without metadata.
#[test]
fn names_imply_the_configuration_where_there_is_no_metadata() {
    for (aggregation, inferred) in [
        (Aggregation::Voxel(()), Aggregation::Voxel(())),
        (Aggregation::Pixel(()), Aggregation::Pixel(())),
        (Aggregation::Mean, Aggregation::Mean),
        (Aggregation::Variance, Aggregation::Mean),
    ] {
        for decoder in [Decoder::Skip, Decoder::Trilinear] {
            let mut parts = Parts::built_in();
            parts.metadata = None;
            if aggregation != Aggregation::Voxel(()) {
                parts.remove("gate.");
            }
            if aggregation == Aggregation::Pixel(()) {
                for (layer, output, input) in [("conv1", 8, 2), ("conv2", 8, 8), ("weight", 1, 8)] {
                    let values = vec![0.1; output * input * 9];
                    parts.set(&format!("gate.{layer}.weight"), &[output, input, 3, 3], &values);
                    parts.set(&format!("gate.{layer}.bias"), &[output], &values[..output]);
                }
            }
            if decoder == Decoder::Trilinear {
                for layer in ["up4.", "decode4.", "decode2.", "cost_skip.", "logits."] {
                    parts.remove(&format!("regularizer.{layer}"));
                }
                parts.set("regularizer.head.conv.weight", &[16, 64, 3, 3, 3], &vec![0.01; 16 * 64 * 27]);
                for (what, value) in [("weight", 1.0), ("bias", 0.1), ("running_mean", 0.2), ("running_var", 0.5)] {
                    parts.set(&format!("regularizer.head.bn.{what}"), &[16], &[value; 16]);
                }
                parts.set("regularizer.logits.weight", &[1, 16, 1, 1, 1], &[0.3; 16]);
                parts.set("regularizer.logits.bias", &[1], &[0.0]);
            }
            for difference in [Difference::Squared, Difference::Signed] {
                let checkpoint = Checkpoint::parse("x".into(), &parts.bytes()).unwrap();
                assert_eq!(
                    checkpoint.config(),
                    Config {
                        aggregation: inferred,
                        difference: Difference::Squared,
                        decoder,
                        resolution: Resolution::Full
                    }
                );
                let mut named = parts.clone();
                named.say("aggregation", aggregation.name());
                named.say("difference", &format!("{difference:?}").to_lowercase());
                let named = file(&named.bytes());
                let net = BsMvsNet::from_file(&named.path).unwrap();
                assert_eq!(net.config(), Config { aggregation, difference, decoder, resolution: Resolution::Full });
            }
        }
    }
}

#[test]
fn each_broken_tensor_is_named() {
    type Damage = fn(&mut Parts);
    let cases: &[(&str, Damage, &str)] = &[
        (
            "a missing tensor",
            |p| p.remove("regularizer.arm16.conv.bn.weight"),
            "tensor `regularizer.arm16.conv.bn.weight` is missing; expected all of the configuration voxel / \
             squared / skip / full",
        ),
        (
            "the first tensor missing",
            |p| p.remove("features.stage1.0.conv.weight"),
            "tensor `features.stage1.0.conv.weight` is missing; expected all of the configuration voxel / \
             squared / skip / full",
        ),
        (
            "a depthwise tensor missing",
            |p| p.remove("regularizer.context4.depthwise1."),
            "tensor `regularizer.context4.depthwise1.weight` is missing; expected all of the configuration \
             voxel / squared / skip / full",
        ),
        (
            "an extra tensor",
            |p| p.set("regularizer.extra.weight", &[2], &[0.0; 2]),
            "tensor `regularizer.extra.weight`; expected those of the configuration voxel / squared / skip / \
             full alone",
        ),
        (
            "a misshapen weight",
            |p| p.set("features.lateral8.weight", &[48, 48, 1, 1], &[0.0; 48 * 48]),
            "tensor `features.lateral8.weight` has shape [48, 48, 1, 1]; expected [48, 64, 1, 1]",
        ),
        (
            "another order of the same axes",
            |p| p.set("regularizer.decode2.conv.weight", &[16, 8, 3, 3, 3], &[0.0; 16 * 8 * 27]),
            "tensor `regularizer.decode2.conv.weight` has shape [16, 8, 3, 3, 3]; expected [8, 16, 3, 3, 3]",
        ),
        (
            "2D weights for a 3D layer",
            |p| p.set("gate.reduce.weight", &[8, 32, 1, 1], &[0.0; 8 * 32]),
            "tensor `gate.reduce.weight` has shape [8, 32, 1, 1]; expected [8, 32, 1, 1, 1]",
        ),
        (
            "a misshapen bias",
            |p| p.set("gate.weight.bias", &[2], &[0.0; 2]),
            "tensor `gate.weight.bias` has shape [2]; expected [1]",
        ),
        (
            "an empty tensor",
            |p| p.set("gate.weight.bias", &[0], &[]),
            "tensor `gate.weight.bias` has shape [0]; expected [1]",
        ),
        (
            "half precision",
            |p| _ = p.tensors.insert("features.lateral4.bias".into(), (Dtype::F16, vec![32], vec![0; 64])),
            "tensor `features.lateral4.bias` is F16; expected F32",
        ),
        (
            "double precision",
            |p| _ = p.tensors.insert("features.lateral4.bias".into(), (Dtype::F64, vec![32], vec![0; 256])),
            "tensor `features.lateral4.bias` is F64; expected F32",
        ),
        (
            "NaN",
            |p| p.poke("features.stage2.1.conv.weight", 7, f32::NAN),
            "tensor `features.stage2.1.conv.weight` holds NaN at element 7; expected finite values",
        ),
        (
            "infinity",
            |p| p.poke("regularizer.logits.bias", 0, f32::NEG_INFINITY),
            "tensor `regularizer.logits.bias` holds -inf at element 0; expected finite values",
        ),
        (
            "a negative variance",
            |p| p.poke("regularizer.fusion.merge.bn.running_var", 3, -0.25),
            "tensor `regularizer.fusion.merge.bn.running_var` holds -0.25 at element 3; expected variances of \
             0 or more",
        ),
        (
            "a scale beyond f32",
            |p| {
                p.poke("features.merge8.bn.weight", 1, 3e38);
                p.poke("features.merge8.bn.running_var", 1, 0.0);
                p.poke("features.merge8.conv.weight", 48 * 9, 1.0);
            },
            "batch norm `features.merge8.bn` scales `features.merge8.conv.weight` beyond what f32 can hold",
        ),
        (
            "an unknown aggregation",
            |p| p.say("aggregation", "max"),
            "metadata aggregation = `max`; expected voxel, pixel, mean or variance",
        ),
        ("an unknown difference", |p| p.say("difference", ""), "metadata difference = ``; expected squared or signed"),
        ("an unknown decoder", |p| p.say("decoder", "Skip"), "metadata decoder = `Skip`; expected skip or trilinear"),
        (
            "metadata of another configuration",
            |p| p.say("aggregation", "pixel"),
            "tensor `gate.conv1.weight` is missing; expected all of the configuration pixel / squared / skip / full",
        ),
        (
            "metadata of a configuration without gate",
            |p| p.say("aggregation", "mean"),
            "tensor `gate.reduce.bias`; expected those of the configuration mean / squared / skip / full \
             alone",
        ),
        (
            "weights of another network",
            |p| {
                p.tensors.clear();
                p.metadata = None;
                p.set("conv1.weight", &[64, 3, 7, 7], &vec![0.0; 64 * 3 * 49]);
                p.set("fc.weight", &[10, 64], &[0.0; 640]);
            },
            "not a checkpoint of BS-MVSNet: it holds tensors such as `conv1.weight`; expected `features.*`, `gate.*`, \
             `regularizer.*` and `narrow*`",
        ),
        (
            "names with a prefix",
            |p| {
                let all = std::mem::take(&mut p.tensors).into_iter();
                p.tensors = all.map(|(name, t)| (format!("module.{name}"), t)).collect();
            },
            "not a checkpoint of BS-MVSNet: it holds tensors such as `module.features.lateral1.bias`; expected \
             `features.*`, `gate.*`, `regularizer.*` and \
             `narrow*`",
        ),
        (
            "no tensor at all",
            |p| p.tensors.clear(),
            "not a checkpoint of BS-MVSNet: it holds no tensor; expected `features.*`, `gate.*`, `regularizer.*` and \
             `narrow*`",
        ),
    ];
    for (name, damage, expected) in cases {
        let mut parts = Parts::built_in();
        damage(&mut parts);
        assert_eq!(message(&parts.bytes()), *expected, "{name}");
    }
}

#[test]
fn each_broken_file_is_explained() {
    let whole = std::fs::read(BUILT_IN).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut lying = whole.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut garbled = whole.clone();
    garbled[8] = b'!';
    let format = "expected a checkpoint of BS-MVSNet in the safetensors format";
    for (name, bytes, expected) in [
        ("empty", &[][..], format!("the file is empty; {format}")),
        (
            "one byte",
            &whole[..1],
            format!("cut short (1 bytes, less than its header) or no safetensors file; {format}"),
        ),
        (
            "cut in the header",
            &whole[..1000],
            format!("cut short (1000 bytes, less than its header) or no safetensors file; {format}"),
        ),
        (
            "cut behind the header",
            &whole[..header],
            format!("cut short or damaged: its {header} bytes; expected as many as its header names, so copy it again"),
        ),
        (
            "one byte short",
            &whole[..whole.len() - 1],
            format!(
                "cut short or damaged: its {} bytes; expected as many as its header names, so copy it again",
                whole.len() - 1
            ),
        ),
        (
            "one byte more",
            &[&whole[..], &[0]].concat(),
            format!(
                "cut short or damaged: its {} bytes; expected as many as its header names, so copy it again",
                whole.len() + 1
            ),
        ),
        ("a size that lies", &lying, format!("no safetensors file (header too large); {format}")),
        ("text", b"0123456789 is no checkpoint", format!("no safetensors file (header too large); {format}")),
        (
            "no JSON",
            &garbled,
            format!("no safetensors file (invalid JSON in header: expected value at line 1 column 1); {format}"),
        ),
        (
            "a pickle of PyTorch",
            b"PK\x03\x04 and so on",
            format!("a zip archive, perhaps one of torch.save; {format} (safetensors.torch.save_file writes it)"),
        ),
    ] {
        assert_eq!(message(bytes), expected, "{name}");
    }
}

/// A tensor whose shape multiplies to more than memory holds is refused, not allocated.
#[test]
fn shapes_that_lie_are_refused() {
    for shape in ["[4294967296,4294967296]", "[1152921504606846976]", "[1099511627776]"] {
        let tensor = format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,8]}}");
        let json = format!("{{\"features.output.bias\":{tensor}}}");
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.bytes());
        bytes.extend([0; 8]);
        let text = message(&bytes);
        assert!(text.starts_with("no safetensors file (") && text.contains("; expected a checkpoint"), "{text}");
    }
}

/// Single damaged bytes anywhere in the header give a message or a network, never a panic.
#[test]
fn no_damaged_header_panics() {
    let whole = std::fs::read(BUILT_IN).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in (0..header).step_by(149) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x15;
        if let Err(error) = Checkpoint::parse("x".into(), &bytes).and_then(|c| BsMvsNet::new(&c)) {
            assert!(error.to_string().starts_with("weights x: "), "{error}");
        }
    }
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.safetensors");
    let text = |path: &std::path::Path| BsMvsNet::from_file(path).err().unwrap().to_string();
    let expected = format!("{}: cannot read the weights: No such file or directory (os error 2)", missing.display());
    if cfg!(unix) {
        assert_eq!(text(&missing), expected);
        let expected = format!("{}: cannot read the weights: Is a directory (os error 21)", folder.path().display());
        assert_eq!(text(folder.path()), expected);
    }
    // A file with a hole: it takes no space, and must take no memory either.
    let huge = folder.path().join("huge.safetensors");
    std::fs::File::create(&huge).unwrap().set_len(1 << 36).unwrap();
    let expected = format!("weights {}: larger than 256 MiB; a checkpoint of BS-MVSNet is not", huge.display());
    assert_eq!(text(&huge), expected);
}
