//! What a checker says of one answer.

use std::fmt;

macro_rules! error_kinds {
    ($($variant:ident, $name:literal;)*) => {
        /// Why an answer is wrong, in the benchmark's own words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "named like the benchmark's own error types")]
        pub enum ErrorKind {
            $($variant,)*
        }

        impl ErrorKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The benchmark's name of it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

error_kinds! {
    DecoderFailed, "ast_decoder:decoder_failed";
    DecoderWrongOutputFormat, "ast_decoder:decoder_wrong_output_format";
    SimpleWrongCount, "simple_function_checker:wrong_count";
    MultipleWrongCount, "multiple_function_checker:wrong_count";
    ParallelWrongCount, "parallel_function_checker_no_order:wrong_count";
    ParallelCannotFindMatch, "parallel_function_checker_no_order:cannot_find_match";
    WrongFunctionName, "simple_function_checker:wrong_func_name";
    MissingRequired, "simple_function_checker:missing_required";
    UnexpectedParameter, "simple_function_checker:unexpected_param";
    MissingOptional, "simple_function_checker:missing_optional";
    TypeSimple, "type_error:simple";
    TypeNested, "type_error:nested";
    TypeJava, "type_error:java";
    TypeJavaScript, "type_error:js";
    ValueString, "value_error:string";
    ValueList, "value_error:list/tuple";
    ValueOthers, "value_error:others";
    ValueDictKey, "value_error:dict_key";
    ValueDictValue, "value_error:dict_value";
    ValueListDictCount, "value_error:list_dict_count";
    DictUnclear, "dict_checker:unclear";
    ListDictUnclear, "list_dict_checker:unclear";
    IrrelevanceSuccess, "irrelevance_error:decoder_success";
    RelevanceFailed, "relevance_error:decoder_failed";
    InferenceError, "multi_turn:inference_error";
    ForceTerminated, "multi_turn:force_terminated";
    EmptyTurn, "multi_turn:empty_turn_model_response";
    StateMismatch, "multi_turn:instance_state_mismatch";
    ResponseMismatch, "multi_turn:execution_response_mismatch";
    CheckerRaised, "checker:raised";
    Missing, "missing_result";
}

impl ErrorKind {
    /// The rule that failed, in words.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::DecoderFailed => "a tool call is no object with a name and arguments",
            Self::DecoderWrongOutputFormat => "the output is no list of objects with one key each",
            Self::SimpleWrongCount => "exactly one call is wanted",
            Self::MultipleWrongCount => "exactly one call is wanted, to one of several functions",
            Self::ParallelWrongCount => "as many calls are wanted as are accepted",
            Self::ParallelCannotFindMatch => {
                "an accepted call is matched by none of the calls left"
            }
            Self::WrongFunctionName => "another function is called",
            Self::MissingRequired => "a required parameter is missing",
            Self::UnexpectedParameter => {
                "a parameter is not in the document or not in the accepted call"
            }
            Self::MissingOptional => "a parameter that may not be left out is missing",
            Self::TypeSimple => "a value has another type",
            Self::TypeNested => "an element of a list has another type",
            Self::TypeJava => "a Java value has to be given as a text",
            Self::TypeJavaScript => "a JavaScript value has to be given as a text",
            Self::ValueString => {
                "a text is none of the accepted ones, compared without case and punctuation"
            }
            Self::ValueList => "a list is none of the accepted ones",
            Self::ValueOthers => "a value is none of the accepted ones",
            Self::ValueDictKey => "an object has a key too many or too few",
            Self::ValueDictValue => "a value inside an object is none of the accepted ones",
            Self::ValueListDictCount => "a list of objects has another length",
            Self::DictUnclear => "no accepted object to compare with",
            Self::ListDictUnclear => "no accepted list of objects to compare with",
            Self::IrrelevanceSuccess => "no function fits, and one is called",
            Self::RelevanceFailed => "a function fits, and none is called",
            Self::InferenceError => "the run of this entry ended in an error",
            Self::ForceTerminated => {
                "the dialogue has fewer turns than the entry: a turn had more than 20 steps"
            }
            Self::EmptyTurn => "calls are wanted in a turn, and none is made",
            Self::StateMismatch => "the state after a turn is not the accepted one",
            Self::ResponseMismatch => "a response of the accepted calls was never received",
            Self::CheckerRaised => "the official checker stops on this output",
            Self::Missing => "there is no output",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The verdict on one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// `None` when the answer is right.
    pub error: Option<ErrorKind>,
    /// The turn (from 0) in which a dialogue failed.
    pub turn: Option<usize>,
}

impl Verdict {
    /// The answer is right.
    pub const VALID: Self = Self {
        error: None,
        turn: None,
    };

    /// Whether the answer is right.
    pub fn is_valid(self) -> bool {
        self.error.is_none()
    }

    pub(crate) fn at_turn(error: ErrorKind, turn: usize) -> Self {
        Self {
            error: Some(error),
            turn: Some(turn),
        }
    }
}

impl From<ErrorKind> for Verdict {
    fn from(error: ErrorKind) -> Self {
        Self {
            error: Some(error),
            turn: None,
        }
    }
}

impl From<Result<(), ErrorKind>> for Verdict {
    fn from(result: Result<(), ErrorKind>) -> Self {
        Self {
            error: result.err(),
            turn: None,
        }
    }
}
