//! The folder of a run.

use crate::config::Config;
use crate::files::{FileError, read_text};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder that holds a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Something is there already.
    #[error("{} already holds a run; continue it with --resume, choose another --out, or replace it with --overwrite", .0.display())]
    Occupied(PathBuf),
    /// Not a run, so not ours to delete.
    #[error("{} is not empty and holds no run, so it is not overwritten; choose another --out", .0.display())]
    Foreign(PathBuf),
    /// Nothing there.
    #[error("{} is no run: it has no config.toml; `mevae train` makes one under runs/", .0.display())]
    NoRun(PathBuf),
    /// A run without the file that is asked for.
    #[error("{} has no checkpoint yet: training has not come to its first one; start it again with --out and --overwrite", .0.display())]
    NoCheckpoint(PathBuf),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl RunFolder {
    /// Makes a new folder `runs/NAME-001`, `-002`, …: the first number that is free.
    pub fn numbered(name: &str) -> Result<Self, FolderError> {
        let runs = Path::new("runs");
        fs::create_dir_all(runs).map_err(FileError::refused("create", runs))?;
        for number in 1..u32::MAX {
            let path = runs.join(format!("{name}-{number:03}"));
            match fs::create_dir(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(FileError::refused("create", &path)(e).into()),
                Ok(()) => return Self { path }.prepared(),
            }
        }
        Err(FolderError::Occupied(runs.into()))
    }

    /// Makes a folder at a chosen place. An earlier run there is an error, or replaced if that is wanted; anything else that is
    /// there is never deleted.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, FolderError> {
        let run = Self { path: path.into() };
        let occupied = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        match (occupied, run.is_ours(), overwrite) {
            (false, ..) => {}
            (true, false, _) => return Err(FolderError::Foreign(path.into())),
            (true, true, false) => return Err(FolderError::Occupied(path.into())),
            (true, true, true) => fs::remove_dir_all(path).map_err(FileError::refused("replace", path))?,
        }
        fs::create_dir_all(path).map_err(FileError::refused("create", path))?;
        run.prepared()
    }

    /// An existing run.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let run = Self { path: path.into() };
        if run.config().exists() { Ok(run) } else { Err(FolderError::NoRun(path.into())) }
    }

    /// Whether the folder holds a run and not just anything with a `config.toml`.
    fn is_ours(&self) -> bool {
        read_text(&self.config(), Config::MOST_BYTES).is_ok_and(|text| Config::from_toml("config.toml", &text).is_ok())
    }

    fn prepared(self) -> Result<Self, FolderError> {
        let folder = self.path.join("checkpoints");
        fs::create_dir_all(&folder).map_err(FileError::refused("create", &folder))?;
        Ok(self)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.file("config.toml")
    }

    /// The metrics.
    pub fn metrics(&self) -> PathBuf {
        self.file("metrics.jsonl")
    }

    /// The newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.path.join("checkpoints").join("last.safetensors")
    }

    /// The checkpoint of the best validation ELBO.
    pub fn best(&self) -> PathBuf {
        self.path.join("checkpoints").join("best.safetensors")
    }

    /// The checkpoint to use: the best, or the last while there is no best.
    pub fn checkpoint(&self) -> Result<PathBuf, FolderError> {
        [self.best(), self.last()]
            .into_iter()
            .find(|p| p.exists())
            .ok_or_else(|| FolderError::NoCheckpoint(self.path.clone()))
    }
}
