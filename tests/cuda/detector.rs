//! The detector finds each mistake that was made on purpose, and nothing in correct kernels.

use engine::cuda::driver::{Driver, Launch, Stream};

use crate::emulator::{Build, Emulator};

use crate::test_device::{on_gpu, on_interpreter};

/// The emulated device; none where the other tests run on another one, whose machine may have no compiler.
fn device(build: Build) -> Option<std::sync::Arc<Emulator>> {
    if on_gpu() || on_interpreter().is_some() { None } else { crate::emulator::device(build) }
}

/// Runs a kernel of `tests/emulator/mistakes.cu` on 64 threads a block over buffers of 64 floats a block, y zero at
/// first.
fn launch(kernel: &str, blocks: u32) -> Option<Result<Vec<f32>, String>> {
    let device = device(Build::Checked)?;
    let n = 64 * blocks as usize;
    let bytes = 4 * n as u64;
    let (x, y) = (device.allocate(bytes).unwrap(), device.allocate(bytes).unwrap());
    let values: Vec<u8> = (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
    device.upload(x, &values, Stream::FIRST).unwrap();
    device.fill(y, 0, bytes, Stream::FIRST).unwrap();
    let mut words = [x, y];
    let mut parameters = words.each_mut().map(|w| std::ptr::from_mut(w).cast());
    let sizes = [8, 8];
    let mut launch = Launch {
        kernel,
        grid: [blocks, 1, 1],
        block: [64, 1, 1],
        shared: 0,
        parameters: &mut parameters,
        sizes: &sizes,
    };
    let result = device.launch(Stream::FIRST, &mut launch).map_err(|e| e.to_string());
    let mut out = vec![0u8; bytes as usize];
    device.download(y, &mut out, Stream::FIRST).unwrap();
    device.release(x);
    device.release(y);
    Some(result.map(|()| bytemuck::cast_slice(&out).to_vec()))
}

#[test]
fn mistakes_are_found() {
    for (kernel, blocks, expected) in [
        ("mistake_no_barrier", 1, "RACE: reads what thread"),
        ("mistake_reuse", 1, "RACE: writes over what another thread reads"),
        ("mistake_shared_sum", 1, "RACE"),
        ("mistake_shared_sum", 2, "RACE"),
        ("mistake_reads_past", 1, "accesses device memory out of bounds: bytes 256 to 260 of a buffer of 256"),
        ("mistake_shared_past", 1, "accesses shared memory out of bounds"),
        ("mistake_unwritten", 1, "reads memory that nobody wrote"),
    ] {
        let Some(result) = launch(kernel, blocks) else { return };
        let error = result.expect_err(kernel);
        assert!(error.contains(expected), "{kernel}: {error}");
        assert!(error.contains(kernel), "{kernel}: {error}");
    }
}

#[test]
fn a_write_past_the_end_is_found() {
    let Some(device) = device(Build::Checked) else { return };
    // The write itself is reported; the memory behind the buffer is restored by nobody, so this buffer is left to the
    // end of the program.
    let (x, y) = (device.allocate(256).unwrap(), device.allocate(256).unwrap());
    device.fill(x, 0, 256, Stream::FIRST).unwrap();
    let mut words = [x, y];
    let mut parameters = words.each_mut().map(|w| std::ptr::from_mut(w).cast());
    let mut launch = Launch {
        kernel: "mistake_writes_past",
        grid: [1; 3],
        block: [64, 1, 1],
        shared: 0,
        parameters: &mut parameters,
        sizes: &[8, 8],
    };
    let error = device.launch(Stream::FIRST, &mut launch).unwrap_err().to_string();
    assert!(error.contains("out of bounds: bytes 256 to 260 of a buffer of 256"), "{error}");
}

#[test]
fn correct_kernels_pass() {
    let Some(reversed) = launch("reverse_f32", 1) else { return };
    assert_eq!(reversed.unwrap()[..3], [63.0, 62.0, 61.0]);
    let exchanged = launch("warp_exchange_f32", 1).unwrap().unwrap();
    assert_eq!((exchanged[0], exchanged[32]), (31.0, 63.0));
    let sum = launch("atomic_sum_f32", 3).unwrap().unwrap();
    assert_eq!(sum[0], (0..192).sum::<i32>() as f32);
}

#[test]
fn parameters_are_compared_with_what_the_kernel_takes() {
    let Some(device) = device(Build::Checked) else { return };
    let mut number = 0u32;
    let mut parameters = [std::ptr::from_mut(&mut number).cast()];
    let mut launch = Launch {
        kernel: "reverse_f32",
        grid: [1; 3],
        block: [64, 1, 1],
        shared: 0,
        parameters: &mut parameters,
        sizes: &[4],
    };
    let error = device.launch(Stream::FIRST, &mut launch).unwrap_err().to_string();
    assert!(error.contains("takes parameters of [8, 8] bytes, not [4]"), "{error}");
    launch.kernel = "no_such";
    let error = device.launch(Stream::FIRST, &mut launch).unwrap_err().to_string();
    assert!(error.contains("there is no kernel `no_such`"), "{error}");
}
