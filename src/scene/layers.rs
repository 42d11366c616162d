//! Digits laid on a canvas: the common form of every synthesised scene, from which its image
//! and its truth are derived.

use super::digits::{DIGIT_PIXELS, DIGIT_SIDE};
use super::resize::{Rect, Resizer};
use super::{BACKGROUND, NO_BOX, PixelBox, Scene, SceneShape};

/// A layer can own a pixel from this much ink on.
pub const INK_THRESHOLD: u8 = 128;

/// The whole tile of a digit.
pub const WHOLE_TILE: Rect = Rect { x: 0, y: 0, width: DIGIT_SIDE, height: DIGIT_SIDE };

/// How layers make an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blend {
    /// Pixelwise maximum.
    Max,
    /// Pixelwise sum, at most 255.
    Sum,
    /// White paint with the ink as opacity, the first layer on top.
    Paint,
}

/// One digit on the canvas.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Class of the digit.
    pub label: u8,
    /// Where it lies, inside the canvas.
    pub area: Rect,
    /// Where its ink starts in the common buffer.
    start: usize,
}

/// The layers of one scene. Meant to be reused: clearing keeps the memory.
#[derive(Debug, Default)]
pub struct Layers {
    layers: Vec<Layer>,
    ink: Vec<u8>,
    resizer: Resizer,
}

impl Layers {
    /// Removes every layer.
    pub fn clear(&mut self) {
        self.layers.clear();
        self.ink.clear();
    }

    /// Adds a layer: the part `crop` of a digit's tile, resized to fill `area`.
    pub fn push(&mut self, label: u8, tile: &[u8; DIGIT_PIXELS], crop: Rect, area: Rect) {
        self.layers.push(Layer { label, area, start: self.ink.len() });
        if (crop.width, crop.height) == (area.width, area.height) {
            for row in tile.chunks_exact(DIGIT_SIDE).skip(crop.y).take(crop.height) {
                self.ink.extend_from_slice(&row[crop.x..crop.x + crop.width]);
            }
        } else {
            let size = (area.width, area.height);
            self.resizer.append(tile, DIGIT_SIDE, crop, size, &mut self.ink);
        }
    }

    /// The layers in order, each with its ink, row by row.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Layer, &[u8])> {
        self.layers.iter().map(|&layer| {
            let len = layer.area.width * layer.area.height;
            (layer, &self.ink[layer.start..layer.start + len])
        })
    }

    /// Draws the image `(height, width)` of a grey canvas into `out`.
    pub fn draw(&self, blend: Blend, shape: SceneShape, out: &mut [u8]) {
        out.fill(0);
        match blend {
            Blend::Max => self.merge(shape.width, out, |under, ink| under.max(ink)),
            Blend::Sum => self.merge(shape.width, out, u8::saturating_add),
            // White over white commutes but for rounding, so the order of painting is fixed by
            // that of the layers, whichever is on top.
            Blend::Paint => self.merge(shape.width, out, |under, ink| {
                let (under, ink) = (u32::from(under), u32::from(ink));
                (under + ((255 - under) * ink + 127) / 255) as u8
            }),
        }
    }

    fn merge(&self, width: usize, out: &mut [u8], combine: impl Fn(u8, u8) -> u8) {
        for (Layer { area, .. }, ink) in self.iter() {
            let lines = out.chunks_exact_mut(width).skip(area.y);
            for (line, ink) in lines.zip(ink.chunks_exact(area.width)) {
                for (pixel, &ink) in line[area.x..].iter_mut().zip(ink) {
                    *pixel = combine(*pixel, ink);
                }
            }
        }
    }

    /// The scene with its truth.
    pub fn scene(&self, blend: Blend, shape: SceneShape) -> Scene {
        let mut image = vec![0; shape.values()];
        self.draw(blend, shape, &mut image);
        Scene {
            image,
            masks: Some(self.masks(blend, shape)),
            count: Some(self.layers.len() as u8),
            labels: Some(self.layers.iter().map(|layer| layer.label).collect()),
            boxes: Some(self.iter().map(|(layer, ink)| ink_box(layer.area, ink)).collect()),
        }
    }

    /// `(height, width)`: index of the layer owning each pixel. A layer needs at least
    /// [`INK_THRESHOLD`] of ink; of several the topmost one wins where they are painted and the
    /// brightest one elsewhere, and of equals the first.
    fn masks(&self, blend: Blend, shape: SceneShape) -> Vec<u8> {
        let mut masks = vec![BACKGROUND; shape.pixels()];
        let mut winning = vec![INK_THRESHOLD - 1; shape.pixels()];
        for (index, (Layer { area, .. }, inks)) in self.iter().enumerate() {
            for (row, line) in inks.chunks_exact(area.width).enumerate() {
                let start = (area.y + row) * shape.width + area.x;
                for (pixel, &ink) in (start..).zip(line) {
                    if ink > winning[pixel] {
                        masks[pixel] = index as u8;
                        // Nothing beats paint on top.
                        winning[pixel] = if blend == Blend::Paint { u8::MAX } else { ink };
                    }
                }
            }
        }
        masks
    }
}

/// Bounding box of the pixels with any ink (1 or more), on the canvas.
fn ink_box(area: Rect, ink: &[u8]) -> PixelBox {
    match inked(ink, area.width) {
        Some(part) => {
            let (x, y) = (area.x + part.x, area.y + part.y);
            [x, y, x + part.width, y + part.height].map(|edge| edge as i16)
        }
        None => NO_BOX,
    }
}

/// The smallest rectangle around the ink (1 or more) of an image with rows of `width` pixels.
pub fn inked(ink: &[u8], width: usize) -> Option<Rect> {
    let rows = || ink.chunks_exact(width);
    let has_ink = |row: &[u8]| row.iter().any(|&pixel| pixel > 0);
    let top = rows().position(has_ink)?;
    let bottom = rows().rposition(has_ink)?;
    let left = rows().filter_map(|row| row.iter().position(|&pixel| pixel > 0)).min()?;
    let right = rows().filter_map(|row| row.iter().rposition(|&pixel| pixel > 0)).max()?;
    Some(Rect { x: left, y: top, width: right + 1 - left, height: bottom + 1 - top })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: SceneShape = SceneShape { height: 28, width: 30, channels: 1 };

    /// Two tiles side by side but for two columns less: in column 2 of the canvas the first
    /// digit has 200 and the second 210, in column 3 both 130, in column 4 100 and 140.
    fn overlapping() -> Layers {
        let mut tiles = [[0; DIGIT_PIXELS]; 2];
        tiles[0][2..5].copy_from_slice(&[200, 130, 100]);
        tiles[1][0..3].copy_from_slice(&[210, 130, 140]);
        let mut layers = Layers::default();
        layers.push(3, &tiles[0], WHOLE_TILE, WHOLE_TILE);
        layers.push(8, &tiles[1], WHOLE_TILE, Rect { x: 2, ..WHOLE_TILE });
        layers
    }

    #[test]
    fn blends_follow_their_rules() {
        let drawn = |blend| overlapping().scene(blend, SHAPE).image[..6].to_vec();
        assert_eq!(drawn(Blend::Max), [0, 0, 210, 130, 140, 0]);
        assert_eq!(drawn(Blend::Sum), [0, 0, 255, 255, 240, 0]);
        // 255 - (255 - a)(255 - b) / 255
        assert_eq!(drawn(Blend::Paint), [0, 0, 245, 194, 185, 0]);
    }

    #[test]
    fn masks_follow_their_rules() {
        let owners = |blend| overlapping().scene(blend, SHAPE).masks.unwrap()[..6].to_vec();
        let none = BACKGROUND;
        assert_eq!(owners(Blend::Max), [none, none, 1, 0, 1, none]);
        assert_eq!(owners(Blend::Sum), [none, none, 1, 0, 1, none]);
        assert_eq!(owners(Blend::Paint), [none, none, 0, 0, 1, none]);
    }

    #[test]
    fn labels_boxes_and_count_come_in_order() {
        let mut layers = overlapping();
        layers.push(5, &[0; DIGIT_PIXELS], WHOLE_TILE, WHOLE_TILE);
        let scene = layers.scene(Blend::Max, SHAPE);
        assert_eq!(scene.count, Some(3));
        assert_eq!(scene.labels.unwrap(), [3, 8, 5]);
        assert_eq!(scene.boxes.unwrap(), [[2, 0, 5, 1], [2, 0, 5, 1], NO_BOX]);
    }

    #[test]
    fn a_crop_is_copied_or_resized_into_its_area() {
        let mut tile = [0; DIGIT_PIXELS];
        tile[5 * DIGIT_SIDE + 6] = 77;
        let crop = inked(&tile, DIGIT_SIDE).unwrap();
        assert_eq!(crop, Rect { x: 6, y: 5, width: 1, height: 1 });
        let mut layers = Layers::default();
        layers.push(0, &tile, crop, Rect { x: 1, y: 0, width: 1, height: 1 });
        layers.push(0, &tile, crop, Rect { x: 3, y: 0, width: 2, height: 2 });
        let image = layers.scene(Blend::Max, SHAPE).image;
        assert_eq!(image[..6], [0, 77, 0, 77, 77, 0]);
        assert_eq!(image[30..36], [0, 0, 0, 77, 77, 0]);
    }
}
