//! Black-box tests of the built command: files go in, stdout, stderr and an exit code come out.

mod docs;
mod house;
mod kinds;
mod plans;
mod resume;
mod schema;
mod space;
mod usage;
