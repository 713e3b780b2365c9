//! Sends a request of the guest's own.

use wasip3::http::client;
use wasip3::http::types::{Fields, Request, Scheme};
use wasip3::wit_future;

/// Returns the status of `http://AUTHORITY/`, or the host's reason why there is none.
pub async fn fetch(authority: &str) -> String {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
    if request.set_scheme(Some(&Scheme::Http)).is_err()
        || request.set_authority(Some(authority)).is_err()
        || request.set_path_with_query(Some("/")).is_err()
    {
        return "not an authority\n".to_owned();
    }
    match client::send(request).await {
        Ok(response) => format!("{}\n", response.get_status_code()),
        Err(reason) => format!("{reason:?}\n"),
    }
}
