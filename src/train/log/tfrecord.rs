//! TensorFlow's record files: length, checksum, data, checksum.
//!
//! The layout is that of `tensorflow/core/lib/io/record_writer.h`, all integers little-endian:
//!
//! ```text
//! u64 length of the data
//! u32 masked CRC-32C of the length
//! …   data
//! u32 masked CRC-32C of the data
//! ```

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes of length and checksum before the data.
const HEADER: u64 = 12;
/// Bytes of checksum after the data.
const FOOTER: u64 = 4;

/// The data framed as one record.
pub(super) fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + (HEADER + FOOTER) as usize);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// Whether a record ends at byte `end` of the file, by following the lengths from its start.
pub(super) fn ends_at(file: &mut (impl Read + Seek), end: u64) -> io::Result<bool> {
    let mut here = 0u64;
    while here < end {
        if end - here < HEADER {
            return Ok(false);
        }
        let mut length = [0; 8];
        let mut crc = [0; 4];
        file.seek(SeekFrom::Start(here))?;
        file.read_exact(&mut length)?;
        file.read_exact(&mut crc)?;
        if u32::from_le_bytes(crc) != masked_crc(&length) {
            return Ok(false);
        }
        // A length near the largest integer is no reason to wrap around to the start.
        here = here.saturating_add(HEADER + FOOTER).saturating_add(u64::from_le_bytes(length));
    }
    Ok(here == end)
}

/// A CRC-32C that can itself be part of checksummed data, which plain ones are bad at.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_crc_is_castagnolis() {
        // The check value that catalogues of CRCs give for CRC-32/ISCSI.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b""), 0xa282_ead8);
    }

    #[test]
    fn only_the_ends_of_records_are_recognised() {
        let mut file = frame(b"first");
        let first = file.len() as u64;
        file.extend(frame(b""));
        let second = file.len() as u64;
        let ends: Vec<u64> =
            (0..=second).filter(|&end| ends_at(&mut Cursor::new(&file), end).expect("in memory")).collect();
        assert_eq!(ends, [0, first, second]);
    }

    #[test]
    fn a_broken_or_absurd_header_is_not_followed() {
        let mut broken = frame(b"data");
        broken[8] ^= 1;
        let end = broken.len() as u64;
        assert!(!ends_at(&mut Cursor::new(&broken), end).expect("in memory"));

        let length = u64::MAX.to_le_bytes();
        let absurd = [&length[..], &masked_crc(&length).to_le_bytes(), b"data"].concat();
        assert!(!ends_at(&mut Cursor::new(&absurd), 16).expect("in memory"));
    }
}
