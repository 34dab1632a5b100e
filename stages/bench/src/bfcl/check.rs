//! Checks decoded calls against accepted answers.
//!
//! An item's documents and answers are compiled once: types resolved, accepted strings standardised. A check then
//! walks the model's arguments in their own order and stops at the first failure, whose kind is the verdict.

mod compile;
mod standard;
mod value;

use starling_text::json::Value;

use super::calls::{Arguments, DecodedCall};
use super::category::{Kind, Language};
use super::literal;
use super::prompting::foreign;
use super::verdict::ErrorKind;
use compile::{Answer, Document, Parameter, Type};

/// The compiled documents and answers of one item.
#[derive(Debug)]
pub struct Checker {
    kind: Kind,
    language: Language,
    answers: Vec<Rule>,
}

/// One accepted call with the document it is checked against.
#[derive(Debug)]
struct Rule {
    document: Document,
    answer: Answer,
    /// Bits of the parameters that the document requires.
    required: u64,
    /// Required names that the accepted call does not mention.
    required_elsewhere: Vec<String>,
    /// Bits of the parameters that may not be left out.
    wanted: u64,
    /// A name that may not be left out is not in the document, so that no call has it.
    wants_unknown: bool,
}

/// Arguments of a call that are matched without looking names up.
const MAX_GIVEN: usize = 32;
/// The place of an argument that has no parameter.
const NOWHERE: u8 = u8::MAX;

impl Checker {
    /// Compiles the documents (as written in the data, without the hints of prompts) and the accepted calls.
    ///
    /// `None` when an answer names a function that no document describes, or a document lacks its parameters.
    pub fn new(
        kind: Kind,
        language: Language,
        documents: &[Value],
        answers: &[Value],
    ) -> Option<Self> {
        let rule = |answer: &Value| {
            let answer = Answer::compile(answer)?;
            let document = match kind {
                Kind::Simple => documents.first()?,
                _ => documents.iter().find(|document| {
                    document.get("name").and_then(Value::as_str) == Some(answer.name.as_str())
                })?,
            };
            let document = Document::compile(document, language, &answer)?;
            Some(Rule::new(document, answer))
        };
        Some(Self {
            kind,
            language,
            answers: answers.iter().map(rule).collect::<Option<_>>()?,
        })
    }

    /// Checks the calls of an answer. With `underscores`, dots in the names of functions are written `_`, as models
    /// behind interfaces that forbid dots must write them.
    ///
    /// # Errors
    /// The kind of the first failure.
    pub fn check(&self, calls: &[DecodedCall<'_>], underscores: bool) -> Result<(), ErrorKind> {
        match self.kind {
            Kind::Parallel => self.check_any_order(calls, underscores),
            Kind::Multiple if calls.len() != self.answers.len() => {
                Err(ErrorKind::MultipleWrongCount)
            }
            Kind::Simple if calls.len() != 1 => Err(ErrorKind::SimpleWrongCount),
            _ => match (self.answers.first(), calls.first()) {
                (Some(rule), Some(call)) => rule.check(call, self.language, underscores),
                _ => Err(ErrorKind::CheckerRaised),
            },
        }
    }

    /// Judges every argument of a call by itself against the accepted call of this number, for people to read; a
    /// check stops at the first failure.
    pub fn arguments(
        &self,
        answer: usize,
        call: &DecodedCall<'_>,
    ) -> Vec<(String, Result<(), ErrorKind>)> {
        let Some(rule) = self.answers.get(answer) else {
            return Vec::new();
        };
        let argument = |(name, value): (&str, &Value)| {
            let parameter = rule.document.parameters.iter().find(|p| p.name == name);
            let verdict = match parameter {
                Some(parameter) => check_argument(parameter, value, self.language),
                None => Err(ErrorKind::UnexpectedParameter),
            };
            (name.to_owned(), verdict)
        };
        call.arguments.iter().map(argument).collect()
    }

    /// Every answer takes the first unused call that satisfies it; nothing is ever given back.
    fn check_any_order(
        &self,
        calls: &[DecodedCall<'_>],
        underscores: bool,
    ) -> Result<(), ErrorKind> {
        if calls.len() != self.answers.len() {
            return Err(ErrorKind::ParallelWrongCount);
        }
        let mut unused: Vec<&DecodedCall<'_>> = calls.iter().collect();
        for rule in &self.answers {
            let found = unused
                .iter()
                .position(|call| rule.check(call, self.language, underscores).is_ok());
            match found {
                Some(index) => drop(unused.remove(index)),
                None => return Err(ErrorKind::ParallelCannotFindMatch),
            }
        }
        Ok(())
    }
}

impl Rule {
    fn new(document: Document, answer: Answer) -> Self {
        let place = |name: &String| {
            let at = document.parameters.iter().position(|p| p.name == *name)?;
            u32::try_from(at).ok()
        };
        // Places beyond 64 are never asked for: such calls are checked by name.
        let bit = |at: u32| 1_u64.checked_shl(at).unwrap_or(0);
        let (mut required, mut wanted, mut wants_unknown) = (0, 0, false);
        let mut required_elsewhere = Vec::new();
        for name in &document.required {
            match place(name) {
                Some(at) => required |= bit(at),
                None => required_elsewhere.push(name.clone()),
            }
        }
        for (name, optional) in &answer.names {
            match place(name) {
                _ if *optional => {}
                Some(at) => wanted |= bit(at),
                None => wants_unknown = true,
            }
        }
        Self {
            document,
            answer,
            required,
            required_elsewhere,
            wanted,
            wants_unknown,
        }
    }

    fn check(
        &self,
        call: &DecodedCall<'_>,
        language: Language,
        underscores: bool,
    ) -> Result<(), ErrorKind> {
        let name = match underscores {
            true => &self.document.underscored,
            false => &self.document.name,
        };
        if call.name.as_deref() != Some(name) {
            return Err(ErrorKind::WrongFunctionName);
        }
        let given = &call.arguments;
        let parameters = &self.document.parameters;
        if given.len() > MAX_GIVEN || parameters.len() > 64 {
            return self.check_many(given, language);
        }
        // Which parameter each argument is for; most are written in the accepted order.
        let mut places = [NOWHERE; MAX_GIVEN];
        let (mut seen, mut next) = (0_u64, 0);
        for (place, (name, _)) in places.iter_mut().zip(given.iter()) {
            let named = |parameter: &Parameter| parameter.name == name;
            let behind = parameters[next..]
                .iter()
                .position(named)
                .map(|at| next + at);
            if let Some(at) = behind.or_else(|| parameters[..next].iter().position(named)) {
                *place = at as u8;
                seen |= 1 << at;
                next = at + 1;
            }
        }
        let lacks = |name: &String| given.get(name).is_none();
        if self.required & !seen != 0 || self.required_elsewhere.iter().any(lacks) {
            return Err(ErrorKind::MissingRequired);
        }
        for (place, (_, value)) in places.iter().zip(given.iter()) {
            match parameters.get(usize::from(*place)) {
                Some(parameter) => check_argument(parameter, value, language)?,
                None => return Err(ErrorKind::UnexpectedParameter),
            }
        }
        match self.wanted & !seen != 0 || self.wants_unknown {
            true => Err(ErrorKind::MissingOptional),
            false => Ok(()),
        }
    }

    /// The same for calls of any size.
    fn check_many(&self, given: &Arguments<'_>, language: Language) -> Result<(), ErrorKind> {
        if self
            .document
            .required
            .iter()
            .any(|name| given.get(name).is_none())
        {
            return Err(ErrorKind::MissingRequired);
        }
        for (name, value) in given.iter() {
            let parameter = self.document.parameters.iter().find(|p| p.name == name);
            match parameter {
                Some(parameter) => check_argument(parameter, value, language)?,
                None => return Err(ErrorKind::UnexpectedParameter),
            }
        }
        let missing = |(name, optional): &&(String, bool)| !optional && given.get(name).is_none();
        match self.answer.names.iter().find(missing) {
            Some(_) => Err(ErrorKind::MissingOptional),
            None => Ok(()),
        }
    }
}

fn check_argument(
    parameter: &Parameter,
    value: &Value,
    language: Language,
) -> Result<(), ErrorKind> {
    let converted;
    let mut value = value;
    match language {
        Language::Python => {
            if parameter.declared == "tuple"
                && let Some(items) = foreign::elements(value)
            {
                converted = Value::List(items.to_vec());
                value = &converted;
            } else if parameter.declared == "float"
                && let Some(float) = integer_as_float(value)?
            {
                converted = Value::Float(float);
                value = &converted;
            }
        }
        Language::Java | Language::JavaScript => {
            if parameter.expected == Type::Unknown {
                return Err(ErrorKind::CheckerRaised);
            }
            let Value::Str(text) = value else {
                return Err(match language {
                    Language::Java => ErrorKind::TypeJava,
                    _ => ErrorKind::TypeJavaScript,
                });
            };
            let element = parameter.element_declared.as_deref();
            converted = literal::convert(language, text, &parameter.declared, element)
                .map_err(|_| ErrorKind::CheckerRaised)?;
            value = &converted;
        }
    }
    if parameter.expected == Type::Unknown || parameter.element == Some(Type::Unknown) {
        return Err(ErrorKind::CheckerRaised);
    }
    value::check(parameter, value)
}

/// An integer as the float Python makes of it; beyond the range of floats Python raises.
fn integer_as_float(value: &Value) -> Result<Option<f64>, ErrorKind> {
    match value {
        Value::Int(int) => Ok(Some(*int as f64)),
        Value::BigInt(_) => match value.as_f64() {
            Some(float) if float.is_finite() => Ok(Some(float)),
            _ => Err(ErrorKind::CheckerRaised),
        },
        _ => Ok(None),
    }
}
