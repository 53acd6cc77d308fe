//! The main job on a scene, measured from its recording: where the time went, and how much of it was spent side by
//! side.
//!
//! The run is an ordinary one ([`crate::run::infer`]); its spans ([`crate::host::trace`]) and its manifest tell all
//! that is needed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files::input;
use crate::host::memory::readable;
use crate::host::trace::ThreadSpans;
use crate::manifest::MANIFEST;

/// The run's stages, which follow each other; their spans cover those of the work in them.
const LAPS: [&str; 5] = ["preparation", "depth", "merging levels", "maps", "fusion"];

/// Time of one kind of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Busy {
    /// Of all its spans, in seconds.
    pub seconds: f64,
    /// How many there were.
    pub count: usize,
}

/// What a run was.
#[derive(Clone, Debug, Serialize)]
pub struct SceneReport {
    /// `cpu` or the GPU's name.
    pub device: String,
    /// How activations were stored.
    pub precision: String,
    /// Threads of the pool.
    pub threads: usize,
    /// Views that got a depth map.
    pub views: usize,
    /// Levels of the pyramid.
    pub levels: usize,
    /// From the first file to the last.
    pub wall_seconds: f64,
    /// Views by wall time.
    pub views_per_second: f64,
    /// Points of the cloud.
    pub points: usize,
    /// The most memory that the process held.
    pub memory_peak: Option<u64>,
    /// Stages of the run, one after another.
    pub stages: BTreeMap<String, f64>,
    /// Photos: decoding, undistortion, reduction, pyramid; beside the network, in a thread of its own.
    pub decode: Busy,
    /// Feature maps of all levels.
    pub features: Busy,
    /// Depth and confidence, by level.
    pub depth: BTreeMap<String, Busy>,
    /// The levels' maps as files.
    pub write: Busy,
    /// Time in which each thread had work, by its name. Threads that compute for another one count as that one.
    pub busy_seconds: BTreeMap<String, f64>,
    /// Sum of these over the wall time: 1 is one thing after another.
    pub overlap: f64,
    /// Share of the decoding that cost no time, because the network worked meanwhile.
    pub decoding_hidden: f64,
    /// Processor time of all threads, user and system, in seconds; `None` where the system does not tell.
    pub processor_seconds: Option<f64>,
}

/// Processor time of this process so far, in seconds.
pub fn processor_seconds() -> Option<f64> {
    // Fields 14 and 15 of proc_pid_stat, in ticks, of which Linux shows programs 100 a second; the name before them
    // may hold anything but ends with `)`.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// Seconds that at least one of the spans covers, given as nanoseconds from when to when.
fn covered(mut spans: Vec<(u64, u64)>) -> f64 {
    spans.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for (start, end) in spans {
        sum += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    sum as f64 / 1e9
}

impl SceneReport {
    /// From the recording and the folder of a run.
    ///
    /// # Errors
    /// A manifest that cannot be read, or that lacks what an inference writes.
    pub fn new(threads: &[ThreadSpans], out: &Path, processor_seconds: Option<f64>) -> Result<Self> {
        let path = out.join(MANIFEST);
        let bytes = input::read(&path, "read the manifest")?;
        let bad =
            |what: &str| Error::input(path.display().to_string(), format!("no {what}"), "a manifest of `engine infer`");
        let manifest: Value = serde_json::from_slice(&bytes).map_err(|_| bad("JSON"))?;
        let seconds = manifest["seconds"].as_object().ok_or_else(|| bad("seconds"))?;
        let number = |name: &str| seconds.get(name).and_then(Value::as_f64);
        let wall = number("total").ok_or_else(|| bad("seconds.total"))?;
        let views = manifest["views"].as_array().ok_or_else(|| bad("views"))?.len();

        let all = || threads.iter().flat_map(|thread| &thread.spans);
        let busy = |name: &str| {
            all().filter(|s| s.name == name).fold(Busy::default(), |sum, span| Busy {
                seconds: sum.seconds + (span.end_ns - span.start_ns) as f64 / 1e9,
                count: sum.count + 1,
            })
        };
        let mut depth: BTreeMap<String, Busy> = BTreeMap::new();
        for span in all().filter(|s| s.name == "depth") {
            // The stage of the same name has no detail.
            let Some((_, level)) = span.detail.rsplit_once(' ') else { continue };
            let of_level = depth.entry(format!("level {level}")).or_default();
            of_level.seconds += (span.end_ns - span.start_ns) as f64 / 1e9;
            of_level.count += 1;
        }
        let lap = |name: &str, detail: &str| detail.is_empty() && LAPS.contains(&name);
        let driving = |thread: &ThreadSpans| {
            let spans = thread.spans.iter().filter(|s| !lap(s.name, &s.detail));
            let spans = spans.filter(|s| ["features", "depth", "write maps"].contains(&s.name));
            covered(spans.map(|s| (s.start_ns, s.end_ns)).collect())
        };
        let mut busy_seconds: BTreeMap<String, f64> = BTreeMap::new();
        for thread in threads {
            // Stages are work as a whole (merging, writing, fusing), but for that of the depth maps, which may wait
            // for photos.
            let work = thread.spans.iter().filter(|s| s.name != "depth" || !s.detail.is_empty());
            let seconds = covered(work.map(|s| (s.start_ns, s.end_ns)).collect());
            *busy_seconds.entry(thread.name.clone()).or_default() += seconds;
        }
        let decode = busy("decode");
        // The depth stage on the thread that drives the network: what is neither features, depth nor writing was a
        // wait for photos.
        let stage = number("depth").unwrap_or(0.0);
        let driven: f64 = threads.iter().map(driving).sum();
        let waited = (stage - driven).clamp(0.0, decode.seconds);
        let hidden = if decode.seconds > 0.0 { 1.0 - waited / decode.seconds } else { 0.0 };
        let machine = &manifest["machine"];
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        Ok(Self {
            device: text(&machine["device"]),
            precision: text(&manifest["network"]["precision"]),
            threads: machine["threads"].as_u64().unwrap_or(0) as usize,
            views,
            levels: manifest["parameters"]["levels"].as_u64().unwrap_or(0) as usize,
            wall_seconds: wall,
            views_per_second: views as f64 / wall,
            points: manifest["points"].as_u64().unwrap_or(0) as usize,
            memory_peak: machine["memory_peak"].as_u64(),
            stages: LAPS.iter().filter_map(|&name| Some((name.to_owned(), number(name)?))).collect(),
            decode,
            features: busy("features"),
            depth,
            write: busy("write maps"),
            overlap: busy_seconds.values().sum::<f64>() / wall,
            busy_seconds,
            decoding_hidden: hidden,
            processor_seconds,
        })
    }

    /// Rows of stage, seconds, number and share of the wall time.
    fn rows(&self) -> Vec<[String; 4]> {
        let row = |name: &str, seconds: f64, count: Option<usize>| {
            let count = count.map_or_else(|| "-".into(), |n| n.to_string());
            [name.to_owned(), format!("{seconds:.3}"), count, format!("{:.0} %", 100.0 * seconds / self.wall_seconds)]
        };
        let of = |name: &str, busy: &Busy| row(name, busy.seconds, Some(busy.count));
        let stage = |name: &str| self.stages.get(name).copied().unwrap_or(0.0);
        let mut rows = vec![row("preparation", stage("preparation"), None), row("depth maps", stage("depth"), None)];
        rows.push(of("- load and decode (beside the rest)", &self.decode));
        rows.push(of("- features", &self.features));
        rows.extend(self.depth.iter().map(|(level, busy)| of(&format!("- depth, {level}"), busy)));
        rows.push(of("- write the levels' maps", &self.write));
        rows.push(row("merge levels", stage("merging levels"), None));
        rows.push(row("write maps and previews", stage("maps"), None));
        rows.push(row("fuse and write the cloud", stage("fusion"), None));
        rows.push(row("all", self.wall_seconds, None));
        rows
    }

    /// What is known beside the table, a line each.
    fn facts(&self) -> Vec<String> {
        let Self { views, levels, points, .. } = self;
        let threads: Vec<String> = self.busy_seconds.iter().map(|(name, busy)| format!("{name} {busy:.2} s")).collect();
        let mut facts = vec![
            format!("{views} views on {levels} levels, {:.3} views/s, {points} points", self.views_per_second),
            format!(
                "overlap {:.2}: busy time by thread ({}) over wall time; {:.0} % of the decoding was hidden",
                self.overlap,
                threads.join(", "),
                100.0 * self.decoding_hidden
            ),
        ];
        facts.extend(self.processor_seconds.map(|seconds| {
            let at_work = seconds / self.wall_seconds;
            format!("{seconds:.2} s of processor time: {at_work:.2} of {} threads at work on average", self.threads)
        }));
        facts.extend(self.memory_peak.map(|bytes| format!("peak memory {}", readable(bytes))));
        facts
    }

    fn title(&self) -> String {
        format!("{}, {}, {} threads: {:.3} s", self.device, self.precision, self.threads, self.wall_seconds)
    }

    /// Lines for a terminal.
    pub fn text(&self) -> String {
        let mut lines = vec![self.title(), super::report::aligned(HEAD, &self.rows())];
        lines.extend(self.facts());
        lines.join("\n")
    }

    /// A table for a page.
    pub fn markdown(&self) -> String {
        let facts: Vec<String> = self.facts().into_iter().map(|fact| format!("- {fact}")).collect();
        format!("{}\n\n{}\n\n{}\n", self.title(), super::report::table(HEAD, &self.rows()), facts.join("\n"))
    }

    /// Everything.
    pub fn json(&self) -> Value {
        let mut json = json!({ "program": "engine", "version": env!("CARGO_PKG_VERSION"), "bench": "scene" });
        if let (Value::Object(all), Value::Object(own)) = (&mut json, serde_json::to_value(self).unwrap_or_default()) {
            all.extend(own);
        }
        json
    }
}

const HEAD: [&str; 4] = ["stage", "s", "times", "of the wall time"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::trace::SpanTime;

    #[test]
    fn overlapping_spans_are_covered_once() {
        assert_eq!(covered(vec![(5, 10), (0, 4), (6, 8), (9, 12)]), 11e-9);
        assert_eq!(covered(Vec::new()), 0.0);
    }

    #[test]
    fn a_run_is_told_by_its_spans_and_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = json!({
            "seconds": {
                "preparation": 1.0, "depth": 6.0, "merging levels": 0.5, "maps": 1.0, "fusion": 1.5, "total": 10.0,
            },
            "views": [{}, {}], "points": 7, "machine": { "device": "cpu", "threads": 2, "memory_peak": 5 },
            "network": { "precision": "f32" }, "parameters": { "levels": 2 },
        });
        std::fs::write(folder.path().join(MANIFEST), manifest.to_string()).unwrap();
        let span = |name, detail: &str, start: u64, end: u64| SpanTime {
            name,
            detail: detail.into(),
            start_ns: start * 1_000_000_000,
            end_ns: end * 1_000_000_000,
        };
        let main = ThreadSpans {
            name: "main".into(),
            spans: vec![
                span("preparation", "", 0, 1),
                // Waits for the first photo until 3.
                span("features", "a", 3, 4),
                span("conv", "", 3, 4),
                span("depth", "a level 0", 4, 6),
                span("depth", "a level 1", 6, 7),
                span("depth", "", 1, 7),
                span("fusion", "", 7, 10),
            ],
        };
        let loader =
            ThreadSpans { name: "loader".into(), spans: vec![span("decode", "a", 1, 3), span("decode", "b", 3, 5)] };
        let report = SceneReport::new(&[main, loader], folder.path(), Some(12.0)).unwrap();
        assert_eq!(
            (report.decode, report.features),
            (Busy { seconds: 4.0, count: 2 }, Busy { seconds: 1.0, count: 1 })
        );
        assert_eq!(report.depth["level 0"], Busy { seconds: 2.0, count: 1 });
        assert_eq!(report.depth["level 1"], Busy { seconds: 1.0, count: 1 });
        // Main: 0 to 1 and 3 to 10; the loader 1 to 5.
        assert_eq!((report.busy_seconds["main"], report.busy_seconds["loader"]), (8.0, 4.0));
        assert_eq!(report.overlap, 1.2);
        // Of six seconds of depth maps two were a wait, of four seconds of decoding.
        assert_eq!(report.decoding_hidden, 0.5);
        assert_eq!((report.views_per_second, report.points), (0.2, 7));
        assert!(report.markdown().contains("| - depth, level 1 | 1.000 | 1 | 10 % |"), "{}", report.markdown());
    }
}
