//! `Link` headers (RFC 8288): where the next page of a list is.
//!
//! A list that is cut short hides what stands on its other pages, so a header that cannot be understood is an error and
//! does not mean that there are no more pages.

/// Why a `Link` header is refused, to follow "Link: ".
pub(crate) type Fault = &'static str;

/// One link: its target, what it is to the page, and whether it is said of something else than the page.
struct Link {
    target: String,
    relations: String,
    anchored: bool,
}

/// The target of the link with the relation `next` in the values of all `Link` headers of an answer; `None` if there is
/// none.
pub(crate) fn next_page(values: &[String]) -> Result<Option<String>, Fault> {
    let mut next = None;
    for value in values {
        for link in (Reader { rest: value }).links()? {
            // RFC 8288, 2.1.1 and 3.3: a list, in any case.
            if !link.relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next")) {
                continue;
            }
            if link.anchored {
                return Err("the next page is said to be that of another list");
            }
            match next {
                Some(known) if known != link.target => return Err("there are two next pages"),
                _ => next = Some(link.target),
            }
        }
    }
    Ok(next)
}

/// What is left of a header's value.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// The links, separated by commas; an element of the list may be empty (RFC 9110, 5.6.1.2).
    fn links(mut self) -> Result<Vec<Link>, Fault> {
        let mut links = Vec::new();
        loop {
            self.space();
            if self.takes(',') {
                continue;
            }
            if self.rest.is_empty() {
                return Ok(links);
            }
            links.push(self.link()?);
            if !self.rest.is_empty() && !self.takes(',') {
                return Err("a link is followed by something else than `,` or `;`");
            }
        }
    }

    /// One link with its parameters, and the space behind it.
    fn link(&mut self) -> Result<Link, Fault> {
        if !self.takes('<') {
            return Err("a link does not begin with `<`");
        }
        let (target, rest) = self.rest.split_once('>').ok_or("a link has no `>`")?;
        if target.contains('<') {
            return Err("a link has a `<` in it");
        }
        self.rest = rest;
        let (mut relations, mut anchored) = (None, false);
        self.space();
        while self.takes(';') {
            self.space();
            let name = self.until(|c| matches!(c, '=' | ';' | ',' | ' ' | '\t')).to_ascii_lowercase();
            self.space();
            let value = if self.takes('=') { self.value()? } else { String::new() };
            self.space();
            match name.as_str() {
                // The first one counts (RFC 8288, 3.3).
                "rel" if relations.is_none() => relations = Some(value),
                "anchor" => anchored = true,
                _ => {}
            }
        }
        let relations = relations.ok_or("a link does not say what it is")?;
        Ok(Link { target: target.to_string(), relations, anchored })
    }

    /// A parameter's value: a quoted string, or what there is up to the next separator.
    fn value(&mut self) -> Result<String, Fault> {
        self.space();
        if !self.takes('"') {
            let bare = self.until(|c| matches!(c, ';' | ',' | ' ' | '\t')).to_string();
            return if bare.contains(['"', '<', '>']) { Err("a value has a quote or bracket in it") } else { Ok(bare) };
        }
        let mut value = String::new();
        let mut characters = self.rest.chars();
        loop {
            match characters.next().ok_or("a quoted value has no end")? {
                '"' => break,
                '\\' => value.push(characters.next().ok_or("a quoted value has no end")?),
                c => value.push(c),
            }
        }
        self.rest = characters.as_str();
        Ok(value)
    }

    fn takes(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn until(&mut self, end: impl Fn(char) -> bool) -> &str {
        let (text, rest) = self.rest.split_at(self.rest.find(end).unwrap_or(self.rest.len()));
        self.rest = rest;
        text
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(values: &[&str]) -> Result<Option<String>, Fault> {
        next_page(&values.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
        for values in [
            &[r#"</b>; rel="next""#][..],
            &["</b>;rel=next"],
            &[r#" </b> ; REL = "NEXT" ; "#],
            &[r#"</a>; rel="prev", </b>; rel="next""#],
            &[r#"</b>; rel="next", </a>; rel="prev""#],
            &["</a>;rel=prev,</b>;rel=next"],
            &[r#"</a>; rel="prev""#, r#"</b>; rel="next""#],
            &[r#"</b>; rel="last next""#],
            &["</b>; rel=\"next\tlast\""],
            &[r#"</b>; title="a, b; rel=prev"; rel="next""#],
            &[r#"</b>; title="\", </c>; rel=\"next"; rel="next""#],
            &[r#"</b>; title="Ü"; title*=UTF-8''%e2; crossorigin; type=text/html; rel="next""#],
            &[r#"</b>; rel="next"; rel="prev""#],
            &[r#"</a,/>; rel="up""#, "</b>; rel=next"],
            &[r#",, </b>; rel="next",, "#, ""],
            &[r#"</b>; rel="n\ext""#],
            &[r#"</b>; rel="next", </b>; rel="next""#],
            &[r#"</c>; rel="prev"; anchor="/x", </b>; rel="next""#],
        ] {
            assert_eq!(next(values), Ok(Some("/b".into())), "{values:?}");
        }
        assert_eq!(next(&[r#"<?n=1,2;x="a">; rel="next""#]), Ok(Some(r#"?n=1,2;x="a""#.into())));
    }

    #[test]
    fn there_may_be_no_next_page() {
        for values in [
            &[][..],
            &[""],
            &[r#"</a>; rel="prev""#],
            &[r#"</a>; rel="next-archive""#],
            &[r#"</a>; title="rel=next"; rel="prev""#],
            &[r#"</a>; rev="next"; rel="prev""#],
            &[r#"</a>; rel="prev"; rel="next""#],
            &[r#"</rel="next">; rel="prev""#],
            &[r#"</a>; rel="prev"; title="</b>; rel=next""#],
        ] {
            assert_eq!(next(values), Ok(None), "{values:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_no_last_page() {
        for value in [
            "/b; rel=next",
            "</b; rel=next",
            "</a, </b>; rel=next",
            "</b>",
            "</b>; title=x",
            "</b> rel=next",
            r#"</b>; rel="next"#,
            r#"</b>; rel="next\"#,
            r#"</b>; rel="prev" next"#,
            r#"</b>; rel=ne"xt"#,
            "</b>; rel=<next>",
            "</a>; rel=prev </b>; rel=next",
            "</a>; rel=prev x, </b>; rel=next",
            r#"</b>; rel="next"; anchor="/other""#,
            "</a>; rel=next, </b>; rel=next",
            "next",
        ] {
            assert!(next(&[value]).is_err(), "{value}");
            assert!(next(&[r#"</a>; rel="prev""#, value]).is_err(), "{value}");
        }
        assert!(next(&["</a>; rel=next", "</b>; rel=next"]).is_err());
    }
}
