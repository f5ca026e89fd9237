//! Bencode (BEP 3) for metainfo files: a value tree with a canonical encoder, and a strict decoder that can also
//! return the raw bytes of each dictionary entry.

use std::collections::BTreeMap;

/// A bencoded value. Dictionaries are sorted by raw key bytes, as BEP 3 requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An integer.
    Integer(i64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A dictionary.
    Dict(BTreeMap<Vec<u8>, Value>),
    /// Bytes that are already bencoded, such as an info dictionary that must not change.
    Raw(Vec<u8>),
}

/// An input that is not canonical bencode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode bencode at byte {position}: {problem}")]
pub struct BencodeError {
    position: usize,
    problem: &'static str,
}

impl Value {
    /// Returns a byte string.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().to_vec())
    }

    /// Returns a dictionary of these entries.
    pub fn dict<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Dict(entries.into_iter().map(|(k, v)| (k.as_ref().to_vec(), v)).collect())
    }

    /// Returns the entry with this key, or `None` if this is not a dictionary or has no such entry.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dict(entries) => entries.get(key.as_bytes()),
            _ => None,
        }
    }

    /// Returns the bytes, or `None` if this is not a byte string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the number, or `None` if this is not an integer.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the bencoded value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![];
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Integer(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
            Self::Bytes(bytes) => write_bytes(bytes, out),
            Self::List(items) => {
                out.push(b'l');
                for item in items {
                    item.write(out);
                }
                out.push(b'e');
            }
            Self::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    write_bytes(key, out);
                    value.write(out);
                }
                out.push(b'e');
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// Decodes one value, which must span the whole input.
    pub fn decode(input: &[u8]) -> Result<Self, BencodeError> {
        let mut reader = Reader { input, position: 0 };
        let value = reader.value(0)?;
        if reader.position == input.len() { Ok(value) } else { reader.fail("bytes after the end") }
    }

    /// Decodes only the top level of a dictionary. The values are the unchanged bytes of the input ([`Value::Raw`]).
    pub fn decode_shallow(input: &[u8]) -> Result<BTreeMap<Vec<u8>, Self>, BencodeError> {
        let mut reader = Reader { input, position: 0 };
        if reader.next()? != b'd' {
            return Err(BencodeError { position: 0, problem: "expected a dictionary" });
        }
        let mut entries = BTreeMap::new();
        while reader.peek()? != b'e' {
            let key = reader.bytes()?;
            let start = reader.position;
            reader.value(1)?;
            entries.insert(key, Self::Raw(input[start..reader.position].to_vec()));
        }
        reader.position += 1;
        if reader.position == input.len() { Ok(entries) } else { reader.fail("bytes after the end") }
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}

/// The maximum nesting depth. No metainfo file needs more; it prevents a stack overflow.
const MAX_DEPTH: usize = 32;

struct Reader<'a> {
    input: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, problem: &'static str) -> Result<T, BencodeError> {
        Err(BencodeError { position: self.position, problem })
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.input
            .get(self.position)
            .copied()
            .ok_or(BencodeError { position: self.position, problem: "unexpected end of input" })
    }

    fn next(&mut self) -> Result<u8, BencodeError> {
        let byte = self.peek()?;
        self.position += 1;
        Ok(byte)
    }

    fn value(&mut self, depth: usize) -> Result<Value, BencodeError> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        match self.peek()? {
            b'i' => {
                self.position += 1;
                let number = self.digits(b'e', true)?;
                Ok(Value::Integer(number))
            }
            b'l' => {
                self.position += 1;
                let mut items = vec![];
                while self.peek()? != b'e' {
                    items.push(self.value(depth + 1)?);
                }
                self.position += 1;
                Ok(Value::List(items))
            }
            b'd' => {
                self.position += 1;
                let mut entries = BTreeMap::new();
                while self.peek()? != b'e' {
                    let key = self.bytes()?;
                    if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                        return self.fail("dictionary keys are not in order");
                    }
                    let value = self.value(depth + 1)?;
                    entries.insert(key, value);
                }
                self.position += 1;
                Ok(Value::Dict(entries))
            }
            _ => self.bytes().map(Value::Bytes),
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>, BencodeError> {
        let length = usize::try_from(self.digits(b':', false)?).ok();
        let end = length.and_then(|length| self.position.checked_add(length));
        let Some(bytes) = end.and_then(|end| self.input.get(self.position..end)) else {
            return self.fail("a string is longer than the input");
        };
        self.position += bytes.len();
        Ok(bytes.to_vec())
    }

    fn digits(&mut self, end: u8, signed: bool) -> Result<i64, BencodeError> {
        let start = self.position;
        while self.peek()? != end {
            self.position += 1;
            if self.position - start > 20 {
                return self.fail("a number is too long");
            }
        }
        let text = std::str::from_utf8(&self.input[start..self.position]).unwrap_or_default();
        let number = text.parse().ok().filter(|n: &i64| n.to_string() == text && (signed || *n >= 0));
        let Some(number) = number else { return self.fail("expected a number") };
        self.position += 1;
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..6), inner, 0..6)
                    .prop_map(Value::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_encoded_value_decodes_to_itself(value in values()) {
            prop_assert_eq!(Value::decode(&value.encode()), Ok(value));
        }

        #[test]
        fn no_input_panics(input in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Value::decode(&input);
            let _ = Value::decode_shallow(&input);
        }
    }

    #[test]
    fn only_canonical_bencode_is_decoded() {
        for bad in [
            "",
            "i03e",
            "i-0e",
            "i1",
            "ie",
            "5:abc",
            "-1:a",
            "d1:bi1e1:ai1ee",
            "d1:ai1e1:ai2ee",
            "i1ei2e",
            "l",
            "99999999999999999999:",
        ] {
            assert!(Value::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Value::decode(&[b'l'; 100_000]).is_err());
    }
}
