//! Chat templates: the Jinja texts that turn messages and tools into a prompt.
//!
//! Rendering follows what Hugging Face's `apply_chat_template` sets up around Jinja: `trim_blocks`,
//! `lstrip_blocks`, loop controls, methods of Python's strings and dicts, a `tojson` that is `json.dumps`
//! with nothing escaped, and `raise_exception`. Whatever is printed is printed as Python's `str` prints it.
//! A template has no clock here: `strftime_now` is unknown. What a rendering may cost is bounded (`limits`).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, ValueKind};
use minijinja::{AutoEscape, Environment, Error as JinjaError, ErrorKind, Output, State};
use num_bigint::BigInt;
use thiserror::Error;

use crate::json::{self, Dumps, Map, Value};
use crate::python;

mod guard;
mod limits;

type Jinja = minijinja::Value;

const NAME: &str = "chat";
/// Its Jinja text.
pub const QWEN3: &str = include_str!("../templates/qwen3.jinja");

/// Why a template could not be read or rendered.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The template's own text is wrong.
    #[error("the chat template is not valid: {}", detail(.0))]
    Syntax(#[source] JinjaError),
    /// The template refused the conversation with `raise_exception`.
    #[error("the chat template refused the conversation: {0}")]
    Refused(String),
    /// The conversation lacks what the template uses, or holds another type there.
    #[error("the chat template could not be rendered: {}", detail(.0))]
    Render(#[source] JinjaError),
}

fn detail(error: &JinjaError) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("it takes more than {} steps", limits::STEPS);
    }
    match (error.detail(), error.line()) {
        (Some(detail), Some(line)) => format!("{detail} (line {line})"),
        (Some(detail), None) => detail.to_owned(),
        (None, _) => error.to_string(),
    }
}

/// What a template is given besides messages and tools.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Open the assistant's turn at the end.
    pub add_generation_prompt: bool,
    /// `enable_thinking`; `None` leaves the name undefined.
    pub enable_thinking: Option<bool>,
    /// Further names, which win over the ones above.
    pub extra: Map,
}

impl Options {
    /// The options of a prompt that the model is to continue.
    pub fn prompt() -> Self {
        Self {
            add_generation_prompt: true,
            ..Self::default()
        }
    }
}

/// A compiled chat template.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn from_source(source: &str) -> Result<Self, TemplateError> {
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        let syntax = syntax.map_err(TemplateError::Syntax)?;
        let source = guard::guarded(source, NAME, &syntax).map_err(TemplateError::Syntax)?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        limits::limit(&mut environment);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_formatter(print_as_python);
        environment.set_unknown_method_callback(python_method);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment
            .add_template_owned(NAME, source)
            .map_err(TemplateError::Syntax)?;
        Ok(Self { environment })
    }

    /// Qwen3's template, in the revision that reads absent and null contents as empty.
    pub fn qwen3() -> Self {
        Self::from_source(QWEN3).expect("the embedded template is compiled in a test")
    }

    /// Renders a conversation. `tools: None` is Jinja's `none`, as is an absent list in Python.
    ///
    /// # Errors
    /// [`TemplateError::Refused`] or [`TemplateError::Render`].
    pub fn render(
        &self,
        messages: &[Value],
        tools: Option<&Value>,
        options: &Options,
    ) -> Result<String, TemplateError> {
        let tools = tools.cloned().unwrap_or_default();
        let mut context = vec![
            ("messages", tree(Value::List(messages.to_vec()))),
            ("tools", tree(tools)),
            (
                "add_generation_prompt",
                options.add_generation_prompt.into(),
            ),
        ];
        if let Some(thinking) = options.enable_thinking {
            context.push(("enable_thinking", thinking.into()));
        }
        let extra = options.extra.iter();
        context.extend(extra.map(|(name, value)| (name.as_str(), tree(value.clone()))));
        let template = self
            .environment
            .get_template(NAME)
            .map_err(TemplateError::Syntax)?;
        // The engine has a few places where a template's mistake is a panic.
        let render = || template.render(Jinja::from_pairs(context));
        let rendered = catch_unwind(AssertUnwindSafe(render));
        let stopped = |_| Err(limits::refuse("the template engine cannot evaluate it"));
        rendered.unwrap_or_else(stopped).map_err(|error| {
            let refused =
                std::error::Error::source(&error).and_then(<dyn std::error::Error>::downcast_ref);
            match refused {
                Some(Refusal(message)) => TemplateError::Refused(message.clone()),
                None => TemplateError::Render(error),
            }
        })
    }
}

/// An integer too large for the template engine's own numbers.
#[derive(Debug)]
struct HugeInt(BigInt);

impl Object for HugeInt {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A list or object inside a tree that all nodes share: what a template never looks into is never converted,
/// and `tojson` writes it straight from the tree.
#[derive(Debug)]
struct Node {
    root: Arc<Value>,
    /// The child to take at each level on the way down.
    path: Vec<usize>,
}

impl Node {
    fn value(&self) -> &Value {
        let mut value: &Value = &self.root;
        for &i in &self.path {
            value = match value {
                Value::List(items) => &items[i],
                Value::Dict(map) => &map[i],
                leaf => leaf,
            };
        }
        value
    }

    fn child(&self, i: usize, value: &Value) -> Jinja {
        to_jinja(value, || {
            let path = self.path.iter().copied().chain([i]).collect();
            Self {
                root: Arc::clone(&self.root),
                path,
            }
        })
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.value() {
            Value::Dict(_) => ObjectRepr::Map,
            _ => ObjectRepr::Seq,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        match self.value() {
            Value::List(items) => {
                let i = key.as_usize()?;
                Some(self.child(i, items.get(i)?))
            }
            _ => self.get_value_by_str(key.as_str()?),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Jinja> {
        let (i, _, value) = self.value().as_dict()?.get_full(key)?;
        Some(self.child(i, value))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.value() {
            Value::List(items) => Enumerator::Seq(items.len()),
            Value::Dict(map) => {
                Enumerator::Values(map.keys().map(|name| Jinja::from(name.as_str())).collect())
            }
            _ => Enumerator::NonEnumerable,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python::str(self.value()))
    }
}

/// Hands a whole tree to the template engine.
fn tree(value: Value) -> Jinja {
    let root = Arc::new(value);
    to_jinja(&root, || Node {
        root: Arc::clone(&root),
        path: Vec::new(),
    })
}

fn to_jinja(value: &Value, node: impl FnOnce() -> Node) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(bool) => Jinja::from(*bool),
        Value::Int(int) => Jinja::from(*int),
        Value::BigInt(int) => match i128::try_from(int.as_ref()) {
            Ok(int) => Jinja::from(int),
            Err(_) => Jinja::from_object(HugeInt(int.as_ref().clone())),
        },
        Value::Float(float) => Jinja::from(*float),
        Value::Str(text) => Jinja::from(text.as_str()),
        Value::List(_) | Value::Dict(_) => Jinja::from_object(node()),
    }
}

/// Calls `use_it` with what a value of the template engine is in JSON; the value is paid for.
fn with_json<T>(
    state: &mut State<'_, '_>,
    value: &Jinja,
    use_it: impl FnOnce(&Value) -> T,
) -> Result<T, JinjaError> {
    match value.downcast_object_ref::<Node>() {
        Some(node) => {
            limits::spend_tree(state, node.value())?;
            Ok(use_it(node.value()))
        }
        None => Ok(use_it(&from_jinja(state, value)?)),
    }
}

fn from_jinja(state: &mut State<'_, '_>, value: &Jinja) -> Result<Value, JinjaError> {
    if let Some(node) = value.downcast_object_ref::<Node>() {
        limits::spend_tree(state, node.value())?;
        return Ok(node.value().clone());
    }
    limits::read(state, std::slice::from_ref(value))?;
    let unserializable = || {
        let detail = format!("a value of type {} has no JSON form", value.kind());
        JinjaError::new(ErrorKind::BadSerialization, detail)
    };
    Ok(match value.kind() {
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            Value::from(BigInt::from(i128::try_from(value.clone())?))
        }
        ValueKind::Number => Value::Float(f64::try_from(value.clone())?),
        ValueKind::String => Value::from(value.as_str().ok_or_else(unserializable)?),
        ValueKind::Seq | ValueKind::Iterable => Value::List(
            value
                .try_iter()?
                .map(|item| from_jinja(state, &item))
                .collect::<Result<_, _>>()?,
        ),
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter()? {
                let name = with_json(state, &key, |key| python::str(key).into_owned())?;
                map.insert(name, from_jinja(state, &value.get_item(&key)?)?);
            }
            Value::Dict(map)
        }
        _ => match value.downcast_object_ref::<HugeInt>() {
            Some(HugeInt(int)) => Value::from(int.clone()),
            None => return Err(unserializable()),
        },
    })
}

fn print_as_python(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Jinja,
) -> Result<(), JinjaError> {
    let written = match value.as_str() {
        Some(text) => {
            limits::spend(state, text.len())?;
            out.write_str(text)
        }
        None if value.is_undefined() => Ok(()),
        None => match with_json(state, value, |value| python::str(value).into_owned()) {
            Ok(text) => out.write_str(&text),
            Err(error) if error.kind() == ErrorKind::BadSerialization => {
                out.write_str(&value.to_string())
            }
            Err(error) => return Err(error),
        },
    };
    written.map_err(|_| JinjaError::new(ErrorKind::WriteFailure, "could not write"))
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn tojson(state: &mut State<'_, '_>, value: &Jinja, kwargs: Kwargs) -> Result<String, JinjaError> {
    let options = Dumps {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        separators: match kwargs.get::<Option<Vec<String>>>("separators")? {
            None => None,
            Some(pair) => match <[String; 2]>::try_from(pair) {
                Ok([item, key]) if item.len().max(key.len()) <= WIDEST_SPACE => Some((item, key)),
                Ok(_) => return Err(too_wide("a separator")),
                Err(_) => return Err(limits::refuse("`separators` takes two strings")),
            },
        },
        indent: kwargs.get::<Option<usize>>("indent")?,
    };
    if options.indent.is_some_and(|indent| indent > WIDEST_SPACE) {
        return Err(too_wide("`indent`"));
    }
    kwargs.assert_all_used()?;
    let text = with_json(state, value, |value| json::dumps_with(value, &options))?;
    // Applied to its own result it doubles the escapes each time, so a short template could fill the memory.
    limits::spend(state, text.len())?;
    Ok(text)
}

/// The widest indentation and separator of `tojson`, in bytes.
const WIDEST_SPACE: usize = 16;

fn too_wide(what: &str) -> JinjaError {
    limits::refuse(format!(
        "{what} of `tojson` may not be wider than {WIDEST_SPACE}"
    ))
}

#[derive(Debug, Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(message: String) -> Result<Jinja, JinjaError> {
    let error = JinjaError::new(ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(Refusal(message)))
}

/// Methods of Python's strings and dicts; stripping without an argument cuts what Python calls space.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Jinja,
    method: &str,
    args: &[Jinja],
) -> Result<Jinja, JinjaError> {
    limits::read(state, std::slice::from_ref(value))?;
    match (value.as_str(), method, args) {
        (Some(text), "replace", [from, to, ..]) => {
            let (from, to) = (from.as_str(), to.as_str());
            limits::replaced(
                state,
                text,
                from.unwrap_or_default(),
                to.unwrap_or_default(),
            )?;
        }
        (Some(text), "join", [items, ..]) => limits::joined(state, text, items)?,
        (Some(text), "format", _) => limits::formatted(text)?,
        _ => {}
    }
    match (value.as_str(), method, args) {
        (Some(text), guard::REVERSED, []) => Ok(text.chars().rev().collect::<String>().into()),
        (None, guard::REVERSED, []) => {
            let mut items: Vec<Jinja> = match value.is_undefined() {
                true => Vec::new(),
                false => value.try_iter()?.collect(),
            };
            items.reverse();
            Ok(items.into())
        }
        (Some(text), "strip", []) => Ok(python::strip(text).into()),
        (Some(text), "lstrip", []) => Ok(text.trim_start_matches(python::is_space).into()),
        (Some(text), "rstrip", []) => Ok(text.trim_end_matches(python::is_space).into()),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, context: &str) -> Result<String, TemplateError> {
        let extra = json::parse(context).unwrap().as_dict().unwrap().clone();
        ChatTemplate::from_source(source)?.render(
            &[],
            None,
            &Options {
                extra,
                ..Options::default()
            },
        )
    }

    #[test]
    fn prints_as_python() {
        let context = r#"{"x": [null, true, 1.0, 1e16, 1e-7, "a'b", {"k": 100000000000000000000000000000000000000000000}], "f": 2.0}"#;
        let text = render("{{ x }}|{{ f }}|{{ none }}|{{ missing }}", context).unwrap();
        let list = r#"[None, True, 1.0, 1e+16, 1e-07, "a'b", {'k': 100000000000000000000000000000000000000000000}]"#;
        assert_eq!(text, format!("{list}|2.0|None|"));
    }

    #[test]
    fn tojson_is_json_dumps() {
        let context = r#"{"x": {"b": "<é&'>", "a": [1.0, 1e22, NaN]}}"#;
        assert_eq!(
            render("{{ x | tojson }}", context).unwrap(),
            r#"{"b": "<é&'>", "a": [1.0, 1e+22, NaN]}"#
        );
        let sorted = render(
            "{{ x | tojson(sort_keys=true, ensure_ascii=true, separators=[',', ':']) }}",
            context,
        );
        assert_eq!(sorted.unwrap(), r#"{"a":[1.0,1e+22,NaN],"b":"<\u00e9&'>"}"#);
        assert!(matches!(
            render("{{ missing | tojson }}", context),
            Err(TemplateError::Render(_))
        ));
    }

    #[test]
    fn a_guarded_template_renders_as_it_stands() {
        let source = "{% set n = namespace(l=[], t='') %}{% for x in [1, a, 3] + [a * 2] %}{% set n.l = n.l + [[x, {'k': x ~ -a}]] %}\
                      {% set n.t = n.t ~ (x * 2 ~ 'z')|upper ~ [x][0] %}{% endfor %}{{ n.l[1:] }}|{{ n.t }}|{{ 'ab' * 2 + 'c' }}|\
                      {{ a is in [1, a + 1, 5] }}|{{ (1, a)[1] }}|{{ -a + 2 ** 3 * a }}|{{ [a, 'b']|join(', ' ~ a) }}";
        let text = render(source, "{\"a\": 5}").unwrap();
        let backwards = "{{ [][::-1] }}{{ ''[::-1] }}{{ 'abé'[::-1] }}{{ messages[::-1] }}{{ [1, a][ : : -1 ][0] }}{% for x in (1, 2)[::-1] %}{{ x }}{% endfor %}";
        assert_eq!(render(backwards, "{\"a\": 5}").unwrap(), "[]éba[]521");
        assert!(render("{{ [][::-2] }}", "{}").is_err());
        let long = vec!["a"; 300].join(" ~ ");
        assert_eq!(
            render(
                &format!("{{% set b, c = 1, 2 %}}{{{{ {long} ~ b ~ c }}}}"),
                "{\"a\": 5}"
            )
            .unwrap(),
            "5".repeat(300) + "12"
        );
        let list = "[[5, {'k': '5-5'}], [3, {'k': '3-5'}], [10, {'k': '10-5'}]]";
        assert_eq!(
            text,
            format!("{list}|2Z110Z56Z320Z10|ababc|True|5|35|5, 5b")
        );
    }

    #[test]
    fn no_template_takes_long_or_fills_the_memory() {
        let mut chain = "{{ '\"'".to_owned();
        chain.push_str(&"|tojson".repeat(60));
        chain.push_str(" }}");
        let templates = [
            chain.as_str(),
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "{% set n = namespace(x=['ab']) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x ~ '' }}",
            "{% set n = namespace(x=['ab']) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x|length }}",
            "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x.replace('a', 'aaaa') %}{% endfor %}",
            "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x|replace('a', 'aaaa') %}{% endfor %}",
            "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = f(n.x) %}{% endfor %}",
            "{% for i in range(100000) %}{{ range(100000)|sum }}{% endfor %}",
            "{% set r = range(100000) %}{% for i in r %}{{ r|list|length }}{% endfor %}",
            "{{ [1]|tojson(indent=99999999999) }}",
            "{{ 'a\nb'|indent(99999999999) }}",
            "{{ '%99999999999d'|format(1) }}",
            "{{ '{:>99999999999}'.format(1) }}",
            "{{ ['a', 'b']|join('c' * 50000000) }}{{ range(9999)|join('c' * 50000000) }}",
            "{{ 'a' * 99999999 }}",
            "{% for i in range(100000) %}{% set x = 'a' * (i * 900) %}{% endfor %}",
            "{% set x = [0] * 90000000 %}{{ x|tojson }}",
            "{{ [1, 2, 3]|batch(99999999999, 'x')|list|length }}",
            "{% set n = namespace(x=1) %}{% set n.x = n %}{{ n ~ '' }}",
            "{% set n = namespace(x=1) %}{% set n.x = (n, 'a') %}{{ n ~ '' }}",
            "{% set n = namespace(x=1) %}{% set m = namespace(n=n) %}{% set n.x = m|default(2) %}{{ n ~ '' }}",
            "{% set n = namespace(x=1) %}{% set n.x = {'a': [n]} %}{{ n }}",
            "{% set n = namespace(x=[1]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
            "{% set n = namespace(x=messages) %}{% for i in range(9999) %}{% set n.x = [n.x[::-1]][::-1] %}{% endfor %}{{ n.x }}",
        ];
        for template in templates {
            let begun = std::time::Instant::now();
            let error = render(template, "{}").expect_err(template).to_string();
            let took = begun.elapsed();
            assert!(
                [
                    "64 MiB",
                    "1 MiB",
                    "steps",
                    "wider",
                    "three digits",
                    "range",
                    "inside"
                ]
                .iter()
                .any(|reason| error.contains(reason)),
                "{template}: {error}"
            );
            assert!(took.as_secs() < 20, "{template}: {took:?}");
        }
    }

    #[test]
    fn knows_methods_blocks_and_refusal() {
        let source = "{% for k, v in d.items() %}\n  {% if loop.index > 2 %}{% break %}{% endif %}\n{{ k }}={{ v.strip() }};\n{% endfor %}";
        let text = render(source, r#"{"d": {"z": "\u001c 1 ", "a": "2", "m": "3"}}"#).unwrap();
        assert_eq!(text, "z=1;\na=2;\n");
        let refused = render("{{ raise_exception('no ' + why) }}", r#"{"why": "tools"}"#);
        assert!(matches!(refused, Err(TemplateError::Refused(message)) if message == "no tools"));
        assert!(matches!(
            render("{% if %}", "{}"),
            Err(TemplateError::Syntax(_))
        ));
    }

    #[test]
    fn qwen3_refuses_a_call_without_arguments() {
        let messages =
            json::parse(r#"[{"role": "assistant", "tool_calls": [{"name": "f"}]}]"#).unwrap();
        let rendered =
            ChatTemplate::qwen3().render(messages.as_list().unwrap(), None, &Options::default());
        assert!(
            matches!(rendered, Err(TemplateError::Render(_))),
            "{rendered:?}"
        );
    }
}
