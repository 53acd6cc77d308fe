//! Entry points: memory and copies.

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::sync::Arc;

use super::codes::Code;
use super::entry::put;
use super::settings::Kind;
use super::state::{Handle, Source, State, Work};
use super::stream_calls::target;

/// Page-locked memory lies at pages.
const PAGE: usize = 4096;

entry! {
    /// Free and all memory of the current device.
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize), |state, _| {
        let current = state.current()?;
        let (taken, all) = (state.context(current)?.taken, state.settings.memory);
        put(free, (all - taken) as usize)?;
        put(total, all as usize)
    }
}

entry! {
    /// Device memory.
    cuMemAlloc_v2(to: *mut u64, bytes: usize), |state, _| {
        state.not_while_capturing("cuMemAlloc")?;
        let address = state.allocate(bytes as u64)?;
        put(to, address)
    }
}

entry! {
    /// Gives device memory back.
    cuMemFree_v2(address: u64), |state, _| {
        state.current()?;
        state.not_while_capturing("cuMemFree")?;
        state.free(address)
    }
}

fn layout(bytes: usize) -> Result<Layout, Code> {
    Layout::from_size_align(bytes.max(1), PAGE).map_err(|_| Code::OUT_OF_MEMORY)
}

entry! {
    /// Page-locked host memory.
    cuMemHostAlloc(to: *mut *mut c_void, bytes: usize, flags: c_uint), |state, _| {
        let current = state.current()?;
        state.not_while_capturing("cuMemHostAlloc")?;
        if bytes == 0 || flags & !7 != 0 {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the size is not 0.
        let at = unsafe { alloc(layout(bytes)?) };
        if at.is_null() {
            return Err(Code::OUT_OF_MEMORY);
        }
        // SAFETY: so many bytes were allocated. Nothing may rely on what is in them.
        unsafe { at.write_bytes(0xff, bytes) };
        state.locked.insert(at as usize, (bytes, current));
        state.report.pinned += bytes as u64;
        put(to, at.cast())
    }
}

entry! {
    /// Gives page-locked memory back.
    cuMemFreeHost(at: *mut c_void), |state, _| {
        state.current()?;
        state.not_while_capturing("cuMemFreeHost")?;
        let Some((bytes, _)) = state.locked.remove(&(at as usize)) else {
            state.report.finding("freeing page-locked memory that is none (any more)".into());
            return Err(Code::INVALID_VALUE);
        };
        state.report.pinned -= bytes as u64;
        let range = at as usize..at as usize + bytes;
        if state.streams.values().flat_map(|stream| &stream.queue).any(|work| work.uses_host(&range)) {
            // It is kept, for the copy that comes yet.
            state.report.finding(format!("freeing {bytes} bytes of page-locked memory that a copy still uses"));
            return Ok(());
        }
        // SAFETY: allocated with this layout, and freed once since it was in the table.
        unsafe { dealloc(at.cast(), layout(bytes)?) };
        Ok(())
    }
}

/// Whether a range lies in page-locked memory.
fn is_locked(state: &State, at: usize, bytes: usize) -> bool {
    let found = state.locked.range(..=at).next_back();
    found.is_some_and(|(start, (length, _))| at + bytes <= start + length)
}

/// The driver checks addresses when the call is made.
fn expect_device(state: &mut State, ranges: &[(u64, u64)]) -> Result<(), Code> {
    let current = state.current()?;
    for &(at, bytes) in ranges {
        let found = state.context(current)?.silicon.around(at);
        if found.is_none_or(|(start, length)| at + bytes > start + length) {
            state.report.finding(format!("a copy of {bytes} bytes at {at:#x}, which no allocation has as a whole"));
            return Err(Code::INVALID_VALUE);
        }
    }
    Ok(())
}

fn upload(
    state: &mut State,
    to: u64,
    from: *const c_void,
    bytes: usize,
    stream: Handle,
    fault: Option<Kind>,
) -> Result<(), Code> {
    if bytes == 0 {
        return Ok(());
    }
    expect_device(state, &[(to, bytes as u64)])?;
    let source = if is_locked(state, from as usize, bytes) {
        Source::Locked(from as usize, bytes)
    } else {
        // SAFETY: the caller promises so many bytes there until the call returns.
        Source::Staged(Arc::new(unsafe { std::slice::from_raw_parts(from.cast(), bytes) }.to_vec()))
    };
    if matches!(source, Source::Staged(_)) && state.captures(stream) {
        state.report.finding("a copy from pageable memory in a capture: a replay would read it again".into());
    }
    state.enqueue(stream, Work::Upload { to, from: source })?;
    match fault {
        // SAFETY: the caller's memory, which a test lets it change too early; only pinned memory is writable for sure.
        Some(Kind::Scribble) if is_locked(state, from as usize, bytes) => unsafe {
            from.cast_mut().cast::<u8>().write_bytes(0x7f, bytes);
        },
        Some(Kind::FreeUnder) => state.free_around(to),
        _ => {}
    }
    Ok(())
}

entry! {
    /// Copies to the device; page-locked memory is read when the copy runs.
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *mut c_void), |state, fault| {
        let stream = target(state, stream, fault)?;
        upload(state, to, from, bytes, stream, fault)
    }
}

entry! {
    /// Copies to the device and waits.
    cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize), |state, fault| {
        let stream = state.stream(0)?;
        state.not_while_capturing("cuMemcpyHtoD")?;
        upload(state, to, from, bytes, stream, fault)?;
        state.drain(stream);
        state.current().map(|_| ())
    }
}

fn download(state: &mut State, to: *mut c_void, from: u64, bytes: usize, stream: Handle) -> Result<bool, Code> {
    if bytes == 0 {
        return Ok(true);
    }
    expect_device(state, &[(from, bytes as u64)])?;
    state.enqueue(stream, Work::Download { to: to as usize, from, bytes: bytes as u64 })?;
    Ok(is_locked(state, to as usize, bytes) || state.captures(stream))
}

entry! {
    /// Copies from the device; to pageable memory it has been done when the call returns.
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void), |state, fault| {
        let stream = target(state, stream, fault)?;
        if !download(state, to, from, bytes, stream)? {
            state.drain(stream);
        }
        state.current().map(|_| ())
    }
}

entry! {
    /// Copies from the device and waits.
    cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize), |state, _| {
        let stream = state.stream(0)?;
        state.not_while_capturing("cuMemcpyDtoH")?;
        download(state, to, from, bytes, stream)?;
        state.drain(stream);
        state.current().map(|_| ())
    }
}

entry! {
    /// Copies on the device.
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void), |state, fault| {
        let stream = target(state, stream, fault)?;
        if bytes == 0 {
            return Ok(());
        }
        expect_device(state, &[(to, bytes as u64), (from, bytes as u64)])?;
        state.enqueue(stream, Work::Copy { to, from, bytes: bytes as u64 })?;
        if fault == Some(Kind::FreeUnder) {
            state.free_around(from);
        }
        Ok(())
    }
}

entry! {
    /// Sets bytes on the device.
    cuMemsetD8Async(to: u64, byte: c_uchar, bytes: usize, stream: *mut c_void), |state, fault| {
        let stream = target(state, stream, fault)?;
        if bytes == 0 {
            return Ok(());
        }
        expect_device(state, &[(to, bytes as u64)])?;
        state.enqueue(stream, Work::Fill { to, byte, bytes: bytes as u64 })
    }
}

impl State {
    /// As if the program freed the allocation around an address.
    pub fn free_around(&mut self, address: u64) {
        let Ok(current) = self.current() else { return };
        let found = self.context(current).ok().and_then(|context| context.silicon.around(address));
        if let Some((start, _)) = found {
            // What is wrong with it is in the report.
            let _: Result<(), c_int> = self.free(start).map_err(|code| code.0);
        }
    }
}
