//! Numbers of a run as charts: the funnel as bars in a table, so that it can be read aloud, and how confident and how
//! well confirmed the points are.

use maud::{Markup, PreEscaped, html};

use crate::draw::chart::{Axis, Panel, Series, Shape, write_svg};
use crate::draw::colours::BLUE;
use crate::error::{Error, Result};
use crate::fusion::funnel::Funnel;
use crate::report::facts::{grouped, percent};
use crate::report::quantise::Packed;

/// Width and height of a chart.
const SIZE: (i32, i32) = (440, 300);
/// Bars of the chart of confidences.
const BARS: usize = 20;
/// Numbers of views with a bar of their own.
const MOST_VIEWS: usize = 12;

/// What is left of the pixels, and what became of the others.
struct Stage {
    name: &'static str,
    left: usize,
    lost: String,
}

fn stages(funnel: &Funnel) -> Vec<Stage> {
    let stage = |name, left, lost: String| Stage { name, left, lost };
    let lost = |before: usize, left: usize, why: &str| match before.saturating_sub(left) {
        0 => String::new(),
        lost => format!("{} {why}", grouped(lost as u64)),
    };
    let fresh = funnel.kept.saturating_sub(funnel.duplicates);
    let specks = match funnel.specks {
        0 => String::new(),
        specks => format!("{} in specks of the map; ", grouped(specks as u64)),
    };
    let unsure = funnel.in_range.saturating_sub(funnel.specks);
    let objections = funnel.objections();
    let objections = objections.iter().map(|(count, why)| format!("{} {why}", grouped(*count as u64)));
    let points = funnel.fused.saturating_sub(funnel.beyond + funnel.thinned);
    let mut all = vec![
        stage("All pixels of the maps", funnel.pixels, String::new()),
        stage("With a depth in the range", funnel.in_range, lost(funnel.pixels, funnel.in_range, "without")),
        stage("Confident", funnel.confident, specks + &lost(unsure, funnel.confident, "not confident enough")),
        stage("Confirmed by enough views", funnel.kept, lost(funnel.confident, funnel.kept, "not confirmed")),
        stage("Seen for the first time", fresh, lost(funnel.kept, fresh, "repeat points of earlier views")),
        stage("Not spoken against", funnel.fused, objections.collect::<Vec<_>>().join("; ")),
    ];
    if points != funnel.fused {
        all.push(stage("Points in the cloud", points, lost(funnel.fused, points, "thinned out, or beyond the region")));
    }
    all
}

/// A bar of a share of its column's width.
pub fn bar(part: usize, whole: usize) -> Markup {
    let width = 100.0 * part as f64 / whole.max(1) as f64;
    html! {
        svg.bar width="100%" height="12" aria-hidden="true" {
            rect.track width="100%" height="12" rx="2" {}
            rect.fill width=(format!("{width:.2}%")) height="12" rx="2" {}
        }
    }
}

/// Where pixels were lost.
pub fn funnel(funnel: &Funnel) -> Markup {
    html! {
        table.funnel {
            caption.sr { "Pixels that are left after each filter" }
            thead { tr {
                th scope="col" { "Filter" }
                th.wide scope="col" { span.sr { "Bar" } }
                th.n scope="col" { "Pixels" }
                th.n scope="col" { "Share" }
                th scope="col" { "Of those before" }
            } }
            tbody {
                @for stage in stages(funnel) {
                    tr {
                        th scope="row" { (stage.name) }
                        td.wide { (bar(stage.left, funnel.pixels)) }
                        td.n { (grouped(stage.left as u64)) }
                        td.n { (percent(stage.left, funnel.pixels)) }
                        td.quiet { (stage.lost) }
                    }
                }
            }
        }
    }
}

/// How confident the points are, and how many views agree on them.
///
/// # Errors
/// None in practice: nothing is written but memory.
pub fn of_points(points: &[Packed]) -> Result<Markup> {
    let (mut confidence, mut views) = ([0usize; BARS], [0usize; MOST_VIEWS + 1]);
    for point in points {
        confidence[usize::from(point.confidence) * BARS / 256] += 1;
        views[usize::from(point.views).min(MOST_VIEWS)] += 1;
    }
    let share = |count: usize| 100.0 * count as f64 / points.len().max(1) as f64;
    let steps = |counts: &[usize], at: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
        counts.iter().enumerate().map(|(i, &count)| (at(i), share(count))).collect()
    };
    let tallest = |steps: &[(f64, f64)]| steps.iter().fold(0.0, |top: f64, step| top.max(step.1));
    let by_confidence = steps(&confidence, &|i| i as f64 / BARS as f64);
    let least = views.iter().position(|&count| count > 0).unwrap_or(0);
    let most = views.iter().rposition(|&count| count > 0).unwrap_or(0);
    let by_views = steps(&views[least..=most], &|i| (least + i) as f64 - 0.5);
    let label = |n: usize| if n == MOST_VIEWS { format!("{n}+") } else { n.to_string() };
    let ticks = (least..=most).map(|n| (n as f64, label(n))).collect();
    let ends = (least as f64 - 0.5, most as f64 + 0.5);
    let panel = |title: &str, across, steps: Vec<(f64, f64)>| Panel {
        title: title.into(),
        axes: [across, Axis::up_to("points, %", tallest(&steps))],
        series: vec![Series::new("", BLUE, Shape::Steps(steps))],
        labels: Vec::new(),
    };
    let confidence = panel("How sure points are", Axis::across("confidence", (0.0, 1.0), SIZE.0), by_confidence);
    let across = Axis { name: "views that agree".into(), ends, ticks };
    let views = panel("How many views confirm points", across, by_views);
    Ok(html! {
        div.charts {
            (drawn(&confidence, "Histogram of the points' confidence")?)
            (drawn(&views, "Histogram of the number of views that agree on points")?)
        }
    })
}

fn drawn(panel: &Panel, label: &str) -> Result<Markup> {
    let mut svg = Vec::new();
    write_svg(std::slice::from_ref(panel), SIZE, &mut svg).map_err(bug)?;
    let svg = String::from_utf8(svg).map_err(|e| bug(std::io::Error::other(e)))?;
    // What plotters writes is SVG by itself; its words are ours.
    Ok(html! { figure.chart role="img" aria-label=(label) { (PreEscaped(svg)) } })
}

fn bug(error: std::io::Error) -> Error {
    Error::Bug { place: "a chart of a report", problem: error.to_string() }
}
