//! Which sample comes when: permutations, mixes, and samples made ahead of time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine::files::map::Map;
use engine::scene::camera::DepthRange;
use engine::train::mix::{Mix, Permutation};
use engine::train::prefetch::{Prefetch, PrefetchOptions};
use engine::train::sample::{Dataset, TrainingSample};
use engine::{Error, Result};

use super::{ENDLESS, assert_same, error_of};

/// Tells what it was asked for, after some time; says or does what it is told to at certain indices.
#[derive(Default)]
struct Told {
    len: Option<u64>,
    broken: BTreeSet<u64>,
    panics: BTreeSet<u64>,
    begun: AtomicUsize,
}

impl Dataset for Told {
    fn describe(&self) -> String {
        format!("told {:?}", self.len)
    }

    fn len(&self) -> Option<u64> {
        self.len
    }

    fn sample(&self, index: u64, views: usize) -> Result<TrainingSample> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        // Threads finish in another order than they began.
        std::thread::sleep(Duration::from_micros(index * 7919 % 13 * 300));
        if self.broken.contains(&index) {
            return Err(Error::input("scan7/map.pfm", "3 bytes", "more"));
        }
        assert!(!self.panics.contains(&index), "no sample\nat {index}");
        Ok(TrainingSample {
            name: format!("told {index} with {views}"),
            photos: vec![],
            cameras: vec![],
            depth: Map::filled(1, 1, rayon::current_num_threads() as f32),
            fine: None,
            range: DepthRange { near: 1.0, far: 2.0 },
        })
    }
}

fn told(len: Option<u64>) -> Arc<dyn Dataset> {
    Arc::new(Told { len, ..Told::default() })
}

#[test]
fn permutations_are_permutations() {
    for n in [1, 2, 3, 4, 5, 15, 16, 17, 64, 1000, 27097] {
        let order = Permutation::new(n, &[7, n]);
        let numbers: BTreeSet<u64> = (0..n).map(|i| order.at(i)).collect();
        assert!(numbers.len() as u64 == n && numbers.last() == Some(&(n - 1)), "{n}");
    }
    // Large ones cannot be tried out, but must stay inside and answer.
    for n in [u64::MAX, 1 << 63, (1 << 40) + 1] {
        let order = Permutation::new(n, &[1]);
        assert!((0..100).all(|i| order.at(i) < n && order.at(n - 1 - i) < n));
    }
    // Another order for other words, and no trace of the old order: as many rises as falls.
    let [a, b] = [1, 2].map(|word| Permutation::new(1000, &[word]));
    let row: Vec<u64> = (0..1000).map(|i| a.at(i)).collect();
    let fixed = (0..1000).filter(|&i| a.at(i) == b.at(i)).count();
    let rises = row.windows(2).filter(|w| w[0] < w[1]).count();
    // One fixed place is expected, with deviation 1; 499.5 rises with deviation 9.
    assert!(fixed < 8 && (450..550).contains(&rises), "{fixed} {rises}");
    // All orders of three numbers come about equally often: 1000 each, deviation 29.
    let mut counts = std::collections::BTreeMap::new();
    for word in 0..6000 {
        let order = Permutation::new(3, &[word]);
        *counts.entry([0, 1, 2].map(|i| order.at(i))).or_insert(0) += 1;
    }
    assert!(counts.len() == 6 && counts.values().all(|c| (850..1150).contains(c)), "{counts:?}");
}

#[test]
fn mixes_have_their_proportions_and_miss_nothing() {
    let parts = vec![(told(None), 5.0), (told(Some(10)), 3.0), (told(Some(7)), 2.0)];
    let mix = Mix::new(parts.clone(), 3).unwrap();
    assert_eq!(mix.len(), None);
    assert_eq!(mix.describe(), "50.000 % told None + 30.000 % told Some(10) + 20.000 % told Some(7)");
    let mut seen: [Vec<u64>; 3] = Default::default();
    let blocks = 100;
    for block in 0..blocks {
        for index in block * 64..(block + 1) * 64 {
            let (part, within) = mix.place(index);
            seen[part].push(within);
        }
        for (row, share) in seen.iter().zip([0.5, 0.3, 0.2]) {
            // To the nearest one; the third gets what two roundings leave.
            let expected = share * (64 * (block + 1)) as f64;
            assert!((row.len() as f64 - expected).abs() < 2.0, "{} {expected}", row.len());
        }
    }
    // Each is asked for the numbers from 0 on once: in order within a block if it is endless, epoch by epoch if not.
    for (row, n) in seen.iter().zip([1, 10, 7]) {
        let whole = row.len() / n * n;
        let mut sorted = row.clone();
        sorted.sort_unstable();
        let mut expected: Vec<u64> = (0..whole as u64).collect();
        // The last epoch is not over.
        sorted.truncate(whole);
        expected.truncate(whole);
        assert_eq!(sorted, expected);
    }
    // Epochs differ.
    let single = Mix::new(vec![(told(Some(50)), 1.0)], 3).unwrap();
    assert_eq!((single.len(), single.describe().as_str()), (Some(50), "told Some(50)"));
    let epoch = |e: u64| -> Vec<u64> {
        let mut places: Vec<(u64, u64)> = (0..640).map(|i| (i, single.place(i).1)).collect();
        places.retain(|&(_, within)| within / 50 == e);
        places.into_iter().map(|(_, within)| within % 50).collect()
    };
    let [first, second] = [0, 1].map(epoch);
    let all: BTreeSet<u64> = first.iter().copied().collect();
    assert!(first.len() == 50 && all.len() == 50 && second.len() == 50 && first != second);
    // The seed decides.
    let other = Mix::new(parts.clone(), 4).unwrap();
    assert!((0..64).any(|i| mix.place(i) != other.place(i)));
    assert!((0..64).all(|i| mix.place(i) == Mix::new(parts.clone(), 3).unwrap().place(i)));
    // Not every second index, nor any other pattern: neighbours are of one part about as often as by chance, 38 %.
    let same = (0..6400).filter(|&i| mix.place(i).0 == mix.place(i + 1).0).count();
    assert!((2200..2660).contains(&same), "{same}");
    assert_eq!(mix.sample(9, 3).unwrap().name, format!("told {} with 3", mix.place(9).1));

    assert_eq!(error_of(Mix::new(vec![], 0)), "training data: no dataset; expected at least one");
    assert_eq!(error_of(Mix::new(vec![(told(Some(0)), 1.0)], 0)), "told Some(0): no samples; expected at least one");
    assert_eq!(error_of(Mix::new(vec![(told(None), 0.0)], 0)), "weight of told None: 0; expected a number above 0");
}

/// The index of a position, where one process takes all samples.
fn as_it_is(position: u64) -> u64 {
    position
}

#[test]
fn samples_made_ahead_come_in_order_whatever_the_threads() {
    for threads in [1, 3] {
        let options = PrefetchOptions { threads, capacity: 5 };
        let views = |index: u64| 2 + (index % 3) as usize;
        let mut prefetch = Prefetch::new(told(None), options, 17, as_it_is, views).unwrap();
        for index in 17..77 {
            let (found, sample, _) = prefetch.next().unwrap();
            assert_eq!((found, sample.name), (index, format!("told {index} with {}", views(index))));
            // The global pool is left to the network.
            assert_eq!(sample.depth.data, [1.0]);
            let (ready, capacity) = prefetch.fill();
            assert!(ready <= capacity && capacity == 5);
        }
    }
    // Real ones, with parallel work inside.
    let dataset: Arc<dyn Dataset> = ENDLESS.clone();
    let options = PrefetchOptions { threads: 3, capacity: 3 };
    let mut prefetch = Prefetch::new(Arc::clone(&dataset), options, 2, as_it_is, |_| 3).unwrap();
    for index in 2..6 {
        assert_same(&prefetch.next().unwrap().1, &dataset.sample(index, 3).unwrap());
    }
}

#[test]
fn no_more_is_made_than_there_is_room_for_and_waiting_is_measured() {
    let dataset = Arc::new(Told::default());
    let options = PrefetchOptions { threads: 2, capacity: 3 };
    let mut prefetch = Prefetch::new(dataset.clone(), options, 0, as_it_is, |_| 2).unwrap();
    let began = Instant::now();
    while prefetch.fill() != (3, 3) {
        assert!(began.elapsed() < Duration::from_secs(60), "never full");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(dataset.begun.load(Ordering::SeqCst), 3);
    let (_, _, waited) = prefetch.next().unwrap();
    // It was ready: what is left is a lock. A second would be a machine that stands still.
    assert!(waited < Duration::from_secs(1));
    drop(prefetch);
    let begun = dataset.begun.load(Ordering::SeqCst);
    assert!((3..=5).contains(&begun));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(dataset.begun.load(Ordering::SeqCst), begun, "nothing goes on after the end");

    let slow = Arc::new(Told::default());
    let mut prefetch = Prefetch::new(slow, PrefetchOptions { threads: 1, capacity: 1 }, 0, as_it_is, |_| 2).unwrap();
    // Index 3 takes 3 * 7919 % 13 * 300 us = 1.8 ms, and does not begin before index 2 was taken.
    let waits: Vec<Duration> = (0..4).map(|_| prefetch.next().unwrap().2).collect();
    assert!(waits[3] >= Duration::from_micros(1000), "{waits:?}");
}

#[test]
fn errors_and_panics_of_loaders_arrive_with_their_index() {
    for threads in [1, 3] {
        let dataset = Told { broken: [3].into(), panics: [5].into(), ..Told::default() };
        let options = PrefetchOptions { threads, ..PrefetchOptions::default() };
        let mut prefetch = Prefetch::new(Arc::new(dataset), options, 0, as_it_is, |_| 2).unwrap();
        let results: Vec<_> = (0..8).map(|_| prefetch.next()).collect();
        for (index, result) in results.into_iter().enumerate() {
            match index {
                3 => {
                    let error = result.unwrap_err();
                    assert_eq!(error.to_string(), "training sample 3: scan7/map.pfm: 3 bytes; expected more");
                    assert_eq!(error.exit_code(), 3);
                }
                5 => {
                    let error = result.unwrap_err();
                    assert_eq!(
                        error.to_string(),
                        "training sample 5: loading a training sample: no sample at 5; this is a mistake in the \
                         engine, please report it with the command that you ran"
                    );
                    assert_eq!(error.exit_code(), 1);
                }
                _ => assert_eq!(result.unwrap().0, index as u64),
            }
        }
    }
    let none = Prefetch::new(told(None), PrefetchOptions { threads: 0, capacity: 4 }, 0, as_it_is, |_| 2);
    assert_eq!(error_of(none), "loader threads: 0; expected at least 1");
    let none = Prefetch::new(told(None), PrefetchOptions { threads: 1, capacity: 0 }, 0, as_it_is, |_| 2);
    assert_eq!(error_of(none), "samples made ahead: 0; expected at least 1");
}
