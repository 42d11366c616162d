//! `mevae evaluate`

use super::common;
use super::usage;
use multi_entity_vae::config::{Latent, MOST_SCENES};
use multi_entity_vae::device::Choice;
use multi_entity_vae::evaluate::{Evaluation, EvaluationError, LikelihoodBound, Report};
use multi_entity_vae::model::{Model, Selection};
use multi_entity_vae::run::{DataError, ScenesOf};
use multi_entity_vae::scene::Split;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a trained run
    run: PathBuf,
    /// Recipe (digits, air, survey, single, sprite, sprites, tetrominoes) or .npz file [default: the run's own]
    #[arg(long)]
    scenes: Option<String>,
    /// train, validation, test or general
    #[arg(long, default_value = "test", value_parser = common::parse_split)]
    split: Split,
    /// Number of scenes [default: the run's training.evaluation_scenes]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MOST_SCENES))]
    count: Option<u64>,
    /// Keep this many entities instead of the run's own K
    #[arg(long)]
    entities: Option<usize>,
    /// Also bound log p(x) with this many samples of the latents for each image, as Burda et al. (2016)
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    importance_samples: Option<u64>,
    /// Seed of the scenes and of the posterior noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// CPU threads [default: all]; the result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// Also write the scores as JSON (- for standard output instead of the table)
    #[arg(long)]
    json: Option<PathBuf>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: Choice,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    common::use_threads(args.threads)?;
    let device = common::open_device(args.device, false)?;
    let run = common::load_run(&args.run, &device)?;
    let selection = common::selection(&run, args.entities, args.seed)?;
    let scenes = common::scenes_for(&run, args.scenes.as_deref(), args.split, args.seed)?;
    let count = args.count.unwrap_or(run.config.training.evaluation_scenes);
    if args.importance_samples.is_some() && matches!(run.config.model.latent, Latent::Point { .. }) {
        return Err(usage(
            "--importance-samples needs a Gaussian latent: this run's is a point, without p(z) and q(z|x)",
        ));
    }
    let mut report = report(&run.model, &scenes, count, selection, args.seed, &device, || false)?;
    if let Some(samples) = args.importance_samples {
        let examples = scenes.examples(count).map(|example| example.map_err(Failure::from));
        let bound = LikelihoodBound { selection, samples, seed: args.seed }.report(&run.model, examples, &device)?;
        report.importance_samples = Some(samples);
        report.log_likelihood_bound_nats = bound.nats;
        report.log_likelihood_bound_sem = bound.sem;
    }
    // The file first: what cannot be written is no success, whatever the table says.
    if let Some(path) = &args.json {
        common::write_json(path, &report)?;
    }
    match args.json.as_deref() == Some(std::path::Path::new("-")) {
        true => missing_truth(&report).lines().for_each(common::tell),
        false => common::print_all(format!("{report}\n{}", missing_truth(&report)).as_bytes())?,
    }
    Ok(())
}

/// Grades a model on the first `count` scenes, unless it is told to stop.
pub fn report(
    model: &Model,
    scenes: &ScenesOf,
    count: u64,
    selection: Selection,
    seed: u64,
    device: &candle_core::Device,
    stop: impl Fn() -> bool,
) -> Result<Report, Failure> {
    let go_on = |example| if stop() { Err(Failure::Stopped) } else { Ok(example?) };
    let examples = scenes.examples(count).map(go_on);
    let batch = common::images_at_once(model, selection.entities);
    let report = Evaluation { selection, batch, seed }.report::<Failure>(model, examples, device)?;
    Ok(Report { binarisation: Some(scenes.binarisation()), ..report })
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
