//! In what a recipe's scenes may differ from the frozen ones: how large they are, and what disturbs them.

use rand::Rng;

use super::SceneShape;
use super::recipes::Recipe;
use super::recipes::digits::Frame;
use crate::random;

/// Distance of grid lines unless another is chosen.
pub const GRID_PERIOD: usize = 7;

/// What is asked for beside a recipe's name. By default nothing: the recipe as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SceneOptions {
    /// Height and width of the canvas: of `digits`, placed on it by the same rules, or of `single`, resized to fill it.
    pub size: Option<usize>,
    /// Most objects of a scene (`digits` only).
    pub objects: Option<usize>,
    /// What is done to the image.
    pub disturbance: Disturbance,
}

/// What is done to a scene's image, and not to its truth.
///
/// First the lines: every pixel of them is at least as bright as they are. They lie `grid_period` pixels apart in both directions,
/// and where they begin is drawn for each scene, as in the structured background of Stelzner et al. (2019, *SuPAIR*). Then the
/// noise, for each value by itself, clipped to [0, 1]. (SuPAIR's own noise is added to images squeezed to [0.1, 0.9]; ours is
/// not, so more of it is clipped away.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disturbance {
    /// Standard deviation of Gaussian noise, white being 1; 0 for none.
    pub noise: f64,
    /// Brightness of a grid of lines, white being 1; 0 for none.
    pub grid_lines: f64,
    /// Pixels from one line to the next.
    pub grid_period: usize,
}

impl Default for Disturbance {
    fn default() -> Self {
        Self { noise: 0.0, grid_lines: 0.0, grid_period: GRID_PERIOD }
    }
}

/// An option that cannot be had. Begins with its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {reason}")]
pub struct OptionError {
    /// Its name.
    pub option: &'static str,
    /// Why, and what would do.
    pub reason: String,
}

impl SceneOptions {
    /// The frame that a recipe is to lay out its objects in, if it is not its own.
    pub(super) fn frame(self, recipe: Recipe) -> Result<Option<Frame>, OptionError> {
        self.disturbance.check()?;
        match (recipe, self.size, self.objects) {
            (_, None, None) => Ok(None),
            (Recipe::Digits, size, objects) => Frame::new(size, objects).map(Some),
            (Recipe::Single, Some(size), None) => Frame::filled(size).map(Some),
            (_, _, Some(_)) => Err(Self::not_of(recipe, "objects", "the recipe digits alone")),
            (_, Some(_), None) => Err(Self::not_of(recipe, "size", "the recipes digits and single")),
        }
    }

    fn not_of(recipe: Recipe, option: &'static str, of: &str) -> OptionError {
        OptionError { option, reason: format!("is a choice of {of}, not of {recipe}: leave it out") }
    }
}

impl Disturbance {
    /// Refuses what makes no image.
    pub fn check(self) -> Result<(), OptionError> {
        let wrong = |option, reason: &str| Err(OptionError { option, reason: reason.into() });
        if !(0.0..=1.0).contains(&self.noise) {
            return wrong("noise", "must be between 0 (none) and 1, the standard deviation where white is 1");
        }
        if !(0.0..=1.0).contains(&self.grid_lines) {
            return wrong("grid_lines", "must be between 0 (none) and 1, the brightness where white is 1");
        }
        if !(2..=1024).contains(&self.grid_period) {
            return wrong("grid_period", "must be between 2 and 1024 pixels");
        }
        Ok(())
    }

    /// Whether it does nothing.
    pub fn is_none(self) -> bool {
        self.noise == 0.0 && self.grid_lines == 0.0
    }

    /// Disturbs the image `(H, W, C)` of scene `index`; `scenes` names the set it is one of.
    pub fn apply(self, image: &mut [u8], shape: SceneShape, seed: u64, scenes: &str, index: u64) {
        if self.is_none() {
            return;
        }
        let mut rng = random::stream(seed, &format!("disturbance/{scenes}"), index);
        if self.grid_lines > 0.0 {
            let mut phase = || rng.random_range(0..self.grid_period as u32) as usize;
            let (y0, x0) = (phase(), phase());
            let brightness = (255.0 * self.grid_lines).round() as u8;
            for (i, pixel) in image.chunks_exact_mut(shape.channels).enumerate() {
                let on_a_line = |at: usize, phase| at % self.grid_period == phase;
                if on_a_line(i / shape.width, y0) || on_a_line(i % shape.width, x0) {
                    pixel.iter_mut().for_each(|value| *value = (*value).max(brightness));
                }
            }
        }
        if self.noise > 0.0 {
            let mut noise = vec![0f32; image.len()];
            random::normals(&mut rng, &mut noise);
            let deviation = 255.0 * self.noise as f32;
            for (value, noise) in image.iter_mut().zip(noise) {
                // The conversion clips.
                *value = (f32::from(*value) + deviation * noise).round() as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: SceneShape = SceneShape { height: 50, width: 60, channels: 1 };

    fn disturbed(disturbance: Disturbance, value: u8, index: u64) -> Vec<u8> {
        let mut image = vec![value; SHAPE.values()];
        disturbance.apply(&mut image, SHAPE, 3, "air/test", index);
        image
    }

    #[test]
    fn lines_lie_a_period_apart_and_begin_anywhere() {
        let grid = Disturbance { grid_lines: 0.3, ..Disturbance::default() };
        let mut phases = [0; GRID_PERIOD];
        for index in 0..200 {
            let image = disturbed(grid, 10, index);
            // A line that crosses the picture is where all its pixels are lit.
            let lit = |i: usize| image[i] == 77;
            let rows: Vec<usize> = (0..50).filter(|y| (0..60).all(|x| lit(y * 60 + x))).collect();
            let columns: Vec<usize> = (0..60).filter(|x| (0..50).all(|y| lit(y * 60 + x))).collect();
            for lines in [&rows, &columns] {
                assert!(lines[0] < 7 && lines.windows(2).all(|pair| pair[1] - pair[0] == 7), "{lines:?}");
            }
            let on_lines = 60 * rows.len() + 50 * columns.len() - rows.len() * columns.len();
            assert_eq!(image.iter().filter(|v| **v == 77).count(), on_lines);
            assert!(image.iter().all(|v| [10, 77].contains(v)));
            phases[rows[0]] += 1;
        }
        assert!(phases.iter().all(|n| *n > 10), "{phases:?}");
        assert!(disturbed(grid, 200, 0).iter().all(|v| *v == 200), "what is brighter stays");
    }

    #[test]
    fn noise_has_its_deviation_and_is_clipped() {
        let noise = Disturbance { noise: 0.2, ..Disturbance::default() };
        let image: Vec<f64> = disturbed(noise, 128, 0).iter().map(|v| f64::from(*v)).collect();
        let mean = image.iter().sum::<f64>() / 3000.0;
        let deviation = (image.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 3000.0).sqrt();
        // Clipping at 2.5 deviations takes a little away; the rest within five standard errors.
        assert!((mean - 128.0).abs() < 5.0 && (deviation - 51.0).abs() < 4.0, "{mean} {deviation}");
        // Of black, half is clipped.
        let black = disturbed(noise, 0, 0).iter().filter(|v| **v == 0).count();
        assert!((1350..1680).contains(&black), "{black}");
        assert_ne!(disturbed(noise, 128, 0), disturbed(noise, 128, 1));
        assert_eq!(disturbed(noise, 128, 1), disturbed(noise, 128, 1));
        assert!(disturbed(Disturbance::default(), 128, 1).iter().all(|v| *v == 128));
    }

    #[test]
    fn what_makes_no_image_is_refused_by_name() {
        let none = Disturbance::default();
        for (wrong, name) in [
            (Disturbance { noise: -0.1, ..none }, "noise: "),
            (Disturbance { noise: f64::NAN, ..none }, "noise: "),
            (Disturbance { grid_lines: 1.5, ..none }, "grid_lines: "),
            (Disturbance { grid_period: 1, ..none }, "grid_period: "),
        ] {
            let options = SceneOptions { disturbance: wrong, ..SceneOptions::default() };
            let refusal = options.frame(Recipe::Air).unwrap_err().to_string();
            assert!(refusal.starts_with(name), "{refusal}");
        }
        let larger = SceneOptions { size: Some(96), ..SceneOptions::default() };
        let more = SceneOptions { objects: Some(2), ..larger };
        for (options, recipe, refusal) in [
            (larger, Recipe::Air, "size: is a choice of the recipes digits and single, not of air"),
            (more, Recipe::Single, "objects: is a choice of the recipe digits alone, not of single"),
            (SceneOptions { size: Some(0), ..larger }, Recipe::Single, "size: must be between 1 and"),
        ] {
            let refused = options.frame(recipe).unwrap_err().to_string();
            assert!(refused.starts_with(refusal), "{refused}");
        }
        assert!(larger.frame(Recipe::Digits).unwrap().is_some());
    }
}
