//! Patches → canvases: each patch copied to its place, the rest filled.

use super::op::{Kernel, Path, apply1};
use super::real::Real;
#[cfg(feature = "cuda")]
use super::{
    compose::{Composition, Rule},
    gpu,
};
use candle_core::{Device, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Where patches lie on their canvases, each of which has one.
#[derive(Clone, Debug)]
pub struct Places {
    /// Top-left corner of each patch, (M, 2) in `f32` as y and x, whole numbers; it may lie outside the canvas. All in the canvas's
    /// own corner if there are none.
    pub corners: Option<Tensor>,
    /// Height and width of what is used of a patch.
    pub patch: (usize, usize),
    /// Height and width of a canvas.
    pub canvas: (usize, usize),
    /// What a canvas is filled with.
    pub fill: f64,
}

impl Places {
    /// Patches that are whole canvases themselves.
    pub fn whole(canvas: (usize, usize), fill: f64) -> Self {
        Self { corners: None, patch: canvas, canvas, fill }
    }

    /// Patches of which `patch` is used, at corners (y, x).
    pub fn at(
        corners: &[(isize, isize)],
        patch: (usize, usize),
        canvas: (usize, usize),
        fill: f64,
        device: &Device,
    ) -> Result<Self> {
        let numbers = corners.iter().flat_map(|(y, x)| [*y as f32, *x as f32]);
        let corners = Tensor::from_iter(numbers, device)?.reshape((corners.len(), 2))?;
        Ok(Self { corners: Some(corners), patch, canvas, fill })
    }
}

/// Copies patch i of `patches` (M, P, Q, C) onto a canvas (H, W, C), cut where it leaves the canvas; everything else is filled.
/// The result is (M, H, W, C); the gradient goes back where the pixels came from.
pub fn place(patches: &Tensor, places: &Places) -> Result<Tensor> {
    let dims = patches.dims4()?;
    match Path::of(patches) {
        Path::Cpu => apply1(Placed::new(dims, places)?, patches),
        // A patch composed alone; by any rule.
        #[cfg(feature = "cuda")]
        Path::Gpu => gpu::compose(Composition::of(Placed::unread(dims, places)?, Rule::Sum, 1)?, patches),
        Path::Candle => Placed::new(dims, places)?.reference(patches),
    }
}

/// Places for patches of a known shape as they lie in memory.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub places: Places,
    /// Top-left corner of each patch, if they were read.
    corners: Vec<(isize, isize)>,
    count: usize,
    /// Height and width of a patch in memory.
    pub stored: (usize, usize),
    channels: usize,
}

/// `length` numbers shared by a patch and a canvas, by their offsets in each.
pub(super) struct Run {
    pub patch: usize,
    pub canvas: usize,
    pub length: usize,
}

impl Placed {
    pub fn new(patches: (usize, usize, usize, usize), places: &Places) -> Result<Self> {
        let unread = Self::unread(patches, places)?;
        let corners = match &places.corners {
            Some(corners) => {
                let numbers = corners.to_vec2::<f32>()?;
                numbers.iter().map(|corner| (corner[0] as isize, corner[1] as isize)).collect()
            }
            None => vec![(0, 0); unread.count],
        };
        Ok(Self { corners, ..unread })
    }

    /// Without a look at the corners, which may still be computed: all that a GPU needs.
    pub fn unread(patches: (usize, usize, usize, usize), places: &Places) -> Result<Self> {
        let (count, height, width, channels) = patches;
        if let Some(corners) = &places.corners {
            let dims = corners.dims2()?;
            if dims != (count, 2) {
                bail!("{count} patches were given {} places", dims.0);
            }
        }
        if places.patch.0 > height || places.patch.1 > width {
            bail!("patches of {height}×{width} have no {}×{} to place", places.patch.0, places.patch.1);
        }
        Ok(Self { places: places.clone(), corners: Vec::new(), count, stored: (height, width), channels })
    }

    /// Whether patches are canvases, number by number.
    pub fn is_whole(&self) -> bool {
        let Places { patch, canvas, .. } = &self.places;
        self.stored == *canvas && patch == canvas && self.corners.iter().all(|corner| *corner == (0, 0))
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn fill<T: Real>(&self) -> T {
        T::from_f64(self.places.fill)
    }

    /// Height, width and channels of a canvas.
    pub fn canvas(&self) -> (usize, usize, usize) {
        (self.places.canvas.0, self.places.canvas.1, self.channels)
    }

    pub fn patch_len(&self) -> usize {
        self.stored.0 * self.stored.1 * self.channels
    }

    pub fn canvas_len(&self) -> usize {
        self.places.canvas.0 * self.places.canvas.1 * self.channels
    }

    /// The rows that patch `i` and its canvas share.
    #[inline(always)]
    pub fn runs(&self, i: usize) -> impl Iterator<Item = Run> + use<> {
        let ((y, x), (height, width)) = (self.corners[i], self.places.patch);
        let ((h, w), stored, c) = (self.places.canvas, self.stored.1, self.channels);
        // Columns and rows of the patch that lie on the canvas.
        let visible = |corner: isize, patch: usize, side: usize| {
            let first = (-corner).clamp(0, patch as isize) as usize;
            let last = (side as isize - corner).clamp(first as isize, patch as isize) as usize;
            first..last
        };
        let columns = visible(x, width, w);
        let (start, length) = (columns.start, columns.len());
        visible(y, height, h).filter(move |_| length > 0).map(move |row| Run {
            patch: (row * stored + start) * c,
            canvas: ((row as isize + y) as usize * w + (start as isize + x) as usize) * c,
            length: length * c,
        })
    }

    /// Draws patch `i` on its canvas.
    #[inline(always)]
    pub fn draw<T: Real>(&self, i: usize, patch: &[T], canvas: &mut [T]) {
        canvas.fill(self.fill());
        for run in self.runs(i) {
            canvas[run.canvas..run.canvas + run.length].copy_from_slice(&patch[run.patch..run.patch + run.length]);
        }
    }

    /// Every visible pixel added to a canvas of zeros by its index; invisible ones go to one row too many, which is cut off.
    fn reference(&self, patches: &Tensor) -> Result<Tensor> {
        let ((height, width), (h, w, c), m) = (self.stored, self.canvas(), self.count());
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
        let ink = (patches.reshape((m * height * width, c))? - self.places.fill)?;
        let canvases = (empty.index_add(&rows, &ink, 0)?.narrow(0, 0, m * h * w)? + self.places.fill)?;
        canvases.reshape((m, h, w, c))
    }
}

impl Kernel for Placed {
    const NAME: &'static str = "place";

    fn forward<T: Real>(&self, [patches, _]: [&[T]; 2]) -> Result<(Vec<T>, Shape)> {
        let mut canvases = vec![T::zero(); self.count() * self.canvas_len()];
        let pairs = canvases.par_chunks_mut(self.canvas_len()).zip(patches.par_chunks(self.patch_len()));
        pairs.enumerate().for_each(|(i, (canvas, patch))| self.draw(i, patch, canvas));
        let (h, w, c) = self.canvas();
        Ok((canvases, (self.count(), h, w, c).into()))
    }

    fn backward<T: Real>(&self, _: [&[T]; 2], _: &[T], gradient: &[T], _: [bool; 2]) -> Result<[Option<Vec<T>>; 2]> {
        let mut patches = vec![T::zero(); self.count() * self.patch_len()];
        let pairs = patches.par_chunks_mut(self.patch_len()).zip(gradient.par_chunks(self.canvas_len()));
        pairs.enumerate().for_each(|(i, (patch, canvas))| {
            for run in self.runs(i) {
                patch[run.patch..run.patch + run.length].copy_from_slice(&canvas[run.canvas..run.canvas + run.length]);
            }
        });
        Ok([Some(patches), None])
    }
}

#[cfg(test)]
mod tests {
    use super::super::agreement::{agree, any_patches, cases, uniform};
    use super::*;
    use candle_core::{Device, Var};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(200))]

        #[test]
        fn kernel_and_reference_agree((_, shape, places) in any_patches(), seed: u64) {
            let reference = |patches: &Tensor| Placed::new(patches.dims4()?, &places)?.reference(patches);
            agree([uniform(&shape, 6.0, seed).unwrap()], |[x]| super::place(x, &places), |[x]| reference(x))?;
        }
    }

    #[test]
    fn kernel_and_reference_agree_wherever_the_patches_lie() -> Result<()> {
        let corners = vec![(0, 0), (1, 2), (-2, -1), (3, 4), (-9, 0), (0, 9), (-1, 3)];
        // Stored with one column more than is used.
        let patches = Tensor::arange(0f64, 7.0 * 3.0 * 3.0 * 2.0, &Device::Cpu)?.reshape((7, 3, 3, 2))?;
        let patches = Var::from_tensor(&patches)?;
        let places = Places::at(&corners, (3, 2), (4, 5), -16.0, &Device::Cpu)?;
        let ours = super::place(&patches, &places)?;
        let theirs = Placed::new(patches.dims4()?, &places)?.reference(&patches)?;
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
        let canvas = super::place(&patch, &Places::whole((4, 5), -16.0))?;
        assert_eq!(canvas.flatten_all()?.to_vec1::<f32>()?, patch.flatten_all()?.to_vec1::<f32>()?);
        // Part of such a patch is not.
        let part = super::place(&patch, &Places { patch: (2, 2), ..Places::whole((4, 5), -16.0) })?;
        assert_eq!(part.sum_all()?.to_scalar::<f32>()?, 0.0 + 1.0 + 5.0 + 6.0 - 16.0 * 16.0);
        let two = Places::at(&[(0, 0); 2], (4, 5), (4, 5), -16.0, &Device::Cpu)?;
        assert!(super::place(&patch, &two).is_err());
        assert!(super::place(&patch, &Places::whole((5, 5), -16.0)).is_err());
        Ok(())
    }
}
