//! What a run tells while it works: a bar per stage on a terminal, plain lines elsewhere, JSON lines for other
//! programs, or nothing.
//!
//! Bars and lines go to standard error. Standard output carries the closing summary or, with [`Style::Json`], the
//! events: one object a line, each with a field `event` (`start`, `note`, `stage`, `step`, `summary`, `error`). A
//! program that has the engine as a library gets the same events as values ([`Progress::to`]).

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map as Fields, Value, json};

use crate::error::{Error, Result};
use crate::host::copies::named;
use crate::host::terminal::{Picture, Screen};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A bar for each stage, with the time left.
    Bars,
    /// A line for each step.
    Lines,
    /// Nothing but errors.
    Quiet,
    /// Events as JSON lines on standard output.
    Json,
}

impl Style {
    /// Bars where standard error is a terminal, else lines.
    pub fn for_this_terminal() -> Self {
        if std::io::stderr().is_terminal() { Self::Bars } else { Self::Lines }
    }
}

/// What is called with each event, an object with a field `event`.
pub type Listener = Arc<dyn Fn(&Value) + Send + Sync>;

/// Where a run reports to.
#[derive(Clone)]
pub struct Progress {
    style: Style,
    listener: Option<Listener>,
    screen: Option<Arc<Screen>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("style", &self.style).field("listens", &self.listener.is_some()).finish()
    }
}

/// What went wrong first on standard output.
static OUTPUT: OnceLock<std::io::Error> = OnceLock::new();

/// A text, perhaps of several lines, on standard output; all other control characters are escaped. A reader that went
/// away (`engine ... | head`) is no reason to stop the work, nor is a full disk, but see [`output_result`].
pub fn print_line(text: &str) {
    write_out(&escaped(&named(text), |c| if c == '\n' { c.to_string() } else { c.escape_default().to_string() }));
}

/// A value as one line of JSON on standard output.
pub fn print_json(value: &Value) {
    // JSON itself lets the control characters from 127 on stand.
    write_out(&escaped(&named(&value.to_string()), |c| format!("\\u{:04x}", u32::from(c))));
}

fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(reason) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        let _ = OUTPUT.set(reason);
    }
}

/// To be asked when all is done: whether all that was told could be told.
///
/// # Errors
/// The system's first reason, unless nobody wanted to read on.
pub fn output_result() -> Result<()> {
    match OUTPUT.get() {
        Some(reason) if reason.kind() != ErrorKind::BrokenPipe => {
            let again = std::io::Error::new(reason.kind(), reason.to_string());
            Err(Error::io("write what was asked for", Path::new("standard output"))(again))
        }
        _ => Ok(()),
    }
}

/// A line on standard error.
pub fn print_error_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", one_line(&named(text)));
}

/// The text with control characters written as escapes: file names may hold line breaks and terminal commands.
pub fn one_line(text: &str) -> String {
    escaped(text, |c| c.escape_default().to_string())
}

/// Control characters in other words.
fn escaped(text: &str, control: impl Fn(char) -> String) -> String {
    text.chars().map(|c| if c.is_control() { control(c) } else { c.to_string() }).collect()
}

impl Progress {
    /// Reports in this style.
    pub fn new(style: Style) -> Self {
        Self { style, listener: None, screen: None }
    }

    /// Reports events as [`Style::Json`] does, to a function instead of standard output. Nothing is printed.
    pub fn to(listener: Listener) -> Self {
        Self { style: Style::Json, listener: Some(listener), screen: None }
    }

    /// The same, with small pictures of what is made, where the terminal shows some; else a note says why not.
    pub fn with_pictures(&self) -> Self {
        let mut shown = self.clone();
        match Screen::of_this_terminal() {
            Ok(screen) => shown.screen = Some(Arc::new(screen)),
            Err(reason) => self.note(&format!("--show: {reason}")),
        }
        shown
    }

    /// How it reports.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Reports something that was assumed, chosen or skipped.
    pub fn note(&self, text: &str) {
        match self.style {
            Style::Bars | Style::Lines => print_error_line(&format!("note: {text}")),
            Style::Quiet => {}
            Style::Json => self.event("note", json!({ "text": text })),
        }
    }

    /// Reports an event to other programs; nothing in the other styles.
    pub fn event(&self, event: &str, fields: Value) {
        if self.style != Style::Json {
            return;
        }
        let mut line = Fields::new();
        line.insert("event".into(), event.into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        match &self.listener {
            Some(listener) => listener(&Value::Object(line)),
            None => print_json(&Value::Object(line)),
        }
    }

    /// Reports why the work has failed, in every style.
    pub fn error(&self, error: &Error) {
        self.event("error", json!({ "message": error.to_string(), "exit_code": error.exit_code() }));
        print_error_line(&format!("error: {error}"));
    }

    /// Prints the closing summary: text for people, or the same as an event.
    pub fn summary(&self, text: &str, fields: Value) {
        match self.style {
            Style::Bars | Style::Lines => print_line(text),
            Style::Quiet => {}
            Style::Json => self.event("summary", fields),
        }
    }

    /// Begins a stage of `steps` steps whose costs add up to `cost` (in any unit: it only serves to tell the time
    /// that is left).
    pub fn stage(&self, name: &'static str, steps: usize, cost: u64) -> Stage {
        self.event("stage", json!({ "stage": name, "steps": steps }));
        let bar = (steps > 0).then(|| self.bar(name, cost, format!("0/{steps}"))).flatten();
        let now = Instant::now();
        Stage { progress: self.clone(), name, steps, cost, done: 0, done_cost: 0, worked_cost: 0, began: now, bar }
    }

    /// Begins long work of `steps` alike steps, `done` of which earlier runs have done. Unlike a stage's, its steps
    /// are so many that lines and events are told only now and then, by [`Live::report`].
    pub fn live(&self, name: &'static str, steps: u64, done: u64) -> Live {
        let bar = self.bar(name, steps, format!("{done}/{steps}"));
        if let Some(bar) = &bar {
            bar.set_position(done);
        }
        Live { progress: self.clone(), name, steps, before: done, done, began: Instant::now(), bar }
    }

    fn bar(&self, name: &'static str, length: u64, message: String) -> Option<ProgressBar> {
        (self.style == Style::Bars).then(|| {
            let bar = ProgressBar::new(length.max(1));
            let style = ProgressStyle::with_template("{prefix:>9} [{bar:30}] {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_prefix(name);
            bar.set_message(message);
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        })
    }
}

/// A stage in progress; ends when dropped.
pub struct Stage {
    progress: Progress,
    name: &'static str,
    steps: usize,
    cost: u64,
    done: usize,
    done_cost: u64,
    /// The part of `done_cost` that was done in this run rather than found done.
    worked_cost: u64,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Stage {
    /// One step was found done by an earlier run. No line of its own: there may be thousands at once.
    pub fn skip(&mut self, cost: u64, fields: Value) {
        self.done += 1;
        self.done_cost += cost;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done_cost);
        }
        self.event(fields);
    }

    /// One step was done, at this cost. `fields` belong to the step's event.
    pub fn step(&mut self, what: &str, cost: u64, fields: Value) {
        self.done += 1;
        self.done_cost += cost;
        self.worked_cost += cost;
        let Self { name, steps, done, .. } = *self;
        let time = about(self.left());
        match self.progress.style {
            Style::Bars => {
                if let Some(bar) = &self.bar {
                    bar.set_position(self.done_cost);
                    bar.set_message(one_line(&format!("{done}/{steps}{time}  {what}")));
                }
            }
            Style::Lines => print_error_line(&format!("{name} {done}/{steps}: {what}{time}")),
            Style::Quiet => {}
            Style::Json => self.event(fields),
        }
    }

    /// Shows a picture of what the last step has made, above the bar, where a terminal shows some and it is time for
    /// one.
    pub fn show(&self, draw: impl FnOnce() -> Picture) {
        let Some(screen) = &self.progress.screen else { return };
        if self.done == self.steps || screen.is_due() {
            let picture = draw();
            match &self.bar {
                Some(bar) => bar.suspend(|| screen.show(&picture)),
                None => screen.show(&picture),
            }
        }
    }

    fn event(&self, fields: Value) {
        let mut event = Fields::new();
        event.insert("stage".into(), self.name.into());
        event.insert("done".into(), self.done.into());
        event.insert("steps".into(), self.steps.into());
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        if let Some(left) = self.left() {
            event.insert("seconds_left".into(), json!((left * 10.0).round() / 10.0));
        }
        self.progress.event("step", Value::Object(event));
    }

    /// Seconds that the rest will take at the pace so far; `None` before the first step and after the last.
    fn left(&self) -> Option<f64> {
        let rest = self.cost.saturating_sub(self.done_cost);
        (self.worked_cost > 0 && rest > 0 && self.done < self.steps)
            .then(|| self.began.elapsed().as_secs_f64() * rest as f64 / self.worked_cost as f64)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            end(bar, self.began, &format!("{:>9} {}/{}", self.name, self.done, self.steps));
        }
    }
}

/// Long work in progress; ends when dropped.
pub struct Live {
    progress: Progress,
    name: &'static str,
    steps: u64,
    /// Steps that earlier runs have done.
    before: u64,
    done: u64,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Live {
    /// `done` steps are done, earlier runs' included. `text` tells the state beside a bar and is asked for only there.
    pub fn update(&mut self, done: u64, text: impl FnOnce() -> String) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(one_line(&format!("{done}/{}{}  {}", self.steps, about(self.left()), text())));
        }
    }

    /// Tells the state where there is no bar: a line, or an event of this name.
    pub fn report(&self, text: &str, event: &str, fields: Value) {
        match self.progress.style {
            Style::Lines => {
                let Self { name, done, steps, .. } = self;
                print_error_line(&format!("{name} {done}/{steps}: {text}{}", about(self.left())));
            }
            Style::Json => self.progress.event(event, fields),
            Style::Bars | Style::Quiet => {}
        }
    }

    /// Tells something that happens seldom: a line in every style for people, above the bar, or an event of this name.
    pub fn announce(&self, text: &str, event: &str, fields: Value) {
        match (&self.bar, self.progress.style) {
            (Some(bar), _) => bar.suspend(|| print_error_line(text)),
            (None, Style::Bars | Style::Lines) => print_error_line(text),
            (None, Style::Json) => self.progress.event(event, fields),
            (None, Style::Quiet) => {}
        }
    }

    /// Seconds that the rest will take at this run's pace so far; `None` before its first step and after the last.
    pub fn left(&self) -> Option<f64> {
        let (worked, rest) = (self.done.saturating_sub(self.before), self.steps.saturating_sub(self.done));
        (worked > 0 && rest > 0).then(|| self.began.elapsed().as_secs_f64() * rest as f64 / worked as f64)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            end(bar, self.began, &format!("{:>9} {}/{}", self.name, self.done, self.steps));
        }
    }
}

/// Takes a bar away and says how long the work took.
fn end(bar: &ProgressBar, began: Instant, what: &str) {
    bar.finish_and_clear();
    print_error_line(&format!("{what} in {}", duration(began.elapsed().as_secs_f64())));
}

/// `, about 12.3 s left`, where that is known and worth telling.
fn about(left: Option<f64>) -> String {
    left.filter(|&s| s >= 1.0).map_or(String::new(), |s| format!(", about {} left", duration(s)))
}

/// `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 1.0 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3599.5 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_a_line_or_command_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[31mc \u{fc}"), "a\\nb\\u{1b}[31mc \u{fc}");
    }

    #[test]
    fn json_stays_json_whatever_a_name_holds() {
        let value = json!({ "name": "a\n\u{1b}[31m\u{7f}\u{9b}31m\u{fc}" });
        let line = escaped(&value.to_string(), |c| format!("\\u{:04x}", u32::from(c)));
        assert!(!line.chars().any(char::is_control) && line.contains("\\u009b31m\u{fc}"), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(0.417), "0.42 s");
        assert_eq!(duration(12.34), "12.3 s");
        assert_eq!(duration(59.97), "1 min 00 s");
        assert_eq!(duration(245.2), "4 min 05 s");
        assert_eq!(duration(7620.0), "2 h 07 min");
    }

    #[test]
    fn steps_that_were_found_done_do_not_speed_the_estimate_up() {
        let mut stage = Progress::new(Style::Quiet).stage("depth", 4, 400);
        stage.skip(200, Value::Null);
        assert_eq!(stage.left(), None);
        stage.began -= Duration::from_secs(10);
        stage.step("b", 100, Value::Null);
        // 100 done in 10 s, 100 left.
        let left = stage.left().unwrap();
        assert!((10.0..11.0).contains(&left), "{left}");

        let mut live = Progress::new(Style::Quiet).live("train", 400, 200);
        live.began -= Duration::from_secs(10);
        assert_eq!(live.left(), None);
        live.update(300, String::new);
        let left = live.left().unwrap();
        assert!((10.0..11.0).contains(&left), "{left}");
        live.update(400, String::new);
        assert_eq!(live.left(), None);
    }
}
