//! `Invite`: its link, and any link as a picture.

use qrcode::{EcLevel, QrCode, render::svg};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::error;
use crate::base::{Code, Error};

/// A QR code of a text as SVG, dark on light, with the quiet zone scanners need.
///
/// # Errors
/// `too-large` for text that no QR code holds.
#[wasm_bindgen(js_name = qrSvg)]
pub fn qr_svg(text: &str) -> Result<String, JsValue> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|e| error::to_js(&Error::new(Code::TooLarge, "the text is too long for a QR code").caused_by(e)))?;
    Ok(code.render::<svg::Color<'_>>().min_dimensions(256, 256).quiet_zone(true).build())
}
