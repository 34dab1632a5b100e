//! The stage kinds of starling.
