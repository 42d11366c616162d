//! Where a model puts what it sees: the posteriors of many scenes' entities.

use super::scenes::Decomposition;
use crate::model::{Model, Selection};
use candle_core::{DType, Device, Result, Tensor};

/// One entity of a scene, as the encoder describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedEntity {
    /// Which of the scenes, counted from 0.
    pub scene: usize,
    /// Its cell of the grid, n = row · columns + column.
    pub cell: usize,
    /// μ, D numbers.
    pub mean: Vec<f32>,
    /// What each latent dimension adds to the KL, in nats: D numbers, none for a deterministic latent.
    pub kl: Vec<f32>,
    /// The object whose pixels the entity wins most of; none if it wins none of any, or where the objects are not known.
    pub object: Option<u8>,
}

/// What the encoder makes of many scenes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latents {
    /// The entities: of a grid the present ones, of a single candidate that one.
    pub entities: Vec<EncodedEntity>,
    /// Mean KL of every candidate over the scenes, in nats, (N).
    pub kl_map: Vec<f64>,
    /// How many scenes there were.
    pub scenes: usize,
}

impl Latents {
    /// Adds a batch of images (B, H, W, C) and, where they are known, the masks of their objects (H·W each).
    pub fn add(
        &mut self,
        model: &Model,
        images: &Tensor,
        masks: &[Option<Vec<u8>>],
        selection: &Selection,
    ) -> Result<()> {
        let parts = Decomposition::of(model, images, selection)?;
        let entities = &parts.inference.entities;
        let host = |t: Tensor| t.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec3::<f32>();
        let means = host(entities.mean()?)?;
        let kl = entities.kl_of_dimensions()?.map(host).transpose()?;
        // A single candidate is all there is of its scene: nothing else could take its place.
        let single = model.grid() == (1, 1);
        for (i, cells) in parts.cells.iter().enumerate() {
            for (k, &cell) in cells.iter().enumerate().filter(|(k, _)| single || parts.present[i][*k]) {
                let truth = masks.get(i).and_then(Option::as_deref);
                self.entities.push(EncodedEntity {
                    scene: self.scenes + i,
                    cell,
                    mean: means[i][k].clone(),
                    kl: kl.as_ref().map_or_else(Vec::new, |kl| kl[i][k].clone()),
                    object: truth.and_then(|truth| most_won(truth, &parts.masks[i], k as u8)),
                });
            }
        }
        self.add_map(&parts.kl_map);
        Ok(())
    }

    fn add_map(&mut self, maps: &[Vec<f32>]) {
        for map in maps {
            self.kl_map.resize(map.len(), 0.0);
            self.scenes += 1;
            let count = self.scenes as f64;
            self.kl_map.iter_mut().zip(map).for_each(|(mean, kl)| *mean += (f64::from(*kl) - *mean) / count);
        }
    }

    /// Mean over the entities of what each dimension adds to the KL, in nats; empty for a deterministic latent.
    pub fn kl_of_dimensions(&self) -> Vec<f64> {
        means(self.entities.iter().map(|entity| entity.kl.as_slice()))
    }

    /// Variance over the entities of each dimension of μ: how much it tells them apart.
    pub fn activity(&self) -> Vec<f64> {
        let middle = means(self.entities.iter().map(|entity| entity.mean.as_slice()));
        let squares = |entity: &EncodedEntity| -> Vec<f32> {
            entity.mean.iter().zip(&middle).map(|(x, m)| (f64::from(*x) - m).powi(2) as f32).collect()
        };
        let squares: Vec<_> = self.entities.iter().map(squares).collect();
        means(squares.iter().map(Vec::as_slice))
    }

    /// The dimensions, those that say most first: by KL, or by activity where there is none.
    pub fn ranked(&self) -> Vec<usize> {
        let kl = self.kl_of_dimensions();
        if kl.is_empty() { self.ranked_by_activity() } else { largest_first(&kl) }
    }

    /// The dimensions, those first in which entities differ most. What tells every entity from nothing has a large KL and differs
    /// little.
    pub fn ranked_by_activity(&self) -> Vec<usize> {
        largest_first(&self.activity())
    }
}

/// Positions of scores, those of the largest first.
fn largest_first(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order
}

/// The object that owns most of the pixels that an entity wins.
fn most_won(truth: &[u8], won: &[u8], entity: u8) -> Option<u8> {
    let mut pixels = [0usize; 256];
    truth
        .iter()
        .zip(won)
        .filter(|(_, winner)| **winner == entity)
        .for_each(|(object, _)| pixels[*object as usize] += 1);
    let objects = 0..super::BACKGROUND;
    // The lower index where two own as many: `max_by_key` keeps the last.
    let object = objects.rev().max_by_key(|object| pixels[*object as usize])?;
    (pixels[object as usize] > 0).then_some(object)
}

/// Means of each position of equally long rows.
fn means<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Vec<f64> {
    let mut sums = Vec::new();
    let mut count = 0usize;
    for row in rows {
        sums.resize(row.len(), 0.0);
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        count += 1;
    }
    sums.iter().map(|sum| sum / count as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(mean: [f32; 2], kl: &[f32]) -> EncodedEntity {
        EncodedEntity { scene: 0, cell: 0, mean: mean.to_vec(), kl: kl.to_vec(), object: None }
    }

    #[test]
    fn dimensions_are_ranked_by_kl_and_by_activity_where_there_is_none() {
        let entities = vec![entity([9.0, 0.0], &[1.0, 2.0]), entity([1.0, 2.0], &[2.0, 6.0])];
        let latents = Latents { entities, ..Latents::default() };
        assert_eq!(latents.kl_of_dimensions(), [1.5, 4.0]);
        assert_eq!(latents.activity(), [16.0, 1.0]);
        assert_eq!((latents.ranked(), latents.ranked_by_activity()), (vec![1, 0], vec![0, 1]));
        let points = vec![entity([9.0, 0.0], &[]), entity([1.0, 2.0], &[])];
        assert_eq!(Latents { entities: points, ..Latents::default() }.ranked(), [0, 1]);
    }

    #[test]
    fn maps_are_averaged_over_scenes() {
        let mut latents = Latents::default();
        latents.add_map(&[vec![1.0, 0.0], vec![3.0, 0.0]]);
        latents.add_map(&[vec![5.0, 6.0]]);
        assert_eq!((latents.kl_map, latents.scenes), (vec![3.0, 2.0], 3));
    }

    #[test]
    fn an_entity_is_of_the_object_that_it_wins_most_of() {
        let truth = [0, 0, 1, 1, 1, 255, 255];
        assert_eq!(most_won(&truth, &[2, 2, 2, 0, 0, 2, 2], 2), Some(0));
        assert_eq!(most_won(&truth, &[2, 2, 2, 0, 0, 2, 2], 0), Some(1));
        assert_eq!(most_won(&truth, &[255, 255, 255, 255, 255, 3, 3], 3), None, "background alone");
    }
}
