//! Quantities as Kubernetes writes them: `2Gi`, `500m`, `1.5`, `4k`. Stored as written, parsed on demand.

use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of memory or CPU as the user wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantity(String);

/// What a quantity field accepts, for messages.
pub const EXAMPLES: &str = "2Gi, 512Mi, 1G, 500m or a plain number";

const PATTERN: &str = "^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$";

impl Quantity {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The amount in thousandths: exact for all that makes sense as bytes or CPUs. `None` if it is not a quantity.
    pub fn milli(&self) -> Option<u128> {
        let text = self.0.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let milli_factor: u128 = match suffix {
            "m" => 1,
            "" => 1_000,
            "k" => 1_000_000,
            "M" => 1_000_000_000,
            "G" => 1_000_000_000_000,
            "T" => 1_000_000_000_000_000,
            "P" => 1_000_000_000_000_000_000,
            "E" => 1_000_000_000_000_000_000_000,
            "Ki" => 1_000 << 10,
            "Mi" => 1_000 << 20,
            "Gi" => 1_000 << 30,
            "Ti" => 1_000 << 40,
            "Pi" => 1_000 << 50,
            "Ei" => 1_000 << 60,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || part.is_empty() || whole.len() > 18 || part.len() > 9 {
            return None;
        }
        let whole: u128 = whole.parse().ok()?;
        let scale = 10u128.pow(u32::try_from(part.len()).ok()?);
        let part: u128 = part.parse().ok()?;
        let exact = whole.checked_mul(milli_factor)?.checked_add(part.checked_mul(milli_factor)? / scale)?;
        Some(exact)
    }

    /// Bytes, rounded up to a whole number.
    pub fn bytes(&self) -> Option<u64> {
        u64::try_from(self.milli()?.div_ceil(1_000)).ok()
    }

    /// Whole CPUs, at least one: a number of threads that suits this share of a machine.
    pub fn threads(&self) -> Option<usize> {
        usize::try_from(self.milli()?.div_ceil(1_000).max(1)).ok()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a quantity such as {EXAMPLES}")
            }
            fn visit_str<E>(self, v: &str) -> Result<Quantity, E> {
                Ok(Quantity(v.to_owned()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Quantity, E> {
                Ok(Quantity(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Quantity, E> {
                Ok(Quantity(v.to_string()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Quantity, E> {
                Ok(Quantity(v.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The schema of a quantity field: what the API server accepts.
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "pattern": PATTERN, "maxLength": 32})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, milli) in [
            ("0", Some(0)),
            ("1", Some(1_000)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            ("1.5", Some(1_500)),
            ("2k", Some(2_000_000)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2Gi", Some(2_147_483_648_000)),
            ("10G", Some(10_000_000_000_000)),
            ("16Ei", Some(18_446_744_073_709_551_616_000)),
            ("", None),
            ("Gi", None),
            (".5", None),
            ("5.", None),
            ("-1", None),
            ("2gb", None),
            ("2 Gi", None),
            ("2GiB", None),
            ("1.2.3", None),
            ("1e3", None),
            ("999999999999999999999999", None),
            ("٣", None),
        ] {
            assert_eq!(Quantity::new(text).milli(), milli, "{text}");
        }
        assert_eq!(Quantity::new("16Ei").bytes(), None);
        assert_eq!(Quantity::new("1Gi").bytes(), Some(1 << 30));
        assert_eq!(Quantity::new("1500m").threads(), Some(2));
        assert_eq!(Quantity::new("100m").threads(), Some(1));
    }

    #[test]
    fn numbers_and_text_both_parse() {
        assert_eq!(serde_json::from_str::<Quantity>("4").unwrap(), Quantity::new("4"));
        assert_eq!(serde_json::from_str::<Quantity>("\"4Gi\"").unwrap(), Quantity::new("4Gi"));
        assert!(serde_json::from_str::<Quantity>("[]").is_err());
    }
}
