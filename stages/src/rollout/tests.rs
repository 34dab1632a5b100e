//! Rollouts of a server, against a scripted one on the loopback.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use starling_contract::{Determinism, Event, Stage, StageError, erase};
use starling_lm::tokenizer::Tokenizer;

use super::{INDEX, Params, Report, RolloutKind};
use crate::chat::END;
use crate::endpoint::tests::{Answer, Server, completion};
use crate::rollouts::Rollouts;
use crate::rows;
use crate::testing::{SmallWorld, run, try_run};

/// What the rows themselves answer, without the end token, by the user's last words.
fn answers(small: &SmallWorld) -> BTreeMap<String, String> {
    let texts = rows::read_all(small.rows()).expect("rows");
    let chats = rows::read_all(&small.conversations()).expect("rows");
    let targets: BTreeMap<String, String> = texts
        .iter()
        .map(|row| {
            let text = |name: &str| rows::text(row, name).expect("a text").to_owned();
            let targets = text("targets");
            let own = targets.strip_suffix('\n').unwrap_or(&targets);
            (text("id"), own.strip_suffix(END).unwrap_or(own).to_owned())
        })
        .collect();
    chats
        .iter()
        .map(|row| {
            let row: Value =
                serde_json::from_str(&starling_text::json::dumps(row)).expect("the same");
            (
                last_words(&row),
                targets[row["id"].as_str().expect("an id")].clone(),
            )
        })
        .collect()
}

/// The last words of the user in a chat.
fn last_words(body: &Value) -> String {
    let messages = body["messages"].as_array().expect("messages");
    let mut asked = messages.iter().filter(|m| m["role"] == "user");
    asked.next_back().expect("a user")["content"]
        .as_str()
        .expect("words")
        .to_owned()
}

fn choice(text: &str, finish: &str) -> Value {
    json!({"message": {"content": text}, "finish_reason": finish})
}

/// The first answer to the probes of a beginning, which know-how of tools lengthens.
fn probed(body: &Value) -> Option<Answer> {
    let words = match body.get("prompt") {
        Some(prompt) => prompt.as_str().expect("a text").to_owned(),
        None => last_words(body),
    };
    if words != "What is the weather in Paris?" {
        return None;
    }
    let count = if body.get("tools").is_some() { 200 } else { 20 };
    let n = body.get("n").and_then(Value::as_u64).unwrap_or(1);
    let k = body.get("logprobs").and_then(Value::as_u64).unwrap_or(0);
    let top: serde_json::Map<String, Value> = (0..k)
        .map(|i| (format!("{i}"), json!(-1.0 - i as f64)))
        .collect();
    let logprobs = json!({"tokens": ["0"], "token_logprobs": [-1.0], "top_logprobs": [top]});
    let choices: Vec<Value> = (0..n)
        .map(|_| json!({"message": {"content": "0"}, "text": "0", "logprobs": logprobs}))
        .collect();
    Some(completion(&json!(choices), count))
}

fn params(server: &Server, change: Value) -> Params {
    let mut all = json!({
        "endpoint": server.address, "endpoint-model": "scripted", "top-k": 0, "samples": 4,
        "max-new-tokens": 64, "prompts": 10,
    });
    for (name, value) in change.as_object().expect("an object") {
        all[name] = value.clone();
    }
    serde_json::from_value(all).expect("parameters")
}

fn inputs(small: &SmallWorld) -> [(&'static str, PathBuf); 3] {
    [
        ("prompts", small.rows().to_owned()),
        ("tokenizer", small.tokenizer_folder()),
        ("conversations", small.conversations()),
    ]
}

fn asked(server: &Server) -> Vec<Value> {
    let bodies = server.asked().into_iter().map(|(_, body)| body);
    bodies.filter(|body| probed(body).is_none()).collect()
}

#[test]
fn answers_of_a_chat_are_sifted_as_our_own() {
    let small = SmallWorld::new();
    let right = answers(&small);
    let known = right.clone();
    let refused = AtomicBool::new(false);
    let server = Server::start(move |_, body| {
        if let Some(answer) = probed(body) {
            return answer;
        }
        if !refused.swap(true, Ordering::Relaxed) {
            return Answer::Status(429, &[("retry-after", "0.01")], "slow down".to_owned());
        }
        let own = &known[&last_words(body)];
        let choices = [
            choice(own, "stop"),
            choice(own, "stop"),
            choice(
                "<think></think>no tool of this name: <tool_call>{}</tool_call>",
                "stop",
            ),
            choice(&own[..own.len() / 2], "length"),
        ];
        completion(&json!(choices), 90)
    });
    let folder = small.folder("chat");
    let inputs = inputs(&small);
    let inputs: Vec<_> = inputs.iter().map(|(n, p)| (*n, p.as_path())).collect();
    run::<RolloutKind>(
        params(&server, json!({"key-variable": "PATH"})),
        &folder,
        &inputs,
    );

    let report: Report = rows::read_json(&folder.join("out/report")).expect("a report");
    assert_eq!((report.prompts, report.sampled, report.kept), (10, 40, 10));
    assert_eq!(
        (report.duplicate, report.invalid, report.unfinished),
        (10, 10, 10)
    );
    let index: Value = rows::read_json(&folder.join("out/rollouts").join(INDEX)).expect("JSON");
    assert_eq!(
        index["sampled-by"],
        json!({"endpoint-model": "scripted", "deterministic": false})
    );

    let set = Rollouts::read(&folder.join("out/rollouts")).expect("rollouts");
    let tokenizer = small.tokenizer();
    for rollout in &set.rollouts {
        assert_eq!(rollout.id, format!("{}#0", rollout.seed));
        assert_eq!(
            rollout.ids,
            tokenizer.encode(&rollout.targets).expect("ids")
        );
        assert!(rollout.targets.ends_with(END));
        assert!(
            rollout.logprobs.iter().all(|lp| lp.is_nan()),
            "nobody told them"
        );
    }
    // What was asked: the messages before the answer, tools as schemas, all samples at once.
    let bodies = asked(&server);
    assert_eq!(bodies.len(), 11, "one was refused");
    for body in &bodies {
        assert_eq!(
            (&body["n"], &body["model"]),
            (&json!(4), &json!("scripted"))
        );
        assert!(
            body["messages"]
                .as_array()
                .expect("a list")
                .iter()
                .all(|m| m["role"] != "assistant")
        );
        assert_eq!(body["tools"][0]["type"], "function");
        assert_eq!(body["tools"][0]["function"]["parameters"]["type"], "object");
    }
    // The key went over the wire and nowhere else.
    let key = server.asked()[0].0.clone();
    let key = key
        .lines()
        .find_map(|l| l.strip_prefix("authorization: Bearer "))
        .expect("a key");
    for file in [
        "rollouts/rollouts.json",
        "rollouts/rollouts-00000.jsonl",
        "report",
    ] {
        let text = std::fs::read_to_string(folder.join("out").join(file)).expect("text");
        assert!(!text.contains(key), "{file}");
    }
}

#[test]
fn calls_and_thoughts_that_the_server_took_apart_are_written_back() {
    let small = SmallWorld::new();
    let right = answers(&small);
    let known = right.clone();
    let server = Server::start(move |_, body| {
        if let Some(answer) = probed(body) {
            return answer;
        }
        let own = &known[&last_words(body)];
        let (_, answer) = own.split_once("</think>").expect("a thought");
        let calls: Vec<Value> = answer
            .split("<tool_call>")
            .skip(1)
            .map(|part| {
                let call = part.split("</tool_call>").next().expect("closed");
                let call: Value = serde_json::from_str(call).expect("JSON");
                json!({"type": "function", "function": {
                    "name": call["name"], "arguments": call["arguments"].to_string(),
                }})
            })
            .collect();
        let message = match calls.is_empty() {
            true => json!({"content": answer.trim()}),
            false => json!({"content": null, "reasoning_content": "hm", "tool_calls": calls}),
        };
        completion(
            &json!([{"message": message, "finish_reason": "tool_calls"}]),
            90,
        )
    });
    let folder = small.folder("parsed");
    let inputs = inputs(&small);
    let inputs: Vec<_> = inputs.iter().map(|(n, p)| (*n, p.as_path())).collect();
    let once = json!({"samples": 1, "min-reward": 0.999});
    run::<RolloutKind>(params(&server, once), &folder, &inputs);
    let report: Report = rows::read_json(&folder.join("out/report")).expect("a report");
    assert_eq!((report.sampled, report.kept), (10, 10), "{report:?}");
    let set = Rollouts::read(&folder.join("out/rollouts")).expect("rollouts");
    let thoughts = set
        .rollouts
        .iter()
        .filter(|r| r.targets.starts_with("<think>\nhm\n</think>"));
    assert!(thoughts.count() > 0);
}

/// A server that continues texts with the right answer, token by token.
fn completions(small: &SmallWorld, takes: &'static str) -> Server {
    let tokenizer: Tokenizer = small.tokenizer();
    let texts = rows::read_all(small.rows()).expect("rows");
    let right: BTreeMap<String, String> = texts
        .iter()
        .map(|row| {
            let text = |name: &str| rows::text(row, name).expect("a text").to_owned();
            let targets = text("targets");
            let own = targets.strip_suffix('\n').unwrap_or(&targets);
            (
                text("inputs"),
                own.strip_suffix(END).unwrap_or(own).to_owned(),
            )
        })
        .collect();
    Server::start(move |_, body| {
        if takes == "one" && body.get("n").is_some() {
            let text = json!([{"text": "0", "message": {"content": "0"}, "logprobs": {"tokens": ["0"],
                "token_logprobs": [-1.0], "top_logprobs": [{"0": -1.0, "1": -2.0, "2": -3.0}]}}]);
            return completion(&text, 20);
        }
        if let Some(answer) = probed(body) {
            return answer;
        }
        assert_eq!(body["stop"], json!([END]));
        let own = &right[body["prompt"].as_str().expect("a text")];
        let ids = tokenizer.encode(own).expect("ids");
        let tokens: Vec<String> = ids
            .iter()
            .map(|id| tokenizer.decode(&[*id], false))
            .collect();
        let top: Vec<Value> = tokens
            .iter()
            .map(|t| json!({t.as_str(): -0.25, "zz": -1.5, "!": -3.0}))
            .collect();
        let mut logprobs = json!({"tokens": tokens, "token_logprobs": vec![-0.25; ids.len()], "top_logprobs": top});
        if takes == "ends" {
            // As llama.cpp's server: the shape of chats, with ids, and special tokens without a text.
            let one = |id: u32, text: &str, logprob: f64| json!({"id": id, "token": text, "bytes": text.as_bytes(), "logprob": logprob});
            let end = tokenizer.token_to_id(END).expect("an id");
            let position = |id: u32, text: &str| {
                let mut own = one(id, text, -0.25);
                own["top_logprobs"] = json!([one(id, text, -0.25), one(end - 1, "!", -3.0)]);
                own
            };
            let mut content: Vec<Value> = ids
                .iter()
                .zip(&tokens)
                .map(|(id, text)| position(*id, text))
                .collect();
            content.push(position(end, ""));
            logprobs = json!({"content": content});
        }
        completion(
            &json!([{"text": own, "finish_reason": "stop", "logprobs": logprobs}]),
            50,
        )
    })
}

#[test]
fn an_end_without_a_text_has_its_log_probabilities() {
    let small = SmallWorld::new();
    let server = completions(&small, "ends");
    let folder = small.folder("ends");
    let inputs = inputs(&small);
    let inputs: Vec<_> = inputs[..2].iter().map(|(n, p)| (*n, p.as_path())).collect();
    let change = json!({"api": "completions", "top-k": 2, "samples": 1});
    run::<RolloutKind>(params(&server, change), &folder, &inputs);
    let report: Report = rows::read_json(&folder.join("out/report")).expect("a report");
    assert_eq!(
        (report.sampled, report.kept, report.unaligned),
        (10, 10, 0),
        "{report:?}"
    );
    let set = Rollouts::read(&folder.join("out/rollouts")).expect("rollouts");
    let tokenizer = small.tokenizer();
    let end = tokenizer.token_to_id(END).expect("an id");
    let other = tokenizer.encode("!").expect("ids")[0];
    for (at, rollout) in set.rollouts.iter().enumerate() {
        assert_eq!(rollout.ids.last(), Some(&end));
        assert!(rollout.logprobs.iter().all(|lp| (lp + 0.25).abs() < 1e-6));
        let top = set.top(at).expect("top");
        let last = top.ids.len() - 2;
        assert_eq!(top.ids[last..], [end, other]);
        assert!((top.logprobs[last] + 0.25).abs() < 1e-3);
        assert!((top.logprobs[last + 1] + 3.0).abs() < 1e-2);
    }
}

#[test]
fn texts_are_continued_with_the_servers_top_k_and_distilled() {
    let small = SmallWorld::new();
    let server = completions(&small, "one");
    let folder = small.folder("texts");
    let inputs = inputs(&small);
    let inputs: Vec<_> = inputs[..2].iter().map(|(n, p)| (*n, p.as_path())).collect();
    let change = json!({"api": "completions", "top-k": 3, "samples": 2});
    run::<RolloutKind>(params(&server, change), &folder, &inputs);
    let report: Report = rows::read_json(&folder.join("out/report")).expect("a report");
    assert_eq!(
        (report.sampled, report.kept, report.duplicate),
        (20, 10, 10),
        "{report:?}"
    );
    // The server takes no `n`: each answer was asked for by itself, with a seed of its own.
    let bodies = asked(&server);
    assert_eq!(bodies.len(), 20);
    let seeds: std::collections::BTreeSet<u64> = bodies
        .iter()
        .map(|b| b["seed"].as_u64().expect("a seed"))
        .collect();
    assert_eq!(seeds.len(), 20);
    assert!(
        bodies
            .iter()
            .all(|b| b["logprobs"] == 3 && b.get("n").is_none())
    );

    let own = folder.join("out/rollouts");
    let set = Rollouts::read(&own).expect("rollouts");
    let end = small.tokenizer().token_to_id(END).expect("an id");
    for (at, rollout) in set.rollouts.iter().enumerate() {
        let (last, body) = rollout.logprobs.split_last().expect("tokens");
        assert!(last.is_nan() && body.iter().all(|lp| (lp + 0.25).abs() < 1e-6));
        let top = set.top(at).expect("top");
        assert_eq!(top.ids.len(), 3 * rollout.ids.len());
        for ((row, lps), id) in top
            .ids
            .chunks(3)
            .zip(top.logprobs.chunks(3))
            .zip(&rollout.ids)
        {
            assert_eq!(row[0], *id);
            assert!(*id == end || (lps[0] + 0.25).abs() < 1e-3, "{lps:?}");
        }
        let end = top.logprobs[top.logprobs.len() - 3];
        assert!(end.abs() < f32::EPSILON, "the end is one sample: {end}");
    }
    // A student learns from it.
    let student = small.teacher();
    let distilled = small.folder("distilled");
    let how = small.params(json!({"updates": 3, "batch": 4, "tail": 0.5, "student-top": 8}));
    run::<crate::distill::Distill>(
        how,
        &distilled,
        &[("student", &student), ("rollouts", &own)],
    );
    let curve = std::fs::read_to_string(distilled.join("out/curve")).expect("a curve");
    for line in curve.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        assert!(row["loss"].as_f64().expect("a loss").is_finite());
    }
    // And a pass of that student as teacher fills in what the server did not tell.
    let filled = small.folder("filled");
    let how = small.params(json!({"top-k": 4}));
    run::<crate::teacher_topk::TeacherTopK>(
        how,
        &filled,
        &[("teacher", &student), ("rollouts", &own)],
    );
    let filled = Rollouts::read(&filled.join("out/rollouts")).expect("rollouts");
    assert!(
        filled
            .rollouts
            .iter()
            .flat_map(|r| &r.logprobs)
            .all(|lp| lp.is_finite())
    );
}

#[test]
fn what_came_is_kept_and_only_the_rest_is_asked_again() {
    let small = SmallWorld::new();
    let right = answers(&small);
    let (broken, count) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (is_broken, counted) = (Arc::clone(&broken), Arc::clone(&count));
    let server = Server::start(move |_, body| {
        if let Some(answer) = probed(body) {
            return answer;
        }
        let number = counted.fetch_add(1, Ordering::Relaxed);
        if is_broken.load(Ordering::Relaxed) && number % 3 == 1 {
            return Answer::Status(503, &[], "busy".to_owned());
        }
        completion(&json!([choice(&right[&last_words(body)], "stop")]), 90)
    });
    let folder = small.folder("again");
    let inputs = inputs(&small);
    let inputs: Vec<_> = inputs.iter().map(|(n, p)| (*n, p.as_path())).collect();
    let how = || {
        params(
            &server,
            json!({"samples": 1, "retries": 0, "concurrency": 2}),
        )
    };
    let error = try_run::<RolloutKind>(how(), &folder, &inputs, None).expect_err("a busy server");
    assert!(matches!(error, StageError::Transient { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("3 queries for 10 prompts have no reply"),
        "{error}"
    );
    assert_eq!(count.swap(0, Ordering::Relaxed), 10);

    broken.store(false, Ordering::Relaxed);
    run::<RolloutKind>(how(), &folder, &inputs);
    assert_eq!(count.load(Ordering::Relaxed), 3, "only what failed");
    let unbroken = small.folder("unbroken");
    run::<RolloutKind>(how(), &unbroken, &inputs);
    let bytes =
        |folder: &PathBuf, file: &str| std::fs::read(folder.join("out").join(file)).expect("bytes");
    for file in [
        "report",
        "rollouts/rollouts.json",
        "rollouts/rollouts-00000.jsonl",
    ] {
        assert_eq!(bytes(&folder, file), bytes(&unbroken, file), "{file}");
    }

    // A server that refuses is not asked on and on.
    let refuses = Server::start(|_, body| {
        probed(body).unwrap_or_else(|| Answer::Status(401, &[], "who are you".to_owned()))
    });
    let error = try_run::<RolloutKind>(
        params(&refuses, json!({"concurrency": 1})),
        &small.folder("refused"),
        &inputs,
        None,
    )
    .expect_err("refused");
    assert!(matches!(error, StageError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("401: who are you"), "{error}");
    assert!(asked(&refuses).len() <= 2);
}

#[test]
fn prompts_that_are_too_long_are_counted() {
    let small = SmallWorld::new();
    let right = answers(&small);
    let first = right.keys().next().expect("rows").clone();
    let long = first.clone();
    let server = Server::start(move |_, body| {
        if let Some(answer) = probed(body) {
            return answer;
        }
        if last_words(body) == long {
            return Answer::Status(400, &[], "longer than the context".to_owned());
        }
        completion(&json!([choice(&right[&last_words(body)], "stop")]), 90)
    });
    let folder = small.folder("long");
    let inputs = inputs(&small);
    let inputs: Vec<_> = inputs.iter().map(|(n, p)| (*n, p.as_path())).collect();
    let all = json!({"samples": 1, "prompts": 60});
    let events =
        try_run::<RolloutKind>(params(&server, all), &folder, &inputs, None).expect("done");
    assert!(events.iter().any(|e| matches!(e, Event::Progress { .. })));
    let report: Report = rows::read_json(&folder.join("out/report")).expect("a report");
    assert_eq!(
        (report.too_long, report.kept),
        (1, report.prompts - 1),
        "{report:?}"
    );
}

#[test]
fn what_a_server_says_is_promised_to_nobody() {
    let server = Server::start(|_, _| Answer::Hangup);
    let served = serde_json::to_value(params(&server, json!({}))).expect("JSON");
    let own = json!({"max-new-tokens": 8});
    let kind = erase::<RolloutKind>();
    assert_eq!(kind.determinism(&served), Determinism::None);
    assert_eq!(kind.determinism(&own), RolloutKind::DETERMINISM);
    // Where it is served is in no key; what is served and how it is asked is.
    for name in [
        "endpoint",
        "key-variable",
        "concurrency",
        "retries",
        "timeout-seconds",
    ] {
        assert!(kind.neutral().contains(&name), "{name}");
    }
    for name in [
        "endpoint-model",
        "api",
        "samples",
        "temperature",
        "seed",
        "top-k",
    ] {
        assert!(!kind.neutral().contains(&name), "{name}");
    }
    // Keys of rollouts by a checkpoint are what they were before there were endpoints.
    let typed: Params = serde_json::from_value(own).expect("parameters");
    let mut written = serde_json::to_value(typed).expect("JSON");
    let map = written.as_object_mut().expect("an object");
    for name in kind.neutral() {
        map.remove(*name);
    }
    let names: Vec<&String> = map.keys().collect();
    assert_eq!(
        names,
        ["max-new-tokens", "samples", "seed", "temperature", "top-k"]
    );
}
