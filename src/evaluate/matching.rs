//! One-to-one matching of maximum weight.

/// Why a weight matrix has no matching.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchingError {
    /// The rows are not all of one length.
    #[error(
        "row {row} of the weights has {found} columns where row 0 has {expected}: \
         pass a rectangular matrix"
    )]
    Ragged {
        /// The first row that differs.
        row: usize,
        /// Its length.
        found: usize,
        /// The length of row 0.
        expected: usize,
    },
    /// A weight is infinite or not a number, so that sums of weights have no order.
    #[error("the weight in row {row}, column {column} is not finite: give every pair a finite one")]
    NotFinite {
        /// Row of the weight.
        row: usize,
        /// Column of the weight.
        column: usize,
    },
}

/// The column matched to each row so that the sum of the matched weights is largest.
///
/// As many pairs are matched as the smaller side allows; the rows left over, if there are more rows
/// than columns, get `None`. This is the assignment problem, solved in `O(n² m)` for `n ≤ m` by
/// shortest augmenting paths under potentials (Kuhn 1955; Jonker & Volgenant 1987).
///
/// # Errors
///
/// The matrix is not rectangular, or holds a weight that is not finite.
pub fn maximum_weight_matching(weights: &[Vec<f64>]) -> Result<Vec<Option<usize>>, MatchingError> {
    check(weights)?;
    let rows = weights.len();
    let columns = weights.first().map_or(0, Vec::len);
    // The search assigns every line of the smaller side, so rows and columns trade places if needed.
    if rows <= columns {
        let mut column_of_row = vec![None; rows];
        for (column, row) in
            cheapest_assignment(rows, columns, |row, column| -weights[row][column]).into_iter().enumerate()
        {
            if let Some(row) = row {
                column_of_row[row] = Some(column);
            }
        }
        Ok(column_of_row)
    } else {
        Ok(cheapest_assignment(columns, rows, |column, row| -weights[row][column]))
    }
}

fn check(weights: &[Vec<f64>]) -> Result<(), MatchingError> {
    let expected = weights.first().map_or(0, Vec::len);
    for (row, values) in weights.iter().enumerate() {
        let found = values.len();
        if found != expected {
            return Err(MatchingError::Ragged { row, found, expected });
        }
        if let Some(column) = values.iter().position(|weight| !weight.is_finite()) {
            return Err(MatchingError::NotFinite { row, column });
        }
    }
    Ok(())
}

/// The agent that each task is given to, for every agent to have one task at the least total cost.
///
/// There must be at least as many tasks as agents. Agents are added one by one; each enters along
/// the alternating path of least reduced cost `cost(agent, task) − price_agent − price_task ≥ 0`,
/// found as in Dijkstra's algorithm, with the prices updated so that assigned pairs stay at zero.
fn cheapest_assignment(agents: usize, tasks: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<Option<usize>> {
    let mut agent_prices = vec![0.0; agents];
    // One task more than there are: the entrance, held by the agent who is looking for a task.
    let entrance = tasks;
    let mut task_prices = vec![0.0; tasks + 1];
    let mut agent_of_task = vec![None; tasks + 1];

    for newcomer in 0..agents {
        agent_of_task[entrance] = Some(newcomer);
        let mut distance = vec![f64::INFINITY; tasks];
        let mut previous = vec![entrance; tasks];
        let mut visited = vec![false; tasks + 1];
        let mut here = entrance;

        while let Some(agent) = agent_of_task[here] {
            visited[here] = true;
            for task in (0..tasks).filter(|&task| !visited[task]) {
                let reduced = cost(agent, task) - agent_prices[agent] - task_prices[task];
                if reduced < distance[task] {
                    (distance[task], previous[task]) = (reduced, here);
                }
            }
            let Some(nearest) =
                (0..tasks).filter(|&task| !visited[task]).min_by(|&a, &b| distance[a].total_cmp(&distance[b]))
            else {
                break;
            };
            let step = distance[nearest];
            for task in 0..=tasks {
                if let Some(agent) = agent_of_task[task].filter(|_| visited[task]) {
                    agent_prices[agent] += step;
                    task_prices[task] -= step;
                } else if task < tasks {
                    distance[task] -= step;
                }
            }
            here = nearest;
        }
        // Everyone on the path moves on by one task, which leaves the free one taken.
        while here != entrance {
            agent_of_task[here] = agent_of_task[previous[here]];
            here = previous[here];
        }
    }
    agent_of_task.truncate(tasks);
    agent_of_task
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(weights: &[Vec<f64>], matching: &[Option<usize>]) -> f64 {
        matching.iter().enumerate().filter_map(|(row, column)| column.map(|column| weights[row][column])).sum()
    }

    /// The best total over all one-to-one matchings of rows `row..`, which may skip `skips` rows.
    fn brute_force(weights: &[Vec<f64>], row: usize, free: &mut Vec<usize>, skips: usize) -> f64 {
        if row == weights.len() {
            return 0.0;
        }
        let mut best = f64::NEG_INFINITY;
        if skips > 0 {
            best = brute_force(weights, row + 1, free, skips - 1);
        }
        for position in 0..free.len() {
            let column = free.remove(position);
            best = best.max(weights[row][column] + brute_force(weights, row + 1, free, skips));
            free.insert(position, column);
        }
        best
    }

    #[test]
    fn the_greedy_choice_is_not_always_the_best() {
        let weights = [vec![0.9, 0.8], vec![0.8, 0.1]];
        assert_eq!(maximum_weight_matching(&weights), Ok(vec![Some(1), Some(0)]));
    }

    #[test]
    fn the_larger_side_is_left_over() {
        let tall = [vec![0.2], vec![0.7], vec![0.5]];
        assert_eq!(maximum_weight_matching(&tall), Ok(vec![None, Some(0), None]));
        let wide = [vec![0.2, 0.7, 0.5]];
        assert_eq!(maximum_weight_matching(&wide), Ok(vec![Some(1)]));
    }

    #[test]
    fn empty_matrices_match_nothing() {
        assert_eq!(maximum_weight_matching(&[]), Ok(vec![]));
        assert_eq!(maximum_weight_matching(&[vec![], vec![]]), Ok(vec![None, None]));
    }

    #[test]
    fn malformed_matrices_are_refused() {
        assert_eq!(
            maximum_weight_matching(&[vec![1.0, 2.0], vec![1.0]]),
            Err(MatchingError::Ragged { row: 1, found: 1, expected: 2 })
        );
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(maximum_weight_matching(&[vec![1.0, bad]]), Err(MatchingError::NotFinite { row: 0, column: 1 }));
        }
    }

    #[test]
    fn weights_too_large_to_add_up_still_end() {
        let weights = vec![vec![f64::MAX, f64::MIN, f64::MAX]; 3];
        let matching = maximum_weight_matching(&weights).expect("the weights are finite");
        assert_eq!(matching.len(), 3);
    }

    /// Matrices of up to 6 × 6 weights; few distinct ones, so that ties are common.
    fn matrices() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let weight = prop_oneof![(-3i8..4).prop_map(f64::from), -1.0..1.0];
        (0usize..=6, 0usize..=6).prop_flat_map(move |(rows, columns)| {
            prop::collection::vec(prop::collection::vec(weight.clone(), columns), rows)
        })
    }

    proptest! {
        #[test]
        fn no_matching_weighs_more(weights in matrices()) {
            let rows = weights.len();
            let columns = weights.first().map_or(0, Vec::len);
            let matching = maximum_weight_matching(&weights).expect("the weights are finite");

            let mut used: Vec<usize> = matching.iter().copied().flatten().collect();
            prop_assert_eq!(used.len(), rows.min(columns));
            used.sort_unstable();
            used.dedup();
            prop_assert_eq!(used.len(), rows.min(columns));

            let mut free = (0..columns).collect();
            let best = brute_force(&weights, 0, &mut free, rows.saturating_sub(columns));
            prop_assert!((total(&weights, &matching) - best).abs() < 1e-12);
        }
    }
}
