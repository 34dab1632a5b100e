//! Languages, evaluator profiles and the seventeen categories.

use std::fmt;

/// The language of the entries; ids repeat between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lang {
    /// English.
    En,
    /// Chinese.
    Zh,
}

impl Lang {
    /// Both, English first.
    pub const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// `en` or `zh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// Reads `en` or `zh`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lang| lang.name() == name)
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which version of the official evaluator and data is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Profile {
    /// August 2025, the one that published numbers were computed with: deletes all white space before parsing.
    #[default]
    R2508,
    /// October 2025: takes the first bracketed list as it stands, with eleven rows of the data corrected.
    R2510,
}

impl Profile {
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::R2508, Self::R2510];

    /// `r2508` or `r2510`.
    pub fn name(self) -> &'static str {
        match self {
            Self::R2508 => "r2508",
            Self::R2510 => "r2510",
        }
    }

    /// Reads `r2508` or `r2510`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! categories {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A category of entries; the order is that of the official sum (Normal, then Special, then Agent).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Category {
            $($(#[$doc])* $variant,)*
        }

        impl Category {
            /// All seventeen.
            pub const ALL: [Self; 17] = [$(Self::$variant,)*];

            /// The name of the category's files, such as `normal_atom_bool`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        /// `(file name, bytes)` of the embedded questions and answers of one language.
        macro_rules! embedded_files {
            ($lang:literal) => {
                &[$(
                    (
                        concat!($lang, "/", $name, ".jsonl.gz"),
                        include_bytes!(concat!(
                            env!("CARGO_MANIFEST_DIR"), "/data/acebench/", $lang, "/", $name, ".jsonl.gz"
                        )),
                    ),
                    (
                        concat!($lang, "/answers/", $name, ".jsonl.gz"),
                        include_bytes!(concat!(
                            env!("CARGO_MANIFEST_DIR"), "/data/acebench/", $lang, "/answers/", $name, ".jsonl.gz"
                        )),
                    ),
                )*]
            };
        }
        pub(super) use embedded_files;
    };
}

categories! {
    /// One call of one function.
    SingleFunction = "normal_single_turn_single_function",
    /// Several calls at once.
    ParallelFunction = "normal_single_turn_parallel_function",
    /// A dialogue in which the user moves to another task.
    UserSwitch = "normal_multi_turn_user_switch",
    /// A dialogue in which the user changes a request.
    UserAdjust = "normal_multi_turn_user_adjust",
    /// Two confusable functions.
    SimilarApi = "normal_similar_api",
    /// Missing arguments are taken from a user profile.
    Preference = "normal_preference",
    /// Boolean arguments.
    AtomBool = "normal_atom_bool",
    /// Arguments out of a list.
    AtomEnum = "normal_atom_enum",
    /// Numeric arguments.
    AtomNumber = "normal_atom_number",
    /// List arguments.
    AtomList = "normal_atom_list",
    /// Nested object arguments.
    AtomObjectDeep = "normal_atom_object_deep",
    /// Flat object arguments.
    AtomObjectShort = "normal_atom_object_short",
    /// A required argument is missing and must be asked for.
    Incomplete = "special_incomplete",
    /// An argument has a wrong value that must be named.
    ErrorParam = "special_error_param",
    /// No function fits.
    Irrelevant = "special_irrelevant",
    /// The model works alone in a simulated environment.
    AgentMultiStep = "agent_multi_step",
    /// The model works in a simulated environment and talks with a simulated user.
    AgentMultiTurn = "agent_multi_turn",
}

/// The three families of categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Calls are compared with reference calls.
    Normal,
    /// Phrases are looked for.
    Special,
    /// The end state of an environment is compared.
    Agent,
}

impl Category {
    /// Reads a category's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.name() == name)
    }

    /// The family it belongs to.
    pub fn family(self) -> Family {
        match self {
            Self::Incomplete | Self::ErrorParam | Self::Irrelevant => Family::Special,
            Self::AgentMultiStep | Self::AgentMultiTurn => Family::Agent,
            _ => Family::Normal,
        }
    }

    /// Whether its entries are the turns of dialogues.
    pub fn is_multi_turn(self) -> bool {
        matches!(self, Self::UserSwitch | Self::UserAdjust)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
