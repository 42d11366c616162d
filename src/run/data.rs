//! Opening the scenes that a configuration names.

use crate::config::{Binarisation, Config, DataConfig};
use crate::evaluate::Example;
use crate::layers::Extent;
use crate::random;
use crate::scene::{
    Batch, Batches, BatchesError, DigitSet, DigitsError, Scene, SceneOptions, SceneSource, SourceError, Split,
};
use rand::Rng;
use std::path::Path;
use std::sync::Arc;

/// Seed of the static binarisation, for all time.
const STATIC_SEED: u64 = 0;

/// Why scenes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The digits.
    #[error(transparent)]
    Digits(#[from] DigitsError),
    /// The scenes.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Their stream.
    #[error(transparent)]
    Batches(#[from] BatchesError),
    /// A download.
    #[error("{0}")]
    Hub(String),
}

/// The digits that `--digits` names: `builtin`, `mnist` or `fashion-mnist` from the Hugging Face hub, or a folder.
pub fn open_digits(spec: &str) -> Result<Arc<DigitSet>, DataError> {
    match spec {
        "builtin" => Ok(DigitSet::builtin()),
        "mnist" | "fashion-mnist" => download(spec),
        folder => Ok(Arc::new(DigitSet::from_dir(Path::new(folder))?)),
    }
}

#[cfg(feature = "hub")]
fn download(name: &str) -> Result<Arc<DigitSet>, DataError> {
    use candle_datasets::vision::{fashion_mnist, mnist};
    let loaded = if name == "mnist" { mnist::load() } else { fashion_mnist::load() };
    let dataset = loaded.map_err(|e| {
        DataError::Hub(format!(
            "could not download {name} from the Hugging Face hub: {e}; --digits builtin needs no network, --digits DIR reads IDX files"
        ))
    })?;
    let bytes =
        |images: &candle_core::Tensor, labels: &candle_core::Tensor| -> candle_core::Result<(Vec<u8>, Vec<u8>)> {
            let images = (images * 255.0)?.round()?.to_dtype(candle_core::DType::U8)?;
            Ok((images.flatten_all()?.to_vec1()?, labels.flatten_all()?.to_vec1()?))
        };
    let train = bytes(&dataset.train_images, &dataset.train_labels);
    let test = bytes(&dataset.test_images, &dataset.test_labels);
    let parts =
        train.and_then(|train| Ok((train, test?))).map_err(|e| DataError::Hub(format!("{name} from the hub: {e}")))?;
    Ok(Arc::new(DigitSet::from_bytes(parts.0, parts.1)?))
}

#[cfg(not(feature = "hub"))]
fn download(name: &str) -> Result<Arc<DigitSet>, DataError> {
    Err(DataError::Hub(format!(
        "this program was built without the `hub` feature, so it cannot download {name}; use --digits builtin, or --digits DIR with a folder of IDX files"
    )))
}

/// One split of the scenes of a configuration.
#[derive(Debug)]
pub struct ScenesOf {
    /// Where they come from.
    pub source: Arc<SceneSource>,
    binarisation: Binarisation,
    split: Split,
    seed: u64,
}

impl ScenesOf {
    /// Opens a split. `seed` makes the scenes of a recipe.
    pub fn open(data: &DataConfig, digits: Arc<DigitSet>, split: Split, seed: u64) -> Result<Self, DataError> {
        Self::open_with(data, data.options(), digits, split, seed)
    }

    /// The same with other options of its recipe than the configuration's.
    pub fn open_with(
        data: &DataConfig,
        options: SceneOptions,
        digits: Arc<DigitSet>,
        split: Split,
        seed: u64,
    ) -> Result<Self, DataError> {
        let source = Arc::new(SceneSource::open_with(&data.scenes, options, digits, split, seed)?);
        Ok(Self { source, binarisation: data.binarisation, split, seed })
    }

    /// Extent of the images.
    pub fn image(&self) -> Extent {
        let shape = self.source.shape();
        Extent::new(shape.height, shape.width, shape.channels)
    }

    /// Scene `index` as the model sees it, with what is known of its truth.
    pub fn example(&self, index: u64) -> Result<Example, DataError> {
        let Scene { image, masks, count, .. } = self.source.scene(index)?;
        let mut image: Vec<f32> = image.iter().map(|p| f32::from(*p) / 255.0).collect();
        self.binarise(&mut image, index);
        Ok(Example { image, count: count.map(usize::from), masks })
    }

    /// The first `count` scenes, or as many as there are (an endless recipe has all of them).
    pub fn examples(&self, count: u64) -> impl Iterator<Item = Result<Example, DataError>> {
        (0..self.at_most(count)).map(|index| self.example(index))
    }

    /// `count`, or as many scenes as there are.
    pub fn at_most(&self, count: u64) -> u64 {
        if self.source.endless() { count } else { count.min(self.source.len()) }
    }

    /// The stream of these scenes that a training takes from its step `first_step` on, made by `workers` threads.
    pub fn batches(&self, config: &Config, first_step: u64, workers: usize) -> Result<Batches, DataError> {
        let (source, training) = (Arc::clone(&self.source), &config.training);
        let (batch, seed, fresh) = (training.batch, training.seed, config.data.fresh);
        let (apart, steps) = (training.apart, training.steps);
        let apart = move |step| apart.value(step, steps);
        Ok(Batches::new(source, batch, seed, first_step, fresh, workers, apart)?)
    }

    /// Which split of their recipe they are; a file has none.
    pub fn split(&self) -> Option<Split> {
        (!self.source.is_archive()).then_some(self.split)
    }

    /// What becomes of grey pixels.
    pub fn binarisation(&self) -> Binarisation {
        self.binarisation
    }

    /// The pixels of a training batch as the model sees them.
    pub fn seen(&self, batch: Batch) -> Vec<f32> {
        let Batch { step, scenes, mut images } = batch;
        match self.binarisation {
            // Drawn anew in each step, so the step names the draw.
            Binarisation::Dynamic => self.binarise(&mut images, step),
            _ => {
                let values = self.source.shape().values();
                images.chunks_mut(values).zip(scenes).for_each(|(image, scene)| self.binarise(image, scene));
            }
        }
        images
    }

    /// Applies the configuration's binarisation to pixels in [0, 1]; `index` names the draw.
    fn binarise(&self, pixels: &mut [f32], index: u64) {
        match self.binarisation {
            Binarisation::GreyScale => {}
            Binarisation::Threshold => pixels.iter_mut().for_each(|p| *p = f32::from(u8::from(*p >= 0.5))),
            Binarisation::Dynamic => draw(pixels, random::stream(self.seed, "binarisation", index)),
            // Not the run's seed: it is the data that are fixed. A file is the same images whatever they are used for.
            Binarisation::Static => {
                let split = self.split().map_or("archive".into(), |split| split.to_string());
                let purpose = format!("static binarisation/{split}");
                draw(pixels, random::stream(STATIC_SEED, &purpose, index));
            }
        }
    }
}

/// Each pixel becomes 1 with itself as probability, 0 otherwise.
fn draw(pixels: &mut [f32], mut rng: impl Rng) {
    pixels.iter_mut().for_each(|p| *p = f32::from(u8::from(rng.random::<f32>() < *p)));
}
