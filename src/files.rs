//! Files that are never seen half-written.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path has no file name to write to.
    #[error("`{}` does not name a file: give a path that ends in a file name", path.display())]
    Unnamed {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// A folder, a device or a pipe: reading it may never end.
    #[error("`{}` is no ordinary file: give the path of one", path.display())]
    NotOrdinary {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// More bytes than any such file has.
    #[error("`{}` has more than {most} bytes, too many for what it should be: check the path", path.display())]
    TooLong {
        /// The path that was asked for.
        path: PathBuf,
        /// The most that is read.
        most: u64,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`: {cause}; {}", path.display(), advice(cause))]
    Refused {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or folder it was attempted on.
        path: PathBuf,
        /// The refusal. Part of the message, and thus not reported again as the error's source.
        cause: io::Error,
    },
    /// The disk took something else than it was given.
    #[error("`{}` reads back otherwise than it was written: check the disk; what was there before is unchanged", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// For `map_err`: the refusal of `action` on `path`.
    pub fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Refused { action, path: path.into(), cause }
    }
}

/// What to do about a refusal.
fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "check the path and that its folder exists",
        io::ErrorKind::AlreadyExists => "move it away or choose another name",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "give yourself the permission or choose another place"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        io::ErrorKind::InvalidData => "give a file of text in UTF-8",
        io::ErrorKind::FileTooLarge => "raise the limit on the size of files (`ulimit -f`)",
        _ => "check the disk and the path",
    }
}

/// The content of an ordinary file of at most `most` bytes: memory is bounded and the end certain, whatever the path leads to.
///
/// # Errors
///
/// `path` leads to something else or to more, or the operating system refuses.
pub fn read_whole(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    // Asked before opening: to open a pipe is to wait for its writer.
    let found = fs::metadata(path).map_err(FileError::refused("read", path))?;
    if !found.is_file() {
        return Err(FileError::NotOrdinary { path: path.into() });
    }
    if found.len() > most {
        return Err(FileError::TooLong { path: path.into(), most });
    }
    let mut content = Vec::new();
    let no_room = |e| FileError::refused("read", path)(io::Error::new(io::ErrorKind::OutOfMemory, e));
    content.try_reserve_exact(found.len() as usize + 1).map_err(no_room)?;
    let file = File::open(path).map_err(FileError::refused("read", path))?;
    // Some files say that they are shorter than they are, as those of /proc.
    file.take(most.saturating_add(1)).read_to_end(&mut content).map_err(FileError::refused("read", path))?;
    match content.len() as u64 > most {
        true => Err(FileError::TooLong { path: path.into(), most }),
        false => Ok(content),
    }
}

/// The same for a text, which must be UTF-8.
///
/// # Errors
///
/// Those of [`read_whole`], and bytes that are no text.
pub fn read_text(path: &Path, most: u64) -> Result<String, FileError> {
    let no_text = |e| FileError::refused("read", path)(io::Error::new(io::ErrorKind::InvalidData, e));
    String::from_utf8(read_whole(path, most)?).map_err(no_text)
}

/// Replaces the file at `path` by what `fill` writes, all of it or nothing.
///
/// The content goes to a temporary file in the same folder, is brought to the disk, and takes the
/// name `path` in one step, so that neither a reader nor a crash ever meets a part of it. When
/// anything fails up to that step, the file that was at `path` is still there and the temporary one
/// is removed; after it, all that can still fail is to make the new name survive a power failure.
///
/// A symbolic link at `path` is itself replaced, not what it points to. What is there and no file, such as a device or a pipe, is
/// never replaced.
///
/// # Errors
///
/// `path` names no file or something else, `fill` fails, or the operating system refuses a step.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), FileError> {
    let (temporary, file) = Temporary::beside(path)?;
    let mut buffered = BufWriter::new(file);
    fill(&mut buffered)
        .and_then(|()| buffered.into_inner().map_err(io::IntoInnerError::into_error))
        .and_then(|file| file.sync_all())
        .map_err(FileError::refused("write", path))?;
    temporary.rename(path)
}

/// Replaces the file at `path` by `bytes`, as [`write_atomic`] does, after reading back what was written: what a failing disk has
/// taken without complaint does not replace what is whole. (The operating system may answer from its memory, as it does until
/// that is needed for something else.)
///
/// # Errors
///
/// `path` names no file, the operating system refuses a step, or something else is read back.
pub fn write_bytes_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let (temporary, mut file) = Temporary::beside(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::refused("write", path))?;
    drop(file);
    if !holds(&temporary.path, bytes).map_err(FileError::refused("read back", path))? {
        return Err(FileError::Altered { path: path.into() });
    }
    temporary.rename(path)
}

/// Whether the file holds exactly these bytes.
fn holds(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut rest, mut part) = (bytes, [0; 8192]);
    loop {
        let count = file.read(&mut part)?;
        if count == 0 {
            return Ok(rest.is_empty());
        }
        match rest.strip_prefix(&part[..count]) {
            Some(after) => rest = after,
            None => return Ok(false),
        }
    }
}

/// Removes what writers that were killed have left in a folder. Nobody may be writing into it.
///
/// # Errors
///
/// The operating system refuses.
pub fn remove_temporaries(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::refused("list", folder))? {
        let entry = entry.map_err(FileError::refused("list", folder))?;
        if is_temporary(&entry.file_name()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(FileError::refused("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether a writer here gives such names to its temporary files: `.NAME.PROCESS-SERIAL.tmp`.
pub fn is_temporary(name: &OsStr) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let writer = |name: &str| {
        let (_, writer) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
        let (process, serial) = writer.split_once('-')?;
        Some(number(process) && number(serial))
    };
    writer(&name.to_string_lossy()).unwrap_or(false)
}

/// A file that is removed unless it is renamed.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// A new file in the folder of `path`: only there is a rename one step on every file system.
    fn beside(path: &Path) -> Result<(Self, File), FileError> {
        // Two writers of one path must not share a temporary file, within a process or across.
        static SERIAL: AtomicU64 = AtomicU64::new(0);

        // A pipe or a device would be replaced by a file, where something is to be written into it.
        if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            return Err(FileError::NotOrdinary { path: path.into() });
        }
        let name = path.file_name().ok_or_else(|| FileError::Unnamed { path: path.into() })?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{serial}.tmp", process::id()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(FileError::refused("create", path))?;
        Ok((Self { path: temporary }, file))
    }

    /// Gives the file its final name, for good.
    fn rename(self, path: &Path) -> Result<(), FileError> {
        fs::rename(&self.path, path).map_err(FileError::refused("replace", path))?;
        // The old name is gone: there is nothing left to remove.
        std::mem::forget(self);
        sync_folder(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // The error on the way out says more than a failure to clean up after it would.
        let _ = fs::remove_file(&self.path);
    }
}

/// Brings the names in the folder of `path` to the disk; until then a crash may undo a rename.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(FileError::refused("bring to disk the folder", folder))
}

/// Only Unix lets a program open a folder to bring it to the disk.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> Result<(), FileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_created_and_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights.bin");
        write_bytes_atomic(&path, b"a longer first content").expect("a new file");
        write_atomic(&path, |out| {
            out.write_all(b"sec")?;
            out.write_all(b"ond")
        })
        .expect("a replaced file");
        assert_eq!(fs::read(&path).expect("readable"), b"second");
        assert_eq!(names(folder.path()), ["weights.bin"]);
    }

    #[test]
    fn a_failure_half_way_keeps_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights.bin");
        write_bytes_atomic(&path, b"old").expect("a new file");
        let failed = write_atomic(&path, |out| {
            out.write_all(&[0; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let message = failed.expect_err("the content failed").to_string();
        assert!(message.contains("weights.bin") && message.contains("free some space"), "{message}");
        assert_eq!(fs::read(&path).expect("readable"), b"old");
        assert_eq!(names(folder.path()), ["weights.bin"]);
    }

    #[test]
    fn what_reads_back_otherwise_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights.bin");
        let bytes: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        fs::write(&path, &bytes).expect("written");
        assert!(holds(&path, &bytes).expect("readable"));
        for i in [0, 8191, 8192, 19_999] {
            let mut other = bytes.clone();
            other[i] ^= 1;
            assert!(!holds(&path, &other).expect("readable"), "byte {i}");
        }
        for other in [&bytes[..19_999], &[], &[&bytes[..], &[0]].concat()] {
            assert!(!holds(&path, other).expect("readable"), "{} bytes", other.len());
        }
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights.bin");
        let (temporary, _file) = Temporary::beside(&path).expect("a temporary file");
        std::mem::forget(temporary);
        let others = [".weights.bin.tmp", ".weights.bin.12.tmp", "weights.bin.12-0.tmp", ".a.12-x.tmp", "weights.bin"];
        others.iter().for_each(|name| fs::write(folder.path().join(name), "kept").expect("written"));
        assert_eq!(names(folder.path()).len(), 6);
        remove_temporaries(folder.path()).expect("cleaned");
        let mut left = others.map(String::from);
        left.sort();
        assert_eq!(names(folder.path()), left);
    }

    #[test]
    fn a_panic_half_way_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights.bin");
        let panicked = std::panic::catch_unwind(|| write_atomic(&path, |_| panic!("on purpose")));
        assert!(panicked.is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn the_content_is_invisible_until_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.json");
        write_atomic(&path, |out| {
            out.write_all(&[b' '; 100_000])?;
            assert!(!path.exists());
            Ok(())
        })
        .expect("a new file");
        assert_eq!(fs::metadata(&path).expect("there").len(), 100_000);
    }

    #[test]
    fn only_ordinary_files_of_a_fitting_length_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("text");
        fs::write(&path, "five!").expect("written");
        assert_eq!(read_whole(&path, 5).expect("five bytes"), b"five!");
        assert_eq!(read_text(&path, 99).expect("a text"), "five!");
        assert!(matches!(read_whole(&path, 4), Err(FileError::TooLong { most: 4, .. })));
        assert!(matches!(read_whole(folder.path(), 4), Err(FileError::NotOrdinary { .. })));
        fs::write(&path, [0xff]).expect("written");
        let message = read_text(&path, 99).expect_err("no text").to_string();
        assert!(message.contains("UTF-8"), "{message}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn devices_are_not_read_and_sockets_not_replaced() {
        for path in ["/dev/zero", "/dev/null"].map(Path::new) {
            assert!(matches!(read_whole(path, 9), Err(FileError::NotOrdinary { .. })));
        }
        // Not tried on a device: were the check broken, root would replace it.
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let _open = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        assert!(matches!(write_bytes_atomic(&socket, b"x"), Err(FileError::NotOrdinary { .. })));
        assert_eq!(names(folder.path()), ["socket"]);
    }

    #[test]
    fn a_folder_in_the_way_is_named_and_the_temporary_file_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("full")).expect("a folder in the way");
        let message = write_bytes_atomic(&path, b"x").expect_err("a folder").to_string();
        assert!(message.starts_with("cannot replace `") && message.contains("taken"), "{message}");
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn a_missing_folder_and_a_missing_name_say_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("absent").join("weights.bin");
        let message = write_bytes_atomic(&path, b"x").expect_err("no folder").to_string();
        assert!(message.contains("check the path and that its folder exists"), "{message}");
        assert!(matches!(write_bytes_atomic(Path::new("/"), b"x"), Err(FileError::Unnamed { .. })));
    }
}
