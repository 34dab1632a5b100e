//! Known-answer checks: whether a server really does what it accepts.
//!
//! Servers drop what they do not know without a word: tools whose template has no place for them, `n`,
//! log-probabilities. So a run begins with a question whose answer shows it, and stops when it does not.

use serde_json::{Map, Value, json};

use super::{Endpoint, EndpointError, Query, Reply};

/// What a run needs of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// Tools must reach the model.
    pub(crate) tools: bool,
    /// So many likeliest tokens must come back.
    pub(crate) top_logprobs: Option<usize>,
    /// Several answers at once.
    pub(crate) several: bool,
    /// Texts are to be continued, instead of chats.
    pub(crate) text: bool,
}

impl Endpoint {
    /// Asks what the server needs to be able to do.
    ///
    /// # Errors
    /// [`EndpointError::Reply`] that names what it does not do, and what to do about it.
    pub(crate) fn check(&self, needs: Needs, stop: &dyn Fn() -> bool) -> Result<(), EndpointError> {
        let reply = self.ask(&question(needs, false), stop)?;
        self.finite(&reply)?;
        if needs.tools {
            // A long tool makes a long prompt: where the count does not grow, the tool went nowhere.
            let with = self.ask(&question(needs, true), stop)?;
            let counted = reply.prompt_tokens > 0 && with.prompt_tokens > 0;
            let grew = with.prompt_tokens > reply.prompt_tokens + 20;
            let called = with
                .first()
                .is_some_and(|choice| !choice.tool_calls.is_empty());
            if counted && !grew && !called {
                return Err(self.lacks(
                    "the prompt did not grow by the tools: the server drops them; give it a chat template that \
                     writes tools, or put the tools into the prompt",
                ));
            }
        }
        if let Some(top) = needs.top_logprobs.filter(|top| *top > 0) {
            let tokens = reply.choices.iter().flat_map(|choice| &choice.tokens);
            if tokens.clone().next().is_none() {
                return Err(self.lacks("no token came with its log-probability"));
            }
            if tokens.clone().any(|token| token.top.is_empty()) {
                return Err(self.lacks(&format!(
                    "{top} likeliest tokens were asked for and none came"
                )));
            }
            let most = tokens.map(|token| token.top.len()).max().unwrap_or(0);
            if most < top {
                return Err(self.lacks(&format!(
                    "{top} likeliest tokens were asked for and {most} came: ask for no more than that"
                )));
            }
        }
        Ok(())
    }

    fn finite(&self, reply: &Reply) -> Result<(), EndpointError> {
        let tokens = reply.choices.iter().flat_map(|choice| &choice.tokens);
        let bad = |value: f64| !value.is_finite() || value > 1e-3;
        let mut values =
            tokens.flat_map(|t| std::iter::once(t.logprob).chain(t.top.iter().map(|t| t.logprob)));
        match values.any(bad) {
            true => Err(self.lacks("a log-probability is above 0 or not a number")),
            false => Ok(()),
        }
    }

    fn lacks(&self, what: &str) -> EndpointError {
        EndpointError::Reply {
            url: self.url().to_owned(),
            what: what.to_owned(),
        }
    }
}

fn question(needs: Needs, tools: bool) -> Query {
    let words =
        "Looks up the weather of a city on a day, in a unit, with a forecast of so many hours.";
    let parameter = |about: &str| json!({"type": "string", "description": about});
    let tool: Value = json!({"type": "function", "function": {
        "name": "get_weather",
        "description": words,
        "parameters": {
            "type": "object",
            "properties": {
                "city": parameter("The city, for example Paris"),
                "unit": parameter("Celsius or Fahrenheit"),
                "hours": parameter("How many hours the forecast covers"),
            },
            "required": ["city"],
        },
    }});
    let asked = "What is the weather in Paris?";
    Query {
        prompt: needs.text.then(|| asked.to_owned()),
        stop: Vec::new(),
        messages: vec![json!({"role": "user", "content": asked})],
        tools: if tools { vec![tool] } else { Vec::new() },
        temperature: if needs.several { 1.0 } else { 0.0 },
        max_tokens: Some(8),
        n: if needs.several { 2 } else { 1 },
        top_logprobs: needs.top_logprobs,
        seed: Some(1),
        extra: Map::new(),
    }
}
