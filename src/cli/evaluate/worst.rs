//! `--worst`: the scenes in which most goes wrong, on a sheet.

use crate::cli::pictures;
use candle_core::Device;
use multi_entity_vae::evaluate::{Decomposition, Errors, SceneOutcome, stack};
use multi_entity_vae::model::Selection;
use multi_entity_vae::picture::save_png;
use multi_entity_vae::run::{LoadedRun, ScenesOf};
use std::path::Path;

/// The scenes with the most errors of all that were seen; of equals those of lower foreground ARI, then the earlier ones.
#[derive(Debug)]
pub struct Worst {
    most: usize,
    found: Vec<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    scene: u64,
    errors: Errors,
    /// 1 where it is not defined.
    ari: f64,
}

impl Worst {
    /// Keeps as many as that.
    pub fn new(most: usize) -> Self {
        Self { most, found: Vec::new() }
    }

    /// Looks at a scene's outcome.
    pub fn see(&mut self, scene: u64, outcome: &SceneOutcome) {
        let Some(errors) = outcome.errors else { return };
        let ari = outcome.segmentation.and_then(|scores| scores.ari_foreground).unwrap_or(1.0);
        self.found.push(Seen { scene, errors, ari });
        let worse = |a: &Seen, b: &Seen| b.errors.total().cmp(&a.errors.total()).then(a.ari.total_cmp(&b.ari));
        self.found.sort_by(worse);
        self.found.truncate(self.most);
    }

    /// Draws them, each titled with what went wrong.
    pub fn draw(
        &self,
        run: &LoadedRun,
        scenes: &ScenesOf,
        selection: Selection,
        refinement: usize,
        device: &Device,
        out: &Path,
    ) -> anyhow::Result<()> {
        if self.found.is_empty() {
            anyhow::bail!("--worst needs scenes with masks to tell errors by, and these have none");
        }
        let mut rows = Vec::new();
        for seen in &self.found {
            let example = [scenes.example(seen.scene)?];
            let images = stack(&run.model, &example, device)?;
            let parts = Decomposition::refined(&run.model, &images, &selection, refinement)?;
            let label = format!("scene {}\n{}", seen.scene, seen.errors.to_string().replace(", ", "\n"));
            for mut row in pictures::decomposition_rows(&run.model, &parts, &example)? {
                row.label = Some(label.clone());
                rows.push(row);
            }
        }
        let title =
            format!("The scenes with the most errors · {}", pictures::describe_keeping(run, selection.entities));
        Ok(save_png(&pictures::sheet_of(&title, run, &rows)?, out)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multi_entity_vae::evaluate::{MapScores, SegmentationScores};

    #[test]
    fn more_errors_are_worse_then_a_lower_ari_then_the_earlier() {
        let outcome = |splits: Option<u64>, ari| SceneOutcome {
            reconstruction_nats: 0.0,
            kl_nats: 0.0,
            location_nats: 0.0,
            squared_error: 0.0,
            truth_count: None,
            predicted_count: 0,
            segmentation: Some(SegmentationScores { ari_foreground: ari, ..Default::default() }),
            errors: splits.map(|splits| Errors { splits, ..Errors::default() }),
            kl_map: MapScores::default(),
        };
        let mut worst = Worst::new(4);
        let scenes = [
            (Some(0), Some(0.1)),
            (Some(1), None),
            (Some(2), Some(0.9)),
            (None, Some(0.0)),
            (Some(1), Some(0.5)),
            (Some(1), None),
        ];
        for (number, (splits, ari)) in (0..).zip(scenes) {
            worst.see(number, &outcome(splits, ari));
        }
        assert_eq!(worst.found.iter().map(|seen| seen.scene).collect::<Vec<_>>(), [2, 4, 1, 5]);
    }
}
