//! How scenes are synthesised: a closed set of recipes.
//!
//! Scene i is a function of recipe, seed, split and i alone (and of the digits), the same bytes
//! on every machine, with any number of threads and in any order. A changed scene is a changed
//! data set, so a test pins the first scenes of each.

pub mod air;
pub mod digits;
pub mod single;
pub mod sprite;
pub mod sprites;
pub mod survey;
pub mod tetrominoes;

use std::fmt;
use std::str::FromStr;

use super::digits::{DIGIT_SIDE, DigitSet};
use super::layers::{Blend, Layers};
use super::split::Split;
use super::{Scene, SceneShape};
use crate::random;

/// A way to make scenes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recipe {
    /// See [`digits`].
    Digits,
    /// See [`air`].
    Air,
    /// See [`survey`].
    Survey,
    /// See [`single`].
    Single,
    /// See [`sprite`].
    Sprite,
    /// See [`sprites`].
    Sprites,
    /// See [`tetrominoes`].
    Tetrominoes,
}

impl Recipe {
    /// Every recipe, the default one first.
    pub const ALL: [Self; 7] =
        [Self::Digits, Self::Air, Self::Survey, Self::Single, Self::Sprite, Self::Sprites, Self::Tetrominoes];

    /// The name users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Air => "air",
            Self::Survey => "survey",
            Self::Single => "single",
            Self::Sprite => "sprite",
            Self::Sprites => "sprites",
            Self::Tetrominoes => "tetrominoes",
        }
    }

    /// Size of the images.
    pub const fn shape(self) -> SceneShape {
        let side = match self {
            Self::Digits => digits::CANVAS,
            Self::Air => air::CANVAS,
            Self::Survey => survey::CANVAS,
            Self::Single => DIGIT_SIDE,
            Self::Sprite => sprite::CANVAS,
            Self::Sprites => sprites::CANVAS,
            Self::Tetrominoes => tetrominoes::CANVAS,
        };
        let channels = match self {
            Self::Sprites | Self::Tetrominoes => 3,
            _ => 1,
        };
        SceneShape { height: side, width: side, channels }
    }

    /// Most objects of a scene of `split`.
    pub const fn max_objects(self, split: Split) -> usize {
        match self {
            Self::Digits => digits::MAX_OBJECTS,
            Self::Air => air::MAX_OBJECTS,
            Self::Survey => *survey::counts(split).end() as usize,
            Self::Single | Self::Sprite => 1,
            Self::Sprites => sprites::COUNTS[1] as usize,
            Self::Tetrominoes => tetrominoes::PIECES,
        }
    }

    /// Number of scenes that make up `split`.
    pub fn size(self, split: Split, digits: &DigitSet) -> Result<u64, MissingSplit> {
        match (self, split) {
            (Self::Survey, Split::Train) => Ok(50_000),
            (Self::Survey, _) => Ok(1_000),
            (_, Split::General) => Err(MissingSplit { recipe: self, split }),
            (Self::Single, _) => Ok(digits.of(split).len() as u64),
            (_, Split::Train) => Ok(60_000),
            (_, Split::Validation | Split::Test) => Ok(10_000),
        }
    }

    /// Whether scenes are drawn at random, so that there is a new one for every index, also
    /// beyond the size.
    pub const fn endless(self) -> bool {
        !matches!(self, Self::Single)
    }

    /// How the layers make the image.
    pub const fn blend(self) -> Blend {
        match self {
            Self::Digits => Blend::Max,
            Self::Air | Self::Single => Blend::Sum,
            Self::Survey => Blend::Paint,
            Self::Sprite | Self::Sprites | Self::Tetrominoes => Blend::Cover,
        }
    }

    /// Whether its objects cover one another, so that there are easier scenes of it, in which they do not.
    pub const fn covers(self) -> bool {
        matches!(self, Self::Survey | Self::Sprites)
    }

    /// Lays out scene `index` of `split` in `layers`.
    pub fn lay_out(self, digits: &DigitSet, seed: u64, split: Split, index: u64, layers: &mut Layers) {
        self.lay_out_by(Rules::default(), digits, seed, split, index, layers);
    }

    /// The same by other rules than its own.
    pub(super) fn lay_out_by(
        self,
        rules: Rules,
        digits: &DigitSet,
        seed: u64,
        split: Split,
        index: u64,
        layers: &mut Layers,
    ) {
        let (digits, Rules { frame, apart }) = (digits.of(split), rules);
        let uncovered = |own| if apart { 1.0 } else { own };
        let rng = || random::stream(seed, &format!("scene/{self}/{split}"), index);
        match self {
            Self::Digits => digits::lay_out(digits, frame.unwrap_or(digits::Frame::OWN), &mut rng(), layers),
            Self::Air => air::lay_out(digits, &mut rng(), layers),
            Self::Survey => {
                survey::lay_out(digits, survey::counts(split), uncovered(survey::UNCOVERED), &mut rng(), layers);
            }
            Self::Single => {
                single::lay_out(digits, frame.map_or(DIGIT_SIDE, digits::Frame::canvas), index, layers);
            }
            Self::Sprite => sprite::lay_out(&mut rng(), layers),
            Self::Sprites => sprites::lay_out(uncovered(sprites::UNCOVERED), &mut rng(), layers),
            Self::Tetrominoes => tetrominoes::lay_out(&mut rng(), layers),
        }
    }

    /// Scene `index` of `split`, with its truth.
    pub fn scene(self, digits: &DigitSet, seed: u64, split: Split, index: u64) -> Scene {
        let mut layers = Layers::default();
        self.lay_out(digits, seed, split, index, &mut layers);
        layers.scene(self.blend(), self.shape())
    }
}

/// In what the layout of a scene may differ from its recipe's own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    /// Another canvas and another number of digits, which only `digits` and `single` have.
    pub frame: Option<digits::Frame>,
    /// Whether objects leave one another alone where by the recipe's own rule they [cover](Recipe::covers) one another.
    pub apart: bool,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Recipe {
    type Err = UnknownRecipe;

    fn from_str(name: &str) -> Result<Self, UnknownRecipe> {
        Self::ALL.into_iter().find(|recipe| recipe.name() == name).ok_or_else(|| UnknownRecipe(name.to_owned()))
    }
}

/// A name that is no recipe.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown recipe {0:?}; did you mean {nearest:?}? Choose one of {names}",
    names = Recipe::ALL.map(Recipe::name).join(", "),
    nearest = self.nearest().name()
)]
pub struct UnknownRecipe(String);

impl UnknownRecipe {
    /// The recipe with the most similar name.
    pub fn nearest(&self) -> Recipe {
        let edits = |recipe: &Recipe| strsim::osa_distance(&self.0.to_lowercase(), recipe.name());
        Recipe::ALL.into_iter().min_by_key(edits).unwrap_or(Recipe::Digits)
    }
}

/// A split that a recipe does not offer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("recipe {recipe} has no {split} split; only survey has one, so choose that or another split")]
pub struct MissingSplit {
    /// The recipe.
    pub recipe: Recipe,
    /// The split it lacks.
    pub split: Split,
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// SHA-256 of everything in the first 32 scenes of a split.
    fn fingerprint(recipe: Recipe, split: Split) -> String {
        let mut hash = Sha256::new();
        for index in 0..32 {
            let scene = recipe.scene(&DigitSet::builtin(), 0, split, index);
            hash.update(&scene.image);
            hash.update(scene.masks.unwrap());
            hash.update([scene.count.unwrap()]);
            hash.update(scene.labels.unwrap());
            scene.boxes.unwrap().as_flattened().iter().for_each(|v| hash.update(v.to_le_bytes()));
            for factors in scene.factors.unwrap_or_default() {
                factors.numbers().iter().for_each(|v| hash.update(v.to_le_bytes()));
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn scenes_keep_their_golden_bytes() {
        let mut changed = Vec::new();
        for (recipe, split, expected) in [
            (Recipe::Digits, Split::Train, "75bae8a3a9e2ce0dc7e6b3b0766fe661ca84af663ef0853ac6f14420cec3452f"),
            (Recipe::Digits, Split::Test, "50b2d00d32cb24814786a43e359de221201674348466048be6a5d779c2892fb7"),
            (Recipe::Air, Split::Train, "175cc258625ddeae2a13f6129eda3dd928613d74fe1f32afdc5a02c873cd2931"),
            (Recipe::Air, Split::Test, "5a309f9a4edc3c50467f5c63fe41db3e1fc77da1dacc1bdfd2b4e2bbf3f63c7e"),
            (Recipe::Survey, Split::Train, "e2bcbd0070860d021dcedb2bbb40beb25a431795ff3b25107333fd22b3694156"),
            (Recipe::Survey, Split::General, "bf6cdafba348b7a9c200f376f7422887a0208b10f1244fb6f609007252e52b38"),
            (Recipe::Single, Split::Train, "f43d923eecb2ccbd2365e2c7a4b961d691aeeae3410f4e5ae0b312d3c76f92b0"),
            (Recipe::Single, Split::Test, "85de975a99ecc3c33c27ea5053aee0f5306e8775023ce3948231907b3942b35f"),
            (Recipe::Sprite, Split::Train, "18570d90a3421d7f6e957449809b7bcb5d9d9e747abe28e46be148eacc2fd468"),
            (Recipe::Sprites, Split::Train, "adb5cb77975fab54154c5b9e0a96710372c23148f66ed8c4b47f004c05c4958c"),
            (Recipe::Tetrominoes, Split::Train, "21690d95a2eb4a6022e19c6edccae0642b69c40e498795fb0443203d8d112f9f"),
        ] {
            let found = fingerprint(recipe, split);
            if found != expected {
                changed.push(format!("{recipe}, {split}: {found}"));
            }
        }
        assert!(changed.is_empty(), "{}", changed.join("\n"));
    }

    #[test]
    fn seed_split_and_index_each_change_the_scene() {
        let digits = DigitSet::builtin();
        for recipe in [Recipe::Digits, Recipe::Survey, Recipe::Sprite, Recipe::Sprites, Recipe::Tetrominoes] {
            let image = |seed, split, index| recipe.scene(&digits, seed, split, index).image;
            let base = image(1, Split::Test, 2);
            assert_eq!(base, image(1, Split::Test, 2));
            assert_ne!(base, image(2, Split::Test, 2));
            assert_ne!(base, image(1, Split::Train, 2));
            assert_ne!(base, image(1, Split::Test, 3));
        }
    }

    #[test]
    fn reused_layers_leave_no_trace() {
        let digits = DigitSet::builtin();
        let mut layers = Layers::default();
        for recipe in Recipe::ALL {
            for index in 0..10 {
                recipe.lay_out(&digits, 0, Split::Test, index, &mut layers);
                let reused = layers.scene(recipe.blend(), recipe.shape());
                assert_eq!(reused, recipe.scene(&digits, 0, Split::Test, index));
            }
        }
    }

    #[test]
    fn names_round_trip_and_typos_get_a_suggestion() {
        for recipe in Recipe::ALL {
            assert_eq!(recipe.to_string().parse(), Ok(recipe));
        }
        for (typo, meant) in [("didgits", Recipe::Digits), ("Surveys", Recipe::Survey), ("ari", Recipe::Air)] {
            let error = typo.parse::<Recipe>().unwrap_err();
            assert_eq!(error.nearest(), meant);
            assert!(error.to_string().contains(&format!("did you mean {:?}", meant.name())), "{error}");
        }
    }

    #[test]
    fn only_survey_offers_the_general_split() {
        let digits = DigitSet::builtin();
        for recipe in Recipe::ALL {
            match recipe.size(Split::General, &digits) {
                Ok(size) => assert_eq!((recipe, size), (Recipe::Survey, 1_000)),
                Err(error) => assert!(error.to_string().contains("only survey"), "{error}"),
            }
        }
    }

    #[test]
    fn sizes_follow_the_documentation() {
        let digits = DigitSet::builtin();
        let sizes = |recipe: Recipe| {
            [Split::Train, Split::Validation, Split::Test].map(|split| recipe.size(split, &digits).unwrap())
        };
        assert_eq!(sizes(Recipe::Digits), [60_000, 10_000, 10_000]);
        assert_eq!(sizes(Recipe::Air), [60_000, 10_000, 10_000]);
        assert_eq!(sizes(Recipe::Survey), [50_000, 1_000, 1_000]);
        assert_eq!(sizes(Recipe::Single), [55_000, 5_000, 10_000]);
        for recipe in [Recipe::Sprite, Recipe::Sprites, Recipe::Tetrominoes] {
            assert_eq!(sizes(recipe), [60_000, 10_000, 10_000]);
        }
    }
}
