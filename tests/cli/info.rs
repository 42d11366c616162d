//! What is told of a run, or of the program.

use super::*;

#[test]
fn info_describes_the_program_and_a_run() {
    let (_shared, place, run) = beside();
    place.mevae("info").ok().says(&[
        env!("CARGO_PKG_VERSION"),
        "CUDA",
        "autoencoder, vae, beta-vae, multi-entity",
        "survey",
    ]);
    let before = place.contents();
    place.mevae(&format!("info {run}")).ok().says(&[
        &run,
        "3 of 3",
        "64×64×1",
        "256 in a 16×16 grid",
        "4 kept",
        "ELBO",
        "[model.encoder]",
    ]);
    assert_eq!(before, place.contents());
}
