//! Squares, ellipses and hearts of any size, place and angle, with smooth edges.

use super::resize::Rect;

/// What a sprite looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpriteShape {
    /// Side 1.5.
    Square,
    /// Semi-axes 1 and 0.6.
    Ellipse,
    /// (u² + v² − 1)³ = u² v³, shrunk to 0.74.
    Heart,
}

impl SpriteShape {
    /// In the order of their labels.
    pub const ALL: [Self; 3] = [Self::Square, Self::Ellipse, Self::Heart];

    /// Whether a point lies inside, the centre at the origin and v upwards. No point farther than [`REACH`] does.
    fn contains(self, u: f64, v: f64) -> bool {
        match self {
            Self::Square => u.abs() <= 0.75 && v.abs() <= 0.75,
            Self::Ellipse => u * u + v * v / 0.36 <= 1.0,
            Self::Heart => {
                let (u, v) = (u / 0.74, v / 0.74);
                let ring = u * u + v * v - 1.0;
                ring * ring * ring <= u * u * v * v * v
            }
        }
    }
}

/// The farthest that a shape of size 1 reaches from its centre: the corner of the square.
pub const REACH: f64 = 1.0607;

/// Samples along each side of a pixel: its ink is the share of them that lie inside.
const SAMPLES: usize = 4;

/// One sprite on a canvas.
#[derive(Clone, Copy, Debug)]
pub struct Sprite {
    /// What it looks like.
    pub shape: SpriteShape,
    /// Pixels for a length of 1.
    pub size: f64,
    /// Angle of its turn against the clock, in radians.
    pub angle: f64,
    /// The centre in pixels from the left, and from above.
    pub centre: (f64, f64),
}

impl Sprite {
    /// The part of a square canvas that it can reach.
    pub fn area(&self, canvas: usize) -> Rect {
        let along = |centre: f64| {
            let reach = self.size * REACH;
            let first = (centre - reach).floor().clamp(0.0, canvas as f64 - 1.0) as usize;
            let end = (centre + reach).ceil().clamp(0.0, canvas as f64) as usize;
            (first, end.max(first + 1) - first)
        };
        let ((x, width), (y, height)) = (along(self.centre.0), along(self.centre.1));
        Rect { x, y, width, height }
    }

    /// Appends its ink over an area, row by row: 255 inside, 0 outside, and in between along the edge.
    pub fn append(&self, area: Rect, out: &mut Vec<u8>) {
        // From plain arithmetic and libm alone, so that the bytes are the same on every machine.
        let (sin, cos) = (libm::sin(self.angle), libm::cos(self.angle));
        let step = 1.0 / SAMPLES as f64;
        let inside = |x: f64, y: f64| {
            let (dx, dy) = ((x - self.centre.0) / self.size, (self.centre.1 - y) / self.size);
            self.shape.contains(dx * cos + dy * sin, dy * cos - dx * sin)
        };
        let at = |pixel: usize, sample: usize| pixel as f64 + (sample as f64 + 0.5) * step;
        for y in area.y..area.y + area.height {
            for x in area.x..area.x + area.width {
                let hits = (0..SAMPLES * SAMPLES).filter(|s| inside(at(x, s % SAMPLES), at(y, s / SAMPLES))).count();
                out.push(((hits * 255 + SAMPLES * SAMPLES / 2) / (SAMPLES * SAMPLES)) as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(sprite: Sprite, canvas: usize) -> Vec<u8> {
        let area = sprite.area(canvas);
        let mut ink = Vec::new();
        sprite.append(area, &mut ink);
        let mut image = vec![0; canvas * canvas];
        for (row, line) in ink.chunks_exact(area.width).enumerate() {
            let start = (area.y + row) * canvas + area.x;
            image[start..start + area.width].copy_from_slice(line);
        }
        image
    }

    fn sprite(shape: SpriteShape, size: f64, angle: f64, centre: (f64, f64)) -> Sprite {
        Sprite { shape, size, angle, centre }
    }

    #[test]
    fn ink_is_the_area() {
        // Side 1.5; π · 1 · 0.6; the heart by a fine grid.
        let areas = [2.25, std::f64::consts::PI * 0.6, {
            let fine = (0..4_840_000).map(|i| ((i % 2200) as f64 / 1000.0 - 1.1, (i / 2200) as f64 / 1000.0 - 1.1));
            fine.filter(|&(u, v)| SpriteShape::Heart.contains(u, v)).count() as f64 * 1e-6
        }];
        for (shape, area) in SpriteShape::ALL.into_iter().zip(areas) {
            for (size, angle, centre) in [(10.0, 0.0, (32.0, 32.0)), (7.3, 1.1, (20.4, 31.7)), (4.0, 4.0, (9.0, 50.2))]
            {
                let ink: f64 =
                    drawn(sprite(shape, size, angle, centre), 64).iter().map(|p| f64::from(*p) / 255.0).sum();
                let expected = area * size * size;
                assert!((ink / expected - 1.0).abs() < 0.03, "{shape:?} of {size}: {ink}, not {expected}");
            }
        }
    }

    #[test]
    fn nothing_reaches_farther_than_it_says_and_something_does_reach_that_far() {
        let mut farthest: f64 = 0.0;
        for shape in SpriteShape::ALL {
            for i in 0..1_440_000 {
                let (u, v) = ((i % 1200) as f64 / 500.0 - 1.2, (i / 1200) as f64 / 500.0 - 1.2);
                if shape.contains(u, v) {
                    farthest = farthest.max(u.hypot(v));
                }
            }
        }
        assert!((1.05..=REACH).contains(&farthest), "{farthest}");
    }

    #[test]
    fn a_square_is_a_square_and_turns_into_itself() {
        let image = drawn(sprite(SpriteShape::Square, 8.0, 0.0, (16.0, 16.0)), 32);
        for (i, pixel) in image.iter().enumerate() {
            let inside = (10..22).contains(&(i % 32)) && (10..22).contains(&(i / 32));
            assert_eq!(*pixel, if inside { 255 } else { 0 }, "pixel {i}");
        }
        let turned = drawn(sprite(SpriteShape::Square, 8.0, 0.3 + std::f64::consts::FRAC_PI_2, (16.0, 16.0)), 32);
        let once = drawn(sprite(SpriteShape::Square, 8.0, 0.3, (16.0, 16.0)), 32);
        let off = turned.iter().zip(&once).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off <= Some(16), "{off:?}");
    }

    #[test]
    fn a_heart_points_down_and_turns_against_the_clock() {
        let rows = |image: &[u8], y: usize| image[y * 32..(y + 1) * 32].iter().map(|p| u32::from(*p)).sum::<u32>();
        let upright = drawn(sprite(SpriteShape::Heart, 10.0, 0.0, (16.0, 16.0)), 32);
        assert!(rows(&upright, 10) > 2 * rows(&upright, 21), "wide above, narrow below");
        // A quarter against the clock: the tip comes to the right.
        let column = |image: &[u8], x: usize| (0..32).map(|y| u32::from(image[y * 32 + x])).sum::<u32>();
        let turned = drawn(sprite(SpriteShape::Heart, 10.0, std::f64::consts::FRAC_PI_2, (16.0, 16.0)), 32);
        assert!(column(&turned, 10) > 2 * column(&turned, 21), "wide on the left, narrow on the right");
    }

    #[test]
    fn what_reaches_over_the_edge_is_cut() {
        let sprite = sprite(SpriteShape::Ellipse, 12.0, 0.7, (1.0, 30.0));
        let area = sprite.area(32);
        assert!(area.x == 0 && area.y + area.height <= 32);
        assert!(drawn(sprite, 32).contains(&255));
    }
}
