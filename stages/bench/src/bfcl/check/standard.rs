//! The form in which strings are compared.

use std::borrow::Cow;

/// Characters that comparisons of strings ignore.
const IGNORED: [char; 8] = [' ', ',', '.', '/', '-', '_', '*', '^'];

/// The form in which strings are compared: eight characters dropped, lower case, one kind of quote.
pub(super) fn standardise(text: &str) -> Cow<'_, str> {
    let lower = |text: &str| text.to_lowercase().replace('\'', "\"");
    let kept: String = text.chars().filter(|c| !IGNORED.contains(c)).collect();
    Cow::Owned(lower(&kept))
}
