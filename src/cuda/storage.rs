//! How values are stored in device memory, and where.

/// An address in device memory.
pub type Pointer = u64;

/// How an element is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// IEEE double precision.
    F64,
    /// Bytes: pixels of photos.
    U8,
    /// 32-bit integers.
    U32,
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::F64 => 8,
        }
    }

    /// As kernels end their names.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::F64 => "f64",
            Self::U8 => "u8",
            Self::U32 => "u32",
        }
    }
}

/// Little-endian bytes of f32 values stored as `element`.
///
/// # Panics
/// For integers: those come as bytes.
pub fn stored(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Element::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        Element::F64 => values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect(),
        Element::U8 | Element::U32 => panic!("integers are given as bytes"),
    }
}
