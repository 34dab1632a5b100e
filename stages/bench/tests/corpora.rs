//! Every text that once was worth keeping gets its verdict, and so do small changes of it.
//!
//! `cargo run --release -p starling-bench --example fuzz -- --runs 1000000` does the same with as many changes as one
//! has time for; a text that panics or takes long belongs into `corpus/`.

#[path = "support/mutate.rs"]
mod mutate;
#[path = "support/targets.rs"]
mod targets;

use mutate::Mutator;
use targets::{TARGETS, World, corpus};

#[test]
fn kept_texts_and_their_neighbours_get_verdicts() {
    let world = World::new();
    for (target, lines) in TARGETS {
        let texts = corpus(lines);
        assert!(texts.len() >= 10, "{target}");
        for text in &texts {
            world.run(target, text);
        }
        let mut mutator = Mutator::new(&texts, 7);
        for _ in 0..200 {
            let text = mutator.next();
            world.run(target, &text);
        }
    }
}
