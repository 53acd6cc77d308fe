//! Entry points: the driver itself, devices, contexts.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::codes::{Code, describe};
use super::entry::put;
use super::state::{CURRENT, State, state};
use super::stream_calls::expect_no_capture;

/// A device's shared memory for a block, without and with asking: an A100's.
const SHARED: c_int = 48 << 10;
pub const SHARED_OPT_IN: c_int = 163 << 10;

entry! {
    /// Starts the driver.
    cuInit(flags: c_uint), |state, _| {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        if state.settings.devices == 0 {
            return Err(Code::NO_DEVICE);
        }
        if !state.initialised {
            state.initialised = true;
            at_exit();
        }
        Ok(())
    }
}

/// Lets the report be written when the process ends, however much it has let go by then.
fn at_exit() {
    extern "C" fn write() {
        state().report.write();
    }
    unsafe extern "C" {
        fn atexit(callback: extern "C" fn()) -> c_int;
    }
    // SAFETY: the function lives as long as the process; this library is never unloaded.
    unsafe { atexit(write) };
}

entry! {
    /// The newest CUDA that the driver supports, 13000 for 13.0.
    cuDriverGetVersion(version: *mut c_int), |state, _| put(version, state.settings.driver)
}

/// A code's description.
///
/// # Safety
/// As the driver's interface says of its pointers.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the driver's")]
pub unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    let found = describe(code).map_or(std::ptr::null(), |(_, text)| text.as_ptr());
    match put(text, found) {
        Ok(()) if !found.is_null() => 0,
        _ => Code::INVALID_VALUE.0,
    }
}

/// A code's name.
///
/// # Safety
/// As the driver's interface says of its pointers.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the driver's")]
pub unsafe extern "C" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> c_int {
    let found = describe(code).map_or(std::ptr::null(), |(name, _)| name.as_ptr());
    match put(name, found) {
        Ok(()) if !found.is_null() => 0,
        _ => Code::INVALID_VALUE.0,
    }
}

fn device(state: &State, device: c_int) -> Result<usize, Code> {
    if !state.initialised {
        return Err(Code::NOT_INITIALIZED);
    }
    usize::try_from(device).ok().filter(|&i| i < state.settings.devices).ok_or(Code::INVALID_DEVICE)
}

entry! {
    /// How many devices there are.
    cuDeviceGetCount(count: *mut c_int), |state, _| {
        if !state.initialised {
            return Err(Code::NOT_INITIALIZED);
        }
        put(count, state.settings.devices as c_int)
    }
}

entry! {
    /// A device by its index.
    cuDeviceGet(to: *mut c_int, ordinal: c_int), |state, _| device(state, ordinal).and_then(|i| put(to, i as c_int))
}

entry! {
    /// A device's name.
    cuDeviceGetName(name: *mut c_char, length: c_int, of: c_int), |state, _| {
        let i = device(state, of)?;
        let mut text = format!("Stand-in GPU {i}").into_bytes();
        text.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
        text.push(0);
        // SAFETY: the caller has `length` bytes there, and the text was cut to fit.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), name.cast(), text.len()) };
        Ok(())
    }
}

entry! {
    /// Bytes of a device's memory.
    cuDeviceTotalMem_v2(bytes: *mut usize, of: c_int), |state, _| {
        device(state, of)?;
        put(bytes, state.settings.memory as usize)
    }
}

entry! {
    /// A number that describes a device: an A100's, for those that the engine asks for.
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, of: c_int), |state, _| {
        device(state, of)?;
        let compute = state.settings.compute;
        let found = match attribute {
            // Threads of a block; its extents; the grid's.
            1..=3 => 1024,
            4 => 64,
            5 => c_int::MAX,
            6 | 7 => 65535,
            8 => SHARED,
            10 => 32,
            // Clocks in kHz, the bus in bits, the cache in bytes.
            13 => 1_410_000,
            16 => 108,
            36 => 1_215_000,
            37 => 5120,
            38 => 40 << 20,
            75 => compute / 10,
            76 => compute % 10,
            97 => SHARED_OPT_IN,
            115 => 0,
            other => {
                state.report.finding(format!("cuDeviceGetAttribute({other}), which is not modelled"));
                return Err(Code::INVALID_VALUE);
            }
        };
        put(value, found)
    }
}

entry! {
    /// A device's primary context.
    cuDevicePrimaryCtxRetain(to: *mut *mut c_void, of: c_int), |state, _| {
        let i = device(state, of)?;
        state.not_while_capturing("cuDevicePrimaryCtxRetain")?;
        let found = state.contexts.iter().find(|(_, context)| context.device == i).map(|(&handle, _)| handle);
        let handle = found.unwrap_or_else(|| state.open(i));
        state.context(handle)?.retained += 1;
        put(to, handle as *mut c_void)
    }
}

entry! {
    /// Lets a primary context go; after the last time it is destroyed.
    cuDevicePrimaryCtxRelease_v2(of: c_int), |state, _| {
        let i = device(state, of)?;
        let found = state.contexts.iter().find(|(_, context)| context.device == i).map(|(&handle, _)| handle);
        let handle = found.ok_or(Code::INVALID_CONTEXT)?;
        let context = state.context(handle)?;
        context.retained -= 1;
        if context.retained > 0 {
            return Ok(());
        }
        close(state, handle);
        Ok(())
    }
}

/// Destroys a context with all that is its own, and tells what was not given back before.
fn close(state: &mut State, handle: u64) {
    let Some(context) = state.contexts.remove(&handle) else { return };
    let remaining = context.silicon.left();
    let (count, bytes) = (remaining.len(), remaining.iter().sum::<u64>());
    let sound = context.sticky.is_none();
    let own = |list: &mut dyn Iterator<Item = u64>| list.filter(|&context| context == handle).count();
    let streams = state.streams.values().filter(|s| s.context == handle);
    let pending: usize = streams.clone().map(|stream| stream.queue.len()).sum();
    let left = [
        ("allocations", count),
        ("streams", streams.filter(|stream| !stream.destroyed).count() - 1),
        ("events", own(&mut state.events.values().map(|event| event.context))),
        ("modules", own(&mut state.modules.values().map(|module| module.0))),
        ("graphs", own(&mut state.graphs.values().map(|graph| graph.0))),
        ("executable graphs", own(&mut state.executables.values().map(|graph| graph.0))),
        ("pieces of page-locked memory", own(&mut state.locked.values().map(|locked| locked.1))),
        ("pieces of work that were not awaited", pending),
    ];
    state.streams.retain(|_, stream| stream.context != handle);
    state.events.retain(|_, event| event.context != handle);
    state.modules.retain(|_, module| module.0 != handle);
    state.functions.retain(|_, function| function.context != handle);
    state.graphs.retain(|_, graph| graph.0 != handle);
    state.executables.retain(|_, graph| graph.0 != handle);
    let pages = |bytes: u64| bytes.next_multiple_of(super::silicon::PAGE);
    remaining.into_iter().for_each(|bytes| state.report.freed(bytes, pages(bytes)));
    for (what, count) in left.into_iter().filter(|(_, count)| *count > 0 && sound) {
        let of = if what == "allocations" { format!(" of {bytes} bytes") } else { String::new() };
        state.report.finding(format!("a context was destroyed with {count} {what}{of}"));
    }
    state.report.write();
}

entry! {
    /// The calling thread's context.
    cuCtxGetCurrent(to: *mut *mut c_void), |state, _| {
        if !state.initialised {
            return Err(Code::NOT_INITIALIZED);
        }
        put(to, CURRENT.get() as *mut c_void)
    }
}

entry! {
    /// Makes a context the calling thread's.
    cuCtxSetCurrent(context: *mut c_void), |state, _| {
        let handle = context as u64;
        if handle != 0 && !state.contexts.contains_key(&handle) {
            state.report.finding("making a context current that is not (any more)".into());
            return Err(Code::CONTEXT_IS_DESTROYED);
        }
        CURRENT.set(handle);
        Ok(())
    }
}

entry! {
    /// Waits until all that was queued is done.
    cuCtxSynchronize(), |state, _| {
        let current = state.current()?;
        state.not_while_capturing("cuCtxSynchronize")?;
        let own = state.streams.iter().filter(|(_, stream)| stream.context == current);
        let own: Vec<u64> = own.map(|(&handle, _)| handle).collect();
        // Whichever thread captures: what is captured has no progress that could be waited for.
        own.iter().try_for_each(|&stream| expect_no_capture(state, stream, "cuCtxSynchronize"))?;
        own.into_iter().for_each(|stream| state.drain(stream));
        state.current().map(|_| ())
    }
}
