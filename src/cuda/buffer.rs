//! Device memory and launches outside of graphs: for work whose sizes are known only as it goes, such as the points of
//! a cloud.

use std::ffi::c_void;
use std::sync::Arc;

use super::driver::{Driver, Launch, Stream};
use super::program::Owned;
use super::storage::Pointer;
use crate::error::{Error, Result};

/// Memory of a device with the transfers to and from it.
pub struct Buffer {
    driver: Arc<dyn Driver>,
    memory: Owned,
}

impl Buffer {
    /// `bytes` of memory (one, if none are asked for), contents unspecified; `what` they are for, in messages.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] with what is free.
    pub fn new(driver: &Arc<dyn Driver>, bytes: usize, what: &str) -> Result<Self> {
        let described = || format!("{what} of {}", crate::host::memory::readable(bytes as u64));
        let memory = Owned::new(driver, bytes as u64, described)?;
        Ok(Self { driver: driver.clone(), memory })
    }

    /// Memory with these contents.
    ///
    /// # Errors
    /// As [`Buffer::new`]; the device's.
    pub fn holding(driver: &Arc<dyn Driver>, stream: Stream, bytes: &[u8], what: &str) -> Result<Self> {
        let buffer = Self::new(driver, bytes.len(), what)?;
        if !bytes.is_empty() {
            driver.upload(buffer.pointer(), bytes, stream)?;
        }
        Ok(buffer)
    }

    /// Where it lies.
    pub fn pointer(&self) -> Pointer {
        self.memory.pointer()
    }

    /// The first `count` values, after all that was queued before.
    ///
    /// # Errors
    /// The device's.
    pub fn download<T: bytemuck::Pod>(&self, stream: Stream, count: usize) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); count];
        if count > 0 {
            self.driver.download(self.pointer(), bytemuck::cast_slice_mut(&mut values), stream)?;
        }
        Ok(values)
    }
}

/// A kernel's parameters, in their order.
#[derive(Default)]
pub struct Parameters {
    /// Each in words of 16 bytes: no parameter asks for more alignment.
    words: Vec<Vec<u128>>,
    sizes: Vec<usize>,
}

impl Parameters {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A number, an address ([`Pointer`]) or a `#[repr(C)]` struct.
    #[must_use]
    pub fn with<T: bytemuck::NoUninit>(mut self, value: T) -> Self {
        let bytes = bytemuck::bytes_of(&value);
        let mut words = vec![0u128; bytes.len().div_ceil(16)];
        bytemuck::cast_slice_mut::<u128, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        self.words.push(words);
        self.sizes.push(bytes.len());
        self
    }

    /// Starts a kernel with these parameters over enough blocks of `threads` for `n` threads; none for none.
    ///
    /// # Errors
    /// The device's; [`Error::Device`] for more blocks than a grid has.
    pub fn launch(
        mut self,
        driver: &Arc<dyn Driver>,
        stream: Stream,
        kernel: &str,
        n: usize,
        threads: u32,
    ) -> Result<()> {
        let blocks = n.div_ceil(threads as usize);
        let Ok(blocks @ ..=0x7fff_ffff) = u32::try_from(blocks) else {
            return Err(Error::Device(format!("`{kernel}` on {n} threads: more blocks than a grid has")));
        };
        if blocks == 0 {
            return Ok(());
        }
        let mut parameters: Vec<*mut c_void> = self.words.iter_mut().map(|words| words.as_mut_ptr().cast()).collect();
        let mut launch = Launch {
            kernel,
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            shared: 0,
            parameters: &mut parameters,
            sizes: &self.sizes,
        };
        driver.range_begin(kernel);
        let launched = driver.launch(stream, &mut launch);
        driver.range_end();
        launched.map_err(|error| error.within(&format!("{kernel} on {}", driver.name())))
    }
}
