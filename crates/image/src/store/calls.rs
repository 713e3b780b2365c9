//! Calls of containerd's API. Each call has a namespace and a time limit. Its error names the entrypoint that was looked
//! for.

use std::path::Path;

use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use super::Store;
use crate::Error;

/// Header that carries the namespace of a call.
const NAMESPACE_HEADER: &str = "containerd-namespace";

impl Store {
    /// Makes a request to containerd in the container's namespace.
    pub fn request<T>(&self, message: T) -> Result<Request<T>, Error> {
        let namespace = &self.namespace;
        let value = namespace.parse();
        let value = value.map_err(|_| self.failed(&format!("{namespace:?} is no namespace")))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(NAMESPACE_HEADER, value);
        Ok(request)
    }

    /// Waits for the answer. Returns `None` if the requested object does not exist.
    pub async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Option<T>, Error> {
        self.answer_or(&[Code::NotFound], call).await.map(Result::ok)
    }

    /// Waits for the answer. If containerd returns one of `codes`, returns that code.
    pub async fn answer_or<T>(
        &self,
        codes: &[Code],
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Result<T, Code>, Error> {
        match timeout(self.timeouts.answer, call).await {
            Ok(Ok(response)) => Ok(Ok(response.into_inner())),
            Ok(Err(status)) if codes.contains(&status.code()) => Ok(Err(status.code())),
            Ok(Err(status)) => Err(self.failed(&text::with_causes(&status))),
            Err(_) => Err(self.failed("it does not answer")),
        }
    }

    /// Error for a failed call of containerd.
    pub fn failed(&self, reason: &str) -> Error {
        failed(&self.socket, &self.entrypoint, reason)
    }
}

/// Error for a failed call of the containerd at this socket.
pub fn failed(socket: &Path, entrypoint: &str, reason: &str) -> Error {
    let (entrypoint, reason) = (entrypoint.to_owned(), reason.to_owned());
    Error::Containerd { entrypoint, socket: socket.to_owned(), reason }
}
