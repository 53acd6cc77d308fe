//! A texture: a picture, and where a mesh's triangles lie in it.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Of the JPEG file: what it loses is less than what photos lost before.
const QUALITY: u8 = 93;

/// A mesh's picture, and where its triangles lie in it.
pub struct Texture {
    /// Width and height.
    pub size: (usize, usize),
    /// Red, green, blue, row by row.
    pub pixels: Vec<u8>,
    /// Of each triangle, its corners in the next two lists.
    pub faces: Vec<[u32; 3]>,
    /// Vertices of the mesh, one for each piece that they belong to.
    pub vertices: Vec<u32>,
    /// Where they lie in the picture, in pixels from its upper left corner; centres are at halves.
    pub places: Vec<[f32; 2]>,
}

impl Texture {
    /// The mean colour around a place, 0..255.
    pub fn colour(&self, [x, y]: [f32; 2]) -> [f32; 3] {
        let (x, y) = (x as usize, y as usize);
        let around = (0..9).map(|i| ((x + i % 3).wrapping_sub(1), (y + i / 3).wrapping_sub(1)));
        let (mut sum, mut count) = ([0f32; 3], 0f32);
        for (x, y) in around.filter(|&(x, y)| x < self.size.0 && y < self.size.1) {
            (0..3).for_each(|c| sum[c] += f32::from(self.pixels[3 * (y * self.size.0 + x) + c]));
            count += 1.0;
        }
        sum.map(|s| s / count)
    }

    /// The picture as a JPEG file.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn jpeg(&self) -> Result<Vec<u8>> {
        let (mut bytes, (width, height)) = (Vec::new(), self.size);
        JpegEncoder::new_with_quality(&mut bytes, QUALITY)
            .write_image(&self.pixels, width as u32, height as u32, ExtendedColorType::Rgb8)
            .map_err(|e| Error::Bug { place: "texture", problem: e.to_string() })?;
        Ok(bytes)
    }

    /// Coordinates as files have them: 0..1 across and down.
    pub fn coordinates(&self) -> Vec<[f32; 2]> {
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        self.places.par_iter().map(|[x, y]| [x / width, y / height]).collect()
    }
}
