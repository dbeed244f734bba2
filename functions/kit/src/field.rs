//! The types of a request's fields. A value of one exists only if it was checked, so what reaches the
//! database is known to be of the right shape and size; JSON `null` counts as an absent field.

use std::fmt;
use std::marker::PhantomData;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text of at most `MAX` characters without a NUL (Postgres' text holds none), and not blank unless
/// `BLANK` says that it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const MAX: usize, const BLANK: bool = false>(String);

impl<const MAX: usize, const BLANK: bool> Text<MAX, BLANK> {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize, const BLANK: bool> TryFrom<String> for Text<MAX, BLANK> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !BLANK && text.trim().is_empty() {
            return Err("must not be blank".to_owned());
        }
        if text.contains('\0') {
            return Err("holds the NUL character, which Postgres cannot store".to_owned());
        }
        if text.chars().count() > MAX {
            return Err(format!("has more than {MAX} characters"));
        }
        Ok(Self(text))
    }
}

/// An integer from `MIN` to `MAX`, written without a fraction or an exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Int<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    /// The integer itself.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Int<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(IntVisitor(MIN, MAX)).map(Self)
    }
}

/// Takes an integer between its two bounds, both included.
struct IntVisitor(i64, i64);

impl Visitor<'_> for IntVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.0, self.1) {
            (least, i64::MAX) => write!(f, "an integer of at least {least}"),
            (least, most) => write!(f, "an integer from {least} to {most}"),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        match value {
            _ if (self.0..=self.1).contains(&value) => Ok(value),
            _ => Err(E::invalid_value(de::Unexpected::Signed(value), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
        }
    }
}

/// A job's id as this face speaks it: a UUID in the hyphenated form, in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct JobId(Uuid);

impl TryFrom<String> for JobId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // The length alone tells the hyphenated form from the bare, braced and URN ones.
        match Uuid::try_parse(&text) {
            Ok(id) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(Self(id)),
            _ => Err("is not a UUID of the form 00000000-0000-0000-0000-000000000000"),
        }
    }
}

impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.hyphenated())
    }
}

/// A lease's fencing token: a positive integer, as a JSON number or, for clients whose numbers end at
/// 2^53, as its decimal digits in a string. It goes on as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LeaseId(i64);

impl<'de> Deserialize<'de> for LeaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LeaseIdVisitor).map(Self)
    }
}

struct LeaseIdVisitor;

impl Visitor<'_> for LeaseIdVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a positive integer or its decimal digits as a string")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        Err(E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        match i64::try_from(value) {
            Ok(value) if value > 0 => Ok(value),
            _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(value) if digits => self.visit_u64(value),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// An instant of the years 1970 to 9999 as RFC 3339 writes it, with an offset; it goes on in UTC, to
/// the microsecond that Postgres keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Instant(DateTime<Utc>);

impl TryFrom<String> for Instant {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match DateTime::parse_from_rfc3339(&text) {
            Ok(instant) if (1970..10_000).contains(&instant.to_utc().year()) => {
                Ok(Self(instant.to_utc()))
            }
            Ok(_) => Err("is not in the years 1970 to 9999"),
            Err(_) => Err("is not a time with an offset, such as 2030-01-31T09:30:00Z"),
        }
    }
}

impl Serialize for Instant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// `MIN` to `MAX` JSON objects.
#[derive(Debug, Serialize)]
pub struct List<T, const MAX: usize, const MIN: usize = 1>(Vec<T>);

impl<T, const MAX: usize, const MIN: usize> List<T, MAX, MIN> {
    /// The items, in the order they were given.
    pub fn items(&self) -> &[T] {
        &self.0
    }

    /// The same, to be changed each for itself.
    pub fn items_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<'de, T, const MAX: usize, const MIN: usize> Deserialize<'de> for List<T, MAX, MIN>
where
    T: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_seq(ListVisitor::<T, MAX, MIN>(PhantomData))
            .map(List)
    }
}

struct ListVisitor<T, const MAX: usize, const MIN: usize>(PhantomData<T>);

impl<'de, T, const MAX: usize, const MIN: usize> Visitor<'de> for ListVisitor<T, MAX, MIN>
where
    T: Deserialize<'de>,
{
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "an array of {MIN} to {MAX} objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Object(item)) = sequence.next_element::<Object<T>>()? {
            if items.len() == MAX {
                return Err(de::Error::custom(format!("has more than {MAX} items")));
            }
            items.push(item);
        }
        match items.len() < MIN {
            true => Err(de::Error::custom(format!("has fewer than {MIN} items"))),
            false => Ok(items),
        }
    }
}

/// A JSON object: serde would also read a struct's fields from an array, in the order of their
/// declaration, which nobody means.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(ObjectVisitor(PhantomData))
            .map(Object)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn text_is_neither_blank_nor_long_nor_broken() {
        assert_eq!(parse::<Text<3>>(r#""äöü""#).unwrap().as_str(), "äöü");
        for text in [
            r#""""#,
            r#"" \n""#,
            r#""a\u0000""#,
            r#""abcd""#,
            "5",
            "[]",
            r#""\ud800""#,
        ] {
            assert!(parse::<Text<3>>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_keep_to_their_range() {
        type Seconds = Int<15, 600>;
        assert_eq!(parse::<Seconds>("15").unwrap().get(), 15);
        for text in [
            "14",
            "601",
            "-1",
            "60.0",
            "6e1",
            "\"60\"",
            "18446744073709551615",
            "1e999",
        ] {
            assert!(parse::<Seconds>(text).is_err(), "{text}");
        }
        let error = parse::<Seconds>("14").unwrap_err();
        assert!(
            error.contains("expected an integer from 15 to 600"),
            "{error}"
        );
    }

    #[test]
    fn a_job_id_is_a_hyphenated_uuid() {
        let id: JobId = parse(r#""0189AAAA-0000-8000-8000-00000000000f""#).unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, r#""0189aaaa-0000-8000-8000-00000000000f""#);
        for text in [
            r#""0189aaaa000080008000000000000000""#,
            r#""{0189aaaa-0000-8000-8000-00000000000f}""#,
            r#""0189aaaa-0000-8000-8000-00000000000""#,
            r#""0189aaaa-0000-8000-8000-00000000000é""#,
            "7",
        ] {
            assert!(parse::<JobId>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lease_id_is_a_number_or_its_digits() {
        for text in ["7", "\"7\"", "\"9223372036854775807\""] {
            assert!(parse::<LeaseId>(text).is_ok(), "{text}");
        }
        for text in [
            "0",
            "-7",
            "7.0",
            "\"\"",
            "\"+7\"",
            "\"9223372036854775808\"",
            "true",
        ] {
            assert!(parse::<LeaseId>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_instant_has_an_offset_and_goes_on_in_utc() {
        let instant: Instant = parse(r#""2030-01-31T09:30:00.1234567+02:00""#).unwrap();
        let json = serde_json::to_string(&instant).unwrap();
        assert_eq!(json, r#""2030-01-31T07:30:00.123456Z""#);
        for text in [
            r#""2030-01-31T09:30:00""#,
            r#""2030-02-30T00:00:00Z""#,
            r#""now""#,
            "1",
            r#""0000-01-01T00:00:00Z""#,
            r#""9999-12-31T23:59:59-05:00""#,
        ] {
            assert!(parse::<Instant>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_holds_objects_only() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Item {
            #[serde(rename = "a")]
            _a: u8,
        }
        type Items = List<Item, 2>;
        assert_eq!(
            parse::<Items>(r#"[{"a":1},{"a":2}]"#)
                .unwrap()
                .items()
                .len(),
            2
        );
        for text in [
            "[]",
            "[[1]]",
            r#"[{"a":1},{"a":2},{"a":3}]"#,
            r#"{"a":1}"#,
            "null",
        ] {
            assert!(parse::<Items>(text).is_err(), "{text}");
        }
    }
}
