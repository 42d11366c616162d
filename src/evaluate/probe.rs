//! Linear probes: what can be read off a code by a straight line.
//!
//! A code says something *usably* if a linear map finds it. Both kinds of probe here are ridge regressions in closed form on
//! standardised codes, so that there is nothing to tune and nothing random: numbers are regressed as they are, classes as one-hot
//! rows, of which the largest prediction wins.

/// Strength of the ridge for each example: small beside the unit variance of standardised codes, and enough for codes of which some
/// dimensions say the same.
const RIDGE: f64 = 1e-4;

/// A linear map from codes to targets, fitted by least squares.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProbe {
    means: Vec<f64>,
    deviations: Vec<f64>,
    /// For each dimension, and last for the constant, the weights of all targets.
    weights: Vec<Vec<f64>>,
}

impl LinearProbe {
    /// Fits codes of D numbers each to targets of T numbers each; `None` without examples, or where they differ in length.
    pub fn fit(codes: &[Vec<f64>], targets: &[Vec<f64>]) -> Option<Self> {
        let (d, t, n) = (codes.first()?.len(), targets.first()?.len(), codes.len() as f64);
        let fits =
            codes.len() == targets.len() && codes.iter().all(|c| c.len() == d) && targets.iter().all(|y| y.len() == t);
        if !fits {
            return None;
        }
        let means: Vec<f64> = (0..d).map(|i| codes.iter().map(|c| c[i]).sum::<f64>() / n).collect();
        let deviation = |i: usize| (codes.iter().map(|c| (c[i] - means[i]).powi(2)).sum::<f64>() / n).sqrt();
        // A dimension that is always the same says nothing, and must not be divided by its deviation.
        let deviations = (0..d).map(deviation).map(|s| if s > 0.0 { s } else { 1.0 }).collect();
        let mut probe = Self { means, deviations, weights: Vec::new() };
        let mut system = vec![vec![0.0; d + 1 + t]; d + 1];
        for (code, target) in codes.iter().zip(targets) {
            let x = probe.standardised(code);
            for (row, xi) in system.iter_mut().zip(&x) {
                row.iter_mut().zip(x.iter().chain(target)).for_each(|(sum, value)| *sum += xi * value);
            }
        }
        // The constant is not drawn towards 0.
        (0..d).for_each(|i| system[i][i] += RIDGE * n);
        probe.weights = solved(system)?;
        Some(probe)
    }

    /// What it reads off a code.
    pub fn read(&self, code: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.weights.first().map_or(0, Vec::len)];
        for (x, weights) in self.standardised(code).iter().zip(&self.weights) {
            out.iter_mut().zip(weights).for_each(|(out, weight)| *out += x * weight);
        }
        out
    }

    /// The code in deviations from its mean, and a 1.
    fn standardised(&self, code: &[f64]) -> Vec<f64> {
        let scaled = code.iter().zip(&self.means).zip(&self.deviations).map(|((x, mean), s)| (x - mean) / s);
        scaled.chain([1.0]).collect()
    }
}

/// Solves A W = B for rows of A | B by elimination; `None` if A is singular. With the ridge it is positive definite, so that pivots may be
/// taken as they come.
fn solved(mut system: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let n = system.len();
    for pivot in 0..n {
        let row = system[pivot].clone();
        if row[pivot].is_nan() || row[pivot] <= 0.0 {
            return None;
        }
        for other in (0..n).filter(|other| *other != pivot) {
            let factor = system[other][pivot] / row[pivot];
            system[other].iter_mut().zip(&row).skip(pivot).for_each(|(value, above)| *value -= factor * above);
        }
    }
    Some(system.into_iter().enumerate().map(|(i, row)| row[n..].iter().map(|value| value / row[i]).collect()).collect())
}

/// One object of a scene: the code that stands for it, and what is true of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The code, the same length for all.
    pub code: Vec<f64>,
    /// Class of the object.
    pub class: u8,
    /// Its centre, y and x, in pixels.
    pub centre: [f64; 2],
}

/// What linear probes find in codes of objects that they were not fitted to.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ProbeScores {
    /// Objects that were read.
    pub objects: usize,
    /// Share of them whose class was read right.
    pub class_accuracy: f64,
    /// Share of the variance of the centres that is explained, over both directions together: 1 is all, 0 what their mean does.
    pub position_r2: f64,
    /// Root of the mean squared distance of the read centre from the true one, in pixels.
    pub position_error: f64,
}

/// Fits probes to some objects and scores them on others; `None` where either is empty, or the codes differ in length.
pub fn probe(fitted: &[Described], read: &[Described]) -> Option<ProbeScores> {
    let d = fitted.first()?.code.len();
    if read.is_empty() || read.iter().any(|object| object.code.len() != d) {
        return None;
    }
    let codes: Vec<Vec<f64>> = fitted.iter().map(|object| object.code.clone()).collect();
    let mut classes: Vec<u8> = fitted.iter().map(|object| object.class).collect();
    classes.sort_unstable();
    classes.dedup();
    let one_hot =
        |object: &Described| classes.iter().map(|class| f64::from(u8::from(*class == object.class))).collect();
    let of_class = LinearProbe::fit(&codes, &fitted.iter().map(one_hot).collect::<Vec<_>>())?;
    let of_place = LinearProbe::fit(&codes, &fitted.iter().map(|object| object.centre.to_vec()).collect::<Vec<_>>())?;

    let n = read.len() as f64;
    let middle = [0, 1].map(|i| read.iter().map(|object| object.centre[i]).sum::<f64>() / n);
    let (mut right, mut error, mut spread) = (0.0, 0.0, 0.0);
    for object in read {
        let scores = of_class.read(&object.code);
        let best = (0..classes.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        right += f64::from(u8::from(best.map(|best| classes[best]) == Some(object.class)));
        let place = of_place.read(&object.code);
        error += (0..2).map(|i| (place[i] - object.centre[i]).powi(2)).sum::<f64>();
        spread += (0..2).map(|i| (middle[i] - object.centre[i]).powi(2)).sum::<f64>();
    }
    Some(ProbeScores {
        objects: read.len(),
        class_accuracy: right / n,
        position_r2: if spread > 0.0 { 1.0 - error / spread } else { 0.0 },
        position_error: (error / n).sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn normals(count: usize, purpose: &str) -> Vec<f64> {
        let mut values = vec![0f32; count];
        random::normals(&mut random::stream(0, purpose, 0), &mut values);
        values.into_iter().map(f64::from).collect()
    }

    #[test]
    fn a_linear_map_is_found_again() {
        let codes: Vec<Vec<f64>> =
            normals(300, "codes").chunks(3).map(|c| vec![c[0], 10.0 * c[1] + 5.0, c[2], 7.0]).collect();
        let map = |c: &Vec<f64>| vec![2.0 * c[0] - 0.5 * c[1] + 3.0, c[2] - 1.0];
        let probe = LinearProbe::fit(&codes, &codes.iter().map(map).collect::<Vec<_>>()).expect("a hundred examples");
        for code in &codes {
            // The ridge takes a ten-thousandth away.
            assert!(probe.read(code).iter().zip(map(code)).all(|(a, b)| (a - b).abs() < 0.01), "{code:?}");
        }
    }

    /// The normal equations' solution is where the loss has no slope, whatever the solver did.
    #[test]
    fn the_loss_has_no_slope_at_the_solution() {
        let codes: Vec<Vec<f64>> = normals(200, "codes").chunks(4).map(<[f64]>::to_vec).collect();
        let targets: Vec<Vec<f64>> = normals(50, "targets").chunks(1).map(<[f64]>::to_vec).collect();
        let probe = LinearProbe::fit(&codes, &targets).expect("fifty examples");
        let loss = |probe: &LinearProbe| {
            let errors = codes.iter().zip(&targets).map(|(c, y)| (probe.read(c)[0] - y[0]).powi(2)).sum::<f64>();
            errors + RIDGE * 50.0 * probe.weights[..4].iter().map(|w| w[0] * w[0]).sum::<f64>()
        };
        for i in 0..5 {
            let moved = |by: f64| {
                let mut moved = probe.clone();
                moved.weights[i][0] += by;
                loss(&moved)
            };
            assert!((moved(1e-4) - moved(-1e-4)).abs() / 2e-4 < 1e-6, "weight {i}");
            assert!(moved(1e-2) > loss(&probe) && moved(-1e-2) > loss(&probe));
        }
    }

    fn described(noise: f64, purpose: &str) -> Vec<Described> {
        normals(2_000, purpose)
            .chunks(4)
            .enumerate()
            .map(|(i, z)| {
                let class = (i % 3) as u8;
                // Three corners of a simplex, then the place.
                let corner = |c: u8| f64::from(u8::from(class == c)) + noise * z[usize::from(c)];
                let (y, x) = (10.0 * z[3], 5.0 * z[0] + 20.0);
                Described { code: vec![corner(0), corner(1), y - x, y + x], class: class + 4, centre: [y, x] }
            })
            .collect()
    }

    #[test]
    fn what_a_code_says_is_read_and_what_it_does_not_is_not() {
        let scores = probe(&described(0.05, "fitted"), &described(0.05, "read")).expect("many");
        assert_eq!(scores.objects, 500);
        assert!(
            scores.class_accuracy > 0.99 && scores.position_r2 > 0.999 && scores.position_error < 0.1,
            "{scores:?}"
        );

        let blind = |objects: Vec<Described>, purpose: &str| -> Vec<Described> {
            let noise = normals(500, purpose);
            objects.into_iter().zip(noise).map(|(object, z)| Described { code: vec![z], ..object }).collect()
        };
        let fitted = blind(described(0.0, "fitted"), "nothing");
        let scores = probe(&fitted, &blind(described(0.0, "read"), "nothing at all")).expect("many");
        assert!((scores.class_accuracy - 1.0 / 3.0).abs() < 0.1 && scores.position_r2.abs() < 0.05, "{scores:?}");
        // √(10² + 5²)
        assert!((scores.position_error - 11.18).abs() < 1.0, "{scores:?}");
    }

    #[test]
    fn without_examples_there_is_no_probe() {
        let some = described(0.0, "some");
        assert_eq!(probe(&[], &some), None);
        assert_eq!(probe(&some, &[]), None);
        let shorter = vec![Described { code: vec![0.0], ..some[0].clone() }];
        assert_eq!(probe(&some, &shorter), None);
        assert_eq!(LinearProbe::fit(&[vec![1.0]], &[vec![1.0], vec![2.0]]), None);
        // Codes that are all the same explain nothing, and are no error.
        let same: Vec<Described> = some.iter().map(|object| Described { code: vec![1.0], ..object.clone() }).collect();
        assert!(probe(&same, &same).is_some_and(|scores| scores.position_r2.abs() < 1e-6));
    }
}
