//! What a checker says of one output.

use std::fmt;

use super::Dataset;
use super::check::{check_normal, shown_calls};
use super::item::{Item, Truth};

/// The judgement of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong, if anything is.
    pub error: Option<ErrorKind>,
}

impl Verdict {
    /// Whether the output counts.
    pub fn valid(self) -> bool {
        self.error.is_none()
    }

    /// The official name of the error, empty for a valid output.
    pub fn error_name(self) -> &'static str {
        self.error.map_or("", ErrorKind::name)
    }
}

/// What is wrong with an output, as the official evaluator classes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// It is not a list of calls.
    WrongOutputFormat,
    /// Too many or too few calls.
    WrongFunctionsNumber,
    /// Other functions are called than the reference calls.
    FunctionMismatch,
    /// The last call of the output is to another function than the reference call that nothing matched.
    Unclear,
    /// The function is described under another name.
    WrongFunctionName,
    /// Arguments where there are none to give, or none where there are.
    WrongParam,
    /// A required argument is missing.
    LackArgs,
    /// An argument that the reference does not have.
    AdditionArgs,
    /// An argument of another type.
    Type,
    /// A text that does not hold the reference's.
    ValueText,
    /// A list that differs.
    ValueList,
    /// A list of objects of another length.
    ValueCount,
    /// An object that differs.
    Value,
    /// The official program stops on this output.
    Crash,
    /// The problem was not detected (Special).
    Detection,
    /// The problem was detected but not named (Special).
    Correction,
}

impl ErrorKind {
    /// The official name.
    pub fn name(self) -> &'static str {
        match self {
            Self::WrongOutputFormat => "wrong_output_format",
            Self::WrongFunctionsNumber => "wrong functions number",
            Self::FunctionMismatch => "function_mismatch",
            Self::Unclear => "simple_function_checker:unclear",
            Self::WrongFunctionName => "wrong_function_name",
            Self::WrongParam => "wrong_param",
            Self::LackArgs => "lack_args",
            Self::AdditionArgs => "addition_args",
            Self::Type => "type_error",
            Self::ValueText => "value_error:string",
            Self::ValueList => "value_error:list/tuple",
            Self::ValueCount => "value_error:list_dict_count",
            Self::Value => "value_error",
            Self::Crash => "crash",
            Self::Detection => "error_detection",
            Self::Correction => "error_correction",
        }
    }
}

impl ErrorKind {
    /// The rule that failed, in words.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::WrongOutputFormat => "the output is no list of calls in Python's syntax",
            Self::WrongFunctionsNumber => "as many calls are wanted as the reference has",
            Self::FunctionMismatch => "other functions are called than the reference calls",
            Self::Unclear => {
                "a reference call is matched by none, and the last call is to another function"
            }
            Self::WrongFunctionName => "the function is described under another name",
            Self::WrongParam => "arguments where none are to be given, or none where some are",
            Self::LackArgs => "a required argument is missing",
            Self::AdditionArgs => "an argument is not in the schema or not in the reference",
            Self::Type => "an argument has another type",
            Self::ValueText => {
                "a text does not contain the reference's, compared without case and punctuation"
            }
            Self::ValueList => "a list differs",
            Self::ValueCount => "a list of objects has another length",
            Self::Value => "an object differs",
            Self::Crash => "the official program stops on this output",
            Self::Detection => "the output does not say that something is wrong",
            Self::Correction => "the output does not name what is wrong",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A call as people read it: its name, and each argument as Python prints it.
pub type ShownCall = (String, Vec<(String, String)>);

impl Dataset {
    /// The calls that the evaluator reads from an output; `None` when it is no list of calls.
    pub fn decoded(&self, item: &Item, output: &str) -> Option<Vec<ShownCall>> {
        shown_calls(self.profile(), item.category, output)
    }

    /// Judges one output of a Normal or Special entry. No output can stop it.
    ///
    /// An agent entry is judged by its end state ([`super::MultiStep`], [`super::MultiTurn`]); as a text it
    /// is always [`ErrorKind::WrongOutputFormat`].
    pub fn check(&self, item: &Item, output: &str) -> Verdict {
        let checked = match &item.truth {
            Truth::Normal(normal) => check_normal(self.profile(), item.category, normal, output),
            Truth::Special(special) => special.check(output),
            Truth::Agent(_) => Err(ErrorKind::WrongOutputFormat),
        };
        Verdict {
            error: checked.err(),
        }
    }
}
