//! Patches → canvases: each patch copied to its place, the rest filled.

use super::real::Real;
use super::stack::{contiguous, on_cpu};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Copies patch i of `patches` (M, P, Q, C) onto a canvas (H, W, C) with its top-left pixel at `corners[i]` = (y, x), cut
/// where it leaves the canvas; everything else is `fill`. The result is (M, H, W, C); the gradient goes back where the pixels
/// came from.
pub fn place(patches: &Tensor, corners: Vec<(isize, isize)>, canvas: (usize, usize), fill: f64) -> Result<Tensor> {
    let (m, height, width, channels) = patches.dims4()?;
    if corners.len() != m {
        bail!("{m} patches were given {} places", corners.len());
    }
    let place = Place { corners, patch: (height, width), canvas, channels, fill };
    if patches.device().is_cpu() && matches!(patches.dtype(), DType::F32 | DType::F64) {
        patches.apply_op1(place)
    } else {
        place.reference(patches)
    }
}

struct Place {
    corners: Vec<(isize, isize)>,
    patch: (usize, usize),
    canvas: (usize, usize),
    channels: usize,
    fill: f64,
}

/// `length` numbers shared by a patch and a canvas, by their offsets in each.
struct Run {
    patch: usize,
    canvas: usize,
    length: usize,
}

impl Place {
    /// The rows that patch `i` and its canvas share.
    fn runs(&self, i: usize) -> impl Iterator<Item = Run> + use<> {
        let ((y, x), (height, width), (h, w), c) = (self.corners[i], self.patch, self.canvas, self.channels);
        // Columns and rows of the patch that lie on the canvas.
        let visible = |corner: isize, patch: usize, side: usize| {
            let first = (-corner).clamp(0, patch as isize) as usize;
            let last = (side as isize - corner).clamp(first as isize, patch as isize) as usize;
            first..last
        };
        let columns = visible(x, width, w);
        let (start, length) = (columns.start, columns.len());
        visible(y, height, h).filter(move |_| length > 0).map(move |row| Run {
            patch: (row * width + start) * c,
            canvas: ((row as isize + y) as usize * w + (start as isize + x) as usize) * c,
            length: length * c,
        })
    }

    fn patch_len(&self) -> usize {
        self.patch.0 * self.patch.1 * self.channels
    }

    fn canvas_len(&self) -> usize {
        self.canvas.0 * self.canvas.1 * self.channels
    }

    fn forward<T: Real>(&self, patches: &[T]) -> Vec<T> {
        let mut canvases = vec![T::from_f64(self.fill); self.corners.len() * self.canvas_len()];
        let pairs = canvases.par_chunks_mut(self.canvas_len()).zip(patches.par_chunks(self.patch_len()));
        pairs.enumerate().for_each(|(i, (canvas, patch))| {
            for run in self.runs(i) {
                canvas[run.canvas..run.canvas + run.length].copy_from_slice(&patch[run.patch..run.patch + run.length]);
            }
        });
        canvases
    }

    fn backward<T: Real>(&self, gradient: &[T]) -> Vec<T> {
        let mut patches = vec![T::zero(); self.corners.len() * self.patch_len()];
        let pairs = patches.par_chunks_mut(self.patch_len()).zip(gradient.par_chunks(self.canvas_len()));
        pairs.enumerate().for_each(|(i, (patch, canvas))| {
            for run in self.runs(i) {
                patch[run.patch..run.patch + run.length].copy_from_slice(&canvas[run.canvas..run.canvas + run.length]);
            }
        });
        patches
    }

    fn run<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let canvases = self.forward::<T>(contiguous(storage, layout)?);
        Ok((
            T::to_cpu_storage_owned(canvases),
            (self.corners.len(), self.canvas.0, self.canvas.1, self.channels).into(),
        ))
    }

    fn run_backward<T: Real>(&self, patches: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let gradient = gradient.contiguous()?;
        let (storage, layout) = gradient.storage_and_layout();
        Tensor::from_vec(self.backward::<T>(contiguous(on_cpu(&storage)?, layout)?), patches.shape(), patches.device())
    }

    /// Every visible pixel added to a canvas of zeros by its index; invisible ones go to one row too many, which is cut off.
    fn reference(&self, patches: &Tensor) -> Result<Tensor> {
        let ((height, width), (h, w), c) = (self.patch, self.canvas, self.channels);
        let m = self.corners.len();
        let mut rows = vec![(m * h * w) as u32; m * height * width];
        for i in 0..m {
            for run in self.runs(i) {
                for pixel in 0..run.length / c {
                    rows[i * height * width + run.patch / c + pixel] = (i * h * w + run.canvas / c + pixel) as u32;
                }
            }
        }
        let rows = Tensor::from_vec(rows, m * height * width, patches.device())?;
        let empty = Tensor::zeros((m * h * w + 1, c), patches.dtype(), patches.device())?;
        let ink = (patches.reshape((m * height * width, c))? - self.fill)?;
        let canvases = (empty.index_add(&rows, &ink, 0)?.narrow(0, 0, m * h * w)? + self.fill)?;
        canvases.reshape((m, h, w, c))
    }
}

impl CustomOp1 for Place {
    fn name(&self) -> &'static str {
        "place"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        match storage {
            CpuStorage::F64(_) => self.run::<f64>(storage, layout),
            _ => self.run::<f32>(storage, layout),
        }
    }

    fn bwd(&self, patches: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        match patches.dtype() {
            DType::F64 => self.run_backward::<f64>(patches, gradient),
            _ => self.run_backward::<f32>(patches, gradient),
        }
        .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn kernel_and_reference_agree_wherever_the_patches_lie() -> Result<()> {
        let corners = vec![(0, 0), (1, 2), (-2, -1), (3, 4), (-9, 0), (0, 9), (-1, 3)];
        let patches = Tensor::arange(0f64, 7.0 * 3.0 * 2.0 * 2.0, &Device::Cpu)?.reshape((7, 3, 2, 2))?;
        let patches = Var::from_tensor(&patches)?;
        let place = Place { corners: corners.clone(), patch: (3, 2), canvas: (4, 5), channels: 2, fill: -16.0 };
        let (ours, theirs) = (super::place(&patches, corners, (4, 5), -16.0)?, place.reference(&patches)?);
        assert_eq!(ours.flatten_all()?.to_vec1::<f64>()?, theirs.flatten_all()?.to_vec1::<f64>()?);
        let weights = Tensor::arange(0f64, 7.0 * 40.0, &Device::Cpu)?.reshape(ours.shape())?;
        let gradient = |out: Tensor| -> Result<Vec<f64>> {
            (out * &weights)?.sum_all()?.backward()?.get(&patches).unwrap().flatten_all()?.to_vec1()
        };
        assert_eq!(gradient(ours)?, gradient(theirs)?);
        Ok(())
    }

    #[test]
    fn a_patch_as_large_as_the_canvas_is_the_canvas() -> Result<()> {
        let patch = Tensor::arange(0f32, 20.0, &Device::Cpu)?.reshape((1, 4, 5, 1))?;
        let canvas = super::place(&patch, vec![(0, 0)], (4, 5), -16.0)?;
        assert_eq!(canvas.flatten_all()?.to_vec1::<f32>()?, patch.flatten_all()?.to_vec1::<f32>()?);
        assert!(super::place(&patch, vec![], (4, 5), 0.0).is_err());
        Ok(())
    }
}
