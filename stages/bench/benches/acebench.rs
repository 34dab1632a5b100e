//! Checks a second: every output of the golden cases (right answers and some hundred kinds of wrong ones,
//! 180 characters on average) against its entry, on one core.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use flate2::read::MultiGzDecoder;
use starling_text::json::{self, Value};

use starling_bench::acebench::{Dataset, Item, Lang, Profile};

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// The outputs of a language with their entries.
fn cases(dataset: &Dataset) -> Vec<(&Item, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/acebench/cases_public.jsonl.gz");
    let bytes = fs::read(file).expect("golden cases");
    let mut text = String::new();
    MultiGzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .expect("gzip");
    let rows = text.lines().map(|line| json::parse(line).expect("JSON"));
    let field = |row: &Value, key: &str| {
        row.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    rows.filter(|row| field(row, "lang") == dataset.lang().name())
        .map(|row| {
            (
                dataset.get(&field(&row, "id")).expect("a known id"),
                field(&row, "output"),
            )
        })
        .collect()
}

#[divan::bench(args = [(Lang::En, Profile::R2508), (Lang::Zh, Profile::R2508), (Lang::En, Profile::R2510)])]
fn check(bencher: Bencher<'_, '_>, (lang, profile): (Lang, Profile)) {
    let dataset = Dataset::embedded(lang, profile).expect("embedded data");
    let cases = cases(&dataset);
    bencher.counter(ItemsCount::new(cases.len())).bench(|| {
        cases
            .iter()
            .filter(|(item, output)| dataset.check(item, output).valid())
            .count()
    });
}

#[divan::bench]
fn load() -> usize {
    Dataset::embedded(Lang::En, Profile::R2508)
        .expect("embedded data")
        .items()
        .len()
}

#[divan::bench]
fn prompts(bencher: Bencher<'_, '_>) {
    let dataset = Dataset::embedded(Lang::En, Profile::R2508).expect("embedded data");
    bencher
        .counter(ItemsCount::new(dataset.items().len()))
        .bench(|| {
            dataset
                .items()
                .map(|item| dataset.prompt(item).system.len())
                .sum::<usize>()
        });
}
