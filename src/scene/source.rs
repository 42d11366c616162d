//! One face for everything that scenes come from.

use std::path::Path;
use std::sync::Arc;

use super::archive::{Archive, ArchiveError};
use super::digits::DigitSet;
use super::layers::Layers;
use super::recipes::{MissingSplit, Recipe, UnknownRecipe};
use super::split::Split;
use super::{Scene, SceneShape};

/// A recipe or an archive.
#[derive(Debug)]
pub struct SceneSource {
    name: String,
    len: u64,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Recipe { recipe: Recipe, digits: Arc<DigitSet>, split: Split, seed: u64 },
    Archive(Archive),
}

impl SceneSource {
    /// Opens `spec`, the name of a [`Recipe`] or the path of an `.npz` archive. Split, seed and
    /// digits concern recipes only: an archive is one split of its own.
    pub fn open(spec: &str, digits: Arc<DigitSet>, split: Split, seed: u64) -> Result<Self, SourceError> {
        match spec.parse::<Recipe>() {
            Ok(recipe) => Ok(Self::from_recipe(recipe, digits, split, seed)?),
            Err(_) if spec.ends_with(".npz") => {
                let archive = Archive::read(Path::new(spec))?;
                Ok(Self { name: spec.to_owned(), len: archive.len() as u64, origin: Origin::Archive(archive) })
            }
            Err(unknown) => Err(SourceError::Unknown(unknown)),
        }
    }

    /// The scenes of a recipe.
    pub fn from_recipe(recipe: Recipe, digits: Arc<DigitSet>, split: Split, seed: u64) -> Result<Self, MissingSplit> {
        let len = recipe.size(split, &digits)?;
        let origin = Origin::Recipe { recipe, digits, split, seed };
        Ok(Self { name: recipe.name().to_owned(), len, origin })
    }

    /// Name of the recipe, or path of the archive as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size of the images.
    pub fn shape(&self) -> SceneShape {
        match &self.origin {
            Origin::Recipe { recipe, .. } => recipe.shape(),
            Origin::Archive(archive) => archive.shape(),
        }
    }

    /// Most objects of a scene; unknown for an archive without counts, labels and boxes.
    pub fn max_objects(&self) -> Option<usize> {
        match &self.origin {
            Origin::Recipe { recipe, split, .. } => Some(recipe.max_objects(*split)),
            Origin::Archive(archive) => archive.max_objects(),
        }
    }

    /// Number of scenes of the fixed set, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a source is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are new scenes beyond the fixed set.
    pub fn endless(&self) -> bool {
        matches!(&self.origin, Origin::Recipe { recipe, .. } if recipe.endless())
    }

    /// Scene `index` with its truth. An endless source has one for every index.
    pub fn scene(&self, index: u64) -> Result<Scene, SourceError> {
        self.check(index)?;
        match &self.origin {
            Origin::Recipe { recipe, digits, split, seed } => Ok(recipe.scene(digits, *seed, *split, index)),
            Origin::Archive(archive) => archive.scene(index as usize).ok_or_else(|| self.beyond(index)),
        }
    }

    /// Draws only the image of scene `index`, `(H, W, C)`, into `out` of that size. `layers` is
    /// working memory.
    pub fn draw(&self, index: u64, layers: &mut Layers, out: &mut [u8]) -> Result<(), SourceError> {
        self.check(index)?;
        match &self.origin {
            Origin::Recipe { recipe, digits, split, seed } => {
                recipe.lay_out(digits, *seed, *split, index, layers);
                layers.draw(recipe.blend(), recipe.shape(), out);
            }
            Origin::Archive(archive) => {
                let image = archive.image(index as usize).ok_or_else(|| self.beyond(index))?;
                out.copy_from_slice(image);
            }
        }
        Ok(())
    }

    fn check(&self, index: u64) -> Result<(), SourceError> {
        if index < self.len || self.endless() { Ok(()) } else { Err(self.beyond(index)) }
    }

    fn beyond(&self, index: u64) -> SourceError {
        SourceError::Beyond { name: self.name.clone(), index, len: self.len }
    }
}

/// Why there is no such source or scene.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Neither a recipe nor an archive.
    #[error("{0}, or a file whose name ends in .npz")]
    Unknown(UnknownRecipe),
    /// The recipe lacks the split.
    #[error(transparent)]
    Split(#[from] MissingSplit),
    /// The archive cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A scene beyond a source that is not endless.
    #[error("{name} has {len} scene(s), numbered from 0, so no scene {index}; ask for a lower number")]
    Beyond {
        /// Name of the source.
        name: String,
        /// The scene asked for.
        index: u64,
        /// Number of scenes.
        len: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(spec: &str, split: Split) -> Result<SceneSource, SourceError> {
        SceneSource::open(spec, DigitSet::builtin(), split, 0)
    }

    #[test]
    fn a_recipe_opens_by_name_and_draws_what_it_tells() {
        for recipe in Recipe::ALL {
            let source = open(recipe.name(), Split::Validation).unwrap();
            assert_eq!(source.name(), recipe.name());
            let mut image = vec![7; source.shape().values()];
            source.draw(3, &mut Layers::default(), &mut image).unwrap();
            assert_eq!(image, source.scene(3).unwrap().image);
            assert_eq!(source.scene(source.len()).is_ok(), source.endless());
        }
    }

    #[test]
    fn an_archive_opens_by_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("few.npz");
        let survey = open("survey", Split::General).unwrap();
        let scenes: Vec<Scene> = (0..4).map(|index| survey.scene(index).unwrap()).collect();
        Archive::gather(survey.shape(), 6, scenes.clone()).unwrap().write(&path).unwrap();

        let source = open(path.to_str().unwrap(), Split::Train).unwrap();
        assert_eq!((source.len(), source.shape(), source.endless()), (4, survey.shape(), false));
        assert_eq!(source.max_objects(), Some(6));
        for (index, scene) in scenes.iter().enumerate() {
            assert_eq!(source.scene(index as u64).unwrap(), *scene);
        }
        assert!(matches!(source.scene(4), Err(SourceError::Beyond { index: 4, len: 4, .. })));
        assert!(source.draw(u64::MAX, &mut Layers::default(), &mut [0; 4096]).is_err());
    }

    #[test]
    fn errors_say_what_to_do() {
        let message = open("sruvey", Split::Train).unwrap_err().to_string();
        assert!(message.contains("did you mean \"survey\"") && message.contains(".npz"), "{message}");
        let message = open("nowhere/few.npz", Split::Train).unwrap_err().to_string();
        assert!(message.starts_with("nowhere/few.npz: "), "{message}");
        let message = open("air", Split::General).unwrap_err().to_string();
        assert!(message.contains("only survey"), "{message}");
    }
}
