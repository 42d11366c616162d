//! The operations on the twin against this folder's CPU kernels: values and gradients.

use super::twin;
use super::{StepNumbers, adam, bernoulli, compose, forward, gather, kl, objective, sample, select};
use crate::layers::compose::Composition;
use crate::layers::place::Placed;
use crate::layers::{Activation, Deposit, Extent, LayerSpec, Places, Rule, Stack, bernoulli_log_prob};
use crate::layers::{gather as gather_on_cpu, gaussian_kl, gaussian_sample};
use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::VarBuilder;

/// Numbers that look like noise, in ±1.
fn numbers(shape: impl Into<candle_core::Shape>, salt: usize) -> Result<Tensor> {
    let shape = shape.into();
    let number = |i: usize| ((i + salt) * 7919 % 2003) as f32 / 1001.0 - 1.0;
    Tensor::from_iter((0..shape.elem_count()).map(number), &Device::Cpu)?.reshape(shape)
}

/// The largest difference, relative to the largest number.
fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    assert_eq!(a.shape(), b.shape());
    let largest = |x: &Tensor| x.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    Ok(largest(&(a - b)?)? / largest(b)?.max(1e-6))
}

/// Two outputs, and the gradients of a weighted sum of each with respect to `variables`.
fn agree(ours: &Tensor, theirs: &Tensor, variables: &[Tensor], what: &str) -> Result<()> {
    const TOLERANCE: f32 = 2e-5;
    assert!(difference(ours, theirs)? < TOLERANCE, "{what}");
    let weights = numbers(ours.shape(), 17)?;
    let gradients = |y: &Tensor| (y * &weights)?.sum_all()?.backward();
    let (ours, theirs) = (gradients(ours)?, gradients(theirs)?);
    for (i, variable) in variables.iter().enumerate() {
        let (a, b) = (ours.get(variable).expect("a gradient"), theirs.get(variable).expect("a gradient"));
        assert!(difference(a, b)? < TOLERANCE, "{what}: gradient {i}, {}", difference(a, b)?);
    }
    Ok(())
}

/// A stack of such layers on both machines.
fn compare(input: Extent, specs: &[(LayerSpec, Activation)], images: usize) -> Result<()> {
    // Variables under any name, all different.
    let named = Named::default();
    let stack = Stack::new(input, specs, VarBuilder::from_backend(Box::new(named.clone()), DType::F32, Device::Cpu))?;
    let x = Var::from_tensor(&numbers((images, input.height, input.width, input.channels), 5)?)?;
    let ours = forward(stack.shared_layers(), None, stack.output(), &x)?;
    let variables: Vec<Tensor> = [x.as_tensor().clone()].into_iter().chain(named.all()).collect();
    agree(&ours, &stack.forward(&x)?, &variables, &format!("{specs:?} over {input}"))?;
    // Data want no gradient, and get none.
    let data = x.detach();
    let ours = forward(stack.shared_layers(), None, stack.output(), &data)?;
    agree(&ours, &stack.forward(&data)?, &named.all(), &format!("{specs:?} over data of {input}"))
}

/// Variables that start as unequal numbers.
#[derive(Clone, Default)]
struct Named(std::sync::Arc<std::sync::Mutex<Vec<Tensor>>>);

impl Named {
    fn all(&self) -> Vec<Tensor> {
        self.0.lock().unwrap().clone()
    }
}

impl candle_nn::var_builder::SimpleBackend for Named {
    fn get(&self, s: candle_core::Shape, _: &str, _: candle_nn::Init, _: DType, _: &Device) -> Result<Tensor> {
        let mut all = self.0.lock().unwrap();
        let variable = Var::from_tensor(&(numbers(s, 101 * all.len())? * 0.3)?)?.into_inner();
        all.push(variable.clone());
        Ok(variable)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[test]
fn layers_agree_with_the_cpu() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let input = Extent::new(7, 6, 4);
    for activation in Activation::ALL {
        compare(input, &[(LayerSpec::Dense(5), activation)], 3)?;
        for (kernel, stride) in [(1, 1), (3, 1), (4, 2), (5, 3), (2, 3)] {
            compare(input, &[(LayerSpec::Convolution { channels: 5, kernel, stride }, activation)], 3)?;
            compare(input, &[(LayerSpec::Upconvolution { channels: 4, kernel, stride }, activation)], 3)?;
        }
    }
    // Without columns: tiles of all widths, more rows than one, and more channels.
    for (inputs, channels, kernel) in [(4, 32, 3), (12, 48, 2), (4, 36, 1), (8, 100, 3), (16, 4, 5)] {
        let input = Extent::new(5, 7, inputs);
        compare(input, &[(LayerSpec::Convolution { channels, kernel, stride: 1 }, Activation::Tanh)], 4)?;
    }
    // Channels that do not come four at a time, and layers behind each other.
    let specs = [
        (LayerSpec::Convolution { channels: 3, kernel: 4, stride: 2 }, Activation::Relu),
        (LayerSpec::Dense(24), Activation::Tanh),
        (LayerSpec::Reshape(Extent::new(2, 3, 4)), Activation::Identity),
        (LayerSpec::Upconvolution { channels: 1, kernel: 4, stride: 2 }, Activation::Sigmoid),
    ];
    compare(Extent::new(8, 5, 1), &specs, 70)
}

#[test]
fn compositions_agree_with_the_cpu() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let corners = vec![(0, 0), (1, 2), (-2, -1), (3, 4), (-9, 0), (0, 1)];
    let places = Places::at(&corners, (3, 4), (5, 6), -16.0, &Device::Cpu)?;
    for scale in [3.0, 120.0] {
        let components = Var::from_tensor(&(numbers((6, 4, 5, 2), 3)? * scale)?)?;
        for rule in Rule::ALL {
            for (entities, places) in [(3, places.clone()), (1, places.clone()), (2, Places::whole((4, 5), -16.0))] {
                let composition = Composition::of(Placed::new(components.dims4()?, &places)?, rule, entities)?;
                let ours = compose(composition, &components)?;
                let theirs = crate::layers::compose(&components, rule, entities, &places)?;
                let what = format!("{rule:?} of {entities}, logits up to {scale}");
                agree(&ours, &theirs, &[components.as_tensor().clone()], &what)?;
            }
        }
    }
    Ok(())
}

#[test]
fn likelihoods_agree_with_the_cpu() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    for scale in [4.0, 120.0] {
        let logits = Var::from_tensor(&(numbers((3, 9, 11, 2), 3)? * scale)?)?;
        let targets = numbers((3, 9, 11, 2), 8)?.abs()?;
        let (ours, theirs) = (bernoulli(&logits, &targets)?, bernoulli_log_prob(&logits, &targets)?);
        agree(&ours, &theirs, &[logits.as_tensor().clone()], &format!("logits up to {scale}"))?;
    }
    Ok(())
}

#[test]
fn gradients_on_a_deposit_are_those_of_the_graph() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let specs = [
        (LayerSpec::Convolution { channels: 3, kernel: 3, stride: 2 }, Activation::Relu),
        (LayerSpec::Dense(4), Activation::Tanh),
    ];
    let named = Named::default();
    let stack = Stack::new(
        Extent::new(5, 4, 2),
        &specs,
        VarBuilder::from_backend(Box::new(named.clone()), DType::F32, Device::Cpu),
    )?;
    let x = numbers((3, 5, 4, 2), 5)?;
    let on_gpu =
        |deposit: Option<&Deposit>| forward(stack.shared_layers(), deposit, stack.output(), &x)?.sqr()?.sum_all();
    let deposit = Deposit::default();
    let through_links = on_gpu(None)?.backward()?;
    // Used twice: what each use leaves is added up.
    let twice = deposit.backward(&(on_gpu(Some(&deposit))? + on_gpu(Some(&deposit))?)?)?;
    let on_cpu = deposit.backward(&stack.on_deposit(&deposit).forward(&x)?.sqr()?.sum_all()?)?;
    for variable in named.all() {
        let expected = stack.forward(&x)?.sqr()?.sum_all()?.backward()?.get(&variable).expect("a gradient").clone();
        let of = |store: &candle_core::backprop::GradStore| store.get(&variable).expect("a gradient").clone();
        assert!(difference(&of(&through_links), &expected)? < 2e-5);
        assert!(difference(&of(&twice), &(&expected * 2.0)?)? < 2e-5);
        assert_eq!(difference(&of(&on_cpu), &expected)?, 0.0);
    }
    Ok(())
}

#[test]
fn posteriors_agree_with_the_cpu() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    const LIMIT: f64 = 10.0;
    for (images, candidates, dimensions) in [(3, 7, 5), (2, 300, 1)] {
        // Some log-variances beyond the limit.
        let posteriors = Var::from_tensor(&(numbers((images, candidates, 2 * dimensions), 3)? * 11.0)?)?;
        let variables = [posteriors.as_tensor().clone()];
        agree(&kl(&posteriors, LIMIT)?, &gaussian_kl(&posteriors, LIMIT)?, &variables, "KL")?;
        let cells: Vec<f32> = (0..images).flat_map(|i| [6.0 - i as f32, 0.0, 3.0, 2.0]).collect();
        let cells = Tensor::from_vec(cells, (images, 4), &Device::Cpu)?;
        let (ours, theirs) = (gather(&posteriors, &cells)?, gather_on_cpu(&posteriors, &cells)?);
        agree(&ours, &theirs, &variables, "gather")?;
        let noise = numbers((images, 4, dimensions), 8)?;
        let (ours, theirs) = (sample(&ours, &noise, LIMIT)?, gaussian_sample(&theirs, &noise, LIMIT)?);
        agree(&ours, &theirs, &variables, "sample")?;
        let shared = numbers((1, candidates, 2), 4)?;
        assert_eq!(difference(&gather(&shared, &cells)?, &gather_on_cpu(&shared, &cells)?)?, 0.0);
    }
    Ok(())
}

/// One cell after the other: the best of those that are far from all before it, or else of those that are left.
fn best_cells(scores: &[f32], entities: usize, radius: usize, columns: usize) -> Vec<f32> {
    let mut kept: Vec<usize> = Vec::new();
    while kept.len() < entities {
        let far =
            |a: usize, b: usize| (a / columns).abs_diff(b / columns).max((a % columns).abs_diff(b % columns)) > radius;
        let left = || (0..scores.len()).filter(|cell| !kept.contains(cell));
        let best = |cells: &mut dyn Iterator<Item = usize>| {
            let score = |cell: usize| if scores[cell].is_nan() { f32::MIN } else { scores[cell] };
            // Of equals the first.
            cells.reduce(|a, b| if score(b) > score(a) { b } else { a })
        };
        let free = best(&mut left().filter(|cell| kept.iter().all(|other| far(*cell, *other))));
        let next = free.or_else(|| best(&mut left())).expect("a cell");
        kept.push(next);
    }
    kept.into_iter().map(|cell| cell as f32).collect()
}

#[test]
fn the_best_cells_are_selected() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let grid = (5, 7);
    let mut scores = numbers((6, 35), 3)?.to_vec2::<f32>()?;
    // Ties, among them one of all cells, and what is no number.
    scores[1][3] = scores[1][20];
    scores[2].fill(0.5);
    scores[3][4] = f32::NAN;
    scores[4].fill(f32::NAN);
    let on_twin = Tensor::new(scores.clone(), &Device::Cpu)?;
    for (entities, radius) in [(1, 0), (4, 0), (4, 1), (5, 2), (9, 3), (35, 1)] {
        let ours = select(&on_twin, entities, radius, grid)?.to_vec2::<f32>()?;
        for (ours, scores) in ours.iter().zip(&scores) {
            assert_eq!(*ours, best_cells(scores, entities, radius, grid.1), "{entities} with radius {radius}");
        }
    }
    Ok(())
}

#[test]
fn the_objective_and_its_gradients_are_as_defined() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let log_probs = Var::from_tensor(&(numbers(3, 1)? * 50.0)?)?;
    let kls = Var::from_tensor(&(numbers((3, 4), 2)?.abs()? * 9.0)?)?;
    let candidates = Var::from_tensor(&numbers((3, 700), 3)?.abs()?)?;
    let variables = [&log_probs, &kls, &candidates].map(|var| var.as_tensor().clone());
    for [beta, idle_beta, charge] in [[1.0, 0.01, 8.0], [1.5, 0.2, 0.7]] {
        let ours = objective([beta, idle_beta, charge], &log_probs, &kls, &candidates)?;
        let kl = kls.sum_all()?;
        let idle = ((candidates.sum_all()? - &kl)? * (idle_beta / 3.0))?;
        let charged = ((((kls.as_tensor() * -0.5)?.exp()?.neg()? + 1.0)?.sum_all()?) * (charge / 3.0))?;
        let (reconstruction, kl) = (log_probs.mean_all()?.neg()?, (kl / 3.0)?);
        let total = (((&reconstruction + (&kl * beta)?)? + &idle)? + &charged)?;
        let theirs = Tensor::stack(&[total, reconstruction, kl, idle, charged], 0)?;
        agree(&ours, &theirs, &variables, &format!("weights {beta}, {idle_beta}, {charge}"))?;
    }
    Ok(())
}

#[test]
fn adam_changes_parameter_and_moments() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let (rate, correction, clip) = (0.1, 1.5, 2.0);
    // One of several blocks, and more than fit into one launch.
    let variable = |i: usize| -> Result<[Var; 4]> {
        let numbers = |salt| numbers(if i == 3 { 5000 } else { 2 + i }, 7 * i + salt);
        Ok([numbers(0)?, numbers(1)?, numbers(2)?.abs()?, numbers(3)?].map(|x| Var::from_tensor(&x).unwrap()))
    };
    let variables = (0..70).map(variable).collect::<Result<Vec<_>>>()?;
    let all: Vec<[&Tensor; 4]> = variables.iter().map(|[p, m, s, g]| [p, m, s, g].map(Var::as_tensor)).collect();
    let squares = all.iter().map(|[_, _, _, g]| g.sqr()?.sum_all()?.to_scalar::<f32>()).collect::<Result<Vec<_>>>()?;
    let norm = f64::from(squares.iter().sum::<f32>()).sqrt();
    let expected = |[p, m, s, g]: &[&Tensor; 4]| -> Result<[Tensor; 3]> {
        let scaled = (*g * (clip / norm))?;
        let mean = ((*m * 0.9)? + (&scaled * 0.1)?)?;
        let square = ((*s * 0.999)? + (scaled.sqr()? * 0.001)?)?;
        let step = ((&mean * rate)? / ((&square * correction)?.sqrt()? + 1e-8)?)?;
        Ok([(*p - step)?, mean, square])
    };
    let expected = all.iter().map(expected).collect::<Result<Vec<_>>>()?;
    let step = StepNumbers::new(&Device::Cpu)?;
    let terms = Tensor::new(&[5f32, 1.0, 2.0, 3.0, 4.0], &Device::Cpu)?;
    step.tell([rate, correction, clip])?;
    step.measure(&all, &terms)?;
    let measured = step.read()?;
    assert!((measured.norm - norm).abs() < 1e-5 * norm && measured.finite, "{measured:?}, not {norm}");
    assert_eq!(measured.terms, [5.0, 1.0, 2.0, 3.0, 4.0]);
    let changed_as_expected = || -> Result<()> {
        for (ours, theirs) in all.iter().zip(&expected) {
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!(difference(ours, theirs)? < 2e-6, "{}", difference(ours, theirs)?);
            }
        }
        Ok(())
    };
    adam(&step, [0.9, 0.999], 1e-8, &all)?;
    changed_as_expected()?;
    // A loss or a gradient that is no number changes nothing.
    let infinite = (variables[1][3].as_tensor() * f64::INFINITY)?;
    for broken in [true, false] {
        step.tell([rate, correction, clip])?;
        let terms = if broken { (&terms * f64::NAN)? } else { terms.clone() };
        let mut gradients = all.clone();
        if !broken {
            gradients[1][3] = &infinite;
        }
        step.measure(&gradients, &terms)?;
        assert!(!step.read()?.finite);
        adam(&step, [0.9, 0.999], 1e-8, &gradients)?;
        changed_as_expected()?;
    }
    Ok(())
}

/// What is told to cuBLAS, by a product that reads matrices as it does.
#[test]
fn products_by_columns_are_transposed_products() -> Result<()> {
    use super::machine::by_columns;
    use candle_core::Layout;
    let (m, n, k) = (3, 5, 4);
    for (left_turned, right_turned) in [(false, false), (false, true), (true, false), (true, true)] {
        // As they are stored, and as factors.
        let stored = |rows, columns, turned, salt| -> Result<(Tensor, Tensor)> {
            let sides = if turned { (columns, rows) } else { (rows, columns) };
            let stored = numbers(sides, salt)?;
            Ok((stored.clone(), if turned { stored.t()? } else { stored }))
        };
        let (left, right) = (stored(m, k, left_turned, 1)?, stored(k, n, right_turned, 2)?);
        // An element of op(X), where X has its columns `line` apart.
        let element = |(stored, factor): &(Tensor, Tensor)| -> Result<_> {
            let numbers = stored.flatten_all()?.to_vec1::<f32>()?;
            let (turned, line) = by_columns(factor.layout())?;
            Ok(move |row: usize, column: usize| match turned {
                false => numbers[row + column * line as usize],
                true => numbers[column + row * line as usize],
            })
        };
        let (left_at, right_at) = (element(&left)?, element(&right)?);
        // n×m by columns: m×n by rows.
        let all = (0..m).flat_map(|column| (0..n).map(move |row| (row, column)));
        let product: Vec<f32> =
            all.map(|(row, column)| (0..k).map(|i| right_at(row, i) * left_at(i, column)).sum()).collect();
        let product = Tensor::from_vec(product, (m, n), &Device::Cpu)?;
        assert!(difference(&product, &left.1.matmul(&right.1)?)? < 1e-6, "{left_turned} {right_turned}");
    }
    assert!(by_columns(&Layout::contiguous((2, 3, 4))).is_err());
    assert!(by_columns(numbers((4, 6), 0)?.narrow(1, 0, 3)?.layout()).is_err());
    Ok(())
}
