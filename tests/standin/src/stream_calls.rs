//! Entry points: streams, events, captures.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::codes::Code;
use super::entry::put;
use super::settings::Kind;
use super::state::{Branches, Capture, Event, Handle, Point, State, Stream, Work};

entry! {
    /// A stream.
    cuStreamCreate(to: *mut *mut c_void, flags: c_uint), |state, _| {
        let current = state.current()?;
        state.not_while_capturing("cuStreamCreate")?;
        if flags > 1 {
            return Err(Code::INVALID_VALUE);
        }
        let handle = state.handle();
        state.streams.insert(handle, Stream::of(current));
        put(to, handle as *mut c_void)
    }
}

entry! {
    /// Lets a stream go; its work runs all the same.
    cuStreamDestroy_v2(stream: *mut c_void), |state, _| {
        let handle = state.stream(stream as Handle)?;
        if let Some(found) = state.streams.get_mut(&handle) {
            found.destroyed = true;
            found.capture = None;
        }
        Ok(())
    }
}

/// A call about the progress of a stream that captures.
pub fn expect_no_capture(state: &mut State, stream: Handle, entry: &str) -> Result<(), Code> {
    let Some((capture, _)) = state.capture(stream) else { return Ok(()) };
    capture.invalid = true;
    state.report.finding(format!("{entry} of a stream that captures"));
    Err(Code::STREAM_CAPTURE_UNSUPPORTED)
}

entry! {
    /// Waits until a stream's work is done.
    cuStreamSynchronize(stream: *mut c_void), |state, _| {
        let handle = state.stream(stream as Handle)?;
        expect_no_capture(state, handle, "cuStreamSynchronize")?;
        state.drain(handle);
        state.current().map(|_| ())
    }
}

entry! {
    /// Whether a stream's work is done. Asking makes it go on by one piece, or a program that asks would never end.
    cuStreamQuery(stream: *mut c_void), |state, _| {
        let handle = state.stream(stream as Handle)?;
        expect_no_capture(state, handle, "cuStreamQuery")?;
        let more = state.step(handle);
        state.current()?;
        if more { Err(Code::NOT_READY) } else { Ok(()) }
    }
}

entry! {
    /// Lets a stream wait for what an event's last record comes after.
    cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, flags: c_uint), |state, _| {
        if flags > 1 {
            return Err(Code::INVALID_VALUE);
        }
        let handle = state.stream(stream as Handle)?;
        let found = state.event(event as Handle)?;
        let (place, captured) = (found.place, found.captured);
        if let Some(point) = captured {
            return join(state, handle, point);
        }
        let Some((other, position)) = place else { return Ok(()) };
        if let Some((capture, _)) = state.capture(handle) {
            capture.invalid = true;
            state.report.finding("a wait in a capture for what is outside of it".into());
            return Err(Code::STREAM_CAPTURE_ISOLATION);
        }
        state.enqueue(handle, Work::Wait { stream: other, position })
    }
}

/// Lets a stream wait for a point of a capture, which it becomes a part of.
fn join(state: &mut State, stream: Handle, point: Point) -> Result<(), Code> {
    let own = state.capture(stream).map(|(capture, _)| capture.id);
    let origin = state.streams.get_mut(&point.origin).and_then(|origin| origin.capture.as_mut());
    let Some(capture) = origin.filter(|capture| capture.id == point.capture) else {
        state.report.finding("a wait for an event of a capture that has ended".into());
        return Err(Code::CAPTURED_EVENT);
    };
    match own {
        None => {
            capture.branches.push((stream, Vec::new()));
            if let Some(found) = state.streams.get_mut(&stream) {
                found.joined = Some(point.origin);
            }
        }
        Some(id) if id == point.capture => {}
        Some(_) => {
            capture.invalid = true;
            state.report.finding("a wait in one capture for a point of another".into());
            return Err(Code::STREAM_CAPTURE_MERGE);
        }
    }
    state.enqueue(stream, Work::Wait { stream: point.branch as Handle, position: point.position })
}

entry! {
    /// An event.
    cuEventCreate(to: *mut *mut c_void, flags: c_uint), |state, _| {
        let context = state.current()?;
        if flags & !7 != 0 {
            return Err(Code::INVALID_VALUE);
        }
        let handle = state.handle();
        state.events.insert(handle, Event { context, timing: flags & 2 == 0, ..Event::default() });
        put(to, handle as *mut c_void)
    }
}

entry! {
    /// Lets an event go.
    cuEventDestroy_v2(event: *mut c_void), |state, _| {
        state.event(event as Handle)?;
        state.events.remove(&(event as Handle));
        Ok(())
    }
}

entry! {
    /// Marks a point of a stream's work.
    cuEventRecord(event: *mut c_void, stream: *mut c_void), |state, _| {
        let handle = state.stream(stream as Handle)?;
        let point = state.capture(handle).map(|(capture, branch)| Point {
            origin: capture.branches[0].0,
            capture: capture.id,
            branch,
            position: capture.branches[branch].1.len() as u64 + 1,
        });
        let position = state.streams.get(&handle).map_or(0, Stream::issued) + 1;
        let found = state.event(event as Handle)?;
        found.captured = point;
        found.version += 1;
        let version = found.version;
        if point.is_none() {
            found.place = Some((handle, position));
        }
        state.enqueue(handle, Work::Record { event: event as Handle, version })
    }
}

/// Where an event's last record lies; `None` if it was never recorded.
fn place_of(state: &mut State, event: *mut c_void, entry: &str) -> Result<Option<(Handle, u64)>, Code> {
    let found = state.event(event as Handle)?;
    let (place, captured) = (found.place, found.captured);
    if captured.is_some() {
        state.report.finding(format!("{entry} of an event that a capture recorded"));
        return Err(Code::CAPTURED_EVENT);
    }
    Ok(place)
}

entry! {
    /// Waits for the point that an event marks.
    cuEventSynchronize(event: *mut c_void), |state, _| {
        if let Some((stream, position)) = place_of(state, event, "cuEventSynchronize")? {
            state.advance(stream, position);
        }
        state.current().map(|_| ())
    }
}

entry! {
    /// Whether the point that an event marks has passed.
    cuEventQuery(event: *mut c_void), |state, _| {
        let Some((stream, position)) = place_of(state, event, "cuEventQuery")? else { return Ok(()) };
        if state.streams.get(&stream).is_none_or(|stream| stream.done >= position) {
            return state.current().map(|_| ());
        }
        state.step(stream);
        state.current()?;
        Err(Code::NOT_READY)
    }
}

/// Milliseconds between two events that have passed.
fn elapsed(state: &mut State, to: *mut f32, begin: *mut c_void, end: *mut c_void) -> Result<(), Code> {
    let mut times = [None; 2];
    for (time, event) in times.iter_mut().zip([begin, end]) {
        let found = state.event(event as Handle)?;
        if !found.timing || found.version == 0 {
            return Err(Code::INVALID_HANDLE);
        }
        *time = found.ran.filter(|(version, _)| *version == found.version).map(|(_, time)| time);
    }
    let [Some(begin), Some(end)] = times else { return Err(Code::NOT_READY) };
    put(to, end.saturating_duration_since(begin).as_secs_f32() * 1e3)
}

entry! {
    /// Milliseconds between two events, as drivers before CUDA 12.8 have it, and newer ones, too.
    cuEventElapsedTime(to: *mut f32, begin: *mut c_void, end: *mut c_void), |state, _| elapsed(state, to, begin, end)
}

entry! {
    /// The same, as drivers since CUDA 12.8 have it.
    cuEventElapsedTime_v2(to: *mut f32, begin: *mut c_void, end: *mut c_void), |state, _| elapsed(state, to, begin, end)
}

entry! {
    /// Begins to record a stream's work instead of doing it.
    cuStreamBeginCapture_v2(stream: *mut c_void, mode: c_int), |state, _| {
        let handle = state.stream(stream as Handle)?;
        if stream as Handle <= 1 {
            return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
        }
        if state.captures(handle) {
            return Err(Code::ILLEGAL_STATE);
        }
        if !(0..=2).contains(&mode) {
            return Err(Code::INVALID_VALUE);
        }
        let (id, thread) = (state.handle(), std::thread::current().id());
        if let Some(found) = state.streams.get_mut(&handle) {
            found.capture = Some(Capture { id, thread, mode, branches: vec![(handle, Vec::new())], invalid: false });
        }
        Ok(())
    }
}

/// Whether each branch but the first is waited for at its end.
fn is_joined(branches: &Branches) -> bool {
    let ends = branches.iter().enumerate().skip(1).map(|(branch, (_, works))| (branch as Handle, works.len() as u64));
    let waits = |(of, end): (Handle, u64)| {
        let mut all = branches.iter().flat_map(|(_, works)| works);
        all.any(|work| matches!(work, Work::Wait { stream, position } if (*stream, *position) == (of, end)))
    };
    ends.into_iter().all(waits)
}

entry! {
    /// Ends a recording, whatever is wrong with it; a graph of it.
    cuStreamEndCapture(stream: *mut c_void, to: *mut *mut c_void), |state, fault| {
        let handle = state.stream(stream as Handle)?;
        put(to, std::ptr::null_mut())?;
        let Some(found) = state.streams.get_mut(&handle) else { return Err(Code::INVALID_HANDLE) };
        if found.joined.is_some() {
            return Err(Code::STREAM_CAPTURE_UNMATCHED);
        }
        let (context, Some(capture)) = (found.context, found.capture.take()) else { return Err(Code::ILLEGAL_STATE) };
        if capture.mode != 2 && capture.thread != std::thread::current().id() {
            found.capture = Some(capture);
            return Err(Code::STREAM_CAPTURE_WRONG_THREAD);
        }
        for (part, _) in &capture.branches[1..] {
            if let Some(found) = state.streams.get_mut(part) {
                found.joined = None;
            }
        }
        if let Some(Kind::Fail(code)) = fault {
            return Err(Code(code));
        }
        if capture.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        if !is_joined(&capture.branches) {
            state.report.finding("the end of a capture, while nobody waits for the end of one of its streams".into());
            return Err(Code::STREAM_CAPTURE_UNJOINED);
        }
        let graph = state.handle();
        state.graphs.insert(graph, (context, Arc::new(capture.branches)));
        put(to, graph as *mut c_void)
    }
}

entry! {
    /// 0: no capture; 1: one is active; 2: one is of no use any more.
    cuStreamIsCapturing(stream: *mut c_void, to: *mut c_int), |state, _| {
        let handle = state.stream(stream as Handle)?;
        let state_of = state.capture(handle).map_or(0, |(capture, _)| 1 + c_int::from(capture.invalid));
        put(to, state_of)
    }
}

/// The stream that a call's work goes to.
pub fn target(state: &mut State, stream: *mut c_void, fault: Option<Kind>) -> Result<Handle, Code> {
    let stream = if fault == Some(Kind::OtherStream) { 0 } else { stream as Handle };
    state.stream(stream)
}
