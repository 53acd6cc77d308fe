//! How long the Table III view takes an H100 by the machine code of its kernels: instructions of a warp, times warps,
//! over what the multiprocessors' units do in a cycle; and the same from the bytes that each launch moves.
//!
//! How often each loop runs follows from the launches' arguments: [`trips`] says it for each kernel, in the order of
//! the loops in the code. If the compiler changes them, that list has to follow, and the test fails until it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;

use engine::bench::counts::ViewGraph;
use engine::bench::work::Size;
use engine::cuda::branches::{Aside, asides};
use engine::cuda::folded::Slabs;
use engine::cuda::graph::{Arg, Graph, Step, Value, Work};
use engine::cuda::storage::Element;
use engine::net::config::Resolution;
use engine::net::weights::Checkpoint;

use crate::Usage;
use crate::machine_code::{CLASSES, Cost, Kernel, Trips};

/// An H100 SXM under load.
const MULTIPROCESSORS: f64 = 132.0;
const CYCLES_A_MS: f64 = 1.75e6;
const BYTES_A_MS: f64 = 3.35e9;
/// What a well-made kernel reaches of a roof, and the gap between the launches of a replayed graph.
const REACHED: f64 = 0.8;
const GAP_MS: f64 = 0.001;
const REGISTERS: u32 = 65536;
const SHARED_BYTES: u32 = 227 << 10;

/// A launch: its kernel's name, its blocks and threads, its numbers.
struct Launch<'a> {
    kernel: &'a str,
    grid: [u32; 3],
    warps: f64,
    shared: u32,
    /// Plain arguments as 32-bit words, in order.
    words: Vec<i32>,
}

impl<'a> Launch<'a> {
    fn of(step: &'a Step) -> Option<Self> {
        let Work::Kernel { kernel, grid, block, shared } = &step.work else { return None };
        let mut words = Vec::new();
        for arg in &step.args {
            if let Arg::Plain(bytes) = arg {
                words.extend(bytes.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())));
            }
        }
        let warps = f64::from(block.iter().product::<u32>().div_ceil(32));
        Some(Self { kernel, grid: *grid, warps, shared: *shared, words })
    }

    fn blocks(&self) -> f64 {
        self.grid.iter().map(|&g| f64::from(g)).product()
    }
}

/// The mean over runs of `length` out of `all` of what `of` says of each.
fn mean_of_runs(all: i32, length: i32, of: impl Fn(i32, i32) -> i32) -> f64 {
    let runs = (0..all).step_by(length as usize).map(|begin| of(begin, (begin + length).min(all)));
    let values: Vec<f64> = runs.map(f64::from).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// How often a warp of a block of `warps` goes through a loop over `items` threads, in the mean.
fn rounds(items: i32, warps: f64) -> f64 {
    f64::from((items + 31) / 32) / warps
}

/// How often each loop runs; `None` for kernels that are not counted here.
fn trips(launch: &Launch, loops: usize) -> Option<Vec<Trips>> {
    let all = |times: &[f64]| Some(times.iter().map(|&times| Trips { times, long: 1.0 }).collect::<Vec<_>>());
    let w = &launch.words;
    let name = launch.kernel;
    if loops == 0 {
        return all(&[]);
    }
    if name == "sweep_forward_voxel_f16" {
        let (count, planes, run) = (w[0], w[1], w[6]);
        let pairs = mean_of_runs(planes, run, |begin, end| (end - begin + 1) / 2);
        let groups = f64::from((count + 1) / 2);
        let (rows, next) = (rounds(16 * count, launch.warps), rounds(count, launch.warps));
        let mut all = all(&[rows, next, pairs, groups, f64::from(count) / groups])?;
        // Squares are left out where differences are signed.
        all[4].long = f64::from(w[7]);
        return Some(all);
    }
    if name == "head_forward_logits_f16" {
        let (planes, run) = (w[0], w[4]);
        let walked = mean_of_runs(planes, run, |begin, end| end - begin + 2);
        return all(&[walked, rounds(18 * 19, 4.0), rounds(18 * 34, 4.0)]);
    }
    if name == "head_forward_regress_f32" {
        return all(&[f64::from(w[1]) / 8.0, 0.0, 1.0]);
    }
    if name.starts_with("depthwise_forward") {
        return all(&[f64::from(27 * w[3]) / (32.0 * launch.warps), 1.0, 9.0]);
    }
    if name.starts_with("conv_forward_111") {
        return all(&[f64::from(w[3] / 32)]);
    }
    if let Some(rest) = name.strip_prefix("conv_forward_") {
        return tile_trips(launch, rest);
    }
    None
}

/// Of `Tile` in kernels/conv.cu; `name` as `333s2_c16n32_f16`.
fn tile_trips(launch: &Launch, name: &str) -> Option<Vec<Trips>> {
    let digit = |i: usize| name.as_bytes().get(i).filter(|b| b.is_ascii_digit()).map(|b| i32::from(b - b'0'));
    let (kd, kh, stride) = (digit(0)?, digit(1)?, digit(4)?);
    let depth_stride = if name.as_bytes()[3] == b's' && kd > 1 { stride } else { 1 };
    let (chunk, group) = name.split_once("_c")?.1.strip_suffix("_f16")?.split_once('n')?;
    let (chunk, group): (i32, i32) = (chunk.parse().ok()?, group.parse().ok()?);
    let [depth, channels, planes, first] = [0, 3, 8, 9].map(|i| launch.words[i]);
    let end = launch.words[4];
    let sets = if depth_stride == 1 { kd } else { 2 };
    let rows = if stride == 2 || sets * group > 64 { 8 } else { 16 };
    // Rows of a halo that a warp copies, and pixels of it.
    let halo = (rows - 1) * stride + kh;
    let (copied, pixels) = (f64::from(halo) / launch.warps, halo * (15 * stride + kh));
    let chunks = f64::from((channels + chunk - 1) / chunk);
    let walked = mean_of_runs(end - first, planes, |a, b| {
        let (a, b) = (a + first, b + first);
        let last = (b - 1) * depth_stride + kd / 2;
        last.min(depth - 1) - (a * depth_stride - kd / 2).max(0) + 1
    });
    let plain = |times: f64| Trips { times, long: 1.0 };
    // Every second plane ends an output.
    let walked = Trips { times: walked, long: 1.0 / f64::from(depth_stride) };
    if chunk == 8 {
        let filling = channels % 8 != 0;
        let batches = if filling { rounds((pixels + 2) / 3, launch.warps) } else { 0.0 };
        let pieces = if filling { 0.0 } else { copied };
        return Some([plain(batches), plain(pieces), walked, plain(chunks), plain(batches), plain(pieces)].to_vec());
    }
    let pieces = plain(copied);
    let mut all = vec![pieces, walked, plain(chunks), pieces];
    // Odd planes have two taps along depth, even ones one: a loop each.
    let kinds = if depth_stride == 2 { 2 } else { 1 };
    for _ in 0..kinds {
        all.push(plain(f64::from(kh) / f64::from(kinds)));
        let m = if rows == 8 { 2 } else { 4 };
        if sets * m * group >= 128 {
            all.push(plain(f64::from(kh)));
        }
    }
    Some(all)
}

/// What the launches of a kernel come to.
#[derive(Default)]
struct Row {
    launches: usize,
    blocks: f64,
    warps: f64,
    cost: Cost,
    counted: bool,
    resident: u32,
    busy_ms: f64,
    unit: &'static str,
    bytes_ms: f64,
    ms: f64,
}

/// The unit that a cost keeps busiest, and cycles of a multiprocessor for it.
fn busiest(cost: &Cost) -> (&'static str, f64) {
    let units = [
        ("issue", cost.issued() / 4.0),
        ("multiply-add", cost.multiply / 4.0),
        ("logic", cost.logic / 4.0),
        ("special", cost.special / 4.0),
        ("tensor", cost.tensor / 4.0),
        ("L1 and lanes", cost.memory),
    ];
    units.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

/// Warps that a multiprocessor holds for each of its four schedulers.
fn resident(registers: u32, shared: u32, warps: u32) -> u32 {
    let by_registers = REGISTERS / (registers.next_multiple_of(8) * 32 * warps).max(1);
    let by_shared = SHARED_BYTES / (shared + 1024);
    let blocks = by_registers.min(by_shared).min(64 / warps).min(32);
    blocks * warps / 4
}

fn bytes_of(graph: &Graph, step: &Step, writers: &BTreeMap<Value, u64>) -> u64 {
    let written: BTreeSet<Value> = writes(&step.args);
    let read: BTreeSet<Value> =
        step.args.iter().filter(|a| !matches!(a, Arg::Write(..))).filter_map(Arg::value).collect();
    read.iter().map(|v| graph.info(*v).bytes()).sum::<u64>()
        + written.iter().map(|v| graph.info(*v).bytes() / writers[v]).sum::<u64>()
}

fn writes(args: &[Arg]) -> BTreeSet<Value> {
    args.iter().filter_map(|a| matches!(a, Arg::Write(..)).then(|| a.value()).flatten()).collect()
}

/// What two paths take less at the same time than one after the other: together as long as the longer one, but no less
/// than all multiprocessors take for the work of both, and the two launches' time until the other stream is seen.
fn saved_ms(aside: &Aside, times: &[[f64; 2]]) -> f64 {
    let sum = |steps: Range<usize>, which: usize| times[steps].iter().map(|step| step[which]).sum::<f64>();
    let (own, behind) = (sum(aside.steps.clone(), 0), sum(aside.steps.end..aside.join, 0));
    let packed = sum(aside.steps.start..aside.join, 1);
    own + behind - (own.max(behind).max(packed) + 2.0 * GAP_MS)
}

/// The table for docs/KERNELS.md.
pub fn table(kernels: &BTreeMap<String, Kernel>, usage: &BTreeMap<String, Usage>) -> String {
    let parameters = Checkpoint::built_in().unwrap().parameters;
    let graph = ViewGraph::up_to(Resolution::Quarter, &parameters, Size::TABLE_3, Element::F16, Slabs::of_planes(32));
    let graph = graph.unwrap().graph;
    let mut writers: BTreeMap<Value, u64> = BTreeMap::new();
    for step in graph.steps() {
        writes(&step.args).into_iter().for_each(|v| *writers.entry(v).or_default() += 1);
    }
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    // By step: alone, and as a part of what keeps all multiprocessors busy.
    let mut times = vec![[0.0; 2]; graph.steps().len()];
    for (step, times) in graph.steps().iter().zip(&mut times) {
        let Some(launch) = Launch::of(step) else { continue };
        let kernel = &kernels[launch.kernel];
        let own = usage[launch.kernel];
        let row = rows.entry(launch.kernel).or_default();
        row.launches += 1;
        row.blocks += launch.blocks();
        row.warps += launch.blocks() * launch.warps;
        row.resident = resident(own.registers, own.shared + launch.shared, launch.warps as u32);
        let bytes_ms = bytes_of(&graph, step, &writers) as f64 / BYTES_A_MS;
        let (mut busy_ms, mut share_ms) = (0.0, 0.0);
        if let Some(trips) = trips(&launch, kernel.loops.len()) {
            let all = kernel.loops.len();
            assert_eq!(trips.len(), all, "the loops of {} have changed: {:?}", launch.kernel, kernel.loops);
            let cost = kernel.cost(&trips);
            // The busiest multiprocessor has as many blocks.
            let block_ms = busiest(&cost).1 * launch.warps / CYCLES_A_MS;
            busy_ms = block_ms * (launch.blocks() / MULTIPROCESSORS).ceil();
            share_ms = block_ms * launch.blocks() / MULTIPROCESSORS;
            row.cost += cost.times(launch.blocks() * launch.warps);
            row.counted = true;
        }
        row.bytes_ms += bytes_ms;
        row.busy_ms += busy_ms;
        *times = [busy_ms.max(bytes_ms) / REACHED + GAP_MS, share_ms.max(bytes_ms) / REACHED];
        row.ms += times[0];
    }
    let saved: f64 = asides(&graph).iter().map(|aside| saved_ms(aside, &times)).sum();
    for row in rows.values_mut() {
        row.unit = busiest(&row.cost).0;
    }
    let mut text = String::from("| kernel | launches | warps | instructions of a warp |");
    CLASSES.iter().for_each(|c| write!(text, " {} |", c.name()).unwrap());
    text.push_str(" unit | its ms | bytes' ms | estimate |\n|");
    text.push_str(&" --- |".repeat(8 + CLASSES.len()));
    text.push('\n');
    let mut rows: Vec<(&str, Row)> = rows.into_iter().collect();
    rows.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    for (kernel, row) in &rows {
        write!(text, "| `{kernel}` | {} | {} |", row.launches, row.resident).unwrap();
        let of_warp = row.cost.times(1.0 / row.warps);
        if row.counted {
            write!(text, " {:.0} |", of_warp.issued()).unwrap();
            of_warp.classes.iter().for_each(|c| write!(text, " {c:.0} |").unwrap());
            write!(text, " {} | {:.3} |", row.unit, row.busy_ms).unwrap();
        } else {
            text.push_str(&" - |".repeat(CLASSES.len() + 3));
        }
        writeln!(text, " {:.3} | {:.3} |", row.bytes_ms, row.ms).unwrap();
    }
    let sum = |f: fn(&Row) -> f64| rows.iter().map(|(_, r)| f(r)).sum::<f64>();
    let launches: usize = rows.iter().map(|(_, r)| r.launches).sum();
    let empty = " |".repeat(CLASSES.len() + 3);
    writeln!(text, "| one path beside the other | |{empty} | | -{saved:.3} |").unwrap();
    write!(text, "| all | {launches} |{empty}").unwrap();
    let ms = sum(|r| r.ms) - saved;
    writeln!(text, " {:.3} | {:.3} | **{ms:.2}** |", sum(|r| r.busy_ms), sum(|r| r.bytes_ms)).unwrap();
    text
}
