//! What was measured, for people: lines on a terminal, tables for a page; and for programs: JSON.

use serde::Serialize;
use serde_json::{Value, json};

use super::peers::Peer;
use super::work::Size;
use super::{ENOUGH, Group, Measurement, Repetitions, Stage, Times};
use crate::host::memory::readable;

/// A row of the paper's table, as far as we know it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PaperRow {
    /// Where the numbers are from.
    pub source: &'static str,
    /// The GPU that they were measured on.
    pub device: &'static str,
    /// Seconds a view.
    pub seconds: f64,
    /// Memory of the GPU, in bytes.
    pub bytes: u64,
    /// The work.
    pub size: Size,
}

/// Table III's row for this network.
pub const PAPER: PaperRow = PaperRow {
    source: "the paper's Table III",
    device: "RTX 2080 Ti",
    seconds: 0.67,
    bytes: 8_300_000_000,
    size: Size::TABLE_3,
};

/// All of a run.
pub struct Report<'a> {
    /// The work.
    pub size: Size,
    /// How often.
    pub repetitions: Repetitions,
    /// By device.
    pub measurements: &'a [Measurement],
    /// Beside them.
    pub peers: &'a [Peer],
}

fn milliseconds(times: &Times) -> String {
    format!("{:.2}", times.median * 1e3)
}

fn share(rate: f64, roof: Option<f64>) -> String {
    roof.map_or_else(|| "-".into(), |roof| format!("{:.0} %", 100.0 * rate / roof))
}

/// A stage's cells: name, ms, min, max, GFLOP, GFLOP/s, of the product, GB/s, of the copy.
fn cells(stage: &Stage, of: &Measurement) -> [String; 9] {
    let rate = |n: Option<u64>| n.map(|n| n as f64 / stage.seconds.median.max(1e-9));
    let or_dash = |n: Option<String>| n.unwrap_or_else(|| "-".into());
    let (flops, bytes) = (rate(stage.flops), rate(stage.bytes));
    [
        stage.name.clone(),
        milliseconds(&stage.seconds),
        format!("{:.2}", stage.seconds.min * 1e3),
        format!("{:.2}", stage.seconds.max * 1e3),
        or_dash(stage.flops.map(|n| format!("{:.2}", n as f64 / 1e9))),
        or_dash(flops.map(|r| format!("{:.1}", r / 1e9))),
        or_dash(flops.map(|r| share(r, of.roofs.gemm_flops_per_s))),
        or_dash(bytes.map(|r| format!("{:.1}", r / 1e9))),
        or_dash(bytes.map(|r| share(r, Some(of.roofs.copy_bytes_per_s)))),
    ]
}

const HEAD: [&str; 9] = ["stage", "ms", "min", "max", "GFLOP", "GFLOP/s", "of gemm", "GB/s", "of copy"];

/// The groups, the regularizer's layers below theirs, and the whole.
fn rows(of: &Measurement) -> Vec<[String; 9]> {
    let mut rows = Vec::new();
    for group in Group::ALL {
        let Some(sum) = of.group(group) else { continue };
        let parts: Vec<&Stage> = of.stages.iter().filter(|s| s.group == group).collect();
        match parts.as_slice() {
            [only] => rows.push(cells(only, of)),
            parts => {
                rows.push(cells(&sum, of));
                for part in parts {
                    let mut row = cells(part, of);
                    row[0] = format!("- {}", row[0]);
                    rows.push(row);
                }
            }
        }
    }
    let bytes = of.stages.iter().map(|s| s.bytes).sum();
    let whole = Stage {
        name: "one view".into(),
        group: Group::Features,
        seconds: of.seconds.clone(),
        flops: of.flops(),
        bytes,
    };
    rows.push(cells(&whole, of));
    rows
}

fn memory(of: &Measurement) -> String {
    let told = |bytes: Option<u64>| bytes.map_or_else(|| "not told".into(), readable);
    match of.memory.device {
        None => format!("{} (planned {})", told(of.memory.host_peak), readable(of.memory.planned)),
        Some(device) => format!(
            "{} on the device (planned {}), {} on the host",
            readable(device),
            readable(of.memory.planned),
            told(of.memory.host_peak)
        ),
    }
}

fn roofs(of: &Measurement) -> String {
    let gemm = of.roofs.gemm_flops_per_s.map_or_else(
        || "no library for a large product".into(),
        |rate| format!("a large product {:.0} GFLOP/s", rate / 1e9),
    );
    format!("{gemm}, a large copy {:.1} GB/s", of.roofs.copy_bytes_per_s / 1e9)
}

fn peer_cells(peer: &Peer) -> [String; 7] {
    let name = format!("PyTorch {}", peer.kind.name());
    let name = if peer.kind == super::peers::Kind::Onnx { "ONNX Runtime".to_owned() } else { name };
    if let Some(reason) = &peer.failed {
        let dash = || "-".to_owned();
        return [name, format!("does not run: {reason}"), dash(), dash(), dash(), dash(), dash()];
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let apart = peer.agreement.map(|a| (a.median, a.largest));
    [
        name,
        or_dash(peer.seconds.map(|s| format!("{s:.3}"))),
        or_dash(peer.ratio.map(|r| format!("{r:.1}"))),
        or_dash(peer.peak_bytes.map(readable)),
        or_dash(peer.memory_ratio.map(|r| format!("{r:.1}"))),
        or_dash(apart.map(|(median, _)| format!("{median:.1e}"))),
        or_dash(apart.map(|(_, largest)| format!("{largest:.1e}"))),
    ]
}

const PEER_HEAD: [&str; 7] =
    ["peer", "s", "times the engine's", "memory", "times the engine's", "depth apart, median", "largest"];

/// A table with columns as wide as their widest cell.
pub(super) fn aligned<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let width = |c: usize| rows.iter().chain([&head]).map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(c, (cell, width))| if c == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    [&head].into_iter().chain(rows).map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut lines = vec![format!("| {} |", head.join(" | ")), format!("|{}", " --- |".repeat(N))];
    // Reasons of other programs may hold what separates cells.
    lines.extend(rows.iter().map(|row| format!("| {} |", row.clone().map(|c| c.replace('|', "/")).join(" | "))));
    lines.join("\n")
}

impl Report<'_> {
    /// What must be known to read the numbers.
    pub fn notes(&self) -> Vec<String> {
        let counted = self.repetitions.counted;
        let few = (counted < ENOUGH).then(|| format!("{counted} repetitions, which is fewer than {ENOUGH}"));
        let paper = if self.size == PAPER.size {
            format!("{}: {} s and {} on an {}", PAPER.source, PAPER.seconds, readable(PAPER.bytes), PAPER.device)
        } else {
            format!("{} is about another size, and is not compared", PAPER.source)
        };
        few.into_iter().chain([paper]).collect()
    }

    fn title(&self) -> String {
        let Size { width, height, planes, views } = self.size;
        let Repetitions { warm_up, counted } = self.repetitions;
        format!("{width} x {height}, D = {planes}, {views} views; median of {counted} after {warm_up} to warm up")
    }

    fn heading(of: &Measurement) -> String {
        let Times { median, min, max, .. } = &of.seconds;
        let on = if of.memory.device.is_none() {
            format!("{}, {} threads, {}", of.device, of.threads, of.simd)
        } else {
            format!("{}, {}", of.device, of.precision)
        };
        let transfers = of
            .seconds_with_transfers
            .as_ref()
            .map_or(String::new(), |times| format!("; with photos uploaded and maps downloaded {:.4} s", times.median));
        format!("{on}: {median:.4} s a view ({min:.4} to {max:.4}){transfers}")
    }

    /// Lines for a terminal.
    pub fn text(&self) -> String {
        let mut parts = vec![self.title()];
        for of in self.measurements {
            parts.push(format!("\n{}\nmemory: {}\nroofs: {}\n", Self::heading(of), memory(of), roofs(of)));
            parts.push(aligned(HEAD, &rows(of)));
        }
        if !self.peers.is_empty() {
            let rows: Vec<_> = self.peers.iter().map(peer_cells).collect();
            parts.push(format!("\n{}", aligned(PEER_HEAD, &rows)));
        }
        parts.push(String::new());
        parts.extend(self.notes());
        parts.join("\n")
    }

    /// Tables for a page.
    pub fn markdown(&self) -> String {
        let mut rows_of_views: Vec<[String; 4]> = Vec::new();
        if self.size == PAPER.size {
            let (device, source) = (PAPER.device, PAPER.source);
            let row = [format!("{source}, {device}"), PAPER.seconds.to_string(), "-".into(), readable(PAPER.bytes)];
            rows_of_views.push(row);
        }
        for of in self.measurements {
            let range = format!("{:.4} to {:.4}", of.seconds.min, of.seconds.max);
            let name = format!("engine, {}, {}", of.device, of.precision);
            rows_of_views.push([name, format!("{:.4}", of.seconds.median), range, memory(of)]);
        }
        let mut parts = vec![self.title(), table(["", "s a view", "min to max", "memory"], &rows_of_views)];
        if !self.peers.is_empty() {
            let rows: Vec<_> = self.peers.iter().map(peer_cells).collect();
            parts.push(table(PEER_HEAD, &rows));
        }
        for of in self.measurements {
            parts.push(format!("{}. Measured beside it: {}.", Self::heading(of), roofs(of)));
            parts.push(table(HEAD, &rows(of)));
        }
        parts.push(self.notes().into_iter().map(|note| format!("- {note}")).collect::<Vec<_>>().join("\n"));
        parts.join("\n\n") + "\n"
    }

    /// Everything, every single time among it.
    pub fn json(&self) -> Value {
        let measured = self.measurements.iter().map(|of| {
            let mut json = serde_json::to_value(of).unwrap_or_default();
            json["flops"] = json!(of.flops());
            json["groups"] = json!(Group::ALL.iter().filter_map(|&g| of.group(g)).collect::<Vec<_>>());
            json
        });
        json!({
            "program": "engine", "version": env!("CARGO_PKG_VERSION"), "bench": "table3",
            "size": self.size, "repetitions": self.repetitions, "notes": self.notes(),
            "measurements": measured.collect::<Vec<_>>(), "peers": self.peers,
            "paper": (self.size == PAPER.size).then_some(PAPER),
        })
    }
}
