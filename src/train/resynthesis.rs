//! Scenes put together anew from entities that were found in others: of these it is known which cells should speak, and what each of them
//! should draw.
//!
//! The likelihood alone does not mind whether two entities share an object, or one draws two that lie close. But an object that was found
//! in one place can be cut out and put down in another, beside objects from other scenes, as the prior has it: entities are independent,
//! and so are their places. What was wrongly torn apart or joined does not lie together again by chance, so what is right prevails.
//!
//! > λ ( Σ_k (−log p(x_k|z_k) + β KL_k) + s Σ_n KL_n )
//!
//! x_k is the scene with nothing in it but entity k, of which later ones may cover a part; z_k is a sample of what the encoder, which sees the whole scene, says at the cell where k
//! was put; n runs over all the other cells. So an entity's own likelihood takes the place of the scene's. The sleep phase of Hinton
//! et al. 1995 ("The wake-sleep algorithm for unsupervised neural networks") trains a recogniser like this, on what the model dreams;
//! these scenes are made of real pixels.

use crate::layers::Extent;
use crate::model::{Cells, Inference, Model, distance, indicator};
use crate::random;
use candle_core::{DType, Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// An entity is cut out whose pixels are so much its own: Σ share² / Σ share over what it draws.
const OWN: f32 = 0.95;
/// … and so many pixels of it, counted by their brightness where there is no mask.
const FEWEST_PIXELS: f32 = 20.0;
/// So much of it must lie within the image at its new place.
const INSIDE: f32 = 0.97;
/// Attempts to find another entity or place that fits.
const TRIES: usize = 10;

/// New scenes, and what is known of them.
#[derive(Debug)]
pub(super) struct Resynthesis {
    /// (B', H, W, C)
    images: Tensor,
    /// (B', K): those of the entities in each, and others.
    cells: Cells,
    /// (B', K): 1 where there is an entity.
    known: Tensor,
    /// What is seen of each, nothing else being there: (B'·K, H, W, C).
    alone: Tensor,
    /// (B', K, D)
    noise: Tensor,
}

impl Resynthesis {
    /// Half as many scenes as there are images in the inference, if at least two entities of it can be cut out; none of a scene within
    /// `radius` cells of another.
    pub fn of(
        model: &Model,
        inference: &Inference,
        images: &Tensor,
        radius: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Self>> {
        let stock = Stock::of(model, inference, images)?;
        if stock.found.len() < 2 {
            return Ok(None);
        }
        let scenes: Vec<Scene> = (0..stock.present.len().div_ceil(2)).map(|_| stock.scene(radius, rng)).collect();
        let mut noise = vec![0f32; scenes.len() * stock.entities * inference.z.dim(2)?];
        random::normals(rng, &mut noise);
        Self::made_of(&stock, &scenes, noise, images).map(Some)
    }

    /// These scenes, as tensors like others.
    fn made_of(stock: &Stock, scenes: &[Scene], noise: Vec<f32>, like: &Tensor) -> Result<Self> {
        let (mut cells, mut known, mut pixels, mut alone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for scene in scenes {
            pixels.extend_from_slice(&scene.pixels);
            (0..stock.entities).for_each(|k| alone.extend(stock.alone(scene, k)));
            let mut here: Vec<usize> = scene.entities.iter().map(|(_, cell)| *cell).collect();
            known.push((0..stock.entities).map(|k| k < here.len()).collect());
            // There always are K different cells; nothing is asked of those that fill up.
            let free = (0..).filter(|cell| !scene.entities.iter().any(|(_, other)| other == cell));
            here.extend(free.take(stock.entities - here.len()));
            cells.push(here);
        }
        let (device, count, entities) = (like.device(), scenes.len(), stock.entities);
        let Extent { height, width, channels } = stock.image;
        let dimensions = noise.len() / (count * entities).max(1);
        let tensor = |values, shape: &[usize]| Tensor::from_vec(values, shape, device)?.to_dtype(like.dtype());
        Ok(Self {
            images: tensor(pixels, &[count, height, width, channels])?,
            cells: Cells::new(&cells, device)?,
            known: indicator(&known, device)?.to_dtype(like.dtype())?,
            alone: tensor(alone, &[count * entities, height, width, channels])?,
            noise: tensor(noise, &[count, entities, dimensions])?,
        })
    }

    /// What is in brackets above, a mean over the scenes.
    pub fn nats(&self, model: &Model, beta: f64, silence: f64) -> Result<Tensor> {
        let candidates = model.candidates(&self.images)?; //                          (B', N, D)
        let entities = candidates.gather(&self.cells)?; //                            (B', K, D)
        let components = model.decode(&entities.sample(Some(&self.noise))?, &self.cells)?.drawn()?;
        let drawn = model.compositor().on(&self.images)?.alone(&components)?.flatten_to(1)?; // (B'·K, H, W, C)
        let log_probs = model.likelihood().log_prob(&drawn, &self.alone)?.reshape(self.known.shape())?;
        let kls = (entities.kl()? * &self.known)?;
        let others = (candidates.kl()?.sum(1)? - kls.sum(1)?)?;
        let terms = ((kls * beta)? - (log_probs * &self.known)?)?.sum(1)? + (others * silence)?;
        terms?.mean(0)
    }
}

/// Everything that scenes can be made of, on the host.
struct Stock {
    image: Extent,
    /// K
    entities: usize,
    /// Columns of the grid.
    columns: usize,
    /// Pixels that a cell is high and wide.
    cell: (usize, usize),
    /// (B, H, W, C)
    pixels: Vec<f32>,
    /// How much of each pixel belongs to each entity: (B, K, H, W).
    shares: Vec<f32>,
    /// What is behind the entities, (B, H, W, C), where these cover it; otherwise the brighter of two pixels is seen.
    ground: Option<Vec<f32>>,
    /// How many entities say something in each image.
    present: Vec<usize>,
    found: Vec<Found>,
}

/// An entity that can be cut out.
struct Found {
    image: usize,
    entity: usize,
    cell: usize,
    /// Its pixels, each as much as it matters.
    matter: f32,
}

struct Scene {
    /// (H, W, C)
    pixels: Vec<f32>,
    /// Number of the image whose ground it lies on.
    like: usize,
    /// Which of the found ones, and in which cell.
    entities: Vec<(usize, usize)>,
}

impl Stock {
    fn of(model: &Model, inference: &Inference, images: &Tensor) -> Result<Self> {
        let host =
            |x: &Tensor| x.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>();
        let image = model.image();
        let (batch, entities) = inference.entities.dims2()?;
        // Drawn by a model outside the graph: no backward pass goes through this.
        let components = model.decode(&inference.z.detach(), &inference.cells)?.drawn()?;
        let mut shares = host(&inference.compositor.strengths(&components)?)?;
        let ground = inference.compositor.ground(batch, image)?.as_ref().map(host).transpose()?;
        if ground.is_none() {
            shares.chunks_exact_mut(entities * image.height * image.width).for_each(|of| share(of, entities));
        }
        let (rows, columns) = model.grid();
        let pixels = host(images)?;
        let mut stock = Self {
            image,
            entities,
            columns,
            cell: model.cell(),
            pixels,
            shares,
            ground,
            present: vec![],
            found: vec![],
        };
        stock.find(&inference.entities.kl_map()?, &inference.cells.lists()?, ((rows * columns) as f32).ln());
        Ok(stock)
    }

    /// Entities that say at least `least` nats, and those of them that can be cut out.
    fn find(&mut self, kl: &[Vec<f32>], cells: &[Vec<usize>], least: f32) {
        for (image, (kl, cells)) in kl.iter().zip(cells).enumerate() {
            let there: Vec<usize> = (0..self.entities).filter(|entity| kl[*entity] >= least).collect();
            self.present.push(there.len());
            for entity in there {
                let found = Found { image, entity, cell: cells[entity], matter: 0.0 };
                let (mut matter, mut own) = (0.0, 0.0);
                for (pixel, share) in self.shares_of(&found).iter().enumerate() {
                    let weight = self.weight(image, pixel);
                    matter += share * weight;
                    own += share * share * weight;
                }
                if own >= OWN * matter && matter >= FEWEST_PIXELS {
                    self.found.push(Found { matter, ..found });
                }
            }
        }
    }

    /// One more scene: as many entities as some image has, each in a cell where some other was found.
    fn scene(&self, radius: usize, rng: &mut ChaCha8Rng) -> Scene {
        let like = rng.random_range(0..self.present.len());
        let mut scene = Scene { pixels: self.empty(like), like, entities: Vec::new() };
        for _ in 0..self.present[like] {
            let fitting = (0..TRIES).find_map(|_| {
                let which = rng.random_range(0..self.found.len());
                let cell = self.found[rng.random_range(0..self.found.len())].cell;
                let free = scene.entities.iter().all(|(_, other)| distance(cell, *other, self.columns) > radius);
                (free && self.lies_inside(which, cell)).then_some((which, cell))
            });
            if let Some((which, cell)) = fitting {
                self.put(which, cell, &mut scene.pixels);
                scene.entities.push((which, cell));
            }
        }
        scene
    }

    /// What is behind the entities of an image.
    fn empty(&self, image: usize) -> Vec<f32> {
        match &self.ground {
            Some(ground) => ground[image * self.image.len()..][..self.image.len()].to_vec(),
            None => vec![0.0; self.image.len()],
        }
    }

    /// What is seen of one of a scene's entities: all of it, or where entities cover one another, what no later one covers.
    fn alone(&self, scene: &Scene, entity: usize) -> Vec<f32> {
        let behind = self.empty(scene.like);
        let Some((&(which, cell), later)) = scene.entities.get(entity..).and_then(<[_]>::split_first) else {
            return behind;
        };
        let (mut pixels, channels) = (behind.clone(), self.image.channels);
        self.put(which, cell, &mut pixels);
        if self.ground.is_some() {
            for &(which, cell) in later {
                let found = &self.found[which];
                for (_, to) in self.moved(found, cell).filter(|(from, _)| self.covers(found, *from)) {
                    let pixel = to * channels..(to + 1) * channels;
                    pixels[pixel.clone()].copy_from_slice(&behind[pixel]);
                }
            }
        }
        pixels
    }

    /// Whether an entity that hides what is behind it does so at a pixel of the image that it was found in.
    fn covers(&self, found: &Found, pixel: usize) -> bool {
        self.shares_of(found)[pixel] > 0.5
    }

    fn lies_inside(&self, which: usize, cell: usize) -> bool {
        let found = &self.found[which];
        let shares = self.shares_of(found);
        let inside: f32 = self.moved(found, cell).map(|(from, _)| shares[from] * self.weight(found.image, from)).sum();
        inside >= INSIDE * found.matter
    }

    /// Puts an entity down in a cell, over what is there.
    fn put(&self, which: usize, cell: usize, canvas: &mut [f32]) {
        let found = &self.found[which];
        let (shares, channels) = (self.shares_of(found), self.image.channels);
        for (from, to) in self.moved(found, cell) {
            let pixel = &self.pixels[(found.image * shares.len() + from) * channels..][..channels];
            for (below, above) in canvas[to * channels..].iter_mut().zip(pixel) {
                *below = match self.ground {
                    Some(_) if self.covers(found, from) => *above,
                    Some(_) => *below,
                    None => below.max(above * shares[from]),
                };
            }
        }
    }

    /// Pixels of an image, and where they come to lie when an entity of it moves to another cell.
    fn moved(&self, found: &Found, cell: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Extent { height, width, .. } = self.image;
        let by = |from: usize, to: usize, pixels: usize| (to as isize - from as isize) * pixels as isize;
        let down = by(found.cell / self.columns, cell / self.columns, self.cell.0);
        let right = by(found.cell % self.columns, cell % self.columns, self.cell.1);
        (0..height).flat_map(move |y| {
            let row = y.checked_add_signed(down).filter(|row| *row < height);
            (0..width).filter_map(move |x| {
                let column = x.checked_add_signed(right).filter(|column| *column < width)?;
                Some((y * width + x, row? * width + column))
            })
        })
    }

    /// (H, W)
    fn shares_of(&self, found: &Found) -> &[f32] {
        let pixels = self.image.height * self.image.width;
        &self.shares[self.number(found) * pixels..][..pixels]
    }

    /// Its place among the entities of all images, (B·K).
    fn number(&self, found: &Found) -> usize {
        found.image * self.entities + found.entity
    }

    /// How much a pixel matters: its brightness, or where colours are masked, 1.
    fn weight(&self, image: usize, pixel: usize) -> f32 {
        let Extent { height, width, channels } = self.image;
        let brightest = |pixel: &[f32]| pixel.iter().copied().fold(0.0, f32::max);
        match self.ground {
            Some(_) => 1.0,
            None => brightest(&self.pixels[(image * height * width + pixel) * channels..][..channels]),
        }
    }
}

/// Divides each pixel of one image among the K entities that would draw it, by how strongly: (K, H, W).
fn share(strengths: &mut [f32], entities: usize) {
    // What hardly anyone draws is hardly anyone's.
    const NOBODY: f32 = 0.02;
    let pixels = strengths.len() / entities.max(1);
    for pixel in 0..pixels {
        let sum = (0..entities).map(|entity| strengths[entity * pixels + pixel]).sum::<f32>() + NOBODY;
        (0..entities).for_each(|entity| strengths[entity * pixels + pixel] /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Preset};
    use crate::model::{Selection, Variables, Weights};

    /// Two images of 12×12 pixels in cells of 4: in each a block of 4×4 pixels fills the cell (1, 1), in the first brighter, and K = 2
    /// entities of which the second draws nothing.
    fn stock(ground: Option<Vec<f32>>) -> Stock {
        let image = Extent::new(12, 12, 1);
        let block = |p: usize| (4..8).contains(&(p / 12)) && (4..8).contains(&(p % 12));
        let of = |inside: f32, p: usize| if block(p) { inside } else { 0.0 };
        let pixels = (0..288).map(|p| of([0.9, 0.5][p / 144], p % 144)).collect();
        let shares = (0..576).map(|p| of([1.0, 0.0][p / 144 % 2], p % 144)).collect();
        let (present, found) = (vec![], vec![]);
        let mut stock = Stock { image, entities: 2, columns: 3, cell: (4, 4), pixels, shares, ground, present, found };
        find_again(&mut stock);
        stock
    }

    fn find_again(stock: &mut Stock) {
        (stock.present, stock.found) = (vec![], vec![]);
        stock.find(&[vec![20.0, 1.0], vec![30.0, 2.0]], &[vec![4, 0], vec![4, 8]], 2.0);
    }

    #[test]
    fn what_says_enough_and_is_large_enough_is_found() {
        // 16 pixels: few where they count by brightness, enough of them never.
        let mut stock = stock(None);
        assert_eq!((stock.present.clone(), stock.found.len()), (vec![1, 2], 0));
        stock.pixels.iter_mut().for_each(|pixel| *pixel *= 3.0);
        find_again(&mut stock);
        let found: Vec<_> = stock.found.iter().map(|found| (found.image, found.entity, found.cell)).collect();
        assert_eq!(found, [(0, 0, 4), (1, 0, 4)]);
    }

    #[test]
    fn an_entity_that_shares_its_pixels_is_not_cut_out() {
        let mut stock = stock(None);
        stock.pixels.iter_mut().for_each(|pixel| *pixel *= 3.0);
        for (own, expected) in [(0.5, &[1][..]), (0.94, &[1]), (0.96, &[0, 1])] {
            stock.shares[..144].iter_mut().for_each(|share| *share = if *share > 0.0 { own } else { 0.0 });
            find_again(&mut stock);
            assert_eq!(stock.found.iter().map(|found| found.image).collect::<Vec<_>>(), expected, "{own}");
        }
    }

    #[test]
    fn an_entity_moves_by_whole_cells_and_covers_or_adds() {
        for (ground, behind) in [(None, 0.0), (Some(vec![0.25; 288]), 0.25)] {
            let mut stock = stock(ground);
            stock.found = vec![Found { image: 0, entity: 0, cell: 4, matter: 16.0 }];
            let mut canvas = vec![behind; 144];
            stock.put(0, 2, &mut canvas);
            for (p, &pixel) in canvas.iter().enumerate() {
                let there = p / 12 < 4 && p % 12 >= 8;
                assert_eq!(pixel, if there { 0.9 } else { behind }, "pixel {p}");
            }
            // What is brighter stays, but what is covered does not.
            let mut canvas = vec![1.0; 144];
            stock.put(0, 4, &mut canvas);
            assert_eq!(canvas[4 * 12 + 4], if stock.ground.is_some() { 0.9 } else { 1.0 });
            assert!(stock.moved(&stock.found[0], 0).all(|(from, to)| from >= to && from - to == 4 * 12 + 4));
        }
    }

    /// Of a scene like the second image: what is in its first image's block at cell 0, then what is in the second's, there and at cell 8.
    fn overlapping() -> Scene {
        Scene { pixels: vec![0.0; 144], like: 1, entities: vec![(0, 0), (1, 0), (1, 8)] }
    }

    #[test]
    fn of_an_entity_alone_all_is_seen_where_nothing_covers_it() {
        let mut stock = stock(None);
        stock.found = [0, 1].map(|image| Found { image, entity: 0, cell: 4, matter: 16.0 }).into();
        for p in 0..144 {
            let drawn =
                |ink: f32, cell: usize| if (p / 12 / 4, p % 12 / 4) == (cell / 3, cell % 3) { ink } else { 0.0 };
            let seen = [0, 1, 2, 3].map(|entity| stock.alone(&overlapping(), entity)[p]);
            assert_eq!(seen, [drawn(0.9, 0), drawn(0.5, 0), drawn(0.5, 8), 0.0], "pixel {p}");
        }
    }

    #[test]
    fn of_an_entity_alone_is_seen_in_colour_what_no_later_one_covers() {
        let grounds: Vec<f32> = (0..2 * 144 * 3).map(|number| number as f32 / 1000.0).collect();
        let mut stock = stock(Some(grounds.clone()));
        stock.image.channels = 3;
        stock.pixels = stock.pixels.iter().flat_map(|pixel| [*pixel, pixel / 2.0, pixel / 4.0]).collect();
        stock.found = [0, 1].map(|image| Found { image, entity: 0, cell: 4, matter: 16.0 }).into();
        for p in 0..144 {
            for channel in 0..3 {
                let behind = grounds[(144 + p) * 3 + channel];
                let second = |cell: usize| match (p / 12 / 4, p % 12 / 4) == (cell / 3, cell % 3) {
                    true => 0.5 / [1.0, 2.0, 4.0][channel],
                    false => behind,
                };
                let seen = [0, 1, 2, 3].map(|entity| stock.alone(&overlapping(), entity)[p * 3 + channel]);
                assert_eq!(seen, [behind, second(0), second(8), behind], "pixel {p}, channel {channel}");
            }
        }
    }

    #[test]
    fn what_is_known_lies_in_tensors_scene_by_scene() -> Result<()> {
        let mut stock = stock(None);
        stock.found = [0, 1].map(|image| Found { image, entity: 0, cell: 4, matter: 16.0 }).into();
        let scene = |pixel: f32, entities: &[(usize, usize)]| Scene {
            pixels: vec![pixel; 144],
            like: 0,
            entities: entities.to_vec(),
        };
        let scenes = [scene(0.25, &[(0, 8), (1, 0)]), scene(0.75, &[(1, 0)])];
        let noise: Vec<f32> = (0..12).map(|number| number as f32).collect();
        let like = Tensor::zeros(1, DType::F64, &Device::Cpu)?;
        let made = Resynthesis::made_of(&stock, &scenes, noise.clone(), &like)?;
        assert_eq!(made.images.dims(), [2, 12, 12, 1]);
        assert_eq!(made.images.narrow(1, 0, 1)?.narrow(2, 0, 1)?.flatten_all()?.to_vec1::<f64>()?, [0.25, 0.75]);
        // The second scene is filled up by a cell that is not taken.
        assert_eq!(made.cells.lists()?, [[8, 0], [0, 1]]);
        assert_eq!(made.known.to_vec2::<f64>()?, [[1.0, 1.0], [1.0, 0.0]]);
        assert_eq!(made.noise.dims(), [2, 2, 3]);
        assert_eq!(made.noise.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?, noise);
        let alone = made.alone.flatten_from(1)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        assert_eq!(alone.len(), 4);
        for (place, alone) in alone.into_iter().enumerate() {
            assert_eq!(alone, stock.alone(&scenes[place / 2], place % 2), "entity {place}");
        }
        Ok(())
    }

    /// A fresh model, and images, cells and noise for it.
    struct Dream {
        model: Model,
        variables: Variables,
        config: Config,
        images: Tensor,
        noise: Tensor,
    }

    fn dream(recipe: &str, entities: usize) -> Result<Dream> {
        let settings = [format!("data.scenes={recipe}"), format!("model.entities={entities}")];
        let config = Config::resolve(Preset::MultiEntity, None, &settings).unwrap();
        let image = Extent::new(64, 64, if recipe == "sprites" { 3 } else { 1 });
        let variables = Variables::new(1);
        let model = Model::new(&config.model, image, variables.builder(DType::F32, &Device::Cpu))?;
        let mut rng = random::stream(2, "test", 0);
        let mut normals = |shape: &[usize]| {
            let mut values = vec![0f32; shape.iter().product()];
            random::normals(&mut rng, &mut values);
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        let images = normals(&[3, 64, 64, image.channels])?.abs()?.clamp(0.0, 1.0)?;
        let noise = normals(&[3, entities, config.model.latent.dimensions()])?;
        Ok(Dream { model, variables, config, images, noise })
    }

    /// Where a scene is one entity and nothing else, it has the loss of an image, and its gradients.
    #[test]
    fn an_entity_alone_costs_and_teaches_what_an_image_of_it_does() -> Result<()> {
        for recipe in ["digits", "sprites"] {
            let Dream { model, variables, config, images, noise } = dream(recipe, 1)?;
            let inference = model.forward(&images, &Selection::trained(&config.model, 0), Some(&noise))?;
            let weights = Weights { beta: 0.7, idle_beta: 0.3, location_charge: 0.0 };
            let expected = weights.loss(&inference, &images)?.total()?;
            let known = Tensor::ones((3, 1), DType::F32, &Device::Cpu)?;
            let scenes = Resynthesis { cells: inference.cells, known, alone: images.clone(), images, noise };
            let nats = scenes.nats(&model, 0.7, 0.3)?;
            let (found, wanted) = (nats.backward()?, expected.backward()?);
            let [nats, expected] = [nats.to_scalar::<f32>()?, expected.to_scalar::<f32>()?];
            assert!((nats - expected).abs() < 1e-4 * expected.abs(), "{recipe}: {nats} is not {expected}");
            for (name, variable) in variables.all() {
                let [found, wanted] = [&found, &wanted].map(|gradients| gradients.get(&variable).unwrap());
                let size = wanted.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?;
                let off = (found - wanted)?.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?;
                assert!(size > 0.0 && off < 1e-3 * size, "{recipe}, {name}: off by {off} of {size}");
            }
            // Of what is not known nothing is asked but silence.
            let silent = Resynthesis { known: scenes.known.zeros_like()?, ..scenes };
            let all = inference.candidates.kl()?.sum(1)?.mean(0)?.to_scalar::<f32>()?;
            let nats = silent.nats(&model, 0.7, 2.0)?.to_scalar::<f32>()?;
            assert!((nats - 2.0 * all).abs() < 1e-4 * all, "{recipe}: {nats} is not twice {all}");
        }
        Ok(())
    }

    /// Each of several entities is held to its own target.
    #[test]
    fn entities_are_asked_one_by_one() -> Result<()> {
        let Dream { model, config, images, noise, .. } = dream("digits", 2)?;
        let cells = model.encode(&images, &Selection::trained(&config.model, 0))?.cells;
        let targets: Vec<Tensor> = (0..6).map(|i| images.get(i % 3)? * (0.1 * i as f64)).collect::<Result<_>>()?;
        let known = |of: [f32; 2]| Tensor::from_vec([of; 3].concat(), (3, 2), &Device::Cpu);
        let (alone, known_all) = (Tensor::stack(&targets, 0)?, known([1.0, 1.0])?);
        let z = model.candidates(&images)?.gather(&cells)?.sample(Some(&noise))?;
        let drawn = model.compositor().alone(&model.decode(&z, &cells)?.drawn()?)?;
        let scenes = Resynthesis { images, cells, known: known_all, alone, noise };
        let mut by_hand = 0.0;
        for (place, target) in targets.iter().enumerate() {
            let drawn = drawn.get(place / 2)?.get(place % 2)?.unsqueeze(0)?;
            by_hand -= model.likelihood().log_prob(&drawn, &target.unsqueeze(0)?)?.sum_all()?.to_scalar::<f32>()? / 3.0;
        }
        let nats = |scenes: &Resynthesis| scenes.nats(&model, 0.0, 0.0)?.to_scalar::<f32>();
        let both = nats(&scenes)?;
        assert!((both - by_hand).abs() < 1e-4 * by_hand, "{both} is not {by_hand}");
        let first = nats(&Resynthesis { known: known([1.0, 0.0])?, ..scenes })?;
        assert!(first > 0.1 * both && first < 0.9 * both, "{first} of {both}");
        Ok(())
    }

    #[test]
    fn a_scene_lies_on_the_ground_of_some_image() {
        let grounds: Vec<f32> = (0..288).map(|p| p as f32 / 288.0).collect();
        let mut stock = stock(Some(grounds.clone()));
        stock.found.clear();
        stock.present = vec![0, 0];
        let mut rng = random::stream(5, "test", 0);
        let mut seen = [0; 2];
        for _ in 0..20 {
            let scene = stock.scene(1, &mut rng);
            let like = (scene.pixels[0] > 0.0) as usize;
            assert_eq!(scene.pixels, grounds[like * 144..][..144]);
            seen[like] += 1;
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    }

    #[test]
    fn scenes_hold_entities_where_they_say_and_apart() {
        let mut stock = stock(Some(vec![0.0; 288]));
        stock.present = vec![2, 2];
        // 16 masked pixels are too few to be found by the rule.
        stock.found =
            [(0, 0), (0, 8), (1, 2), (1, 6)].map(|(image, cell)| Found { image, entity: 0, cell, matter: 16.0 }).into();
        // They lie in cell 4 of the images, so that only those of cell 4 could move anywhere.
        stock.found.iter_mut().for_each(|found| found.cell = 4);
        stock.found.extend([0, 2, 6, 8].map(|cell| Found { image: 0, entity: 0, cell, matter: 1e9 }));
        let mut several = 0;
        for seed in 0..50 {
            let scene = stock.scene(1, &mut random::stream(seed, "test", 0));
            let mut expected = vec![0.0f32; 144];
            for &(which, cell) in &scene.entities {
                assert!(which < 4, "what would be lost beyond the border is not put there");
                for (p, pixel) in expected.iter_mut().enumerate() {
                    if (p / 12 / 4, p % 12 / 4) == (cell / 3, cell % 3) {
                        *pixel = [0.9, 0.5][stock.found[which].image];
                    }
                }
            }
            assert_eq!(scene.pixels, expected);
            assert!(scene.entities.len() <= 2);
            if let [(_, a), (_, b)] = scene.entities[..] {
                assert!((a / 3).abs_diff(b / 3).max((a % 3).abs_diff(b % 3)) > 1, "cells {a} and {b}");
                several += 1;
            }
            assert_eq!(scene.pixels, stock.scene(1, &mut random::stream(seed, "test", 0)).pixels);
        }
        assert!(several > 10, "{several} scenes of two");
    }

    #[test]
    fn shares_of_a_pixel_add_up_to_nearly_one_where_it_is_drawn() {
        let mut strengths = vec![0.9, 0.0, 0.3, 0.0];
        share(&mut strengths, 2);
        assert!((strengths[0] - 0.9 / 1.22).abs() < 1e-6 && (strengths[2] - 0.3 / 1.22).abs() < 1e-6);
        assert_eq!((strengths[1], strengths[3]), (0.0, 0.0));
    }
}
