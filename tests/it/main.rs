//! Black-box tests of the built command: files go in, stdout, stderr and an exit code come out.

mod house;
mod kinds;
mod methods;
mod lm;
mod plans;
mod resume;
mod space;
mod usage;
