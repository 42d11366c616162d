//! `mevae evaluate`

mod entities;
mod worst;

use super::common;
use super::compute::Compute;
use super::scene_flags::SceneFlags;
use super::usage;
use candle_core::Device;
use entities::{At, Entities};
use multi_entity_vae::config::{Latent, MOST_SCENES};
use multi_entity_vae::evaluate::{Evaluation, EvaluationError, LikelihoodBound, Report, SceneOutcome};
use multi_entity_vae::model::{Model, Selection};
use multi_entity_vae::run::{DataError, LoadedRun, ScenesOf};
use multi_entity_vae::scene::Split;
use std::path::PathBuf;
use worst::Worst;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a trained run
    run: PathBuf,
    /// Recipe (digits, air, survey, single, sprite, sprites, tetrominoes) or .npz file [default: the run's own]
    #[arg(long)]
    scenes: Option<String>,
    #[command(flatten)]
    options: SceneFlags,
    /// train, validation, test or general; a file has none [default: test]
    #[arg(long, value_parser = common::parse_split)]
    split: Option<Split>,
    /// Number of scenes [default: the run's training.evaluation_scenes]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MOST_SCENES))]
    count: Option<u64>,
    /// Keep this many entities instead of the run's own K: a number, several as in 4,6,8, or a range as in 4..12
    #[arg(long, value_name = "K")]
    entities: Option<Entities>,
    /// Draw this many of the scenes with the most errors to --out
    #[arg(long, value_name = "N", requires = "out", value_parser = clap::value_parser!(u64).range(1..=64))]
    worst: Option<u64>,
    /// The PNG of --worst
    #[arg(long, requires = "worst")]
    out: Option<PathBuf>,
    /// Also bound log p(x) with this many samples of the latents for each image, as Burda et al. (2016)
    #[arg(long, value_name = "S", conflicts_with = "refine", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    importance_samples: Option<u64>,
    #[command(flatten)]
    refinement: common::Refinement,
    /// Seed of the scenes and of the posterior noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also write the scores as JSON (- for standard output instead of the table)
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    args.out.as_deref().map_or(Ok(()), common::must_be_png)?;
    let device = args.compute.open()?;
    let run = common::load_run(&args.run, &device)?;
    let named = args.scenes.as_deref();
    let (scenes, run) = common::scenes_and_model(run, named, &args.options, args.split, args.seed, &device)?;
    let all = match &args.entities {
        None => vec![run.config.model.entities],
        Some(entities) => entities.values().to_vec(),
    };
    let several = all.len() > 1;
    if several && args.worst.is_some() {
        return Err(usage("--worst shows scenes as one K sees them: give --entities one number"));
    }
    if args.importance_samples.is_some() && matches!(run.config.model.latent, Latent::Point { .. }) {
        return Err(usage(
            "--importance-samples needs a Gaussian latent: this run's is a point, without p(z) and q(z|x)",
        ));
    }
    let selections = all.iter().map(|k| common::selection(&run, args.entities.as_ref().map(|_| *k), args.seed));
    let selections = selections.collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(most) = all.iter().max() {
        common::warn_of_few(*most, &scenes);
    }
    let mut worst = Worst::new(args.worst.unwrap_or(0) as usize);
    let mut reports = Vec::new();
    for selection in selections {
        let entities = selection.entities;
        let report = args.graded(&run, &scenes, selection, &device, |scene, outcome| worst.see(scene, outcome))?;
        if let Some(out) = &args.out {
            worst.draw(&run, &scenes, selection, args.refinement.steps(), &device, out)?;
        }
        reports.push(At { entities, report });
    }
    let (step, name) = (run.progress.step, scenes.source.name());
    let (folder, seed) = (args.run.display(), args.seed);
    let split = scenes.split().map_or(String::new(), |split| format!("{split} "));
    let title = format!("{folder} after {step} steps; {split}scenes of {name}, seed {seed}");
    match &reports[..] {
        [At { report, .. }] => args.show(report, format!("{title}\n{report}"), report),
        all => args.show(&all, format!("{title}\n\n{}", entities::table(all)), &all[0].report),
    }
}

impl Args {
    /// The scores with one selection.
    fn graded(
        &self,
        run: &LoadedRun,
        scenes: &ScenesOf,
        selection: Selection,
        device: &Device,
        each: impl FnMut(u64, &SceneOutcome),
    ) -> anyhow::Result<Report> {
        let (model, seed) = (&run.model, self.seed);
        let count = self.count.unwrap_or(run.config.training.evaluation_scenes);
        let (importance_samples, refinement) = (self.importance_samples, self.refinement.steps());
        let grading = Grading { model, scenes, count, selection, refinement, importance_samples, seed, device };
        Ok(grading.report(|| false, each)?)
    }

    /// The scores as a file or as a table, or as both, with what could not be scored.
    fn show(&self, scores: &impl serde::Serialize, table: String, of: &Report) -> anyhow::Result<()> {
        // The file first: what cannot be written is no success, whatever the table says.
        if let Some(path) = &self.json {
            common::write_json(path, scores)?;
        }
        let sheet = self.out.as_ref().map(|out| format!("{} shows the scenes with the most errors", out.display()));
        // Standard output is the scores alone where they were asked for there.
        if self.json.as_deref() == Some(std::path::Path::new("-")) {
            missing_truth(of).lines().chain(sheet.as_deref()).for_each(common::tell);
            return Ok(());
        }
        common::print_all(format!("{table}\n{}", missing_truth(of)).as_bytes())?;
        sheet.map_or(Ok(()), common::say)
    }
}

/// A model, and the scenes that it is graded on.
pub struct Grading<'a> {
    pub model: &'a Model,
    pub scenes: &'a ScenesOf,
    /// The first so many of the scenes.
    pub count: u64,
    pub selection: Selection,
    /// Steps by which posterior means are refined.
    pub refinement: usize,
    /// Samples of the bound on log p(x), if it is wanted.
    pub importance_samples: Option<u64>,
    /// Of the posterior noise.
    pub seed: u64,
    pub device: &'a Device,
}

impl Grading<'_> {
    /// The scores, unless it is told to stop; every scene's outcome is shown as it comes.
    pub fn report(&self, stop: impl Fn() -> bool, each: impl FnMut(u64, &SceneOutcome)) -> Result<Report, Failure> {
        let Self { model, scenes, count, selection, refinement, importance_samples, seed, device } = *self;
        let examples =
            || scenes.examples(count).map(|example| if stop() { Err(Failure::Stopped) } else { Ok(example?) });
        let batch = common::images_at_once(model, &selection);
        let evaluation = Evaluation { selection, batch, seed, refinement };
        let mut report = evaluation.report_each::<Failure>(model, examples(), device, each)?;
        report.binarisation = Some(scenes.binarisation());
        report.refinement_steps = (refinement > 0).then_some(refinement as u64);
        if let Some(samples) = importance_samples {
            let bound = LikelihoodBound { selection, samples, seed }.report(model, examples(), device)?;
            report.importance_samples = Some(samples);
            report.log_likelihood_bound_nats = bound.nats;
            report.log_likelihood_bound_sem = bound.sem;
        }
        Ok(report)
    }
}

/// Scenes or scores.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error("stopped")]
    Stopped,
}

/// What could not be scored for want of ground truth.
fn missing_truth(report: &Report) -> String {
    let mut missing = Vec::new();
    if report.count_accuracy.is_none() {
        missing.push("counts, so no count accuracy");
    }
    if report.ari_all.is_none() {
        missing.push("masks, so no ARI, AMI, IoU and F1");
    }
    match missing.is_empty() {
        true => String::new(),
        false => format!("These scenes have no {}.\n", missing.join("; no ")),
    }
}
