//! Reads pickles as data: constants, containers, and objects as the names of their classes with their states. Nothing
//! is imported, called or built.

use std::collections::HashMap;

/// Limit of a pickle's values.
const MOST_VALUES: usize = 1 << 20;
/// Limit of the marks that are open at once.
const MOST_MARKS: usize = 10_000;

/// A value, by its place in `Pickle`.
pub type Id = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Tuples, lists and sets.
    Items(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function, by its module and name.
    Global(String, String),
    Object {
        /// What it is made by.
        class: Id,
        /// What that is given.
        args: Id,
        state: Option<Id>,
    },
}

/// A pickle's values. Values refer to others, which may be filled later.
#[derive(Debug, Default)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    pub fn read(bytes: &[u8]) -> Option<Pickle> {
        Machine { rest: bytes, pickle: Pickle::default(), stack: vec![], marks: vec![], memo: HashMap::new() }.run()
    }

    pub fn root(&self) -> Id {
        self.root
    }

    pub fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// Module and name of an object's class.
    pub fn class(&self, id: Id) -> Option<(&str, &str)> {
        let Value::Object { class, .. } = self.value(id) else { return None };
        match self.value(*class) {
            Value::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// A field of an object's state, or the value of a dict's key.
    pub fn get(&self, id: Id, key: &str) -> Option<Id> {
        let dict = match self.value(id) {
            Value::Object { state: Some(state), .. } => *state,
            _ => id,
        };
        let Value::Dict(entries) = self.value(dict) else { return None };
        entries.iter().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, value)| *value)
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn int(&self, id: Id) -> Option<i64> {
        match self.value(id) {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    pub fn is_none(&self, id: Id) -> bool {
        *self.value(id) == Value::None
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    pickle: Pickle,
    stack: Vec<Id>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    fn run(mut self) -> Option<Pickle> {
        loop {
            let op = *self.take(1)?.first()?;
            if op == b'.' {
                self.pickle.root = self.stack.pop()?;
                return Some(self.pickle);
            }
            self.step(op)?;
        }
    }

    fn step(&mut self, op: u8) -> Option<()> {
        match op {
            // PROTO, FRAME
            0x80 => _ = self.take(1)?,
            0x95 => _ = self.take(8)?,
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let int = i32::from_le_bytes(self.take(4)?.try_into().ok()?);
                self.push(Value::Int(i64::from(int)))?;
            }
            b'K' | b'M' => {
                let int = self.number(if op == b'K' { 1 } else { 2 })?;
                self.push(Value::Int(i64::try_from(int).ok()?))?;
            }
            0x8a => {
                let length = self.number(1)?;
                let int = long(self.take(length)?)?;
                self.push(Value::Int(int))?;
            }
            b'G' => {
                let float = f64::from_be_bytes(self.take(8)?.try_into().ok()?);
                self.push(Value::Float(float))?;
            }
            0x8c | b'X' | 0x8d => {
                let length = self.number(match op {
                    0x8c => 1,
                    b'X' => 4,
                    _ => 8,
                })?;
                let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
                self.push(Value::Text(text))?;
            }
            b'C' | b'B' | 0x8e => {
                let length = self.number(match op {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                let bytes = self.take(length)?.to_vec();
                self.push(Value::Bytes(bytes))?;
            }
            b'}' => self.push(Value::Dict(vec![]))?,
            // Empty tuple, list and set.
            b')' | b']' | 0x8f => self.push(Value::Items(vec![]))?,
            b'(' => {
                if self.marks.len() >= MOST_MARKS {
                    return None;
                }
                self.marks.push(self.stack.len());
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(op - 0x84))?;
                let items = self.stack.split_off(from);
                self.push(Value::Items(items))?;
            }
            // Tuple, frozen set.
            b't' | 0x91 => {
                let items = self.marked()?;
                self.push(Value::Items(items))?;
            }
            b'a' => {
                let item = self.stack.pop()?;
                self.extend(vec![item])?;
            }
            // Appends, additems.
            b'e' | 0x90 => {
                let items = self.marked()?;
                self.extend(items)?;
            }
            b's' => {
                let from = self.stack.len().checked_sub(2)?;
                let items = self.stack.split_off(from);
                self.set(&items)?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set(&items)?;
            }
            0x94 => _ = self.memo.insert(self.memo.len() as u64, *self.stack.last()?),
            b'q' | b'r' => {
                let at = self.number(if op == b'q' { 1 } else { 4 })? as u64;
                self.memo.insert(at, *self.stack.last()?);
            }
            b'h' | b'j' => {
                let at = self.number(if op == b'h' { 1 } else { 4 })? as u64;
                self.stack.push(*self.memo.get(&at)?);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name))?;
            }
            0x93 => {
                let (name, module) = (self.stack.pop()?, self.stack.pop()?);
                let global = Value::Global(self.pickle.text(module)?.to_owned(), self.pickle.text(name)?.to_owned());
                self.push(global)?;
            }
            // Reduce, newobj.
            b'R' | 0x81 => {
                let (args, class) = (self.stack.pop()?, self.stack.pop()?);
                self.push(Value::Object { class, args, state: None })?;
            }
            // Newobj_ex
            0x92 => {
                let (_, args, class) = (self.stack.pop()?, self.stack.pop()?, self.stack.pop()?);
                self.push(Value::Object { class, args, state: None })?;
            }
            b'b' => {
                let (given, object) = (self.stack.pop()?, *self.stack.last()?);
                let Value::Object { state, .. } = self.pickle.values.get_mut(object)? else { return None };
                *state = Some(given);
            }
            b'0' => _ = self.stack.pop()?,
            b'2' => self.stack.push(*self.stack.last()?),
            _ => return None,
        }
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// A little-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let number =
            self.take(bytes)?.iter().rev().try_fold(0u64, |n, byte| Some(n.checked_mul(256)? + u64::from(*byte)));
        usize::try_from(number?).ok()
    }

    fn line(&mut self) -> Option<String> {
        let length = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8(self.take(length)?.to_vec()).ok();
        self.take(1)?;
        line
    }

    fn push(&mut self, value: Value) -> Option<()> {
        if self.pickle.values.len() >= MOST_VALUES {
            return None;
        }
        self.stack.push(self.pickle.values.len());
        self.pickle.values.push(value);
        Some(())
    }

    /// What lies above the last mark.
    fn marked(&mut self) -> Option<Vec<Id>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len())?;
        Some(self.stack.split_off(mark))
    }

    fn extend(&mut self, more: Vec<Id>) -> Option<()> {
        let Value::Items(items) = self.pickle.values.get_mut(*self.stack.last()?)? else { return None };
        items.extend(more);
        Some(())
    }

    fn set(&mut self, items: &[Id]) -> Option<()> {
        let Value::Dict(entries) = self.pickle.values.get_mut(*self.stack.last()?)? else { return None };
        let (pairs, []) = items.as_chunks::<2>() else { return None };
        entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Some(())
    }
}

/// An integer of any length that fits into 64 bits, its bytes from the lowest.
fn long(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_read_as_their_classes_and_states() {
        // pickle.dumps(D(1)) of a class D in a module m with `self.a = 1; self.b = [self.a, None, "é"]`, and a memo.
        let bytes = b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x01m\x94\x8c\x01D\x94\x93\x94)\x81\x94}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94]\x94(K\x01N\x8c\x02\xc3\xa9\x94eh\x04h\x05ub.";
        let pickle = Pickle::read(bytes).unwrap();
        assert_eq!(pickle.class(pickle.root()), Some(("m", "D")));
        assert_eq!(pickle.int(pickle.get(pickle.root(), "a").unwrap()), Some(1));
        let Value::Items(items) = pickle.value(pickle.get(pickle.root(), "b").unwrap()) else { panic!() };
        assert!(pickle.is_none(items[1]));
        assert_eq!(pickle.text(items[2]), Some("é"));
        assert_eq!(pickle.get(pickle.root(), "c"), None);
    }

    #[test]
    fn what_is_no_pickle_is_none() {
        for bytes in [&b""[..], b".", b"\x80\x04", b"(", b"u.", b"N}b.", b"\x8a\x09aaaaaaaaa.", b"h\x07.", b"\xff."] {
            assert!(Pickle::read(bytes).is_none(), "{bytes:?}");
        }
        for length in 0..40 {
            let _ = Pickle::read(&b"\x80\x04\x8c\x01m\x8c\x01D\x93)\x81}(\x8c\x01aK\x01ub."[..length.min(21)]);
        }
    }

    #[test]
    fn integers_have_signs() {
        assert_eq!(long(&[]), Some(0));
        assert_eq!(long(&[0xff]), Some(-1));
        assert_eq!(long(&[0xff, 0]), Some(255));
        assert_eq!(long(&3024304674545827075i64.to_le_bytes()), Some(3024304674545827075));
    }
}
