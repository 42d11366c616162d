//! Objects laid on a canvas: the common form of every synthesised scene, from which its image
//! and its truth are derived.

use super::digits::{DIGIT_PIXELS, DIGIT_SIDE};
use super::resize::{Rect, Resizer};
use super::sprites::Sprite;
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
    /// Each layer's colour with its ink as opacity, the first layer on top of the others and all of them on the ground.
    Cover,
}

/// What an object was drawn from, in whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factors {
    /// Class of its shape: the label.
    pub shape: i16,
    /// Thousandths of the recipe's largest size.
    pub scale: i16,
    /// Tenths of a degree, against the clock.
    pub orientation: i16,
    /// x and y of the centre, in 256ths of a pixel from the left and from above.
    pub centre: [i16; 2],
    /// Red, green, blue.
    pub colour: [u8; 3],
}

/// How many numbers [`Factors`] are.
pub const FACTORS: usize = 8;

impl Factors {
    /// Shape, scale, orientation, x, y, red, green, blue.
    pub fn numbers(self) -> [i16; FACTORS] {
        let Self { shape, scale, orientation, centre: [x, y], colour } = self;
        let [red, green, blue] = colour.map(i16::from);
        [shape, scale, orientation, x, y, red, green, blue]
    }

    /// The same backwards; `None` where a colour is none.
    pub fn from_numbers([shape, scale, orientation, x, y, red, green, blue]: [i16; FACTORS]) -> Option<Self> {
        let channel = |value: i16| u8::try_from(value).ok();
        let colour = [channel(red)?, channel(green)?, channel(blue)?];
        Some(Self { shape, scale, orientation, centre: [x, y], colour })
    }
}

/// One object on the canvas.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Class of the object.
    pub label: u8,
    /// Where it lies, inside the canvas.
    pub area: Rect,
    /// What it was drawn from; a digit was not.
    pub factors: Option<Factors>,
    /// Where its ink starts in the common buffer.
    start: usize,
}

impl Layer {
    /// White, unless it was drawn in another colour.
    fn colour(&self) -> [u8; 3] {
        self.factors.map_or([u8::MAX; 3], |factors| factors.colour)
    }
}

/// The layers of one scene. Meant to be reused: clearing keeps the memory.
#[derive(Debug, Default)]
pub struct Layers {
    layers: Vec<Layer>,
    ink: Vec<u8>,
    /// Colour of a canvas without objects.
    ground: [u8; 3],
    resizer: Resizer,
}

impl Layers {
    /// Removes every layer; the ground is black again.
    pub fn clear(&mut self) {
        self.layers.clear();
        self.ink.clear();
        self.ground = [0; 3];
    }

    /// Chooses the ground's colour.
    pub fn set_ground(&mut self, colour: [u8; 3]) {
        self.ground = colour;
    }

    /// Adds a sprite on a square canvas. Its label is its shape.
    pub fn push_sprite(&mut self, sprite: &Sprite, canvas: usize, factors: Factors) {
        let area = sprite.area(canvas);
        self.add(area, factors);
        sprite.append(area, &mut self.ink);
    }

    /// Adds a layer with this ink, row by row. Its label is its shape.
    pub fn push_ink(&mut self, area: Rect, ink: &[u8], factors: Factors) {
        self.add(area, factors);
        self.ink.extend_from_slice(ink);
    }

    fn add(&mut self, area: Rect, factors: Factors) {
        let (label, start) = (factors.shape as u8, self.ink.len());
        self.layers.push(Layer { label, area, factors: Some(factors), start });
    }

    /// Adds a layer: the part `crop` of a digit's tile, resized to fill `area`.
    pub fn push(&mut self, label: u8, tile: &[u8; DIGIT_PIXELS], crop: Rect, area: Rect) {
        self.layers.push(Layer { label, area, factors: None, start: self.ink.len() });
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

    /// Draws the image `(height, width, channels)` into `out`. Only [`Blend::Cover`] knows colours; the others are for grey
    /// canvases.
    pub fn draw(&self, blend: Blend, shape: SceneShape, out: &mut [u8]) {
        match self.ground {
            // Most grounds are grey, and pixel by pixel they would take as long as all else.
            [grey, green, blue] if grey == green && green == blue => out.fill(grey),
            colour => {
                let pixels = out.chunks_exact_mut(shape.channels);
                pixels.for_each(|pixel| pixel.copy_from_slice(&colour[..shape.channels]));
            }
        }
        match blend {
            Blend::Cover => self.cover(shape, out),
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

    fn cover(&self, SceneShape { width, channels, .. }: SceneShape, out: &mut [u8]) {
        for (layer, inks) in self.iter().rev() {
            let Layer { area, .. } = layer;
            let lines = out.chunks_exact_mut(width * channels).skip(area.y);
            for (line, inks) in lines.zip(inks.chunks_exact(area.width)) {
                for (pixel, &ink) in line[area.x * channels..].chunks_exact_mut(channels).zip(inks) {
                    for (under, colour) in pixel.iter_mut().zip(layer.colour()) {
                        let (ink, over) = (u32::from(ink), u32::from(colour));
                        *under = ((u32::from(*under) * (255 - ink) + over * ink + 127) / 255) as u8;
                    }
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
            factors: self
                .layers
                .iter()
                .map(|layer| layer.factors)
                .collect::<Option<Vec<_>>>()
                .filter(|f| !f.is_empty()),
        }
    }

    /// `(height, width)`: index of the layer owning each pixel. A layer needs at least
    /// [`INK_THRESHOLD`] of ink; of several the topmost one wins where they are painted over each
    /// other and the brightest one elsewhere, and of equals the first.
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
                        let on_top = matches!(blend, Blend::Paint | Blend::Cover);
                        winning[pixel] = if on_top { u8::MAX } else { ink };
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
    fn the_first_colour_covers_the_others_and_the_ground() {
        let mut layers = Layers::default();
        layers.set_ground([10, 20, 30]);
        let factors = |shape, colour| Factors { shape, scale: 1000, orientation: 0, centre: [0, 0], colour };
        let area = |x| Rect { x, y: 0, width: 2, height: 1 };
        layers.push_ink(area(0), &[255, 51], factors(2, [255, 0, 100]));
        layers.push_ink(area(1), &[255, 204], factors(1, [0, 200, 50]));
        let scene = layers.scene(Blend::Cover, SceneShape { height: 1, width: 4, channels: 3 });
        // 0.2 of the first over the second; 0.8 of the second over the ground.
        assert_eq!(scene.image, [255, 0, 100, 51, 160, 60, 2, 164, 46, 10, 20, 30]);
        assert_eq!((scene.masks.unwrap(), scene.labels.unwrap()), (vec![0, 1, 1, BACKGROUND], vec![2, 1]));
        assert_eq!(scene.factors.unwrap()[1].numbers(), [1, 1000, 0, 0, 0, 0, 200, 50]);
        layers.clear();
        assert_eq!(layers.scene(Blend::Cover, SceneShape { height: 1, width: 1, channels: 3 }).image, [0; 3]);
    }

    #[test]
    fn factors_are_numbers_and_back() {
        let factors = Factors { shape: 2, scale: 700, orientation: 3599, centre: [-5, 16_384], colour: [0, 128, 255] };
        assert_eq!(Factors::from_numbers(factors.numbers()), Some(factors));
        assert_eq!(Factors::from_numbers([0, 0, 0, 0, 0, 256, 0, 0]), None);
        assert_eq!(Factors::from_numbers([-1; FACTORS]), None);
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
