//! XML of reports, read from beginning to end without a tree: namespaces are resolved, depth is bounded, and a document type
//! definition is refused, so that no entity but the predefined ones is ever expanded.

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use super::{malformed, position};
use crate::report::ReadError;

/// How many attributes one element may have.
const ATTRIBUTES: usize = 256;
/// How many namespaces may be declared around an element.
const NAMESPACES: usize = 512;
/// The most elements inside one another.
const DEPTH: usize = 64;

/// A document that is being read.
pub(crate) struct Xml<'a> {
    text: &'a str,
    reader: NsReader<&'a [u8]>,
    depth: usize,
    /// How many namespaces each element that is open declares.
    declared: Vec<usize>,
    is_begun: bool,
    has_root: bool,
}

/// The start of an element.
pub(crate) struct Element {
    pub(crate) namespace: String,
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
}

enum Item {
    Start(Element),
    Text(String),
    End,
    Eof,
}

impl Element {
    /// An attribute without a prefix.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl<'a> Xml<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut reader = NsReader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self { text, reader, depth: 0, declared: Vec::new(), is_begun: false, has_root: false }
    }

    /// The outermost element.
    pub(crate) fn root(&mut self) -> Result<Element, ReadError> {
        loop {
            match self.next()? {
                Item::Start(element) => return Ok(element),
                Item::Eof => return Err(self.error("it has no element")),
                Item::Text(_) | Item::End => {}
            }
        }
    }

    /// Each element inside the current one, up to the end of that. What `each` leaves of an element is passed over.
    pub(crate) fn children(
        &mut self,
        mut each: impl FnMut(&mut Self, Element) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        loop {
            match self.next()? {
                Item::Start(element) => {
                    let depth = self.depth;
                    each(self, element)?;
                    while self.depth >= depth {
                        self.next()?;
                    }
                }
                Item::Text(_) => {}
                Item::End | Item::Eof => return Ok(()),
            }
        }
    }

    /// The text of the current element, up to its end, without that of elements inside it.
    pub(crate) fn text(&mut self) -> Result<String, ReadError> {
        let depth = self.depth;
        let mut text = String::new();
        while self.depth >= depth {
            if let Item::Text(more) = self.next()?
                && self.depth == depth
            {
                text.push_str(&more);
            }
        }
        Ok(text.trim().to_owned())
    }

    /// Reads the rest, in which nothing may be wrong.
    pub(crate) fn finish(&mut self) -> Result<(), ReadError> {
        loop {
            if let Item::Eof = self.next()? {
                return Ok(());
            }
        }
    }

    /// An error at the place that was read last.
    pub(crate) fn error(&self, what: impl Into<String>) -> ReadError {
        self.error_at(self.reader.buffer_position(), what)
    }

    fn error_at(&self, offset: u64, what: impl Into<String>) -> ReadError {
        let (line, column) = position(self.text.as_bytes(), usize::try_from(offset).unwrap_or(usize::MAX));
        malformed(line, column, what)
    }

    fn next(&mut self) -> Result<Item, ReadError> {
        loop {
            let is_begun = std::mem::replace(&mut self.is_begun, true);
            let (namespace, event) = match self.reader.read_resolved_event() {
                Ok((namespace, event)) => (owned(namespace), event),
                Err(error) => return Err(self.error_at(self.reader.error_position(), error.to_string())),
            };
            match event {
                Event::Start(start) => {
                    let namespace =
                        namespace.map_err(|prefix| self.error(format!("nothing is bound to `{prefix}:`")))?;
                    return self.start(namespace, &start).map(Item::Start);
                }
                Event::End(_) => {
                    self.depth -= 1;
                    self.declared.pop();
                    return Ok(Item::End);
                }
                Event::Text(text) => {
                    let text = text.xml_content().map_err(|error| self.error(error.to_string()))?;
                    if self.depth == 0 && !text.trim().is_empty() {
                        return Err(self.error("there is text outside of elements"));
                    }
                    return Ok(Item::Text(text.into_owned()));
                }
                Event::CData(text) if self.depth > 0 => {
                    let text = text.decode().map_err(|error| self.error(error.to_string()))?;
                    return Ok(Item::Text(text.into_owned()));
                }
                Event::GeneralRef(name) if self.depth > 0 => return self.reference(&name).map(Item::Text),
                Event::CData(_) | Event::GeneralRef(_) => {
                    return Err(self.error("there is text outside of elements"));
                }
                Event::Decl(declaration) => {
                    let encoding = declaration.encoding().transpose().map_err(|error| self.error(error.to_string()))?;
                    let is_known =
                        |name: &[u8]| name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"us-ascii");
                    if is_begun {
                        return Err(self.error("there is an XML declaration that is not at the beginning"));
                    }
                    if encoding.is_some_and(|name| !is_known(&name)) {
                        return Err(self.error("its encoding is not UTF-8"));
                    }
                }
                Event::DocType(_) => return Err(self.error("it has a document type definition, which is not read")),
                Event::Eof if self.depth > 0 || !self.has_root => {
                    return Err(self.error("it ends before its last element does"));
                }
                Event::Eof => return Ok(Item::Eof),
                Event::Comment(_) | Event::PI(_) => {}
                // `expand_empty_elements`
                Event::Empty(_) => return Err(self.error("an element is empty")),
            }
        }
    }

    fn start(&mut self, namespace: String, start: &BytesStart<'_>) -> Result<Element, ReadError> {
        if self.depth == 0 && std::mem::replace(&mut self.has_root, true) {
            return Err(self.error("there is a second outermost element"));
        }
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(format!("more than {DEPTH} elements are inside one another")));
        }
        let mut attributes: Vec<(String, String)> = Vec::new();
        // The reader's own check looks at every one before it; here they are few.
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| self.error(error.to_string()))?;
            if attributes.len() == ATTRIBUTES {
                return Err(self.error(format!("an element has more than {ATTRIBUTES} attributes")));
            }
            let value = attribute.unescape_value().map_err(|error| self.error(error.to_string()))?;
            let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
            if attributes.iter().any(|(known, _)| *known == key) {
                return Err(self.error("an element has an attribute twice"));
            }
            attributes.push((key, value.into_owned()));
        }
        self.declared.push(attributes.iter().filter(|(key, _)| key.starts_with("xmlns")).count());
        if self.declared.iter().sum::<usize>() > NAMESPACES {
            return Err(self.error(format!("more than {NAMESPACES} namespaces are declared at once")));
        }
        let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
        Ok(Element { namespace, name, attributes })
    }

    fn reference(&self, name: &BytesRef<'_>) -> Result<String, ReadError> {
        if let Some(c) = name.resolve_char_ref().map_err(|error| self.error(error.to_string()))? {
            return Ok(c.to_string());
        }
        let name = name.decode().map_err(|error| self.error(error.to_string()))?;
        quick_xml::escape::resolve_xml_entity(&name)
            .map(str::to_owned)
            .ok_or_else(|| self.error(format!("the entity `{name}` is not defined")))
    }
}

/// The namespace, empty if there is none, or the prefix that is bound to none.
fn owned(namespace: ResolveResult<'_>) -> Result<String, String> {
    match namespace {
        ResolveResult::Bound(name) => Ok(String::from_utf8_lossy(name.as_ref()).into_owned()),
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(prefix) => Err(String::from_utf8_lossy(&prefix).into_owned()),
    }
}
