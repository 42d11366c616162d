//! The clustering indices against scikit-learn's, case by case.

use multi_entity_vae::evaluate::{Contingency, LogFactorials, adjusted_mutual_information, adjusted_rand_index};
use serde::Deserialize;

/// Written by `golden/clustering.py`.
const GOLDEN: &str = include_str!("golden/clustering.json");

/// scikit-learn takes its log-factorials from `lgamma`, rounded at a magnitude of 10⁵ to 10⁻¹¹.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// First label, second label, number of pixels.
    runs: Vec<(u8, u8, usize)>,
    ari: f64,
    ami: f64,
}

#[test]
fn indices_match_scikit_learn() {
    let golden: Golden = serde_json::from_str(GOLDEN).expect("the golden file is valid");
    assert!(golden.cases.len() >= 40, "golden cases are missing");

    let mut factorials = LogFactorials::default();
    for case in &golden.cases {
        let table: Contingency =
            case.runs.iter().flat_map(|&(first, second, count)| std::iter::repeat_n((first, second), count)).collect();
        let ari = adjusted_rand_index(&table);
        let ami = adjusted_mutual_information(&table, &mut factorials);
        assert!((ari - case.ari).abs() < TOLERANCE, "{}: {ari} is not {}", case.name, case.ari);
        assert!((ami - case.ami).abs() < TOLERANCE, "{}: {ami} is not {}", case.name, case.ami);
    }
}
