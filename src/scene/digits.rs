//! Handwritten digits, the raw material of every recipe.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::idx::{self, IdxError};
use super::split::Split;

/// Height and width of a digit's tile.
pub const DIGIT_SIDE: usize = 28;

/// Pixels of a digit's tile.
pub const DIGIT_PIXELS: usize = DIGIT_SIDE * DIGIT_SIDE;

/// One of this many train digits (but at least one) is kept for validation: MNIST's last 5,000.
const VALIDATION_DIVISOR: usize = 12;

/// Digits of one split: images of 28×28 grey levels, 0 (paper) to 255 (ink), and classes 0–9.
/// Never empty.
#[derive(Clone, Copy, Debug)]
pub struct Digits<'a> {
    images: &'a [[u8; DIGIT_PIXELS]],
    labels: &'a [u8],
}

impl<'a> Digits<'a> {
    /// Digits of the crate's own tests.
    #[cfg(test)]
    pub fn new(images: &'a [[u8; DIGIT_PIXELS]], labels: &'a [u8]) -> Self {
        Self { images, labels }
    }

    /// Number of digits.
    pub fn len(self) -> usize {
        self.labels.len()
    }

    /// Whether there is no digit, which a [`DigitSet`] never gives out.
    pub fn is_empty(self) -> bool {
        self.labels.is_empty()
    }

    /// Image of digit `index`, row by row.
    pub fn image(self, index: usize) -> &'a [u8; DIGIT_PIXELS] {
        &self.images[index]
    }

    /// Class of digit `index`.
    pub fn label(self, index: usize) -> u8 {
        self.labels[index]
    }
}

/// Digits for training (with validation) and for testing.
#[derive(Debug)]
pub struct DigitSet {
    train: Part,
    test: Part,
}

impl DigitSet {
    /// MNIST, compiled into the library and inflated once, on first use.
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: OnceLock<Arc<DigitSet>> = OnceLock::new();
        let inflate = |[images, labels]: [&[u8]; 2]| Part {
            images: idx::read(images, &[DIGIT_SIDE; 2]).expect("a test checks the sums of the embedded files"),
            labels: idx::read(labels, &[]).expect("a test checks the sums of the embedded files"),
        };
        let set = BUILTIN.get_or_init(|| {
            Arc::new(Self {
                train: inflate([embedded::TRAIN_IMAGES, embedded::TRAIN_LABELS]),
                test: inflate([embedded::TEST_IMAGES, embedded::TEST_LABELS]),
            })
        });
        Arc::clone(set)
    }

    /// The MNIST-style files of a folder: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
    /// `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each gzipped (`.gz`) or not, also
    /// with the dotted spelling `train-images.idx3-ubyte`.
    pub fn from_dir(folder: &Path) -> Result<Self, DigitsError> {
        // One digit for training and one for validation.
        let train = Part::from_dir(folder, "train", 2)?;
        let test = Part::from_dir(folder, "t10k", 1)?;
        Ok(Self { train, test })
    }

    /// Digits from memory: for each part the images (28×28 bytes each, one after the other) and their labels.
    pub fn from_bytes(train: (Vec<u8>, Vec<u8>), test: (Vec<u8>, Vec<u8>)) -> Result<Self, DigitsError> {
        let train = Part::checked("train", train.0, train.1, 2)?;
        let test = Part::checked("t10k", test.0, test.1, 1)?;
        Ok(Self { train, test })
    }

    /// The digits that scenes of `split` may show.
    pub fn of(&self, split: Split) -> Digits<'_> {
        let kept = (self.train.labels.len() / VALIDATION_DIVISOR).max(1);
        let boundary = self.train.labels.len() - kept;
        match split {
            Split::Train => self.train.digits(0, boundary),
            Split::Validation => self.train.digits(boundary, self.train.labels.len()),
            Split::Test | Split::General => self.test.digits(0, self.test.labels.len()),
        }
    }
}

/// Contents of one pair of files.
#[derive(Debug)]
struct Part {
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl Part {
    fn from_dir(folder: &Path, name: &'static str, least: usize) -> Result<Self, DigitsError> {
        let images = read_file(folder, &format!("{name}-images"), "idx3-ubyte", &[DIGIT_SIDE; 2])?;
        let labels = read_file(folder, &format!("{name}-labels"), "idx1-ubyte", &[])?;
        Self::checked(name, images, labels, least)
    }

    fn checked(name: &'static str, images: Vec<u8>, labels: Vec<u8>, least: usize) -> Result<Self, DigitsError> {
        let count = images.len() / DIGIT_PIXELS;
        if labels.len() != count {
            return Err(DigitsError::Mismatch { name, images: count, labels: labels.len() });
        }
        if count < least {
            return Err(DigitsError::TooFew { name, found: count, least });
        }
        if let Some(index) = labels.iter().position(|&label| label > 9) {
            return Err(DigitsError::Label { name, index, label: labels[index] });
        }
        Ok(Self { images, labels })
    }

    fn digits(&self, start: usize, end: usize) -> Digits<'_> {
        let (images, _) = self.images.as_chunks();
        Digits { images: &images[start..end], labels: &self.labels[start..end] }
    }
}

fn read_file(folder: &Path, stem: &str, suffix: &str, item_size: &[usize]) -> Result<Vec<u8>, DigitsError> {
    let path = [("-", ""), ("-", ".gz"), (".", ""), (".", ".gz")]
        .map(|(joint, gz)| folder.join(format!("{stem}{joint}{suffix}{gz}")))
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| DigitsError::Missing { folder: folder.to_owned(), name: format!("{stem}-{suffix}") })?;
    File::open(&path)
        .map_err(IdxError::Read)
        .and_then(|file| idx::read(BufReader::new(file), item_size))
        .map_err(|problem| DigitsError::File { path, problem })
}

/// Why a folder is no usable digit set.
#[derive(Debug, thiserror::Error)]
pub enum DigitsError {
    /// A file is not there.
    #[error("{} has neither {name} nor {name}.gz; put the four MNIST-style files there", folder.display())]
    Missing {
        /// The folder searched.
        folder: PathBuf,
        /// Name of the file.
        name: String,
    },
    /// A file is there, but unusable.
    #[error("{} is no usable digit file: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: IdxError,
    },
    /// Images and labels do not belong together.
    #[error("{name} has {images} images but {labels} labels; take both files from the same set")]
    Mismatch {
        /// `train` or `t10k`.
        name: &'static str,
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Not enough digits to fill every split.
    #[error("{name} has {found} digit(s); at least {least} are needed, so add some")]
    TooFew {
        /// `train` or `t10k`.
        name: &'static str,
        /// Number of digits.
        found: usize,
        /// Number of digits needed.
        least: usize,
    },
    /// A class that is no digit.
    #[error("{name} label {index} is {label}; relabel the set with classes 0 to 9")]
    Label {
        /// `train` or `t10k`.
        name: &'static str,
        /// Position of the label.
        index: usize,
        /// The label.
        label: u8,
    },
}

/// The distributed files, byte for byte (see `datasets/mnist/README.md`).
mod embedded {
    macro_rules! mnist {
        ($name:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/mnist/", $name))
        };
    }

    pub const TRAIN_IMAGES: &[u8] = mnist!("train-images-idx3-ubyte.gz");
    pub const TRAIN_LABELS: &[u8] = mnist!("train-labels-idx1-ubyte.gz");
    pub const TEST_IMAGES: &[u8] = mnist!("t10k-images-idx3-ubyte.gz");
    pub const TEST_LABELS: &[u8] = mnist!("t10k-labels-idx1-ubyte.gz");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest, Sha256};
    use tempfile::TempDir;

    use super::super::idx::tests::{file, gzip};
    use super::*;

    /// A folder with `train` train digits and one test digit; digit i is filled with i.
    fn folder(train: u32) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
        let images: Vec<u8> = (0..train).flat_map(|i| [i as u8; DIGIT_PIXELS]).collect();
        let labels: Vec<u8> = (0..train).map(|i| (i % 10) as u8).collect();
        put("train-images-idx3-ubyte.gz", gzip(&file(&[train, 28, 28], &images)));
        put("train-labels.idx1-ubyte", file(&[train], &labels));
        put("t10k-images.idx3-ubyte.gz", gzip(&file(&[1, 28, 28], &[9; DIGIT_PIXELS])));
        put("t10k-labels-idx1-ubyte", file(&[1], &[9]));
        folder
    }

    #[test]
    fn embedded_files_have_the_published_sums() {
        let sums = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/mnist/SHA256SUMS"));
        let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/mnist/README.md"));
        for (name, bytes) in [
            ("t10k-images-idx3-ubyte.gz", embedded::TEST_IMAGES),
            ("t10k-labels-idx1-ubyte.gz", embedded::TEST_LABELS),
            ("train-images-idx3-ubyte.gz", embedded::TRAIN_IMAGES),
            ("train-labels-idx1-ubyte.gz", embedded::TRAIN_LABELS),
        ] {
            let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(sums.contains(&format!("{sum}  {name}")), "{name}: {sum}");
            assert!(readme.contains(&sum), "{name}: {sum}");
        }
    }

    #[test]
    fn builtin_splits_have_their_sizes() {
        let set = DigitSet::builtin();
        assert_eq!(Split::ALL.map(|split| set.of(split).len()), [55_000, 5_000, 10_000, 10_000]);
        assert_eq!(set.of(Split::Train).label(0), 5);
        assert_eq!(set.of(Split::Test).label(0), 7);
    }

    #[test]
    fn a_folder_of_any_spelling_is_read_and_split() {
        let set = DigitSet::from_dir(folder(24).path()).unwrap();
        assert_eq!(Split::ALL.map(|split| set.of(split).len()), [22, 2, 1, 1]);
        assert_eq!(set.of(Split::Validation).image(1), &[23; DIGIT_PIXELS]);
        assert_eq!(set.of(Split::Validation).label(1), 3);
    }

    #[test]
    fn the_smallest_set_fills_every_split() {
        let set = DigitSet::from_dir(folder(2).path()).unwrap();
        assert_eq!(Split::ALL.map(|split| set.of(split).len()), [1, 1, 1, 1]);
        let error = DigitSet::from_dir(folder(1).path()).unwrap_err();
        assert!(matches!(error, DigitsError::TooFew { found: 1, least: 2, .. }), "{error}");
    }

    #[test]
    fn broken_folders_say_which_file_is_wrong() {
        let empty = tempfile::tempdir().unwrap();
        let message = DigitSet::from_dir(empty.path()).unwrap_err().to_string();
        assert!(message.contains("train-images-idx3-ubyte"), "{message}");

        let broken = |name: &str, bytes: &[u8]| {
            let folder = folder(3);
            fs::write(folder.path().join(name), bytes).unwrap();
            DigitSet::from_dir(folder.path()).unwrap_err()
        };
        let error = broken("t10k-labels-idx1-ubyte", b"PK\x03\x04");
        assert!(error.to_string().contains("t10k-labels-idx1-ubyte"), "{error}");
        let error = broken("train-labels.idx1-ubyte", &file(&[4], &[0; 4]));
        assert!(matches!(error, DigitsError::Mismatch { images: 3, labels: 4, .. }), "{error}");
        let error = broken("train-labels.idx1-ubyte", &file(&[3], &[0, 12, 0]));
        assert!(matches!(error, DigitsError::Label { index: 1, label: 12, .. }), "{error}");
    }
}
