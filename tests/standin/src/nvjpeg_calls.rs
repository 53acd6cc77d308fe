//! The entry points of nvJPEG (`libnvjpeg.so.13`) that the engine calls. Files are decoded by the engine's own decoder,
//! so that a run must give the bits of one without it; what the device itself rounds otherwise cannot be seen here.

use std::collections::HashMap;
use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use image::DynamicImage;

use super::codes::Code;
use super::silicon::Silicon;
use super::state::{Handle, Work, state};

const NOT_INITIALIZED: c_int = 1;
const INVALID_PARAMETER: c_int = 2;
const BAD_JPEG: c_int = 3;
const NOT_SUPPORTED: c_int = 4;
const EXECUTION_FAILED: c_int = 6;

/// Interleaved red, green and blue.
const INTERLEAVED: c_int = 5;
const CHANNELS: usize = 4;

/// `nvjpegImage_t`.
#[repr(C)]
pub struct Image {
    channel: [*mut c_uchar; CHANNELS],
    pitch: [usize; CHANNELS],
}

/// Handles of the library, and of decoders with the library's that they are of.
#[derive(Default)]
struct Library {
    decoders: HashMap<Handle, Handle>,
    handles: Vec<Handle>,
    /// What every file is answered with, where a test wants that.
    refuses: Option<c_int>,
}

fn library() -> MutexGuard<'static, Library> {
    static LIBRARY: LazyLock<Mutex<Library>> = LazyLock::new(|| {
        let refuses = std::env::var("ENGINE_STANDIN_NVJPEG_REFUSES").ok();
        let refuses = refuses.map(|status| status.parse().expect("ENGINE_STANDIN_NVJPEG_REFUSES is a status"));
        Mutex::new(Library { refuses, ..Library::default() })
    });
    LIBRARY.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A call: 0, or a status, which goes into the log; wrong arguments are findings.
fn call(entry: &'static str, work: impl FnOnce(&mut Library) -> Result<(), c_int>) -> c_int {
    let status = work(&mut library()).map_or_else(|status| status, |()| 0);
    let mut state = state();
    state.report.count(entry);
    state.report.line(|| format!("{entry} = {status}"));
    if [NOT_INITIALIZED, INVALID_PARAMETER].contains(&status) {
        state.report.finding(format!("{entry} with arguments that nvJPEG refuses"));
    }
    status
}

fn put<T>(to: *mut T, value: T) -> Result<(), c_int> {
    super::entry::put(to, value).map_err(|_| INVALID_PARAMETER)
}

/// Defines an entry point of the library.
macro_rules! nvjpeg {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*), |$library:pat_param| $body:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As the library's interface says of its pointers.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments, reason = "the library's")]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            call(stringify!($name), |$library| $body)
        }
    };
}

nvjpeg! {
    /// Opens the library in the current context.
    nvjpegCreateEx(
        _backend: c_int,
        _device_allocator: *mut c_void,
        _pinned_allocator: *mut c_void,
        _flags: c_uint,
        to: *mut *mut c_void
    ), |library| {
        if state().current().is_err() {
            return Err(NOT_INITIALIZED);
        }
        let handle = state().handle();
        library.handles.push(handle);
        put(to, handle as *mut c_void)
    }
}

nvjpeg! {
    /// Closes it; its decoders must be gone, and its context must still be there.
    nvjpegDestroy(handle: *mut c_void), |library| {
        let handle = handle as Handle;
        let at = library.handles.iter().position(|&own| own == handle).ok_or(NOT_INITIALIZED)?;
        library.handles.remove(at);
        let mut state = state();
        if state.current().is_err() {
            state.report.finding("nvJPEG was closed after its context".into());
        }
        if library.decoders.values().any(|&of| of == handle) {
            state.report.finding("nvJPEG was closed before its decoders".into());
        }
        Ok(())
    }
}

nvjpeg! {
    /// A decoder.
    nvjpegJpegStateCreate(handle: *mut c_void, to: *mut *mut c_void), |library| {
        if !library.handles.contains(&(handle as Handle)) {
            return Err(NOT_INITIALIZED);
        }
        let decoder = state().handle();
        library.decoders.insert(decoder, handle as Handle);
        put(to, decoder as *mut c_void)
    }
}

nvjpeg! {
    /// It is gone.
    nvjpegJpegStateDestroy(decoder: *mut c_void), |library| {
        library.decoders.remove(&(decoder as Handle)).map(drop).ok_or(NOT_INITIALIZED)
    }
}

nvjpeg! {
    /// Decodes a file into device memory, when the stream comes to it.
    nvjpegDecode(
        handle: *mut c_void,
        decoder: *mut c_void,
        data: *const c_uchar,
        length: usize,
        format: c_int,
        destination: *mut Image,
        stream: *mut c_void
    ), |library| {
        if library.decoders.get(&(decoder as Handle)) != Some(&(handle as Handle)) {
            return Err(NOT_INITIALIZED);
        }
        if data.is_null() || destination.is_null() || format != INTERLEAVED {
            return Err(INVALID_PARAMETER);
        }
        if let Some(status) = library.refuses {
            return Err(status);
        }
        // SAFETY: the caller promises as many bytes, and an image.
        let (file, image) = unsafe { (std::slice::from_raw_parts(data, length), &*destination) };
        let rgb = match image::load_from_memory_with_format(file, image::ImageFormat::Jpeg) {
            Ok(DynamicImage::ImageRgb8(rgb)) => rgb,
            Ok(DynamicImage::ImageLuma8(grey)) => DynamicImage::ImageLuma8(grey).into_rgb8(),
            Ok(_) => return Err(NOT_SUPPORTED),
            Err(_) => return Err(BAD_JPEG),
        };
        let (at, pitch, row) = (image.channel[0] as u64, image.pitch[0], 3 * rgb.width() as usize);
        if at == 0 || pitch < row {
            return Err(INVALID_PARAMETER);
        }
        let work = move |silicon: &mut Silicon| {
            let mut rows = rgb.as_raw().chunks_exact(row).enumerate();
            rows.try_for_each(|(y, bytes)| silicon.put(at + (y * pitch) as u64, bytes))
        };
        let stream = state().stream(stream as Handle).map_err(|_| INVALID_PARAMETER)?;
        let work = Work::Host { what: "a photo by nvJPEG", uses: Arc::new(vec![at]), work: Arc::new(work) };
        state().enqueue(stream, work).map_err(|_: Code| EXECUTION_FAILED)
    }
}
