//! The parameters of a query string as serde reads them: each is text until the field that it is
//! meant for says that it wants a number, a truth value or one of some names.

use std::borrow::Cow;

use serde::de::value::{Error, MapDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Supabase's clients add this to every call of a function when a region was chosen.
const IGNORED: &str = "forceFunctionRegion";

/// A query string as a map from names to [`Parameter`]s, in the order they were given.
pub(crate) fn deserializer<'a>(
    query: &'a str,
) -> MapDeserializer<'a, impl Iterator<Item = (Cow<'a, str>, Parameter<'a>)>, Error> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    MapDeserializer::new(
        pairs
            .filter(|(name, _)| name != IGNORED)
            .map(|(name, value)| (name, Parameter(value))),
    )
}

/// The value of a parameter.
pub(crate) struct Parameter<'a>(Cow<'a, str>);

impl<'de> IntoDeserializer<'de, Error> for Parameter<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Gives a visitor that wants an integer one, if the text is one's decimal digits, else the text, so that
/// the visitor says itself what it had expected.
macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let digits = self.0.strip_prefix('-').unwrap_or(&self.0);
            let written_plainly = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            match self.0.parse::<i64>() {
                Ok(integer) if written_plainly => visitor.visit_i64(integer),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Parameter<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Bytes that are not UTF-8 were decoded to the replacement character.
        match self.0.contains(char::REPLACEMENT_CHARACTER) {
            true => Err(serde::de::Error::custom("is not UTF-8")),
            false => visitor.visit_str(&self.0),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &*self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(serde::de::Error::custom("is neither true nor false")),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }
}
