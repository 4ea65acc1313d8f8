//! The grid, and its form as bytes.

use alloc::{format, vec, vec::Vec};

use super::CELLS;
use crate::base::{Code, Error};

const MAGIC: &[u8; 4] = b"PGOC";
const VERSION: u8 = 1;
/// Bytes before the cells.
const HEADER: usize = 40;

/// Which cells of a box hold something. The module's page has its form as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    dims: [u32; 3],
    origin: [f32; 3],
    cell: f32,
    occupied: u32,
    /// A bit a cell, as in the encoding.
    bits: Vec<u8>,
}

fn refuse<T>(what: impl Into<alloc::borrow::Cow<'static, str>>) -> Result<T, Error> {
    Err(Error::new(Code::Malformed, what))
}

/// How many cells there are, if that is neither none nor too many.
pub(super) fn cells(dims: [u32; 3]) -> Option<usize> {
    let count = dims.iter().try_fold(1u64, |n, d| n.checked_mul(u64::from(*d)))?;
    (1..=CELLS as u64).contains(&count).then_some(count as usize)
}

impl Grid {
    /// An empty grid. The caller has counted the cells.
    pub(super) fn new(dims: [u32; 3], origin: [f32; 3], cell: f32) -> Grid {
        Grid { dims, origin, cell, occupied: 0, bits: vec![0; cells(dims).unwrap_or(0).div_ceil(8)] }
    }

    /// Cells along x, y and z.
    #[must_use]
    pub fn dims(&self) -> [u32; 3] {
        self.dims
    }

    /// The corner with the least coordinates, metres.
    #[must_use]
    pub fn origin(&self) -> [f32; 3] {
        self.origin
    }

    /// The length of a cell's edge, metres.
    #[must_use]
    pub fn cell(&self) -> f32 {
        self.cell
    }

    /// How many cells are occupied.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.occupied
    }

    /// Whether this cell is occupied; outside of the grid none is.
    #[must_use]
    pub fn occupied(&self, x: u32, y: u32, z: u32) -> bool {
        self.index([x, y, z]).is_some_and(|i| self.bits[i / 8] >> (i % 8) & 1 == 1)
    }

    /// The occupied cells, in the order of the bits.
    pub fn cells(&self) -> impl Iterator<Item = [u32; 3]> + '_ {
        let [dx, dy, _] = self.dims.map(|d| d as usize);
        let set = self.bits.iter().enumerate().filter(|(_, byte)| **byte != 0);
        let set = set.flat_map(|(i, byte)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| i * 8 + bit));
        set.map(move |i| [i % dx, i / dx % dy, i / dx / dy].map(|v| v as u32))
    }

    /// Occupies a cell; outside of the grid there is none.
    pub(super) fn mark(&mut self, cell: [u32; 3]) {
        if let Some(i) = self.index(cell) {
            let (byte, bit) = (&mut self.bits[i / 8], 1 << (i % 8));
            self.occupied += u32::from(*byte & bit == 0);
            *byte |= bit;
        }
    }

    fn index(&self, cell: [u32; 3]) -> Option<usize> {
        let [x, y, z] = cell.map(|v| v as usize);
        let [dx, dy, dz] = self.dims.map(|d| d as usize);
        (x < dx && y < dy && z < dz).then(|| (z * dy + y) * dx + x)
    }

    /// The grid as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.bits.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        self.dims.iter().for_each(|d| out.extend_from_slice(&d.to_le_bytes()));
        self.origin.iter().for_each(|o| out.extend_from_slice(&o.to_le_bytes()));
        out.extend_from_slice(&self.cell.to_le_bytes());
        out.extend_from_slice(&self.occupied.to_le_bytes());
        out.extend_from_slice(&self.bits);
        out
    }

    /// The grid that these bytes are, and nothing but.
    ///
    /// # Errors
    /// [`Code::Malformed`] if they are not exactly what [`Grid::encode`] gives for some grid.
    pub fn decode(bytes: &[u8]) -> Result<Grid, Error> {
        let Some((header, bits)) = bytes.split_first_chunk::<HEADER>() else {
            return refuse(format!("a grid has at least {HEADER} bytes, these are {}", bytes.len()));
        };
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        if header[..4] != *MAGIC {
            return refuse("no grid: it does not begin with PGOC");
        }
        if header[4] != VERSION {
            return refuse(format!("a grid of version {}, this program reads {VERSION}", header[4]));
        }
        if header[5..8] != [0; 3] {
            return refuse("bytes 5 to 7 of a grid are zero");
        }
        let dims = [8, 12, 16].map(|at| u32::from_le_bytes(word(at)));
        let origin = [20, 24, 28].map(|at| f32::from_le_bytes(word(at)));
        let cell = f32::from_le_bytes(word(32));
        let Some(count) = cells(dims) else {
            return refuse(format!("a grid of {} by {} by {} cells: one to {CELLS} are allowed", dims[0], dims[1], dims[2]));
        };
        if !(origin.iter().all(|o| o.is_finite()) && cell.is_finite() && cell > 0.0) {
            return refuse("a grid's origin is finite, and so is its cell, and more than zero");
        }
        if bits.len() != count.div_ceil(8) {
            return refuse(format!("{count} cells take {} bytes, there are {}", count.div_ceil(8), bits.len()));
        }
        if count % 8 != 0 && bits[count / 8] >> (count % 8) != 0 {
            return refuse("the bits after the last cell are zero");
        }
        let (said, occupied) = (u32::from_le_bytes(word(36)), bits.iter().map(|b| b.count_ones()).sum());
        if said != occupied {
            return refuse(format!("{said} cells are said to be occupied, {occupied} are"));
        }
        Ok(Grid { dims, origin, cell, occupied, bits: bits.to_vec() })
    }
}
