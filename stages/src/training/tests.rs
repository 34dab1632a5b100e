//! The loop with a real, small model: where it stops, what it goes back to, and that nothing else moves a byte.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use starling_contract::{Event, Level, StageError};

use crate::sft::Sft;
use crate::testing::{SmallWorld, run_on};

/// What a training came to: weights and curve.
type Bytes = (Vec<u8>, String);

struct Space {
    small: SmallWorld,
    init: PathBuf,
}

impl Space {
    fn new() -> Self {
        let small = SmallWorld::new();
        let init = small.init();
        Self { small, init }
    }

    /// Trains in a folder whose snapshots stay from call to call, interrupted after so many of them.
    fn train(
        &self,
        folder: &str,
        more: &Value,
        interrupt: Option<usize>,
        threads: usize,
    ) -> Result<(Bytes, Vec<Event>), StageError> {
        let mut params = json!({
            "updates": 12, "batch": 4, "chunk-tokens": 200, "snapshot-seconds": 0.0,
            "optimizer": {"lr": 5e-3},
        });
        let both = [&mut params, &mut more.clone()].map(|v| v.as_object_mut().unwrap().clone());
        let [mut params, more] = both;
        params.extend(more);
        let folder = self.small.folder(folder);
        let inputs = [("model", self.init.as_path()), ("rows", self.small.rows())];
        let params = self.small.params(Value::Object(params));
        let events = run_on::<Sft>(params, &folder, &inputs, interrupt, threads)?;
        Ok((bytes(&folder), events))
    }

    fn whole(&self, folder: &str, more: &Value) -> (Bytes, Vec<Event>) {
        self.train(folder, more, None, 2).unwrap()
    }
}

fn bytes(folder: &Path) -> Bytes {
    let weights = std::fs::read(folder.join("out/model/model.safetensors")).unwrap();
    let curve = std::fs::read_to_string(folder.join("out/curve")).unwrap();
    (weights, curve)
}

fn rows(curve: &str) -> Vec<Value> {
    curve
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// The updates that were computed.
fn computed(events: &[Event]) -> Vec<u64> {
    let done = events.iter().filter_map(|event| match event {
        Event::Progress { done, .. } => Some(*done),
        _ => None,
    });
    done.collect()
}

fn warnings(events: &[Event]) -> Vec<&str> {
    let said = events.iter().filter_map(|event| match event {
        Event::Message {
            level: Level::Warning,
            text,
        } => Some(text.as_str()),
        _ => None,
    });
    said.collect()
}

#[test]
fn training_goes_on_from_where_it_stopped() {
    let space = Space::new();
    let (unbroken, _) = space.whole("unbroken", &json!({}));
    let (first, events) = space.whole("s", &json!({"stop-after": 5}));
    assert_eq!(computed(&events), [1, 2, 3, 4, 5]);
    // The schedule is that of all updates.
    assert_eq!(rows(&first.1), rows(&unbroken.1)[..5]);
    let (_, events) = space.whole("s", &json!({"stop-after": 8}));
    assert_eq!(computed(&events), [6, 7, 8]);
    // Curves are told from the beginning in every attempt.
    let told = events.iter().filter_map(|event| match event {
        Event::Scalars { step, .. } => Some(*step),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let (all, events) = space.whole("s", &json!({}));
    assert_eq!(computed(&events), [9, 10, 11, 12]);
    assert!(all == unbroken);
    // Lowered, it is served without an update.
    let (lower, events) = space.whole("s", &json!({"stop-after": 5}));
    assert_eq!(computed(&events), [] as [u64; 0]);
    assert!(lower == first);
}

/// A rate at which the loss explodes, and is below the limit once the rate is lower.
fn explosive() -> Value {
    json!({
        "optimizer": {"lr": 3.0, "warm-up": 0.5},
        "guards": {
            "loss": {"limit": 9.0, "patience": 2, "then": "roll-back"},
            "roll-back": {"every": 2, "most": 4, "rate": 0.01},
        },
    })
}

#[test]
fn training_rolls_back_and_goes_another_way() {
    let space = Space::new();
    let (unbroken, events) = space.whole("unbroken", &explosive());
    let said = warnings(&events);
    assert!(!said.is_empty(), "{}", unbroken.1);
    assert!(
        said[0].contains("guard `loss`: `loss` was above 9 for 2 updates in a row"),
        "{said:?}"
    );
    let curve = rows(&unbroken.1);
    let updates: Vec<u64> = curve
        .iter()
        .map(|row| row["update"].as_u64().unwrap())
        .collect();
    assert_eq!(
        updates,
        (1..=12).collect::<Vec<_>>(),
        "what was rolled back is not in the curve"
    );
    let back = curve
        .iter()
        .position(|row| row.get("rolled_back").is_some())
        .unwrap();
    assert_eq!(back % 2, 0, "states are kept every two updates");
    assert_eq!(curve[back]["roll_backs"], 1);
    // Fewer threads, and interruptions wherever a snapshot is, change nothing.
    let (single, _) = space.train("single", &explosive(), None, 1).unwrap();
    assert!(single == unbroken);
    let mut interrupted = 0;
    let broken = loop {
        match space.train("broken", &explosive(), Some(1), 2) {
            Ok((bytes, _)) => break bytes,
            Err(StageError::Interrupted) => interrupted += 1,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(interrupted > 3, "{interrupted}");
    assert!(broken == unbroken);
}

/// Wherever a rolled-back training is stopped, going on comes to the same, and so does stopping again.
#[test]
fn roll_backs_and_stops_agree() {
    let space = Space::new();
    let (unbroken, _) = space.whole("unbroken", &explosive());
    let with = |stop: u64| {
        let mut params = explosive();
        params["stop-after"] = stop.into();
        params
    };
    for stop in [3, 5, 7, 9] {
        let folder = format!("stop {stop}");
        let (first, _) = space.whole(&folder, &with(stop));
        let (all, _) = space.whole(&folder, &explosive());
        assert!(all == unbroken, "{stop}");
        let (again, _) = space.whole(&folder, &with(stop));
        assert!(again == first, "{stop}");
        // From the snapshots of the one that never stopped.
        let (served, _) = space.whole("unbroken", &with(stop));
        assert!(served == first, "{stop}");
    }
}

#[test]
fn in_the_end_a_guard_stops_with_the_numbers() {
    let space = Space::new();
    let hopeless = |then: &str| {
        json!({"guards": {
            "grad-norm": {"limit": 1e-9, "patience": 1, "then": then},
            "roll-back": {"every": 5, "most": 2},
        }})
    };
    let words = |then| {
        let ended = space.train(then, &hopeless(then), None, 2);
        let error = ended.map(|_| ()).unwrap_err();
        (error.to_string(), error.hint().map(str::to_owned))
    };
    let (message, hint) = words("stop");
    assert!(message.starts_with("stopped at update 1 of 12: guard `grad-norm`: `grad_norm` was above 0.000000001 for 1 update in a row, "), "{message}");
    assert!(message.contains(" at update 1 (loss "), "{message}");
    assert_eq!(
        hint.as_deref(),
        Some("lower `optimizer.lr` or `optimizer.clip`")
    );
    let (message, _) = words("roll-back");
    assert!(
        message.starts_with("stopped at update 1 of 12, after 2 roll-backs: "),
        "{message}"
    );
}

/// A rate that makes the weights infinite: the next loss is no number.
#[test]
fn what_is_not_finite_is_rolled_back_too() {
    let space = Space::new();
    let params = |then: &str| {
        json!({
            "optimizer": {"lr": 1e38, "warm-up": 0.0, "floor": 1.0},
            "guards": {"non-finite": then, "roll-back": {"every": 1, "most": 1, "rate": 1e-41}},
        })
    };
    let error = space
        .train("stop", &params("stop"), None, 2)
        .map(|_| ())
        .unwrap_err();
    assert!(
        error.to_string().contains("guard `non-finite`: "),
        "{error}"
    );
    let (all, events) = space.whole("back", &params("roll-back"));
    assert_eq!(warnings(&events).len(), 1);
    assert!(
        rows(&all.1).iter().all(|row| row["loss"].is_number()),
        "{}",
        all.1
    );
}

#[test]
fn snapshots_that_stay_change_no_byte() {
    let space = Space::new();
    let (plain, _) = space.whole("plain", &json!({}));
    let often = json!({"snapshot-every": 3, "snapshots-kept": 2, "snapshot-seconds": 1e9});
    let (kept, events) = space.whole("kept", &often);
    assert!(kept == plain);
    let saved: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Snapshot { progress } => Some(*progress),
            _ => None,
        })
        .collect();
    assert_eq!(saved, [6, 9]);
}
