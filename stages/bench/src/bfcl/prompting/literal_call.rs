//! One call in the syntax of Java or JavaScript, its arguments as source texts.
//!
//! As in the package, the text is parsed by the whole grammar of its language and refused where the tree holds an
//! error; a token that the parser supplies is no error. Texts that no model writes can cost the parser time and
//! memory by the square of their length: there are limits, counted in steps, behind which a text is refused.
//!
//! The JavaScript grammar is the release behind the package's, which cannot be built here. Two rare
//! forms are read otherwise: `import` before a dot, and templates where the arguments of a call may stand.

mod java;
mod javascript;
mod source;

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

use starling_text::json::Value;
use tree_sitter::{LanguageError, Node, Parser, Tree};

use super::NAMELESS;
use crate::bfcl::calls::{Arguments, DecodedCall};
use crate::bfcl::category::Language;
use crate::bfcl::output::Undecodable;

/// Bytes beyond which a text is refused; a completion of the package has at most 4,096 tokens.
const MAX_LENGTH: usize = 1 << 16;

/// Signs `<` beyond which a text in Java is refused: each can begin a comparison or type arguments, and the parser
/// keeps both ways for all of them at once.
const MAX_LESS: usize = 1000;

/// Steps beyond which a text is refused; a call takes some six to a byte.
const MAX_STEPS: usize = 1 << 19;

/// Steps that an error counts for. The parser drops a way to read the text when it is some twenty errors behind
/// another, so that none without errors is left when errors alone have reached the limit.
const ERROR_STEPS: usize = 1 << 10;

/// How the parser's journal names what it does about errors.
const ERRORS: [&str; 4] = [
    "skip_token",
    "select_smaller_error",
    "detect_error",
    "recover",
];

/// Bytes the parser is given at a time.
const CHUNK: usize = 256;

/// Reads a call; none when there is no call in the text.
pub(super) fn read(
    text: &str,
    language: Language,
) -> Result<Option<DecodedCall<'static>>, Undecodable> {
    let tree = parse(text, language)?;
    match language {
        Language::JavaScript => javascript::call(tree.root_node(), text),
        _ => java::call(tree.root_node(), text),
    }
}

/// The tree of a text without errors.
fn parse(text: &str, language: Language) -> Result<Tree, Undecodable> {
    let signs = || memchr::memchr_iter(b'<', text.as_bytes()).count();
    if text.len() > MAX_LENGTH || (language == Language::Java && signs() > MAX_LESS) {
        return Err(Undecodable);
    }
    let mut parser = parser(language).map_err(|_| Undecodable)?;
    let steps = Rc::new(Cell::new(0));
    let counted = Rc::clone(&steps);
    parser.set_logger(Some(Box::new(move |_, message| {
        let is_error = ERRORS.iter().any(|name| message.starts_with(name));
        counted.set(counted.get() + if is_error { ERROR_STEPS } else { 1 });
    })));
    let mut chunk = |start: usize, _| {
        // Whole characters: the rest of one would be asked for again.
        let rest = text.get(start..).unwrap_or_default();
        match steps.get() > MAX_STEPS {
            true => "",
            false => &rest[..rest.floor_char_boundary(CHUNK)],
        }
    };
    let tree = parser.parse_with(&mut chunk, None).ok_or(Undecodable)?;
    match steps.get() > MAX_STEPS || holds_error(&tree) {
        true => Err(Undecodable),
        false => Ok(tree),
    }
}

fn parser(language: Language) -> Result<Parser, LanguageError> {
    let mut parser = Parser::new();
    parser.set_language(&match language {
        Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
        _ => tree_sitter_java::language(),
    })?;
    Ok(parser)
}

/// Whether a node of the tree is an error; of a supplied token the tree says that it has an error, too.
fn holds_error(tree: &Tree) -> bool {
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        if node.is_error() {
            return true;
        }
        if node.has_error() && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return false;
            }
        }
    }
}

/// The children of a node, tokens and comments included.
fn children<'tree>(node: Node<'tree>) -> impl Iterator<Item = Node<'tree>> {
    let mut cursor = node.walk();
    let mut is_at_child = cursor.goto_first_child();
    std::iter::from_fn(move || {
        let child = is_at_child.then(|| cursor.node());
        is_at_child = is_at_child && cursor.goto_next_sibling();
        child
    })
}

/// Arguments as they are met.
#[derive(Default)]
struct Given(Vec<(Cow<'static, str>, Value)>);

impl Given {
    fn named(&mut self, name: String, value: String) {
        self.0.push((Cow::Owned(name), Value::Str(value)));
    }

    fn nameless(&mut self, value: String) {
        self.named(NAMELESS.to_owned(), value);
    }

    /// The call; an argument that is given twice is refused.
    fn call(self, name: String) -> Result<DecodedCall<'static>, Undecodable> {
        let given = self.0.len();
        let arguments: Arguments<'static> = self.0.into_iter().collect();
        match arguments.len() == given {
            true => Ok(DecodedCall {
                name: Some(Cow::Owned(name)),
                arguments,
            }),
            false => Err(Undecodable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str, language: Language) -> Option<(String, Vec<(String, String)>)> {
        let call = read(text, language).ok()??;
        let argument = |(name, value): (&str, &Value)| {
            (name.to_owned(), value.as_str().expect("a text").to_owned())
        };
        let arguments = call.arguments.iter().map(argument).collect();
        Some((call.name?.into_owned(), arguments))
    }

    /// Expected values are what the package answers.
    #[test]
    fn arguments_are_what_the_package_reads() {
        for (language, text, name, expected) in [
            (
                Language::Java,
                "a.b.f(x=1, y=\"s, t\", z='c')",
                "a.b.f",
                vec![("x", "1"), ("y", "s, t"), ("z", "c")],
            ),
            (
                Language::Java,
                "f(l = new ArrayList<>(Arrays.asList(\"a\", \"b\")), m = new HashMap<String, Integer>() {{ put(\"a\", 1); }})",
                "f",
                vec![
                    ("l", "new ArrayList<>(Arrays.asList(\"a\", \"b\"))"),
                    ("m", "new HashMap<String,Integer>()"),
                ],
            ),
            (
                Language::Java,
                "f(a=new int[] {1, 2}, b=-5, c=true, d=x)",
                "f",
                vec![
                    ("a", "new int[]{1,2}"),
                    ("b", "-5"),
                    ("c", "true"),
                    ("d", "x"),
                ],
            ),
            // A semicolon that is not there is supplied, where that is the cheapest way out.
            (Language::Java, "f(a=1);", "f", vec![("a", "1")]),
            (
                Language::Java,
                "f(a=new int[]{1})",
                "f",
                vec![("a", "new int[]{1}")],
            ),
            // Bytes are taken for characters.
            (
                Language::Java,
                "f(ä=1,b=\"x\")",
                "f",
                vec![("ä=", ","), ("=", "\"")],
            ),
            (
                Language::JavaScript,
                "f(a={k: 1, l: [2]}, b='x', c=[1, 2], d=5n)",
                "f",
                vec![
                    ("a", "{k: 1, l: [2]}"),
                    ("b", "x"),
                    ("c", "[1, 2]"),
                    ("d", "5n"),
                ],
            ),
            (Language::JavaScript, "f()", "f", vec![]),
            (
                Language::JavaScript,
                "f(ä=1, b=true, true)",
                "f",
                vec![("ä", "1"), ("b", "true"), ("\0", "true")],
            ),
            (
                Language::JavaScript,
                "f(a=\"x\"+'y', b=\"x\"+\"y\")",
                "f",
                vec![("a", "\"x\"+'y'"), ("b", "x\"+\"y")],
            ),
        ] {
            let expected = expected
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(
                arguments(text, language),
                Some((name.to_owned(), expected)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_call_is_none() {
        for text in [
            "f)",
            "f(a=\"x)",
            "1f()",
            "f(a=1, a=2)",
            "f(a=1) g",
            "f(a=[)]",
            "f(a=1",
        ] {
            assert!(read(text, Language::Java).is_err(), "{text}");
            assert!(read(text, Language::JavaScript).is_err(), "{text}");
        }
        for (text, language) in [
            (" ", Language::Java),
            ("a = 1;", Language::Java),
            (" ", Language::JavaScript),
            ("f(a=1), g(b=2)", Language::JavaScript),
        ] {
            assert!(matches!(read(text, language), Ok(None)), "{text}");
        }
        assert!(read("f(a=1), g(b=2)", Language::Java).is_err());
        assert!(read("f(a=1)", Language::Java).is_err());
    }

    #[test]
    fn hostile_texts_get_an_answer() {
        let mut answers = 0;
        for unit in [
            "(",
            "[",
            "{",
            "\"",
            "A<",
            "é∂",
            "a<b>(c) ",
            "f(a=1) ",
            "I cannot. ",
            "new A(",
        ] {
            for language in [Language::Java, Language::JavaScript] {
                for length in [10_000, MAX_LENGTH - 4, MAX_LENGTH + 1] {
                    let text = unit.repeat(length / unit.len() + 1);
                    answers += usize::from(read(&text, language).is_err());
                }
            }
        }
        assert!(answers >= 40, "{answers}");
        for depth in [10, 100, 10_000] {
            let deep = format!("f(a={}1{})", "new A(".repeat(depth), ")".repeat(depth));
            assert_eq!(read(&deep, Language::Java).is_ok(), depth < 1000);
        }
    }
}
