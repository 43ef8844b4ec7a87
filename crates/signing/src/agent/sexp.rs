//! What gpg-agent answers to `PKSIGN`: a canonical S-expression (RFC 9804, section 6.1), such as
//! `(7:sig-val(5:ecdsa(1:r32:...)(1:s32:...)))`.

use openpgp::crypto::mpi::{MPI, Signature};
use sequoia_openpgp as openpgp;

/// How deep lists may nest.
const DEPTH: usize = 8;

enum Expression<'a> {
    Atom(&'a [u8]),
    List(Vec<Expression<'a>>),
}

/// The signature in an answer; `None` if it is something else.
pub(super) fn signature(bytes: &[u8]) -> Option<Signature> {
    let (expression, rest) = parse(bytes, DEPTH)?;
    if !rest.is_empty() {
        return None;
    }
    let (b"sig-val", [Expression::List(value), ..]) = named(&expression)? else { return None };
    let (algorithm, parameters) = named_list(value)?;
    let number = |name: &[u8]| {
        parameters.iter().find_map(|p| match named(p)? {
            (found, [Expression::Atom(value)]) if found == name => Some(MPI::new(value)),
            _ => None,
        })
    };
    match algorithm {
        b"rsa" => Some(Signature::RSA { s: number(b"s")? }),
        b"ecdsa" => Some(Signature::ECDSA { r: number(b"r")?, s: number(b"s")? }),
        b"eddsa" => Some(Signature::EdDSA { r: number(b"r")?, s: number(b"s")? }),
        _ => None,
    }
}

fn named<'e, 'a>(expression: &'e Expression<'a>) -> Option<(&'a [u8], &'e [Expression<'a>])> {
    match expression {
        Expression::List(items) => named_list(items),
        Expression::Atom(_) => None,
    }
}

fn named_list<'e, 'a>(items: &'e [Expression<'a>]) -> Option<(&'a [u8], &'e [Expression<'a>])> {
    match items.split_first()? {
        (Expression::Atom(name), rest) => Some((name, rest)),
        _ => None,
    }
}

fn parse(input: &[u8], depth: usize) -> Option<(Expression<'_>, &[u8])> {
    let (&first, mut rest) = input.split_first()?;
    if first != b'(' {
        let (atom, rest) = atom(input)?;
        return Some((Expression::Atom(atom), rest));
    }
    let depth = depth.checked_sub(1)?;
    let mut items = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix(b")") {
            return Some((Expression::List(items), rest));
        }
        let (item, more) = parse(rest, depth)?;
        items.push(item);
        rest = more;
    }
}

/// `<length>:<bytes>`
fn atom(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = input.iter().take(8).position(|b| *b == b':')?;
    let digits = std::str::from_utf8(&input[..colon]).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    input[colon + 1..].split_at_checked(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_each_algorithm_are_read() {
        let two = |v: &[u8]| MPI::new(v);
        let read = |text: &[u8]| signature(text);
        assert_eq!(read(b"(7:sig-val(3:rsa(1:s2:ab)))"), Some(Signature::RSA { s: two(b"ab") }));
        let (r, s) = (two(b"rr"), two(b"ss"));
        assert_eq!(
            read(b"(7:sig-val(5:ecdsa(1:r2:rr)(1:s2:ss)))"),
            Some(Signature::ECDSA { r: r.clone(), s: s.clone() })
        );
        assert_eq!(read(b"(7:sig-val(5:eddsa(1:r2:rr)(1:s2:ss))(4:hash6:sha256))"), Some(Signature::EdDSA { r, s }));
        for bad in [
            &b""[..],
            b"(",
            b")",
            b"(7:sig-val)",
            b"(7:sig-val(3:rsa))",
            b"(7:sig-val(3:dsa(1:r2:rr)(1:s2:ss)))",
            b"(7:sig-val(5:ecdsa(1:r2:rr)))",
            b"(7:sig-val(3:rsa(1:s2:ab)))x",
            b"(7:sig-val(3:rsa(1:s9:ab)))",
            b"(7:sig-val(3:rsa(1:s99999999999999999999:ab)))",
            b"(8:enc-val2(3:rsa(1:s2:ab)))",
            &[b'('; 100_000],
        ] {
            assert_eq!(read(bad), None, "{:?}", &bad[..bad.len().min(60)]);
        }
    }
}
