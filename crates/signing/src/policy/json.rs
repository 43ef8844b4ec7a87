//! JSON as `containers-policy.json(5)` is read: no member twice, none unknown, none of another type.
//!
//! serde's derived readers would do for structs, but not for maps whose keys are scopes, and they could not say where in
//! the file something is wrong.

use std::fmt;

use manifest_schema::text::escape;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::PolicyError;

/// A JSON value that keeps the order of members. No object in it has a member twice.
pub(super) enum Value {
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
    /// What a policy has no use for: `null`, `true`, a number.
    Other(&'static str),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
            Value::Other(kind) => kind,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Other("null"))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other("a boolean"))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other("a number"))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Other("a number"))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other("a number"))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.into()))
            }
            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let (mut members, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("`{}` is given twice", escape(&name))));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Value::Object(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// An object whose members are taken out one by one; what is left at the end is unknown.
pub(super) struct Members {
    place: String,
    left: Vec<(String, Value)>,
}

impl Members {
    /// The members of an object; `place` says where in the file it stands.
    pub fn of(value: Value, place: &str) -> Result<Self, PolicyError> {
        match value {
            Value::Object(left) => Ok(Self { place: place.into(), left }),
            other => Err(unexpected(place, "an object", &other)),
        }
    }

    /// All of them, for an object whose names are free.
    pub fn all(self) -> Vec<(String, Value)> {
        self.left
    }

    /// The place of a member.
    pub fn place(&self, name: &str) -> String {
        within(&self.place, name)
    }

    /// A member of any type.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.left.iter().position(|(n, _)| n == name)?;
        Some(self.left.remove(at).1)
    }

    /// A string.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, PolicyError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(unexpected(&self.place(name), "a string", &other)),
        }
    }

    /// A string that must be there.
    pub fn needed(&mut self, name: &'static str) -> Result<String, PolicyError> {
        self.text(name)?.ok_or_else(|| PolicyError::format(&self.place, format_args!("`{name}` is missing")))
    }

    /// A list of strings.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, PolicyError> {
        let place = self.place(name);
        let list = match self.take(name) {
            None => return Ok(None),
            Some(Value::List(list)) => list,
            Some(other) => return Err(unexpected(&place, "a list of strings", &other)),
        };
        let text = |value| match value {
            Value::Text(text) => Ok(text),
            other => Err(unexpected(&place, "a list of strings", &other)),
        };
        list.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// Refuses what was not taken.
    pub fn end(self) -> Result<(), PolicyError> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(PolicyError::format(&self.place, format_args!("`{}` is unknown", escape(name)))),
        }
    }
}

/// The place of a member of an object.
pub(super) fn within(place: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    let name = if plain { name.into() } else { format!("\"{}\"", escape(name)) };
    if place.is_empty() { name } else { format!("{place}.{name}") }
}

/// A value of another type than is needed.
pub(super) fn unexpected(place: &str, expected: &str, found: &Value) -> PolicyError {
    PolicyError::format(place, format_args!("expected {expected}, found {}", found.kind()))
}
