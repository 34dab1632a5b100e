//! Action keys: which two actions are the same action.
//!
//! | part                        | in the key | why                                                                  |
//! |-----------------------------|------------|----------------------------------------------------------------------|
//! | kind and its version        | yes        | the code that makes the bytes; the version rises when they change    |
//! | resolved parameters         | yes        | defaults written out, so that stating a default changes nothing      |
//! | seed, dtype, data order     | yes        | they are parameters, and change bytes                                |
//! | input digests, by port      | yes        | content, not origin: a rerun with the same bytes is an early cut-off |
//! | names of a port's inputs    | yes        | where a port takes several, they label rows of the output            |
//! | digest of an outside file   | yes        | as a parameter; the pin and the file it pins are the same thing      |
//! | path of an outside file     | no         | moving a folder must not re-run anything                             |
//! | stage and arm names         | no         | renaming a stage is not an experiment; arms share their prefix       |
//! | upstream keys               | no         | two ways to the same bytes are equally good                          |
//! | device, threads             | no         | recorded as the *numerics class*, see [`crate::ActionRecord`]        |
//! | shards                      | no         | they only group chunks into processes; a chunk's key has the digest of its rows in place of all rows |
//! | secrets, names and values   | no         | they open doors and must never be found in a store                   |
//! | neutral parameters          | no         | the kind declares them: log interval, snapshot interval              |
//! | where to stop               | yes        | other bytes come out; but not in the key that snapshots are found by |
//! | time limit, retries, budget | no         | they decide whether bytes come, not which                            |
//! | times, hosts, users, paths  | no         | recorded beside the artifact                                         |
//! | attempt                     | no         | the first attempt to finish wins                                     |
//! | version of the program      | no         | releases would empty every store; the kind's version says it exactly |
//!
//! [`KeyFields::walk`] is the only way through the fields. It feeds the digester that makes the key and the writer
//! that explains it, so that a key and its explanation cannot disagree. The digested form is the text
//! `starling action key 1`, then each field's path and value as [`crate::canonical`] strings and values. A path
//! determines its place (segments that are not plain words are quoted) and an empty map or list is a field of its
//! own, so two different sets of fields are two different byte strings.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, ParseDigestError, canonical};

/// What begins every digested key; a change of the rules above changes it.
const DOMAIN: &[u8] = b"starling action key 1";

/// The digest that names an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionKey(pub Digest);

impl ActionKey {
    /// The first six hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ActionKey {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One input of an action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyInput {
    /// The port it enters through.
    pub port: String,
    /// Its name, where the port takes several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The digest of its content.
    pub digest: Digest,
}

/// All that an action key is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFields {
    /// The kind of the stage.
    pub kind: String,
    /// The kind's version.
    pub version: u32,
    /// The resolved parameters, without the neutral ones.
    pub params: Value,
    /// The inputs; their order here does not matter.
    pub inputs: Vec<KeyInput>,
}

/// Takes the fields of a key one by one.
pub trait FieldSink {
    /// Takes a field: its dotted path (`params.tail.coefficient`) and its value, a scalar or an empty map or list.
    fn field(&mut self, path: &str, value: &Value);
}

impl KeyFields {
    /// Puts the fields together, inputs in order of port and name.
    #[must_use]
    pub fn new(
        kind: impl Into<String>,
        version: u32,
        params: Value,
        mut inputs: Vec<KeyInput>,
    ) -> Self {
        inputs.sort_unstable();
        Self {
            kind: kind.into(),
            version,
            params,
            inputs,
        }
    }

    /// The same fields without some parameters.
    #[must_use]
    pub fn without(&self, params: &[&str]) -> Self {
        let mut fields = self.clone();
        if let Some(map) = fields.params.as_object_mut() {
            map.retain(|name, _| !params.contains(&name.as_str()));
        }
        fields
    }

    /// Visits every field, always in the same order.
    pub fn walk(&self, sink: &mut dyn FieldSink) {
        sink.field("kind", &Value::from(self.kind.as_str()));
        sink.field("version", &Value::from(self.version));
        walk_value(&mut String::from("params"), &self.params, sink);
        let mut inputs: Vec<_> = self.inputs.iter().collect();
        inputs.sort_unstable();
        for input in inputs {
            let mut path = String::from("inputs");
            push_segment(&mut path, &input.port);
            if let Some(name) = &input.name {
                push_segment(&mut path, name);
            }
            sink.field(&path, &Value::from(input.digest.to_string()));
        }
    }

    /// The key: the digest of all fields.
    #[must_use]
    pub fn action_key(&self) -> ActionKey {
        let mut sink = DigestSink(DOMAIN.to_vec());
        self.walk(&mut sink);
        ActionKey(Digest::of(&sink.0))
    }

    /// The fields as text, by path; values as JSON.
    #[must_use]
    pub fn lines(&self) -> BTreeMap<String, String> {
        let mut sink = TextSink(BTreeMap::new());
        self.walk(&mut sink);
        sink.0
    }
}

/// Gathers all bytes first: a digest of many small pieces takes several times as long.
struct DigestSink(Vec<u8>);

impl FieldSink for DigestSink {
    fn field(&mut self, path: &str, value: &Value) {
        canonical::write_str(path, &mut self.0)
            .and_then(|()| canonical::write(value, &mut self.0))
            .expect("writing to memory cannot fail");
    }
}

struct TextSink(BTreeMap<String, String>);

impl FieldSink for TextSink {
    fn field(&mut self, path: &str, value: &Value) {
        let text = value.to_string();
        self.0
            .entry(path.to_owned())
            // Two inputs of one port and name: no pipeline has them, and still nothing may be hidden.
            .and_modify(|known| *known = format!("{known}, {text}"))
            .or_insert(text);
    }
}

fn walk_value(path: &mut String, value: &Value, sink: &mut dyn FieldSink) {
    let length = path.len();
    match value {
        Value::Object(map) if !map.is_empty() => {
            // The order of the map itself depends on a feature of `serde_json` that any crate may switch on.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                push_segment(path, key);
                walk_value(path, value, sink);
                path.truncate(length);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (index, value) in list.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk_value(path, value, sink);
                path.truncate(length);
            }
        }
        leaf => sink.field(path, leaf),
    }
}

/// Appends a dot and the segment, quoted as in TOML where it is not a bare word.
fn push_segment(path: &mut String, segment: &str) {
    path.push('.');
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !segment.is_empty() && segment.chars().all(bare) {
        path.push_str(segment);
    } else {
        path.push_str(&Value::from(segment).to_string());
    }
}

/// A field that differs between two sets of fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Its dotted path.
    pub path: String,
    /// Its old value as JSON; none when it is new.
    pub old: Option<String>,
    /// Its new value as JSON; none when it is gone.
    pub new: Option<String>,
}

/// The fields that differ, in order of their paths; none exactly when the keys are equal.
#[must_use]
pub fn diff(old: &KeyFields, new: &KeyFields) -> Vec<FieldChange> {
    let (mut old, mut changes) = (old.lines(), Vec::new());
    for (path, value) in new.lines() {
        let before = old.remove(&path);
        if before.as_ref() != Some(&value) {
            changes.push(FieldChange {
                path,
                old: before,
                new: Some(value),
            });
        }
    }
    changes.extend(old.into_iter().map(|(path, value)| FieldChange {
        path,
        old: Some(value),
        new: None,
    }));
    changes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::canonical::tests::any_value;

    fn input(port: &str, name: Option<&str>, content: &str) -> KeyInput {
        let digest = Digest::of(content.as_bytes());
        KeyInput {
            port: port.into(),
            name: name.map(Into::into),
            digest,
        }
    }

    fn distill() -> KeyFields {
        let params = json!({"tail": {"coefficient": 0.5}, "k": 64, "stop": [], "seed": 7});
        let inputs = vec![
            input("student", None, "s"),
            input("arms", Some("base"), "b"),
            input("arms", Some("sft 2"), "c"),
        ];
        KeyFields::new("distill", 3, params, inputs)
    }

    #[test]
    fn the_explanation_names_every_field() {
        let digest = |content: &str| format!("\"{}\"", Digest::of(content.as_bytes()));
        let expected = BTreeMap::from([
            ("kind".to_owned(), "\"distill\"".to_owned()),
            ("version".to_owned(), "3".to_owned()),
            ("params.k".to_owned(), "64".to_owned()),
            ("params.seed".to_owned(), "7".to_owned()),
            ("params.stop".to_owned(), "[]".to_owned()),
            ("params.tail.coefficient".to_owned(), "0.5".to_owned()),
            ("inputs.arms.base".to_owned(), digest("b")),
            ("inputs.arms.\"sft 2\"".to_owned(), digest("c")),
            ("inputs.student".to_owned(), digest("s")),
        ]);
        assert_eq!(distill().lines(), expected);
    }

    /// The literal was made by an independent implementation of the header (Python's `struct` and `hashlib`).
    #[test]
    fn a_literal_key_is_pinned() {
        assert_eq!(distill().action_key().to_string(), PINNED);
    }
    const PINNED: &str = "7c9c893ba6791047aa1a7dfc20fb42be147480b00a049aaff6a4532a9b39d233";

    #[test]
    fn each_field_reaches_the_key_and_the_difference() {
        type Change = (&'static str, fn(&mut KeyFields));
        let changes: [Change; 8] = [
            ("kind", |f| f.kind = "sft".into()),
            ("version", |f| f.version = 4),
            ("params.k", |f| f.params["k"] = json!(64.0)),
            ("params.tail.coefficient", |f| {
                f.params["tail"]["coefficient"] = json!(0.25);
            }),
            ("params.stop", |f| f.params["stop"] = json!({})),
            ("params.new", |f| f.params["new"] = json!(null)),
            ("inputs.student", |f| {
                f.inputs[2].digest = Digest::of(b"other");
            }),
            ("inputs.arms.base", |f| {
                f.inputs[0].name = Some("bass".into());
            }),
        ];
        for (path, change) in changes {
            let mut changed = distill();
            change(&mut changed);
            assert_ne!(changed.action_key(), distill().action_key(), "{path}");
            assert!(
                diff(&distill(), &changed).iter().any(|c| c.path == path),
                "{path}"
            );
        }
    }

    #[test]
    fn a_difference_has_both_values() {
        let mut changed = distill();
        changed.params["k"] = json!(32);
        changed.params.as_object_mut().unwrap().remove("seed");
        let change = |path: &str, old: Option<&str>, new: Option<&str>| FieldChange {
            path: path.into(),
            old: old.map(Into::into),
            new: new.map(Into::into),
        };
        assert_eq!(
            diff(&distill(), &changed),
            [
                change("params.k", Some("64"), Some("32")),
                change("params.seed", Some("7"), None)
            ]
        );
    }

    #[test]
    fn order_of_writing_does_not_matter() {
        let mut other = distill();
        other.inputs.reverse();
        other.params = json!({"seed": 7, "stop": [], "k": 64, "tail": {"coefficient": 0.5}});
        assert_eq!(other.action_key(), distill().action_key());
        assert_eq!(diff(&distill(), &other), []);
    }

    #[test]
    fn names_that_look_like_paths_do_not_collide() {
        let of = |params: Value| KeyFields::new("k", 1, params, vec![]).action_key();
        assert_ne!(of(json!({"a.b": 1})), of(json!({"a": {"b": 1}})));
        assert_ne!(of(json!({"a[0]": 1})), of(json!({"a": [1]})));
        assert_ne!(of(json!({"a": {"0": 1}})), of(json!({"a": [1]})));
        assert_ne!(of(json!({"a": {}})), of(json!({})));
        assert_ne!(of(json!({"\"a\"": 1})), of(json!({"a": 1})));
    }

    #[test]
    fn json_keeps_the_key() {
        let text = serde_json::to_string(&distill()).unwrap();
        let back: KeyFields = serde_json::from_str(&text).unwrap();
        assert_eq!(back.action_key(), distill().action_key());
    }

    proptest! {
        /// A value is replaced by another somewhere, or two values are just compared: the key, the lines and the
        /// values agree on whether anything differs.
        #[test]
        fn keys_differ_exactly_when_fields_do(a in any_value(), b in any_value()) {
            let fields = |params: &Value| KeyFields::new("k", 1, params.clone(), vec![]);
            let same = canonical::encode(&a) == canonical::encode(&b);
            prop_assert_eq!(fields(&a).action_key() == fields(&b).action_key(), same);
            prop_assert_eq!(diff(&fields(&a), &fields(&b)).is_empty(), same);
            prop_assert_eq!(fields(&a).lines() == fields(&b).lines(), same);
        }

        #[test]
        fn any_key_survives_json(params in any_value()) {
            let fields = KeyFields::new("k", 1, params, vec![]);
            let back: KeyFields =
                serde_json::from_slice(&serde_json::to_vec(&fields).unwrap()).unwrap();
            prop_assert_eq!(back.action_key(), fields.action_key());
        }
    }
}
