//! The stand-in refuses what the driver refuses: the codes are those of the driver's manual.

#![allow(clippy::undocumented_unsafe_blocks, reason = "pointers to values that live through the calls, everywhere")]

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::standin::{codes::Code, device_calls::*, graph_calls::*, kernel_calls::*, memory_calls::*, stream_calls::*};

/// Adds 1 to numbers; its blocks have 64 threads at most, and 40000 bytes of shared memory are its own.
const PTX: &str = "\
.version 7.0
.target sm_80
.address_size 64

.visible .entry count_f32(
\t.param .u64 count_f32_param_0
)
.maxntid 64, 1, 1
{
\t.reg .b32 %r<3>;
\t.reg .f32 %f<3>;
\t.reg .b64 %rd<5>;
\t.shared .align 4 .b8 own[40000];

\tld.param.u64 %rd1, [count_f32_param_0];
\tcvta.to.global.u64 %rd2, %rd1;
\tmov.u32 %r1, %tid.x;
\tmul.wide.u32 %rd3, %r1, 4;
\tadd.s64 %rd4, %rd2, %rd3;
\tld.global.f32 %f1, [%rd4];
\tadd.f32 %f2, %f1, 0f3F800000;
\tst.global.f32 [%rd4], %f2;
\tret;
}
\0";

/// A device of this test alone, with its context bound to the thread.
struct Device(c_int);

/// The result of calls that have one.
fn made<T: Default>(call: impl FnOnce(*mut T) -> c_int) -> Result<T, c_int> {
    let mut value = T::default();
    match call(&raw mut value) {
        0 => Ok(value),
        code => Err(code),
    }
}

/// The same for handles.
fn handle(call: impl FnOnce(*mut *mut c_void) -> c_int) -> Result<*mut c_void, c_int> {
    let mut value = null_mut();
    match call(&raw mut value) {
        0 => Ok(value),
        code => Err(code),
    }
}

impl Device {
    fn open() -> Self {
        static START: Once = Once::new();
        static NEXT: AtomicI32 = AtomicI32::new(0);
        START.call_once(|| {
            // SAFETY: before the stand-in reads it, and only it does.
            unsafe { std::env::set_var("ENGINE_STANDIN_DEVICES", "64") };
        });
        let own = NEXT.fetch_add(1, Ordering::Relaxed);
        let context = unsafe {
            assert_eq!(cuInit(0), 0);
            handle(|to| cuDevicePrimaryCtxRetain(to, own)).unwrap()
        };
        assert_eq!(unsafe { cuCtxSetCurrent(context) }, 0);
        Self(own)
    }

    fn stream(&self) -> *mut c_void {
        handle(|to| unsafe { cuStreamCreate(to, 1) }).unwrap()
    }

    fn event(&self) -> *mut c_void {
        handle(|to| unsafe { cuEventCreate(to, 0) }).unwrap()
    }

    fn memory(&self, bytes: usize) -> u64 {
        made(|to| unsafe { cuMemAlloc_v2(to, bytes) }).unwrap()
    }

    fn kernel(&self) -> *mut c_void {
        let module = handle(|to| unsafe { cuModuleLoadData(to, PTX.as_ptr().cast()) }).unwrap();
        handle(|to| unsafe { cuModuleGetFunction(to, module, c"count_f32".as_ptr()) }).unwrap()
    }
}

fn launch(kernel: *mut c_void, [grid, block, shared]: [u32; 3], stream: *mut c_void, at: u64) -> c_int {
    let mut parameters = [(&raw const at).cast_mut().cast::<c_void>()];
    unsafe {
        let list = parameters.as_mut_ptr();
        cuLaunchKernel(kernel, grid, 1, 1, block, 1, 1, shared, stream, list, null_mut())
    }
}

fn upload(to: u64, from: &[f32], stream: *mut c_void) -> c_int {
    unsafe { cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), size_of_val(from), stream) }
}

/// By a copy to pageable memory, which waits for its stream.
fn download(from: u64, count: usize, stream: *mut c_void) -> Result<Vec<f32>, c_int> {
    let mut values = vec![0.0; count];
    match unsafe { cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast(), from, 4 * count, stream) } {
        0 => Ok(values),
        code => Err(code),
    }
}

#[test]
fn work_of_a_stream_runs_in_order_and_kernels_compute() {
    let device = Device::open();
    let (stream, kernel, at) = (device.stream(), device.kernel(), device.memory(256));
    assert_eq!(upload(at, &[1.0; 64], stream), 0);
    (0..3).for_each(|_| assert_eq!(launch(kernel, [1, 64, 0], stream, at), 0));
    assert_eq!(download(at, 64, stream), Ok(vec![4.0; 64]));
}

#[test]
fn launches_beyond_limits_are_refused() {
    let device = Device::open();
    let (stream, kernel, at) = (device.stream(), device.kernel(), device.memory(4096));
    let refused = |shape, code: Code| assert_eq!(launch(kernel, shape, stream, at), code.0, "{shape:?}");
    refused([0, 64, 0], Code::INVALID_VALUE);
    refused([1, 0, 0], Code::INVALID_VALUE);
    refused([1, 1025, 0], Code::INVALID_VALUE);
    refused([1, 65, 0], Code::LAUNCH_OUT_OF_RESOURCES);
    // 40000 bytes of its own and these are more than 48 KB.
    refused([1, 64, 9153], Code::INVALID_VALUE);
    assert_eq!(upload(at, &[0.0; 64], stream), 0);
    assert_eq!(launch(kernel, [1, 64, 9152], stream, at), 0);
    unsafe {
        assert_eq!(cuFuncSetAttribute(kernel, 8, 200_000), Code::INVALID_VALUE.0);
        assert_eq!(cuFuncSetAttribute(kernel, 8, 60_000), 0);
    }
    assert_eq!(launch(kernel, [1, 64, 60_000], stream, at), 0);
    refused([1, 64, 60_001], Code::INVALID_VALUE);
    assert_eq!(download(at, 1, stream), Ok(vec![2.0]));
}

#[test]
fn page_locked_memory_is_read_when_the_copy_runs_and_pageable_memory_at_the_call() {
    let device = Device::open();
    let (stream, at) = (device.stream(), device.memory(8));
    let locked = handle(|to| unsafe { cuMemHostAlloc(to, 4, 0) }).unwrap();
    let mut pageable = [1.0f32];
    unsafe {
        locked.cast::<f32>().write(1.0);
        assert_eq!(upload(at, &pageable, stream), 0);
        assert_eq!(cuMemcpyHtoDAsync_v2(at + 4, locked, 4, stream), 0);
        // Both are changed before anybody waits.
        locked.cast::<f32>().write(2.0);
    }
    pageable[0] = 2.0;
    assert_eq!(download(at, 2, stream), Ok(vec![1.0, 2.0]));
    assert_eq!(pageable, [2.0]);
    assert_eq!(unsafe { cuMemFreeHost(locked) }, 0);
    assert_eq!(unsafe { cuMemFreeHost(locked) }, Code::INVALID_VALUE.0);
}

#[test]
fn another_stream_sees_nothing_without_a_wait() {
    let device = Device::open();
    let (first, second, at, event) = (device.stream(), device.stream(), device.memory(4), device.event());
    unsafe {
        assert_eq!(cuMemsetD8Async(at, 0, 4, second), 0);
        assert_eq!(cuStreamSynchronize(second), 0);
        assert_eq!(upload(at, &[7.0], first), 0);
        assert_eq!(cuEventRecord(event, first), 0);
        assert_eq!(download(at, 1, second), Ok(vec![0.0]));
        assert_eq!(cuEventQuery(event), Code::NOT_READY.0);
        assert_eq!(cuStreamWaitEvent(second, event, 0), 0);
        assert_eq!(download(at, 1, second), Ok(vec![7.0]));
        assert_eq!(cuEventQuery(event), 0);
        let fresh = device.event();
        assert_eq!(made(|to| cuEventElapsedTime(to, event, fresh)), Err(Code::INVALID_HANDLE.0));
        assert_eq!(cuEventRecord(fresh, first), 0);
        assert_eq!(made(|to| cuEventElapsedTime_v2(to, event, fresh)), Err(Code::NOT_READY.0));
        assert_eq!(cuEventSynchronize(fresh), 0);
        assert!(made(|to| cuEventElapsedTime(to, event, fresh)).unwrap() >= 0.0);
    }
}

#[test]
fn a_stream_that_asks_whether_it_is_done_comes_to_an_end() {
    let device = Device::open();
    let (stream, at) = (device.stream(), device.memory(4));
    (0..3).for_each(|_| assert_eq!(upload(at, &[7.0], stream), 0));
    let asked = (0..10).find(|_| unsafe { cuStreamQuery(stream) } == 0);
    assert_eq!(asked, Some(3));
}

#[test]
fn freed_memory_is_gone_and_what_uses_it_breaks_the_context_for_good() {
    let device = Device::open();
    let (stream, kernel, at) = (device.stream(), device.kernel(), device.memory(256));
    unsafe {
        assert_eq!(cuMemFree_v2(at + 4), Code::INVALID_VALUE.0);
        assert_eq!(upload(at, &[0.0; 64], stream), 0);
        assert_eq!(launch(kernel, [1, 64, 0], stream, at), 0);
        // Too early: the launch has not run.
        assert_eq!(cuMemFree_v2(at), 0);
        assert_eq!(cuMemFree_v2(at), Code::INVALID_VALUE.0);
        assert_eq!(cuStreamSynchronize(stream), Code::ILLEGAL_ADDRESS.0);
        assert_eq!(made(|to| cuMemAlloc_v2(to, 4)), Err(Code::ILLEGAL_ADDRESS.0));
        assert_eq!(cuCtxSynchronize(), Code::ILLEGAL_ADDRESS.0);
    }
}

#[test]
fn reads_of_memory_that_nobody_wrote_are_found() {
    let device = Device::open();
    let (stream, kernel, at) = (device.stream(), device.kernel(), device.memory(256));
    assert_eq!(launch(kernel, [1, 64, 0], stream, at), 0);
    assert_eq!(unsafe { cuStreamSynchronize(stream) }, Code::LAUNCH_FAILED.0);
}

#[test]
fn a_capture_refuses_what_the_driver_refuses() {
    let device = Device::open();
    let (stream, other, kernel, at) = (device.stream(), device.stream(), device.kernel(), device.memory(256));
    let event = device.event();
    unsafe {
        assert_eq!(cuEventRecord(event, other), 0);
        let refused: [(&str, &dyn Fn() -> c_int, Code); 6] = [
            ("waiting", &|| cuStreamSynchronize(stream), Code::STREAM_CAPTURE_UNSUPPORTED),
            ("asking", &|| cuStreamQuery(stream), Code::STREAM_CAPTURE_UNSUPPORTED),
            ("all waiting", &|| cuCtxSynchronize(), Code::STREAM_CAPTURE_UNSUPPORTED),
            ("allocating", &|| cuMemAlloc_v2(&mut 0, 4), Code::STREAM_CAPTURE_UNSUPPORTED),
            ("freeing", &|| cuMemFree_v2(at), Code::STREAM_CAPTURE_UNSUPPORTED),
            ("an event from outside", &|| cuStreamWaitEvent(stream, event, 0), Code::STREAM_CAPTURE_ISOLATION),
        ];
        for (what, call, code) in refused {
            assert_eq!(cuStreamBeginCapture_v2(stream, 1), 0);
            assert_eq!(cuStreamBeginCapture_v2(stream, 1), Code::ILLEGAL_STATE.0);
            assert_eq!(call(), code.0, "{what}");
            assert_eq!(launch(kernel, [1, 64, 0], stream, at), Code::STREAM_CAPTURE_INVALIDATED.0, "{what}");
            let ended = handle(|to| cuStreamEndCapture(stream, to));
            assert_eq!(ended, Err(Code::STREAM_CAPTURE_INVALIDATED.0), "{what}");
        }
        assert_eq!(handle(|to| cuStreamEndCapture(stream, to)), Err(Code::ILLEGAL_STATE.0));
        let elsewhere = stream as usize;
        assert_eq!(cuStreamBeginCapture_v2(stream, 1), 0);
        let context = handle(|to| cuCtxGetCurrent(to)).unwrap() as usize;
        let ended = std::thread::spawn(move || {
            assert_eq!(cuCtxSetCurrent(context as *mut c_void), 0);
            cuStreamEndCapture(elsewhere as *mut c_void, &mut null_mut())
        });
        assert_eq!(ended.join().unwrap(), Code::STREAM_CAPTURE_WRONG_THREAD.0);
        // What is recorded runs when it is launched, as often as that.
        assert_eq!(launch(kernel, [1, 64, 0], stream, at), 0);
        let graph = handle(|to| cuStreamEndCapture(stream, to)).unwrap();
        assert_eq!(upload(at, &[0.0; 64], stream), 0);
        let ready = handle(|to| cuGraphInstantiateWithFlags(to, graph, 0)).unwrap();
        assert_eq!(cuGraphDestroy(graph), 0);
        (0..2).for_each(|_| assert_eq!(cuGraphLaunch(ready, stream), 0));
        assert_eq!(download(at, 1, stream), Ok(vec![2.0]));
        assert_eq!(cuGraphExecDestroy(ready), 0);
        assert_eq!(cuGraphLaunch(ready, stream), Code::INVALID_HANDLE.0);
    }
}

#[test]
fn a_capture_goes_on_in_a_second_stream_until_it_is_waited_for() {
    let device = Device::open();
    let (stream, beside, kernel) = (device.stream(), device.stream(), device.kernel());
    let (at, copy) = (device.memory(256), device.memory(256));
    let (fork, join) = (device.event(), device.event());
    let begin = || unsafe {
        assert_eq!(cuStreamBeginCapture_v2(stream, 1), 0);
        assert_eq!(launch(kernel, [1, 64, 0], stream, at), 0);
        assert_eq!(cuEventRecord(fork, stream), 0);
        assert_eq!(cuStreamWaitEvent(beside, fork, 0), 0);
        assert_eq!(launch(kernel, [1, 64, 0], beside, at), 0);
    };
    unsafe {
        begin();
        assert_eq!(cuStreamBeginCapture_v2(beside, 1), Code::ILLEGAL_STATE.0);
        assert_eq!(handle(|to| cuStreamEndCapture(beside, to)), Err(Code::STREAM_CAPTURE_UNMATCHED.0));
        assert_eq!(handle(|to| cuStreamEndCapture(stream, to)), Err(Code::STREAM_CAPTURE_UNJOINED.0));
        // The second stream is free again, and the event marks nothing any more.
        assert_eq!(cuStreamSynchronize(beside), 0);
        assert_eq!(cuStreamWaitEvent(beside, fork, 0), Code::CAPTURED_EVENT.0);

        begin();
        assert_eq!(cuStreamSynchronize(beside), Code::STREAM_CAPTURE_UNSUPPORTED.0);
        assert_eq!(handle(|to| cuStreamEndCapture(stream, to)), Err(Code::STREAM_CAPTURE_INVALIDATED.0));

        // An end that work follows is none.
        begin();
        assert_eq!(cuEventRecord(join, beside), 0);
        assert_eq!(cuStreamWaitEvent(stream, join, 0), 0);
        assert_eq!(launch(kernel, [1, 64, 0], beside, at), 0);
        assert_eq!(handle(|to| cuStreamEndCapture(stream, to)), Err(Code::STREAM_CAPTURE_UNJOINED.0));

        begin();
        assert_eq!(cuEventRecord(join, beside), 0);
        assert_eq!(cuStreamWaitEvent(stream, join, 0), 0);
        assert_eq!(cuMemcpyDtoDAsync_v2(copy, at, 256, stream), 0);
        let graph = handle(|to| cuStreamEndCapture(stream, to)).unwrap();
        let ready = handle(|to| cuGraphInstantiateWithFlags(to, graph, 0)).unwrap();
        assert_eq!(upload(at, &[0.0; 64], stream), 0);
        assert_eq!(cuGraphLaunch(ready, stream), 0);
        assert_eq!(download(copy, 1, stream), Ok(vec![2.0]), "the copy comes after both streams' kernels");
    }
}

#[test]
fn handles_of_another_context_and_after_its_end_are_refused() {
    let first = Device::open();
    let (stream, kernel, at) = (first.stream(), first.kernel(), first.memory(256));
    let own = handle(|to| unsafe { cuCtxGetCurrent(to) }).unwrap();
    let _second = Device::open();
    unsafe {
        assert_eq!(launch(kernel, [1, 64, 0], stream, at), Code::INVALID_CONTEXT.0);
        assert_eq!(cuStreamSynchronize(stream), Code::INVALID_CONTEXT.0);
        assert_eq!(cuMemFree_v2(at), Code::INVALID_VALUE.0);
        assert_eq!(cuCtxSetCurrent(own), 0);
        assert_eq!(cuStreamDestroy_v2(stream), 0);
        assert_eq!(cuStreamSynchronize(stream), Code::INVALID_HANDLE.0);
        assert_eq!(cuDevicePrimaryCtxRelease_v2(first.0), 0);
        assert_eq!(cuMemFree_v2(at), Code::CONTEXT_IS_DESTROYED.0);
        assert_eq!(cuCtxSetCurrent(own), Code::CONTEXT_IS_DESTROYED.0);
        assert_eq!(cuCtxSetCurrent(null_mut()), 0);
        assert_eq!(cuCtxSynchronize(), Code::INVALID_CONTEXT.0);
    }
}

#[test]
fn modules_that_the_driver_cannot_load_are_refused() {
    let _device = Device::open();
    let load = |text: &str| handle(|to| unsafe { cuModuleLoadData(to, text.as_ptr().cast()) });
    let with = |from: &str, to: &str| load(&PTX.replace(from, to));
    assert_eq!(with(".version 7.0", ".version 9.1"), Err(Code::UNSUPPORTED_PTX_VERSION.0));
    assert_eq!(with("sm_80", "sm_90"), Err(Code::NO_BINARY_FOR_GPU.0));
    assert_eq!(with(".visible", ".invisible").map(|_| ()), Ok(()));
    assert_eq!(load("\u{7f}ELF\0"), Err(Code::NO_BINARY_FOR_GPU.0));
    assert_eq!(load("no PTX\0"), Err(Code::INVALID_PTX.0));
    let module = load(PTX).unwrap();
    let missing = handle(|to| unsafe { cuModuleGetFunction(to, module, c"another".as_ptr()) });
    assert_eq!(missing, Err(Code::NOT_FOUND.0));
    assert_eq!(unsafe { cuModuleUnload(module) }, 0);
    assert_eq!(unsafe { cuModuleUnload(module) }, Code::INVALID_HANDLE.0);
}
