//! Plans of very many views, on made-up scenes without photos: what planning costs grows with the views, not with their
//! square.

use std::time::Instant;

use engine::run::schedule::{Job, in_order_of_shared_photos};
use engine::shards::plan_file::divided;

/// Views in strips as a drone flies, each with its neighbours in the strip and those beside it in the next ones.
fn strips(views: usize) -> Vec<Job<usize>> {
    let long = (views as f64).sqrt() as usize;
    let job = |view: usize| {
        let near = [1, 2, long, long + 1, 2 * long].into_iter();
        let around = near.flat_map(|step| [view.checked_sub(step), Some(view + step)]).flatten();
        Job { view, photos: std::iter::once(view).chain(around.filter(|&other| other < views)).collect() }
    };
    (0..views).map(job).collect()
}

#[test]
fn ten_thousand_and_a_million_views_are_ordered_in_proportion() {
    let mut seconds = Vec::new();
    // A million takes some twenty seconds without optimisation; the night has time for it.
    let large = if std::env::var_os("ENGINE_TEST_LARGE").is_some() { 1_000_000 } else { 100_000 };
    for views in [10_000, large] {
        let began = Instant::now();
        let order = in_order_of_shared_photos(strips(views));
        seconds.push(began.elapsed().as_secs_f64());
        let mut seen: Vec<usize> = order.iter().map(|job| job.view).collect();
        // Neighbours follow each other: few jumps.
        let share = |pair: &[Job<usize>]| pair[0].photos.iter().any(|photo| pair[1].photos.contains(photo));
        let jumps = order.windows(2).filter(|pair| !share(pair)).count();
        assert!(jumps < views / 100, "{jumps} jumps in {views} views");
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..views));
        let counts = divided(&vec![7; views], 640);
        assert!(counts.iter().all(|&count| count.abs_diff(views / 640) <= 1));
    }
    let ratio = seconds[1] / seconds[0] / (large as f64 / 1e4);
    // The square would be ten times as much at least; caches and a busy machine may cost three.
    assert!(ratio < 5.0, "{seconds:?} s");
    println!("{seconds:?} s for 10000 and {large} views");
}
