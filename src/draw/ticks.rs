//! Round numbers for scales and axes, with as many decimals as tell them apart, and no more of them than there is room
//! for.

use super::font;

/// Round numbers between `low` and `high`: at most `most`, at least one, with as many decimals as they need.
pub fn ticks(low: f64, high: f64, most: usize) -> Vec<(f64, String)> {
    let mut exponent = ((high - low) / most.max(1) as f64).log10().floor() as i32;
    loop {
        for digit in [1.0, 2.0, 5.0] {
            let step = digit * 10f64.powi(exponent);
            let slack = 1e-9 * (high - low);
            let (first, last) = (((low - slack) / step).ceil(), ((high + slack) / step).floor());
            if last - first + 1.0 <= most as f64 {
                let values = (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step);
                let decimals = (-exponent).max(0) as usize;
                let small = decimals <= 4 && high.abs() < 1e6;
                let label = |v: f64| if small { format!("{v:.decimals$}") } else { format!("{v:.2e}") };
                return values.filter(|v| *v <= high + slack).map(|v| (v, label(v))).collect();
            }
        }
        exponent += 1;
    }
}

/// As many [`ticks`], up to eight, as leave a letter and a half between their numbers, which have a size and stand side
/// by side in `room`; none where not even one fits.
pub fn fitting(low: f64, high: f64, size: f64, room: f64) -> Vec<(f64, String)> {
    let fits = |labels: &[(f64, String)]| {
        let longest = labels.iter().map(|(_, label)| font::width(label, size)).fold(0.0, f64::max);
        labels.len() as f64 * (longest + 1.5 * size) <= room
    };
    (1..=8).rev().map(|most| ticks(low, high, most)).find(|labels| fits(labels)).unwrap_or_default()
}
