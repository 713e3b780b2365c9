//! Calls of containerd's API: each has a namespace and a time limit, and its error names what was looked for.

use std::path::Path;

use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use super::Store;
use crate::Error;

/// The header by which containerd's API is told the namespace.
const NAMESPACE_HEADER: &str = "containerd-namespace";

impl Store {
    /// A message to containerd, in the container's namespace.
    pub fn request<T>(&self, message: T) -> Result<Request<T>, Error> {
        let namespace = &self.namespace;
        let value = namespace.parse();
        let value = value.map_err(|_| self.failed(&format!("{namespace:?} is no namespace")))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(NAMESPACE_HEADER, value);
        Ok(request)
    }

    /// The answer in time; none when what was asked for does not exist.
    pub async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Option<T>, Error> {
        self.answer_or(&[Code::NotFound], call).await.map(Result::ok)
    }

    /// The answer in time, or which of those codes it is.
    pub async fn answer_or<T>(
        &self,
        codes: &[Code],
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Result<T, Code>, Error> {
        match timeout(self.patience.answer, call).await {
            Ok(Ok(response)) => Ok(Ok(response.into_inner())),
            Ok(Err(status)) if codes.contains(&status.code()) => Ok(Err(status.code())),
            Ok(Err(status)) => Err(self.failed(&text::with_causes(&status))),
            Err(_) => Err(self.failed("it does not answer")),
        }
    }

    /// The error that containerd cannot be asked.
    pub fn failed(&self, reason: &str) -> Error {
        failed(&self.socket, &self.entrypoint, reason)
    }
}

/// The error that containerd at that socket cannot be asked.
pub fn failed(socket: &Path, entrypoint: &str, reason: &str) -> Error {
    let (entrypoint, reason) = (entrypoint.to_owned(), reason.to_owned());
    Error::Containerd { entrypoint, socket: socket.to_owned(), reason }
}
