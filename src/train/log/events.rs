//! Events for TensorBoard.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::append::AppendFile;
use super::protobuf::{image_event, scalar_event, version_event};
use super::{LogError, png, tfrecord};

/// An event file of scalars and images, to be shown with `tensorboard --logdir <folder>`.
#[derive(Debug)]
pub struct EventLog {
    file: AppendFile,
}

impl EventLog {
    /// Starts a new log in `folder`, as `events.out.tfevents.<seconds>.<name>`.
    ///
    /// # Errors
    ///
    /// `name` is empty or has characters other than ASCII letters, digits, `-`, `_` and `.`, there
    /// is a log of this name and second already, or the operating system refuses.
    pub fn create(folder: &Path, name: &str) -> Result<Self, LogError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(allowed) {
            return Err(LogError::Name { name: name.into() });
        }
        let now = since_1970();
        let path = folder.join(format!("events.out.tfevents.{:010}.{name}", now.as_secs()));
        let mut file = AppendFile::create(&path)?;
        file.append(&tfrecord::frame(&version_event(now.as_secs_f64())))?;
        Ok(Self { file })
    }

    /// Continues a log after its first `length` bytes, as [`len`](Self::len) once gave them, and
    /// removes the rest. A length of zero starts the file anew.
    ///
    /// # Errors
    ///
    /// The file is shorter, no event ends there, or the operating system refuses. The file is left
    /// as it was.
    pub fn resume_at(path: &Path, length: u64) -> Result<Self, LogError> {
        let mut file = AppendFile::resume_at(path, length, tfrecord::ends_at)?;
        if length == 0 {
            file.append(&tfrecord::frame(&version_event(since_1970().as_secs_f64())))?;
        }
        Ok(Self { file })
    }

    /// Logs the value of `tag` at a training step.
    ///
    /// # Errors
    ///
    /// The operating system refuses; nothing is appended then.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32) -> Result<(), LogError> {
        let now = since_1970().as_secs_f64();
        self.file.append(&tfrecord::frame(&scalar_event(now, step, tag, value)))
    }

    /// Logs an image, given as the bytes of a PNG file, as `tag` at a training step.
    ///
    /// # Errors
    ///
    /// The bytes are not those of a PNG file, or the operating system refuses; nothing is appended
    /// then.
    pub fn image(&mut self, tag: &str, step: u64, png: &[u8]) -> Result<(), LogError> {
        let image = png::describe(png).ok_or_else(|| LogError::NotPng { tag: tag.into() })?;
        let now = since_1970().as_secs_f64();
        self.file.append(&tfrecord::frame(&image_event(now, step, tag, image)))
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

    /// The length of the log in bytes. Never zero, as a log starts with its version.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an event log is never empty")]
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Where the log is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// The time TensorBoard expects. A clock set before 1970 is no reason to stop a training run.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Both written by `tests/golden/events.py` with TensorBoard's own encoder.
    const GOLDEN_EVENTS: &[u8] = include_bytes!("../../../tests/golden/events.tfevents");
    const GOLDEN_PNG: &[u8] = include_bytes!("../../../tests/golden/events.png");

    #[test]
    fn the_bytes_are_those_of_tensorboards_own_encoder() {
        let image = png::describe(GOLDEN_PNG).expect("a PNG");
        let events = [
            version_event(1_700_000_000.25),
            scalar_event(1_700_000_001.5, 0, "loss/total", 0.0),
            scalar_event(1_700_000_002.5, 300, "loss/total", -1.25),
            scalar_event(1_700_000_003.5, 1 << 40, "größe", f32::INFINITY),
            image_event(1_700_000_004.5, 7, "scenes", image),
        ];
        let bytes: Vec<u8> = events.iter().flat_map(|event| tfrecord::frame(event)).collect();
        assert_eq!(bytes, GOLDEN_EVENTS);
    }

    #[test]
    fn a_log_is_named_after_its_time_and_starts_with_its_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = EventLog::create(folder.path(), "train").expect("a new log");
        let name = log.path().file_name().and_then(|name| name.to_str()).expect("a UTF-8 name");
        let seconds = name
            .strip_prefix("events.out.tfevents.")
            .and_then(|rest| rest.strip_suffix(".train"))
            .expect("prefix and name");
        assert!(seconds.len() == 10 && seconds.chars().all(|c| c.is_ascii_digit()), "{name}");
        let bytes = fs::read(log.path()).expect("readable");
        assert!(bytes.windows(13).any(|window| window == b"brain.Event:2"));
        assert_eq!(log.len(), bytes.len() as u64);
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["", "../train", "a b", "a\0b"] {
            let refused = EventLog::create(folder.path(), name);
            assert!(matches!(refused, Err(LogError::Name { .. })), "{name:?}");
        }
    }

    #[test]
    fn resuming_cuts_what_came_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = EventLog::create(folder.path(), "train").expect("a new log");
        let path = log.path().to_path_buf();
        let version_only = log.len();
        log.scalar("loss", 1, 0.5).expect("appended");
        log.flush().expect("flushed");
        let recorded = log.len();
        log.image("scenes", 2, GOLDEN_PNG).expect("appended");
        drop(log);
        let whole = fs::read(&path).expect("readable");

        let refused = EventLog::resume_at(&path, recorded - 1);
        assert!(matches!(refused, Err(LogError::NotARecordEnd { .. })));
        let refused = EventLog::resume_at(&path, whole.len() as u64 + 1);
        assert!(matches!(refused, Err(LogError::Shorter { .. })));
        assert_eq!(fs::read(&path).expect("readable"), whole, "a refusal changes nothing");

        let log = EventLog::resume_at(&path, recorded).expect("resumed");
        assert_eq!(log.len(), recorded);
        assert_eq!(fs::read(&path).expect("readable"), whole[..recorded as usize]);
        let log = EventLog::resume_at(&path, 0).expect("started anew");
        assert_eq!(log.len(), version_only);
    }

    #[test]
    fn an_image_must_be_a_png() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = EventLog::create(folder.path(), "train").expect("a new log");
        let before = log.len();
        assert!(matches!(log.image("scenes", 0, b"GIF89a"), Err(LogError::NotPng { .. })));
        assert_eq!(log.len(), before);
    }
}
