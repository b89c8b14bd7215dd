//! Columns of a batch, laid out as Arrow lays them out (values, offsets, a bitmap of what is there), so that whoever has
//! arrays takes the buffers over as they are.

use crate::types::Type;

/// Rows that were read together.
#[derive(Debug)]
pub struct Batch {
    pub rows: usize,
    pub columns: Vec<Array>,
}

#[derive(Debug, PartialEq)]
pub struct Array {
    pub values: Values,
    /// Which are not null; none if all are.
    pub validity: Option<Bits>,
}

/// Nulls have a zero, or no bytes, in their place.
#[derive(Debug, PartialEq)]
pub enum Values {
    Bool(Bits),
    Int16(Vec<i16>),
    /// Days since 1970, too.
    Int32(Vec<i32>),
    /// Nanoseconds since midnight and microseconds since 1970, too.
    Int64(Vec<i64>),
    UInt32(Vec<u32>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    /// Value n has the bytes between offsets n and n + 1; of texts, these are known to be UTF-8.
    Bytes {
        offsets: Vec<i64>,
        bytes: Vec<u8>,
    },
    List {
        offsets: Vec<i64>,
        items: Box<Array>,
    },
}

/// The lowest bit of a byte first.
#[derive(Debug, Default, PartialEq)]
pub struct Bits {
    pub bytes: Vec<u8>,
    pub len: usize,
}

impl Bits {
    pub(crate) fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if bit && let Some(last) = self.bytes.last_mut() {
            *last |= 1 << (self.len % 8);
        }
        self.len += 1;
    }

    fn ones(len: usize) -> Bits {
        let mut bytes = vec![0xff; len.div_ceil(8)];
        if !len.is_multiple_of(8)
            && let Some(last) = bytes.last_mut()
        {
            *last = (1 << (len % 8)) - 1;
        }
        Bits { bytes, len }
    }

    pub fn get(&self, at: usize) -> bool {
        self.bytes.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
    }
}

impl Array {
    pub(crate) fn of(r#type: &Type) -> Array {
        let values = match r#type {
            Type::Bool => Values::Bool(Bits::default()),
            Type::Int16 => Values::Int16(Vec::new()),
            Type::Int32 | Type::Date => Values::Int32(Vec::new()),
            Type::Int64 | Type::Time | Type::Datetime | Type::DatetimeUtc => Values::Int64(Vec::new()),
            Type::UInt32 => Values::UInt32(Vec::new()),
            Type::Float32 => Values::Float32(Vec::new()),
            Type::Float64 => Values::Float64(Vec::new()),
            Type::Decimal { .. } => Values::Decimal(Vec::new()),
            Type::String | Type::Binary => Values::Bytes { offsets: vec![0], bytes: Vec::new() },
            Type::List(items) => Values::List { offsets: vec![0], items: Box::new(Array::of(items)) },
        };
        Array { values, validity: None }
    }

    pub fn len(&self) -> usize {
        match &self.values {
            Values::Bool(bits) => bits.len,
            Values::Int16(values) => values.len(),
            Values::Int32(values) => values.len(),
            Values::Int64(values) => values.len(),
            Values::UInt32(values) => values.len(),
            Values::Float32(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Decimal(values) => values.len(),
            Values::Bytes { offsets, .. } | Values::List { offsets, .. } => offsets.len() - 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// After a value was put in.
    pub(crate) fn present(&mut self) {
        if let Some(validity) = &mut self.validity {
            validity.push(true);
        }
    }

    pub(crate) fn null(&mut self) {
        let before = self.len();
        match &mut self.values {
            Values::Bool(bits) => bits.push(false),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Bytes { offsets, bytes } => offsets.push(bytes.len() as i64),
            Values::List { offsets, items } => offsets.push(items.len() as i64),
        }
        self.validity.get_or_insert_with(|| Bits::ones(before)).push(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_of_what_is_there_begins_with_the_first_null() {
        let mut array = Array::of(&Type::Int16);
        for value in 0..9 {
            let Values::Int16(values) = &mut array.values else { panic!() };
            values.push(value);
            array.present();
        }
        assert_eq!(array.validity, None);
        array.null();
        let validity = array.validity.as_ref().unwrap();
        assert_eq!((validity.len, validity.bytes.as_slice()), (10, [0xff, 0b01].as_slice()));
        assert!(validity.get(8) && !validity.get(9));
        assert_eq!(Bits::ones(8).bytes, [0xff]);
    }
}
