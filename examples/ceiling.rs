//! About what can be known at most: the score of an oracle that knows every digit of a scene to the last pixel, but not which of them
//! lies on top.
//!
//! ```text
//! cargo run --release --example ceiling       # the scenes of digits, and survey's general ones
//! ```
//!
//! White paint on white paint looks the same whichever came first, so where digits of `survey` cross no image tells whose pixel is
//! whose; the truth still gives it to the one on top. The oracle draws lots for their order. Elsewhere the brightest digit owns a pixel,
//! which an image does tell. Beside 1 a model's score tells little of `survey`; beside this one it tells how much is left to find out.

use multi_entity_vae::evaluate::{BACKGROUND, adjusted_rand_index};
use multi_entity_vae::random;
use multi_entity_vae::scene::{Blend, DigitSet, INK_THRESHOLD, Layers, Recipe, Split};
use rand::seq::SliceRandom;

const SCENES: u64 = 1000;

fn main() {
    let digits = DigitSet::builtin();
    println!("foreground ARI of an oracle that knows all but the order, {SCENES} scenes of seed 0 each");
    for (recipe, split) in [
        (Recipe::Air, Split::Test),
        (Recipe::Digits, Split::Test),
        (Recipe::Survey, Split::Test),
        (Recipe::Survey, Split::General),
    ] {
        let scores: Vec<f64> = (0..SCENES).filter_map(|index| oracle(recipe, &digits, split, index)).collect();
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (count - 1.0);
        println!("{:8}{:10}{mean:.3} ± {:.3}", recipe.to_string(), split.to_string(), (variance / count).sqrt());
    }
}

/// Its score in one scene; none where there are not two objects to tell apart.
fn oracle(recipe: Recipe, digits: &DigitSet, split: Split, index: u64) -> Option<f64> {
    let (shape, mut layers) = (recipe.shape(), Layers::default());
    recipe.lay_out(digits, 0, split, index, &mut layers);
    let truth = layers.scene(recipe.blend(), shape).masks?;
    let mut order: Vec<_> = layers.iter().enumerate().collect();
    if order.len() < 2 {
        return None;
    }
    order.shuffle(&mut random::stream(0, "oracle", index));
    let hides = recipe.blend() == Blend::Paint;
    let mut guess = vec![(0, 0); shape.pixels()]; // ink and whose it is
    for (object, (layer, ink)) in order {
        for (row, line) in ink.chunks_exact(layer.area.width).enumerate() {
            let start = (layer.area.y + row) * shape.width + layer.area.x;
            for (guess, &ink) in guess[start..].iter_mut().zip(line) {
                // Whoever is painted on top, with enough ink to own a pixel, is not painted over.
                if ink > guess.0 && !(hides && guess.0 >= INK_THRESHOLD) {
                    *guess = (ink, object as u8);
                }
            }
        }
    }
    let pixels = truth.iter().zip(&guess).filter(|(object, _)| **object != BACKGROUND);
    Some(adjusted_rand_index(&pixels.map(|(truth, (_, object))| (*truth, *object)).collect()))
}
