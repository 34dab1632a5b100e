//! Canonical encoding: one byte string for each JSON value, and never the same for two.
//!
//! Digests of specs and keys are taken of these bytes, so the rules below are fixed; a change would orphan every
//! store. A value is a tag byte, then:
//!
//! | value   | tag | rest                                                                        |
//! |---------|-----|-----------------------------------------------------------------------------|
//! | null    | `n` | nothing                                                                     |
//! | false   | `f` | nothing                                                                     |
//! | true    | `t` | nothing                                                                     |
//! | integer | `i` | 16 bytes, two's complement, most significant first                          |
//! | float   | `d` | 8 bytes, the bits of the `f64`, most significant first                      |
//! | string  | `s` | length, then its UTF-8 bytes                                                |
//! | list    | `l` | length, then each value                                                     |
//! | map     | `m` | length, then for each key in the order of its bytes: key (as a string), value |
//!
//! A length is 8 bytes, most significant first, counting bytes of a string, values of a list, keys of a map. So
//! `1` and `1.0` differ, and so do `0.0` and `-0.0`; the order in which a map was written does not matter. Because
//! every part is of known length or says its length first, two different values cannot share an encoding.

use std::io::{self, Write};

use serde_json::{Number, Value};

use crate::{Digest, Digester};

/// Encodes a value; see the module for the rules.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes).expect("writing to memory cannot fail");
    bytes
}

/// Digests a value's encoding without building it.
#[must_use]
pub fn digest(value: &Value) -> Digest {
    let mut digester = Digester::new();
    write(value, &mut digester).expect("a digester takes all bytes");
    digester.digest()
}

/// Writes a value's encoding.
///
/// # Errors
/// The writer's own.
pub fn write(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    match value {
        Value::Null => out.write_all(b"n"),
        Value::Bool(false) => out.write_all(b"f"),
        Value::Bool(true) => out.write_all(b"t"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_str(text, out),
        Value::Array(list) => {
            out.write_all(b"l")?;
            write_length(list.len(), out)?;
            list.iter().try_for_each(|value| write(value, out))
        }
        Value::Object(map) => {
            out.write_all(b"m")?;
            write_length(map.len(), out)?;
            // The order of the map itself depends on a feature of `serde_json` that any crate may switch on.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            entries.into_iter().try_for_each(|(key, value)| {
                write_str(key, out)?;
                write(value, out)
            })
        }
    }
}

fn write_number(number: &Number, out: &mut dyn Write) -> io::Result<()> {
    if let Some(integer) = number.as_i128() {
        out.write_all(b"i")?;
        out.write_all(&integer.to_be_bytes())
    } else {
        let float = number
            .as_f64()
            .expect("a JSON number is an integer or a float");
        out.write_all(b"d")?;
        out.write_all(&float.to_bits().to_be_bytes())
    }
}

pub(crate) fn write_str(text: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"s")?;
    write_length(text.len(), out)?;
    out.write_all(text.as_bytes())
}

fn write_length(length: usize, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&(length as u64).to_be_bytes())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_encoding_is_written_out() {
        let value = json!({"b": [null, true], "a": -2});
        let mut expected = b"m\0\0\0\0\0\0\0\x02".to_vec();
        expected.extend(b"s\0\0\0\0\0\0\0\x01ai");
        expected.extend([0xff; 15]);
        expected.extend(b"\xfe");
        expected.extend(b"s\0\0\0\0\0\0\0\x01bl\0\0\0\0\0\0\0\x02nt");
        assert_eq!(encode(&value), expected);
    }

    /// The literal was made by an independent implementation of the table above (Python's `struct` and `hashlib`).
    #[test]
    fn a_literal_digest_is_pinned() {
        let value = json!({
            "kind": "distill", "lr": 3e-4, "k": 64, "tail": {"on": true, "weight": 1.0},
            "names": ["ü", ""], "none": null, "big": u64::MAX, "low": i64::MIN,
        });
        assert_eq!(digest(&value).to_string(), PINNED);
    }
    const PINNED: &str = "c171e827702b3cbc4303046286627829abd4c1ed2f6d6b291cd63e685e097761";

    #[test]
    fn near_values_differ() {
        let values = [
            json!(1),
            json!(1.0),
            json!("1"),
            json!(true),
            json!(null),
            json!([]),
            json!({}),
            json!(""),
            json!(0.0),
            json!(-0.0),
            json!(0),
            json!([[]]),
            json!([[], []]),
            json!({"a": {}}),
            json!({"": "a"}),
            json!({"a": ""}),
            json!(["a", "b"]),
            json!(["ab"]),
            json!(["ab", ""]),
            json!(u64::MAX),
            json!(-1),
        ];
        for (i, a) in values.iter().enumerate() {
            for b in &values[..i] {
                assert_ne!(encode(a), encode(b), "{a} and {b}");
            }
        }
    }

    /// JSON values with small alphabets, so that near misses are frequent.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2_i64..3).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-2_i32..3).prop_map(|i| Value::from(f64::from(i))),
            any::<f64>()
                .prop_filter("JSON has no NaN", |f| f.is_finite())
                .prop_map(Value::from),
            "[ab.\"\\[\\]ü]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab.]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Reads an encoding back; that this is possible at all shows that no two values share one.
    fn decode(bytes: &mut &[u8]) -> Value {
        fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
            let (head, tail) = bytes.split_at(n);
            *bytes = tail;
            head
        }
        fn length(bytes: &mut &[u8]) -> usize {
            u64::from_be_bytes(take(bytes, 8).try_into().unwrap()) as usize
        }
        match take(bytes, 1)[0] {
            b'n' => Value::Null,
            b'f' => Value::Bool(false),
            b't' => Value::Bool(true),
            b'i' => {
                let integer = i128::from_be_bytes(take(bytes, 16).try_into().unwrap());
                i64::try_from(integer).map_or_else(
                    |_| Value::from(u64::try_from(integer).unwrap()),
                    Value::from,
                )
            }
            b'd' => Value::from(f64::from_bits(u64::from_be_bytes(
                take(bytes, 8).try_into().unwrap(),
            ))),
            b's' => {
                let n = length(bytes);
                Value::from(String::from_utf8(take(bytes, n).to_vec()).unwrap())
            }
            b'l' => {
                let n = length(bytes);
                (0..n).map(|_| decode(bytes)).collect()
            }
            b'm' => {
                let n = length(bytes);
                (0..n)
                    .map(|_| {
                        let key = decode(bytes).as_str().unwrap().to_owned();
                        (key, decode(bytes))
                    })
                    .collect()
            }
            tag => panic!("tag {tag}"),
        }
    }

    proptest! {
        #[test]
        fn encoding_is_injective(value in any_value()) {
            let bytes = encode(&value);
            let mut rest = &bytes[..];
            prop_assert_eq!(&decode(&mut rest), &value);
            prop_assert!(rest.is_empty());
            prop_assert_eq!(digest(&value), Digest::of(&bytes));
        }
    }
}
