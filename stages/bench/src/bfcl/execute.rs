//! Executes call strings on instances, with the responses and error texts of the benchmark.
//!
//! The benchmark rewrites every `name (` of the whole string, also inside literals, and evaluates what comes out as
//! Python. The rewriting is reproduced to the letter; the evaluation knows literals, operators, calls of the
//! instances' methods and a few builtins.

use starling_text::pycall::{self, Call, Expr};

use super::backend::{Class, Instance, MethodId, method};
use super::plain;
use super::py::{Class as Raised, Py, Raise, Reply, evaluate, response};

/// Names that the benchmark refuses to call.
const REFUSED: [&str; 8] = [
    "kill", "exit", "quit", "remove", "unlink", "popen", "Popen", "run",
];

/// Work that the calls of one side may do in all, in bytes of calls and responses, where every call also pays for
/// the calls before it, which may have grown what it looks through. A long dialogue needs a thousandth of this;
/// without a bound, a text of a megabyte could ask for hours and fill any memory.
const WORK: u64 = 1 << 32;

/// Bytes of all responses of one side.
const MAX_RESPONSES: usize = 1 << 26;

/// Instances of one side of a dialogue, in the order of the item's classes.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) instances: Vec<(Class, Instance)>,
    /// What the names of its instances begin with; the sides of a check differ in it.
    prefix: String,
    work_left: u64,
    /// Bytes of all calls so far.
    called: usize,
    /// Bytes of all responses so far.
    responded: usize,
}

impl World {
    /// A world whose instances are named after the model, the side and the item.
    pub(crate) fn new(instances: Vec<(Class, Instance)>, side: &str, id: &str) -> Self {
        let prefix = format!("{side}_{id}_").replace(['-', '.', '/', ':'], "_");
        Self {
            instances,
            prefix,
            work_left: WORK,
            called: 0,
            responded: 0,
        }
    }

    /// The same instances under other names.
    pub(crate) fn renamed(&self, side: &str, id: &str) -> Self {
        Self::new(self.instances.clone(), side, id)
    }

    fn method(&self, name: &str) -> Option<(usize, MethodId)> {
        let method = method(name)?;
        let at = self
            .instances
            .iter()
            .position(|(class, _)| *class == method.class)?;
        Some((at, method))
    }

    /// Executes a call string and answers the text that it leaves in the dialogue.
    ///
    /// After more work than any dialogue needs, every call is refused as an absurd argument is.
    pub(crate) fn execute(&mut self, call: &str) -> String {
        let result = self
            .spend(call)
            .and_then(|()| self.evaluate(call))
            .and_then(|value| response(&value));
        let text = result.unwrap_or_else(|raise| format!("Error during execution: {}", raise.text));
        self.responded += text.len();
        text
    }

    /// Takes the work of a call from what may still be done.
    fn spend(&mut self, call: &str) -> Reply<()> {
        self.called += call.len();
        let work = (self.called + self.responded / 16) as u64;
        let left = self.work_left.checked_sub(work);
        match left.filter(|_| self.responded <= MAX_RESPONSES) {
            Some(left) => {
                self.work_left = left;
                Ok(())
            }
            None => {
                self.work_left = 0;
                Err(Raise::limit())
            }
        }
    }

    fn evaluate(&mut self, call: &str) -> Reply {
        match self.plain(call) {
            Some(reply) => reply,
            None => self.evaluate_any(call),
        }
    }

    /// Calls a method with literals, if the text is nothing else.
    fn plain(&mut self, call: &str) -> Option<Reply> {
        let (name, arguments) = plain::split(call)?;
        let (at, method) = self.method(name)?;
        let arguments = plain::bind(arguments, method.parameters())?;
        (!REFUSED.contains(&name)).then(|| self.instances[at].1.run(method, arguments))
    }

    fn evaluate_any(&mut self, call: &str) -> Reply {
        let text = self.rewrite(call);
        refuse(&text)?;
        if text.contains('\0') {
            return Err(Raise::value_error(
                "source code string cannot contain null bytes",
            ));
        }
        let expr = pycall::parse(text.trim_start_matches([' ', '\t']))
            .map_err(|error| syntax_error(&text, &error))?;
        self.value(expr)
    }

    fn value(&mut self, expr: Expr) -> Reply {
        evaluate(expr, &mut |call| self.call(call))
    }

    /// Puts the instance's name before every method name that an opening bracket follows.
    fn rewrite(&self, call: &str) -> String {
        let is_word = |c: char| c == '_' || c.is_alphanumeric();
        let mut out = String::with_capacity(call.len() + self.prefix.len() + 32);
        let mut rest = call;
        while let Some(start) = rest.find(is_word) {
            out.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            let bracket = behind.trim_start_matches(starling_text::python::is_space);
            let is_name = word.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
            rest = behind;
            if is_name && bracket.starts_with('(') {
                if let Some((at, _)) = self.method(word) {
                    self.push_instance(&mut out, at);
                    out.push('.');
                }
                rest = bracket;
            }
            out.push_str(word);
        }
        out.push_str(rest);
        out
    }

    fn push_instance(&self, out: &mut String, at: usize) {
        out.push_str(&self.prefix);
        out.push_str(self.instances[at].0.name());
        out.push_str("_instance");
    }

    /// The place of the instance of this name.
    fn instance(&self, name: &str) -> Option<usize> {
        let class = name.strip_prefix(&self.prefix)?.strip_suffix("_instance")?;
        self.instances
            .iter()
            .position(|(found, _)| found.name() == class)
    }

    fn call(&mut self, call: Call) -> Reply {
        let (at, method) = self.function(call.function)?;
        let mut args = Vec::with_capacity(call.args.len());
        for arg in call.args {
            args.push(self.value(arg)?);
        }
        let mut keywords = Vec::with_capacity(call.keywords.len());
        for (name, value) in call.keywords {
            let name = name.ok_or_else(|| Raise::new(Raised::Other, "unsupported expression"))?;
            keywords.push((name, self.value(value)?));
        }
        self.instances[at].1.call(method, args, keywords)
    }

    /// The method that a function expression names; whatever else it is raises.
    fn function(&mut self, function: Expr) -> Reply<(usize, MethodId)> {
        if let Expr::Attribute(value, name) = &function
            && let Expr::Name(instance) = &**value
            && let Some(at) = self.instance(instance)
        {
            let class = self.instances[at].0;
            return match self.method(name) {
                Some((found, method)) if found == at => Ok((at, method)),
                _ => {
                    let text = format!("'{}' object has no attribute '{name}'", class.name());
                    Err(Raise::new(Raised::Other, text))
                }
            };
        }
        let value: Py = self.value(function)?;
        let name = value.type_name();
        Err(Raise::type_error(format!(
            "'{name}' object is not callable"
        )))
    }
}

/// The guard looks at what stands before the first bracket, behind the first dot.
fn refuse(text: &str) -> Reply<()> {
    let name = text.split('(').next().unwrap_or_default();
    let name = name.split('.').nth(1).unwrap_or(name);
    match REFUSED.contains(&name) {
        true => Err(Raise::new(
            Raised::Other,
            format!("Function call {name} is not allowed."),
        )),
        false => Ok(()),
    }
}

fn syntax_error(text: &str, error: &pycall::SyntaxError) -> Raise {
    let line = match error.kind {
        pycall::SyntaxErrorKind::Empty => 0,
        _ => {
            let before = &text.as_bytes()[..error.offset.min(text.len())];
            1 + before.iter().filter(|byte| **byte == b'\n').count()
        }
    };
    Raise::new(
        Raised::Other,
        format!("{} (<string>, line {line})", error.kind),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Bfcl, Class, Source};
    use starling_text::json::Value;

    #[test]
    fn plain_calls_are_evaluated_as_any_call_is() {
        let bfcl = Bfcl::open(Source::Embedded).expect("data");
        let mut plain = 0;
        for call in [
            "add(a=1,b=2)",
            "add(1,2)",
            "add(1, b = -2.50)",
            "add( a=1 , b=2 , )",
            "add(1,2,3)",
            "add(1,a=1)",
            "add(a=1,a=2)",
            "add(a=1,1)",
            "add(a=1)",
            "add(c=1)",
            "add(a==1,b=2)",
            "add(a=01,b=2)",
            "add(a=1.,b=2)",
            "add(a=-0,b=-0.0)",
            "add(a=1e3,b=2)",
            "add(a=True,b=None)",
            "add(a=Truer,b=None)",
            "add(a='x',b='y')",
            "add(a='x''z',b='y')",
            "add(a='',b=''' ')",
            "add(a='\\n',b='y')",
            "add(a='\\0',b='y')",
            "add(a='é',b=\"it's\")",
            "add(a=123456789012345678901,b=1)",
            "mean(numbers=[1,2.5,3,])",
            "mean(numbers=[])",
            "mean(numbers=[1,'x'])",
            "mean(numbers=[1 2])",
            "mean(numbers=[[1],{'a':1,'a':2,'b':[None]}])",
            "mean(numbers={'a' : 1, })",
            "mean(numbers={1:2})",
            "mean({'a':'b'})",
            "mean([1,2])x",
            "mean([1,2]",
            "mean",
            "mean(numbers=[1]) ",
            " mean(numbers=[1])",
            "mean (numbers=[1])",
            "mean(numbers='sum (')",
            "absolute_value(number=-5)",
            "absolute_value(number=- 5)",
            "absolute_value(number=--5)",
            "round_number(number=2.675)",
            "round_number(2.5,)",
            "round_number(,)",
            "nothing(a=1)",
            "print(1)",
            "",
        ] {
            let sandbox = || {
                bfcl.sandbox(Class::Math, &Value::Null, false)
                    .expect("a sandbox")
            };
            let mut quick = sandbox();
            let Some(found) = quick.0.plain(call) else {
                continue;
            };
            plain += 1;
            let whole = sandbox().0.evaluate_any(call);
            assert_eq!(format!("{found:?}"), format!("{whole:?}"), "{call}");
        }
        assert!(plain > 15, "{plain}");
    }
}
