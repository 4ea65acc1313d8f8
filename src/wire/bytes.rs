//! The byte-exact encoding under every signature: fixed fields, big-endian, lengths before variable parts, no trailing bytes.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use crate::base::{Code, Reject};

/// The longest text of an error, bytes; of a longer one the beginning goes.
const ERROR: usize = 512;

/// Appends fields to a buffer.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }
    /// One byte.
    pub fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }
    /// Two bytes.
    pub fn u16(&mut self, v: u16) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }
    /// Four bytes.
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }
    /// Eight bytes.
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }
    /// Bytes of a length both sides know.
    pub fn raw(&mut self, v: &[u8]) -> &mut Self {
        self.0.extend_from_slice(v);
        self
    }
    /// Up to 65,535 bytes behind a two-byte length.
    ///
    /// # Panics
    /// If it is longer: the caller bounds what it writes.
    pub fn var(&mut self, v: &[u8]) -> &mut Self {
        let len = u16::try_from(v.len()).expect("a variable field has at most 65535 bytes"); // invariant: bounded by the caller
        self.u16(len).raw(v)
    }
    /// An error: its code's text and its own.
    pub fn error(&mut self, code: Code, message: &str) -> &mut Self {
        self.var(code.as_str().as_bytes()).var(&message.as_bytes()[..message.floor_char_boundary(ERROR)])
    }
    /// The bytes written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
    /// The bytes written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Takes fields off a slice. Every method fails with [`Reject::Malformed`] where bytes are missing.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Reject> {
        Ok(self.array::<1>()?[0])
    }
    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Reject> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Reject> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Reject> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    /// `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Reject::Malformed)?;
        self.0 = tail;
        Ok(*head)
    }
    /// `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Reject> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Reject::Malformed)?;
        self.0 = tail;
        Ok(head)
    }
    /// Bytes behind a two-byte length, at most `max` of them.
    pub fn var(&mut self, max: usize) -> Result<&'a [u8], Reject> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(Reject::TooLarge);
        }
        self.take(len)
    }
    /// UTF-8 text behind a two-byte length, at most `max` bytes.
    pub fn text(&mut self, max: usize) -> Result<String, Reject> {
        core::str::from_utf8(self.var(max)?).map(String::from).map_err(|_| Reject::Malformed)
    }
    /// An error that somebody else tells of, its text fit for a terminal.
    pub fn error(&mut self) -> Result<(Code, String), Reject> {
        let (code, text) = (self.text(64)?, self.text(ERROR)?);
        let text = if text.chars().any(char::is_control) { text.escape_debug().collect() } else { text.to_owned() };
        // A later program may know more codes.
        Ok((Code::named(&code).unwrap_or(Code::Unsupported), text))
    }
    /// All that is left, if it is at most so many bytes.
    pub fn rest_within(&mut self, max: usize) -> Result<Vec<u8>, Reject> {
        let rest = self.rest();
        if rest.len() > max { Err(Reject::TooLarge) } else { Ok(rest.to_vec()) }
    }
    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }
    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.len()
    }
    /// Ends the reading.
    ///
    /// # Errors
    /// [`Reject::Malformed`] if bytes are left over.
    pub fn end(self) -> Result<(), Reject> {
        if self.0.is_empty() { Ok(()) } else { Err(Reject::Malformed) }
    }
}
