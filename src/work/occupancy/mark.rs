//! Marks the cells that vertices are in and triangles touch.
//!
//! A triangle is held against its whole box of cells first. If it touches that, the box is halved along its longest side, and
//! again, down to single cells. So a large triangle costs as much as it marks, not as much as its box holds.

use alloc::{format, vec::Vec};

use glam::DVec3;

use super::{Parameters, TESTS, grid, grid::Grid, shape::Shape};
use crate::base::{Code, Error};

/// Boxes are held to be larger by so many cells, so that rounding loses no touch.
const SLACK: f64 = 1e-8;

/// A box of cells: from, and up to but without.
type Range = ([u32; 3], [u32; 3]);

#[derive(Debug)]
pub(super) struct Marking {
    grid: Grid,
    shape: Shape,
    vertex: usize,
    /// Triangles begun.
    triangle: usize,
    /// The corners of the last one, in cells from the origin.
    corners: [DVec3; 3],
    /// Boxes that it may touch.
    boxes: Vec<Range>,
    tests: u64,
}

impl Marking {
    pub(super) fn new(shape: Shape, parameters: &Parameters) -> Result<Marking, Error> {
        if shape.vertices.is_empty() {
            return Err(Error::new(Code::Malformed, "there is no vertex in it"));
        }
        let sides = [0, 1, 2].map(|axis| f64::from(shape.high[axis]) - f64::from(shape.low[axis]));
        let cell = parameters.cell.unwrap_or_else(|| automatic(sides));
        let dims = sides.map(|side| (side / f64::from(cell)).ceil().max(1.0) as u32);
        if grid::cells(dims).is_none() {
            let [x, y, z] = dims;
            let what = format!("cells of {cell} m: {x} by {y} by {z} of them are more than {}", super::CELLS);
            return Err(Error::new(Code::BadArgument, what).hint("Take a larger cell"));
        }
        let grid = Grid::new(dims, shape.low, cell);
        Ok(Marking { grid, shape, vertex: 0, triangle: 0, corners: [DVec3::ZERO; 3], boxes: Vec::new(), tests: 0 })
    }

    /// Does so many vertices and tests, and says whether those were all.
    pub(super) fn step(&mut self, budget: &mut usize) -> Result<bool, Error> {
        while *budget > 0 {
            *budget -= 1;
            if let Some(range) = self.boxes.pop() {
                self.tests += 1;
                if self.tests > TESTS {
                    let what = format!("its triangles cross too many cells (at triangle {}, counted from 0)", self.triangle - 1);
                    return Err(Error::new(Code::BadArgument, what).hint("Take a larger cell"));
                }
                self.test(range);
            } else if let Some(vertex) = self.shape.vertices.get(self.vertex) {
                self.vertex += 1;
                let place = self.cells_from_origin(*vertex).to_array();
                let dims = self.grid.dims();
                // What lies on the upper sides of the grid belongs to its last cells.
                self.grid.mark([0, 1, 2].map(|axis| (place[axis] as u32).min(dims[axis] - 1)));
            } else if let Some(triangle) = self.shape.triangles.get(self.triangle) {
                self.triangle += 1;
                self.corners = triangle.map(|corner| self.cells_from_origin(self.shape.vertices[corner as usize]));
                let [a, b, c] = self.corners;
                let (low, high) = ((a.min(b).min(c) - SLACK).to_array(), (a.max(b).max(c) + SLACK).to_array());
                let dims = self.grid.dims();
                let from = [0, 1, 2].map(|axis| (low[axis] as u32).min(dims[axis] - 1));
                let to = [0, 1, 2].map(|axis| (high[axis] as u32 + 1).min(dims[axis]));
                self.boxes.push((from, to));
            } else {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn test(&mut self, (from, to): Range) {
        let side = |axis: usize| to[axis] - from[axis];
        let longest = (1..3).fold(0, |best, axis| if side(axis) > side(best) { axis } else { best });
        if !touches(&self.corners, from.map(f64::from).into(), to.map(f64::from).into()) {
            return;
        }
        if side(longest) == 1 {
            return self.grid.mark(from);
        }
        let (mut end, mut start) = (to, from);
        end[longest] = from[longest] + side(longest) / 2;
        start[longest] = end[longest];
        self.boxes.extend([(from, end), (start, to)]);
    }

    fn cells_from_origin(&self, place: [f32; 3]) -> DVec3 {
        let vector = |v: [f32; 3]| DVec3::from_array(v.map(f64::from));
        (vector(place) - vector(self.grid.origin())) / f64::from(self.grid.cell())
    }

    /// Which part of the vertices and triangles is done.
    pub(super) fn share(&self) -> f64 {
        (self.vertex + self.triangle) as f64 / (self.shape.vertices.len() + self.shape.triangles.len()) as f64
    }

    pub(super) fn finish(self) -> Grid {
        self.grid
    }
}

/// The longest side divided by 128, not rounded down, lest it be 129 cells.
fn automatic(sides: [f64; 3]) -> f32 {
    let exact = sides.iter().fold(0.0f64, |a, b| a.max(*b)) / 128.0;
    let cell = exact as f32;
    match if f64::from(cell) < exact { cell.next_up() } else { cell } {
        // Everything in one place: any cell will do.
        0.0 => 1.0,
        cell => cell,
    }
}

/// Whether a triangle and a box have a point in common: no axis has them apart (Akenine-Möller, Fast 3D triangle-box overlap
/// testing, 2001). A triangle that is a line or a point is one too.
pub(super) fn touches(corners: &[DVec3; 3], from: DVec3, to: DVec3) -> bool {
    let half = (to - from) / 2.0 + SLACK;
    let [a, b, c] = corners.map(|corner| corner - (from + to) / 2.0);
    let apart = |axis: DVec3| {
        let (p, q, r) = (axis.dot(a), axis.dot(b), axis.dot(c));
        let reach = half.dot(axis.abs());
        p.min(q).min(r) > reach || p.max(q).max(r) < -reach
    };
    let (low, high) = (a.min(b).min(c), a.max(b).max(c));
    if low.cmpgt(half).any() || high.cmplt(-half).any() {
        return false;
    }
    let edges = [b - a, c - b, a - c];
    !apart(edges[0].cross(edges[1])) && !edges.iter().any(|e| DVec3::AXES.iter().any(|axis| apart(e.cross(*axis))))
}
