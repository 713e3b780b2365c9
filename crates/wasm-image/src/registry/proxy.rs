//! Proxies that the environment names (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), as for other programs.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

use super::origin::is_loopback;

/// Returns the proxy for an address, without its password. Addresses of this machine have none.
pub fn of(url: &Url) -> Option<String> {
    if is_loopback(url.host_str()?) {
        return None;
    }
    let proxy = Matcher::from_env().intercept(&url.as_str().parse().ok()?)?;
    let proxy = proxy.uri();
    Some(format!("{}://{}", proxy.scheme_str()?, proxy.authority()?.as_str().rsplit('@').next()?))
}
