//! Named random streams.
//!
//! Nothing in this crate draws from an ambient generator. Whoever needs randomness names its
//! purpose and gets a stream of its own, so that adding a draw in one place never shifts the
//! draws of another, and any item can be produced alone, in any order, on any thread.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The stream of `purpose` number `index` under `seed`.
///
/// Its 32-byte ChaCha key is SHA-256 of `seed` (8 bytes, little-endian), `index` (8 bytes,
/// little-endian) and the UTF-8 bytes of `purpose`, in this order. The two numbers come first
/// because they have a fixed width: no two triples share an encoding.
pub fn stream(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let key = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(index.to_le_bytes())
        .chain_update(purpose.as_bytes())
        .finalize();
    ChaCha8Rng::from_seed(key.into())
}

/// Fills `out` with independent standard normals, bit for bit the same on every machine.
///
/// Marsaglia's polar method ("A convenient method for generating normal variables", SIAM Review
/// 6(3), 1964) needs only arithmetic, a square root and one logarithm. IEEE 754 fixes the first
/// two and `libm` (plain Rust) the third. `rand_distr` would not do: without its `std` feature it
/// takes its mathematics from `num-traits`, which silently returns to the platform's library as
/// soon as any other crate of the build enables `num-traits/std`.
pub fn normals(rng: &mut impl RngCore, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        pair.copy_from_slice(&polar_pair(rng)[..pair.len()]);
    }
}

/// Two independent standard normals: a uniform point of the unit disc, stretched.
fn polar_pair(rng: &mut impl RngCore) -> [f32; 2] {
    loop {
        let u = 2.0 * rng.random::<f64>() - 1.0;
        let v = 2.0 * rng.random::<f64>() - 1.0;
        let square = u * u + v * v;
        if square > 0.0 && square < 1.0 {
            let stretch = (-2.0 * libm::log(square) / square).sqrt();
            return [(u * stretch) as f32, (v * stretch) as f32];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_keep_their_golden_values() {
        let mut rng = stream(7, "golden", 3);
        let drawn = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(drawn, [541_979_237_224_544_531, 3_009_720_151_142_407_427, 11_688_259_811_489_974_500]);
    }

    #[test]
    fn seed_purpose_and_index_each_name_another_stream() {
        let first = |seed, purpose, index| stream(seed, purpose, index).next_u64();
        let base = first(1, "a", 2);
        assert_eq!(base, first(1, "a", 2));
        for other in [first(2, "a", 1), first(2, "a", 2), first(1, "b", 2), first(1, "a", 3)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn normals_keep_their_golden_bits() {
        let mut drawn = [0.0; 5];
        normals(&mut stream(7, "golden normals", 0), &mut drawn);
        let bits = [1_042_186_261, 3_196_146_534, 3_196_375_264, 3_213_583_700, 1_068_457_288];
        assert_eq!(drawn.map(f32::to_bits), bits);
    }

    #[test]
    fn normals_have_the_moments_of_the_standard_normal() {
        let mut drawn = vec![0.0; 40_000];
        normals(&mut stream(0, "moments", 0), &mut drawn);
        let moment = |power| {
            let sum: f64 = drawn.iter().map(|&z| f64::from(z).powi(power)).sum();
            sum / drawn.len() as f64
        };
        // Five standard errors: sqrt(1/n), sqrt(2/n) and sqrt(96/n).
        assert!(moment(1).abs() < 0.025, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.036, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.245, "fourth moment {}", moment(4));
    }
}
