//! The folder of a run.

use super::lock::RunLock;
use crate::config::Config;
use crate::files::{FileError, is_temporary, read_text, remove_temporaries, sync_folder, write_bytes_atomic};
use std::fs;
use std::path::{Path, PathBuf};

/// No file of scores is longer, in bytes.
const MOST_SCORES: u64 = 1 << 20;

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
    #[error("{} has no checkpoint yet, or no longer; start it again with --out and --overwrite", .0.display())]
    NoCheckpoint(PathBuf),
    /// A training is going on there.
    #[error("{} is in use by another training: wait for its end, stop it, or choose another --out", .0.display())]
    InUse(PathBuf),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl RunFolder {
    /// Makes a new folder `runs/NAME-001`, `-002`, …: the first number that is free.
    pub fn numbered(name: &str, config: &Config) -> Result<(Self, RunLock), FolderError> {
        let runs = Path::new("runs");
        fs::create_dir_all(runs).map_err(FileError::refused("create", runs))?;
        for number in 1..u32::MAX {
            let path = runs.join(format!("{name}-{number:03}"));
            match fs::create_dir(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(FileError::refused("create", &path)(e).into()),
                Ok(()) => return Self { path }.prepared(config, false),
            }
        }
        Err(FolderError::Occupied(runs.into()))
    }

    /// Makes a folder at a chosen place. An earlier run there is an error, or replaced if that is wanted; anything else that is
    /// there is never deleted.
    pub fn create(path: &Path, overwrite: bool, config: &Config) -> Result<(Self, RunLock), FolderError> {
        let run = Self { path: path.into() };
        run.may_be_filled(overwrite)?;
        fs::create_dir_all(path).map_err(FileError::refused("create", path))?;
        run.prepared(config, overwrite)
    }

    /// What stands in the way of a new run here, if anything does.
    fn may_be_filled(&self, overwrite: bool) -> Result<(), FolderError> {
        match (self.content().is_empty(), self.is_ours(), overwrite) {
            (true, ..) | (false, true, true) => Ok(()),
            (false, false, _) => Err(FolderError::Foreign(self.path.clone())),
            (false, true, false) => Err(FolderError::Occupied(self.path.clone())),
        }
    }

    /// Everything in the folder but the lock and what a killed process may have left before there was a run.
    fn content(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let counts = |name: &std::ffi::OsStr| name != RunLock::NAME && !is_temporary(name);
        entries.filter(|entry| counts(&entry.file_name())).map(|entry| entry.path()).collect()
    }

    /// Locks the folder, empties it and writes the configuration. A process that is killed on the way leaves a folder that is as
    /// good as empty, or a run that can be resumed.
    fn prepared(self, config: &Config, overwrite: bool) -> Result<(Self, RunLock), FolderError> {
        let lock = self.lock()?;
        // Once more: another process may have filled it before the lock was ours.
        self.may_be_filled(overwrite)?;
        let (content, own) = (self.content(), self.config());
        // The configuration last: without it the rest would not be known as a run.
        for path in content.iter().filter(|path| **path != own).chain(content.iter().filter(|path| **path == own)) {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.map_err(FileError::refused("remove", path))?;
        }
        write_bytes_atomic(&self.config(), config.to_toml().as_bytes())?;
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(FileError::refused("create", &checkpoints))?;
        [&checkpoints, &self.path].into_iter().try_for_each(|folder| sync_folder(folder))?;
        Ok((self, lock))
    }

    /// Keeps other trainings out of this folder for as long as the lock lives.
    pub fn lock(&self) -> Result<RunLock, FolderError> {
        RunLock::take(&self.path)?.ok_or_else(|| FolderError::InUse(self.path.clone()))
    }

    /// Removes what processes that were killed have left half-written. Only for the holder of the lock.
    pub fn clean(&self, _lock: &RunLock) -> Result<(), FolderError> {
        Ok([&self.path, &self.checkpoints()].into_iter().try_for_each(|folder| remove_temporaries(folder))?)
    }

    /// An existing run.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let run = Self { path: path.into() };
        if run.config().exists() { Ok(run) } else { Err(FolderError::NoRun(path.into())) }
    }

    /// Whether the folder holds a run and not just anything with a `config.toml`.
    fn is_ours(&self) -> bool {
        self.config_text().is_ok_and(|text| Config::is_saved(&text))
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

    /// Its text, of bounded length.
    pub fn config_text(&self) -> Result<String, FileError> {
        read_text(&self.config(), Config::MOST_BYTES)
    }

    /// The scores on held-out scenes.
    pub fn scores(&self) -> PathBuf {
        self.file("evaluation.json")
    }

    /// Their text, of bounded length.
    pub fn scores_text(&self) -> Result<String, FileError> {
        read_text(&self.scores(), MOST_SCORES)
    }

    /// The metrics.
    pub fn metrics(&self) -> PathBuf {
        self.file("metrics.jsonl")
    }

    /// The folder of the checkpoints.
    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.checkpoints().join("last.safetensors")
    }

    /// The checkpoint of the best validation: of the highest ELBO, or of the highest bound where that is trained on. Where a schedule
    /// changes how entities are selected, those from before count no more.
    pub fn best(&self) -> PathBuf {
        self.checkpoints().join("best.safetensors")
    }

    /// The checkpoint to use: the best, or the last while there is no best.
    pub fn checkpoint(&self) -> Result<PathBuf, FolderError> {
        [self.best(), self.last()]
            .into_iter()
            .find(|p| p.exists())
            .ok_or_else(|| FolderError::NoCheckpoint(self.path.clone()))
    }

    /// The checkpoints kept from before the last one, by their steps, the oldest first.
    pub fn kept(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(self.checkpoints()).into_iter().flatten().flatten();
        let step = |name: &str| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
        let mut kept: Vec<(u64, PathBuf)> =
            entries.filter_map(|e| Some((step(&e.file_name().to_string_lossy())?, e.path()))).collect();
        kept.sort();
        kept
    }

    /// Every checkpoint there is: the last, the best, and the kept ones, the newest first.
    pub fn all_checkpoints(&self) -> Vec<PathBuf> {
        let kept = self.kept().into_iter().rev().map(|(_, path)| path);
        [self.last(), self.best()].into_iter().filter(|path| path.exists()).chain(kept).collect()
    }

    /// Gives the last checkpoint, which is of this step, a second name, under which it stays when the next one takes its place.
    pub fn keep_last(&self, step: u64) -> Result<(), FolderError> {
        let (last, kept) = (self.last(), self.checkpoints().join(format!("step-{step:07}.safetensors")));
        // A run that went back to an earlier checkpoint comes by here again.
        match fs::remove_file(&kept) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::refused("replace", &kept)(e).into());
            }
            _ => {}
        }
        // Not every file system knows second names.
        fs::hard_link(&last, &kept)
            .or_else(|_| fs::copy(&last, &kept).map(drop))
            .map_err(FileError::refused("keep", &kept))?;
        Ok(())
    }

    /// Makes one of the run's checkpoints the last one. Before anything else of the run goes back to it: until then the last one records
    /// more than there is.
    pub fn go_back_to(&self, checkpoint: &Path, _lock: &RunLock) -> Result<(), FolderError> {
        let bytes = fs::read(checkpoint).map_err(FileError::refused("read", checkpoint))?;
        Ok(write_bytes_atomic(&self.last(), &bytes)?)
    }

    /// Removes the best checkpoint, which is of steps that will be taken again.
    pub fn give_up_best(&self, _lock: &RunLock) -> Result<(), FolderError> {
        let best = self.best();
        Ok(fs::remove_file(&best).map_err(FileError::refused("remove", &best))?)
    }

    /// Removes all kept checkpoints but the newest `count` from before `step`. What is not older than the last checkpoint belongs to
    /// a continuation that was given up.
    pub fn prune(&self, count: usize, step: u64) -> Result<(), FolderError> {
        let (older, given_up): (Vec<_>, Vec<_>) = self.kept().into_iter().partition(|(of, _)| *of < step);
        let surplus = older.len().saturating_sub(count);
        for (_, path) in older.into_iter().take(surplus).chain(given_up) {
            fs::remove_file(&path).map_err(FileError::refused("remove", &path))?;
        }
        Ok(())
    }

    /// Whether nothing was trained here yet: no checkpoint, and nothing logged.
    pub fn is_untouched(&self) -> bool {
        let logged = fs::metadata(self.metrics()).is_ok_and(|file| file.len() > 0);
        self.all_checkpoints().is_empty() && !logged
    }

    /// Removes the logs of a training that never came to a checkpoint.
    pub fn remove_logs(&self, _lock: &RunLock) -> Result<(), FolderError> {
        let log = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            *path == self.metrics() || name.starts_with("events.out.tfevents.")
        };
        for path in self.content().into_iter().filter(log) {
            fs::remove_file(&path).map_err(FileError::refused("remove", &path))?;
        }
        Ok(())
    }
}
