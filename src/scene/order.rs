//! The order in which training sees scenes.

use rand::Rng;

use crate::random;

/// Gives the scene at each position of the stream.
#[derive(Clone, Debug)]
pub enum Order {
    /// Scene p at position p.
    Fresh,
    /// Every scene once an epoch, shuffled anew each time.
    Epochs(Epochs),
}

impl Order {
    /// Number of the scene at `position`.
    pub fn scene(&mut self, position: u64) -> u64 {
        match self {
            Self::Fresh => position,
            Self::Epochs(epochs) => epochs.scene(position),
        }
    }
}

/// Shuffled epochs. Each is a function of seed and number alone, so that any position can be
/// looked up directly; the one looked up last is kept, as its neighbours follow.
#[derive(Clone, Debug)]
pub struct Epochs {
    seed: u64,
    scenes: u32,
    current: Option<(u64, Vec<u32>)>,
}

impl Epochs {
    /// Epochs of `scenes` scenes (at least one).
    pub fn new(seed: u64, scenes: u32) -> Self {
        Self { seed, scenes: scenes.max(1), current: None }
    }

    fn scene(&mut self, position: u64) -> u64 {
        let scenes = u64::from(self.scenes);
        let (epoch, place) = (position / scenes, (position % scenes) as usize);
        let order = match self.current.take() {
            Some((number, order)) if number == epoch => order,
            _ => self.shuffled(epoch),
        };
        let scene = order[place];
        self.current = Some((epoch, order));
        u64::from(scene)
    }

    /// Fisher and Yates's shuffle.
    fn shuffled(&self, epoch: u64) -> Vec<u32> {
        let mut rng = random::stream(self.seed, "order", epoch);
        let mut order: Vec<u32> = (0..self.scenes).collect();
        for last in (1..self.scenes).rev() {
            order.swap(last as usize, rng.random_range(0..=last) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenes(seed: u64, count: u32, positions: std::ops::Range<u64>) -> Vec<u64> {
        let mut order = Order::Epochs(Epochs::new(seed, count));
        positions.map(|position| order.scene(position)).collect()
    }

    #[test]
    fn every_epoch_shows_every_scene_once_in_an_order_of_its_own() {
        let epochs: Vec<Vec<u64>> = (0..3).map(|e| scenes(4, 50, 50 * e..50 * (e + 1))).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<u64>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[1], epochs[2]);
        assert_ne!(epochs[0], scenes(5, 50, 0..50));
    }

    #[test]
    fn any_position_can_be_looked_up_directly() {
        let all = scenes(0, 7, 0..100);
        assert_eq!(scenes(0, 7, 93..100), all[93..]);
        let mut order = Order::Epochs(Epochs::new(0, 7));
        for position in (0..100).rev() {
            assert_eq!(order.scene(position), all[position as usize]);
        }
    }

    #[test]
    fn one_scene_comes_again_and_again() {
        assert_eq!(scenes(0, 1, u64::MAX - 2..u64::MAX), [0, 0]);
    }

    #[test]
    fn the_order_keeps_its_golden_values() {
        assert_eq!(scenes(1, 60_000, 59_998..60_002), [6_145, 39_075, 36_819, 14_328]);
    }
}
