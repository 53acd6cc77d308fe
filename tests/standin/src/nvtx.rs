//! A profiler, as far as NVTX's injection protocol goes: with this library in NVTX_INJECTION64_PATH the ranges of a
//! program are lines of the log, between the driver's calls.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use super::state::state;

/// Numbers of NVTX 3's headers: the table of callbacks, the module of plain functions, two of them.
const CALLBACKS: c_uint = 1;
const CORE: c_int = 1;
const RANGE_PUSH_A: c_uint = 9;
const RANGE_POP: c_uint = 11;

type ExportTable = unsafe extern "C" fn(c_uint) -> *const c_void;
type Functions = unsafe extern "C" fn(c_int, *mut *mut *mut c_void, *mut c_uint) -> c_int;

#[repr(C)]
struct Callbacks {
    size: usize,
    functions: Functions,
}

/// Called by a program that has ranges: puts what is to be called into the program's table.
///
/// # Safety
/// As the protocol says of the function that it is given.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the protocol's")]
pub unsafe extern "C" fn InitializeInjectionNvtx2(table: ExportTable) -> c_int {
    // SAFETY: the protocol's call; null for a table that there is not.
    let callbacks = unsafe { table(CALLBACKS).cast::<Callbacks>().as_ref() };
    let Some(callbacks) = callbacks.filter(|found| found.size >= size_of::<Callbacks>()) else { return 0 };
    let (mut slots, mut length) = (std::ptr::null_mut(), 0);
    // SAFETY: the protocol's call, with room for both results.
    if unsafe { (callbacks.functions)(CORE, &raw mut slots, &raw mut length) } == 0 || length <= RANGE_POP {
        return 0;
    }
    let functions = [(RANGE_PUSH_A, push as *mut c_void), (RANGE_POP, pop as *mut c_void)];
    for (number, function) in functions {
        // SAFETY: the table has more entries than this number, each the address of a pointer to a function.
        unsafe { (*slots.add(number as usize)).cast::<*mut c_void>().write(function) };
    }
    1
}

unsafe extern "C" fn push(name: *const c_char) -> c_int {
    // SAFETY: the protocol's argument, text that ends with a zero.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    state().report.line(|| format!("RANGE {name}"));
    0
}

unsafe extern "C" fn pop() -> c_int {
    state().report.line(|| "RANGE END".to_owned());
    0
}
