//! Mutates seeds and counts panics and inputs that take long; shared by the tests that feed parsers with strangers' input.
//!
//! `STARLING_FUZZ` is the number of inputs (default 20,000), `STARLING_FUZZ_SEED` another stream of them.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Inputs of one share of the work.
const SHARE: u64 = 2_000;
/// No input may take longer on the processor, nor twice in a row where its time is not told.
const SLOW: Duration = Duration::from_secs(1);
/// Longest input, in bytes.
const LONGEST: usize = 4_096;

/// Pieces that parsers stumble over.
const WORDS: [&str; 56] = [
    "<tools>",
    "</tools>",
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<response>",
    "</response>",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    "\"",
    "'",
    "\\",
    "\\u",
    "\\ud800",
    "\\udc00",
    "\n",
    "\r",
    "\u{feff}",
    "\u{2028}",
    "null",
    "NaN",
    "Infinity",
    "-",
    "1e400",
    "0x",
    "1_0",
    "99999999999999999999999",
    "\"name\"",
    "\"arguments\"",
    "\"parameters\"",
    "\"properties\"",
    "\"type\"",
    "\"function\"",
    "\"role\"",
    "\"assistant\"",
    "\"content\"",
    "{{",
    "}}",
    "{%",
    "%}",
    "|tojson",
    "**",
    "lambda x:",
    "\"\"\"",
    "İ",
    "东",
    "\0",
];

#[expect(
    clippy::disallowed_methods,
    reason = "how much to do is asked from outside"
)]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// What this thread has used of the processor, where the system tells.
fn on_processor() -> Option<Duration> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = told.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Changes a seed a few times.
fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 => drop(bytes.drain(at.min(end)..end)),
            3 => {
                let piece = bytes[at.min(end)..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(200)).min(other.len())].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            5 => {
                let word = WORDS[random.below(WORDS.len())].repeat(1 << random.below(8));
                drop(bytes.splice(at..at, word.bytes()));
            }
            6 => bytes.truncate(at),
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                drop(bytes.splice(at..at, word.bytes()));
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// The seeds of a target: the files of its folder, and `more`.
fn seeds(folder: &Path, more: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let read = files.iter().map(|file| fs::read(file).expect("readable"));
    let all: Vec<Vec<u8>> = read.chain(more.iter().cloned()).collect();
    assert!(!all.is_empty(), "no seeds in {}", folder.display());
    all
}

/// Feeds every target (a name, and seeds besides those of its folder in `corpus`) in turn. `run` gets the name,
/// the input, and the number of the thread.
pub(crate) fn drive(
    corpus: &Path,
    targets: &[(&str, Vec<Vec<u8>>)],
    run: impl Fn(&str, &[u8], usize) + Sync,
) {
    let count = number("STARLING_FUZZ", 20_000);
    let seed = number("STARLING_FUZZ_SEED", 1);
    let seeds: BTreeMap<&str, Vec<Vec<u8>>> = targets
        .iter()
        .map(|(name, more)| (*name, seeds(&corpus.join(name), more)))
        .collect();
    let start = Instant::now();
    // Panics of a library that are told as errors would fill the screen; ours are shown below.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let slowest = Mutex::new((Duration::ZERO, String::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (next, failures, seeds, run) = (&next, &failures, &seeds, &run);
            let slowest = &slowest;
            scope.spawn(move || {
                loop {
                    let share = next.fetch_add(1, Ordering::Relaxed);
                    if share * SHARE >= count {
                        return;
                    }
                    let mut random = Random(seed << 40 | share);
                    for i in 0..SHARE.min(count - share * SHARE) {
                        let (name, _) = targets[(i % targets.len() as u64) as usize];
                        let bytes = mutated(&mut random, &seeds[name]);
                        let run = || run(name, &bytes, thread);
                        let timed = || {
                            let begun = Instant::now();
                            (catch_unwind(AssertUnwindSafe(run)), begun.elapsed())
                        };
                        let (mut outcome, mut took) = timed();
                        if took > SLOW {
                            // Others use the machine too: once more, by the time on the processor.
                            let before = on_processor();
                            let again = timed();
                            outcome = outcome.and(again.0);
                            let busy = on_processor().zip(before).map(|(after, b)| after - b);
                            took = took.min(busy.unwrap_or(again.1));
                        }
                        let text = String::from_utf8_lossy(&bytes);
                        let mut slow = slowest.lock().expect("nothing panics in here");
                        if took > slow.0 {
                            *slow = (took, format!("{name}: {text:?}"));
                        }
                        drop(slow);
                        if outcome.is_err() || took > SLOW {
                            let mut failures = failures.lock().expect("nothing panics in here");
                            let what = if outcome.is_err() {
                                "panics"
                            } else {
                                "is slow"
                            };
                            failures.push(format!("{name} {what} ({took:?}): {text:?}"));
                        }
                    }
                }
            });
        }
    });
    std::panic::set_hook(hook);
    let failures = failures.into_inner().expect("nothing panics in here");
    let seconds = start.elapsed().as_secs_f64();
    let (longest, input) = slowest.into_inner().expect("nothing panics in here");
    println!(
        "fuzz: {count} inputs of seed {seed} in {seconds:.1} s, {} failures; the longest took {longest:?}: {}",
        failures.len(),
        input.chars().take(600).collect::<String>()
    );
    assert!(
        failures.is_empty(),
        "{}",
        failures[..failures.len().min(3)].join("\n")
    );
}
