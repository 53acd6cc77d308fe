//! What the engine asks of a device: memory, copies, launches, order. Below it lies CUDA's driver or, in the tests, an
//! emulator that runs the same kernels on the processor.

use std::ffi::c_void;
use std::ops::Range;

use super::convolution;
use super::storage::{Element, Pointer};
use crate::error::{Error, Result};
use crate::files::jpeg::Elsewhere;

/// A queue of work; work in one stream runs in order, work in different streams at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream(pub usize);

impl Stream {
    /// The one that is always there.
    pub const FIRST: Self = Self(0);
}

/// One kernel over a grid of blocks of threads.
pub struct Launch<'a> {
    /// Its name in the kernel files.
    pub kernel: &'a str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
    /// Where each parameter lies.
    pub parameters: &'a mut [*mut c_void],
    /// Bytes of each parameter, for drivers that can compare them with what the kernel takes.
    pub sizes: &'a [usize],
}

/// Host memory that the device copies from and to by itself, while the processor does something else.
pub trait HostMemory: Send {
    /// Its bytes.
    fn bytes(&self) -> &[u8];
    /// Its bytes.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// Work that was recorded once and is started again as a whole.
pub trait Recording: Send {
    /// Starts it in a stream.
    ///
    /// # Errors
    /// The device's.
    fn replay(&self, stream: Stream) -> Result<()>;
}

/// A point in a stream's work.
pub trait Event: Send + Sync {
    /// Waits until it has passed.
    ///
    /// # Errors
    /// What went wrong in the work before it.
    fn synchronize(&self) -> Result<()>;
    /// Milliseconds from `earlier` to this one, once both have passed.
    ///
    /// # Errors
    /// The device's.
    fn milliseconds_since(&self, earlier: &dyn Event) -> Result<f32>;
    /// For implementations.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// A device.
///
/// All calls but [`Driver::synchronize`], [`Driver::settle`], [`Event::synchronize`], the allocations and
/// [`Driver::download`] return before the work is done.
pub trait Driver: Send + Sync {
    /// Its name, for people.
    fn name(&self) -> String;

    /// Free and total memory in bytes.
    ///
    /// # Errors
    /// The device's.
    fn memory(&self) -> Result<(u64, u64)>;

    /// Memory whose contents are unspecified; its address is a multiple of 256.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] where there is not enough; [`crate::Error::Device`] where something else is wrong.
    fn allocate(&self, bytes: u64) -> Result<Pointer>;

    /// Gives memory back, once the work that was queued before is done.
    fn release(&self, pointer: Pointer);

    /// Page-locked host memory.
    ///
    /// # Errors
    /// The system's.
    fn host_memory(&self, bytes: usize) -> Result<Box<dyn HostMemory>>;

    /// Another stream.
    ///
    /// # Errors
    /// The device's.
    fn stream(&self) -> Result<Stream>;

    /// The stream for work that may run beside that of `stream`: always the same one. `stream` itself where nothing is
    /// gained by a second.
    ///
    /// # Errors
    /// The device's.
    fn beside(&self, stream: Stream) -> Result<Stream> {
        Ok(stream)
    }

    /// Copies to the device. The bytes may be changed once the call returns.
    ///
    /// # Errors
    /// The device's.
    fn upload(&self, to: Pointer, bytes: &[u8], stream: Stream) -> Result<()>;

    /// Copies these bytes of page-locked memory to the device; they must stay as they are until the stream has come
    /// past this.
    ///
    /// # Errors
    /// The device's.
    fn upload_pinned(&self, to: Pointer, from: &dyn HostMemory, bytes: Range<usize>, stream: Stream) -> Result<()> {
        self.upload(to, &from.bytes()[bytes], stream)
    }

    /// Copies from the device to these bytes of page-locked memory; they are there when the stream has come past this.
    ///
    /// # Errors
    /// The device's.
    fn download_pinned(
        &self,
        from: Pointer,
        to: &mut dyn HostMemory,
        bytes: Range<usize>,
        stream: Stream,
    ) -> Result<()> {
        self.download(from, &mut to.bytes_mut()[bytes], stream)
    }

    /// Copies from the device and waits until that is done.
    ///
    /// # Errors
    /// The device's.
    fn download(&self, from: Pointer, bytes: &mut [u8], stream: Stream) -> Result<()>;

    /// Copies within the device.
    ///
    /// # Errors
    /// The device's.
    fn copy(&self, to: Pointer, from: Pointer, bytes: u64, stream: Stream) -> Result<()>;

    /// Sets bytes.
    ///
    /// # Errors
    /// The device's.
    fn fill(&self, to: Pointer, byte: u8, bytes: u64, stream: Stream) -> Result<()>;

    /// Starts a kernel.
    ///
    /// # Errors
    /// Where it does not exist or the device refuses it.
    fn launch(&self, stream: Stream, launch: &mut Launch) -> Result<()>;

    /// Bytes of workspace that cuDNN wants for a convolution; `None` for one that it cannot do.
    ///
    /// # Errors
    /// Where there is no cuDNN.
    fn convolution_workspace(&self, call: &convolution::Call) -> Result<Option<u64>>;

    /// A convolution by cuDNN.
    ///
    /// # Errors
    /// Where there is no cuDNN, or it refuses.
    fn convolve(&self, stream: Stream, call: &convolution::Call, at: &convolution::Pointers) -> Result<()>;

    /// Records what `work` queues in a stream instead of running it; `None` where that did not work out, and then
    /// nothing was queued.
    ///
    /// # Errors
    /// Where the device is of no more use.
    fn record(&self, stream: Stream, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Recording>>>;

    /// Marks this point of a stream's work.
    ///
    /// # Errors
    /// The device's.
    fn event(&self, stream: Stream) -> Result<Box<dyn Event>>;

    /// Lets `stream` wait for a point of another stream's work.
    ///
    /// # Errors
    /// The device's.
    fn wait(&self, stream: Stream, event: &dyn Event) -> Result<()>;

    /// Waits until a stream's work is done.
    ///
    /// # Errors
    /// What went wrong in that work.
    fn synchronize(&self, stream: Stream) -> Result<()>;

    /// Waits until the work of all streams is done.
    ///
    /// # Errors
    /// What went wrong in it.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Seconds that the device's own library takes for the product of two `n` x `n` matrices of this element, sums in
    /// f32: what a device reaches at most. `None` where there is no such library.
    ///
    /// # Errors
    /// The device's.
    fn gemm_seconds(&self, n: usize, element: Element) -> Result<Option<f64>> {
        let _ = (n, element);
        Ok(None)
    }

    /// Looks for the device's own decoder of JPEG files, which [`Driver::decode_jpeg`] uses.
    ///
    /// # Errors
    /// Where there is none.
    fn expect_jpeg(&self) -> Result<()> {
        Err(Error::Device(format!("{} has no decoder of JPEG files", self.name())))
    }

    /// Decodes a JPEG file of this width and height, and waits until that is done. Any thread may, several at once.
    ///
    /// # Errors
    /// As [`Driver::expect_jpeg`]; the device's.
    fn decode_jpeg(&self, bytes: &[u8], size: (usize, usize)) -> Result<Elsewhere> {
        let _ = (bytes, size);
        self.expect_jpeg().map(|()| Elsewhere::Left("nobody decodes it".into()))
    }

    /// Says what all that is queued from now on is for. A device tells late that something went wrong, and the message
    /// should name that, not what the processor has come to meanwhile.
    fn about(&self, _what: &str) {}

    /// Opens a named range in the timeline that nsys shows.
    fn range_begin(&self, name: &str);

    /// Closes the last range.
    fn range_end(&self);
}
