//! A file that grows record by record.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::LogError;
use crate::files::{FileError, sync_folder};

/// A file to which whole records are appended.
///
/// Each record is one write, so that whoever follows the file sees it at once; there are few enough
/// of them for a buffer to gain nothing.
#[derive(Debug)]
pub(super) struct AppendFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl AppendFile {
    /// A new file; one that exists is left alone, as it may be the log of another run.
    pub(super) fn create(path: &Path) -> Result<Self, LogError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(FileError::refused("create", path))?;
        // A checkpoint will say how long the log is: the log must not be gone after a power failure.
        sync_folder(path)?;
        Ok(Self { file, path: path.into(), len: 0 })
    }

    /// Opens the file and cuts it to its first `length` bytes, after asking whether `ends_record`:
    /// it is given the file and must leave it unchanged.
    pub(super) fn resume_at(
        path: &Path,
        length: u64,
        ends_record: impl FnOnce(&mut File, u64) -> io::Result<bool>,
    ) -> Result<Self, LogError> {
        let mut file =
            OpenOptions::new().read(true).write(true).open(path).map_err(FileError::refused("open", path))?;
        let found = file.metadata().map_err(FileError::refused("measure", path))?.len();
        if found < length {
            return Err(LogError::Shorter { path: path.into(), found, expected: length });
        }
        if !ends_record(&mut file, length).map_err(FileError::refused("read", path))? {
            return Err(LogError::NotARecordEnd { path: path.into(), length });
        }
        let mut resumed = Self { file, path: path.into(), len: length };
        resumed.cut_to_len().map_err(FileError::refused("shorten", path))?;
        Ok(resumed)
    }

    /// Appends one record, all of it or nothing.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), LogError> {
        if let Err(cause) = self.file.write_all(record) {
            // A part may have been written; the next record must not follow it. If even this fails,
            // the file can still be continued at `len`.
            let _ = self.cut_to_len();
            return Err(FileError::refused("append to", &self.path)(cause).into());
        }
        self.len += record.len() as u64;
        Ok(())
    }

    /// Brings what was appended to the disk, as must happen before its length is recorded.
    pub(super) fn flush(&mut self) -> Result<(), LogError> {
        self.file.sync_data().map_err(FileError::refused("bring to disk", &self.path))?;
        Ok(())
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn cut_to_len(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        Ok(())
    }
}
