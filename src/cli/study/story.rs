//! The page: what was trained and measured, in words. Every figure in it is one of [`Measured`]; what is said of figures is
//! decided by them.

use super::measure::{ACTIVE, Measured};
use super::page::{Block, Page};
use super::plan::{Plan, Planned};
use super::{Options, draw};
use serde::Serialize;

/// A study that is trained and measured.
pub struct Study<'a> {
    pub options: &'a Options,
    pub command: String,
    pub plan: &'a Plan,
    /// In the order of [`Plan::models`].
    pub measured: Vec<Measured>,
}

/// What `study.json` holds.
#[derive(Serialize)]
pub struct Figures<'a> {
    program: &'static str,
    command: &'a str,
    full: bool,
    seed: u64,
    /// All figures are means over test digits; nats are per image, both terms of the ELBO summed.
    unit: &'static str,
    models: &'a [Measured],
}

impl Study<'_> {
    pub fn figures(&self) -> Figures<'_> {
        Figures {
            program: concat!("mevae ", env!("CARGO_PKG_VERSION")),
            command: &self.command,
            full: self.options.full,
            seed: self.options.seed,
            unit: "nats per image, summed over pixels and latent dimensions",
            models: &self.measured,
        }
    }

    fn group<'b>(&'b self, models: &'b [Planned]) -> impl Iterator<Item = (&'b Planned, &'b Measured)> {
        models.iter().filter_map(|model| Some((model, self.measured.iter().find(|m| m.name == model.name)?)))
    }

    fn autoencoders(&self) -> impl Iterator<Item = (&Planned, &Measured)> {
        self.group(&self.plan.autoencoders)
    }

    fn plane(&self) -> impl Iterator<Item = (&Planned, &Measured)> {
        self.group(&self.plan.plane)
    }

    pub fn sweep(&self) -> impl Iterator<Item = (&Planned, &Measured)> {
        self.group(&self.plan.sweep)
    }

    pub fn dimensions_of_the_sweep(&self) -> usize {
        self.plan.sweep.first().map_or(0, |model| model.config.model.latent.dimensions())
    }

    pub fn autoencoder_of_the_sweep(&self) -> Option<&Planned> {
        self.plan.sweep.iter().find(|model| model.beta().is_none())
    }

    pub fn vae_of_the_sweep(&self) -> Option<&Planned> {
        self.plan.sweep.iter().find(|model| model.beta() == Some(1.0))
    }

    /// The model of the sweep with the largest β that still tells something of a digit: of more only blur is left.
    pub fn most_beta(&self) -> Option<&Planned> {
        let tells = |m: &Measured| m.beta.is_some_and(|beta| beta > 1.0) && m.active_dimensions.is_some_and(|n| n > 1);
        self.sweep().filter(|(_, m)| tells(m)).map(|(model, _)| model).last()
    }
}

pub fn page(study: &Study<'_>) -> Page {
    let mut blocks = introduction(study);
    blocks.extend(autoencoders(study));
    blocks.extend(plane(study));
    blocks.extend(sweep(study));
    blocks.extend(new_digits(study));
    blocks.extend(entities());
    blocks.extend(slips(study));
    blocks.extend(again(study));
    Page { title: "From the autoencoder to the β-VAE".into(), blocks }
}

fn introduction(study: &Study<'_>) -> Vec<Block> {
    let models = study.measured.len();
    let digits = study.measured.first().map_or(0, |m| m.test_digits);
    let seconds: f64 = study.measured.iter().map(|m| m.seconds_of_training).sum();
    let epochs = study.measured.iter().map(|m| m.epochs);
    let (fewest, most) = (epochs.clone().fold(f64::INFINITY, f64::min), epochs.fold(0.0, f64::max));
    let epochs = if fewest == most { number(most) } else { format!("{} to {}", number(fewest), number(most)) };
    vec![
        Block::Text(format!(
            "{models} models were trained on MNIST digits, each for {epochs} epochs, in {} of training in all, and measured on \
             {digits} test digits that none of them had seen. Pictures, words and figures on this page were made by one command:",
            duration(seconds)
        )),
        Block::Code(study.command.clone()),
        Block::Text(
            "All costs are in nats per image, summed over pixels and over latent dimensions. `−log p(x|z)` says how badly the \
             pixels are described once the latent z is known, the KL how much z has to say, and their sum, −ELBO, bounds what an \
             image costs altogether. The digits are grey: on them the Bernoulli likelihood is the customary cross-entropy and \
             no probability, and even a perfect copy costs something."
                .into(),
        ),
    ]
}

fn autoencoders(study: &Study<'_>) -> Vec<Block> {
    let mut blocks = vec![
        Block::Heading("The autoencoder".into()),
        Block::Text(
            "An encoder squeezes a digit of 784 pixels into a few numbers, a decoder draws it from them again. Nothing is asked \
             of the numbers but that they suffice."
                .into(),
        ),
    ];
    let row = |m: &Measured| {
        vec![m.title.clone(), m.parameters.to_string(), number(m.epochs), nats(m.reconstruction_nats), error(m.mse)]
    };
    blocks.push(Block::Table {
        head: strings(["model", "parameters", "epochs", "−log p(x|z)", "squared error per pixel"]),
        rows: study.autoencoders().map(|(_, m)| row(m)).collect(),
    });
    let all: Vec<_> = study.autoencoders().collect();
    if let [(_, first), others @ ..] = all.as_slice() {
        let compared = others.iter().filter_map(|(_, m)| {
            let gain = first.reconstruction_nats? - m.reconstruction_nats?;
            let how = if gain > 0.0 { "better" } else { "worse" };
            Some(format!("the {} does {how} by {:.2} nats per digit", m.title, gain.abs()))
        });
        let compared = compared.collect::<Vec<_>>().join(", ");
        blocks.push(Block::Text(format!("Beside the {}, {compared}.", first.title)));
    }
    blocks.extend(study.autoencoders().map(|(model, m)| Block::Figure {
        file: draw::reconstructions(model),
        caption: format!("Test digits above their reconstructions by the {}.", m.title),
    }));
    blocks
}

fn plane(study: &Study<'_>) -> Vec<Block> {
    let mut blocks = vec![
        Block::Heading("The variational autoencoder and β".into()),
        Block::Text(
            "The VAE's encoder says of each latent a mean μ and a deviation σ, and the decoder is given a sample z = μ + σ ε. \
             What it says is charged by its KL from the prior N(0, 1), ½ Σ (σ² + μ² − log σ² − 1), so that latents of digits \
             come to fill the prior, and new digits can be drawn from it. The β-VAE charges β times as much: the loss is \
             −log p(x|z) + β KL. β = 1 is the VAE."
                .into(),
        ),
        Block::Text(
            "Here z has two dimensions, so that all of it can be seen: what the decoder draws for every z, and where the \
             encoder puts the test digits."
                .into(),
        ),
    ];
    let row = |m: &Measured| {
        vec![
            m.title.clone(),
            m.beta_of_the_thesis.map_or("–".into(), number),
            nats(m.reconstruction_nats),
            nats(m.kl_nats),
            nats(m.negative_elbo_nats),
            m.neighbour_of_the_same_class.map_or("–".into(), percent),
        ]
    };
    blocks.push(Block::Table {
        head: strings(["model", "the thesis' β", "−log p(x|z)", "KL", "−ELBO", "nearest neighbour of the same class"]),
        rows: study.plane().map(|(_, m)| row(m)).collect(),
    });
    let all: Vec<_> = study.plane().map(|(_, m)| m).collect();
    if let [first, .., last] = all.as_slice() {
        let (from, to) = (first.beta.map_or("–".into(), number), last.beta.map_or("–".into(), number));
        blocks.push(Block::Text(format!(
            "From β = {from} to β = {to} the KL {}, and −log p(x|z) {}.{}",
            change(first.kl_nats, last.kl_nats),
            change(first.reconstruction_nats, last.reconstruction_nats),
            first.neighbour_by_chance.map_or(String::new(), |chance| format!(
                " No class was ever shown in training; the last column says how often a test digit's nearest neighbour in the \
                 plane is of its own class all the same. By chance it would be {}.",
                percent(chance)
            )),
        )));
        blocks.extend(not_at_the_best(&all).map(Block::Text));
    }
    for (model, m) in study.plane() {
        let beta = m.beta.map_or("–".into(), number);
        blocks.push(Block::Figure {
            file: draw::manifold(model),
            caption: format!(
                "What the decoder draws over the plane of latents, at quantiles of the prior, for β = {beta}."
            ),
        });
        blocks.push(Block::Figure {
            file: draw::scatter(model),
            caption: format!(
                "Where the encoder puts {} test digits, coloured by class, for β = {beta}.",
                m.test_digits
            ),
        });
    }
    blocks
}

fn sweep(study: &Study<'_>) -> Vec<Block> {
    let d = study.dimensions_of_the_sweep();
    let row = |m: &Measured| {
        vec![
            m.beta.map_or("autoencoder".into(), |beta| format!("β = {}", number(beta))),
            nats(m.reconstruction_nats),
            nats(m.kl_nats),
            nats(m.negative_elbo_nats),
            m.active_dimensions.map_or("–".into(), |n| n.to_string()),
            error(m.mse),
        ]
    };
    let mut blocks = vec![
        Block::Heading("From sharp to blurred".into()),
        Block::Text(format!(
            "The same net with {d} latent dimensions, first as an autoencoder, then with rising β. A dimension counts as active \
             if its mean KL is more than {ACTIVE} nats."
        )),
        Block::Table {
            head: strings(["", "−log p(x|z)", "KL", "−ELBO", "active dimensions", "squared error per pixel"]),
            rows: study.sweep().map(|(_, m)| row(m)).collect(),
        },
    ];
    let with_beta: Vec<_> = study.sweep().map(|(_, m)| m).filter(|m| m.beta.is_some()).collect();
    if let [first, .., last] = with_beta.as_slice() {
        let betas = |m: &Measured| m.beta.map_or("–".into(), number);
        let active = |m: &Measured| m.active_dimensions.unwrap_or(0);
        let mut text = format!(
            "From β = {} to β = {} the KL {}, −log p(x|z) {}, and of {d} dimensions {} and {} are active.",
            betas(first),
            betas(last),
            change(first.kl_nats, last.kl_nats),
            change(first.reconstruction_nats, last.reconstruction_nats),
            active(first),
            active(last),
        );
        let finite = with_beta.iter().filter_map(|m| Some((m.beta?, m.negative_elbo_nats?)));
        if let Some((beta, least)) = finite.min_by(|a, b| a.1.total_cmp(&b.1)) {
            text += &format!(" −ELBO is least, {least:.2} nats, at β = {}", number(beta));
            text += match beta == 1.0 {
                true => ", the β with which it is what training minimises.",
                false => ", although training minimises it with β = 1 alone.",
            };
        }
        blocks.push(Block::Text(text));
        blocks.extend(not_at_the_best(&with_beta).map(Block::Text));
    }
    blocks.push(Block::Figure {
        file: draw::RATE_DISTORTION.into(),
        caption: "What is said of a digit (rate) against what is then still wrong with it (distortion).".into(),
    });
    blocks.push(Block::Figure {
        file: draw::STRIP.into(),
        caption: "Test digits and their reconstructions, at the posterior means.".into(),
    });
    for model in [study.vae_of_the_sweep(), study.most_beta()].into_iter().flatten() {
        let beta = model.beta().map_or("–".into(), number);
        blocks.push(Block::Figure {
            file: draw::kl(model),
            caption: format!("What each latent dimension tells, for β = {beta}."),
        });
    }
    blocks
}

fn new_digits(study: &Study<'_>) -> Vec<Block> {
    let mut blocks = vec![
        Block::Heading("New digits, and digits in between".into()),
        Block::Text(
            "With a prior, new digits are drawn by sampling z from it and decoding: z ~ N(0, I), then the mean of p(x|z). An \
             autoencoder has no prior to sample from. A straight line between two latents shows what lies between two digits."
                .into(),
        ),
    ];
    for model in [study.vae_of_the_sweep(), study.most_beta()].into_iter().flatten() {
        let beta = model.beta().map_or("–".into(), number);
        let caption = format!("Digits from the prior, for β = {beta}.");
        blocks.push(Block::Figure { file: draw::samples(model), caption });
    }
    for model in [study.autoencoder_of_the_sweep(), study.vae_of_the_sweep()].into_iter().flatten() {
        let of = model.beta().map_or("the autoencoder".into(), |beta| format!("β = {}", number(beta)));
        let caption = format!("From one test digit to another, for {of}.");
        blocks.push(Block::Figure { file: draw::interpolation(model), caption });
    }
    blocks
}

fn entities() -> Vec<Block> {
    vec![
        Block::Heading("Several objects".into()),
        Block::Text(
            "All of these models have one latent for the whole image. With several digits in an image it would have to say all \
             of them at once. The multi-entity VAE lets every place of the image propose an object, keeps those of largest KL, \
             decodes each alone by the same decoder, and merges what they draw. It is the same program with another preset, and \
             the default:"
                .into(),
        ),
        Block::Code("mevae train".into()),
        Block::Text(
            "It ends with a sheet that shows image, KL map, entities and merged image. The project's README has its results."
                .into(),
        ),
    ]
}

fn slips(study: &Study<'_>) -> Vec<Block> {
    let mapped = study
        .plane()
        .filter_map(|(_, m)| Some(format!("{} there is {} here", number(m.beta_of_the_thesis?), number(m.beta?))));
    let mapped = mapped.collect::<Vec<_>>().join(", ");
    let d = study.plane().next().map_or(0, |(_, m)| m.latent_dimensions);
    vec![
        Block::Heading("What the thesis says otherwise".into()),
        Block::Text(
            "The study follows a graduation thesis of 2018, “Variational autoencoders” (in Serbian). Three of its statements are \
             corrected:"
                .into(),
        ),
        Block::List(vec![
            "It writes the KL as Σ (σ² + μ² − log σ − 1). It is ½ Σ (σ² + μ² − log σ² − 1), in nats.".into(),
            format!(
                "Its listing uses one tensor as log σ when it samples and as log σ² in the KL, and takes the KL's mean over \
                 latent dimensions beside a cross-entropy summed over pixels. Once the former is mended, β here = its β / \
                 number of latent dimensions: with {d}, β = {mapped}. Every picture here names β on the ELBO's scale."
            ),
            "It calls β = 0 an autoencoder. While noise is still injected it is not; the autoencoders here have a code without \
             noise."
                .into(),
        ]),
    ]
}

fn again(study: &Study<'_>) -> Vec<Block> {
    let commands: Vec<_> = study.measured.iter().map(|m| m.command.as_str()).collect();
    vec![
        Block::Heading("To do it again".into()),
        Block::Text(
            "Every model is a run of its own under `runs/`, which `mevae plot`, `mevae evaluate` and `mevae generate` take. The \
             same seed gives the same figures on the same machine, whatever the number of threads. All figures on this page, and \
             more, are in `study.json`. One by one the models are trained by:"
                .into(),
        ),
        Block::Code(commands.join("\n")),
    ]
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).to_vec()
}

/// "falls from 25.31 to 3.20 nats", or how else it changes.
fn change(from: Option<f64>, to: Option<f64>) -> String {
    let (Some(from), Some(to)) = (from, to) else { return "is not known".into() };
    let how = match to.total_cmp(&from) {
        std::cmp::Ordering::Less => "falls",
        std::cmp::Ordering::Greater => "rises",
        std::cmp::Ordering::Equal => return format!("stays at {from:.2} nats"),
    };
    format!("{how} from {from:.2} to {to:.2} nats")
}

/// Where rate or distortion go the wrong way as β rises, which at the minimum of the loss they cannot: of two minima, each is the
/// better one at its own β, so that the one of larger β has no more KL and no less −log p(x|z).
fn not_at_the_best(models: &[&Measured]) -> Option<String> {
    let wrong = |pair: &&[&Measured]| {
        let rises = |a: Option<f64>, b: Option<f64>| a.zip(b).is_some_and(|(a, b)| b > a);
        let [a, b] = pair else { return false };
        rises(a.kl_nats, b.kl_nats) || rises(b.reconstruction_nats, a.reconstruction_nats)
    };
    let between = |pair: &[&Measured]| Some(format!("β = {} and {}", number(pair[0].beta?), number(pair[1].beta?)));
    let places: Vec<_> = models.windows(2).filter(wrong).filter_map(between).collect();
    (!places.is_empty()).then(|| {
        format!(
            "At the minimum of the loss the KL cannot rise with β, nor −log p(x|z) fall. Between {} one of them does: there the \
             way that training still had to go, or that from training to test digits, is longer than what β changes.",
            places.join(", and between ")
        )
    })
}

fn nats(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.2}"))
}

fn error(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.4}"))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A number without decimals that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn duration(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} seconds") } else { format!("{:.1} minutes", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(beta: f64, reconstruction: f64, kl: f64) -> Measured {
        Measured {
            name: String::new(),
            title: String::new(),
            command: String::new(),
            beta: Some(beta),
            beta_of_the_thesis: None,
            latent_dimensions: 2,
            parameters: 0,
            steps: 0,
            epochs: 0.0,
            seconds_of_training: 0.0,
            test_digits: 1,
            reconstruction_nats: Some(reconstruction),
            kl_nats: Some(kl),
            negative_elbo_nats: Some(reconstruction + kl),
            mse: None,
            kl_nats_of_dimensions: vec![],
            active_dimensions: None,
            neighbour_of_the_same_class: None,
            neighbour_by_chance: None,
        }
    }

    #[test]
    fn what_theory_forbids_is_named_where_it_happens() {
        let told = |models: &[Measured]| not_at_the_best(&models.iter().collect::<Vec<_>>());
        assert_eq!(told(&[measured(0.5, 90.0, 20.0), measured(1.0, 95.0, 17.0), measured(2.0, 95.0, 17.0)]), None);
        let models = [measured(0.5, 90.0, 20.0), measured(1.0, 95.0, 17.0), measured(2.0, 94.0, 13.0)];
        let text = told(&models).unwrap();
        assert!(text.contains("Between β = 1 and 2 one of them does"), "{text}");
        let models = [measured(0.5, 90.0, 20.0), measured(1.0, 95.0, 21.0), measured(2.0, 94.0, 13.0)];
        assert!(told(&models).unwrap().contains("Between β = 0.5 and 1, and between β = 1 and 2 one"));
        assert_eq!(told(&models[..1]), None);
    }

    #[test]
    fn words_follow_the_figures() {
        assert_eq!(change(Some(2.0), Some(1.0)), "falls from 2.00 to 1.00 nats");
        assert_eq!(change(Some(1.0), Some(2.0)), "rises from 1.00 to 2.00 nats");
        assert_eq!(change(Some(1.0), Some(1.0)), "stays at 1.00 nats");
        assert_eq!(change(None, Some(1.0)), "is not known");
        assert_eq!((number(0.5), number(16.0), number(100.0)), ("0.5".into(), "16".into(), "100".into()));
        assert_eq!((duration(61.0), duration(600.0)), ("61 seconds".into(), "10.0 minutes".into()));
    }
}
