//! The manual: what the program offers, and everything that was measured with it. `README.md` is the short form.
//!
//! - [`commands`]: verbs of `mevae` and their options, the files of a run, sweeps
//! - [`configuration`]: presets and keys
//! - [`scenes`]: recipes of scenes and their options, NumPy archives
//! - [`scores`]: presence and count, what `evaluation.json` says, refinement, resynthesis, kinds of errors
//! - [`decomposition`]: how well scenes are taken apart, seed by seed; larger scenes, errors, probes, ablation
//! - [`study`]: from the autoencoder to the β-VAE
//! - [`likelihoods`]: bounds of log p(x), IWAE and DReG, β against published points
//! - [`disentanglement`]: MIG, DCI, FactorVAE score
//! - [`speed`]: on CPUs, beside PyTorch, TensorFlow and JAX
//! - [`gpu`]: on NVIDIA GPUs, beside PyTorch
//! - [`reliability`]: what is promised, and the test that holds it

/// A page: a file that names other pages as ``[`scores`]`` and ends by saying which files they are. Here they are modules: of two definitions
/// of one link the first holds.
macro_rules! page {
    ($name:ident, $text:literal) => {
        #[doc = "[`commands`]: commands"]
        #[doc = "[`configuration`]: configuration"]
        #[doc = "[`scenes`]: scenes"]
        #[doc = "[`scores`]: scores"]
        #[doc = "[`decomposition`]: decomposition"]
        #[doc = "[`study`]: study"]
        #[doc = "[`likelihoods`]: likelihoods"]
        #[doc = "[`disentanglement`]: disentanglement"]
        #[doc = "[`speed`]: speed"]
        #[doc = "[`gpu`]: gpu"]
        #[doc = "[`reliability`]: reliability"]
        #[doc = "[`layers`]: crate::layers"]
        #[doc = ""]
        #[doc = include_str!($text)]
        pub mod $name {}
    };
}

page!(commands, "commands.md");
page!(configuration, "configuration.md");
page!(scenes, "scenes.md");
page!(scores, "scores.md");
page!(decomposition, "decomposition.md");
page!(study, "study.md");
page!(likelihoods, "likelihoods.md");
page!(disentanglement, "disentanglement.md");
page!(speed, "speed.md");
page!(gpu, "gpu.md");
page!(reliability, "reliability.md");
