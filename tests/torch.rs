//! Losses, every gradient and ten Adam steps against PyTorch's.

use candle_core::{DType, Device, Result, Tensor};
use multi_entity_vae::config::ModelConfig;
use multi_entity_vae::layers::Extent;
use multi_entity_vae::model::{Model, Selection, Variables, Weights};
use multi_entity_vae::train::Adam;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// Written by `golden/torch.py`.
const GOLDEN: &str = include_str!("golden/torch.json");

/// Relative to the largest number of the same tensor; both sides compute in `f64`.
const TOLERANCE: f64 = 1e-8;

#[derive(Deserialize)]
struct Golden {
    rate: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    image: (usize, usize, usize),
    batch: usize,
    beta: f64,
    idle_beta: f64,
    location_charge: f64,
    model: ModelConfig,
    images: Vec<f64>,
    noise: Vec<f64>,
    cells: Vec<Vec<usize>>,
    loss: f64,
    losses: Vec<f64>,
    parameters: BTreeMap<String, Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    shape: Vec<usize>,
    start: Vec<f64>,
    gradient: Vec<f64>,
}

/// A case's model with its weights loaded, and what it is run on.
struct Loaded {
    model: Model,
    variables: Variables,
    images: Tensor,
    noise: Tensor,
    selection: Selection,
    weights: Weights,
}

impl Case {
    fn load(&self) -> Result<Loaded> {
        let (height, width, channels) = self.image;
        let extent = Extent::new(height, width, channels);
        self.model.validate(extent).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let variables = Variables::new(0);
        let model = Model::new(&self.model, extent, variables.builder(DType::F64, &Device::Cpu))?;
        let tensor =
            |p: &Parameter| -> Result<Tensor> { Tensor::from_slice(&p.start, p.shape.as_slice(), &Device::Cpu) };
        let weights = self.parameters.iter().map(|(name, p)| Ok((name.clone(), tensor(p)?)));
        // Refuses names and shapes that are not the model's own.
        variables.load(&weights.collect::<Result<HashMap<_, _>>>()?)?;
        let noise = (self.batch, self.model.entities, self.model.latent.dimensions());
        Ok(Loaded {
            model,
            variables,
            images: Tensor::from_slice(&self.images, (self.batch, height, width, channels), &Device::Cpu)?,
            noise: Tensor::from_slice(&self.noise, noise, &Device::Cpu)?,
            selection: Selection::trained(&self.model, 0),
            weights: Weights { beta: self.beta, idle_beta: self.idle_beta, location_charge: self.location_charge },
        })
    }
}

impl Loaded {
    fn loss(&self) -> Result<(Tensor, Vec<Vec<usize>>)> {
        let inference = self.model.forward(&self.images, &self.selection, Some(&self.noise))?;
        Ok((self.weights.loss(&inference, &self.images)?.total()?, inference.cells.lists()?))
    }
}

fn golden() -> Golden {
    let golden: Golden = serde_json::from_str(GOLDEN).expect("the golden file is valid");
    assert!(golden.cases.len() >= 7, "golden cases are missing");
    golden
}

#[test]
fn losses_and_gradients_match_pytorch() -> Result<()> {
    for case in golden().cases {
        let loaded = case.load()?;
        let (loss, cells) = loaded.loss()?;
        assert_eq!(cells, case.cells, "{}: kept cells", case.name);
        let gradients = loss.backward()?;
        let loss = loss.to_scalar::<f64>()?;
        assert!((loss - case.loss).abs() < TOLERANCE * case.loss.abs(), "{}: {loss} is not {}", case.name, case.loss);
        for (name, var) in loaded.variables.all() {
            let expected = &case.parameters[&name].gradient;
            let gradient =
                gradients.get(&var).expect("every variable has a gradient").flatten_all()?.to_vec1::<f64>()?;
            let scale = expected.iter().fold(0.0, |largest: f64, g| largest.max(g.abs()));
            for (i, (ours, theirs)) in gradient.iter().zip(expected).enumerate() {
                let error = (ours - theirs).abs();
                assert!(error < TOLERANCE * scale, "{}: {name}[{i}]: {ours} is not {theirs}", case.name);
            }
        }
    }
    Ok(())
}

#[test]
fn ten_steps_match_pytorch() -> Result<()> {
    let golden = golden();
    for case in golden.cases {
        let loaded = case.load()?;
        let mut adam = Adam::new(&loaded.variables)?;
        assert_eq!(case.losses.len(), 10);
        for (step, expected) in case.losses.iter().enumerate() {
            let (loss, _) = loaded.loss()?;
            let gradients = loss.backward()?;
            let loss = loss.to_scalar::<f64>()?;
            let error = (loss - expected).abs() / expected.abs();
            assert!(error < 1e-7, "{}, step {step}: {loss} is not {expected}", case.name);
            adam.step(&gradients, golden.rate, 1.0)?;
        }
        assert!(case.losses[9] < case.losses[0], "{} learns nothing", case.name);
    }
    Ok(())
}
