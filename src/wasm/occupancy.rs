//! The capability `map/occupancy` as a browser file of its own. It knows nothing of nodes and domains: bytes in, bytes out.

use js_sys::{Object, Reflect};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::base::Error;
use crate::work::occupancy::{Occupancy, Parameters};

/// What the facade makes a `PeerageError` of.
fn thrown(error: &Error) -> JsValue {
    let object = Object::new();
    for (name, value) in [("code", error.code().as_str()), ("message", error.message())] {
        // A new object takes any property.
        let _ = Reflect::set(&object, &name.into(), &value.into());
    }
    object.into()
}

/// A grid in the making.
#[wasm_bindgen]
pub struct OccupancyCore(Option<Occupancy>);

#[wasm_bindgen]
impl OccupancyCore {
    /// Begins with the bytes of a file. `cell`: metres; none: what suits the scan.
    ///
    /// # Errors
    /// As [`Occupancy::new`].
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: Vec<u8>, cell: Option<f32>) -> Result<OccupancyCore, JsValue> {
        Occupancy::new(bytes, Parameters { cell }).map(|work| OccupancyCore(Some(work))).map_err(|e| thrown(&e))
    }

    /// Goes on for so many units of work; the part that is done, 1 for all of it.
    ///
    /// # Errors
    /// As [`Occupancy::step`].
    pub fn step(&mut self, budget: usize) -> Result<f64, JsValue> {
        let Some(work) = &mut self.0 else { return Ok(1.0) };
        let progress = work.step(budget).map_err(|e| thrown(&e))?;
        Ok(progress.done as f64 / progress.total as f64)
    }

    /// The grid's bytes, once; all that is left is done before.
    ///
    /// # Errors
    /// As [`Occupancy::finish`].
    pub fn finish(&mut self) -> Result<Vec<u8>, JsValue> {
        self.0.take().map_or(Ok(Vec::new()), |work| work.finish().map(|grid| grid.encode()).map_err(|e| thrown(&e)))
    }
}
