//! Small kernels written down in PTX, and a launch for them.

use std::sync::Arc;

use engine::cuda::driver::{Driver, Launch, Stream};

use crate::interpreter::{Interpreter, Library};

/// A kernel of this body. It takes two pointers, a and b; thread i has its index in %r1, the addresses of its words of
/// a and b in %rd4 and %rd5, of `tile` in %r4, and its word of a in %r5. `tile` has 64 words.
pub fn kernel(body: &str) -> String {
    format!(
        "
.version 7.0
.target sm_80
.address_size 64

.visible .entry small(
	.param .u64 small_param_0,
	.param .u64 small_param_1
)
{{
	.reg .pred 	%p<8>;
	.reg .f32 	%f<16>;
	.reg .b32 	%r<32>;
	.reg .b64 	%rd<16>;
	.shared .align 16 .b8 tile[256];

	ld.param.u64 	%rd1, [small_param_0];
	ld.param.u64 	%rd2, [small_param_1];
	mov.u32 	%r1, %tid.x;
	mov.u32 	%r30, %ctaid.x;
	mov.u32 	%r31, %ntid.x;
	mad.lo.s32 	%r29, %r30, %r31, %r1;
	mul.wide.u32 	%rd3, %r29, 4;
	add.s64 	%rd4, %rd1, %rd3;
	add.s64 	%rd5, %rd2, %rd3;
	shl.b32 	%r2, %r1, 2;
	mov.u32 	%r3, tile;
	add.s32 	%r4, %r3, %r2;
	ld.global.u32 	%r5, [%rd4];
{body}
	ret;

}}
"
    )
}

/// Runs it on blocks of 64 threads over a = 0, 1, 2, ... and b = 0; what b holds afterwards.
pub fn run(body: &str, blocks: u32) -> Result<Vec<u32>, String> {
    run_text(&kernel(body), blocks, 64)
}

/// As [`run`], of a whole module whose kernel is called `small`.
pub fn run_text(text: &str, blocks: u32, threads: u32) -> Result<Vec<u32>, String> {
    let library = Arc::new(Library::parse([text])?);
    let device = Interpreter::new(library).with_budget(100_000);
    let n = (blocks * threads) as usize;
    let bytes = 4 * n as u64;
    let (a, b) = (device.allocate(bytes).unwrap(), device.allocate(bytes).unwrap());
    let values: Vec<u32> = (0..n as u32).collect();
    device.upload(a, bytemuck::cast_slice(&values), Stream::FIRST).unwrap();
    device.fill(b, 0, bytes, Stream::FIRST).unwrap();
    let mut words = [a, b];
    let mut parameters = words.each_mut().map(|word| std::ptr::from_mut(word).cast());
    let mut launch = Launch {
        kernel: "small",
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        shared: 0,
        parameters: &mut parameters,
        sizes: &[8, 8],
    };
    device.launch(Stream::FIRST, &mut launch).map_err(|error| error.to_string())?;
    let mut out = vec![0u32; n];
    device.download(b, bytemuck::cast_slice_mut(&mut out), Stream::FIRST).unwrap();
    Ok(out)
}
