//! Scenes in NumPy's `.npz` (a zip file of `.npy` arrays), for `numpy.load` and from
//! `numpy.savez` or `numpy.savez_compressed`.
//!
//! | member | dimensions | type | meaning |
//! |---|---|---|---|
//! | `images` | (n, h, w) or (n, h, w, 3) | u8 | grey levels or colours |
//! | `masks` | (n, h, w) | u8 | index of the object that owns the pixel, 255: background |
//! | `counts` | (n) | u8 | number of objects |
//! | `labels` | (n, max) | u8 | class of each object, 255: none |
//! | `boxes` | (n, max, 4) | i16 | x0, y0, x1, y1 of each object, half-open, −1: none |
//! | `factors` | (n, max, 8) | i16 | shape, scale, orientation, x, y, red, green, blue of each object ([`Factors`]), −1: none |
//!
//! All but `images` may be missing. Any integer type is read if its values fit.

mod problem;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::npy::{self, Array};
use super::{BACKGROUND, FACTORS, Factors, NO_BOX, PixelBox, Scene, SceneShape};

pub use problem::{ArchiveError, ArchiveProblem};

/// Most bytes that the members of one archive may have together, decompressed: 8 GiB, a million
/// grey 64×64 scenes with masks. It bounds the memory that a small file can ask for.
pub const MAX_BYTES: u64 = 8 << 30;

/// Members of more bytes are written with zip's 64-bit extension. A little less than its limit of
/// 4 GiB leaves room for the header, and for data that compression makes longer.
const MAX_ZIP32_BYTES: usize = 4_000_000_000;

/// Scenes in memory. There is at least one.
#[derive(Debug, PartialEq)]
pub struct Archive {
    shape: SceneShape,
    len: usize,
    images: Vec<u8>,
    masks: Option<Vec<u8>>,
    counts: Option<Vec<u8>>,
    /// Objects a scene has room for in `labels`, `boxes` and `factors`.
    slots: usize,
    labels: Option<Vec<u8>>,
    boxes: Option<Vec<PixelBox>>,
    factors: Option<Vec<[i16; FACTORS]>>,
}

/// The factors of an empty slot.
const NO_FACTORS: [i16; FACTORS] = [-1; FACTORS];

impl Archive {
    /// Gathers scenes of one shape with at most `slots` objects. A part of the truth is kept if
    /// every scene has it.
    pub fn gather(
        shape: SceneShape,
        slots: usize,
        scenes: impl IntoIterator<Item = Scene>,
    ) -> Result<Self, ArchiveProblem> {
        let mut archive = Self {
            shape,
            len: 0,
            images: Vec::new(),
            masks: Some(Vec::new()),
            counts: Some(Vec::new()),
            slots,
            labels: Some(Vec::new()),
            boxes: Some(Vec::new()),
            factors: Some(Vec::new()),
        };
        for scene in scenes {
            archive.push(scene)?;
        }
        archive.check()?;
        Ok(archive)
    }

    fn push(&mut self, scene: Scene) -> Result<(), ArchiveProblem> {
        let misfit = ArchiveProblem::Misfit { scene: self.len };
        let fits = scene.image.len() == self.shape.values()
            && scene.masks.as_ref().is_none_or(|masks| masks.len() == self.shape.pixels())
            && scene.labels.as_ref().is_none_or(|labels| labels.len() <= self.slots)
            && scene.boxes.as_ref().is_none_or(|boxes| boxes.len() <= self.slots)
            && scene.factors.as_ref().is_none_or(|factors| factors.len() <= self.slots);
        if !fits {
            return Err(misfit);
        }
        self.len += 1;
        self.images.extend(scene.image);
        append(&mut self.masks, scene.masks, self.shape.pixels(), BACKGROUND);
        append(&mut self.counts, scene.count.map(|count| vec![count]), 1, 0);
        append(&mut self.labels, scene.labels, self.slots, BACKGROUND);
        append(&mut self.boxes, scene.boxes, self.slots, NO_BOX);
        let factors = scene.factors.map(|all| all.into_iter().map(Factors::numbers).collect());
        append(&mut self.factors, factors, self.slots, NO_FACTORS);
        Ok(())
    }

    /// Reads an archive.
    pub fn read(path: &Path) -> Result<Self, ArchiveError> {
        let file = open_ordinary(path).map_err(ArchiveProblem::Disk);
        file.and_then(|file| Self::read_from(BufReader::new(file)))
            .map_err(|problem| ArchiveError { path: path.to_owned(), problem })
    }

    /// Reads an archive from an open file, or from memory.
    pub fn read_from(file: impl Read + Seek) -> Result<Self, ArchiveProblem> {
        let mut members = Members { zip: ZipArchive::new(file)?, budget: MAX_BYTES };
        let images = members.read::<u8>("images")?.ok_or(ArchiveProblem::NoImages)?;
        let (len, shape) = match *images.shape {
            [n, height, width] => (n, SceneShape { height, width, channels: 1 }),
            [n, height, width, channels @ (1 | 3)] => (n, SceneShape { height, width, channels }),
            _ => return Err(ArchiveProblem::Images(images.shape)),
        };
        if images.values.is_empty() || u32::try_from(len).is_err() {
            return Err(ArchiveProblem::Images(images.shape));
        }
        let masks = members.read_as("masks", &[len, shape.height, shape.width])?;
        let counts = members.read_as("counts", &[len])?;
        let labels = members.read::<u8>("labels")?;
        let boxes = members.read::<i16>("boxes")?;
        let factors = members.read::<i16>("factors")?;
        // The first that is there sets the number of slots for all.
        let slots_of = |shape: &[usize]| shape.get(1).copied().unwrap_or_default();
        let label_slots = labels.as_ref().map(|array| slots_of(&array.shape));
        let box_slots = boxes.as_ref().map(|array| slots_of(&array.shape));
        let factor_slots = factors.as_ref().map(|array| slots_of(&array.shape));
        let slots = label_slots.or(box_slots).or(factor_slots).unwrap_or_default();
        let archive = Self {
            shape,
            len,
            images: images.values,
            masks,
            counts,
            slots,
            labels: labels.map(|array| expect(array, "labels", &[len, slots])).transpose()?,
            boxes: boxes
                .map(|array| expect(array, "boxes", &[len, slots, 4]))
                .transpose()?
                .map(|values| values.as_chunks().0.to_vec()),
            factors: factors
                .map(|array| expect(array, "factors", &[len, slots, FACTORS]))
                .transpose()?
                .map(|values| values.as_chunks().0.to_vec()),
        };
        archive.check()?;
        Ok(archive)
    }

    /// Refuses truth that contradicts itself, so that nobody has to expect it later.
    fn check(&self) -> Result<(), ArchiveProblem> {
        if self.len == 0 {
            return Err(ArchiveProblem::NoImages);
        }
        let truth = self.labels.is_some() || self.boxes.is_some() || self.factors.is_some();
        if truth && !(1..usize::from(u8::MAX)).contains(&self.slots) {
            return Err(ArchiveProblem::Slots(self.slots));
        }
        for scene in 0..self.len {
            let known = |factors: &[_]| part(factors, scene, self.slots).iter().all(|f| is_factors(*f));
            if !self.factors.as_deref().is_none_or(known) {
                return Err(ArchiveProblem::Factors { scene });
            }
            let Some(count) = self.count(scene) else { continue };
            let count = usize::from(count);
            if truth && count > self.slots {
                return Err(ArchiveProblem::Count { scene, count, slots: self.slots });
            }
            // Of all objects or of none: what is told must stay with its object.
            let told = |all: &[_]| part(all, scene, self.slots)[..count].iter().filter(|f| **f != NO_FACTORS).count();
            if !self.factors.as_deref().is_none_or(|all| [0, count].contains(&told(all))) {
                return Err(ArchiveProblem::Factors { scene });
            }
            let owners = self.masks.as_deref().map_or(&[][..], |m| part(m, scene, self.shape.pixels()));
            let owned = |&&owner: &&u8| owner != BACKGROUND && usize::from(owner) >= count;
            if let Some(&owner) = owners.iter().find(owned) {
                return Err(ArchiveProblem::Owner { scene, owner, count });
            }
        }
        Ok(())
    }

    /// Writes the archive, compressed. The file appears whole or not at all: it is written under
    /// a temporary name in the same folder, brought to the disk and renamed.
    pub fn write(&self, path: &Path) -> Result<(), ArchiveError> {
        self.write_whole(path).map_err(|problem| ArchiveError { path: path.to_owned(), problem })
    }

    fn write_whole(&self, path: &Path) -> Result<(), ArchiveProblem> {
        if std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            return Err(not_ordinary().into());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = temporary_in(folder.unwrap_or(Path::new(".")))?;
        let mut zip = ZipWriter::new(BufWriter::new(file));
        self.write_members(&mut zip)?;
        let file = zip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn write_members(&self, zip: &mut ZipWriter<impl Write + Seek>) -> Result<(), ArchiveProblem> {
        let SceneShape { height, width, channels } = self.shape;
        let mut add = |name: &str, descr, dimensions: &[usize], bytes: &[u8]| {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .large_file(bytes.len() > MAX_ZIP32_BYTES);
            zip.start_file(format!("{name}.npy"), options)?;
            Ok::<_, ArchiveProblem>(npy::write(&mut *zip, descr, dimensions, bytes)?)
        };
        let image_dimensions = [self.len, height, width, channels];
        let dimensions = if channels == 1 { &image_dimensions[..3] } else { &image_dimensions };
        add("images", "|u1", dimensions, &self.images)?;
        if let Some(masks) = &self.masks {
            add("masks", "|u1", &[self.len, height, width], masks)?;
        }
        if let Some(counts) = &self.counts {
            add("counts", "|u1", &[self.len], counts)?;
        }
        if let Some(labels) = &self.labels {
            add("labels", "|u1", &[self.len, self.slots], labels)?;
        }
        if let Some(boxes) = &self.boxes {
            let edges = boxes.as_flattened().iter();
            let bytes: Vec<u8> = edges.flat_map(|edge| edge.to_le_bytes()).collect();
            add("boxes", "<i2", &[self.len, self.slots, 4], &bytes)?;
        }
        if let Some(factors) = &self.factors {
            let numbers = factors.as_flattened().iter();
            let bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
            add("factors", "<i2", &[self.len, self.slots, FACTORS], &bytes)?;
        }
        Ok(())
    }

    /// Size of the images.
    pub fn shape(&self) -> SceneShape {
        self.shape
    }

    /// Number of scenes.
    #[expect(clippy::len_without_is_empty, reason = "an archive is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Most objects of a scene, if the archive knows.
    pub fn max_objects(&self) -> Option<usize> {
        (0..self.len).filter_map(|scene| self.count(scene)).max().map(usize::from)
    }

    /// Image `index`, `(H, W, C)`, if there is one.
    pub fn image(&self, index: usize) -> Option<&[u8]> {
        (index < self.len).then(|| part(&self.images, index, self.shape.values()))
    }

    /// Scene `index`, if there is one.
    pub fn scene(&self, index: usize) -> Option<Scene> {
        let image = self.image(index)?.to_vec();
        let count = self.count(index);
        let objects = count.map_or(self.slots, usize::from);
        let first = |slots| &part::<u8>(slots, index, self.slots)[..objects];
        Some(Scene {
            image,
            masks: self.masks.as_deref().map(|m| part(m, index, self.shape.pixels()).to_vec()),
            count,
            labels: self.labels.as_deref().map(|labels| first(labels).to_vec()),
            boxes: self.boxes.as_deref().map(|b| part(b, index, self.slots)[..objects].to_vec()),
            factors: self.factors.as_deref().map(|f| {
                let told = part(f, index, self.slots)[..objects].iter();
                told.filter_map(|numbers| Factors::from_numbers(*numbers)).collect()
            }),
        })
    }

    /// Number of objects as told by `counts`, else the number of leading labels, else of boxes, else of factors.
    fn count(&self, index: usize) -> Option<u8> {
        if let Some(counts) = &self.counts {
            return Some(counts[index]);
        }
        let leading = match (&self.labels, &self.boxes) {
            (Some(labels), _) => {
                let labels = part(labels, index, self.slots);
                labels.iter().take_while(|&&label| label != BACKGROUND).count()
            }
            (None, Some(boxes)) => {
                let boxes = part(boxes, index, self.slots);
                boxes.iter().take_while(|&&edges| edges != NO_BOX).count()
            }
            (None, None) => {
                let factors = part(self.factors.as_deref()?, index, self.slots);
                factors.iter().take_while(|&&numbers| numbers != NO_FACTORS).count()
            }
        };
        Some(leading as u8)
    }
}

/// Opens a file, but nothing that could keep its reader waiting, such as a pipe.
fn open_ordinary(path: &Path) -> io::Result<File> {
    match std::fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(not_ordinary()),
    }
}

fn not_ordinary() -> io::Error {
    io::Error::other("it is no ordinary file")
}

/// Whether a slot is empty or holds factors.
fn is_factors(numbers: [i16; FACTORS]) -> bool {
    numbers == NO_FACTORS || Factors::from_numbers(numbers).is_some()
}

/// Slice `index` of values in slices of `size`.
fn part<T>(values: &[T], index: usize, size: usize) -> &[T] {
    &values[index * size..(index + 1) * size]
}

/// Appends a scene's values, padded to `size`, or gives the column up if the scene has none.
fn append<T: Clone>(column: &mut Option<Vec<T>>, values: Option<Vec<T>>, size: usize, padding: T) {
    match (column.as_mut(), values) {
        (Some(column), Some(values)) => {
            let end = column.len() + size;
            column.extend(values);
            column.resize(end, padding);
        }
        _ => *column = None,
    }
}

fn expect<T>(array: Array<T>, member: &'static str, expected: &[usize]) -> Result<Vec<T>, ArchiveProblem> {
    if array.shape == expected {
        Ok(array.values)
    } else {
        Err(ArchiveProblem::Shape { member, found: array.shape, expected: expected.to_vec() })
    }
}

/// A temporary file with the permissions of an ordinary new file, not of a secret.
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process's mask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.prefix(".scenes-").suffix(".tmp").tempfile_in(folder)
}

/// The members of a zip file, and how many bytes of them may still be read.
struct Members<R> {
    zip: ZipArchive<R>,
    budget: u64,
}

impl<R: Read + Seek> Members<R> {
    fn read<T: TryFrom<i128>>(&mut self, name: &'static str) -> Result<Option<Array<T>>, ArchiveProblem> {
        let member = match self.zip.by_name(&format!("{name}.npy")) {
            Err(ZipError::FileNotFound) => return Ok(None),
            member => member?,
        };
        let len = member.size();
        self.budget = self.budget.checked_sub(len).ok_or(ArchiveProblem::TooLarge)?;
        let array = npy::read(member, len);
        array.map(Some).map_err(|problem| ArchiveProblem::Member { name, problem })
    }

    fn read_as(&mut self, name: &'static str, shape: &[usize]) -> Result<Option<Vec<u8>>, ArchiveProblem> {
        self.read(name)?.map(|array| expect(array, name, shape)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::path::PathBuf;

    use super::super::npy::NpyError;
    use super::super::{DigitSet, Recipe, Split};
    use super::*;

    /// A file that NumPy wrote (`tests/data/make.py`).
    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
    }

    fn problem(name: &str) -> ArchiveProblem {
        Archive::read(&fixture(name)).unwrap_err().problem
    }

    #[test]
    fn numpy_archives_are_read_whatever_their_compression_and_types() {
        let plain = Archive::read(&fixture("plain.npz")).unwrap();
        assert_eq!((plain.len(), plain.max_objects()), (2, Some(2)));
        assert_eq!(plain.shape(), SceneShape { height: 2, width: 3, channels: 1 });
        let scene = Scene {
            image: vec![0, 20, 40, 60, 80, 100],
            masks: Some(vec![0, 0, 255, 255, 255, 255]),
            count: Some(1),
            labels: Some(vec![7]),
            boxes: Some(vec![[0, 0, 2, 1]]),
            factors: None,
        };
        assert_eq!(plain.scene(0), Some(scene));
        assert_eq!(plain.scene(1).unwrap().labels.unwrap(), [3, 9]);
        assert_eq!(plain.scene(2), None);
        for name in ["compressed.npz", "wide-types.npz"] {
            assert_eq!(Archive::read(&fixture(name)).unwrap(), plain, "{name}");
        }
    }

    #[test]
    fn missing_truth_is_none_and_counts_follow_from_what_is_there() {
        let bare = Archive::read(&fixture("images-only.npz")).unwrap();
        let image = vec![0, 20, 40, 60, 80, 100];
        let scene = Scene { image, masks: None, count: None, labels: None, boxes: None, factors: None };
        assert_eq!(bare.scene(0), Some(scene));
        assert_eq!(bare.max_objects(), None);

        let boxed = Archive::read(&fixture("no-counts.npz")).unwrap();
        let counts = [0, 1].map(|index| boxed.scene(index).unwrap().count);
        assert_eq!(counts, [Some(1), Some(2)]);
        assert_eq!(boxed.scene(0).unwrap().boxes.unwrap(), [[0, 0, 2, 1]]);
    }

    #[test]
    fn factors_are_written_and_read_and_must_be_factors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("few.npz");
        let scenes: Vec<Scene> =
            (0..6).map(|i| Recipe::Sprites.scene(&DigitSet::builtin(), 0, Split::Test, i)).collect();
        let mut archive = Archive::gather(Recipe::Sprites.shape(), 5, scenes.clone()).unwrap();
        archive.write(&path).unwrap();
        let read = Archive::read(&path).unwrap();
        assert_eq!(read, archive);
        for (index, scene) in scenes.iter().enumerate() {
            assert_eq!(read.scene(index).as_ref(), Some(scene));
        }
        // Of all objects of a scene but the first.
        let first = std::mem::replace(&mut archive.factors.as_mut().unwrap()[0], NO_FACTORS);
        archive.write(&path).unwrap();
        let problem = Archive::read(&path).unwrap_err().problem;
        assert!(matches!(problem, ArchiveProblem::Factors { scene: 0 }), "{problem}");
        archive.factors.as_mut().unwrap()[0] = first;
        // Alone they tell the count as well.
        archive = Archive { counts: None, labels: None, boxes: None, masks: None, ..archive };
        archive.write(&path).unwrap();
        let alone = Archive::read(&path).unwrap();
        assert!((0..6).all(|i| alone.scene(i).unwrap().count == scenes[i].count));
        archive.factors.as_mut().unwrap()[7][6] = 300;
        archive.write(&path).unwrap();
        let problem = Archive::read(&path).unwrap_err().problem;
        assert!(matches!(problem, ArchiveProblem::Factors { scene: 1 }), "{problem}");
    }

    #[test]
    fn colour_is_read() {
        let colour = Archive::read(&fixture("colour.npz")).unwrap();
        assert_eq!(colour.shape().channels, 3);
        assert_eq!(colour.image(0).unwrap()[..6], [0, 0, 0, 20, 20, 20]);
    }

    #[test]
    fn unusable_archives_are_refused_for_the_right_reason() {
        use ArchiveProblem as P;
        let npy = |name| match problem(name) {
            P::Member { problem, .. } => problem,
            other => panic!("{name}: {other}"),
        };
        assert!(matches!(npy("bad-fortran.npz"), NpyError::Fortran));
        assert!(matches!(npy("bad-float.npz"), NpyError::Type(_)));
        assert!(matches!(npy("bad-value.npz"), NpyError::Value { value: 270, .. }));
        assert!(matches!(problem("bad-empty.npz"), P::Images(_)));
        assert!(matches!(problem("bad-dimensions.npz"), P::Images(_)));
        assert!(matches!(problem("bad-masks.npz"), P::Shape { member: "masks", .. }));
        assert!(matches!(problem("bad-slots.npz"), P::Shape { member: "boxes", .. }));
        assert!(matches!(problem("bad-owner.npz"), P::Owner { scene: 0, owner: 0, count: 0 }));
        assert!(matches!(problem("bad-missing.npz"), P::NoImages));
        assert!(matches!(problem("make.py"), P::Zip(_)));
        assert!(matches!(problem("absent.npz"), P::Disk(_)));
    }

    #[test]
    fn members_beyond_the_budget_are_not_even_opened() {
        let file = File::open(fixture("plain.npz")).unwrap();
        // The images take 12 bytes behind a header of 128, the masks as many.
        let mut members = Members { zip: ZipArchive::new(file).unwrap(), budget: 279 };
        assert!(members.read::<u8>("images").is_ok());
        assert!(matches!(members.read::<u8>("masks"), Err(ArchiveProblem::TooLarge)));
    }

    #[test]
    fn damaged_files_are_refused_or_read_without_panic() {
        for name in ["plain.npz", "compressed.npz"] {
            let whole = fs::read(fixture(name)).unwrap();
            for len in 0..whole.len() {
                assert!(Archive::read_from(Cursor::new(&whole[..len])).is_err(), "{len} bytes");
            }
            for place in 0..whole.len() {
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = whole.clone();
                    damaged[place] ^= flip;
                    let _ = Archive::read_from(Cursor::new(damaged));
                }
            }
        }
    }

    #[test]
    fn scenes_survive_the_way_to_the_disk_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scenes.npz");
        fs::write(&path, "an older file").unwrap();
        let digits = DigitSet::builtin();
        let scenes: Vec<Scene> = (0..12).map(|index| Recipe::Air.scene(&digits, 0, Split::Test, index)).collect();
        let archive = Archive::gather(Recipe::Air.shape(), 2, scenes.clone()).unwrap();
        archive.write(&path).unwrap();
        let read = Archive::read(&path).unwrap();
        assert_eq!(read, archive);
        assert!((0..12).all(|index| read.scene(index).as_ref() == Some(&scenes[index])));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let bare = Archive::read(&fixture("images-only.npz")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert!(bare.write(&folder.path().join("absent/scenes.npz")).is_err());
        // A folder of the same name cannot be replaced.
        fs::create_dir(folder.path().join("scenes.npz")).unwrap();
        assert!(bare.write(&folder.path().join("scenes.npz")).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn scenes_that_do_not_belong_together_are_not_gathered() {
        let scene = Recipe::Single.scene(&DigitSet::builtin(), 0, Split::Test, 0);
        let shape = Recipe::Single.shape();
        let gather = |shape, slots, scenes: &[Scene]| Archive::gather(shape, slots, scenes.to_vec());
        let misfit = gather(Recipe::Air.shape(), 1, std::slice::from_ref(&scene)).unwrap_err();
        assert!(matches!(misfit, ArchiveProblem::Misfit { scene: 0 }), "{misfit}");
        assert!(matches!(gather(shape, 1, &[]).unwrap_err(), ArchiveProblem::NoImages));
        let bare = Scene { masks: None, ..scene.clone() };
        let mixed = gather(shape, 1, &[scene.clone(), bare, scene]).unwrap();
        assert_eq!(mixed.scene(2).unwrap().masks, None);
        assert_eq!(mixed.scene(2).unwrap().labels, Some(vec![7]));
    }
}
