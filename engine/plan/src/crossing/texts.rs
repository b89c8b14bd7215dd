//! Builds functions of the larger namespaces: strings, temporal, lists, arrays, structs, bits.

use polars::prelude::*;
use polars_core::series::ops::NullBehavior;
use polars_plan::dsl::{
    ArrayFunction, BitwiseFunction, ListFunction, StringFunction, StructFunction, TemporalFunction,
};

use super::functions::Args;
use super::{damaged, lacking};
use floe_polars::polars_error;
use floe_wire::error::Result;

pub fn string(name: &str, a: &Args, dtype: Option<&DataType>) -> Result<StringFunction> {
    use StringFunction as S;
    let wanted = || dtype.cloned().ok_or_else(|| damaged(format!("the type of StringFunction.{name} is missing")));
    Ok(match name {
        "ConcatHorizontal" => S::ConcatHorizontal { delimiter: a.text(0)?.into(), ignore_nulls: a.bool(1)? },
        "ConcatVertical" => S::ConcatVertical { delimiter: a.text(0)?.into(), ignore_nulls: a.bool(1)? },
        "Format" => {
            let insertions = a.list(1)?.iter().map(|n| n.as_u64().map(|n| n as usize).ok_or_else(|| damaged("format")));
            S::Format { format: a.text(0)?.into(), insertions: insertions.collect::<Result<Vec<_>>>()?.into() }
        }
        "Contains" => S::Contains { literal: a.bool(0)?, strict: a.bool(1)? },
        "CountMatches" => S::CountMatches(a.bool(0)?),
        "EndsWith" => S::EndsWith,
        "Extract" => S::Extract(a.size(0)?),
        "ExtractAll" => S::ExtractAll,
        "ExtractGroups" => S::ExtractGroups { dtype: a.dtype(0)?, pat: a.text(1)?.into() },
        "Find" => S::Find { literal: a.bool(0)?, strict: a.bool(1)? },
        "ToInteger" => S::ToInteger { dtype: Some(wanted()?), strict: a.bool(0)? },
        "LenBytes" => S::LenBytes,
        "LenChars" => S::LenChars,
        "Lowercase" => S::Lowercase,
        "JsonDecode" => S::JsonDecode(wanted()?.into()),
        "JsonPathMatch" => S::JsonPathMatch,
        "Replace" => S::Replace { n: a.int(0)?, literal: a.bool(1)? },
        "Normalize" => S::Normalize {
            form: match a.text(0)? {
                "nfc" => UnicodeForm::NFC,
                "nfkc" => UnicodeForm::NFKC,
                "nfd" => UnicodeForm::NFD,
                "nfkd" => UnicodeForm::NFKD,
                other => return Err(damaged(format!("the form {other}"))),
            },
        },
        "Reverse" => S::Reverse,
        "PadStart" => S::PadStart { fill_char: a.char(0)? },
        "PadEnd" => S::PadEnd { fill_char: a.char(0)? },
        "Slice" => S::Slice,
        "Head" => S::Head,
        "Tail" => S::Tail,
        "HexEncode" => S::HexEncode,
        "HexDecode" => S::HexDecode(a.bool(0)?),
        "Base64Encode" => S::Base64Encode,
        "Base64Decode" => S::Base64Decode(a.bool(0)?),
        "StartsWith" => S::StartsWith,
        "StripChars" => S::StripChars,
        "StripCharsStart" => S::StripCharsStart,
        "StripCharsEnd" => S::StripCharsEnd,
        "StripPrefix" => S::StripPrefix,
        "StripSuffix" => S::StripSuffix,
        "SplitExact" => S::SplitExact { n: a.size(0)?, inclusive: a.bool(1)? },
        "SplitN" => S::SplitN(a.size(0)?),
        "Strptime" => {
            let options = StrptimeOptions {
                format: a.opt_text(0)?.map(Into::into),
                strict: a.bool(1)?,
                exact: a.bool(2)?,
                cache: a.bool(3)?,
            };
            S::Strptime(wanted()?.into(), options)
        }
        "Split" => S::Split(a.bool(0)?),
        "SplitRegex" => S::SplitRegex { inclusive: a.bool(0)?, strict: a.bool(1)? },
        "ToDecimal" => S::ToDecimal { scale: a.size(0)? },
        "Uppercase" => S::Uppercase,
        "ZFill" => S::ZFill,
        "ContainsAny" => S::ContainsAny { ascii_case_insensitive: a.bool(0)? },
        "ReplaceMany" => S::ReplaceMany { ascii_case_insensitive: a.bool(0)?, leftmost: a.bool(1)? },
        "ExtractMany" => {
            S::ExtractMany { ascii_case_insensitive: a.bool(0)?, overlapping: a.bool(1)?, leftmost: a.bool(2)? }
        }
        "FindMany" => S::FindMany { ascii_case_insensitive: a.bool(0)?, overlapping: a.bool(1)?, leftmost: a.bool(2)? },
        "EscapeRegex" => S::EscapeRegex,
        _ => return Err(lacking(format!("the function StringFunction.{name}"))),
    })
}

pub fn temporal(name: &str, a: &Args) -> Result<TemporalFunction> {
    use TemporalFunction as T;
    let zone = |at| TimeZone::opt_try_new(a.opt_text(at)?).map_err(polars_error);
    Ok(match name {
        "Millennium" => T::Millennium,
        "Century" => T::Century,
        "Year" => T::Year,
        "IsLeapYear" => T::IsLeapYear,
        "IsoYear" => T::IsoYear,
        "Quarter" => T::Quarter,
        "Month" => T::Month,
        "DaysInMonth" => T::DaysInMonth,
        "Week" => T::Week,
        "WeekDay" => T::WeekDay,
        "Day" => T::Day,
        "OrdinalDay" => T::OrdinalDay,
        "Time" => T::Time,
        "Date" => T::Date,
        "Datetime" => T::Datetime,
        "Duration" => T::Duration(a.unit(0)?),
        "Hour" => T::Hour,
        "Minute" => T::Minute,
        "Second" => T::Second,
        "Millisecond" => T::Millisecond,
        "Microsecond" => T::Microsecond,
        "Nanosecond" => T::Nanosecond,
        "TotalDays" => T::TotalDays { fractional: a.bool(0)? },
        "TotalHours" => T::TotalHours { fractional: a.bool(0)? },
        "TotalMinutes" => T::TotalMinutes { fractional: a.bool(0)? },
        "TotalSeconds" => T::TotalSeconds { fractional: a.bool(0)? },
        "TotalMilliseconds" => T::TotalMilliseconds { fractional: a.bool(0)? },
        "TotalMicroseconds" => T::TotalMicroseconds { fractional: a.bool(0)? },
        "TotalNanoseconds" => T::TotalNanoseconds { fractional: a.bool(0)? },
        "ToString" => T::ToString(a.text(0)?.to_owned()),
        "CastTimeUnit" => T::CastTimeUnit(a.unit(0)?),
        "WithTimeUnit" => T::WithTimeUnit(a.unit(0)?),
        "ConvertTimeZone" => T::ConvertTimeZone(zone(0)?.ok_or_else(|| damaged("no time zone"))?),
        "TimeStamp" => T::TimeStamp(a.unit(0)?),
        "Truncate" => T::Truncate,
        "OffsetBy" => T::OffsetBy,
        "MonthStart" => T::MonthStart,
        "MonthEnd" => T::MonthEnd,
        "BaseUtcOffset" => T::BaseUtcOffset,
        "DSTOffset" => T::DSTOffset,
        "Round" => T::Round,
        "Replace" => T::Replace,
        "ReplaceTimeZone" => {
            let missing = match a.text(1)? {
                "null" => NonExistent::Null,
                "raise" => NonExistent::Raise,
                other => return Err(lacking(format!("times that do not exist {other}"))),
            };
            T::ReplaceTimeZone(zone(0)?, missing)
        }
        "Combine" => T::Combine(a.unit(0)?),
        "DatetimeFunction" => T::DatetimeFunction { time_unit: a.unit(0)?, time_zone: zone(1)? },
        _ => return Err(lacking(format!("the function TemporalFunction.{name}"))),
    })
}

pub fn null_behavior(name: &str) -> Result<NullBehavior> {
    Ok(match name {
        "drop" => NullBehavior::Drop,
        "ignore" => NullBehavior::Ignore,
        _ => return Err(damaged(format!("nulls that are to {name}"))),
    })
}

fn sort_options(a: &Args) -> Result<SortOptions> {
    Ok(SortOptions { descending: a.bool(0)?, nulls_last: a.bool(1)?, ..SortOptions::default() })
}

pub fn list(name: &str, a: &Args) -> Result<ListFunction> {
    use ListFunction as L;
    Ok(match name {
        "Concat" => L::Concat,
        "Contains" => L::Contains { nulls_equal: a.bool(0)? },
        "DropNulls" => L::DropNulls,
        "Slice" => L::Slice,
        "Shift" => L::Shift,
        "Get" => L::Get(a.bool(0)?),
        "Gather" => L::Gather(a.bool(0)?),
        "GatherEvery" => L::GatherEvery,
        "CountMatches" => L::CountMatches,
        "Sum" => L::Sum,
        "Length" => L::Length,
        "Max" => L::Max,
        "Min" => L::Min,
        "Mean" => L::Mean,
        "Median" => L::Median,
        "Std" => L::Std(a.small(0)?),
        "Var" => L::Var(a.small(0)?),
        "ArgMin" => L::ArgMin,
        "ArgMax" => L::ArgMax,
        "Diff" => L::Diff { n: a.int(0)?, null_behavior: null_behavior(a.text(1)?)? },
        "Sort" => L::Sort(sort_options(a)?),
        "SetOperation" => L::SetOperation(match a.text(0)? {
            "intersection" => SetOperation::Intersection,
            "union" => SetOperation::Union,
            "difference" => SetOperation::Difference,
            "symmetric_difference" => SetOperation::SymmetricDifference,
            other => return Err(lacking(format!("the set operation {other}"))),
        }),
        "Join" => L::Join(a.bool(0)?),
        "ToArray" => L::ToArray(a.size(0)?),
        "ToStruct" => L::ToStruct(a.names(0)?.into()),
        _ => return Err(lacking(format!("the function ListFunction.{name}"))),
    })
}

pub fn array(name: &str, a: &Args) -> Result<ArrayFunction> {
    use ArrayFunction as A;
    Ok(match name {
        "Length" => A::Length,
        "Slice" => A::Slice(a.int(0)?, a.int(1)?),
        "Min" => A::Min,
        "Max" => A::Max,
        "Sum" => A::Sum,
        "ToList" => A::ToList,
        "Std" => A::Std(a.small(0)?),
        "Var" => A::Var(a.small(0)?),
        "Mean" => A::Mean,
        "Median" => A::Median,
        "Sort" => A::Sort(sort_options(a)?),
        "ArgMin" => A::ArgMin,
        "ArgMax" => A::ArgMax,
        "Get" => A::Get(a.bool(0)?),
        "Join" => A::Join(a.bool(0)?),
        "Contains" => A::Contains { nulls_equal: a.bool(0)? },
        "CountMatches" => A::CountMatches,
        "Shift" => A::Shift,
        "Explode" => A::Explode(ExplodeOptions { empty_as_null: a.bool(0)?, keep_nulls: a.bool(1)? }),
        "Concat" => A::Concat,
        _ => return Err(lacking(format!("the function ArrayFunction.{name}"))),
    })
}

pub fn structure(name: &str, a: &Args) -> Result<StructFunction> {
    use StructFunction as S;
    Ok(match name {
        "FieldByName" => S::FieldByName(a.text(0)?.into()),
        "RenameFields" => S::RenameFields(a.names(0)?.into()),
        "DropFields" => S::Drop(a.names(0)?.into(), a.bool(1)?),
        "PrefixFields" => S::PrefixFields(a.text(0)?.into()),
        "SuffixFields" => S::SuffixFields(a.text(0)?.into()),
        "JsonEncode" => S::JsonEncode,
        _ => return Err(lacking(format!("the function StructFunction.{name}"))),
    })
}

pub fn bitwise(name: &str) -> Result<BitwiseFunction> {
    use BitwiseFunction as B;
    Ok(match name {
        "CountOnes" => B::CountOnes,
        "CountZeros" => B::CountZeros,
        "LeadingOnes" => B::LeadingOnes,
        "LeadingZeros" => B::LeadingZeros,
        "TrailingOnes" => B::TrailingOnes,
        "TrailingZeros" => B::TrailingZeros,
        "And" => B::And,
        "Or" => B::Or,
        "Xor" => B::Xor,
        _ => return Err(lacking(format!("the function BitwiseFunction.{name}"))),
    })
}
