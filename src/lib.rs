//! Autoencoder, VAE, β-VAE and multi-entity VAE as one model.
//!
//! A variational autoencoder describes an image by one vector z. A scene of several objects is no single vector: the same digit
//! at two places, or two digits instead of one, are far apart for it. The multi-entity VAE (Nash et al. 2017) describes a scene
//! by several such vectors, one for each object, without ever being told what or where the objects are. A grid of posteriors is
//! laid over the image; those that carry the most information, in nats of KL divergence from the prior, are kept; one decoder
//! draws each of them alone; and what it drew is put together again. To explain a scene well and briefly, the model has to take
//! it apart into its objects.
//!
//! # The figure
//!
//! ```text
//! image (B,H,W,C) ─ encoder ─> candidates q(z_n|x) (B,N,D) ─ selector ─> K entities of largest KL ─ sample ─> z (B,K,D)
//!      z ─ shared decoder ─> K components ─ compositor ─> pixel distribution p(x|z) ─ likelihood ─> −log p(x|z) + β Σ_k KL_k
//! ```
//!
//! | letter | meaning |
//! |---|---|
//! | B | batch |
//! | H×W, C | image, its channels; tensors are channels-last |
//! | N | candidates: the cells of the encoder's grid |
//! | K | entities: the candidates that are kept |
//! | D | dimensions of a latent |
//! | P | side of the patch that a glimpse decoder draws |
//!
//! *Candidates* are the N posteriors, *entities* the K kept ones, *components* their decoded images. *Objects* are what is really
//! in a *scene*; no loss sees them. [`model::Model::forward`] is the figure in code, a line for each arrow.
//!
//! # The equations
//!
//! All quantities are in nats per image: sums over pixels and latent dimensions, means over the batch alone.
//!
//! **The bound** (Kingma & Welling 2014; Rezende et al. 2014). With the prior p(z) = N(0, I) for each entity and the posterior
//! q(z_k|x) = N(μ_k, diag σ_k²),
//!
//! ```text
//! log p(x) ≥ ELBO = E_q[log p(x|z)] − Σ_k KL_k − log C(N, K)
//! KL_k = KL(q(z_k|x) ‖ N(0, I)) = ½ Σ_d (σ² + μ² − log σ² − 1)
//! z_k = μ_k + σ_k ⊙ ε,   ε ~ N(0, I)
//! ```
//!
//! The expectation is estimated with one sample; with S of them and their importance weights the bound is closer
//! ([`model::importance`], [`evaluate::LikelihoodBound`]), and can be trained on ([`config::Objective`]). log σ² is kept within ±10 ([`model::LOG_VAR_LIMIT`]).
//!
//! **Location.** A decoder that is told the cells of its entities (a glimpse, or one with coordinates) is told something that
//! z does not say. Under a uniform prior over sets of K of the N cells, and a selector that is a function of the image, saying
//! which set it is costs log C(N, K) nats. They are part of every ELBO reported here ([`evaluate::Report::location_nats`]). They
//! are constant in the weights, so the loss leaves them out; they are 0 where N = K, hence for every model of one posterior,
//! and for a canvas decoder, which must find positions in z.
//!
//! **The loss** (Higgins et al. 2017 for β):
//!
//! ```text
//! loss = −log p(x|z) + β Σ_k KL_k + β_idle Σ_n KL_n + c Σ_k (1 − e^(−KL_k / 2))
//! ```
//!
//! β multiplies the KL of the K kept candidates (k) and nothing else. The last two terms are regularisers for training (ours, not
//! the paper's), off where β_idle = c = 0, and never part of a reported ELBO. *Idle KL* is that of the N − K candidates that were
//! not kept (n). Nothing is decoded from them, so nothing else in the loss restrains what they say, and a ridge of high KL can
//! run over an object, on which a second entity finds a place. For the default it makes little difference, for noise and lines
//! a large one ([`guide::decomposition`], [`config::recipes`]). c is the *location charge*: a smooth price, up to c nats, on each
//! entity that is in use, so that a second one does not share the first one's object. Learning rate, β, β_idle, c, λ, the selector's radius and overlap,
//! and the samples of an importance-weighted bound may each be a function of the step ([`train::Schedule`]).
//!
//! **Resynthesis** (ours; off where λ = 0). Entities that were found in one place are cut out of their images and put down in other
//! cells, beside entities of other images. In these scenes it is known which cells should speak and what each of them should draw, and
//!
//! ```text
//! λ ( Σ_k (−log p(x_k|z_k) + β KL_k) + s Σ_n KL_n )
//! ```
//!
//! is added to the loss: x_k is the new scene with nothing in it but entity k, of which later ones may cover a part, z_k a sample of the
//! posterior at the cell where it was put, n runs over all the other cells, and s is the
//! [silence](config::TrainingConfig::silence) that is asked of them. It is a sleep phase (Hinton et al. 1995) on real pixels: whole
//! objects come together by chance in any way, torn or joined ones never again in the way that made them look like one.
//!
//! **Refinement** (Cremer et al. 2018, Kim et al. 2018; in use, not in training). Where one pass of the encoder is not enough, the posterior
//! means of the present entities can be [refined](model::Model::refined) by gradient steps on the bound, taken at the means, of the very
//! image.
//!
//! **Selection** (Nash et al. 2017). The K candidates of largest KL are kept: information is needed where the objects are and
//! not where there is only background. Neighbouring cells see the same object, so a kept candidate can forbid its neighbours
//! within a radius of cells (ours); radius 0 is plain top-K. And where two cells further apart would draw one object twice, what the
//! candidates draw tells it: with a limit on the ink that two have in common
//! ([`SelectorConfig::overlap`](config::SelectorConfig::overlap), ours), 2 K candidates are drawn at their means and
//!
//! ```text
//! Σ min(a, b) > overlap · min(Σ a, Σ b)        (sums over pixels; of masks, where the colours are alike)
//! ```
//!
//! leaves out the lower-ranked one, as long as there are others. Indices carry no gradient.
//!
//! **Composition.** Components are logits. With the default, the probabilistic union, a pixel has ink where any entity puts ink:
//!
//! ```text
//! p = 1 − Π_k (1 − p_k)
//! logit(a ∪ b) = log(eᵃ + eᵇ + eᵃ⁺ᵇ)
//! ```
//!
//! The second line is the first for two components in logits; applied one component after the other it is finite for all finite
//! logits. Sum of logits, maximum, softmax mixture with masks and a render network are the others
//! ([`config::CompositorConfig`]).
//!
//! **Likelihood.** Bernoulli, log p = Σ x l − log(1 + eˡ) for logits l, or Gaussian with mean sigmoid(l) and a fixed deviation.
//! On grey-scale pixels the Bernoulli is the customary cross-entropy and no probability; binarise the pixels
//! ([`config::Binarisation`]) where nats are to be compared with the literature. Every report names its binarisation.
//!
//! **Presence and count.** K may exceed the number of objects: what is left over has little KL and draws nothing. Which entities
//! are there is decided by description length, without labels and without a threshold to tune:
//!
//! ```text
//! entity k is present  ⇔  log p(x | all) − log p(x | all but k) > KL_k + log N  and  KL_k ≥ log N
//! ```
//!
//! at the posterior means (a point latent has no KL, so there the first condition decides alone). Entities are taken out one at a time, the least worthwhile first, until each one left pays for its
//! code (KL_k) and its place (log N); the number left is the count ([`evaluate::presence()`]).
//!
//! # Four names
//!
//! There is one [`model::Model`] and no `if` for its special cases; the four names are points of one configuration
//! ([`config::Preset`]).
//!
//! | preset | N | K | latent | a component covers |
//! |---|---|---|---|---|
//! | `autoencoder` | 1 | 1 | `Point`: a deterministic code, no KL | the whole image |
//! | `vae` | 1 | 1 | `Gaussian`, β = 1 | the whole image |
//! | `beta-vae` | 1 | 1 | `Gaussian`, β = 2 | the whole image |
//! | `multi-entity` | one for each cell of a grid | 4 | `Gaussian`, β = 1 | a P×P patch at the entity's cell |
//!
//! Other scenes than the default's, and disturbed ones, have recipes of their own ([`config::Preset::config_for`]); what was tried for them is told in
//! [`config::recipes`].
//!
//! β lives inside `Gaussian`, so that an autoencoder with a β cannot be written. An independent VAE of some 30 lines in
//! `tests/oracle.rs` gives the same loss and gradients as the first three.
//!
//! # What the source says otherwise
//!
//! The project follows a graduation thesis of 2018, *Variational autoencoders* (in Serbian), which walks from the autoencoder to
//! the multi-entity VAE. Three of its statements are corrected here:
//!
//! - It writes the KL as Σ (σ² + μ² − log σ − 1). It is ½ Σ (σ² + μ² − log σ² − 1).
//! - Its listing uses one tensor as log σ when it samples and as log σ² in the KL, and it takes the KL's *mean* over the latent
//!   dimensions beside a cross-entropy *summed* over pixels. Once the former is mended, β here = its β / D: with its two
//!   latent dimensions, its β = 1 and β = 2 are ½ and 1 on the ELBO's scale. The `vae` and `beta-vae` presets have its sizes with β = 1
//!   and 2 on the ELBO's scale; `model.latent.beta=0.5` gives its first experiment.
//! - It calls β = 0 an autoencoder. While noise is still injected it is not; ours has a latent without noise.
//!
//! The paper publishes no grid, latent size, β or any other number, so nothing here is its configuration. It drops the spatial
//! structure after the selection, decodes whole images and merges feature maps with a final network. That can be written too
//! (*paper-style*: encoder coordinates, `canvas`, `render`); the default instead places patches and takes their union.
//!
//! # In code
//!
//! Train a few steps and take a scene apart (add `candle-core` for tensors and devices):
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use multi_entity_vae::config::{Config, Preset};
//! use multi_entity_vae::evaluate::Decomposition;
//! use multi_entity_vae::run::{ScenesOf, open_digits};
//! use multi_entity_vae::scene::Split;
//! use multi_entity_vae::train::{Flow, Trainer, train};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = ["training.steps=5".to_string(), "training.batch=4".to_string()];
//! let config = Config::resolve(Preset::MultiEntity, None, &settings)?;
//! let digits = open_digits(&config.data.digits)?;
//! let scenes = ScenesOf::open(&config.data, digits.clone(), Split::Train, config.training.seed)?;
//! let image = scenes.image();
//! config.validate(image)?;
//!
//! let batch = config.training.batch;
//! let mut batches = scenes.batches(&config, 0, 1)?;
//! let mut trainer = Trainer::new(config.clone(), image, &Device::Cpu)?;
//! train::<Box<dyn std::error::Error>>(
//!     &mut trainer,
//!     |_step| {
//!         let pixels = batches.next().ok_or("the scenes ended")?.images;
//!         Ok(Tensor::from_vec(pixels, (batch, image.height, image.width, image.channels), &Device::Cpu)?)
//!     },
//!     |_trainer, report| {
//!         println!("step {}: −log p {:.1} + KL {:.1} nats", report.step, report.reconstruction_nats, report.kl_nats);
//!         Ok(Flow::Continue)
//!     },
//! )?;
//!
//! // The first held-out scene, taken apart.
//! let held_out = ScenesOf::open(&config.data, digits, Split::Test, 0)?;
//! let scene = held_out.example(0)?;
//! let images = Tensor::from_vec(scene.image, (1, image.height, image.width, image.channels), &Device::Cpu)?;
//! let parts = Decomposition::of(trainer.model(), &images, &trainer.selection())?;
//! assert_eq!(parts.present[0].len(), config.model.entities);
//! assert_eq!(parts.masks[0].len(), image.height * image.width);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/decompose.rs` goes on to draw the sheet, `examples/one_model.rs` trains the four names on the same digits,
//! `examples/thesis.rs` draws the decoded plane and the scatter plot of two β.
//!
//! # Threads and memory of a program
//!
//! Kernels run on rayon's pool (`RAYON_NUM_THREADS`, or a pool of your own around the calls). The few operations left to candle would
//! wake threads of candle's own, which wait spinning on the same cores: start programs that train with the environment variable
//! `CANDLE_NUM_THREADS=1`, as `mevae` sets it for itself. An allocator that keeps large buffers (mimalloc) saves clearing them at
//! every step; `src/main.rs` shows both.
//!
//! # Reading order
//!
//! 1. [`config`]: every choice there is, as enums that own their parameters; the presets.
//! 2. [`model`]: the figure; then encoder, posterior, selector, decoder, compositor, likelihood and objective, a short file each.
//! 3. [`train`]: the loop on one screen, schedules, Adam.
//! 4. [`scene`]: recipes of scenes, the batches made from them, and NumPy archives.
//! 5. [`evaluate`]: presence, count, segmentation, bounds, [disentanglement](evaluate::disentanglement) and the report; [`generate`]:
//!    what new scenes are sampled from, and chosen latents.
//! 6. [`layers`]: the kernels that training spends its time in.
//! 7. [`run`]: run folders and checkpoints; [`picture`]: sheets and curves; [`files`] and [`random`]: whole files, named streams;
//!    [`device`]: the CPU or a GPU.
//!
//! [`guide`] is the manual: commands, keys, scores, and what was measured.
//!
//! Randomness, device and number type are arguments everywhere; nothing is ambient. The same seed gives the same weights, bit for
//! bit, on one machine with any number of threads.
//!
//! # Sources
//!
//! - D. P. Kingma, M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
//! - D. J. Rezende, S. Mohamed, D. Wierstra, "Stochastic Backpropagation and Approximate Inference in Deep Generative Models",
//!   ICML 2014.
//! - I. Higgins, L. Matthey, A. Pal, C. Burgess, X. Glorot, M. Botvinick, S. Mohamed, A. Lerchner, "beta-VAE: Learning Basic
//!   Visual Concepts with a Constrained Variational Framework", ICLR 2017.
//! - C. Nash, S. M. A. Eslami, C. Burgess, I. Higgins, D. Zoran, T. Weber, P. Battaglia, "The Multi-Entity Variational
//!   Autoencoder", NIPS 2017 workshop on Learning Disentangled Representations.
//! - Y. Burda, R. Grosse, R. Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
//! - J. Carpenter, P. Clifford, P. Fearnhead, "Improved particle filter for nonlinear problems", IEE Proceedings – Radar, Sonar and
//!   Navigation 146(1), 1999 (systematic resampling).
//! - G. Tucker, D. Lawson, S. Gu, C. J. Maddison, "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives", ICLR 2019.

pub mod config;
pub mod device;
pub mod evaluate;
pub mod files;
pub mod generate;
pub mod guide;
pub mod layers;
pub mod model;
pub mod picture;
pub mod random;
pub mod run;
pub mod scene;
pub mod train;

/// The program in the README has to compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
