//! The capability `map/occupancy`: turns a point cloud or a mesh into an occupancy grid.
//!
//! It reads PLY (ASCII and both binary forms), OBJ and GLB, and tells them apart by their content. Every vertex occupies the
//! cell it is in. Every triangle occupies all cells it touches, also those it touches at their borders only; a line does so
//! too. What is inside a closed surface stays empty. Coordinates stay those of the file: axes are not exchanged.
//!
//! Work goes on in steps, so that a page stays responsive and progress can be told; dropping it cancels it. It takes memory
//! for its input, 12 bytes for each vertex and each triangle, and a bit for each cell.
//!
//! # The grid as bytes
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `PGOC` |
//! | 4 | version: 1 |
//! | 5..8 | zero |
//! | 8..20 | three u32: cells along x, y and z; each is at least 1, and their product at most [`CELLS`] |
//! | 20..32 | three f32: the corner of the grid with the least coordinates, metres |
//! | 32..36 | f32: the length of a cell's edge, metres |
//! | 36..40 | u32: how many cells are occupied |
//! | 40.. | a bit a cell, 1 for occupied: x fastest, then y, then z; in a byte from the least significant bit on. The bits after the last cell are zero |

mod glb;
mod grid;
mod mark;
mod obj;
mod ply;
mod shape;
#[cfg(test)]
mod tests;

use alloc::{boxed::Box, vec::Vec};

pub use grid::Grid;

use crate::base::{Code, Error};

/// Cells of a grid, at most: 256 along each side. Their bits take 2 MiB.
pub const CELLS: usize = 1 << 24;
/// Vertices that are read, at most.
pub const VERTICES: usize = 1 << 24;
/// Triangles that are read, at most.
pub const TRIANGLES: usize = 1 << 24;
/// Tests of a triangle against a box, at most: two minutes' work. A scan of a million triangles takes about ten million.
const TESTS: u64 = 1 << 30;

/// How a grid is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parameters {
    /// The length of a cell's edge in metres. None: the longest side divided by 128.
    pub cell: Option<f32>,
}

/// How far the work has come, in a unit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Done.
    pub done: u64,
    /// To be done altogether: the same each time.
    pub total: u64,
}

impl Progress {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done == self.total
    }
}

/// A grid in the making.
#[derive(Debug)]
pub struct Occupancy {
    parameters: Parameters,
    /// Bytes of the input.
    length: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Read(Reader, shape::Shape),
    Mark(mark::Marking),
    Done(Grid),
    Failed,
}

#[derive(Debug)]
enum Reader {
    Ply(ply::Ply),
    Obj(obj::Obj),
    Glb(Box<glb::Glb>),
}

impl Occupancy {
    /// Begins with the bytes of a file.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for a cell that is not finite or not more than zero, for what is no PLY, OBJ or GLB, and for what a
    /// file needs that is not read here; [`Code::Malformed`] if its header breaks its format.
    pub fn new(bytes: Vec<u8>, parameters: Parameters) -> Result<Occupancy, Error> {
        if parameters.cell.is_some_and(|cell| !(cell.is_finite() && cell > 0.0)) {
            return Err(Error::new(Code::BadArgument, "a cell's edge is a finite number of metres and more than zero"));
        }
        let length = bytes.len() as u64;
        let reader = if ply::is_ply(&bytes) {
            Reader::Ply(ply::Ply::new(bytes)?)
        } else if glb::is_glb(&bytes) {
            Reader::Glb(Box::new(glb::Glb::new(bytes)?))
        } else if obj::is_obj(&bytes) {
            Reader::Obj(obj::Obj::new(bytes))
        } else {
            return Err(Error::new(Code::BadArgument, "neither PLY nor OBJ nor GLB"));
        };
        Ok(Occupancy { parameters, length, stage: Stage::Read(reader, shape::Shape::new()) })
    }

    /// Goes on for so many small units of work: a vertex, a face, a test of a triangle against a box. A budget of 10,000 takes
    /// about a millisecond. After an error there is nothing to go on with.
    ///
    /// # Errors
    /// [`Code::Malformed`] if the file breaks its format or has no vertex; [`Code::BadArgument`] if it needs what is not read
    /// here, has more than [`VERTICES`] or [`TRIANGLES`], or its grid would have more than [`CELLS`].
    pub fn step(&mut self, budget: usize) -> Result<Progress, Error> {
        let mut budget = budget.max(1);
        while budget > 0 && !matches!(self.stage, Stage::Done(_)) {
            self.stage = match core::mem::replace(&mut self.stage, Stage::Failed) {
                Stage::Read(mut reader, mut shape) => {
                    let all = match &mut reader {
                        Reader::Ply(ply) => ply.step(&mut shape, &mut budget)?,
                        Reader::Obj(obj) => obj.step(&mut shape, &mut budget)?,
                        Reader::Glb(glb) => glb.step(&mut shape, &mut budget)?,
                    };
                    if all { Stage::Mark(mark::Marking::new(shape, &self.parameters)?) } else { Stage::Read(reader, shape) }
                }
                Stage::Mark(mut marking) => {
                    if marking.step(&mut budget)? {
                        Stage::Done(marking.finish())
                    } else {
                        Stage::Mark(marking)
                    }
                }
                Stage::Done(grid) => Stage::Done(grid),
                Stage::Failed => return Err(Error::new(Code::BadArgument, "this work failed before")),
            };
        }
        Ok(self.progress())
    }

    /// How far it has come: reading is the first half.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let half = self.length.max(1);
        let done = match &self.stage {
            Stage::Read(Reader::Ply(ply), _) => ply.at as u64,
            Stage::Read(Reader::Obj(obj), _) => obj.at as u64,
            Stage::Read(Reader::Glb(glb), _) => glb.at as u64,
            Stage::Mark(marking) => half + (half as f64 * marking.share()) as u64,
            Stage::Done(_) => 2 * half,
            Stage::Failed => 0,
        };
        // Complete is what is done, not what is about to be.
        let last = 2 * half - u64::from(!matches!(self.stage, Stage::Done(_)));
        Progress { done: done.min(last), total: 2 * half }
    }

    /// Does all that is left, and gives the grid.
    ///
    /// # Errors
    /// As [`Occupancy::step`].
    pub fn finish(mut self) -> Result<Grid, Error> {
        loop {
            self.step(usize::MAX)?;
            if let Stage::Done(grid) = self.stage {
                return Ok(grid);
            }
        }
    }
}
