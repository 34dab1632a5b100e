//! Black-box tests of the built command: files go in, stdout, stderr and an exit code come out.

mod bench;
mod data;
mod docs;
mod house;
#[path = "../support/hub.rs"]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "shared with the tests of the kinds"
)]
mod hub;
mod kinds;
mod lm;
mod machine_readable;
mod methods;
mod plans;
mod resume;
mod schema;
mod score;
mod small;
mod space;
mod stand_in;
mod store;
mod usage;
