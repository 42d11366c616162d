//! Why a log could not be written.

use std::path::PathBuf;

use crate::files::FileError;

/// Why a log could not be written or continued.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log to continue has lost what it had when its length was recorded.
    #[error(
        "`{}` has {found} bytes where {expected} were recorded: restore the file, or resume from a \
         checkpoint that is older",
        path.display()
    )]
    Shorter {
        /// The log.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length at which to continue.
        expected: u64,
    },
    /// The length at which to continue a log is in the middle of one of its records.
    #[error(
        "no record of `{}` ends at byte {length}: resume the log with the length that was recorded \
         for this very file",
        path.display()
    )]
    NotARecordEnd {
        /// The log.
        path: PathBuf,
        /// The length at which to continue.
        length: u64,
    },
    /// A value has no JSON form.
    #[error("cannot log to `{}`: {cause}; log a structure of numbers and text", path.display())]
    Unserialisable {
        /// The log.
        path: PathBuf,
        /// The refusal. Part of the message, and thus not reported again as the error's source.
        cause: serde_json::Error,
    },
    /// An event log's name would not be a file name.
    #[error("`{name}` cannot end a file name: name the event log by letters, digits, `-`, `_` and `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// An image is not a PNG.
    #[error("the image logged as `{tag}` is not a PNG file: encode it as one first")]
    NotPng {
        /// The tag of the image.
        tag: String,
    },
}
