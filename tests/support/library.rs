//! A device with a library of convolutions: the emulated one, and plain loops in f64 for what cuDNN would do.

use std::ops::Range;
use std::sync::Arc;

use engine::Result;
use engine::cuda::convolution::{Call, Pointers};
use engine::cuda::driver::{Driver, Event, HostMemory, Launch, Recording, Stream};
use engine::cuda::storage::{Element, Pointer};

/// Everything as the device below does it, but for convolutions.
pub struct WithLibrary(pub Arc<dyn Driver>);

impl WithLibrary {
    fn read(&self, from: Pointer, len: usize, stream: Stream) -> Result<Vec<f32>> {
        let mut bytes = vec![0u8; 4 * len];
        self.0.download(from, &mut bytes, stream)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }
}

impl Driver for WithLibrary {
    fn convolution_workspace(&self, _: &Call) -> Result<Option<u64>> {
        // Any number will do: the plan must hold so many bytes ready.
        Ok(Some(1000))
    }

    fn convolve(&self, stream: Stream, call: &Call, at: &Pointers) -> Result<()> {
        assert!(call.element == Element::F32 && at.workspace != 0);
        let (from, to) = (call.input, call.output);
        let [kd, kh, kw] = call.kernel;
        let x = self.read(at.x, from.len(), stream)?;
        let w = self.read(at.w, to.c * kd * kh * kw * from.c, stream)?;
        let bias = self.read(at.bias, to.c, stream)?;
        let residual = if at.residual == 0 { None } else { Some(self.read(at.residual, to.len(), stream)?) };
        let mut y = Vec::with_capacity(to.len());
        let source = |o: usize, s: usize, k: usize, kernel: usize, size: usize| {
            (o * s + k).checked_sub(kernel / 2).filter(|&i| i < size)
        };
        for z in 0..to.d {
            for r in 0..to.h {
                for c in 0..to.w {
                    for (o, &first) in bias.iter().enumerate() {
                        let mut sum = f64::from(first);
                        for a in 0..kd {
                            for b in 0..kh {
                                for e in 0..kw {
                                    let (Some(i), Some(j), Some(k)) = (
                                        source(z, call.stride[0], a, kd, from.d),
                                        source(r, call.stride[1], b, kh, from.h),
                                        source(c, call.stride[2], e, kw, from.w),
                                    ) else {
                                        continue;
                                    };
                                    let pixel = ((i * from.h + j) * from.w + k) * from.c;
                                    let weight = (((o * kd + a) * kh + b) * kw + e) * from.c;
                                    for q in 0..from.c {
                                        sum += f64::from(x[pixel + q]) * f64::from(w[weight + q]);
                                    }
                                }
                            }
                        }
                        sum += residual.as_ref().map_or(0.0, |r| f64::from(r[y.len()]));
                        y.push(if call.relu { sum.max(0.0) as f32 } else { sum as f32 });
                    }
                }
            }
        }
        self.0.upload(at.y, bytemuck::cast_slice(&y), stream)
    }

    fn name(&self) -> String {
        self.0.name()
    }
    fn memory(&self) -> Result<(u64, u64)> {
        self.0.memory()
    }
    fn allocate(&self, bytes: u64) -> Result<Pointer> {
        self.0.allocate(bytes)
    }
    fn release(&self, pointer: Pointer) {
        self.0.release(pointer);
    }
    fn host_memory(&self, bytes: usize) -> Result<Box<dyn HostMemory>> {
        self.0.host_memory(bytes)
    }
    fn stream(&self) -> Result<Stream> {
        self.0.stream()
    }
    fn upload(&self, to: Pointer, bytes: &[u8], stream: Stream) -> Result<()> {
        self.0.upload(to, bytes, stream)
    }
    fn upload_pinned(&self, to: Pointer, from: &dyn HostMemory, bytes: Range<usize>, stream: Stream) -> Result<()> {
        self.0.upload_pinned(to, from, bytes, stream)
    }
    fn download_pinned(
        &self,
        from: Pointer,
        to: &mut dyn HostMemory,
        bytes: Range<usize>,
        stream: Stream,
    ) -> Result<()> {
        self.0.download_pinned(from, to, bytes, stream)
    }
    fn download(&self, from: Pointer, bytes: &mut [u8], stream: Stream) -> Result<()> {
        self.0.download(from, bytes, stream)
    }
    fn copy(&self, to: Pointer, from: Pointer, bytes: u64, stream: Stream) -> Result<()> {
        self.0.copy(to, from, bytes, stream)
    }
    fn fill(&self, to: Pointer, byte: u8, bytes: u64, stream: Stream) -> Result<()> {
        self.0.fill(to, byte, bytes, stream)
    }
    fn launch(&self, stream: Stream, launch: &mut Launch) -> Result<()> {
        self.0.launch(stream, launch)
    }
    fn record(&self, stream: Stream, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Recording>>> {
        self.0.record(stream, work)
    }
    fn event(&self, stream: Stream) -> Result<Box<dyn Event>> {
        self.0.event(stream)
    }
    fn wait(&self, stream: Stream, event: &dyn Event) -> Result<()> {
        self.0.wait(stream, event)
    }
    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.0.synchronize(stream)
    }
    fn range_begin(&self, name: &str) {
        self.0.range_begin(name);
    }
    fn range_end(&self) {
        self.0.range_end();
    }
}
