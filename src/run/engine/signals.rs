//! Signals that ask to stop, as notes to the loop.

use std::sync::mpsc::{self, Receiver, Sender};

use crate::run::launch::Note;
use crate::run::options::RunError;

/// Signals that ask to stop, as notes; stops listening when dropped.
pub(super) struct Signals {
    pub(super) notes: Receiver<Note>,
    pub(super) sender: Sender<Note>,
    handle: signal_hook::iterator::Handle,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, RunError> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let refused = |source| RunError::System {
            action: "listen for signals",
            source,
        };
        let (sender, notes) = mpsc::channel();
        let mut signals =
            signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(refused)?;
        let handle = signals.handle();
        let tell = sender.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for _ in signals.forever() {
                    if tell.send(Note::Stop).is_err() {
                        return;
                    }
                }
            })
            .map_err(refused)?;
        Ok(Self {
            notes,
            sender,
            handle,
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}
