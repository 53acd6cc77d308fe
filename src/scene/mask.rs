//! Which part of a photo belongs to the scene.
//!
//! A photo's own alpha says so, or a mask beside it (`mask_files.rs`): where it is below a half there is no depth and
//! no point, and no other view is confirmed by what lies there. (The network still sees the stored colours.) A mask in
//! memory is as large as the photo or map that it is for; pixel 0 of a smaller one is pixel 0 of the photo, as of maps.

use crate::error::counted;
use crate::files::map::Map;

/// Alpha below is outside: the pixel shows more of something else than of the scene.
pub const LEAST_ALPHA: f32 = 0.5;

/// The pixels of an image that do not belong to the scene.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    width: usize,
    height: usize,
    /// [height, width].
    outside: Vec<bool>,
}

impl Mask {
    /// Of an alpha map, 0 transparent and 1 opaque; `None` where all of it belongs to the scene.
    pub fn of_alpha(alpha: &Map) -> Option<Self> {
        let outside: Vec<bool> = alpha.data.iter().map(|&alpha| alpha < LEAST_ALPHA).collect();
        let (width, height) = (alpha.width, alpha.height);
        outside.contains(&true).then_some(Self { width, height, outside })
    }

    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Whether a pixel is outside.
    pub fn is_outside(&self, x: usize, y: usize) -> bool {
        self.outside[y * self.width + x]
    }

    /// Whether nothing of the photo shows the scene.
    pub fn is_all(&self) -> bool {
        self.outside.iter().all(|&outside| outside)
    }

    /// How many pixels are outside.
    pub fn count(&self) -> usize {
        self.outside.iter().filter(|&&outside| outside).count()
    }

    /// Every `2^halvings`-th pixel, from pixel 0 on.
    pub fn decimated(&self, halvings: u32) -> Self {
        let (width, height) = (self.width.div_ceil(1 << halvings), self.height.div_ceil(1 << halvings));
        let at = |i: usize| self.outside[((i / width) << halvings) * self.width + ((i % width) << halvings)];
        Self { width, height, outside: (0..width * height).map(at).collect() }
    }

    /// At another size of the same area: as the pixel is in whose area the middle of the new one lies.
    pub fn resized(&self, width: usize, height: usize) -> Self {
        let at = |i: usize| {
            let (x, y) = (nearest(i % width, width, self.width), nearest(i / width, height, self.height));
            self.outside[y * self.width + x]
        };
        Self { width, height, outside: (0..width * height).map(at).collect() }
    }

    /// For the next coarser level: a pixel is outside if any of those that a merge would fill from it is.
    pub fn coarser(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let any = |i: usize| {
            let around = |at: usize, length: usize| (2 * at).saturating_sub(1)..(2 * at + 2).min(length);
            let mut rows = around(i / width, self.height);
            rows.any(|y| around(i % width, self.width).any(|x| self.outside[y * self.width + x]))
        };
        Self { width, height, outside: (0..width * height).map(any).collect() }
    }

    /// Takes depth and confidence of what is outside away, and counts the pixels that had a depth. Maps of another size
    /// stay as they are.
    pub fn cut(&self, depth: &mut Map, confidence: &mut Map) -> usize {
        if [&*depth, &*confidence].iter().any(|map| (map.width, map.height) != self.size()) {
            return 0;
        }
        let mut count = 0;
        let pixels = depth.data.iter_mut().zip(&mut confidence.data).zip(&self.outside);
        for ((depth, confidence), _) in pixels.filter(|(_, outside)| **outside) {
            count += usize::from(*depth != 0.0);
            (*depth, *confidence) = (0.0, 0.0);
        }
        count
    }
}

/// Which of `old` pixels along a side the middle of the i-th of `new` ones on the same length lies in.
pub(super) fn nearest(i: usize, new: usize, old: usize) -> usize {
    ((2 * i + 1) * old / (2 * new)).min(old - 1)
}

/// What is to be said about the masks of some views, of which those in `empty` leave nothing of their photos.
pub fn notes(masked: usize, views: usize, empty: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    if masked > 0 {
        notes.push(format!(
            "{masked} of {views} photos have masked parts (by a mask, or their own alpha below {LEAST_ALPHA}): no \
             depth, no point and no confirmation of other views there"
        ));
    }
    if let Some(first) = empty.first() {
        notes.push(format!("nothing of {} is left by the masks (first: {first})", counted(empty.len(), "photo")));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alpha(width: usize, height: usize, outside: &[(usize, usize)]) -> Map {
        let mut map = Map::filled(width, height, 1.0);
        outside.iter().for_each(|(x, y)| map.data[y * width + x] = 0.0);
        map
    }

    #[test]
    fn alpha_below_a_half_is_outside() {
        let row = |data: &[f32]| Map { width: data.len(), height: 1, data: data.to_vec() };
        let mask = Mask::of_alpha(&row(&[0.0, 0.4999, 0.5, 1.0])).unwrap();
        assert_eq!((mask.count(), mask.size()), (2, (4, 1)));
        assert_eq!(Mask::of_alpha(&row(&[0.5, 1.0])), None);
        let (mut depth, mut confidence) = (row(&[1.0, 0.0, 3.0, 4.0]), row(&[0.9; 4]));
        assert_eq!(mask.cut(&mut depth, &mut confidence), 1);
        assert_eq!((&depth.data[..], &confidence.data[..]), (&[0.0, 0.0, 3.0, 4.0][..], &[0.0, 0.0, 0.9, 0.9][..]));
        let mut other = row(&[1.0; 3]);
        assert_eq!((mask.cut(&mut other, &mut confidence), other.data), (0, vec![1.0; 3]));
    }

    #[test]
    fn smaller_masks_begin_at_pixel_0() {
        let mask = Mask::of_alpha(&alpha(5, 3, &[(4, 2), (1, 1)])).unwrap();
        let half = mask.decimated(1);
        assert_eq!((half.size(), half.outside), ((3, 2), vec![false, false, false, false, false, true]));
        assert_eq!(mask.decimated(0), mask);
        // 5 x 3 to 2 x 1: middles at (1.25, 1.5) and (3.75, 1.5).
        assert_eq!(mask.resized(2, 1).outside, [true, false]);
        assert_eq!(mask.resized(5, 3), mask);
        // (1, 1) lies between the coarse pixels 0 and 1 of both axes; (4, 2) is the coarse pixel (2, 1).
        let coarser = mask.coarser();
        assert_eq!((coarser.size(), coarser.outside), ((3, 2), vec![true, true, false, true, true, true]));
    }
}
