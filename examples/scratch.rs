use candle_core::{Device, Tensor};
use multi_entity_vae::{config::*, evaluate::*, layers::Extent, scene::*, train::*};
use std::sync::Arc;
use std::time::Instant;
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sets: Vec<String> = std::env::args().skip(1).collect();
    let config = Config::resolve(Preset::MultiEntity, None, &sets)?;
    let digits = DigitSet::builtin();
    let src = Arc::new(SceneSource::open(&config.data.scenes, digits.clone(), Split::Train, config.training.seed)?);
    let val = SceneSource::open(&config.data.scenes, digits, Split::Validation, 0)?;
    let s = src.shape();
    let image = Extent::new(s.height, s.width, s.channels);
    config.validate(image)?;
    let mut batches = Batches::new(src, config.training.batch, config.training.seed, 0, config.data.fresh, 1)?;
    let mut trainer = Trainer::new(config.clone(), image, &Device::Cpu)?;
    println!("parameters {}", trainer.variables().count());
    let t0 = Instant::now();
    let mut spent = 0.0;
    let mut avg = [0.0; 4];
    train::<Box<dyn std::error::Error>>(
        &mut trainer,
        |_| {
            let b = batches.next().unwrap();
            Ok(Tensor::from_vec(b.images, (config.training.batch, s.height, s.width, s.channels), &Device::Cpu)?)
        },
        |t, r| {
            for (a, v) in avg.iter_mut().zip([r.reconstruction_nats, r.kl_nats, r.charge_nats, r.gradient_norm]) {
                *a += v / config.training.validate_every as f64;
            }
            if r.step % config.training.validate_every == 0 {
                let now = Instant::now();
                let mut sel = t.selection();
                sel.seed = 0;
                let ev = Evaluation { selection: sel, batch: 64, seed: 0 };
                let rep = ev.report(
                    t.model(),
                    (0..config.training.validation_scenes).map(|i| -> Result<Example, EvaluationError> {
                        let sc = val.scene(i).unwrap();
                        Ok(Example {
                            image: sc.image.iter().map(|p| *p as f32 / 255.0).collect(),
                            count: sc.count.map(|c| c as usize),
                            masks: sc.masks,
                        })
                    }),
                    &Device::Cpu,
                )?;
                let train_s = t0.elapsed().as_secs_f64() - spent - now.elapsed().as_secs_f64();
                spent += now.elapsed().as_secs_f64();
                println!(
                    "{:6} {:6.1}s {:5.2}ms/step | train rec {:.2} kl {:.2} ch {:.2} g {:.1} | val -elbo {:.2} rec {:.2} kl {:.2} count {:.4} ari {:.4} all {:.3} miou {:.3} ents {:.2}",
                    r.step,
                    train_s,
                    train_s * 1e3 / r.step as f64,
                    avg[0],
                    avg[1],
                    avg[2],
                    avg[3],
                    -rep.elbo.unwrap_or(0.),
                    rep.reconstruction_nats.unwrap_or(0.),
                    rep.kl_nats.unwrap_or(0.),
                    rep.count_accuracy.unwrap_or(0.),
                    rep.ari_foreground.unwrap_or(0.),
                    rep.ari_all.unwrap_or(0.),
                    rep.miou.unwrap_or(0.),
                    rep.entities_per_scene.unwrap_or(0.)
                );
                avg = [0.0; 4];
                if r.step == config.training.steps {
                    println!("{rep}");
                }
            }
            Ok(Flow::Continue)
        },
    )?;
    println!("scenes per core second {:.0}", batches.throughput().scenes_per_core_second());
    Ok(())
}
