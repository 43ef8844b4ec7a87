//! QR codes as text.

use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of light space on each side, which readers need (ISO/IEC 18004, section 5.3.8).
const QUIET: i32 = 4;

/// What a filled block looks like where the text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Dark, as on paper.
    Dark,
    /// Light, as on most terminals.
    Light,
}

/// The text is too long for a QR code.
#[derive(Debug, thiserror::Error)]
#[error("{0} characters do not fit into a QR code")]
pub struct QrError(usize);

/// A text as a QR code of half blocks, two rows of modules in a line, with the quiet zone around it. Up to 15 % of it may be
/// unreadable.
///
/// # Errors
/// [`QrError`].
pub fn qr(text: &str, ink: Ink) -> Result<String, QrError> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).map_err(|_| QrError(text.chars().count()))?;
    let end = code.size() + QUIET;
    let filled = |x, y| code.get_module(x, y) == (ink == Ink::Dark);
    let mut lines = String::new();
    for y in (-QUIET..end).step_by(2) {
        for x in -QUIET..end {
            // A code has an odd number of rows: below the last one nothing is drawn.
            lines.push(match (filled(x, y), y + 1 < end && filled(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        lines.push('\n');
    }
    Ok(lines)
}
