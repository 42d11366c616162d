//! `tetrominoes`: three coloured pieces of four blocks that do not overlap, on black, 35×35.
//!
//! After Tetrominoes (Kabra et al. 2019, *Multi-Object Datasets*): each piece is one of the 19 ways in which the seven pieces I, O, T,
//! S, Z, J and L can lie, all equally likely, in one of six colours (red, green, blue, yellow, magenta, cyan). A block is 5×5
//! pixels; pieces lie inside the image at any whole pixel, and all three are placed again where two overlap. (The published set
//! speaks of 17 shapes; which two it lacks is not known.)

use rand::Rng;

use super::super::layers::{Factors, Layers};
use super::super::resize::Rect;

/// Height and width of the canvas.
pub const CANVAS: usize = 35;

/// Pieces of a scene.
pub const PIECES: usize = 3;

/// Side of a block in pixels.
const BLOCK: usize = 5;

/// Red, green, blue, yellow, magenta, cyan.
const COLOURS: [[u8; 3]; 6] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]];

/// The four blocks of a piece as (row, column).
type Blocks = [(usize, usize); 4];

/// A piece: its label (I, O, T, S, Z, J, L), its quarter turns and its blocks.
type Piece = (u8, u8, Blocks);

/// The seven pieces as they lie unturned, and in how many ways each can lie.
const UNTURNED: [(Blocks, u8); 7] = [
    ([(0, 0), (0, 1), (0, 2), (0, 3)], 2), // I
    ([(0, 0), (0, 1), (1, 0), (1, 1)], 1), // O
    ([(0, 0), (0, 1), (0, 2), (1, 1)], 4), // T
    ([(0, 1), (0, 2), (1, 0), (1, 1)], 2), // S
    ([(0, 0), (0, 1), (1, 1), (1, 2)], 2), // Z
    ([(0, 0), (1, 0), (1, 1), (1, 2)], 4), // J
    ([(0, 2), (1, 0), (1, 1), (1, 2)], 4), // L
];

/// The 19 ways to lie.
fn pieces() -> Vec<Piece> {
    let ways = |(label, &(blocks, turns)): (usize, &(Blocks, u8))| {
        let mut blocks = blocks;
        (0..turns)
            .map(|turn| {
                if turn > 0 {
                    blocks = turned(blocks);
                }
                (label as u8, turn, blocks)
            })
            .collect::<Vec<_>>()
    };
    UNTURNED.iter().enumerate().flat_map(ways).collect()
}

/// A quarter turn against the clock.
fn turned(blocks: Blocks) -> Blocks {
    let last = blocks.iter().map(|(_, column)| *column).max().unwrap_or(0);
    blocks.map(|(row, column)| (last - column, row))
}

/// Lays out one scene.
pub fn lay_out(rng: &mut impl Rng, layers: &mut Layers) {
    let pieces = pieces();
    loop {
        layers.clear();
        let mut taken = [false; CANVAS * CANVAS];
        if (0..PIECES).all(|_| push(&pieces, &mut taken, rng, layers)) {
            return;
        }
    }
}

/// Adds a piece; false if it overlaps another.
fn push(pieces: &[Piece], taken: &mut [bool], rng: &mut impl Rng, layers: &mut Layers) -> bool {
    let (label, turns, blocks) = pieces[rng.random_range(0..pieces.len() as u32) as usize];
    let side = |part: fn(&(usize, usize)) -> usize| BLOCK * (blocks.iter().map(part).max().unwrap_or(0) + 1);
    let (height, width) = (side(|block| block.0), side(|block| block.1));
    let area = Rect {
        x: rng.random_range(0..=(CANVAS - width) as u32) as usize,
        y: rng.random_range(0..=(CANVAS - height) as u32) as usize,
        width,
        height,
    };
    let colour = COLOURS[rng.random_range(0..COLOURS.len() as u32) as usize];
    let mut ink = vec![0; width * height];
    let mut free = true;
    for (i, ink) in ink.iter_mut().enumerate() {
        let (y, x) = (i / width, i % width);
        if blocks.contains(&(y / BLOCK, x / BLOCK)) {
            *ink = u8::MAX;
            free &= !std::mem::replace(&mut taken[(area.y + y) * CANVAS + area.x + x], true);
        }
    }
    let middle = |start: usize, length: usize| (256 * start + 128 * length) as i16;
    let factors = Factors {
        shape: label.into(),
        scale: 1000,
        orientation: 900 * i16::from(turns),
        centre: [middle(area.x, width), middle(area.y, height)],
        colour,
    };
    layers.push_ink(area, &ink, factors);
    free
}

#[cfg(test)]
mod tests {
    use super::super::super::{DigitSet, Split};
    use super::super::Recipe;
    use super::*;

    #[test]
    fn there_are_nineteen_ways_to_lie() {
        let mut all: Vec<_> = pieces()
            .into_iter()
            .map(|(_, _, mut blocks)| {
                blocks.sort_unstable();
                blocks
            })
            .collect();
        assert_eq!(all.len(), 19);
        for blocks in &all {
            // Together, in the corner, and each block once.
            assert!(blocks.iter().any(|b| b.0 == 0) && blocks.iter().any(|b| b.1 == 0), "{blocks:?}");
            let next = |a: &(usize, usize), b: &(usize, usize)| a.0.abs_diff(b.0) + a.1.abs_diff(b.1) == 1;
            assert!(blocks.iter().all(|a| blocks.iter().any(|b| next(a, b))), "{blocks:?}");
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 19, "two ways are the same");
        // Turned once more than it has ways, each piece lies as before.
        for (blocks, ways) in UNTURNED {
            let mut once_round = (0..ways).fold(blocks, |blocks, _| turned(blocks));
            once_round.sort_unstable();
            assert_eq!(once_round, blocks);
        }
    }

    #[test]
    fn three_pieces_of_a_hundred_pixels_each_in_their_colours() {
        let digits = DigitSet::builtin();
        for index in 0..300 {
            let scene = Recipe::Tetrominoes.scene(&digits, 0, Split::Train, index);
            assert_eq!(scene.count, Some(3));
            let (masks, factors, boxes) = (scene.masks.unwrap(), scene.factors.unwrap(), scene.boxes.unwrap());
            for (i, told) in factors.iter().enumerate() {
                let owned: Vec<usize> = (0..masks.len()).filter(|p| usize::from(masks[*p]) == i).collect();
                assert_eq!(owned.len(), 4 * BLOCK * BLOCK, "scene {index}");
                assert!(owned.iter().all(|p| scene.image[3 * p..][..3] == told.colour));
                let [x0, y0, x1, y1] = boxes[i];
                assert_eq!(told.centre, [128 * (x0 + x1), 128 * (y0 + y1)]);
            }
            let ground = (0..masks.len()).filter(|p| masks[*p] == super::super::super::BACKGROUND);
            assert!(ground.into_iter().all(|p| scene.image[3 * p..][..3] == [0; 3]));
        }
    }
}
