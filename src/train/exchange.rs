//! The sum of a step's gradients over all samples and processes, in the order of the samples.
//!
//! A step's samples are dealt out one by one: sample i is that of rank i modulo the number of ranks. They are gone
//! through in rounds of some samples a rank. After each, every rank gets from all others their samples' values of *its*
//! slice of the gradients, and adds them up in the samples' order; after the last, rank 0 gets the slices. So the sum
//! of every value is made by one process, in the order in which one process alone makes it, and has the same bits with
//! any number of ranks. What is sent grows with a rank's samples, not with the number of ranks, and what is held is
//! that of one round ([`Exchange::bytes`]).
//!
//! Rank 0 moves the weights and gives them to all, so that no rank can drift away.

use super::optimizer::NamedGradients;
use super::step::{NarrowReport, SampleGradients};
use super::team::Team;
use crate::cpu::ops::norm::BatchStatistics;
use crate::error::{Error, Result};
use crate::net::parameters::Parameters;

/// A process's part of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Samples of a step.
    pub batch: u64,
    /// The process.
    pub rank: u64,
    /// Processes, at most as many as samples.
    pub ranks: u64,
}

impl Share {
    /// Of `count` samples, how many are this rank's.
    pub fn of(&self, count: u64) -> u64 {
        count.saturating_sub(self.rank).div_ceil(self.ranks)
    }

    /// The index, among all samples of all steps, of the one at `position` of this rank's.
    pub fn index(&self, position: u64) -> u64 {
        let each = self.of(self.batch).max(1);
        (position / each).wrapping_mul(self.batch).wrapping_add(self.rank + position % each * self.ranks)
    }
}

/// What a step's samples teach together.
pub struct Sum {
    /// The sum of the weighted losses.
    pub loss: f64,
    /// The sum of the mean |depth - truth|.
    pub l1: f64,
    /// The sum of the mean cross-entropies.
    pub cross_entropy: f64,
    /// Samples that had a truth.
    pub taught: u64,
    /// The first sample's narrow stages.
    pub narrow: Vec<NarrowReport>,
    /// The sum of the gradients.
    pub gradients: NamedGradients,
    /// What the norms found, of each sample.
    pub statistics: Vec<Vec<(String, BatchStatistics)>>,
}

/// Narrow stages that a network has at most.
const NARROW: usize = 2;
/// Values of a sample's record before those of the norms.
const HEAD: usize = 5 + 2 * NARROW;

/// The sums of one step after the other.
pub struct Exchange {
    share: Share,
    /// Samples of a rank in a round.
    each: usize,
    /// Values of a rank's slice of the gradients, the last filled up.
    slice: usize,
    /// The sum of this rank's slice so far.
    sums: Vec<f32>,
    sent: Vec<f32>,
    found: Vec<f32>,
    /// Names and lengths of the gradients, and names and channels of the norms, as this rank's samples have them.
    gradients: Vec<(String, usize)>,
    norms: Vec<(String, usize)>,
    /// The step so far: of all samples in the one process that there is, else without gradients and in rank 0 only.
    sum: Option<Sum>,
    /// Samples of the step so far.
    done: u64,
}

impl Exchange {
    /// For steps of `batch` samples; `at_once` are those that this process's devices work at together. The same number
    /// is taken everywhere, the largest of all. To be called by all, right after they have agreed.
    ///
    /// # Errors
    /// The library's.
    pub fn new(team: &Team, batch: u64, at_once: usize, parameters: &Parameters) -> Result<Self> {
        let collective = team.collective();
        let ranks = collective.ranks();
        let share = Share { batch, rank: collective.rank() as u64, ranks: ranks as u64 };
        let most = share.of(batch).max(1).max(batch.div_ceil(share.ranks));
        let each = team.numbers(at_once as u64)?.into_iter().max().unwrap_or(1).clamp(1, most) as usize;
        let slice = if ranks == 1 { 0 } else { parameters.trainable().div_ceil(ranks) };
        let room = ranks * each * slice;
        Ok(Self {
            share,
            each,
            slice,
            sums: vec![0.0; slice],
            sent: vec![0.0; room],
            found: vec![0.0; room],
            gradients: Vec::new(),
            norms: Vec::new(),
            sum: None,
            done: 0,
        })
    }

    /// The part of the samples that is this process's.
    pub fn share(&self) -> Share {
        self.share
    }

    /// Samples of a round, all ranks' together.
    pub fn round(&self) -> u64 {
        self.each as u64 * self.share.ranks
    }

    /// What the exchange of `each` samples a rank holds in a process at most: a round's gradients as they are sent and
    /// as they come, one sample's in a row, rank 0's sum in a row, and this rank's slice of it.
    pub fn bytes_of(ranks: usize, each: usize, values: usize) -> u64 {
        if ranks == 1 {
            return 0;
        }
        let slice = values.div_ceil(ranks);
        4 * (slice * (2 * each * ranks + 2 * ranks + 1)) as u64
    }

    /// The same of this one.
    pub fn bytes(&self) -> u64 {
        let ranks = self.share.ranks as usize;
        Self::bytes_of(ranks, self.each, self.slice * ranks)
    }

    /// Adds a round of `count` samples: this rank's are `own`, in their order, or why there are none. All ranks go on,
    /// or none.
    ///
    /// # Errors
    /// The first one of all ranks.
    pub fn add(&mut self, team: &Team, own: Result<Vec<SampleGradients>>, count: u64) -> Result<()> {
        let own = own.and_then(|own| if team.is_alone() { Ok(own) } else { self.laid_out(own, count) });
        if team.is_alone() {
            own?.into_iter().for_each(|found| self.add_own(found));
            self.done += count;
            return Ok(());
        }
        let (own, failed) = match own {
            Ok(own) => (own, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        team.agree(failed)?;
        team.collective().exchange(bytemuck::cast_slice(&self.sent), bytemuck::cast_slice_mut(&mut self.found))?;
        self.add_slices(count);
        let length = self.record_length();
        let mut records = vec![0.0; self.each * length];
        for (record, found) in records.chunks_exact_mut(length).zip(&own) {
            self.write_record(record, found);
        }
        let ranks = if team.is_first() { self.share.ranks as usize } else { 0 };
        let mut all = vec![0.0f64; ranks * records.len()];
        team.collective().gather(bytemuck::cast_slice(&records), bytemuck::cast_slice_mut(&mut all))?;
        if team.is_first() {
            for i in 0..count as usize {
                let (rank, row) = (i % ranks, i / ranks);
                self.read_record(&all[(rank * self.each + row) * length..][..length]);
            }
        }
        self.done += count;
        Ok(())
    }

    /// The sum of the step, in rank 0; `None` elsewhere. To be called right after the last [`Self::add`].
    ///
    /// # Errors
    /// The library's.
    pub fn finish(&mut self, team: &Team) -> Result<Option<Sum>> {
        self.done = 0;
        let mut sum = self.sum.take();
        if team.is_alone() {
            return Ok(sum);
        }
        let ranks = if team.is_first() { self.share.ranks as usize } else { 0 };
        let mut all = vec![0.0f32; ranks * self.slice];
        team.collective().gather(bytemuck::cast_slice(&self.sums), bytemuck::cast_slice_mut(&mut all))?;
        if let Some(sum) = &mut sum {
            let mut rest = &all[..];
            for (name, length) in &self.gradients {
                let (own, more) = rest.split_at(*length);
                sum.gradients.insert(name.clone(), own.to_vec());
                rest = more;
            }
        }
        Ok(sum)
    }

    /// One process's own sum.
    fn add_own(&mut self, mut found: SampleGradients) {
        let statistics = std::mem::take(&mut found.statistics);
        let sum = begun(&mut self.sum, &found, statistics);
        if sum.gradients.is_empty() {
            sum.gradients = found.gradients;
            return;
        }
        for (name, sum) in &mut sum.gradients {
            if let Some(more) = found.gradients.remove(name) {
                sum.iter_mut().zip(more).for_each(|(s, m)| *s += m);
            }
        }
    }

    /// Puts the gradients where they are sent from: by rank, then by sample, that rank's slice.
    fn laid_out(&mut self, mut own: Vec<SampleGradients>, count: u64) -> Result<Vec<SampleGradients>> {
        let bug = |problem: String| Error::Bug { place: "exchange of gradients", problem };
        if own.len() as u64 != self.share.of(count) || own.len() > self.each {
            return Err(bug(format!("{} samples of {count} in rank {}", own.len(), self.share.rank)));
        }
        let whole = self.slice * self.share.ranks as usize;
        for (row, found) in own.iter_mut().enumerate() {
            let gradients = std::mem::take(&mut found.gradients);
            let shape: Vec<_> = gradients.iter().map(|(name, values)| (name.clone(), values.len())).collect();
            let norms: Vec<_> = found.statistics.iter().map(|(name, s)| (name.clone(), s.mean.len())).collect();
            if self.gradients.is_empty() {
                (self.gradients, self.norms) = (shape, norms);
            } else if self.gradients != shape || self.norms != norms {
                return Err(bug("samples with gradients of different tensors".into()));
            }
            let mut flat = Vec::with_capacity(whole);
            gradients.into_values().for_each(|values| flat.extend_from_slice(&values));
            if flat.len() > whole {
                return Err(bug(format!("{} values instead of {whole}", flat.len())));
            }
            flat.resize(whole, 0.0);
            for (rank, slice) in flat.chunks_exact(self.slice).enumerate() {
                self.sent[(rank * self.each + row) * self.slice..][..self.slice].copy_from_slice(slice);
            }
        }
        Ok(own)
    }

    /// Adds a round to this rank's slice, in the order of its samples.
    fn add_slices(&mut self, count: u64) {
        let ranks = self.share.ranks as usize;
        for i in 0..count as usize {
            let (rank, row) = (i % ranks, i / ranks);
            let more = &self.found[(rank * self.each + row) * self.slice..][..self.slice];
            if self.done == 0 && i == 0 {
                // Not added to zero: that would turn -0 into 0.
                self.sums.copy_from_slice(more);
            } else {
                self.sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
        }
    }

    /// Values of a sample's record: every rank has had a sample in the first round, and knows the norms.
    fn record_length(&self) -> usize {
        HEAD + self.norms.iter().map(|(_, channels)| 1 + 2 * channels).sum::<usize>()
    }

    /// All that a sample has found but its gradients.
    fn write_record(&self, record: &mut [f64], found: &SampleGradients) {
        let head = [found.loss, found.l1, found.cross_entropy, found.valid as f64, found.narrow.len() as f64];
        let narrow = (0..NARROW).flat_map(|i| found.narrow.get(i).map_or([0.0; 2], |n| [n.l1, n.reach]));
        let norm = |(_, s): &(String, BatchStatistics)| {
            let values = s.mean.iter().chain(&s.variance).copied();
            std::iter::once(s.positions as f64).chain(values).collect::<Vec<f64>>()
        };
        let all = head.into_iter().chain(narrow).chain(found.statistics.iter().flat_map(norm));
        record.iter_mut().zip(all).for_each(|(to, value)| *to = value);
    }

    /// Adds a sample by its record.
    fn read_record(&mut self, record: &[f64]) {
        let (head, mut rest) = record.split_at(HEAD);
        let mut statistics = Vec::with_capacity(self.norms.len());
        for (name, channels) in &self.norms {
            let (own, more) = rest.split_at(1 + 2 * channels);
            let (mean, variance) = own[1..].split_at(*channels);
            let (mean, variance) = (mean.to_vec(), variance.to_vec());
            statistics.push((name.clone(), BatchStatistics { mean, variance, positions: own[0] as usize }));
            rest = more;
        }
        let narrow = head[5..].as_chunks::<2>().0.iter().take(head[4] as usize);
        let found = SampleGradients {
            loss: head[0],
            l1: head[1],
            cross_entropy: head[2],
            valid: head[3] as usize,
            narrow: narrow.map(|&[l1, reach]| NarrowReport { l1, reach }).collect(),
            gradients: NamedGradients::new(),
            statistics: Vec::new(),
            times: Default::default(),
        };
        begun(&mut self.sum, &found, statistics);
    }
}

/// A sum with one more sample, but for its gradients.
fn begun<'a>(
    sum: &'a mut Option<Sum>,
    found: &SampleGradients,
    statistics: Vec<(String, BatchStatistics)>,
) -> &'a mut Sum {
    let SampleGradients { loss, l1, cross_entropy, .. } = *found;
    let taught = u64::from(found.valid > 0);
    if let Some(sum) = sum {
        sum.loss += loss;
        sum.l1 += l1;
        sum.cross_entropy += cross_entropy;
        sum.taught += taught;
        sum.statistics.push(statistics);
        return sum;
    }
    let (narrow, gradients, statistics) = (found.narrow.clone(), NamedGradients::new(), vec![statistics]);
    sum.insert(Sum { loss, l1, cross_entropy, taught, narrow, gradients, statistics })
}

/// The values of rank 0 to all. To be called right after they have agreed.
///
/// # Errors
/// The library's.
pub fn broadcast(team: &Team, parameters: &mut Parameters) -> Result<()> {
    if team.is_alone() {
        return Ok(());
    }
    let mut flat: Vec<f32> = parameters.list.iter().flat_map(|p| p.values.data.iter().copied()).collect();
    team.collective().broadcast(bytemuck::cast_slice_mut(&mut flat))?;
    let mut rest = &flat[..];
    for parameter in &mut parameters.list {
        let values = &mut parameter.values.data;
        let (own, more) = rest.split_at(values.len());
        values.copy_from_slice(own);
        rest = more;
    }
    Ok(())
}
