//! Several processes that train together, as threads of this one: the bits of their weights, how an error of one ends
//! all, and who gets which sample. `tests/mpi` has the same with real processes, in builds with the feature `mpi`.

use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use engine::cpu::ops::depth_backward::DepthLoss;
use engine::error::{Error, Result};
use engine::host::collective::{Collective, expect_lengths};
use engine::host::progress::{Progress, Style};
use engine::net::config::{Aggregation, Config, Decoder, Difference, Resolution};
use engine::scene::camera::Sampling;
use engine::synth::GeneratorOptions;
use engine::train::exchange::Share;
use engine::train::optimizer::AdamOptions;
use engine::train::options::{SamplingChoice, TrainOptions};
use engine::train::prefetch::PrefetchOptions;
use engine::train::run::{TrainData, train};
use engine::train::sample::{Dataset, TrainingSample};
use engine::train::schedule::{RateOptions, Schedule};
use engine::train::synthetic::{Synthetic, SyntheticOptions};
use engine::train::team::Team;
use engine::train::validation::ValidationSet;
use serde_json::json;

/// What threads have put down for each other.
struct Table {
    places: Mutex<Vec<Vec<u8>>>,
    all_here: Barrier,
}

/// A thread in a process's place.
struct Threads {
    rank: usize,
    ranks: usize,
    table: Arc<Table>,
}

impl Threads {
    /// Everybody's bytes, which must be of one length, as MPI asks.
    fn all(&self, own: &[u8]) -> Vec<Vec<u8>> {
        self.table.places.lock().unwrap()[self.rank] = own.to_vec();
        self.table.all_here.wait();
        let all = self.table.places.lock().unwrap().clone();
        self.table.all_here.wait();
        assert!(all.iter().all(|other| other.len() == own.len()), "ranks at different places of the program");
        all
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn host(&self) -> String {
        format!("thread{}", self.rank)
    }

    fn library(&self) -> String {
        "threads".into()
    }

    fn gather_everywhere(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        expect_lengths(all.len(), self.ranks * own.len())?;
        all.copy_from_slice(&self.all(own).concat());
        Ok(())
    }

    fn gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        let found = self.all(own).concat();
        if self.rank == 0 {
            all.copy_from_slice(&found);
        }
        Ok(())
    }

    fn exchange(&self, own: &[u8], found: &mut [u8]) -> Result<()> {
        let piece = own.len() / self.ranks;
        let pieces = self.all(own).into_iter().map(|other| other[self.rank * piece..][..piece].to_vec());
        found.copy_from_slice(&pieces.collect::<Vec<_>>().concat());
        Ok(())
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(&self.all(bytes)[0]);
        Ok(())
    }
}

/// What each of some processes gives, in the order of ranks.
fn together<T: Send>(ranks: usize, work: impl Fn(&Team) -> Result<T> + Sync) -> Vec<Result<T>> {
    let table = Arc::new(Table { places: Mutex::new(vec![Vec::new(); ranks]), all_here: Barrier::new(ranks) });
    std::thread::scope(|scope| {
        let start = |rank| {
            let (table, work) = (Arc::clone(&table), &work);
            scope.spawn(move || Team::new(Box::new(Threads { rank, ranks, table })).work(work, |_| ()))
        };
        let threads: Vec<_> = (0..ranks).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Rendered scenes, of which one sample cannot be made.
struct Broken(Synthetic, Option<u64>);

impl Dataset for Broken {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn len(&self) -> Option<u64> {
        self.0.len()
    }

    fn sample(&self, index: u64, views: usize) -> Result<TrainingSample> {
        if self.1 == Some(index) {
            return Err(Error::input("scan7/map.pfm", "3 bytes", "more"));
        }
        self.0.sample(index, views)
    }
}

/// Scenes of two small views.
fn scenes(seed: u64) -> GeneratorOptions {
    GeneratorOptions { seed, views: 2, size: (64, 64), ..GeneratorOptions::default() }
}

/// Three samples a step, and everything that a step can have: narrow stages, clipping, an average.
fn options() -> TrainOptions {
    let config = Config {
        aggregation: Aggregation::Voxel(()),
        difference: Difference::Squared,
        decoder: Decoder::Skip,
        resolution: Resolution::Full,
    };
    let rate = RateOptions { rate: 1e-3, schedule: Schedule::Constant, warmup: 0, epoch: 100, total: 2 };
    TrainOptions {
        config,
        init: None,
        seed: 5,
        steps: 2,
        epoch: 100,
        batch: 3,
        planes: vec![34],
        views: (2, 2),
        sampling: SamplingChoice::Mixed,
        loss: DepthLoss { l1: 0.5, cross_entropy: 0.5 },
        rate,
        clip: Some(1.0),
        adam: AdamOptions::default(),
        average: Some(0.9),
        validate_every: 1,
        shown: 1,
        checkpoint_every: 0,
        log_every: 1,
        prefetch: PrefetchOptions { threads: 1, capacity: 1 },
        fresh: false,
    }
}

/// Trains in a folder; sample `broken` cannot be made.
fn run(out: &Path, broken: Option<u64>, team: &Team) -> Result<()> {
    let prepare = || {
        let generator = scenes(1);
        let synthetic = Synthetic::new(SyntheticOptions { generator, fine: true, ..Default::default() })?;
        // One more than a round of two, so that the last round has a process without a view.
        let validation = vec![ValidationSet::rendered(scenes(2), 3, 16, Sampling::Linear)?];
        Ok(TrainData { train: Arc::new(Broken(synthetic, broken)), validation, notes: Vec::new(), devices: Vec::new() })
    };
    train(out, &options(), &json!({ "seed": 5 }), prepare, team, &Progress::new(Style::Quiet))
}

#[test]
fn weights_of_several_processes_have_the_bits_of_one_also_after_an_error_and_with_other_numbers() {
    let place = tempfile::tempdir().unwrap();
    let (alone, shared) = (place.path().join("alone"), place.path().join("shared"));
    run(&alone, None, &Team::alone()).unwrap();

    // Step 1 has the samples 3, 4 and 5; the one in the middle is rank 1's.
    let mut ended = together(2, |team| run(&shared, Some(4), team)).into_iter().map(Result::unwrap_err);
    let first = ended.next().unwrap();
    assert_eq!(first.to_string(), "training sample 4: scan7/map.pfm: 3 bytes; expected more (rank 1 of 2, on thread1)");
    assert_eq!(first.exit_code(), 3);
    assert!(matches!(ended.next().unwrap(), Error::ToldByRank0 { exit_code: 3 }));
    let state = engine::train::state::State::read(&shared.join("state.safetensors")).unwrap();
    assert_eq!(state.step, 1, "what was done is kept");

    together(3, |team| run(&shared, None, team)).into_iter().for_each(Result::unwrap);
    for name in ["weights.safetensors", "best.safetensors", "state.safetensors", "synth.json", "panels/synth_0.png"] {
        assert!(std::fs::read(alone.join(name)).unwrap() == std::fs::read(shared.join(name)).unwrap(), "{name}");
    }
    let log = |folder: &Path| {
        let mut lines = engine::train::journal::read(folder).unwrap();
        lines.retain(|line| line["event"] != "note");
        lines
    };
    assert_eq!(log(&alone), log(&shared));
    let notes = std::fs::read_to_string(shared.join("log.jsonl")).unwrap();
    assert!(notes.contains("3 processes (threads): the processor ("), "{notes}");
    assert!(notes.contains(" on thread0; the processor (") && notes.contains("each holds "), "{notes}");

    // Nobody is left waiting where there is nothing to do.
    together(2, |team| run(&shared, None, team)).into_iter().for_each(Result::unwrap);
    let refused = together(4, |team| run(&place.path().join("other"), None, team)).swap_remove(0).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "--batch: 3 for 4 processes, which share the samples of a step; expected --batch 4 or more, or 3 processes at \
         most"
    );
    assert!(!place.path().join("other").exists());
}

#[test]
fn the_first_error_that_is_no_stop_ends_all_and_is_told_once() {
    let not_finite = || Error::NotFinite("step 2 on synth 3: the loss".into());
    let ended = together(4, |team| {
        let own = match team.collective().rank() {
            1 => Err(Error::Interrupted),
            2 => Err(not_finite()),
            3 => Err(Error::Memory("none is left".into())),
            _ => Ok(()),
        };
        // Rank 0 is a step ahead: it waits for what the others have to say at the next place.
        if team.is_first() { team.agree(own) } else { own }
    });
    let texts: Vec<String> = ended.iter().map(|e| e.as_ref().unwrap_err().to_string()).collect();
    assert_eq!(texts[0], "not finite: step 2 on synth 3: the loss (rank 2 of 4, on thread2)");
    assert!(ended[1..].iter().all(|e| matches!(e, Err(Error::ToldByRank0 { exit_code: 7 }))));
    // A stop of one is a stop of all.
    let stopped = together(2, |team| if team.is_first() { Ok(()) } else { Err(Error::Interrupted) });
    assert!(matches!(stopped[0], Err(Error::Interrupted)));
    assert!(matches!(stopped[1], Err(Error::ToldByRank0 { exit_code: 130 })));
    // What is the first's own is told as it is.
    let own = together(2, |team| if team.is_first() { Err::<(), _>(not_finite()) } else { Ok(()) }).swap_remove(0);
    assert_eq!(own.unwrap_err().to_string(), not_finite().to_string());
}

#[test]
fn ranks_with_other_options_are_refused() {
    let with = |rate: f64, team: &Team| team.expect_same(&json!({ "seed": 7, "rate": rate }));
    assert!(together(3, |team| with(0.1, team)).iter().all(Result::is_ok));
    let ended = together(3, |team| with(if team.collective().rank() == 2 { 0.5 } else { 0.1 }, team));
    assert_eq!(
        ended[0].as_ref().unwrap_err().to_string(),
        "rate: 0.5; expected 0.1, as rank 0 has it: start all ranks with one program, one set of options and the same \
         data (rank 2 of 3, on thread2)"
    );
}

#[test]
fn every_sample_is_one_ranks_in_the_order_of_the_samples() {
    for (batch, ranks) in [(1, 1), (3, 2), (8, 3), (5, 5)] {
        let shares = (0..ranks).map(|rank| Share { batch, rank, ranks });
        let mut all: Vec<u64> = Vec::new();
        for share in shares {
            let indices: Vec<u64> = (0..3 * share.of(batch)).map(|position| share.index(position)).collect();
            assert!(indices.is_sorted() && indices.iter().all(|i| i % batch % ranks == share.rank), "{indices:?}");
            all.extend(indices);
        }
        all.sort_unstable();
        assert_eq!(all, (0..3 * batch).collect::<Vec<_>>(), "{batch} samples on {ranks} ranks");
    }
}
