//! A Hugging Face hub on this machine: repositories in memory, served over real connections, failing on demand.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use starling_cache::Digest;

/// What a request gets instead of its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// So many bytes of the body, then nothing.
    Drop(usize),
    /// Bytes of the right number and the wrong value.
    WrongBytes,
    /// A status, with further headers.
    Status(u16, &'static str),
}

/// A file of a repository.
#[derive(Debug, Clone)]
struct Stored {
    bytes: Vec<u8>,
    /// Large files are described by their SHA-256 and served from elsewhere.
    large: bool,
}

#[derive(Default)]
struct State {
    /// Files by repository (`datasets/owner/name`) and path.
    files: BTreeMap<String, BTreeMap<String, Stored>>,
    commit: String,
    /// Faults by the beginning of a path; each is used once.
    faults: Vec<(String, VecDeque<Fault>)>,
    /// What was asked for: method, path, range, and whether a token came along.
    requests: Vec<(String, bool)>,
    /// The token without which repositories are refused.
    token: Option<String>,
    /// Whether the list of files has their digests.
    describes: bool,
}

/// The hub; it serves until the program ends.
#[derive(Clone)]
pub struct Hub {
    /// Where it is: `http://127.0.0.1:PORT`.
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    /// Starts a hub without repositories.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State {
            commit: "1".repeat(40),
            describes: true,
            ..State::default()
        }));
        let hub = Self { address, state };
        let served = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = served.clone();
                thread::spawn(move || hub.converse(stream));
            }
        });
        hub
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked in here")
    }

    /// Puts a file into a repository such as `datasets/owner/name`.
    pub fn put(&self, repo: &str, path: &str, bytes: &[u8], large: bool) {
        let stored = Stored {
            bytes: bytes.to_vec(),
            large,
        };
        let mut state = self.state();
        state
            .files
            .entry(repo.to_owned())
            .or_default()
            .insert(path.to_owned(), stored);
    }

    /// Changes what `main` stands for.
    pub fn commit(&self, digit: char) {
        self.state().commit = digit.to_string().repeat(40);
    }

    /// Refuses whoever does not bring this token.
    pub fn restrict(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// Leaves digests out of the list of files, as older hubs do.
    pub fn describe_less(&self) {
        self.state().describes = false;
    }

    /// Lets the next requests for paths that begin like this fail.
    pub fn fail(&self, path: &str, faults: &[Fault]) {
        let faults = faults.iter().cloned().collect();
        self.state().faults.push((path.to_owned(), faults));
    }

    /// What was asked for since the last time: `METHOD PATH [RANGE]`, and whether a token came along.
    pub fn requests(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut self.state().requests)
    }

    fn converse(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        let mut writer = stream;
        while let Some(request) = Request::read(&mut reader) {
            if self.answer(&request, &mut writer).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request, out: &mut TcpStream) -> Result<(), ()> {
        let (response, fault) = self.respond(request);
        let mut response = response;
        match fault {
            Some(Fault::Status(status, headers)) => {
                response = Response::status(status);
                response.headers.push_str(headers);
            }
            Some(Fault::WrongBytes) => response.body.iter_mut().for_each(|byte| *byte ^= 0x55),
            Some(Fault::Drop(_)) | None => {}
        }
        let body = if request.method == "HEAD" {
            &[][..]
        } else {
            &response.body
        };
        let sent = match fault {
            Some(Fault::Drop(bytes)) => &body[..bytes.min(body.len())],
            _ => body,
        };
        let head = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {}\r\n{}\r\n",
            response.status,
            response.body.len(),
            response.headers
        );
        let write = out
            .write_all(head.as_bytes())
            .and_then(|()| out.write_all(sent));
        if write.is_err() || matches!(fault, Some(Fault::Drop(_))) {
            drop(out.shutdown(std::net::Shutdown::Both));
            return Err(());
        }
        Ok(())
    }

    fn respond(&self, request: &Request) -> (Response, Option<Fault>) {
        let mut state = self.state();
        let range = request
            .range
            .map_or_else(String::new, |from| format!(" {from}-"));
        let line = format!("{} {}{range}", request.method, request.path);
        state.requests.push((line, request.token.is_some()));
        let mut fault = None;
        for (path, faults) in &mut state.faults {
            if fault.is_none() && request.path.starts_with(path.as_str()) {
                fault = faults.pop_front();
            }
        }
        (state.respond(request), fault)
    }
}

struct Request {
    method: String,
    path: String,
    range: Option<usize>,
    token: Option<String>,
}

impl Request {
    fn read(reader: &mut impl std::io::BufRead) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let mut request = Self {
            method: words.next()?.to_owned(),
            path: words.next()?.to_owned(),
            range: None,
            token: None,
        };
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else {
                return line.trim().is_empty().then_some(request);
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "range" => {
                    let from = value.strip_prefix("bytes=")?.strip_suffix('-')?;
                    request.range = from.parse().ok();
                }
                "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
                _ => {}
            }
        }
    }
}

struct Response {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Response {
    fn status(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: Vec::new(),
        }
    }

    fn bytes(bytes: &[u8], from: Option<usize>) -> Self {
        match from {
            None => Self {
                body: bytes.to_vec(),
                ..Self::status(200)
            },
            Some(from) if from < bytes.len() => Self {
                headers: format!(
                    "Content-Range: bytes {from}-{}/{}\r\n",
                    bytes.len() - 1,
                    bytes.len()
                ),
                body: bytes[from..].to_vec(),
                ..Self::status(206)
            },
            Some(_) => Self::status(416),
        }
    }
}

impl State {
    fn respond(&self, request: &Request) -> Response {
        let path = request.path.split('?').next().unwrap_or_default();
        // What large files redirect to; nobody needs a token there.
        if let Some(digest) = path.strip_prefix("/storage/") {
            let mut all = self.files.values().flat_map(BTreeMap::values);
            let found = all.find(|f| Digest::of(&f.bytes).to_string() == digest);
            return found.map_or_else(
                || Response::status(404),
                |file| Response::bytes(&file.bytes, request.range),
            );
        }
        if self.token.is_some() && request.token != self.token {
            let mut response = Response::status(401);
            response.headers = "X-Error-Code: GatedRepo\r\n".to_owned();
            return response;
        }
        if let Some(rest) = path.strip_prefix("/api/") {
            return self.list(rest);
        }
        self.file(path, request)
            .unwrap_or_else(|| Response::status(404))
    }

    fn list(&self, rest: &str) -> Response {
        let Some((repo, revision)) = rest.split_once("/revision/") else {
            return Response::status(404);
        };
        let (Some(files), true) = (
            self.files.get(repo),
            revision == "main" || revision == self.commit,
        ) else {
            return Response::status(404);
        };
        let siblings = files.iter().map(|(path, file)| {
            let mut sibling = serde_json::json!({"rfilename": path});
            if self.describes {
                sibling["size"] = file.bytes.len().into();
                if file.large {
                    let sha256 = Digest::of(&file.bytes).to_string();
                    sibling["lfs"] =
                        serde_json::json!({"sha256": sha256, "size": file.bytes.len()});
                }
            }
            sibling
        });
        let siblings: Vec<_> = siblings.collect();
        let info = serde_json::json!({"sha": self.commit, "siblings": siblings, "private": false});
        Response {
            body: info.to_string().into_bytes(),
            ..Response::status(200)
        }
    }

    fn file(&self, path: &str, request: &Request) -> Option<Response> {
        let (repo, rest) = path.strip_prefix('/')?.split_once("/resolve/")?;
        let (_, name) = rest.split_once('/')?;
        let repo = if repo.starts_with("datasets/") {
            repo.to_owned()
        } else {
            format!("models/{repo}")
        };
        let file = self.files.get(&repo)?.get(&name.replace("%20", " "))?;
        if !file.large {
            return Some(Response::bytes(&file.bytes, request.range));
        }
        let digest = Digest::of(&file.bytes);
        Some(Response {
            headers: format!(
                "X-Linked-Etag: \"{digest}\"\r\nX-Linked-Size: {}\r\nLocation: /storage/{digest}?signature=x\r\n",
                file.bytes.len()
            ),
            ..Response::status(302)
        })
    }
}
