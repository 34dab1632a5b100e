//! From the file that the user named to one document: what it includes and what it extends put together.
//!
//! `include` adds: no stage, variable or profile may be in two files. `extends` changes: the tables of the
//! extending file join those of the other one key by key, and the extending file wins. Both may be chains;
//! a file that is included in two ways is read once. Every value keeps its place in its own file, and
//! relative paths start from the folder of the file that they are written in.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Mistake, Sources, Span, settings, tables};

/// The tables of a pipeline.
const TABLES: &[&str] = &[
    "stage", "vars", "matrix", "profile", "run", "extends", "include",
];
/// Those that an included file may have.
const PART_TABLES: &[&str] = &["stage", "vars", "profile", "include"];

/// Texts of files, which stay while others are added, so that tables can borrow from them.
#[derive(Default)]
pub(super) struct Texts {
    first: OnceCell<Box<(String, Self)>>,
}

impl Texts {
    fn hold(&self, text: String) -> &str {
        let mut last = self;
        while let Some(held) = last.first.get() {
            last = &held.1;
        }
        &last
            .first
            .get_or_init(|| Box::new((text, Self::default())))
            .0
    }
}

/// A pipeline's tables, from all its files.
pub(super) struct Document<'t> {
    /// `[stage]`, `[vars]` and so on; what is neither a known name nor of the right sort is left out.
    pub(super) tables: DeTable<'t>,
    /// What the TOML readers complained about.
    pub(super) broken: Vec<Mistake>,
}

impl<'t> Document<'t> {
    /// Takes a table out of the document; an empty one where there is none.
    pub(super) fn take(&mut self, name: &str) -> DeTable<'t> {
        match self.tables.remove(name).map(Spanned::into_inner) {
            Some(DeValue::Table(table)) => table,
            _ => DeTable::new(),
        }
    }
}

/// Reads the text of the pipeline's own file, which is in `folder`, and every file behind it.
pub(super) fn read<'t>(
    file: &Path,
    folder: &Path,
    text: &'t str,
    texts: &'t Texts,
    sources: &mut Sources,
    mistakes: &mut Vec<Mistake>,
) -> Document<'t> {
    let mut reader = Reader {
        texts,
        sources,
        mistakes,
        broken: Vec::new(),
        open: vec![identity(&folder.join(file.file_name().unwrap_or_default()))],
        names: vec![file.display().to_string()],
        included: BTreeSet::new(),
    };
    let table = reader.parse(text, 0);
    let tables = reader.layer(table, 0, Role::Pipeline);
    Document {
        tables,
        broken: reader.broken,
    }
}

/// What a file is to the one that names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Pipeline,
    Part,
}

struct Reader<'a, 't> {
    texts: &'t Texts,
    sources: &'a mut Sources,
    mistakes: &'a mut Vec<Mistake>,
    broken: Vec<Mistake>,
    /// The files that lead to the one being read, and what they are called.
    open: Vec<PathBuf>,
    names: Vec<String>,
    included: BTreeSet<PathBuf>,
}

impl<'t> Reader<'_, 't> {
    fn parse(&mut self, text: &'t str, base: usize) -> DeTable<'t> {
        let (table, errors) = DeTable::parse_recoverable(text);
        self.broken.extend(syntax_mistakes(&errors, text, base));
        let table = table.into_inner();
        if base == 0 {
            table
        } else {
            tables::shifted_table(table, base)
        }
    }

    /// A file's own tables with those of the files that it names; `at` is a byte of it.
    fn layer(&mut self, mut own: DeTable<'t>, at: usize, role: Role) -> DeTable<'t> {
        let extends = own.remove("extends");
        let include = own.remove("include");
        let mut layer = self.known(own, role);
        if let Some(extends) = &extends
            && role == Role::Part
        {
            self.mistakes.push(Mistake::Files {
                message: "an included file cannot extend another".to_owned(),
                help: Some("`extends` belongs into the pipeline that includes it".to_owned()),
                span: extends.span(),
            });
        }
        for part in self.list(include) {
            if let Some(tables) = self.file(&part, at, Role::Part) {
                self.join(&mut layer, tables);
            }
        }
        let Some(extends) = extends.filter(|_| role == Role::Pipeline) else {
            return layer;
        };
        let span = extends.span();
        let Some(name) = extends.get_ref().as_str() else {
            self.wrong("extends", "the path of a pipeline", extends.get_ref(), span);
            return layer;
        };
        let name = Spanned::new(span, name.to_owned());
        match self.file(&name, at, Role::Pipeline) {
            Some(mut base) => {
                tables::merge(&mut base, layer);
                base
            }
            None => layer,
        }
    }

    /// The tables of a file that have a meaning; others are reported.
    fn known(&mut self, own: DeTable<'t>, role: Role) -> DeTable<'t> {
        let known = match role {
            Role::Pipeline => TABLES,
            Role::Part => PART_TABLES,
        };
        let mut layer = DeTable::new();
        for (key, value) in own {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                if role == Role::Part && TABLES.contains(&name) {
                    self.mistakes.push(Mistake::Files {
                        message: format!("an included file cannot have `[{name}]`"),
                        help: Some(format!(
                            "`[{name}]` belongs into the pipeline that includes it"
                        )),
                        span: key.span(),
                    });
                } else {
                    self.mistakes.push(Mistake::UnknownKey {
                        what: "table",
                        name: name.to_owned(),
                        known,
                        span: key.span(),
                    });
                }
            } else if value.get_ref().is_table() {
                layer.insert(key, value);
            } else {
                let (name, span) = (name.to_owned(), value.span());
                self.wrong(&name, "a table", value.get_ref(), span);
            }
        }
        layer
    }

    fn wrong(&mut self, name: &str, expected: &str, found: &DeValue<'_>, span: Span) {
        self.mistakes.push(Mistake::BadSetting {
            place: "the file".to_owned(),
            name: format!("`{name}`"),
            expected: expected.to_owned(),
            found: settings::article(found.type_str()),
            span,
        });
    }

    /// The paths of `include`.
    fn list(&mut self, include: Option<Spanned<DeValue<'_>>>) -> Vec<Spanned<String>> {
        let Some(include) = include else {
            return Vec::new();
        };
        let expected = "a list of paths, as in `include = [\"parts/data.toml\"]`";
        let span = include.span();
        let DeValue::Array(list) = include.into_inner() else {
            let found = DeValue::String("".into());
            self.wrong("include", expected, &found, span);
            return Vec::new();
        };
        let mut paths = Vec::new();
        for item in list {
            match item.get_ref().as_str() {
                Some(path) => paths.push(Spanned::new(item.span(), path.to_owned())),
                None => self.wrong("include", expected, item.get_ref(), item.span()),
            }
        }
        paths
    }

    /// The tables of a file that another one names at the place of `name`.
    fn file(&mut self, name: &Spanned<String>, at: usize, role: Role) -> Option<DeTable<'t>> {
        let folder = self.sources.folder(&(at..at)).to_owned();
        let path = folder.join(name.get_ref());
        let shown = tidy(&path);
        let mut wrong = |message: String, help: Option<&str>| {
            self.mistakes.push(Mistake::Files {
                message,
                help: help.map(str::to_owned),
                span: name.span(),
            });
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                wrong(
                    format!("cannot read {}: {error}", shown.display()),
                    Some("paths are relative to the folder of the file that names them"),
                );
                return None;
            }
        };
        let id = identity(&path);
        if let Some(start) = self.open.iter().position(|open| *open == id) {
            let circle: Vec<&str> = self.names[start..].iter().map(String::as_str).collect();
            let circle = circle.join(" → ");
            wrong(
                format!(
                    "files name each other in a circle: {circle} → {}",
                    shown.display()
                ),
                Some("one of them must do without the next"),
            );
            return None;
        }
        if role == Role::Part && !self.included.insert(id.clone()) {
            return None;
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let byte = error.utf8_error().valid_up_to();
                wrong(
                    format!(
                        "{} is not UTF-8 text: byte {byte} belongs to no character",
                        shown.display()
                    ),
                    None,
                );
                return None;
            }
        };
        let inner = shown.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let base = self
            .sources
            .add(shown.display().to_string(), text.as_str(), &inner);
        let table = self.parse(self.texts.hold(text), base);
        self.open.push(id);
        self.names.push(shown.display().to_string());
        let layer = self.layer(table, base, role);
        self.open.pop();
        self.names.pop();
        Some(layer)
    }

    /// Adds the tables of an included file; what both have is reported.
    fn join(&mut self, layer: &mut DeTable<'t>, part: DeTable<'t>) {
        for (table, value) in part {
            let DeValue::Table(entries) = value.get_ref() else {
                continue;
            };
            let Some(DeValue::Table(own)) = layer
                .get_mut(table.get_ref().as_ref())
                .map(Spanned::get_mut)
            else {
                layer.insert(table, value);
                continue;
            };
            for (key, value) in entries {
                match own.get_key_value(key.get_ref().as_ref()) {
                    None => {
                        own.insert(key.clone(), value.clone());
                    }
                    Some((first, _)) => self.mistakes.push(Mistake::Clash {
                        what: sort_of(table.get_ref()),
                        name: key.get_ref().to_string(),
                        first: self.sources.place(&first.span()).to_string(),
                        span: key.span(),
                    }),
                }
            }
        }
    }
}

fn sort_of(table: &str) -> &'static str {
    match table {
        "vars" => "variable",
        "profile" => "profile",
        _ => "stage",
    }
}

/// What tells one file from another; the path itself where there is no such file.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The path without `folder/..`; for people, since links may lead elsewhere.
fn tidy(path: &Path) -> PathBuf {
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::ParentDir, Some(Component::Normal(_))) => {
                parts.pop();
            }
            (Component::CurDir, _) => {}
            _ => parts.push(part),
        }
    }
    parts.iter().collect()
}

/// What the TOML reader complains about, without what follows from an earlier complaint.
fn syntax_mistakes(errors: &[toml::de::Error], text: &str, base: usize) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut last_line = None;
    let mut twice = None;
    for error in errors {
        let span = error.span().unwrap_or_default();
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.rfind('\n').map_or(0, |n| n + 1);
        let part = section(text, span.start);
        // A second complaint about a line, or about a part whose header was already there, is no news.
        if last_line.replace(line) == Some(line) || twice.as_ref() == Some(&part) {
            continue;
        }
        let mut message = error.message().replace('\n', ", ");
        if message == "duplicate key" {
            message = format!(
                "`{}` is written twice",
                text.get(span.clone()).unwrap_or_default()
            );
            if text[line..].starts_with('[') {
                twice = Some(part);
            }
        }
        let span = span.start + base..span.end + base;
        mistakes.push(Mistake::Syntax { message, span });
    }
    mistakes
}

/// The part of the text from a header to the next one around `at`.
fn section(text: &str, at: usize) -> Span {
    let at = text.floor_char_boundary(at);
    let start = if text[at..].starts_with('[') && (at == 0 || text[..at].ends_with('\n')) {
        at
    } else {
        text[..at].rfind("\n[").map_or(0, |n| n + 1)
    };
    start..text[start..].find("\n[").map_or(text.len(), |n| start + n)
}

/// Whether the part of the text that a mistake is in could be read whole; what a broken part seems to
/// say is not reported.
pub(super) fn is_whole(mistake: &Mistake, broken: &[Mistake], sources: &Sources) -> bool {
    let (source, within) = sources.find(&mistake.span());
    let part = section(&source.text, within.start);
    let part = part.start + source.base..part.end + source.base;
    !broken
        .iter()
        .any(|b| (part.start..=part.end).contains(&b.span().start))
}
