//! What the stand-in saw: calls, bytes, and what a program should not have done.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

/// Counts and findings of a process.
#[derive(Default)]
pub struct Report {
    log: Option<std::fs::File>,
    to: Option<PathBuf>,
    began: Option<Instant>,
    /// How often each entry point was called.
    pub calls: BTreeMap<&'static str, u64>,
    /// Kernels that ran, by name.
    pub kernels: BTreeMap<String, u64>,
    /// What was found.
    pub findings: Vec<String>,
    /// Device memory that was asked for, and is not freed yet.
    pub live: u64,
    /// The most of it at any time.
    pub peak: u64,
    /// As `live`, in the pages that a device has.
    pub taken: u64,
    /// The most of them.
    pub peak_taken: u64,
    /// Page-locked memory that is not freed yet.
    pub pinned: u64,
}

impl Report {
    /// That goes to these files.
    pub fn new(log: Option<&PathBuf>, to: Option<&PathBuf>) -> Self {
        let open = |path: &PathBuf| {
            let file = std::fs::File::create(path);
            file.unwrap_or_else(|error| panic!("ENGINE_STANDIN_LOG={}: {error}", path.display()))
        };
        Self { log: log.map(open), to: to.cloned(), ..Self::default() }
    }

    /// Since the first call.
    pub fn microseconds(&mut self) -> u128 {
        self.began.get_or_insert_with(Instant::now).elapsed().as_micros()
    }

    /// Counts a call; its number among those of the same name, from 1.
    pub fn count(&mut self, entry: &'static str) -> u64 {
        let count = self.calls.entry(entry).or_default();
        *count += 1;
        *count
    }

    /// A line of the log.
    pub fn line(&mut self, line: impl FnOnce() -> String) {
        if let Some(file) = &mut self.log {
            // A log that cannot be written is no reason to change what the program sees.
            let _ = writeln!(file, "{}", line());
        }
    }

    /// Something that a program should not do.
    pub fn finding(&mut self, what: String) {
        self.line(|| format!("FOUND {what}"));
        self.findings.push(what);
        self.write();
    }

    /// Device memory comes.
    pub fn allocated(&mut self, bytes: u64, taken: u64) {
        self.live += bytes;
        self.taken += taken;
        self.peak = self.peak.max(self.live);
        self.peak_taken = self.peak_taken.max(self.taken);
    }

    /// Device memory goes.
    pub fn freed(&mut self, bytes: u64, taken: u64) {
        self.live -= bytes;
        self.taken -= taken;
    }

    /// Writes all of it to its file, a line for each fact.
    pub fn write(&self) {
        let Some(path) = &self.to else { return };
        let Self { live, peak, peak_taken, pinned, .. } = self;
        let mut text = format!("live {live}\npeak {peak}\npeak-taken {peak_taken}\npinned {pinned}\n");
        for (entry, count) in &self.calls {
            let _ = writeln!(text, "calls {entry} {count}");
        }
        for (kernel, count) in &self.kernels {
            let _ = writeln!(text, "kernel {kernel} {count}");
        }
        for finding in &self.findings {
            let _ = writeln!(text, "found {}", finding.replace('\n', " "));
        }
        // As above.
        let _ = std::fs::write(path, text);
    }
}
