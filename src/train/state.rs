//! Where a training run stands: everything that its next step depends on, in one file that is whole or not there.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::optimizer::Adam;
use crate::error::{Error, Result};
use crate::files::atomic::{write_through, write_whole};
use crate::files::hash::Hashing;
use crate::files::input;
use crate::host::interrupt;
use crate::net::parameters::{Parameters, float_view, to_safetensors};
use crate::net::weights::Checkpoint;

/// Everything that the next step depends on, beside the options.
#[derive(Clone)]
pub struct State {
    /// Steps that were done.
    pub step: u64,
    /// The weights that are trained.
    pub parameters: Parameters,
    /// Their moving average, which is what validation and inference use; the weights themselves where none is kept.
    pub average: Option<Parameters>,
    /// The optimizer's moments.
    pub adam: Adam,
    /// The best validation so far: its score (smaller is better) and step.
    pub best: Option<(f64, u64)>,
}

/// How the names of the parts begin in the file.
const AVERAGE: &str = "average.";
const MOMENTS: [&str; 2] = ["adam.mean.", "adam.square."];
/// The entry of the metadata with the hash of all else.
const HASH: &str = "sha256";

/// SHA-256 of metadata and tensors. A moment or weight that a disk has damaged is a number like any other, and would be
/// trained on with.
fn hash_of(metadata: &BTreeMap<String, String>, tensors: &BTreeMap<&str, &[u8]>) -> String {
    let mut passing = Hashing::new(io::sink());
    let texts = metadata.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
    let parts = texts.chain(tensors.iter().flat_map(|(name, data)| [name.as_bytes(), *data]));
    for part in parts {
        // Into a sink: nothing can fail.
        let _ = passing.write_all(&(part.len() as u64).to_le_bytes()).and_then(|()| passing.write_all(part));
    }
    passing.finish()
}

impl State {
    /// A run that has not begun, with a moving average where that has a decay.
    pub fn new(parameters: Parameters, average: Option<f64>) -> Self {
        let average = average.map(|_| parameters.clone());
        Self { step: 0, parameters, average, adam: Adam::default(), best: None }
    }

    /// The weights that are of use: the average where there is one.
    pub fn weights(&self) -> &Parameters {
        self.average.as_ref().unwrap_or(&self.parameters)
    }

    /// Writes the file: the trained weights under the network's names, the average and Adam's moments beside them.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut views: Vec<(String, TensorView)> = Vec::new();
        for p in &self.parameters.list {
            views.push((p.name.clone(), float_view(p.shape.clone(), &p.values.data)?));
        }
        for p in self.average.iter().flat_map(|a| &a.list) {
            views.push((format!("{AVERAGE}{}", p.name), float_view(p.shape.clone(), &p.values.data)?));
        }
        for (name, moments) in &self.adam.moments {
            for (prefix, values) in MOMENTS.iter().zip(moments) {
                views.push((format!("{prefix}{name}"), float_view(vec![values.len()], values)?));
            }
        }
        let mut metadata = BTreeMap::from([("step".to_owned(), self.step.to_string())]);
        metadata.insert("adam_steps".into(), self.adam.steps.to_string());
        if let Some((score, step)) = self.best {
            metadata.insert("best_score_bits".into(), format!("{:016x}", score.to_bits()));
            metadata.insert("best_step".into(), step.to_string());
        }
        metadata.extend(self.parameters.config.metadata());
        let tensors: BTreeMap<&str, &[u8]> = views.iter().map(|(name, view)| (name.as_str(), view.data())).collect();
        metadata.insert(HASH.into(), hash_of(&metadata, &tensors));
        let bytes = to_safetensors(views, metadata)?;
        let _guard = interrupt::writing();
        write_whole(path, "write the training state", |file| write_through(file, &bytes))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::Weights`] where it is no state of a training run.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let fail = |problem: String| Error::Weights { file: file.clone(), problem };
        let bytes = input::read(path, "read the training state")?;
        let whole = "expected the state of a training run; give --fresh to begin anew";
        let bad = |e: safetensors::SafeTensorError| fail(format!("no safetensors file ({e}); {whole}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(bad)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let number = |key: &str| -> Result<u64> {
            let found = metadata.get(key).and_then(|v| v.parse().ok());
            found.ok_or_else(|| fail(format!("metadata `{key}` is missing or no number; {whole}")))
        };
        // States of earlier versions have no hash.
        let mut hashed: BTreeMap<String, String> = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if let Some(expected) = hashed.remove(HASH) {
            let all = tensors.iter().map(|(name, view)| (name.to_owned(), view)).collect::<Vec<_>>();
            let all = all.iter().map(|(name, view)| (name.as_str(), view.data())).collect();
            if hash_of(&hashed, &all) != expected {
                return Err(fail(format!("it is damaged: its content is not what its hash says; {whole}")));
            }
        }
        let mut parts: BTreeMap<&str, Vec<(String, TensorView)>> = BTreeMap::new();
        for (name, view) in tensors.iter() {
            let prefix = [AVERAGE, MOMENTS[0], MOMENTS[1]].into_iter().find(|p| name.starts_with(p));
            let prefix = prefix.unwrap_or_default();
            parts.entry(prefix).or_default().push((name[prefix.len()..].to_owned(), view));
        }
        let parameters = |prefix: &str| -> Result<Option<Parameters>> {
            let Some(views) = parts.get(prefix) else { return Ok(None) };
            let views = views.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
            let ordered = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            let alone = to_safetensors(views, ordered)?;
            Ok(Some(Checkpoint::parse(file.clone(), &alone)?.parameters))
        };
        let mut moments: BTreeMap<String, [Vec<f32>; 2]> = BTreeMap::new();
        for (i, prefix) in MOMENTS.iter().enumerate() {
            for (name, view) in parts.get(prefix).into_iter().flatten() {
                let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                moments.entry(name.clone()).or_default()[i] = values.collect();
            }
        }
        let bits = |text: &String| u64::from_str_radix(text, 16).ok().map(f64::from_bits);
        let best = metadata.get("best_score_bits").and_then(bits).zip(number("best_step").ok());
        Ok(Self {
            step: number("step")?,
            parameters: parameters("")?.ok_or_else(|| fail(format!("it holds no weights; {whole}")))?,
            average: parameters(AVERAGE)?,
            adam: Adam { steps: number("adam_steps")?, moments },
            best,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::config::{Aggregation, Config, Decoder, Difference, Resolution};

    #[test]
    fn a_state_comes_back_as_it_was_written() {
        let config = Config {
            aggregation: Aggregation::Pixel(()),
            difference: Difference::Signed,
            decoder: Decoder::Trilinear,
            resolution: Resolution::Quarter,
        };
        let mut state = State::new(Parameters::random(config, 3).unwrap(), Some(0.9));
        state.step = 17;
        state.best = Some((0.1 + 0.2, 12));
        state.adam.steps = 17;
        for p in state.parameters.list.iter_mut().filter(|p| !p.is_statistic()) {
            p.values.data[0] = 0.25;
            let len = p.values.data.len();
            state.adam.moments.insert(p.name.clone(), [vec![1.5; len], vec![2.5; len]]);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        state.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let back = State::read(&path).unwrap();
        assert_eq!((back.step, back.best, &back.adam), (17, state.best, &state.adam));
        for (a, b) in [(&state.parameters, &back.parameters), (state.weights(), back.weights())] {
            assert_eq!(a.config, b.config);
            for (a, b) in a.list.iter().zip(&b.list) {
                assert!(a.name == b.name && a.shape == b.shape && a.values.data[..] == b.values.data[..]);
            }
        }
        back.write(&path).unwrap();
        assert!(bytes == std::fs::read(&path).unwrap(), "the same state is the same file");
        // One bit of any tensor's values, the moments' too: finite numbers, but not those of the run.
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let first = |prefix: &str| {
            let found = tensors.iter().find(|(name, _)| name.starts_with(prefix)).unwrap();
            found.1.data().as_ptr() as usize - bytes.as_ptr() as usize
        };
        let places = [AVERAGE, MOMENTS[0], MOMENTS[1], &state.parameters.list[0].name].map(first);
        for at in places {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let error = State::read(&path).err().unwrap().to_string();
            assert!(error.contains("it is damaged") && error.contains("--fresh"), "{error}");
        }
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = State::read(&path).err().unwrap().to_string();
        assert!(error.contains("no safetensors file") && error.contains("--fresh"), "{error}");
    }
}
