//! Black-box tests of the built command.
