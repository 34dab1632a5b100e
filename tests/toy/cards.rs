//! Cards: who computes on `cuda` gets one of its own. No card is needed to see that: each process tells which it sees.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::Signal;
use starling::report::RunEvent;
use starling::run::Manifest;
use starling_cache::Store as _;

use crate::space::{Ran, Space, send, workers};

const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// Forty lines in ten chunks of four, mapped on a device by stages that end with `more`.
fn pipeline(space: &Space, head: &str, stages: &[(&str, &str)]) -> String {
    let diary = space.store_path("diary");
    let lines: String = (0..40).map(|n| format!("line {n}\\n")).collect();
    let mut text = format!("{head}\n[stage.text]\nkind = \"toy-write\"\ntext = \"{lines}\"\n");
    for (name, more) in stages {
        text.push_str(&format!(
            "\n[stage.{name}]\nkind = \"toy-map\"\ninputs.rows = \"text.rows\"\nsalt = \"{name}\"\npause = 4\n\
             diary = {diary:?}\n{more}\n"
        ));
    }
    text
}

fn space(visible: &str, head: &str, stages: &[(&str, &str)]) -> Space {
    let mut space = Space::new("");
    space.env.push((VARIABLE, visible.to_owned()));
    space.write(&pipeline(&space, head, stages));
    space
}

/// What processes told about cards.
struct Diary {
    /// The cards that were seen, each once.
    cards: Vec<String>,
    /// For each chunk that began, the processes that worked then.
    working: Vec<Vec<u32>>,
}

impl Diary {
    /// How many of these processes worked at once at most.
    fn most(&self, of: impl Fn(u32) -> bool) -> usize {
        let counts = self
            .working
            .iter()
            .map(|now| now.iter().filter(|&&p| of(p)).count());
        counts.max().unwrap_or(0)
    }
}

/// Reads the diary and takes it away; two processes on one card at once are a failure.
fn diary(space: &Space) -> Diary {
    let path = space.store_path("diary");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let mut now: BTreeMap<u32, &str> = BTreeMap::new();
    let (mut cards, mut working) = (BTreeSet::new(), Vec::new());
    for line in text.lines() {
        let [what, card, process] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line:?} in {text}");
        };
        let process = process.parse().unwrap();
        if what == "begin" {
            let other = now.values().find(|c| **c == card);
            assert!(other.is_none(), "two on card {card}: {text}");
            now.insert(process, card);
            cards.insert(card.to_owned());
            working.push(now.keys().copied().collect());
        } else {
            assert_eq!(now.remove(&process), Some(card), "{text}");
        }
    }
    Diary {
        cards: cards.into_iter().collect(),
        working,
    }
}

/// The cards that workers of a stage were started with.
fn cards(ran: &Ran, name: &str) -> Vec<Option<String>> {
    let started = ran.events.iter().filter_map(|event| match event {
        RunEvent::Started { stage, card, .. } if stage == name => Some(card.clone()),
        _ => None,
    });
    started.collect()
}

fn pids(ran: &Ran, name: &str) -> Vec<u32> {
    let started = ran.events.iter().filter_map(|event| match event {
        RunEvent::Started { stage, pid, .. } if stage == name => Some(*pid),
        _ => None,
    });
    started.collect()
}

fn notices(ran: &Ran) -> Vec<&str> {
    let notices = ran.events.iter().filter_map(|event| match event {
        RunEvent::Notice { text } => Some(text.as_str()),
        _ => None,
    });
    notices.collect()
}

const CUDA: &str = "device = \"cuda\"";

#[test]
fn stages_side_by_side_have_a_card_each() {
    let stages = [("a", CUDA), ("b", CUDA), ("c", CUDA), ("d", CUDA)];
    let space = space("5,GPU-7,9", "[run]\nthreads = 8\ncards = 2", &stages);
    let ran = space.complete("s");
    let seen = diary(&space);
    assert_eq!(seen.cards, ["5", "GPU-7"]);
    assert_eq!(seen.most(|_| true), 2);
    for (stage, _) in stages {
        assert!(cards(&ran, stage)[0].is_some());
    }
    assert_eq!(cards(&ran, "text"), [None]);
    let store = space.store("s");
    let run = store.runs().unwrap().pop().expect("a run");
    let manifest = Manifest::read(&store, &run).unwrap().expect("its manifest");
    assert_eq!(manifest.cards, ["5", "GPU-7"]);
    let given = |name: &str| {
        let stage = manifest.stages.iter().find(|s| s.name == name);
        stage.expect("it is there").resources.clone()
    };
    // Half of the threads, so that two stages that say nothing of threads have room.
    assert_eq!((given("a").cards, given("a").threads), (Some(1), 4));
    assert_eq!(given("text").cards, None);
}

#[test]
fn shards_have_a_card_each_and_cards_are_in_no_key() {
    let space = space("0,1,2,3", "", &[("map", CUDA)]);
    space.complete("one");
    assert_eq!(diary(&space).cards, ["0,1,2,3"], "as the environment says");
    space.write(&pipeline(
        &space,
        "",
        &[("map", "device = \"cuda\"\nshards = 5")],
    ));
    let ran = space.run("several", &["--threads", "6", "--cards", "3"]);
    assert_eq!(ran.code, 0, "{:#?}", ran.events);
    let seen = diary(&space);
    assert_eq!(seen.cards, ["0", "1", "2"]);
    assert_eq!(seen.most(|_| true), 3);
    let had = cards(&ran, "map");
    assert_eq!(
        had.len(),
        6,
        "a worker a shard, and one that gathers: {had:?}"
    );
    assert!(had.iter().all(Option::is_some), "{had:?}");
    assert_eq!(space.digests("several"), space.digests("one"));
    let again = space.run("one", &["--cards", "2"]);
    assert_eq!((again.code, again.started()), (0, vec![]));
}

#[test]
fn shards_that_wait_take_cards_that_others_give_back() {
    let stages = [
        ("first", CUDA),
        (
            "wide",
            "device = \"cuda\"\nshards = 6\nsalt = \"w\"\npause = 30",
        ),
    ];
    let mut space = Space::new("");
    space.env.push((VARIABLE, "0,1,2".to_owned()));
    let text = pipeline(&space, "[run]\nthreads = 3\ncards = 2", &stages);
    space.write(&text.replace("salt = \"wide\"\npause = 4\n", ""));
    let ran = space.complete("s");
    // It began with the one card that was left, and had both in the end.
    let started = |e: &RunEvent| match e {
        RunEvent::Started { stage, .. } => Some(stage.clone()),
        RunEvent::Done { stage, .. } => Some(format!("{stage} is done")),
        _ => None,
    };
    let story: Vec<String> = ran.events.iter().filter_map(started).collect();
    let done = story.iter().position(|s| s == "first is done").unwrap();
    let before = story[..done].iter().filter(|s| *s == "wide").count();
    let wide: Vec<u32> = pids(&ran, "wide");
    assert!((1..7).contains(&before), "{story:?}");
    assert_eq!(wide.len(), 7);
    let seen = diary(&space);
    assert_eq!(seen.most(|_| true), 2);
    assert_eq!(seen.most(|p| wide.contains(&p)), 2, "{story:?}");
}

#[test]
fn without_a_count_one_stage_at_a_time_has_what_the_environment_shows() {
    let stages = [
        ("a", "device = \"cuda\"\nthreads = 1"),
        ("b", "device = \"cuda\"\nthreads = 1"),
    ];
    let space = space("4,6", "[run]\nthreads = 4", &stages);
    let ran = space.complete("s");
    // Two at once would have been two on one card.
    assert_eq!(diary(&space).cards, ["4,6"]);
    assert_eq!(cards(&ran, "a"), [None]);
}

#[test]
fn fewer_cards_than_asked_for_are_told() {
    let space = space(
        "3",
        "[run]\nthreads = 4\ncards = 8",
        &[("a", CUDA), ("b", CUDA)],
    );
    let ran = space.complete("s");
    assert_eq!(diary(&space).cards, ["3"]);
    let told = notices(&ran);
    assert_eq!(
        told,
        ["8 cards are asked for and CUDA_VISIBLE_DEVICES shows 1"]
    );
}

#[test]
fn a_profile_for_cards_that_no_stage_can_use_is_told() {
    let head = "[profile.gpu]\ndevice = \"cuda\"\ncards = 2";
    let space = space("3", head, &[]);
    let told = |ran: &Ran| {
        notices(ran)
            .join("\n")
            .contains("no stage can compute there")
    };
    assert!(told(&space.run("s", &["--set", "profile=gpu"])));
    assert!(!told(&space.run("s", &[])));
    space.write(&pipeline(&space, head, &[("map", "")]));
    let ran = space.run("s", &["--set", "profile=gpu"]);
    assert!(!told(&ran));
    assert_eq!(cards(&ran, "map"), [Some("3".to_owned())]);
}

#[test]
fn a_card_comes_back_from_a_worker_that_is_killed() {
    let stages = [("a", CUDA), ("b", CUDA)];
    let space = space("0", "[run]\nthreads = 2\ncards = 1", &stages);
    let mut run = space.start("s", &[]);
    run.until_started("a");
    let pid = *workers(&run.events).last().expect("it started");
    send(pid, Signal::KILL);
    let ran = run.finish();
    assert_eq!(ran.code, 4, "{:#?}", ran.events);
    assert_eq!(cards(&ran, "b"), [Some("0".to_owned())]);
    assert_eq!(space.complete("s").started(), ["a"]);
}
