//! The mutual information gap.

/// Bins of equal width between a code's least and largest value.
const BINS: usize = 20;

/// MIG (Chen, Li, Grosse & Duvenaud 2018, section 4.1), estimated as in disentanglement_lib (Locatello et al. 2019): codes are
/// their posterior means in 20 bins of equal width.
///
/// ```text
/// MIG = mean over factors v of (I(z_a; v) − I(z_b; v)) / H(v)
/// ```
///
/// with a and b the two numbers of the code that say most about v. 1: each factor is told by one number alone; 0: by two equally.
/// Codes and factors are columns of equal length. Factors of one value say nothing and are left out; `None` if none is left.
pub fn mutual_information_gap(codes: &[Vec<f64>], factors: &[Vec<usize>]) -> Option<f64> {
    let codes: Vec<Vec<usize>> = codes.iter().map(|column| binned(column)).collect();
    let gaps: Vec<f64> = factors.iter().filter_map(|factor| gap(&codes, factor)).collect();
    (!gaps.is_empty()).then(|| gaps.iter().sum::<f64>() / gaps.len() as f64)
}

fn gap(codes: &[Vec<usize>], factor: &[usize]) -> Option<f64> {
    let entropy = mutual_information(factor, factor);
    let mut informations: Vec<f64> = codes.iter().map(|code| mutual_information(code, factor)).collect();
    informations.sort_by(|a, b| b.total_cmp(a));
    let nth = |n: usize| informations.get(n).copied().unwrap_or(0.0);
    (entropy > 0.0).then(|| (nth(0) - nth(1)) / entropy)
}

/// The bin of each value, as NumPy's `digitize` with the edges of `histogram`.
fn binned(column: &[f64]) -> Vec<usize> {
    let least = column.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = (largest - least) / BINS as f64;
    let edges: Vec<f64> = (1..BINS).map(|i| least + i as f64 * width).collect();
    column.iter().map(|value| edges.partition_point(|edge| edge <= value)).collect()
}

/// I(a; b) in nats, of the empirical distribution.
fn mutual_information(a: &[usize], b: &[usize]) -> f64 {
    let size = |x: &[usize]| x.iter().max().map_or(0, |m| m + 1);
    let (rows, columns) = (size(a), size(b));
    let (mut joint, mut of_a, mut of_b) = (vec![0u64; rows * columns], vec![0u64; rows], vec![0u64; columns]);
    for (a, b) in a.iter().zip(b) {
        joint[a * columns + b] += 1;
        of_a[*a] += 1;
        of_b[*b] += 1;
    }
    let n = a.len() as f64;
    let term = |(i, count): (usize, &u64)| {
        let count = *count as f64;
        let independent = of_a[i / columns] as f64 * of_b[i % columns] as f64 / n;
        if count > 0.0 { count / n * (count / independent).ln() } else { 0.0 }
    };
    joint.iter().enumerate().map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_of_independent_equal_and_coarser_variables() {
        let a: Vec<usize> = (0..24).map(|i| i % 4).collect();
        let b: Vec<usize> = (0..24).map(|i| i / 4 % 3).collect();
        let coarse: Vec<usize> = a.iter().map(|a| a / 2).collect();
        assert!(mutual_information(&a, &b).abs() < 1e-12);
        assert!((mutual_information(&a, &a) - 4f64.ln()).abs() < 1e-12);
        assert!((mutual_information(&coarse, &a) - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn bins_are_equally_wide_and_the_largest_value_is_in_the_last() {
        let column: Vec<f64> = (0..=40).map(|i| f64::from(i) * 0.5).collect();
        let bins = binned(&column);
        assert_eq!((bins[0], bins[1], bins[2], bins[39], bins[40]), (0, 0, 1, 19, 19));
        assert!(binned(&[3.0; 5]).iter().all(|b| *b == binned(&[3.0; 5])[0]));
    }

    #[test]
    fn without_factors_there_is_no_gap() {
        assert_eq!(mutual_information_gap(&[vec![1.0, 2.0]], &[vec![0, 0]]), None);
        assert_eq!(mutual_information_gap(&[vec![1.0, 2.0]], &[vec![0, 1]]), Some(1.0));
    }
}
