//! Wavefront OBJ: vertices, faces and lines; all else (normals, materials, groups) says nothing about where something is.
//! A face names vertices above it, as the format has it.
//! Own code: the crate `tobj` leaves out vertices without a face, so that a point cloud would be empty, and names no line.

use alloc::{format, string::String, vec::Vec};

use super::shape::{At, Shape};
use crate::base::Error;

/// What a line of an OBJ file can begin with, and the first one that is no comment does.
const WORDS: &[&[u8]] = &[b"v", b"vn", b"vt", b"vp", b"f", b"l", b"p", b"o", b"g", b"s", b"mg", b"mtllib", b"usemtl", b"cstype", b"deg"];

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty())
}

/// Whether this looks like OBJ, which has no magic number.
pub(super) fn is_obj(bytes: &[u8]) -> bool {
    let mut firsts = bytes.split(|b| *b == b'\n').filter_map(|line| words(line).next());
    firsts.find(|word| !word.starts_with(b"#")).is_some_and(|word| WORDS.contains(&word))
}

#[derive(Debug)]
pub(super) struct Obj {
    bytes: Vec<u8>,
    pub(super) at: usize,
    line: usize,
}

impl Obj {
    pub(super) fn new(bytes: Vec<u8>) -> Obj {
        Obj { bytes, at: 0, line: 0 }
    }

    /// Reads so many lines, and says whether those were all.
    pub(super) fn step(&mut self, shape: &mut Shape, budget: &mut usize) -> Result<bool, Error> {
        while *budget > 0 && self.at < self.bytes.len() {
            (*budget, self.line) = (*budget - 1, self.line + 1);
            let rest = &self.bytes[self.at..];
            let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            read(&rest[..end], shape, At::Line(self.line))?;
            self.at = (self.at + end + 1).min(self.bytes.len());
        }
        Ok(self.at == self.bytes.len())
    }
}

fn read(line: &[u8], shape: &mut Shape, at: At) -> Result<(), Error> {
    let mut words = words(line);
    match words.next() {
        Some(b"v") => {
            let mut place = [0.0; 3];
            for value in &mut place {
                *value = words.next().and_then(|w| number(w).parse().ok()).ok_or_else(|| at.malformed("a vertex has three numbers"))?;
            }
            shape.vertex(place, at)
        }
        Some(b"f") => {
            let count = shape.vertices.len();
            shape.polygon(words.map(|w| corner(w, count, at)), at)
        }
        Some(b"l") => {
            let (count, mut last) = (shape.vertices.len(), None);
            for word in words {
                let next = corner(word, count, at)?;
                if let Some(last) = last.replace(next) {
                    shape.triangle([last, next, next], at)?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn number(word: &[u8]) -> &str {
    str::from_utf8(word).unwrap_or_default()
}

/// The vertex of `v`, `v/vt`, `v//vn` or `v/vt/vn`, counted from 0. The file counts from 1, or backwards from the last with -1.
fn corner(word: &[u8], count: usize, at: At) -> Result<i64, Error> {
    let own = word.split(|b| *b == b'/').next().unwrap_or_default();
    match number(own).parse::<i32>() {
        Ok(n) if n > 0 => Ok(i64::from(n) - 1),
        Ok(n) if n < 0 => Ok(count as i64 + i64::from(n)),
        _ => Err(at.malformed(format!("`{}` names no vertex", String::from_utf8_lossy(&word[..word.len().min(32)])))),
    }
}
