use engine::evaluation::depth_metrics::DepthMetrics;
use engine::files::map::Map;
use engine::synth::maps::Extras;
use engine::train::split_metrics::SplitMetrics;

use super::{Numbers, row};

fn random(seed: u64) -> ([Map; 3], Extras) {
    let mut numbers = Numbers::new(seed);
    let mut map =
        |low: f64, high: f64| row(&(0..500).map(|_| (low + (high - low) * numbers.unit()) as f32).collect::<Vec<_>>());
    let maps = [map(90.0, 110.0), map(0.0, 1.0), map(90.0, 110.0)];
    let mut visible = map(0.0, 6.0);
    visible.data.iter_mut().for_each(|v| *v = v.floor());
    let extras = Extras { texture: map(0.0, 0.08), slant: map(0.0, 90.0), visible };
    (maps, extras)
}

#[test]
fn groups_hold_the_pixels_that_a_plain_loop_puts_there() {
    let ([depth, confidence, truth], extras) = random(5);
    let mut split = SplitMetrics::default();
    split.add(&depth, &confidence, &truth, &extras, 0.5).unwrap();
    let only = |wanted: &dyn Fn(usize) -> bool| {
        let mut kept = truth.clone();
        (0..kept.data.len()).filter(|&i| !wanted(i)).for_each(|i| kept.data[i] = 0.0);
        let mut metrics = DepthMetrics::new();
        metrics.add(&depth, &confidence, &kept, 0.5).unwrap();
        metrics.summary()
    };
    let Extras { texture, slant, visible } = &extras;
    let expected = [
        ("pixels with a truth", only(&|_| true)),
        ("under 0.02", only(&|i| f64::from(texture.data[i]) < 0.02)),
        ("0.02 to 0.04", only(&|i| (0.02..0.04).contains(&f64::from(texture.data[i])))),
        ("0.04 and more", only(&|i| f64::from(texture.data[i]) >= 0.04)),
        ("0 to 30 degrees", only(&|i| slant.data[i] < 30.0)),
        ("30 to 60 degrees", only(&|i| (30.0..60.0).contains(&slant.data[i]))),
        ("60 to 90 degrees", only(&|i| slant.data[i] >= 60.0)),
        ("no other view", only(&|i| visible.data[i] == 0.0)),
        ("1 other view", only(&|i| visible.data[i] == 1.0)),
        ("2 other views", only(&|i| visible.data[i] == 2.0)),
        ("3 or more", only(&|i| visible.data[i] >= 3.0)),
    ];
    let summary = split.summary();
    assert_eq!(summary.rows.len(), expected.len());
    for (row, (group, metrics)) in summary.rows.iter().zip(&expected) {
        assert_eq!(row.group, *group);
        assert!(metrics.pixels > 0);
        assert_eq!(row.metrics, *metrics, "{group}");
    }
    assert_eq!(split.overall(), expected[0].1);
}

#[test]
fn merging_is_adding() {
    let (mut together, mut merged) = (SplitMetrics::default(), SplitMetrics::default());
    for seed in [8, 9] {
        let ([depth, confidence, truth], extras) = random(seed);
        let mut one = SplitMetrics::default();
        for metrics in [&mut one, &mut together] {
            metrics.add(&depth, &confidence, &truth, &extras, 0.5).unwrap();
        }
        merged.merge(&one);
    }
    assert_eq!(merged, together);
}

#[test]
fn tables_are_aligned() {
    let ([depth, confidence, truth], extras) = random(6);
    let mut split = SplitMetrics::default();
    assert!(split.summary().text().contains(" -"), "an empty table has dashes");
    split.add(&depth, &confidence, &truth, &extras, 0.5).unwrap();
    let summary = split.summary();
    let text = summary.text();
    assert_eq!(text.lines().count(), 12);
    let lengths: Vec<_> = text.lines().map(str::len).collect();
    assert!(lengths.iter().all(|&l| l == lengths[0]), "the last column is aligned to the right\n{text}");
    let second = text.lines().nth(1).unwrap();
    assert!(second.starts_with("all: pixels with a truth     500      100.0"), "{second}");

    let markdown = summary.markdown();
    let lines: Vec<_> = markdown.lines().collect();
    assert_eq!(lines.len(), 13);
    assert!(lines.iter().all(|l| l.len() == lines[0].len() && l.starts_with("| ") && l.ends_with('|')));
    assert!(lines[1].contains("---: |"));
    let cells = |line: &str| line.split('|').count();
    assert!(lines.iter().all(|l| cells(l) == cells(lines[0])));
}

#[test]
fn extras_of_another_size_are_refused() {
    let ([depth, confidence, truth], mut extras) = random(7);
    extras.slant = row(&[1.0]);
    let mut split = SplitMetrics::default();
    let message = split.add(&depth, &confidence, &truth, &extras, 0.5).unwrap_err().to_string();
    assert!(message.contains("slant of 1 x 1"), "{message}");
    assert_eq!(split, SplitMetrics::default());
}
