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
