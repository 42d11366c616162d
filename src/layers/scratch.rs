//! Memory that is used again: what a pass needs is the same in every step, and fresh memory has to be cleared by the system
//! before it can be written.

use super::real::Real;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers that nobody uses at the moment.
pub struct Pool<T>(Mutex<Vec<Vec<T>>>);

impl<T> Pool<T> {
    /// A pool without buffers.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

/// A buffer from the pool, which goes back there when dropped.
pub(super) struct Scratch<T: Real> {
    buffer: Vec<T>,
    len: usize,
}

impl<T: Real> Scratch<T> {
    /// `len` numbers that have to be written before they mean anything.
    pub fn new(len: usize) -> Self {
        let mut pool = T::pool().0.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, so that each size finds its own buffer again.
        let fits = (0..pool.len()).filter(|i| pool[*i].len() >= len).min_by_key(|i| pool[*i].len());
        let buffer = fits.filter(|i| pool[*i].len() <= 2 * len).map(|i| pool.swap_remove(i));
        drop(pool);
        Self { buffer: buffer.unwrap_or_else(|| vec![T::zero(); len]), len }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut scratch = Self::new(len);
        scratch.fill(T::zero());
        scratch
    }
}

impl<T: Real> Drop for Scratch<T> {
    fn drop(&mut self) {
        /// Enough for the deepest models; what is beyond it is given back to the system.
        const BUFFERS: usize = 512;
        let mut pool = T::pool().0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < BUFFERS {
            pool.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl<T: Real> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.buffer[..self.len]
    }
}

impl<T: Real> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[..self.len]
    }
}

/// Memory for one group of images: a part of a buffer that others share, or a buffer of its own.
pub(super) enum Buffer<'a, T: Real> {
    Part(&'a mut [T]),
    Own(Scratch<T>),
}

impl<'a, T: Real> Buffer<'a, T> {
    /// The part, if there is one; otherwise `len` numbers that have to be written before they mean anything.
    pub fn of(part: Option<&'a mut [T]>, len: usize) -> Self {
        part.map_or_else(|| Self::Own(Scratch::new(len)), Self::Part)
    }
}

impl<T: Real> Deref for Buffer<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Self::Part(part) => part,
            Self::Own(scratch) => scratch,
        }
    }
}

impl<T: Real> DerefMut for Buffer<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Part(part) => part,
            Self::Own(scratch) => scratch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_zero_also_in_used_memory() {
        // A size that no other test uses, so that the pool gives the same buffer again.
        Scratch::<f64>::new(1_234_567).fill(7.0);
        let zeros = Scratch::<f64>::zeros(1_234_500);
        assert_eq!(zeros.len(), 1_234_500);
        assert!(zeros.iter().all(|x| *x == 0.0));
    }
}
