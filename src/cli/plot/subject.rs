//! What a picture is drawn of: a run, scenes, and how both are looked at.

use crate::cli::{common, pictures};
use candle_core::Device;
use image::RgbImage;
use multi_entity_vae::config::Latent;
use multi_entity_vae::evaluate::{Example, Latents, stack};
use multi_entity_vae::model::Selection;
use multi_entity_vae::picture::Density;
use multi_entity_vae::run::{LoadedRun, ScenesOf};

/// A run and the scenes that it is shown.
pub struct Subject<'a> {
    pub run: &'a LoadedRun,
    pub scenes: &'a ScenesOf,
    pub seed: u64,
    pub selection: Selection,
    pub device: &'a Device,
    pub density: Density,
}

/// The posteriors of many scenes, with the class of what each entity shows where it is known.
pub struct Encoded {
    pub latents: Latents,
    pub classes: Vec<Option<u8>>,
}

impl Subject<'_> {
    /// A picture's title: what it shows, of which model, with its β.
    pub fn title(&self, what: &str) -> String {
        format!("{what} · {}", pictures::describe(self.run))
    }

    /// What the scenes are, for footnotes: "single (test split)". A file has no splits.
    pub fn scenes_in_words(&self) -> String {
        let name = std::path::Path::new(self.scenes.source.name()).file_name().unwrap_or_default().to_string_lossy();
        self.scenes.split().map_or(name.to_string(), |split| format!("{name} ({split} split)"))
    }

    /// D.
    pub fn dimensions(&self) -> usize {
        self.run.config.model.latent.dimensions()
    }

    /// Whether there is a grid of candidates, and not just one for the whole image.
    pub fn has_grid(&self) -> bool {
        self.run.model.grid() != (1, 1)
    }

    /// Refuses what needs a prior where there is none.
    pub fn needs_prior(&self, what: &str) -> anyhow::Result<()> {
        match self.run.config.model.latent {
            Latent::Gaussian { .. } => Ok(()),
            Latent::Point { .. } => anyhow::bail!(
                "{what} follow the latents' prior N(0, I), and this autoencoder's code has none; runs with a Gaussian latent \
                 (vae, beta-vae, multi-entity) can be plotted so, and this one as reconstructions, samples, scatter, \
                 interpolation and curves"
            ),
        }
    }

    /// Scene `index` of those that a picture is made of.
    pub fn example(&self, index: u64) -> anyhow::Result<Example> {
        Ok(self.scenes.example(index)?)
    }

    /// The first `count` scenes, or as many as there are.
    pub fn examples(&self, count: usize) -> anyhow::Result<Vec<Example>> {
        Ok(self.scenes.examples(count as u64).collect::<Result<_, _>>()?)
    }

    pub fn reconstructions(&self, count: usize) -> anyhow::Result<RgbImage> {
        pictures::reconstructions(self.run, &self.examples(count)?, self.selection, self.device, self.density)
    }

    /// The posteriors of the first `count` scenes.
    pub fn encoded(&self, count: usize) -> anyhow::Result<Encoded> {
        let mut latents = Latents::default();
        let mut examples = self.scenes.examples(count as u64);
        let at_once = common::images_at_once(&self.run.model, &self.selection);
        loop {
            let batch = examples.by_ref().take(at_once).collect::<Result<Vec<_>, _>>()?;
            if batch.is_empty() {
                break;
            }
            let images = stack(&self.run.model, &batch, self.device)?;
            let masks: Vec<_> = batch.into_iter().map(|example| example.masks).collect();
            latents.add(&self.run.model, &images, &masks, &self.selection)?;
        }
        let classes = self.classes(&latents)?;
        Ok(Encoded { latents, classes })
    }

    /// The class of each entity's object. A scene of one object has one class, however little of it the entity draws.
    fn classes(&self, latents: &Latents) -> anyhow::Result<Vec<Option<u8>>> {
        let mut scene = None;
        let mut classes = Vec::with_capacity(latents.entities.len());
        for entity in &latents.entities {
            // Entities come scene after scene.
            if scene.as_ref().is_none_or(|(index, _)| *index != entity.scene) {
                scene = Some((entity.scene, self.scenes.source.scene(entity.scene as u64)?.labels));
            }
            let labels = scene.as_ref().and_then(|(_, labels)| labels.as_deref());
            classes.push(labels.and_then(|labels| match labels {
                [only] => Some(*only),
                _ => labels.get(usize::from(entity.object?)).copied(),
            }));
        }
        Ok(classes)
    }
}
