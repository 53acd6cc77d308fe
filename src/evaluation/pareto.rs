//! Which of several clouds are the best of their kind: a cloud is Pareto-optimal where no other is at least as accurate
//! and as complete, and better in one of the two.
//!
//! The chart of them is [`crate::draw`]'s.

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
}
