//! The one font of all pictures, DejaVu Sans, which is part of the program: no system font is needed, and every
//! machine draws the same pixels.
//!
//! Here: how wide a text is, and which pixels it covers. Where it goes is up to the canvas; charts only measure.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

/// Height of capitals and digits, as a share of the size.
pub const CAPITAL: f64 = 0.73;
/// From one line to the next, as a share of the size.
pub const LINE: f64 = 1.4;

/// `None` would only be a file that is no font, which the tests rule out.
static FONT: LazyLock<Option<FontRef<'static>>> =
    LazyLock::new(|| FontRef::try_from_slice(include_bytes!("../../assets/fonts/DejaVuSans.ttf")).ok());

/// The font's own measure for a size in pixels per em.
fn scale(font: &FontRef, size: f64) -> PxScale {
    let em = font.units_per_em().unwrap_or(1.0);
    PxScale::from(size as f32 * font.height_unscaled() / em)
}

/// Pixels from the beginning of a text to its end.
pub fn width(text: &str, size: f64) -> f64 {
    let Some(font) = &*FONT else { return 0.0 };
    let scaled = font.as_scaled(scale(font, size));
    text.chars().map(|c| f64::from(scaled.h_advance(scaled.glyph_id(c)))).sum()
}

/// Calls `cover` with column, row and share (0 to 1) of every pixel that a text covers, which begins at column `left`
/// and stands on row `baseline`.
pub fn draw(text: &str, size: f64, left: f64, baseline: f64, mut cover: impl FnMut(i32, i32, f32)) {
    let Some(font) = &*FONT else { return };
    let scaled = font.as_scaled(scale(font, size));
    let mut pen = left as f32;
    for c in text.chars() {
        let glyph = scaled.glyph_id(c).with_scale_and_position(scaled.scale(), point(pen, baseline as f32));
        pen += scaled.h_advance(glyph.id);
        if let Some(outline) = font.outline_glyph(glyph) {
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, share| cover(corner.x as i32 + x as i32, corner.y as i32 + y as i32, share));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_letters_are_there_and_stand_on_the_line() {
        assert!(FONT.as_ref().is_some_and(|f| (' '..='~').chain("×±µ°–→≤≥−".chars()).all(|c| f.glyph_id(c).0 != 0)));
        // Digits of one width, so that numbers can be lined up; two letters are as wide as each by itself.
        assert!(('1'..='9').all(|d| width(&d.to_string(), 20.0) == width("0", 20.0)));
        assert!((width("Ab", 20.0) - width("A", 20.0) - width("b", 20.0)).abs() < 1e-4);
        let (mut top, mut bottom, mut right) = (i32::MAX, i32::MIN, 0);
        draw("H8", 100.0, 10.0, 200.0, |x, y, share| {
            if share > 0.5 {
                (top, bottom, right) = (top.min(y), bottom.max(y), right.max(x));
            }
        });
        assert!((199..=201).contains(&bottom), "{bottom}");
        assert!((200.0 - 100.0 * CAPITAL - f64::from(top)).abs() < 3.0, "{top}");
        assert!(right > 10 && f64::from(right) < 10.0 + width("H8", 100.0));
    }
}
