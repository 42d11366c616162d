//! The trainable variables of a model: seeded, named, sorted.

use crate::random;
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::Rng;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// Named variables, in the order of their names.
///
/// A candle `VarMap` draws its initial values from a generator that cannot be seeded and lists its variables in an order
/// that changes from run to run. Here a variable's initial value depends on the seed and its name alone, not on the
/// order in which layers are built, nor on the device.
#[derive(Clone, Debug)]
pub struct Variables {
    seed: u64,
    variables: Arc<Mutex<BTreeMap<String, Var>>>,
}

impl Variables {
    /// No variables yet; they come into being as layers ask for them.
    pub fn new(seed: u64) -> Self {
        Self { seed, variables: Arc::default() }
    }

    /// What layers are built from: `Model::new(&config, variables.builder(DType::F32, &device))`.
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// All variables with their names, sorted by name.
    pub fn all(&self) -> Vec<(String, Var)> {
        let variables = self.variables.lock().unwrap_or_else(|e| e.into_inner());
        variables.iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// The same variables outside any graph, sharing their memory: a model built from this follows the training without costing a
    /// backward pass.
    pub fn frozen(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        let tensors = self.all().into_iter().map(|(name, var)| (name, var.as_tensor().detach())).collect();
        VarBuilder::from_tensors(tensors, dtype, device)
    }

    /// How many numbers there are to train.
    pub fn count(&self) -> usize {
        self.all().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Replaces every variable's value. Names and shapes must agree exactly: a missing, foreign or misshapen tensor is an error
    /// and nothing is changed.
    pub fn load(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let all = self.all();
        for (name, var) in &all {
            match tensors.get(name) {
                None => bail!("no tensor \"{name}\""),
                Some(t) if t.shape() != var.shape() => {
                    bail!("tensor \"{name}\" has shape {:?} where the model has {:?}", t.shape(), var.shape())
                }
                Some(_) => {}
            }
        }
        if let Some(name) = tensors.keys().find(|name| !all.iter().any(|(n, _)| n == *name)) {
            bail!("the model has no tensor \"{name}\"");
        }
        all.iter().try_for_each(|(name, var)| var.set(&tensors[name].to_dtype(var.dtype())?.to_device(var.device())?))
    }

    fn initial(&self, shape: &Shape, name: &str, init: Init) -> Result<Vec<f32>> {
        let mut values = vec![0f32; shape.elem_count()];
        let mut rng = random::stream(self.seed, name, 0);
        match init {
            Init::Const(c) => values.fill(c as f32),
            Init::Uniform { lo, up } => values.fill_with(|| (lo + (up - lo) * rng.random::<f64>()) as f32),
            Init::Randn { mean, stdev } => {
                random::normals(&mut rng, &mut values);
                values.iter_mut().for_each(|v| *v = (mean + stdev * f64::from(*v)) as f32);
            }
            other => bail!("variable \"{name}\" asks for the initialisation {other:?}, which is not offered"),
        }
        Ok(values)
    }
}

impl SimpleBackend for Variables {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        if let Some(var) = self.variables.lock().unwrap_or_else(|e| e.into_inner()).get(name) {
            if var.shape() != &shape {
                bail!("variable \"{name}\" is used with two shapes, {:?} and {shape:?}", var.shape());
            }
            return Ok(var.as_tensor().clone());
        }
        let values = Tensor::from_vec(self.initial(&shape, name, init)?, shape, &Device::Cpu)?;
        let var = Var::from_tensor(&values.to_dtype(dtype)?.to_device(device)?)?;
        let tensor = var.as_tensor().clone();
        self.variables.lock().unwrap_or_else(|e| e.into_inner()).insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        match self.variables.lock().unwrap_or_else(|e| e.into_inner()).get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => bail!("no variable \"{name}\""),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.variables.lock().unwrap_or_else(|e| e.into_inner()).contains_key(name)
    }
}
