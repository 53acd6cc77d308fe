//! What training and measuring on rendered scenes hold in memory at least, known before they start.
//!
//! The sizes are those of the network's outline. They are lower bounds, so that nothing is refused that would fit: what
//! a step takes beside them (gradients on their way, what the allocator keeps) depends on the machine.

use super::exchange::Exchange;
use crate::error::Result;
use crate::host::memory::{MemoryNeed, Part, StageMemory};
use crate::net::config::Config;
use crate::net::outline;

/// What a training run is sized by.
pub struct TrainSize {
    /// The network.
    pub config: Config,
    /// Width and height of the photos.
    pub size: (usize, usize),
    /// Hypotheses, at most.
    pub planes: usize,
    /// Views of a sample, at most.
    pub views: usize,
    /// Samples that are ready ahead of their step.
    pub queue: usize,
    /// Whether gradients are made on the processor.
    pub on_host: bool,
    /// Processes that train together.
    pub ranks: usize,
}

impl TrainSize {
    /// What is held at once.
    ///
    /// # Errors
    /// Never for a network that is consistent.
    pub fn need(&self) -> Result<MemoryNeed> {
        let (width, height) = (self.size.0.next_multiple_of(4), self.size.1.next_multiple_of(4));
        // The tape keeps what every layer reads; layers without depth read photos or features, of every view.
        let layers = outline::layers(self.config, height, width, self.planes)?;
        let kept = layers.iter().map(|(_, x)| 4 * x.len() as u64 * if x.d == 1 { self.views as u64 } else { 1 });
        let values = outline::tensors(self.config)?.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let parts = vec![
            Part::new("what the layers read, for the way back", if self.on_host { kept.sum() } else { 0 }),
            Part::new("samples that are prepared ahead", self.queue as u64 * photos_bytes(self.size, self.views)),
            Part::new("gradients on their way between processes", Exchange::bytes_of(self.ranks, 1, values)),
        ];
        Ok(MemoryNeed { stages: vec![StageMemory::new("a training step", parts)] })
    }
}

/// Bytes of a sample's photos, as the network takes them.
pub fn photos_bytes((width, height): (usize, usize), views: usize) -> u64 {
    12 * (width * height * views) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::config::{Aggregation, Decoder, Difference, Resolution};

    #[test]
    fn the_volumes_of_the_regularizer_are_most_of_it_and_grow_with_planes_and_pixels() {
        let config = Config {
            aggregation: Aggregation::Voxel(()),
            difference: Difference::Squared,
            decoder: Decoder::Skip,
            resolution: Resolution::Quarter,
        };
        let of = |size, planes| {
            let size = TrainSize { config, size, planes, views: 3, queue: 0, on_host: true, ranks: 1 };
            size.need().unwrap().peak()
        };
        // The cost volume alone: 64 x 48 pixels, 128 planes, 32 channels of four bytes.
        let volume = 64 * 48 * 128 * 32 * 4;
        assert!(of((256, 192), 128) > volume && of((256, 192), 128) < 20 * volume);
        assert!(of((256, 192), 256) > of((256, 192), 128) * 3 / 2);
        assert!(of((512, 192), 128) > of((256, 192), 128) * 3 / 2);
        let queued = TrainSize { config, size: (256, 192), planes: 128, views: 3, queue: 4, on_host: false, ranks: 1 };
        let of_queue = 4 * 3 * 12 * 256 * 192;
        assert_eq!(queued.need().unwrap().peak(), of_queue);
        // Of about a million values: what comes and goes, and the sum, whole and in slices.
        let shared = TrainSize { ranks: 8, ..queued }.need().unwrap().peak() - of_queue;
        assert!((12_000_000..32_000_000).contains(&shared), "{shared}");
    }
}
