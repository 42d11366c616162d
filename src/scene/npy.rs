//! NumPy's `.npy` arrays of integers (format versions 1 to 3, C order).
//!
//! A file is the magic `\x93NUMPY`, two version bytes, the length of the header (2 or 4 bytes,
//! little-endian), the header (a Python dictionary) and the values.

use std::io::{self, Read, Write};

const MAGIC: [u8; 6] = *b"\x93NUMPY";

/// Longest header read. NumPy's own limit is 10,000 bytes.
const MAX_HEADER: usize = 1 << 16;

/// Bytes decoded at a time; a multiple of every item size.
const CHUNK: u64 = 1 << 16;

/// An array in C order.
#[derive(Debug, PartialEq)]
pub struct Array<T> {
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// The values, the last dimension running fastest.
    pub values: Vec<T>,
}

/// Why a member of an archive is no usable array.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The bytes cannot be had.
    #[error("cannot be read ({0}); copy the file again")]
    Read(#[from] io::Error),
    /// Something else than an array, or an array format to come.
    #[error("is no .npy array of format 1 to 3; save it with numpy.savez")]
    Format,
    /// The header cannot be understood.
    #[error("has a damaged header, {0:?}; save it again with numpy.savez")]
    Header(String),
    /// Columns first.
    #[error("is in Fortran order; save numpy.ascontiguousarray(...) of it")]
    Fortran,
    /// Not integers.
    #[error(
        "has values of type {0:?}; convert them: pixels from 0 to 1 with (255 * images).round().astype(numpy.uint8), \
             other numbers with .astype(numpy.uint8), boxes with .astype(numpy.int16)"
    )]
    Type(String),
    /// Dimensions and data disagree.
    #[error("announces dimensions {shape:?} but holds {bytes} bytes of values; save it again")]
    Size {
        /// Dimensions in the header.
        shape: Vec<u64>,
        /// Bytes behind the header.
        bytes: u64,
    },
    /// A value that the format of the archive has no room for.
    #[error("holds the value {value}, which does not fit {wanted}; see the archive format")]
    Value {
        /// The value.
        value: i128,
        /// Type of the values in memory.
        wanted: &'static str,
    },
}

/// Reads an array from the `len` bytes of `file`, converting the values from any integer type.
/// The dimensions are checked against `len` first, and memory grows with the values really there.
pub fn read<T: TryFrom<i128>>(mut file: impl Read, len: u64) -> Result<Array<T>, NpyError> {
    let (header_len, text) = read_header(&mut file)?;
    let Header { kind, shape } = Header::parse(&text)?;
    let bytes = len.saturating_sub(header_len);
    let announced = shape.iter().try_fold(kind.size as u64, |size, &n| size.checked_mul(n));
    if announced != Some(bytes) {
        return Err(NpyError::Size { shape, bytes });
    }
    let mut values = Vec::new();
    let mut chunk = Vec::new();
    let mut found = 0;
    // One byte more than announced: reading to the end makes zip check its sum.
    let mut file = file.take(bytes + 1);
    loop {
        chunk.clear();
        file.by_ref().take(CHUNK).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            break;
        }
        found += chunk.len() as u64;
        for item in chunk.chunks_exact(kind.size) {
            let value = kind.decode(item);
            let wanted = std::any::type_name::<T>();
            values.push(T::try_from(value).map_err(|_| NpyError::Value { value, wanted })?);
        }
    }
    if found != bytes {
        return Err(NpyError::Size { shape, bytes: found });
    }
    // They fit: their product is the number of bytes read.
    Ok(Array { shape: shape.into_iter().map(|n| n as usize).collect(), values })
}

/// Writes an array of the little-endian integers `bytes`, of NumPy's type `descr`.
pub fn write(mut file: impl Write, descr: &str, shape: &[usize], bytes: &[u8]) -> io::Result<()> {
    let dimensions: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dimensions}), }}");
    // The values start at a multiple of 64 bytes, behind 10 bytes, the text and a line feed.
    let padding = (64 - (MAGIC.len() + 4 + text.len() + 1) % 64) % 64;
    let header = format!("{text}{:padding$}\n", "");
    file.write_all(&MAGIC)?;
    file.write_all(&[1, 0])?;
    file.write_all(&(header.len() as u16).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    file.write_all(bytes)
}

/// The header's text, and the number of bytes up to the first value.
fn read_header(file: &mut impl Read) -> Result<(u64, String), NpyError> {
    let [mut start, mut short, mut long] = [[0; 8].to_vec(), [0; 2].to_vec(), [0; 4].to_vec()];
    file.read_exact(&mut start)?;
    let (prefix, len) = match (start.strip_prefix(&MAGIC), start[6]) {
        (Some(_), 1) => {
            file.read_exact(&mut short)?;
            (10, usize::from(u16::from_le_bytes([short[0], short[1]])))
        }
        (Some(_), 2 | 3) => {
            file.read_exact(&mut long)?;
            (12, u32::from_le_bytes([long[0], long[1], long[2], long[3]]) as usize)
        }
        _ => return Err(NpyError::Format),
    };
    if len > MAX_HEADER {
        return Err(NpyError::Header(format!("{len} bytes long")));
    }
    let mut text = vec![0; len];
    file.read_exact(&mut text)?;
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    Ok((prefix + len as u64, text))
}

/// An integer type.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind {
    signed: bool,
    size: usize,
    big_endian: bool,
}

impl Kind {
    /// From a type string such as `|u1`, `<i8` or `>u2`.
    fn parse(descr: &str) -> Option<Self> {
        let (order, rest) = descr.split_at_checked(1)?;
        let (signed, size) = match rest.split_at_checked(1)? {
            ("u", size) => (false, size),
            ("i", size) => (true, size),
            _ => return None,
        };
        let size = size.parse().ok().filter(|size| [1, 2, 4, 8].contains(size))?;
        match order {
            "<" | ">" => Some(Self { signed, size, big_endian: order == ">" }),
            "|" if size == 1 => Some(Self { signed, size, big_endian: false }),
            _ => None,
        }
    }

    fn decode(self, item: &[u8]) -> i128 {
        let push = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        let bits = if self.big_endian { item.iter().fold(0, push) } else { item.iter().rev().fold(0, push) };
        if self.signed {
            let unused = u64::BITS - 8 * self.size as u32;
            i128::from((bits << unused).cast_signed() >> unused)
        } else {
            i128::from(bits)
        }
    }
}

#[derive(Debug, PartialEq)]
struct Header {
    kind: Kind,
    shape: Vec<u64>,
}

impl Header {
    fn parse(text: &str) -> Result<Self, NpyError> {
        let damaged = || NpyError::Header(text.chars().take(80).collect());
        let entries = Entries::parse(text).ok_or_else(damaged)?;
        if entries.fortran_order {
            return Err(NpyError::Fortran);
        }
        let kind = Kind::parse(&entries.descr).ok_or(NpyError::Type(entries.descr))?;
        Ok(Self { kind, shape: entries.shape })
    }
}

/// The three entries that every header has.
struct Entries {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

impl Entries {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = Cursor(text);
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        rest.eat("{")?;
        while rest.eat("}").is_none() {
            let key = rest.string()?;
            rest.eat(":")?;
            match key {
                "descr" => descr = Some(rest.string().or_else(|| rest.list())?.to_owned()),
                "fortran_order" => fortran_order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                _ => return None,
            }
            if rest.eat(",").is_none() {
                rest.eat("}")?;
                break;
            }
        }
        if !rest.0.trim().is_empty() {
            return None;
        }
        Some(Self { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }
}

/// What is left of the header. Methods take something off its front, or nothing.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn eat(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = ["'", "\""].into_iter().find(|quote| self.eat(quote).is_some())?;
        let (string, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(string)
    }

    /// A record type, taken whole to name it in an error.
    fn list(&mut self) -> Option<&'a str> {
        let (list, rest) = self.0.trim_start().strip_prefix('[')?.rsplit_once(']')?;
        self.0 = rest;
        Some(list)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.eat("True") {
            Some(()) => Some(true),
            None => self.eat("False").map(|()| false),
        }
    }

    fn tuple(&mut self) -> Option<Vec<u64>> {
        self.eat("(")?;
        let mut numbers = Vec::new();
        while self.eat(")").is_none() {
            let rest = self.0.trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            numbers.push(rest[..end].parse().ok()?);
            self.0 = &rest[end..];
            if self.eat(",").is_none() {
                self.eat(")")?;
                break;
            }
        }
        Some(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        write(&mut file, descr, shape, bytes).unwrap();
        file
    }

    fn read_all<T: TryFrom<i128>>(file: &[u8]) -> Result<Array<T>, NpyError> {
        read(file, file.len() as u64)
    }

    #[test]
    fn what_is_written_is_read_and_aligned() {
        let bytes = file("|u1", &[2, 3], &[1, 2, 3, 4, 5, 255]);
        assert_eq!((bytes.len() - 6) % 64, 0);
        let array = read_all(&bytes).unwrap();
        assert_eq!(array, Array { shape: vec![2, 3], values: vec![1u8, 2, 3, 4, 5, 255] });
    }

    #[test]
    fn every_integer_type_and_byte_order_is_decoded() {
        let values = |descr, bytes: &[u8]| {
            let size = descr_size(descr);
            read_all::<i16>(&file(descr, &[bytes.len() / size], bytes)).unwrap().values
        };
        assert_eq!(values("|i1", &[255, 2]), [-1, 2]);
        assert_eq!(values("<u2", &[1, 2]), [0x201]);
        assert_eq!(values(">u2", &[1, 2]), [0x102]);
        assert_eq!(values(">i2", &[255, 254]), [-2]);
        assert_eq!(values("<i4", &[254, 255, 255, 255]), [-2]);
        assert_eq!(values(">u4", &[0, 0, 1, 0]), [256]);
        assert_eq!(values("<i8", &[253, 255, 255, 255, 255, 255, 255, 255]), [-3]);
        assert_eq!(values(">u8", &[0, 0, 0, 0, 0, 0, 0, 7]), [7]);
    }

    fn descr_size(descr: &str) -> usize {
        Kind::parse(descr).unwrap().size
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let error = read_all::<u8>(&file("|i1", &[1], &[255])).unwrap_err();
        assert!(matches!(error, NpyError::Value { value: -1, wanted: "u8" }), "{error}");
        let error = read_all::<i16>(&file("<u8", &[1], &[255; 8])).unwrap_err();
        assert!(matches!(error, NpyError::Value { .. }), "{error}");
    }

    #[test]
    fn dimensions_are_checked_before_anything_is_kept() {
        for shape in [[3, 3], [usize::MAX, usize::MAX], [1, 1 << 40]] {
            let error = read_all::<u8>(&file("|u1", &shape, &[0; 6])).unwrap_err();
            assert!(matches!(error, NpyError::Size { bytes: 6, .. }), "{error}");
        }
        // A member that claims more than it holds.
        let short = file("|u1", &[100], &[0; 6]);
        let error = read::<u8>(&short[..], short.len() as u64 + 94).unwrap_err();
        assert!(matches!(error, NpyError::Size { bytes: 6, .. }), "{error}");
    }

    #[test]
    fn headers_of_other_arrays_are_told_apart() {
        let parse = |text: &str| Header::parse(text).unwrap_err();
        let of =
            |descr: &str, order: &str| format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': (2, 3), }}");
        assert!(matches!(parse(&of("'|u1'", "True")), NpyError::Fortran));
        for descr in ["'<f4'", "'|b1'", "'|O'", "'<U3'", "'u1'", "''", "'<u3'", "[('a', '<i4')]"] {
            assert!(matches!(parse(&of(descr, "False")), NpyError::Type(_)), "{descr}");
        }
        let kind = Kind { signed: false, size: 1, big_endian: false };
        let header = Header::parse(&of("'|u1'", "False")).unwrap();
        assert_eq!(header, Header { kind, shape: vec![2, 3] });
    }

    #[test]
    fn every_truncated_or_altered_header_is_refused_or_read_without_panic() {
        let whole = file("|u1", &[2, 3], &[1, 2, 3, 4, 5, 6]);
        for len in 0..whole.len() {
            assert!(read_all::<u8>(&whole[..len]).is_err(), "{len} bytes");
        }
        for place in 0..whole.len() - 6 {
            for byte in [0, b'\'', b'(', b')', b'{', b'}', b',', b'9', 0xff] {
                let mut altered = whole.clone();
                altered[place] = byte;
                let _ = read_all::<u8>(&altered);
            }
        }
    }
}
