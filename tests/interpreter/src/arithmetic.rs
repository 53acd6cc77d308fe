//! What the instructions that only read and write registers compute: a rule for each, with CUDA's roundings.
//!
//! - f32 and f64 add, subtract, multiply, divide and take roots with one rounding to nearest, and fused multiply-adds
//!   with one rounding in all. Denormal numbers count, as nvcc compiles by default. NaN of f32 is always 0x7fffffff.
//!   The assembler may still fuse an `add` with a `mul` that PTX writes apart (without `.rn`); the rules do not.
//! - `ex2.approx.ftz.f32`: 2^x rounded to nearest, denormals flushed to zero. A device may be 2 units in the last place
//!   off (CUDA Programming Guide, "Intrinsic Functions"); the tests' tolerances for `exp` allow for that.
//! - `rcp.approx.ftz.f64`: 1/x cut to its upper 32 bits (20 of the mantissa), which is how PTX defines it. The code
//!   around it refines it.
//! - `rcp.approx.ftz.f32`: 1/x rounded to nearest, denormals flushed; a device may be 1 unit in the last place off.
//! - Integer division by zero gives all ones: PTX leaves it open.

use std::cmp::Ordering;

use half::f16;

use super::lanes::{Lane, Rule, rule};

/// An f32 instruction's result: every NaN has the same bits. Compared as an integer, since Rust promises nothing about
/// the bits of a NaN that it computes with.
pub fn settled(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fff_ffff } else { bits }
}

macro_rules! integers {
    ($name:ident, $t:ty, $wide:ty) => {
        fn $name(op: &str) -> Option<Rule> {
            Some(match op {
                "add" => rule!(|a: $t, b: $t| a.wrapping_add(b)),
                "sub" => rule!(|a: $t, b: $t| a.wrapping_sub(b)),
                "mul.lo" => rule!(|a: $t, b: $t| a.wrapping_mul(b)),
                "mul.hi" => rule!(|a: $t, b: $t| ((a as $wide * b as $wide) >> <$t>::BITS) as $t),
                "mad.lo" => rule!(|a: $t, b: $t, c: $t| a.wrapping_mul(b).wrapping_add(c)),
                "div" => rule!(|a: $t, b: $t| if b == 0 { !0 } else { a.wrapping_div(b) }),
                "rem" => rule!(|a: $t, b: $t| if b == 0 { !0 } else { a.wrapping_rem(b) }),
                "min" => rule!(|a: $t, b: $t| a.min(b)),
                "max" => rule!(|a: $t, b: $t| a.max(b)),
                "neg" => rule!(|a: $t| <$t>::wrapping_sub(0, a)),
                // Bits that come in from the left are the sign's, or zero.
                "shr" => rule!(|a: $t, n: u32| if n < <$t>::BITS { a >> n } else { (a >> (<$t>::BITS - 1)) >> 1 }),
                _ => return None,
            })
        }
    };
}
integers!(integers_u16, u16, u32);
integers!(integers_s16, i16, i32);
integers!(integers_u32, u32, u64);
integers!(integers_s32, i32, i64);
integers!(integers_u64, u64, u128);
integers!(integers_s64, i64, i128);

macro_rules! bits {
    ($name:ident, $t:ty) => {
        fn $name(op: &str) -> Option<Rule> {
            Some(match op {
                "and" => rule!(|a: $t, b: $t| a & b),
                "or" => rule!(|a: $t, b: $t| a | b),
                "xor" => rule!(|a: $t, b: $t| a ^ b),
                "not" => rule!(|a: $t| !a),
                "shl" => rule!(|a: $t, n: u32| a.checked_shl(n).unwrap_or(0)),
                "popc" => rule!(|a: $t| a.count_ones()),
                "clz" => rule!(|a: $t| a.leading_zeros()),
                _ => return None,
            })
        }
    };
}
bits!(bits_16, u16);
bits!(bits_32, u32);
bits!(bits_64, u64);

fn predicates(op: &str) -> Option<Rule> {
    Some(match op {
        "and" => rule!(|a: bool, b: bool| a & b),
        "or" => rule!(|a: bool, b: bool| a | b),
        "xor" => rule!(|a: bool, b: bool| a ^ b),
        "not" => rule!(|a: bool| !a),
        // An immediate may be -1.
        "mov" => rule!(|a: u64| a != 0),
        _ => return None,
    })
}

fn wide(op: &str, kind: &str) -> Option<Rule> {
    Some(match (op, kind) {
        ("mul.wide", "u16") => rule!(|a: u16, b: u16| u32::from(a) * u32::from(b)),
        ("mul.wide", "s16") => rule!(|a: i16, b: i16| i32::from(a) * i32::from(b)),
        ("mul.wide", "u32") => rule!(|a: u32, b: u32| u64::from(a) * u64::from(b)),
        ("mul.wide", "s32") => rule!(|a: i32, b: i32| i64::from(a) * i64::from(b)),
        ("mad.wide", "u32") => rule!(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c)),
        ("mad.wide", "s32") => rule!(|a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c)),
        _ => return None,
    })
}

/// The smaller and the larger of two floats: beside NaN the other one; -0 is below 0.
trait Ordered {
    fn least(self, b: Self) -> Self;
    fn most(self, b: Self) -> Self;
}

macro_rules! least_and_most {
    ($t:ty) => {
        impl Ordered for $t {
            fn least(self, b: Self) -> Self {
                match (self.is_nan(), b.is_nan()) {
                    (true, _) => b,
                    (_, true) => self,
                    _ if self == b && self.is_sign_negative() => self,
                    _ if self < b => self,
                    _ => b,
                }
            }
            fn most(self, b: Self) -> Self {
                match (self.is_nan(), b.is_nan()) {
                    (true, _) => b,
                    (_, true) => self,
                    _ if self == b && self.is_sign_positive() => self,
                    _ if self > b => self,
                    _ => b,
                }
            }
        }
    };
}
least_and_most!(f32);
least_and_most!(f64);

/// `a b + c`, rounded once, towards minus infinity.
pub fn fused_down(a: f32, b: f32, c: f32) -> f32 {
    // The product is exact in f64. The sum of two f64 and its error tell on which side of the f32 the truth lies.
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    if sum == 0.0 && error == 0.0 {
        // Numbers that cancel leave -0 when rounding goes down.
        return if product.is_sign_negative() || c.is_sign_negative() { -0.0 } else { 0.0 };
    }
    let nearest = sum as f32;
    let above = f64::from(nearest) > sum || (f64::from(nearest) == sum && error < 0.0);
    if above { nearest.next_down() } else { nearest }
}

fn flushed(v: f32) -> f32 {
    if v.is_subnormal() { 0.0f32.copysign(v) } else { v }
}

fn floats_32(op: &str) -> Option<Rule> {
    Some(match op {
        "add" | "add.rn" => rule!(|a: f32, b: f32| settled(a + b)),
        "sub" | "sub.rn" => rule!(|a: f32, b: f32| settled(a - b)),
        "mul" | "mul.rn" => rule!(|a: f32, b: f32| settled(a * b)),
        "div.rn" => rule!(|a: f32, b: f32| settled(a / b)),
        "fma.rn" => rule!(|a: f32, b: f32, c: f32| settled(a.mul_add(b, c))),
        "fma.rm" => rule!(|a: f32, b: f32, c: f32| settled(fused_down(a, b, c))),
        "min" => rule!(|a: f32, b: f32| settled(a.least(b))),
        "max" => rule!(|a: f32, b: f32| settled(a.most(b))),
        "neg" => rule!(|a: f32| -a),
        "abs" => rule!(|a: f32| a.abs()),
        "sqrt.rn" => rule!(|a: f32| settled(a.sqrt())),
        "rcp.rn" => rule!(|a: f32| settled(1.0 / a)),
        "rcp.approx.ftz" => rule!(|a: f32| settled(flushed(1.0 / flushed(a)))),
        "ex2.approx.ftz" => rule!(|a: f32| settled(flushed(f64::from(flushed(a)).exp2() as f32))),
        _ => return None,
    })
}

/// The f16 nearest to an f64. By way of an f32 whose last bit tells whether anything was cut off, so that this rounds
/// once.
fn nearest_half(v: f64) -> f16 {
    let near = v as f32;
    if f64::from(near) == v || !near.is_finite() {
        return f16::from_f32(near);
    }
    let cut = if f64::from(near.abs()) > v.abs() { near.to_bits() - 1 } else { near.to_bits() };
    f16::from_f32(f32::from_bits(cut | 1))
}

/// Both halves of a word; every NaN has the same bits.
fn of_halves(of: impl Fn(usize) -> f64) -> u32 {
    (0..2).fold(0, |word, i| {
        let v = of(i);
        let bits = if v.is_nan() { 0x7fff } else { nearest_half(v).to_bits() };
        word | u32::from(bits) << (16 * i)
    })
}

fn half_of(word: u32, i: usize) -> f64 {
    f16::from_bits((word >> (16 * i)) as u16).to_f64()
}

/// Pairs of f16: products are exact in f64, and what a sum of one and an f16 loses there is too little to decide how it
/// rounds to f16.
fn pairs_of_halves(op: &str) -> Option<Rule> {
    Some(match op {
        "add" | "add.rn" => rule!(|a: u32, b: u32| of_halves(|i| half_of(a, i) + half_of(b, i))),
        "sub" | "sub.rn" => rule!(|a: u32, b: u32| of_halves(|i| half_of(a, i) - half_of(b, i))),
        "mul" | "mul.rn" => rule!(|a: u32, b: u32| of_halves(|i| half_of(a, i) * half_of(b, i))),
        "fma.rn" => {
            rule!(|a: u32, b: u32, c: u32| of_halves(|i| half_of(a, i).mul_add(half_of(b, i), half_of(c, i))))
        }
        "max" => rule!(|a: u32, b: u32| of_halves(|i| half_of(a, i).most(half_of(b, i)))),
        "neg" => rule!(|a: u32| a ^ 0x8000_8000),
        _ => return None,
    })
}

fn floats_64(op: &str) -> Option<Rule> {
    Some(match op {
        "add" | "add.rn" => rule!(|a: f64, b: f64| a + b),
        "sub" | "sub.rn" => rule!(|a: f64, b: f64| a - b),
        "mul" | "mul.rn" => rule!(|a: f64, b: f64| a * b),
        "div.rn" => rule!(|a: f64, b: f64| a / b),
        "fma.rn" => rule!(|a: f64, b: f64, c: f64| a.mul_add(b, c)),
        "min" => rule!(|a: f64, b: f64| a.least(b)),
        "max" => rule!(|a: f64, b: f64| a.most(b)),
        "neg" => rule!(|a: f64| -a),
        "abs" => rule!(|a: f64| a.abs()),
        "sqrt.rn" => rule!(|a: f64| a.sqrt()),
        "rcp.rn" => rule!(|a: f64| 1.0 / a),
        "rcp.approx.ftz" => rule!(|a: f64| {
            let a = if a.is_subnormal() { 0.0f64.copysign(a) } else { a };
            f64::from_bits((1.0 / a).to_bits() & !0xffff_ffff)
        }),
        _ => return None,
    })
}

/// Bytes of two words by four selectors; a selector's bit 3 asks for the byte's sign instead.
fn permuted(a: u32, b: u32, selectors: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |word, i| {
        let selector = selectors >> (4 * i);
        let byte = (bytes >> (8 * (selector & 7))) as u8;
        let byte = if selector & 8 == 0 { byte } else { 0u8.wrapping_sub(byte >> 7) };
        word | u32::from(byte) << (8 * i)
    })
}

/// The rule of `op` on values of `kind`: `mul.wide` on `s32`.
pub fn compute(op: &str, kind: &str) -> Option<Rule> {
    let by_kind = match kind {
        "u16" => integers_u16(op),
        "s16" => integers_s16(op),
        "u32" => integers_u32(op),
        "s32" => integers_s32(op),
        "u64" => integers_u64(op),
        "s64" => integers_s64(op),
        "b16" => bits_16(op),
        "b32" if op == "prmt" => Some(rule!(|a: u32, b: u32, s: u32| permuted(a, b, s))),
        "b32" => bits_32(op),
        "b64" => bits_64(op),
        "f32" => floats_32(op),
        "f64" => floats_64(op),
        "f16x2" => pairs_of_halves(op),
        "pred" => predicates(op),
        _ => None,
    };
    by_kind.or_else(|| wide(op, kind)).or_else(|| moved(op, kind))
}

/// `mov` and `selp`: bits as they are, cut to the type's size.
fn moved(op: &str, kind: &str) -> Option<Rule> {
    Some(match (op, kind.get(1..)?) {
        ("mov", "16") => rule!(|a: u16| a),
        ("mov", "32") => rule!(|a: u32| a),
        ("mov" | "cvta.to.global", "64") => rule!(|a: u64| a),
        ("selp", "16") => rule!(|a: u16, b: u16, p: bool| if p { a } else { b }),
        ("selp", "32") => rule!(|a: u32, b: u32, p: bool| if p { a } else { b }),
        ("selp", "64") => rule!(|a: u64, b: u64, p: bool| if p { a } else { b }),
        _ => return None,
    })
}

/// One register from two of half its size, the first one low.
pub fn packed(bytes: usize) -> Option<Rule> {
    Some(match bytes {
        4 => rule!(|a: u16, b: u16| u32::from(b) << 16 | u32::from(a)),
        8 => rule!(|a: u32, b: u32| u64::from(b) << 32 | u64::from(a)),
        _ => return None,
    })
}

macro_rules! comparisons {
    ($name:ident, $t:ty) => {
        fn $name(comparison: &str) -> Option<Rule> {
            Some(match comparison {
                "eq" => rule!(|a: $t, b: $t| a == b),
                "ne" => rule!(|a: $t, b: $t| a != b),
                "lt" => rule!(|a: $t, b: $t| a < b),
                "le" => rule!(|a: $t, b: $t| a <= b),
                "gt" => rule!(|a: $t, b: $t| a > b),
                "ge" => rule!(|a: $t, b: $t| a >= b),
                _ => return None,
            })
        }
    };
}
comparisons!(compare_u16, u16);
comparisons!(compare_s16, i16);
comparisons!(compare_u32, u32);
comparisons!(compare_s32, i32);
comparisons!(compare_u64, u64);
comparisons!(compare_s64, i64);

macro_rules! float_comparisons {
    ($name:ident, $t:ty) => {
        /// Of floats: those that end in `u` are true beside NaN, all others false, `ne` as well.
        fn $name(comparison: &str) -> Option<Rule> {
            Some(match comparison {
                "eq" => rule!(|a: $t, b: $t| a == b),
                "ne" => rule!(|a: $t, b: $t| a.partial_cmp(&b).is_some_and(Ordering::is_ne)),
                "lt" => rule!(|a: $t, b: $t| a < b),
                "le" => rule!(|a: $t, b: $t| a <= b),
                "gt" => rule!(|a: $t, b: $t| a > b),
                "ge" => rule!(|a: $t, b: $t| a >= b),
                "equ" => rule!(|a: $t, b: $t| a.partial_cmp(&b).is_none_or(Ordering::is_eq)),
                "neu" => rule!(|a: $t, b: $t| a != b),
                "ltu" => rule!(|a: $t, b: $t| a.partial_cmp(&b).is_none_or(Ordering::is_lt)),
                "leu" => rule!(|a: $t, b: $t| a.partial_cmp(&b).is_none_or(Ordering::is_le)),
                "gtu" => rule!(|a: $t, b: $t| a.partial_cmp(&b).is_none_or(Ordering::is_gt)),
                "geu" => rule!(|a: $t, b: $t| a.partial_cmp(&b).is_none_or(Ordering::is_ge)),
                _ => return None,
            })
        }
    };
}
float_comparisons!(compare_f32, f32);
float_comparisons!(compare_f64, f64);

/// The rule of `setp`.
pub fn compare(comparison: &str, kind: &str) -> Option<Rule> {
    match kind {
        "u16" | "b16" => compare_u16(comparison),
        "s16" => compare_s16(comparison),
        "u32" | "b32" => compare_u32(comparison),
        "s32" => compare_s32(comparison),
        "u64" | "b64" => compare_u64(comparison),
        "s64" => compare_s64(comparison),
        "f32" => compare_f32(comparison),
        "f64" => compare_f64(comparison),
        _ => None,
    }
}

macro_rules! from_integer {
    ($to:expr, $rounding:expr, $t:ty) => {
        Some(match ($to, $rounding) {
            ("u8", "") => rule!(|a: $t| a as u8),
            ("s8", "") => rule!(|a: $t| a as i8),
            ("u16", "") => rule!(|a: $t| a as u16),
            ("s16", "") => rule!(|a: $t| a as i16),
            ("u32", "") => rule!(|a: $t| a as u32),
            ("s32", "") => rule!(|a: $t| a as i32),
            ("u64", "") => rule!(|a: $t| a as u64),
            ("s64", "") => rule!(|a: $t| a as i64),
            ("f32", "rn") => rule!(|a: $t| a as f32),
            ("f64", "rn") => rule!(|a: $t| a as f64),
            _ => return None,
        })
    };
}

/// An integer from a float that was rounded to one: clamped to the type; NaN is zero, but the smallest s64 or the
/// upper half of u64 where either side has 64 bits.
macro_rules! to_integer {
    ($to:expr, $t:ty, $round:expr) => {
        match $to {
            "s32" if <$t>::MANTISSA_DIGITS == 24 => Some(rule!(|a: $t| $round(a) as i32)),
            "u32" if <$t>::MANTISSA_DIGITS == 24 => Some(rule!(|a: $t| $round(a) as u32)),
            "s32" => Some(rule!(|a: $t| if a.is_nan() { i32::MIN } else { $round(a) as i32 })),
            "u32" => Some(rule!(|a: $t| if a.is_nan() { 1 << 31 } else { $round(a) as u32 })),
            "s64" => Some(rule!(|a: $t| if a.is_nan() { i64::MIN } else { $round(a) as i64 })),
            "u64" => Some(rule!(|a: $t| if a.is_nan() { 1 << 63 } else { $round(a) as u64 })),
            _ => None,
        }
    };
}

fn from_f32(to: &str, rounding: &str) -> Option<Rule> {
    match (to, rounding) {
        ("f64", "") => Some(rule!(|a: f32| f64::from(a))),
        ("f16", "rn") => Some(rule!(|a: f32| f16::from_f32(a))),
        ("f32", "sat") => Some(rule!(|a: f32| if a > 0.0 { a.min(1.0) } else { 0.0 })),
        ("f32", "rmi") => Some(rule!(|a: f32| a.floor())),
        (_, "rzi") => to_integer!(to, f32, f32::trunc),
        (_, "rmi") => to_integer!(to, f32, f32::floor),
        (_, "rni") => to_integer!(to, f32, f32::round_ties_even),
        _ => None,
    }
}

fn from_f64(to: &str, rounding: &str) -> Option<Rule> {
    match (to, rounding) {
        ("f32", "rn") => Some(rule!(|a: f64| settled(a as f32))),
        ("f64", "sat") => Some(rule!(|a: f64| if a > 0.0 { a.min(1.0) } else { 0.0 })),
        ("f64", "rmi") => Some(rule!(|a: f64| a.floor())),
        (_, "rzi") => to_integer!(to, f64, f64::trunc),
        (_, "rmi") => to_integer!(to, f64, f64::floor),
        (_, "rni") => to_integer!(to, f64, f64::round_ties_even),
        _ => None,
    }
}

/// The rule of `cvt.<rounding>.<to>.<from>`.
pub fn convert(to: &str, from: &str, rounding: &str) -> Option<Rule> {
    match from {
        "u8" => from_integer!(to, rounding, u8),
        "s8" => from_integer!(to, rounding, i8),
        "u16" => from_integer!(to, rounding, u16),
        "s16" => from_integer!(to, rounding, i16),
        "u32" => from_integer!(to, rounding, u32),
        "s32" => from_integer!(to, rounding, i32),
        "u64" => from_integer!(to, rounding, u64),
        "s64" => from_integer!(to, rounding, i64),
        "f16" if (to, rounding) == ("f32", "") => Some(rule!(|a: f16| settled(a.to_f32()))),
        // The first operand becomes the upper half.
        "f32" if (to, rounding) == ("f16x2", "rn") => Some(rule!(|a: f32, b: f32| {
            u32::from(f16::from_f32(a).to_bits()) << 16 | u32::from(f16::from_f32(b).to_bits())
        })),
        "f32" if (to, rounding) == ("f16x2", "rn.relu") => Some(rule!(|a: f32, b: f32| {
            let bits = |v: f32| if v.is_nan() { 0x7fff } else { u32::from(f16::from_f32(v.most(0.0)).to_bits()) };
            bits(a) << 16 | bits(b)
        })),
        "f32" => from_f32(to, rounding),
        "f64" => from_f64(to, rounding),
        _ => None,
    }
}
