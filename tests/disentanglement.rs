//! Scores of disentanglement against scikit-learn's and NumPy's, code by code.

use multi_entity_vae::evaluate::disentanglement::{
    Dci, Vote, active_units, boost, factor_vae_score, mutual_information_gap, variance,
};
use serde::Deserialize;

/// Written by `golden/disentanglement.py`.
const GOLDEN: &str = include_str!("golden/disentanglement.json");

/// scikit-learn breaks ties between columns at random; its importances spread by up to 0.025 over seeds.
const TIES: f64 = 0.03;

#[derive(Deserialize)]
struct Golden {
    sizes: Vec<usize>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    codes: Vec<Vec<f64>>,
    factors: Vec<Vec<usize>>,
    test_codes: Vec<Vec<f64>>,
    test_factors: Vec<Vec<usize>>,
    /// Factor, variances.
    training_votes: Vec<(usize, Vec<f64>)>,
    other_votes: Vec<(usize, Vec<f64>)>,
    mig: f64,
    /// Of each factor and column: predictions of the test examples from that column alone.
    alone: Vec<Vec<Vec<usize>>>,
    dci: ExpectedDci,
    factor_vae: f64,
    active: usize,
}

#[derive(Deserialize)]
struct ExpectedDci {
    importance: Vec<Vec<f64>>,
    disentanglement: f64,
    completeness: f64,
    informativeness: f64,
}

#[test]
fn scores_match_the_independent_implementation() {
    let Golden { sizes, cases } = serde_json::from_str(GOLDEN).expect("the golden file is valid");
    assert_eq!((sizes.len(), cases.len()), (3, 4));
    for case in &cases {
        let within = |tolerance: f64, what: &str, ours: f64, theirs: f64| {
            assert!((ours - theirs).abs() < tolerance, "{}: {what} is {ours}, not {theirs}", case.name);
        };
        let near = |what: &str, ours: f64, theirs: f64| within(1e-9, what, ours, theirs);
        let like = |what: &str, ours: f64, theirs: f64| within(TIES, what, ours, theirs);
        near("MIG", mutual_information_gap(&case.codes, &case.factors).expect("factors"), case.mig);

        let votes = |votes: &[(usize, Vec<f64>)]| -> Vec<Vote> {
            votes.iter().map(|(factor, variances)| Vote { factor: *factor, variances: variances.clone() }).collect()
        };
        let overall: Vec<f64> = case.codes.iter().map(|column| variance(column)).collect();
        assert_eq!(active_units(&overall), case.active, "{}", case.name);
        let (training, others) = (votes(&case.training_votes), votes(&case.other_votes));
        near("FactorVAE", factor_vae_score(&training, &others, &overall, sizes.len()), case.factor_vae);

        let single = |columns: &[Vec<f64>]| -> Vec<Vec<f32>> {
            columns.iter().map(|column| column.iter().map(|value| *value as f32).collect()).collect()
        };
        for (j, factor) in case.factors.iter().enumerate() {
            let (codes, tests) = (single(&case.codes), single(&case.test_codes));
            let learnt = boost(&codes, factor, &tests);
            for (i, row) in case.dci.importance.iter().enumerate() {
                like(&format!("importance of {i} for {j}"), learnt.importances[i], row[j]);
            }
            for (i, predictions) in case.alone[j].iter().enumerate() {
                let alone = boost(&codes[i..=i], factor, &tests[i..=i]);
                assert_eq!(&alone.predictions, predictions, "{}: factor {j} from column {i}", case.name);
            }
        }
        let dci = Dci::of((&case.codes, &case.factors), (&case.test_codes, &case.test_factors));
        like("disentanglement", dci.disentanglement, case.dci.disentanglement);
        like("completeness", dci.completeness, case.dci.completeness);
        like("informativeness", dci.informativeness, case.dci.informativeness);
    }
}
