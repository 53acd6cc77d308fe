//! Charts as SVG, drawn with plotters: panels side by side, each with a title, a legend above its plot, axes with
//! units, a light grid, and curves, steps or dots.
//!
//! Texts are measured with the program's own font, whose letters are no narrower than those of the families that a
//! viewer may take instead. What a chart shows is said by those who fill its [`Panel`]s.

use std::io::{self, Write};
use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::prelude::SVGBackend;
use plotters::series::DashedLineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, TRANSPARENT, TextStyle};

use super::colours::{GREY, GRID, INK, PALE_INK, PAPER};
use super::{font, ticks};

/// Plotters knows whole positions only. It draws this many times larger than the picture is shown, so that curves
/// stay smooth; lengths below are as shown.
const FINE: i32 = 4;
const FAMILY: &str = "DejaVu Sans, Arial, sans-serif";
/// Plotters takes a font's height where SVG takes its em, and divides by this.
const HEIGHT_OF_EM: f64 = 1.24;

/// Size of titles.
const TITLE: i32 = 16;
/// Size of all other words.
const TEXT: i32 = 13;
/// From one line of the legend to the next.
const LINE: i32 = 20;
/// Around a panel.
const MARGIN: i32 = 14;
/// From an axis to its numbers, and from these to the axis's name.
const GAP: i32 = 8;
/// A key of the legend, and the gap to its word.
const KEY: (i32, i32) = (18, 6);
/// Between two entries of the legend.
const BETWEEN: i32 = 14;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// One axis of a panel.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, with the unit.
    pub name: String,
    /// The values where it begins and ends.
    pub ends: (f64, f64),
    /// Where grid lines run, and the number at each.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// To the right in a panel of a width, with round numbers.
    pub fn across(name: &str, ends: (f64, f64), width: i32) -> Self {
        // About the width of the plot.
        let room = f64::from(width - 8 * MARGIN);
        Self { name: name.into(), ends, ticks: ticks::fitting(ends.0, ends.1, TEXT.into(), room) }
    }

    /// Upwards, with round numbers.
    pub fn up(name: &str, ends: (f64, f64)) -> Self {
        Self { name: name.into(), ends, ticks: ticks::ticks(ends.0, ends.1, 8) }
    }

    /// Upwards from 0 to a little above the largest value, with round numbers.
    pub fn up_to(name: &str, largest: f64) -> Self {
        Self::up(name, (0.0, if largest > 0.0 { 1.05 * largest } else { 1.0 }))
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = ((value - self.ends.0) / (self.ends.1 - self.ends.0)).clamp(0.0, 1.0);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.ends.0..self.ends.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == value).map_or(String::new(), |(_, label)| label.clone())
    }
}

/// How a series is drawn; values beyond the axes lie on their ends.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A line through points.
    Line(Vec<(f64, f64)>),
    /// A dashed one, to compare others with.
    Dashes(Vec<(f64, f64)>),
    /// A bar's left end and height, for bars of one width up to the right end of the axis.
    Steps(Vec<(f64, f64)>),
    /// Dots of a radius.
    Dots(Vec<(f64, f64)>, i32),
}

/// One set of values.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its word in the legend; none where this is empty.
    pub name: String,
    /// Its colour.
    pub colour: [u8; 3],
    /// Its values.
    pub shape: Shape,
}

impl Series {
    /// What its fields are.
    pub fn new(name: impl Into<String>, colour: [u8; 3], shape: Shape) -> Self {
        Self { name: name.into(), colour, shape }
    }
}

/// A plot with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// To the right, and upwards.
    pub axes: [Axis; 2],
    /// From the lowest to the topmost.
    pub series: Vec<Series>,
    /// Words beside points; one that finds no free place is left out.
    pub labels: Vec<((f64, f64), String)>,
}

/// Panels of one size, as shown, side by side as an SVG document.
///
/// # Errors
/// The system's reason where it cannot be written.
pub fn write_svg(panels: &[Panel], (width, height): (i32, i32), mut out: impl Write) -> io::Result<()> {
    let shown = (width * panels.len() as i32, height);
    let mut svg = String::new();
    draw(panels, shown, &mut svg).map_err(|e| io::Error::other(e.to_string()))?;
    let size = |by: i32| format!("width=\"{}\" height=\"{}\"", by * shown.0, by * shown.1);
    out.write_all(svg.replacen(&size(FINE), &size(1), 1).as_bytes())
}

fn draw(panels: &[Panel], (width, height): (i32, i32), svg: &mut String) -> Drawn {
    let root = SVGBackend::with_string(svg, ((FINE * width) as u32, (FINE * height) as u32)).into_drawing_area();
    root.fill(&rgb(PAPER))?;
    let areas = root.split_evenly((1, panels.len()));
    let room = width / panels.len() as i32;
    let lines = panels.iter().map(|panel| legend(panel, room).last().map_or(0, |entry| entry.line + 1)).max();
    let head = MARGIN + TITLE + GAP + lines.unwrap_or(0) * LINE + GAP / 2;
    for (panel, area) in panels.iter().zip(&areas) {
        draw_panel(panel, area, room, head)?;
    }
    root.present()
}

fn draw_panel(panel: &Panel, area: &Area, room: i32, head: i32) -> Drawn {
    let [x, y] = &panel.axes;
    let left = number_room(y);
    text(area, &panel.title, TITLE, INK, (MARGIN + left, MARGIN), (HPos::Left, VPos::Top))?;
    for entry in legend(panel, room) {
        let series = &panel.series[entry.series];
        let (at, middle) = (entry.left, MARGIN + TITLE + GAP + entry.line * LINE + LINE / 2);
        draw_key(area, series, (at, middle))?;
        text(area, &series.name, TEXT, INK, (at + KEY.0 + KEY.1, middle), (HPos::Left, VPos::Center))?;
    }
    let mut plot = ChartBuilder::on(area)
        .margin_left(FINE * MARGIN)
        .margin_right(FINE * 2 * MARGIN)
        .margin_bottom(FINE * MARGIN)
        .margin_top(FINE * head)
        .x_label_area_size(FINE * (2 * TEXT + 3 * GAP))
        .y_label_area_size(FINE * left)
        .build_cartesian_2d(x.clone(), y.clone())?;
    plot.configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(stroke(GRID, 1))
        .axis_style(stroke(GREY, 1))
        .set_all_tick_mark_size(FINE * GAP / 2)
        .label_style(style(TEXT, INK))
        .axis_desc_style(style(TEXT, INK))
        .x_desc(&x.name)
        .y_desc(&y.name)
        .draw()?;
    for series in &panel.series {
        draw_series(&mut plot, series)?;
    }
    draw_labels(panel, &plot, area)
}

/// Left of a vertical axis: its name, its numbers, and gaps.
fn number_room(axis: &Axis) -> i32 {
    let widest = axis.ticks.iter().map(|(_, label)| font::width(label, TEXT.into())).fold(0.0, f64::max);
    widest.ceil() as i32 + TEXT + 3 * GAP
}

/// Where a series stands in the legend of its panel.
struct Entry {
    series: usize,
    line: i32,
    left: i32,
}

/// One entry after the other, in as many lines as they need.
fn legend(panel: &Panel, room: i32) -> Vec<Entry> {
    let start = MARGIN + number_room(&panel.axes[1]);
    let (mut left, mut line) = (start, 0);
    let mut entries = Vec::new();
    for (series, Series { name, .. }) in panel.series.iter().enumerate().filter(|(_, s)| !s.name.is_empty()) {
        let width = KEY.0 + KEY.1 + font::width(name, TEXT.into()).ceil() as i32;
        if left > start && left + width > room - MARGIN {
            (left, line) = (start, line + 1);
        }
        entries.push(Entry { series, line, left });
        left += width + BETWEEN;
    }
    entries
}

fn draw_key(area: &Area, Series { colour, shape, .. }: &Series, (left, middle): (i32, i32)) -> Drawn {
    let at = |x: i32, y: i32| (FINE * (left + x), FINE * (middle + y));
    let line = |from: i32, to: i32, width: i32| PathElement::new([at(from, 0), at(to, 0)], stroke(*colour, width));
    match shape {
        Shape::Line(_) => area.draw(&line(0, KEY.0, 2)),
        Shape::Dashes(_) => [0, 7, 14].iter().try_for_each(|&from| area.draw(&line(from, from + 4, 1))),
        Shape::Steps(_) => {
            area.draw(&Rectangle::new([at(0, -6), at(KEY.0, 6)], pale(*colour)))?;
            area.draw(&Rectangle::new([at(0, -6), at(KEY.0, 6)], stroke(*colour, 1)))
        }
        Shape::Dots(_, radius) => area.draw(&Circle::new(at(KEY.0 / 2, 0), FINE * radius, rgb(*colour).filled())),
    }
}

fn draw_series(plot: &mut Plot, Series { colour, shape, .. }: &Series) -> Drawn {
    let colour = *colour;
    match shape {
        Shape::Line(points) => plot.draw_series([PathElement::new(points.clone(), stroke(colour, 2))])?,
        Shape::Dashes(points) => {
            plot.draw_series(DashedLineSeries::new(points.iter().copied(), 5 * FINE, 4 * FINE, stroke(colour, 1)))?
        }
        Shape::Steps(bars) => {
            let ends = plot.as_coord_spec().get_x_range();
            let right = bars.iter().skip(1).map(|bar| bar.0).chain([ends.end]);
            let top: Vec<_> = bars.iter().zip(right).flat_map(|(&(left, y), right)| [(left, y), (right, y)]).collect();
            let floor = plot.as_coord_spec().get_y_range().start;
            let mut outline = vec![(ends.start, floor)];
            outline.extend(&top);
            outline.push((ends.end, floor));
            plot.draw_series([Polygon::new(outline, pale(colour))])?;
            plot.draw_series([PathElement::new(top, stroke(colour, 1))])?
        }
        Shape::Dots(points, radius) => {
            plot.draw_series(points.iter().map(|&at| Circle::new(at, FINE * radius, rgb(colour).filled())))?
        }
    };
    Ok(())
}

/// Each label beside its point where it covers no dot, no line (of those that run along the axes) and no other label.
fn draw_labels(panel: &Panel, plot: &Plot, area: &Area) -> Drawn {
    let shown = |at: &(f64, f64)| {
        let (corner, place) = (area.get_base_pixel(), plot.backend_coord(at));
        ((place.0 - corner.0) / FINE, (place.1 - corner.1) / FINE)
    };
    let mut taken: Vec<[i32; 4]> = Vec::new();
    for series in &panel.series {
        let around = |a: (i32, i32), b: (i32, i32), far: i32| {
            [a.0.min(b.0) - far, a.1.min(b.1) - far, a.0.max(b.0) + far, a.1.max(b.1) + far]
        };
        match &series.shape {
            Shape::Dots(points, radius) => taken.extend(points.iter().map(shown).map(|at| around(at, at, *radius))),
            Shape::Line(points) => taken.extend(points.windows(2).map(|p| around(shown(&p[0]), shown(&p[1]), 1))),
            _ => {}
        }
    }
    let (columns, rows) = plot.plotting_area().get_pixel_range();
    let corner = area.get_base_pixel();
    let inside = [columns.start - corner.0, rows.start - corner.1, columns.end - corner.0, rows.end - corner.1];
    let [least_x, least_y, most_x, most_y] = inside.map(|v| v / FINE);
    for (point, label) in &panel.labels {
        let (x, y) = shown(point);
        let (width, height) = (font::width(label, TEXT.into()).ceil() as i32, TEXT);
        // Below to the left first, where nothing is better; the middle of the label against the point.
        let (far, high) = (width / 2 + GAP - 1, height / 2 + GAP - 3);
        let tries = [
            (-far, high),
            (-far, 0),
            (0, high + 3),
            (far, -high),
            (far, 0),
            (0, -high - 3),
            (far, high),
            (-far, -high),
        ];
        let boxes = tries.map(|(dx, dy)| {
            let (left, top) = (x + dx - width / 2, y + dy - height / 2);
            [left, top, left + width, top + height]
        });
        let meets = |a: &[i32; 4], b: &[i32; 4]| a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
        let free = |b: &&[i32; 4]| {
            let within = b[0] >= least_x && b[1] >= least_y && b[2] <= most_x && b[3] <= most_y;
            within && !taken.iter().any(|t| meets(t, b))
        };
        if let Some(&free) = boxes.iter().find(free) {
            let middle = ((free[0] + free[2]) / 2, (free[1] + free[3]) / 2);
            text(area, label, TEXT, PALE_INK, middle, (HPos::Center, VPos::Center))?;
            let [left, top, right, bottom] = free;
            taken.push([left - 3, top, right + 3, bottom]);
        }
    }
    Ok(())
}

fn rgb([r, g, b]: [u8; 3]) -> RGBColor {
    RGBColor(r, g, b)
}

/// A line of a width as shown.
fn stroke(colour: [u8; 3], width: i32) -> ShapeStyle {
    rgb(colour).stroke_width((FINE * width) as u32)
}

/// An area that what lies below is seen through.
fn pale(colour: [u8; 3]) -> ShapeStyle {
    rgb(colour).mix(0.3).filled()
}

fn style(size: i32, colour: [u8; 3]) -> TextStyle<'static> {
    let font = (FAMILY, f64::from(FINE * size) * HEIGHT_OF_EM).into_font();
    TextStyle { color: rgb(colour).to_backend_color(), ..font.into() }
}

fn text(area: &Area, words: &str, size: i32, colour: [u8; 3], (x, y): (i32, i32), (across, up): (HPos, VPos)) -> Drawn {
    area.draw_text(words, &style(size, colour).pos(Pos::new(across, up)), (FINE * x, FINE * y))
}
