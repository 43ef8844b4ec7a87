//! QR codes as text, read by another program.

#![allow(clippy::unwrap_used)]

use console::{Ink, qr};
use testkit::{command, need, run_ok};

/// The text as it would be printed: a plain bitmap (PBM), 4 dots a module.
fn printed(text: &str, ink: Ink) -> String {
    let rows = text.lines().flat_map(|line| {
        let half = |upper: bool| {
            line.chars().map(move |c| match c {
                '█' => true,
                '▀' => upper,
                '▄' => !upper,
                ' ' => false,
                other => panic!("{other:?}"),
            })
        };
        [half(true).collect::<Vec<bool>>(), half(false).collect()]
    });
    let rows: Vec<Vec<bool>> = rows.collect();
    let dots = |row: &Vec<bool>| {
        let dark = row.iter().map(|filled| if *filled == (ink == Ink::Dark) { "1111" } else { "0000" });
        (dark.collect::<String>() + "\n").repeat(4)
    };
    let (width, height) = (rows[0].len() * 4, rows.len() * 4);
    assert!(rows.iter().all(|row| row.len() * 4 == width), "lines of one length");
    format!("P1\n{width} {height}\n{}", rows.iter().map(dots).collect::<String>())
}

#[test]
fn a_code_is_read_as_it_was_written() {
    if !need(&["zbarimg"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let long = format!("SEALIFT-R1/{}/9007199254740991/{}/{}/96", "X".repeat(63), "019C".repeat(8), "7A0E".repeat(4));
    for text in ["SEALIFT-R1/PAYMENTS/42/019C133C3ED07B6E9D3C52E5D1A7F0C4/7A0EDBC37B327075/96", "A", &long] {
        for ink in [Ink::Dark, Ink::Light] {
            let image = folder.path().join("code.pbm");
            let code = qr(text, ink).unwrap();
            std::fs::write(&image, printed(&code, ink)).unwrap();
            let read = run_ok(
                command("zbarimg", folder.path())
                    .args(["--quiet", "--raw", "-S*.disable", "-Sqrcode.enable"])
                    .arg(&image),
            );
            assert_eq!(read.stdout, format!("{text}\n"), "{code}");
        }
    }
}

#[test]
fn a_code_stands_in_a_quiet_zone_and_has_a_limit() {
    let code = qr("A", Ink::Dark).unwrap();
    let lines: Vec<&str> = code.lines().collect();
    // 21 modules, and 4 on each side.
    assert_eq!((lines.len(), lines[0].chars().count()), (15, 29));
    assert!(lines[..2].iter().all(|line| line.chars().all(|c| c == ' ')), "{code}");
    assert!(lines.iter().all(|line| line.starts_with("    ") && line.ends_with("    ")), "{code}");
    let light = qr("A", Ink::Light).unwrap();
    assert!(light.lines().take(2).all(|line| line.chars().all(|c| c == '█')), "{light}");
    assert!(light.lines().last().unwrap().chars().all(|c| c == '▀'), "no half row too many: {light}");
    assert_eq!(qr(&"A".repeat(5000), Ink::Dark).unwrap_err().to_string(), "5000 characters do not fit into a QR code");
}
