//! Conversations, message by message: the caller supplies the texts of the models.

use starling_text::json::Value as Json;
use starling_text::python;

use super::AgentTruth;
use super::calls::{Elements, read_message};
use super::score::{AgentScore, score};
use super::world::World;
use crate::acebench::item::Truth;
use crate::acebench::{DataError, Dataset, Item, Prompt};

/// A conversation ends after this many messages (the opening one not counted).
const MAX_MESSAGES: usize = 40;
/// A message that holds this ends the conversation, from the third on.
const FINISH: &str = "finish conversation";
/// What the environment says to a message that is no call.
const NO_QUESTIONS: &str =
    "Please do not ask me any questions, use the known conditions to solve the problem";

/// The messages so far, as the model is shown them, and what the environment has seen.
#[derive(Debug, Clone)]
struct Conversation<'d> {
    dataset: &'d Dataset,
    item: &'d Item,
    truth: &'d AgentTruth,
    world: World<'d>,
    history: String,
    functions: String,
    /// Messages after the opening one.
    count: usize,
    finished: bool,
    /// The environment's state counts only when some message was run without an error.
    ran: bool,
    /// Messages that went to the environment.
    calls: Vec<String>,
}

impl<'d> Conversation<'d> {
    fn new(dataset: &'d Dataset, item: &'d Item) -> Result<Self, DataError> {
        let Truth::Agent(truth) = &item.truth else {
            return Err(DataError::Shape("the entry is not one of an agent"));
        };
        Ok(Self {
            dataset,
            item,
            truth,
            world: World::new(dataset.start(), item.lang, &truth.classes, &truth.config)?,
            history: String::new(),
            functions: item.functions_text(),
            count: 0,
            finished: false,
            ran: false,
            calls: Vec::new(),
        })
    }

    fn say(&mut self, role: &str, message: &str) {
        self.history.push_str(role);
        self.history.push(':');
        self.history.push_str(message);
        self.history.push('\n');
    }

    /// Counts a message, and notices whether it is the last.
    fn count(&mut self, finishes: bool) {
        self.finished |= self.count > 1 && finishes;
        self.count += 1;
        self.finished |= self.count >= MAX_MESSAGES;
    }

    fn prompt(&self, system: String, user: &str) -> Prompt {
        let slots = [
            ("functions", self.functions.as_str()),
            ("history", self.history.as_str()),
        ];
        Prompt {
            system,
            user: self.dataset.prompts().fill(user, &slots),
        }
    }

    fn state(&self) -> Vec<Json> {
        if self.ran {
            self.world.state()
        } else {
            Vec::new()
        }
    }

    fn score(&self) -> AgentScore {
        score(
            &self.truth.end,
            &self.truth.milestones,
            &self.state(),
            &self.calls,
        )
    }

    /// Notes an answer of the environment.
    fn answered(&mut self, role: &str, answer: Json) -> Json {
        self.say(role, &python::str(&answer));
        let finishes = match &answer {
            Json::List(items) => items.iter().any(|item| item.as_str() == Some(FINISH)),
            Json::Str(text) => text.contains(FINISH),
            _ => false,
        };
        self.count(finishes);
        answer
    }
}

/// A conversation of the model with the environment alone (`agent_multi_step`).
///
/// Ask [`MultiStep::prompt`], give the model's text to [`MultiStep::respond`], until there is no prompt.
#[derive(Debug, Clone)]
pub struct MultiStep<'d>(Conversation<'d>);

impl<'d> MultiStep<'d> {
    /// Starts the conversation with the entry's question.
    ///
    /// # Errors
    /// [`DataError::Shape`] for an entry that is not an agent's or involves an unknown class.
    pub fn new(dataset: &'d Dataset, item: &'d Item) -> Result<Self, DataError> {
        let mut conversation = Conversation::new(dataset, item)?;
        conversation.say("user", &item.question);
        Ok(Self(conversation))
    }

    /// What to ask the model next; nothing when the conversation is over.
    pub fn prompt(&self) -> Option<Prompt> {
        let system = || {
            self.0
                .dataset
                .prompts()
                .text("agent_multi_step_system")
                .to_owned()
        };
        (!self.0.finished).then(|| self.0.prompt(system(), "agent_multi_step_user"))
    }

    /// Takes the model's message and gives the environment's answer: a list of results, or a sentence when
    /// the message is no call. Nothing when the message ended the conversation.
    pub fn respond(&mut self, message: &str) -> Option<Json> {
        if self.0.finished {
            return None;
        }
        self.0.say("agent", message);
        self.0.count(message.contains(FINISH));
        if self.0.finished {
            return None;
        }
        let answer = self.run(message);
        Some(self.0.answered("execution result", answer))
    }

    /// Lets the environment answer a message, without regard to the conversation.
    pub fn run(&mut self, message: &str) -> Json {
        self.0.calls.push(message.to_owned());
        match read_message(message, Elements::CallsOnly) {
            Ok(calls) => {
                self.0.ran = true;
                Json::List(self.0.world.run_all(&calls))
            }
            Err(_) => Json::Str(NO_QUESTIONS.to_owned()),
        }
    }

    /// The state of the environment: a list of `{class: {attribute: value}}`.
    pub fn state(&self) -> Vec<Json> {
        self.0.state()
    }

    /// The score of the conversation so far.
    pub fn score(&self) -> AgentScore {
        self.0.score()
    }
}

/// Who says a message to the user's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The instruction, and (an official oddity) what the user's model said before.
    System,
    /// The opening line and the agent's messages.
    User,
}

/// A message for the user's model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Whose text is needed next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// The model under test is asked.
    Agent(Prompt),
    /// The model that plays the user is asked; all messages to it so far.
    User(Vec<ChatMessage>),
}

/// A conversation of the model with the environment and a user (`agent_multi_turn`).
///
/// Ask [`MultiTurn::next`], give that model's text to [`MultiTurn::respond`], until nothing is next.
#[derive(Debug, Clone)]
pub struct MultiTurn<'d> {
    conversation: Conversation<'d>,
    user: Vec<ChatMessage>,
    opened: bool,
    to_user: bool,
}

impl<'d> MultiTurn<'d> {
    /// Starts a conversation; the user's opening message is needed first.
    ///
    /// # Errors
    /// [`DataError::Shape`] for an entry that is not an agent's or involves an unknown class.
    pub fn new(dataset: &'d Dataset, item: &'d Item) -> Result<Self, DataError> {
        let conversation = Conversation::new(dataset, item)?;
        let phone = conversation
            .truth
            .classes
            .iter()
            .any(|class| class == "BaseApi");
        let system = if phone {
            "user_simulator_system_phone"
        } else {
            "user_simulator_system_travel"
        };
        let prompts = dataset.prompts();
        let message = |role, content| ChatMessage { role, content };
        Ok(Self {
            conversation,
            user: vec![
                message(
                    Role::System,
                    prompts.fill(system, &[("instruction", &item.question)]),
                ),
                message(
                    Role::User,
                    prompts.text("user_simulator_opening").to_owned(),
                ),
            ],
            opened: false,
            to_user: true,
        })
    }

    /// Whose text is needed next; nothing when the conversation is over.
    pub fn next(&self) -> Option<Turn> {
        if self.conversation.finished {
            return None;
        }
        if self.to_user {
            return Some(Turn::User(self.user.clone()));
        }
        let Conversation { dataset, truth, .. } = &self.conversation;
        let prompts = dataset.prompts();
        let mut system = prompts.text("agent_multi_turn_system").to_owned();
        for (class, rules) in [
            ("Travel", "agent_multi_turn_rules_travel"),
            ("BaseApi", "agent_multi_turn_rules_phone"),
        ] {
            if truth.classes.iter().any(|involved| involved == class) {
                system.push_str(prompts.text(rules));
            }
        }
        Some(Turn::Agent(
            self.conversation.prompt(system, "agent_multi_turn_user"),
        ))
    }

    /// Takes the text of the model that [`MultiTurn::next`] named. When the agent's message goes to the
    /// environment, gives its answer.
    pub fn respond(&mut self, message: &str) -> Option<Json> {
        let conversation = &mut self.conversation;
        if conversation.finished {
            return None;
        }
        if self.to_user {
            self.user_says(message);
            return None;
        }
        conversation.say("agent", message);
        conversation.count(message.contains(FINISH));
        if !is_for_environment(message) {
            let said = message
                .strip_prefix("user:")
                .or_else(|| message.strip_prefix("agent:"));
            self.user.push(ChatMessage {
                role: Role::User,
                content: said.unwrap_or(message).to_owned(),
            });
            self.to_user = true;
            return None;
        }
        if conversation.finished {
            return None;
        }
        let (Ok(answer) | Err(answer)) = self.run(message)?;
        Some(self.conversation.answered("execution", Json::List(answer)))
    }

    fn user_says(&mut self, message: &str) {
        self.user.push(ChatMessage {
            role: Role::System,
            content: message.to_owned(),
        });
        self.conversation.say("user", message);
        if self.opened {
            self.conversation.count(message.contains(FINISH));
        }
        self.opened = true;
        self.to_user = false;
    }

    /// Lets the environment answer a message, without regard to the conversation: the results, or what it
    /// says when a call raises, or nothing for a message that cannot be read.
    pub fn run(&mut self, message: &str) -> Option<Result<Vec<Json>, Vec<Json>>> {
        self.conversation.calls.push(message.to_owned());
        let calls = read_message(message, Elements::SkipOthers).ok()?;
        let answer = self.conversation.world.run_until_error(&calls);
        self.conversation.ran |= answer.is_ok();
        Some(answer)
    }

    /// The state of the environment: a list of `{class: {attribute: value}}`.
    pub fn state(&self) -> Vec<Json> {
        self.conversation.state()
    }

    /// The score of the conversation so far.
    pub fn score(&self) -> AgentScore {
        self.conversation.score()
    }

    /// The entry of the conversation.
    pub fn item(&self) -> &'d Item {
        self.conversation.item
    }
}

/// A message goes to the environment when some line of it has a bracketed part and it reads as calls.
fn is_for_environment(message: &str) -> bool {
    let bracketed = message.split('\n').any(|line| {
        let open = line.find('[');
        open.is_some_and(|open| line[open..].contains(']'))
    });
    bracketed && read_message(message, Elements::CallsOnly).is_ok()
}

/// Scores an end state and messages that were recorded elsewhere.
impl Dataset {
    /// Scores an agent entry from the saved state of the environment and the messages that it answered.
    /// Nothing for an entry of another family.
    pub fn score_agent(
        &self,
        item: &Item,
        state: &[Json],
        messages: &[String],
    ) -> Option<AgentScore> {
        let Truth::Agent(truth) = &item.truth else {
            return None;
        };
        Some(score(&truth.end, &truth.milestones, state, messages))
    }
}
