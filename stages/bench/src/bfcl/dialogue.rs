//! Multi-turn items: the loop that queries a model, and the checks of what it did.
//!
//! The instances that answer a model during a dialogue are thrown away; a verdict comes from replaying its texts
//! beside the accepted calls, turn by turn.

use super::backend::Setting;
use super::execute::World;
use super::item::{Item, Scenario};
use super::output::{self, decode_executable, is_empty_step};
use super::prompt::{Message, Prompt, Role};
use super::prompting::{Mode, decode_prompted_executable};
use super::py::{Py, Reply};
use super::truth::{Truth, TruthTurn};
use super::verdict::{ErrorKind, Verdict};

/// Executed steps after which a turn, and the dialogue with it, is stopped.
const MAX_STEPS: usize = 20;

/// Sentence that ends the message about functions that were added.
const ADDED: &str = "I have updated some more functions you can choose from. What about now?";

/// How the sides of a check are named; the names show in texts that look like calls.
pub(super) const MODEL_SIDE: &str = "model_eval";
const TRUTH_SIDE: &str = "model_ground_truth_eval";
const INFERENCE_SIDE: &str = "model";

/// Fresh instances of a scenario.
pub(super) fn load_world(
    scenario: &Scenario,
    setting: &Setting,
    side: &str,
    id: &str,
) -> Reply<World> {
    let load = |class: &super::Class| {
        let initial = scenario
            .initial
            .get(class.name())
            .map_or(Py::None, Py::from);
        Ok((*class, class.load(&initial, setting)?))
    };
    let instances = scenario
        .classes
        .iter()
        .map(load)
        .collect::<Reply<Vec<_>>>()?;
    Ok(World::new(instances, side, id))
}

impl Truth {
    fn replay(item: &Item, scenario: &Scenario, setting: &Setting) -> Self {
        // Both sides begin with the same values, which they share until one of them changes.
        let truth = load_world(scenario, setting, TRUTH_SIDE, &item.id).ok();
        let initial = truth
            .as_ref()
            .map(|world| world.renamed(MODEL_SIDE, &item.id));
        let turns = truth.map(|mut world| {
            let turn = |calls: &Vec<String>| TruthTurn {
                responses: calls.iter().map(|call| world.execute(call)).collect(),
                state: world.clone(),
            };
            scenario.truth.iter().map(turn).collect()
        });
        Self { turns, initial }
    }
}

/// One turn of the accepted calls, executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedTurn {
    /// Responses of the calls, in order.
    pub responses: Vec<String>,
    /// SHA-256 of the state of all instances after the turn.
    pub state_digest: String,
}

/// Executes the accepted calls of an item; `None` for an item without dialogue.
pub(super) fn replayed(item: &Item, setting: &Setting) -> Option<Vec<ReplayedTurn>> {
    let turns = truth(item, setting)?.turns.as_ref()?;
    let turn = |turn: &TruthTurn| ReplayedTurn {
        responses: turn.responses.clone(),
        state_digest: super::backend::digest(&turn.state.instances),
    };
    Some(turns.iter().map(turn).collect())
}

/// The final state of the accepted calls: by class, the public attributes as JSON, and the working directory.
pub(super) fn final_state(
    item: &Item,
    setting: &Setting,
) -> Option<Vec<(&'static str, ClassState)>> {
    let last = truth(item, setting)?.turns.as_ref()?.last()?;
    let state = |(class, instance): &(super::Class, super::backend::Instance)| {
        let state = ClassState {
            attributes: instance.canonical(),
            working_directory: instance.working_directory(),
        };
        (class.name(), state)
    };
    Some(last.state.instances.iter().map(state).collect())
}

/// The state of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassState {
    /// Public attributes as JSON with sorted keys and no spaces.
    pub attributes: Vec<(&'static str, String)>,
    /// Of a file system.
    pub working_directory: Option<String>,
}

fn truth<'a>(item: &'a Item, setting: &Setting) -> Option<&'a Truth> {
    let scenario = item.scenario()?;
    Some(
        scenario
            .replay
            .get_or_init(|| Truth::replay(item, scenario, setting)),
    )
}

/// The call strings of an answer.
pub(super) fn decode(mode: Mode, text: &str) -> Result<Vec<String>, ErrorKind> {
    match mode {
        Mode::FunctionCalling => decode_executable(text).map_err(|_| ErrorKind::DecoderFailed),
        Mode::Prompting => decode_prompted_executable(text),
    }
}

/// Checks the texts of a dialogue: turns of steps.
pub(super) fn check_texts(
    item: &Item,
    setting: &Setting,
    mode: Mode,
    turns: &[Vec<String>],
) -> Verdict {
    let decode = |steps: &Vec<String>| -> Vec<Vec<String>> {
        let calls = steps.iter().filter_map(|text| decode(mode, text).ok());
        calls.filter(|calls| !is_empty_step(calls)).collect()
    };
    check_calls(item, setting, &turns.iter().map(decode).collect::<Vec<_>>())
}

/// Checks the decoded calls of a dialogue: turns of steps of call strings.
pub(super) fn check_calls(item: &Item, setting: &Setting, turns: &[Vec<Vec<String>>]) -> Verdict {
    let Some(scenario) = item.scenario() else {
        return ErrorKind::CheckerRaised.into();
    };
    if turns.len() != scenario.truth.len() {
        return ErrorKind::ForceTerminated.into();
    }
    let Some(Truth {
        turns: Some(truth),
        initial: Some(initial),
    }) = truth(item, setting)
    else {
        return ErrorKind::CheckerRaised.into();
    };
    let mut world = initial.clone();
    let mut responses: Vec<String> = Vec::new();
    for (index, (steps, truth)) in turns.iter().zip(truth).enumerate() {
        for call in steps.iter().flatten() {
            responses.push(world.execute(call));
        }
        let expects_nothing = scenario.truth[index].is_empty();
        if expects_nothing {
            continue;
        }
        if steps.is_empty() || matches!(steps.as_slice(), [step] if step.is_empty()) {
            return Verdict::at_turn(ErrorKind::EmptyTurn, index);
        }
        let mut pairs = world.instances.iter().zip(&truth.state.instances);
        if !pairs.all(|((_, found), (_, expected))| found.state_equals(expected)) {
            return Verdict::at_turn(ErrorKind::StateMismatch, index);
        }
        if !contains_all(&responses, &truth.responses) {
            return Verdict::at_turn(ErrorKind::ResponseMismatch, index);
        }
    }
    Verdict::VALID
}

/// One turn of a dialogue as it was played and as it should have been, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedTurn {
    /// Calls of the model with what they were answered.
    pub calls: Vec<(String, String)>,
    /// Accepted calls with what they are answered.
    pub accepted: Vec<(String, String)>,
    /// Attributes that differ after the turn: class and name, the model's value, the accepted one.
    pub differing: Vec<(String, String, String)>,
    /// Accepted responses that no call so far has given.
    pub missing: Vec<String>,
}

/// Plays texts beside the accepted calls, to the end whatever fails on the way.
pub(super) fn explain(
    item: &Item,
    setting: &Setting,
    mode: Mode,
    turns: &[Vec<String>],
) -> Option<Vec<ExplainedTurn>> {
    let scenario = item.scenario()?;
    let replayed = truth(item, setting)?;
    let (accepted, initial) = (replayed.turns.as_ref()?, replayed.initial.as_ref()?);
    let mut world = initial.clone();
    let mut responses: Vec<String> = Vec::new();
    let mut explained = Vec::new();
    for (index, truth) in accepted.iter().enumerate() {
        let steps = turns.get(index).map_or(&[][..], Vec::as_slice);
        let calls = steps.iter().filter_map(|text| decode(mode, text).ok());
        let calls: Vec<(String, String)> = calls
            .flatten()
            .map(|call| {
                let response = world.execute(&call);
                (call, response)
            })
            .collect();
        responses.extend(calls.iter().map(|(_, response)| response.clone()));
        let mut differing = Vec::new();
        for ((class, found), (_, expected)) in world.instances.iter().zip(&truth.state.instances) {
            if found.state_equals(expected) {
                continue;
            }
            for ((name, found), (_, expected)) in
                found.canonical().into_iter().zip(expected.canonical())
            {
                if found != expected {
                    differing.push((format!("{}.{name}", class.name()), found, expected));
                }
            }
        }
        let missing = truth.responses.iter().filter(|r| !responses.contains(r));
        explained.push(ExplainedTurn {
            missing: missing.cloned().collect(),
            accepted: scenario.truth[index]
                .iter()
                .cloned()
                .zip(truth.responses.iter().cloned())
                .collect(),
            calls,
            differing,
        });
    }
    Some(explained)
}

/// Whether `wanted` is part of `found`, each response as often as it is wanted.
fn contains_all(found: &[String], wanted: &[String]) -> bool {
    let mut used = vec![false; found.len()];
    wanted.iter().all(|wanted| {
        let free = |(index, text): (usize, &String)| !used[index] && text == wanted;
        match found.iter().enumerate().position(free) {
            Some(index) => {
                used[index] = true;
                true
            }
            None => false,
        }
    })
}

/// Where a dialogue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A query can be made.
    Open,
    /// All turns were played, or a turn had too many steps.
    Done,
    /// The history cannot be written; the benchmark's run of this item would end in an error.
    Failed,
}

/// A dialogue with a model: gives prompts, takes answers, and finally a verdict.
#[derive(Debug)]
pub struct Dialogue<'a> {
    item: &'a Item,
    setting: Setting,
    mode: Mode,
    world: World,
    prompt: Prompt,
    turn: usize,
    steps: usize,
    texts: Vec<Vec<String>>,
    state: State,
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(
        item: &'a Item,
        setting: Setting,
        mode: Mode,
        documents: Vec<starling_text::json::Value>,
    ) -> Option<Self> {
        let scenario = item.scenario()?;
        let world = load_world(scenario, &setting, INFERENCE_SIDE, &item.id).ok()?;
        let mut dialogue = Self {
            item,
            setting,
            mode,
            world,
            prompt: Prompt::new(mode, documents, Vec::new()),
            turn: 0,
            steps: 0,
            texts: Vec::new(),
            state: State::Open,
        };
        dialogue.begin_turn();
        Some(dialogue)
    }

    /// The turn (from 0) that the next answer belongs to.
    pub fn turn(&self) -> usize {
        self.turn
    }

    /// The next query; `None` when the dialogue is over.
    pub fn prompt(&self) -> Option<&Prompt> {
        (self.state == State::Open).then_some(&self.prompt)
    }

    /// The text of the next query; `None` when the dialogue is over.
    ///
    /// A history that cannot be written ends the dialogue: it then counts as failed, as in the benchmark.
    pub fn next_query(&mut self) -> Option<String> {
        let text = self.prompt()?.text();
        if text.is_err() {
            self.state = State::Failed;
        }
        text.ok()
    }

    /// Takes the model's answer to the last query and plays on to the next one.
    pub fn answer(&mut self, raw: &str) {
        if self.state != State::Open {
            return;
        }
        let completion = output::read(raw);
        self.prompt.messages.push(match self.mode {
            Mode::FunctionCalling => Message::assistant(&completion),
            Mode::Prompting => Message::prompted(&completion),
        });
        if let Some(steps) = self.texts.last_mut() {
            steps.push(completion.cleaned.to_owned());
        }
        let calls = match decode(self.mode, completion.cleaned) {
            Ok(calls) if !is_empty_step(&calls) => calls,
            _ => return self.end_turn(),
        };
        for call in &calls {
            let response = self.world.execute(call);
            self.prompt
                .messages
                .push(Message::new(Role::Tool, response));
        }
        self.steps += 1;
        if self.steps > MAX_STEPS {
            self.state = State::Done;
        }
    }

    fn begin_turn(&mut self) {
        self.steps = 0;
        self.texts.push(Vec::new());
        let held_out = self.item.held_out(self.turn);
        match (held_out, self.item.turns().get(self.turn)) {
            (Some(documents), _) => {
                let list: Vec<Py> = documents.iter().map(Py::from).collect();
                let text = format!("{}\n{ADDED}", super::py::repr(&list.into()));
                self.prompt.messages.push(Message::new(Role::User, text));
            }
            (None, Some(messages)) => self.prompt.messages.extend(messages.iter().cloned()),
            (None, None) => {}
        }
    }

    fn end_turn(&mut self) {
        self.turn += 1;
        match self.turn < self.item.turns().len() {
            true => self.begin_turn(),
            false => self.state = State::Done,
        }
    }

    /// What is stored: turns of cleaned texts. A dialogue that was stopped has fewer turns than the item.
    pub fn texts(&self) -> &[Vec<String>] {
        &self.texts
    }

    /// The verdict on what was said so far.
    pub fn verdict(&self) -> Verdict {
        match self.state {
            State::Failed => ErrorKind::InferenceError.into(),
            _ => check_texts(self.item, &self.setting, self.mode, &self.texts),
        }
    }
}
