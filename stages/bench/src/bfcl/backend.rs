//! The eight simulated back ends of multi-turn items.
//!
//! Each is a plain struct whose attributes are dynamic values, loaded from a scenario that nobody validated. Methods
//! take bound arguments and answer a value or raise; [`Instance::call`] binds as Python binds. Clocks do not exist
//! here except for one: the age of a traveller needs today's date, which the caller gives.

mod files;
mod logarithm;
mod math;
mod message;
mod random;
mod square_root;
mod strptime;
mod tables;
mod ticket;
mod trading;
mod travel;
mod twitter;
mod vehicle;

use std::sync::{Arc, LazyLock};

use sha2::{Digest as _, Sha256};

use super::data::hex;
use super::py::{Py, Raise, Reply, eq};
pub(crate) use tables::Tables;

/// What a new instance is made for.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) tables: Arc<Tables>,
    pub(crate) long_context: bool,
    pub(crate) today: Date,
}

/// A day of the calendar, for the one method that needs today's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Year.
    pub year: i64,
    /// Month, from 1.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
}

impl Date {
    /// The day on which the benchmark's package that the data come from was released.
    pub const RELEASE: Self = Self {
        year: 2026,
        month: 3,
        day: 23,
    };
}

/// A parameter of a method.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    default: Default,
}

/// The default of a parameter.
#[derive(Debug, Clone, Copy)]
enum Default {
    Required,
    None,
    Bool(bool),
    Int(i64),
    Text(&'static str),
    EmptyList,
    /// What a method knows as left out: `...`, which no argument is.
    Omitted,
}

/// A public method.
struct Method<T> {
    name: &'static str,
    parameters: &'static [Parameter],
    run: fn(&mut T, Vec<Py>) -> Reply,
}

/// Splits bound arguments; there are exactly as many as the method has parameters.
fn take<const N: usize>(args: Vec<Py>) -> [Py; N] {
    args.try_into().unwrap_or([const { Py::None }; N])
}

/// The table of public methods: name, parameters with their defaults, and the function of the same name.
macro_rules! methods {
    ($($name:ident = $function:ident($($parameter:ident $(= $default:expr)?),*);)*) => {
        pub(super) const METHODS: &[$crate::bfcl::backend::Method<Self>] = &[$(
            $crate::bfcl::backend::Method {
                name: stringify!($name),
                parameters: &[$($crate::bfcl::backend::Parameter {
                    name: stringify!($parameter),
                    default: $crate::bfcl::backend::default!($($default)?),
                }),*],
                run: |this, args| this.$function($crate::bfcl::backend::take(args)),
            }
        ),*];
    };
}
use methods;

macro_rules! default {
    () => {
        $crate::bfcl::backend::Default::Required
    };
    ($default:expr) => {
        $default
    };
}
use default;

macro_rules! classes {
    ($($variant:ident, $name:literal, $document:literal, $type:ty;)*) => {
        /// A class of back ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "named after what they simulate")]
        pub enum Class {
            $($variant,)*
        }

        impl Class {
            /// Every class.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The benchmark's name of the class.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Name of the file with its function documents.
            pub(super) const fn document_name(self) -> &'static str {
                match self {
                    $(Self::$variant => $document,)*
                }
            }

            /// A new instance in the state of a scenario (no object means an empty one).
            ///
            /// # Errors
            /// Where the benchmark would raise on loading the scenario.
            pub(crate) fn load(self, scenario: &Py, setting: &Setting) -> Reply<Instance> {
                Ok(match self {
                    $(Self::$variant => Instance::$variant(<$type>::load(scenario, setting)?),)*
                })
            }
        }

        /// An instance of a class.
        #[derive(Debug, Clone)]
        #[expect(
            clippy::large_enum_variant,
            reason = "a scenario holds a handful of instances, so boxing them would only cost a jump a call"
        )]
        pub(crate) enum Instance {
            $($variant($type),)*
        }

        impl Instance {
            /// Calls a public method with positional and keyword arguments.
            pub(crate) fn call(
                &mut self,
                method: MethodId,
                args: Vec<Py>,
                keywords: Vec<(String, Py)>,
            ) -> Reply {
                match self {
                    $(Self::$variant(this) => {
                        let method = &<$type>::METHODS[method.index];
                        let args = bind($name, method.name, method.parameters, args, keywords)?;
                        (method.run)(this, args)
                    })*
                }
            }

            /// Calls a public method with a value for every parameter.
            pub(crate) fn run(&mut self, method: MethodId, args: Vec<Py>) -> Reply {
                match self {
                    $(Self::$variant(this) => (<$type>::METHODS[method.index].run)(this, args),)*
                }
            }

            /// Public attributes in the order in which they are compared.
            pub(crate) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
                match self {
                    $(Self::$variant(this) => this.attributes(),)*
                }
            }
        }

        /// Every public method, in buckets by its name; no name occurs twice.
        static METHODS: LazyLock<[Vec<(&'static str, MethodId)>; BUCKETS]> = LazyLock::new(|| {
            let mut methods = std::array::from_fn(|_| Vec::new());
            $(for (index, method) in <$type>::METHODS.iter().enumerate() {
                let id = MethodId { class: Class::$variant, index };
                methods[bucket(method.name)].push((method.name, id));
            })*
            methods
        });

        impl MethodId {
            /// The parameters, in order.
            pub(crate) fn parameters(self) -> &'static [Parameter] {
                match self.class {
                    $(Class::$variant => <$type>::METHODS[self.index].parameters,)*
                }
            }
        }
    };
}

classes! {
    FileSystem, "GorillaFileSystem", "gorilla_file_system", files::FileSystem;
    Math, "MathAPI", "math_api", math::Math;
    Message, "MessageAPI", "message_api", message::Message;
    Twitter, "TwitterAPI", "posting_api", twitter::Twitter;
    Ticket, "TicketAPI", "ticket_api", ticket::Ticket;
    Trading, "TradingBot", "trading_bot", trading::Trading;
    Travel, "TravelAPI", "travel_booking", travel::Travel;
    Vehicle, "VehicleControlAPI", "vehicle_control", vehicle::Vehicle;
}

impl Class {
    /// The class of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.name() == name)
    }
}

/// A public method of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MethodId {
    pub(crate) class: Class,
    index: usize,
}

/// Twice as many as there are methods.
const BUCKETS: usize = 256;

/// A cheap digest of a name: its length and three of its bytes.
fn bucket(name: &str) -> usize {
    let bytes = name.as_bytes();
    let part = |at: usize| bytes.get(at).map_or(0, |byte| usize::from(*byte));
    (bytes.len() * 37 + part(0) * 7 + part(bytes.len() / 2) * 3 + part(bytes.len().wrapping_sub(1)))
        % BUCKETS
}

/// The public method of this name.
pub(crate) fn method(name: &str) -> Option<MethodId> {
    let found = METHODS[bucket(name)]
        .iter()
        .find(|(found, _)| *found == name);
    found.map(|(_, method)| *method)
}

/// A public attribute: a value, or the tree of a file system.
pub(crate) enum Attribute<'a> {
    Value(&'a Py),
    Bool(bool),
    Files(&'a files::FileSystem),
}

impl Instance {
    /// Whether every public attribute of `truth` equals this one's.
    pub(crate) fn state_equals(&self, truth: &Self) -> bool {
        let pairs = self.attributes().into_iter().zip(truth.attributes());
        pairs
            .into_iter()
            .all(|((_, found), (_, truth))| match (found, truth) {
                (Attribute::Value(a), Attribute::Value(b)) => eq(a, b),
                (Attribute::Bool(a), Attribute::Bool(b)) => a == b,
                (Attribute::Files(a), Attribute::Files(b)) => a.tree_equals(b),
                _ => false,
            })
    }

    /// The public attributes as one JSON text with sorted keys and no spaces; see [`digest`].
    pub(crate) fn canonical(&self) -> Vec<(&'static str, String)> {
        let mut attributes: Vec<(&str, String)> = self
            .attributes()
            .into_iter()
            .map(|(name, value)| {
                let mut out = String::new();
                match value {
                    Attribute::Value(value) => tables::write_canonical(&mut out, value),
                    Attribute::Bool(value) => out.push_str(if value { "true" } else { "false" }),
                    Attribute::Files(files) => files.write_canonical(&mut out),
                }
                (name, out)
            })
            .collect();
        attributes.sort_unstable();
        attributes
    }

    /// The current directory of a file system, which is no public attribute.
    pub(crate) fn working_directory(&self) -> Option<String> {
        match self {
            Self::FileSystem(files) => Some(files.working_directory()),
            _ => None,
        }
    }
}

/// SHA-256 of the public attributes of instances, by class name.
pub(crate) fn digest(instances: &[(Class, Instance)]) -> String {
    let mut classes: Vec<_> = instances.iter().collect();
    classes.sort_by_key(|(class, _)| class.name());
    let classes = classes.into_iter().map(|(class, instance)| {
        let attributes = instance.canonical().into_iter();
        let attributes: Vec<_> = attributes.map(|(k, v)| format!("\"{k}\":{v}")).collect();
        format!("\"{}\":{{{}}}", class.name(), attributes.join(","))
    });
    let text = format!("{{{}}}", classes.collect::<Vec<_>>().join(","));
    hex(&Sha256::digest(text))
}

/// Binds arguments to parameters as Python does, with its error texts.
fn bind(
    class: &str,
    name: &str,
    parameters: &[Parameter],
    args: Vec<Py>,
    keywords: Vec<(String, Py)>,
) -> Reply<Vec<Py>> {
    let given = args.len();
    let mut bound: Vec<Option<Py>> = args.into_iter().take(parameters.len()).map(Some).collect();
    bound.resize(parameters.len(), None);
    for (keyword, value) in keywords {
        let Some(at) = parameters
            .iter()
            .position(|parameter| parameter.name == keyword)
        else {
            return Err(Raise::type_error(format!(
                "{class}.{name}() got an unexpected keyword argument '{keyword}'"
            )));
        };
        if bound[at].is_some() {
            return Err(Raise::type_error(format!(
                "{class}.{name}() got multiple values for argument '{keyword}'"
            )));
        }
        bound[at] = Some(value);
    }
    if given > parameters.len() {
        return Err(too_many(class, name, parameters, given));
    }
    let missing = |(parameter, value): &(&Parameter, &Option<Py>)| {
        value.is_none() && matches!(parameter.default, Default::Required)
    };
    let missing: Vec<&str> = parameters
        .iter()
        .zip(&bound)
        .filter(missing)
        .map(|(parameter, _)| parameter.name)
        .collect();
    if !missing.is_empty() {
        return Err(missing_arguments(class, name, &missing));
    }
    let value = |(parameter, value): (&Parameter, Option<Py>)| {
        value.or_else(|| default_of(parameter)).unwrap_or(Py::None)
    };
    Ok(parameters.iter().zip(bound).map(value).collect())
}

/// What a parameter is when it is not given; `None` where it must be.
pub(crate) fn default_of(parameter: &Parameter) -> Option<Py> {
    Some(match parameter.default {
        Default::Required => return None,
        Default::None => Py::None,
        Default::Bool(value) => Py::Bool(value),
        Default::Int(int) => Py::Int(int),
        Default::Text(text) => Py::from(text),
        Default::EmptyList => Py::from(Vec::new()),
        Default::Omitted => Py::Ellipsis,
    })
}

fn too_many(class: &str, name: &str, parameters: &[Parameter], given: usize) -> Raise {
    // The instance counts as the first argument.
    let most = parameters.len() + 1;
    let defaults = parameters
        .iter()
        .filter(|p| !matches!(p.default, Default::Required))
        .count();
    let takes = match defaults {
        0 => most.to_string(),
        _ => format!("from {} to {most}", most - defaults),
    };
    let plural = if most == 1 && defaults == 0 { "" } else { "s" };
    let given = given + 1;
    let verb = if given == 1 { "was" } else { "were" };
    Raise::type_error(format!(
        "{class}.{name}() takes {takes} positional argument{plural} but {given} {verb} given"
    ))
}

fn missing_arguments(class: &str, name: &str, missing: &[&str]) -> Raise {
    let quoted: Vec<String> = missing.iter().map(|name| format!("'{name}'")).collect();
    let list = match quoted.as_slice() {
        [one] => one.clone(),
        [first, second] => format!("{first} and {second}"),
        [front @ .., last] => format!("{}, and {last}", front.join(", ")),
        [] => String::new(),
    };
    let plural = if missing.len() == 1 { "" } else { "s" };
    let count = missing.len();
    Raise::type_error(format!(
        "{class}.{name}() missing {count} required positional argument{plural}: {list}"
    ))
}
