//! Metrics as JSON lines.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Serialize;

use super::LogError;
use super::append::AppendFile;

/// An append-only file with one JSON value on each line.
#[derive(Debug)]
pub struct MetricsLog {
    file: AppendFile,
}

impl MetricsLog {
    /// Starts a new log.
    ///
    /// # Errors
    ///
    /// There is a file at `path` already (continue it with [`resume_at`](Self::resume_at)), or the
    /// operating system refuses.
    pub fn create(path: &Path) -> Result<Self, LogError> {
        AppendFile::create(path).map(|file| Self { file })
    }

    /// Continues a log after its first `length` bytes, as [`len`](Self::len) once gave them, and
    /// removes the rest.
    ///
    /// # Errors
    ///
    /// The file is shorter, no line of it ends there, or the operating system refuses. The file is
    /// left as it was.
    pub fn resume_at(path: &Path, length: u64) -> Result<Self, LogError> {
        AppendFile::resume_at(path, length, ends_line).map(|file| Self { file })
    }

    /// Appends `value` as one line.
    ///
    /// # Errors
    ///
    /// `value` has no JSON form, or the operating system refuses. Nothing is appended then.
    pub fn append(&mut self, value: &impl Serialize) -> Result<(), LogError> {
        let mut line = serde_json::to_vec(value)
            .map_err(|cause| LogError::Unserialisable { path: self.file.path().into(), cause })?;
        line.push(b'\n');
        self.file.append(&line)
    }

    /// Brings the log to the disk. To be called before [`len`](Self::len) is recorded elsewhere, or
    /// a power failure may leave the log shorter than its record.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.file.flush()
    }

    /// The length of the log in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Whether nothing was logged yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether a line ends at byte `length`.
fn ends_line(file: &mut File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn each_value_is_one_line_on_disk_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::create(&path).expect("a new log");
        assert!(log.is_empty());
        log.append(&json!({"step": 1, "note": "two\nlines"})).expect("appended");
        log.append(&json!({"step": 2, "loss": f64::NAN})).expect("appended");
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(text, "{\"note\":\"two\\nlines\",\"step\":1}\n{\"loss\":null,\"step\":2}\n");
        assert_eq!(log.len(), text.len() as u64);
    }

    #[test]
    fn resuming_cuts_what_came_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::create(&path).expect("a new log");
        log.append(&1).expect("appended");
        log.flush().expect("flushed");
        let recorded = log.len();
        log.append(&2222).expect("appended");
        drop(log);

        let mut log = MetricsLog::resume_at(&path, recorded).expect("resumed");
        log.append(&3).expect("appended");
        assert_eq!(log.len(), 4);
        assert_eq!(fs::read_to_string(&path).expect("readable"), "1\n3\n");
        MetricsLog::resume_at(&path, 0).expect("emptied");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "");
    }

    #[test]
    fn a_wrong_length_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "11\n22\n").expect("a log");
        assert!(matches!(MetricsLog::resume_at(&path, 7), Err(LogError::Shorter { found: 6, expected: 7, .. })));
        for inside in [1, 2, 4] {
            let refused = MetricsLog::resume_at(&path, inside);
            assert!(matches!(refused, Err(LogError::NotARecordEnd { .. })), "{inside}");
        }
        assert_eq!(fs::read_to_string(&path).expect("readable"), "11\n22\n");
    }

    #[test]
    fn a_log_is_neither_overwritten_nor_resumed_from_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let missing = MetricsLog::resume_at(&path, 0).expect_err("no file").to_string();
        assert!(missing.contains("metrics.jsonl"), "{missing}");
        MetricsLog::create(&path).expect("a new log");
        let taken = MetricsLog::create(&path).expect_err("a file").to_string();
        assert!(taken.contains("choose another name"), "{taken}");
    }

    #[test]
    fn what_has_no_json_form_is_not_appended() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = MetricsLog::create(&folder.path().join("m.jsonl")).expect("a new log");
        let keys_are_lists = BTreeMap::from([(vec![1], 2)]);
        assert!(matches!(log.append(&keys_are_lists), Err(LogError::Unserialisable { .. })));
        assert!(log.is_empty());
    }
}
