//! 3×3 convolutions of stride 1 with a quarter of the multiplications: S. Winograd's minimal filtering F(4×4, 3×3), after A. Lavin and
//! S. Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016, eq. 12–14 and section 4.3).
//!
//! A 4×4 tile of outputs Y sees a 6×6 tile of inputs d, neighbours' tiles overlapping by two. With the kernel g of each pair of channels,
//!
//! > Y = Aᵀ [Σ_channels (G g Gᵀ) ⊙ (Bᵀ d B)] A
//!
//! whose middle is 36 ordinary matrix products, one for each place p of a tile: `M_p = V_p U_p`, with V = Bᵀ d B (tiles × channels
//! in) and U = G g Gᵀ (channels in × channels out). They multiply 36 times for 16 outputs, a plain convolution 144 times.
//!
//! The gradients are the transposes, step by step: `dM = A dY Aᵀ`, `dU_p = V_pᵀ dM_p`, `dg = Gᵀ dU G`, `dV_p = dM_p U_pᵀ`,
//! `dd = B dV Bᵀ`, overlapping tiles summed.
//!
//! The price is rounding: the largest error of 12,288 results of 48 channels in `f32` was 6·10⁻⁶ of their root mean square.

use super::Extent;
use super::instructions::dispatch;
use super::product::{Panels, Windows};
use super::real::{Real, Simd, WithSimd, vectorise};
use super::scratch::Scratch;
use super::window::copy;
use std::marker::PhantomData;

/// Sides of a tile of inputs and of outputs.
const IN: usize = 6;
const OUT: usize = 4;
/// Places of a tile in the middle, each a matrix product.
const PLACES: usize = IN * IN;
/// Taps of a kernel.
const SIDE: usize = 3;
const TAPS: usize = SIDE * SIDE;

/// A line of kernel and outputs are polynomials that are multiplied by their values at 0, ±`NEAR`, ±`FAR` and ∞. The choice is one of
/// rounding: these lie around 1 on both sides, NEAR · FAR = 1, which keeps all factors small; whole numbers (0, ±1, ±2, ∞) lose three
/// times as much.
const NEAR: f64 = std::f64::consts::FRAC_1_SQRT_2;
const FAR: f64 = std::f64::consts::SQRT_2;
const NEAR_2: f64 = 0.5;
const FAR_2: f64 = 2.0;
const BOTH_2: f64 = NEAR_2 + FAR_2;

/// G: what the three numbers of a line of the kernel contribute to each of the six in the middle.
const KERNEL: [[f64; SIDE]; IN] = {
    let near = 1.0 / (2.0 * NEAR_2 * (NEAR_2 - FAR_2));
    let far = 1.0 / (2.0 * FAR_2 * (FAR_2 - NEAR_2));
    [
        [1.0, 0.0, 0.0],
        [near, near * NEAR, near * NEAR_2],
        [near, near * -NEAR, near * NEAR_2],
        [far, far * FAR, far * FAR_2],
        [far, far * -FAR, far * FAR_2],
        [0.0, 0.0, 1.0],
    ]
};

/// A 3×3 convolution of stride 1 with zeros around the image: as many outputs as inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Winograd {
    input: Extent,
    /// Channels out.
    outputs: usize,
    /// Rows and columns of tiles.
    tiles: (usize, usize),
}

impl Winograd {
    /// The fast way for such a convolution, where there is one: channels that fill vectors, and enough of them to pay for the
    /// transforms; an image that does not leave most of its tiles empty.
    pub fn new(input: Extent, outputs: usize, kernel: usize, stride: usize) -> Option<Self> {
        /// Numbers in a vector of the widest instruction set.
        const VECTOR: usize = 16;
        let tiles = (input.height.div_ceil(OUT), input.width.div_ceil(OUT));
        let fills_vectors = |channels: usize| channels > 0 && channels.is_multiple_of(VECTOR);
        let fits = (kernel, stride) == (SIDE, 1) && fills_vectors(input.channels) && fills_vectors(outputs);
        // A multiplication in the middle costs about one and a half of a plain convolution's, transforms included.
        let pays = 3 * PLACES * tiles.0 * tiles.1 <= 2 * TAPS * input.height * input.width;
        (fits && pays).then_some(Self { input, outputs, tiles })
    }

    /// Tiles of an image.
    fn tiles(&self) -> usize {
        self.tiles.0 * self.tiles.1
    }

    /// Numbers of a matrix in the middle that belongs to the weight.
    fn matrix(&self) -> usize {
        self.input.channels * self.outputs
    }

    /// Images that are in the middle at once: enough tiles for rows of a matrix, few enough to stay in cache.
    fn images_at_once(&self) -> usize {
        const ROWS: usize = 32;
        (ROWS / self.tiles()).max(1)
    }

    /// U: a matrix (channels in × channels out) for each place, one after the other.
    fn middle_of_weight<T: Real>(&self, weight: &[T]) -> Vec<T> {
        let mut middle = vec![T::zero(); PLACES * self.matrix()];
        for (place, matrix) in middle.chunks_exact_mut(self.matrix()).enumerate() {
            for (tap, weight) in weight.chunks_exact(self.matrix()).enumerate() {
                add_multiple(matrix, share(tap, place), weight);
            }
        }
        middle
    }

    /// The weight (3, 3, channels in, channels out) arranged for [`forward`](Self::forward).
    pub fn prepare<T: Real>(&self, weight: &[T]) -> Vec<Panels<'static, T>> {
        let middle = self.middle_of_weight(weight);
        let matrices = middle.chunks_exact(self.matrix());
        matrices.map(|matrix| Panels::rows(matrix, self.outputs, 1).into_owned()).collect()
    }

    /// The same for [`backward`](Self::backward).
    pub fn prepare_transposed<T: Real>(&self, weight: &[T]) -> Vec<Panels<'static, T>> {
        let middle = self.middle_of_weight(weight);
        middle.chunks_exact(self.matrix()).map(|matrix| Panels::transposed(matrix, self.outputs)).collect()
    }

    /// `y` = convolution of the images in `x`.
    pub fn forward<T: Real>(&self, weight: &[Panels<'_, T>], x: &[T], y: &mut [T]) {
        let (inputs, outputs) = (self.input.channels, self.outputs);
        let (of_x, of_y) = (self.image(inputs), self.image(outputs));
        for (x, y) in x.chunks(of_x.len() * self.images_at_once()).zip(y.chunks_mut(of_y.len() * self.images_at_once()))
        {
            let rows = x.len() / of_x.len() * self.tiles();
            let (mut v, mut m) = (Scratch::new(rows * PLACES * inputs), Scratch::new(rows * PLACES * outputs));
            of_x.into_middle(Inputs, x, &mut v, Middle::by_tile(inputs));
            self.products(weight, (&v, Middle::by_tile(inputs), inputs), (&mut m, outputs));
            of_y.out_of_middle(Outputs, &m, y);
        }
    }

    /// Both gradients, given the one with respect to the output: writes `dx`, if wanted, and returns the weight's.
    pub fn backward<T: Real>(&self, weight: &[Panels<'_, T>], x: &[T], dz: &[T], mut dx: Option<&mut [T]>) -> Vec<T> {
        let (inputs, outputs) = (self.input.channels, self.outputs);
        let (of_x, of_y) = (self.image(inputs), self.image(outputs));
        let mut du = Scratch::zeros(PLACES * self.matrix());
        let at_once = of_x.len() * self.images_at_once();
        for (i, (x, dz)) in x.chunks(at_once).zip(dz.chunks(of_y.len() * self.images_at_once())).enumerate() {
            let rows = x.len() / of_x.len() * self.tiles();
            let (mut v, mut dm) = (Scratch::new(rows * PLACES * inputs), Scratch::new(rows * PLACES * outputs));
            of_x.into_middle(Inputs, x, &mut v, Middle::by_tile(inputs));
            let by_place = Middle::by_place(outputs, rows);
            of_y.into_middle(Gradients, dz, &mut dm, by_place);
            for (place, du) in du.chunks_exact_mut(self.matrix()).enumerate() {
                let starts = Middle::by_tile(inputs).rows(place, rows);
                let windows = Windows { data: &v, starts: &starts, runs: &[0], length: inputs };
                windows.accumulate(&dm[place * rows * outputs..][..rows * outputs], outputs, du);
            }
            if let Some(dx) = &mut dx {
                let dx = &mut dx[i * at_once..][..x.len()];
                self.products(weight, (&dm, by_place, outputs), (&mut v, inputs));
                dx.fill(T::zero());
                of_x.out_of_middle(InputGradients, &v, dx);
            }
        }
        let mut gradient = vec![T::zero(); TAPS * self.matrix()];
        for (tap, gradient) in gradient.chunks_exact_mut(self.matrix()).enumerate() {
            for (place, du) in du.chunks_exact(self.matrix()).enumerate() {
                add_multiple(gradient, share(tap, place), du);
            }
        }
        gradient
    }

    /// The product of every place: rows of `from.2` channels that lie as `from.1` says, to rows of `to.1` channels tile by tile.
    fn products<T: Real>(&self, matrices: &[Panels<'_, T>], from: (&[T], Middle, usize), to: (&mut [T], usize)) {
        let ((data, lie, length), (out, channels)) = (from, to);
        let (rows, target) = (out.len() / PLACES / channels, Middle::by_tile(channels));
        for (place, matrix) in matrices.iter().enumerate() {
            let starts = lie.rows(place, rows);
            Windows { data, starts: &starts, runs: &[0], length }.multiply(matrix, |row, first, numbers| {
                copy(&mut out[target.at(row, place) + first..][..numbers.len()], numbers);
            });
        }
    }

    fn image(&self, channels: usize) -> Image {
        Image { extent: Extent { channels, ..self.input }, tiles: self.tiles }
    }
}

/// The share of a tap of the kernel in a place in the middle: G on both sides.
fn share(tap: usize, place: usize) -> f64 {
    KERNEL[place / IN][tap / SIDE] * KERNEL[place % IN][tap % SIDE]
}

fn add_multiple<T: Real>(to: &mut [T], factor: f64, from: &[T]) {
    if factor == 0.0 {
        return;
    }
    let factor = T::from_f64(factor);
    vectorise(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to += factor * *from;
            }
        },
    );
}

/// Where the channels of a place of a tile lie in the middle.
#[derive(Clone, Copy)]
struct Middle {
    of_tile: usize,
    of_place: usize,
}

impl Middle {
    /// A tile's places one after the other.
    fn by_tile(channels: usize) -> Self {
        Self { of_tile: PLACES * channels, of_place: channels }
    }

    /// All `rows` tiles of a place one after the other.
    fn by_place(channels: usize, rows: usize) -> Self {
        Self { of_tile: channels, of_place: rows * channels }
    }

    fn at(self, tile: usize, place: usize) -> usize {
        tile * self.of_tile + place * self.of_place
    }

    /// Where the rows of a place's matrix begin.
    fn rows(self, place: usize, rows: usize) -> Vec<usize> {
        (0..rows).map(|row| self.at(row, place)).collect()
    }
}

/// Images on one side of the convolution, and their tiles.
#[derive(Clone, Copy)]
struct Image {
    extent: Extent,
    tiles: (usize, usize),
}

impl Image {
    fn len(self) -> usize {
        self.extent.len()
    }

    /// Tiles of `images` to the middle; what lies outside an image is zero.
    fn into_middle<T: Real, L: Line<FROM, IN>, const FROM: usize>(
        self,
        line: L,
        images: &[T],
        middle: &mut [T],
        lie: Middle,
    ) {
        dispatch(IntoMiddle::<T, L, FROM> { image: self, line, images, middle, lie });
    }

    /// What tiles in the middle, one after the other, say about `images`: written, or added where tiles overlap.
    fn out_of_middle<T: Real, L: Line<IN, TO>, const TO: usize>(self, line: L, middle: &[T], images: &mut [T]) {
        dispatch(OutOfMiddle::<T, L, TO> { image: self, line, middle, images });
    }

    /// Where the rows of a tile of N×N begin, in pixels through all images, and how far its columns are from there: nothing where they
    /// are outside of their image. The tile begins `before` pixels above and to the left of its outputs.
    #[inline(always)]
    fn lines<const N: usize>(self, tile: usize, before: usize) -> [[Option<usize>; N]; 2] {
        let Extent { height, width, .. } = self.extent;
        let (rows, columns) = self.tiles;
        let (image, y, x) = (tile / (rows * columns), tile / columns % rows, tile % columns);
        let inside = |tile: usize, i: usize, n: usize| (tile * OUT + i).checked_sub(before).filter(|at| *at < n);
        let row = |i| Some((image * height + inside(y, i, height)?) * width);
        [std::array::from_fn(row), std::array::from_fn(|j| inside(x, j, width))]
    }
}

struct IntoMiddle<'a, T, L, const FROM: usize> {
    image: Image,
    line: L,
    images: &'a [T],
    middle: &'a mut [T],
    lie: Middle,
}

impl<T: Real, L: Line<FROM, IN>, const FROM: usize> WithSimd for IntoMiddle<'_, T, L, FROM> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { image, line, images, middle, lie } = self;
        let (width, n) = (T::width::<S>(), image.extent.channels / T::width::<S>());
        let (images, middle) = (T::vectors::<S>(images), T::vectors_mut::<S>(middle));
        let nothing = T::splat(simd, T::zero());
        let tiles = images.len() / (image.len() / width) * image.tiles.0 * image.tiles.1;
        for tile in 0..tiles {
            let [rows, columns] = image.lines::<FROM>(tile, L::BEFORE);
            let first = lie.at(tile, 0) / width;
            for c in 0..n {
                let mut numbers = [[nothing; FROM]; FROM];
                for i in 0..FROM {
                    let Some(row) = rows[i] else { continue };
                    for j in 0..FROM {
                        if let Some(column) = columns[j] {
                            numbers[i][j] = images[(row + column) * n + c];
                        }
                    }
                }
                let numbers = both_ways::<T, S, L, FROM, IN>(simd, line, &numbers);
                for p in 0..PLACES {
                    middle[first + p * (lie.of_place / width) + c] = numbers[p / IN][p % IN];
                }
            }
        }
    }
}

struct OutOfMiddle<'a, T, L, const TO: usize> {
    image: Image,
    line: L,
    middle: &'a [T],
    images: &'a mut [T],
}

impl<T: Real, L: Line<IN, TO>, const TO: usize> WithSimd for OutOfMiddle<'_, T, L, TO> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { image, line, middle, images } = self;
        let n = image.extent.channels / T::width::<S>();
        let (images, middle) = (T::vectors_mut::<S>(images), T::vectors::<S>(middle));
        let one = T::splat(simd, T::one());
        for (tile, places) in middle.chunks_exact(PLACES * n).enumerate() {
            let [rows, columns] = image.lines::<TO>(tile, L::BEFORE);
            for c in 0..n {
                let mut numbers = [[one; IN]; IN];
                for p in 0..PLACES {
                    numbers[p / IN][p % IN] = places[p * n + c];
                }
                let numbers = both_ways::<T, S, L, IN, TO>(simd, line, &numbers);
                for i in 0..TO {
                    let Some(row) = rows[i] else { continue };
                    for j in 0..TO {
                        if let Some(column) = columns[j] {
                            let to = &mut images[(row + column) * n + c];
                            *to = if L::OVERLAP { T::mul_add(simd, one, numbers[i][j], *to) } else { numbers[i][j] };
                        }
                    }
                }
            }
        }
    }
}

/// A transform of all columns of a tile and then of all rows.
#[inline(always)]
fn both_ways<T: Real, S: Simd, L: Line<FROM, TO>, const FROM: usize, const TO: usize>(
    simd: S,
    line: L,
    tile: &[[T::Vector<S>; FROM]; FROM],
) -> [[T::Vector<S>; TO]; TO] {
    let (vectors, nothing) = (Vectors(simd, PhantomData), T::splat(simd, T::zero()));
    let mut half = [[nothing; FROM]; TO];
    for j in 0..FROM {
        let mut column = [nothing; FROM];
        for i in 0..FROM {
            column[i] = tile[i][j];
        }
        let column = line.transform::<T, S>(vectors, column);
        for i in 0..TO {
            half[i][j] = column[i];
        }
    }
    let mut all = [[nothing; TO]; TO];
    for i in 0..TO {
        all[i] = line.transform::<T, S>(vectors, half[i]);
    }
    all
}

/// What a transform does to one line of a tile.
trait Line<const FROM: usize, const TO: usize>: Copy {
    /// Pixels by which the tile on the image's side begins before the tile of outputs.
    const BEFORE: usize;
    /// Whether tiles on the image's side share pixels.
    const OVERLAP: bool = Self::BEFORE > 0;
    fn transform<T: Real, S: Simd>(self, s: Vectors<T, S>, line: [T::Vector<S>; FROM]) -> [T::Vector<S>; TO];
}

/// Sums of vectors.
#[derive(Clone, Copy)]
struct Vectors<T, S>(S, PhantomData<T>);

impl<T: Real, S: Simd> Vectors<T, S> {
    /// a + factor · b
    #[inline(always)]
    fn plus(self, a: T::Vector<S>, factor: f64, b: T::Vector<S>) -> T::Vector<S> {
        T::mul_add(self.0, T::splat(self.0, T::from_f64(factor)), b, a)
    }

    #[inline(always)]
    fn zero(self) -> T::Vector<S> {
        T::splat(self.0, T::zero())
    }
}

/// Bᵀ: inputs to the middle.
#[derive(Clone, Copy)]
struct Inputs;

impl Line<IN, IN> for Inputs {
    const BEFORE: usize = 1;

    #[inline(always)]
    fn transform<T: Real, S: Simd>(self, s: Vectors<T, S>, d: [T::Vector<S>; IN]) -> [T::Vector<S>; IN] {
        let (near_even, near_odd) = (s.plus(d[4], -FAR_2, d[2]), s.plus(d[3], -FAR_2, d[1]));
        let (far_even, far_odd) = (s.plus(d[4], -NEAR_2, d[2]), s.plus(d[3], -NEAR_2, d[1]));
        [
            s.plus(s.plus(d[4], -BOTH_2, d[2]), 1.0, d[0]),
            s.plus(near_even, NEAR, near_odd),
            s.plus(near_even, -NEAR, near_odd),
            s.plus(far_even, FAR, far_odd),
            s.plus(far_even, -FAR, far_odd),
            s.plus(s.plus(d[5], -BOTH_2, d[3]), 1.0, d[1]),
        ]
    }
}

/// B: gradients in the middle to those of inputs.
#[derive(Clone, Copy)]
struct InputGradients;

impl Line<IN, IN> for InputGradients {
    const BEFORE: usize = 1;

    #[inline(always)]
    fn transform<T: Real, S: Simd>(self, s: Vectors<T, S>, v: [T::Vector<S>; IN]) -> [T::Vector<S>; IN] {
        let (near_even, near_odd) = (s.plus(v[1], 1.0, v[2]), s.plus(v[1], -1.0, v[2]));
        let (far_even, far_odd) = (s.plus(v[3], 1.0, v[4]), s.plus(v[3], -1.0, v[4]));
        [
            v[0],
            s.plus(s.plus(v[5], -FAR, near_odd), -NEAR, far_odd),
            s.plus(s.plus(s.plus(s.zero(), -BOTH_2, v[0]), -FAR_2, near_even), -NEAR_2, far_even),
            s.plus(s.plus(s.plus(s.zero(), -BOTH_2, v[5]), NEAR, near_odd), FAR, far_odd),
            s.plus(s.plus(v[0], 1.0, near_even), 1.0, far_even),
            v[5],
        ]
    }
}

/// Aᵀ: the middle to outputs.
#[derive(Clone, Copy)]
struct Outputs;

impl Line<IN, OUT> for Outputs {
    const BEFORE: usize = 0;

    #[inline(always)]
    fn transform<T: Real, S: Simd>(self, s: Vectors<T, S>, m: [T::Vector<S>; IN]) -> [T::Vector<S>; OUT] {
        let (near_even, near_odd) = (s.plus(m[1], 1.0, m[2]), s.plus(m[1], -1.0, m[2]));
        let (far_even, far_odd) = (s.plus(m[3], 1.0, m[4]), s.plus(m[3], -1.0, m[4]));
        [
            s.plus(s.plus(m[0], 1.0, near_even), 1.0, far_even),
            s.plus(s.plus(s.zero(), NEAR, near_odd), FAR, far_odd),
            s.plus(s.plus(s.zero(), NEAR_2, near_even), FAR_2, far_even),
            s.plus(s.plus(m[5], NEAR * NEAR_2, near_odd), FAR * FAR_2, far_odd),
        ]
    }
}

/// A: gradients of outputs to those in the middle.
#[derive(Clone, Copy)]
struct Gradients;

impl Line<OUT, IN> for Gradients {
    const BEFORE: usize = 0;

    #[inline(always)]
    fn transform<T: Real, S: Simd>(self, s: Vectors<T, S>, y: [T::Vector<S>; OUT]) -> [T::Vector<S>; IN] {
        let (near_even, near_odd) = (s.plus(y[0], NEAR_2, y[2]), s.plus(y[1], NEAR_2, y[3]));
        let (far_even, far_odd) = (s.plus(y[0], FAR_2, y[2]), s.plus(y[1], FAR_2, y[3]));
        [
            y[0],
            s.plus(near_even, NEAR, near_odd),
            s.plus(near_even, -NEAR, near_odd),
            s.plus(far_even, FAR, far_odd),
            s.plus(far_even, -FAR, far_odd),
            y[3],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::agreement::cases;
    use super::*;
    use proptest::prelude::*;

    fn numbers(count: usize, seed: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 7919 + seed * 101) % 1009) as f64 / 504.0 - 1.0).collect()
    }

    fn inner(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// The convolution by its definition.
    fn plain(input: Extent, outputs: usize, weight: &[f64], image: &[f64]) -> Vec<f64> {
        let Extent { height, width, channels } = input;
        let mut out = vec![0.0; height * width * outputs];
        for (pixel, out) in out.chunks_exact_mut(outputs).enumerate() {
            for tap in 0..TAPS {
                let (y, x) = (pixel / width + tap / SIDE, pixel % width + tap % SIDE);
                if (1..=height).contains(&y) && (1..=width).contains(&x) {
                    let from = &image[((y - 1) * width + x - 1) * channels..][..channels];
                    for (c, value) in from.iter().enumerate() {
                        for (o, out) in out.iter_mut().enumerate() {
                            *out += value * weight[(tap * channels + c) * outputs + o];
                        }
                    }
                }
            }
        }
        out
    }

    /// Whole tiles and cut ones, one and several to an image, more images than are in the middle at once.
    #[test]
    fn it_is_the_convolution_and_its_gradients_are_the_transposes() {
        for case in [(16, 16, 16, 32, 3), (4, 4, 16, 16, 70), (5, 7, 32, 16, 9), (3, 4, 48, 48, 2), (11, 18, 16, 48, 3)]
        {
            assert!(agrees_with_the_definition(case));
        }
    }

    proptest! {
        #![proptest_config(cases(12))]

        #[test]
        fn it_is_the_convolution_for_any_image((h, w) in (1..=20usize, 1..=20usize), (c, o) in (1..=3usize, 1..=3usize), images in 1..=3usize) {
            prop_assume!(agrees_with_the_definition((h, w, 16 * c, 16 * o, images)));
        }
    }

    /// False where minimal filtering is not for such an image; what does not agree fails.
    fn agrees_with_the_definition(
        (height, width, inputs, outputs, images): (usize, usize, usize, usize, usize),
    ) -> bool {
        let input = Extent::new(height, width, inputs);
        let Some(fast) = Winograd::new(input, outputs, 3, 1) else { return false };
        let weight = numbers(TAPS * inputs * outputs, 1);
        let x = numbers(images * input.len(), 2);
        let mut y = vec![f64::NAN; images * height * width * outputs];
        fast.forward(&fast.prepare(&weight), &x, &mut y);
        let expected: Vec<f64> =
            x.chunks_exact(input.len()).flat_map(|image| plain(input, outputs, &weight, image)).collect();
        for (a, b) in y.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-11, "{a} is not {b}: {input} to {outputs}");
        }

        // The map is linear in both, so the gradient of ⟨dz, y⟩ with respect to one, times it, is ⟨dz, y⟩ itself, in any direction.
        let dz = numbers(y.len(), 3);
        let mut dx = vec![f64::NAN; x.len()];
        let dw = fast.backward(&fast.prepare_transposed(&weight), &x, &dz, Some(&mut dx));
        let (other_x, other_weight) = (numbers(x.len(), 4), numbers(weight.len(), 5));
        let through = |weight: &[f64], x: &[f64]| -> f64 {
            let ys = x.chunks_exact(input.len()).flat_map(|image| plain(input, outputs, weight, image));
            inner(&ys.collect::<Vec<_>>(), &dz)
        };
        let scale = y.len() as f64;
        assert!((inner(&dx, &other_x) - through(&weight, &other_x)).abs() < 1e-10 * scale);
        assert!((inner(&dw, &other_weight) - through(&other_weight, &x)).abs() < 1e-10 * scale);
        // And in a direction of one number only, so that a wrong place cannot hide.
        for i in [0, x.len() / 3, x.len() - 1] {
            let mut one = vec![0.0; x.len()];
            one[i] = 1.0;
            assert!((dx[i] - through(&weight, &one)).abs() < 1e-11);
        }
        true
    }

    #[test]
    fn single_precision_is_off_by_a_few_roundings() {
        let input = Extent::new(16, 16, 48);
        let fast = Winograd::new(input, 48, 3, 1).unwrap();
        let (weight, x) = (numbers(TAPS * 48 * 48, 1), numbers(input.len(), 2));
        let expected = plain(input, 48, &weight, &x);
        let single = |numbers: &[f64]| numbers.iter().map(|x| *x as f32).collect::<Vec<_>>();
        let mut y = vec![f32::NAN; expected.len()];
        fast.forward(&fast.prepare(&single(&weight)), &single(&x), &mut y);
        let size = (inner(&expected, &expected) / expected.len() as f64).sqrt();
        let worst = y.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-5 * size, "{worst} of {size}");
    }

    #[test]
    fn it_is_taken_only_where_it_pays() {
        let new = |side, channels, outputs, kernel, stride| {
            Winograd::new(Extent::new(side, side, channels), outputs, kernel, stride)
        };
        assert!(new(16, 48, 48, 3, 1).is_some());
        for (side, channels, outputs, kernel, stride) in
            [(16, 48, 48, 3, 2), (16, 48, 48, 5, 1), (16, 3, 48, 3, 1), (16, 48, 20, 3, 1), (1, 48, 48, 3, 1)]
        {
            assert!(new(side, channels, outputs, kernel, stride).is_none());
        }
    }
}
