//! Masked, coloured components over a background → logits: each pixel's distribution is a mixture.
//!
//! Component k has a mask logit m_k and a colour logit c_k for each channel; the background is component 0, with m_0 = 0 and one colour
//! for an image or for each of its pixels. With weights w = softmax(m) a pixel is white with probability p = Σ w_k σ(c_k), so its logit is
//!
//! > l = log Σ w_k σ(c_k) − log Σ w_k σ(−c_k) = lse_k a_k − lse_k b_k,
//! > a_k = m_k + log σ(c_k),  b_k = m_k + log σ(−c_k) = a_k − c_k
//!
//! in which the weights' normaliser cancels: finite for every finite mask and colour. With α = softmax(a) and β = softmax(b), the shares
//! of the components in the pixel's white and in its black,
//!
//! > ∂l/∂m_k = α_k − β_k (summed over channels),  ∂l/∂c_k = α_k σ(−c_k) + β_k σ(c_k).

use super::op::{Kernel, Path, apply2};
use super::place::{Placed, Places, place};
use super::real::{Real, vectorise};
use super::scratch::Scratch;
use candle_core::{D, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Components (B·K, P, Q, C + 1), those of one image one after the other, each pixel its colour's C logits and then its mask's, at
/// their places over backgrounds (B, 1, 1, C) or (B, H, W, C) → logits (B, H, W, C).
pub fn mix(components: &Tensor, background: &Tensor, entities: usize, places: &Places) -> Result<Tensor> {
    let (b, height, width, colours) = background.dims4()?;
    let (count, _, _, channels) = components.dims4()?;
    if count != b * entities || channels != colours + 1 {
        bail!(
            "{count} components of {channels} channels do not lie over {b} backgrounds of {colours}, {entities} each"
        );
    }
    if ![(1, 1), places.canvas].contains(&(height, width)) {
        let (canvas_h, canvas_w) = places.canvas;
        bail!("a background of {height}×{width} pixels does not fill {canvas_h}×{canvas_w}");
    }
    match Path::of(components) {
        Path::Cpu => {
            let placed = Placed::new(components.dims4()?, places)?;
            apply2(Mixing { entities, placed, ground_len: (height * width * colours).max(1) }, components, background)
        }
        _ => reference(&place(components, places)?, background, entities),
    }
}

/// The same of drawn components (B·K, H, W, C + 1), on candle's operations.
fn reference(components: &Tensor, background: &Tensor, entities: usize) -> Result<Tensor> {
    let (m, h, w, channels) = components.dims4()?;
    let (b, c) = (m / entities, channels - 1);
    let components = components.reshape((b, entities, h, w, channels))?;
    let background = background.broadcast_as((b, h, w, c))?.unsqueeze(1)?;
    let colours = Tensor::cat(&[background.contiguous()?, components.narrow(D::Minus1, 0, c)?.contiguous()?], 1)?;
    let masks = components.narrow(D::Minus1, c, 1)?.contiguous()?;
    let masks = Tensor::cat(&[masks.narrow(1, 0, 1)?.zeros_like()?, masks], 1)?;
    let white = log_sum_exp(&masks.broadcast_sub(&softplus(&colours.neg()?)?)?)?;
    let black = log_sum_exp(&masks.broadcast_sub(&softplus(&colours)?)?)?;
    (white - black)?.squeeze(1)
}

/// Logarithm of a sum of exponentials over dimension 1, which stays with length 1; on candle's operations.
pub(crate) fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    let largest = x.max_keepdim(1)?.detach();
    x.broadcast_sub(&largest)?.exp()?.sum_keepdim(1)?.log()? + largest
}

/// log(1 + eˣ) on candle's operations; through `relu`, whose gradient at 0 makes this one's the right ½.
pub(super) fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

/// K components with a mask each, at their places.
struct Mixing {
    entities: usize,
    placed: Placed,
    /// Numbers of one image's background: C or H·W·C.
    ground_len: usize,
}

/// The drawn components of one image, number by number: planes of H·W, K of masks and of each colour.
struct Planes<T: Real> {
    numbers: Scratch<T>,
    entities: usize,
    pixels: usize,
}

impl<T: Real> Planes<T> {
    fn new(entities: usize, channels: usize, pixels: usize) -> Self {
        Self { numbers: Scratch::new(entities * channels * pixels), entities, pixels }
    }

    /// Channel `channel` of component `k`.
    fn of(&self, channel: usize, k: usize) -> &[T] {
        &self.numbers[(channel * self.entities + k) * self.pixels..][..self.pixels]
    }

    fn of_mut(&mut self, channel: usize, k: usize) -> &mut [T] {
        &mut self.numbers[(channel * self.entities + k) * self.pixels..][..self.pixels]
    }
}

/// One channel's two sums over background and components, pixel by pixel.
struct Shares<T: Real> {
    /// a_0 and b_0, the background's.
    white_ground: Scratch<T>,
    black_ground: Scratch<T>,
    /// a_k of the K components.
    white: Scratch<T>,
    /// The largest a_k, and the sum of the exponentials of what they are less than it.
    largest_white: Scratch<T>,
    sum_white: Scratch<T>,
    /// The same of b_k.
    largest_black: Scratch<T>,
    sum_black: Scratch<T>,
}

impl<T: Real> Shares<T> {
    fn new(entities: usize, pixels: usize) -> Self {
        let [white_ground, black_ground, largest_white, sum_white, largest_black, sum_black] =
            std::array::from_fn(|_| Scratch::new(pixels));
        let white = Scratch::new(entities * pixels);
        Self { white_ground, black_ground, white, largest_white, sum_white, largest_black, sum_black }
    }

    /// Of channel `channel` over a background of those colours: one, or one for each pixel.
    fn sum(&mut self, planes: &Planes<T>, channel: usize, masks: usize, ground: &[T]) {
        let n = planes.pixels;
        let Self { white_ground, black_ground, white, largest_white, sum_white, largest_black, sum_black } = self;
        // As slices of one known length, so that no index has to be checked.
        let [white_ground, black_ground, high_white, sum_white, high_black, sum_black] =
            [white_ground, black_ground, largest_white, sum_white, largest_black, sum_black].map(|all| &mut all[..n]);
        match ground {
            [everywhere] => {
                let (white, black) = grounds(*everywhere);
                white_ground.fill(white);
                black_ground.fill(black);
            }
            _ => vectorise(
                #[inline(always)]
                || {
                    let pixels = ground.iter().zip(white_ground.iter_mut().zip(black_ground.iter_mut()));
                    for (ground, (white, black)) in pixels {
                        (*white, *black) = grounds(*ground);
                    }
                },
            ),
        }
        high_white.copy_from_slice(white_ground);
        high_black.copy_from_slice(black_ground);
        vectorise(
            #[inline(always)]
            || {
                for (k, a) in white.chunks_exact_mut(n).enumerate() {
                    let (a, c, m) = (&mut a[..n], &planes.of(channel, k)[..n], &planes.of(masks, k)[..n]);
                    for i in 0..n {
                        a[i] = m[i] - (T::zero() - c[i]).softplus();
                        high_white[i] = a[i].larger(high_white[i]);
                        high_black[i] = (a[i] - c[i]).larger(high_black[i]);
                    }
                }
                for i in 0..n {
                    sum_white[i] = (white_ground[i] - high_white[i]).exp();
                    sum_black[i] = (black_ground[i] - high_black[i]).exp();
                }
                for (k, a) in white.chunks_exact(n).enumerate() {
                    let (a, c) = (&a[..n], &planes.of(channel, k)[..n]);
                    for i in 0..n {
                        sum_white[i] += (a[i] - high_white[i]).exp();
                        sum_black[i] += (a[i] - c[i] - high_black[i]).exp();
                    }
                }
            },
        );
    }

    /// The gradient of each pixel's background, given what a share of white, and of black, is multiplied by.
    fn gradient_of_ground(&self, of_white: &[T], of_black: &[T]) -> Scratch<T> {
        let n = of_white.len();
        let mut gradient = Scratch::new(n);
        let out = &mut gradient[..n];
        let [white_ground, high_white, black_ground, high_black] =
            [&self.white_ground, &self.largest_white, &self.black_ground, &self.largest_black].map(|plane| &plane[..n]);
        vectorise(
            #[inline(always)]
            || {
                for i in 0..n {
                    let alpha = (white_ground[i] - high_white[i]).exp() * of_white[i];
                    let beta = (black_ground[i] - high_black[i]).exp() * of_black[i];
                    // σ(c) of a colour whose log σ(c) is known
                    let bright = white_ground[i].exp();
                    out[i] = alpha * (T::one() - bright) + beta * bright;
                }
            },
        );
        gradient
    }

    /// The largest a_k and the sums, then the same of b_k.
    fn parts(&self) -> [&[T]; 4] {
        [&self.largest_white, &self.sum_white, &self.largest_black, &self.sum_black].map(|part| &part[..])
    }
}

/// log σ(c) and log σ(−c): what the background has for a_0 and b_0.
#[inline(always)]
fn grounds<T: Real>(colour: T) -> (T, T) {
    let white = T::zero() - (T::zero() - colour).softplus();
    (white, white - colour)
}

/// One channel of a background: one number, or as many as there are pixels.
fn plane_of<T: Real>(background: &[T], channel: usize, colours: usize) -> Scratch<T> {
    let mut plane = Scratch::new(background.len() / colours);
    let channel = background.iter().skip(channel).step_by(colours);
    plane.iter_mut().zip(channel).for_each(|(to, from)| *to = *from);
    plane
}

/// Sums are formed side by side and then together, to keep the rounding of `f32` out of the result.
fn sum_in_lanes<T: Real>(numbers: &[T]) -> T {
    const LANES: usize = 64;
    let mut sums = [T::zero(); LANES];
    for numbers in numbers.chunks(LANES) {
        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += *number);
    }
    sums.iter().fold(T::zero(), |sum, s| sum + *s)
}

impl Mixing {
    /// (H·W, C)
    fn canvas(&self) -> (usize, usize) {
        let (h, w, channels) = self.placed.canvas();
        (h * w, channels - 1)
    }

    /// Draws the components of image `b`.
    fn planes<T: Real>(&self, b: usize, components: &[T]) -> Planes<T> {
        let (pixels, colours) = self.canvas();
        let mut planes = Planes::new(self.entities, colours + 1, pixels);
        let mut canvas = Scratch::new(self.placed.canvas_len());
        for (k, patch) in components.chunks_exact(self.placed.patch_len()).enumerate() {
            self.placed.draw(b * self.entities + k, patch, &mut canvas);
            for channel in 0..=colours {
                let strided = canvas.iter().skip(channel).step_by(colours + 1);
                planes.of_mut(channel, k).iter_mut().zip(strided).for_each(|(to, from)| *to = *from);
            }
        }
        planes
    }

    /// The logits of image `b`.
    #[allow(clippy::eq_op)] // the difference that is 0 for numbers
    fn image<T: Real>(&self, b: usize, components: &[T], background: &[T], logits: &mut [T]) {
        let (pixels, colours) = self.canvas();
        let planes = self.planes(b, components);
        let mut shares = Shares::new(self.entities, pixels);
        let mut plane = Scratch::<T>::new(pixels);
        for channel in 0..colours {
            shares.sum(&planes, channel, colours, &plane_of(background, channel, colours));
            let [high_white, sum_white, high_black, sum_black] = shares.parts().map(|part| &part[..pixels]);
            let out = &mut plane[..pixels];
            vectorise(
                #[inline(always)]
                || {
                    for i in 0..pixels {
                        let (white, black) = (sum_white[i], sum_black[i]);
                        // What is no number has no logarithm that says so: the last difference, otherwise 0, does.
                        out[i] = high_white[i] - high_black[i] + (white.ln() - black.ln()) + (white - white);
                    }
                },
            );
            logits.iter_mut().skip(channel).step_by(colours).zip(plane.iter()).for_each(|(to, from)| *to = *from);
        }
    }

    /// The gradients of image `b`'s components and, if it is wanted, background, given that of its logits.
    fn image_gradient<T: Real>(
        &self,
        b: usize,
        (components, background): (&[T], &[T]),
        gradient: &[T],
        (out, mut ground_out): (&mut [T], Option<&mut [T]>),
    ) {
        let (pixels, colours) = self.canvas();
        let planes = self.planes(b, components);
        let mut gradients = Planes::new(self.entities, colours + 1, pixels);
        (0..self.entities).for_each(|k| gradients.of_mut(colours, k).fill(T::zero()));
        let mut shares = Shares::new(self.entities, pixels);
        // What a share of white, or of black, is multiplied by: the gradient over the sum.
        let (mut of_white, mut of_black) = (Scratch::<T>::new(pixels), Scratch::<T>::new(pixels));
        let mut of_mask = Scratch::<T>::new(pixels);
        for channel in 0..colours {
            let ground = plane_of(background, channel, colours);
            shares.sum(&planes, channel, colours, &ground);
            let [high_white, sum_white, high_black, sum_black] = shares.parts();
            for (i, g) in gradient.iter().skip(channel).step_by(colours).enumerate() {
                (of_white[i], of_black[i]) = (*g / sum_white[i], *g / sum_black[i]);
            }
            let (high_white, high_black) = (&high_white[..pixels], &high_black[..pixels]);
            let (of_white, of_black) = (&of_white[..pixels], &of_black[..pixels]);
            for (k, a) in shares.white.chunks_exact(pixels).enumerate() {
                let (a, c) = (&a[..pixels], &planes.of(channel, k)[..pixels]);
                let (out, of_mask) = (&mut gradients.of_mut(channel, k)[..pixels], &mut of_mask[..pixels]);
                vectorise(
                    #[inline(always)]
                    || {
                        for i in 0..pixels {
                            let alpha = (a[i] - high_white[i]).exp() * of_white[i];
                            let beta = (a[i] - c[i] - high_black[i]).exp() * of_black[i];
                            let bright = c[i].sigmoid();
                            of_mask[i] = alpha - beta;
                            out[i] = alpha * (T::one() - bright) + beta * bright;
                        }
                    },
                );
                let masks = gradients.of_mut(colours, k);
                masks.iter_mut().zip(of_mask.iter()).for_each(|(sum, one)| *sum += *one);
            }
            if let Some(ground_out) = &mut ground_out {
                let of_ground = shares.gradient_of_ground(of_white, of_black);
                let out = ground_out.iter_mut().skip(channel).step_by(colours);
                match ground[..] {
                    [_] => out.for_each(|sum| *sum = sum_in_lanes(&of_ground)),
                    _ => out.zip(of_ground.iter()).for_each(|(to, from)| *to = *from),
                }
            }
        }
        for (k, out) in out.chunks_exact_mut(self.placed.patch_len()).enumerate() {
            out.fill(T::zero());
            for run in self.placed.runs(b * self.entities + k) {
                let first = run.canvas / (colours + 1);
                for channel in 0..=colours {
                    let plane = &gradients.of(channel, k)[first..];
                    let out = out[run.patch..][..run.length].iter_mut().skip(channel).step_by(colours + 1);
                    out.zip(plane).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

impl Kernel for Mixing {
    const NAME: &'static str = "mix";

    fn forward<T: Real>(&self, [components, background]: [&[T]; 2]) -> Result<(Vec<T>, Shape)> {
        let (pixels, colours) = self.canvas();
        let (h, w, _) = self.placed.canvas();
        let images = self.placed.count() / self.entities;
        let mut logits = vec![T::zero(); images * pixels * colours];
        let components = components.par_chunks(self.entities * self.placed.patch_len());
        logits
            .par_chunks_mut(pixels * colours)
            .zip(components.zip(background.par_chunks(self.ground_len)))
            .enumerate()
            .for_each(|(b, (logits, (components, background)))| self.image(b, components, background, logits));
        Ok((logits, (images, h, w, colours).into()))
    }

    fn backward<T: Real>(
        &self,
        [components, background]: [&[T]; 2],
        _: &[T],
        gradient: &[T],
        wanted: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let (pixels, colours) = self.canvas();
        let patches = self.entities * self.placed.patch_len();
        let mut out = vec![T::zero(); components.len()];
        let mut ground_out = wanted[1].then(|| vec![T::zero(); background.len()]);
        let mut grounds: Vec<_> = match &mut ground_out {
            Some(all) => all.chunks_mut(self.ground_len).map(Some).collect(),
            None => (0..background.len() / self.ground_len).map(|_| None).collect(),
        };
        let inputs = components.par_chunks(patches).zip(background.par_chunks(self.ground_len));
        let outputs = out.par_chunks_mut(patches).zip(grounds.par_iter_mut().map(Option::take));
        inputs
            .zip(outputs)
            .zip(gradient.par_chunks(pixels * colours))
            .enumerate()
            .for_each(|(b, ((inputs, outputs), gradient))| self.image_gradient(b, inputs, gradient, outputs));
        Ok([wanted[0].then_some(out), ground_out])
    }
}

#[cfg(test)]
mod tests {
    use super::super::agreement::{agree, any_patches, cases, uniform};
    use super::*;
    use candle_core::{DType, Device, Var};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(200))]

        #[test]
        fn kernel_and_reference_agree((k, [m, p, q, c], places) in any_patches(), flat: bool, seed: u64) {
            let (height, width) = if flat { (1, 1) } else { places.canvas };
            let components = uniform(&[m, p, q, c + 1], 6.0, seed).unwrap();
            let background = uniform(&[m / k, height, width, c], 6.0, seed ^ 1).unwrap();
            let reference = |x: &Tensor, background: &Tensor| reference(&place(x, &places)?, background, k);
            agree([components, background], |[x, b]| mix(x, b, k, &places), |[x, b]| reference(x, b))?;
        }
    }

    fn spread(a: &Tensor, b: &Tensor) -> Result<f64> {
        (a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar()
    }

    fn numbers(count: usize, step: usize) -> impl Iterator<Item = f64> {
        (0..count).map(move |i| ((i * step % 83) as f64 - 41.0) / 9.0)
    }

    /// The kernel against candle's operations, and both gradients of a weighted sum of each.
    fn compare(
        components: &Tensor,
        background: &Tensor,
        entities: usize,
        places: &Places,
        tolerance: f64,
    ) -> Result<()> {
        let (components, background) = (Var::from_tensor(components)?, Var::from_tensor(background)?);
        let ours = mix(&components, &background, entities, places)?;
        let theirs = reference(&place(&components, places)?, &background, entities)?;
        assert!(spread(&ours, &theirs)? < tolerance);
        let weights = Tensor::from_iter(numbers(ours.elem_count(), 31), &Device::Cpu)?;
        let weights = weights.reshape(ours.shape())?.to_dtype(ours.dtype())?;
        let gradients = [ours, theirs].map(|out| (out * &weights)?.sum_all()?.backward());
        let [ours, theirs] = gradients.map(|all| {
            let all = all.expect("a gradient");
            [&components, &background].map(|input| all.get(input.as_tensor()).expect("a gradient").clone())
        });
        for (a, b) in ours.iter().zip(&theirs) {
            assert!(spread(a, b)? < tolerance * weights.elem_count() as f64, "{}", spread(a, b)?);
        }
        Ok(())
    }

    #[test]
    fn the_logit_is_that_of_the_weighted_colours() -> Result<()> {
        // Two components of one pixel and two channels over one background.
        let [a, b, ground] = [[0.5, -1.0, 1.5], [2.0, 0.25, -0.5], [-2.0, 1.0, 0.0f64]];
        let components = Tensor::new(&[a, b], &Device::Cpu)?.reshape((2, 1, 1, 3))?;
        let background = Tensor::new(&ground[..2], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
        let logits =
            mix(&components, &background, 2, &Places::whole((1, 1), -16.0))?.flatten_all()?.to_vec1::<f64>()?;
        let total: f64 = [a, b, ground].iter().map(|part| part[2].exp()).sum();
        for (channel, logit) in logits.into_iter().enumerate() {
            let p: f64 = [a, b, ground].iter().map(|c| c[2].exp() / total / (1.0 + (-c[channel]).exp())).sum();
            assert!((logit - (p / (1.0 - p)).ln()).abs() < 1e-12);
        }
        Ok(())
    }

    #[test]
    fn kernel_and_reference_agree_wherever_the_patches_lie() -> Result<()> {
        let corners = vec![(0, 0), (1, 2), (-2, -1), (3, 4), (-9, 0), (0, 1)];
        let places = Places::at(&corners, (3, 4), (11, 9), -16.0, &Device::Cpu)?;
        for colours in [1, 3] {
            let count = 6 * 4 * 5 * (colours + 1);
            let components = Tensor::from_iter(numbers(count, 29), &Device::Cpu)?.reshape((6, 4, 5, colours + 1))?;
            for entities in [1, 3] {
                let grounds = |h: usize, w: usize| {
                    let images = 6 / entities;
                    let background = Tensor::from_iter(numbers(images * h * w * colours, 17), &Device::Cpu)?;
                    background.reshape((images, h, w, colours))
                };
                let whole = Places::whole((4, 5), -16.0);
                for (places, (h, w)) in [(&places, (11, 9)), (&whole, (4, 5))] {
                    for background in [grounds(1, 1)?, grounds(h, w)?] {
                        compare(&components, &background, entities, places, 1e-10)?;
                        let (components, background) =
                            (components.to_dtype(DType::F32)?, background.to_dtype(DType::F32)?);
                        compare(&components, &background, entities, places, 2e-5)?;
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let components = Tensor::zeros((4, 2, 2, 4), DType::F32, &Device::Cpu)?;
        let over = |images: usize, colours: usize, entities: usize| {
            let background = Tensor::zeros((images, 1, 1, colours), DType::F32, &Device::Cpu)?;
            mix(&components, &background, entities, &Places::whole((2, 2), 0.0))
        };
        let sized = |h: usize, w: usize| {
            let background = Tensor::zeros((2, h, w, 3), DType::F32, &Device::Cpu)?;
            mix(&components, &background, 2, &Places::whole((2, 2), 0.0))
        };
        assert!(sized(2, 2).is_ok());
        assert!(sized(2, 1).is_err() && sized(1, 2).is_err() && sized(4, 1).is_err());
        assert!(over(2, 3, 2).is_ok());
        assert!(over(2, 3, 3).is_err() && over(2, 4, 2).is_err() && over(3, 3, 1).is_err() && over(4, 3, 0).is_err());
        Ok(())
    }
}
