//! Named ranges in the timeline of a profiler, by NVTX: without its library, which CUDA 13 has no more.
//!
//! A profiler that wants ranges names its own library in `NVTX_INJECTION64_PATH`. A program loads it and calls its
//! `InitializeInjectionNvtx2` with a function that hands out a table; the profiler writes into the table what it wants
//! called. This is the protocol of NVTX 3's headers (`nvtxTypes.h`, `nvtxImpl.h`), of which only pushing and popping
//! ranges is done here. Where the variable is not set, the libraries that do the same for a program are looked for:
//! `nvtx3interop` of NVTX 3, then `nvToolsExt` of CUDA 12 and before.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libloading::Library;

type Push = unsafe extern "C" fn(*const c_char) -> c_int;
type Pop = unsafe extern "C" fn() -> c_int;

/// What to call.
#[derive(Clone, Copy)]
pub(super) struct Ranges {
    push: Push,
    pop: Pop,
}

/// A table that the profiler asks for: the one with the functions below.
const TABLE_OF_CALLBACKS: u32 = 1;
/// The functions of this module, with their numbers in its table and its length.
const MODULE_CORE: c_int = 1;
const RANGE_PUSH_A: usize = 9;
const RANGE_POP: usize = 11;
const CORE_FUNCTIONS: usize = 16;

/// Where the profiler puts the functions that it wants called.
static SLOTS: [AtomicPtr<c_void>; CORE_FUNCTIONS] = [const { AtomicPtr::new(null_mut()) }; CORE_FUNCTIONS];

/// A list of the slots' addresses.
struct Addresses([*mut c_void; CORE_FUNCTIONS]);
// SAFETY: addresses of a static, written once.
unsafe impl Send for Addresses {}
// SAFETY: as above.
unsafe impl Sync for Addresses {}

static ADDRESSES: OnceLock<Addresses> = OnceLock::new();

/// The table of callbacks as the profiler reads it.
#[repr(C)]
struct Callbacks {
    size: usize,
    module: unsafe extern "C" fn(c_int, *mut *mut *mut c_void, *mut c_uint) -> c_int,
}

static CALLBACKS: Callbacks = Callbacks { size: size_of::<Callbacks>(), module: functions_of };

/// Hands out the slots of a module; 0 for one that there is not.
unsafe extern "C" fn functions_of(module: c_int, table: *mut *mut *mut c_void, length: *mut c_uint) -> c_int {
    if module != MODULE_CORE {
        return 0;
    }
    let addresses = ADDRESSES.get_or_init(|| {
        // Number 0 is no function.
        let address = |i: usize| if i == 0 { null_mut() } else { SLOTS[i].as_ptr().cast() };
        Addresses(std::array::from_fn(address))
    });
    // SAFETY: the caller has room for both, or passes null for what it does not want.
    unsafe {
        if !table.is_null() {
            table.write(addresses.0.as_ptr().cast_mut());
        }
        if !length.is_null() {
            length.write(CORE_FUNCTIONS as c_uint);
        }
    }
    1
}

unsafe extern "C" fn table(which: u32) -> *const c_void {
    match which {
        TABLE_OF_CALLBACKS => (&raw const CALLBACKS).cast(),
        _ => std::ptr::null(),
    }
}

impl Ranges {
    /// Whoever listens, if anybody does.
    pub fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<Ranges>> = OnceLock::new();
        *FOUND.get_or_init(|| match std::env::var_os("NVTX_INJECTION64_PATH") {
            Some(path) => Self::injected(&path),
            None => LIBRARIES.iter().find_map(|name| Self::of_library(name)),
        })
    }

    /// By a profiler's library.
    fn injected(path: &std::ffi::OsStr) -> Option<Self> {
        type Initialise = unsafe extern "C" fn(unsafe extern "C" fn(u32) -> *const c_void) -> c_int;
        // SAFETY: whoever sets the variable wants this library loaded.
        let library = unsafe { Library::new(path) }.ok()?;
        // SAFETY: the protocol's type.
        let initialise = unsafe { library.get::<Initialise>(&b"InitializeInjectionNvtx2\0"[..]) }.map(|f| *f);
        let Ok(initialise) = initialise else { return None };
        // SAFETY: the protocol's call, once in a process, since `find` keeps what it found.
        let listens = unsafe { initialise(table) } != 0;
        // What it put into the slots lies in it.
        std::mem::forget(library);
        let [push, pop] = [RANGE_PUSH_A, RANGE_POP].map(|i| SLOTS[i].load(Ordering::Acquire));
        if !listens || push.is_null() || pop.is_null() {
            return None;
        }
        // SAFETY: the protocol says that functions of these types are at these numbers.
        unsafe {
            Some(Self {
                push: std::mem::transmute::<*mut c_void, Push>(push),
                pop: std::mem::transmute::<*mut c_void, Pop>(pop),
            })
        }
    }

    /// By a library that passes ranges on.
    fn of_library(name: &str) -> Option<Self> {
        // SAFETY: NVIDIA's libraries, whose initialisers have no requirements.
        let library = unsafe { Library::new(name) }.ok()?;
        // SAFETY: the types of NVTX's interface.
        let found = unsafe {
            let push = library.get::<Push>(&b"nvtxRangePushA\0"[..]).map(|f| *f);
            let pop = library.get::<Pop>(&b"nvtxRangePop\0"[..]).map(|f| *f);
            push.ok().zip(pop.ok())
        };
        let (push, pop) = found?;
        std::mem::forget(library);
        Some(Self { push, pop })
    }

    /// Opens a range.
    pub fn push(&self, name: &str) {
        if let Ok(name) = CString::new(name) {
            // SAFETY: text that ends with a zero and lives through the call.
            unsafe { (self.push)(name.as_ptr()) };
        }
    }

    /// Closes the last range.
    pub fn pop(&self) {
        // SAFETY: no conditions.
        unsafe { (self.pop)() };
    }
}

#[cfg(windows)]
const LIBRARIES: &[&str] = &["nvtx3interop.dll", "nvToolsExt64_1.dll"];
#[cfg(not(windows))]
const LIBRARIES: &[&str] = &["libnvtx3interop.so", "libnvtx3interop.so.1", "libnvToolsExt.so.1"];
