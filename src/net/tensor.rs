//! Dense f32 tensors in the host's memory, contiguous and channels-last: what weights, activations and results are
//! between whatever computes them.

use crate::error::{Error, Result};

/// [D, H, W, C]: depth planes, rows, columns, channels; C is innermost. A 2D tensor has D = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Depth planes.
    pub d: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// [1, h, w, c].
    pub fn plane(h: usize, w: usize, c: usize) -> Self {
        Self { d: 1, h, w, c }
    }

    /// The same extent with other channels.
    pub fn with_channels(self, c: usize) -> Self {
        Self { c, ..self }
    }

    /// What a stride-2 layer with "same" padding leaves: half of each side, rounded up.
    pub fn halved(self) -> Self {
        Self { d: self.d.div_ceil(2), h: self.h.div_ceil(2), w: self.w.div_ceil(2), c: self.c }
    }

    /// Positions: d h w.
    pub fn positions(self) -> usize {
        self.d * self.h * self.w
    }

    /// Elements: d h w c.
    pub fn len(self) -> usize {
        self.positions() * self.c
    }

    /// Whether it has no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[D {}, H {}, W {}, C {}]", self.d, self.h, self.w, self.c)
    }
}

/// One cache line; buffers are made of these so that no vector load straddles two lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

// SAFETY: 16 f32 without padding (64 bytes at 64-byte alignment); all bit patterns are valid, zero among them.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// f32 storage aligned to cache lines.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` zeros. Fresh pages of zeros cost nothing until they are touched.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// A copy of `values`.
    pub fn from_slice(values: &[f32]) -> Self {
        let mut buffer = Self::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Values that fit without new memory.
    pub fn capacity(&self) -> usize {
        self.lines.len() * 16
    }

    /// The same memory for `len` values, whatever lies in it.
    ///
    /// # Panics
    /// Where they do not fit.
    pub fn reused(self, len: usize) -> Self {
        assert!(len <= self.capacity(), "{len} values in room for {}", self.capacity());
        Self { len, ..self }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// A dense tensor.
#[derive(Clone)]
pub struct Tensor {
    /// Its extent.
    pub shape: Shape,
    /// `shape.len()` values.
    pub data: Buffer,
}

impl Tensor {
    /// Zeros.
    pub fn zeros(shape: Shape) -> Self {
        Self { shape, data: Buffer::zeros(shape.len()) }
    }

    /// From values in [D, H, W, C] order.
    ///
    /// # Errors
    /// [`Error::Shape`] where their number is another.
    pub fn from_slice(shape: Shape, values: &[f32]) -> Result<Self> {
        if values.len() != shape.len() {
            let problem = format!("{} values for {shape}, which holds {}", values.len(), shape.len());
            return Err(Error::Shape { op: "tensor", problem });
        }
        Ok(Self { shape, data: Buffer::from_slice(values) })
    }

    /// Fails with the op's name unless the tensor has `channels` channels.
    pub fn expect_channels(&self, op: &'static str, channels: usize) -> Result<()> {
        if self.shape.c == channels {
            return Ok(());
        }
        Err(Error::Shape { op, problem: format!("input {}, expected C = {channels}", self.shape) })
    }

    /// Fails with the op's name unless the tensor has this shape.
    pub fn expect_shape(&self, op: &'static str, what: &str, shape: Shape) -> Result<()> {
        if self.shape == shape {
            return Ok(());
        }
        Err(Error::Shape { op, problem: format!("{what} {}, expected {shape}", self.shape) })
    }

    /// Bytes of its values.
    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }
}
