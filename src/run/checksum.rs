//! A checksum over everything that a checkpoint says.

use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// The metadata entry that holds the checksum, and is no part of it.
pub(super) const ENTRY: &str = "checksum";

/// SHA-256, in hexadecimal, of the metadata and of name, type, shape and bytes of every tensor. A bit that is flipped anywhere in
/// the file changes it or makes the file unreadable.
pub(super) fn checksum(metadata: &HashMap<String, String>, tensors: &[(&str, TensorView<'_>)]) -> String {
    let mut hash = Sha256::new();
    // Each part after its length, so that no two contents are told in the same bytes.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let entries: BTreeMap<_, _> = metadata.iter().filter(|(key, _)| *key != ENTRY).collect();
    for (key, value) in entries {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    let tensors: BTreeMap<_, _> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    for (name, tensor) in tensors {
        part(name.as_bytes());
        part(format!("{:?} {:?}", tensor.dtype(), tensor.shape()).as_bytes());
        part(tensor.data());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;

    type Contents = (&'static str, Dtype, &'static [usize], &'static [u8]);

    fn sum(metadata: &[(&str, &str)], tensors: &[Contents]) -> String {
        let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let view = |(name, dtype, shape, bytes): &Contents| {
            (*name, TensorView::new(*dtype, shape.to_vec(), bytes).expect("bytes as many as the shape says"))
        };
        checksum(&metadata, &tensors.iter().map(view).collect::<Vec<_>>())
    }

    #[test]
    fn everything_counts_but_the_entry_itself_and_the_order() {
        let [a, b]: [Contents; 2] = [("a", Dtype::F32, &[1], &[1; 4]), ("b", Dtype::F32, &[1], &[2; 4])];
        let whole = sum(&[("format", "2"), ("step", "7")], &[a, b]);
        assert_eq!(whole.len(), 64);
        assert_eq!(whole, sum(&[("step", "7"), (ENTRY, "any"), ("format", "2")], &[b, a]));
        let mut seen = vec![whole];
        let metadata = [("format", "2"), ("step", "7")];
        for (metadata, tensors) in [
            (&metadata[..1], &[a, b][..]),
            (&[("format", "2"), ("step", "8")], &[a, b]),
            (&[("format2", ""), ("step", "7")], &[a, b]),
            (&metadata, &[a]),
            (&metadata, &[("c", a.1, a.2, a.3), b]),
            (&metadata, &[("a", Dtype::I32, a.2, a.3), b]),
            (&metadata, &[("a", a.1, &[1, 1], a.3), b]),
            (&metadata, &[("a", a.1, a.2, &[1, 1, 1, 0]), b]),
        ] {
            let other = sum(metadata, tensors);
            assert!(!seen.contains(&other), "{metadata:?} {tensors:?}");
            seen.push(other);
        }
    }
}
