//! The options of a recipe's scenes as flags.

use super::usage;
use clap::builder::RangedU64ValueParser;
use multi_entity_vae::scene::SceneOptions;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct SceneFlags {
    /// Height and width of the scenes, in place of the recipe's own (of digits, or of single, whose digit is resized)
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Most objects of a scene, in place of the recipe's own number (digits only)
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    objects: Option<usize>,
    /// Adds Gaussian noise of this deviation (white is 1), clipped; of any recipe
    #[arg(long, value_name = "DEVIATION")]
    noise: Option<f64>,
    /// Lays a grid of lines of this brightness (white is 1) under the scenes of any recipe
    #[arg(long, value_name = "BRIGHTNESS")]
    grid_lines: Option<f64>,
    /// Pixels from one of these lines to the next [default: 7]
    #[arg(long, value_name = "PIXELS")]
    grid_period: Option<usize>,
}

impl SceneFlags {
    /// Whether nothing was chosen.
    pub fn is_empty(&self) -> bool {
        let Self { size, objects, noise, grid_lines, grid_period } = self;
        let chosen = [size.is_some(), objects.is_some(), noise.is_some(), grid_lines.is_some(), grid_period.is_some()];
        !chosen.contains(&true)
    }

    /// The options, those that were chosen over others.
    pub fn over(&self, other: SceneOptions) -> anyhow::Result<SceneOptions> {
        let mut options = other;
        options.size = self.size.or(options.size);
        options.objects = self.objects.or(options.objects);
        let disturbance = &mut options.disturbance;
        disturbance.noise = self.noise.unwrap_or(disturbance.noise);
        disturbance.grid_lines = self.grid_lines.unwrap_or(disturbance.grid_lines);
        disturbance.grid_period = self.grid_period.unwrap_or(disturbance.grid_period);
        if self.grid_period.is_some() && options.disturbance.grid_lines == 0.0 {
            return Err(usage("--grid-period says nothing without --grid-lines"));
        }
        Ok(options)
    }
}
