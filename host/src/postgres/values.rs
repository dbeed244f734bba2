//! Values between the interface and Postgres, with Spin's mapping: a Postgres type has exactly one variant, a
//! parameter of another type is refused, and a type without a variant arrives as its raw bytes.

use std::error::Error as StdError;

use anyhow::{Context, Result, anyhow};
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use postgres_range::{BoundSided, BoundType, Normalizable, Range, RangeBound};
use rust_decimal::Decimal;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::runtime::bindings::imports::spin::postgres::postgres as wit;
use wit::{DbDataType, DbValue, ParameterValue, RangeBoundKind};

type AnyError = Box<dyn StdError + Sync + Send>;

/// A column's name and type as the guest sees them.
pub fn column(column: &tokio_postgres::Column) -> wit::Column {
    wit::Column {
        name: column.name().to_owned(),
        data_type: data_type(column.type_()),
    }
}

fn data_type(sql: &Type) -> DbDataType {
    match *sql {
        Type::BOOL => DbDataType::Boolean,
        Type::BYTEA => DbDataType::Binary,
        Type::FLOAT4 => DbDataType::Floating32,
        Type::FLOAT8 => DbDataType::Floating64,
        Type::INT2 => DbDataType::Int16,
        Type::INT4 => DbDataType::Int32,
        Type::INT8 => DbDataType::Int64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => DbDataType::Str,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DbDataType::Datetime,
        Type::DATE => DbDataType::Date,
        Type::TIME => DbDataType::Time,
        Type::UUID => DbDataType::Uuid,
        Type::JSONB => DbDataType::Jsonb,
        Type::NUMERIC => DbDataType::Decimal,
        Type::INT4_RANGE => DbDataType::RangeInt32,
        Type::INT8_RANGE => DbDataType::RangeInt64,
        Type::NUM_RANGE => DbDataType::RangeDecimal,
        Type::INT4_ARRAY => DbDataType::ArrayInt32,
        Type::INT8_ARRAY => DbDataType::ArrayInt64,
        Type::NUMERIC_ARRAY => DbDataType::ArrayDecimal,
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => DbDataType::ArrayStr,
        Type::INTERVAL => DbDataType::Interval,
        _ => DbDataType::Other(sql.name().to_owned()),
    }
}

/// A row's values.
///
/// # Errors
/// A value that its variant cannot hold (`timestamptz` among them, as on Spin).
pub fn to_values(row: &Row) -> Result<Vec<DbValue>> {
    (0..row.len()).map(|index| to_value(row, index)).collect()
}

fn to_value(row: &Row, index: usize) -> Result<DbValue> {
    use DbValue as V;
    match *row.columns()[index].type_() {
        Type::BOOL => get(row, index, |v| Ok(V::Boolean(v))),
        Type::BYTEA => get(row, index, |v| Ok(V::Binary(v))),
        Type::FLOAT4 => get(row, index, |v| Ok(V::Floating32(v))),
        Type::FLOAT8 => get(row, index, |v| Ok(V::Floating64(v))),
        Type::INT2 => get(row, index, |v| Ok(V::Int16(v))),
        Type::INT4 => get(row, index, |v| Ok(V::Int32(v))),
        Type::INT8 => get(row, index, |v| Ok(V::Int64(v))),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => get(row, index, |v| Ok(V::Str(v))),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            get(row, index, |v| Ok(V::Datetime(from_datetime(v)?)))
        }
        Type::DATE => get(row, index, |v| Ok(V::Date(from_date(v)?))),
        Type::TIME => get(row, index, |v| Ok(V::Time(from_time(v)?))),
        Type::UUID => get(row, index, |v: uuid::Uuid| Ok(V::Uuid(v.to_string()))),
        Type::JSONB => get(row, index, |v: serde_json::Value| {
            Ok(V::Jsonb(serde_json::to_vec(&v)?))
        }),
        Type::NUMERIC => get(row, index, |v: Decimal| Ok(V::Decimal(v.to_string()))),
        Type::INT4_RANGE => get(row, index, |v| {
            Ok(V::RangeInt32(from_range(v, |n: &i32| *n)))
        }),
        Type::INT8_RANGE => get(row, index, |v| {
            Ok(V::RangeInt64(from_range(v, |n: &i64| *n)))
        }),
        Type::NUM_RANGE => get(row, index, |v| {
            Ok(V::RangeDecimal(from_range(v, |n: &RangeDecimal| {
                n.0.to_string()
            })))
        }),
        Type::INT4_ARRAY => get(row, index, |v| Ok(V::ArrayInt32(v))),
        Type::INT8_ARRAY => get(row, index, |v| Ok(V::ArrayInt64(v))),
        Type::NUMERIC_ARRAY => get(row, index, |v: Vec<Option<Decimal>>| {
            let texts = v.into_iter().map(|d| d.map(|d| d.to_string()));
            Ok(V::ArrayDecimal(texts.collect()))
        }),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => {
            get(row, index, |v| Ok(V::ArrayStr(v)))
        }
        Type::INTERVAL => get(row, index, |v: Interval| Ok(V::Interval(v.0))),
        _ => get(row, index, |v: Raw| Ok(V::Unsupported(v.0))),
    }
}

fn get<'a, T: FromSql<'a>>(
    row: &'a Row,
    index: usize,
    convert: impl Fn(T) -> Result<DbValue>,
) -> Result<DbValue> {
    match row.try_get::<_, Option<T>>(index)? {
        Some(value) => convert(value),
        None => Ok(DbValue::DbNull),
    }
}

/// A guest's parameter for the driver.
///
/// # Errors
/// A text or tuple that isn't a value of its type.
pub fn to_sql(value: &ParameterValue) -> Result<Box<dyn ToSql + Send + Sync>> {
    use ParameterValue as P;
    Ok(match value {
        P::Boolean(v) => Box::new(*v),
        P::Int8(v) => Box::new(*v),
        P::Int16(v) => Box::new(*v),
        P::Int32(v) => Box::new(*v),
        P::Int64(v) => Box::new(*v),
        P::Floating32(v) => Box::new(*v),
        P::Floating64(v) => Box::new(*v),
        P::Str(v) => Box::new(v.clone()),
        P::Binary(v) => Box::new(v.clone()),
        P::Date(v) => Box::new(to_date(*v)?),
        P::Time(v) => Box::new(to_time(*v)?),
        P::Datetime((year, month, day, hour, minute, second, nanosecond)) => {
            let date = to_date((*year, *month, *day))?;
            let time = to_time((*hour, *minute, *second, *nanosecond))?;
            Box::new(NaiveDateTime::new(date, time))
        }
        P::Timestamp(v) => {
            let time = DateTime::<Utc>::from_timestamp(*v, 0);
            Box::new(time.ok_or_else(|| anyhow!("invalid epoch timestamp {v}"))?)
        }
        P::Uuid(v) => {
            Box::new(uuid::Uuid::parse_str(v).with_context(|| format!("invalid UUID {v}"))?)
        }
        // The text is not quoted in the error: a payload is nobody's business but the guest's.
        P::Jsonb(v) => {
            let json: serde_json::Value = serde_json::from_slice(v).context("invalid JSON")?;
            Box::new(json)
        }
        P::Decimal(v) => Box::new(to_decimal(v)?),
        P::RangeInt32((lower, upper)) => Box::new(Range::new(bound(*lower), bound(*upper))),
        P::RangeInt64((lower, upper)) => Box::new(Range::new(bound(*lower), bound(*upper))),
        P::RangeDecimal((lower, upper)) => Box::new(Range::new(
            bound(decimal_bound(lower)?),
            bound(decimal_bound(upper)?),
        )),
        P::ArrayInt32(v) => Box::new(v.clone()),
        P::ArrayInt64(v) => Box::new(v.clone()),
        P::ArrayDecimal(v) => {
            let decimal = |v: &Option<String>| v.as_deref().map(to_decimal).transpose();
            Box::new(v.iter().map(decimal).collect::<Result<Vec<_>>>()?)
        }
        P::ArrayStr(v) => Box::new(v.clone()),
        P::Interval(v) => Box::new(Interval(*v)),
        P::DbNull => Box::new(Null),
    })
}

fn from_date(date: NaiveDate) -> Result<(i32, u8, u8)> {
    Ok((
        date.year(),
        date.month().try_into()?,
        date.day().try_into()?,
    ))
}

fn from_time(time: NaiveTime) -> Result<(u8, u8, u8, u32)> {
    Ok((
        time.hour().try_into()?,
        time.minute().try_into()?,
        time.second().try_into()?,
        time.nanosecond(),
    ))
}

fn from_datetime(value: NaiveDateTime) -> Result<(i32, u8, u8, u8, u8, u8, u32)> {
    let (year, month, day) = from_date(value.date())?;
    let (hour, minute, second, nanosecond) = from_time(value.time())?;
    Ok((year, month, day, hour, minute, second, nanosecond))
}

fn to_date((year, month, day): (i32, u8, u8)) -> Result<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month.into(), day.into())
        .ok_or_else(|| anyhow!("invalid date y={year}, m={month}, d={day}"))
}

fn to_time((hour, minute, second, nanosecond): (u8, u8, u8, u32)) -> Result<NaiveTime> {
    NaiveTime::from_hms_nano_opt(hour.into(), minute.into(), second.into(), nanosecond)
        .ok_or_else(|| anyhow!("invalid time {hour}:{minute}:{second}:{nanosecond}"))
}

fn to_decimal(text: &str) -> Result<Decimal> {
    Decimal::from_str_exact(text).with_context(|| format!("invalid decimal {text}"))
}

/// One end of a range in the interface; `None` is no bound.
type WitBound<T> = Option<(T, RangeBoundKind)>;

fn bound<S: BoundSided, T: PartialOrd>(bound: WitBound<T>) -> Option<RangeBound<S, T>> {
    bound.map(|(value, kind)| {
        let kind = match kind {
            RangeBoundKind::Inclusive => BoundType::Inclusive,
            RangeBoundKind::Exclusive => BoundType::Exclusive,
        };
        RangeBound::new(value, kind)
    })
}

fn decimal_bound(bound: &WitBound<String>) -> Result<WitBound<RangeDecimal>> {
    let convert =
        |(text, kind): &(String, RangeBoundKind)| Ok((RangeDecimal(to_decimal(text)?), *kind));
    bound.as_ref().map(convert).transpose()
}

fn from_range<T: PartialOrd + Normalizable, W>(
    range: Range<T>,
    value: impl Fn(&T) -> W,
) -> (WitBound<W>, WitBound<W>) {
    let kind = |kind: BoundType| match kind {
        BoundType::Inclusive => RangeBoundKind::Inclusive,
        BoundType::Exclusive => RangeBoundKind::Exclusive,
    };
    let lower = range.lower().map(|b| (value(&b.value), kind(b.type_)));
    let upper = range.upper().map(|b| (value(&b.value), kind(b.type_)));
    (lower, upper)
}

/// A decimal that the range type accepts.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct RangeDecimal(Decimal);

/// Decimals have no next value, so bounds stay as they are.
impl Normalizable for RangeDecimal {
    fn normalize<S: BoundSided>(bound: RangeBound<S, Self>) -> RangeBound<S, Self> {
        bound
    }
}

impl ToSql for RangeDecimal {
    to_sql_checked!();

    fn to_sql(&self, sql: &Type, out: &mut BytesMut) -> Result<IsNull, AnyError> {
        self.0.to_sql(sql, out)
    }

    fn accepts(sql: &Type) -> bool {
        <Decimal as ToSql>::accepts(sql)
    }
}

impl<'a> FromSql<'a> for RangeDecimal {
    fn from_sql(sql: &Type, raw: &'a [u8]) -> Result<Self, AnyError> {
        Decimal::from_sql(sql, raw).map(Self)
    }

    fn accepts(sql: &Type) -> bool {
        <Decimal as FromSql>::accepts(sql)
    }
}

/// Postgres' interval: microseconds, days and months, big endian.
#[derive(Debug)]
struct Interval(wit::Interval);

impl ToSql for Interval {
    to_sql_checked!();

    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, AnyError> {
        out.put_i64(self.0.micros);
        out.put_i32(self.0.days);
        out.put_i32(self.0.months);
        Ok(IsNull::No)
    }

    fn accepts(sql: &Type) -> bool {
        *sql == Type::INTERVAL
    }
}

impl FromSql<'_> for Interval {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, AnyError> {
        let Some((micros, rest)) = raw.split_first_chunk::<8>() else {
            return Err("an interval has 16 bytes".into());
        };
        let (Some(days), Some(months)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) else {
            return Err("an interval has 16 bytes".into());
        };
        Ok(Self(wit::Interval {
            micros: i64::from_be_bytes(*micros),
            days: i32::from_be_bytes(*days),
            months: i32::from_be_bytes(*months),
        }))
    }

    fn accepts(sql: &Type) -> bool {
        *sql == Type::INTERVAL
    }
}

/// Null fits any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    to_sql_checked!();

    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, AnyError> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value of a type that the interface has no variant for.
struct Raw(Vec<u8>);

impl FromSql<'_> for Raw {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, AnyError> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
