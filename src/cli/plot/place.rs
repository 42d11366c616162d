//! Where a picture goes when nobody says: into the run's folder or, where that cannot be written to, beside it or here.

use multi_entity_vae::files::{FileError, write_bytes_atomic};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The places to try for a picture of the run in `folder`, the best first.
pub fn candidates(folder: &Path, file: &str) -> Vec<PathBuf> {
    let run = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = if run.is_empty() { file.to_string() } else { format!("{run}-{file}") };
    vec![folder.join(file), folder.with_file_name(&named), PathBuf::from(named)]
}

/// Writes to the first of the places that lets itself be written to, and says which that was.
pub fn write_first<'a>(places: &'a [PathBuf], bytes: &[u8]) -> Result<&'a Path, FileError> {
    first(places, |place| write_bytes_atomic(place, bytes))
}

fn first<'a>(
    places: &'a [PathBuf],
    mut write: impl FnMut(&Path) -> Result<(), FileError>,
) -> Result<&'a Path, FileError> {
    let mut refusal = None;
    for place in places {
        match write(place) {
            Ok(()) => return Ok(place),
            Err(e) if is_closed(&e) => refusal = refusal.or(Some(e)),
            Err(e) => return Err(e),
        }
    }
    // The refusal of the best place says what is wrong; no places at all name no file.
    Err(refusal.unwrap_or(FileError::Unnamed { path: PathBuf::new() }))
}

/// Whether another folder may be open where this one is not.
fn is_closed(error: &FileError) -> bool {
    matches!(error, FileError::Refused { cause, .. }
        if matches!(cause.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: ErrorKind) -> Result<(), FileError> {
        Err(FileError::refused("create", Path::new("x"))(kind.into()))
    }

    #[test]
    fn a_folder_that_is_closed_is_passed_over() {
        let places = candidates(Path::new("runs/vae-001"), "kl.png");
        assert_eq!(places, ["runs/vae-001/kl.png", "runs/vae-001-kl.png", "vae-001-kl.png"].map(PathBuf::from));
        let closed = |place: &Path| match place.starts_with("runs/vae-001") {
            true => refusal(ErrorKind::ReadOnlyFilesystem),
            false => Ok(()),
        };
        assert_eq!(first(&places, closed).unwrap(), Path::new("runs/vae-001-kl.png"));
        let mut tried = 0;
        let refused = first(&places, |_| {
            tried += 1;
            refusal(ErrorKind::PermissionDenied)
        });
        assert!(refused.unwrap_err().to_string().contains("permission"));
        assert_eq!(tried, 3);
    }

    #[test]
    fn a_full_disk_is_not_passed_over() {
        let places = candidates(Path::new("run"), "kl.png");
        let mut tried = 0;
        let full = first(&places, |_| {
            tried += 1;
            refusal(ErrorKind::StorageFull)
        });
        assert!(full.unwrap_err().to_string().contains("free some space"));
        assert_eq!(tried, 1);
    }
}
