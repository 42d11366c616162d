//! A scene taken apart, changed entity by entity, and decoded again.

use crate::evaluate::Decomposition;
use crate::model::{Cells, Compositor, Model};
use candle_core::{DType, Device, Result as TensorResult, Tensor};

/// The entities of one scene, free to be changed: their latents (at the posterior means) and their cells.
#[derive(Clone, Debug)]
pub struct Entities {
    entities: Vec<Entity>,
    compositor: Compositor,
    grid: (usize, usize),
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// z, D numbers.
    pub z: Vec<f32>,
    /// n = row · columns + column.
    pub cell: usize,
    /// Whether it is drawn at all.
    pub drawn: bool,
}

/// One change. Entities are counted from 0, as the selector ranked them; copies come behind the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    /// Takes an entity out.
    Remove(usize),
    /// Moves it so many cells down and to the right.
    Move(usize, [isize; 2]),
    /// Adds another like it, so many cells down and to the right.
    Copy(usize, [isize; 2]),
    /// Sets one dimension of its latent.
    Set {
        /// The entity.
        entity: usize,
        /// Of D, from 0.
        dimension: usize,
        /// In deviations of the prior.
        value: f32,
    },
}

/// Why a change cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no such entity.
    #[error("there is no entity {} of {count}; they are counted from 1, as `mevae decompose` numbers them", .entity + 1)]
    Entity {
        /// Counted from 0.
        entity: usize,
        /// How many there are.
        count: usize,
    },
    /// There is no such dimension.
    #[error("there is no latent dimension {dimension} of {dimensions}; they are counted from 0")]
    Dimension {
        /// Counted from 0.
        dimension: usize,
        /// D.
        dimensions: usize,
    },
    /// The entity would leave the grid.
    #[error("entity {} would be in row {row} and column {column} of a grid of {}×{} cells", .entity + 1, .grid.0, .grid.1)]
    Outside {
        /// Counted from 0.
        entity: usize,
        /// Where it would be.
        row: isize,
        /// Where it would be.
        column: isize,
        /// Rows and columns.
        grid: (usize, usize),
    },
}

impl Entities {
    /// The K entities of image `index` of a decomposition, all of them drawn.
    pub fn of(model: &Model, parts: &Decomposition, index: usize) -> TensorResult<Self> {
        let z = parts.inference.entities.mean()?.get(index)?;
        let z: Vec<Vec<f32>> = z.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2()?;
        let cells = &parts.cells[index];
        let entities = z.into_iter().zip(cells).map(|(z, &cell)| Entity { z, cell, drawn: true }).collect();
        Ok(Self { entities, compositor: parts.inference.compositor.of_image(index)?, grid: model.grid() })
    }

    /// They themselves.
    pub fn all(&self) -> &[Entity] {
        &self.entities
    }

    /// Makes one change.
    pub fn apply(&mut self, edit: Edit) -> Result<(), EditError> {
        match edit {
            Edit::Remove(entity) => self.get(entity)?.drawn = false,
            Edit::Move(entity, by) => {
                let cell = self.cell_beside(entity, by)?;
                self.get(entity)?.cell = cell;
            }
            Edit::Copy(entity, by) => {
                let cell = self.cell_beside(entity, by)?;
                let copy = Entity { cell, ..self.get(entity)?.clone() };
                self.entities.push(copy);
            }
            Edit::Set { entity, dimension, value } => {
                let z = &mut self.get(entity)?.z;
                let dimensions = z.len();
                *z.get_mut(dimension).ok_or(EditError::Dimension { dimension, dimensions })? = value;
            }
        }
        Ok(())
    }

    /// Exchanges the latents of an entity here and one of another scene: each then stands at the other's place.
    pub fn swap(&mut self, entity: usize, other: &mut Self, its: usize) -> Result<(), EditError> {
        std::mem::swap(&mut self.get(entity)?.z, &mut other.get(its)?.z);
        Ok(())
    }

    fn get(&mut self, entity: usize) -> Result<&mut Entity, EditError> {
        let count = self.entities.len();
        self.entities.get_mut(entity).ok_or(EditError::Entity { entity, count })
    }

    fn cell_beside(&mut self, entity: usize, [down, right]: [isize; 2]) -> Result<usize, EditError> {
        let grid = self.grid;
        let cell = self.get(entity)?.cell;
        let (row, column) = ((cell / grid.1) as isize, (cell % grid.1) as isize);
        let (row, column) = (row.saturating_add(down), column.saturating_add(right));
        let inside = |at: isize, side: usize| usize::try_from(at).ok().filter(|at| *at < side);
        match (inside(row, grid.0), inside(column, grid.1)) {
            (Some(row), Some(column)) => Ok(row * grid.1 + column),
            _ => Err(EditError::Outside { entity, row, column, grid }),
        }
    }

    /// E[x|z] of them all together, (H·W·C) in [0, 1].
    pub fn decode(&self, model: &Model, device: &Device) -> TensorResult<Vec<f32>> {
        let (components, drawn) = self.components(model, device)?;
        let kept = self.compositor.keep(&components, &drawn)?;
        image(model, &self.compositor.compose_drawn(&kept)?)
    }

    /// What each draws by itself, whether it is drawn or not.
    pub fn alone(&self, model: &Model, device: &Device) -> TensorResult<Vec<Vec<f32>>> {
        let (components, _) = self.components(model, device)?;
        (0..self.entities.len())
            .map(|k| image(model, &self.compositor.compose_drawn(&components.narrow(1, k, 1)?)?))
            .collect()
    }

    /// The components (1, K, H, W, C'), and which of them are drawn (1, K).
    fn components(&self, model: &Model, device: &Device) -> TensorResult<(Tensor, Tensor)> {
        let (k, d) = (self.entities.len(), self.entities.first().map_or(0, |entity| entity.z.len()));
        let z = self.entities.iter().flat_map(|entity| entity.z.iter().copied()).collect::<Vec<_>>();
        let cells = Cells::new(&[self.entities.iter().map(|entity| entity.cell).collect()], device)?;
        let components = model.decode(&Tensor::from_vec(z, (1, k, d), device)?, &cells)?.drawn()?;
        let drawn = self.entities.iter().map(|entity| f32::from(u8::from(entity.drawn)));
        Ok((components, Tensor::from_iter(drawn, device)?.reshape((1, k))?))
    }
}

fn image(model: &Model, logits: &Tensor) -> TensorResult<Vec<f32>> {
    model.likelihood().mean(logits)?.flatten_all()?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1()
}
