//! Eight points side by side.
//!
//! A sum of products along one point is a chain of additions, which the compiler must not reorder
//! and hence cannot vectorise. The same sum for eight points at once is eight independent chains.

/// How many points a [`Block`] holds.
pub(super) const LANES: usize = 8;

/// One number of each point of a block.
pub(super) type Lanes = [f64; LANES];

/// Eight points, transposed: entry `i` holds dimension `i` of each.
#[derive(Debug, Clone)]
pub(super) struct Block(Vec<Lanes>);

impl Block {
    /// Eight points at the origin.
    pub(super) fn new(dimensions: usize) -> Self {
        Self(vec![[0.0; LANES]; dimensions])
    }

    pub(super) fn dimensions(&self) -> &[Lanes] {
        &self.0
    }

    pub(super) fn dimensions_mut(&mut self) -> &mut [Lanes] {
        &mut self.0
    }

    /// Takes at most eight points, which lie one after another; lanes without a point keep theirs.
    pub(super) fn load(&mut self, points: &[f32]) {
        let dimensions = self.0.len();
        for (lane, point) in points.chunks_exact(dimensions).enumerate() {
            self.set(lane, point.iter().map(|&x| f64::from(x)));
        }
    }

    /// Makes `values` the point of `lane`.
    pub(super) fn set(&mut self, lane: usize, values: impl Iterator<Item = f64>) {
        for (lanes, value) in self.0.iter_mut().zip(values) {
            lanes[lane] = value;
        }
    }

    /// Moves the points from `lane` on to the origin.
    pub(super) fn clear_from(&mut self, lane: usize) {
        self.0.iter_mut().for_each(|lanes| lanes[lane..].fill(0.0));
    }
}

/// Σ over the lanes of `a · b`, added in pairs.
pub(super) fn dot(a: &Lanes, b: &Lanes) -> f64 {
    let [s, t, u, v, w, x, y, z]: Lanes = std::array::from_fn(|lane| a[lane] * b[lane]);
    ((s + w) + (u + y)) + ((t + x) + (v + z))
}
