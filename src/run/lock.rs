//! One training at a time in a run's folder.

use crate::files::FileError;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// A lock on a run's folder, released when it is dropped, and by the operating system when its process dies, however that is.
/// The file that is locked stays; it says nothing.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// The file's name.
    pub(super) const NAME: &str = ".lock";

    /// The lock, or nothing where another process holds it.
    pub(super) fn take(folder: &Path) -> Result<Option<Self>, FileError> {
        let path = folder.join(Self::NAME);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(FileError::refused("lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            // Some network file systems have no locks: better a run without one than none.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                Ok(Some(Self { _file: file }))
            }
            Err(TryLockError::Error(e)) => Err(FileError::refused("lock", &path)(e)),
        }
    }
}
