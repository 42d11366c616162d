//! The numbers behind one curve.

/// A point of a curve: step, value.
pub(super) type Point = (f64, f64);

/// The most points a curve is drawn with: about one for every pixel.
const MOST_POINTS: usize = 400;

/// The curve with runs of neighbouring points averaged until few enough are
/// left, so that a long training does not make a heavy file.
pub(super) fn thinned(points: &[Point]) -> Vec<Point> {
    let run = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |run: &[Point]| {
        let count = run.len() as f64;
        let (x, y) = run.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (x / count, y / count)
    };
    points.chunks(run).map(mean).collect()
}

/// The lowest and highest value once the most extreme are set aside: the first
/// steps of a training are often so far out that they would flatten the rest.
///
/// Few points are all kept; `None` if there are none.
pub(super) fn typical_range(points: &[Point]) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = points.iter().map(|point| point.1).collect();
    values.sort_by(f64::total_cmp);
    let set_aside = values.len() / 33;
    Some((*values.get(set_aside)?, values[values.len() - 1 - set_aside]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_mean_and_bounds_the_number() {
        let points: Vec<Point> = (0..10_000).map(|step| (f64::from(step), 3.0)).collect();
        let few = thinned(&points);
        assert!(few.len() <= MOST_POINTS && few.len() > MOST_POINTS / 2);
        assert!(few.iter().all(|point| (point.1 - 3.0).abs() < 1e-9));
        assert!(thinned(&[]).is_empty());
        assert_eq!(thinned(&points[..7]), points[..7]);
    }

    #[test]
    fn a_few_wild_values_do_not_set_the_range() {
        let mut points = vec![(0.0, 5.0); 98];
        points.extend([(0.0, 9999.0), (0.0, 6.0), (0.0, 4.0)]);
        assert_eq!(typical_range(&points), Some((5.0, 5.0)));
        assert_eq!(typical_range(&[(0.0, 1.0), (1.0, 900.0)]), Some((1.0, 900.0)));
        assert_eq!(typical_range(&[]), None);
    }
}
