//! A file system with one working directory.
//!
//! Directories, files and contents are numbered objects: a moved directory shares its contents with the old object,
//! a copied one shares what it contains, and a directory can be copied into itself. Walks are bounded therefore.

mod commands;

use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexMap;

use super::tables::{write_canonical, write_text};
use super::{Attribute, Default as D, Setting, methods};
use crate::bfcl::py::{Class, Py, Raise, Reply, add_in_place, eq};

/// Nesting at which Python's stack is full.
const MAX_DEPTH: usize = 900;

/// Entries that one comparison or printing may visit, and that all directories may hold.
const MAX_VISITS: usize = 1 << 20;

/// Work that the walks of one instance may do in all, in bytes of the paths that they write. Copies of copies
/// double a tree with every command, so that forty commands would be enough to fill any memory.
const WALK_WORK: usize = 1 << 26;

/// What a visited entry costs beside its path.
const VISIT_WORK: usize = 64;

type Contents = IndexMap<Arc<str>, Entry>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Directory(usize),
}

#[derive(Debug, Clone)]
struct Directory {
    name: Arc<str>,
    parent: Option<usize>,
    /// Number of its contents, which directories can share.
    contents: usize,
}

#[derive(Debug, Clone)]
struct File {
    name: Arc<str>,
    content: Py,
}

/// Every object ever made; what is unreachable is just never met.
#[derive(Debug, Clone, Default)]
struct Tree {
    directories: Vec<Directory>,
    files: Vec<File>,
    contents: Vec<Contents>,
    root: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct FileSystem {
    tree: Arc<Tree>,
    current: usize,
    long_context: bool,
    walk_work_left: usize,
}

impl Tree {
    /// A new directory that nothing contains yet.
    fn new_directory(&mut self, name: &str, parent: Option<usize>) -> usize {
        self.contents.push(Contents::new());
        self.directories.push(Directory {
            name: name.into(),
            parent,
            contents: self.contents.len() - 1,
        });
        self.directories.len() - 1
    }

    fn contents(&self, directory: usize) -> &Contents {
        &self.contents[self.directories[directory].contents]
    }

    fn contents_mut(&mut self, directory: usize) -> &mut Contents {
        &mut self.contents[self.directories[directory].contents]
    }

    fn add_file(&mut self, directory: usize, name: &str, content: Py) -> Reply<()> {
        if self.contents(directory).contains_key(name) {
            let place = &self.directories[directory].name;
            let text = format!("File '{name}' already exists in directory '{place}'.");
            return Err(Raise::value_error(text));
        }
        self.files.push(File {
            name: name.into(),
            content,
        });
        let entry = Entry::File(self.files.len() - 1);
        self.contents_mut(directory).insert(name.into(), entry);
        Ok(())
    }

    fn add_directory(&mut self, directory: usize, name: &str) -> Reply<usize> {
        if self.contents(directory).contains_key(name) {
            let place = &self.directories[directory].name;
            let text = format!("Directory '{name}' already exists in directory '{place}'.");
            return Err(Raise::value_error(text));
        }
        let new = self.new_directory(name, Some(directory));
        self.contents_mut(directory)
            .insert(name.into(), Entry::Directory(new));
        Ok(new)
    }

    /// The entry of a name; `.` is the directory itself.
    fn get(&self, directory: usize, name: &str) -> Option<Entry> {
        match name {
            "." => Some(Entry::Directory(directory)),
            _ => self.contents(directory).get(name).copied(),
        }
    }

    /// Fills a directory from a scenario.
    fn load(&mut self, directory: usize, entries: &Py, filler: Option<&Filler>) -> Reply<()> {
        let mut has_directories = false;
        for (name, data) in entries.dict_for("items")?.iter() {
            let Some(name) = name.as_str() else {
                return Err(Raise::limit());
            };
            let kind = data.item(&"type".into())?;
            if kind.is("directory") {
                has_directories = true;
                let new = self.new_directory(name, Some(directory));
                self.load(new, &data.item(&"contents".into())?, filler)?;
                self.contents_mut(directory)
                    .insert(name.into(), Entry::Directory(new));
            } else if kind.is("file") {
                let mut content = data.item(&"content".into())?;
                if let Some(filler) = filler.filter(|filler| !filler.keeps(name)) {
                    content = add_in_place(&content, &filler.content)?;
                }
                // A repeated name cannot occur: it was the key of an object.
                self.add_file(directory, name, content)?;
            }
        }
        if let Some(filler) = filler.filter(|_| !has_directories) {
            for name in &filler.names {
                self.add_file(directory, name.as_str().unwrap_or_default(), "".into())?;
            }
        }
        Ok(())
    }
}

/// What long-context scenarios add.
struct Filler {
    content: Py,
    names: Vec<Py>,
    kept: Vec<Py>,
}

impl Filler {
    fn keeps(&self, name: &str) -> bool {
        self.kept.iter().any(|kept| kept.is(name))
    }
}

impl FileSystem {
    methods! {
        pwd = pwd();
        ls = ls(a = D::Bool(false));
        cd = cd(folder);
        mkdir = mkdir(dir_name);
        touch = touch(file_name);
        echo = echo(content, file_name = D::None);
        cat = cat(file_name);
        find = find(path = D::Text("."), name = D::None);
        wc = wc(file_name, mode = D::Text("l"));
        sort = sort(file_name);
        grep = grep(file_name, pattern);
        du = du(human_readable = D::Bool(false));
        tail = tail(file_name, lines = D::Int(10));
        diff = diff(file_name1, file_name2);
        mv = mv(source, destination);
        rm = rm(file_name);
        rmdir = rmdir(dir_name);
        cp = cp(source, destination);
    }

    pub(super) fn load(scenario: &Py, setting: &Setting) -> Reply<Self> {
        let mut tree = Tree::default();
        let root = match scenario {
            Py::Dict(scenario) => scenario.get_str("root").cloned(),
            _ => None,
        };
        match root {
            None => tree.root = tree.new_directory("/", None),
            Some(root) => {
                let first = root.dict_for("keys")?.first();
                let no_root = || Raise::new(Class::Other, "list index out of range");
                let (name, data) = first.ok_or_else(no_root)?;
                tree.root = tree.new_directory(name.as_str().unwrap_or_default(), None);
                let list = |name: &str| setting.tables.filler(name).iterate();
                let filler = match setting.long_context {
                    true => Some(Filler {
                        content: setting.tables.filler("FILE_CONTENT_EXTENSION"),
                        names: list("POPULATE_FILE_EXTENSION")?,
                        kept: list("FILES_TAIL_USED")?,
                    }),
                    false => None,
                };
                let contents = data.item(&"contents".into())?;
                tree.load(tree.root, &contents, filler.as_ref())?;
            }
        }
        Ok(Self {
            current: tree.root,
            tree: Arc::new(tree),
            long_context: setting.long_context,
            walk_work_left: WALK_WORK,
        })
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("root", Attribute::Files(self)),
            ("long_context", Attribute::Bool(self.long_context)),
        ]
    }

    /// Names of the directories from the root to the working one.
    pub(super) fn working_directory(&self) -> String {
        let mut path = Vec::new();
        let mut next = Some(self.current);
        while let Some(directory) = next {
            let directory = &self.tree.directories[directory];
            path.push(&*directory.name);
            next = directory.parent;
        }
        path.reverse();
        format!("/{}", path.join("/"))
    }

    /// Whether both trees hold the same names and contents, in any order.
    pub(super) fn tree_equals(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.tree, &other.tree) {
            return true;
        }
        let mut visits = 0;
        let roots = (self.tree.root, other.tree.root);
        same_directory(&self.tree, roots.0, &other.tree, roots.1, 0, &mut visits)
    }

    pub(super) fn write_canonical(&self, out: &mut String) {
        let mut above = BTreeSet::new();
        self.write_directory(out, self.tree.root, &mut above, &mut 0);
    }

    /// A directory as JSON. One below itself is named as a loop, and so is one that comes after more entries than
    /// can be visited.
    fn write_directory(
        &self,
        out: &mut String,
        id: usize,
        above: &mut BTreeSet<usize>,
        visits: &mut usize,
    ) {
        let directory = &self.tree.directories[id];
        *visits += 1;
        let is_new = *visits <= MAX_VISITS && above.len() <= MAX_DEPTH && above.insert(id);
        if !is_new {
            out.push_str("{\"__loop__\":");
            write_text(out, &directory.name);
            out.push('}');
            return;
        }
        out.push_str("{\"__dir__\":");
        write_text(out, &directory.name);
        out.push_str(",\"contents\":{");
        let mut entries: Vec<_> = self.tree.contents(id).iter().collect();
        entries.sort_by_key(|(name, _)| *name);
        for (index, (name, entry)) in entries.into_iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            write_text(out, name);
            out.push(':');
            match *entry {
                Entry::Directory(id) => self.write_directory(out, id, above, visits),
                Entry::File(id) => {
                    let file = &self.tree.files[id];
                    out.push_str("{\"__file__\":");
                    write_text(out, &file.name);
                    out.push_str(",\"content\":");
                    write_canonical(out, &file.content);
                    out.push('}');
                }
            }
        }
        out.push_str("}}");
        above.remove(&id);
    }
}

fn same_directory(
    a: &Tree,
    a_id: usize,
    b: &Tree,
    b_id: usize,
    depth: usize,
    visits: &mut usize,
) -> bool {
    *visits += 1;
    if depth > MAX_DEPTH
        || *visits > MAX_VISITS
        || a.directories[a_id].name != b.directories[b_id].name
    {
        return false;
    }
    let (found, expected) = (a.contents(a_id), b.contents(b_id));
    found.len() == expected.len()
        && found.iter().all(
            |(name, entry)| match (*entry, expected.get(name).copied()) {
                (Entry::File(x), Some(Entry::File(y))) => {
                    let (x, y) = (&a.files[x], &b.files[y]);
                    x.name == y.name && eq(&x.content, &y.content)
                }
                (Entry::Directory(x), Some(Entry::Directory(y))) => {
                    same_directory(a, x, b, y, depth + 1, visits)
                }
                _ => false,
            },
        )
}
