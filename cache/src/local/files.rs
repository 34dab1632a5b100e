//! How files come into being in a local store.
//!
//! Every file is written under `tmp/`, made durable, then linked to its place: it appears whole or not at all, and an
//! existing one is never written over. What is left under `tmp/` by a process that died is removed by the next one
//! that creates the store's folders.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::io::Errno;

use crate::{
    CacheError, Digest, Liveness, Owner, Warning,
    error::{reading, writing},
};

/// Artifacts and records: nobody writes to them again.
pub(crate) const READ_ONLY: u32 = 0o444;
/// Files that are replaced, and copies for people.
pub(crate) const WRITABLE: u32 = 0o644;

/// Called before each step of writing with what is about to be done and the file; a failure it returns is taken for
/// the system's. For tests that fill the disk or end the process between two steps.
pub type Fault = Arc<dyn Fn(&'static str, &Path) -> io::Result<()> + Send + Sync>;

/// The files of a store: its root and what is needed to write safely.
pub(crate) struct Files {
    pub(crate) root: PathBuf,
    pub(crate) owner: Owner,
    /// It is left to the system when what is written becomes durable.
    pub(crate) deferred: bool,
    fault: Option<Fault>,
    warnings: Mutex<Vec<Warning>>,
}

/// Numbers temporary files within this process, whatever the number of open stores.
static COUNTER: AtomicU64 = AtomicU64::new(0);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// A file under `tmp/`, removed when dropped.
#[derive(Debug)]
pub(crate) struct Tmp {
    pub(crate) path: PathBuf,
}

impl Drop for Tmp {
    fn drop(&mut self) {
        // Gone already after a rename; a failure leaves a file that the next process cleans up.
        drop(fs::remove_file(&self.path));
    }
}

impl Files {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            owner: Owner::current(),
            deferred: false,
            fault: None,
            warnings: Mutex::default(),
        }
    }

    pub(crate) fn set_fault(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// Lets a test interfere before a step.
    pub(crate) fn point(&self, verb: &'static str, path: &Path) -> Result<(), CacheError> {
        match &self.fault {
            Some(fault) => fault(verb, path).map_err(writing(verb, path)),
            None => Ok(()),
        }
    }

    pub(crate) fn warn(&self, path: &Path, what: impl Into<String>) {
        let warning = Warning {
            path: path.to_owned(),
            what: what.into(),
        };
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(warning);
    }

    pub(crate) fn take_warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A path under `tmp/` that nobody else uses; its name says which process may use it.
    pub(crate) fn tmp_path(&self) -> Tmp {
        let name = format!(
            "{}-{}-{}-{}",
            place_of(&self.owner),
            self.owner.pid,
            self.owner.start,
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        Tmp {
            path: self.root.join("tmp").join(name),
        }
    }

    /// Creates an empty file under `tmp/`, open for writing whatever its mode says.
    pub(crate) fn create_tmp(&self, mode: u32) -> Result<(Tmp, File), CacheError> {
        let tmp = self.tmp_path();
        self.point("create", &tmp.path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&tmp.path)
            .map_err(writing("create", &tmp.path))?;
        Ok((tmp, file))
    }

    /// Writes bytes to a new file under `tmp/`.
    pub(crate) fn write_tmp(
        &self,
        bytes: &[u8],
        mode: u32,
        durable: bool,
    ) -> Result<Tmp, CacheError> {
        let (tmp, mut file) = self.create_tmp(mode)?;
        self.point("write", &tmp.path)?;
        file.write_all(bytes).map_err(writing("write", &tmp.path))?;
        if durable {
            self.sync(&file, &tmp.path)?;
        }
        Ok(tmp)
    }

    pub(crate) fn sync(&self, file: &File, path: &Path) -> Result<(), CacheError> {
        if self.deferred {
            return Ok(());
        }
        self.point("sync", path)?;
        file.sync_all().map_err(writing("sync", path))
    }

    /// Gives a finished file its place; false when something is there already, which stays.
    pub(crate) fn link(&self, tmp: &Tmp, dest: &Path) -> Result<bool, CacheError> {
        self.point("link", dest)?;
        let mut linked = link_new(&tmp.path, dest);
        if let Err(error) = &linked
            && error.kind() == io::ErrorKind::NotFound
            && let Some(folder) = dest.parent()
        {
            self.create_folder(folder)?;
            linked = link_new(&tmp.path, dest);
        }
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(writing("create", dest)(error)),
        }
    }

    /// Creates a file with these bytes unless there is one; false when there is.
    pub(crate) fn create(
        &self,
        dest: &Path,
        bytes: &[u8],
        durable: bool,
    ) -> Result<bool, CacheError> {
        let tmp = self.write_tmp(bytes, READ_ONLY, durable)?;
        let created = self.link(&tmp, dest)?;
        drop(tmp);
        if created && durable {
            self.sync_parent(dest)?;
        }
        Ok(created)
    }

    /// Writes a file in one step, replacing what is there.
    pub(crate) fn replace(
        &self,
        dest: &Path,
        bytes: &[u8],
        durable: bool,
    ) -> Result<(), CacheError> {
        let tmp = self.write_tmp(bytes, WRITABLE, durable)?;
        self.point("replace", dest)?;
        let mut renamed = fs::rename(&tmp.path, dest);
        if let Err(error) = &renamed
            && error.kind() == io::ErrorKind::NotFound
            && let Some(folder) = dest.parent()
        {
            self.create_folder(folder)?;
            renamed = fs::rename(&tmp.path, dest);
        }
        renamed.map_err(writing("write", dest))?;
        if durable {
            self.sync_parent(dest)
        } else {
            Ok(())
        }
    }

    /// Creates a folder and its parents, and makes the new names durable.
    pub(crate) fn create_folder(&self, folder: &Path) -> Result<(), CacheError> {
        self.point("create", folder)?;
        match fs::create_dir(folder) {
            Ok(()) => self.sync_parent(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = folder
                    .parent()
                    .ok_or_else(|| writing("create", folder)(error))?;
                self.create_folder(parent)?;
                self.create_folder(folder)
            }
            Err(error) => Err(writing("create", folder)(error)),
        }
    }

    /// Makes the name of a file durable.
    pub(crate) fn sync_parent(&self, path: &Path) -> Result<(), CacheError> {
        path.parent()
            .map_or(Ok(()), |folder| self.sync_folder(folder))
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_folder(&self, folder: &Path) -> Result<(), CacheError> {
        if self.deferred {
            return Ok(());
        }
        self.point("sync", folder)?;
        match File::open(folder).and_then(|file| file.sync_all()) {
            Ok(()) => Ok(()),
            // Some network filesystems know no such thing.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            Err(error) => Err(writing("sync", folder)(error)),
        }
    }

    /// Moves a damaged file out of the way and says so; a store that cannot be written only says so.
    ///
    /// Returns where the file is now; none when somebody else had moved it.
    pub(crate) fn set_aside(&self, path: &Path, what: &str) -> Result<Option<PathBuf>, CacheError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let tmp = self.tmp_path();
        let unique = tmp.path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.root.join("damaged").join(format!("{name}.{unique}"));
        let moved = self
            .create_folder(&self.root.join("damaged"))
            .and_then(|()| match fs::rename(path, &aside) {
                Ok(()) => Ok(Some(aside)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(writing("set aside", path)(error)),
            });
        match &moved {
            Ok(Some(aside)) => self.warn(path, format!("{what}; set aside as {}", aside.display())),
            Ok(None) => {}
            Err(error) => self.warn(path, format!("{what}; {error}")),
        }
        moved
    }

    /// Removes what dead processes of this host left under `tmp/`.
    pub(crate) fn clean_tmp(&self) -> Result<(), CacheError> {
        let folder = self.root.join("tmp");
        let place = place_of(&self.owner);
        for name in list(&folder)? {
            let mut parts = name.split('-');
            let (Some(where_), Some(pid), Some(start)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let (Ok(pid), Ok(start)) = (pid.parse(), start.parse()) else {
                continue;
            };
            let owner = Owner {
                pid,
                start,
                ..self.owner.clone()
            };
            if where_ == place && owner.liveness(&self.owner) == Liveness::Dead {
                // Another process may be cleaning up too.
                drop(fs::remove_file(folder.join(name)));
            }
        }
        Ok(())
    }
}

/// Names boot and process namespace in few characters.
fn place_of(owner: &Owner) -> String {
    let place = format!("{}\n{}\n{}", owner.host, owner.boot, owner.namespace);
    Digest::of(place.as_bytes()).to_string()[..12].to_owned()
}

/// Links a file to a new name, or renames it there where the filesystem knows no hard links.
fn link_new(from: &Path, dest: &Path) -> io::Result<()> {
    let linked = fs::hard_link(from, dest);
    let Err(error) = &linked else { return linked };
    let unsupported = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK];
    if !unsupported
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    {
        return linked;
    }
    rename_new(from, dest).or(linked)
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_new(from: &Path, dest: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, dest, RenameFlags::NOREPLACE).map_err(io::Error::from)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_new(_from: &Path, _dest: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads a file; none when there is none.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, CacheError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(reading("read", path)(error)),
    }
}

/// The names in a folder that are UTF-8, in order; none when there is no folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<String>, CacheError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(reading("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(reading("list", folder))?.file_name();
        // The store writes no other names, so such a one is not the store's.
        names.extend(name.into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a file; false when there was none.
pub(crate) fn remove(path: &Path) -> Result<bool, CacheError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(writing("remove", path)(error)),
    }
}
