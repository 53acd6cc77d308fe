//! Which of several clouds are the best of their kind, and a picture of that: a cloud is Pareto-optimal where no other
//! is at least as accurate and as complete, and better in one of the two.

use crate::draw::canvas::{Canvas, INK, LETTER, MARGIN, PALE_INK, ticks};

/// For each pair of accuracy and completeness (both better the smaller) whether it is Pareto-optimal. What is not a
/// number is not; of equal pairs either all are or none.
pub fn pareto(clouds: &[(f64, f64)]) -> Vec<bool> {
    let mut order: Vec<usize> =
        (0..clouds.len()).filter(|&i| clouds[i].0.is_finite() && clouds[i].1.is_finite()).collect();
    order.sort_by(|&a, &b| clouds[a].0.total_cmp(&clouds[b].0).then(clouds[a].1.total_cmp(&clouds[b].1)));
    let mut optimal = vec![false; clouds.len()];
    // The last optimal one so far: the most complete of all that are at least as accurate.
    let mut best: Option<(f64, f64)> = None;
    for i in order {
        if best.is_none_or(|best| clouds[i].1 < best.1 || clouds[i] == best) {
            best = Some(clouds[i]);
            optimal[i] = true;
        }
    }
    optimal
}

/// Width and height of the picture's panel.
const PANEL: (usize, usize) = (880, 600);
/// Room for the numbers left of it.
const LEFT: usize = MARGIN + 9 * LETTER;
const TOP: usize = MARGIN + 2 * LETTER;
/// Around what is drawn, as a share of its extent.
const MARGIN_SHARE: f64 = 0.06;

/// Blue and orange of Okabe and Ito, which can be told apart without colour vision.
const OTHER: [u8; 3] = [0, 114, 178];
const OPTIMAL: [u8; 3] = [213, 94, 0];
const GROUND: [u8; 3] = [246, 246, 248];
const GRID: [u8; 3] = [214, 216, 222];

/// Accuracy to the right, completeness upwards, so that the lower left is best: every cloud a dot, the optimal ones
/// larger, with their number (from 1) and the border of what they dominate.
pub fn pareto_plot(clouds: &[(f64, f64)]) -> Canvas {
    let (width, height) = PANEL;
    let optimal = pareto(clouds);
    let mut canvas = Canvas::new(LEFT + width + 2 * MARGIN, TOP + height + 5 * LETTER + MARGIN);
    canvas.text(MARGIN, MARGIN - 4, "completeness, mean (lower is better)", INK);
    canvas.panel(LEFT, TOP, width, height, |_, _| GROUND);
    let finite: Vec<(f64, f64)> = clouds.iter().copied().filter(|c| c.0.is_finite() && c.1.is_finite()).collect();
    let (across, up) = (extent(finite.iter().map(|c| c.0)), extent(finite.iter().map(|c| c.1)));
    let column = |value: f64| LEFT + ((value - across.0) / (across.1 - across.0) * (width - 1) as f64).round() as usize;
    let row = |value: f64| TOP + height - 1 - ((value - up.0) / (up.1 - up.0) * (height - 1) as f64).round() as usize;

    for (value, label) in ticks(up.0, up.1, 6) {
        canvas.panel(LEFT, row(value), width, 1, |_, _| GRID);
        let left = LEFT.saturating_sub((label.len() + 1) * LETTER);
        canvas.text(left, row(value).saturating_sub(LETTER / 2), &label, INK);
    }
    for (value, label) in ticks(across.0, across.1, 5) {
        canvas.panel(column(value), TOP, 1, height, |_, _| GRID);
        canvas.text(column(value).saturating_sub(label.len() * LETTER / 2), TOP + height + 8, &label, INK);
    }
    canvas.text(LEFT, TOP + height + 2 * LETTER + 4, "accuracy, mean (lower is better)", INK);
    canvas.text(LEFT, TOP + height + 4 * LETTER, "numbers: Pareto-optimal settings", PALE_INK);

    // Steps from each optimal cloud to the next: whatever lies above and to the right of them is dominated.
    let mut border: Vec<usize> = (0..clouds.len()).filter(|&i| optimal[i]).collect();
    border.sort_by(|&a, &b| clouds[a].0.total_cmp(&clouds[b].0));
    for pair in border.windows(2) {
        let [(x0, y0), (x1, y1)] = [clouds[pair[0]], clouds[pair[1]]].map(|c| (column(c.0), row(c.1)));
        canvas.panel(x0, y0, x1 - x0 + 1, 2, |_, _| OPTIMAL);
        canvas.panel(x1, y0, 2, y1 - y0 + 1, |_, _| OPTIMAL);
    }
    for (i, &(x, y)) in clouds.iter().enumerate() {
        if x.is_finite() && y.is_finite() && !optimal[i] {
            disc(&mut canvas, column(x), row(y), 4, OTHER);
        }
    }
    let mut written: Vec<(usize, usize)> = Vec::new();
    for &i in &border {
        let (x, y) = (column(clouds[i].0), row(clouds[i].1));
        disc(&mut canvas, x, y, 7, OPTIMAL);
        // A number that would lie on another one is left out: the table has it.
        let (left, top) = (x + 12, y.saturating_sub(LETTER + 4));
        if written.iter().all(|&(l, t)| left.abs_diff(l) > 3 * LETTER || top.abs_diff(t) > LETTER) {
            canvas.text(left, top, &(i + 1).to_string(), INK);
            written.push((left, top));
        }
    }
    canvas
}

/// From the least to the greatest value, with a margin; something around a single value, 0 to 1 without any.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    let margin = match MARGIN_SHARE * (high - low) {
        0.0 => low.abs().max(1e-9) / 2.0,
        margin => margin,
    };
    (low - margin, high + margin)
}

fn disc(canvas: &mut Canvas, x: usize, y: usize, radius: usize, ink: [u8; 3]) {
    for row in 0..=2 * radius {
        let dy = row.abs_diff(radius);
        let half = ((radius * radius - dy * dy) as f64).sqrt() as usize;
        canvas.panel(x - half, y + row - radius, 2 * half + 1, 1, |_, _| ink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By definition.
    fn dominated((x, y): (f64, f64), by: (f64, f64)) -> bool {
        by.0 <= x && by.1 <= y && (by.0 < x || by.1 < y)
    }

    #[test]
    fn optimal_clouds_are_those_that_none_dominates() {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few different values, so that ties of every kind occur.
            (state >> 60) as f64
        };
        for count in 0..60 {
            let mut clouds: Vec<(f64, f64)> = (0..count).map(|_| (next(), next())).collect();
            if count > 3 {
                clouds[1].0 = f64::NAN;
                clouds[2] = (0.0, f64::NAN);
            }
            let numbers = |c: &(f64, f64)| c.0.is_finite() && c.1.is_finite();
            let expected: Vec<bool> = clouds
                .iter()
                .map(|c| numbers(c) && !clouds.iter().filter(|o| numbers(o)).any(|&o| dominated(*c, o)))
                .collect();
            assert_eq!(pareto(&clouds), expected, "{clouds:?}");
        }
    }

    #[test]
    fn every_cloud_is_drawn_where_it_belongs() {
        let clouds = [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (3.0, 3.0), (f64::NAN, 1.0)];
        let canvas = pareto_plot(&clouds);
        let mut png = Vec::new();
        canvas.write_png(&mut png).unwrap();
        let picture = image::load_from_memory(&png).unwrap().into_rgb8();
        let at = |x: f64, y: f64| {
            let share = |value: f64| (value - 1.0 + 2.0 * MARGIN_SHARE) / (2.0 + 4.0 * MARGIN_SHARE);
            let column = LEFT + (share(x) * (PANEL.0 - 1) as f64).round() as usize;
            let row = TOP + PANEL.1 - 1 - (share(y) * (PANEL.1 - 1) as f64).round() as usize;
            picture.get_pixel(column as u32, row as u32).0
        };
        for (i, &(x, y)) in clouds[..4].iter().enumerate() {
            assert_eq!(at(x, y), if i < 3 { OPTIMAL } else { OTHER }, "{i}");
        }
        // Of no cloud, of a single one and of clouds at one place a picture can be drawn as well.
        for few in [&clouds[4..], &clouds[..1], &[(0.0, 0.0), (0.0, 0.0)]] {
            pareto_plot(few).write_png(std::io::sink()).unwrap();
        }
    }
}
