//! JSON of reports: members are read strictly, unknown ones are passed over, lists are bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use manifest_schema::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{LIMIT, malformed, position};
use crate::report::ReadError;

/// What a list says that is too long; serde carries no errors of other types.
const TOO_LONG: &str = "a list is longer than is read";

/// Reads one document, all of it.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ReadError> {
    serde_json::from_str::<Object<T>>(text).map(|document| document.0).map_err(error)
}

/// Reads a part of a document. Errors have their place in the whole.
pub(crate) fn parse_part<'a, T: Deserialize<'a>>(whole: &str, part: &'a RawValue) -> Result<T, ReadError> {
    parse(part.get()).map_err(|error| in_whole(error, whole, part.get()))
}

/// An error in a part of a document, with its place in the whole.
pub(crate) fn in_whole(error: ReadError, whole: &str, part: &str) -> ReadError {
    let offset = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    let (first, indent) = position(whole.as_bytes(), offset);
    match error {
        ReadError::Malformed { line, column, what } => {
            let column = if line == 1 && column > 0 { column + indent - 1 } else { column };
            ReadError::Malformed { line: line + first - 1, column, what }
        }
        other => other,
    }
}

/// An error with its place, whose own text has that at its end.
pub(crate) fn error(error: serde_json::Error) -> ReadError {
    let text = error.to_string();
    if text.starts_with(TOO_LONG) {
        return ReadError::TooMany { limit: LIMIT };
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    malformed(error.line().max(1), error.column(), text.strip_suffix(&place).unwrap_or(&text))
}

/// A JSON object, and nothing else: serde's own structs take an array of their members as well.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A list of at most [`LIMIT`] items.
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == LIMIT {
                        return Err(A::Error::custom(TOO_LONG));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(Items(PhantomData)).map(Self)
    }
}

/// A list of objects.
pub(crate) type Objects<T> = List<Object<T>>;

/// All objects of a list that may be absent, or null as Go writes an empty one.
pub(crate) fn all<T>(list: Option<Objects<T>>) -> impl Iterator<Item = T> {
    list.unwrap_or_default().0.into_iter().map(|object| object.0)
}

/// Whether a member is there, whatever it is.
#[derive(Default, Clone, Copy)]
pub(crate) struct Seen(pub(crate) bool);

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Self(true))
    }
}

/// How many items a list has, whatever they are.
#[derive(Clone, Copy)]
pub(crate) struct Counted(pub(crate) usize);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = usize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
                let mut count = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(count)
            }
        }
        deserializer.deserialize_seq(Items).map(Self)
    }
}

/// Of a list, how many items it has and those that are worth keeping, at most [`LIMIT`].
pub(crate) struct Chosen<T> {
    pub(crate) count: usize,
    pub(crate) kept: Vec<T>,
}

impl<T> Default for Chosen<T> {
    fn default() -> Self {
        Self { count: 0, kept: Vec::new() }
    }
}

/// Whether an item of a long list is worth keeping.
pub(crate) trait Choose {
    fn is_kept(&self) -> bool;
}

impl<'de, T: Choose + Deserialize<'de>> Deserialize<'de> for Chosen<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Choose + Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Chosen<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Chosen<T>, A::Error> {
                let mut chosen = Chosen::default();
                while let Some(Object(item)) = seq.next_element::<Object<T>>()? {
                    chosen.count += 1;
                    if item.is_kept() {
                        if chosen.kept.len() == LIMIT {
                            return Err(A::Error::custom(TOO_LONG));
                        }
                        chosen.kept.push(item);
                    }
                }
                Ok(chosen)
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// An object whose members' names are data: none may be there twice.
pub(crate) struct Map<T>(pub(crate) BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = BTreeMap<String, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if members.len() == LIMIT {
                        return Err(A::Error::custom(TOO_LONG));
                    }
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A text, or an object.
pub(crate) enum TextOr<T> {
    Text(String),
    Object(T),
}

impl<T> TextOr<T> {
    /// The object, or the one that is made of the text.
    pub(crate) fn or_else(self, of_text: impl FnOnce(String) -> T) -> T {
        match self {
            Self::Text(text) => of_text(text),
            Self::Object(object) => object,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an object")
            }
            fn visit_str<E>(self, text: &str) -> Result<TextOr<T>, E> {
                Ok(TextOr::Text(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TextOr<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Object)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A time of RFC 3339, in whole seconds. Nothing for an empty text and for the year 1, which Go writes for no time.
#[derive(Default, Clone, Copy)]
pub(crate) struct Time(pub(crate) Option<Timestamp>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()) else {
            return Ok(Self(None));
        };
        time(&text).map(Self).ok_or_else(|| D::Error::custom("a time is not one of RFC 3339"))
    }
}

/// Reads a time; the inner value is nothing for Go's zero.
pub(crate) fn time(text: &str) -> Option<Option<Timestamp>> {
    if text.starts_with("0001-01-01T00:00:00") {
        return Some(None);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    Timestamp::from_unix(time.as_second()).map(Some)
}
