//! What can go wrong with an archive.

use std::io;
use std::path::PathBuf;

use zip::result::ZipError;

use super::MAX_BYTES;
use crate::scene::npy::NpyError;

/// What failed with which archive.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ArchiveError {
    /// The archive.
    pub path: PathBuf,
    /// What failed.
    pub problem: ArchiveProblem,
}

/// What can be wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveProblem {
    /// The file cannot be read or written.
    #[error("{0}; check the path, the permissions and the free space")]
    Disk(#[from] io::Error),
    /// The file is no readable zip file.
    #[error("it is no readable .npz ({0}); save it again with numpy.savez_compressed")]
    Zip(#[from] ZipError),
    /// The decompressed members pass [`MAX_BYTES`].
    #[error("it holds more than {} GiB; split it into smaller files", MAX_BYTES >> 30)]
    TooLarge,
    /// There is no image.
    #[error("it has no scenes; save at least one as `images`")]
    NoImages,
    /// A member is no usable array.
    #[error("`{name}` {problem}")]
    Member {
        /// Name of the member.
        name: &'static str,
        /// What is wrong with it.
        problem: NpyError,
    },
    /// The images have unusable dimensions.
    #[error("`images` measures {0:?}; save (n, h, w) or (n, h, w, 3), all of them at least 1")]
    Images(Vec<usize>),
    /// A member's dimensions do not match the others.
    #[error("`{member}` measures {found:?} where {expected:?} belongs; save all members from the same scenes")]
    Shape {
        /// Name of the member.
        member: &'static str,
        /// Its dimensions.
        found: Vec<usize>,
        /// The dimensions that would match.
        expected: Vec<usize>,
    },
    /// An unusable number of slots.
    #[error("`labels`, `boxes` and `factors` have room for {0} objects in a scene; 1 to 254 are supported")]
    Slots(usize),
    /// More objects than slots.
    #[error("scene {scene} has {count} objects but `labels` and `boxes` have room for {slots}; widen them")]
    Count {
        /// Number of the scene.
        scene: usize,
        /// Its objects.
        count: usize,
        /// Objects there is room for.
        slots: usize,
    },
    /// A colour that is none.
    #[error("scene {scene} has `factors` with a colour outside 0 to 255; an empty slot is -1 throughout")]
    Factors {
        /// Number of the scene.
        scene: usize,
    },
    /// A mask names an object that the scene does not have.
    #[error("scene {scene} has {count} objects but a mask value {owner}; number objects from 0 and the background 255")]
    Owner {
        /// Number of the scene.
        scene: usize,
        /// The mask value.
        owner: u8,
        /// The scene's objects.
        count: usize,
    },
    /// A scene to be gathered does not fit.
    #[error("scene {scene} differs in size from the archive or has too many objects; gather scenes of one source")]
    Misfit {
        /// Number of the scene.
        scene: usize,
    },
}
