//! The commands.

use std::sync::Arc;

use starling_text::python::is_space;

use super::{Entry, FileSystem, MAX_DEPTH, MAX_VISITS, Tree, VISIT_WORK};
use crate::bfcl::py::{Class, Py, Raise, Reply, compare, dict, str, subtract, to_int};

fn error(text: impl Into<String>) -> Reply {
    Ok(dict! {"error" => text.into()})
}

/// Takes the work of a step from what may still be done.
fn spend(left: &mut usize, work: usize) -> Reply<()> {
    *left = left.checked_sub(work).ok_or_else(Raise::limit)?;
    Ok(())
}

/// Lines as Python's `splitlines` cuts them.
fn lines(text: &str) -> Vec<&str> {
    let is_break = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some((at, c)) = rest.char_indices().find(|(_, c)| is_break(*c)) else {
            lines.push(rest);
            break;
        };
        lines.push(&rest[..at]);
        let end = match rest[at..].starts_with("\r\n") {
            true => at + 2,
            false => at + c.len_utf8(),
        };
        rest = &rest[end..];
    }
    lines
}

/// Whether a name holds none of the characters that are forbidden. What is no text is searched as Python would.
fn is_valid(name: &Py) -> Reply<bool> {
    const FORBIDDEN: [char; 9] = ['|', '/', '\\', '?', '%', '*', ':', '"', '>'];
    if let Some(name) = name.as_str() {
        return Ok(!name.contains(FORBIDDEN) && !name.contains('<'));
    }
    for c in FORBIDDEN.into_iter().chain(['<']) {
        if name.contains(&c.to_string().into())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A name for a new entry; Python would take some other values as well, which no text can express.
fn new_name(name: &Py) -> Reply<&str> {
    name.as_str().ok_or_else(Raise::limit)
}

impl FileSystem {
    fn tree_mut(&mut self) -> &mut Tree {
        Arc::make_mut(&mut self.tree)
    }

    /// The entry of a name in the working directory.
    fn entry(&self, name: &Py) -> Reply<Option<Entry>> {
        name.require_hashable()?;
        Ok(name.as_str().and_then(|name| {
            let known = self.tree.contents(self.current).contains_key(name);
            if known {
                self.tree.get(self.current, name)
            } else {
                None
            }
        }))
    }

    fn content(&self, file: usize) -> &Py {
        &self.tree.files[file].content
    }

    /// The directory of a path, or the text of the error.
    fn resolve(&self, path: &Py) -> Reply<Result<usize, String>> {
        if path.is_none() || path.is(".") {
            return Ok(Ok(self.current));
        }
        if path.is("/") {
            return Ok(Ok(self.tree.root));
        }
        let text = path.text_for("strip")?;
        let mut directory = match text.starts_with('/') {
            true => self.tree.root,
            false => self.current,
        };
        for name in text.trim_matches('/').split('/') {
            match self.tree.get(directory, name) {
                Some(Entry::Directory(next)) => directory = next,
                _ => return Ok(Err(format!("cd: '{text}': No such file or directory"))),
            }
        }
        Ok(Ok(directory))
    }

    pub(super) fn pwd(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"current_working_directory" => self.working_directory()})
    }

    pub(super) fn ls(&mut self, [all]: [Py; 1]) -> Reply {
        let names = self.tree.contents(self.current).keys();
        let shown = names.filter(|name| all.truthy() || !name.starts_with('.'));
        let shown: Vec<Py> = shown.map(|name| name.to_string().into()).collect();
        Ok(dict! {"current_directory_content" => shown})
    }

    pub(super) fn cd(&mut self, [folder]: [Py; 1]) -> Reply {
        let folder = match folder.text_for("rstrip")?.trim_end_matches('/') {
            "" => "/",
            folder => folder,
        };
        if folder != "/" && folder.contains('/') {
            return error(format!(
                "cd: {folder}: Unsupported path. Only one folder level at a time is supported."
            ));
        }
        if folder == ".." {
            return match self.tree.directories[self.current].parent {
                Some(parent) => {
                    self.current = parent;
                    Ok(dict! {})
                }
                None => error("Current directory is already the root. Cannot go back."),
            };
        }
        match self.resolve(&folder.to_owned().into())? {
            Err(text) => error(text),
            Ok(directory) => {
                self.current = directory;
                let name = self.tree.directories[directory].name.to_string();
                Ok(dict! {"current_working_directory" => name})
            }
        }
    }

    pub(super) fn mkdir(&mut self, [name]: [Py; 1]) -> Reply {
        if !is_valid(&name)? {
            let name = str(&name);
            return error(format!(
                "mkdir: cannot create directory '{name}': Invalid character"
            ));
        }
        if self.entry(&name)?.is_some() {
            return error(format!(
                "mkdir: cannot create directory '{}': File exists",
                str(&name)
            ));
        }
        let current = self.current;
        self.tree_mut().add_directory(current, new_name(&name)?)?;
        Ok(Py::None)
    }

    pub(super) fn touch(&mut self, [name]: [Py; 1]) -> Reply {
        if !is_valid(&name)? {
            return error(format!(
                "touch: cannot touch '{}': Invalid character",
                str(&name)
            ));
        }
        if self.entry(&name)?.is_some() {
            return error(format!("touch: cannot touch '{}': File exists", str(&name)));
        }
        let current = self.current;
        self.tree_mut()
            .add_file(current, new_name(&name)?, "".into())?;
        Ok(Py::None)
    }

    pub(super) fn echo(&mut self, [content, name]: [Py; 2]) -> Reply {
        if name.is_none() {
            return Ok(dict! {"terminal_output" => content});
        }
        if !is_valid(&name)? {
            return error(format!(
                "echo: cannot write to '{}': Invalid character",
                str(&name)
            ));
        }
        if !name.truthy() {
            return Ok(dict! {"terminal_output" => content});
        }
        match self.entry(&name)? {
            None => error(format!(
                "echo: cannot write to '{}': No such file",
                str(&name)
            )),
            Some(Entry::Directory(_)) => {
                let text = "'Directory' object has no attribute '_write'";
                Err(Raise::new(Class::Other, text))
            }
            Some(Entry::File(file)) => {
                self.tree_mut().files[file].content = content;
                Ok(Py::None)
            }
        }
    }

    pub(super) fn cat(&mut self, [name]: [Py; 1]) -> Reply {
        if !is_valid(&name)? {
            return error(format!("cat: '{}': Invalid character", str(&name)));
        }
        match self.entry(&name)? {
            None => error(format!("cat: '{}': No such file or directory", str(&name))),
            Some(Entry::Directory(_)) => error(format!("cat: '{}': Is a directory", str(&name))),
            Some(Entry::File(file)) => Ok(dict! {"file_content" => self.content(file).clone()}),
        }
    }

    pub(super) fn find(&mut self, [path, name]: [Py; 2]) -> Reply {
        match self.resolve(&path)? {
            Err(text) => error(text.replacen("cd:", "find:", 1)),
            Ok(directory) => {
                let base = path.text_for("rstrip")?.trim_end_matches('/');
                let mut matches = Vec::new();
                let mut work = self.walk_work_left;
                let found = self.search(directory, base, &name, 0, &mut matches, &mut work);
                self.walk_work_left = work;
                found?;
                Ok(dict! {"matches" => matches})
            }
        }
    }

    fn search(
        &self,
        directory: usize,
        base: &str,
        wanted: &Py,
        depth: usize,
        matches: &mut Vec<Py>,
        work: &mut usize,
    ) -> Reply<()> {
        if depth > MAX_DEPTH {
            let text = "maximum recursion depth exceeded while calling a Python object";
            return Err(Raise::new(Class::Other, text));
        }
        for (name, entry) in self.tree.contents(directory) {
            spend(work, VISIT_WORK + base.len() + name.len())?;
            let path = format!("{base}/{name}");
            if wanted.is_none() || Py::from(name.to_string()).contains(wanted)? {
                matches.push(path.clone().into());
            }
            if let Entry::Directory(id) = *entry {
                self.search(id, &path, wanted, depth + 1, matches, work)?;
            }
        }
        Ok(())
    }

    pub(super) fn wc(&mut self, [name, mode]: [Py; 2]) -> Reply {
        if !["l", "w", "c"].iter().any(|known| mode.is(known)) {
            return error(format!("wc: invalid mode '{}'", str(&mode)));
        }
        let Some(Entry::File(file)) = self.entry(&name)? else {
            return error(format!("wc: {}: No such file or directory", str(&name)));
        };
        let content = self.content(file);
        let (count, kind) = if mode.is("l") {
            (lines(content.text_for("splitlines")?).len(), "lines")
        } else if mode.is("w") {
            let words = content.text_for("split")?.split(is_space);
            (words.filter(|word| !word.is_empty()).count(), "words")
        } else {
            (content.len()?, "characters")
        };
        Ok(dict! {"count" => count as i64, "type" => kind})
    }

    pub(super) fn sort(&mut self, [name]: [Py; 1]) -> Reply {
        let Some(Entry::File(file)) = self.entry(&name)? else {
            return error(format!("sort: {}: No such file or directory", str(&name)));
        };
        // Bytes of UTF-8 sort like code points.
        let mut sorted = lines(self.content(file).text_for("splitlines")?);
        sorted.sort_unstable();
        Ok(dict! {"sorted_content" => sorted.join("\n")})
    }

    pub(super) fn grep(&mut self, [name, pattern]: [Py; 2]) -> Reply {
        let Some(Entry::File(file)) = self.entry(&name)? else {
            return error(format!("grep: {}: No such file or directory", str(&name)));
        };
        let mut matching = Vec::new();
        for line in lines(self.content(file).text_for("splitlines")?) {
            let line = Py::from(line.to_owned());
            if line.contains(&pattern)? {
                matching.push(line);
            }
        }
        Ok(dict! {"matching_lines" => matching})
    }

    pub(super) fn du(&mut self, [human_readable]: [Py; 1]) -> Reply {
        let mut work = self.walk_work_left;
        let bytes = self.size(self.current, 0, &mut work);
        self.walk_work_left = work;
        let bytes = bytes?;
        if !human_readable.truthy() {
            return Ok(dict! {"disk_usage" => format!("{bytes} bytes")});
        }
        let mut size = bytes as f64;
        let mut units = ["B", "KB", "MB", "GB", "TB"].into_iter();
        let unit = loop {
            match units.next() {
                Some(unit) if size < 1024.0 => break unit,
                Some(_) => size /= 1024.0,
                None => break "PB",
            }
        };
        Ok(dict! {"disk_usage" => format!("{size:.2} {unit}")})
    }

    fn size(&self, directory: usize, depth: usize, work: &mut usize) -> Reply<usize> {
        if depth > MAX_DEPTH {
            return Err(Raise::new(Class::Other, "maximum recursion depth exceeded"));
        }
        let mut bytes = 0;
        for entry in self.tree.contents(directory).values() {
            spend(work, VISIT_WORK)?;
            bytes += match *entry {
                Entry::File(file) => self.content(file).text_for("encode")?.len(),
                Entry::Directory(id) => self.size(id, depth + 1, work)?,
            };
        }
        Ok(bytes)
    }

    pub(super) fn tail(&mut self, [name, count]: [Py; 2]) -> Reply {
        let Some(Entry::File(file)) = self.entry(&name)? else {
            return error(format!("tail: {}: No such file or directory", str(&name)));
        };
        let content = lines(self.content(file).text_for("splitlines")?);
        let total = content.len() as i64;
        let over = compare(&count, &Py::Int(total), ">")? == Some(std::cmp::Ordering::Greater);
        let count = if over { Py::Int(total) } else { count };
        // A slice from minus `count`: nothing is cut off for 0, and lines in front for a negative count.
        let start = match &count {
            Py::Int(_) | Py::Bool(_) | Py::Big(_) => subtract(&Py::Int(0), &to_int(&count)?)?,
            _ => {
                let text = "slice indices must be integers or None or have an __index__ method";
                return Err(Raise::type_error(text));
            }
        };
        let start = match start {
            Py::Int(start) if start < 0 => (total + start).max(0),
            Py::Int(start) => start.min(total),
            // A big negative count: its opposite is beyond the end.
            _ => total,
        };
        let last = &content[usize::try_from(start).unwrap_or(0)..];
        Ok(dict! {"last_lines" => last.join("\n")})
    }

    pub(super) fn diff(&mut self, [name1, name2]: [Py; 2]) -> Reply {
        let first = self.entry(&name1)?;
        let second = if first.is_some() {
            self.entry(&name2)?
        } else {
            None
        };
        let (Some(Entry::File(first)), Some(Entry::File(second))) = (first, second) else {
            let (name1, name2) = (str(&name1), str(&name2));
            return error(format!(
                "diff: {name1} or {name2}: No such file or directory"
            ));
        };
        let first = lines(self.content(first).text_for("splitlines")?);
        let second = lines(self.content(second).text_for("splitlines")?);
        let pairs = first.into_iter().zip(second).filter(|(a, b)| a != b);
        let pairs: Vec<String> = pairs.map(|(a, b)| format!("- {a}\n+ {b}")).collect();
        Ok(dict! {"diff_lines" => pairs.join("\n")})
    }

    pub(super) fn mv(&mut self, [source, destination]: [Py; 2]) -> Reply {
        let Some(item) = self.entry(&source)? else {
            return error(format!(
                "mv: cannot move '{}': No such file or directory",
                str(&source)
            ));
        };
        if destination.contains(&"/".into())? {
            return error(
                "mv: path not allowed in destination. Provide only a file or directory name.",
            );
        }
        let (from, to) = (str(&source), str(&destination));
        let current = self.current;
        let (place, name, result) = match self.entry(&destination)? {
            Some(Entry::File(_)) => {
                return error(format!(
                    "mv: cannot move '{from}' to '{to}': Not a directory"
                ));
            }
            Some(Entry::Directory(directory)) => {
                if self.tree.contents(directory).contains_key(from.as_str()) {
                    return error(format!(
                        "mv: cannot move '{from}' to '{to}/{from}': File exists"
                    ));
                }
                (
                    directory,
                    from.clone(),
                    format!("'{from}' moved to '{to}/{from}'"),
                )
            }
            None => {
                let name = new_name(&destination)?.to_owned();
                (current, name, format!("'{from}' moved to '{to}'"))
            }
        };
        let tree = self.tree_mut();
        tree.contents_mut(current).shift_remove(from.as_str());
        match item {
            Entry::File(file) => {
                let content = tree.files[file].content.clone();
                tree.add_file(place, &name, content)?;
            }
            Entry::Directory(directory) => {
                let new = tree.add_directory(place, &name)?;
                tree.directories[new].contents = tree.directories[directory].contents;
            }
        }
        Ok(dict! {"result" => result})
    }

    pub(super) fn cp(&mut self, [source, destination]: [Py; 2]) -> Reply {
        let Some(item) = self.entry(&source)? else {
            return error(format!(
                "cp: cannot copy '{}': No such file or directory",
                str(&source)
            ));
        };
        if destination.contains(&"/".into())? {
            return error(
                "cp: path not allowed in destination. Provide only a file or directory name.",
            );
        }
        let (from, to) = (str(&source), str(&destination));
        let current = self.current;
        let (place, name, result) = match self.entry(&destination)? {
            Some(Entry::File(_)) => {
                return error(format!(
                    "cp: cannot copy '{from}' to '{to}': Not a directory"
                ));
            }
            Some(Entry::Directory(directory)) => {
                // An entry of this name is found by a key with a slash, that is never; adding then raises.
                (
                    directory,
                    from.clone(),
                    format!("'{from}' copied to '{to}/{from}'"),
                )
            }
            None => {
                let name = new_name(&destination)?.to_owned();
                (current, name, format!("'{from}' copied to '{to}'"))
            }
        };
        let tree = self.tree_mut();
        match item {
            Entry::File(file) => {
                let content = tree.files[file].content.clone();
                tree.add_file(place, &name, content)?;
            }
            Entry::Directory(directory) => {
                let new = tree.add_directory(place, &name)?;
                let copy = tree.contents(directory).clone();
                // Copies of copies double: a tree that large could not be walked anyway.
                if tree
                    .contents
                    .iter()
                    .map(indexmap::IndexMap::len)
                    .sum::<usize>()
                    > MAX_VISITS
                {
                    return Err(Raise::limit());
                }
                *tree.contents_mut(new) = copy;
            }
        }
        Ok(dict! {"result" => result})
    }

    pub(super) fn rm(&mut self, [name]: [Py; 1]) -> Reply {
        let text = str(&name);
        if self.entry(&name)?.is_none() {
            return error(format!(
                "rm: cannot remove '{text}': No such file or directory"
            ));
        }
        let current = self.current;
        self.tree_mut()
            .contents_mut(current)
            .shift_remove(text.as_str());
        Ok(dict! {"result" => format!("'{text}' removed")})
    }

    pub(super) fn rmdir(&mut self, [name]: [Py; 1]) -> Reply {
        let text = str(&name);
        let why = match self.entry(&name)? {
            None => "No such file or directory",
            Some(Entry::File(_)) => "Not a directory",
            Some(Entry::Directory(id)) if !self.tree.contents(id).is_empty() => {
                "Directory not empty"
            }
            Some(Entry::Directory(_)) => {
                let current = self.current;
                self.tree_mut()
                    .contents_mut(current)
                    .shift_remove(text.as_str());
                return Ok(dict! {"result" => format!("'{text}' removed")});
            }
        };
        error(format!("rmdir: cannot remove '{text}': {why}"))
    }
}
