//! Where the time goes: named spans by thread, told as a Chrome trace, which chrome://tracing and ui.perfetto.dev show.
//!
//! Nothing is noted, and a span costs one load, unless `--profile` has begun a recording. On a GPU the same names are
//! NVTX ranges (`cuda::program`), so that nsys shows them as well.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use serde_json::{Map as Fields, Value, json};

static RECORDING: AtomicBool = AtomicBool::new(false);
static BEGAN: OnceLock<Instant> = OnceLock::new();
static THREADS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

/// Spans of one thread; the thread holds one reference, the list of threads the other.
struct Thread {
    name: String,
    spans: Arc<Mutex<Vec<SpanTime>>>,
}

thread_local! {
    static MINE: RefCell<Option<Arc<Mutex<Vec<SpanTime>>>>> = const { RefCell::new(None) };
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn now() -> u64 {
    BEGAN.get().map_or(0, |began| began.elapsed().as_nanos() as u64)
}

/// Begins a recording.
pub fn record() {
    BEGAN.get_or_init(Instant::now);
    RECORDING.store(true, Ordering::Relaxed);
}

/// Time between this call and the end of the scope that holds the result.
#[must_use = "a span ends when it is dropped"]
pub struct Span(Option<(&'static str, String, u64)>);

/// A span of this name.
pub fn span(name: &'static str) -> Span {
    span_of(name, String::new)
}

/// A span of this name on something: a view, a layer. `detail` is asked only while a recording is made.
pub fn span_of(name: &'static str, detail: impl FnOnce() -> String) -> Span {
    Span(RECORDING.load(Ordering::Relaxed).then(|| (name, detail(), now())))
}

/// Notes a span that began at `began` and ends now.
pub fn ended(name: &'static str, began: Instant) {
    if RECORDING.load(Ordering::Relaxed) {
        let start = BEGAN.get().map_or(0, |first| began.saturating_duration_since(*first).as_nanos() as u64);
        drop(Span(Some((name, String::new(), start))));
    }
}

/// Takes the time of stages that follow each other, and notes a span of each.
pub struct Clock {
    began: Instant,
    lap: Instant,
    laps: Fields<String, Value>,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        let now = Instant::now();
        Self { began: now, lap: now, laps: Fields::new() }
    }

    /// Ends a stage and begins the next.
    pub fn lap(&mut self, stage: &'static str) {
        ended(stage, self.lap);
        self.laps.insert(stage.into(), json!(self.lap.elapsed().as_secs_f64()));
        self.lap = Instant::now();
    }

    /// Seconds by stage, and in all.
    pub fn seconds(&self) -> Fields<String, Value> {
        let mut seconds = self.laps.clone();
        seconds.insert("total".into(), json!(self.total()));
        seconds
    }

    /// Seconds in all.
    pub fn total(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some((name, detail, start)) = self.0.take() else { return };
        let noted = SpanTime { name, detail, start_ns: start, end_ns: now() };
        // A thread that is being torn down has lost its list: its last span is not worth a panic.
        let _ = MINE.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            let spans = mine.get_or_insert_with(|| {
                let spans: Arc<Mutex<Vec<SpanTime>>> = Arc::default();
                let mut threads = locked(&THREADS);
                let thread = std::thread::current();
                let name = match (thread.name(), rayon::current_thread_index()) {
                    (Some(name), _) => name.to_owned(),
                    (None, Some(worker)) => format!("worker {worker}"),
                    (None, None) => format!("thread {}", threads.len()),
                };
                threads.push(Thread { name, spans: spans.clone() });
                spans
            });
            locked(spans).push(noted);
        });
    }
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanTime {
    /// Its name.
    pub name: &'static str,
    /// On what; may be empty.
    pub detail: String,
    /// In nanoseconds since the recording began.
    pub start_ns: u64,
    /// As above.
    pub end_ns: u64,
}

/// Spans of one thread.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadSpans {
    /// The thread's name.
    pub name: String,
    /// In the order in which they ended.
    pub spans: Vec<SpanTime>,
}

/// What was recorded so far.
pub fn spans() -> Vec<ThreadSpans> {
    let of = |thread: &Thread| ThreadSpans { name: thread.name.clone(), spans: locked(&thread.spans).clone() };
    locked(&THREADS).iter().map(of).collect()
}

/// What was recorded so far, as JSON in Chrome's trace format.
pub fn chrome() -> Value {
    let mut events = Vec::new();
    for (id, thread) in spans().iter().enumerate() {
        events.push(json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": id, "args": { "name": thread.name } }));
        for span in &thread.spans {
            let micro = |ns: u64| ns as f64 / 1e3;
            let mut event = json!({
                "ph": "X", "name": span.name, "cat": "engine", "pid": 1, "tid": id,
                "ts": micro(span.start_ns), "dur": micro(span.end_ns - span.start_ns),
            });
            if !span.detail.is_empty() {
                event["args"] = json!({ "of": span.detail });
            }
            events.push(event);
        }
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_all_threads_are_told_and_none_from_before_the_recording() {
        drop(span("before"));
        record();
        {
            let _outer = span("outer");
            let _inner = span_of("inner", || "view 3".into());
            std::thread::Builder::new()
                .name("helper".into())
                .spawn(|| drop(span("elsewhere")))
                .unwrap()
                .join()
                .unwrap();
        }
        let trace = chrome();
        let events = trace["traceEvents"].as_array().unwrap();
        let named = |name: &str| events.iter().find(|e| e["name"] == name);
        assert!(named("before").is_none());
        let (outer, inner) = (named("outer").unwrap(), named("inner").unwrap());
        assert_eq!(inner["args"]["of"], "view 3");
        assert!(outer["ts"].as_f64() <= inner["ts"].as_f64() && outer["tid"] == inner["tid"]);
        assert_ne!(named("elsewhere").unwrap()["tid"], outer["tid"]);
        assert!(events.iter().any(|e| e["ph"] == "M" && e["args"]["name"] == "helper"));
    }
}
