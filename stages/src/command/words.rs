//! Placeholders in the words of a command: `{in.NAME}`, `{out.PORT}`, `{script}`, `{threads}`.

/// What stands between braces.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text as it is.
    Text(&'a str),
    /// A name between braces.
    Name(&'a str),
}

/// The pieces of a word; none when a brace has no partner.
pub(super) fn pieces(word: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find(['{', '}']) {
        if at > 0 {
            pieces.push(Piece::Text(&rest[..at]));
        }
        let (brace, after) = rest[at..].split_at(1);
        if after.starts_with(brace) {
            pieces.push(Piece::Text(brace));
            rest = &after[1..];
        } else if brace == "{" {
            let (name, after) = after.split_once('}')?;
            if name.contains('{') {
                return None;
            }
            pieces.push(Piece::Name(name));
            rest = after;
        } else {
            return None;
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Some(pieces)
}

/// What is wrong with a word, as far as the parameters can tell; inputs are not known here.
pub(super) fn mistakes(word: &str, has_script: bool, outputs: &[String]) -> Vec<String> {
    let Some(pieces) = pieces(word) else {
        return vec!["has a brace without a partner; write `{{` or `}}` for a brace".to_owned()];
    };
    let names = pieces.iter().filter_map(|piece| match piece {
        Piece::Name(name) => Some(*name),
        Piece::Text(_) => None,
    });
    let wrong = names.filter_map(|name| match name {
        "threads" => None,
        "script" if has_script => None,
        "script" => Some("names a script, and there is no `script`".to_owned()),
        _ => match name.split_once('.') {
            Some(("in", input)) if !input.is_empty() => None,
            Some(("out", port)) if outputs.iter().any(|o| o == port) => None,
            Some(("out", port)) => Some(format!("names output `{port}`, which `outputs` does not")),
            _ => Some(format!(
                "has `{{{name}}}`; known are `{{in.NAME}}`, `{{out.PORT}}`, `{{script}}` and `{{threads}}`"
            )),
        },
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_at_braces() {
        use Piece::{Name, Text};
        assert_eq!(
            pieces("a{in.x}b"),
            Some(vec![Text("a"), Name("in.x"), Text("b")])
        );
        assert_eq!(
            pieces("{{\"a\": 1}}"),
            Some(vec![Text("{"), Text("\"a\": 1"), Text("}")])
        );
        assert_eq!(pieces(""), Some(vec![]));
        for wrong in ["{", "}", "{a", "a}", "{a{b}", "{{}"] {
            assert_eq!(pieces(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn unknown_names_are_told() {
        let outputs = ["rows".to_owned()];
        let of = |word: &str| mistakes(word, false, &outputs).len();
        assert_eq!(of("{in.a} {out.rows} {threads}"), 0);
        for wrong in ["{out.report}", "{script}", "{rows}", "{in.}", "{"] {
            assert_eq!(of(wrong), 1, "{wrong}");
        }
    }
}
