//! Vectors of f32 in three instruction sets, chosen at run time.
//!
//! An arithmetic kernel is written once, generic over [`Isa`], as a [`Kernel`]; [`dispatch`] compiles it three
//! times (AVX-512, AVX2 + FMA, portable) and runs the one asked for. Everything that a kernel calls must be
//! `#[inline(always)]`: an intrinsic only becomes an instruction where it is inlined into one of the three
//! `#[target_feature]` functions at the end of this file.

use std::sync::OnceLock;

/// An instruction set level, worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every target of the compiler has.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, VL, DQ and BW.
    Avx512,
}

impl Level {
    /// The best level that this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().unwrap_or(&Self::Portable))
    }

    /// All levels that this processor has, worst first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 {
                levels.push(Self::Avx2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                levels.push(Self::Avx512);
            }
        }
        levels
    }

    /// `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// A vector of f32 lanes.
///
/// # Safety
/// Every method needs the instruction set of its type; `load`, `store` and `store_i32` need `LANES` valid
/// elements behind the pointer (any alignment).
#[allow(missing_docs, clippy::missing_safety_doc)]
pub trait Vector: Copy {
    const LANES: usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    unsafe fn max(self, b: Self) -> Self;
    unsafe fn min(self, b: Self) -> Self;
    /// `self * b + c`, fused where the instruction set can.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn floor(self) -> Self;
    /// `self > b ? yes : no`, a lane at a time; NaN compares false.
    unsafe fn select_gt(self, b: Self, yes: Self, no: Self) -> Self;
    /// 2 to the power of `self`, which must be whole and within -126..=127.
    unsafe fn pow2_whole(self) -> Self;
    /// Truncates to i32 and stores; lanes must be within i32.
    unsafe fn store_i32(self, p: *mut i32);
    /// All lanes added up.
    unsafe fn sum(self) -> f32;
}

/// An instruction set: its widest vector and its 8-lane vector (8 is the fewest channels the network has).
pub trait Isa {
    /// The widest vector.
    type Wide: Vector;
    /// Exactly 8 lanes.
    type Eight: Vector;
    /// Vector registers: what bounds the size of a register tile.
    const REGISTERS: usize;
    /// Lane i of the result is the sum of the lanes of `v[i]`.
    ///
    /// # Safety
    /// Needs the instruction set.
    unsafe fn sums(v: [Self::Eight; 8]) -> Self::Eight;
}

/// e^x for x in -87..=88 (clamped), relative error below 2e-7: x = n ln 2 + r with a degree-5 polynomial in r
/// (Cephes' expf).
///
/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
pub unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller vouches for the instruction set; no memory is touched.
    unsafe {
        let x = x.max(V::splat(-87.0)).min(V::splat(88.0));
        let n = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(0.5)).floor();
        let r = n.mul_add(V::splat(-0.693_359_4), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        let mut p = V::splat(1.987_569_2e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 5e-1] {
            p = p.mul_add(r, V::splat(c));
        }
        p.mul_add(r.mul(r), r.add(V::splat(1.0))).mul(n.pow2_whole())
    }
}

/// Arithmetic written once for all instruction sets.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Does the work; must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The processor must have `I`, and whatever the kernel's own fields promise must hold.
    unsafe fn run<I: Isa>(self) -> Self::Output;
}

/// Runs `kernel` with the instruction set of `level`.
///
/// # Safety
/// `level` must be one of [`Level::available`], and the kernel's own conditions must hold.
#[inline]
pub unsafe fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    // SAFETY: the caller vouches for the level and the kernel's conditions.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::run_avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::run_avx2(kernel),
            _ => kernel.run::<Portable>(),
        }
    }
}

/// Arithmetic on the channels of many positions, some neighbouring ones at a time.
pub(crate) trait Channelwise {
    /// G vectors of channels from `at` on, at all positions. U is how many positions a sum had better take apart from
    /// each other, so that it does not wait for its own additions.
    ///
    /// # Safety
    /// As for [`Kernel::run`]; there must be G * LANES channels from `at` on.
    unsafe fn channels<V: Vector, const G: usize, const U: usize>(&mut self, at: usize);
}

/// Walks C channels: up to 32 at once, so that whole cache lines are used; those beyond a multiple of 8 one by one.
///
/// # Safety
/// As for [`Channelwise::channels`] with all C channels.
#[inline(always)]
pub(crate) unsafe fn each_channel<I: Isa, W: Channelwise>(work: &mut W, c: usize) {
    let mut at = 0;
    // SAFETY: at + the channels of each call <= C.
    unsafe {
        while at + 32 <= c {
            work.channels::<I::Eight, 4, 1>(at);
            at += 32;
        }
        if at + 16 <= c {
            work.channels::<I::Eight, 2, 2>(at);
            at += 16;
        }
        if at + 8 <= c {
            work.channels::<I::Eight, 1, 4>(at);
            at += 8;
        }
        while at < c {
            work.channels::<[f32; 1], 1, 4>(at);
            at += 1;
        }
    }
}

/// Plain arrays, for the compiler to vectorise.
pub struct Portable;

impl Isa for Portable {
    type Wide = [f32; 8];
    type Eight = [f32; 8];
    const REGISTERS: usize = 8;
    #[inline(always)]
    unsafe fn sums(v: [[f32; 8]; 8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        for i in 0..8 {
            let a = &v[i];
            out[i] = ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
        }
        out
    }
}

macro_rules! lanewise {
    ($a:ident, $b:ident, $f:expr) => {{
        let mut out = $a;
        for i in 0..out.len() {
            out[i] = $f($a[i], $b[i]);
        }
        out
    }};
}

/// N is a power of two. One lane is what channels beyond the last whole vector get.
impl<const N: usize> Vector for [f32; N] {
    const LANES: usize = N;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller vouches for N readable elements; f32 arrays have no padding.
        unsafe { p.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller vouches for N writable elements.
        unsafe { p.cast::<[f32; N]>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        lanewise!(self, b, |x: f32, y: f32| x + y)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        lanewise!(self, b, |x: f32, y: f32| x - y)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        lanewise!(self, b, |x: f32, y: f32| x * y)
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        lanewise!(self, b, |x: f32, y: f32| x / y)
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        lanewise!(self, b, |x: f32, y: f32| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        lanewise!(self, b, |x: f32, y: f32| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        let mut out = c;
        for i in 0..N {
            out[i] += self[i] * b[i];
        }
        out
    }
    #[inline(always)]
    unsafe fn floor(self) -> Self {
        let mut out = self;
        for x in &mut out {
            *x = x.floor();
        }
        out
    }
    #[inline(always)]
    unsafe fn select_gt(self, b: Self, yes: Self, no: Self) -> Self {
        let mut out = no;
        for i in 0..N {
            out[i] = if self[i] > b[i] { yes[i] } else { no[i] };
        }
        out
    }
    #[inline(always)]
    unsafe fn pow2_whole(self) -> Self {
        let mut out = self;
        for x in &mut out {
            *x = f32::from_bits(((*x as i32 + 127) as u32) << 23);
        }
        out
    }
    #[inline(always)]
    unsafe fn store_i32(self, p: *mut i32) {
        for (i, x) in self.into_iter().enumerate() {
            // SAFETY: the caller vouches for N writable elements.
            unsafe { p.add(i).write(x as i32) }
        }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let (mut sums, mut n) = (self, N);
        while n > 1 {
            n /= 2;
            for i in 0..n {
                sums[i] += sums[i + n];
            }
        }
        sums[0]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Isa, Kernel, Vector};

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: dispatch's caller vouches for the level; here its instructions are enabled.
        unsafe { kernel.run::<Avx2>() }
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")]
    pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: as above.
        unsafe { kernel.run::<Avx512>() }
    }

    /// AVX2 with FMA.
    pub(super) struct Avx2;
    /// AVX-512; its 8-lane vectors have 32 registers, too.
    pub(super) struct Avx512;

    #[inline(always)]
    unsafe fn sums(v: [__m256; 8]) -> __m256 {
        // SAFETY: register arithmetic; the caller vouches for AVX2.
        unsafe {
            let a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
            let b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
            // a = low halves' sums of 0..4 | high halves' sums of 0..4; b the same of 4..8.
            _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
        }
    }

    impl Isa for Avx2 {
        type Wide = __m256;
        type Eight = __m256;
        const REGISTERS: usize = 16;
        #[inline(always)]
        unsafe fn sums(v: [__m256; 8]) -> __m256 {
            // SAFETY: as promised by the caller.
            unsafe { sums(v) }
        }
    }

    impl Isa for Avx512 {
        type Wide = __m512;
        type Eight = __m256;
        const REGISTERS: usize = 32;
        #[inline(always)]
        unsafe fn sums(v: [__m256; 8]) -> __m256 {
            // SAFETY: as promised by the caller.
            unsafe { sums(v) }
        }
    }

    macro_rules! vector {
        ($type:ty, $lanes:literal, $name:ident: $set1:ident $loadu:ident $storeu:ident $add:ident $sub:ident
         $mul:ident $div:ident $max:ident $min:ident $fmadd:ident, $floor:expr, $select:expr, $pow2:expr,
         $store_i32:expr, $sum:expr) => {
            // SAFETY (all methods): register arithmetic, or the memory that the trait's contract promises.
            #[allow(clippy::undocumented_unsafe_blocks)]
            impl Vector for $type {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn splat(x: f32) -> Self {
                    unsafe { $set1(x) }
                }
                #[inline(always)]
                unsafe fn load(p: *const f32) -> Self {
                    unsafe { $loadu(p) }
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut f32) {
                    unsafe { $storeu(p, self) }
                }
                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    unsafe { $add(self, b) }
                }
                #[inline(always)]
                unsafe fn sub(self, b: Self) -> Self {
                    unsafe { $sub(self, b) }
                }
                #[inline(always)]
                unsafe fn mul(self, b: Self) -> Self {
                    unsafe { $mul(self, b) }
                }
                #[inline(always)]
                unsafe fn div(self, b: Self) -> Self {
                    unsafe { $div(self, b) }
                }
                #[inline(always)]
                unsafe fn max(self, b: Self) -> Self {
                    unsafe { $max(self, b) }
                }
                #[inline(always)]
                unsafe fn min(self, b: Self) -> Self {
                    unsafe { $min(self, b) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    unsafe { $fmadd(self, b, c) }
                }
                #[inline(always)]
                unsafe fn floor(self) -> Self {
                    unsafe { $floor(self) }
                }
                #[inline(always)]
                unsafe fn select_gt(self, b: Self, yes: Self, no: Self) -> Self {
                    unsafe { $select(self, b, yes, no) }
                }
                #[inline(always)]
                unsafe fn pow2_whole(self) -> Self {
                    unsafe { $pow2(self) }
                }
                #[inline(always)]
                unsafe fn store_i32(self, p: *mut i32) {
                    unsafe { $store_i32(self, p) }
                }
                #[inline(always)]
                unsafe fn sum(self) -> f32 {
                    unsafe { $sum(self) }
                }
            }
        };
    }

    macro_rules! f {
        (|$($x:ident: $t:ty),*| -> $r:ty $body:block) => {{
            #[inline(always)]
            #[allow(clippy::undocumented_unsafe_blocks)]
            unsafe fn f($($x: $t),*) -> $r {
                unsafe { $body }
            }
            f
        }};
    }

    vector!(__m256, 8, ymm: _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps
        _mm256_mul_ps _mm256_div_ps _mm256_max_ps _mm256_min_ps _mm256_fmadd_ps,
        f!(|v: __m256| -> __m256 { _mm256_floor_ps(v) }),
        f!(|a: __m256, b: __m256, yes: __m256, no: __m256| -> __m256 {
            _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b))
        }),
        f!(|v: __m256| -> __m256 {
            let n = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        }),
        f!(|v: __m256, p: *mut i32| -> () { _mm256_storeu_si256(p.cast(), _mm256_cvttps_epi32(v)) }),
        f!(|v: __m256| -> f32 {
            let s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
            _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)))
        })
    );

    vector!(__m512, 16, zmm: _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps
        _mm512_mul_ps _mm512_div_ps _mm512_max_ps _mm512_min_ps _mm512_fmadd_ps,
        f!(|v: __m512| -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(v)
        }),
        f!(|a: __m512, b: __m512, yes: __m512, no: __m512| -> __m512 {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes)
        }),
        f!(|v: __m512| -> __m512 {
            let n = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
        }),
        f!(|v: __m512, p: *mut i32| -> () { _mm512_storeu_si512(p.cast(), _mm512_cvttps_epi32(v)) }),
        f!(|v: __m512| -> f32 { _mm512_reduce_add_ps(v) })
    );
}
