//! A network's configuration: the variants of the paper that a checkpoint may be of.

use std::collections::{BTreeMap, HashMap};

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};

/// How the differences of the source views become one cost (eq. 3-5). `G` is a gate that makes weights per voxel, `W`
/// are weights per pixel; as a configuration neither is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation<G = (), W = ()> {
    /// A weight per voxel (eq. 5).
    Voxel(G),
    /// A weight per pixel, the same at all depths (eq. 4).
    Pixel(W),
    /// No weights.
    Mean,
    /// The variance over the reference and all sources (MVSNet).
    Variance,
}

/// What a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Difference {
    /// (warped - reference)^2.
    Squared,
    /// warped - reference (eq. 3 to the letter).
    Signed,
}

/// How the regularizer gets back to full resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Decoder {
    /// In three steps with skip connections.
    Skip,
    /// One trilinear interpolation from 1/8 (the paper's).
    Trilinear,
}

/// Of maps against the photo: each pixel of theirs is every 4th, every 2nd or every pixel of the photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// A quarter of its sides.
    Quarter,
    /// Half of its sides.
    Half,
    /// The photo's own.
    Full,
}

impl Resolution {
    /// Photo pixels from one pixel of a map to the next: 4, 2 or 1.
    pub const fn step(self) -> usize {
        match self {
            Self::Quarter => 4,
            Self::Half => 2,
            Self::Full => 1,
        }
    }
}

impl<G, W> Aggregation<G, W> {
    /// As metadata and options name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Voxel(_) => "voxel",
            Self::Pixel(_) => "pixel",
            Self::Mean => "mean",
            Self::Variance => "variance",
        }
    }
}

impl ValueEnum for Aggregation {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Voxel(()), Self::Pixel(()), Self::Mean, Self::Variance]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Voxel(()) => "A weight per voxel (eq. 5)",
            Self::Pixel(()) => "A weight per pixel (eq. 4)",
            Self::Mean => "No weights",
            Self::Variance => "MVSNet's variance",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

/// A network's configuration, by its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// `aggregation`.
    pub aggregation: Aggregation,
    /// `difference`.
    pub difference: Difference,
    /// `decoder`.
    pub decoder: Decoder,
    /// `resolution`: the finest that it has narrow stages for.
    pub resolution: Resolution,
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names().join(" / "))
    }
}

/// The configuration's parts as a checkpoint's metadata name them.
const KEYS: [&str; 4] = ["aggregation", "difference", "decoder", "resolution"];

impl Config {
    fn names(self) -> [String; 4] {
        let lower = |text: String| text.to_lowercase();
        let Self { aggregation, difference, decoder, resolution } = self;
        [
            aggregation.name().into(),
            lower(format!("{difference:?}")),
            lower(format!("{decoder:?}")),
            lower(format!("{resolution:?}")),
        ]
    }

    /// As the metadata of a checkpoint name it.
    pub fn metadata(self) -> BTreeMap<String, String> {
        KEYS.map(str::to_owned).into_iter().zip(self.names()).collect()
    }

    /// By a checkpoint's metadata, else by the names of its tensors. Names alone cannot tell `mean` from `variance` nor
    /// `signed` from `squared`: then it is the reference's default among the two.
    ///
    /// # Errors
    /// What a key holds, and what it may hold.
    pub fn of_checkpoint(
        metadata: Option<&HashMap<String, String>>,
        has: impl Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let by_names = Self {
            aggregation: match (has("gate.reduce.weight"), has("gate.conv1.weight")) {
                (true, _) => Aggregation::Voxel(()),
                (false, true) => Aggregation::Pixel(()),
                (false, false) => Aggregation::Mean,
            },
            difference: Difference::Squared,
            decoder: if has("regularizer.head.conv.weight") { Decoder::Trilinear } else { Decoder::Skip },
            resolution: match (has("narrow2.logits.weight"), has("narrow1.logits.weight")) {
                (_, true) => Resolution::Full,
                (true, false) => Resolution::Half,
                (false, false) => Resolution::Quarter,
            },
        };
        let get = |key: &str| metadata.and_then(|m| m.get(key));
        Ok(Self {
            aggregation: named(KEYS[0], get(KEYS[0]), by_names.aggregation)?,
            difference: named(KEYS[1], get(KEYS[1]), by_names.difference)?,
            decoder: named(KEYS[2], get(KEYS[2]), by_names.decoder)?,
            resolution: named(KEYS[3], get(KEYS[3]), by_names.resolution)?,
        })
    }
}

/// The variant that metadata name, where they do.
fn named<T: ValueEnum>(key: &str, value: Option<&String>, otherwise: T) -> Result<T, String> {
    let Some(value) = value else { return Ok(otherwise) };
    T::from_str(value, false).map_err(|_| {
        let possible = T::value_variants().iter().filter_map(T::to_possible_value);
        let names: Vec<String> = possible.map(|v| v.get_name().to_owned()).collect();
        let (last, rest) = names.split_last().map_or((String::new(), &[][..]), |(last, rest)| (last.clone(), rest));
        format!("metadata {key} = `{value}`; expected {} or {last}", rest.join(", "))
    })
}
