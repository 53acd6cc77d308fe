//! The order in which views are worked on, and which photos' features are kept in between.
//!
//! A view needs the features of its own photo and of its sources' photos, neighbours share most of them, and
//! making them means decoding a photo and running a third of the network. All needs are known before the run, so
//! the cache is planned: when room is needed, the features whose next use lies farthest ahead go (Belady's rule,
//! which no rule that only knows the past, such as least recently used, can beat). Knowing the loads in advance
//! also lets a second thread decode the next photo.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One view to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<P> {
    /// The reference view.
    pub view: usize,
    /// Every photo whose features the job needs, its own first; `P` tells apart what has features of its own.
    pub photos: Vec<P>,
}

/// One job of a schedule with what happens to the cache before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<P> {
    /// What is worked on.
    pub job: Job<P>,
    /// Photos whose features are dropped first.
    pub drop: Vec<P>,
    /// Photos to load then, in this order.
    pub load: Vec<P>,
}

/// Bytes that the most demanding job needs for features: no cache can be smaller.
pub fn least_cache<P: Copy + Ord>(jobs: &[Job<P>], bytes: &dyn Fn(P) -> u64) -> u64 {
    let of_job = |job: &Job<P>| job.photos.iter().copied().collect::<BTreeSet<_>>().into_iter().map(bytes).sum();
    jobs.iter().map(of_job).max().unwrap_or(0)
}

/// Orders the jobs so that neighbours follow each other and plans a cache of at most `capacity` bytes, or of
/// [`least_cache`] where that is more. `bytes` is the size of a photo's features.
pub fn plan<P: Copy + Ord>(jobs: Vec<Job<P>>, bytes: &dyn Fn(P) -> u64, capacity: u64) -> Vec<Step<P>> {
    let capacity = capacity.max(least_cache(&jobs, bytes));
    let jobs = in_order_of_shared_photos(jobs);
    let mut uses: BTreeMap<P, VecDeque<usize>> = BTreeMap::new();
    for (at, job) in jobs.iter().enumerate() {
        for photo in job.photos.iter().copied().collect::<BTreeSet<_>>() {
            uses.entry(photo).or_default().push_back(at);
        }
    }
    let mut held: BTreeSet<P> = BTreeSet::new();
    let mut steps = Vec::with_capacity(jobs.len());
    for (at, job) in jobs.into_iter().enumerate() {
        let mut seen = BTreeSet::new();
        let needed: Vec<P> = job.photos.iter().copied().filter(|&photo| seen.insert(photo)).collect();
        let load: Vec<P> = needed.iter().copied().filter(|photo| !held.contains(photo)).collect();
        // The next use of everything that is held and not needed now; what has none goes in any case. Uses that are
        // over are forgotten, so that each is looked at once.
        let mut next = |photo: P| {
            let of_photo = uses.get_mut(&photo)?;
            while of_photo.front().is_some_and(|&use_at| use_at <= at) {
                of_photo.pop_front();
            }
            of_photo.front().copied()
        };
        let mut idle: Vec<(usize, P)> = Vec::new();
        let mut drop = Vec::new();
        for &photo in held.iter().filter(|photo| !needed.contains(photo)) {
            match next(photo) {
                Some(next) => idle.push((next, photo)),
                None => drop.push(photo),
            }
        }
        idle.sort_unstable();
        let mut total: u64 =
            needed.iter().map(|&p| bytes(p)).sum::<u64>() + idle.iter().map(|&(_, p)| bytes(p)).sum::<u64>();
        while total > capacity {
            let Some((_, photo)) = idle.pop() else { break };
            total -= bytes(photo);
            drop.push(photo);
        }
        for photo in &drop {
            held.remove(photo);
        }
        held.extend(&load);
        steps.push(Step { job, drop, load });
    }
    steps
}

/// The jobs in as many shares as there are devices, which cost about the same; those of a share follow each other, so
/// that few photos are needed on two devices.
pub fn shares<P: Copy + Ord>(jobs: Vec<Job<P>>, devices: usize, cost: &dyn Fn(&Job<P>) -> u64) -> Vec<Vec<Job<P>>> {
    let jobs = if devices > 1 { in_order_of_shared_photos(jobs) } else { jobs };
    let total: u64 = jobs.iter().map(cost).sum();
    let mut shares: Vec<Vec<Job<P>>> = (0..devices).map(|_| Vec::new()).collect();
    let mut before = 0;
    for job in jobs {
        // A job goes where its middle lies.
        let own = cost(&job);
        let middle = u128::from(2 * before + own) * devices as u128;
        let share = (middle / u128::from(2 * total.max(1))) as usize;
        before += own;
        shares[share.min(devices - 1)].push(job);
    }
    shares
}

/// From the first job on, always the job next that shares most photos with the one before; the given order decides
/// between equals. Takes time with the number of jobs that share a photo, not with that of all jobs.
pub fn in_order_of_shared_photos<P: Copy + Ord>(jobs: Vec<Job<P>>) -> Vec<Job<P>> {
    let mut users: BTreeMap<P, Vec<usize>> = BTreeMap::new();
    for (at, job) in jobs.iter().enumerate() {
        for &photo in &job.photos {
            users.entry(photo).or_default().push(at);
        }
    }
    let mut jobs: Vec<Option<Job<P>>> = jobs.into_iter().map(Some).collect();
    let mut ordered: Vec<Job<P>> = Vec::with_capacity(jobs.len());
    let mut first_left = 0;
    while let Some(ahead) = jobs[first_left..].iter().position(Option::is_some) {
        first_left += ahead;
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        let before: BTreeSet<P> = ordered.last().into_iter().flat_map(|last| last.photos.iter().copied()).collect();
        for photo in before {
            let of_photo = users.entry(photo).or_default();
            of_photo.retain(|&at| jobs[at].is_some());
            of_photo.iter().for_each(|&at| *shared.entry(at).or_default() += 1);
        }
        // Of equals the last is taken: turned round, the one that was given first.
        let best = shared.into_iter().rev().max_by_key(|&(_, count)| count).map_or(first_left, |(at, _)| at);
        ordered.extend(jobs[best].take());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` views on a line, each with its two nearest neighbours on either side.
    fn line(count: usize) -> Vec<Job<usize>> {
        let near = |v: usize| [v.checked_sub(1), Some(v + 1), v.checked_sub(2), Some(v + 2)];
        let sources = |v| near(v).into_iter().flatten().filter(|&s| s < count);
        (0..count).map(|view| Job { view, photos: std::iter::once(view).chain(sources(view)).collect() }).collect()
    }

    /// Plays a schedule and checks that every job finds its photos and that the cache never overflows.
    fn play(steps: &[Step<usize>], bytes: &dyn Fn(usize) -> u64, capacity: u64) -> usize {
        let mut held = BTreeSet::new();
        let mut loads = 0;
        for step in steps {
            for photo in &step.drop {
                assert!(held.remove(photo), "{photo} was dropped but not held");
            }
            for photo in &step.load {
                assert!(held.insert(*photo), "{photo} was loaded twice");
                loads += 1;
            }
            assert!(step.job.photos.iter().all(|p| held.contains(p)));
            assert!(held.iter().map(|&p| bytes(p)).sum::<u64>() <= capacity);
        }
        loads
    }

    #[test]
    fn neighbours_on_a_line_are_loaded_once_with_room_for_five() {
        let one = |_| 1;
        assert_eq!(least_cache(&line(20), &one), 5);
        let steps = plan(line(20), &one, 0);
        assert_eq!(steps.len(), 20);
        assert_eq!(play(&steps, &one, 5), 20);
    }

    #[test]
    fn shuffled_views_are_brought_back_into_a_walk() {
        let mut jobs = line(24);
        // 7 is coprime to 24: every job once, far from its neighbours.
        jobs = (0..24).map(|i| jobs[i * 7 % 24].clone()).collect();
        let one = |_| 1;
        let in_given_order = 24 * 5 - 6;
        let loads = play(&plan(jobs, &one, 8), &one, 8);
        assert!(loads <= 30, "{loads} loads; without order or cache {in_given_order}");
    }

    #[test]
    fn photos_of_different_sizes_stay_within_the_bytes() {
        let sized = |p: usize| 10 + (p as u64 * 7919) % 23;
        let least = least_cache(&line(30), &sized);
        for capacity in [0, least, least + 17, least + 100] {
            play(&plan(line(30), &sized, capacity), &sized, capacity.max(least));
        }
        assert!(plan(Vec::new(), &sized, 10).is_empty());
        assert_eq!(least_cache::<usize>(&[], &sized), 0);
    }

    #[test]
    fn the_order_is_that_of_looking_through_all_jobs() {
        let plain = |mut jobs: Vec<Job<usize>>| {
            let mut ordered: Vec<Job<usize>> = Vec::new();
            while !jobs.is_empty() {
                let before: BTreeSet<usize> = ordered.last().into_iter().flat_map(|l| l.photos.clone()).collect();
                let shared = |job: &Job<usize>| job.photos.iter().filter(|p| before.contains(p)).count();
                let most = jobs.iter().map(shared).max().unwrap();
                let first = jobs.iter().position(|job| shared(job) == most).unwrap();
                ordered.push(jobs.remove(first));
            }
            ordered
        };
        for (count, step, sources) in [(1, 1, 3), (40, 7, 4), (61, 13, 6), (90, 1, 2)] {
            // Sources all over the place, one photo among them that everybody uses, and islands.
            let source = |view: usize, i: usize| (view / 30 * 30 + (view * 11 + i * i * 5) % 30).min(count - 1);
            let photos =
                |view: usize| [view, 3].into_iter().chain((1..=sources).map(move |i| source(view, i))).collect();
            let jobs: Vec<_> =
                (0..count).map(|i| i * step % count).map(|view| Job { view, photos: photos(view) }).collect();
            assert_eq!(in_order_of_shared_photos(jobs.clone()), plain(jobs), "{count} views");
        }
    }

    #[test]
    fn shares_cost_about_the_same_and_have_every_job_once() {
        let cost = |job: &Job<usize>| 1 + job.view as u64 % 3;
        for devices in 1..6 {
            let shares = shares(line(40), devices, &cost);
            assert_eq!(shares.len(), devices);
            let mut all: Vec<usize> = shares.iter().flatten().map(|job| job.view).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..40), "{devices} devices");
            let costs: Vec<u64> = shares.iter().map(|share| share.iter().map(cost).sum()).collect();
            let even = costs.iter().sum::<u64>() / devices as u64;
            assert!(costs.iter().all(|&cost| cost.abs_diff(even) <= 3), "{costs:?}");
        }
        // More devices than jobs: some have none.
        assert_eq!(shares(line(2), 5, &cost).iter().map(Vec::len).sum::<usize>(), 2);
    }

    #[test]
    fn enough_room_means_every_photo_once() {
        let photos = |view| std::iter::once(view).chain((0..6).filter(move |&s| s != view)).collect();
        let jobs = (0..6).map(|view| Job { view, photos: photos(view) }).collect();
        assert_eq!(play(&plan(jobs, &|_| 1, 100), &|_| 1, 100), 6);
    }
}
