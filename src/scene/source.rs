//! One face for everything that scenes come from.

use std::path::Path;
use std::sync::Arc;

use super::archive::{Archive, ArchiveError};
use super::digits::DigitSet;
use super::layers::Layers;
use super::options::{Disturbance, OptionError, SceneOptions};
use super::recipes::digits::Frame;
use super::recipes::{MissingSplit, Recipe, Rules, UnknownRecipe};
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
    Recipe(Made),
    Archive(Archive),
}

/// How the scenes of a recipe are made.
#[derive(Debug)]
struct Made {
    recipe: Recipe,
    digits: Arc<DigitSet>,
    split: Split,
    seed: u64,
    /// Where its objects lie, if not in the recipe's own frame.
    frame: Option<Frame>,
    disturbance: Disturbance,
}

impl Made {
    fn shape(&self) -> SceneShape {
        let own = self.recipe.shape();
        self.frame.map_or(own, |frame| SceneShape { height: frame.canvas(), width: frame.canvas(), ..own })
    }

    fn lay_out(&self, apart: bool, index: u64, layers: &mut Layers) {
        let Self { recipe, digits, split, seed, frame, .. } = self;
        recipe.lay_out_by(Rules { frame: *frame, apart }, digits, *seed, *split, index, layers);
    }

    fn disturb(&self, image: &mut [u8], index: u64) {
        let scenes = format!("{}/{}", self.recipe, self.split);
        self.disturbance.apply(image, self.shape(), self.seed, &scenes, index);
    }
}

impl SceneSource {
    /// Opens `spec`, the name of a [`Recipe`] or the path of an `.npz` archive. Split, seed and
    /// digits concern recipes only: an archive is one split of its own.
    pub fn open(spec: &str, digits: Arc<DigitSet>, split: Split, seed: u64) -> Result<Self, SourceError> {
        Self::open_with(spec, SceneOptions::default(), digits, split, seed)
    }

    /// The same with a recipe's options. An archive is what it is: it has none.
    pub fn open_with(
        spec: &str,
        options: SceneOptions,
        digits: Arc<DigitSet>,
        split: Split,
        seed: u64,
    ) -> Result<Self, SourceError> {
        match spec.parse::<Recipe>() {
            Ok(recipe) => Self::from_recipe_with(recipe, options, digits, split, seed),
            Err(_) if spec.ends_with(".npz") && options != SceneOptions::default() => {
                Err(SourceError::Fixed(spec.into()))
            }
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
        let made = Made { recipe, digits, split, seed, frame: None, disturbance: Disturbance::default() };
        Ok(Self { name: recipe.name().to_owned(), len, origin: Origin::Recipe(made) })
    }

    /// The same with options.
    pub fn from_recipe_with(
        recipe: Recipe,
        options: SceneOptions,
        digits: Arc<DigitSet>,
        split: Split,
        seed: u64,
    ) -> Result<Self, SourceError> {
        let len = recipe.size(split, &digits)?;
        let frame = options.frame(recipe)?;
        let made = Made { recipe, digits, split, seed, frame, disturbance: options.disturbance };
        Ok(Self { name: recipe.name().to_owned(), len, origin: Origin::Recipe(made) })
    }

    /// Name of the recipe, or path of the archive as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size of the images.
    pub fn shape(&self) -> SceneShape {
        match &self.origin {
            Origin::Recipe(made) => made.shape(),
            Origin::Archive(archive) => archive.shape(),
        }
    }

    /// Most objects of a scene; unknown for an archive without counts, labels and boxes.
    pub fn max_objects(&self) -> Option<usize> {
        match &self.origin {
            Origin::Recipe(Made { frame: Some(frame), .. }) => Some(frame.most()),
            Origin::Recipe(made) => Some(made.recipe.max_objects(made.split)),
            Origin::Archive(archive) => archive.max_objects(),
        }
    }

    /// Number of scenes of the fixed set, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a source is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the scenes are those of a file.
    pub fn is_archive(&self) -> bool {
        matches!(self.origin, Origin::Archive(_))
    }

    /// Whether there are new scenes beyond the fixed set.
    pub fn endless(&self) -> bool {
        matches!(&self.origin, Origin::Recipe(made) if made.recipe.endless())
    }

    /// Scene `index` with its truth. An endless source has one for every index.
    pub fn scene(&self, index: u64) -> Result<Scene, SourceError> {
        self.check(index)?;
        match &self.origin {
            Origin::Recipe(made) => {
                let mut layers = Layers::default();
                made.lay_out(false, index, &mut layers);
                let mut scene = layers.scene(made.recipe.blend(), made.shape());
                made.disturb(&mut scene.image, index);
                Ok(scene)
            }
            Origin::Archive(archive) => archive.scene(index as usize).ok_or_else(|| self.beyond(index)),
        }
    }

    /// Draws only the image of scene `index`, `(H, W, C)`, into `out` of that size. `layers` is
    /// working memory. Where by its recipe objects [cover](Recipe::covers) one another they can be laid out `apart`; without that it
    /// is the recipe's own scene.
    pub fn draw(&self, index: u64, apart: bool, layers: &mut Layers, out: &mut [u8]) -> Result<(), SourceError> {
        self.check(index)?;
        match &self.origin {
            Origin::Recipe(made) => {
                made.lay_out(apart, index, layers);
                layers.draw(made.recipe.blend(), made.shape(), out);
                made.disturb(out, index);
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
    /// An option that the recipe does not have, or cannot fulfil.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Options beside an archive.
    #[error("{0} holds scenes as they are: size, objects, noise and grid lines are options of recipes")]
    Fixed(String),
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
            source.draw(3, false, &mut Layers::default(), &mut image).unwrap();
            assert_eq!(image, source.scene(3).unwrap().image);
            assert_eq!(source.scene(source.len()).is_ok(), source.endless());
        }
    }

    #[test]
    fn a_disturbed_scene_is_the_same_scene_with_the_same_truth() {
        let disturbance = Disturbance { noise: 0.2, grid_lines: 0.3, ..Disturbance::default() };
        let options = SceneOptions { disturbance, ..SceneOptions::default() };
        for name in ["air", "sprites"] {
            let clean = open(name, Split::Test).unwrap();
            let noisy = SceneSource::open_with(name, options, DigitSet::builtin(), Split::Test, 0).unwrap();
            let (clean, seen) = (clean.scene(5).unwrap(), noisy.scene(5).unwrap());
            assert_ne!(clean.image, seen.image);
            assert_eq!(Scene { image: clean.image.clone(), ..seen.clone() }, clean);
            let mut drawn = vec![0; noisy.shape().values()];
            noisy.draw(5, false, &mut Layers::default(), &mut drawn).unwrap();
            assert_eq!(drawn, seen.image);
        }
    }

    #[test]
    fn larger_scenes_hold_more_digits_by_the_same_rules() {
        let options = SceneOptions { size: Some(128), objects: Some(12), ..SceneOptions::default() };
        let source = SceneSource::open_with("digits", options, DigitSet::builtin(), Split::Test, 0).unwrap();
        assert_eq!((source.shape().height, source.shape().width, source.max_objects()), (128, 128, Some(12)));
        let mut seen = [0; 13];
        for index in 0..260 {
            let scene = source.scene(index).unwrap();
            assert_eq!(scene.image.len(), 128 * 128);
            seen[usize::from(scene.count.unwrap())] += 1;
        }
        // Six standard deviations of a binomial around 20.
        assert!(seen.iter().all(|n| (1..46).contains(n)), "{seen:?}");
        for (size, objects, what) in [(64, 9, "objects: at most 6"), (20, 1, "size: must be"), (9_999, 1, "size: ")] {
            let options = SceneOptions { size: Some(size), objects: Some(objects), ..SceneOptions::default() };
            let refused = SceneSource::open_with("digits", options, DigitSet::builtin(), Split::Test, 0).unwrap_err();
            assert!(refused.to_string().starts_with(what), "{refused}");
        }
        let refused = SceneSource::open_with("a.npz", options, DigitSet::builtin(), Split::Test, 0).unwrap_err();
        assert!(matches!(refused, SourceError::Fixed(_)), "{refused}");
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
        assert!(source.draw(u64::MAX, false, &mut Layers::default(), &mut [0; 4096]).is_err());
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
