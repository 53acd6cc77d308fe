//! The rules of single instructions, against exact arithmetic and what CUDA's documents say of special numbers.

use half::f16;

use ptx_interpreter::arithmetic::{compare, compute, convert, packed};
use ptx_interpreter::lanes::{Lane, Rule};

/// A rule's result on the same operands in every lane.
fn of<R: Lane>(rule: Option<Rule>, operands: [u64; 3]) -> R {
    let mut to = [0; 32];
    let [a, b, c] = operands.map(|bits| [bits; 32]);
    rule.expect("a rule")(&a, &b, &c, &mut to);
    assert!(to.iter().all(|lane| *lane == to[0]));
    R::of(to[0])
}

fn two<T: Lane, R: Lane>(op: &str, kind: &str, a: T, b: T) -> R {
    of(compute(op, kind), [a.bits(), b.bits(), 0])
}

fn one<T: Lane, R: Lane>(rule: Option<Rule>, a: T) -> R {
    of(rule, [a.bits(), 0, 0])
}

/// Numbers of a generator that is the same everywhere.
fn numbers() -> impl Iterator<Item = u32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::from_fn(move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        Some((state >> 32) as u32)
    })
}

/// Floats around 1 in size, with all kinds of mantissas.
fn floats() -> impl Iterator<Item = f32> {
    numbers().map(|n| f32::from_bits(n & 0x807f_ffff | (124 + n % 7) << 23))
}

#[test]
fn fused_multiply_adds_round_once() {
    let mut floats = floats();
    let mut apart = 0;
    for _ in 0..20_000 {
        let [a, b, c] = std::array::from_fn(|_| floats.next().unwrap());
        // Numbers of 24 bits within a factor of 128: products and sums are exact in integers of 128 bits.
        let scaled = |v: f32| (f64::from(v) * (1u64 << 30) as f64) as i128;
        let exact = scaled(a) * scaled(b) + (scaled(c) << 30);
        let unit = (1u64 << 60) as f64;
        let nearest: f32 = of(compute("fma.rn", "f32"), [a.bits(), b.bits(), c.bits()]);
        let down: f32 = of(compute("fma.rm", "f32"), [a.bits(), b.bits(), c.bits()]);
        let size = |v: f32| (f64::from(v) * unit) as i128;
        let error = |v: f32| (size(v) - exact).abs();
        assert!(error(nearest) <= error(nearest.next_up()) && error(nearest) <= error(nearest.next_down()));
        assert!(size(down) <= exact && size(down.next_up()) > exact, "{a} {b} {c}: {down}");
        let product: f32 = two("mul.rn", "f32", a, b);
        apart += usize::from(two::<f32, f32>("add.rn", "f32", product, c) != nearest);
    }
    assert!(apart > 1000, "two roundings differ from one in {apart} of 20000");
    // What CUDA's expf does with it: the whole part of a number, in the last bits of a sum with 1.5 x 2^23.
    for (x, whole) in [(0.999f32, 0), (-0.001, -1), (2.0, 2), (-3.5, -4)] {
        let sum: f32 = of(compute("fma.rm", "f32"), [x.bits(), 1f32.bits(), 12_582_912f32.bits()]);
        assert_eq!(sum - 12_582_912.0, whole as f32, "{x}");
    }
    let cancelled: f32 = of(compute("fma.rm", "f32"), [2f32.bits(), 3f32.bits(), (-6f32).bits()]);
    assert_eq!(cancelled.to_bits(), (-0f32).to_bits());
    let infinite: f32 = of(compute("fma.rm", "f32"), [f32::INFINITY.bits(), 1f32.bits(), 1f32.bits()]);
    assert_eq!(infinite, f32::INFINITY);
}

#[test]
fn special_numbers_are_as_ptx_says() {
    let nan = 0x7fff_ffff;
    assert_eq!(two::<f32, f32>("add", "f32", f32::INFINITY, f32::NEG_INFINITY).to_bits(), nan);
    assert_eq!(two::<f32, f32>("mul", "f32", 0.0, f32::INFINITY).to_bits(), nan);
    assert_eq!(two::<f32, f32>("div.rn", "f32", 0.0, 0.0).to_bits(), nan);
    assert_eq!(one::<f32, f32>(compute("sqrt.rn", "f32"), -1.0).to_bits(), nan);
    for (op, a, b, result) in [
        ("min", f32::NAN, 3.0f32, 3.0f32),
        ("max", 3.0, f32::NAN, 3.0),
        ("min", 0.0, -0.0, -0.0),
        ("min", -0.0, 0.0, -0.0),
        ("max", 0.0, -0.0, 0.0),
        ("max", -0.0, 0.0, 0.0),
        ("min", -1.0, 2.0, -1.0),
        ("max", -1.0, 2.0, 2.0),
    ] {
        assert_eq!(two::<f32, f32>(op, "f32", a, b).to_bits(), result.to_bits(), "{op} {a} {b}");
        let wide: f64 = two(op, "f64", f64::from(a), f64::from(b));
        assert_eq!(wide.to_bits(), f64::from(result).to_bits(), "{op} {a} {b}");
    }
    assert_eq!(two::<f32, f32>("min", "f32", f32::NAN, f32::NAN).to_bits(), nan);
    // Denormal numbers count.
    let tiny = f32::from_bits(3);
    assert_eq!(two::<f32, f32>("add", "f32", tiny, tiny), f32::from_bits(6));
}

#[test]
fn comparisons_beside_nan() {
    for (comparison, less, equal, beside) in [
        ("eq", false, true, false),
        ("ne", true, false, false),
        ("lt", true, false, false),
        ("le", true, true, false),
        ("gt", false, false, false),
        ("ge", false, true, false),
        ("equ", false, true, true),
        ("neu", true, false, true),
        ("ltu", true, false, true),
        ("leu", true, true, true),
        ("gtu", false, false, true),
        ("geu", false, true, true),
    ] {
        for (a, b, expected) in [(1.0, 2.0, less), (2.0, 2.0, equal), (f32::NAN, 2.0, beside), (2.0, f32::NAN, beside)]
        {
            let found: bool = of(compare(comparison, "f32"), [a.bits(), b.bits(), 0]);
            assert_eq!(found, expected, "{comparison} {a} {b}");
            let found: bool = of(compare(comparison, "f64"), [f64::from(a).bits(), f64::from(b).bits(), 0]);
            assert_eq!(found, expected, "{comparison} {a} {b}");
        }
    }
    assert!(of::<bool>(compare("lt", "s32"), [(-1i32).bits(), 0, 0]));
    assert!(!of::<bool>(compare("lt", "u32"), [(-1i32).bits(), 0, 0]));
}

#[test]
fn pairs_of_halves_round_once() {
    let mut halves = numbers().map(|n| f16::from_bits((n as u16 & 0x83ff) | ((n >> 16) as u16 % 14 + 8) << 10));
    let word = |low: f16, high: f16| u32::from(high.to_bits()) << 16 | u32::from(low.to_bits());
    let mut apart = 0;
    for _ in 0..20_000 {
        let [a, b, c] = std::array::from_fn(|_| halves.next().unwrap());
        // Numbers between 2^-7 and 2^7 in steps of at least 2^-17: products and sums are exact in integers.
        let scaled = |v: f16| (v.to_f64() * (1u64 << 17) as f64) as i128;
        let exact = scaled(a) * scaled(b) + (scaled(c) << 17);
        let fused: u32 = of(compute("fma.rn", "f16x2"), [word(a, b).into(), word(b, a).into(), word(c, c).into()]);
        assert_eq!(fused >> 16, fused & 0xffff, "{a} {b} {c}");
        let found = f16::from_bits(fused as u16);
        let error = |v: f16| ((v.to_f64() * (1u64 << 34) as f64) as i128 - exact).abs();
        let beside = |by: i16| f16::from_bits((found.to_bits() as i16 + by) as u16);
        assert!(error(found) <= error(beside(1)) && error(found) <= error(beside(-1)), "{a} {b} {c}: {found}");
        let product: u32 = two("mul", "f16x2", word(a, a), word(b, b));
        apart += usize::from(two::<u32, u32>("add", "f16x2", product, word(c, c)) as u16 != fused as u16);
    }
    assert!(apart > 1000, "two roundings differ from one in {apart} of 20000");
    let (one, most, nan) = (f16::ONE, f16::MAX, f16::NAN);
    let found: u32 = two("mul", "f16x2", word(most, nan), word(most, one));
    assert_eq!(found, 0x7fff_0000 | u32::from(f16::INFINITY.to_bits()));
    assert_eq!(of::<u32>(compute("neg", "f16x2"), [word(one, -one).into(), 0, 0]), word(-one, one));
    // Of two, the first is the upper half; negative numbers become 0.
    let relu: u32 = of(convert("f16x2", "f32", "rn.relu"), [2f32.bits(), (-3f32).bits(), 0]);
    assert_eq!(relu, word(f16::ZERO, f16::from_f32(2.0)));
}

#[test]
fn halves_round_to_the_nearest_even() {
    // Every positive number of f16 and the points around the middle between it and the next one.
    for bits in 0..0x7bffu16 {
        let (low, high) = (f16::from_bits(bits), f16::from_bits(bits + 1));
        let middle = (low.to_f32() + high.to_f32()) / 2.0;
        let even = if bits & 1 == 0 { low } else { high };
        let rounded = |v: f32| one::<f32, f16>(convert("f16", "f32", "rn"), v);
        assert_eq!(rounded(middle), even, "{middle}");
        assert_eq!((rounded(middle.next_down()), rounded(middle.next_up())), (low, high), "{middle}");
        assert_eq!(one::<f16, f32>(convert("f32", "f16", ""), low), low.to_f32());
    }
    assert_eq!(one::<f32, f16>(convert("f16", "f32", "rn"), 65519.996), f16::MAX);
    assert_eq!(one::<f32, f16>(convert("f16", "f32", "rn"), 65520.0), f16::INFINITY);
    assert!(one::<f32, f16>(convert("f16", "f32", "rn"), f32::NAN).is_nan());
    // Of two, the first is the upper half.
    let pair: u32 = of(convert("f16x2", "f32", "rn"), [1f32.bits(), 2f32.bits(), 0]);
    assert_eq!(pair, 0x3c00_4000);
}

#[test]
fn conversions_clamp_and_round() {
    for (kind, rounding, v, expected) in [
        ("s32", "rzi", -1.9f32, -1i64),
        ("s32", "rmi", -1.1, -2),
        ("s32", "rni", 2.5, 2),
        ("s32", "rni", 3.5, 4),
        ("s32", "rzi", 3e9, i64::from(i32::MAX)),
        ("s32", "rzi", f32::NAN, 0),
    ] {
        assert_eq!(i64::from(one::<f32, i32>(convert(kind, "f32", rounding), v)), expected, "{kind}.{rounding} {v}");
    }
    assert_eq!(one::<f32, i64>(convert("s64", "f32", "rni"), f32::NAN), i64::MIN);
    assert_eq!(one::<f64, i32>(convert("s32", "f64", "rzi"), f64::NAN), i32::MIN);
    assert_eq!(one::<f64, u32>(convert("u32", "f64", "rzi"), -5.0), 0);
    for (v, expected) in [(-0.5f32, 0.0f32), (f32::NAN, 0.0), (0.25, 0.25), (7.0, 1.0)] {
        assert_eq!(one::<f32, f32>(convert("f32", "f32", "sat"), v).to_bits(), expected.to_bits());
    }
    assert_eq!(one::<i32, i64>(convert("s64", "s32", ""), -7), -7);
    assert_eq!(one::<u32, u64>(convert("u64", "u32", ""), u32::MAX), u64::from(u32::MAX));
    assert_eq!(one::<u64, u32>(convert("u32", "u64", ""), 0x1_2345_6789), 0x2345_6789);
    assert_eq!(one::<i32, f32>(convert("f32", "s32", "rn"), 16_777_217), 16_777_216.0);
    assert!(convert("f32", "s32", "").is_none() && convert("f16", "f32", "rz").is_none());
}

#[test]
fn integers_wrap_shift_and_permute() {
    assert_eq!(two::<i32, i32>("add", "s32", i32::MAX, 1), i32::MIN);
    assert_eq!(two::<i32, i32>("mul.hi", "s32", -3, 1 << 30), -1);
    assert_eq!(two::<u32, u32>("mul.hi", "u32", 3 << 30, 4), 3);
    assert_eq!(two::<i32, i64>("mul.wide", "s32", i32::MIN, 2), -(1i64 << 32));
    assert_eq!(two::<i32, i32>("div", "s32", -7, 2), -3);
    assert_eq!(two::<i32, i32>("rem", "s32", -7, 2), -1);
    assert_eq!(two::<i32, i32>("div", "s32", i32::MIN, -1), i32::MIN);
    assert_eq!(two::<u32, u32>("div", "u32", 5, 0), u32::MAX);
    for (op, kind, a, n, expected) in [
        ("shl", "b32", 0x8000_0001u64, 1u64, 2u64),
        ("shl", "b32", 1, 32, 0),
        ("shl", "b64", 1, 63, 1 << 63),
        ("shl", "b64", 1, 64, 0),
        ("shr", "u32", 0x8000_0000, 31, 1),
        ("shr", "u32", 0x8000_0000, 32, 0),
        ("shr", "s32", 0x8000_0000, 40, 0xffff_ffff),
        ("shr", "s64", 1 << 63, 64, u64::MAX),
        ("shr", "u64", 1 << 63, 64, 0),
    ] {
        assert_eq!(of::<u64>(compute(op, kind), [a, n, 0]), expected, "{op}.{kind} {a:#x} {n}");
    }
    let bytes = |selectors: u64| of::<u32>(compute("prmt", "b32"), [0x8322_1100, 0x7766_5544, selectors]);
    assert_eq!(bytes(0x3210), 0x8322_1100);
    assert_eq!(bytes(0x7654), 0x7766_5544);
    assert_eq!(bytes(0x0b18), 0x00ff_1100);
    assert_eq!(of::<u64>(packed(8), [0x1_1111_1111, 2, 0]), 0x2_1111_1111);
    assert_eq!(of::<i32>(compute("selp", "s32").or(compute("selp", "b32")), [4, 5, 0]), 5);
}

#[test]
fn approximations_are_those_that_are_stated() {
    let power = |v: f32| one::<f32, f32>(compute("ex2.approx.ftz", "f32"), v);
    assert_eq!([power(0.0), power(-3.0), power(10.0)], [1.0, 0.125, 1024.0]);
    assert_eq!([power(-127.0), power(f32::NEG_INFINITY), power(200.0)], [0.0, 0.0, f32::INFINITY]);
    for v in floats().take(2000) {
        let exact = f64::from(v).exp2();
        assert!((f64::from(power(v)) / exact - 1.0).abs() <= 2f64.powi(-24), "{v}");
    }
    let part: f64 = one(compute("rcp.approx.ftz", "f64"), 3.0f64);
    assert!((part * 3.0 - 1.0).abs() < 2f64.powi(-20) && part.to_bits() & 0xffff_ffff == 0);
    assert_eq!(one::<f64, f64>(compute("rcp.approx.ftz", "f64"), f64::from_bits(1)), f64::INFINITY);
}
