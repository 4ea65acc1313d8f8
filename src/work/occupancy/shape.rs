//! What the readers read: vertices and triangles, checked as they come.

use alloc::{borrow::Cow, format, vec::Vec};
use core::fmt;

use super::{TRIANGLES, VERTICES};
use crate::base::{Code, Error};

/// Where in a file something is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// A line, from 1.
    Line(usize),
    /// A byte, from 0.
    Byte(usize),
    /// One of several things, from 0.
    Item(&'static str, usize),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Line(n) => write!(f, "line {n}"),
            At::Byte(n) => write!(f, "byte {n}"),
            At::Item(what, n) => write!(f, "{what} {n}, counted from 0"),
        }
    }
}

impl At {
    /// The file breaks its format here.
    pub(super) fn malformed(self, what: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::Malformed, format!("{}: {}", self, what.into()))
    }

    /// The file has here what is not read.
    pub(super) fn unread(self, what: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::BadArgument, format!("{}: {}", self, what.into()))
    }
}

/// Vertices, and the triangles between them. A line is a triangle with two corners in one place.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) vertices: Vec<[f32; 3]>,
    pub(super) triangles: Vec<[u32; 3]>,
    /// The least coordinates.
    pub(super) low: [f32; 3],
    /// The greatest.
    pub(super) high: [f32; 3],
}

impl Shape {
    pub(super) fn new() -> Shape {
        Shape { vertices: Vec::new(), triangles: Vec::new(), low: [f32::INFINITY; 3], high: [f32::NEG_INFINITY; 3] }
    }

    pub(super) fn vertex(&mut self, place: [f64; 3], at: At) -> Result<(), Error> {
        let place = place.map(|v| v as f32);
        if !place.iter().all(|v| v.is_finite()) {
            return Err(at.malformed("a coordinate is not finite"));
        }
        if self.vertices.len() >= VERTICES {
            return Err(at.unread(format!("more than {VERTICES} vertices")));
        }
        for ((value, low), high) in place.iter().zip(&mut self.low).zip(&mut self.high) {
            (*low, *high) = (low.min(*value), high.max(*value));
        }
        self.vertices.push(place);
        Ok(())
    }

    /// A triangle between vertices that came before it.
    pub(super) fn triangle(&mut self, corners: [i64; 3], at: At) -> Result<(), Error> {
        let count = self.vertices.len();
        if let Some(corner) = corners.iter().find(|c| !(0..count as i64).contains(*c)) {
            return Err(at.malformed(format!("vertex {corner}, counted from 0, of {count}")));
        }
        if self.triangles.len() >= TRIANGLES {
            return Err(at.unread(format!("more than {TRIANGLES} triangles")));
        }
        self.triangles.push(corners.map(|c| c as u32)); // fits: VERTICES does
        Ok(())
    }

    /// A polygon, as a fan around its first corner.
    pub(super) fn polygon(&mut self, corners: impl Iterator<Item = Result<i64, Error>>, at: At) -> Result<(), Error> {
        let (mut first, mut last, mut count) = (0, 0, 0);
        for corner in corners {
            let corner = corner?;
            match count {
                0 => first = corner,
                1 => {}
                _ => self.triangle([first, last, corner], at)?,
            }
            (last, count) = (corner, count + 1);
        }
        if count < 3 { Err(at.malformed(format!("a face with {count} corners"))) } else { Ok(()) }
    }
}
