//! Prompts: fixed texts with slots.

use indexmap::IndexMap;
use starling_text::json::Value;

use super::item::Item;
use super::{Category, DataError, Dataset};

/// The two messages of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The system message.
    pub system: String,
    /// The user message.
    pub user: String,
}

/// The prompt texts of one language, by name.
#[derive(Debug, Clone)]
pub struct Prompts(IndexMap<String, String>);

impl Prompts {
    /// The texts that must be there.
    const NAMES: [&'static str; 13] = [
        "normal_system",
        "preference_system",
        "special_system",
        "user",
        "agent_multi_turn_system",
        "agent_multi_turn_user",
        "agent_multi_turn_rules_travel",
        "agent_multi_turn_rules_phone",
        "agent_multi_step_system",
        "agent_multi_step_user",
        "user_simulator_system_travel",
        "user_simulator_system_phone",
        "user_simulator_opening",
    ];

    pub(super) fn read(json: &Value) -> Result<Self, DataError> {
        let mut texts = IndexMap::new();
        for name in Self::NAMES {
            let text = json.get(name).and_then(Value::as_str);
            let text = text.ok_or(DataError::Shape("a prompt text is missing"))?;
            texts.insert(name.to_owned(), text.to_owned());
        }
        Ok(Self(texts))
    }

    /// The text of a name, empty for a name that is not one of the texts.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The text of a name with its slots filled, left to right, inserted text not looked at again.
    pub fn fill(&self, name: &str, slots: &[(&str, &str)]) -> String {
        fill(self.text(name), slots)
    }
}

fn fill(text: &str, slots: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(
        text.len() + slots.iter().map(|(_, value)| value.len()).sum::<usize>(),
    );
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let slot = &rest[at + 1..];
        let found = slots.iter().find(|(name, _)| {
            slot.strip_prefix(name)
                .is_some_and(|after| after.starts_with('}'))
        });
        match found {
            Some((name, value)) => {
                out.push_str(value);
                rest = &slot[name.len() + 1..];
            }
            None => {
                out.push('{');
                rest = slot;
            }
        }
    }
    out.push_str(rest);
    out
}

impl Dataset {
    /// The official prompt of an entry; of an agent entry, the one that its first message answers. A
    /// multi-turn agent is asked only after the user has spoken, so that its prompt here has no history.
    pub fn prompt(&self, item: &Item) -> Prompt {
        let functions = item.functions_text();
        let history = match item.category {
            Category::AgentMultiStep => format!("user:{}\n", item.question),
            _ => String::new(),
        };
        let slots = [
            ("time", item.time.as_str()),
            ("function", functions.as_str()),
            ("functions", functions.as_str()),
            ("profile", item.profile.as_deref().unwrap_or_default()),
            ("question", item.question.as_str()),
            ("history", history.as_str()),
        ];
        let (system, user) = match item.category {
            Category::Preference => ("preference_system", "user"),
            Category::Incomplete | Category::ErrorParam | Category::Irrelevant => {
                ("special_system", "user")
            }
            Category::AgentMultiStep => ("agent_multi_step_system", "agent_multi_step_user"),
            Category::AgentMultiTurn => ("agent_multi_turn_system", "agent_multi_turn_user"),
            _ => ("normal_system", "user"),
        };
        Prompt {
            system: self.prompts().fill(system, &slots),
            user: self.prompts().fill(user, &slots),
        }
    }
}
