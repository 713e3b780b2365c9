//! Compilations. They continue if no call waits for them any more.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::errors::Error;
use crate::guests::About;

/// Compilations that no call waits for any more, by the identity of the component. The next call for it uses the result.
#[derive(Default)]
pub struct Abandoned(Mutex<HashMap<String, Compilation>>);

impl Abandoned {
    /// Takes the compilation of that component, if there is one.
    pub fn take(&self, identity: &str) -> Option<Compilation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(identity)
    }

    /// Leaves a compilation. If there are two of the same component, the first is kept, because the other only waits for it.
    pub fn leave(&self, identity: String, compilation: Compilation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(identity).or_insert(compilation);
    }
}

/// Result of a compilation.
pub type Compiled = Result<(About, File), Error>;

/// A compilation in a task of its own. It ends, with its worker, when this is dropped.
pub struct Compilation {
    /// Task that compiles.
    pub task: JoinHandle<Compiled>,
    /// Whether it has its turn on the node.
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
