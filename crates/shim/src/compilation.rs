//! Compilations, which go on when nobody waits for them any more.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use plan::World;
use tokio::task::JoinHandle;

use crate::errors::Error;

/// Compilations that nobody waits for any more, by what is compiled. What one has come to is for the next who asks.
#[derive(Default)]
pub struct Abandoned(Mutex<HashMap<String, Compilation>>);

impl Abandoned {
    /// The one of this, if there is one.
    pub fn take(&self, what: &str) -> Option<Compilation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(what)
    }

    /// Of two of the same, one compiles and the other waits for it: the first is enough.
    pub fn leave(&self, what: String, compilation: Compilation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(what).or_insert(compilation);
    }
}

/// What a compilation comes to.
pub type Compiled = Result<(World, File), Error>;

/// One that goes on beside whoever waits for it. It ends when this is dropped, and with it its worker.
pub struct Compilation {
    /// The work.
    pub task: JoinHandle<Compiled>,
    /// Whether it has its turn.
    pub at_work: Arc<AtomicBool>,
}

impl Future for Compilation {
    type Output = Compiled;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Compiled> {
        let ended = Pin::new(&mut self.task).poll(context);
        ended.map(|code| code.unwrap_or_else(|ended| Err(Error::io("compile")(ended.into()))))
    }
}

impl Drop for Compilation {
    fn drop(&mut self) {
        self.task.abort();
    }
}
