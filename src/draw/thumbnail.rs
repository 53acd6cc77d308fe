//! A view's maps as a small picture without words, for terminals: photo, depth and confidence side by side.

use super::colours;
use crate::files::map::Map;
use crate::host::terminal::Picture;
use crate::maps::consistency::is_depth;

/// Rows of a picture.
const ROWS: usize = 160;
/// Columns of each panel at most.
const MOST_COLUMNS: usize = 320;
/// Columns between panels.
const GAP: usize = 4;

/// Draws it; `photo` has a colour for each pixel of the maps.
pub fn draw(photo: Option<&[[u8; 3]]>, depth: &Map, confidence: &Map) -> Picture {
    let scale = (ROWS as f64 / depth.height as f64).min(MOST_COLUMNS as f64 / depth.width as f64);
    let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
    let (width, height) = (side(depth.width), side(depth.height));
    let mut depths: Vec<f32> = depth.data.iter().copied().filter(|&d| is_depth(d)).collect();
    depths.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| depths.get((share * depths.len() as f64) as usize).map_or(0.0, |&d| f64::from(d));
    let (near, far) = (at(0.02), at(0.98));
    let of_depth = |i: usize| match depth.data[i] {
        d if is_depth(d) => colours::depth((f64::from(d) - near) / (far - near).max(1e-9)),
        _ => colours::NO_DEPTH,
    };
    let of_confidence = |i: usize| colours::confidence(f64::from(confidence.data[i]));
    let of_photo = |i: usize| photo.map_or([0; 3], |photo| photo[i]);
    let all: [&dyn Fn(usize) -> [u8; 3]; 3] = [&of_photo, &of_depth, &of_confidence];
    let panels = if photo.is_some() { &all[..] } else { &all[1..] };
    let whole = panels.len() * (width + GAP) - GAP;
    let mut rgb = vec![[0; 3]; whole * height];
    for (panel, of_pixel) in panels.iter().enumerate() {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let from = |at: usize, all: usize, length: usize| (2 * at + 1) * all / (2 * length);
            let pixel = from(y, depth.height, height) * depth.width + from(x, depth.width, width);
            rgb[y * whole + panel * (width + GAP) + x] = of_pixel(pixel);
        }
    }
    Picture { width: whole, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_lie_side_by_side_and_keep_their_shape() {
        let depth = Map { width: 400, height: 200, data: (0..80_000).map(|i| 1.0 + (i % 400) as f32).collect() };
        let confidence = Map::filled(400, 200, 1.0);
        let picture = draw(None, &depth, &confidence);
        assert_eq!((picture.width, picture.height()), (2 * 320 + GAP, 160));
        // Near is the bright end of the depths' colours, and confidence 1 one end of its own.
        assert_eq!(picture.rgb[0], colours::depth(0.0));
        assert_eq!(picture.rgb[320], [0; 3]);
        assert_eq!(picture.rgb[320 + GAP], colours::confidence(1.0));
        let photo = vec![[1, 2, 3]; 80_000];
        let picture = draw(Some(&photo), &Map::filled(400, 200, 0.0), &confidence);
        assert_eq!(
            (picture.width, picture.rgb[5], picture.rgb[330]),
            (3 * 320 + 2 * GAP, [1, 2, 3], colours::NO_DEPTH)
        );
    }
}
