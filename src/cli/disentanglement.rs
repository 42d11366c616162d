//! `mevae disentanglement`

use super::common;
use super::compute::Compute;
use candle_core::{DType, Device, Tensor};
use multi_entity_vae::config::Binarisation;
use multi_entity_vae::evaluate::disentanglement::{Combination, DisentanglementReport, Probe, Row};
use multi_entity_vae::model::{Encoding, Selection};
use multi_entity_vae::run::LoadedRun;
use multi_entity_vae::scene::recipes::sprite;
use multi_entity_vae::scene::{Layers, Recipe};
use std::path::{Path, PathBuf};

/// Images in one forward pass.
const BATCH: usize = 64;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of trained runs, a row or two of the table each
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Examples to learn factors from; half as many more to try that on
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    count: u32,
    /// Seed of the examples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also write the scores as JSON (- for standard output instead of the table)
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let device = args.compute.open()?;
    let probe = Probe::new(args.count as usize, args.seed);
    let mut report = DisentanglementReport { examples: args.count as usize, seed: args.seed, codes: Vec::new() };
    for path in &args.runs {
        let run = common::load_run(path, &device)?;
        let shape = Recipe::Sprite.shape();
        let image = run.image();
        if (image.height, image.width, image.channels) != (shape.height, shape.width, shape.channels) {
            anyhow::bail!(
                "{} reads images of {image}, but the sprites whose factors are known are 64×64×1; train with --scenes sprite",
                path.display()
            );
        }
        let (scenes, binarisation) = (&run.config.data.scenes, run.config.data.binarisation);
        if scenes != Recipe::Sprite.name() || binarisation != Binarisation::GreyScale {
            common::tell(&format!(
                "note: {} was trained on {scenes} ({}); what is scored are its codes of grey-scale sprites",
                path.display(),
                binarisation.in_words()
            ));
        }
        let subject = Subject { selection: common::selection(&run, None, args.seed)?, run, device: device.clone() };
        let model = path.display().to_string();
        let observed = probe.observe(&sprite::SIZES, |combinations| subject.codes_of(combinations))?;
        let mut add = |code: &str, numbers: std::ops::Range<usize>| {
            report.codes.push(Row { model: model.clone(), code: code.into(), scores: observed.scores(numbers) });
        };
        add("z", 0..observed.dimensions() - subject.numbers_of_a_cell());
        if subject.numbers_of_a_cell() > 0 {
            add("z and cell", 0..observed.dimensions());
        }
    }
    if let Some(path) = &args.json {
        common::write_json(path, &report)?;
    }
    match args.json.as_deref() == Some(Path::new("-")) {
        true => Ok(()),
        false => common::print_all(report.to_string().as_bytes()),
    }
}

/// A model whose codes are asked for.
struct Subject {
    run: LoadedRun,
    selection: Selection,
    device: Device,
}

impl Subject {
    /// Row and column, unless there is one cell only, which says nothing.
    fn numbers_of_a_cell(&self) -> usize {
        if self.run.model.grid() == (1, 1) { 0 } else { 2 }
    }

    /// Of each image the entity of largest KL, the first that the selector keeps: its posterior mean, and its cell.
    fn codes_of(&self, combinations: &[Combination]) -> candle_core::Result<Vec<Vec<f64>>> {
        let columns = self.run.model.grid().1;
        let mut codes = Vec::with_capacity(combinations.len());
        for batch in combinations.chunks(BATCH) {
            // On one of the threads that compute, so that the kernels need not wake them one after the other.
            let encoding = rayon::scope(|_| self.encoding(batch))?;
            let means = encoding.entities.mean()?.narrow(1, 0, 1)?.squeeze(1)?;
            let means: Vec<Vec<f64>> = means.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec2()?;
            for (mut code, cells) in means.into_iter().zip(encoding.cells.lists()?) {
                let cell = cells.first().map_or([0, 0], |cell| [cell / columns, cell % columns]);
                code.extend(cell.map(|part| part as f64).iter().take(self.numbers_of_a_cell()));
                codes.push(code);
            }
        }
        Ok(codes)
    }

    fn encoding(&self, combinations: &[Combination]) -> candle_core::Result<Encoding> {
        let shape = Recipe::Sprite.shape();
        let (mut layers, mut image) = (Layers::default(), vec![0; shape.values()]);
        let mut pixels = Vec::with_capacity(combinations.len() * shape.values());
        for combination in combinations {
            sprite::lay_out_as(std::array::from_fn(|f| combination[f]), &mut layers);
            layers.draw(Recipe::Sprite.blend(), shape, &mut image);
            pixels.extend(image.iter().map(|pixel| f32::from(*pixel) / 255.0));
        }
        let dims = (combinations.len(), shape.height, shape.width, shape.channels);
        self.run.model.encode(&Tensor::from_vec(pixels, dims, &self.device)?, &self.selection)
    }
}
