//! Diagnosis: how sure a model is of what it writes, where, and how far it is from others.
//!
//! | port        | way | artifact   | holds                                                              |
//! |-------------|-----|------------|--------------------------------------------------------------------|
//! | `model`     | in  | checkpoint | the model to look at                                               |
//! | `rows`      | in  | train-rows | prompts that it answers itself, at temperature 1, or:              |
//! | `rollouts`  | in  | rollouts   | answers that are there, whoever gave them                          |
//! | `reference` | in  | checkpoint | optional: the policy that divergence is taken to                   |
//! | `teacher`   | in  | checkpoint | optional: likewise                                                 |
//! | `diagnosis` | out | report     | a JSON line a figure                                               |
//!
//! | `figure`     | by                                          | is                                                    |
//! |--------------|---------------------------------------------|-------------------------------------------------------|
//! | `entropy`    | `span`: all, think, name, argument, other   | of the distribution a token was judged by, nats        |
//! | `entropy`    | `position` in the answer, from 0            | the same                                              |
//! | `length`     |                                             | tokens of an answer, end token included               |
//! | `top-k-mass` | `of`: model, teacher                        | what the k likeliest tokens of that model hold         |
//! | `kl`         | `to`: reference, teacher; `estimator`       | estimated from the tokens of the answers, nats a token |
//! | `reward`     | `part`: format, answer, reward              | Sim-RL's, of answers to `rows`                        |
//! | `pass`       | `k`                                         | pass@k of answers to `rows`, with its 95 % interval    |
//!
//! With d = log p(model) - log p(other): k1 is d, k2 is d²/2, k3 is e^-d - 1 + d, each within ±10. Of answers that the
//! model sampled itself k1 and k3 are unbiased; of others' answers they tell only how the two see the same text. A token
//! belongs to the first span that it touches. What depends on the course of a training (clip share, gradient norm) is in
//! its curve.

mod spans;
mod sums;

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Chunks, Complaint, Determinism, Input, Output, Ports, Stage, StageContext,
    StageError,
};
use starling_lm::decoder::Decoder;
use starling_lm::generate::{Generator, Request, Sampling, StopReason};
use starling_lm::score::{self, Request as Asked, Scores};
use starling_lm::tokenizer::Tokenizer;
use starling_reward::CallFormat;

use self::spans::of_tokens;
use self::sums::{Seen, Sums};
use crate::chat::{self, lm};
use crate::model::Model;
use crate::prompts::{self, Prompt};
use crate::rollouts::{Rollouts, TopK};
use crate::rows::{self, RowWriter};
use crate::training::answer_positions;

/// The kind `diagnose`.
pub(crate) struct Diagnose;

/// What is looked at.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// With `rows`: answers sampled a prompt.
    #[serde(default = "eight")]
    samples: usize,
    /// With `rows`: most tokens of an answer, end token included.
    #[serde(default = "most")]
    max_new_tokens: usize,
    /// Use the first so many prompts, or the answers to them; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompts: Option<usize>,
    /// How many likeliest tokens `top-k-mass` is of.
    #[serde(default = "hundred")]
    top_k: usize,
    /// Seed of the sampling.
    #[serde(default)]
    seed: u64,
}

fn eight() -> usize {
    8
}
fn most() -> usize {
    512
}
fn hundred() -> usize {
    100
}

/// Prompts are looked at one by one, so that chunks are only a matter of resuming.
const ROWS: Chunks = Chunks {
    port: "rows",
    rows: 32,
    unit: "prompts",
    neutral: &["prompts"],
};
const ROLLOUTS: Chunks = Chunks {
    port: "rollouts",
    ..ROWS
};

/// The sums of a chunk.
const SUMS: &str = "sums.json";

/// An answer with what is known of it.
struct Answer {
    prompt: Vec<u32>,
    ids: Vec<u32>,
    finished: bool,
    calls: CallFormat,
    /// What the prompt has written of the answer already.
    before: String,
    /// What the teacher listed when it was sampled.
    recorded: Option<TopK>,
}

/// The models that answers are read with.
struct Readers<'a> {
    own: Decoder,
    others: Vec<(&'static str, Decoder)>,
    tokenizer: Tokenizer,
    k: usize,
    /// Tokens that a recorded list holds.
    recorded: usize,
    threads: usize,
    ends: &'a [u32],
}

impl Stage for Diagnose {
    const KIND: &'static str = "diagnose";
    /// 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "tells entropy by place and span, lengths, divergences, masses";
    const DETERMINISM: Determinism = Determinism::WithinClass { tolerance: 1e-3 };
    const CHUNKS: Option<Chunks> = Some(ROWS);
    const WORK: &'static [&'static str] = &["prompts", "samples"];
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Report, Rollouts, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required("model", Checkpoint, "the model to look at"),
                    Input::optional("rows", TrainRows, "prompts that it answers itself"),
                    Input::optional("rollouts", Rollouts, "answers that are there"),
                    Input::optional("reference", Checkpoint, "the policy to compare with"),
                    Input::optional("teacher", Checkpoint, "the teacher to compare with"),
                ],
                outputs: &[Output::new("diagnosis", Report, "a JSON line a figure")],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let wrong = [
            ("samples", p.samples > 0),
            ("max-new-tokens", p.max_new_tokens > 0),
            ("prompts", p.prompts != Some(0)),
            ("top-k", p.top_k > 0),
        ];
        let wrong = wrong.into_iter().filter(|(_, good)| !good);
        wrong
            .map(|(param, _)| Complaint::new(param, "must be at least 1"))
            .collect()
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let model = Model::load(context.input("model")?)?;
        let vocabulary = model.config().vocab_size;
        let mut readers = Readers {
            own: Decoder::new(model.config(), &model.checkpoint.weights).map_err(lm)?,
            others: Vec::new(),
            tokenizer: model.tokenizer()?,
            k: p.top_k.min(vocabulary),
            recorded: 0,
            threads: context.threads(),
            ends: &model.checkpoint.config.eos_token_ids,
        };
        for port in ["reference", "teacher"] {
            if let Some(folder) = context.optional(port) {
                let other = Model::load(folder)?;
                if other.config().vocab_size != vocabulary {
                    return Err(StageError::input(port, "has another vocabulary"));
                }
                let decoder =
                    Decoder::new(other.config(), &other.checkpoint.weights).map_err(lm)?;
                readers.others.push((port, decoder));
            }
        }
        let chunks = match (context.optional("rows"), context.optional("rollouts")) {
            (Some(rows), None) => {
                let all = prompts::read(rows, "rows", &readers.tokenizer, p.prompts)?;
                let generator =
                    Generator::new(model.config(), &model.checkpoint.weights).map_err(lm)?;
                context.map_chunks(&ROWS, &all, Prompt::bytes, |prompts, folder| {
                    let sums = sampled(&p, &generator, &readers, prompts)?;
                    rows::write_json(&folder.join(SUMS), &sums)
                })?
            }
            (None, Some(folder)) => {
                let set = Rollouts::read(folder)?;
                readers.recorded = set.k;
                let prompts = p.prompts.unwrap_or(usize::MAX).min(set.prompts.len());
                let of = |prompt: usize| {
                    let all = set.rollouts.iter().enumerate();
                    all.filter(move |(_, r)| r.prompt == prompt)
                };
                let numbers: Vec<usize> = (0..prompts).collect();
                let identity = |prompt: &usize| -> Vec<u8> {
                    let ids =
                        of(*prompt).flat_map(|(_, r)| std::iter::once(&u32::MAX).chain(&r.ids));
                    let ids = set.prompts[*prompt].iter().chain(ids);
                    ids.flat_map(|id| id.to_le_bytes()).collect()
                };
                context.map_chunks(&ROLLOUTS, &numbers, identity, |numbers, folder| {
                    let answers = numbers.iter().flat_map(|n| of(*n)).map(|(at, r)| {
                        Ok(Answer {
                            prompt: set.prompts[r.prompt].clone(),
                            ids: r.ids.clone(),
                            finished: r.ids.last().is_some_and(|id| readers.ends.contains(id)),
                            calls: format_of(&r.targets),
                            before: prompts::prefill_of(&r.inputs).to_owned(),
                            recorded: (set.k > 0).then(|| set.top(at)).transpose()?,
                        })
                    });
                    let answers = answers.collect::<Result<Vec<_>, StageError>>()?;
                    let mut sums = Sums::default();
                    readers.read(&answers, &mut sums)?;
                    rows::write_json(&folder.join(SUMS), &sums)
                })?
            }
            _ => {
                return Err(StageError::failed_try(
                    "`diagnose` looks at either `rows` or `rollouts`, not both and not neither",
                    "give one of `inputs.rows` and `inputs.rollouts`",
                ));
            }
        };
        let mut sums = Sums::default();
        for chunk in &chunks {
            sums.join(&rows::read_json(&chunk.join(SUMS))?);
        }
        let mut writer = RowWriter::create(&context.output("diagnosis"))?;
        for line in sums.lines(readers.k) {
            writer.line(&line.to_string())?;
        }
        writer.finish().map(|_| ())
    }
}

/// How an answer writes calls; rollouts do not say.
fn format_of(targets: &str) -> CallFormat {
    let answer = targets
        .rsplit_once("</think>")
        .map_or(targets, |(_, rest)| rest);
    match answer.trim_start() {
        list if list.starts_with("[{") => CallFormat::Json,
        list if list.starts_with('[') => CallFormat::Pythonic,
        _ => CallFormat::Hermes,
    }
}

/// Answers some prompts and looks at the answers.
fn sampled(
    p: &Params,
    generator: &Generator,
    readers: &Readers<'_>,
    prompts: &[Prompt],
) -> Result<Sums, StageError> {
    let sampling = Sampling {
        max_new_tokens: p.max_new_tokens,
        stop_tokens: readers.ends.to_vec(),
        seed: p.seed,
        ..Sampling::default()
    };
    let requests: Vec<Request> = prompts.iter().map(|x| x.request(p.samples)).collect();
    let samples = generator
        .generate(&requests, &sampling, readers.threads, &|_| {
            ControlFlow::Continue(())
        })
        .map_err(lm)?;
    let (mut sums, mut answers) = (Sums::default(), Vec::new());
    for (prompt, samples) in prompts.iter().zip(samples) {
        let mut right = 0;
        for sample in samples {
            let text = readers.tokenizer.decode(&sample.tokens, false);
            let outcome = prompt.score(text.strip_suffix(chat::END).unwrap_or(&text));
            right += usize::from(outcome.reward >= 1.0);
            sums.judged(outcome.format_reward, outcome.answer_reward, outcome.reward);
            answers.push(Answer {
                prompt: prompt.ids.clone(),
                finished: sample.stop == StopReason::Stop,
                ids: sample.tokens,
                calls: prompt.calls(),
                before: prompt.prefill().to_owned(),
                recorded: None,
            });
        }
        sums.prompt(p.samples, right);
    }
    readers.read(&answers, &mut sums)?;
    Ok(sums)
}

impl Readers<'_> {
    /// Reads answers with every model and counts.
    fn read(&self, answers: &[Answer], sums: &mut Sums) -> Result<(), StageError> {
        let own = self.scores(&self.own, answers, self.k)?;
        for (answer, scores) in answers.iter().zip(&own) {
            let tokens: Vec<Vec<u8>> = answer
                .ids
                .iter()
                .map(|id| self.tokenizer.bytes_of(*id))
                .collect();
            sums.answer(&Seen {
                spans: &of_tokens(&answer.before, &tokens, answer.calls),
                entropies: &scores.entropies,
                finished: answer.finished,
            });
            sums.mass("model", &scores.top_logprobs, self.k);
            let read_again = self.others.iter().any(|(who, _)| *who == TEACHER);
            if let (Some(top), false) = (&answer.recorded, read_again) {
                sums.mass("teacher, as recorded", &top.logprobs, self.recorded);
            }
        }
        for (who, decoder) in &self.others {
            let k = if *who == TEACHER { self.k } else { 0 };
            let theirs = self.scores(decoder, answers, k)?;
            for (own, theirs) in own.iter().zip(&theirs) {
                sums.divergence(who, &own.logprobs, &theirs.logprobs);
                if k > 0 {
                    sums.mass(who, &theirs.top_logprobs, k);
                }
            }
        }
        Ok(())
    }

    fn scores(
        &self,
        decoder: &Decoder,
        answers: &[Answer],
        k: usize,
    ) -> Result<Vec<Scores>, StageError> {
        let ids: Vec<Vec<u32>> = answers
            .iter()
            .map(|a| a.prompt.iter().chain(&a.ids).copied().collect())
            .collect();
        let positions: Vec<Vec<u32>> = answers
            .iter()
            .map(|a| answer_positions(a.prompt.len(), a.ids.len()))
            .collect();
        let asked: Vec<Asked<'_>> = ids
            .iter()
            .zip(&positions)
            .map(|(ids, positions)| Asked { ids, positions })
            .collect();
        score::score(decoder, &asked, k, self.threads).map_err(lm)
    }
}

const TEACHER: &str = "teacher";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{SmallWorld, run};

    fn lines(folder: &std::path::Path) -> Vec<Value> {
        let text = std::fs::read_to_string(folder.join("out/diagnosis")).expect("text");
        text.lines()
            .map(|l| serde_json::from_str(l).expect("JSON"))
            .collect()
    }

    fn one<'a>(lines: &'a [Value], what: &[(&str, &str)]) -> &'a Value {
        let fits = |line: &&Value| what.iter().all(|(key, value)| line[*key] == *value);
        let found: Vec<&Value> = lines.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{what:?}");
        found[0]
    }

    /// Own answers and the same ones given as rollouts agree; a model is no distance from itself; spans add up.
    #[test]
    fn a_model_is_looked_at_from_both_sides() {
        let small = SmallWorld::new();
        let model = small.teacher();
        let own = small.folder("own");
        let how = || json!({"samples": 4, "max-new-tokens": 48, "prompts": 20, "top-k": 8});
        let inputs = [
            ("model", model.as_path()),
            ("rows", small.rows()),
            ("reference", &model),
        ];
        run::<Diagnose>(small.params(how()), &own, &inputs);
        let own = lines(&own);
        let all = one(&own, &[("figure", "entropy"), ("span", "all")]);
        let spans = ["think", "name", "argument", "other"];
        let tokens = |line: &Value| line["tokens"].as_u64().expect("a number");
        let sum: u64 = spans
            .iter()
            .map(|span| tokens(one(&own, &[("figure", "entropy"), ("span", span)])))
            .sum();
        assert_eq!(sum, tokens(all));
        let by_place = own.iter().filter(|l| l.get("position").is_some());
        assert_eq!(by_place.map(tokens).sum::<u64>(), sum);
        for estimator in ["k1", "k2", "k3"] {
            let kl = one(
                &own,
                &[
                    ("figure", "kl"),
                    ("to", "reference"),
                    ("estimator", estimator),
                ],
            );
            assert!(kl["mean"].as_f64().expect("a number").abs() < 1e-12, "{kl}");
        }
        let mass = one(&own, &[("figure", "top-k-mass"), ("of", "model")]);
        let mass = mass["mean"].as_f64().expect("a number");
        assert!(mass > 0.5 && mass <= 1.0 + 1e-6, "{mass}");
        assert_eq!(
            own.iter().filter(|l| l["figure"] == "pass").count(),
            3,
            "k = 1, 2, 4"
        );

        // Rollouts keep the valid, distinct ones, with the same top-k recorded on the way.
        let sampled = small.folder("sampled");
        let inputs = [("model", model.as_path()), ("prompts", small.rows())];
        run::<crate::rollout::RolloutKind>(
            small.params(json!({"samples": 4, "max-new-tokens": 48, "prompts": 20, "top-k": 8})),
            &sampled,
            &inputs,
        );
        let rollouts = sampled.join("out/rollouts");
        let given = small.folder("given");
        let inputs = [("model", model.as_path()), ("rollouts", &rollouts)];
        run::<Diagnose>(small.params(how()), &given, &inputs);
        let given = lines(&given);
        let mass = |of: &str| {
            one(&given, &[("figure", "top-k-mass"), ("of", of)])["mean"]
                .as_f64()
                .expect("a number")
        };
        assert!((mass("model") - mass("teacher, as recorded")).abs() < 1e-3);
        let answers = one(&given, &[("figure", "length")])["answers"]
            .as_u64()
            .expect("a number");
        let set = Rollouts::read(&rollouts).expect("rollouts");
        assert_eq!(answers as usize, set.rollouts.len());
    }
}
