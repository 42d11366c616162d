//! The IDX format of the MNIST files, plain or gzipped.
//!
//! A file is the magic number `0, 0, 8, d` (8: unsigned bytes, d: number of dimensions), d
//! big-endian 32-bit sizes, and the bytes.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// Most items one file may hold: more than the largest published digit set (EMNIST's 280,000),
/// few enough that a decompression bomb stays below a quarter of a gigabyte.
pub const MAX_ITEMS: usize = 300_000;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a file is no usable IDX file.
#[derive(Debug, thiserror::Error)]
pub enum IdxError {
    /// The bytes cannot be had, from the disk or from the gzip stream.
    #[error("it cannot be read ({0}); fetch it again")]
    Read(#[from] io::Error),
    /// Some other kind of file, or IDX with other dimensions.
    #[error("it starts with {found:02x?}, not with {expected:02x?}: give an MNIST-style IDX file")]
    Magic {
        /// Magic number of the wanted kind.
        expected: [u8; 4],
        /// First bytes of the file.
        found: [u8; 4],
    },
    /// Items of another size.
    #[error("its items measure {found:?}, but only {expected:?} is supported: resize them first")]
    ItemSize {
        /// The supported size.
        expected: Vec<usize>,
        /// The size in the header.
        found: Vec<usize>,
    },
    /// No item, or more than are supported.
    #[error("its header announces {0} items; 1 to {MAX_ITEMS} are supported")]
    Count(usize),
    /// Fewer bytes than announced.
    #[error("it is truncated: {found} of {expected} bytes are there; fetch it again")]
    Truncated {
        /// Bytes the header announces, header included.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// More bytes than announced.
    #[error("it goes on after the {0} bytes its header announces; fetch it again")]
    Trailing(usize),
}

/// Reads the items of an IDX file, each of `item_size` bytes (`[28, 28]` for images, `[]` for
/// labels). Memory grows with the data that is really there, whatever the header says.
pub fn read(mut file: impl Read, item_size: &[usize]) -> Result<Vec<u8>, IdxError> {
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start)?;
    let gzipped = start == GZIP_MAGIC;
    let whole = io::Cursor::new(start).chain(file);
    if gzipped { read_plain(MultiGzDecoder::new(whole), item_size) } else { read_plain(whole, item_size) }
}

fn read_plain(mut file: impl Read, item_size: &[usize]) -> Result<Vec<u8>, IdxError> {
    let header_len = 4 * (2 + item_size.len());
    let mut header = Vec::with_capacity(header_len);
    file.by_ref().take(header_len as u64).read_to_end(&mut header)?;
    let (words, _) = header.as_chunks::<4>();

    let expected = [0, 0, 8, 1 + item_size.len() as u8];
    let found = words.first().copied().unwrap_or_default();
    if found != expected {
        return Err(IdxError::Magic { expected, found });
    }
    if header.len() < header_len {
        return Err(IdxError::Truncated { expected: header_len, found: header.len() });
    }
    let sizes: Vec<usize> = words[1..].iter().map(|&word| u32::from_be_bytes(word) as usize).collect();
    if sizes[1..] != *item_size {
        return Err(IdxError::ItemSize { expected: item_size.to_vec(), found: sizes[1..].to_vec() });
    }
    if !(1..=MAX_ITEMS).contains(&sizes[0]) {
        return Err(IdxError::Count(sizes[0]));
    }

    let body_len = sizes.iter().product::<usize>();
    let mut body = Vec::new();
    // One byte more than announced, to notice a file that goes on.
    file.take(body_len as u64 + 1).read_to_end(&mut body)?;
    match body.len() {
        len if len < body_len => Err(IdxError::Truncated { expected: header_len + body_len, found: header_len + len }),
        len if len > body_len => Err(IdxError::Trailing(header_len + body_len)),
        _ => Ok(body),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// An IDX file with a header that says `sizes`, whatever `body` is.
    pub fn file(sizes: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(body);
        bytes
    }

    pub fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let bytes = file(&[3, 1, 2], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&bytes[..], &[1, 2]).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&gzip(&bytes)[..], &[1, 2]).unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = file(&[2, 1, 2], &[1, 2, 3, 4]);
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len], &[1, 2]).is_err(), "{len} bytes");
        }
        let zipped = gzip(&bytes);
        for len in 0..zipped.len() {
            assert!(read(&zipped[..len], &[1, 2]).is_err(), "{len} gzipped bytes");
        }
    }

    #[test]
    fn bad_headers_are_told_apart() {
        let fails = |bytes: &[u8]| read(bytes, &[1, 2]).unwrap_err();
        assert!(matches!(fails(b"\x89PNG\r\n"), IdxError::Magic { .. }));
        assert!(matches!(fails(&file(&[1], &[0])), IdxError::Magic { .. }));
        assert!(matches!(fails(&file(&[1, 2, 1], &[0; 2])), IdxError::ItemSize { .. }));
        assert!(matches!(fails(&file(&[0, 1, 2], &[])), IdxError::Count(0)));
        assert!(matches!(fails(&file(&[u32::MAX, 1, 2], &[0; 2])), IdxError::Count(_)));
        assert!(matches!(fails(&file(&[300_000, 1, 2], &[0; 2])), IdxError::Truncated { .. }));
        assert!(matches!(fails(&file(&[1, 1, 2], &[0; 3])), IdxError::Trailing(18)));
    }

    #[test]
    fn a_gzip_bomb_is_left_after_the_announced_size() {
        let bomb = gzip(&file(&[2, 1, 2], &vec![0; 8 << 20]));
        assert!(matches!(read(&bomb[..], &[1, 2]).unwrap_err(), IdxError::Trailing(20)));
    }
}
