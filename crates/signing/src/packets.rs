//! OpenPGP packets out of files: binary, or one or more armored blocks.

use std::io::Read;

use flate2::bufread::{DeflateDecoder, ZlibDecoder};
use manifest_schema::{LIMITS, OutsideText};
use openpgp::armor::{Kind, ReaderMode, Writer};
use openpgp::packet::{Signature, Tag};
use openpgp::parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse};
use openpgp::serialize::Marshal;
use openpgp::types::CompressionAlgorithm;
use openpgp::{KeyHandle, Packet};
use sequoia_openpgp as openpgp;

use crate::error::outside;
use crate::rejected::{Fault, Reason, Rejected};

const DETACHED: &str = "a detached signature";

/// Whether the bytes are binary OpenPGP: every packet begins with bit 7 set, no text does.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|b| b & 0x80 != 0)
}

/// Text with armored blocks in it (RFC 9580 section 6.2).
pub(crate) struct Armored<'a> {
    /// Each block's kind (`SIGNATURE`, `PUBLIC KEY BLOCK`) and its text.
    pub blocks: Vec<(&'a str, &'a str)>,
    /// Whether there is anything but white space between the blocks.
    pub stray: bool,
    /// Whether a block does not end.
    pub open: bool,
}

/// Finds the armored blocks of a text.
pub(crate) fn armored(text: &str) -> Armored<'_> {
    let mut found = Armored { blocks: Vec::new(), stray: false, open: false };
    let mut open: Option<(&str, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let line = line.trim_end();
        let kind_after = |prefix| line.strip_prefix(prefix).and_then(|rest: &str| rest.strip_suffix("-----"));
        match open {
            None => match kind_after("-----BEGIN PGP ") {
                Some(kind) => open = Some((kind, start)),
                None => found.stray |= !line.is_empty(),
            },
            Some((kind, begin)) if kind_after("-----END PGP ") == Some(kind) => {
                found.blocks.push((kind, text.get(begin..end).unwrap_or_default()));
                open = None;
            }
            Some(_) => {}
        }
    }
    found.open = open.is_some();
    found
}

/// All packets of binary data or of one armored block, with their content.
///
/// Reading ends after a compressed packet, whose content is not unfolded; no caller accepts one.
///
/// # Errors
/// The parser's message, or that there are more packets than `limit`.
pub(crate) fn packets(bytes: &[u8], limit: usize) -> Result<Vec<Packet>, OutsideText> {
    let dearmor = if is_binary(bytes) { Dearmor::Disabled } else { Dearmor::Enabled(ReaderMode::Tolerant(None)) };
    let mut packets = Vec::new();
    let mut parser = PacketParserBuilder::from_bytes(bytes)
        .and_then(|builder| builder.dearmor(dearmor).max_recursion_depth(0).build())
        .map_err(|e| outside(&e))?;
    while let PacketParserResult::Some(mut packet) = parser {
        if packets.len() == limit {
            return Err(OutsideText::new(format!("more than {limit} packets")));
        }
        if let Packet::CompressedData(_) = packet.packet {
            packets.push(packet.packet.clone());
            break;
        }
        if let Packet::Literal(_) = packet.packet {
            packet.buffer_unread_content().map_err(|e| outside(&e))?;
        }
        let (packet, next) = packet.next().map_err(|e| outside(&e))?;
        packets.push(packet);
        parser = next;
    }
    Ok(packets)
}

/// The signatures of a detached signature file; those that cannot be understood as faults.
pub(crate) fn detached(bytes: &[u8]) -> Result<(Vec<Signature>, Vec<Fault>), Rejected> {
    let size = bytes.len() as u64;
    if size > LIMITS.signature {
        return Err(Rejected::TooLarge { found: size, limit: LIMITS.signature });
    }
    let (mut signatures, mut faults) = (Vec::new(), Vec::new());
    for block in blocks(bytes)? {
        let limit = LIMITS.openpgp_packets.saturating_sub(signatures.len() + faults.len());
        for packet in packets(block, limit + 1).map_err(Rejected::Unreadable)? {
            match packet {
                Packet::Signature(signature) => signatures.push(signature),
                Packet::Unknown(unknown) if unknown.tag() == Tag::Signature => {
                    faults.push(Fault { key: None, reason: Reason::Unreadable(outside(unknown.error())) });
                }
                // RFC 9580 section 5.8: a marker packet is ignored wherever it stands.
                Packet::Marker(_) => {}
                Packet::OnePassSig(_) | Packet::Literal(_) | Packet::CompressedData(_) => {
                    return Err(Rejected::Form { expected: DETACHED, found: "an inline message" });
                }
                _ => return Err(Rejected::Form { expected: DETACHED, found: "other OpenPGP packets" }),
            }
        }
        if signatures.len() + faults.len() > LIMITS.openpgp_packets {
            return Err(Rejected::TooMany { limit: LIMITS.openpgp_packets });
        }
    }
    Ok((signatures, faults))
}

/// The whole of a binary file, or the blocks of an armored one.
fn blocks(bytes: &[u8]) -> Result<Vec<&[u8]>, Rejected> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Rejected::NoSignature);
    }
    if is_binary(bytes) {
        return Ok(vec![bytes]);
    }
    let unreadable = |reason| Rejected::Unreadable(OutsideText::new(reason));
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable("neither binary OpenPGP nor text"))?;
    let armored = armored(text);
    for found in text.lines().map(str::trim_end) {
        let found = match found {
            "-----BEGIN PGP SIGNED MESSAGE-----" => "a cleartext-signed message",
            "-----BEGIN PGP MESSAGE-----" => "an inline message",
            "-----BEGIN PGP PUBLIC KEY BLOCK-----" => "a certificate",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----" => "a secret key",
            _ => continue,
        };
        return Err(Rejected::Form { expected: DETACHED, found });
    }
    if armored.open {
        return Err(unreadable("an armored block does not end"));
    }
    if armored.blocks.is_empty() {
        return Err(unreadable("no armored block and not binary OpenPGP"));
    }
    if armored.stray || armored.blocks.iter().any(|(kind, _)| *kind != "SIGNATURE") {
        return Err(unreadable("there is something else beside the armored signatures"));
    }
    Ok(armored.blocks.iter().map(|(_, block)| block.as_bytes()).collect())
}

/// A signed message, not verified yet.
pub(crate) struct Inline {
    /// What is signed.
    pub content: Vec<u8>,
    /// The signature, with the digest of the content; a fault if it can't be understood.
    pub signature: Result<Signature, Fault>,
}

/// Takes apart a binary inline message: one-pass signature, literal data and signature, at most once compressed.
///
/// A signature in front of the literal data is refused though old PGP wrote it: anybody can make that of a detached
/// signature and its document.
pub(crate) fn inline(message: &[u8]) -> Result<Inline, Rejected> {
    let form = |found| Err(Rejected::Form { expected: "a binary inline message", found });
    let size = message.len() as u64;
    if size > LIMITS.signature {
        return Err(Rejected::TooLarge { found: size, limit: LIMITS.signature });
    }
    if message.is_empty() {
        return Err(Rejected::NoSignature);
    }
    if !is_binary(message) {
        return form(if message.starts_with(b"-----BEGIN PGP SIGNED MESSAGE") {
            "a cleartext-signed message"
        } else if message.starts_with(b"-----BEGIN PGP") {
            "armored data"
        } else {
            "something else"
        });
    }
    let parse = |bytes: &[u8]| packets(bytes, LIMITS.openpgp_packets).map_err(Rejected::Unreadable);
    let packets = match compressed(message) {
        Some(packed) => parse(&unfold(&packed?)?)?,
        None => parse(message)?,
    };
    let (signatures, literals) = (count(&packets, Tag::Signature), count(&packets, Tag::Literal));
    let encrypted = [Tag::PKESK, Tag::SKESK, Tag::SEIP, Tag::SED, Tag::AED];
    if packets.iter().any(|packet| encrypted.contains(&packet.tag())) {
        return form("an encrypted message");
    }
    if literals == 1 && signatures > 1 {
        return Err(Rejected::SeveralSigners { found: signatures });
    }
    let signed: Result<[Packet; 3], _> = packets.try_into();
    let (content, signature) = match signed {
        Ok([Packet::OnePassSig(_), Packet::Literal(literal), signature]) => (literal.body().to_vec(), signature),
        Ok([Packet::Unknown(u), Packet::Literal(literal), signature]) if u.tag() == Tag::OnePassSig => {
            (literal.body().to_vec(), signature)
        }
        Ok(_) => return form("other OpenPGP packets"),
        Err(_) if literals == 1 && signatures == 0 => return Err(Rejected::NoSignature),
        Err(_) if literals == 1 => return form("a detached signature in front of its document"),
        Err(packets) if signatures > 0 && signatures == packets.len() => return form("a detached signature"),
        Err(_) => return form("other OpenPGP packets"),
    };
    let signature = match signature {
        Packet::Signature(signature) => Ok(signature),
        Packet::Unknown(u) if u.tag() == Tag::Signature => {
            Err(Fault { key: None, reason: Reason::Unreadable(outside(u.error())) })
        }
        _ => return form("other OpenPGP packets"),
    };
    Ok(Inline { content, signature })
}

fn count(packets: &[Packet], tag: Tag) -> usize {
    packets.iter().filter(|packet| packet.tag() == tag).count()
}

/// The body of a message that is one compressed packet and nothing else; `None` if its first packet is another.
///
/// The parser would unfold it without a bound and without looking at what is behind it.
fn compressed(message: &[u8]) -> Option<Result<Vec<u8>, Rejected>> {
    const TAG: u8 = 8;
    let (&first, rest) = message.split_first()?;
    // RFC 9580 section 4.2: the tag and the kind of length in the old format, or the tag alone in the new one.
    let body = match first {
        0x80..=0xbf if first >> 2 & 0xf == TAG => match first & 3 {
            3 => Some(rest.to_vec()),
            kind => exactly(rest, 1 << kind),
        },
        0xc0.. if first & 0x3f == TAG => joined(rest),
        _ => return None,
    };
    Some(body.ok_or_else(|| Rejected::Unreadable(OutsideText::new("the compressed packet is cut or not the only one"))))
}

/// A body behind a length of `width` bytes, if it ends where the input ends.
fn exactly(input: &[u8], width: usize) -> Option<Vec<u8>> {
    let (length, body) = input.split_at_checked(width)?;
    let length = length.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    (body.len() as u64 == length).then(|| body.to_vec())
}

/// A body in the new format: one length, or parts that each have one (RFC 9580 section 4.2.1).
fn joined(mut input: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (&first, rest) = input.split_first()?;
        let last = match first {
            0..=191 => exactly(input, 1)?,
            192..=223 => {
                let (&second, rest) = rest.split_first()?;
                let length = (usize::from(first) - 192) * 256 + usize::from(second) + 192;
                (rest.len() == length).then(|| rest.to_vec())?
            }
            255 => exactly(rest, 4)?,
            224..=254 => {
                let (part, rest) = rest.split_at_checked(1 << (first & 0x1f))?;
                body.extend_from_slice(part);
                input = rest;
                continue;
            }
        };
        body.extend_from_slice(&last);
        return Some(body);
    }
}

/// Decompresses into at most `LIMITS.signature` bytes, using every input byte.
fn unfold(packed: &[u8]) -> Result<Vec<u8>, Rejected> {
    let unreadable = |reason: &str| Rejected::Unreadable(OutsideText::new(reason));
    let (algorithm, mut rest) = packed.split_first().ok_or_else(|| unreadable("the compressed packet is empty"))?;
    let mut out = Vec::new();
    let limit = LIMITS.signature + 1;
    let read = match CompressionAlgorithm::from(*algorithm) {
        CompressionAlgorithm::Zip => DeflateDecoder::new(&mut rest).take(limit).read_to_end(&mut out),
        CompressionAlgorithm::Zlib => ZlibDecoder::new(&mut rest).take(limit).read_to_end(&mut out),
        _ => return Err(unreadable("compressed with something else than ZIP or ZLIB")),
    };
    read.map_err(|e| unreadable(&e.to_string()))?;
    if out.len() as u64 >= limit {
        return Err(Rejected::TooLarge { found: limit, limit: LIMITS.signature });
    }
    if !rest.is_empty() {
        return Err(unreadable("there are bytes after the compressed message"));
    }
    Ok(out)
}

/// The key a signature says it is by, in hexadecimal: a fingerprint says more than a key id.
pub(crate) fn issuer(signature: &Signature) -> Option<String> {
    let issuers = signature.get_issuers();
    let best = issuers.iter().find(|i| matches!(i, KeyHandle::Fingerprint(_))).or(issuers.first());
    best.map(|issuer| format!("{issuer:X}"))
}

/// Joins detached signatures over the same document, by several people, into one armored file.
///
/// Nothing is verified.
///
/// # Errors
/// [`Rejected`] if one of them is not a readable detached signature.
pub fn join_signatures(files: &[&[u8]]) -> Result<Vec<u8>, Rejected> {
    let unreadable = |e: &dyn std::fmt::Display| Rejected::Unreadable(OutsideText::new(e.to_string()));
    let mut writer = Writer::new(Vec::new(), Kind::Signature).map_err(|e| unreadable(&e))?;
    let mut count = 0;
    for file in files {
        let (signatures, faults) = detached(file)?;
        if let Some(fault) = faults.first() {
            return Err(unreadable(fault));
        }
        count += signatures.len();
        for signature in signatures {
            Packet::from(signature).serialize(&mut writer).map_err(|e| unreadable(&e))?;
        }
    }
    if count == 0 {
        return Err(Rejected::NoSignature);
    }
    if count > LIMITS.openpgp_packets {
        return Err(Rejected::TooMany { limit: LIMITS.openpgp_packets });
    }
    writer.finalize().map_err(|e| unreadable(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armored_blocks_are_found_one_by_one() {
        let block = "-----BEGIN PGP SIGNATURE-----\r\n\r\nAAAA\r\n-----END PGP SIGNATURE-----\r\n";
        let two = format!("{block}\n{block}");
        let found = armored(&two);
        assert_eq!(found.blocks, [("SIGNATURE", block), ("SIGNATURE", block)]);
        assert!(!found.stray && !found.open);
        assert!(armored(&format!("note\n{block}")).stray);
        assert!(armored("-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP MESSAGE-----\n").open);
    }

    /// A packet in every framing there is.
    fn framed(body: &[u8]) -> Vec<Vec<u8>> {
        let n = u32::try_from(body.len()).expect("short");
        let [_, _, high, low] = n.to_be_bytes();
        let two = n - 192;
        let [_, _, first, second] = two.to_be_bytes();
        let head = |head: &[u8]| [head, body].concat();
        let (part, rest) = body.split_at(128);
        let left = u8::try_from(rest.len()).expect("short");
        vec![
            head(&[0xa1, high, low]),
            head(&[0xa2, 0, 0, high, low]),
            head(&[0xc8, first + 192, second]),
            head(&[0xc8, 255, 0, 0, high, low]),
            [&[0xc8, 0xe7], part, &[left], rest].concat(),
        ]
    }

    #[test]
    fn a_compressed_packet_is_the_whole_message() {
        let body: Vec<u8> = (0..=255).chain(0..44).collect();
        for whole in framed(&body) {
            assert_eq!(compressed(&whole).expect("compressed").expect("whole"), body, "{:x?}", &whole[..6]);
            for wrong in [whole[..whole.len() - 1].to_vec(), [whole.as_slice(), &[0]].concat(), whole[..1].to_vec()] {
                assert!(compressed(&wrong).expect("compressed").is_err(), "{:x?}", &whole[..6]);
            }
        }
        assert_eq!(compressed(&[0xa0, 2, 1, 2]).expect("compressed").expect("whole"), [1, 2]);
        assert_eq!(compressed(&[0xa3, 1, 2]).expect("compressed").expect("whole"), [1, 2]);
        assert!(
            compressed(&[0x90, 1, 2]).is_none() && compressed(&[0xc2, 1, 2]).is_none() && compressed(&[]).is_none()
        );
    }

    #[test]
    fn no_file_of_another_form_is_a_detached_signature() {
        for (bytes, found) in [
            (&b""[..], "no signature"),
            (b" \n", "no signature"),
            (b"hello", "no armored block"),
            (b"<html>404</html>", "no armored block"),
            (b"\xff\xff\xff\xff", "cannot be read"),
            (b"hello \xff", "neither binary"),
            (b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n-----BEGIN PGP SIGNATURE-----\n", "cleartext"),
            (b"-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n", "inline"),
            (b"-----BEGIN PGP SIGNATURE-----\n\nAAAA", "does not end"),
        ] {
            let rejected = detached(bytes).expect_err("refused").to_string();
            assert!(rejected.contains(found), "{rejected}");
        }
        let large = vec![0x88; (1 << 20) + 1];
        assert!(matches!(detached(&large), Err(Rejected::TooLarge { .. })));
    }
}
