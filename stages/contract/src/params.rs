//! Reading a stage's parameters from TOML with every mistake placed, not only the first.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::ports::External;

/// A mistake in a stage's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// Where, as bytes of the pipeline file.
    pub span: Option<Range<usize>>,
    /// What to do.
    pub help: Option<String>,
}

/// A complaint about the value of a parameter, found after all of them could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The parameter's name.
    pub param: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Complaint {
    /// A complaint without help.
    pub fn new(param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param,
            message: message.into(),
            help: None,
        }
    }
}

/// The outcome of reading parameters.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The resolved parameters, defaults filled in; present when `problems` is empty.
    pub params: Option<serde_json::Value>,
    /// What follows from them; empty without them.
    pub facts: Facts,
    /// Every mistake.
    pub problems: Vec<Problem>,
}

/// What a kind says of a stage with given parameters.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The files outside the store that it reads.
    pub externals: Vec<External>,
    /// The outputs that it writes.
    pub writes: Vec<&'static str>,
}

/// Reads `table` as `P`: unknown names and every value of a wrong type are reported together.
///
/// Serde stops at the first error. So the offending entry is taken out and the rest read again until
/// nothing is left to complain about; a required parameter that was itself taken out is not also
/// reported as missing.
pub(crate) fn read<P: DeserializeOwned + Serialize>(
    table: Spanned<DeTable<'_>>,
    names: &[String],
    check: impl Fn(&P) -> Vec<Complaint>,
    facts: impl Fn(&P) -> Facts,
) -> Parsed {
    let whole = table.span();
    let mut table = table.into_inner();
    let mut problems = Vec::new();
    let unknown: Vec<_> = table
        .keys()
        .filter(|k| !names.iter().any(|n| n == k.get_ref()))
        .cloned()
        .collect();
    for key in unknown {
        problems.push(unknown_name(&key, names));
        table.remove(&key);
    }
    let none = |problems| Parsed {
        params: None,
        facts: Facts::default(),
        problems,
    };
    let mut taken_out = Vec::new();
    loop {
        let value = Spanned::new(whole.clone(), DeValue::Table(table.clone()));
        match P::deserialize(toml::de::ValueDeserializer::from(value)) {
            Ok(params) => {
                let complaints = check(&params).into_iter();
                problems.extend(complaints.map(|c| place(c, &table, &whole)));
                if !problems.is_empty() {
                    return none(problems);
                }
                return match serde_json::to_value(&params) {
                    Ok(resolved) => Parsed {
                        params: Some(resolved),
                        facts: facts(&params),
                        problems,
                    },
                    Err(e) => none(vec![Problem {
                        message: format!("these parameters cannot be stored: {e}"),
                        span: Some(whole),
                        help: None,
                    }]),
                };
            }
            Err(e) => {
                let culprit = e.span().and_then(|s| {
                    table
                        .iter()
                        .find(|(_, v)| v.span().start <= s.start && s.end <= v.span().end)
                        .map(|(k, _)| k.clone())
                });
                let about_removed = taken_out
                    .iter()
                    .any(|n: &String| e.message().contains(&format!("`{n}`")));
                if culprit.is_some() || !about_removed {
                    problems.push(Problem {
                        message: e.message().trim_end().to_owned(),
                        span: e.span().or_else(|| Some(whole.clone())),
                        help: None,
                    });
                }
                let Some(key) = culprit else {
                    return none(problems);
                };
                taken_out.push(key.get_ref().to_string());
                table.remove(&key);
            }
        }
    }
}

/// The JSON schema of a parameter struct, doc comments included.
pub(crate) fn schema<P: JsonSchema>() -> serde_json::Value {
    schemars::schema_for!(P).to_value()
}

/// The names of the parameters of a struct.
pub(crate) fn names_of<P: JsonSchema>() -> Vec<String> {
    schema::<P>()
        .get("properties")
        .and_then(|p| p.as_object())
        .map(|p| p.keys().cloned().collect())
        .unwrap_or_default()
}

fn place(c: Complaint, table: &DeTable<'_>, whole: &Range<usize>) -> Problem {
    let span = table
        .get(c.param)
        .map_or_else(|| whole.clone(), Spanned::span);
    Problem {
        message: format!("`{}`: {}", c.param, c.message),
        span: Some(span),
        help: c.help,
    }
}

fn unknown_name(key: &Spanned<toml::de::DeString<'_>>, names: &[String]) -> Problem {
    let name = key.get_ref();
    let help = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "this kind has no parameters".to_owned(),
        None => format!("known parameters: {}", names.join(", ")),
    };
    Problem {
        message: format!("unknown parameter `{name}`"),
        span: Some(key.span()),
        help: Some(help),
    }
}

/// The candidate closest to `name`, if it is close enough to be what was meant.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .map(|c| (edit_distance(name, c), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Params {
        updates: u32,
        #[serde(default)]
        lr: f64,
        #[serde(default)]
        name: String,
    }

    fn parse(text: &str) -> Parsed {
        let table = DeTable::parse(text).expect("valid TOML");
        let check = |p: &Params| {
            if p.lr < 0.0 {
                vec![Complaint::new("lr", "must not be negative")]
            } else {
                vec![]
            }
        };
        read::<Params>(table, &names_of::<Params>(), check, |_| Facts::default())
    }

    #[test]
    fn defaults_are_filled_in() {
        let parsed = parse("updates = 3");
        assert_eq!(
            parsed.params.expect("no problems"),
            serde_json::json!({"updates": 3, "lr": 0.0, "name": ""})
        );
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let text = "updates = \"x\"\nlr = true\nnmae = 1\n";
        let parsed = parse(text);
        assert!(parsed.params.is_none());
        let places: Vec<&str> = parsed
            .problems
            .iter()
            .map(|p| &text[p.span.clone().expect("placed")])
            .collect();
        assert_eq!(places.len(), 3, "{:?}", parsed.problems);
        for place in ["\"x\"", "true", "nmae"] {
            assert!(places.contains(&place), "{place} missing in {places:?}");
        }
        assert!(
            parsed
                .problems
                .iter()
                .any(|p| p.help.as_deref() == Some("did you mean `name`?"))
        );
    }

    #[test]
    fn a_missing_parameter_is_named() {
        let parsed = parse("lr = 0.5");
        assert!(
            parsed.problems[0].message.contains("updates"),
            "{:?}",
            parsed.problems
        );
    }

    #[test]
    fn a_check_points_at_its_parameter() {
        let text = "updates = 1\nlr = -2.0";
        let parsed = parse(text);
        assert_eq!(
            &text[parsed.problems[0].span.clone().expect("placed")],
            "-2.0"
        );
    }

    #[test]
    fn nearest_wants_closeness() {
        assert_eq!(
            nearest("teachr", ["teacher", "student"].into_iter()),
            Some("teacher")
        );
        assert_eq!(nearest("x", ["teacher"].into_iter()), None);
    }
}
