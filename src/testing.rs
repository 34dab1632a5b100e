//! What the tests of several modules need.

use crate::Registry;

#[path = "../tests/support/conforms.rs"]
pub(crate) mod conforms;
#[path = "../tests/support/kinds.rs"]
pub(crate) mod kinds;

/// The kinds for tests.
pub(crate) fn registry() -> Registry {
    Registry::new(kinds::kinds())
}
