//! What the types of a request's fields look like as JSON Schema (draft 2020-12), for the OpenAPI document. Natively only: no
//! component is built with it.
//!
//! A schema may allow a little more than the type does (it can't say "no NUL" or "a day that exists"), never less.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::field::{Instant, Int, JobId, LeaseId, List, Text};
use crate::json::Json;
use crate::parse::OneOrMany;
use crate::trace::Traceparent;

/// Implements `JsonSchema` for a type that stands inline wherever it is used. Its name is never seen then, but schemars tells
/// types apart by it.
macro_rules! inline {
    ([$($generics:tt)*] $type:ty, $name:expr, $schema:expr) => {
        impl<$($generics)*> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                $schema(generator)
            }
        }
    };
}

inline!([const MAX: usize, const BLANK: bool] Text<MAX, BLANK>, format!("Text{MAX}{BLANK}"), |_: &mut _| match BLANK {
    true => json_schema!({ "type": "string", "maxLength": MAX }),
    // Not blank: it holds a character that is no white space.
    false => json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX, "pattern": "\\S" }),
});

inline!([const MIN: i64, const MAX: i64] Int<MIN, MAX>, format!("Int{MIN}To{MAX}"), |_: &mut _| match MAX {
    i64::MAX => json_schema!({ "type": "integer", "format": "int64", "minimum": MIN }),
    _ => json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX }),
});

inline!([] JobId, "JobId", |_: &mut _| json_schema!({ "type": "string", "format": "uuid" }));

inline!([] LeaseId, "LeaseId", |_: &mut _| json_schema!({
    "oneOf": [
        { "type": "integer", "format": "int64", "minimum": 1 },
        { "type": "string", "pattern": "^[0-9]{1,19}$" }
    ]
}));

inline!([] Traceparent, "Traceparent", |_: &mut _| json_schema!({
    "type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
}));

inline!([] Instant, "Instant", |_: &mut _| json_schema!({ "type": "string", "format": "date-time" }));

// Any JSON value, null included.
inline!([] Json, "Json", |_: &mut _| json_schema!({}));

inline!([T: JsonSchema, const MAX: usize, const MIN: usize] List<T, MAX, MIN>, format!("List{MIN}To{MAX}Of{}", T::schema_name()),
|generator: &mut SchemaGenerator| json_schema!({
    "type": "array", "items": generator.subschema_for::<T>(), "minItems": MIN, "maxItems": MAX
}));

inline!([One: JsonSchema, Many: JsonSchema] OneOrMany<One, Many>, format!("{}Or{}", One::schema_name(), Many::schema_name()),
|generator: &mut SchemaGenerator| json_schema!({
    "oneOf": [generator.subschema_for::<One>(), generator.subschema_for::<Many>()]
}));
