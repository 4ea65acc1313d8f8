//! PLY, in its three encodings. Elements other than `vertex` and `face` are read over.
//! Own code: the crate `ply-rs-bw` would add 37 KB of gzip to a browser's file, and names no byte of a binary file.

use alloc::{format, string::String, vec::Vec};

use super::shape::{At, Shape};
use crate::base::Error;

/// The longest header, bytes.
const HEADER: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Encoding {
    Ascii,
    Little,
    Big,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scalar {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

impl Scalar {
    fn named(word: &str) -> Option<Scalar> {
        Some(match word {
            "char" | "int8" => Scalar::I8,
            "uchar" | "uint8" => Scalar::U8,
            "short" | "int16" => Scalar::I16,
            "ushort" | "uint16" => Scalar::U16,
            "int" | "int32" => Scalar::I32,
            "uint" | "uint32" => Scalar::U32,
            "float" | "float32" => Scalar::F32,
            "double" | "float64" => Scalar::F64,
            _ => return None,
        })
    }

    fn is_whole(self) -> bool {
        !matches!(self, Scalar::F32 | Scalar::F64)
    }

    fn size(self) -> usize {
        match self {
            Scalar::I8 | Scalar::U8 => 1,
            Scalar::I16 | Scalar::U16 => 2,
            Scalar::I32 | Scalar::U32 | Scalar::F32 => 4,
            Scalar::F64 => 8,
        }
    }
}

/// What a property is here.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    /// A coordinate of a vertex: x, y or z.
    Axis(usize),
    /// The vertices of a face.
    Corners,
    Other,
}

#[derive(Debug)]
struct Property {
    role: Role,
    /// For a list: the type of its length.
    list: Option<Scalar>,
    value: Scalar,
}

#[derive(Debug)]
struct Element {
    /// What one of them is called in an error.
    name: &'static str,
    count: usize,
    properties: Vec<Property>,
}

#[derive(Debug)]
pub(super) struct Ply {
    bytes: Vec<u8>,
    pub(super) at: usize,
    encoding: Encoding,
    elements: Vec<Element>,
    /// The element that is being read, and how many of it were.
    now: (usize, usize),
}

pub(super) fn is_ply(bytes: &[u8]) -> bool {
    bytes.starts_with(b"ply\n") || bytes.starts_with(b"ply\r")
}

impl Ply {
    /// Reads the header.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Ply, Error> {
        let (mut at, mut line, mut encoding, mut elements) = (0, 0, None, Vec::<Element>::new());
        loop {
            line += 1;
            let wrong = |what: &'static str| At::Line(line).malformed(what);
            let rest = &bytes[at..bytes.len().min(HEADER)];
            let end = rest.iter().position(|b| *b == b'\n').ok_or_else(|| wrong("the header has no end"))?;
            let text = String::from_utf8_lossy(&rest[..end]);
            at += end + 1;
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            match words[..] {
                ["ply"] if line == 1 => {}
                [] | ["comment" | "obj_info", ..] => {}
                ["format", name, "1.0"] => {
                    encoding = Some(match name {
                        "ascii" => Encoding::Ascii,
                        "binary_little_endian" => Encoding::Little,
                        "binary_big_endian" => Encoding::Big,
                        _ => return Err(wrong("an encoding that PLY does not have")),
                    });
                }
                ["element", "tristrips", _] => return Err(At::Line(line).unread("strips of triangles are not read: export faces")),
                ["element", name, count] => {
                    // Each takes a byte at least, so that a count past the end is known for wrong before anything is read.
                    let count =
                        count.parse().ok().filter(|n| *n <= bytes.len()).ok_or_else(|| wrong("more elements than the file has bytes"))?;
                    let name = ["vertex", "face"].into_iter().find(|n| *n == name).unwrap_or("element");
                    elements.push(Element { name, count, properties: Vec::new() });
                }
                ["property", ref kind @ .., name] => {
                    let element = elements.last_mut().ok_or_else(|| wrong("a property of no element"))?;
                    let property = property(element.name, kind, name).ok_or_else(|| wrong("a property of no type that is read here"))?;
                    element.properties.push(property);
                }
                ["end_header"] => break,
                _ => return Err(wrong("no line of a PLY header")),
            }
        }
        let wrong = |what: &'static str| Err(At::Line(line).malformed(what));
        let Some(encoding) = encoding else { return wrong("the header names no format") };
        for element in &elements {
            let has = |role| element.properties.iter().filter(|p| p.role == role).count() == 1;
            match element.name {
                "vertex" if !(0..3).all(|axis| has(Role::Axis(axis))) => return wrong("a vertex has one each of x, y and z"),
                "face" if !has(Role::Corners) => return wrong("a face has one list vertex_indices"),
                _ if element.properties.is_empty() => return wrong("an element without properties"),
                _ => {}
            }
        }
        Ok(Ply { bytes, at, encoding, elements, now: (0, 0) })
    }

    /// Reads so many elements, and says whether those were all.
    pub(super) fn step(&mut self, shape: &mut Shape, budget: &mut usize) -> Result<bool, Error> {
        while let Some(element) = self.elements.get(self.now.0) {
            if self.now.1 == element.count {
                self.now = (self.now.0 + 1, 0);
                continue;
            }
            if *budget == 0 {
                return Ok(false);
            }
            let mut cursor = Cursor { bytes: &self.bytes, at: self.at, encoding: self.encoding };
            cursor.element(element, shape, At::Item(element.name, self.now.1))?;
            (self.at, self.now.1, *budget) = (cursor.at, self.now.1 + 1, *budget - 1);
        }
        Ok(true)
    }
}

fn property(element: &str, kind: &[&str], name: &str) -> Option<Property> {
    let (list, value) = match kind {
        ["list", length, value] => (Some(Scalar::named(length)?), Scalar::named(value)?),
        [value] => (None, Scalar::named(value)?),
        _ => return None,
    };
    let role = match (element, name) {
        ("vertex", "x") => Role::Axis(0),
        ("vertex", "y") => Role::Axis(1),
        ("vertex", "z") => Role::Axis(2),
        ("face", "vertex_index" | "vertex_indices") => Role::Corners,
        _ => Role::Other,
    };
    let fits = match role {
        Role::Axis(_) => list.is_none() && !value.is_whole(),
        Role::Corners => list.is_some() && value.is_whole(),
        Role::Other => true,
    };
    (fits && list.is_none_or(Scalar::is_whole)).then_some(Property { role, list, value })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
}

impl Cursor<'_> {
    fn element(&mut self, element: &Element, shape: &mut Shape, at: At) -> Result<(), Error> {
        let mut place = [0.0; 3];
        if self.encoding == Encoding::Ascii {
            self.skip(u8::is_ascii_whitespace);
        }
        for property in &element.properties {
            let Some(length) = property.list else {
                let value = self.value(property.value, at)?;
                if let Role::Axis(axis) = property.role {
                    place[axis] = value;
                }
                continue;
            };
            let length = self.value(length, at)?;
            if length < 0.0 {
                return Err(at.malformed("a list of negative length"));
            }
            let mut values = (0..length as u64).map(|_| self.value(property.value, at));
            if property.role == Role::Corners {
                shape.polygon(values.map(|v| v.map(|v| v as i64)), at)?;
            } else {
                values.try_for_each(|v| v.map(|_| ()))?;
            }
        }
        if self.encoding == Encoding::Ascii {
            self.skip(|b| matches!(b, b' ' | b'\t' | b'\r'));
            if self.bytes.get(self.at).is_some_and(|b| *b != b'\n') {
                return Err(at.malformed(format!("more in its line than it has properties (byte {})", self.at)));
            }
        }
        if element.name == "vertex" { shape.vertex(place, at) } else { Ok(()) }
    }

    fn skip(&mut self, what: impl Fn(&u8) -> bool) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|b| !what(b)).unwrap_or(rest.len());
    }

    /// The next value; every whole one fits.
    fn value(&mut self, scalar: Scalar, at: At) -> Result<f64, Error> {
        if self.encoding == Encoding::Ascii {
            self.skip(|b| matches!(b, b' ' | b'\t'));
            let start = self.at;
            self.skip(|b| !b.is_ascii_whitespace());
            let value = str::from_utf8(&self.bytes[start..self.at]).ok().and_then(|w| w.parse::<f64>().ok());
            let value = value.filter(|v| !scalar.is_whole() || v.fract() == 0.0);
            return value.ok_or_else(|| at.malformed(format!("no number of its type at byte {start}")));
        }
        let mut raw = [0; 8];
        let size = scalar.size();
        let taken = self.bytes.get(self.at..self.at + size);
        raw[..size].copy_from_slice(taken.ok_or_else(|| at.malformed(format!("the file ends in it, at byte {}", self.bytes.len())))?);
        self.at += size;
        if self.encoding == Encoding::Big {
            raw[..size].reverse();
        }
        let [a, b, c, d, ..] = raw;
        Ok(match scalar {
            Scalar::I8 => f64::from(a as i8),
            Scalar::U8 => f64::from(a),
            Scalar::I16 => f64::from(i16::from_le_bytes([a, b])),
            Scalar::U16 => f64::from(u16::from_le_bytes([a, b])),
            Scalar::I32 => f64::from(i32::from_le_bytes([a, b, c, d])),
            Scalar::U32 => f64::from(u32::from_le_bytes([a, b, c, d])),
            Scalar::F32 => f64::from(f32::from_le_bytes([a, b, c, d])),
            Scalar::F64 => f64::from_le_bytes(raw),
        })
    }
}
