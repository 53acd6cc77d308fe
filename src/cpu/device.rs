//! The processor as a device: its instruction set, and memory that is used again.

use std::rc::Rc;
use std::sync::Mutex;

use rayon::prelude::*;

use crate::cpu::simd::Level;
use crate::net::tensor::{Buffer, Shape, Tensor};

/// The processor as a device: its instruction set and the buffers that are free for reuse.
///
/// Touching a page for the first time costs more than the arithmetic on it, so buffers of one view are kept for
/// the next.
pub struct Cpu {
    /// One that the processor has: the ops' `dispatch` relies on it.
    pub(crate) level: Level,
    free: Mutex<Vec<Buffer>>,
}

impl Cpu {
    /// With the best instruction set of this processor.
    pub fn new() -> Self {
        Self::with_level(Level::best())
    }

    /// With a lower instruction set, to compare them; a level that the processor lacks becomes the best it has.
    pub fn with_level(level: Level) -> Self {
        Self { level: level.min(Level::best()), free: Mutex::default() }
    }

    /// The instruction set that the ops use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// A tensor whose values are unspecified (left over from earlier use, or zero).
    pub fn tensor(&self, shape: Shape) -> Tensor {
        let len = shape.len();
        let mut free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fitting = free.iter().enumerate().filter(|(_, b)| b.capacity() >= len);
        // The smallest that fits, unless most of it would be wasted.
        let best = fitting.min_by_key(|(_, b)| b.capacity()).map(|(i, b)| (i, b.capacity()));
        let data = match best {
            Some((i, capacity)) if capacity <= 2 * len.max(4096) => free.swap_remove(i).reused(len),
            _ => Buffer::zeros(len),
        };
        Tensor { shape, data }
    }

    /// Gives a tensor's buffer back for reuse.
    pub fn recycle(&self, tensor: Tensor) {
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(tensor.data);
    }

    /// Bytes of the buffers that wait for reuse.
    pub fn free_bytes(&self) -> usize {
        let free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        free.iter().map(|b| b.capacity() * size_of::<f32>()).sum()
    }

    /// Frees all buffers that wait for reuse.
    pub fn trim(&self) {
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

/// A tensor whose buffer goes back to its device's pool with its last holder, or one that somebody else owns. Clones
/// share it.
#[derive(Clone)]
pub struct Pooled<'a>(Rc<Held<'a>>);

enum Held<'a> {
    Owned(&'a Cpu, Tensor),
    Borrowed(&'a Tensor),
}

impl<'a> Pooled<'a> {
    /// A tensor from the pool of `cpu`.
    pub fn new(cpu: &'a Cpu, tensor: Tensor) -> Self {
        Self(Rc::new(Held::Owned(cpu, tensor)))
    }

    /// One that stays its owner's.
    pub fn borrowed(tensor: &'a Tensor) -> Self {
        Self(Rc::new(Held::Borrowed(tensor)))
    }

    /// The tensor by itself, to be changed or kept: without a copy where nobody else holds it.
    pub fn into_tensor(mut self, cpu: &Cpu) -> Tensor {
        if let Some(Held::Owned(_, tensor)) = Rc::get_mut(&mut self.0) {
            return std::mem::replace(tensor, Tensor::zeros(Shape::plane(0, 0, 0)));
        }
        let mut copy = cpu.tensor(self.shape);
        copy.data.copy_from_slice(&self.data);
        copy
    }
}

impl std::ops::Deref for Pooled<'_> {
    type Target = Tensor;
    fn deref(&self) -> &Tensor {
        match &*self.0 {
            Held::Owned(_, tensor) => tensor,
            Held::Borrowed(tensor) => tensor,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Self::Owned(cpu, tensor) = self
            && !tensor.shape.is_empty()
        {
            cpu.recycle(std::mem::replace(tensor, Tensor::zeros(Shape::plane(0, 0, 0))));
        }
    }
}

/// sum += more; both have the same length.
pub(crate) fn add(sum: &mut Tensor, more: &Tensor) {
    const CHUNK: usize = 1 << 14;
    debug_assert_eq!(sum.shape, more.shape);
    sum.data.par_chunks_mut(CHUNK).zip(more.data.par_chunks(CHUNK)).for_each(|(sum, more)| {
        for (s, m) in sum.iter_mut().zip(more) {
            *s += m;
        }
    });
}

/// A pointer into a tensor that parallel tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub *mut f32);
// SAFETY: whoever makes one promises that tasks write disjoint elements while it lives.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}
