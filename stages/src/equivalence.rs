//! A run that was cut off equals an unbroken one, for every method that learns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use starling_contract::{Stage, StageError};

use crate::distill::Distill;
use crate::dpo::Dpo;
use crate::rl::Rl;
use crate::rollout::RolloutKind;
use crate::sft::Sft;
use crate::teacher_topk::TeacherTopK;
use crate::testing::{SmallWorld, run, try_run_many};

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_owned();
                found.insert(name, std::fs::read(&path).expect("bytes"));
            }
        }
    }
    found
}

struct Case<'a> {
    small: &'a SmallWorld,
    name: &'static str,
    params: Value,
    inputs: Vec<(&'static str, &'a Path)>,
    many: Vec<(&'static str, &'static str, &'a Path)>,
    /// Snapshots that an attempt may save before it is asked to stop.
    stop_after: usize,
}

impl Case<'_> {
    /// Runs unbroken, then again with a stop after every snapshot; both leave the same files.
    fn check<S: Stage>(self) {
        let params = || self.small.params::<S::Params>(self.params.clone());
        let (whole, broken) = (
            self.small.folder(&format!("{}-whole", self.name)),
            self.small.folder(&format!("{}-broken", self.name)),
        );
        try_run_many::<S>(params(), &whole, &self.inputs, &self.many, None).expect(self.name);
        let mut stops = 0;
        loop {
            // What an interrupted attempt wrote is gone, as in a worker's own folder.
            drop(std::fs::remove_dir_all(broken.join("out")));
            match try_run_many::<S>(
                params(),
                &broken,
                &self.inputs,
                &self.many,
                Some(self.stop_after),
            ) {
                Ok(_) => break,
                Err(StageError::Interrupted) => stops += 1,
                Err(error) => panic!("{}: {error}", self.name),
            }
        }
        assert!(stops > 0, "{}: was never stopped", self.name);
        let (whole, broken) = (files(&whole.join("out")), files(&broken.join("out")));
        assert!(
            whole.keys().eq(broken.keys()),
            "{}: {:?}",
            self.name,
            broken.keys()
        );
        for (name, bytes) in &whole {
            assert!(bytes == &broken[name], "{}: {}", self.name, name.display());
        }
    }
}

#[test]
fn fresh_is_resumed_for_every_method() {
    let small = SmallWorld::new();
    let model = small.teacher();
    let sampled = small.folder("sampled");
    let how = json!({"samples": 4, "top-k": 8, "max-new-tokens": 48});
    let inputs = [("model", model.as_path()), ("prompts", small.rows())];
    run::<RolloutKind>(small.params(how), &sampled, &inputs);
    let rollouts = sampled.join("out/rollouts");
    let (model, rollouts, rows) = (model.as_path(), rollouts.as_path(), small.rows());

    let learn = |extra: Value| {
        let mut all =
            json!({"updates": 4, "batch": 4, "snapshot-seconds": 0.0, "optimizer": {"lr": 1e-3}});
        let extra = extra.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(extra);
        all
    };
    let case = |name, params, inputs| Case {
        small: &small,
        name,
        params,
        inputs,
        many: Vec::new(),
        stop_after: 1,
    };
    case(
        "sft",
        learn(json!({})),
        vec![("model", model), ("rows", rows)],
    )
    .check::<Sft>();

    let student = || vec![("student", model), ("rollouts", rollouts)];
    for (name, extra) in [
        ("fkl", json!({"tail": 0.0})),
        ("ckd", json!({"tail": 1.0, "student-top": 8})),
        (
            "rkl",
            json!({"divergence": "rkl", "tail": 0.0, "ratio": 0.5}),
        ),
        ("akl", json!({"divergence": "akl", "mask": "alter"})),
    ] {
        case(name, learn(extra), student()).check::<Distill>();
    }
    let mut with_teacher = student();
    with_teacher.push(("teacher", model));
    let gkd = json!({"divergence": "js", "tail": 0.0, "on-policy": 0.5, "max-new-tokens": 32});
    case("gkd", learn(gkd), with_teacher).check::<Distill>();

    Case {
        many: vec![("rollouts", "teacher", rollouts)],
        ..case(
            "dpo",
            learn(json!({})),
            vec![("model", model), ("prompts", rows)],
        )
    }
    .check::<Dpo>();

    let explore = |extra: Value| {
        let mut all = json!({
            "updates": 3, "prompts": 6, "samples": 4, "max-new-tokens": 48, "snapshot-seconds": 0.0,
        });
        let extra = extra.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(extra);
        all
    };
    let policy = || vec![("model", model), ("prompts", rows)];
    for (name, extra) in [
        ("sim-rl", json!({})),
        ("mini-batches", json!({"mini-batch": 2})),
        (
            "toolrl",
            json!({"reward": "toolrl", "estimator": "rloo", "kl-in": "reward", "kl-estimator": "k1"}),
        ),
        (
            "gspo",
            json!({"reward": "format-exact", "ratio": "sequence", "filter": {"rounds": 3}}),
        ),
    ] {
        case(name, explore(extra), policy()).check::<Rl>();
    }
    let mut with_traces = policy();
    with_traces.push(("traces", rollouts));
    let luffy = json!({"estimator": "dr-grpo", "kl": 0.0});
    case("luffy", explore(luffy), with_traces).check::<Rl>();
}

/// Sixty prompts are two groups, and between them is the one place to stop.
#[test]
fn a_teachers_pass_goes_on_where_it_stopped() {
    let small = SmallWorld::new();
    let model = small.teacher();
    Case {
        small: &small,
        name: "teacher-topk",
        params: json!({"top-k": 8, "snapshot-seconds": 0.0}),
        inputs: vec![("teacher", model.as_path()), ("rows", small.rows())],
        many: Vec::new(),
        stop_after: 0,
    }
    .check::<TeacherTopK>();
}
