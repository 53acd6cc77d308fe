//! Registers: 32 lanes of 64 bits for each name, a value in the low bits of its lane, and rules that compute on them.

/// A register of a warp: a value for each of its lanes. A narrower value lies in the low bits, the others are zero; a
/// predicate is 0 or 1.
pub type Lanes = [u64; 32];

/// Computes a register from up to three others, all lanes of it. It must accept whatever an inactive lane holds.
pub type Rule = fn(&Lanes, &Lanes, &Lanes, &mut Lanes);

/// A value in a lane.
pub trait Lane: Copy {
    /// From the low bits.
    fn of(bits: u64) -> Self;
    /// Into the low bits.
    fn bits(self) -> u64;
}

macro_rules! integer_lanes {
    ($($number:ty as $unsigned:ty),*) => {$(
        impl Lane for $number {
            fn of(bits: u64) -> Self {
                bits as Self
            }
            fn bits(self) -> u64 {
                u64::from(self as $unsigned)
            }
        }
    )*};
}
integer_lanes!(u8 as u8, u16 as u16, u32 as u32, u64 as u64, i8 as u8, i16 as u16, i32 as u32, i64 as u64);

impl Lane for f32 {
    fn of(bits: u64) -> Self {
        Self::from_bits(bits as u32)
    }
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
}

impl Lane for f64 {
    fn of(bits: u64) -> Self {
        Self::from_bits(bits)
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

impl Lane for half::f16 {
    fn of(bits: u64) -> Self {
        Self::from_bits(bits as u16)
    }
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
}

impl Lane for bool {
    fn of(bits: u64) -> Self {
        bits & 1 == 1
    }
    fn bits(self) -> u64 {
        self.into()
    }
}

/// A rule from the formula of one lane: `rule!(|a: u32, b: u32| a ^ b)`. The file that uses it imports [`Lane`] and
/// [`Rule`].
macro_rules! rule {
    (|$a:ident: $ta:ty| $body:expr) => {{
        let rule: Rule = |x, _, _, to| {
            for i in 0..32 {
                let $a = <$ta as Lane>::of(x[i]);
                to[i] = Lane::bits($body);
            }
        };
        rule
    }};
    (|$a:ident: $ta:ty, $b:ident: $tb:ty| $body:expr) => {{
        let rule: Rule = |x, y, _, to| {
            for i in 0..32 {
                let ($a, $b) = (<$ta as Lane>::of(x[i]), <$tb as Lane>::of(y[i]));
                to[i] = Lane::bits($body);
            }
        };
        rule
    }};
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty| $body:expr) => {{
        let rule: Rule = |x, y, z, to| {
            for i in 0..32 {
                let ($a, $b, $c) = (<$ta as Lane>::of(x[i]), <$tb as Lane>::of(y[i]), <$tc as Lane>::of(z[i]));
                to[i] = Lane::bits($body);
            }
        };
        rule
    }};
}
pub(super) use rule;

/// The lanes whose predicate is true, one bit each.
pub fn mask_of(predicate: &Lanes) -> u32 {
    predicate.iter().rev().fold(0, |mask, &lane| mask << 1 | (lane & 1) as u32)
}

/// The lanes of a mask, from the lowest.
pub fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}
