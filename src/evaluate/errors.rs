//! How entities are wasted or shared.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use super::BACKGROUND;

/// The part of an object's visible pixels that makes an entity its holder: one in this many.
const PARTS: usize = 4;

/// How strongly an entity must draw a pixel to own it. Far less than one half: a thin stroke whose place is not certain to the pixel is
/// drawn faintly, and yet as that object.
const FAINT: f32 = 0.1;

/// How entities are wasted or shared: what went wrong, by kind, in one scene or in many.
///
/// An entity *holds* an object if it owns at least a quarter of the object's visible pixels (it owns a pixel where it is the strongest
/// and reaches one tenth, so that a faint drawing of an object holds it). In a scene that is taken apart rightly every
/// present entity holds one object and every object is held by one entity. What differs is counted:
///
/// - an object that nobody holds is a *miss*;
/// - every holder of an object beyond the first is a *split*: the object was taken apart;
/// - every object that an entity holds beyond the first is a *merge*: the entity swallowed it;
/// - a present entity that holds nothing is a *duplicate* if most of what it draws lies on objects, which others explain, and a
///   *hallucination* otherwise.
///
/// The kinds explain the count:
///
/// ```text
/// entities − objects = duplicates + hallucinations + splits − merges − misses
/// ```
///
/// A right count can hide two errors; here each of them shows. Objects without a visible pixel are no objects here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Present entities that hold nothing and draw on objects of others.
    pub duplicates: u64,
    /// Holders of an object beyond its first.
    pub splits: u64,
    /// Objects of an entity beyond its first.
    pub merges: u64,
    /// Objects that nobody holds.
    pub misses: u64,
    /// Present entities that hold nothing and draw beside the objects, or nothing at all.
    pub hallucinations: u64,
}

impl Errors {
    /// Compares the entities of one scene with its objects.
    ///
    /// `truth` and `strongest` are the object and the strongest present entity of each pixel, [`BACKGROUND`] for none (see
    /// [`Decomposition::foreground`](super::Decomposition::foreground)); `strengths` says how strongly each of the K entities draws
    /// each pixel, and `present` which of them are there. An owner that is not present is a background.
    pub fn of(truth: &[u8], strongest: &[u8], strengths: &[Vec<f32>], present: &[bool]) -> Self {
        let there = |entity: u8| present.get(usize::from(entity)) == Some(&true);
        let mut visible: BTreeMap<u8, usize> = BTreeMap::new();
        let mut shared: BTreeMap<(u8, u8), usize> = BTreeMap::new();
        for (pixel, (&object, &entity)) in truth.iter().zip(strongest).enumerate() {
            if object == BACKGROUND {
                continue;
            }
            *visible.entry(object).or_default() += 1;
            if strengths.get(usize::from(entity)).is_some_and(|drawn| drawn[pixel] >= FAINT) {
                *shared.entry((object, entity)).or_default() += 1;
            }
        }
        let held = shared.into_iter().filter(|((object, entity), pixels)| {
            there(*entity) && PARTS * pixels >= visible.get(object).copied().unwrap_or(0)
        });
        let held: Vec<(u8, u8)> = held.map(|(pair, _)| pair).collect();

        let mut errors = Self::default();
        for object in visible.keys() {
            match held.iter().filter(|(o, _)| o == object).count() as u64 {
                0 => errors.misses += 1,
                holders => errors.splits += holders - 1,
            }
        }
        for (entity, strengths) in strengths.iter().enumerate().filter(|(entity, _)| there(*entity as u8)) {
            match held.iter().filter(|(_, e)| usize::from(*e) == entity).count() as u64 {
                0 if draws_on_objects(truth, strengths) => errors.duplicates += 1,
                0 => errors.hallucinations += 1,
                objects => errors.merges += objects - 1,
            }
        }
        errors
    }

    /// Every kind by its name, what it means, and its number.
    pub fn kinds(&self) -> [(&'static str, &'static str, u64); 5] {
        [
            ("duplicates", "entities on an object that another explains", self.duplicates),
            ("splits", "further entities that share one object", self.splits),
            ("merges", "further objects that one entity swallowed", self.merges),
            ("misses", "objects without an entity", self.misses),
            ("hallucinations", "entities beside every object", self.hallucinations),
        ]
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.kinds().iter().map(|(_, _, count)| count).sum()
    }
}

impl std::ops::AddAssign for Errors {
    fn add_assign(&mut self, other: Self) {
        self.duplicates += other.duplicates;
        self.splits += other.splits;
        self.merges += other.merges;
        self.misses += other.misses;
        self.hallucinations += other.hallucinations;
    }
}

/// What there is of them, in words: `1 split, 2 misses`.
impl fmt::Display for Errors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let singular = |name: &str, count| match (name, count) {
            ("misses", 1) => "miss".into(),
            (name, 1) => name.trim_end_matches('s').to_string(),
            (name, _) => name.to_string(),
        };
        let found = self.kinds().into_iter().filter(|(_, _, count)| *count > 0);
        let words: Vec<String> = found.map(|(name, _, count)| format!("{count} {}", singular(name, count))).collect();
        out.pad(&if words.is_empty() { "no error".into() } else { words.join(", ") })
    }
}

/// Whether more than half of what is drawn lies on the pixels of objects.
fn draws_on_objects(truth: &[u8], strengths: &[f32]) -> bool {
    let (mut on_objects, mut all) = (0f64, 0f64);
    for (object, strength) in truth.iter().zip(strengths) {
        let strength = f64::from(*strength);
        all += strength;
        on_objects += if *object == BACKGROUND { 0.0 } else { strength };
    }
    2.0 * on_objects > all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: u8 = BACKGROUND;
    /// Two objects of four pixels, and four pixels of background.
    const TRUTH: [u8; 12] = [0, 0, 0, 0, 1, 1, 1, 1, NONE, NONE, NONE, NONE];

    /// Each entity draws what it owns, and those that own nothing what is said.
    fn errors(owned: [u8; 12], present: &[bool], faint: &[(usize, [f32; 12])]) -> Errors {
        let own = |entity: usize| owned.iter().map(|o| f32::from(u8::from(usize::from(*o) == entity))).collect();
        let mut strengths: Vec<Vec<f32>> = (0..present.len()).map(own).collect();
        for (entity, drawn) in faint {
            strengths[*entity] = drawn.to_vec();
        }
        Errors::of(&TRUTH, &owned, &strengths, present)
    }

    #[test]
    fn one_entity_to_an_object_is_right_whatever_their_order_and_a_few_pixels() {
        let right = errors([1, 1, 1, NONE, 0, 0, 0, 0, 0, NONE, NONE, NONE], &[true, true], &[]);
        assert_eq!((right, right.total(), right.to_string()), (Errors::default(), 0, "no error".into()));
        // An absent third one is no error.
        let owned = [1, 1, 1, 1, 0, 0, 0, 0, NONE, NONE, NONE, NONE];
        assert_eq!(errors(owned, &[true, true, false], &[]), Errors::default());
    }

    #[test]
    fn an_object_shared_by_two_is_a_split() {
        let split = errors([0, 0, 2, 2, 1, 1, 1, 1, NONE, NONE, NONE, NONE], &[true; 3], &[]);
        assert_eq!(split, Errors { splits: 1, ..Errors::default() });
        assert_eq!(split.to_string(), "1 split");
    }

    #[test]
    fn two_objects_of_one_entity_are_a_merge() {
        let merge = errors([0, 0, 0, 0, 0, 0, 0, 0, NONE, NONE, NONE, NONE], &[true], &[]);
        assert_eq!(merge, Errors { merges: 1, ..Errors::default() });
    }

    #[test]
    fn an_object_of_which_nobody_has_a_quarter_is_a_miss() {
        let owned = [0, 0, 0, 0, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE];
        assert_eq!(errors(owned, &[true], &[]), Errors { misses: 1, ..Errors::default() });
        // The owner is not there.
        let owned = [0, 0, 0, 0, 1, 1, 1, 1, NONE, NONE, NONE, NONE];
        assert_eq!(errors(owned, &[true, false], &[]), Errors { misses: 1, ..Errors::default() });
        // A quarter is enough.
        let owned = [0, 0, 0, 0, 1, NONE, NONE, NONE, NONE, NONE, NONE, NONE];
        assert_eq!(errors(owned, &[true; 2], &[]), Errors::default());
    }

    #[test]
    fn a_spare_entity_is_a_duplicate_on_objects_and_a_hallucination_beside_them() {
        let owned = [0, 0, 0, 0, 1, 1, 1, 1, NONE, NONE, NONE, NONE];
        let faint = |on: f32, beside: f32| std::array::from_fn(|i| if TRUTH[i] == NONE { beside } else { on });
        let spare = |on, beside| errors(owned, &[true; 3], &[(2, faint(on, beside))]);
        assert_eq!(spare(0.3, 0.1), Errors { duplicates: 1, ..Errors::default() });
        assert_eq!(spare(0.1, 0.4), Errors { hallucinations: 1, ..Errors::default() });
        assert_eq!(spare(0.0, 0.0), Errors { hallucinations: 1, ..Errors::default() });
    }

    #[test]
    fn a_right_count_can_hide_two_errors() {
        // The first object taken apart, the second missed.
        let owned = [0, 0, 1, 1, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE];
        let found = errors(owned, &[true; 2], &[]);
        assert_eq!(found.to_string(), "1 split, 1 miss");
        let mut sum = found;
        sum += found;
        assert_eq!((sum.total(), sum.to_string()), (4, "2 splits, 2 misses".into()));
    }

    proptest! {
        #[test]
        fn the_kinds_explain_the_count(
            pixels in prop::collection::vec((0u8..5, 0u8..5, 0.0f32..1.0), 0..60),
            present in prop::collection::vec(any::<bool>(), 4),
        ) {
            let or_none = |index: u8| if index == 4 { NONE } else { index };
            let truth: Vec<u8> = pixels.iter().map(|p| or_none(p.0)).collect();
            let owned: Vec<u8> = pixels.iter().map(|p| or_none(p.1)).collect();
            let strengths = vec![pixels.iter().map(|p| p.2).collect(); 4];
            let errors = Errors::of(&truth, &owned, &strengths, &present);
            let objects = (0..4).filter(|o| truth.contains(o)).count() as i64;
            let entities = present.iter().filter(|p| **p).count() as i64;
            let [more, splits, merges, misses, beside] = errors.kinds().map(|(_, _, count)| count as i64);
            prop_assert_eq!(entities - objects, more + beside + splits - merges - misses);
        }
    }
}
