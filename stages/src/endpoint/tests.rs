//! Against a scripted server on the loopback, which fails on demand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::probe::Needs;
use super::wire::{Choice, Finish, ToolCall};
use super::{Endpoint, EndpointError, Query, Settings};

/// What the server does with the request of a number, counted from 0, and its body.
type Answers = dyn Fn(usize, &Value) -> Answer + Send + Sync;

/// One answer of the server.
pub(crate) enum Answer {
    Status(u16, &'static [(&'static str, &'static str)], String),
    /// Closes the connection without a word.
    Hangup,
    /// Says half of what it announced.
    Half,
    /// Says nothing for so long.
    Silence(Duration),
}

/// A server; what it was asked is kept.
pub(crate) struct Server {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    pub(crate) fn start(script: impl Fn(usize, &Value) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, seen): (Arc<Answers>, _) = (Arc::new(script), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &*script, &seen));
            }
        });
        Self { address, asked }
    }

    fn endpoint(&self, change: impl FnOnce(&mut Settings)) -> Endpoint {
        let mut settings = Settings {
            base_url: self.address.clone(),
            model: "scripted".to_owned(),
            key_variable: None,
            timeout_seconds: 5.0,
            retries: 3,
            concurrency: 4,
        };
        change(&mut settings);
        let endpoint = Endpoint::new(settings).expect("good settings");
        endpoint.with_first_wait(Duration::from_millis(1))
    }

    /// Heads and bodies of the requests, in the order in which they came.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// Serves one connection until it ends.
fn serve(stream: TcpStream, script: &Answers, seen: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut stream = stream;
    loop {
        let (mut head, mut length) = (String::new(), 0_usize);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let number = {
            let mut seen = seen.lock().expect("no panic");
            seen.push((head, body.clone()));
            seen.len() - 1
        };
        let (status, headers, text) = match script(number, &body) {
            Answer::Hangup => return,
            Answer::Silence(time) => {
                std::thread::sleep(time);
                return;
            }
            Answer::Half => {
                drop(
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\""),
                );
                return;
            }
            Answer::Status(status, headers, text) => (status, headers, text),
        };
        let mut out = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", text.len());
        for (name, value) in headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        out.push_str(&text);
        if stream.write_all(out.as_bytes()).is_err() {
            return;
        }
    }
}

/// A completion with these answers.
pub(crate) fn completion(choices: &Value, prompt_tokens: u64) -> Answer {
    let usage = json!({"prompt_tokens": prompt_tokens, "completion_tokens": 2});
    Answer::Status(
        200,
        &[],
        json!({"choices": choices, "usage": usage}).to_string(),
    )
}

fn says(text: &str) -> Answer {
    completion(
        &json!([{"message": {"content": text}, "finish_reason": "stop"}]),
        7,
    )
}

/// What a model answers to the body of a request.
pub(crate) type Script = Box<dyn Fn(&Value) -> String + Send + Sync>;

/// Starts a server that chats by a script, for the tests of kinds; prompts with tools count as longer. The address
/// goes into `base-url`.
pub(crate) fn chat_server(script: Script) -> String {
    let server = Server::start(move |_, body| {
        let message = json!({"role": "assistant", "content": script(body)});
        let tokens = if body.get("tools").is_some() { 200 } else { 20 };
        completion(
            &json!([{"message": message, "finish_reason": "stop"}]),
            tokens,
        )
    });
    server.address
}

fn query(text: &str) -> Query {
    Query {
        messages: vec![json!({"role": "user", "content": text})],
        max_tokens: Some(5),
        ..Query::default()
    }
}

fn never() -> bool {
    false
}

#[test]
fn a_question_has_an_answer() {
    let server = Server::start(|_, _| says("hello"));
    let endpoint = server.endpoint(|_| {});
    let reply = endpoint.ask(&query("hi"), &never).expect("a reply");
    assert_eq!(reply.first().map(|c| c.content.as_str()), Some("hello"));
    assert_eq!((reply.prompt_tokens, reply.completion_tokens), (7, 2));
    let asked = server.asked();
    assert!(
        asked[0].0.starts_with("POST /v1/chat/completions "),
        "{}",
        asked[0].0
    );
    assert_eq!(asked[0].1["model"], "scripted");
    assert!(asked[0].1.get("tools").is_none() && asked[0].1.get("logprobs").is_none());
    assert!(!asked[0].0.to_ascii_lowercase().contains("authorization"));
}

#[test]
fn load_and_faults_are_waited_out() {
    let server = Server::start(|number, _| match number {
        0 => Answer::Status(429, &[("retry-after", "0.01")], "slow down".to_owned()),
        1 => Answer::Status(503, &[], "busy".to_owned()),
        2 => Answer::Hangup,
        _ => says("at last"),
    });
    let reply = server
        .endpoint(|_| {})
        .ask(&query("hi"), &never)
        .expect("a reply");
    assert_eq!(reply.choices[0].content, "at last");
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn half_replies_and_silence_are_tried_again() {
    let server = Server::start(|number, _| match number {
        0 => Answer::Half,
        1 => Answer::Silence(Duration::from_secs(3)),
        _ => says("whole"),
    });
    let endpoint = server.endpoint(|s| s.timeout_seconds = 0.5);
    assert_eq!(
        endpoint.ask(&query("hi"), &never).expect("a reply").choices[0].content,
        "whole"
    );
}

#[test]
fn it_gives_up_in_the_end_and_says_why() {
    let server = Server::start(|_, _| Answer::Status(500, &[], "broken".to_owned()));
    let error = server
        .endpoint(|s| s.retries = 2)
        .ask(&query("hi"), &never)
        .expect_err("no reply");
    let EndpointError::GaveUp { tries: 3, last, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(last, "status 500: broken");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn what_the_server_will_never_do_is_not_tried_again() {
    let server = Server::start(|_, _| Answer::Status(401, &[], "x".repeat(5_000)));
    let error = server
        .endpoint(|_| {})
        .ask(&query("hi"), &never)
        .expect_err("refused");
    assert!(
        matches!(&error, EndpointError::Refused { status: 401, body, .. } if body.chars().count() == 301)
    );
    assert_eq!(server.asked().len(), 1);
    for (text, why) in [
        ("not json", "not JSON"),
        ("{}", "no `choices`"),
        ("{\"choices\": []}", "0 came"),
        ("{\"choices\": [{}]}", "no `message`"),
    ] {
        let server = Server::start(move |_, _| Answer::Status(200, &[], text.to_owned()));
        let error = server
            .endpoint(|_| {})
            .ask(&query("hi"), &never)
            .expect_err("no reply");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn the_key_is_sent_and_never_told() {
    // PATH is set wherever tests run; its value stands in for a key.
    let server = Server::start(|_, _| Answer::Status(403, &[], "no".to_owned()));
    let endpoint = server.endpoint(|s| s.key_variable = Some("PATH".to_owned()));
    let error = endpoint.ask(&query("hi"), &never).expect_err("refused");
    let head = server.asked()[0].0.clone();
    let sent = head
        .lines()
        .find_map(|l| l.strip_prefix("authorization: Bearer "))
        .expect("a key");
    assert!(!sent.is_empty() && !format!("{error} {error:?}").contains(sent));
    let missing = Endpoint::new(Settings {
        key_variable: Some("STARLING_TEST_NO_SUCH_KEY".to_owned()),
        ..endpoint.settings
    });
    assert!(matches!(missing.err(), Some(EndpointError::NoKey(_))));
}

#[test]
fn replies_come_in_the_order_of_the_queries() {
    let server = Server::start(|number, body| {
        if number.is_multiple_of(3) {
            return Answer::Status(503, &[], String::new());
        }
        let text = body["messages"][0]["content"]
            .as_str()
            .expect("a text")
            .to_owned();
        if text.len() % 2 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        says(&text)
    });
    let queries: Vec<Query> = (0..20).map(|i| query(&"x".repeat(i + 1))).collect();
    let endpoint = server.endpoint(|s| s.retries = 20);
    let replies = endpoint.ask_all(&queries, &never).expect("replies");
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply.choices[0].content.len(), i + 1);
    }
    assert!(
        endpoint
            .ask_all(&[], &never)
            .expect("nothing to ask")
            .is_empty()
    );
}

#[test]
fn one_failure_stops_the_others() {
    let server = Server::start(|number, _| match number {
        0..4 => says("fine"),
        _ => Answer::Status(400, &[], "too long".to_owned()),
    });
    let queries = vec![query("hi"); 200];
    let error = server
        .endpoint(|_| {})
        .ask_all(&queries, &never)
        .expect_err("refused");
    assert!(matches!(error, EndpointError::Refused { status: 400, .. }));
    assert!(server.asked().len() < 20, "{}", server.asked().len());
    let stopped = server.endpoint(|_| {}).ask_all(&queries, &|| true);
    assert_eq!(stopped, Err(EndpointError::Interrupted));
}

#[test]
fn both_shapes_of_logprobs_are_read() {
    let chat = json!({"content": [
        {"token": "a", "logprob": -0.5, "id": 3, "top_logprobs": [{"token": "b", "logprob": -1.5}]},
    ]});
    let old = json!({"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -1.5}]});
    let ask = Query {
        top_logprobs: Some(1),
        ..query("hi")
    };
    for (shape, id) in [(chat, Some(3)), (old, None)] {
        let server = Server::start(move |_, _| {
            completion(
                &json!([{"message": {"content": "a"}, "logprobs": shape}]),
                7,
            )
        });
        let endpoint = server.endpoint(|_| {});
        let reply = endpoint.ask(&ask, &never).expect("a reply");
        let token = &reply.choices[0].tokens[0];
        assert_eq!((token.text.as_str(), token.id), ("a", id));
        assert!((token.logprob + 0.5).abs() < 1e-12);
        let top: Vec<(&str, f64)> = token
            .top
            .iter()
            .map(|t| (t.text.as_str(), t.logprob))
            .collect();
        assert_eq!(top, [("b", -1.5)]);
        let needs = Needs {
            top_logprobs: Some(1),
            ..Needs::default()
        };
        endpoint
            .check(needs, &never)
            .expect("a server that does it");
    }
    let server = Server::start(|_, _| says("a"));
    let error = server
        .endpoint(|_| {})
        .ask(&ask, &never)
        .expect_err("no logprobs");
    assert!(error.to_string().contains("ignores `logprobs`"), "{error}");
}

#[test]
fn servers_that_drop_what_they_accept_are_found_out() {
    let tools = Needs {
        tools: true,
        ..Needs::default()
    };
    let drops = Server::start(|_, _| says("sunny"));
    let error = drops
        .endpoint(|_| {})
        .check(tools, &never)
        .expect_err("found out");
    assert!(error.to_string().contains("drops them"), "{error}");
    let takes = Server::start(|_, body| {
        let count = if body.get("tools").is_some() { 120 } else { 10 };
        completion(&json!([{"message": {"content": "sunny"}}]), count)
    });
    takes
        .endpoint(|_| {})
        .check(tools, &never)
        .expect("a server that takes them");
    let several = Needs {
        several: true,
        ..Needs::default()
    };
    let error = drops
        .endpoint(|_| {})
        .check(several, &never)
        .expect_err("found out");
    assert!(error.to_string().contains("ignores `n`"), "{error}");
    let above = Server::start(|_, _| {
        let content = json!([{"token": "a", "logprob": 0.5, "top_logprobs": [{"token": "a", "logprob": 0.5}]}]);
        completion(
            &json!([{"message": {"content": "a"}, "logprobs": {"content": content}}]),
            7,
        )
    });
    let needs = Needs {
        top_logprobs: Some(1),
        ..Needs::default()
    };
    let error = above
        .endpoint(|_| {})
        .check(needs, &never)
        .expect_err("found out");
    assert!(error.to_string().contains("above 0"), "{error}");
}

#[test]
fn parsed_calls_are_written_back() {
    let choice = Choice {
        content: "ok".to_owned(),
        reasoning: "hm\n".to_owned(),
        tool_calls: vec![
            ToolCall {
                name: "f".to_owned(),
                arguments: "{\"a\": 12345678901234567890123}".to_owned(),
            },
            ToolCall {
                name: "g".to_owned(),
                arguments: "{broken".to_owned(),
            },
        ],
        finish: Finish::Stop,
        tokens: Vec::new(),
    };
    assert_eq!(
        choice.text(),
        "<think>\nhm\n</think>\n\nok\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 12345678901234567890123}}\n\
         </tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": \"{broken\"}\n</tool_call>"
    );
}
