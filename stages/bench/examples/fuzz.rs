//! Runs the fuzz targets on as many changed texts as one has time for.
//!
//!     cargo run --release -p starling-bench --example fuzz -- --runs 1000000 [--target NAME] [--seed N]
//!
//! The text under way is in the file `fuzz-input.txt` of the working folder while it runs longer than usual, and
//! after a panic; put it into the target's corpus once the fault is mended.

#![expect(clippy::print_stdout, reason = "an example tells what it did")]

#[path = "../tests/support/mutate.rs"]
mod mutate;
#[path = "../tests/support/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mutate::Mutator;
use targets::{TARGETS, World, corpus};

/// A text that takes longer is worth a look.
const SLOW: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: u64| {
        value(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (runs, seed) = (number("--runs", 100_000), number("--seed", 1));
    let wanted = value("--target");
    let world = World::new();
    for (target, lines) in TARGETS {
        if wanted.as_ref().is_some_and(|wanted| wanted != target) {
            continue;
        }
        let texts = corpus(lines);
        let mut mutator = Mutator::new(&texts, seed);
        let (start, mut slowest) = (Instant::now(), Duration::ZERO);
        for _ in 0..runs {
            let text = mutator.next();
            let begun = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| world.run(target, &text)));
            let took = begun.elapsed();
            slowest = slowest.max(took);
            if outcome.is_err() || took > SLOW {
                std::fs::write("fuzz-input.txt", &text).expect("a file can be written");
                let what = if outcome.is_err() {
                    "panics"
                } else {
                    "is slow"
                };
                println!("{target}: a text {what} ({took:?}); it is in fuzz-input.txt");
                return ExitCode::FAILURE;
            }
        }
        let rate = runs as f64 / start.elapsed().as_secs_f64();
        println!("{target}: {runs} texts, {rate:.0} a second, the slowest took {slowest:?}");
    }
    ExitCode::SUCCESS
}
