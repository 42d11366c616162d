//! Batches on their way to a device.

use candle_core::{Device, Result, Shape, Tensor};

/// Brings batches of one shape to a device. On a GPU the copy runs beside what is computed there, from memory that the device reads by
/// itself; on the CPU there is nothing to be brought.
#[derive(Debug)]
pub struct Feed {
    device: Device,
    shape: Shape,
    #[cfg(feature = "cuda")]
    slots: Option<super::cuda::Slots>,
}

impl Feed {
    /// For batches of this shape.
    pub fn new(device: &Device, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        #[cfg(feature = "cuda")]
        let slots = match device {
            Device::Cuda(cuda) => Some(super::cuda::Slots::new(cuda, device, &shape)?),
            _ => None,
        };
        Ok(Self {
            device: device.clone(),
            shape,
            #[cfg(feature = "cuda")]
            slots,
        })
    }

    /// A batch as a tensor, for whatever is asked of the device next. On a GPU it is overwritten by the second call after this one.
    pub fn bring(&mut self, values: Vec<f32>) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(slots) = &mut self.slots {
            return slots.bring(&values);
        }
        Tensor::from_vec(values, self.shape.clone(), &self.device)
    }
}
