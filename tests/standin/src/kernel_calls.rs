//! Entry points: modules, kernels, launches.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::codes::Code;
use super::device_calls::SHARED_OPT_IN;
use super::entry::put;
use super::settings::Kind;
use super::state::{Function, Handle, Prepared, State, Work};
use super::stream_calls::target;
use ptx_interpreter::code::Kernel;
use ptx_interpreter::machine::Shape;
use ptx_interpreter::text::Module;

/// Shared memory of a block that may be had without asking.
const WITHOUT_ASKING: u64 = 48 << 10;

/// The newest PTX of a driver, 70 for 7.0.
fn newest_ptx(driver: c_int) -> u32 {
    match driver {
        13000.. => 90,
        12000.. => 80,
        _ => 70,
    }
}

entry! {
    /// Loads a module. Machine code is refused: the stand-in's device has an architecture of its own.
    cuModuleLoadData(to: *mut *mut c_void, image: *const c_void), |state, _| {
        let current = state.current()?;
        state.not_while_capturing("cuModuleLoadData")?;
        // SAFETY: the caller promises PTX that ends with a zero, or a binary, whose first bytes are no text.
        let text = unsafe { CStr::from_ptr(image.cast()) };
        let Ok(text) = text.to_str() else { return Err(Code::NO_BINARY_FOR_GPU) };
        if text.starts_with('\u{7f}') {
            return Err(Code::NO_BINARY_FOR_GPU);
        }
        let module = Module::parse(text).map_err(|problem| {
            state.report.finding(problem);
            Code::INVALID_PTX
        })?;
        let version = module.version.split_once('.');
        let version = version.and_then(|(a, b)| Some(10 * a.parse::<u32>().ok()? + b.parse::<u32>().ok()?));
        if version.is_none_or(|version| version > newest_ptx(state.settings.driver)) {
            return Err(Code::UNSUPPORTED_PTX_VERSION);
        }
        let target = module.target.split(',').next().and_then(|t| t.trim().strip_prefix("sm_")?.parse::<c_int>().ok());
        if target.is_none_or(|target| target > state.settings.compute) {
            return Err(Code::NO_BINARY_FOR_GPU);
        }
        let handle = state.handle();
        state.modules.insert(handle, (current, Arc::new(module)));
        put(to, handle as *mut c_void)
    }
}

entry! {
    /// Unloads a module.
    cuModuleUnload(module: *mut c_void), |state, _| {
        state.current()?;
        state.not_while_capturing("cuModuleUnload")?;
        let handle = module as Handle;
        if state.modules.remove(&handle).is_none() {
            state.report.finding("unloading a module that is not (any more)".into());
            return Err(Code::INVALID_HANDLE);
        }
        let of_it = |work: &Work| matches!(work, Work::Kernel(kernel) if kernel.module == handle);
        if state.streams.values().flat_map(|stream| &stream.queue).any(of_it) {
            state.report.finding("unloading a module whose kernels are queued".into());
        }
        state.functions.retain(|_, function| function.module != handle);
        Ok(())
    }
}

entry! {
    /// A module's kernel.
    cuModuleGetFunction(to: *mut *mut c_void, module: *mut c_void, name: *const c_char), |state, _| {
        let context = state.current()?;
        let handle = module as Handle;
        let found = state.modules.get(&handle).filter(|found| found.0 == context);
        let module = found.map(|found| found.1.clone()).ok_or(Code::INVALID_HANDLE)?;
        // SAFETY: the caller promises text that ends with a zero.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        let text = module.kernel(&name).ok_or(Code::NOT_FOUND)?;
        let kernel = Kernel::decode(&module, text).map_err(|problem| {
            state.report.finding(problem);
            Code::INVALID_PTX
        })?;
        let function = state.handle();
        let kernel = Arc::new(kernel);
        state.functions.insert(function, Function { context, module: handle, kernel, dynamic: WITHOUT_ASKING });
        put(to, function as *mut c_void)
    }
}

fn function(state: &mut State, function: *mut c_void) -> Result<&mut Function, Code> {
    let current = state.current()?;
    let handle = function as Handle;
    if !state.functions.contains_key(&handle) {
        state.report.finding("a call with a kernel that is not (any more)".into());
    }
    let found = state.functions.get_mut(&handle).ok_or(Code::INVALID_HANDLE)?;
    if found.context == current { Ok(found) } else { Err(Code::INVALID_CONTEXT) }
}

fn fixed(kernel: &Kernel) -> u64 {
    kernel.arrays.iter().map(|(_, bytes)| bytes).sum()
}

entry! {
    /// A number that describes a kernel.
    cuFuncGetAttribute(to: *mut c_int, attribute: c_int, of: *mut c_void), |state, _| {
        let function = function(state, of)?;
        let found = match attribute {
            0 => function.kernel.most_threads.unwrap_or(1024) as c_int,
            1 => fixed(&function.kernel) as c_int,
            8 => function.dynamic as c_int,
            _ => return Err(Code::INVALID_VALUE),
        };
        put(to, found)
    }
}

entry! {
    /// Grants a kernel dynamic shared memory.
    cuFuncSetAttribute(of: *mut c_void, attribute: c_int, value: c_int), |state, _| {
        let function = function(state, of)?;
        let fits = value >= 0 && value as u64 + fixed(&function.kernel) <= SHARED_OPT_IN as u64;
        if attribute != 8 || !fits {
            return Err(Code::INVALID_VALUE);
        }
        function.dynamic = value as u64;
        Ok(())
    }
}

entry! {
    /// Starts a kernel.
    cuLaunchKernel(
        kernel: *mut c_void,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: *mut c_void,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void
    ), |state, fault| {
        let stream = target(state, stream, fault)?;
        let function = function(state, kernel)?;
        let (kernel, module, dynamic) = (function.kernel.clone(), function.module, function.dynamic);
        let block_x = if let Some(Kind::Threads(threads)) = fault { threads } else { block_x };
        let shape = Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], shared };
        check(state, &kernel, &shape, dynamic)?;
        if !extra.is_null() || (parameters.is_null() && !kernel.parameters.is_empty()) {
            return Err(Code::INVALID_VALUE);
        }
        let sizes = kernel.parameters.iter().map(|(bytes, _)| *bytes).enumerate();
        let parameters: Vec<Vec<u8>> = sizes
            .map(|(i, bytes)| {
                // SAFETY: the caller promises a pointer for each parameter, to so many bytes as the kernel takes.
                unsafe { std::slice::from_raw_parts((*parameters.add(i)).cast::<u8>(), bytes) }.to_vec()
            })
            .collect();
        let address = |bytes: &[u8]| u64::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        let first = parameters.iter().find(|bytes| bytes.len() == 8).map(|bytes| address(bytes));
        state.enqueue(stream, Work::Kernel(Arc::new(Prepared { kernel, shape, parameters, module })))?;
        match (fault, first) {
            (Some(Kind::FailLater(code)), _) => state.enqueue(stream, Work::Fails(Code(code)))?,
            (Some(Kind::FreeUnder), Some(at)) => state.free_around(at),
            _ => {}
        }
        Ok(())
    }
}

/// What the driver checks before it takes a launch.
fn check(state: &mut State, kernel: &Kernel, shape: &Shape, dynamic: u64) -> Result<(), Code> {
    let Shape { grid, block, shared } = *shape;
    let threads: u64 = block.iter().map(|&n| u64::from(n)).product();
    let mut refused = |code: Code, what: String| {
        state.report.finding(format!("`{}` with {what}", kernel.name));
        Err(code)
    };
    let few = grid[0] <= c_int::MAX as u32 && grid[1] <= 65535 && grid[2] <= 65535;
    if grid.contains(&0) || !few {
        return refused(Code::INVALID_VALUE, format!("a grid of {grid:?}"));
    }
    if !(1..=1024).contains(&threads) || block[2] > 64 {
        return refused(Code::INVALID_VALUE, format!("blocks of {block:?} threads"));
    }
    if kernel.most_threads.is_some_and(|most| threads > u64::from(most)) {
        return refused(Code::LAUNCH_OUT_OF_RESOURCES, format!("{threads} threads a block, more than it was made for"));
    }
    let granted = dynamic.min((SHARED_OPT_IN as u64).saturating_sub(fixed(kernel)));
    let asked = dynamic > WITHOUT_ASKING;
    let all = u64::from(shared) + fixed(kernel);
    if u64::from(shared) > granted || (!asked && all > WITHOUT_ASKING) {
        return refused(Code::INVALID_VALUE, format!("{all} bytes of shared memory, which it was not granted"));
    }
    Ok(())
}
