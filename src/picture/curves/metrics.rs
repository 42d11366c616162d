//! Curves read back from the lines of a run's metrics.

use std::io::{self, BufRead};

use serde_json::Value;

use super::CurvePoint;

/// The points of training and of validation in the lines of `metrics.jsonl`. `location_nats`, what saying where the entities
/// are costs, is part of every −ELBO. Rows without a step and both terms are passed over.
///
/// # Errors
/// A line that is no JSON, or cannot be read.
pub fn points_of_metrics(metrics: impl BufRead, location_nats: f64) -> io::Result<(Vec<CurvePoint>, Vec<CurvePoint>)> {
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for line in metrics.lines() {
        let row: Value = serde_json::from_str(&line?)?;
        let number = |key: &str| row[key].as_f64();
        let (Some(step), Some(reconstruction), Some(kl)) =
            (row["step"].as_u64(), number("reconstruction_nats"), number("kl_nats"))
        else {
            continue;
        };
        let negative_elbo = reconstruction + kl + location_nats;
        let point = CurvePoint { step, negative_elbo, reconstruction, kl, count_accuracy: number("count_accuracy") };
        if row["kind"] == "step" { training.push(point) } else { validation.push(point) }
    }
    Ok((training, validation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_points_by_their_kind() {
        let text = r#"{"kind":"step","step":10,"reconstruction_nats":5.0,"kl_nats":2.0}
{"kind":"validation","step":10,"reconstruction_nats":4.0,"kl_nats":1,"count_accuracy":0.5}
{"kind":"validation","step":20,"reconstruction_nats":null,"kl_nats":1.0}
[3]
"#;
        let (training, validation) = points_of_metrics(text.as_bytes(), 1.5).unwrap();
        let of = |negative_elbo, reconstruction, kl, count_accuracy| CurvePoint {
            step: 10,
            negative_elbo,
            reconstruction,
            kl,
            count_accuracy,
        };
        assert_eq!(training, [of(8.5, 5.0, 2.0, None)]);
        assert_eq!(validation, [of(6.5, 4.0, 1.0, Some(0.5))]);
        assert!(points_of_metrics(&b"{\"step\":"[..], 0.0).is_err());
    }
}
