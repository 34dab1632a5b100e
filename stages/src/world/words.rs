//! The vocabulary of the world: plain English words, none a prefix trick.

/// What tools do.
pub(super) const VERBS: &[&str] = &[
    "book", "cancel", "check", "find", "open", "close", "send", "print", "rent", "order", "track",
    "share", "save", "move", "clean", "count", "paint", "scan", "sort", "lock",
];

/// What they do it to.
pub(super) const NOUNS: &[&str] = &[
    "hotel", "ticket", "room", "letter", "table", "parcel", "photo", "meeting", "garden", "engine",
    "window", "printer", "wallet", "lesson", "report", "bicycle", "camera", "folder", "river",
    "market",
];

/// Names of arguments.
pub(super) const ARGUMENTS: &[&str] = &[
    "city", "day", "color", "size", "name", "place", "month", "guest", "level", "shape", "style",
    "team",
];

/// Values of arguments; any argument takes any of them, so that values must be copied, not guessed.
pub(super) const VALUES: &[&str] = &[
    "paris", "monday", "red", "small", "anna", "north", "june", "peter", "high", "round", "modern",
    "tigers", "rome", "friday", "blue", "large", "boris", "south", "april", "maria", "low",
    "square", "rustic", "eagles", "oslo", "sunday", "green", "tiny", "clara", "east", "march",
    "oscar", "middle", "flat", "simple", "sharks", "cairo", "tuesday", "white", "huge", "david",
    "west", "august", "nina", "medium", "curved", "classic", "wolves",
];

/// How a request begins, and what stands between its object and its arguments.
pub(super) const PHRASES: &[(&str, &str)] = &[
    ("", " with "),
    ("please ", " with "),
    ("can you ", " for "),
    ("i want to ", " using "),
    ("now ", " , "),
];

/// The answer when no tool fits.
pub(super) const REFUSAL: &str = "no tool fits this request";
