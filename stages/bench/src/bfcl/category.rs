//! The seventeen categories of BFCL v3 and what their names decide.

use std::fmt;

/// The language whose literals the arguments of a category are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// JSON values, compared as Python compares them.
    Python,
    /// Every argument is a string that holds a Java literal.
    Java,
    /// Every argument is a string that holds a JavaScript literal.
    JavaScript,
}

/// How a category is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One call, checked against the only document.
    Simple,
    /// One call, several documents.
    Multiple,
    /// Several calls in any order.
    Parallel,
    /// No call is right.
    Irrelevance,
    /// Any call is right.
    Relevance,
    /// A dialogue with simulated back ends.
    MultiTurn,
}

/// The part of the score table that a category belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Written by the benchmark's authors.
    NonLive,
    /// Contributed by users.
    Live,
    /// Dialogues.
    MultiTurn,
}

macro_rules! categories {
    ($($variant:ident, $name:literal, $section:ident, $kind:ident, $entries:literal;)*) => {
        /// A category of the benchmark.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "named like the benchmark's own categories")]
        pub enum Category {
            $($variant,)*
        }

        impl Category {
            /// Every category, in the order of the score table.
            pub const ALL: [Self; 17] = [$(Self::$variant,)*];

            /// The benchmark's own name, which is also the beginning of every id.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The section that the category counts in.
            pub const fn section(self) -> Section {
                match self {
                    $(Self::$variant => Section::$section,)*
                }
            }

            /// Entries of the released data.
            pub const fn entries(self) -> usize {
                match self {
                    $(Self::$variant => $entries,)*
                }
            }

            /// How the category is scored.
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$variant => Kind::$kind,)*
                }
            }
        }
    };
}

categories! {
    SimplePython, "simple_python", NonLive, Simple, 400;
    SimpleJava, "simple_java", NonLive, Simple, 100;
    SimpleJavaScript, "simple_javascript", NonLive, Simple, 50;
    Multiple, "multiple", NonLive, Multiple, 200;
    Parallel, "parallel", NonLive, Parallel, 200;
    ParallelMultiple, "parallel_multiple", NonLive, Parallel, 200;
    Irrelevance, "irrelevance", NonLive, Irrelevance, 240;
    LiveSimple, "live_simple", Live, Simple, 258;
    LiveMultiple, "live_multiple", Live, Multiple, 1053;
    LiveParallel, "live_parallel", Live, Parallel, 16;
    LiveParallelMultiple, "live_parallel_multiple", Live, Parallel, 24;
    LiveIrrelevance, "live_irrelevance", Live, Irrelevance, 884;
    LiveRelevance, "live_relevance", Live, Relevance, 16;
    MultiTurnBase, "multi_turn_base", MultiTurn, MultiTurn, 200;
    MultiTurnMissFunc, "multi_turn_miss_func", MultiTurn, MultiTurn, 200;
    MultiTurnMissParam, "multi_turn_miss_param", MultiTurn, MultiTurn, 200;
    MultiTurnLongContext, "multi_turn_long_context", MultiTurn, MultiTurn, 200;
}

impl Category {
    /// The category of this name; `None` for a name of another version.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.name() == name)
    }

    /// The category of an item: everything before the last `_` of its id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::from_name(id.rsplit_once('_')?.0)
    }

    /// The language of the arguments.
    pub const fn language(self) -> Language {
        match self {
            Self::SimpleJava => Language::Java,
            Self::SimpleJavaScript => Language::JavaScript,
            _ => Language::Python,
        }
    }

    /// Whether accepted answers exist.
    pub fn has_answers(self) -> bool {
        !matches!(self.kind(), Kind::Irrelevance | Kind::Relevance)
    }

    /// Whether the back ends add filler to what they return.
    pub fn is_long_context(self) -> bool {
        self == Self::MultiTurnLongContext
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where an id stands within its category: the first number behind the name.
pub fn sort_key(id: &str) -> (u64, &str) {
    let tail = id.rsplit_once('_').map_or(id, |(_, tail)| tail);
    let digits = tail.split('-').next().unwrap_or_default();
    (digits.parse().unwrap_or(u64::MAX), id)
}
