//! The mixture as its callers see it.

use std::f64::consts::TAU;

use super::cholesky::Triangle;
use super::*;
use crate::random::{normals, stream};

/// Two Gaussians in the plane, with the weights 0.3 and 0.7.
fn known() -> GaussianMixture {
    let gaussian = |weight, mean: [f64; 2], covariance: [f64; 3]| {
        let factor = Triangle::from_entries(covariance.to_vec()).factor(2, 1e-9);
        Component::new(weight, mean.to_vec(), factor)
    };
    let components = vec![gaussian(0.3, [-3.0, 1.0], [1.0, 0.6, 0.5]), gaussian(0.7, [2.0, -1.0], [0.4, -0.3, 2.0])];
    GaussianMixture { dimensions: 2, components }
}

fn draw(mixture: &GaussianMixture, count: usize, seed: u64) -> Vec<f32> {
    let mut rng = stream(seed, "density tests", 0);
    let mut points = vec![0.0; count * mixture.dimensions()];
    for point in points.chunks_exact_mut(mixture.dimensions()) {
        mixture.sample(&mut rng, point);
    }
    points
}

/// Share, mean and covariance (xx, xy, yy) of the points whose first number has the sign `side`.
fn moments(points: &[f32], side: f32) -> [f64; 6] {
    let inside: Vec<[f64; 2]> =
        points.chunks_exact(2).filter(|p| p[0] * side > 0.0).map(|p| [p[0].into(), p[1].into()]).collect();
    let average = |value: &dyn Fn(&[f64; 2]) -> f64| inside.iter().map(value).sum::<f64>() / inside.len() as f64;
    let (x, y) = (average(&|p| p[0]), average(&|p| p[1]));
    let square = |i: usize, j: usize| average(&|p| (p[i] - [x, y][i]) * (p[j] - [x, y][j]));
    [2.0 * inside.len() as f64 / points.len() as f64, x, y, square(0, 0), square(0, 1), square(1, 1)]
}

fn assert_near(computed: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(computed.len(), expected.len());
    for (a, b) in computed.iter().zip(expected) {
        assert!((a - b).abs() < tolerance, "{computed:?} for {expected:?}");
    }
}

#[test]
fn samples_have_the_moments_of_the_mixture() {
    let points = draw(&known(), 60_000, 1);
    // The two hardly overlap on the first axis: three standard deviations reach to zero.
    assert_near(&moments(&points, -1.0), &[0.3, -3.0, 1.0, 1.0, 0.6, 0.5], 0.05);
    assert_near(&moments(&points, 1.0), &[0.7, 2.0, -1.0, 0.4, -0.3, 2.0], 0.05);
}

#[test]
fn a_known_mixture_is_recovered() {
    let points = draw(&known(), 20_000, 2);
    for seed in 0..5 {
        let mut fitted = GaussianMixture::fit(&points, 2, 2, seed).unwrap();
        fitted.components.sort_by(|a, b| a.weight().total_cmp(&b.weight()));
        for (found, expected) in fitted.components.iter().zip(&known().components) {
            assert_near(&found.parameters(), &expected.parameters(), 0.05);
        }
    }
}

#[test]
fn the_log_density_is_that_of_the_formula() {
    // Σ = [[1, 0.6], [0.6, 0.5]] has the determinant 0.14; Σ⁻¹ = [[0.5, −0.6], [−0.6, 1]] / 0.14.
    let normal = |norm: f64, determinant: f64| (-0.5 * norm).exp() / (TAU * determinant.sqrt());
    let first = normal((0.5 - 2.0 * 0.6 * 2.0 + 4.0) / 0.14, 0.14);
    // Σ = [[0.4, −0.3], [−0.3, 2]] has the determinant 0.71; Σ⁻¹ = [[2, 0.3], [0.3, 0.4]] / 0.71.
    let second = normal((2.0 * 16.0 - 2.0 * 0.3 * 16.0 + 0.4 * 16.0) / 0.71, 0.71);
    assert_near(&[known().log_density(&[-2.0, 3.0])], &[(0.3 * first + 0.7 * second).ln()], 1e-9);
}

#[test]
fn the_density_integrates_to_one() {
    let mixture = known();
    let step = 0.1_f64;
    let axis = || (-100..100).map(|i| f64::from(i) * step);
    let values = axis().flat_map(|x| axis().map(move |y| [x as f32, y as f32]));
    let total: f64 = values.map(|point| mixture.log_density(&point).exp() * step * step).sum();
    assert!((total - 1.0).abs() < 1e-4, "{total}");
}

#[test]
fn one_component_has_the_mean_and_the_variances_of_the_points() {
    let points = draw(&known(), 500, 3);
    let fitted = GaussianMixture::fit(&points, 2, 1, 0).unwrap();
    let [mean_x, mean_y, xx, xy, yy] = fitted.components[0].parameters()[1..] else { panic!("two dimensions") };
    let count = 500.0;
    let mut sums = [0.0; 5];
    for point in points.chunks_exact(2) {
        let (x, y) = (f64::from(point[0]) - mean_x, f64::from(point[1]) - mean_y);
        for (sum, term) in sums.iter_mut().zip([x, y, x * x, x * y, y * y]) {
            *sum += term / count;
        }
    }
    // The prior leaves the variances and takes N / (N + ν) of the covariance.
    assert_near(&sums, &[0.0, 0.0, xx, xy * (count + 2.0) / count, yy], 1e-9);
}

#[test]
fn a_seed_gives_one_mixture_on_any_number_of_threads() {
    let mut points = vec![0.0; 3_000];
    normals(&mut stream(4, "density tests", 0), &mut points);
    let fit = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| GaussianMixture::fit(&points, 3, 6, seed).unwrap())
    };
    assert_eq!(fit(1, 8), fit(3, 8));
    assert_ne!(fit(1, 8), fit(1, 9));
}

#[test]
fn degenerate_points_have_a_density_and_samples() {
    let constant_dimension: Vec<f32> = (0..90).map(|i| if i % 3 == 1 { 5.0 } else { (i * i % 11) as f32 }).collect();
    let line: Vec<f32> = (0..90).map(|i| (i / 3) as f32).collect();
    let mut outlier = vec![0.0; 300];
    outlier[..3].fill(1e30);
    let two_places: Vec<f32> = (0..300).map(|i| f32::from(i / 3 % 2 == 0)).collect();
    let cases: [(&str, Vec<f32>); 8] = [
        ("zero", vec![0.0; 300]),
        ("equal", vec![-1e30; 300]),
        ("one point", vec![1.0, 2.0, 3.0]),
        ("fewer than components", vec![1.0, 2.0, 3.0, 6.0, 5.0, 4.0]),
        ("a constant dimension", constant_dimension),
        ("a line", line),
        ("an outlier", outlier),
        ("two places", two_places),
    ];
    for (name, points) in cases {
        let mixture = GaussianMixture::fit(&points, 3, 10, 0).unwrap();
        assert!((1..=10).contains(&mixture.components()), "{name}: {}", mixture.components());
        let weights: f64 = mixture.components.iter().map(Component::weight).sum();
        assert!((weights - 1.0).abs() < 1e-12, "{name}: weights sum to {weights}");
        for point in points.chunks_exact(3).chain([[0.0; 3].as_slice(), &[f32::MAX; 3], &[-f32::MAX; 3]]) {
            assert!(mixture.log_density(point).is_finite(), "{name}: {point:?}");
        }
        let scale = points.iter().fold(1.0_f32, |scale, x| scale.max(x.abs()));
        for x in draw(&mixture, 100, 0) {
            assert!(x.abs() < 10.0 * scale, "{name}: drew {x}");
        }
    }
}

#[test]
fn equal_points_are_drawn_again() {
    let mixture = GaussianMixture::fit(&[0.25, -2.0].repeat(40), 2, 5, 0).unwrap();
    assert_eq!(mixture.components(), 1);
    for point in draw(&mixture, 50, 0).chunks_exact(2) {
        assert!((point[0] - 0.25).abs() < 1e-4 && (point[1] + 2.0).abs() < 1e-4, "{point:?}");
    }
}

#[test]
fn few_points_get_few_components() {
    let mut points = vec![0.0; 100 * 4];
    normals(&mut stream(6, "density tests", 0), &mut points);
    let components = |count: usize| GaussianMixture::fit(&points[..count * 4], 4, 12, 0).unwrap().components();
    assert_eq!([1, 15, 16, 24].map(components), [1, 1, 2, 3]);
    assert!(components(100) <= 12 && components(100) > 3);
}

#[test]
fn a_point_that_is_not_finite_has_no_density() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(known().log_density(&[0.0, value]), f64::NEG_INFINITY);
    }
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let refused = |points: &[f32], dimensions, components| {
        GaussianMixture::fit(points, dimensions, components, 0).expect_err("must be refused")
    };
    assert_eq!(refused(&[], 2, 1), DensityError::NoPoints);
    assert_eq!(refused(&[1.0, 2.0], 2, 0), DensityError::NoComponents);
    assert_eq!(refused(&[1.0, 2.0, 3.0], 2, 1), DensityError::Ragged { length: 3, dimensions: 2 });
    assert_eq!(refused(&[1.0], 0, 1), DensityError::Ragged { length: 1, dimensions: 0 });
    let infinite = DensityError::NotFinite { point: 1, dimension: 0, value: f32::INFINITY };
    assert_eq!(refused(&[1.0, 2.0, f32::INFINITY, 4.0], 2, 1), infinite);
    assert!(infinite.to_string().starts_with("dimension 0 of point 1 is inf"));
}
