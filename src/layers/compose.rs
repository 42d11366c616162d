//! Components → logits: what every pixel of an image becomes where several components claim it.
//!
//! The three rules that work pixel by pixel, on logits l_1 … l_K:
//!
//! | rule | logit | derivative ∂l/∂l_k |
//! |---|---|---|
//! | [`Rule::Union`] | of 1 − Π(1 − p_k) | σ(l_k) / σ(l) |
//! | [`Rule::Sum`] | ∅ + Σ(l_k − ∅), counted from the logit ∅ of nothing | 1 |
//! | [`Rule::Max`] | max l_k | 1 where l_k = l (also for each of several), 0 elsewhere |
//!
//! The union: the odds of two variables of logits a and b combine as (1 + eᵃ)(1 + eᵇ) − 1 = eᵃ + eᵇ + eᵃ⁺ᵇ, so
//!
//! > logit(a ∪ b) = log(eᵃ + eᵇ + eᵃ⁺ᵇ),
//!
//! a log-sum-exp, finite for every pair of finite logits; K variables are combined one after the other.
//!
//! Components that are patches need not be drawn on canvases of their own first: [`Composition`] folds them into the image one by
//! one, and [`Stack::forward_composed`](super::Stack::forward_composed) does so while they are still in cache.

#[cfg(feature = "cuda")]
use super::gpu;
use super::op::{Kernel, Path, apply1};
use super::place::{Placed, Places, place};
use super::real::{Real, vectorise};
use super::scratch::Scratch;
use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// How the logits of several components become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Ink is where any component puts ink.
    Union,
    /// Evidence adds up.
    Sum,
    /// The strongest component decides.
    Max,
}

impl Rule {
    /// All of them, for tests.
    pub const ALL: [Self; 3] = [Self::Union, Self::Sum, Self::Max];
}

/// Components (B·K, P, Q, C), those of one image one after the other, at their places → logits (B, H, W, C).
pub fn compose(components: &Tensor, rule: Rule, entities: usize, places: &Places) -> Result<Tensor> {
    let dims = components.dims4()?;
    match Path::of(components) {
        Path::Cpu => match Composition::of(Placed::new(dims, places)?, rule, entities)? {
            composition if composition.is_identity() => Ok(components.clone()),
            composition => apply1(composition, components),
        },
        #[cfg(feature = "cuda")]
        Path::Gpu => gpu::compose(Composition::of(Placed::unread(dims, places)?, rule, entities)?, components),
        Path::Candle => {
            check(dims.0, entities)?;
            reference(&place(components, places)?, rule, entities, places.fill)
        }
    }
}

/// Components come K at a time.
fn check(components: usize, entities: usize) -> Result<()> {
    if entities == 0 || !components.is_multiple_of(entities) {
        bail!("{components} components cannot be shared out among images of {entities}");
    }
    Ok(())
}

/// The same of drawn components (B·K, H, W, C), on candle's operations.
fn reference(components: &Tensor, rule: Rule, entities: usize, nothing: f64) -> Result<Tensor> {
    let (m, h, w, c) = components.dims4()?;
    let components = components.reshape((m / entities, entities, h, w, c))?;
    match rule {
        Rule::Union => reference_union(&components),
        Rule::Sum => components.sum(1)? - nothing * (entities as f64 - 1.0),
        Rule::Max => components.max(1),
    }
}

fn reference_union(logits: &Tensor) -> Result<Tensor> {
    let mut all = logits.narrow(1, 0, 1)?.squeeze(1)?;
    for k in 1..logits.dim(1)? {
        let one = logits.narrow(1, k, 1)?.squeeze(1)?;
        let both = (&all + &one)?;
        let largest = all.maximum(&one)?.maximum(&both)?.detach();
        let shifted = |x: &Tensor| (x - &largest)?.exp();
        all = (((shifted(&all)? + shifted(&one)?)? + shifted(&both)?)?.log()? + &largest)?;
    }
    Ok(all)
}

/// Components at their places and the rule that makes images of them.
#[derive(Clone, Debug)]
pub(super) struct Composition {
    pub rule: Rule,
    /// K, components of one image.
    pub entities: usize,
    pub placed: Placed,
}

/// log(eᵃ + eᵇ + eᵃ⁺ᵇ): with the largest of the three exponents taken out, one term is 1, one e^−|low| and one
/// e^(low − high − low⁺), where low⁺ = max(low, 0).
#[inline(always)]
fn either<T: Real>(a: T, b: T) -> T {
    let high = a.larger(b);
    let low = if a > b { b } else { a };
    // Written so that NaN passes through instead of turning into 0.
    let low_positive = if low <= T::zero() { T::zero() } else { low };
    let terms = T::one() + (T::zero() - low.magnitude()).exp() + (low - high - low_positive).exp();
    high + low_positive + terms.ln()
}

/// `all[i] = rule(all[i], one[i])`
#[inline(always)]
fn fold<T: Real>(all: &mut [T], one: &[T], rule: impl Fn(T, T) -> T) {
    vectorise(
        #[inline(always)]
        || {
            for (all, one) in all.iter_mut().zip(one) {
                *all = rule(*all, *one);
            }
        },
    );
}

impl Composition {
    /// Placed components, `entities` to an image.
    pub fn of(placed: Placed, rule: Rule, entities: usize) -> Result<Self> {
        check(placed.count(), entities)?;
        Ok(Self { rule, entities, placed })
    }

    /// Whether images are components as they are.
    pub fn is_identity(&self) -> bool {
        self.entities == 1 && self.placed.is_whole()
    }

    /// (B, H, W, C)
    pub fn output(&self) -> Shape {
        let (h, w, c) = self.placed.canvas();
        (self.placed.count() / self.entities, h, w, c).into()
    }

    /// Numbers of one image.
    pub fn image_len(&self) -> usize {
        self.placed.canvas_len()
    }

    /// Numbers of all components of one image.
    pub fn components_len(&self) -> usize {
        self.entities * self.placed.patch_len()
    }

    /// Composes image `b` of its components.
    pub fn image<T: Real>(&self, b: usize, components: &[T], logits: &mut [T]) {
        let mut canvas = Scratch::new(if self.placed.is_whole() { 0 } else { self.image_len() });
        let nothing = self.placed.fill();
        for (k, patch) in components.chunks_exact(self.placed.patch_len()).enumerate() {
            let component: &[T] = if self.placed.is_whole() {
                patch
            } else {
                self.placed.draw(b * self.entities + k, patch, &mut canvas);
                &canvas
            };
            if k == 0 {
                logits.copy_from_slice(component);
                continue;
            }
            match self.rule {
                Rule::Union => fold(logits, component, either),
                Rule::Sum => fold(
                    logits,
                    component,
                    #[inline(always)]
                    |all, one| all + one - nothing,
                ),
                Rule::Max => fold(
                    logits,
                    component,
                    #[inline(always)]
                    |all, one| one.larger(all),
                ),
            }
        }
    }

    /// The gradient of image `b`'s components, given the one of its logits.
    pub fn image_gradient<T: Real>(&self, b: usize, components: &[T], logits: &[T], gradient: &[T], out: &mut [T]) {
        let shared = if self.rule == Rule::Union { Shared::of(logits, gradient) } else { Shared::none() };
        let patches =
            out.chunks_exact_mut(self.placed.patch_len()).zip(components.chunks_exact(self.placed.patch_len()));
        for (k, (out, patch)) in patches.enumerate() {
            if !self.placed.is_whole() {
                out.fill(T::zero());
            }
            vectorise(
                #[inline(always)]
                || {
                    for run in self.placed.runs(b * self.entities + k) {
                        let (out, patch) = (&mut out[run.patch..][..run.length], &patch[run.patch..][..run.length]);
                        let (gradient, logits) =
                            (&gradient[run.canvas..][..run.length], &logits[run.canvas..][..run.length]);
                        match self.rule {
                            Rule::Union => shared.divide(run.canvas, patch, out),
                            Rule::Sum => out.copy_from_slice(gradient),
                            Rule::Max => {
                                for ((o, g), (one, all)) in out.iter_mut().zip(gradient).zip(patch.iter().zip(logits)) {
                                    *o = if one == all { *g } else { T::zero() };
                                }
                            }
                        }
                    }
                },
            );
        }
    }
}

/// The parts of g · σ(l_k) / σ(l) that depend on the union l and its gradient g alone: with s = max(0, −l) it is
/// g (e^−s + e^(−l − s)) / (e^−s + e^(−l_k − s)), in which no exponent but the last can be positive, and that one only makes
/// the quotient vanish.
struct Shared<T: Real> {
    shift: Scratch<T>,
    /// e^−s
    scale: Scratch<T>,
    numerator: Scratch<T>,
}

impl<T: Real> Shared<T> {
    fn none() -> Self {
        Self { shift: Scratch::new(0), scale: Scratch::new(0), numerator: Scratch::new(0) }
    }

    fn of(union: &[T], gradient: &[T]) -> Self {
        let n = union.len();
        let (mut shift, mut scale, mut numerator) = (Scratch::new(n), Scratch::new(n), Scratch::new(n));
        let parts = shift.iter_mut().zip(scale.iter_mut()).zip(numerator.iter_mut());
        vectorise(
            #[inline(always)]
            || {
                for (((s, e), n), (l, g)) in parts.zip(union.iter().zip(gradient)) {
                    *s = (T::zero() - *l).larger(T::zero());
                    *e = (T::zero() - *s).exp();
                    *n = *g * (*e + (T::zero() - *l - *s).exp());
                }
            },
        );
        Self { shift, scale, numerator }
    }

    /// The gradient of a run of logits from pixel number `first` on.
    #[inline(always)]
    fn divide(&self, first: usize, logits: &[T], out: &mut [T]) {
        let n = out.len();
        let (shift, scale) = (&self.shift[first..][..n], &self.scale[first..][..n]);
        let numerator = &self.numerator[first..][..n];
        for i in 0..n {
            out[i] = numerator[i] / (scale[i] + (T::zero() - logits[i] - shift[i]).exp());
        }
    }
}

impl Kernel for Composition {
    const NAME: &'static str = "compose";

    fn forward<T: Real>(&self, [components, _]: [&[T]; 2]) -> Result<(Vec<T>, Shape)> {
        let mut logits = vec![T::zero(); self.output().elem_count()];
        let images = logits.par_chunks_mut(self.image_len()).zip(components.par_chunks(self.components_len()));
        images.enumerate().for_each(|(b, (logits, components))| self.image(b, components, logits));
        Ok((logits, self.output()))
    }

    fn backward<T: Real>(
        &self,
        [components, _]: [&[T]; 2],
        logits: &[T],
        gradient: &[T],
        _: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let mut out = vec![T::zero(); components.len()];
        let n = self.image_len();
        let images = out.par_chunks_mut(self.components_len()).zip(components.par_chunks(self.components_len()));
        images.zip(logits.par_chunks(n).zip(gradient.par_chunks(n))).enumerate().for_each(
            |(b, ((out, components), (logits, gradient)))| self.image_gradient(b, components, logits, gradient, out),
        );
        Ok([Some(out), None])
    }
}

#[cfg(test)]
mod tests {
    use super::super::agreement::{agree, any_patches, cases, uniform};
    use super::*;
    use candle_core::{DType, Device, Var};
    use proptest::prelude::*;
    use proptest::sample::select;

    proptest! {
        #![proptest_config(cases(200))]

        #[test]
        fn kernel_and_reference_agree((k, shape, places) in any_patches(), rule in select(&Rule::ALL[..]), seed: u64) {
            let reference = |x: &Tensor| reference(&place(x, &places)?, rule, k, places.fill);
            agree([uniform(&shape, 6.0, seed).unwrap()], |[x]| compose(x, rule, k, &places), |[x]| reference(x))?;
        }
    }

    fn spread(a: &Tensor, b: &Tensor) -> Result<f64> {
        (a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar()
    }

    /// Our composition against candle's, and the gradients of a weighted sum of each.
    fn compare(components: &Tensor, rule: Rule, entities: usize, places: &Places, tolerance: f64) -> Result<Tensor> {
        let components = Var::from_tensor(components)?;
        let ours = compose(&components, rule, entities, places)?;
        let theirs = reference(&place(&components, places)?, rule, entities, places.fill)?;
        assert!(spread(&ours, &theirs)? < tolerance, "{rule:?}");
        let weights = Tensor::arange(1f32, 1.0 + ours.elem_count() as f32, &Device::Cpu)?.to_dtype(ours.dtype())?;
        let weights = ((weights / ours.elem_count() as f64)? + 0.5)?.reshape(ours.shape())?;
        let gradient = |out: &Tensor| -> Result<Tensor> {
            Ok((out * &weights)?.sum_all()?.backward()?.get(&components).expect("a gradient").clone())
        };
        let (a, b) = (gradient(&ours)?, gradient(&theirs)?);
        assert!(spread(&a, &b)? < tolerance, "gradient of {rule:?}");
        Ok(a)
    }

    #[test]
    fn union_is_one_minus_the_product_of_complements() -> Result<()> {
        let logits = [[-3.0, 0.5, 2.0f64], [1.0, -0.25, -7.0], [0.0, 0.0, 4.0]];
        let components = Tensor::new(&[logits], &Device::Cpu)?.reshape((3, 1, 3, 1))?;
        let union = compose(&components, Rule::Union, 3, &Places::whole((1, 3), -16.0))?;
        for (i, union) in union.flatten_all()?.to_vec1::<f64>()?.into_iter().enumerate() {
            let none: f64 = logits.iter().map(|l| 1.0 - 1.0 / (1.0 + (-l[i]).exp())).product();
            assert!((1.0 / (1.0 + (-union).exp()) - (1.0 - none)).abs() < 1e-12);
        }
        Ok(())
    }

    #[test]
    fn kernel_and_reference_agree_up_to_extreme_logits() -> Result<()> {
        let values = [-120.0, -30.0, -16.0, -1.0, 0.0, 0.5, 16.0, 30.0, 120.0f32];
        let mut all = Vec::new();
        for k in 0..3 {
            all.extend((0..729).map(|i| values[[i % 9, i / 9 % 9, i / 81][k]]));
        }
        let components = Tensor::from_vec(all, (3, 27, 27, 1), &Device::Cpu)?;
        let gradient = compare(&components, Rule::Union, 3, &Places::whole((27, 27), -16.0), 2e-4)?;
        assert!(gradient.flatten_all()?.to_vec1::<f32>()?.iter().all(|g| (0.0..=1.5 + 1e-4).contains(g)));
        Ok(())
    }

    #[test]
    fn patches_compose_as_if_each_were_drawn_on_a_canvas_of_its_own() -> Result<()> {
        let corners = vec![(0, 0), (1, 2), (-2, -1), (3, 4), (-9, 0), (0, 1)];
        let places = Places::at(&corners, (3, 4), (5, 6), -16.0, &Device::Cpu)?;
        let numbers = (0..6 * 4 * 5 * 2).map(|i| ((i * 29 % 83) as f64 - 41.0) / 9.0);
        let components = Tensor::from_iter(numbers, &Device::Cpu)?.reshape((6, 4, 5, 2))?;
        for rule in Rule::ALL {
            compare(&components, rule, 3, &places, 1e-10)?;
            compare(&components, rule, 1, &places, 1e-10)?;
            compare(&components, rule, 2, &Places::whole((4, 5), -16.0), 1e-10)?;
            // Only a part of patches as large as the canvas.
            compare(&components, rule, 2, &Places { patch: (3, 3), ..Places::whole((4, 5), -16.0) }, 1e-10)?;
        }
        Ok(())
    }

    #[test]
    fn components_that_do_not_fit_are_refused() -> Result<()> {
        let components = Tensor::zeros((5, 2, 2, 1), DType::F32, &Device::Cpu)?;
        for entities in [0, 2] {
            assert!(compose(&components, Rule::Sum, entities, &Places::whole((2, 2), 0.0)).is_err());
        }
        let four = Places::at(&[(0, 0); 4], (2, 2), (2, 2), 0.0, &Device::Cpu)?;
        assert!(compose(&components, Rule::Sum, 5, &four).is_err());
        Ok(())
    }
}
