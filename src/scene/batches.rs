//! An endless, seeded stream of training batches, synthesised ahead by background threads.

use std::io;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use cpu_time::ThreadTime;

use super::layers::Layers;
use super::order::{Epochs, Order};
use super::source::SceneSource;

/// Most threads used.
const MAX_WORKERS: usize = 64;

/// Batches each worker keeps ready.
const AHEAD: usize = 2;

/// Most values of a batch, 4 GiB of them: beyond lies a mistyped size.
const MAX_VALUES: usize = 1 << 30;

/// Images of one training step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Number of the step.
    pub step: u64,
    /// Index of each scene in its source.
    pub scenes: Vec<u64>,
    /// `(B, H, W, C)`, 0 to 1.
    pub images: Vec<f32>,
}

/// The stream. Batch t is a function of source, batch size, seed, t and how many of its scenes are
/// easier alone: starting at any step is immediate, and the number of workers changes nothing but the
/// speed.
///
/// A fixed source is shuffled anew each epoch, and batches run on from one epoch into the next,
/// so that all are full. An endless one can give fresh scenes instead, each shown once.
#[derive(Debug)]
pub struct Batches {
    /// Worker w makes steps first + w, first + w + workers, … and has a bounded channel of its
    /// own: taking from them in turn keeps the order without ever holding more than they do.
    workers: Vec<Worker>,
    turn: usize,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct Worker {
    batches: Receiver<Batch>,
    thread: JoinHandle<()>,
}

impl Batches {
    /// Starts the stream at `first_step` with `workers` threads (at least 1, at most 64).
    ///
    /// In the share `apart(t)` of the scenes of step t, rounded up, objects leave one another alone ([`SceneSource::draw`]): a
    /// curriculum (Bengio et al. 2009), where it falls. The others are the recipe's own.
    pub fn new(
        source: Arc<SceneSource>,
        batch: usize,
        seed: u64,
        first_step: u64,
        fresh: bool,
        workers: usize,
        apart: impl Fn(u64) -> f64 + Send + Sync + 'static,
    ) -> Result<Self, BatchesError> {
        let values = batch.checked_mul(source.shape().values());
        if batch == 0 || values.is_none_or(|values| values > MAX_VALUES) {
            return Err(BatchesError::Size(batch));
        }
        // The other half of the numbers is more than any run can use up.
        if first_step.checked_mul(batch as u64).is_none_or(|position| position > u64::MAX / 2) {
            return Err(BatchesError::Step(first_step));
        }
        let order = match u32::try_from(source.len()) {
            _ if fresh && source.endless() => Order::Fresh,
            _ if fresh => return Err(BatchesError::NotEndless(source.name().to_owned())),
            Ok(scenes) => Order::Epochs(Epochs::new(seed, scenes)),
            Err(_) => return Err(BatchesError::Length(source.len())),
        };
        let apart: Arc<Share> = Arc::new(apart);
        let meter = Arc::new(Meter::default());
        let workers = workers.clamp(1, MAX_WORKERS);
        let spawn = |first: usize| {
            let maker = Maker {
                pixels: vec![0; source.shape().values()],
                source: Arc::clone(&source),
                batch,
                order: order.clone(),
                apart: Arc::clone(&apart),
                layers: Layers::default(),
                meter: Arc::clone(&meter),
            };
            spawn(maker, first_step + first as u64, workers)
        };
        let workers = (0..workers).map(spawn).collect::<io::Result<_>>()?;
        Ok(Self { workers, turn: 0, meter })
    }

    /// What synthesis has cost so far.
    pub fn throughput(&self) -> Throughput {
        Throughput {
            scenes: self.meter.scenes.load(Ordering::Relaxed),
            cpu_seconds: self.meter.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9,
        }
    }
}

impl Iterator for Batches {
    type Item = Batch;

    /// The batch of the next step; there always is one.
    ///
    /// # Panics
    ///
    /// With the panic of a worker, should one ever panic.
    fn next(&mut self) -> Option<Batch> {
        let worker = self.workers.get(self.turn)?;
        if let Ok(batch) = worker.batches.recv() {
            self.turn = (self.turn + 1) % self.workers.len();
            return Some(batch);
        }
        // Workers stop on their own only by a panic, which must not pass as the end of the data.
        match self.workers.swap_remove(self.turn).thread.join() {
            Err(payload) => panic::resume_unwind(payload),
            Ok(()) => None,
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // A worker that finds its channel closed stops; all are told before any is waited for.
        let threads: Vec<_> = self.workers.drain(..).map(|worker| worker.thread).collect();
        for thread in threads {
            // A panic has nobody left to concern.
            let _ = thread.join();
        }
    }
}

fn spawn(mut maker: Maker, first_step: u64, stride: usize) -> io::Result<Worker> {
    let (sender, batches): (SyncSender<Batch>, _) = sync_channel(AHEAD);
    let thread = thread::Builder::new().name("scenes".to_owned()).spawn(move || {
        let steps = (first_step..).step_by(stride);
        for step in steps {
            if sender.send(maker.make(step)).is_err() {
                return;
            }
        }
    })?;
    Ok(Worker { batches, thread })
}

/// Which share of the scenes of a step are easier.
type Share = dyn Fn(u64) -> f64 + Send + Sync;

/// Makes batches, keeping its working memory from one to the next.
struct Maker {
    source: Arc<SceneSource>,
    batch: usize,
    order: Order,
    apart: Arc<Share>,
    layers: Layers,
    pixels: Vec<u8>,
    meter: Arc<Meter>,
}

impl Maker {
    fn make(&mut self, step: u64) -> Batch {
        let start = ThreadTime::now();
        let first = step * self.batch as u64;
        let scenes: Vec<u64> = (first..first + self.batch as u64).map(|position| self.order.scene(position)).collect();
        let apart = ((self.apart)(step) * self.batch as f64).ceil() as usize;
        let mut images = Vec::with_capacity(self.batch * self.pixels.len());
        for (place, &scene) in scenes.iter().enumerate() {
            let drawn = self.source.draw(scene, place < apart, &mut self.layers, &mut self.pixels);
            drawn.expect("the order stays inside a source that is not endless");
            images.extend(self.pixels.iter().map(|&pixel| f32::from(pixel) / 255.0));
        }
        self.meter.scenes.fetch_add(self.batch as u64, Ordering::Relaxed);
        let nanoseconds = start.elapsed().as_nanos() as u64;
        self.meter.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        Batch { step, scenes, images }
    }
}

#[derive(Debug, Default)]
struct Meter {
    scenes: AtomicU64,
    nanoseconds: AtomicU64,
}

/// What synthesis has cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Scenes synthesised, those waiting included.
    pub scenes: u64,
    /// Processor time spent on them, over all workers.
    pub cpu_seconds: f64,
}

impl Throughput {
    /// Scenes that one core makes in a second; 0 before the first batch.
    pub fn scenes_per_core_second(self) -> f64 {
        if self.cpu_seconds > 0.0 { self.scenes as f64 / self.cpu_seconds } else { 0.0 }
    }
}

/// Why there are no such batches.
#[derive(Debug, thiserror::Error)]
pub enum BatchesError {
    /// Too small or too large a batch.
    #[error("a batch of {0} scenes is not possible; choose a size of at least 1 whose images fit in 4 GiB")]
    Size(usize),
    /// Too far a start.
    #[error("step {0} lies beyond any training; start at a lower one")]
    Step(u64),
    /// Fresh scenes of a fixed source.
    #[error("{0} is a fixed set without fresh scenes; train on it without asking for fresh ones")]
    NotEndless(String),
    /// More scenes than can be shuffled.
    #[error("{0} scenes are too many to shuffle; split the source")]
    Length(u64),
    /// No thread.
    #[error("a worker thread cannot start ({0}); use fewer workers")]
    Spawn(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::super::{DigitSet, Split};
    use super::*;

    fn source(name: &str, split: Split) -> Arc<SceneSource> {
        Arc::new(SceneSource::open(name, DigitSet::builtin(), split, 0).unwrap())
    }

    fn take(first_step: u64, fresh: bool, workers: usize, count: usize) -> Vec<Batch> {
        let source = source("survey", Split::Test);
        Batches::new(source, 3, 1, first_step, fresh, workers, |_| 0.0).unwrap().take(count).collect()
    }

    #[test]
    fn workers_and_starting_step_change_nothing() {
        for fresh in [false, true] {
            let base = take(0, fresh, 1, 8);
            assert!(base.iter().map(|batch| batch.step).eq(0..8));
            for workers in [2, 3, 5] {
                assert_eq!(take(0, fresh, workers, 8), base);
            }
            assert_eq!(take(5, fresh, 2, 3), base[5..]);
        }
    }

    #[test]
    fn batches_hold_the_scenes_of_the_order() {
        let source = source("survey", Split::Test);
        let values = source.shape().values();
        for (fresh, mut order) in [(true, Order::Fresh), (false, Order::Epochs(Epochs::new(1, 1_000)))] {
            // Steps 332 to 334 cross from position 999 into the second epoch.
            for batch in take(332, fresh, 2, 3) {
                assert_eq!(batch.images.len(), 3 * values);
                for (place, image) in batch.images.chunks(values).enumerate() {
                    let index = order.scene(3 * batch.step + place as u64);
                    assert_eq!(batch.scenes[place], index);
                    let scene = source.scene(index).unwrap();
                    assert!(image.iter().zip(&scene.image).all(|(&x, &y)| x == f32::from(y) / 255.0));
                }
            }
        }
    }

    #[test]
    fn easier_scenes_are_asked_for_step_by_step() {
        let source = source("survey", Split::Train);
        let values = source.shape().values();
        // Each step's two images.
        let images = |share: fn(u64) -> f64, workers| -> Vec<Vec<f32>> {
            let batches = Batches::new(Arc::clone(&source), 2, 1, 0, true, workers, share).unwrap();
            batches
                .take(6)
                .flat_map(|batch| batch.images.chunks(values).map(<[f32]>::to_vec).collect::<Vec<_>>())
                .collect()
        };
        let [own, apart] = [images(|_| 0.0, 1), images(|_| 1.0, 1)];
        // Some lie apart anyway.
        let easier = own.iter().zip(&apart).filter(|(own, apart)| own != apart).count();
        assert!(easier >= 8, "{easier} of 12");
        for workers in [1, 3] {
            let falling = images(|step| [1.0, 0.5, 0.0][step as usize / 2], workers);
            assert_eq!(falling[..4], apart[..4]);
            assert_eq!((&falling[4], &falling[5], &falling[6], &falling[7]), (&apart[4], &own[5], &apart[6], &own[7]));
            assert_eq!(falling[8..], own[8..]);
        }
    }

    #[test]
    fn dropping_stops_every_worker() {
        let source = source("single", Split::Test);
        for taken in 0..3 {
            let mut batches = Batches::new(Arc::clone(&source), 2, 0, 0, false, 4, |_| 0.0).unwrap();
            batches.by_ref().take(taken).for_each(drop);
            drop(batches);
            assert_eq!(Arc::strong_count(&source), 1, "a worker still holds the source");
        }
    }

    #[test]
    fn throughput_counts_scenes_and_time() {
        let mut batches = Batches::new(source("air", Split::Train), 64, 0, 0, true, 1, |_| 0.0).unwrap();
        batches.by_ref().take(3).for_each(drop);
        let throughput = batches.throughput();
        assert!(throughput.scenes >= 192 && throughput.scenes.is_multiple_of(64), "{throughput:?}");
        assert!(throughput.cpu_seconds > 0.0, "{throughput:?}");
        assert!(throughput.scenes_per_core_second() > 0.0);
    }

    #[test]
    fn impossible_streams_are_refused() {
        let new = |batch, first_step, fresh| {
            Batches::new(source("single", Split::Test), batch, 0, first_step, fresh, 1, |_| 0.0).map(drop)
        };
        assert!(matches!(new(0, 0, false), Err(BatchesError::Size(0))));
        assert!(matches!(new(usize::MAX, 0, false), Err(BatchesError::Size(_))));
        assert!(matches!(new(2, u64::MAX / 2, false), Err(BatchesError::Step(_))));
        assert!(matches!(new(2, 0, true), Err(BatchesError::NotEndless(_))));
        assert!(new(2, u64::MAX / 4, false).is_ok());
    }
}
