//! The scalars that the language does not have itself: JSON and instants.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use bytes::Bytes;
use millrace_kit::field::Instant;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::exact::Exact;

/// JSON text. Its copies share it, however often it is selected.
pub struct Json(Bytes);

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        let text: Box<str> = raw.into();
        Self(text.into_boxed_bytes().into())
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::deserialize(deserializer).map(|raw: Box<RawValue>| raw.into())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Exact(&self.to_value()).serialize(serializer)
    }
}

/// Any JSON value. Every digit of a number is kept, whether it comes in a variable or stands in the query itself.
#[Scalar(
    name = "JSON",
    specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259"
)]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        match to_raw_value(&Exact(&value)) {
            Ok(raw) => Ok(raw.into()),
            Err(_) => Err(InputValueError::custom("is no JSON value")),
        }
    }

    fn is_valid(value: &Value) -> bool {
        match value {
            // A word without quotes, which JSON does not have.
            Value::Enum(_) => false,
            Value::List(items) => items.iter().all(Self::is_valid),
            Value::Object(fields) => fields.values().all(Self::is_valid),
            _ => true,
        }
    }

    fn to_value(&self) -> Value {
        Value::Binary(self.0.clone())
    }
}

/// An instant as RFC 3339 writes it.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
pub struct DateTime(String);

/// An instant as RFC 3339 writes it, such as `2030-01-31T09:30:00Z`: with an offset, and to the microsecond.
#[Scalar(specified_by_url = "https://scalars.graphql.org/andimarek/date-time")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else {
            return Err(InputValueError::expected_type(value));
        };
        match Instant::try_from(text.clone()) {
            Ok(_) => Ok(Self(text)),
            Err(why) => Err(InputValueError::custom(why)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(text) if Instant::try_from(text.clone()).is_ok())
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}
