//! A chart of many clouds by accuracy and completeness, with the Pareto-optimal ones and the border of what they
//! dominate.
//!
//! Which are optimal is decided by [`crate::evaluation::pareto`].

use std::io::{self, Write};

use super::chart::{Axis, Panel, Series, Shape, write_svg};
use super::colours::{BLUE, VERMILION};
use crate::evaluation::pareto::pareto;

/// Width and height of the chart.
const SIZE: (i32, i32) = (760, 560);
/// Around what is drawn, as a share of its extent.
const MARGIN_SHARE: f64 = 0.06;

/// Writes the chart as SVG: accuracy to the right, completeness upwards, so that the lower left is best; the optimal
/// clouds with their numbers, from 1.
///
/// # Errors
/// The system's reason where it cannot be written.
pub fn write(clouds: &[(f64, f64)], out: impl Write) -> io::Result<()> {
    let finite = || clouds.iter().copied().filter(|c| c.0.is_finite() && c.1.is_finite());
    let optimal = pareto(clouds);
    let mut border: Vec<usize> = (0..clouds.len()).filter(|&i| optimal[i]).collect();
    border.sort_by(|&a, &b| clouds[a].0.total_cmp(&clouds[b].0));
    // Whatever lies above and to the right of these steps is dominated.
    let corners = border.windows(2).flat_map(|pair| [clouds[pair[0]], (clouds[pair[1]].0, clouds[pair[0]].1)]);
    let steps: Vec<(f64, f64)> = corners.chain(border.last().map(|&last| clouds[last])).collect();
    let others = (0..clouds.len()).filter(|&i| !optimal[i]).map(|i| clouds[i]);
    let others: Vec<(f64, f64)> = others.filter(|c| c.0.is_finite() && c.1.is_finite()).collect();
    let (accuracy, completeness) = (extent(finite().map(|c| c.0)), extent(finite().map(|c| c.1)));
    let panel = Panel {
        title: "Settings by accuracy and completeness (lower is better)".into(),
        axes: [
            Axis::across("accuracy: mean distance from cloud to reference, scene units", accuracy, SIZE.0),
            Axis::up("completeness: from reference to cloud, scene units", completeness),
        ],
        series: vec![
            Series::new("", VERMILION, Shape::Line(steps)),
            Series::new("dominated", BLUE, Shape::Dots(others, 3)),
            Series::new(
                "Pareto-optimal, with the setting's number",
                VERMILION,
                Shape::Dots(border.iter().map(|&i| clouds[i]).collect(), 4),
            ),
        ],
        labels: border.iter().map(|&i| (clouds[i], (i + 1).to_string())).collect(),
    };
    write_svg(&[panel], SIZE, out)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_is_drawn_where_it_belongs() {
        let chart = |clouds: &[(f64, f64)]| {
            let mut svg = Vec::new();
            write(clouds, &mut svg).unwrap();
            String::from_utf8(svg).unwrap()
        };
        let clouds = [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (3.0, 3.0), (f64::NAN, 1.0)];
        let svg = chart(&clouds);
        // Centre and colour of each dot; the keys of the legend come first.
        let attribute = |tag: &str, name: &str| {
            tag.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next()).unwrap().to_owned()
        };
        let dot = |tag: &str| {
            let [x, y] = ["cx", "cy"].map(|name| attribute(tag, name).parse::<f64>().unwrap());
            (x, y, attribute(tag, "fill"))
        };
        let dots: Vec<_> = svg.split("<circle ").skip(1).map(dot).skip(2).collect();
        let fills: Vec<&str> = dots.iter().map(|dot| dot.2.as_str()).collect();
        assert_eq!(fills, ["#0072B2", "#D55E00", "#D55E00", "#D55E00"]);
        // 1, 2 and 3 are evenly spaced, to the right and upwards.
        let [worst, left, middle, right] = [0, 1, 2, 3].map(|i| (dots[i].0, dots[i].1));
        assert_eq!((worst.0, worst.1), (right.0, left.1));
        assert!((2.0 * middle.0 - left.0 - right.0).abs() <= 2.0 && (2.0 * middle.1 - left.1 - right.1).abs() <= 2.0);
        assert!(left.0 < right.0 && left.1 < right.1);
        for number in ["1", "2", "3"] {
            assert!(svg.contains(&format!(">\n{number}\n</text>")), "the number {number}");
        }
        // Of no cloud, of a single one and of clouds at one place a chart can be drawn as well.
        for few in [&clouds[4..], &clouds[..1], &[(0.0, 0.0), (0.0, 0.0)]] {
            assert!(chart(few).ends_with("</svg>\n"));
        }
    }
}
