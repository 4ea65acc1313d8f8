//! A link as a QR code for the terminal.

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// The code in half blocks, two modules per character, dark on light whatever the terminal's colours; `None` if the text
/// is too long for any code (2,953 bytes).
#[must_use]
pub fn terminal(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, qrcode::EcLevel::L).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).quiet_zone(true).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_fits_and_a_novel_does_not() {
        let code = terminal(&format!("http://127.0.0.1:9600/#{}", "x".repeat(300))).unwrap();
        assert!(code.lines().count() > 20 && code.chars().all(|c| " \n█▀▄".contains(c)));
        assert!(terminal(&"x".repeat(3_000)).is_none());
    }
}
