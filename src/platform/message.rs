//! The one shape that both of libp2p's WebRTC protobufs have: an optional number in field 1 and optional bytes in field 2.

use std::io;
use std::ops::Range;

use unsigned_varint::{decode, encode};

const NUMBER_KEY: u8 = 1 << 3;
const BYTES_KEY: u8 = 2 << 3 | 2;

/// A message, without a length before it.
pub(super) fn write(number: Option<u64>, bytes: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + bytes.map_or(0, <[u8]>::len));
    if let Some(number) = number {
        out.push(NUMBER_KEY);
        out.extend_from_slice(encode::u64(number, &mut encode::u64_buffer()));
    }
    if let Some(bytes) = bytes {
        out.push(BYTES_KEY);
        out.extend_from_slice(encode::usize(bytes.len(), &mut encode::usize_buffer()));
        out.extend_from_slice(bytes);
    }
    out
}

/// The number, and where in `message` the bytes are (nowhere: an empty range). Unknown fields are passed over.
pub(super) fn read(message: &[u8]) -> io::Result<(Option<u64>, Range<usize>)> {
    let varint = |bytes| decode::u64(bytes).map_err(|_| invalid("a number that ends early"));
    let (mut number, mut bytes) = (None, 0..0);
    let mut rest = message;
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        let (length, after) = match key & 7 {
            0 => {
                let (value, after) = varint(after)?;
                if key == u64::from(NUMBER_KEY) {
                    number = Some(value);
                }
                (0, after)
            }
            1 => (8, after),
            2 => {
                let (length, after) = varint(after)?;
                (usize::try_from(length).unwrap_or(usize::MAX), after)
            }
            5 => (4, after),
            _ => return Err(invalid("an unknown wire type")),
        };
        let (_, after_value) = after.split_at_checked(length).ok_or_else(|| invalid("a field that ends early"))?;
        if key == u64::from(BYTES_KEY) {
            let start = message.len() - after.len();
            bytes = start..start + length;
        }
        rest = after_value;
    }
    Ok((number, bytes))
}

/// The remote broke the format.
pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_and_damaged_ones_refused() {
        let bytes = write(Some(2), Some(b"x"));
        assert_eq!(bytes, [8, 2, 18, 1, b'x']);
        assert_eq!(read(&bytes).unwrap(), (Some(2), 4..5));
        assert_eq!(read(&[26, 1, 0, 18, 1, b'y']).unwrap(), (None, 5..6));
        assert_eq!(read(&write(None, None)).unwrap(), (None, 0..0));
        for bad in [&[18, 2, b'x'][..], &[8], &[11], &[18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
